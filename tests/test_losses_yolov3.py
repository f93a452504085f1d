"""The losses of YOLOv3: a case by hand, every anchor in turn, and what must not change them or make them infinite."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import AnchorBoxes
from kerastoolkit.losses.yolov3 import yolov3_loss, yolov3_loss_parts

LN2, LN3 = np.log(2), np.log(3)
PRIORS, STRIDES = [[(10, 13), (16, 30)], [(30, 61), (62, 45)], [(59, 119), (116, 90)]], [8, 16, 32]
HEIGHT, WIDTH, CLASSES = 64, 96, 4


def by_hand():
    """An image of 32 x 16 pixels in two cells of stride 16, with the priors 8 x 8 and 16 x 4, and one object.

    The object is 8 x 8 in the middle of the right cell, of class 1: it belongs to anchor 2, whose prior overlaps it by 1, the
    other by 8 * 4 / (64 + 64 - 32) = 1/3. It should be sigmoid(t_x) = sigmoid(t_y) = 1/2 and t_w = t_h = ln(8 / 8) = 0. The boxes
    of anchors 0 and 3 overlap it by 1/2 and by 1, so that at a threshold of 1/2 anchor 3 alone is ignored.
    """
    targets = {"boxes": [[[20, 4, 28, 12]]], "labels": [[1]]}
    outputs = {
        "boxes": [[[20, 4, 28, 8], [0, 0, 9, 9], [0, 0, 9, 9], [20, 4, 28, 12]]],
        "offsets": [[[9, 9, 9, 9], [9, 9, 9, 9], [LN3, 0, 0.5, -0.5], [9, 9, 9, 9]]],
        "objectness": [[0, 0, LN3, 5]],
        "logits": [[[9, 9], [9, 9], [0, LN3], [9, 9]]],
        "points": [[[0, 0, 16, 8, 8], [0, 0, 16, 16, 4], [1, 0, 16, 8, 8], [1, 0, 16, 16, 4]]],
    }
    return tensors(targets), tensors(outputs)


def tensors(values):
    kinds = {"labels": "int32", "crowd": "bool"}
    return {name: tf.constant(value, kinds.get(name, "float32")) for name, value in values.items()}


def outputs_for(seed=0, batch=3, scale=1.0):
    """What a network of three levels could answer."""
    generator = np.random.default_rng(seed)
    shapes = [(batch, HEIGHT // stride, WIDTH // stride, 2 * (5 + CLASSES)) for stride in STRIDES]
    return AnchorBoxes(PRIORS, STRIDES)([tf.constant(generator.normal(scale=scale, size=shape), "float32") for shape in shapes])


def objects(seed=1, batch=3, most=30):
    """Objects of all sizes, a fifth of them padding; some twice, without a side, or beyond the border; and a crowd."""
    generator = np.random.default_rng(seed)
    sizes = np.exp(generator.uniform(np.log(3), np.log(60), (batch, most, 2)))
    first = generator.uniform(size=(batch, most, 2)) * ((WIDTH, HEIGHT) - sizes)
    boxes = np.concatenate([first, first + sizes], axis=-1).astype("float32")
    labels = np.where(generator.uniform(size=(batch, most)) < 0.2, -1, generator.integers(0, CLASSES, (batch, most)))
    boxes[:, 7], labels[:, 3], labels[:, 7] = boxes[:, 3], 0, 1
    boxes[:, 4, 2] = boxes[:, 4, 0]
    boxes[:, 5] = [WIDTH - 4, 10, WIDTH + 6, 20]
    crowd = np.zeros((batch, most), bool)
    boxes[:, -1], labels[:, -1], crowd[:, -1] = [8, 20, 60, 50], -1, True
    return tensors({"boxes": boxes, "labels": labels, "crowd": crowd})


def overlap(a, b):
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def one_by_one(targets, outputs, ignore_threshold=0.5):
    """The sums of each example, before they are divided, and the number of all objects; in float64."""
    targets, outputs = ({name: np.asarray(value, "float64") for name, value in each.items()} for each in (targets, outputs))
    sums, count = {"box": [], "objectness": [], "classes": []}, 0
    for example, labels in enumerate(targets["labels"]):
        points, owner, ignored = outputs["points"][example], {}, set()
        for left, top, right, bottom in targets["boxes"][example][targets["crowd"][example] > 0]:
            ignored |= {anchor for anchor, (column, row, stride, *_) in enumerate(points)
                        if left < (column + 0.5) * stride < right and top < (row + 0.5) * stride < bottom}  # fmt: skip
        for number, label in enumerate(labels):
            if label < 0:
                continue
            left, top, right, bottom = box = targets["boxes"][example, number]
            ignored |= {a for a in range(len(points)) if overlap(box, outputs["boxes"][example, a]) > ignore_threshold}
            x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
            best = 0
            for anchor, (column, row, stride, prior_width, prior_height) in enumerate(points):
                if column * stride <= x < (column + 1) * stride and row * stride <= y < (row + 1) * stride:
                    shared = overlap((0, 0, width, height), (0, 0, prior_width, prior_height))
                    if shared > best:
                        best, place = shared, anchor
            if best:
                count += 1
                owner[place] = (x, y, width, height, label)
        box = objectness = classes = 0
        for anchor, (column, row, stride, prior_width, prior_height) in enumerate(points):
            probability = 1 / (1 + np.exp(-outputs["objectness"][example, anchor]))
            if anchor in owner:
                x, y, width, height, label = owner[anchor]
                t = outputs["offsets"][example, anchor]
                errors = [1 / (1 + np.exp(-t[0])) - (x / stride - column), 1 / (1 + np.exp(-t[1])) - (y / stride - row),
                          t[2] - np.log(width / prior_width), t[3] - np.log(height / prior_height)]  # fmt: skip
                box += (2 - width * height / (WIDTH * HEIGHT)) * np.square(errors).sum()
                objectness -= np.log(probability)
                for number, logit in enumerate(outputs["logits"][example, anchor]):
                    classes -= np.log(1 / (1 + np.exp(-logit if number == label else logit)))
            elif anchor not in ignored:
                objectness -= np.log(1 - probability)
        for name, value in (("box", box), ("objectness", objectness), ("classes", classes)):
            sums[name].append(value)
    return {name: np.array(values) for name, values in sums.items()}, count


def test_the_parts_are_those_worked_out_by_hand():
    parts = yolov3_loss_parts(*by_hand())
    # (3/4 - 1/2)^2 + 0 + (1/2)^2 + (1/2)^2, with the weight 2 - 64 / 512.
    np.testing.assert_allclose(parts["box"], [(1 / 16 + 1 / 4 + 1 / 4) * 1.875], rtol=1e-6)
    # Anchors 0 and 1 at a probability of 1/2 that should be 0, anchor 2 at 3/4 that should be 1.
    np.testing.assert_allclose(parts["objectness"], [2 * LN2 + np.log(4 / 3)], rtol=1e-6)
    # Class 0 at 1/2 that should be 0, class 1 at 3/4 that should be 1.
    np.testing.assert_allclose(parts["classes"], [LN2 + np.log(4 / 3)], rtol=1e-6)


def test_the_loss_is_the_sum_of_its_parts():
    targets, outputs = objects(), outputs_for()
    parts = yolov3_loss_parts(targets, outputs)
    assert parts.keys() == {"box", "objectness", "classes"}
    np.testing.assert_allclose(yolov3_loss(targets, outputs), sum(parts.values()), rtol=1e-6)


@pytest.mark.parametrize(("threshold", "ignored"), [(0.4, 2), (0.5, 1), (1.0, 0)])
def test_boxes_are_ignored_that_overlap_an_object_by_more_than_the_threshold(threshold, ignored):
    # Anchor 0 overlaps by 1/2 and has a loss of ln 2, anchor 3 by 1 and has one of ln(1 + e^5).
    expected = np.log(4 / 3) + LN2 + (LN2 if ignored < 2 else 0) + (np.log1p(np.exp(5)) if ignored < 1 else 0)
    parts = yolov3_loss_parts(*by_hand(), ignore_threshold=threshold)
    np.testing.assert_allclose(parts["objectness"], [expected], rtol=1e-6)
    np.testing.assert_allclose(yolov3_loss(*by_hand(), ignore_threshold=threshold), sum(parts.values()), rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.2, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_parts_are_those_of_every_anchor_in_turn(seed, threshold):
    targets, outputs = objects(seed), outputs_for(seed)
    sums, count = one_by_one(targets, outputs, threshold)
    parts = yolov3_loss_parts(targets, outputs, ignore_threshold=threshold)
    assert count > 50 and min(sums["box"]) > 1
    for name, values in sums.items():
        np.testing.assert_allclose(parts[name], values * 3 / count, rtol=2e-4)


def test_the_mean_over_the_batch_is_the_loss_for_each_object():
    targets, outputs = objects(), outputs_for()
    sums, count = one_by_one(targets, outputs)
    assert np.mean(yolov3_loss(targets, outputs)) == pytest.approx(sum(sum(values) for values in sums.values()) / count, rel=1e-4)


def test_a_batch_without_objects_is_divided_by_one():
    outputs = outputs_for()
    targets = tensors({"boxes": np.zeros((3, 1, 4)), "labels": np.full((3, 1), -1)})
    parts = yolov3_loss_parts(targets, outputs)
    np.testing.assert_allclose(parts["objectness"], 3 * np.log1p(np.exp(outputs["objectness"])).sum(axis=1), rtol=1e-5)
    assert not np.any(parts["box"]) and not np.any(parts["classes"])


def test_of_two_objects_with_one_anchor_the_later_one_is_learned():
    targets, outputs = by_hand()
    alone = yolov3_loss_parts(targets, outputs)
    pair = {"boxes": tf.concat([targets["boxes"] - 1, targets["boxes"]], 1), "labels": tf.constant([[0, 1]])}
    parts = yolov3_loss_parts(pair, outputs)
    for name in ("box", "classes"):
        np.testing.assert_allclose(parts[name], alone[name] / 2, rtol=1e-6)  # divided by two objects
    reverse = yolov3_loss_parts({name: value[:, ::-1] for name, value in pair.items()}, outputs)
    np.testing.assert_allclose(reverse["classes"], [(LN2 + np.log(4)) / 2], rtol=1e-6)


def test_an_object_with_an_equal_overlap_with_two_priors_belongs_to_the_first():
    targets, outputs = by_hand()
    outputs["points"] = tf.constant(outputs["points"].numpy() * [1, 1, 1, 0, 0] + [0, 0, 0, 8, 8], "float32")
    np.testing.assert_allclose(yolov3_loss_parts(targets, outputs)["classes"], [LN2 + np.log(4 / 3)], rtol=1e-6)


def test_padding_never_changes_the_value():
    targets, outputs = objects(), outputs_for()
    padded = {"boxes": tf.pad(targets["boxes"], [[0, 0], [0, 9], [0, 0]]), "crowd": tf.pad(targets["crowd"], [[0, 0], [0, 9]]),
              "labels": tf.pad(targets["labels"], [[0, 0], [0, 9]], constant_values=-1)}  # fmt: skip
    expected = yolov3_loss_parts(targets, outputs)
    for name, values in yolov3_loss_parts(padded, outputs).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-6)


def test_what_a_padded_place_holds_never_counts():
    targets, outputs = by_hand()
    more = {"boxes": tf.concat([targets["boxes"], [[[0.0, 0, 9, 9]]]], 1), "labels": tf.constant([[1, -1]])}
    for name, values in yolov3_loss_parts(more, outputs).items():
        np.testing.assert_array_equal(values, yolov3_loss_parts(targets, outputs)[name])


@pytest.mark.parametrize(("box", "objectness"), [
    ((0, 0, 16, 16), np.log(4 / 3)),  # both anchors of the left cell are left out
    ((0, 0, 8, 16), 2 * LN2 + np.log(4 / 3)),  # the cell's centre is on the border, not in the box
    ((16, 0, 32, 16), 2 * LN2 + np.log(4 / 3)),  # the object among the crowd is learned
])  # fmt: skip
def test_an_anchor_in_a_crowd_is_not_told_that_there_is_nothing(box, objectness):
    targets, outputs = by_hand()
    alone = yolov3_loss_parts(targets, outputs)
    crowd = {"boxes": tf.concat([targets["boxes"], [[[float(side) for side in box]]]], 1), "labels": tf.constant([[1, -1]]),
             "crowd": tf.constant([[False, True]])}  # fmt: skip
    parts = yolov3_loss_parts(crowd, outputs)
    np.testing.assert_allclose(parts["objectness"], [objectness], rtol=1e-6)
    for name in ("box", "classes"):
        np.testing.assert_array_equal(parts[name], alone[name])


@pytest.mark.parametrize("box", [
    (0, 0, 0, 0), (20, 4, 20, 12), (20, 4, 28, 4), (28, 12, 20, 4), (30, 4, 38, 12), (20, -20, 28, -12), (32, 16, 32, 16)
])  # fmt: skip
def test_an_object_without_area_or_with_its_centre_outside_is_not_learned(box):
    targets, outputs = by_hand()
    targets["boxes"] = tf.constant([[box]], "float32")
    parts = yolov3_loss_parts(targets, outputs)
    assert parts["box"] == 0 and parts["classes"] == 0
    np.testing.assert_allclose(parts["objectness"], [2 * LN2 + np.log(4) + np.log1p(np.exp(5))], rtol=1e-6)


def gradients(targets, outputs):
    learned = {name: outputs[name] for name in ("boxes", "offsets", "objectness", "logits")}
    with tf.GradientTape() as tape:
        tape.watch(learned)
        loss = yolov3_loss(targets, {**outputs, **learned})
    return loss, tape.gradient(loss, learned)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("kind", ["objects", "padding", "points", "lines"])
def test_values_and_gradients_are_finite_whatever_the_objects_are(kind, scale):
    targets = objects()
    if kind == "padding":
        targets = tensors({"boxes": np.zeros((3, 1, 4)), "labels": np.full((3, 1), -1)})
    elif kind in ("points", "lines"):
        x, y, _, y_max = np.split(targets["boxes"].numpy(), 4, axis=-1)
        targets["boxes"] = tf.constant(np.concatenate([x, y, x, y if kind == "points" else y_max], axis=-1))
    loss, slopes = gradients(targets, outputs_for(scale=scale))
    assert np.isfinite(loss).all()
    for name in ("offsets", "objectness", "logits"):
        assert np.isfinite(tf.convert_to_tensor(slopes[name])).all()


def test_the_gradient_is_that_of_the_squared_errors_and_probabilities():
    _, slopes = gradients(*by_hand())
    # 2 * (3/4 - 1/2) * 3/4 * 1/4 for the sigmoid, 2 * 1/2 for the others, with the weight 1.875.
    expected = np.zeros((1, 4, 4))
    expected[0, 2] = np.array([2 / 4 * 3 / 16, 0, 1, -1]) * 1.875
    np.testing.assert_allclose(tf.convert_to_tensor(slopes["offsets"]), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(slopes["objectness"], [[1 / 2, 1 / 2, 3 / 4 - 1, 0]], rtol=1e-5)
    np.testing.assert_allclose(tf.convert_to_tensor(slopes["logits"])[0, 2], [1 / 2, 3 / 4 - 1], rtol=1e-5)
    assert slopes["boxes"] is None  # they only decide what is ignored


def test_a_graph_that_knows_no_size_gives_the_same():
    graph = tf.function(yolov3_loss, reduce_retracing=True, input_signature=[
        {"boxes": tf.TensorSpec((None, None, 4)), "labels": tf.TensorSpec((None, None), tf.int32),
         "crowd": tf.TensorSpec((None, None), tf.bool)},
        {"boxes": tf.TensorSpec((None, None, 4)), "offsets": tf.TensorSpec((None, None, 4)),
         "objectness": tf.TensorSpec((None, None)), "logits": tf.TensorSpec((None, None, CLASSES)),
         "points": tf.TensorSpec((None, None, 5))}])  # fmt: skip
    for batch, most in ((3, 30), (1, 12)):
        targets, outputs = objects(batch=batch, most=most), outputs_for(batch=batch)
        np.testing.assert_allclose(graph(targets, outputs), yolov3_loss(targets, outputs), rtol=1e-5)
