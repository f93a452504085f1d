"""Writing with a network: token by token as with the whole network called again and again, and whatever else is in the batch."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import models
from kerastoolkit.serving.byte_pairs import END, PADDING, START
from kerastoolkit.serving.decoding import SETTINGS, Decode, SourceAttention, TokenByToken
from kerastoolkit.serving.search import IMPOSSIBLE, beam_search, gains_of, sample

VOCABULARY = 11
TRANSFORMER = {"source_vocabulary": VOCABULARY, "target_vocabulary": VOCABULARY, "depth": 2, "width": 12, "heads": 2,
               "feed_forward": 16}  # fmt: skip
RECURRENT = {"source_vocabulary": VOCABULARY, "target_vocabulary": VOCABULARY, "units": 10, "embedding": 6, "dropout": 0.1}
NETWORKS = {
    "post_norm": (models.transformer, TRANSFORMER),
    "norm_first": (models.transformer, {**TRANSFORMER, "norm_first": True, "shared_embeddings": False, "pointer": True}),
    **{
        f"{cell}_{attention}": (models.attention_seq2seq, {**RECURRENT, "cell": cell, "attention": attention})
        for cell in ("gru", "lstm")
        for attention in ("additive", "dot")
    },
}
SOURCE = np.array([[3, 4, 5, 6, 7, 8, 2], [9, 10, 3, 2, 0, 0, 0], [10, 2, 0, 0, 0, 0, 0]], "int32")
# What one batch holds: searches of all widths, and draws.
HOW = [
    {"beams": 1}, {"beams": 2, "length_penalty": 0.0}, {"beams": 3}, {"beams": 4, "length_penalty": 2.0}, {"beams": 5},
    {"temperature": 1.0, "seed": 5}, {"temperature": 1.5, "seed": 6, "length_penalty": 0.0}, {"temperature": 0.8, "seed": 7},
    {"temperature": 1.0, "top_k": 3, "seed": 8}, {"temperature": 1.0, "top_p": 0.7, "seed": 9, "beams": 3},
    {"beams": 1, "no_repeat_ngram": 2}, {"beams": 3, "no_repeat_ngram": 1}, {"temperature": 1.0, "seed": 5, "no_repeat_ngram": 3},
]  # fmt: skip
SLOW = ("gru_dot", "lstm_additive")  # each cell and each attention is among the others
every_network = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NETWORKS]
)


@functools.cache
def network(name):
    """With larger weights than at first, so that texts differ; but for shared embeddings, with which the last token would follow
    itself for ever, and for a pointer, which would look at one place alone."""
    keras.utils.set_random_seed(1)
    builder, settings = NETWORKS[name]
    made, generator = builder(**settings), np.random.default_rng(3)
    for layer in made.layers:
        scale, spread = {"embedding": (0.5, 0.3), "pointer": (0.2, 0.1)}.get(layer.name, (2, 0.3))
        layer.set_weights([scale * each + spread * generator.normal(size=each.shape) for each in layer.get_weights()])
    return made


@functools.cache
def decoder(name):
    return Decode(network(name))


def inputs(source, settings):
    """The dict that ``Decode`` takes, of one dict of settings for each source."""
    rows = [{**SETTINGS, "longest": 7, **each} for each in settings]
    assert len(rows) == len(source)
    made = {key: tf.constant([row[key] for row in rows], tf.int32 if isinstance(SETTINGS[key], int) else tf.float32)
            for key in SETTINGS}  # fmt: skip
    return {"source_tokens": tf.constant(source), **made}


def write(name, source, settings):
    answers = decoder(name)(inputs(source, settings))
    return answers["tokens"].numpy(), answers["score"].numpy()


def mixed():
    """Sources and settings of one batch: every source with every way."""
    return np.repeat(SOURCE, len(HOW), axis=0), HOW * len(SOURCE)


@functools.cache
def mixed_answers(name):
    return write(name, *mixed())


def trimmed(tokens):
    """The texts up to their END, which is their only one and followed by nothing but padding."""
    texts = []
    for row in tokens.tolist():
        end = row.index(END)
        assert not set(row[:end]) & {PADDING, START, END}
        assert set(row[end + 1 :]) <= {PADDING}
        texts.append(row[: end + 1])
    return texts


def followers_that_repeat(text, size):
    """Tokens by which ``size`` tokens of a text in a row would stand in it twice."""
    latest = text[len(text) - size + 1 :]
    return [text[i + size - 1] for i in range(len(text) - size + 1) if text[i : i + size - 1] == latest] if size else []


def whole_network(name, source, sizes):
    """An ``advance`` that keeps nothing but the texts so far and calls the network on them from the start."""

    def advance(tokens, state, position):
        texts, sources = state
        texts = tf.concat([texts, tokens[:, :, None]], axis=2)
        rows, beams = tokens.shape
        logits = network(name)([tf.reshape(sources, (rows * beams, -1)), tf.reshape(texts, (rows * beams, -1))])
        gains = gains_of(tf.reshape(logits[:, -1], (rows, beams, -1))).numpy()
        for row in range(rows):
            for beam in range(beams):
                gains[row, beam, followers_that_repeat(texts[row, beam].numpy().tolist()[1:], int(sizes[row]))] = IMPOSSIBLE
        return gains, (texts, sources)

    def state(beams):
        return tf.zeros((len(source), beams, 0), tf.int32), tf.repeat(tf.constant(source)[:, None], beams, axis=1)

    return advance, state


@every_network
def test_steps_give_the_logits_of_the_whole_network_for_each_of_several_texts(name):
    made = network(name)
    stepwise, texts = TokenByToken(made), np.random.default_rng(0).integers(1, VOCABULARY, (3, 2, 6)).astype("int32")
    constants = stepwise.start(tf.constant(SOURCE))
    state, found = stepwise.first_state(constants, 2), []
    for position in range(6):
        logits, state = stepwise.step(tf.constant(texts[:, :, position]), constants, state, tf.constant(position))
        found.append(logits)
    for number in range(2):
        expected = made([SOURCE, texts[:, number]])
        np.testing.assert_allclose(np.stack(found, axis=2)[:, number], expected, atol=1e-4, rtol=1e-4)


@every_network
def test_texts_are_those_of_the_whole_network_called_anew_for_each_token(name):
    source, settings = mixed()
    tokens, scores = mixed_answers(name)
    texts = trimmed(tokens)
    assert len({tuple(text) for text in texts}) > 8
    given = {key: value for key, value in inputs(source, settings).items()}
    searched = np.flatnonzero(given["temperature"] == 0)
    drawn = np.flatnonzero(given["temperature"] > 0)

    some = {key: tf.gather(value, searched) for key, value in given.items()}
    advance, state = whole_network(name, source[searched], some["no_repeat_ngram"])
    expected, expected_scores = beam_search(
        advance, state(5), widths=some["beams"], limits=some["longest"], penalties=some["length_penalty"]
    )
    assert [texts[row] for row in searched] == trimmed(expected.numpy())
    np.testing.assert_allclose(scores[searched], expected_scores, rtol=1e-4, atol=1e-4)

    some = {key: tf.gather(value, drawn) for key, value in given.items()}
    advance, state = whole_network(name, source[drawn], some["no_repeat_ngram"])
    expected, _ = sample(advance, state(1), temperature=some["temperature"], top_k=some["top_k"], top_p=some["top_p"],
                         limits=some["longest"], seeds=some["seed"])  # fmt: skip
    assert [texts[row] for row in drawn] == trimmed(expected.numpy())


@every_network
def test_scores_are_the_networks_own_log_probabilities_by_the_length(name):
    source, settings = mixed()
    tokens, scores = mixed_answers(name)
    given = np.concatenate([np.full((len(tokens), 1), START), tokens[:, :-1]], axis=1)
    logits = np.asarray(network(name)([source, given])).astype(float)
    may = logits[:, :, END:]  # without padding and start
    gains = may - np.log(np.exp(may).sum(axis=-1, keepdims=True))
    for row, text in enumerate(trimmed(tokens)):
        total = sum(gains[row, i, token - END] for i, token in enumerate(text))
        penalty = settings[row].get("length_penalty", SETTINGS["length_penalty"])
        assert scores[row] == pytest.approx(total / ((5 + len(text)) / 6) ** penalty, rel=1e-4, abs=1e-4)


@every_network
def test_a_text_is_the_same_alone_and_in_any_batch(name):
    source, settings = mixed()
    tokens, scores = mixed_answers(name)
    texts = trimmed(tokens)
    for row in (13, 3, 8, 24, 10, 25, 38):
        alone = source[row : row + 1, : np.count_nonzero(source[row])]
        again, score = write(name, alone, settings[row : row + 1])
        assert again.tolist() == [texts[row]]
        np.testing.assert_allclose(score, scores[row : row + 1], rtol=1e-4, atol=1e-4)
    # Others of the batch go on for longer, and there are more and wider beams.
    others, _ = write(name, source[[0, 7, 8, 13]], [*(settings[row] for row in (0, 7, 8)), {"beams": 9, "longest": 30}])
    assert trimmed(others)[:3] == [texts[row] for row in (0, 7, 8)]


def test_no_limit_is_the_sources_length_and_50_more():
    made, layer = network("gru_dot"), network("gru_dot").get_layer("logits")
    kept = layer.get_weights()
    layer.set_weights([kept[0], kept[1] - 1000.0 * (np.arange(VOCABULARY) == END)])  # nothing ends by itself
    try:
        tokens = Decode(made)(inputs(SOURCE, [{"longest": 0}, {"longest": 0, "temperature": 1.0}, {"longest": 4}]))["tokens"]
    finally:
        layer.set_weights(kept)
    assert [len(text) for text in trimmed(tokens.numpy())] == [7 + 50, 4 + 50, 4]


@pytest.mark.parametrize("how", [{"beams": 1}, {"beams": 4}, {"temperature": 1.0}])
def test_a_limit_of_one_leaves_the_end_alone(how):
    tokens, scores = write("post_norm", SOURCE, [{**how, "longest": 1}] * 3)
    np.testing.assert_array_equal(tokens, [[END]] * 3)
    # What must come costs what it would cost if it need not.
    logits = np.asarray(network("post_norm")([SOURCE, np.full((3, 1), START)])).astype(float)[:, 0, END:]
    penalty = SETTINGS["length_penalty"]
    np.testing.assert_allclose(scores, (logits[:, 0] - np.log(np.exp(logits).sum(axis=1))) / ((5 + 1) / 6) ** penalty, rtol=1e-4)


def test_a_seed_gives_the_same_draw_again_and_others_give_others():
    source = np.repeat(SOURCE[:1], 12, axis=0)
    settings = [{"temperature": 2.0, "seed": seed} for seed in (*range(10), 0, 5)]
    texts = trimmed(write("gru_dot", source, settings)[0])
    assert (texts[10], texts[11]) == (texts[0], texts[5])
    assert len({tuple(text) for text in texts}) == 10


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("how", [{"beams": 1}, {"beams": 4}, {"temperature": 1.0}])
def test_no_tokens_in_a_row_are_written_twice_where_that_is_said(how, size):
    often, _ = write("post_norm", SOURCE, [{**how, "longest": 40}] * 3)
    texts = trimmed(write("post_norm", SOURCE, [{**how, "longest": 40, "no_repeat_ngram": size}] * 3)[0])

    def repeats(text):
        pieces = [tuple(text[place : place + size]) for place in range(len(text) - size + 1)]
        return len(set(pieces)) < len(pieces)

    assert any(map(repeats, trimmed(often))) and not any(map(repeats, texts))
    assert max(map(len, texts)) > size


@pytest.mark.parametrize("how", [{"top_k": 1}, {"top_p": 1e-6}])
def test_draws_among_one_are_the_texts_of_one_beam(how):
    texts = trimmed(write("lstm_additive", SOURCE, [{"temperature": 1.0, **how}] * 3)[0])
    assert texts == trimmed(write("lstm_additive", SOURCE, [{"beams": 1}] * 3)[0])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"beams": 0}, "beams must be 1 .. 100"),
        ({"beams": 101}, "beams must be 1 .. 100"),
        ({"length_penalty": -0.1}, "length_penalty must be"),
        ({"length_penalty": float("inf")}, "length_penalty must be"),
        ({"length_penalty": float("nan")}, "length_penalty must be"),
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"temperature": float("nan")}, "temperature must be 0 or more"),
        ({"top_k": -1}, "top_k must be 0 or more"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p must be above 0 and at most 1"),
        ({"top_p": float("nan")}, "top_p must be above 0 and at most 1"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram must be 0 .. 10,000"),
        ({"no_repeat_ngram": 10_001}, "no_repeat_ngram must be 0 .. 10,000"),
        ({"longest": -1}, "longest must be 0 .. 10,000"),
        ({"longest": 10_001}, "longest must be 0 .. 10,000"),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_its_name(how, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        write("gru_additive", SOURCE, [{}, how, {}])


@pytest.mark.parametrize("temperature", [1e-30, 1e-11, 1e9, 1e30, float("inf")])
def test_no_temperature_makes_anything_but_texts(temperature):
    settings = [{"temperature": temperature, "seed": seed} for seed in range(30)]
    tokens, scores = write("gru_additive", np.repeat(SOURCE, 10, axis=0), settings)
    trimmed(tokens)
    assert np.isfinite(scores).all()


def test_a_batch_of_no_source_has_no_text():
    tokens, scores = write("post_norm", SOURCE[:0], [])
    assert tokens.shape[0] == 0
    assert scores.shape == (0,)


@every_network
def test_attention_sums_to_1_over_the_source_and_is_0_where_there_is_padding(name):
    texts = np.array([[4, 5, 2, 0], [6, 7, 8, 2], [2, 0, 0, 0]], "int32")
    weights = SourceAttention(decoder(name))(tf.constant(SOURCE), tf.constant(texts)).numpy()
    assert weights.shape == (3, 4, 7)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    assert (weights[np.repeat(SOURCE[:, None] == 0, 4, axis=1)] == 0).all()
    assert (weights[np.repeat(SOURCE[:, None] != 0, 4, axis=1)] > 0).all()


@every_network
def test_a_row_of_attention_belongs_to_the_token_that_is_written_with_it(name):
    texts = np.array([[4, 5, 6, 2]], "int32")
    layer, source = SourceAttention(decoder(name)), tf.constant(SOURCE[:1])
    before, after = layer(source, tf.constant(texts)), layer(source, tf.constant(texts + [[0, 1, 0, 0]]))
    # The second token is given to the network when the third is written; of additive attention the state before it looks.
    first = 3 if "additive" in name else 2
    moved = np.abs(before - after).max(axis=(0, 2))
    assert moved[:first].max() < 1e-6
    assert moved[first:].min() > 1e-6
