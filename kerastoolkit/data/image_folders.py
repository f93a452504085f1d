"""A person's own images: a folder with one folder of images for each class, or a folder of images without labels.

All of it is checked before anything is trained on, because a fault in the ninth hour costs nine hours.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.splits import number_to_cut, stratified
from kerastoolkit.experiment import Data, InputError, Source
from kerastoolkit.serving.image_files import SUFFIXES, check_image_file

SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
TEST_SHARE = 0.1
SAMPLE_FOR_MEAN = 256
MOST_TOLD = 50  # further faults
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "F")  # Pillow's modes without colour

Files = dict[str, list[Path]]  # class name -> its images, sorted


def image_folder(path: str, *, validation: float = 0.1) -> Data:
    """Images of any size in class folders; the folders' names are the classes, in sorted order.

    Layouts:
        path/<class>/...           a tenth of the images is the test split, validation is cut from the others
        path/train/<class>/...     beside it, where they exist, path/validation (or val) and path/test are
                                   taken as they are; what does not exist is cut from train in the same way
    A cut goes by the hash of an image's name, in each class in proportion: it is always the same. Class
    folders may have folders inside. Files whose names start with a dot are passed over; other files that are
    no images, and all that lie beside the folders, are counted in ``about["skipped"]``. Grey images count as colour.

    Raw examples: image () string, the bytes of a file; label () int64.

    Args:
        path: the folder.
        validation: a fraction below 1, a count, or 0.
    Raises:
        InputError: one line with the first fault (a file, a rule, a value) and the number of others.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
    faults: list[str] = []
    splits, skipped = _list_splits(root, faults)
    refuse(faults)
    grey = _all_are_grey(file for files in splits.values() for images in files.values() for file in images)

    classes = tuple(splits["train"])
    examples = with_cuts({name: _examples(files, classes) for name, files in splits.items()}, validation, root)

    about = FolderFacts(classes=classes, shape=None, channels=3, grey=grey, skipped=skipped)
    about["counts"] = {name: np.bincount(of, minlength=len(classes)) for name, (_, of) in examples.items()}
    about.training_files = examples["train"][0]
    sources = {name: _source(*found) for name, found in examples.items()}
    return Data(root.resolve().name, **sources, inputs=("image",), encoded=True, about=about)


def flat_folder(path: str, *, validation: float = 0.1) -> Data:
    """Images of any size, without labels: all that are in a folder and in the folders inside it.

    Where a folder train lies in it, with folders validation (or val) and test beside it or without, these are the splits. What
    does not exist is cut by the hash of an image's name: a tenth for the test split, then ``validation``.

    Raw examples: image () string, the bytes of a file.

    Args:
        path: the folder.
        validation: a fraction below 1, a count, or 0.
    Raises:
        InputError: one line with the first fault (a file, a rule, a value) and the number of others.
    """
    root = Path(path).expanduser()
    faults: list[str] = []
    folders = _split_folders(root, faults) or {"train": root}
    found = {name: list(walk_files(folder, faults)) for name, folder in folders.items()}
    files = {name: sorted(file for file in each if file.suffix.lower() in SUFFIXES) for name, each in found.items()}
    refuse(faults)
    for name, images in files.items():
        needed = 1 + ("test" not in files) + ("validation" not in files) if name == "train" else 1
        if len(images) < needed:
            faults.append(f"{folders[name]}: needs at least {needed} images ({' '.join(SUFFIXES)}), got {len(images)}")
    refuse(faults)
    grey = _all_are_grey(file for images in files.values() for file in images)
    examples = with_cuts({name: (each, np.zeros(len(each), np.int64)) for name, each in files.items()}, validation, root)

    def without_labels(files: list[Path], labels: np.ndarray) -> Source:
        source = _source(files, labels)
        return dataclasses.replace(source, fetch=lambda indices: {"image": source.fetch(indices)["image"]})

    sources = {name: without_labels(*each) for name, each in examples.items()}
    beside = 0 if root in folders.values() else count_visible_files(root)
    skipped = beside + sum(map(len, found.values())) - sum(map(len, files.values()))
    about = {"shape": None, "channels": 3, "grey": grey, "skipped": skipped}
    inner = any(map(visible_folders, folders.values()))
    notes = (f"{root} is read as images without classes, those in the folders inside it too",) if inner else ()
    return Data(root.resolve().name, **sources, inputs=("image",), encoded=True, about=about, notes=notes)


def has_class_folders(path: str) -> bool:
    """Whether a folder, or its train folder, holds two or more folders and no images beside them."""
    root = Path(path).expanduser()
    if not root.is_dir():
        return False
    base = (_split_folders(root, []) or {"train": root})["train"]
    beside = any(file.suffix.lower() in SUFFIXES for file in base.iterdir() if not file.name.startswith("."))
    return len(visible_folders(base)) >= 2 and not beside


def with_cuts(examples: dict[str, Any], validation: float, root: Path) -> dict[str, Any]:
    """Train, validation and test examples; what was not there is cut from train."""
    if "test" not in examples:
        count = max(1, number_to_cut(TEST_SHARE, len(examples["train"][0]), name="test"))
        examples["train"], examples["test"] = _cut(*examples["train"], count, root)
    if "validation" not in examples:
        count = number_to_cut(validation, len(examples["train"][0]), name="validation")
        examples["train"], examples["validation"] = _cut(*examples["train"], count, root)
    return examples


def _all_are_grey(files: Iterable[Path]) -> bool:
    """Checks all files; returns whether none has colour."""
    faults, grey = [], True
    for file in files:
        try:
            grey &= check_image_file(file) in GREY_MODES
        except InputError as error:
            faults.append(str(error))
    refuse(faults)
    return grey


class FolderFacts(dict):
    """``Data.about`` whose mean and std are computed when they are asked for: only a new model needs them."""

    training_files: list[Path]

    def __missing__(self, key: str) -> Any:
        if key not in ("mean", "std"):
            raise KeyError(key)
        self["mean"], self["std"] = _mean_and_deviation(self.training_files)
        return self[key]


def _mean_and_deviation(files: list[Path]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of red, green and blue, 0..255, over at most 256 images spread evenly, each of the same weight."""
    from PIL import Image

    sums = np.zeros((2, 3))
    chosen = np.unique(np.linspace(0, len(files) - 1, num=SAMPLE_FOR_MEAN).astype(int))
    for number in chosen:
        try:
            with Image.open(files[number]) as image:
                image.draft("RGB", (256, 256))  # the JPEG decoder leaves out detail: faster on photographs
                pixels = np.asarray(image.convert("RGB"), np.float64)
        except (OSError, SyntaxError, ValueError) as error:  # SyntaxError is what Pillow raises for a broken PNG
            raise InputError(f"{files[number]}: cannot be read; the file is damaged ({error})") from None
        sums += pixels.mean((0, 1)), np.square(pixels).mean((0, 1))
    mean, square = sums / len(chosen)
    # Images of one colour have a deviation of 0, by which nothing can be divided; one level is harmless.
    deviation = np.sqrt(np.maximum(square - mean**2, 1.0))
    return tuple(mean.tolist()), tuple(deviation.tolist())


def _list_splits(root: Path, faults: list[str]) -> tuple[dict[str, Files], int]:
    """The images of each split that has a folder, and how many files were passed over."""
    folders = _split_folders(root, faults)
    if folders is None:
        files, skipped = _list_classes(root, faults)
        return {"train": files}, skipped
    splits, skipped = {}, count_visible_files(root)
    for name, folder in folders.items():
        splits[name], more = _list_classes(folder, faults, at_least=2 if name == "train" else 1)
        skipped += more
    for name, files in splits.items():
        unknown = sorted(set(files) - set(splits["train"]))
        if unknown:
            faults.append(f"{root}: the {name} folder has a class that train does not have: {unknown[0]}")
    return splits, skipped


def _split_folders(root: Path, faults: list[str]) -> dict[str, Path] | None:
    """The folders of the splits, where there is one for train and no other folder than theirs."""
    found = {folder.name: folder for folder in visible_folders(root)}
    if "train" not in found or not found.keys() <= SPLIT_FOLDERS.keys():
        return None
    if {"validation", "val"} <= found.keys():
        faults.append(f"{root}: has both a validation and a val folder")
    return {SPLIT_FOLDERS[name]: folder for name, folder in sorted(found.items())}


def _list_classes(root: Path, faults: list[str], at_least: int = 2) -> tuple[Files, int]:
    folders = visible_folders(root)
    if len(folders) < at_least:
        faults.append(f"{root}: needs at least {at_least} class folders with images, got {len(folders)}")
    files = {}
    skipped = count_visible_files(root)
    for folder in folders:
        found = list(walk_files(folder, faults))
        files[folder.name] = sorted(file for file in found if file.suffix.lower() in SUFFIXES)
        skipped += len(found) - len(files[folder.name])
        if not files[folder.name]:
            faults.append(f"{folder}: a class folder needs at least 1 image ({' '.join(SUFFIXES)}), got 0")
    return files, skipped


def visible_folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def count_visible_files(root: Path) -> int:
    return sum(entry.is_file() and not entry.name.startswith(".") for entry in root.iterdir())


def walk_files(folder: Path, faults: list[str]) -> Iterator[Path]:
    """All files below a folder, symbolic links followed."""
    for path, folders, files in os.walk(folder, followlinks=True):
        yield from (Path(path, name) for name in files if not name.startswith("."))
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in list(folders):
            inner = Path(path, name)
            if inner.is_symlink() and Path(path).resolve().is_relative_to(inner.resolve()):
                faults.append(f"{inner}: a symbolic link to a folder that it is in")
                folders.remove(name)


def refuse(faults: list[str], hint: str = "") -> None:
    """Raises an InputError where there are faults: one line with the first, the number of others, and the hint. The others, or
    the first 50 of them, are its notes."""
    if not faults:
        return
    others = faults[1:]
    error = InputError(faults[0] + (f" (and {len(others)} more)" if others else "") + hint)
    for each in others[:MOST_TOLD]:
        error.add_note(each)
    if len(others) > MOST_TOLD:
        error.add_note(f"and {len(others) - MOST_TOLD:,} more")
    raise error


def _examples(files: Files, classes: tuple[str, ...]) -> tuple[list[Path], np.ndarray]:
    pairs = [(file, classes.index(name)) for name, images in files.items() for file in images]
    return [file for file, _ in pairs], np.array([label for _, label in pairs], np.int64)


def _cut(files: list[Path], labels: np.ndarray, count: int, root: Path) -> tuple[Any, Any]:
    """(what is left, what is cut), each files and labels."""
    names = [os.fsencode(file.relative_to(root).as_posix()) for file in files]
    chosen = stratified(labels, count, np.argsort([hashlib.sha256(name).hexdigest() for name in names]))

    def part(wanted: bool) -> tuple[list[Path], np.ndarray]:
        rows = np.flatnonzero(chosen == wanted)
        return [files[row] for row in rows], labels[rows]

    return part(False), part(True)


def _source(files: list[Path], labels: np.ndarray) -> Source:
    import tensorflow as tf

    @functools.cache
    def held() -> tuple[Any, Any]:
        with tf.init_scope(), tf.device("CPU:0"):
            return tf.constant([os.fsencode(file) for file in files], tf.string), tf.constant(labels)

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        names, numbers = held()
        contents = tf.map_fn(tf.io.read_file, tf.gather(names, indices))
        return {"image": contents, "label": tf.gather(numbers, indices)}

    return Source(len(files), fetch, name=lambda index: str(files[index]))
