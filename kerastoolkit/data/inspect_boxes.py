"""A look at images with boxes: how many boxes each class has, how large they are, and some images under them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from kerastoolkit.box_pictures import draw_boxes
from kerastoolkit.data.boxed_images import BoxedImage, read
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.images import decode_image

EXAMPLES, COLUMNS = 12, 4
PANEL, GAP = 3.6, 0.08  # inches
LONGER_SIDE = 400  # of an example, in pixels
FAULTS_TOLD = 50


def inspect_boxes(name: str, split: str) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """What ``data.named.inspect`` gives of images with boxes. What has a fault is left out and told.

    Raises:
        InputError: there are no such images, or the split is empty.
    """
    found = read(name, skip_faults=True)  # loose on purpose: what is wrong should be seen, not refused
    images = found.splits[split]
    if not images:
        raise InputError(f"{name} has no {split} part")
    boxes, labels = (np.concatenate([getattr(image, key) for image in images]) for key in ("boxes", "labels"))
    of_image = np.repeat(np.arange(len(images)), [len(image.labels) for image in images])
    sizes = boxes[:, 2:] - boxes[:, :2]
    rows = [_row(each, sizes[labels == label], of_image[labels == label]) for label, each in enumerate(found.classes)]
    counts = Counter((image.width, image.height) for image in images)
    (width, height), often = counts.most_common(1)[0]
    notes = (
        "examples: " + ", ".join(f"{len(found.splits[part]):,} {part}" for part in ("train", "validation", "test")),
        f"boxes of an image: {len(boxes) / len(images):.1f} on average, {np.bincount(of_image, minlength=1).max()} at most",
        f"sizes of images: {len(counts):,}, most often {width} x {height} ({often / len(images):.0%})",
    )
    faults = [line for _, line in found.faults]
    more = [f"and {len(faults) - FAULTS_TOLD:,} more faults"] if len(faults) > FAULTS_TOLD else []
    return rows, _figure(images, found.classes), (*notes, *found.notes, *faults[:FAULTS_TOLD], *more)


def _row(name: str, sizes: np.ndarray, of_image: np.ndarray) -> dict[str, Any]:
    """Of a class: its name, the widths and heights of its boxes (n, 2), and the images that they are in (n,)."""
    width, height = np.median(sizes, axis=0) if len(sizes) else (0, 0)
    smallest = sizes[np.argmin(sizes.prod(1))] if len(sizes) else (0, 0)
    return {"class": name, "boxes": len(sizes), "images": len(np.unique(of_image)), "median width": f"{width:.0f}",
            "median height": f"{height:.0f}", "smallest": "{:.0f} x {:.0f}".format(*smallest)}  # fmt: skip


def _figure(images: list[BoxedImage], classes: tuple[str, ...]) -> Any:
    from matplotlib.figure import Figure

    chosen = [images[place] for place in np.unique(np.linspace(0, len(images) - 1, EXAMPLES).astype(int))]
    sizes = np.array([(image.height, image.width) for image in chosen])
    sizes = sizes * PANEL / sizes.max(axis=1, keepdims=True)  # inches
    columns = min(COLUMNS, len(chosen))
    bottoms = np.cumsum([sizes[first : first + columns, 0].max() + GAP for first in range(0, len(chosen), columns)])
    wide, high = columns * (PANEL + GAP), bottoms[-1]
    figure = Figure(figsize=(wide, high))
    for place, (image, (tall, broad)) in enumerate(zip(chosen, sizes, strict=True)):
        line, column = divmod(place, columns)
        # Centred above each other, at the bottom of their row.
        left, bottom = column * (PANEL + GAP) + (PANEL - broad) / 2, high - bottoms[line]
        axes = figure.add_axes((left / wide, bottom / high, broad / wide, tall / high))
        draw_boxes(axes, _pixels(image), image.boxes, image.labels, classes, crowd=image.crowd,
                   size=(image.height, image.width), fontsize=6)  # fmt: skip
    return figure


def _pixels(image: BoxedImage) -> np.ndarray:
    longer = max(image.height, image.width)
    height, width = (max(1, side * LONGER_SIDE // longer) for side in (image.height, image.width))
    return decode_image(image.file.read_bytes(), height, width, channels=3).numpy().astype(np.uint8)
