"""Boxes as tensors, in keras.ops: their forms, overlaps, and the letterbox that brings an image to a network's size.

A box is x_min, y_min, x_max, y_max ("xyxy") or the centre's x and y with width and height ("cxcywh"), in pixels, where (0, 0) is
the image's upper left corner and the centre of the pixel in row i and column j is (j + 1/2, i + 1/2).
"""

from __future__ import annotations

import math

from keras import ops

TINY = 1e-7  # keeps divisions by areas of nothing finite


def cxcywh_to_xyxy(boxes_cxcywh):
    """(..., 4) centre's x and y, width, height -> (..., 4) x_min, y_min, x_max, y_max."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return ops.concatenate([centre - half, centre + half], axis=-1)


def xyxy_to_cxcywh(boxes_xyxy):
    """(..., 4) x_min, y_min, x_max, y_max -> (..., 4) centre's x and y, width, height."""
    first, last = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return ops.concatenate([(first + last) / 2, last - first], axis=-1)


def pairwise_iou(boxes_xyxy, others_xyxy):
    """Intersection over union of every box with every other: (batch, n, 4), (batch, m, 4) -> (batch, n, m), 0..1.

    Boxes without area overlap with nothing.
    """
    left, top, right, bottom = (ops.expand_dims(boxes_xyxy[..., i], -1) for i in range(4))  # (b, n, 1)
    other_left, other_top, other_right, other_bottom = (ops.expand_dims(others_xyxy[..., i], -2) for i in range(4))  # (b, 1, m)
    width = ops.relu(ops.minimum(right, other_right) - ops.maximum(left, other_left))
    height = ops.relu(ops.minimum(bottom, other_bottom) - ops.maximum(top, other_top))
    both = width * height
    either = (right - left) * (bottom - top) + (other_right - other_left) * (other_bottom - other_top) - both
    return both / ops.maximum(either, TINY)


def complete_iou(boxes_xyxy, others_xyxy):
    """Complete intersection over union of boxes paired one to one: Zheng et al. 2019, equations 7 to 10,
    https://arxiv.org/abs/1911.08287.

    IoU - (distance of the centres / diagonal of the smallest box around both)^2 - alpha v, where v compares the aspect ratios and
    alpha = v / (1 - IoU + v) is held fixed in the gradient. The loss is 1 minus this.

    Input   boxes_xyxy, others_xyxy  (..., 4) float
    Output  (...,) float, 1 for equal boxes, above -1.5
    """
    left, top, right, bottom = (boxes_xyxy[..., i] for i in range(4))
    other_left, other_top, other_right, other_bottom = (others_xyxy[..., i] for i in range(4))
    width, height, other_width, other_height = right - left, bottom - top, other_right - other_left, other_bottom - other_top
    both = (ops.relu(ops.minimum(right, other_right) - ops.maximum(left, other_left))
            * ops.relu(ops.minimum(bottom, other_bottom) - ops.maximum(top, other_top)))  # fmt: skip
    iou = both / (width * height + other_width * other_height - both + TINY)
    around = (ops.square(ops.maximum(right, other_right) - ops.minimum(left, other_left))
              + ops.square(ops.maximum(bottom, other_bottom) - ops.minimum(top, other_top)))  # fmt: skip
    apart = (ops.square(left + right - other_left - other_right) + ops.square(top + bottom - other_top - other_bottom)) / 4
    # arctan2 has a finite slope where a height is 0; the ratio has none.
    angles = ops.arctan2(other_width, other_height + TINY) - ops.arctan2(width, height + TINY)
    aspect = (4 / math.pi**2) * ops.square(angles)
    alpha = ops.stop_gradient(aspect / (1 - iou + aspect + TINY))
    return iou - apart / (around + TINY) - alpha * aspect


def letterbox(size, height, width):
    """Where an image lies in a picture of height x width: as large as fits, centred, its aspect ratio kept to a pixel.

    Input   size  (..., 2) integers, height and width of the image
    Output  inner  (..., 2) int32, height and width that it is resized to, at least 1
            first  (..., 2) int32, row and column of its upper left pixel
    """
    # float64 holds the products of whole numbers exactly, so that no rounding decides which side fits.
    size, whole = ops.cast(size, "float64"), ops.convert_to_tensor([height, width], "float64")
    by_height = whole[0] * size[..., 1:] <= whole[1] * size[..., :1]
    side, own_side = ops.where(by_height, whole[0], whole[1]), ops.where(by_height, size[..., :1], size[..., 1:])
    inner = ops.clip(ops.floor(size * side / own_side + 0.5), 1.0, whole)
    return ops.cast(inner, "int32"), ops.cast(ops.floor((whole - inner) / 2), "int32")


def to_letterbox(boxes_xyxy, size, height, width):
    """Boxes (batch, n, 4) in pixels of images at their own size (batch, 2) -> in pixels of the letterboxed pictures."""
    scale, shift = _letterbox_map(size, height, width)
    return boxes_xyxy * scale + shift


def from_letterbox(boxes_xyxy, size, height, width):
    """The inverse of ``to_letterbox``, cut at the image's border."""
    scale, shift = _letterbox_map(size, height, width)
    limits = ops.cast(size, "float32")[:, None, :]
    limits = ops.flip(limits, -1)
    limits = ops.concatenate([limits, limits], axis=-1)
    return ops.clip((boxes_xyxy - shift) / scale, 0.0, limits)


def _letterbox_map(size, height, width):
    """Factors and shifts (batch, 1, 4) of x_min, y_min, x_max, y_max."""
    inner, first = letterbox(size, height, width)
    scale = ops.cast(inner, "float32") / ops.cast(size, "float32")
    scale, shift = (ops.flip(ops.cast(each, "float32"), -1)[:, None] for each in (scale, first))
    return ops.concatenate([scale, scale], axis=-1), ops.concatenate([shift, shift], axis=-1)
