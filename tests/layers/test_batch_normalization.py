"""The fused layer against Keras' own, which is made of keras.ops."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import BatchNormalization

SHAPES = [(8, 5, 6, 3), (2, 1, 1, 4), (16, 4, 4, 1)]


def both(shape, **arguments):
    generator = np.random.default_rng(0)
    layers = [BatchNormalization(**arguments), keras.layers.BatchNormalization(**arguments)]
    for layer in layers:
        layer.build(shape)
    for ours, theirs in zip(layers[0].weights, layers[1].weights, strict=True):
        value = np.abs(generator.normal(1, 0.3, size=ours.shape))
        ours.assign(value)
        theirs.assign(value)
    return layers


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("arguments", [{}, {"center": False}, {"scale": False}, {"momentum": 0.5, "epsilon": 1e-5}])
def test_outputs_gradients_and_moving_averages_are_those_of_keras(shape, training, arguments):
    layers = both(shape, **arguments)
    x = tf.constant(np.random.default_rng(1).normal(2, 3, size=shape), tf.float32)
    weights = tf.constant(np.random.default_rng(2).normal(size=shape), tf.float32)
    results = []
    for layer in layers:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(y * weights)
        variables = [variable.value for variable in layer.trainable_variables]
        gradients = tape.gradient(loss, [x, *variables])
        results.append([y, *gradients, *[variable.numpy() for variable in layer.variables]])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4)


def test_the_variance_of_eight_values_is_the_biased_one():
    # Of 1 .. 8: sum of squares about the mean 42, 42 / 8 = 5.25; the fused kernel says 42 / 7 = 6.
    layer = BatchNormalization(momentum=0.0)
    layer(tf.reshape(tf.range(1.0, 9.0), (8, 1, 1, 1)), training=True)
    assert layer.moving_mean.numpy() == pytest.approx([4.5])
    assert layer.moving_variance.numpy() == pytest.approx([5.25], rel=1e-5)


def test_a_layer_that_is_not_trainable_keeps_its_moving_averages():
    layer = BatchNormalization(trainable=False)
    x = tf.random.stateless_normal((4, 3, 3, 2), (0, 1)) + 5.0
    y = layer(x, training=True)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), [0, 0])
    np.testing.assert_allclose(y, x / np.sqrt(1.001), rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_runs_in_a_compiled_function(jit_compile):
    ours, theirs = both((8, 4, 4, 3))
    x = tf.random.stateless_normal((8, 4, 4, 3), (0, 1))
    y = tf.function(lambda x: ours(x, training=True), jit_compile=jit_compile)(x)
    np.testing.assert_allclose(y, theirs(x, training=True), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_gives_half_precision(dtype):
    layer = BatchNormalization(dtype=dtype)
    y = layer(tf.random.stateless_normal((8, 4, 4, 3), (0, 1)) + 3.0, training=True)
    assert y.dtype == dtype.removeprefix("mixed_")
    np.testing.assert_allclose(tf.reduce_mean(tf.cast(y, tf.float32), axis=(0, 1, 2)), np.zeros(3), atol=0.02)
