"""Boxes of distributions by hand and cell by cell, in a graph that knows no size, saved, and at the ends of the numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import DistributionBoxes

STRIDES, BINS = [8, 16], 6


def levels(height=64, width=96, batch=2):
    generator = np.random.default_rng(0)
    shapes = [(batch, height // stride, width // stride, 4 * BINS) for stride in STRIDES]
    return [generator.normal(scale=2, size=shape).astype("float32") for shape in shapes]


def one_by_one(levels):
    """Every cell of every example in turn."""
    found = {name: [[] for _ in levels[0]] for name in ("boxes", "distributions", "points")}
    for level, stride in zip(levels, STRIDES, strict=True):
        for example, row, column in np.ndindex(level.shape[:3]):
            sides = [level[example, row, column, side * BINS :][:BINS].astype("float64") for side in range(4)]
            means = [(np.arange(BINS) * np.exp(side)).sum() / np.exp(side).sum() * stride for side in sides]
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            found["boxes"][example].append([x - means[0], y - means[1], x + means[2], y + means[3]])
            found["distributions"][example].append(sides)
            found["points"][example].append([x, y, stride])
    return {name: np.array(values) for name, values in found.items()}


def test_a_box_lies_at_the_mean_distances_from_its_cells_centre():
    # Stride 10, the cell in column 1 and row 0: its centre is (15, 5). To the left 0 or 2 strides, each by 1/2: 1. To the top 0
    # by 3/4 and 1 by 1/4. To the right 2. To the bottom 0, 1 or 2, each by 1/3: 1.
    sure = 50.0
    sides = [[0, -sure, 0], [np.log(3), 0, -sure], [-sure, -sure, 0], [0, 0, 0]]
    x = np.zeros((1, 1, 2, 12), "float32")
    x[0, 0, 1] = np.ravel(sides)
    answer = DistributionBoxes([10], 3)([x])
    np.testing.assert_allclose(answer["boxes"][0, 1], [15 - 10, 5 - 2.5, 15 + 20, 5 + 10], rtol=1e-6)
    np.testing.assert_array_equal(answer["points"][0], [[5, 5, 10], [15, 5, 10]])
    np.testing.assert_allclose(answer["distributions"][0, 1], sides, rtol=1e-6)


def test_levels_rows_and_columns_follow_one_another():
    answer, expected = DistributionBoxes(STRIDES, BINS)(levels()), one_by_one(levels())
    assert answer.keys() == expected.keys() and expected["boxes"].shape == (2, 8 * 12 + 4 * 6, 4)
    for name in expected:
        np.testing.assert_allclose(answer[name], expected[name], rtol=1e-4, atol=1e-4)


def test_a_graph_that_knows_no_size_gives_the_same():
    layer = DistributionBoxes(STRIDES, BINS)
    graph = tf.function(layer, input_signature=[[tf.TensorSpec((None, None, None, 4 * BINS)) for _ in STRIDES]])
    for size in ((64, 96), (32, 16)):
        answer, expected = graph(levels(*size)), layer(levels(*size))
        for name in expected:
            np.testing.assert_allclose(answer[name], expected[name], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("size", "cells"), [((8, 12), 120), ((None, 12), None), ((8, None), None)])
def test_sizes_are_told_as_far_as_they_are_known(size, cells):
    coarse = [each and each // 2 for each in size]
    answer = DistributionBoxes(STRIDES, BINS)([keras.Input((*each, 4 * BINS)) for each in (size, coarse)])
    assert {name: each.shape for name, each in answer.items()} == {
        "boxes": (None, cells, 4), "distributions": (None, cells, 4, BINS), "points": (None, cells, 3),
    }  # fmt: skip


def test_a_saved_network_answers_the_same(tmp_path):
    inputs = [keras.Input((None, None, 4 * BINS)) for _ in STRIDES]
    network = keras.Model(inputs, DistributionBoxes(STRIDES, BINS)(inputs))
    network.save(tmp_path / "network.keras")
    answer, expected = keras.saving.load_model(tmp_path / "network.keras")(levels()), network(levels())
    for name in expected:
        np.testing.assert_array_equal(answer[name], expected[name])


def test_the_distances_are_counted_as_weights_and_not_trained():
    layer = DistributionBoxes(STRIDES, BINS)
    layer(levels())
    assert not layer.trainable_weights
    np.testing.assert_array_equal(layer.get_weights(), [np.arange(BINS)])


@pytest.mark.parametrize("extreme", [-1e30, -1e4, 1e4, 1e30])
def test_no_number_makes_a_box_or_its_slope_infinite(extreme):
    x = tf.constant(np.full((1, 1, 1, 4 * BINS), 1.0) * np.tile([extreme, *[1.0] * (BINS - 1)], 4), "float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        boxes = DistributionBoxes([32], BINS)([x])["boxes"]
    assert np.isfinite(boxes).all() and np.isfinite(tape.gradient(boxes, x)).all()
    reach = 0 if extreme > 0 else 32 * 3  # the others are 1 .. 5 strides alike
    np.testing.assert_allclose(boxes[0, 0], [16 - reach, 16 - reach, 16 + reach, 16 + reach], rtol=1e-6)


def test_boxes_are_float32_where_the_network_computes_in_16_bits():
    x = [tf.constant(level, "bfloat16") for level in levels()]
    layer = DistributionBoxes(STRIDES, BINS, dtype="float32")
    assert {each.dtype for each in layer(x).values()} == {tf.float32}
    told = layer([keras.Input(each.shape[1:], dtype="bfloat16") for each in x])
    assert {each.dtype for each in told.values()} == {"float32"}
