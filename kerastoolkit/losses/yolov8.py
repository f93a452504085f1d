"""What YOLOv8 learns from: objects given to the cells that tell them best already, and the losses of boxes and classes."""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from kerastoolkit import replicas
from kerastoolkit.boxes import complete_iou, pairwise_iou
from kerastoolkit.losses import sum_per_example

GAINS = {"box": 7.5, "classes": 0.5, "distribution": 1.5}


class Assignment(NamedTuple):
    """Of each cell its object.

    Attributes:
        boxes: (batch, cells, 4) float32 xyxy, its object's box; zeros where it has none.
        scores: (batch, cells, classes) float32, 0..1, what its classes should be: of its object's class how well the cell is
            aligned with it, compared with the object's other cells; 0 elsewhere.
        weights: (batch, cells) float32, the score of its object's class; 0 where it has none.
    """

    boxes: object
    scores: object
    weights: object


def task_aligned_assignment(boxes, labels, predicted_boxes, probabilities, points, *, most_cells: int = 10, alpha: float = 0.5,
                            beta: float = 6.0) -> Assignment:  # fmt: skip
    """Assigns objects to cells: Feng et al. 2021 (TOOD), section 3.2, https://arxiv.org/abs/2108.07755.

    A cell's alignment with an object is s^alpha u^beta, s the probability of the object's class and u the IoU of the predicted
    box with the object's. An object gets the ``most_cells`` best aligned cells whose centres lie in its box; a cell that several
    objects would have goes to the one that its box overlaps most. Targets are the alignments, so scaled that each object's
    largest is its largest IoU.

    Input   boxes            (batch, most, 4) float32 xyxy in pixels, the objects'
            labels           (batch, most) integers, 0 .. classes - 1, or -1 where there is no object
            predicted_boxes  (batch, cells, 4) float32 xyxy in pixels
            probabilities    (batch, cells, classes) float32, 0..1
            points           (batch, cells, 3) float32, x and y of the cells' centres in pixels, and their strides
    An object that holds no cell's centre is not learned. Cells as well aligned as the last of the best are taken, too. Of two
    objects with one box the first has the cell.
    """
    classes = ops.shape(probabilities)[-1]
    one_hot = ops.one_hot(labels, classes, dtype="float32")  # (b, most, classes), zeros for -1
    overlaps = pairwise_iou(boxes, predicted_boxes)  # (b, most, cells)
    belief = ops.matmul(one_hot, ops.transpose(probabilities, (0, 2, 1)))
    inside = ops.cast(cells_inside(boxes, points), "float32")  # all is 0 for -1, whose belief is 0
    alignment = ops.power(ops.maximum(belief, 0.0), alpha) * ops.power(overlaps, beta) * inside
    best = ops.top_k(alignment, min(most_cells, points.shape[1] or most_cells))[0][..., -1:]
    chosen = ops.logical_and(alignment >= best, alignment > 0)
    # Of the objects of a cell the one with the largest overlap.
    owner = ops.argmax(ops.where(chosen, overlaps, -1.0), axis=1)  # (b, cells)
    numbers = ops.arange(ops.shape(boxes)[1], dtype=owner.dtype)
    chosen = ops.logical_and(chosen, ops.equal(numbers[None, :, None], owner[:, None, :]))
    mine = ops.cast(chosen, "float32")
    alignment = alignment * mine
    largest = ops.max(alignment, axis=2)
    scale = ops.max(overlaps * mine, axis=2) / ops.where(largest > 0, largest, 1.0)
    weighted = ops.transpose(alignment * ops.expand_dims(scale, 2), (0, 2, 1))  # (b, cells, most), at most one not 0 in a row
    return Assignment(ops.matmul(ops.transpose(mine, (0, 2, 1)), boxes), ops.matmul(weighted, one_hot), ops.sum(weighted, axis=2))


def cells_inside(boxes, points):
    """Whether the centre of each cell lies in each box: (batch, most, 4), (batch, cells, 3) -> (batch, most, cells) bool."""
    left, top, right, bottom = (ops.expand_dims(boxes[..., i], -1) for i in range(4))  # (b, most, 1)
    x, y = (ops.expand_dims(points[..., i], 1) for i in range(2))  # (b, 1, cells)
    across, down = ops.logical_and(x > left, x < right), ops.logical_and(y > top, y < bottom)
    return ops.logical_and(across, down)


def yolov8_loss_parts(targets, outputs, *, most_cells: int = 10, alpha: float = 0.5, beta: float = 6.0):
    """The three losses of YOLOv8, each with its gain: complete IoU (Zheng et al. 2019, https://arxiv.org/abs/1911.08287),
    cross-entropy of independent classes, and cross-entropy of the distributions over distances (distribution focal loss: Li et
    al. 2020, equation 6, https://arxiv.org/abs/2006.04388).

    Input   targets  a dict: boxes (batch, most, 4) float32 xyxy in pixels of the network's input; labels (batch, most) integers,
                     -1 where there is no object; crowd (batch, most) bool, or none: boxes of crowds, whose labels are -1
            outputs  a dict: boxes, logits, distributions and points, as ``models.yolov8n`` tells them
    Output  a dict of (batch,) float32: box, classes and distribution. Their sums over cells are divided by the sum of all target
            scores of the batch, at least 1, and multiplied by the number of examples, so that the mean over examples is the
            quotient for the whole batch.

    Cells in a crowd that have no object are not told that there is none.
    """
    logits, points, predicted = outputs["logits"], outputs["points"], outputs["boxes"]
    given = targets["boxes"], targets["labels"], ops.stop_gradient(predicted), ops.stop_gradient(ops.sigmoid(logits)), points
    boxes, scores, weights = task_aligned_assignment(*given, most_cells=most_cells, alpha=alpha, beta=beta)
    examples, found = replicas.summed([ops.cast(ops.shape(logits)[0], "float32"), ops.sum(weights)])
    share = examples / ops.maximum(found, 1.0)

    # Cross-entropy with a target t is softplus(x) - t x.
    of_cells = ops.sum(ops.softplus(logits) - scores * logits, axis=-1)  # (b, cells)
    if "crowd" in targets:
        in_crowd = ops.logical_and(cells_inside(targets["boxes"], points), targets["crowd"][..., None])
        known = ops.logical_or(ops.logical_not(ops.any(in_crowd, axis=1)), weights > 0)
        of_cells = of_cells * ops.cast(known, "float32")
    bins = ops.shape(outputs["distributions"])[-1]
    centres, strides = points[..., :2], points[..., 2:]
    distances = ops.concatenate([centres - boxes[..., :2], boxes[..., 2:] - centres], axis=-1) / strides
    distances = ops.clip(distances, 0.0, bins - 1.0)
    return {
        "box": GAINS["box"] * share * sum_per_example(weights * (1.0 - complete_iou(predicted, boxes))),
        "classes": GAINS["classes"] * share * sum_per_example(of_cells),
        "distribution": GAINS["distribution"] * share
                        * sum_per_example(weights * ops.mean(distribution_loss(distances, outputs["distributions"]), axis=-1)),
    }  # fmt: skip


def yolov8_loss(targets, outputs, **settings):
    """The sum of ``yolov8_loss_parts``: (batch,) float32."""
    parts = yolov8_loss_parts(targets, outputs, **settings)
    return parts["box"] + parts["classes"] + parts["distribution"]


def distribution_loss(distances, distributions):
    """Cross-entropy of a distribution with the two whole numbers on both sides of a distance, weighted by nearness: Li et al.
    2020, equation 6.

    Input   distances      (...,) float, 0 .. bins - 1
            distributions  (..., bins) float, logits
    Output  (...,) float, nats
    """
    bins = ops.arange(ops.shape(distributions)[-1], dtype=distributions.dtype)
    nearness = ops.relu(1.0 - ops.abs(bins - ops.expand_dims(distances, -1)))  # not 0 at two bins, whose sum is 1
    return ops.logsumexp(distributions, axis=-1) - ops.sum(nearness * distributions, axis=-1)
