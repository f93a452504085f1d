"""Images brought to a size that a network takes, and back: against NumPy, in graphs that know no size, and saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import CropLike, MirrorToFit, PadToMultiple

SIZES = [(1, 1), (1, 9), (2, 3), (4, 8), (7, 4), (31, 18)]


def image(size, channels=2):
    return np.random.default_rng(0).normal(size=(3, *size, channels)).astype("float32")


def in_graph(layer, *inputs):
    """Answers from a graph that was built without knowing a size."""
    unknown = [tf.TensorSpec((None, None, None, each.shape[-1])) for each in inputs]
    return tf.function(layer, input_signature=unknown)(*inputs).numpy()


@pytest.mark.parametrize("multiple", [1, 2, 4, 32])
@pytest.mark.parametrize("size", SIZES)
def test_zeros_are_added_below_and_at_the_right_up_to_the_next_multiple(size, multiple):
    below, right = ((multiple - side % multiple) % multiple for side in size)
    expected = np.pad(image(size), ((0, 0), (0, below), (0, right), (0, 0)))
    assert all(side % multiple == 0 for side in expected.shape[1:3])
    np.testing.assert_array_equal(PadToMultiple(multiple)(image(size)), expected)


def test_the_upper_left_part_has_the_size_of_the_other_tensor_and_its_own_channels():
    x = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2).astype("float32")
    np.testing.assert_array_equal(CropLike()(x, np.zeros((2, 2, 3, 5))), x[:, :2, :3])


@pytest.mark.parametrize("size", SIZES)
def test_what_was_padded_is_cropped_back(size):
    x = image(size)
    np.testing.assert_array_equal(CropLike()(PadToMultiple(8)(x), x), x)


def test_a_row_is_mirrored_at_its_ends_again_and_again_without_repeating_them():
    row = np.array([1, 2, 3], "float32").reshape(1, 1, 3, 1)
    answer = np.asarray(MirrorToFit(margin=4, multiple=1, offset=0)(row))
    assert answer.shape == (1, 9, 11, 1)
    np.testing.assert_array_equal(answer[0, 0, :, 0], [1, 2, 3, 2, 1, 2, 3, 2, 1, 2, 3])
    assert (answer == answer[:, :1]).all()  # one row, mirrored, is itself


@pytest.mark.parametrize(("margin", "multiple", "offset"), [(0, 1, 0), (8, 2, 0), (20, 4, 3), (44, 8, 4)])
@pytest.mark.parametrize("size", SIZES)
def test_it_mirrors_as_numpy_does_up_to_the_least_size_that_fits(size, margin, multiple, offset):
    beyond = [margin, margin]
    for axis, side in enumerate(size):
        while (margin + side + beyond[axis] - offset) % multiple:
            beyond[axis] += 1
    expected = np.pad(image(size), ((0, 0), (margin, beyond[0]), (margin, beyond[1]), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(MirrorToFit(margin, multiple, offset)(image(size)), expected)


@pytest.mark.parametrize("layer", [PadToMultiple(4), MirrorToFit(20, 4, 3)])
@pytest.mark.parametrize("size", SIZES)
def test_a_graph_that_knows_no_size_gives_the_same(size, layer):
    np.testing.assert_array_equal(in_graph(layer, image(size)), layer(image(size)))


def test_a_graph_that_knows_no_size_crops_the_same():
    x, like = image((7, 9)), image((5, 9), channels=1)
    np.testing.assert_array_equal(in_graph(CropLike(), x, like), x[:, :5])


def test_sizes_are_told_as_far_as_they_are_known():
    some = keras.Input((5, None, 3))
    assert PadToMultiple(4)(some).shape == (None, 8, None, 3)
    assert MirrorToFit(8, 4, 1)(some).shape == (None, 21, None, 3)
    assert CropLike()(keras.Input((8, 8, 7)), some).shape == (None, 5, None, 7)


@pytest.mark.parametrize("layer", [PadToMultiple(4, dtype="float16"), MirrorToFit(8, 2, 0, dtype="float16")])
def test_16_bits_stay_16_bits(layer):
    assert layer(image((5, 7)).astype("float16")).dtype == "float16"
    assert layer(keras.Input((5, 7, 2), dtype="float16")).dtype == "float16"


def test_a_saved_network_answers_the_same(tmp_path):
    inputs = keras.Input((None, None, 2))
    mirrored, padded = MirrorToFit(8, 4, 3)(inputs), PadToMultiple(16)(inputs)
    network = keras.Model(inputs, [mirrored, padded, CropLike()(padded, inputs)])
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    for first, second in zip(network(image((5, 7))), again(image((5, 7))), strict=True):
        np.testing.assert_array_equal(first, second)
