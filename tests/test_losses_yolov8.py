"""The losses of YOLOv8 and what they assign to cells: by hand, in loops, and what must not change them or make them infinite."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.boxes import complete_iou
from kerastoolkit.losses.yolov8 import distribution_loss, task_aligned_assignment, yolov8_loss, yolov8_loss_parts

SIDE, STRIDES, CLASSES, BINS = 64, (8, 16), 3, 8
PARTS = ("box", "classes", "distribution")


def centres():
    """x, y and stride of the 8 x 8 and 4 x 4 cells of an image of 64 x 64 pixels."""
    return np.array([((column + 0.5) * stride, (row + 0.5) * stride, stride) for stride in STRIDES
                     for row in range(SIDE // stride) for column in range(SIDE // stride)], "float32")  # fmt: skip


def tensors(values):
    kinds = {"labels": "int32", "crowd": "bool"}
    return {name: tf.constant(value, kinds.get(name, "float32")) for name, value in values.items()}


def outputs_for(seed=0, batch=3, reach=4.0):
    """What a network could answer: in each cell distances of up to ``reach`` strides, and any belief."""
    generator, points = np.random.default_rng(seed), centres()
    distances = generator.uniform(0.1, reach, (batch, len(points), 4)).astype("float32") * points[:, 2:]
    boxes = np.concatenate([points[:, :2] - distances[..., :2], points[:, :2] + distances[..., 2:]], axis=-1)
    return tensors({
        "boxes": boxes, "logits": generator.normal(scale=2, size=(batch, len(points), CLASSES)),
        "distributions": generator.normal(scale=2, size=(batch, len(points), 4, BINS)),
        "points": np.broadcast_to(points, (batch, *points.shape)),
    })  # fmt: skip


def objects(seed=1, batch=3, most=9):
    """Objects of all sizes that share cells, a fifth of them padding; one too small for any cell, one twice, one the whole image;
    and a crowd in each image, of a label of its own or over the objects."""
    generator = np.random.default_rng(seed)
    sizes = np.exp(generator.uniform(np.log(6), np.log(50), (batch, most, 2)))
    first = generator.uniform(size=(batch, most, 2)) * (SIDE - sizes)
    boxes = np.concatenate([first, first + sizes], axis=-1).astype("float32")
    labels = np.where(generator.uniform(size=(batch, most)) < 0.2, -1, generator.integers(0, CLASSES, (batch, most)))
    boxes[0, 1], labels[0, 1] = [17, 17, 19, 19], 1
    boxes[1, 5], labels[1, 2], labels[1, 5] = boxes[1, 2], 2, 0
    boxes[2, 0], labels[2, 0] = [0, 0, SIDE, SIDE], 1
    crowd = np.zeros((batch, most), bool)
    boxes[:, -1], labels[:, -1], crowd[:, -1] = [8, 20, 60, 50], -1, True
    return tensors({"boxes": boxes, "labels": labels, "crowd": crowd})


def assign(targets, outputs, **settings):
    probabilities = tf.sigmoid(outputs["logits"])
    return task_aligned_assignment(targets["boxes"], targets["labels"], outputs["boxes"], probabilities, outputs["points"],
                                   **settings)  # fmt: skip


def overlap(a, b):
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def holds(box, point):
    return box[0] < point[0] < box[2] and box[1] < point[1] < box[3]


def assigned_one_by_one(boxes, labels, predicted, probabilities, points, most_cells=10, alpha=0.5, beta=6.0):
    """Of one example a dict: of each cell that has an object the object's number, and the score of its class; in float64."""
    boxes, predicted, probabilities, points = (np.asarray(each, "float64") for each in (boxes, predicted, probabilities, points))
    overlaps, alignments, wanted_by = {}, {}, {}
    for number, label in enumerate(labels):
        if label < 0:
            continue
        for cell, point in enumerate(points):
            overlaps[number, cell] = overlap(boxes[number], predicted[cell])
            if holds(boxes[number], point) and overlaps[number, cell] > 0:
                alignments[number, cell] = probabilities[cell, label] ** alpha * overlaps[number, cell] ** beta
        cells = [cell for each, cell in alignments if each == number]
        for cell in sorted(cells, key=lambda cell: alignments[number, cell], reverse=True)[:most_cells]:
            wanted_by.setdefault(cell, []).append(number)
    owners = {cell: max(numbers, key=lambda number: overlaps[number, cell]) for cell, numbers in wanted_by.items()}
    found = {}
    for cell, number in owners.items():
        mine = [each for each, owner in owners.items() if owner == number]
        largest = max(overlaps[number, each] for each in mine) / max(alignments[number, each] for each in mine)
        found[cell] = number, alignments[number, cell] * largest
    return found, wanted_by


def all_assigned_one_by_one(targets, outputs, **settings):
    """Boxes, scores and weights as ``task_aligned_assignment`` tells them."""
    probabilities = tf.sigmoid(outputs["logits"]).numpy()
    boxes, scores = np.zeros(outputs["boxes"].shape), np.zeros(probabilities.shape)
    for example, labels in enumerate(targets["labels"].numpy()):
        given = targets["boxes"][example], labels, outputs["boxes"][example], probabilities[example], outputs["points"][example]
        for cell, (number, score) in assigned_one_by_one(*given, **settings)[0].items():
            boxes[example, cell] = targets["boxes"][example, number]
            scores[example, cell, labels[number]] = score
    return boxes, scores, scores.sum(axis=-1)


def parts_one_by_one(targets, outputs):
    """The three sums of each example, before they are divided, and the sum of all target scores."""
    boxes, scores, weights = all_assigned_one_by_one(targets, outputs)
    logits, distributions = (np.asarray(outputs[name], "float64") for name in ("logits", "distributions"))
    probabilities = 1 / (1 + np.exp(-logits))
    # complete_iou has a twin of its own.
    ious = complete_iou(outputs["boxes"], tf.constant(boxes, "float32")).numpy()
    sums = {name: np.zeros(len(logits)) for name in PARTS}
    for example, cell in np.ndindex(weights.shape):
        x, y, stride = (float(each) for each in outputs["points"][example, cell])
        crowds = [box for box, crowd in zip(targets["boxes"][example].numpy(), targets["crowd"][example], strict=True) if crowd]
        if weights[example, cell] > 0 or not any(holds(box, (x, y)) for box in crowds):
            t, p = scores[example, cell], probabilities[example, cell]
            sums["classes"][example] -= (t * np.log(p) + (1 - t) * np.log(1 - p)).sum()
        if weights[example, cell] > 0:
            left, top, right, bottom = boxes[example, cell]
            sums["box"][example] += weights[example, cell] * (1 - ious[example, cell])
            for side, distance in enumerate((x - left, y - top, right - x, bottom - y)):
                exps = np.exp(distributions[example, cell, side])
                distance = min(distance / stride, BINS - 1)
                below = min(int(distance), BINS - 2)
                share = distance - below
                entropy = -(1 - share) * np.log(exps[below] / exps.sum()) - share * np.log(exps[below + 1] / exps.sum())
                sums["distribution"][example] += weights[example, cell] * entropy / 4
    return sums, weights.sum()


def row_of_cells():
    """Three cells of 10 x 10 pixels in a row, and an object of class 1 over the first two.

    It overlaps the box of cell 0 by 1/2 and that of cell 1 by 1/4, whose alignments are sqrt(0.64) / 2^6 and sqrt(0.25) / 4^6.
    The box of cell 2 is the object's, but its centre lies outside.
    """
    boxes, labels = tf.constant([[[0.0, 0, 20, 10]]]), tf.constant([[1]])
    predicted = tf.constant([[[0.0, 0, 10, 10], [15, 0, 20, 10], [0, 0, 20, 10]]])
    probabilities = tf.constant([[[0.9, 0.64], [0.9, 0.25], [0.9, 0.9]]])
    return boxes, labels, predicted, probabilities, tf.constant([[[5.0, 5, 10], [15, 5, 10], [25, 5, 10]]])


SECOND = 1 / 2 * (0.5 / 4**6) / (0.8 / 2**6)  # what cell 1 should say, if cell 0 should say 1/2


def test_targets_are_alignments_scaled_to_the_largest_overlap():
    found = task_aligned_assignment(*row_of_cells())
    np.testing.assert_array_equal(found.boxes, [[[0, 0, 20, 10], [0, 0, 20, 10], [0, 0, 0, 0]]])
    np.testing.assert_allclose(found.scores, [[[0, 1 / 2], [0, SECOND], [0, 0]]], rtol=1e-5)
    np.testing.assert_allclose(found.weights, [[1 / 2, SECOND, 0]], rtol=1e-5)


def test_powers_of_the_alignment_are_those_given():
    # With alpha = beta = 1: 0.64 / 2 and 0.25 / 4.
    found = task_aligned_assignment(*row_of_cells(), alpha=1.0, beta=1.0)
    np.testing.assert_allclose(found.weights, [[1 / 2, 1 / 2 * (0.25 / 4) / (0.64 / 2), 0]], rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("settings", [{}, {"most_cells": 3, "alpha": 1.0, "beta": 2.0}])
def test_objects_go_to_the_cells_of_the_loops(seed, settings):
    targets, outputs = objects(seed + 1), outputs_for(seed)
    found, expected = assign(targets, outputs, **settings), all_assigned_one_by_one(targets, outputs, **settings)
    assert 30 < np.count_nonzero(expected[2])
    np.testing.assert_array_equal(found.boxes, expected[0])
    np.testing.assert_allclose(found.scores, expected[1], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.weights, expected[2], rtol=1e-4, atol=1e-7)


def test_the_loops_have_cells_that_several_objects_would_have_and_objects_of_more_than_10_cells():
    targets, outputs = objects(), outputs_for()
    given = targets["boxes"][2], targets["labels"][2].numpy(), outputs["boxes"][2], tf.sigmoid(outputs["logits"])[2], centres()
    found, wanted_by = assigned_one_by_one(*given)
    assert sum(len(numbers) > 1 for numbers in wanted_by.values()) > 5
    assert any(numbers[0] != found[cell][0] for cell, numbers in wanted_by.items())  # not always the first
    assert sum(0 in numbers for numbers in wanted_by.values()) == 10  # of the object that holds all centres


@pytest.mark.parametrize("most_cells", [10, 3, 1])
def test_an_object_has_at_most_so_many_cells_the_best_aligned(most_cells):
    outputs = outputs_for(batch=1)
    found = assign(tensors({"boxes": [[[0, 0, SIDE, SIDE]]], "labels": [[2]]}), outputs, most_cells=most_cells)
    every = assign(tensors({"boxes": [[[0, 0, SIDE, SIDE]]], "labels": [[2]]}), outputs, most_cells=80)
    assert np.count_nonzero(every.weights) == 80
    best = np.argsort(-every.weights[0].numpy())[:most_cells]
    assert set(np.flatnonzero(found.weights[0])) == set(best)


def plain_grid(side):
    """What a network says that has seen nothing yet: a box of 120 x 120 pixels around each cell's centre, and no class. And an
    object in the middle of such a cell."""
    points = tf.constant(centres()[None, :64])
    predicted = tf.concat([points[..., :2] - 60, points[..., :2] + 60], axis=-1)
    outputs = {"boxes": predicted, "logits": tf.fill((1, 64, CLASSES), -11.0), "points": points}
    return tensors({"boxes": [[[28 - side / 2, 28 - side / 2, 28 + side / 2, 28 + side / 2]]], "labels": [[1]]}), outputs


def test_cells_as_well_aligned_as_the_tenth_are_taken_too():
    assert np.count_nonzero(assign(*plain_grid(side=50)).weights) == 49  # all whose centres lie in the object


@pytest.mark.parametrize("side", [3, 8])
def test_the_largest_target_is_the_largest_overlap_however_small(side):
    np.testing.assert_allclose(np.max(assign(*plain_grid(side)).weights), side**2 / 120**2, rtol=1e-3)


def test_padding_changes_nothing_wherever_it_stands():
    targets, outputs = objects(), outputs_for()
    padded = {"boxes": tf.pad(targets["boxes"], [[0, 0], [2, 3], [0, 0]]), "crowd": tf.pad(targets["crowd"], [[0, 0], [2, 3]]),
              "labels": tf.pad(targets["labels"], [[0, 0], [2, 3]], constant_values=-1)}  # fmt: skip
    for found, expected in zip(assign(padded, outputs), assign(targets, outputs), strict=True):
        np.testing.assert_array_equal(found, expected)
    found, expected = yolov8_loss_parts(padded, outputs), yolov8_loss_parts(targets, outputs)
    for name in PARTS:
        np.testing.assert_array_equal(found[name], expected[name])


def test_an_object_that_holds_no_centre_is_not_learned():
    # Centres lie at 4, 12, 20, ... and at 8, 24, ...: none in 13 .. 19, and none strictly in 4 .. 12 by 4 .. 8.
    found = assign(tensors({"boxes": [[[13, 13, 19, 19], [4, 4, 12, 8]]], "labels": [[0, 1]]}), outputs_for(batch=1))
    assert not np.any(found.weights) and not np.any(found.boxes) and not np.any(found.scores)


def test_of_two_objects_with_one_box_the_first_has_the_cells():
    one = {"boxes": [[[8, 8, 16, 24]]], "labels": [[2]]}  # which holds the centres of three cells
    two = {"boxes": [[[8, 8, 16, 24]] * 2], "labels": [[2, 0]]}
    alone, found = (assign(tensors(each), outputs_for(batch=1)) for each in (one, two))
    assert np.count_nonzero(alone.weights) >= 2
    for expected, each in zip(alone, found, strict=True):
        np.testing.assert_array_equal(each, expected)


def test_a_distance_between_two_whole_numbers_is_told_by_both():
    logits = np.random.default_rng(0).normal(size=6)
    nats = np.log(np.exp(logits).sum()) - logits
    found = distribution_loss(tf.constant([2.3]), tf.constant([logits], "float32"))
    np.testing.assert_allclose(found, [0.7 * nats[2] + 0.3 * nats[3]], rtol=1e-5)


@pytest.mark.parametrize("distance", [0, 1, 7, 15])
def test_a_whole_distance_is_told_by_its_own_number_alone(distance):
    logits = np.random.default_rng(0).normal(size=16)
    nats = np.log(np.exp(logits).sum()) - logits
    found = distribution_loss(tf.constant([float(distance)]), tf.constant([logits], "float32"))
    np.testing.assert_allclose(found, [nats[distance]], rtol=1e-5)


def test_a_side_beyond_the_last_distance_is_told_by_the_last():
    # In strides the sides of the object are 1/2, 1/2, 3/2 and 1/2 from the first cell's centre, and from the second's likewise.
    boxes, labels, predicted, probabilities, points = row_of_cells()
    outputs = {"boxes": predicted, "logits": tf.math.log(probabilities / (1 - probabilities)), "points": points,
               "distributions": tf.zeros((1, 3, 4, 1)) + [0, np.log(3)]}  # fmt: skip
    found, weight = yolov8_loss_parts({"boxes": boxes, "labels": labels}, outputs), 1 / 2 + SECOND
    near, last = (np.log(4) + np.log(4 / 3)) / 2, np.log(4 / 3)
    np.testing.assert_allclose(found["distribution"], [1.5 * weight * (3 * near + last) / 4], rtol=1e-5)


@pytest.mark.parametrize("reach", [4.0, 1.0])
def test_the_three_losses_are_those_of_the_loops(reach):
    targets, outputs = objects(), outputs_for(reach=reach)
    sums, weight = parts_one_by_one(targets, outputs)
    found = yolov8_loss_parts(targets, outputs)
    assert weight > 1 and found.keys() == set(PARTS)
    for name, gain in (("box", 7.5), ("classes", 0.5), ("distribution", 1.5)):
        np.testing.assert_allclose(found[name], gain * 3 * sums[name] / weight, rtol=1e-4)
    np.testing.assert_allclose(yolov8_loss(targets, outputs), sum(found[name] for name in PARTS), rtol=1e-6)


def test_a_sum_of_scores_below_1_does_not_enlarge_the_losses():
    boxes, labels, predicted, probabilities, points = row_of_cells()  # whose scores sum to little more than 1/2
    outputs = {"boxes": predicted, "logits": tf.math.log(probabilities / (1 - probabilities)), "points": points,
               "distributions": tf.zeros((1, 3, 4, 4))}  # fmt: skip
    found = yolov8_loss_parts({"boxes": boxes, "labels": labels}, outputs)
    np.testing.assert_allclose(found["distribution"], [1.5 * (1 / 2 + SECOND) * np.log(4)], rtol=1e-5)


def test_the_mean_over_examples_is_the_quotient_for_the_whole_batch():
    targets, outputs = objects(batch=3), outputs_for(batch=3)
    weights = np.sum(assign(targets, outputs).weights, axis=1)
    assert weights.min() > 1
    ones = [yolov8_loss(*({name: value[example : example + 1] for name, value in each.items()} for each in (targets, outputs)))[0]
            for example in range(3)]  # fmt: skip
    together = np.mean(yolov8_loss(targets, outputs))
    np.testing.assert_allclose(together, np.sum(ones * weights) / weights.sum(), rtol=1e-5)


def test_a_cell_in_a_crowd_is_not_told_that_there_is_nothing():
    outputs = outputs_for(batch=1)
    object_and_crowd = {"boxes": [[[0, 0, 16, 16], [0, 0, 40, 64]]], "labels": [[1, -1]], "crowd": [[False, True]]}
    targets = tensors(object_and_crowd)
    without = {**targets, "crowd": tf.zeros_like(targets["crowd"])}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(outputs["logits"])
        found, expected = (yolov8_loss_parts(each, outputs) for each in (targets, without))
    weights = assign(targets, outputs).weights[0].numpy()
    in_crowd = np.array([x < 40 for x, _, _ in centres()])
    silent = in_crowd & (weights == 0)
    assert silent.sum() > 30 and (weights > 0).sum() > 2
    slopes, all_slopes = (tape.gradient(each["classes"], outputs["logits"])[0].numpy() for each in (found, expected))
    assert not slopes[silent].any() and all_slopes[silent].all()
    np.testing.assert_array_equal(slopes[~silent], all_slopes[~silent])
    assert found["classes"] < expected["classes"]
    np.testing.assert_array_equal([found["box"], found["distribution"]], [expected["box"], expected["distribution"]])
    no_crowds = yolov8_loss_parts({name: targets[name] for name in ("boxes", "labels")}, outputs)
    np.testing.assert_array_equal(no_crowds["classes"], expected["classes"])


def test_what_cells_should_say_is_not_learned_from():
    targets, outputs = objects(), outputs_for()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(outputs)
        parts = yolov8_loss_parts(targets, outputs)
    assert tape.gradient(parts["classes"], outputs["boxes"]) is None
    assert tape.gradient(parts["box"], outputs["logits"]) is None
    # The slope of the cross-entropy is what is said minus what should be.
    found, (_, scores, weights) = tape.gradient(parts["classes"], outputs["logits"]), assign(targets, outputs)
    mine = np.asarray(weights) > 0
    expected = 0.5 * 3 / np.sum(weights) * (tf.sigmoid(outputs["logits"]) - scores)
    np.testing.assert_allclose(found[mine], expected[mine], rtol=1e-4, atol=1e-6)


def no_objects():
    return tensors({"boxes": np.zeros((3, 1, 4)), "labels": np.full((3, 1), -1), "crowd": np.zeros((3, 1))})


def boxes_without_area():
    outputs = outputs_for()
    points = outputs["points"][..., :2]
    return {**outputs, "boxes": tf.concat([points, points], axis=-1)}


def sure_of_everything(logit):
    outputs = outputs_for()
    return {**outputs, "logits": tf.fill(outputs["logits"].shape, logit), "distributions": logit * outputs["distributions"]}


@pytest.mark.parametrize(("targets", "outputs"), [
    pytest.param(no_objects(), outputs_for(), id="no objects"),
    pytest.param(objects(), boxes_without_area(), id="boxes without area"),
    pytest.param(no_objects(), boxes_without_area(), id="neither"),
    pytest.param(objects(), sure_of_everything(-1e4), id="sure of nothing"),
    pytest.param(objects(), sure_of_everything(1e4), id="sure of everything"),
])  # fmt: skip
def test_losses_and_their_slopes_are_finite(targets, outputs):
    learned = [outputs[name] for name in ("boxes", "logits", "distributions")]
    with tf.GradientTape() as tape:
        tape.watch(learned)
        loss = yolov8_loss(targets, outputs)
    assert loss.shape == (3,) and np.isfinite(loss).all()
    assert all(np.isfinite(slope).all() for slope in tape.gradient(loss, learned, unconnected_gradients="zero"))


def test_without_objects_only_the_classes_are_learned():
    outputs = outputs_for()
    found = yolov8_loss_parts(no_objects(), outputs)
    assert not np.any(found["box"]) and not np.any(found["distribution"])
    expected = 0.5 * 3 * np.log1p(np.exp(outputs["logits"])).sum(axis=(1, 2))
    np.testing.assert_allclose(found["classes"], expected, rtol=1e-5)


BACKEND = """
import json, sys
import keras
from kerastoolkit.losses.yolov8 import yolov8_loss_parts
assert "tensorflow" not in sys.modules, "the losses must not need TensorFlow"
kinds = {"labels": "int32", "crowd": "bool"}
targets, outputs = ({name: keras.ops.convert_to_tensor(value, kinds.get(name, "float32")) for name, value in each.items()}
                    for each in json.loads(sys.stdin.read()))
parts = yolov8_loss_parts(targets, outputs)
print(json.dumps({name: keras.ops.convert_to_numpy(each).tolist() for name, each in parts.items()}))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_losses_are_the_same_on_the_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    targets, outputs = objects(), outputs_for()
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    given = json.dumps([{name: value.numpy().tolist() for name, value in each.items()} for each in (targets, outputs)])
    result = subprocess.run(
        [sys.executable, "-c", BACKEND], env=environment, input=given, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr[-2000:]
    found, expected = json.loads(result.stdout.splitlines()[-1]), yolov8_loss_parts(targets, outputs)
    for name in PARTS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4)
