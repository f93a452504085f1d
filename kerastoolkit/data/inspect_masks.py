"""A look at segmented images: how many pixels each class has, in how many images it is, and some images under their masks."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from kerastoolkit.data.segmented_images import read
from kerastoolkit.experiment import InputError, Source
from kerastoolkit.serving.class_maps import IGNORED, ClassCoding, decode_class_map
from kerastoolkit.serving.images import decode_image

EXAMPLES, COLUMNS = 12, 4
LONGER_SIDE = 256  # of an example, in pixels
CLASSES_IN_LEGEND = 40
MASK = 0.6  # how much of a drawn pixel is the colour of its class; the rest is grey, so that colours tell classes alone


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
    return rows, _figure(source, about, counts, sizes), (*notes, *about.get("notes", ()))


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


def _figure(source: Source, about: dict[str, Any], counts: np.ndarray, sizes: np.ndarray) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    chosen = np.unique(np.linspace(0, source.size - 1, min(EXAMPLES, source.size)).astype(np.int64))
    raw = source.fetch(chosen)
    colours = np.zeros((256, 3), np.float32)
    colours[: len(about["palette"])] = about["palette"]
    columns = min(COLUMNS, len(chosen))
    lines = -(-len(chosen) // columns)
    # Room below for the legend, four names in a row of it.
    shown = np.flatnonzero(counts[chosen, :IGNORED].any(0))[:CLASSES_IN_LEGEND]
    figure = Figure(figsize=(2.6 * columns, 2.1 * lines + 0.2 * -(-len(shown) // columns)), layout="constrained")
    for axes in figure.subplots(lines, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, index, image, truth in zip(figure.axes, chosen, raw["image"], raw["truth"], strict=False):
        height, width = np.maximum(sizes[index] * LONGER_SIDE // sizes[index].max(), 1).tolist()
        pixels = decode_image(image, height, width, channels=1).numpy()
        classes = decode_class_map(truth, about["coding"], height, width).numpy()
        share = np.where(classes == IGNORED, 0, MASK)[..., None]
        axes.imshow(np.clip((1 - share) * pixels + share * colours[classes], 0, 255).astype(np.uint8))
    patches = [Patch(color=colours[number] / 255, label=about["classes"][number]) for number in shown]
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return figure
