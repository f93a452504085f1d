"""The posterior's sample and its divergence, against integrals and numbers worked out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import quad
from scipy.stats import norm

from kerastoolkit.layers import GaussianSample
from kerastoolkit.layers.gaussian_sample import kl_to_standard_normal


def cost(layer, mean, log_variance):
    """What one call adds to the loss."""
    layer([tf.constant(mean, "float32"), tf.constant(log_variance, "float32")])
    (added,) = layer.losses
    return float(added)


@pytest.mark.parametrize(("mean", "log_variance"), [(0.0, 0.0), (1.3, 0.0), (-0.7, -2.0), (0.4, 1.5)])
def test_the_divergence_is_the_integral_of_q_log_q_by_p(mean, log_variance):
    deviation = np.exp(log_variance / 2)
    posterior = norm(mean, deviation)
    ends = mean - 12 * deviation, mean + 12 * deviation
    integral, _ = quad(lambda z: posterior.pdf(z) * (posterior.logpdf(z) - norm.logpdf(z)), *ends, epsabs=1e-10)
    ours = kl_to_standard_normal(tf.constant(mean, "float32"), tf.constant(log_variance, "float32"))
    assert float(ours) == pytest.approx(integral, abs=1e-6)


def test_the_divergence_of_mean_2_and_variance_4_is_3_and_a_half_less_log_2():
    # (4 + 2 ** 2 - 1 - ln 4) / 2
    answer = kl_to_standard_normal(tf.constant([[2.0, 0.0]]), tf.constant([[np.log(4.0), 0.0]], tf.float32))
    np.testing.assert_allclose(answer, [[3.5 - np.log(2.0), 0.0]], rtol=1e-6)


def test_draws_have_the_mean_and_the_spread_that_they_are_given():
    mean, log_variance = np.array([1.5, -3.0], "float32"), np.array([-2.0, 1.0], "float32")
    draws = np.asarray(GaussianSample(seed=0)([np.tile(mean, (40_000, 1)), np.tile(log_variance, (40_000, 1))]))
    deviation = np.exp(log_variance / 2)
    np.testing.assert_allclose((draws.mean(axis=0) - mean) / deviation, [0, 0], atol=4 / np.sqrt(40_000))
    np.testing.assert_allclose(draws.std(axis=0), deviation, rtol=0.02)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.02


def test_gradients_pass_through_the_sample():
    # mean + exp(log_variance / 2) * noise: 1 by the mean, (sample - mean) / 2 by the log variance.
    mean, log_variance = tf.Variable([[0.5, -1.0]]), tf.Variable([[0.3, -0.4]])
    with tf.GradientTape() as tape:
        sample = GaussianSample(seed=0)([mean, log_variance])
    by_mean, by_log_variance = tape.gradient(sample, [mean, log_variance])
    np.testing.assert_array_equal(by_mean, [[1, 1]])
    np.testing.assert_allclose(by_log_variance, (sample - mean) / 2, rtol=1e-5)


def test_the_loss_added_is_beta_times_the_sum_over_dimensions_of_the_batchs_mean():
    # Halves of squared means 4, 0, 1, 1, 9, 1: 2.5 and 5.5 of the examples together, in a batch of 2.
    mean = [[2.0, 0.0, 1.0], [1.0, 3.0, 1.0]]
    assert cost(GaussianSample(beta=3.0), mean, np.zeros((2, 3))) == pytest.approx(3 * (2.5 + 5.5) / 2)


def test_a_later_call_replaces_the_loss_of_the_call_before():
    layer = GaussianSample()
    assert cost(layer, [[2.0]], [[0.0]]) == pytest.approx(2.0)
    assert cost(layer, [[4.0]], [[0.0]]) == pytest.approx(8.0)


def test_a_dimension_below_the_floor_costs_the_floor_and_one_above_it_costs_itself():
    # Divergences 0.1 ** 2 / 2 and 2 ** 2 / 2.
    assert cost(GaussianSample(free_bits=0.5), [[0.1, 2.0]], [[0.0, 0.0]]) == pytest.approx(0.5 + 2.0)


def test_a_dimension_below_the_floor_gets_no_gradient_and_one_above_it_gets_its_own():
    mean, log_variance = tf.Variable([[0.1, 2.0]]), tf.Variable([[0.2, 1.0]])
    layer = GaussianSample(free_bits=0.5)
    with tf.GradientTape() as tape:
        layer([mean, log_variance])
        (added,) = layer.losses
    by_mean, by_log_variance = tape.gradient(added, [mean, log_variance])
    np.testing.assert_allclose(by_mean, [[0.0, 2.0]], rtol=1e-6)  # d/dm of m ** 2 / 2
    np.testing.assert_allclose(by_log_variance, [[0.0, (np.e - 1) / 2]], rtol=1e-6)


def test_the_floor_is_under_the_mean_over_the_batch_and_not_under_each_example():
    # Divergences 0 and 2, on average 1; a floor of 0.5 under each would make it (0.5 + 2) / 2.
    assert cost(GaussianSample(free_bits=0.5), [[0.0], [2.0]], [[0.0], [0.0]]) == pytest.approx(1.0)


@pytest.mark.parametrize("training", [True, False])
def test_two_calls_draw_different_samples_in_training_and_outside(training):
    layer, inputs = GaussianSample(), [np.zeros((4, 3), "float32"), np.zeros((4, 3), "float32")]
    first, second = np.asarray(layer(inputs, training=training)), np.asarray(layer(inputs, training=training))
    assert (first != second).all()
    assert len(np.unique(first)) == 12  # one draw of its own for each number


def test_the_same_seed_draws_the_same_samples():
    inputs = [np.zeros((4, 3), "float32"), np.zeros((4, 3), "float32")]
    np.testing.assert_array_equal(GaussianSample(seed=5)(inputs), GaussianSample(seed=5)(inputs))


def test_a_saved_network_samples_and_costs_the_same(tmp_path):
    inputs = [keras.Input((3,)), keras.Input((3,))]
    network = keras.Model(inputs, GaussianSample(beta=2.0, free_bits=0.3, seed=7, name="sample")(inputs))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    x = [np.random.default_rng(n).normal(size=(5, 3)).astype("float32") for n in range(2)]
    np.testing.assert_array_equal(again(x), network(x))
    assert float(again.losses[0]) == float(network.losses[0])
    layer = again.get_layer("sample")
    assert (layer.beta, layer.free_bits, layer.seed) == (2.0, 0.3, 7)


@pytest.mark.parametrize("name", ["beta", "free_bits"])
@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_a_negative_weight_or_floor_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be 0 or more, got {value}"):
        GaussianSample(**{name: value})
