"""What YOLOv3 learns from: each object given to one prior, and the losses of boxes, objectness and classes."""

from __future__ import annotations

from keras import ops

from kerastoolkit import replicas
from kerastoolkit.boxes import pairwise_iou, xyxy_to_cxcywh
from kerastoolkit.losses.yolov8 import cells_inside


def yolov3_loss(targets, outputs, *, ignore_threshold: float = 0.5):
    """The sum of the three parts of ``yolov3_loss_parts``, which tells the inputs: (batch,) float32."""
    parts = yolov3_loss_parts(targets, outputs, ignore_threshold=ignore_threshold)
    return parts["box"] + parts["objectness"] + parts["classes"]


def yolov3_loss_parts(targets, outputs, *, ignore_threshold: float = 0.5) -> dict:
    """The losses of YOLOv3: Redmon & Farhadi 2018, sections 2.1 to 2.3, https://arxiv.org/abs/1804.02767.

    An object belongs to one anchor: among those of the cells that hold its centre, one for each prior, to that whose prior
    overlaps it most when both are centred at one point; the first of equals. Where two objects would have the same anchor the
    later one has it, and the other is not learned but for its part in what is ignored. Nor is an object without area, or with
    its centre outside the image.

    Input   targets  a dict of the objects:
                     boxes       (batch, most, 4) float32, x_min, y_min, x_max, y_max in pixels of the network's input
                     labels      (batch, most) integers, 0 .. classes - 1, or -1 where there is no object
                     crowd       (batch, most) bool, or none: boxes of crowds, whose labels are -1
            outputs  a dict as ``models.yolov3`` has them: boxes, offsets, objectness, logits and points
    Output  a dict, each (batch,) float32, the sum over an example's anchors times the examples of the batch and divided by the
            objects of the batch, at least 1, so that the mean over the batch is the loss for each object:
            box         squared errors of sigmoid(t_x), sigmoid(t_y), t_w and t_h at the objects' anchors, each object with the
                        weight 2 - its share of the image's area, which makes up for the small errors of small boxes
            objectness  cross-entropy of each anchor's holding an object; left out are those that hold none and whose box
                        overlaps any object by more than the threshold, or whose cell has its centre in a crowd
            classes     cross-entropy of each class for itself at the objects' anchors

    Args:
        ignore_threshold: intersection over union, in 0..1; 0.5 in the paper, 0.7 in the authors' yolov3.cfg.
    Differs from the paper: what is ignored is decided by the predicted box, as in the authors' program (Darknet), where the paper
    speaks of the prior; the weight of small boxes is that program's. The paper's errors of t_x and t_y are infinite at the border
    of a cell. Darknet takes those of their sigmoids, too, but skips the sigmoids' slopes in their gradient, and gives the anchor
    of two objects the classes of both. It knows no crowds.
    """
    labels, points = targets["labels"], outputs["points"]
    boxes = xyxy_to_cxcywh(targets["boxes"])  # (b, most, 4)
    overlaps = _overlaps_with_priors(boxes, points)  # (b, most, anchors)
    place = ops.argmax(overlaps, axis=-1)  # (b, most), of the anchor that an object belongs to
    real = ops.logical_and(labels >= 0, ops.max(overlaps, axis=-1) > 0)
    mine = ops.logical_and(_equal(ops.arange(ops.shape(points)[1], dtype=place.dtype), place), ops.expand_dims(real, -1))
    held = ops.any(mine, axis=1)  # (b, anchors)

    known = ops.where(ops.expand_dims(labels >= 0, -1), targets["boxes"], 0.0)
    ignored = ops.any(pairwise_iou(known, outputs["boxes"]) > ignore_threshold, axis=1)
    if "crowd" in targets:
        in_crowd = cells_inside(targets["boxes"], (points[..., :2] + 0.5) * points[..., 2:3])
        ignored = ops.logical_or(ignored, ops.any(ops.logical_and(in_crowd, targets["crowd"][..., None]), axis=1))
    wrong = ops.binary_crossentropy(ops.cast(held, "float32"), outputs["objectness"], from_logits=True)
    objectness = ops.sum(ops.where(ops.logical_or(held, ops.logical_not(ignored)), wrong, 0.0), axis=-1)

    learned = ops.logical_and(real, ops.logical_not(_taken_later(place, real)))
    found = {name: _take(outputs[name], place) for name in ("offsets", "logits", "points")}  # (b, most, ...)
    errors = ops.sum(ops.square(_differences(boxes, found, learned)), axis=-1) * _weights(boxes, points)
    is_class = _equal(ops.arange(ops.shape(found["logits"])[-1], dtype=labels.dtype), labels)
    classes = ops.sum(ops.binary_crossentropy(ops.cast(is_class, "float32"), found["logits"], from_logits=True), axis=-1)

    examples, objects = replicas.summed([ops.cast(ops.shape(labels)[0], "float32"), ops.sum(ops.cast(real, "float32"))])
    scale = examples / ops.maximum(objects, 1.0)
    parts = {"box": ops.sum(ops.where(learned, errors, 0.0), axis=-1), "objectness": objectness,
             "classes": ops.sum(ops.where(learned, classes, 0.0), axis=-1)}  # fmt: skip
    return {name: part * scale for name, part in parts.items()}


def _equal(numbers, others):
    """(n,) with (b, most) -> (b, most, n)."""
    return ops.equal(numbers, ops.expand_dims(others, -1))


def _overlaps_with_priors(boxes_cxcywh, points):
    """Intersection over union of each object with each prior, both centred at one point; 0 in cells without its centre."""
    column, row, stride, prior_width, prior_height = (ops.expand_dims(points[..., i], 1) for i in range(5))  # (b, 1, anchors)
    x, y, width, height = (ops.expand_dims(boxes_cxcywh[..., i], -1) for i in range(4))  # (b, most, 1)
    width, height = ops.relu(width), ops.relu(height)
    both = ops.minimum(width, prior_width) * ops.minimum(height, prior_height)
    overlaps = both / (width * height + prior_width * prior_height - both)
    inside = ops.logical_and(ops.equal(ops.floor(x / stride), column), ops.equal(ops.floor(y / stride), row))
    return ops.where(inside, overlaps, 0.0)


def _taken_later(place, real):
    """(batch, most) whether a later object belongs to the same anchor."""
    number = ops.arange(ops.shape(place)[1])
    same = ops.equal(ops.expand_dims(place, -1), ops.expand_dims(place, -2))
    later = ops.logical_and(ops.expand_dims(number, 0) > ops.expand_dims(number, 1), ops.expand_dims(real, -2))
    return ops.any(ops.logical_and(same, later), axis=-1)


def _take(values, place):
    """(batch, anchors, n) at the places (batch, most) -> (batch, most, n)."""
    batch, anchors, n = ops.shape(values)
    firsts = ops.expand_dims(ops.arange(batch, dtype=place.dtype), -1) * ops.cast(anchors, place.dtype)
    return ops.take(ops.reshape(values, (batch * anchors, n)), firsts + place, axis=0)


def _differences(boxes_cxcywh, found, learned):
    """(batch, most, 4): sigmoid(t_x), sigmoid(t_y), t_w, t_h less what they should be."""
    cells, stride, priors = found["points"][..., :2], found["points"][..., 2:3], found["points"][..., 3:]
    # What is not learned may have no area, the logarithm of which would be infinite in the gradient's sum, too.
    sizes = ops.where(ops.expand_dims(learned, -1), boxes_cxcywh[..., 2:], priors)
    centres = ops.sigmoid(found["offsets"][..., :2]) - (boxes_cxcywh[..., :2] / stride - cells)
    return ops.concatenate([centres, found["offsets"][..., 2:] - ops.log(sizes / priors)], axis=-1)


def _weights(boxes_cxcywh, points):
    """(batch, most): 2 less an object's share of the image, which ends with the last cell."""
    image = ops.max((points[..., :2] + 1) * points[..., 2:3], axis=1)  # (b, 2)
    return 2 - boxes_cxcywh[..., 2] * boxes_cxcywh[..., 3] / ops.prod(image, axis=-1, keepdims=True)
