"""Masks of each region's own class against those of all classes, of which one is chosen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import ClassMasks

CLASSES = 4
LABELS = np.array([[0, 3, 1], [2, 2, 0]], "int32")


def features(seed=0):
    return np.random.default_rng(seed).normal(size=(6, 5, 7, 3)).astype("float32")


def both():
    """The layer, and a convolution to all classes and the background with the same weights."""
    layer, whole = ClassMasks(CLASSES), keras.layers.Conv2D(1 + CLASSES, 1)
    layer(features(), LABELS), whole(features())
    random = np.random.default_rng(1)
    weights = [random.normal(size=weight.shape) for weight in whole.get_weights()]
    layer.set_weights(weights), whole.set_weights(weights)
    return layer, whole


def chosen(masks):
    """Of the masks of all classes (regions, height, width, 1 + classes) each region's own."""
    return tf.stack([tf.stack([masks[3 * i + j, ..., 1 + LABELS[i, j]] for j in range(3)]) for i in range(2)])


def test_a_mask_is_that_of_its_class_among_those_of_all():
    layer, whole = both()
    found = layer(features(), LABELS)
    assert found.shape == (2, 3, 5, 7) and found.dtype == tf.float32
    np.testing.assert_allclose(found, chosen(whole(features())), rtol=1e-4, atol=1e-5)


def test_slopes_are_those_of_the_masks_of_all():
    layer, whole = both()
    factors, slopes = np.random.default_rng(2).normal(size=(2, 3, 5, 7)).astype("float32"), []
    for network, answer in ((layer, lambda x: layer(x, LABELS)), (whole, lambda x: chosen(whole(x)))):
        with tf.GradientTape() as tape:
            tape.watch(x := tf.constant(features()))
            value = tf.reduce_sum(answer(x) * factors)
        slopes.append(tape.gradient(value, [x, *network.trainable_weights]))
    assert len(slopes[0]) == 3
    for found, expected in zip(*slopes, strict=True):
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(tf.convert_to_tensor(found), expected, rtol=1e-4, atol=1e-4)


def test_its_weights_are_those_of_a_convolution_of_all_classes_and_the_background():
    layer, whole = both()
    assert [(each.name, tuple(each.shape)) for each in layer.weights] == [("kernel", (1, 1, 3, 5)), ("bias", (5,))]
    assert [tuple(each.shape) for each in whole.weights] == [tuple(each.shape) for each in layer.weights]


def test_regions_without_a_class_are_no_hindrance():
    layer, _ = both()
    labels = np.where(LABELS == 2, -2, LABELS)
    found, expected = layer(features(), labels), layer(features(), LABELS)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found.numpy()[LABELS != 2], expected.numpy()[LABELS != 2])


def test_of_no_regions_there_are_no_masks():
    layer, _ = both()
    assert layer(np.zeros((0, 5, 7, 3), "float32"), np.zeros((2, 0), "int32")).shape == (2, 0, 5, 7)


def test_masks_are_float32_where_the_layer_computes_in_16_bits():
    layer = ClassMasks(CLASSES, dtype="mixed_bfloat16")
    found = layer(features(), LABELS)
    assert found.dtype == tf.float32 and {each.dtype for each in layer.weights} == {"float32"}
    assert layer(keras.Input((5, 7, 3)), keras.Input((3,), dtype="int32")).dtype == "float32"


@pytest.mark.parametrize("regions", [None, 3])
def test_sizes_are_told_as_far_as_they_are_known(regions):
    found = ClassMasks(CLASSES)(keras.Input((5, 7, 3)), keras.Input((regions,), dtype="int32"))
    assert found.shape == (None, regions, 5, 7)


def test_a_graph_that_knows_no_size_gives_the_same():
    layer, _ = both()
    graph = tf.function(lambda x, labels: layer(x, labels), input_signature=[
        tf.TensorSpec((None, 5, 7, 3)), tf.TensorSpec((None, None), tf.int32)])  # fmt: skip
    np.testing.assert_allclose(graph(features(), LABELS), layer(features(), LABELS), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(graph(features()[:2], LABELS[:1, :2]), layer(features()[:2], LABELS[:1, :2]), rtol=1e-5, atol=1e-5)


def test_a_saved_network_answers_the_same(tmp_path):
    inputs = [keras.Input((5, 7, 3)), keras.Input((3,), dtype="int32")]
    layer, _ = both()
    network = keras.Model(inputs, layer(*inputs))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(again([features(), LABELS]), network([features(), LABELS]))
