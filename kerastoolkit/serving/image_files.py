"""The check of an image file that a person points at, before anything is made of it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from kerastoolkit.experiment import InputError
from kerastoolkit.serving.images import MAX_PIXELS, decode_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
# What a complete file has near its end. A phone may append bytes of its own, hence "near".
END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
NEAR_THE_END = 4096


def check_image_file(path: str | Path) -> str:
    """Checks that a file is an image that ``decode_image`` reads: format, size, and whether it is complete.

    The header and the end are read; only a BMP, a GIF, and a file whose end looks wrong are decoded. So
    damage in the middle of a JPEG or PNG is not found here.

    Returns:
        Pillow's mode of it, such as "L" or "RGB".
    Raises:
        InputError: one line with the file, the rule and the value.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        with Image.open(path) as image:
            # A JPEG with a second picture or a preview behind the first.
            kind = "JPEG" if image.format == "MPO" else image.format
            (width, height), mode = image.size, image.mode
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: an image must have at most {MAX_PIXELS:,} pixels ({error})") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image; JPEG, PNG, BMP and GIF files are read") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if kind not in ("JPEG", "PNG", "BMP", "GIF"):
        raise InputError(f"{path}: JPEG, PNG, BMP and GIF files are read, got {kind}")
    if height * width > MAX_PIXELS:
        raise InputError(f"{path}: an image must have at most {MAX_PIXELS:,} pixels, got {width} x {height}")
    if kind not in END_MARKERS or END_MARKERS[kind] not in _tail(path):
        _check_that_it_decodes(path)
    return mode


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - NEAR_THE_END))
        return file.read()


def _check_that_it_decodes(path: Path) -> None:
    import tensorflow as tf

    try:
        decode_image(tf.constant(path.read_bytes()), height=1, width=1, channels=3)
    except tf.errors.InvalidArgumentError:
        rule = "an image must be complete, and a BMP have 24 or 32 bits per pixel"
        raise InputError(f"{path}: cannot be decoded; {rule}") from None


def read_image_files(paths: list[str]) -> tuple[list[str], list[bytes]]:
    """The image files that a person names, and those in the folders named; returns (paths, contents).

    Raises:
        InputError: a path is not there, a folder has no images, or a file is not an image that can be read.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        visible = (file for file in path.iterdir() if not file.name.startswith("."))
        found = sorted(file for file in visible if file.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"{path} has no images in it ({', '.join(SUFFIXES)})")
        files += found
    for file in files:
        check_image_file(file)
    return [str(file) for file in files], [file.read_bytes() for file in files]
