"""Boxes as changes of others: by hand, there and back, and at the ends of the numbers."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.regions.coding import REGION_WEIGHTS, decode_boxes, encode_boxes, within

REFERENCE, BOX = [0.0, 0, 10, 20], [5.0, 10, 25, 20]
# Centres (5, 10) and (15, 15): a width and a quarter of a height. 10 x 20 becomes 20 x 10.
CHANGES = [1, 0.25, math.log(2), math.log(0.5)]


def random_boxes(*shape, seed=0):
    random = np.random.default_rng(seed)
    first = random.uniform(-50, 50, (*shape, 2))
    return np.concatenate([first, first + random.uniform(5, 50, (*shape, 2))], axis=-1).astype("float32")


def test_changes_are_those_of_the_papers_appendix():
    np.testing.assert_allclose(encode_boxes(tf.constant(BOX), tf.constant(REFERENCE)), CHANGES, rtol=1e-6)


def test_changes_are_multiplied_by_their_weights():
    found = encode_boxes(tf.constant([BOX]), tf.constant([REFERENCE]), REGION_WEIGHTS)
    np.testing.assert_allclose(found, [[10, 2.5, 5 * math.log(2), 5 * math.log(0.5)]], rtol=1e-6)


def test_a_reference_with_its_changes_is_the_box():
    found = decode_boxes(tf.constant([CHANGES], tf.float32), tf.constant([REFERENCE]))
    np.testing.assert_allclose(found, [BOX], rtol=1e-5)
    weighted = decode_boxes(tf.constant([CHANGES], tf.float32) * REGION_WEIGHTS, tf.constant([REFERENCE]), REGION_WEIGHTS)
    np.testing.assert_allclose(weighted, [BOX], rtol=1e-5)


def test_no_change_leaves_the_reference():
    references = random_boxes(2, 5)
    np.testing.assert_allclose(decode_boxes(tf.zeros((2, 5, 4)), references), references, atol=1e-5)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), REGION_WEIGHTS, (1.0, 2.0, 3.0, 4.0)])
def test_encoding_and_decoding_are_inverse_to_each_other(weights):
    boxes, references = random_boxes(3, 40), random_boxes(3, 40, seed=1)
    np.testing.assert_allclose(decode_boxes(encode_boxes(boxes, references, weights), references, weights), boxes, atol=1e-3)
    changes = np.random.default_rng(2).normal(size=(3, 40, 4)).astype("float32")
    back = encode_boxes(decode_boxes(changes, references, weights), references, weights)
    np.testing.assert_allclose(back, changes, atol=1e-3)


@pytest.mark.parametrize("change", [math.log(62.5), 4.2, 100.0, float("inf")])
def test_a_side_grows_to_at_most_62_and_a_half_times_its_length(change):
    changes = tf.constant([[0, 0, change, 0], [0, 0, 0, change]], tf.float32)
    found = decode_boxes(changes, tf.constant([REFERENCE]))
    np.testing.assert_allclose(found, [[5 - 312.5, 0, 5 + 312.5, 20], [0, 10 - 625, 10, 10 + 625]], rtol=1e-5)


def test_growth_is_limited_after_the_weights_were_taken_out():
    # 20 / 5 = 4 is below the limit, 21 / 5 above it.
    found = decode_boxes(tf.constant([[0.0, 0, 20, 0], [0, 0, 21, 0]]), tf.constant([REFERENCE]), REGION_WEIGHTS)
    np.testing.assert_allclose(found[:, 2] - found[:, 0], [10 * math.exp(4), 625], rtol=1e-5)


def test_neither_shrinking_nor_moving_is_limited():
    found = decode_boxes(tf.constant([[-30.0, 50, -9, 0]]), tf.constant([REFERENCE]))[0].numpy()
    assert found[2] - found[0] == pytest.approx(10 * math.exp(-9), rel=0.05)  # at 295 the last bit is 3e-5
    np.testing.assert_allclose((found[:2] + found[2:]) / 2, [5 - 300, 10 + 1000], rtol=1e-6)


@pytest.mark.parametrize("place", range(4))
def test_no_finite_number_makes_a_box_that_is_no_number(place):
    changes = np.zeros((2, 4), "float32")
    changes[:, place] = 1e30, -1e30
    assert np.isfinite(decode_boxes(changes, tf.constant([REFERENCE]))).all()


def test_boxes_are_cut_at_the_images_border():
    boxes = tf.constant([[[-5.0, -6, 70, 50], [1, 2, 3, 4]], [[61, 41, 65, 45], [-9, -9, -1, -1]]])
    expected = [[[0, 0, 60, 40], [1, 2, 3, 4]], [[60, 40, 60, 40], [0, 0, 0, 0]]]
    np.testing.assert_array_equal(within(boxes, 40, 60), expected)
    np.testing.assert_array_equal(within(boxes, tf.constant(40), tf.constant(60)), expected)
