"""Anchors of a pyramid by hand, in a graph that knows no size, and saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import PyramidAnchors

SIZES = [32, 64]


def levels(height=2, width=3, batch=2):
    """Two levels of a pyramid, of strides 4 and 8, and the image."""
    sizes = (2 * height, 2 * width, 5), (height, width, 5), (8 * height, 8 * width, 3)
    *found, image = (np.zeros((batch, *size), "float32") for size in sizes)
    return found, image


def test_anchors_lie_a_stride_apart_from_the_corner_on_in_torchvisions_shapes():
    fine, coarse = PyramidAnchors(SIZES)(*levels())
    assert fine.shape == (2, 4 * 6 * 3, 4) and coarse.shape == (2, 2 * 3 * 3, 4)
    # Heights of half, one and two widths at (0, 0); then a stride to the right; after 6 columns a stride down.
    np.testing.assert_array_equal(fine[0, :3], [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]])
    np.testing.assert_array_equal(fine[0, 3:6], [[-19, -11, 27, 11], [-12, -16, 20, 16], [-7, -23, 15, 23]])
    np.testing.assert_array_equal(fine[0, 18], [-23, -7, 23, 15])
    # 64^2: 90.51 x 45.25; the last place is in row 1 and column 2.
    np.testing.assert_array_equal(coarse[0, 0], [-45, -23, 45, 23])
    np.testing.assert_array_equal(coarse[0, -3:], [[-29, -15, 61, 31], [-16, -24, 48, 40], [-7, -37, 39, 53]])


def test_all_examples_have_the_same_anchors():
    for found in PyramidAnchors(SIZES)(*levels(batch=3)):
        assert len(found) == 3 and found.dtype == tf.float32
        np.testing.assert_array_equal(found[1:], tf.stack([found[0]] * 2))


def test_ratios_are_heights_over_widths():
    (fine, _), image = levels()
    (found,) = PyramidAnchors([20], ratios=(4.0,))([fine], image)
    np.testing.assert_array_equal(found[0, 0], [-5, -20, 5, 20])


def test_places_are_as_many_whole_pixels_apart_as_fit_into_the_image():
    # 9 x 13 places in 160 x 224 pixels: 17 down and 17 to the right; of 5 x 7 places 32.
    image, fine, coarse = (np.zeros((1, *size, 1), "float32") for size in ((160, 224), (9, 13), (5, 7)))
    for level, stride in ((fine, (17, 17)), (coarse, (32, 32))):
        (found,) = PyramidAnchors([20], ratios=(1.0,))([level], image)
        rows = np.asarray(found[0]).reshape(*level.shape[1:3], 4)
        np.testing.assert_array_equal(rows[1, 1] - rows[0, 0], [stride[1], stride[0]] * 2)


def test_as_many_levels_are_needed_as_sizes():
    (fine, _), image = levels()
    with pytest.raises(ValueError):
        PyramidAnchors(SIZES)([fine], image)


def test_a_graph_that_knows_no_size_gives_the_same():
    layer, spec = PyramidAnchors(SIZES), tf.TensorSpec((None, None, None, None))
    graph = tf.function(layer, input_signature=[[spec for _ in SIZES], spec])
    for size in ((2, 3, 2), (5, 1, 1)):
        for found, expected in zip(graph(*levels(*size)), layer(*levels(*size)), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("size", "counts"), [((4, 6), (72, 18)), ((None, 6), (None, None)), ((4, None), (None, None))])
def test_sizes_are_told_as_far_as_they_are_known(size, counts):
    coarse = [each and each // 2 for each in size]
    found = PyramidAnchors(SIZES)([keras.Input((*each, 5)) for each in (size, coarse)], keras.Input((None, None, 3)))
    assert [(each.shape, each.dtype) for each in found] == [((None, count, 4), "float32") for count in counts]


def test_a_saved_network_answers_the_same(tmp_path):
    inputs, image = [keras.Input((None, None, 5)) for _ in SIZES], keras.Input((None, None, 3))
    network = keras.Model([inputs, image], PyramidAnchors(SIZES, ratios=(0.5, 3.0))(inputs, image))
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    for found, expected in zip(loaded(list(levels())), network(list(levels())), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_where_sizes_double_from_level_to_level_they_are_keras_hubs():
    from keras_hub.layers import AnchorGenerator

    image = np.zeros((1, 160, 224, 3), "float32")
    pyramid = [np.zeros((1, -(-160 // 2**level), -(-224 // 2**level), 1), "float32") for level in range(2, 7)]
    theirs = AnchorGenerator("xyxy", 2, 6, 1, [0.5, 1.0, 2.0], 8)(image)
    for found, level in zip(PyramidAnchors([32, 64, 128, 256, 512])(pyramid, image), range(2, 7), strict=True):
        np.testing.assert_array_equal(found[0], theirs[f"P{level}"])
