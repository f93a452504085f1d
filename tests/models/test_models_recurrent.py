"""Recurrent builders: counts by the cells' equations, causality, learning, errors."""

import keras
import numpy as np
import pytest

from kerastoolkit import models

# Numbers in a cell of u units that sees i inputs: input weights, recurrent weights and biases of each gate.
COUNTS = {
    "simple_rnn": lambda i, u: u * i + u * u + u,
    "lstm": lambda i, u: 4 * (u * i + u * u + u),
    "gru": lambda i, u: 3 * (u * i + u * u + 2 * u),  # with a bias on each side of the reset gate
}


@pytest.mark.parametrize("cell", COUNTS)
def test_a_forecaster_has_the_count_of_its_cells(cell):
    network = models.recurrent_forecaster(cell=cell, window=9, features=5, horizon=3, targets=2, units=7, depth=2)
    assert network.count_params() == COUNTS[cell](5, 7) + COUNTS[cell](7, 7) + 7 * 6 + 6
    assert network.output.shape == (None, 3, 2)


@pytest.mark.parametrize("cell", COUNTS)
def test_both_directions_double_the_cells(cell):
    network = models.recurrent_forecaster(
        cell=cell, window=9, features=5, horizon=3, units=7, depth=2, bidirectional=True, quantiles=(0.1, 0.9)
    )
    assert network.count_params() == 2 * COUNTS[cell](5, 7) + 2 * COUNTS[cell](14, 7) + 14 * 6 + 6
    assert network.output.shape == (None, 3, 1, 2)


def test_the_papers_gru_has_one_bias_a_gate():
    network = models.recurrent_forecaster(cell="gru", window=9, features=5, horizon=1, units=7, reset_after=False)
    assert network.count_params() == 3 * (7 * 5 + 7 * 7 + 7) + 7 + 1


@pytest.mark.parametrize("cell", COUNTS)
def test_a_language_model_has_the_count_of_its_parts_and_a_logit_for_each_token(cell):
    network = models.recurrent_language_model(cell=cell, vocabulary=11, units=7, embedding=4)
    assert network.count_params() == 11 * 4 + COUNTS[cell](4, 7) + 7 * 11 + 11
    assert network.output.shape == (None, None, 11)


@pytest.mark.parametrize("cell", COUNTS)
def test_a_later_token_changes_no_earlier_logit(cell):
    network = models.recurrent_language_model(cell=cell, vocabulary=11, units=7, embedding=4, depth=2)
    tokens = np.random.default_rng(0).integers(0, 11, (2, 8))
    before = np.asarray(network(tokens))
    tokens[:, 5] = (tokens[:, 5] + 1) % 11
    after = np.asarray(network(tokens))
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(axis=(0, 2)).all()


@pytest.mark.parametrize("cell", [pytest.param(cell, marks=() if cell == "lstm" else pytest.mark.slow) for cell in COUNTS])
def test_a_forecaster_learns_a_few_windows_by_heart(cell):
    keras.utils.set_random_seed(0)
    network = models.recurrent_forecaster(cell=cell, window=6, features=2, horizon=2, units=16)
    x, y = np.random.default_rng(0).normal(size=(8, 6, 2)), np.random.default_rng(1).normal(size=(8, 2, 1))
    network.compile(keras.optimizers.Adam(0.02), "mse")
    network.fit(x, y, epochs=300, batch_size=8, verbose=0)
    assert network.evaluate(x, y, verbose=0) < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "rnn"}, "cell must be 'simple_rnn', 'lstm', 'gru', got 'rnn'"),
        ({"units": 0}, "units must be a positive integer, got 0"),
        ({"horizon": 1.5}, "horizon must be a positive integer, got 1.5"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"quantiles": (0.9, 0.1)}, "quantiles must be ascending levels between 0 and 1"),
        ({"quantiles": (0.0, 0.5)}, "quantiles must be ascending levels between 0 and 1"),
    ],
)
def test_a_wrong_argument_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        models.recurrent_forecaster(**{"cell": "gru", "window": 4, "features": 2, "horizon": 3, **change})
