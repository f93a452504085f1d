"""Boxes from a folder with YOLO labels: beside each image a text file with a line for each object."""

from __future__ import annotations

import os
import reprlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kerastoolkit.data.boxed_images import BoxedFolder, BoxedImage, boxed_image, image_size
from kerastoolkit.data.coco_files import SPLITS, Faults
from kerastoolkit.data.coco_objects import box_within
from kerastoolkit.data.image_folders import visible_folders, walk_files, with_cuts
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.image_files import SUFFIXES

SETTINGS = ("data.yaml", "data.yml")
LISTED = "classes.txt"
MOST_CLASSES = 1_000  # where nothing tells their names: a larger number is no class


def has_yolo_layout(path: str | Path) -> bool:
    """Whether a folder has a data.yaml in it, or images and labels, or these in train."""
    root = Path(path).expanduser()
    pairs = any((base / "images").is_dir() and any((base / "labels").rglob("*.txt")) for base in (root, root / "train"))
    return pairs or any((root / name).is_file() for name in SETTINGS)


def yolo_labels(path: str | Path, *, validation: float, limit: int | None) -> BoxedFolder:
    """Images with YOLO labels: a line "class x y width height" for each object, where the class is its number from 0 on and the
    others are the box's centre and size in shares of the image's width and height.

    A line "class x y x y x y ..." is the outline of an object, of which the box around it is taken. An image without a file of
    labels, or with an empty one, has no object.

    Layouts:
        path/data.yaml                  names: of the classes; train, val, test: folders of images, or text files that list them;
                                        the labels of .../images/... are in .../labels/...
        path/images and path/labels     with folders train, val and test in both, or without
        path/train/images and path/train/labels, and so for val and test
    Names of the splits may go on (train2017, valid). Without test, val is the test split; what does not exist is cut from train
    by the hash of an image's name, a tenth for the test split, then ``validation``. Without data.yaml the names are the lines of
    classes.txt in the folder or in labels, or else "class 0" up to the largest that is read.

    Args:
        path: the folder.
        validation: a fraction below 1, a count, or 0.
        limit: the first so many images of each split are read, and no others checked; None for all.
    Raises:
        InputError: there are no such folders, or data.yaml cannot be read.
    """
    root = Path(path).expanduser().absolute()  # as paths on lists may be
    settings = _settings(root)
    folders, names = _split_folders(root, settings), _names(root, settings)
    faults: Faults = []
    files = {split: _images(split_folders, faults) for split, split_folders in folders.items()}
    if "validation" in files and "test" not in files:
        files["test"] = files.pop("validation")
    needed = 1 + ("test" not in files) + ("validation" not in files)
    if len(files["train"]) < needed:
        raise InputError(f"{folders['train'][0]}: must have at least {needed} images ({' '.join(SUFFIXES)}),"
                         f" got {len(files['train'])}")  # fmt: skip
    common = Path(os.path.commonpath([file.parent for file in files["train"]]))
    examples = with_cuts({split: (each, np.zeros(len(each), np.int64)) for split, each in files.items()}, validation, common)
    classes = len(names) if names else MOST_CLASSES
    splits = {split: [_image(file, classes, faults) for file in chosen[:limit]] for split, (chosen, _) in examples.items()}
    splits = {split: [image for image in images if image is not None] for split, images in splits.items()}
    notes = []
    if not names:
        largest = max((int(image.labels.max(initial=-1)) for images in splits.values() for image in images), default=-1)
        names = tuple(f"class {number}" for number in range(largest + 1))
        notes.append(f"{root} tells no names of classes (in data.yaml or classes.txt): they are class 0, class 1, ...")
    return BoxedFolder(names, tuple(range(1, len(names) + 1)), splits, tuple(notes), faults)


def _settings(root: Path) -> dict[str, Any]:
    """What data.yaml tells; nothing where there is none."""
    for file in (root / name for name in SETTINGS):
        if file.is_file():
            try:
                found = yaml.safe_load(file.read_bytes())
            except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
                raise InputError(f"{file}: cannot be read as YAML ({' '.join(str(error).split())})") from None
            if not isinstance(found, dict):
                raise InputError(f"{file}: must have the keys train and names, got {type(found).__name__}")
            return found
    return {}


def _split_folders(root: Path, settings: dict[str, Any]) -> dict[str, list[Path]]:
    """Of each split the folders of images, or lists of them."""
    if "train" in settings:
        return {SPLITS[key]: _told_folders(root, settings, key) for key in SPLITS if settings.get(key)}
    images = root / "images"
    inner = {folder: _split_of(folder.name) for folder in visible_folders(images if images.is_dir() else root)}
    if images.is_dir() and (None in inner.values() or "train" not in inner.values()):
        return {"train": [images]}
    found: dict[str, list[Path]] = {}
    for folder, split in inner.items():
        folder = folder if images.is_dir() else folder / "images"
        if split and folder.is_dir():
            if split in found:
                raise InputError(f"{root}: must have one folder for {split}, got {found[split][0]} and {folder}")
            found[split] = [folder]
    if "train" not in found:
        raise InputError(f"{root}: needs images for train: train in data.yaml, images or train/images")
    return found


def _told_folders(root: Path, settings: dict[str, Any], key: str) -> list[Path]:
    """What data.yaml tells of a split. Its paths may be those of another machine, or begin one folder deeper than it stands."""
    told = settings[key] if isinstance(settings[key], list) else [settings[key]]
    base = settings.get("path") or ""
    folders = []
    for each in told:
        found = None
        if isinstance(each, str) and isinstance(base, str):
            candidates = [root / base / each, root / each, root / each.removeprefix("../")]
            found = next((path for path in candidates if path.exists()), None)
        if found is None:
            rule = f"{key} must be a folder of images or a list of them"
            raise InputError(f"{root / SETTINGS[0]}: {rule}, got {_shortened(each)}")
        folders.append(found)
    return folders


def _split_of(name: str) -> str | None:
    return next((split for beginning, split in SPLITS.items() if name.lower().startswith(beginning)), None)


def _names(root: Path, settings: dict[str, Any]) -> tuple[str, ...]:
    """The names of the classes by their numbers, none where they are not told."""
    file, found = root / SETTINGS[0], settings.get("names")
    if isinstance(found, dict):
        if set(found) != set(range(len(found))):
            raise InputError(f"{file}: names must be of the classes 0, 1, ..., got {', '.join(map(str, found))}")
        found = [found[number] for number in range(len(found))]
    if found is None:
        file = next((path for path in (root / LISTED, root / "labels" / LISTED) if path.is_file()), None)
        lines = file.read_text("utf-8", errors="replace").splitlines() if file else []
        found = [line.strip() for line in lines if line.strip()]
    if not isinstance(found, list):
        raise InputError(f"{file}: names must be a list, got {_shortened(found)}")
    for place, each in enumerate(found):
        if isinstance(each, bool) or not isinstance(each, (str, int, float)) or each in found[:place]:
            raise InputError(f"{file}: names must be texts, each once, got {_shortened(each)}")
    return tuple(map(str, found))


def _shortened(value: Any) -> str:
    """What was read, for a message. A few lines of YAML that refer to one another can be gigabytes when written out."""
    return (value if isinstance(value, str) else reprlib.repr(value))[:50]


def _images(sources: list[Path], faults: Faults) -> list[Path]:
    """The images in folders and on lists. A file of labels beside a folder of images must be that of one of them."""
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            loops: list[str] = []
            images = sorted(file for file in walk_files(source, loops) if file.suffix.lower() in SUFFIXES)
            known, labels = set(map(_labels_file, images)), _labels_file(source / "image").parent
            alone = sorted(set(labels.rglob("*.txt")) - known) if labels != source else []
            loops += [f"{file}: labels must be of an image, got none of that name in {source}"
                      for file in alone if file.name != LISTED and not file.name.startswith(".")]  # fmt: skip
            faults += [("image", line) for line in loops]
        else:
            lines = source.read_text("utf-8", errors="replace").splitlines()
            images = [source.parent / line.strip() for line in lines if line.strip()]
        found += images
    return list(dict.fromkeys(found))


def _labels_file(image: Path) -> Path:
    """Where the labels of an image are: "labels" in place of the last "images" on its path, or beside it."""
    before, images, behind = image.as_posix().rpartition("/images/")
    return Path(f"{before}/labels/{behind}" if images else image).with_suffix(".txt")


def _image(file: Path, classes: int, faults: Faults) -> BoxedImage | None:
    """An image with its objects, but those that have a fault; None where it has one itself."""
    labels = _labels_file(file)
    try:
        height, width = image_size(file)
        lines = labels.read_text("utf-8-sig").splitlines() if labels.is_file() else []
    except (InputError, OSError, UnicodeDecodeError) as error:
        faults.append(("image", str(error) if isinstance(error, InputError) else f"{labels}: must be text in UTF-8 ({error})"))
        return None
    objects = []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                objects.append((*_object(line.split(), classes, height, width), False, None))
        except ValueError as error:
            faults.append(("object", f"{labels}: line {number}: {error}"))
    return boxed_image(file, height, width, objects)


def _object(fields: list[str], classes: int, height: int, width: int) -> tuple[int, tuple[float, ...]]:
    """The label and the box of a line.

    Raises:
        ValueError: the rule that it breaks and the value.
    """
    try:
        label, *shares = map(float, fields)
    except ValueError:
        raise ValueError(f"must be numbers, got {' '.join(fields)[:50]}") from None
    if len(shares) != 4 and (len(shares) < 6 or len(shares) % 2):
        raise ValueError(f"must be a class and 4 numbers, or a class and 3 or more corners, got {len(fields)} numbers")
    if not label.is_integer() or not 0 <= label < classes:
        raise ValueError(f"the class must be a whole number 0 .. {classes - 1}, got {fields[0]}")
    outside = [text for text, share in zip(fields[1:], shares, strict=True) if not 0 <= share <= 1]
    if outside:
        raise ValueError(f"what follows the class must be 0 .. 1, got {outside[0]}")
    points = np.array(shares).reshape(-1, 2)
    if len(points) == 2:
        centre, size = points
        points = np.stack([centre - size / 2, centre + size / 2])
    points *= (width, height)
    return int(label), box_within((*points.min(0).tolist(), *points.max(0).tolist()), height, width)
