"""A person's own images with a mask each: a PNG file that tells the class of each pixel, by numbers or by colours.

All of it is checked before anything is trained on, the masks to their last pixel, because a fault in the ninth hour costs nine
hours.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.class_legend import Legend, read_legend
from kerastoolkit.data.image_folders import SPLIT_FOLDERS, FolderFacts, count_visible_files, refuse, walk_files, with_cuts
from kerastoolkit.data.mask_files import COLOURS, HOW_TO_HAVE_255, PALETTE, MaskFile, check_masks, palette_coding
from kerastoolkit.experiment import InputError, Source
from kerastoolkit.serving.class_maps import IGNORED, colour_coding, index_coding, voc_palette
from kerastoolkit.serving.image_files import SUFFIXES

LAYOUTS = "images and masks, or train with images and masks in it, or train and trainannot"


def mask_folder(path: str | Path, *, ignore: int = IGNORED, validation: float = 0.1, names: tuple[str, ...] = ()
                ) -> tuple[dict[str, Source], dict[str, Any]]:  # fmt: skip
    """Images of any size with masks: a PNG file of the same size and the same name but for its end.

    Layouts:
        path/images and path/masks             a tenth of the images is the test split, validation is cut from the others
        path/train/images and path/train/masks
        path/train and path/trainannot         beside train, where they exist, validation (or val) and test in the same form are
                                               taken as they are; what does not exist is cut from train in the same way
    A cut goes by the hash of an image's name: it is always the same. There may be folders inside. Files whose names start with a
    dot are passed over; others that are no images are counted in ``about["skipped"]``.

    Masks are one of
        grey values    the classes 0, 1, ...
        a palette      the same in the palette's places, whatever its colours; all files must agree on the colours in use
        colours        those of palette.csv in the folder; where there is one, masks with a palette are read by their colours too
    Names of classes: palette.csv (or class_dict.csv) or classes.txt in the folder, as ``class_legend.read_legend`` says; else
    ``names`` where there are as many as classes; else "class 0" up to the largest value.

    Raw examples: image () string and truth () string, the bytes of the files.

    Args:
        path: the folder.
        ignore: the value of pixels whose class is not known, in masks without colours of palette.csv; 255 is another.
        validation: a fraction below 1, a count, or 0.
        names: of the classes.
    Returns:
        the splits, and about: classes, palette, coding, shape, channels, mean, std, skipped and notes.
    Raises:
        InputError: one line with the first fault (a file, a rule, a value) and the number of others.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
    if not 0 <= ignore <= 255:
        raise InputError(f"ignore must be the value of a pixel, 0 .. 255, got {ignore}")
    faults: list[str] = []
    folders = _split_pairs(root, faults)
    refuse(faults)
    legend = read_legend(root, ignore)
    pairs, skipped = {}, count_visible_files(root)
    for name, (images, masks) in folders.items():
        pairs[name], more = _pairs(images, masks, faults)
        skipped += more
        needed = 1 + ("test" not in folders) + ("validation" not in folders) if name == "train" else 1
        if not faults and len(pairs[name]) < needed:
            faults.append(f"{images}: needs at least {needed} images ({' '.join(SUFFIXES)}), got {len(pairs[name])}")
    refuse(faults)
    masks_of = {image: mask for found in pairs.values() for image, mask in found.items()}
    about = _facts(legend, check_masks(masks_of, legend), ignore, names)
    examples = with_cuts({name: (list(found), np.zeros(len(found), np.int64)) for name, found in pairs.items()}, validation, root)
    about.training_files = examples["train"][0]
    about["skipped"] = skipped
    return {name: _source(images, [masks_of[image] for image in images]) for name, (images, _) in examples.items()}, about


def has_masks(path: str | Path) -> bool:
    """Whether a folder has one of the layouts of ``mask_folder``."""
    root = Path(path).expanduser()
    return root.is_dir() and bool(_pairs_of_folders(root))


def _pairs_of_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """What a part is called, "" for the folder itself -> its folders of images and of masks, where both are there."""
    candidates = [("", root / "images", root / "masks")]
    for name in SPLIT_FOLDERS:
        candidates += [(name, root / name / "images", root / name / "masks"), (name, root / name, root / f"{name}annot")]
    return {name: (images, masks) for name, images, masks in reversed(candidates) if images.is_dir() and masks.is_dir()}


def _split_pairs(root: Path, faults: list[str]) -> dict[str, tuple[Path, Path]]:
    """The folders of images and of masks of each split that has them."""
    found = _pairs_of_folders(root)
    if not {"", "train"} & found.keys():
        faults.append(f"{root}: needs folders {LAYOUTS}")
    if "" in found:
        if len(found) > 1:
            faults.append(f"{root}: has images and masks and also {max(found)} with images and masks; one of them must go")
        return {"train": found[""]}
    if {"validation", "val"} <= found.keys():
        faults.append(f"{root}: has both a validation and a val folder")
    faults += [f"{root / name}: has no masks; they must lie as those of train do"
               for name in SPLIT_FOLDERS if name not in found and (root / name).is_dir()]  # fmt: skip
    return {split: found[name] for name, split in SPLIT_FOLDERS.items() if name in found}


def _pairs(images: Path, masks: Path, faults: list[str]) -> tuple[dict[Path, Path], int]:
    """Image -> mask, sorted by the images' names, and how many files were passed over."""
    found = {folder: sorted(walk_files(folder, faults)) for folder in (images, masks)}
    by_name: dict[Path, dict[Path, Path]] = {images: {}, masks: {}}
    for folder, files in found.items():
        for file in files:
            if file.suffix.lower() not in SUFFIXES:
                continue
            if folder == masks and file.suffix.lower() != ".png":
                faults.append(f"{file}: a mask must be a .png file, which loses nothing, got {file.suffix}")
            name = file.relative_to(folder).with_suffix("")
            if (other := by_name[folder].setdefault(name, file)) != file:
                faults.append(f"{file}: {other.name} beside it has the same name but for its end")
    for here, there, what in ((images, masks, "mask"), (masks, images, "image")):
        for name, file in by_name[here].items():
            if name not in by_name[there]:
                faults.append(f"{file}: has no {what} {there / name}{'.png' if what == 'mask' else ''}")
    pairs = {file: by_name[masks][name] for name, file in by_name[images].items() if name in by_name[masks]}
    return pairs, sum(map(len, found.values())) - sum(map(len, by_name.values()))


def _facts(legend: Legend, seen: list[MaskFile], ignore: int, names: tuple[str, ...]) -> FolderFacts:
    """``Data.about`` of masks that are all known to be good."""
    classes, values, notes = legend.classes, legend.values, ()
    if values is None:
        found = set().union(*(each.values for each in seen))
        count = 1 + max(found - {ignore, IGNORED}, default=-1)
        if count < 2:
            hint = f"; {HOW_TO_HAVE_255}" * (255 in found)
            raise InputError(f"{legend.source}: masks must hold at least 2 classes, got the values {sorted(found)}{hint}")
        values = {value: value for value in range(count) if value != ignore}
        classes = names if len(names) == count else tuple(f"class {number}" for number in range(count))
        if names and classes != names:
            notes = (f"the masks hold {count} classes and {len(names)} names are given: they are called {classes[0]} and so on",)
    known = {colour: number for colour, number in legend.colours.items() if number != IGNORED}
    # Black is for what is no object: a set without a background takes the colours that follow.
    colours = tuple(known) or voc_palette(len(classes), first=int(classes[0].lower() != "background"))
    if seen[0].kind == COLOURS:
        coding = colour_coding(known)
    elif seen[0].kind == PALETTE:
        coding = palette_coding(seen, values)
        own = dict(zip(coding.classes, coding.colours, strict=True))
        colours = tuple(own.get(number, colour) for number, colour in enumerate(colours))
    else:
        coding = index_coding(values)
    return FolderFacts(classes=classes, palette=colours, coding=coding, shape=None, channels=3, notes=notes)


def _source(images: list[Path], masks: list[Path]) -> Source:
    import tensorflow as tf

    @functools.cache
    def held() -> Any:
        with tf.init_scope(), tf.device("CPU:0"):
            return [tf.constant([os.fsencode(file) for file in files], tf.string) for files in (images, masks)]

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        contents = (tf.map_fn(tf.io.read_file, tf.gather(names, indices)) for names in held())
        return dict(zip(("image", "truth"), contents, strict=True))

    return Source(len(images), fetch, name=lambda index: str(images[index]))
