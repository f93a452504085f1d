"""Anchors: boxes of fixed sizes and shapes at each place of a feature pyramid, whose changes a network tells."""

import numpy as np
from keras import ops


def base_anchors(size: float, ratios) -> np.ndarray:
    """(ratios, 4) float32, x_min, y_min, x_max, y_max around (0, 0), each of the area ``size`` squared, with height / width =
    ratio, rounded to whole pixels as torchvision's are, whose weights were trained so; of halves the even one."""
    ratios = np.asarray(ratios, np.float32)
    heights = np.sqrt(ratios) * np.float32(size)
    widths = np.sqrt(1 / ratios).astype(np.float32) * np.float32(size)
    return np.round(np.stack([-widths, -heights, widths, heights], axis=1) / 2).astype(np.float32)


def grid_anchors(height, width, stride, size: float, ratios):
    """The anchors of a level of the pyramid, (height * width * ratios, 4) float32 in pixels of the image, row by row, those of a
    place one after the other.

    Args:
        height, width: of the level; numbers or tensors.
        stride: pixels from one place to the next, down and to the right, numbers or tensors; the first place is at (0, 0).
        size: of the level's anchors in pixels, the square root of their area.
        ratios: heights over widths.
    """
    base = ops.convert_to_tensor(base_anchors(size, ratios))
    rows = ops.cast(ops.arange(height), "float32")[:, None] * ops.cast(stride[0], "float32")
    columns = ops.cast(ops.arange(width), "float32")[None, :] * ops.cast(stride[1], "float32")
    rows, columns = rows + ops.zeros_like(columns), columns + ops.zeros_like(rows)
    shifts = ops.stack([columns, rows, columns, rows], axis=-1)  # (height, width, 4)
    return ops.reshape(shifts[:, :, None] + base, (-1, 4))
