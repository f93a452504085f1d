"""Mask files looked into before anything is trained on: whether they are whole, and which values or colours are in them."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kerastoolkit.data.class_legend import PALETTES, Legend
from kerastoolkit.data.image_folders import refuse
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.class_maps import IGNORED, ClassCoding, Colour, colour_coding
from kerastoolkit.serving.image_files import check_image_file
from kerastoolkit.serving.images import MAX_PIXELS

# What a mask tells classes by.
GREY_VALUES, PALETTE, COLOURS = "grey values", "a palette", "colours"
# The same by the byte 25 of a PNG file; its byte 24 is the bits of a channel (ISO/IEC 15948, section 11.2.2).
KINDS = {0: GREY_VALUES, 2: COLOURS, 3: PALETTE, 4: GREY_VALUES, 6: COLOURS}
MOST_COLOURS = 256  # in one mask; more than there can be classes
HOW_TO_HAVE_255 = f"{PALETTES[0]} can make 255 a class (name,r,g,b / background,0,0,0 / object,255,255,255)"


@dataclass(frozen=True)
class MaskFile:
    """What is in a mask.

    Attributes:
        path: the file.
        kind: GREY_VALUES, PALETTE or COLOURS.
        values: those in use: grey values, places in the palette, or colours.
        colours: of the places in the palette.
    """

    path: Path
    kind: str
    values: tuple[int | Colour, ...]
    colours: dict[int, Colour]


def check_masks(masks_of: dict[Path, Path], legend: Legend) -> list[MaskFile]:
    """Checks images and their masks, decoded whole; Pillow does it without the interpreter's lock, so that threads do help.

    Args:
        masks_of: image -> mask, at least one.
        legend: which values and colours masks may have.
    Raises:
        InputError: one line with the first fault (a file, a rule, a value) and the number of others.
    """

    def look(pair: tuple[Path, Path]) -> MaskFile | InputError:
        try:
            return _look(*pair, legend)
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(look, masks_of.items()))
    refuse([str(each) for each in found if isinstance(each, InputError)])
    first = found[0]
    refuse([f"{each.path}: all masks must be of one kind, got {each.kind} here and {first.kind} in {first.path}"
            for each in found if each.kind != first.kind])  # fmt: skip
    return found


def _look(image: Path, mask: Path, legend: Legend) -> MaskFile:
    """Checks an image and its mask.

    Raises:
        InputError: one line with the file, the rule and the value.
    """
    check_image_file(image)
    with Image.open(image) as opened:
        width, height = opened.size
    pixels, kind = _read_mask(mask, (width, height))
    if legend.colours and kind == PALETTE:
        pixels, kind = pixels.convert("RGB"), COLOURS
    if kind == COLOURS and not legend.colours:
        raise InputError(f"{mask}: has colours; {PALETTES[0]} must tell which class each means")
    counts = pixels.getcolors(MOST_COLOURS)
    if counts is None:
        raise InputError(f"{mask}: must have one colour for each class, got more than {MOST_COLOURS}")
    values = tuple(value for _, value in counts)
    known = legend.colours if kind == COLOURS else legend.values
    for value in values:
        if known is not None and value not in known:
            what = f"colour {','.join(map(str, value))}" if kind == COLOURS else f"value {value}"
            raise InputError(f"{mask}: {what} {_place(pixels, value)} is no class of {legend.source}")
    if pixels.mode == "1" and (legend.values or {}).get(255, IGNORED) == IGNORED:
        raise InputError(f"{mask}: has one bit a pixel, which means 0 and 255; {HOW_TO_HAVE_255}")
    if kind != PALETTE:
        return MaskFile(mask, kind, values, {})
    palette = np.reshape(pixels.getpalette("RGB"), (-1, 3)).tolist()
    for value in values:
        if value >= len(palette):
            raise InputError(f"{mask}: value {value} {_place(pixels, value)} is not in the file's palette")
    return MaskFile(mask, kind, values, {value: tuple(palette[value]) for value in values})


def _read_mask(path: Path, size: tuple[int, int]) -> tuple[Image.Image, str]:
    """The pixels of a mask, without alpha, and their kind."""
    try:
        contents = path.read_bytes()
        with Image.open(io.BytesIO(contents), formats=["PNG"]) as image:
            # Asked before anything is decoded, so that no file can fill the memory.
            if image.size != size:
                rule = f"must have its image's size, {size[0]} x {size[1]}"
                raise InputError(f"{path}: {rule}, got {image.size[0]} x {image.size[1]}")
            bits, kind = contents[24], KINDS[contents[25]]
            # Of 2 or 4 bits libraries make 8 by scaling, of 16 by leaving out: the values would be others.
            if bits not in (1, 8) and kind != PALETTE:
                raise InputError(f"{path}: a mask without a palette must have 8 bits a channel, or 1, got {bits}")
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: a mask must have at most {MAX_PIXELS:,} pixels ({error})") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: a mask must be a PNG file, which this is not") from None
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError is what Pillow raises for a broken PNG
        raise InputError(f"{path}: cannot be read; the file is damaged ({error})") from None
    if image.mode in ("LA", "RGBA"):
        lowest = image.getchannel("A").getextrema()[0]
        if lowest != 255:
            raise InputError(f"{path}: must be opaque, got alpha {lowest} {_place(image.getchannel('A'), lowest)}")
        image = image.convert(image.mode[:-1])
    image.info.pop("transparency", None)  # of the palette's places or of one colour; TensorFlow drops it too
    return image, kind


def _place(pixels: Image.Image, value: int | Colour) -> str:
    """Where a value is first found."""
    row, column = np.argwhere(np.reshape(np.asarray(pixels) == value, (pixels.height, pixels.width, -1)).all(-1))[0]
    return f"at row {row}, column {column}"


def palette_coding(seen: list[MaskFile], values: dict[int, int]) -> ClassCoding:
    """The colours that stand for the classes in the palettes of all files.

    Raises:
        InputError: they do not agree.
    """
    places: dict[int, tuple[Colour, Path]] = {}
    meanings: dict[Colour, tuple[int, Path]] = {}
    for each in seen:
        for value, colour in each.colours.items():
            number = values.get(value, IGNORED)
            # An ignored place may have any colour but one of a class.
            other, file = places.setdefault(value, (colour, each.path)) if number != IGNORED else (colour, each.path)
            meaning, source = meanings.setdefault(colour, (number, each.path))
            if other != colour:
                raise InputError(f"{each.path}: palettes must agree, got {colour} for value {value}, and {other} in {file}")
            if meaning != number:
                raise InputError(f"{each.path}: each class must have a colour of its own, got {colour} for value {value}, which"
                                 f" stands for another in {source}")  # fmt: skip
    return colour_coding({colour: number for colour, (number, _) in meanings.items() if number != IGNORED})
