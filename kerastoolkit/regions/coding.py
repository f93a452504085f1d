"""Boxes as changes of other boxes, which two-stage detectors learn: Girshick et al. 2014, appendix C,
https://arxiv.org/abs/1311.2524."""

import math

from keras import ops

from kerastoolkit.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh

# e^4.135 = 62.5: a box of 16 pixels becomes one of 1,000. Larger changes count as this, so that nothing overflows.
MOST_GROWTH = math.log(1000 / 16)
REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # by which the box head's changes are multiplied: about 1 over their deviations


def encode_boxes(boxes_xyxy, references_xyxy, weights=(1.0, 1.0, 1.0, 1.0)):
    """What makes boxes of references: (..., 4) float t_x, t_y, t_w, t_h, the way of the centre in widths and heights of the
    reference, and the logarithms of width and height over its own, each times its weight. Without area nothing is finite."""
    box, reference = xyxy_to_cxcywh(boxes_xyxy), xyxy_to_cxcywh(references_xyxy)
    moved = (box[..., :2] - reference[..., :2]) / reference[..., 2:]
    grown = ops.log(box[..., 2:] / reference[..., 2:])
    return ops.concatenate([moved, grown], axis=-1) * ops.convert_to_tensor(weights, "float32")


def decode_boxes(changes, references_xyxy, weights=(1.0, 1.0, 1.0, 1.0)):
    """The inverse of ``encode_boxes``, but for growth beyond ``MOST_GROWTH``; (..., 4) x_min, y_min, x_max, y_max."""
    changes, reference = changes / ops.convert_to_tensor(weights, "float32"), xyxy_to_cxcywh(references_xyxy)
    centre = reference[..., :2] + changes[..., :2] * reference[..., 2:]
    size = reference[..., 2:] * ops.exp(ops.minimum(changes[..., 2:], MOST_GROWTH))
    return cxcywh_to_xyxy(ops.concatenate([centre, size], axis=-1))


def within(boxes_xyxy, height, width):
    """Boxes (..., 4) cut at the border of an image of this size, in pixels."""
    height, width = ops.cast(height, "float32"), ops.cast(width, "float32")
    return ops.clip(boxes_xyxy, 0.0, ops.stack([width, height, width, height]))
