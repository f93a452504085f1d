"""Non-maximum suppression against a greedy twin, by TensorFlow's kernel and by rounds of all boxes at once."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.regions import suppression
from kerastoolkit.regions.suppression import best_apart

both_ways = pytest.mark.parametrize("way", ["_one_by_one", "_all_at_once"])


def stays(way, boxes, known=None, iou=0.5):
    boxes = tf.constant(boxes, tf.float32)
    known = tf.ones(boxes.shape[:2], tf.bool) if known is None else tf.constant(known, tf.bool)
    return getattr(suppression, way)(boxes, known, iou).numpy()


def slow_iou(box, other):
    width, height = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    both = max(width, 0) * max(height, 0)
    either = np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - both
    return both / either if either > 0 else 0


def greedy(boxes, known, iou):
    answer = np.zeros(boxes.shape[:2], bool)
    for example, (row, there) in enumerate(zip(boxes.astype("float64"), known, strict=True)):
        kept = []
        for number, box in enumerate(row):
            if there[number] and all(slow_iou(box, row[other]) <= iou for other in kept):
                kept.append(number)
        answer[example, kept] = True
    return answer


def crowded(seed, batch=3, n=60):
    random = np.random.default_rng(seed)
    first = random.uniform(0, 40, (batch, n, 2))
    boxes = np.concatenate([first, first + random.uniform(5, 30, (batch, n, 2))], axis=-1).astype("float32")
    return boxes, random.uniform(size=(batch, n)) < 0.8


@both_ways
@pytest.mark.parametrize("iou", [0.1, 0.3, 0.5, 0.7])
def test_of_crowded_boxes_those_stay_that_greedy_search_keeps(way, iou):
    for seed in range(4):
        boxes, known = crowded(seed)
        expected = greedy(boxes, known, iou)
        assert 0 < expected.sum() < known.sum()
        np.testing.assert_array_equal(stays(way, boxes, known, iou), expected)


@both_ways
@pytest.mark.parametrize("n", [3, 4, 9, 30])
def test_a_box_stays_whose_suppressor_was_suppressed(way, n):
    # Each overlaps by 7 / 13 with its neighbours and by 4 / 16 with theirs.
    left = np.arange(n)[:, None] * 3
    chain = np.concatenate([left, 0 * left, left + 10, 0 * left + 10], axis=1)[None]
    np.testing.assert_array_equal(stays(way, chain), [np.arange(n) % 2 == 0])


@both_ways
def test_boxes_that_overlap_by_just_the_limit_both_stay(way):
    boxes = [[[0, 0, 3, 1], [1, 0, 4, 1]]]  # 2 of 4
    np.testing.assert_array_equal(stays(way, boxes, iou=0.5), [[True, True]])
    np.testing.assert_array_equal(stays(way, boxes, iou=0.49), [[True, False]])


@both_ways
def test_unknown_boxes_neither_stay_nor_suppress(way):
    boxes = [[[0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9], [20, 0, 30, 9]]] * 2
    known = [[False, True, True, False], [True, False, True, True]]
    np.testing.assert_array_equal(stays(way, boxes, known), [[False, True, False, False], [True, False, False, True]])


@both_ways
def test_where_no_box_is_known_none_stays(way):
    boxes, _ = crowded(0)
    np.testing.assert_array_equal(stays(way, boxes, np.zeros((3, 60))), np.zeros((3, 60)))


@both_ways
def test_examples_do_not_suppress_one_another(way):
    np.testing.assert_array_equal(stays(way, [[[0, 0, 9, 9], [0, 0, 9, 9]]] * 3), [[True, False]] * 3)


@both_ways
def test_boxes_without_area_all_stay_and_suppress_nothing(way):
    boxes = [[[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 9, 9], [3, 3, 3, 3], [0, 0, 9, 0]]]
    np.testing.assert_array_equal(stays(way, boxes), [[True] * 5])


@both_ways
def test_of_no_boxes_none_stays(way):
    assert stays(way, np.zeros((2, 0, 4))).shape == (2, 0)


@both_ways
def test_a_graph_that_knows_no_size_keeps_the_same(way):
    graph = tf.function(lambda boxes, known: getattr(suppression, way)(boxes, known, 0.3),
                        input_signature=[tf.TensorSpec((None, None, 4)), tf.TensorSpec((None, None), tf.bool)])  # fmt: skip
    for n in (60, 1, 0, 7):
        boxes, known = crowded(n, n=n)
        np.testing.assert_array_equal(graph(boxes, known), greedy(boxes, known, 0.3))


@both_ways
def test_no_gradient_is_asked_of_it_where_it_is_part_of_a_loss(way):
    # What stays chooses among values; the choice itself has no slope, and must not fail where one is asked for.
    boxes, known = crowded(0)
    with tf.GradientTape() as tape:
        tape.watch(boxes := tf.constant(boxes))
        kept = getattr(suppression, way)(boxes, tf.constant(known), 0.3)
        value = tf.reduce_sum(tf.where(kept[..., None], boxes, 0.0))
    np.testing.assert_array_equal(tape.gradient(value, boxes), np.repeat(greedy(boxes.numpy(), known, 0.3)[..., None], 4, -1))


def test_the_backends_own_way_is_taken():
    boxes, known = crowded(5)
    np.testing.assert_array_equal(best_apart(boxes, tf.constant(known), 0.3), greedy(boxes, known, 0.3))
