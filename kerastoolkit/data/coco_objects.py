"""Objects in COCO's form: annotations checked, and masks as lengths of runs, from whichever of COCO's three ways to write them.

The format is that of https://cocodataset.org/#format-data (Lin et al. 2014, https://arxiv.org/abs/1405.0312), "Object Detection".
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastoolkit.metrics.run_lengths import unpacked_runs

LARGEST_AREA = int(np.finfo(np.float32).max)
TOLERANCE = 1.0  # pixels by which corners and boxes may lie outside the image: programs round


@dataclass(frozen=True)
class CocoObject:
    """What an annotation tells; of box and mask one may be missing.

    Attributes:
        category: its place among the categories.
        crowd: whether it is a region with many objects of its category.
        box: left, top, width, height in pixels, or None.
        polygons: outlines, each (2 n,) float64, x and y of its corners by turns; (0, 0) is the image's upper left corner.
        runs: (n,) int32, or None: lengths of the runs of a mask, down one column after the other, outside and inside by turns.
        area: of the mask, in pixels, or None where that is not told or not asked for.
    """

    category: int
    crowd: bool
    box: tuple[float, float, float, float] | None
    polygons: tuple[np.ndarray, ...]
    runs: np.ndarray | None
    area: float | None = None


def object_runs(found: CocoObject, height: int, width: int) -> np.ndarray | None:
    """The mask of an object in an image of this size as runs, as in ``CocoObject``; None where it has no mask.

    A polygon covers the pixels that COCO's own code gives it.
    """
    return unpacked_runs(object_rle(found, height, width)) if found.polygons else found.runs


def object_rle(found: CocoObject, height: int, width: int) -> bytes | None:
    """The same as COCO's own code packs it, the "counts" of a mask that it encodes; what ``unpacked_runs`` reads."""
    from faster_coco_eval.core import mask

    if found.polygons:
        outlines = mask.frPyObjects([each.tolist() for each in found.polygons], height, width)
        return mask.merge(outlines)["counts"]
    if found.runs is None:
        return None
    # Files may have runs of no pixels; COCO's own code writes none but the first, and its boxes and overlaps rely on that.
    some = np.flatnonzero(found.runs)
    inside = some % 2
    begins = np.flatnonzero(np.diff(inside, prepend=-1))  # runs of one kind without others between them are one
    runs = [0] * int(inside[0]) + np.add.reduceat(found.runs[some], begins).tolist()
    return mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"]


def object_mask(found: CocoObject, height: int, width: int) -> np.ndarray | None:
    """The mask of an object as (height, width) bool; None where it has none."""
    runs = object_runs(found, height, width)
    return None if runs is None else np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def read_object(record: dict[str, Any], height: int, width: int, places: dict[int, int], left_out: Counter[str]) -> CocoObject:
    """An annotation of an image of this size.

    Args:
        record: as it stands in the file.
        places: id of a category -> its place.
        left_out: where what cannot be used is counted.

    Raises:
        ValueError: the rule that it breaks and the value.
    """
    category, crowd, box, mask = (record.get(key) for key in ("category_id", "iscrowd", "bbox", "segmentation"))
    if not is_whole(category) or category not in places:
        raise ValueError(f"category_id must be a category's id, got {short(category)}")
    if crowd not in (None, 0, 1):
        raise ValueError(f"iscrowd must be 0 or 1, got {short(crowd)}")
    box = None if box is None else _box(box, height, width)
    polygons, runs = (), None
    if isinstance(mask, dict):
        runs = _runs(mask, height, width)
    elif isinstance(mask, list):
        outlines = [_polygon(each, height, width) for each in mask]
        polygons = tuple(each for each in outlines if len(each) >= 6)
        if len(polygons) < len(outlines):
            left_out["outlines with fewer than 3 corners"] += len(outlines) - len(polygons)
    elif mask is not None:
        raise ValueError(f"segmentation must be a list of polygons or run lengths, got {short(mask)}")
    if box is None and not polygons and runs is None:
        raise ValueError("must have a bbox or a segmentation")
    return CocoObject(places[category], bool(crowd), box, polygons, runs)


def read_boxed_object(record: dict[str, Any], height: int, width: int, places: dict[int, int], left_out: Counter[str]
                      ) -> CocoObject:  # fmt: skip
    """The same of a record ``without_mask``: an object with its area and a box that lies within the image, that around its mask
    where the record has no bbox.

    Raises:
        ValueError: the rule that it breaks and the value; a box without width or height is a fault, too.
    """
    found, area = read_object(record, height, width, places, left_out), record.get("area")
    if area is not None and (not isinstance(area, (int, float)) or not 0 <= area <= LARGEST_AREA):
        raise ValueError(f"area must be a number of pixels, got {short(area)}")
    left, top, wide, high = found.box or _extent(found, height, width)
    left, top, right, bottom = box_within((left, top, left + wide, top + high), height, width)
    return CocoObject(found.category, found.crowd, (left, top, right - left, bottom - top), (), None, area)


def without_mask(record: dict[str, Any]) -> dict[str, Any]:
    """The record without its segmentation where it has a bbox: most of the time and memory that COCO takes would go into it."""
    return {key: value for key, value in record.items() if key != "segmentation"} if record.get("bbox") is not None else record


def box_within(box: tuple[float, float, float, float], height: int, width: int) -> tuple[float, float, float, float]:
    """The part of a box x_min, y_min, x_max, y_max that lies within an image, where it sticks out by no more than ``TOLERANCE``.

    Raises:
        ValueError: it sticks out by more, is not finite, or has no width or height.
    """
    left, top, right, bottom = box
    got = f"got {left:g}, {top:g}, {right:g}, {bottom:g}"
    # Written so that a corner that is no number is refused, too.
    if not (left >= -TOLERANCE and top >= -TOLERANCE and right <= width + TOLERANCE and bottom <= height + TOLERANCE):
        raise ValueError(f"a box must lie within the image of {width} x {height}, {got}")
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)
    if not (right > left and bottom > top):
        raise ValueError(f"a box must have a width and a height above 0, {got}")
    return left, top, right, bottom


def _extent(found: CocoObject, height: int, width: int) -> tuple[float, float, float, float]:
    """The box around what a mask covers; one of size 0 where that is nothing."""
    if found.polygons:
        points = np.concatenate([each.reshape(-1, 2) for each in found.polygons])
        return *points.min(0).tolist(), *np.ptp(points, axis=0).tolist()
    rows, columns = np.nonzero(object_mask(found, height, width))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns.min()), float(rows.min()), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)


def _box(value: Any, height: int, width: int) -> tuple[float, float, float, float]:
    found = _numbers(value, "bbox").tolist()
    if len(found) != 4 or found[2] < 0 or found[3] < 0:
        raise ValueError(f"bbox must be left, top, width and height, got {short(value)}")
    left, top, wide, high = found
    if min(left, top) < -TOLERANCE or left + wide > width + TOLERANCE or top + high > height + TOLERANCE:
        raise ValueError(f"bbox must lie within the image of {width} x {height}, got {short(value)}")
    return left, top, wide, high


def _polygon(value: Any, height: int, width: int) -> np.ndarray:
    found = _numbers(value, "a polygon").astype(np.float64)
    if len(found) % 2:
        raise ValueError(f"a polygon must be x and y by turns, got {len(found)} numbers")
    points = found.reshape(-1, 2)
    outside = ((points < -TOLERANCE) | (points > np.array([width, height]) + TOLERANCE)).any(1)
    if outside.any():
        x, y = points[np.argmax(outside)].tolist()
        raise ValueError(f"a polygon must lie within the image of {width} x {height}, got the corner ({x:g}, {y:g})")
    return found


def _runs(value: dict[str, Any], height: int, width: int) -> np.ndarray:
    """Run lengths, be they written as numbers or as text."""
    size, counts = value.get("size"), value.get("counts")
    if size != [height, width]:
        raise ValueError(f"the size of a mask must be the image's, [{height}, {width}], got {short(size)}")
    if isinstance(counts, str):
        found = unpacked_runs(counts.encode())
    else:
        found = _numbers(counts, "counts")
        if found.dtype.kind != "i":
            raise ValueError(f"counts must be whole numbers, got {short(counts)}")
    # No number alone is larger than the sum may be, so that the sum cannot wrap round.
    if len(found) and (found.min() < 0 or found.max() > height * width) or found.sum() != height * width:
        raise ValueError(f"counts must be positive or 0 with the sum {height * width}, got the sum {found.sum()}")
    return found.astype(np.int32)


def _numbers(value: Any, what: str) -> np.ndarray:
    try:
        found = np.array(value)
    except ValueError:  # lists of many lengths
        found = np.array(None)
    if not isinstance(value, list) or found.ndim != 1 or found.dtype.kind not in "if" or not np.isfinite(found).all():
        raise ValueError(f"{what} must be a list of numbers, got {short(value)}")
    return found


def is_whole(value: Any) -> bool:
    """Whether it is a whole number; JSON's true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def short(value: Any) -> str:
    """What was read, for a message."""
    text = json.dumps(value)
    return text if len(text) <= 50 else f"{text[:50]} ..."
