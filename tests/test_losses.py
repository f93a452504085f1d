"""Losses of autoencoders against SciPy's densities, and a variational autoencoder's gradients against differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit
from scipy.stats import bernoulli, norm

from kerastoolkit import models
from kerastoolkit.losses import bernoulli_nll, gaussian_nll, image_nll, squared_error, sum_per_example

SHAPE = (3, 4, 5, 2)


def numbers(seed, shape=SHAPE, scale=2.0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype("float32")


def bits(seed, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 2, size=shape).astype("float32")


def summed(values):
    return values.reshape(len(values), -1).sum(axis=1)


def test_the_sum_per_example_is_over_all_axes_but_the_first():
    np.testing.assert_array_equal(sum_per_example(tf.reshape(tf.range(12.0), (2, 3, 2))), [15, 51])
    np.testing.assert_array_equal(sum_per_example(tf.constant([1.0, 2.0])), [1, 2])


def test_squared_error_is_summed_and_not_averaged():
    targets, outputs = np.array([[[1.0, 2.0]], [[0.0, 0.5]]]), np.array([[[0.0, 4.0]], [[0.5, 0.5]]])
    np.testing.assert_allclose(squared_error(targets, outputs), [1 + 4, 0.25], rtol=1e-6)


def test_bernoulli_nll_is_the_sum_of_scipys_log_probabilities():
    targets, logits = bits(0), numbers(1)
    expected = -summed(bernoulli.logpmf(targets, expit(logits.astype("float64"))))
    np.testing.assert_allclose(bernoulli_nll(targets, logits), expected, rtol=1e-5)


def test_bernoulli_nll_of_a_share_of_ones_is_that_share_of_both_costs():
    logits = numbers(1)
    costs = [np.asarray(bernoulli_nll(np.full(SHAPE, value, "float32"), logits)) for value in (0.0, 0.25, 1.0)]
    np.testing.assert_allclose(costs[1], 0.75 * costs[0] + 0.25 * costs[2], rtol=1e-5)


def test_bernoulli_nll_of_a_sure_mistake_is_the_logit():
    # ln(1 + exp(200)) is 200 where its probability, rounded, would be 0.
    assert float(bernoulli_nll(tf.zeros((1, 1)), tf.fill((1, 1), 200.0))[0]) == pytest.approx(200)


def test_gaussian_nll_is_the_sum_of_scipys_log_densities():
    targets, mean, log_variance = numbers(0), numbers(1), numbers(2, scale=1.0)
    expected = -summed(norm.logpdf(targets, mean, np.exp(log_variance / 2)))
    np.testing.assert_allclose(gaussian_nll(targets, mean, log_variance), expected, rtol=1e-5)


def test_images_whose_decoder_gives_logits_alone_are_bernoulli():
    targets, logits = bits(0), numbers(1)
    np.testing.assert_array_equal(image_nll(targets, {"logits": logits}), bernoulli_nll(targets, logits))


def test_images_whose_decoder_gives_a_variance_are_gaussian_about_the_sigmoid():
    targets, logits, spread = bits(0), numbers(1), numbers(2, scale=1.0)
    expected = -summed(norm.logpdf(targets, expit(logits), np.exp(spread / 2)))
    answer = image_nll(targets, {"logits": logits, "pixel_log_variance": spread})
    np.testing.assert_allclose(answer, expected, rtol=1e-5)


@pytest.fixture
def double_precision():
    policy, floats = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floats)
    keras.config.set_dtype_policy(policy)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_gradients_of_the_bound_by_every_weight_are_those_of_central_differences(likelihood):
    keras.utils.set_random_seed(0)
    network = models.variational_autoencoder(
        input_shape=(3, 4, 1), filters=(2,), hidden=(3,), activation="tanh", likelihood=likelihood, beta=1.5, free_bits=0.01
    )
    generator = np.random.default_rng(1)
    images = tf.constant(generator.uniform(size=(5, 3, 4, 1)))
    noise = network.get_layer("sample").seed_generator.state
    first = noise.numpy()
    for weight in network.trainable_variables:  # biases too are away from 0
        weight.assign(generator.normal(scale=0.5, size=weight.shape))

    @tf.function
    def bound():
        noise.assign(first)  # the same draws each time
        outputs = network(images, training=True)
        return tf.reduce_mean(image_nll(images, outputs)) + tf.add_n(network.losses)

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            value = bound()
        return tape.gradient(value, [weight.value for weight in network.trainable_variables])

    assert bound().dtype == tf.float64 and float(bound()) == float(bound())
    step = 1e-5
    for weight, gradient in zip(network.trainable_variables, gradients(), strict=True):
        value, differences = weight.numpy(), np.zeros(weight.shape)
        for place in np.ndindex(*weight.shape):
            for sign in (1, -1):
                moved = value.copy()
                moved[place] += sign * step
                weight.assign(moved)
                differences[place] += sign * float(bound()) / (2 * step)
        weight.assign(value)
        np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-7, err_msg=weight.path)
        assert np.abs(differences).max() > 1e-4, weight.path
