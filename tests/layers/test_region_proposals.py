"""Proposals by hand and box by box, at the ends of the numbers, in a graph that knows no size, and saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import RegionProposals
from kerastoolkit.layers.region_proposals import first_known

IMAGE = np.zeros((1, 40, 60, 3), "float32")  # 60 wide
INFINITE, NAN = float("inf"), float("nan")


def proposed(boxes, scores, deltas=None, image=IMAGE, **arguments):
    """What becomes of the anchors of several levels of one image, which do not change by default."""
    levels = [np.array([each], "float32").reshape(1, -1, 4) for each in boxes]
    deltas = [np.zeros_like(each) for each in levels] if deltas is None else [np.array([each], "float32") for each in deltas]
    return RegionProposals(**arguments)([np.array([each], "float32") for each in scores], deltas, levels, image)[0].numpy()


def random_levels(batch=2, sizes=(60, 25), seed=0):
    random = np.random.default_rng(seed)
    objectness = [random.normal(size=(batch, n)).astype("float32") for n in sizes]
    deltas = [random.normal(scale=0.3, size=(batch, n, 4)).astype("float32") for n in sizes]
    first = [random.uniform(-10, 50, (batch, n, 2)) for n in sizes]
    anchors = [np.concatenate([each, each + random.uniform(5, 30, each.shape)], axis=-1).astype("float32") for each in first]
    return objectness, deltas, anchors


def slow_iou(box, other):
    width, height = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    both = max(width, 0) * max(height, 0)
    return both / (np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - both)


def one_by_one(objectness, deltas, anchors, height, width, per_level, count, iou):
    """The proposals of each example, anchor by anchor."""
    answer = []
    for example in range(len(objectness[0])):
        found = []
        for scores, changes, references in zip(objectness, deltas, anchors, strict=True):
            kept = []
            for place in sorted(range(scores.shape[1]), key=lambda place: -scores[example, place])[:per_level]:
                x, y, w, h = changes[example, place].astype("float64")
                left, top, right, bottom = references[example, place].astype("float64")
                centre_x, centre_y = (left + right) / 2 + x * (right - left), (top + bottom) / 2 + y * (bottom - top)
                half_w, half_h = (right - left) * np.exp(w) / 2, (bottom - top) * np.exp(h) / 2
                box = np.array([max(centre_x - half_w, 0), max(centre_y - half_h, 0),
                                min(centre_x + half_w, width), min(centre_y + half_h, height)])  # fmt: skip
                if min(box[2:] - box[:2]) >= 1e-3 and all(slow_iou(box, other) <= iou for _, other in kept):
                    kept.append((scores[example, place], box))
            found += kept
        answer.append([box for _, box in sorted(found, key=lambda each: -each[0])[:count]])
    return answer


@pytest.mark.parametrize(("per_level", "count"), [(1000, 1000), (20, 1000), (1000, 15), (30, 20), (1, 1)])
def test_proposals_are_those_of_each_anchor_in_turn(per_level, count):
    levels = random_levels()
    expected = one_by_one(*levels, 40, 60, per_level, count, 0.5)
    most = max(map(len, expected))
    found = RegionProposals(per_level, count, 0.5)(*levels, IMAGE)
    assert found.shape == (2, most, 4) and found.dtype == tf.float32 and most <= min(count, 2 * per_level)
    for row, boxes in zip(found.numpy(), expected, strict=True):
        np.testing.assert_allclose(row[: len(boxes)], boxes, rtol=1e-4, atol=1e-4)
        assert not row[len(boxes) :].any()


def test_a_proposal_is_its_anchor_changed():
    # The centre (20, 20) by half a width of 10, and the width doubled: 25 -+ 10.
    found = proposed([[[15, 10, 25, 30]]], [[0.0]], [[[0.5, 0, np.log(2), 0]]])
    np.testing.assert_allclose(found, [[15, 10, 35, 30]], rtol=1e-5)


def test_boxes_of_different_levels_do_not_suppress_each_other():
    box = [10, 10, 20, 20]
    np.testing.assert_array_equal(proposed([[box, box], [box]], [[1.0, 2.0], [3.0]]), [box, box])


def test_of_boxes_of_a_level_that_overlap_by_more_than_the_limit_the_surer_stays():
    boxes = [[[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 6]]]  # 0.8, 0.6 and, of the last two, 0.75
    np.testing.assert_array_equal(proposed(boxes, [[3.0, 2, 1]], iou=0.7), [boxes[0][0], boxes[0][2]])
    np.testing.assert_array_equal(proposed(boxes, [[3.0, 2, 1]], iou=0.8), boxes[0])
    np.testing.assert_array_equal(proposed(boxes, [[1.0, 3, 2]], iou=0.7), [boxes[0][1]])


def test_the_surest_of_all_levels_come_first():
    boxes = [[[0, 0, 5, 5], [10, 0, 15, 5]], [[20, 0, 25, 5], [30, 0, 35, 5]]]
    scores = [[-2.0, 4.0], [3.0, -1.0]]
    np.testing.assert_array_equal(proposed(boxes, scores), [boxes[0][1], boxes[1][0], boxes[1][1], boxes[0][0]])
    np.testing.assert_array_equal(proposed(boxes, scores, count=3), [boxes[0][1], boxes[1][0], boxes[1][1]])


def test_of_a_level_the_surest_alone_go_into_suppression():
    # The two surest are one box; the third would stay, but is not among the first two.
    boxes = [[[0, 0, 5, 5], [30, 0, 35, 5], [0, 0, 5, 5]], [[20, 0, 25, 5]]]
    np.testing.assert_array_equal(proposed(boxes, [[3.0, 1, 2], [0.0]], per_level=2), [boxes[0][0], boxes[1][0]])


def test_proposals_are_cut_at_the_images_border_and_those_outside_are_none():
    boxes = [[[-10, -20, 70, 50], [-8, 5, 0, 9], [60, 5, 70, 9], [5, 40, 9, 50]], [[50, 30, 66, 47]]]
    np.testing.assert_array_equal(proposed(boxes, [[1.0, 4, 3, 2], [0.0]]), [[0, 0, 60, 40], [50, 30, 60, 40]])


def test_a_box_whose_cut_sides_are_less_than_a_thousandth_of_a_pixel_is_none():
    boxes = [[[-5, 0, 0.0009, 9], [-5, 10, 0.0011, 19]]]
    np.testing.assert_allclose(proposed(boxes, [[1.0, 0]]), [[0, 10, 0.0011, 19]], rtol=1e-3)


def test_an_example_with_fewer_has_zeros_last():
    anchors = np.array([[[0, 0, 5, 5], [10, 0, 15, 5], [20, 0, 25, 5]], [[0, 0, 5, 5], [0, 0, 5, 5], [0, 0, 5, 5]]], "float32")
    found = RegionProposals()([np.array([[3.0, 2, 1]] * 2, "float32")], [np.zeros_like(anchors)], [anchors], IMAGE)
    np.testing.assert_array_equal(found, [anchors[0], [[0, 0, 5, 5], [0] * 4, [0] * 4]])


def test_where_there_are_no_proposals_a_row_of_zeros_is_left():
    np.testing.assert_array_equal(proposed([[[-9, -9, -1, -1]] * 3], [[1.0, 2, 3]]), [[0] * 4])


@pytest.mark.parametrize("number", [INFINITE, -INFINITE, NAN])
@pytest.mark.parametrize("place", ["logit", 0, 1, 2, 3])
def test_what_is_no_finite_number_is_no_proposal(place, number):
    boxes = [[[2, 2, 12, 12], [30, 5, 40, 15]]]
    scores, deltas = [[5.0, 1.0]], np.zeros((1, 2, 4))
    if place == "logit":
        scores[0][0] = number
    else:
        deltas[0, 0, place] = number
    np.testing.assert_array_equal(proposed(boxes, scores, deltas), [boxes[0][1]])


@pytest.mark.parametrize(("changes", "boxes"), [((0, 0, 1e30, 1e30), [[0, 0, 60, 40]]), ((0, 0, 1e30, -1e30), [[0] * 4]),
                                                 ((1e30, 0, 0, 0), [[0] * 4]), ((0, -1e30, 1e30, 0), [[0] * 4])])  # fmt: skip
def test_what_grows_without_end_is_the_whole_image_and_what_shrinks_or_moves_so_is_none(changes, boxes):
    np.testing.assert_array_equal(proposed([[[2, 2, 12, 12]]], [[1.0]], [[changes]]), boxes)


def test_no_gradient_goes_through_it():
    objectness, deltas, anchors = ([tf.constant(each) for each in kind] for kind in random_levels())
    with tf.GradientTape() as tape:
        tape.watch([objectness, deltas, anchors])
        value = tf.reduce_sum(RegionProposals()(objectness, deltas, anchors, IMAGE))
    assert tape.gradient(value, [*objectness, *deltas, *anchors]) == [None] * 6


def test_a_graph_that_knows_no_size_gives_the_same():
    layer = RegionProposals(30, 20, 0.5)
    graph = tf.function(lambda *given: layer(*given), input_signature=[
        [tf.TensorSpec((None, None))] * 2, [tf.TensorSpec((None, None, 4))] * 2, [tf.TensorSpec((None, None, 4))] * 2,
        tf.TensorSpec((None, None, None, 3))])  # fmt: skip
    for batch, *sizes in ((2, 60, 25), (1, 7, 3)):
        levels = random_levels(batch, sizes)
        np.testing.assert_array_equal(graph(*levels, IMAGE), layer(*levels, IMAGE))


def test_how_many_there_are_is_left_open():
    inputs = [[keras.Input((12,))], [keras.Input((12, 4))], [keras.Input((12, 4))]]
    found = RegionProposals()(*inputs, keras.Input((40, 60, 3)))
    assert found.shape == (None, None, 4) and found.dtype == "float32"


def test_its_configuration_makes_it_again():
    layer = RegionProposals(30, 20, 0.4, name="proposals")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (again.per_level, again.count, again.iou, again.name) == (30, 20, 0.4, "proposals")


def test_known_rows_are_kept_as_far_as_one_example_has_them():
    known = tf.constant([[True, True, False, False], [True, False, False, False]])
    values, numbers = tf.random.normal((2, 4, 3)), tf.constant([[1, 2, 3, 4], [5, 6, 7, 8]])
    np.testing.assert_array_equal(first_known(values, known), values[:, :2])
    both = first_known(values, known, numbers)
    np.testing.assert_array_equal(both[0], values[:, :2])
    np.testing.assert_array_equal(both[1], [[1, 2], [5, 6]])
    np.testing.assert_array_equal(first_known(numbers, tf.zeros((2, 4), tf.bool)), [[1], [5]])
