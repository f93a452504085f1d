"""Losses of autoencoders against SciPy's densities, a variational autoencoder's gradients against differences, and losses of word
vectors worked out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit
from scipy.stats import bernoulli, norm

from kerastoolkit import models
from kerastoolkit.losses import (
    bernoulli_nll,
    gaussian_nll,
    glove_loss,
    hierarchical_softmax,
    image_nll,
    negative_sampling,
    softmax_cross_entropy,
    squared_error,
    sum_per_example,
)

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


# Word vectors. A logit of ln 3 is a probability of 3/4, and one of 0 is 1/2.


def floats(values):
    return tf.constant(values, "float32")


def test_negative_sampling_is_minus_the_logarithms_of_real_pairs_and_of_noise_being_none():
    outputs = {"positive": floats([[np.log(3), 0], [0, -np.log(3)]]), "negative": floats([[np.log(3)], [0]])}
    targets = {"positive": tf.ones((2, 2)), "negative": tf.ones((2, 1))}
    # 3/4, 1/2 and 1 - 3/4; 1/2, 1/4 and 1 - 1/2.
    expected = [np.log(4 / 3) + np.log(2) + np.log(4), np.log(2) + np.log(4) + np.log(2)]
    np.testing.assert_allclose(negative_sampling(targets, outputs), expected, rtol=1e-6)


def test_negative_sampling_counts_a_pair_as_often_as_its_weight_says():
    outputs = {"positive": floats([[[np.log(3), 0], [5, -7]]]), "negative": floats([[[np.log(3), 0, 9], [2, 3, 4]]])}
    targets = {"positive": floats([[[1, 0.5], [0, 0]]]), "negative": floats([[[2.5, 3, 0], [0, 0, 0]]])}
    expected = np.log(4 / 3) + 0.5 * np.log(2) + 2.5 * np.log(4) + 3 * np.log(2)
    np.testing.assert_allclose(negative_sampling(targets, outputs), [expected], rtol=1e-6)


def test_weights_of_negative_sampling_are_those_of_all_that_they_broadcast_to():
    outputs = {"positive": numbers(0, (2, 4, 3)), "negative": numbers(1, (2, 4, 5))}
    narrow = {"positive": numbers(2, (2, 4, 1)), "negative": numbers(3, (2, 1, 5))}
    wide = {"positive": np.repeat(narrow["positive"], 3, axis=2), "negative": np.repeat(narrow["negative"], 4, axis=1)}
    np.testing.assert_allclose(negative_sampling(narrow, outputs), negative_sampling(wide, outputs), rtol=1e-5)
    pairs = wide["positive"] * np.log1p(np.exp(-outputs["positive"])), wide["negative"] * np.log1p(np.exp(outputs["negative"]))
    np.testing.assert_allclose(negative_sampling(narrow, outputs), summed(pairs[0]) + summed(pairs[1]), rtol=1e-4)


def test_hierarchical_softmax_is_minus_the_logarithm_of_the_whole_way():
    outputs = {"branches": floats([[[np.log(3), np.log(3), 0]], [[-np.log(3), -np.log(3), 0]]])}
    targets = {"left": floats([[[1, 0, 1]], [[1, 0, 0]]]), "weights": tf.ones((2, 1, 3))}
    # Left with 3/4, right with 1 - 3/4, left with 1/2; left with 1/4, right with 1 - 1/4, right with 1/2.
    expected = [-np.log(3 / 4 * 1 / 4 * 1 / 2), -np.log(1 / 4 * 3 / 4 * 1 / 2)]
    np.testing.assert_allclose(hierarchical_softmax(targets, outputs), expected, rtol=1e-6)


def test_hierarchical_softmax_leaves_out_what_has_no_weight():
    outputs = {"branches": floats([[[np.log(3), 5], [7, -9]]])}
    targets = {"left": floats([[[1, 0], [0, 1]]]), "weights": floats([[[1, 0], [0, 0]]])}
    np.testing.assert_allclose(hierarchical_softmax(targets, outputs), [np.log(4 / 3)], rtol=1e-6)


def test_turns_of_hierarchical_softmax_are_those_of_all_neighbours_that_they_broadcast_to():
    outputs, left, weights = {"branches": numbers(0, (2, 3, 4, 5))}, bits(1, (2, 3, 1, 5)), bits(2, (2, 3, 4, 1))
    wide = {"left": np.repeat(left, 4, axis=2), "weights": np.repeat(weights, 5, axis=3)}
    expected = -summed(wide["weights"] * bernoulli.logpmf(wide["left"], expit(outputs["branches"].astype("float64"))))
    np.testing.assert_allclose(hierarchical_softmax({"left": left, "weights": weights}, outputs), expected, rtol=1e-5)


def test_probabilities_of_all_leaves_of_a_tree_add_up_to_one():
    # Of three leaves: left; right and left; right and right.
    branches, left, weights = floats([[0.7, -1.3]] * 3), floats([[1, 0], [0, 1], [0, 0]]), floats([[1, 0], [1, 1], [1, 1]])
    losses = hierarchical_softmax({"left": left, "weights": weights}, {"branches": branches})
    assert np.exp(-np.asarray(losses)).sum() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(
    ("count", "weight"),
    [
        (1.0, (1 / 100) ** 0.75),
        (16.0, 8 / 10**1.5),
        (100.0, 1.0),
        (1e6, 1.0),
    ],
)
def test_glove_weighs_squared_errors_of_logarithms_by_equation_9(count, weight):
    # The score is 3 more than the logarithm; half of the square is 4.5.
    outputs = {"log_counts": floats([[np.log(count) + 3]])}
    np.testing.assert_allclose(glove_loss(floats([[count]]), outputs), [4.5 * weight], rtol=1e-5)


def test_glove_takes_another_x_max_and_another_alpha():
    outputs = {"log_counts": floats([[2.0, 2.0 + np.log(40)]])}
    # (1 / 4) ** (1 / 2) = 1/2, and 40 is above 4.
    np.testing.assert_allclose(glove_loss(floats([[1, 40]]), outputs, x_max=4, alpha=0.5), [2 * 0.5 + 2 * 1], rtol=1e-6)


def test_glove_adds_up_the_entries_of_each_example_and_leaves_out_counts_of_zero():
    counts = floats([[100, 0, 200], [0, 0, 0]])
    outputs = {"log_counts": floats([[np.log(100) + 1, 50, np.log(200) - 2], [1, -1, 1e6]])}
    np.testing.assert_allclose(glove_loss(counts, outputs), [0.5 + 2, 0], rtol=1e-5)


def gradient(loss, targets, outputs):
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        value = loss(targets, outputs)
    return np.asarray(value), {key: np.asarray(each) for key, each in tape.gradient(value, outputs).items()}


def test_gradients_of_negative_sampling_are_word2vecs_errors():
    outputs = {"positive": floats([[np.log(3), 1]]), "negative": floats([[np.log(3), 1]])}
    targets = {"positive": floats([[1, 0]]), "negative": floats([[2, 0]])}
    _, found = gradient(negative_sampling, targets, outputs)
    # Score less label, times weight: 3/4 - 1 and 2 * (3/4 - 0).
    np.testing.assert_allclose(found["positive"], [[-0.25, 0]], rtol=1e-6)
    np.testing.assert_allclose(found["negative"], [[1.5, 0]], rtol=1e-6)


def test_logits_however_large_have_finite_losses_and_gradients():
    large, ones, sides = [[1e4, -1e4, 1e30, -1e30]], tf.ones((1, 4)), floats([[0, 0, 0, 1]])
    outputs = {"positive": floats(large), "negative": floats(large)}
    value, found = gradient(negative_sampling, {"positive": ones, "negative": ones}, outputs)
    assert value == pytest.approx(2e30, rel=1e-6)
    np.testing.assert_array_equal(found["positive"], [[0, -1, 0, -1]])
    np.testing.assert_array_equal(found["negative"], [[1, 0, 1, 0]])
    value, found = gradient(hierarchical_softmax, {"left": sides, "weights": ones}, {"branches": floats(large)})
    assert value == pytest.approx(2e30, rel=1e-6)
    np.testing.assert_array_equal(found["branches"], [[1, 0, 1, -1]])


def test_what_has_no_weight_has_no_gradient_however_large():
    large, none = floats([[1e30, -1e30]]), tf.zeros((1, 2))
    for loss, targets, outputs in [
        (negative_sampling, {"positive": none, "negative": none}, {"positive": large, "negative": large}),
        (hierarchical_softmax, {"left": none, "weights": none}, {"branches": large}),
        (glove_loss, none, {"log_counts": floats([[1e15, -1e15]])}),
    ]:
        value, found = gradient(loss, targets, outputs)
        assert not value.any() and not any(each.any() for each in found.values())


@pytest.mark.parametrize("shape", [(3, 5), (None, None)])
def test_softmax_cross_entropy_is_minus_the_logarithm_of_the_labels_share_however_many_classes_there_are(shape):
    logits = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    labels = np.array([4, 0, 2])
    found = tf.function(softmax_cross_entropy, input_signature=[tf.TensorSpec((None,), tf.int64), tf.TensorSpec(shape)])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found(labels, logits), -np.log(shares[np.arange(3), labels]), rtol=1e-5)
