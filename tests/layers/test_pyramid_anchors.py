"""Anchors of a pyramid by hand, in a graph that knows no size, and saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import PyramidAnchors

STRIDES, SIZES = [4, 8], [32, 64]


def levels(height=2, width=3, batch=2):
    return [np.zeros((batch, 2 * height, 2 * width, 5), "float32"), np.zeros((batch, height, width, 5), "float32")]


def test_anchors_lie_a_stride_apart_from_the_corner_on_in_torchvisions_shapes():
    fine, coarse = PyramidAnchors(STRIDES, SIZES)(levels())
    assert fine.shape == (2, 4 * 6 * 3, 4) and coarse.shape == (2, 2 * 3 * 3, 4)
    # Heights of half, one and two widths at (0, 0); then a stride to the right; after 6 columns a stride down.
    np.testing.assert_array_equal(fine[0, :3], [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]])
    np.testing.assert_array_equal(fine[0, 3:6], [[-19, -11, 27, 11], [-12, -16, 20, 16], [-7, -23, 15, 23]])
    np.testing.assert_array_equal(fine[0, 18], [-23, -7, 23, 15])
    # 64^2: 90.51 x 45.25; the last place is in row 1 and column 2.
    np.testing.assert_array_equal(coarse[0, 0], [-45, -23, 45, 23])
    np.testing.assert_array_equal(coarse[0, -3:], [[-29, -15, 61, 31], [-16, -24, 48, 40], [-7, -37, 39, 53]])


def test_all_examples_have_the_same_anchors():
    for found in PyramidAnchors(STRIDES, SIZES)(levels(batch=3)):
        assert len(found) == 3 and found.dtype == tf.float32
        np.testing.assert_array_equal(found[1:], tf.stack([found[0]] * 2))


def test_ratios_are_heights_over_widths():
    (found,) = PyramidAnchors([16], [20], ratios=(4.0,))([levels()[0]])
    np.testing.assert_array_equal(found[0, 0], [-5, -20, 5, 20])


def test_as_many_levels_are_needed_as_strides_and_sizes():
    with pytest.raises(ValueError):
        PyramidAnchors(STRIDES, SIZES)(levels()[:1])


def test_a_graph_that_knows_no_size_gives_the_same():
    layer = PyramidAnchors(STRIDES, SIZES)
    graph = tf.function(layer, input_signature=[[tf.TensorSpec((None, None, None, 5)) for _ in STRIDES]])
    for size in ((2, 3, 2), (5, 1, 1)):
        for found, expected in zip(graph(levels(*size)), layer(levels(*size)), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("size", "counts"), [((4, 6), (72, 18)), ((None, 6), (None, None)), ((4, None), (None, None))])
def test_sizes_are_told_as_far_as_they_are_known(size, counts):
    coarse = [each and each // 2 for each in size]
    found = PyramidAnchors(STRIDES, SIZES)([keras.Input((*each, 5)) for each in (size, coarse)])
    assert [(each.shape, each.dtype) for each in found] == [((None, count, 4), "float32") for count in counts]


def test_a_saved_network_answers_the_same(tmp_path):
    inputs = [keras.Input((None, None, 5)) for _ in STRIDES]
    network = keras.Model(inputs, PyramidAnchors(STRIDES, SIZES, ratios=(0.5, 3.0))(inputs))
    network.save(tmp_path / "network.keras")
    for found, expected in zip(keras.saving.load_model(tmp_path / "network.keras")(levels()), network(levels()), strict=True):
        np.testing.assert_array_equal(found, expected)
