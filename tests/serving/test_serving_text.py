"""Tokens and writing inside the graph, against the whole network called in Python."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.models import recurrent_language_model
from kerastoolkit.serving.text import FIRST, CharacterTokens, Write, step_model

CHARACTERS = "\n abcdefg"


def network(cell="lstm", depth=1):
    keras.utils.set_random_seed(1)
    made = recurrent_language_model(
        cell=cell, vocabulary=FIRST + len(CHARACTERS), units=8, depth=depth, embedding=4, dropout=0.2
    )
    made.set_weights([3 * weight for weight in made.get_weights()])
    return made


def write(made, prompts, *, temperature=1.0, top_k=0, length=12, seed=0):
    tokens = CharacterTokens(CHARACTERS)(tf.constant(prompts))

    def each(value, kind):
        return tf.constant(np.broadcast_to(value, len(prompts)), kind)

    inputs = {"tokens": tokens, "temperature": each(temperature, tf.float32), "top_k": each(top_k, tf.int32),
              "length": each(length, tf.int32), "seed": each(seed, tf.int32)}  # fmt: skip
    answers = Write(step_model(made), CHARACTERS)(inputs)
    return {name: value.numpy() for name, value in answers.items()}


def tokens_of(text):
    return [FIRST + CHARACTERS.index(each) for each in text]


def test_a_token_is_a_place_in_the_alphabet_in_any_script():
    layer = CharacterTokens("a가나")
    np.testing.assert_array_equal(layer(tf.constant(["나a가", "a", "b나", ""])), [[4, 2, 3], [2, 0, 0], [1, 4, 0], [0, 0, 0]])


@pytest.mark.parametrize("characters", ["", "ba", "aa"])
def test_an_alphabet_out_of_order_is_refused(characters):
    with pytest.raises(ValueError, match="characters must be one or more, ascending"):
        CharacterTokens(characters)


@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
def test_steps_give_the_logits_of_the_whole_network(cell):
    made = network(cell, depth=2)
    step, tokens = step_model(made), np.random.default_rng(0).integers(0, made.output.shape[-1], (3, 9))
    states, found = [tf.zeros((3, 8))] * (len(step.inputs) - 1), []
    for t in range(9):
        logits, *states = step([tf.constant(tokens[:, t : t + 1], tf.int32), *states])
        found.append(logits)
    np.testing.assert_allclose(np.concatenate(found, axis=1), made(tokens), atol=1e-5)


def test_nats_are_the_cross_entropy_of_each_prompt_whatever_its_length():
    made, prompts = network(), ["abc", "gfedcba \n", "a", ""]
    answers = write(made, prompts)
    for prompt, nats, count in zip(prompts, answers["nats"], answers["characters"], strict=True):
        tokens = tokens_of(prompt)
        expected = 0.0
        if len(tokens) > 1:
            logits = np.asarray(made(np.array([tokens[:-1]])))[0].astype(float)
            expected = sum(np.log(np.exp(row).sum()) - row[token] for row, token in zip(logits, tokens[1:], strict=True))
        assert nats == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert count == max(0, len(tokens) - 1)


@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"top_k": 1}])
def test_the_likeliest_characters_are_those_of_the_network_called_again_and_again(how):
    made = network()
    answers = write(made, ["abc", "", "g"], **how)
    for prompt, text in zip(["abc", "\n", "g"], answers["text"], strict=True):  # an empty prompt is a line break
        tokens = tokens_of(prompt)
        for _ in range(12):
            tokens.append(FIRST + int(np.argmax(made(np.array([tokens]))[0, -1, FIRST:])))
        assert text.decode() == "".join(CHARACTERS[token - FIRST] for token in tokens[len(prompt) :])


def test_the_same_seed_writes_the_same_text_whatever_else_is_in_the_batch():
    made = network()
    alone = write(made, ["abc"], seed=7)["text"][0]
    beside = write(made, ["gg", "abc", "abc"], seed=[7, 7, 8], length=[40, 12, 12])["text"]
    assert beside[1] == alone
    assert beside[2] != alone
    assert len(beside[0]) == 40


def test_characters_are_drawn_by_the_softmax_at_the_temperature():
    made = network()
    last = made.get_layer("logits")
    logits = np.array([9.0, 9.0, 1.0, 0.0, 2.0, *[-30.0] * 6])  # padding and unknown are the likeliest, and never written
    last.set_weights([np.zeros_like(last.get_weights()[0]), logits])
    text = write(made, ["a"] * 20, length=500, temperature=2.0, seed=np.arange(20))["text"]
    drawn = b"".join(text).decode()
    shares = np.array([drawn.count(each) / len(drawn) for each in CHARACTERS[:3]])
    expected = np.exp(logits[2:5] / 2) / np.exp(logits[2:5] / 2).sum()
    assert len(drawn) == 10_000
    np.testing.assert_allclose(shares, expected, atol=0.02)  # four standard errors of a share over 10,000 draws
    two = b"".join(write(made, ["a"] * 20, length=500, top_k=2, seed=np.arange(20))["text"]).decode()
    assert set(two) == {CHARACTERS[0], CHARACTERS[2]}


@pytest.mark.parametrize(
    ("how", "message"),
    [({"temperature": -1.0}, "temperature must be"), ({"top_k": -1}, "top_k must be"), ({"length": 100_001}, "length must be")],
)
def test_a_setting_outside_its_range_is_refused(how, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        write(network(), ["a"], **how)
