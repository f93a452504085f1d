"""The losses of Mask R-CNN: in loops, against finite differences, and what must not change them or make them infinite."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.losses import mask_rcnn as losses
from kerastoolkit.losses.mask_rcnn import mask_rcnn_loss_parts
from kerastoolkit.regions.draws import draws

HEIGHT, WIDTH, CLASSES, SIDE = 64, 96, 3, 28
PARTS = ["objectness", "anchor_boxes", "classes", "boxes", "masks"]


def tensors(values):
    kinds = {"labels": "int32", "places": "int32", "mask_places": "int32", "seeds": "int32", "masks": "uint8"}
    return {name: tf.constant(value, kinds.get(name, "float32")) for name, value in values.items()}


def grid():
    return np.array([(x - size / 2, y - size / 2, x + size / 2, y + size / 2) for size in (12, 24, 40)
                     for y in range(0, HEIGHT, 8) for x in range(0, WIDTH, 8)])  # fmt: skip


def objects(batch=3):
    """Objects of each image, rows of padding among them; the last image has none."""
    boxes = np.zeros((batch, 4, 4))
    boxes[:, 0], boxes[:, 1], boxes[:, 3] = [10, 6, 33, 31], [40, 20, 93, 60], [9, 7, 30, 33]
    labels = np.array([[0, 2, -1, 1], [1, -1, -1, 0], [-1] * 4])
    masks = np.zeros((batch, 4, HEIGHT, WIDTH))
    for place in (0, 1, 3):
        left, top, right, bottom = boxes[0, place].astype(int)
        masks[:, place, top:bottom, left:right] = 1
        masks[:, place, top : (top + bottom) // 2, left : (left + right) // 2] = 0  # its upper left quarter
    return tensors({"boxes": boxes, "labels": labels, "masks": masks, "seeds": [[1, 2], [3, 4], [5, 6]]})


def outputs(seed=0):
    """What a network could answer: regions around objects, the first of which show one, and background."""
    random, anchors = np.random.default_rng(seed), grid()
    places = np.array([[0, 1, 3, 0, -1, -1, -1, -2], [3, 0, -1, -1, -1, -1, -1, -1], [-1, -1, -1, -2, -2, -2, -2, -2]])
    regions = np.zeros((3, 8, 4))
    regions[:] = [30, 30, 50, 50]
    for image, place in zip(*np.nonzero(places >= 0), strict=True):
        regions[image, place] = objects()["boxes"][image, places[image, place]] + random.uniform(-3, 3, 4)
    regions[places == -2] = 0
    mask_places = np.where(places >= 0, places, -1)[:, :4]
    return tensors({
        "anchors": np.broadcast_to(anchors, (3, *anchors.shape)), "objectness": random.normal(size=(3, len(anchors))),
        "anchor_deltas": random.normal(scale=0.3, size=(3, len(anchors), 4)), "regions": regions, "places": places,
        "logits": random.normal(size=(3, 8, 1 + CLASSES)), "region_deltas": random.normal(size=(3, 8, 1 + CLASSES, 4)),
        "mask_regions": regions[:, :4], "mask_places": mask_places,
        "mask_logits": random.normal(size=(3, 4, SIDE, SIDE))})  # fmt: skip


def numbers(values):
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    return both / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both)


def entropy(logit, truth):
    probability = 1 / (1 + math.exp(-logit))
    return -truth * math.log(probability) - (1 - truth) * math.log(1 - probability)


def coded(box, reference, weights):
    width, height = reference[2] - reference[0], reference[3] - reference[1]
    return np.array([weights[0] * ((box[0] + box[2]) / 2 - (reference[0] + reference[2]) / 2) / width,
                     weights[1] * ((box[1] + box[3]) / 2 - (reference[1] + reference[3]) / 2) / height,
                     weights[2] * math.log((box[2] - box[0]) / width),
                     weights[3] * math.log((box[3] - box[1]) / height)])  # fmt: skip


def smooth(difference):
    return sum(4.5 * d * d if abs(d) < 1 / 9 else abs(d) - 1 / 18 for d in difference)


def bilinear(mask, x, y):
    """A mask's value at a point, where the centre of the first pixel is at 1/2."""
    x, y = min(max(x - 0.5, 0), WIDTH - 1), min(max(y - 0.5, 0), HEIGHT - 1)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, WIDTH - 1), min(top + 1, HEIGHT - 1)
    above = mask[top, left] * (1 - x + left) + mask[top, right] * (x - left)
    below = mask[bottom, left] * (1 - x + left) + mask[bottom, right] * (x - left)
    return above * (1 - y + top) + below * (y - top)


def slow(targets, answer):
    """The five losses by their definitions, one number after the other; sums over each image, and what all are divided by."""
    random = draws(targets["seeds"], answer["anchors"].shape[1]).numpy()
    targets, answer = numbers(targets), numbers(answer)
    sums = {name: [0.0] * 3 for name in PARTS}
    drawn_anchors = judged = masked = 0
    for image in range(3):
        known = [place for place in range(4) if targets["labels"][image, place] >= 0]
        boxes = targets["boxes"][image]
        overlaps = [[iou(anchor, boxes[place]) for place in known] for anchor in answer["anchors"][image]]
        highest = [max(row[number] for row in overlaps) for number in range(len(known))]
        kinds = []
        for row in overlaps:
            best = max(row, default=0.0)
            finds = best >= 0.7 or any(value == top > 0 for value, top in zip(row, highest, strict=True))
            kinds.append(known[row.index(best)] if finds else -1 if best < 0.3 else None)
        order = np.argsort(-random[image], kind="stable")
        found = [place for place in order if kinds[place] not in (None, -1)][:128]
        background = [place for place in order if kinds[place] == -1][: 256 - len(found)]
        drawn_anchors += len(found) + len(background)
        for place in found + background:
            sums["objectness"][image] += entropy(answer["objectness"][image, place], place in found)
        for place in found:
            wanted = coded(boxes[kinds[place]], answer["anchors"][image, place], (1, 1, 1, 1))
            sums["anchor_boxes"][image] += smooth(wanted - answer["anchor_deltas"][image, place])
        for place, which in enumerate(answer["places"][image].astype(int)):
            if which == -2:
                continue
            judged += 1
            label = int(targets["labels"][image, which]) + 1 if which >= 0 else 0
            logits = answer["logits"][image, place]
            sums["classes"][image] += math.log(sum(map(math.exp, logits))) - logits[label]
            if which >= 0:
                wanted = coded(boxes[which], answer["regions"][image, place], (10, 10, 5, 5))
                sums["boxes"][image] += smooth(wanted - answer["region_deltas"][image, place, label])
        for place, which in enumerate(answer["mask_places"][image].astype(int)):
            if which < 0:
                continue
            masked += 1
            left, top, right, bottom = answer["mask_regions"][image, place]
            wide, high = (right - left) / SIDE, (bottom - top) / SIDE  # of a bin
            total, mask = 0.0, targets["masks"][image, which]
            for row in range(SIDE):
                for column in range(SIDE):
                    samples = [bilinear(mask, left + (column + x) * wide, top + (row + y) * high)
                               for y in (0.25, 0.75) for x in (0.25, 0.75)]  # fmt: skip
                    total += entropy(answer["mask_logits"][image, place, row, column], sum(samples) / 4)
            sums["masks"][image] += total / SIDE**2
    counts = {"objectness": drawn_anchors, "anchor_boxes": drawn_anchors, "classes": judged, "boxes": judged, "masks": masked}
    return {name: 3 * np.array(values) / counts[name] for name, values in sums.items()}


def test_the_losses_are_those_of_a_slow_twin():
    found, expected = mask_rcnn_loss_parts(objects(), outputs()), slow(objects(), outputs())
    assert list(found) == PARTS
    for name in PARTS:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, atol=1e-6, err_msg=name)
    assert all((found[name][:2].numpy() > 0).all() for name in PARTS)


def test_an_image_without_objects_has_the_losses_of_background_alone():
    found = mask_rcnn_loss_parts(objects(), outputs())
    assert found["objectness"][2] > 0 and found["classes"][2] > 0
    assert [float(found[name][2]) for name in ("anchor_boxes", "boxes", "masks")] == [0, 0, 0]


def test_a_batch_without_any_object_has_finite_losses_and_gradients():
    targets = {**objects(), "labels": tf.fill((3, 4), -1)}
    answer = {**outputs(), "places": tf.minimum(outputs()["places"], -1), "mask_places": tf.fill((3, 4), -1)}
    check_finite(targets, answer)


def test_regions_and_objects_without_area_leave_losses_and_gradients_finite():
    targets = {**objects(), "boxes": objects()["boxes"] * [[[1.0]], [[1.0]], [[0.0]]]}
    check_finite(targets, {**outputs(), "anchor_deltas": 1e4 * outputs()["anchor_deltas"], "logits": 1e4 * outputs()["logits"]})


def check_finite(targets, answer):
    trained = {name: answer[name] for name in ("objectness", "anchor_deltas", "logits", "region_deltas", "mask_logits")}
    with tf.GradientTape() as tape:
        tape.watch(trained)
        found = sum(map(tf.reduce_sum, mask_rcnn_loss_parts(targets, {**answer, **trained}).values()))
    assert np.isfinite(found)
    for name, gradient in tape.gradient(found, trained).items():
        assert gradient is None or np.isfinite(gradient).all(), name


@pytest.mark.parametrize("name", ["objectness", "anchor_deltas", "logits", "region_deltas", "mask_logits"])
def test_gradients_are_those_of_finite_differences(name):
    targets, answer = objects(), outputs()
    with tf.GradientTape() as tape:
        tape.watch(answer[name])
        loss = sum(map(tf.reduce_mean, mask_rcnn_loss_parts(targets, answer).values()))
    gradient = tape.gradient(loss, answer[name]).numpy()
    direction = np.sign(gradient) * (np.abs(gradient) > np.abs(gradient).max() / 10)
    step = 1e-2

    def moved(by):
        return float(sum(map(tf.reduce_mean, mask_rcnn_loss_parts(targets, {**answer, name: answer[name] + by}).values())))

    expected = (moved(step * direction) - moved(-step * direction)) / (2 * step)
    assert np.sum(gradient * direction) == pytest.approx(expected, rel=0.02)


def test_padding_changes_nothing():
    targets, answer = objects(), outputs()
    padded = {**targets, "boxes": tf.pad(targets["boxes"], [[0, 0], [0, 3], [0, 0]], constant_values=7.0),
              "labels": tf.pad(targets["labels"], [[0, 0], [0, 3]], constant_values=-1),
              "masks": tf.pad(targets["masks"], [[0, 0], [0, 3], [0, 0], [0, 0]], constant_values=1)}  # fmt: skip
    found, expected = mask_rcnn_loss_parts(padded, answer), mask_rcnn_loss_parts(targets, answer)
    for name in PARTS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


def test_right_answers_cost_nothing_but_what_a_sigmoid_leaves(monkeypatch):
    targets, answer = objects(), numbers(outputs())
    monkeypatch.setattr(losses, "ANCHORS", 10_000)
    for image in range(3):
        for place, which in enumerate(answer["places"][image].astype(int)):
            label = int(targets["labels"][image, which]) + 1 if which >= 0 else 0
            answer["logits"][image, place] = -50
            answer["logits"][image, place, label] = 50
            if which >= 0:
                box = targets["boxes"][image, which].numpy()
                answer["region_deltas"][image, place, label] = coded(box, answer["regions"][image, place], (10, 10, 5, 5))
    found = mask_rcnn_loss_parts(targets, tensors(answer))
    np.testing.assert_allclose(found["classes"], 0, atol=1e-6)
    np.testing.assert_allclose(found["boxes"], 0, atol=1e-6)


def test_what_is_drawn_depends_on_the_seeds():
    targets, answer = objects(), outputs()
    found = mask_rcnn_loss_parts({**targets, "seeds": targets["seeds"] + 1}, answer)
    assert (found["objectness"].numpy() != mask_rcnn_loss_parts(targets, answer)["objectness"].numpy()).all()
