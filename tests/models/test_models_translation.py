"""What every encoder-decoder must hold, whatever it is made of: what may change which logits, files; and the recurrent ones'
counts and errors."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import models

SIZES = {"source_vocabulary": 13, "target_vocabulary": 13}
TRANSFORMER = {**SIZES, "depth": 2, "width": 16, "heads": 2, "feed_forward": 32}
RECURRENT = {**SIZES, "units": 12, "embedding": 6}
NETWORKS = {
    "post_norm": (models.transformer, TRANSFORMER),
    "norm_first": (models.transformer, {**TRANSFORMER, "norm_first": True, "shared_embeddings": False}),
    "post_norm_pointer": (models.transformer, {**TRANSFORMER, "pointer": True}),
    **{
        f"{cell}_{attention}": (models.attention_seq2seq, {**RECURRENT, "cell": cell, "attention": attention})
        for cell in ("gru", "lstm")
        for attention in ("additive", "dot")
    },
}
SOURCE = np.array([[3, 4, 5, 6, 7, 8, 2], [9, 10, 11, 2, 0, 0, 0], [12, 2, 0, 0, 0, 0, 0]])
TARGET = np.array([[1, 5, 6, 7], [1, 8, 3, 11], [1, 12, 4, 9]])
SLOW = ("gru_dot", "lstm_additive")  # each cell and each attention is among the others
every_network = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NETWORKS]
)


def made(name, **change):
    builder, settings = NETWORKS[name]
    return builder(**{**settings, **change})


@functools.cache
def network(name):
    """With larger weights than at first, and biases, so that what matters is seen in the logits."""
    keras.utils.set_random_seed(1)
    network, generator = made(name), np.random.default_rng(0)
    network.set_weights([1.5 * each + 0.1 * generator.normal(size=each.shape) for each in network.get_weights()])
    return network


def logits(name, source, target):
    return np.asarray(network(name)([np.array(source), np.array(target)]))


def changed(before, after):
    """(batch, length) bool: where a logit moved by more than rounding does."""
    return np.abs(before - after).max(axis=-1) > 1e-4


@every_network
def test_logits_are_as_long_as_the_target_and_as_wide_as_its_vocabulary(name):
    change = {"post_norm": {"shared_embeddings": False}, "post_norm_pointer": {"source_vocabulary": 9}}.get(name, {})
    network = made(name, target_vocabulary=9, **change)
    assert network.output.shape == (None, None, 9)
    assert network([SOURCE % 9, TARGET[:, :3] % 9]).shape == (3, 3, 9)
    assert network([SOURCE[:, :2] % 9, np.tile(TARGET, 3) % 9]).shape == (3, 12, 9)


@every_network
def test_a_target_token_changes_the_logits_from_its_own_place_on_and_none_before(name):
    before = logits(name, SOURCE, TARGET)
    for place in range(4):
        other = TARGET.copy()
        other[:, place] = 10
        assert changed(before, logits(name, SOURCE, other)).tolist() == [[i >= place for i in range(4)]] * 3


@every_network
def test_each_source_token_changes_all_logits_of_its_own_text_and_none_of_another(name):
    before = logits(name, SOURCE, TARGET)
    for place in range(7):
        other = SOURCE.copy()
        other[0, place] = 10
        assert changed(before, logits(name, other, TARGET)).tolist() == [[True] * 4, [False] * 4, [False] * 4]


@every_network
def test_the_order_of_the_source_changes_all_logits(name):
    before = logits(name, SOURCE, TARGET)
    assert changed(before, logits(name, SOURCE[:, [1, 0, *range(2, 7)]], TARGET)).all()


@every_network
def test_source_and_target_are_not_taken_for_one_another(name):
    texts = TARGET[:, [1, 2, 3]]
    assert changed(logits(name, texts, texts[:, ::-1]), logits(name, texts[:, ::-1], texts)).all()
    assert logits(name, TARGET, SOURCE).shape == (3, 7, 13)


@every_network
@pytest.mark.parametrize("more", [1, 5])
def test_padding_after_source_or_target_changes_no_logit(name, more):
    padded = np.pad(SOURCE, ((0, 0), (0, more))), np.pad(TARGET, ((0, 0), (0, more)))
    expected = logits(name, SOURCE, TARGET)
    np.testing.assert_allclose(logits(name, *padded)[:, :4], expected, atol=2e-5)
    np.testing.assert_allclose(logits(name, SOURCE, padded[1])[:, :4], expected, atol=2e-5)
    np.testing.assert_allclose(logits(name, padded[0], TARGET), expected, atol=2e-5)


@every_network
def test_a_texts_logits_are_those_that_it_has_alone_and_without_padding(name):
    together = logits(name, SOURCE, TARGET)
    for row, (source, target) in enumerate(zip(SOURCE, TARGET, strict=True)):
        np.testing.assert_allclose(together[row], logits(name, [source[source != 0]], [target])[0], atol=2e-5)


@every_network
def test_a_source_without_any_token_gives_finite_logits_and_gradients(name):
    model = network(name)
    with tf.GradientTape() as tape:
        found = model([np.zeros((2, 3), int), TARGET[:2]])
        total = tf.reduce_sum(found**2)
    assert np.isfinite(found).all()
    gradients = tape.gradient(total, [variable.value for variable in model.trainable_variables])
    assert all(np.isfinite(tf.convert_to_tensor(each)).all() for each in gradients)


@every_network
def test_a_step_of_training_moves_every_weight(name):
    model = network(name)
    variables = [variable for variable in model.trainable_variables if not variable.path.endswith("key_bias")]
    # A key's bias adds the same number to all scores of a query, which a softmax takes away.
    assert len(variables) == len(model.trainable_variables) - (6 if "norm" in name else 0)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.nn.log_softmax(model([SOURCE, TARGET]))[:, :, 5])
    gradients = tape.gradient(total, [variable.value for variable in variables])
    still = [
        variable.path
        for variable, gradient in zip(variables, gradients, strict=True)
        if gradient is None or np.abs(tf.convert_to_tensor(gradient)).max() < 1e-5
    ]
    assert not still


@every_network
def test_dropout_draws_in_training_alone(name):
    model = made(name, dropout=0.5)
    drawn = [np.asarray(model([SOURCE, TARGET], training=True)) for _ in range(2)]
    assert changed(*drawn).all()
    plain = made(name, dropout=0.0)
    for layer in plain.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    np.testing.assert_allclose(model([SOURCE, TARGET]), plain([SOURCE, TARGET]), atol=1e-6)


@every_network
def test_a_saved_and_loaded_network_gives_the_same_logits(name, tmp_path):
    network(name).save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded([SOURCE, TARGET]), logits(name, SOURCE, TARGET))


# The recurrent ones ------------------------------------------------------------------------------------------------------------

# Numbers in a cell of u units that sees i inputs: input weights, recurrent weights and biases of each gate.
CELLS = {
    "lstm": lambda i, u: 4 * (u * i + u * u + u),
    "gru": lambda i, u: 3 * (u * i + u * u + 2 * u),  # with a bias on each side of the reset gate
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", ["additive", "dot"])
def test_a_recurrent_network_has_the_count_of_its_parts(cell, attention):
    source, target, units, width = 11, 7, 6, 5
    network = models.attention_seq2seq(
        source_vocabulary=source, target_vocabulary=target, cell=cell, attention=attention, units=units, embedding=width
    )
    encoder = source * width + 2 * CELLS[cell](width, units // 2)
    states = {"gru": 1, "lstm": 2}[cell]
    decoder = target * width + (units + 1) * states * units + CELLS[cell](width + units, units)
    if attention == "additive":  # W_a, U_a and v_a; the readout sees state, finding and embedding
        decoder += units * units + units * units + units + (2 * units + width + 1) * units
    else:  # the readout sees state and finding: Luong et al. 2015, equation 5
        decoder += (2 * units + 1) * units
    assert network.count_params() == encoder + decoder + units * target + target


@pytest.mark.parametrize("cell", CELLS)
def test_a_place_of_the_memory_is_what_both_readers_have_there(cell):
    """Against Keras' own layer for both directions, on each text alone."""
    model = network(f"{cell}_additive")
    memory = keras.Model(model.get_layer("source_tokens").output, model.get_layer("memory").output)(SOURCE)
    (table,) = model.get_layer("source_embedding").get_weights()
    both = keras.layers.Bidirectional({"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[cell](6, return_sequences=True))
    both.build((1, None, 6))
    both.set_weights(model.get_layer("encoder_forwards").get_weights() + model.get_layer("encoder_backwards").get_weights())
    for row, text in zip(memory, SOURCE, strict=True):
        text = text[text != 0]
        np.testing.assert_allclose(row[: len(text)], both(table[text][None])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "rnn"}, "cell must be 'gru' or 'lstm', got 'rnn'"),
        ({"attention": "general"}, "attention must be 'additive' or 'dot', got 'general'"),
        ({"source_vocabulary": 0}, "source_vocabulary must be a positive integer, got 0"),
        ({"target_vocabulary": 2.5}, "target_vocabulary must be a positive integer, got 2.5"),
        ({"units": True}, "units must be a positive integer, got True"),
        ({"units": 7}, "units must be even, half for each direction of the encoder, got 7"),
        ({"embedding": -1}, "embedding must be a positive integer, got -1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_a_wrong_argument_of_a_recurrent_network_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        models.attention_seq2seq(**{**RECURRENT, **change})
