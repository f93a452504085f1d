"""The fast way through the recurrent layers against Keras' own loop, and Keras' cells against their equations in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import layers
from kerastoolkit.layers import recurrent

PAIRS = [(layers.SimpleRNN, keras.layers.SimpleRNN), (layers.LSTM, keras.layers.LSTM), (layers.GRU, keras.layers.GRU)]
X = np.random.default_rng(0).normal(size=(3, 7, 5)).astype("float32")


def pair(fast, stock, **arguments):
    """Both layers with the same random weights, biases too."""
    made = [kind(4, **arguments) for kind in (fast, stock)]
    for layer in made:
        layer.build(X.shape)
    values = [np.random.default_rng(i).normal(size=each.shape) * 0.5 for i, each in enumerate(made[0].weights)]
    for layer in made:
        layer.set_weights(values)
    return made


def run(layer, x, states, training):
    with tf.GradientTape() as tape:
        tape.watch([x, *states])
        outputs = layer(x, initial_state=states, training=training)
        total = sum(tf.reduce_sum(tf.sin(each * (i + 1.0))) for i, each in enumerate(outputs))
    variables = [variable.value for variable in layer.trainable_variables]
    return [*outputs, *tape.gradient(total, [x, *states, *variables])]


@pytest.mark.parametrize(("fast", "stock"), PAIRS)
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("number", [0, 1, 2, 4])
def test_outputs_states_and_gradients_are_those_of_keras(fast, stock, backwards, sequences, number, monkeypatch):
    """Without XLA, and cut into pieces, of which one of four has no row."""
    monkeypatch.setattr(recurrent, "pieces", lambda: number)
    arguments = {"return_state": True, "go_backwards": backwards, "return_sequences": sequences}
    ours, theirs = pair(fast, stock, **arguments)
    states = [np.random.default_rng(9 + i).normal(size=(3, 4)).astype("float32") for i in range(2 if fast is layers.LSTM else 1)]
    x, states = tf.constant(X), [tf.constant(each) for each in states]
    run_ours = tf.function(run, autograph=False) if number else run
    found, expected = run_ours(ours, x, states, training=number > 0), run(theirs, x, states, training=True)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("kind", "stock"), PAIRS)
def test_loops_are_compiled_in_training_over_a_known_length_or_as_the_layer_says(kind, stock, monkeypatch):
    compiled = []

    def note(function):
        compiled.append(function)
        return function

    monkeypatch.setattr(recurrent, "_compiled", note)

    def compiles(length, training=True, **arguments):
        del compiled[:]
        layer = kind(4, **arguments)
        signature = tf.TensorSpec((None, length, 5), tf.float32)
        layer.build(signature.shape)
        tf.function(lambda x: layer(x, training=training)).get_concrete_function(signature)
        assert bool(compiled) == (layer.compiles(length) and training)
        return bool(compiled)

    assert compiles(7)
    assert not compiles(7, training=False)
    assert not compiles(None)
    assert compiles(None, jit_compile=True)
    assert not compiles(7, jit_compile=False)
    assert kind.from_config(kind(4, jit_compile=False).get_config()).jit_compile is False


def test_a_gpu_is_left_to_cudnn(monkeypatch):
    monkeypatch.setattr(recurrent, "_has_gpu", lambda: True)
    monkeypatch.setattr(recurrent, "_through_time", None)
    ours, theirs = pair(*PAIRS[1])
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-6)


@pytest.mark.parametrize(("fast", "stock"), PAIRS)
def test_a_mask_and_a_changed_activation_take_keras_own_loop(fast, stock):
    mask = np.array([[True] * 7, [True] * 3 + [False] * 4, [False] * 7])
    ours, theirs = pair(fast, stock)
    np.testing.assert_allclose(ours(X, mask=mask), theirs(X, mask=mask), rtol=1e-6)
    ours, theirs = pair(fast, stock, activation="relu")
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-6)
    assert np.abs(ours(X) - pair(fast, stock)[0](X)).max() > 0.01


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def simple_rnn(x, h, c, w, u, b):
    h = np.tanh(x @ w + h @ u + b)
    return h, c


def lstm(x, h, c, w, u, b):
    """Gers et al. 2000, equations 1 to 6; gates in the order input, forget, candidate, output."""
    i, f, g, o = np.split(x @ w + h @ u + b, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_reset_before(x, h, c, w, u, b):
    """Cho et al. 2014, equations 5 to 8; gates in the order update, reset, candidate."""
    (wz, wr, wh), (uz, ur, uh), (bz, br, bh) = (np.split(each, 3, axis=-1) for each in (w, u, b))
    z, r = sigmoid(x @ wz + h @ uz + bz), sigmoid(x @ wr + h @ ur + br)
    return z * h + (1 - z) * np.tanh(x @ wh + (r * h) @ uh + bh), c


def gru_reset_after(x, h, c, w, u, b):
    """The same with the reset gate on the product and a bias within it, as CuDNN defines it."""
    (wz, wr, wh), (uz, ur, uh) = (np.split(each, 3, axis=-1) for each in (w, u))
    (bz, br, bh), (dz, dr, dh) = (np.split(each, 3, axis=-1) for each in b)
    z, r = sigmoid(x @ wz + h @ uz + bz + dz), sigmoid(x @ wr + h @ ur + br + dr)
    return z * h + (1 - z) * np.tanh(x @ wh + bh + r * (h @ uh + dh)), c


@pytest.mark.parametrize(
    ("layer", "equations"),
    [
        (lambda: layers.SimpleRNN(4, return_sequences=True), simple_rnn),
        (lambda: layers.LSTM(4, return_sequences=True), lstm),
        (lambda: layers.GRU(4, return_sequences=True), gru_reset_after),
        (lambda: layers.GRU(4, return_sequences=True, reset_after=False), gru_reset_before),
    ],
)
def test_a_cell_follows_its_equations(layer, equations):
    layer = layer()
    layer.build(X.shape)
    weights = [np.random.default_rng(i).normal(size=each.shape) * 0.5 for i, each in enumerate(layer.weights)]
    layer.set_weights(weights)
    h = c = np.zeros((3, 4))
    expected = []
    for t in range(7):
        h, c = equations(X[:, t].astype(float), h, c, *weights)
        expected.append(h)
    np.testing.assert_allclose(layer(X), np.stack(expected, axis=1), rtol=1e-5, atol=1e-6)
