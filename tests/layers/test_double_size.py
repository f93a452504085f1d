import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import DoubleSize


def image(size):
    return np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")


def test_a_row_is_interpolated_at_quarters_and_its_ends_go_on():
    answer = DoubleSize()(np.array([4, 8, 0], "float32").reshape(1, 1, 3, 1))
    np.testing.assert_allclose(answer[0, :, :, 0], 2 * [[4, 5, 7, 6, 2, 0]])


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3)])
def test_it_is_the_layer_of_keras(size):
    expected = keras.layers.UpSampling2D(2, interpolation="bilinear")(image(size))
    np.testing.assert_array_equal(DoubleSize()(image(size)), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3)])
def test_a_graph_that_knows_no_size_gives_the_same(size):
    graph = tf.function(DoubleSize(), input_signature=[tf.TensorSpec((None, None, None, 3))])
    np.testing.assert_array_equal(graph(image(size)), DoubleSize()(image(size)))


@pytest.mark.parametrize("known", [(4, 3), (None, None)])
def test_16_bits_stay_16_bits(known):
    layer = DoubleSize(dtype="float16")
    graph = tf.function(layer, input_signature=[tf.TensorSpec((None, *known, 3), "float16")])
    assert graph(image((4, 3)).astype("float16")).dtype == "float16"


def test_sizes_are_told_as_far_as_they_are_known():
    assert DoubleSize()(keras.Input((5, None, 3))).shape == (None, 10, None, 3)
