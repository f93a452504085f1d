"""Folders in COCO layout: their images and the objects in them, read from JSON that nobody has checked.

All that is read is checked before anything is trained on, because a fault in the ninth hour costs nine hours.
"""

from __future__ import annotations

import contextlib
import functools
import json
import mmap
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from kerastoolkit.data.coco_objects import CocoObject, is_whole, read_boxed_object, read_object, short, without_mask
from kerastoolkit.data.image_folders import refuse, with_cuts
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.image_files import check_image_file

ANNOTATIONS = "annotations/instances_*.json"
NAME = re.compile(r"instances_(masks_)?(.+)")  # of such a file; what follows is also what its folder of images is called
MASK = re.compile(rb'"segmentation"\s*:\s*(\[\s*\[|\{)')  # polygons or run lengths; [] is none
SPLITS = {"train": "train", "val": "validation", "test": "test"}  # how the name goes on

Faults = list[tuple[str, str]]  # "image" or "object", and a line on what is wrong with it: a file, a record, a rule, a value


@dataclass(frozen=True)
class CocoImage:
    """A file, its size in pixels and what is in it."""

    file: Path
    height: int
    width: int
    objects: tuple[CocoObject, ...]


@dataclass(frozen=True)
class CocoFolder:
    """What a folder holds.

    Attributes:
        categories: their names, in the order of their ids.
        category_ids: their ids.
        splits: train, validation and test, their images in the files' order, without the images and objects that have a fault.
        notes: what a person should know of how it was read.
        faults: what is wrong with those that were left out.
    """

    categories: tuple[str, ...]
    category_ids: tuple[int, ...]
    splits: dict[str, list[CocoImage]]
    notes: tuple[str, ...]
    faults: Faults


def has_coco_layout(path: str | Path) -> bool:
    """Whether a folder has annotations/instances_*.json in it."""
    return any(NAME.fullmatch(file.stem) for file in Path(path).expanduser().glob(ANNOTATIONS))


def has_masks(path: str | Path) -> bool:
    """Whether a file of annotations in a folder has a mask in it; it is searched, not read."""
    for file in Path(path).expanduser().glob(ANNOTATIONS):
        with open(file, "rb") as opened, contextlib.suppress(ValueError):  # which an empty file is
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as contents:
                if MASK.search(contents):
                    return True
    return False


def read_coco(path: str | Path, *, validation: float = 0.1, limit: int | None = None, masks: bool = True) -> CocoFolder:
    """Reads annotations/instances_NAME.json, whose images are in NAME, images/NAME, images or the folder itself.

    NAME begins with train, val or test (train2017, ...). Without test, val is the test split. What does not exist is cut from
    train by the hash of a file's name, a tenth for the test split, then ``validation``; where there is but one file, whatever its
    name, all is cut from it. A split may have two files, one of them instances_masks_NAME.json: the images of the other
    whose objects all have a mask.

    Args:
        path: the folder.
        validation: a fraction below 1, a count, or 0.
        limit: the first so many images of each split are read, and no others checked; by default all.
        masks: whether the objects' masks are wanted, and the file of those that have one. Otherwise their boxes are, from the
            other file: every object then has one, and no mask.
    Raises:
        InputError: what is there is no such folder, or its files are no lists of images, categories and annotations.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    faults: Faults = []
    files, notes = _annotation_files(root, masks)
    listings = {split: _listing(file, root, masks, faults) for split, file in files.items()}
    train = listings["train"]
    for each in listings.values():
        if each.categories != train.categories:
            raise InputError(f"{each.file}: must have the same categories as {train.file}, {_difference(each, train)}")
    needed = 1 + ("test" not in files) + ("validation" not in files)
    if len(train.images) < needed:
        few = f"{train.file}: must have at least {needed} images, got {len(train.images)}"
        refuse([*(line for _, line in faults), few])

    left_out: Counter[str] = Counter()
    places = {number: place for place, number in enumerate(train.categories)}
    examples = with_cuts({split: (list(each.images), np.zeros(len(each.images), np.int64)) for split, each in listings.items()},
                         validation, root)  # fmt: skip
    read = functools.partial(read_object if masks else read_boxed_object, places=places, left_out=left_out)
    splits = {split: [_image(listings.get(split, train), file, read, faults) for file in chosen[:limit]]
              for split, (chosen, _) in examples.items()}  # fmt: skip
    splits = {split: [image for image in images if image is not None] for split, images in splits.items()}
    notes += [f"{count:,} {what} were left out" for what, count in left_out.items()]
    return CocoFolder(tuple(train.categories.values()), tuple(train.categories), splits, tuple(notes), faults)


def _annotation_files(root: Path, masks: bool) -> tuple[dict[str, Path], list[str]]:
    """The file of each split, and what was decided."""
    found = sorted(file for file in root.glob(ANNOTATIONS) if NAME.fullmatch(file.stem))
    if not found:
        raise InputError(f"{root}: has no {ANNOTATIONS}")
    if len(found) == 1:
        return {"train": found[0]}, [f"{found[0].name} is the only file of annotations: what is missing is cut from it"]
    by_split: dict[str, list[Path]] = defaultdict(list)
    for file in found:
        for beginning, split in SPLITS.items():
            if _part(file).lower().startswith(beginning):
                by_split[split].append(file)
    chosen, notes = {}, []
    for split, files in by_split.items():
        best = [file for file in files if bool(NAME.fullmatch(file.stem)[1]) == masks] or files
        if len(best) > 1:
            raise InputError(f"{root}: must have one file of annotations for {split}, got {best[0].name} and {best[1].name}")
        chosen[split] = best[0]
        notes += [f"{best[0].name} is read in place of {file.name}" for file in files if file != best[0]]
    if "train" not in chosen:
        raise InputError(f"{root}: needs annotations/instances_train*.json, got {', '.join(file.name for file in found)}")
    if "validation" in chosen and "test" not in chosen:
        chosen["test"] = chosen.pop("validation")
    return chosen, notes


def _part(file: Path) -> str:
    return NAME.fullmatch(file.stem)[2]


@dataclass(frozen=True)
class _Listing:
    """What a file of annotations holds, its objects as they stand there.

    Attributes:
        file: the JSON file.
        categories: id -> name, by id.
        images: file of an image -> its id, height and width; without those of which one has a fault.
        annotations: id of an image -> its annotations, each with its place in the file.
    """

    file: Path
    categories: dict[int, str]
    images: dict[Path, tuple[int, int, int]]
    annotations: dict[int, list[tuple[int, dict[str, Any]]]]


def _listing(file: Path, root: Path, masks: bool, faults: Faults) -> _Listing:
    try:
        with open(file, "rb") as opened:
            contents = json.load(opened, object_hook=None if masks else without_mask)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as JSON ({error})") from None
    for key in ("categories", "images", "annotations"):
        records = contents.get(key) if isinstance(contents, dict) else None
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise InputError(f"{file}: must be an object with a list of {key}, each an object")
    categories = _categories(contents["categories"], file)
    images, known = _images(contents["images"], file, root, faults)
    annotations, ids = defaultdict(list), set()
    for place, record in enumerate(contents["annotations"]):
        number, image = record.get("id", -place - 1), record.get("image_id")  # nothing refers to it
        if not is_whole(number) or number in ids:
            fault = f"annotations[{place}]: id must be a whole number of its own, got {short(number)}"
        elif not is_whole(image) or image not in known:
            fault = f"{_name('annotations', place, record)}: image_id must be an image's id, got {short(image)}"
        else:
            ids.add(number)
            annotations[image].append((place, record))
            continue
        faults.append(("object", f"{file}: {fault}"))
    return _Listing(file, categories, images, annotations)


def _categories(records: list[dict[str, Any]], file: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    faults = []
    for place, record in enumerate(records):
        number, name = record.get("id"), record.get("name")
        if not is_whole(number) or number in found:
            faults.append(f"{file}: categories[{place}]: id must be a whole number of its own, got {short(number)}")
        elif not _is_text(name) or name in found.values():
            faults.append(f"{file}: {_name('categories', place, record)}: must have a name of its own, got {short(name)}")
        else:
            found[number] = name
    refuse(faults)
    return dict(sorted(found.items()))


def _images(records: list[dict[str, Any]], file: Path, root: Path, faults: Faults
            ) -> tuple[dict[Path, tuple[int, int, int]], set[int]]:  # fmt: skip
    """The images as in ``_Listing``, and the ids of all, with faults or without."""
    found, ids = {}, set()
    folder = None
    for place, record in enumerate(records):
        number, name, size = record.get("id"), record.get("file_name"), (record.get("height"), record.get("width"))
        where = _name("images", place, record)
        if not is_whole(number) or number in ids:
            fault = f"images[{place}]: id must be a whole number of its own, got {short(number)}"
        elif not _is_text(name) or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            fault = f"{where}: file_name must be a path within the folder of images, got {short(name)}"
        elif not all(is_whole(side) and side > 0 for side in size):
            fault = f"{where}: height and width must be positive whole numbers, got {short(list(size))}"
        elif (folder := folder or _folder_of_images(root, _part(file), name)) / name in found:
            fault = f"{where}: file_name must be one image's alone, got {name} again"
        else:
            found[folder / name] = (number, *size)
            fault = None
        if is_whole(number):
            ids.add(number)
        if fault:
            faults.append(("image", f"{file}: {fault}"))
    return found, ids


def _folder_of_images(root: Path, part: str, name: str) -> Path:
    """Where the image called ``name`` is; where it is nowhere, the folder that is the usual one."""
    candidates = [root / part, root / "images" / part, root / "images", root]
    return next((folder for folder in candidates if (folder / name).is_file()), candidates[0])


def _image(listing: _Listing, file: Path, read: Callable[..., CocoObject], faults: Faults) -> CocoImage | None:
    """An image with its objects, but those that have a fault; None where it has one itself."""
    number, height, width = listing.images[file]
    if fault := _file_fault(file, height, width, listing.file.name):
        faults.append(("image", fault))
    objects = []
    for place, record in listing.annotations.get(number, ()):
        try:
            objects.append(read(record, height, width))
        except ValueError as error:
            faults.append(("object", f"{listing.file}: {_name('annotations', place, record)}: {error}"))
    return None if fault else CocoImage(file, height, width, tuple(objects))


def _file_fault(file: Path, height: int, width: int, listed_in: str) -> str | None:
    try:
        check_image_file(file)
    except InputError as error:
        return str(error)
    with Image.open(file) as image:
        got = f"got {image.width} x {image.height}"
        return None if image.size == (width, height) else f"{file}: must be {width} x {height} pixels, as {listed_in} says, {got}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value.strip())


def _name(key: str, place: int, record: dict[str, Any]) -> str:
    number = record.get("id")
    return f"{key}[{place}]" + (f" (id {number})" if is_whole(number) else "")


def _difference(one: _Listing, other: _Listing) -> str:
    number = min(key for key, _ in one.categories.items() ^ other.categories.items())
    names = (each.categories.get(number, "none") for each in (one, other))
    return "got {} and {} with id {}".format(*names, number)
