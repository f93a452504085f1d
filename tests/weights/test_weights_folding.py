"""Batch normalization that is worked into convolutions: the same answers with fewer operations."""

import keras
import numpy as np
import pytest
from keras import layers

from kerastoolkit.models import resnet18, yolov3_tiny, yolov8n
from kerastoolkit.weights.folding import fold_batch_norms


def used(network):
    """The network as after some training: other averages, scales and offsets than at first."""
    generator = np.random.default_rng(0)
    for variable in network.variables:
        if variable.name in ("moving_variance", "gamma"):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("moving_mean", "beta"):
            variable.assign(generator.normal(0, 0.3, variable.shape))
    return network


def image(height=32, width=64):
    return np.random.default_rng(1).uniform(size=(2, height, width, 3)).astype(np.float32)


def norms(network):
    return [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]


def made(build):
    x = keras.Input((32, 64, 3))
    return used(keras.Model(x, build(x)))


@pytest.mark.parametrize("builder", [yolov8n, yolov3_tiny, resnet18])
def test_networks_answer_the_same_without_their_batch_norms(builder):
    network = used(builder(classes=3, input_shape=(32, 64, 3)))
    folded = fold_batch_norms(network)
    assert norms(network) and not norms(folded)
    answers, expected = folded(image()), network(image(), training=False)
    for found, wanted in zip(keras.tree.flatten(answers), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("options", [{"center": False}, {"scale": False}, {"epsilon": 0.1}])
@pytest.mark.parametrize("use_bias", [False, True])
def test_a_bias_and_what_a_normalization_lacks_are_kept(options, use_bias):
    convolution = layers.Conv2D(4, 3, use_bias=use_bias, bias_initializer="ones")
    network = made(lambda x: layers.BatchNormalization(**options)(convolution(x)))
    folded = fold_batch_norms(network)
    assert not norms(folded)
    np.testing.assert_allclose(folded(image()), network(image(), training=False), atol=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(x)),
        lambda x: layers.Add()([(y := layers.Conv2D(4, 3)(x)), layers.BatchNormalization()(y)]),
        lambda x: [(y := layers.Conv2D(4, 3)(x)), layers.BatchNormalization()(y)],
        lambda x: layers.BatchNormalization(axis=1)(layers.Conv2D(4, 3)(x)),
        lambda x: layers.Add()([(y := layers.Conv2D(3, 3, padding="same"))(x), layers.BatchNormalization()(y(x + 1))]),
        lambda x: layers.BatchNormalization()(layers.DepthwiseConv2D(3)(x)),
    ],
    ids=["activation", "output_taken_twice", "output_of_the_network", "another_axis", "layer_used_twice", "depthwise"],
)
def test_what_cannot_be_folded_stays_and_answers_the_same(build):
    network = made(build)
    folded = fold_batch_norms(network)
    assert len(norms(folded)) == len(norms(network)) == 1
    answers, expected = folded(image()), network(image(), training=False)
    for found, wanted in zip(keras.tree.flatten(answers), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_network_itself_is_left_as_it_is_and_the_copy_does_not_follow_it():
    network = made(lambda x: layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))
    before = network(image(), training=False)
    folded = fold_batch_norms(network)
    np.testing.assert_array_equal(network(image(), training=False), before)
    norms(network)[0].beta.assign_add(np.ones(4, np.float32))
    np.testing.assert_allclose(folded(image()), before, atol=1e-5)


def test_a_folded_network_is_saved_and_loaded(tmp_path):
    folded = fold_batch_norms(used(yolov8n(classes=3, input_shape=(32, 64, 3))))
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    np.testing.assert_array_equal(loaded(image())["boxes"], folded(image())["boxes"])
