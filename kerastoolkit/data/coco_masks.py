"""Class maps from a folder in COCO layout: the objects of an image merged into one mask."""

from __future__ import annotations

import difflib
import functools
import os
from collections import Counter
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.coco_files import CocoImage, read_coco
from kerastoolkit.data.coco_objects import CocoObject, object_runs
from kerastoolkit.data.image_folders import TEST_SHARE, FolderFacts, refuse
from kerastoolkit.data.png_files import png_bytes
from kerastoolkit.experiment import InputError, Source
from kerastoolkit.serving.class_maps import IGNORED, index_coding, voc_palette

BACKGROUND = "background"


def coco_folder(path: str | Path, only: tuple[str, ...] = (), limit: int | None = None, validation: float | None = None
                ) -> tuple[dict[str, Source], dict[str, Any]]:  # fmt: skip
    """Images in COCO layout, their objects merged: class 0 is "background", then come the categories in the order of their ids.

    Which files are read for which split is what ``coco_files.read_coco`` says. Small objects lie in front of large ones. Where
    there is no object, crowd regions are ignored, and so are the boxes of objects that have no mask. Images without objects are
    all background.

    Raw examples: image () string, the bytes of the file; truth () string, the bytes of a PNG file that is made at each fetch.

    Args:
        path: the folder.
        only: the categories wanted; all others are background, also where they hide a part of these.
        limit: the first so many images of each split; by default all.
        validation: a fraction below 1, a count, or 0; by default a tenth. Not used where there is a file for it.
    Returns:
        the splits, and about: classes, palette, coding, shape, channels, mean, std and notes.
    Raises:
        InputError: one line with the first fault and the number of others; or a name in ``only`` is no category.
    """
    found = read_coco(path, validation=TEST_SHARE if validation is None else validation, limit=limit)
    refuse([line for _, line in found.faults])
    for name in only:
        if name not in found.categories:
            closest = difflib.get_close_matches(name, found.categories, n=1)
            guess = f" (did you mean {closest[0]}?)" if closest else f": choose of {', '.join(found.categories)}"
            raise InputError(f"only must name categories of {path}, got {name}{guess}")
    chosen = [name for name in found.categories if not only or name in only]
    if BACKGROUND in chosen:
        raise InputError(f"{path}: no category may be called {BACKGROUND}, which is what all other pixels are")
    if len(chosen) >= IGNORED:
        raise InputError(f"{path}: must have at most {IGNORED - 1} categories, or these be named with only, got {len(chosen)}")
    labels = [chosen.index(name) + 1 if name in chosen else 0 for name in found.categories]

    kinds = Counter(_kind(each) for images in found.splits.values() for image in images for each in image.objects
                    if labels[each.category])  # fmt: skip
    if kinds["box"] and not kinds["mask"]:
        raise InputError(f"{path}: segmentation needs objects with masks, got {kinds['box']:,} with boxes alone")
    reasons = {"box": "have no mask: their boxes are ignored", "crowd": "are crowds: they are ignored"}
    notes = found.notes + tuple(f"{kinds[kind]:,} of {kinds.total():,} objects {reason} where no other object is"
                                for kind, reason in reasons.items() if kinds[kind])  # fmt: skip
    count = len(chosen) + 1
    about = FolderFacts(classes=(BACKGROUND, *chosen), palette=voc_palette(count), coding=index_coding(count), shape=None,
                        channels=3, notes=notes)  # fmt: skip
    about.training_files = [image.file for image in found.splits["train"]]
    return {split: _source(images, labels) for split, images in found.splits.items()}, about


def class_map(image: CocoImage, labels: list[int]) -> np.ndarray:
    """The class of each pixel, (height, width) uint8.

    Args:
        image: with its objects.
        labels: of each category its class; 0 where it is background.
    """
    columns = np.zeros((image.width, image.height), np.uint8)  # as runs go
    pixels = columns.reshape(-1)
    masks = []
    for each in image.objects:
        runs, label = object_runs(each, image.height, image.width), labels[each.category]
        if runs is not None and not each.crowd:
            masks.append((runs, label))
        elif label and runs is not None:
            _paint(pixels, runs, IGNORED)
        elif label:
            left, top, width, height = each.box  # whole pixels, and none of those outside
            columns[max(0, floor(left)) : ceil(left + width), max(0, floor(top)) : ceil(top + height)] = IGNORED
    for runs, label in sorted(masks, key=lambda mask: -mask[0][1::2].sum()):
        _paint(pixels, runs, label)
    return columns.T


def _kind(found: CocoObject) -> str:
    return "crowd" if found.crowd else "mask" if found.polygons or found.runs is not None else "box"


def _paint(pixels: np.ndarray, runs: np.ndarray, label: int) -> None:
    """Sets the pixels inside; ``runs`` as in ``CocoObject``."""
    inner = runs[1 : len(runs) // 2 * 2]  # without what is before and behind the mask
    seen = pixels[runs[0] : runs[0] + inner.sum()]
    seen[np.repeat(np.arange(len(inner)) % 2 == 0, inner)] = label


def _source(images: list[CocoImage], labels: list[int]) -> Source:
    import tensorflow as tf

    @functools.cache
    def held() -> Any:
        with tf.init_scope(), tf.device("CPU:0"):
            return tf.constant([os.fsencode(image.file) for image in images], tf.string)

    def truths(indices: np.ndarray) -> np.ndarray:
        return np.array([png_bytes(class_map(images[index], labels)) for index in indices], object)

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        indices = tf.convert_to_tensor(indices)
        contents = tf.map_fn(tf.io.read_file, tf.gather(held(), indices))
        truth = tf.numpy_function(truths, [indices], tf.string, stateful=False)
        return {"image": contents, "truth": tf.ensure_shape(truth, indices.shape)}

    return Source(len(images), fetch, name=lambda index: str(images[index].file))
