"""RoIAlign of a pyramid: each region from its own level and image, in a graph that knows no size, and saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import RoiAlign
from kerastoolkit.regions.alignment import roi_align

# Of each a region of a level: those of up to 112 pixels are read from P2, and from 224, 448 and more on from P4 and P5.
REGIONS = np.array([[[8, 4, 60, 90], [0, 0, 120, 130], [9, 9, 240, 256], [-20, 16, 500, 470], [0, 0, 0, 0]],
                    [[100, 7, 400, 256], [64, 64, 96, 80], [300, 310, 301, 311], [0, 0, 512, 512], [250, 0, 420, 130]]],
                   "float32")  # fmt: skip
LEVELS = [[0, 1, 2, 3, 0], [2, 0, 0, 3, 1]]


def levels(batch=2, channels=3, count=4):
    random = np.random.default_rng(0)
    return [random.normal(size=(batch, 128 >> level, 128 >> level, channels)).astype("float32") for level in range(count)]


@pytest.mark.parametrize("aligned", [True, False])
def test_each_region_is_read_from_its_own_level_and_image(aligned):
    found = RoiAlign(3, aligned)(levels(), REGIONS)
    assert found.shape == (2, 5, 3, 3, 3)
    for example, number in np.ndindex(2, 5):
        level, zero = LEVELS[example][number], tf.constant([0])
        maps, box = levels()[level][example][None], REGIONS[example, number] / (4 << level)
        expected = roi_align([maps], box[None], zero, zero, 3, aligned=aligned)[0]
        np.testing.assert_allclose(found[example, number], expected, rtol=1e-4, atol=1e-4)


def test_pixels_centres_are_at_halves_by_default():
    # A level of stride 4 whose values are its columns: around pixel 8 lie the columns 1 and 2, with centres at 6 and 10.
    ramp = np.tile(np.arange(6, dtype="float32")[:, None], (1, 6, 1, 1))
    region = np.array([[[4, 4, 12, 12]]], "float32")
    np.testing.assert_allclose(RoiAlign(1)([ramp], region), [[[[[1.5]]]]], rtol=1e-6)
    np.testing.assert_allclose(RoiAlign(1, aligned=False)([ramp], region), [[[[[2]]]]], rtol=1e-6)


def test_regions_for_levels_that_there_are_not_are_read_from_the_last():
    two = RoiAlign(2)(levels(count=2), REGIONS)
    np.testing.assert_allclose(two[0, 3], RoiAlign(2)([levels()[1]] * 2, REGIONS)[0, 3], rtol=1e-5, atol=1e-5)
    assert np.any(two[0, 3] != RoiAlign(2)(levels(), REGIONS)[0, 3])


def test_slopes_go_to_the_levels_and_not_to_the_regions():
    maps, regions = [tf.constant(each) for each in levels()], tf.constant(REGIONS)
    with tf.GradientTape() as tape:
        tape.watch([maps, regions])
        value = tf.reduce_sum(RoiAlign(3)(maps, regions))
    *of_maps, of_regions = tape.gradient(value, [*maps, regions])
    assert of_regions is None
    # The weights of a bin within the map are 1 in all: of each region in it 9 bins and 3 channels.
    inside = [tf.reduce_sum(each).numpy() for each in of_maps]
    np.testing.assert_allclose(inside[1:3], [2 * 27, 2 * 27], rtol=1e-5)
    assert inside[0] == pytest.approx(4 * 27, rel=1e-5) and 27 < inside[3] <= 2 * 27


def test_of_no_regions_there_is_nothing():
    assert RoiAlign(7)(levels(), np.zeros((2, 0, 4), "float32")).shape == (2, 0, 7, 7, 3)


def test_a_graph_that_knows_no_size_gives_the_same():
    layer = RoiAlign(3)
    graph = tf.function(lambda maps, regions: layer(maps, regions), input_signature=[
        [tf.TensorSpec((None, None, None, 3))] * 4, tf.TensorSpec((None, None, 4))])  # fmt: skip
    for batch, n in ((2, 5), (1, 2)):
        maps, regions = levels(batch), REGIONS[:batch, :n]
        np.testing.assert_allclose(graph(maps, regions), layer(maps, regions), rtol=1e-5, atol=1e-5)


def test_16_bits_are_read_where_the_layer_is_told_to_answer_in_32():
    maps = [tf.cast(each, "bfloat16") for each in levels()]
    found = RoiAlign(3, dtype="float32")(maps, REGIONS)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, RoiAlign(3)([tf.cast(each, "float32") for each in maps], REGIONS), rtol=1e-5, atol=1e-5)


def test_sizes_are_told_as_far_as_they_are_known():
    maps = [keras.Input((None, None, 3)) for _ in range(4)]
    assert RoiAlign(7)(maps, keras.Input((None, 4))).shape == (None, None, 7, 7, 3)
    assert RoiAlign(14)(maps, keras.Input((100, 4))).shape == (None, 100, 14, 14, 3)


def test_a_saved_network_answers_the_same(tmp_path):
    inputs = [[keras.Input((None, None, 3)) for _ in range(4)], keras.Input((None, 4))]
    network = keras.Model(inputs, RoiAlign(3, aligned=False)(*inputs))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(again([levels(), REGIONS]), network([levels(), REGIONS]))
    assert np.any(network([levels(), REGIONS]) != RoiAlign(3)(levels(), REGIONS))
