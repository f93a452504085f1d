"""A look at segmented images: how many pixels each class has, in how many images it is, and some images under their masks."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from kerastoolkit import charts
from kerastoolkit.data.segmented_images import read
from kerastoolkit.experiment import InputError, Source
from kerastoolkit.serving.class_maps import IGNORED, ClassCoding, decode_class_map
from kerastoolkit.serving.images import decode_image

EXAMPLES, COLUMNS = 12, 4
LONGER_SIDE = 256  # of an example, in pixels


def inspect_masks(name: str, split: str) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """What ``data.named.inspect`` gives of segmented images.

    Raises:
        InputError: there are no such images, or the split is empty.
    """
    name, splits, about = read(name)
    source = splits[split]
    if not source.size:
        raise InputError(f"{name} has no {split} part")
    counts, sizes = _counts_and_sizes(source, about["coding"])
    pixels, known = counts.sum(), counts[:, :IGNORED].sum()
    rows = [{"class": each, "share of pixels": f"{counts[:, number].sum() / max(1, known):.2%}",
             "images": int((counts[:, number] > 0).sum())} for number, each in enumerate(about["classes"])]  # fmt: skip
    different, often = np.unique(sizes, axis=0, return_counts=True)
    height, width = different[np.argmax(often)]
    notes = (
        "examples: " + ", ".join(f"{splits[part].size:,} {part}" for part in ("train", "validation", "test")),
        f"pixels of no known class: {1 - known / pixels:.2%}; the classes' shares are of the others",
        f"sizes of images: {len(different):,}, most often {width} x {height} ({often.max() / source.size:.0%})",
    )
    return rows, _figure(source, about, sizes), (*notes, *about.get("notes", ()))


def _counts_and_sizes(source: Source, coding: ClassCoding) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of each class in each image (images, 256), and its height and width (images, 2)."""
    import tensorflow as tf

    def look(contents: Any) -> tuple[Any, Any]:
        found = decode_class_map(contents, coding)
        return tf.math.bincount(tf.cast(found, tf.int32), minlength=256, maxlength=256), tf.shape(found)

    def look_at_all(indices: Any) -> Any:
        return tf.map_fn(look, source.fetch(indices)["truth"], fn_output_signature=(tf.int32, tf.int32))

    options = tf.data.Options()
    options.autotune.enabled = False  # an iterator's end can wait for it for seconds
    batches = tf.data.Dataset.range(source.size).batch(16).map(look_at_all, num_parallel_calls=os.cpu_count())
    counts, sizes = zip(*batches.with_options(options).as_numpy_iterator(), strict=True)
    return np.concatenate(counts).astype(np.int64), np.concatenate(sizes)


def _figure(source: Source, about: dict[str, Any], sizes: np.ndarray) -> Any:
    chosen = np.unique(np.linspace(0, source.size - 1, min(EXAMPLES, source.size)).astype(np.int64))
    raw, panels = source.fetch(chosen), []
    for index, image, truth in zip(chosen, raw["image"], raw["truth"], strict=True):
        height, width = np.maximum(sizes[index] * LONGER_SIDE // sizes[index].max(), 1).tolist()
        pixels = decode_image(image, height, width, channels=3).numpy().astype(np.uint8)
        panels.append(("", pixels, decode_class_map(truth, about["coding"], height, width).numpy()))
    return charts.overlays(panels, about["classes"], about["palette"], columns=min(COLUMNS, len(panels)))
