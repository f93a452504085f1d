"""The cost of activations, against NumPy and SciPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import rel_entr

from kerastoolkit import models
from kerastoolkit.layers import SparsityPenalty


def cost(layer, activations):
    """What one call adds to the loss."""
    layer(tf.constant(activations, "float32"))
    (added,) = layer.losses
    return float(added)


def activations(seed=0, shape=(12, 5)):
    return np.random.default_rng(seed).uniform(0.02, 0.98, size=shape).astype("float32")


@pytest.mark.parametrize("target", [0.05, 0.4])
def test_kullback_leibler_is_the_relative_entropy_of_target_and_mean_activation_summed_over_units(target):
    given = activations()
    rate = given.mean(axis=0)
    expected = (rel_entr(target, rate) + rel_entr(1 - target, 1 - rate)).sum()
    assert cost(SparsityPenalty("kullback_leibler", 0.7, target), given) == pytest.approx(0.7 * expected, rel=1e-5)


def test_l1_is_the_mean_over_the_batch_of_the_sum_of_sizes():
    given = activations() - 0.5
    expected = sum(sum(abs(float(value)) for value in example) for example in given) / 12
    assert cost(SparsityPenalty("l1", 0.3), given) == pytest.approx(0.3 * expected, rel=1e-5)


def test_kullback_leibler_is_a_number_worked_out_by_hand():
    # Target 1/4, rate 1/2: 1/4 ln 1/2 + 3/4 ln 3/2 for each of two units.
    expected = 2 * (0.25 * np.log(0.5) + 0.75 * np.log(1.5))
    assert cost(SparsityPenalty(target_rate=0.25), [[0.9, 0.2], [0.1, 0.8]]) == pytest.approx(expected, rel=1e-5)


def test_units_at_the_target_rate_cost_nothing():
    given = [[0.0, 0.2], [0.4, 0.2]]
    assert cost(SparsityPenalty(target_rate=0.2), given) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["kullback_leibler", "l1"])
def test_activations_are_handed_on_unchanged(kind):
    given = activations()
    np.testing.assert_array_equal(SparsityPenalty(kind)(given), given)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_dead_and_saturated_units_have_a_finite_cost_and_gradient(value):
    given, layer = tf.Variable(tf.fill((4, 3), value)), SparsityPenalty()
    with tf.GradientTape() as tape:
        layer(given)
        (added,) = layer.losses
    assert 0 < float(added) < 60  # at most 3 units * -ln 1e-6 = 41, and rounding of 1 - 1e-6
    assert np.isfinite(tape.gradient(added, given)).all()


@pytest.mark.parametrize("kind", ["kullback_leibler", "l1"])
def test_a_saved_network_costs_the_same(kind, tmp_path):
    inputs = keras.Input((5,))
    network = keras.Model(inputs, SparsityPenalty(kind, 0.3, 0.2)(inputs))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    for each in (network, again):
        each(activations())
    assert float(again.losses[0]) == float(network.losses[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "l2"}, "penalty must be 'kullback_leibler' or 'l1', got 'l2'"),
        ({"weight": -0.5}, "weight must be 0 or more, got -0.5"),
        ({"weight": float("nan")}, "weight must be 0 or more, got nan"),
        ({"target_rate": 0}, "target_rate must be between 0 and 1, got 0"),
        ({"target_rate": 1.0}, "target_rate must be between 0 and 1, got 1.0"),
    ],
)
def test_a_wrong_argument_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SparsityPenalty(**change)


def network_and_penalty(kind, **arguments):
    """A small sparse autoencoder after one call, what its code costs, and the tape that saw it."""
    keras.utils.set_random_seed(0)
    network = models.sparse_autoencoder(input_shape=(4, 4, 1), code=6, penalty=kind, **arguments)
    images = activations(shape=(8, 4, 4, 1))
    with tf.GradientTape() as tape:
        network(images)
        (added,) = network.losses
    return network, np.asarray(network.get_layer("encoder")(images)), added, tape


def test_the_kullback_leibler_penalty_of_the_code_is_the_sparse_autoencoders_only_loss():
    _, code, added, _ = network_and_penalty("kullback_leibler", weight=2.0, target_rate=0.1)
    rate = code.mean(axis=0)
    expected = 2 * (rel_entr(0.1, rate) + rel_entr(0.9, 1 - rate)).sum()
    assert float(added) == pytest.approx(expected, rel=1e-5)


def test_the_l1_penalty_of_the_code_is_the_sparse_autoencoders_only_loss():
    _, code, added, _ = network_and_penalty("l1", weight=2.0)
    assert float(added) == pytest.approx(2 * np.abs(code).sum(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize("kind", ["kullback_leibler", "l1"])
def test_the_penaltys_gradient_reaches_the_encoder_and_not_the_decoder(kind):
    network, _, added, tape = network_and_penalty(kind, hidden=(5,))
    parts = [network.get_layer(name).trainable_variables for name in ("encoder", "decoder")]
    encoder, decoder = tape.gradient(added, [[variable.value for variable in part] for part in parts])
    assert len(encoder) == 4 and all(np.abs(gradient).max() > 0 for gradient in encoder)
    assert decoder == [None] * 4
