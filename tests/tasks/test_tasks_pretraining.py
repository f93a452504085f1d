"""Pretraining: loss, figures, answers, and what is made of them."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.experiment import Data, InputError, Source, rebuild
from kerastoolkit.models import bert_pretraining
from kerastoolkit.serving.model import inner_layer, serving_model
from kerastoolkit.serving.word_pieces import MARKS, word_piece_inputs
from kerastoolkit.tasks.pretraining import masked_words, pretraining
from kerastoolkit.weights.bert import read_bert

PIECES = [*MARKS, "a", "b", "c", "d", "##e", "."]
A, B = 5, 6


def network_of(**changes):
    sizes = {"vocabulary": len(PIECES), "depth": 1, "width": 8, "heads": 2, "positions": 32, "dropout": 0.0}
    return bert_pretraining(**{**sizes, **changes})


def serving_of(network, **arguments):
    preprocess = word_piece_inputs(PIECES, lower=True, longest=32, pairs=True, masks=True)
    return serving_model(preprocess=preprocess, network=network, task=masked_words(PIECES, **arguments))


@pytest.fixture(scope="module")
def sure():
    """A network that says of every masked word a with 1/2, b with 1/4, c with 1/4, and of every pair with 3/4 that it follows."""
    network = network_of()
    for variable in network.trainable_variables:
        if variable.path in ("token_embedding/embeddings", "next_sentence/kernel"):
            variable.assign(keras.ops.zeros_like(variable))
    logits = np.full(len(PIECES), -1e9, np.float32)
    logits[5:8] = np.log([0.5, 0.25, 0.25])
    inner_layer(network, "masked_word_bias").bias.assign(logits)
    inner_layer(network, "next_sentence").bias.assign(np.log([0.75, 0.25]))
    return network


@pytest.fixture(scope="module")
def serving(sure):
    return serving_of(sure, top=2)


def ask(serving, *texts):
    columns = zip(*((*text, "")[:2] for text in texts), strict=True)
    answers = serving({name: tf.constant(list(column)) for name, column in zip(("first", "second"), columns, strict=True)})
    return {name: value.numpy() for name, value in answers.items()}


# training


TARGETS = {"words": np.array([[1, 2, 0], [2, 0, 0]], np.int32), "weights": np.array([[1, 1, 0], [1, 0, 0]], np.float32),
           "elsewhere": np.array([0, 1], np.int32)}  # fmt: skip
NOT_THERE = [0.9, 0.05, 0.05]
SHARES = [[[0.1, 0.7, 0.2], [0.5, 0.25, 0.25], NOT_THERE], [[0.1, 0.3, 0.6], NOT_THERE, NOT_THERE]]
OUTPUTS = {"masked_words": np.log(np.array(SHARES, np.float32)),
           "next_sentence": np.log(np.array([[0.8, 0.2], [0.6, 0.4]], np.float32))}  # fmt: skip


def test_the_loss_is_the_mean_over_masked_words_and_that_of_the_next_sentence():
    expected = [-(np.log(0.7) + np.log(0.25)) / 2 - np.log(0.8), -np.log(0.6) - np.log(0.4)]
    np.testing.assert_allclose(pretraining().loss(TARGETS, OUTPUTS), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("masked_accuracy", [0.5, 1.0]),
        ("masked_nats", [-(np.log(0.7) + np.log(0.25)) / 2, -np.log(0.6)]),
        ("next_sentence_accuracy", [1.0, 0.0]),
    ],
)
def test_metrics_are_means_over_the_masked_words_of_an_example(name, expected):
    np.testing.assert_allclose(pretraining().metrics[name](TARGETS, OUTPUTS), expected, rtol=1e-5)


def test_an_example_without_masked_words_has_no_loss_of_them():
    targets = {**TARGETS, "weights": np.zeros((2, 3), np.float32)}
    np.testing.assert_allclose(pretraining().loss(targets, OUTPUTS), [-np.log(0.8), -np.log(0.4)], rtol=1e-5)


def test_encoded_examples_have_masks_in_their_tokens_and_what_stood_there_in_their_targets():
    tokens = tf.constant([[2, *[A, B] * 10, 3]] * 2)
    seeds = tf.constant([[1, 2], [3, 4]])
    extra, targets = masked_words(PIECES).encode({"is_next": tf.constant([1, 0])}, {"tokens": tokens}, {}, seeds)
    assert extra.keys() == {"tokens", "positions"}
    np.testing.assert_array_equal(targets["words"], tf.gather(tokens, extra["positions"], batch_dims=1))
    np.testing.assert_array_equal(targets["elsewhere"], [0, 1])
    np.testing.assert_array_equal(targets["weights"], np.ones((2, 3)))
    assert (extra["tokens"].numpy() != tokens.numpy()).any()


def test_a_tiny_network_learns_a_batch_by_heart():
    keras.utils.set_random_seed(0)
    network, task = network_of(width=32, dropout=0.0), masked_words(PIECES)
    generator = np.random.default_rng(0)
    tokens = tf.constant(np.concatenate([np.full((8, 1), 2), generator.integers(5, 9, (8, 12)), np.full((8, 1), 3)], 1), tf.int32)
    seeds = tf.constant(generator.integers(0, 1_000, (8, 2)), tf.int32)
    extra, targets = task.encode({"is_next": tf.constant([0, 1] * 4)}, {"tokens": tokens}, {}, seeds)
    optimizer = keras.optimizers.Adam(3e-3)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(task.loss(targets, network({**extra, "segments": tf.zeros_like(tokens)}, training=True)))
        variables = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    losses = [float(step()) for _ in range(150)]
    assert losses[0] > 2
    assert losses[-1] < 0.1


# answers


def test_masks_are_filled_and_texts_with_and_without_them_go_together(serving):
    answers = ask(serving, ("a [MASK] c.", "[MASK]e"), ("b",))
    assert answers["filled"].tolist() == [b"a a c. ||| a [UNK]", b"b"]
    assert answers["candidates"].tolist() == [[[b"a", b"b"], [b"a", b"b"]], [[b"", b""], [b"", b""]]]
    np.testing.assert_allclose(answers["probabilities"][:, 0], [[0.5, 0.25], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(answers["is_next"], [0.75, 0.75], atol=1e-6)


def test_texts_without_any_mask_are_answered(serving):
    answers = ask(serving, ("a", "b c"))
    assert answers["filled"].tolist() == [b"a ||| b c"]
    assert answers["candidates"].shape == (1, 0, 2)


def test_a_row_tells_the_candidates_of_each_mask_and_of_two_texts_whether_they_follow(serving):
    names = ["a [MASK]", "a ||| b", "a"]
    answers = ask(serving, ("a [MASK]",), ("a", "b"), ("a",))
    assert pretraining().tell(names, answers) == [
        {"text": "a [MASK]", "filled": "a a", "candidates": [{"a": 0.5, "b": 0.25}], "is_next": None},
        {"text": "a ||| b", "filled": "a ||| b", "is_next": pytest.approx(0.75)},
        {"text": "a", "filled": "a", "is_next": None},
    ]


def test_texts_are_read_alone_or_in_pairs():
    names, raw = pretraining().read(["one [MASK].", "one ||| other", "one\tother"])
    assert names == ["one [MASK].", "one ||| other", "one\tother"]
    assert raw["first"].tolist() == ["one [MASK].", "one", "one"]
    assert raw["second"].tolist() == ["", "other", "other"]


def test_three_texts_are_refused():
    with pytest.raises(InputError, match=r"^one text, or two that .* parts, are wanted, got 3: a \|\|\| b \|\|\| c$"):
        pretraining().read(["a ||| b ||| c"])


def test_no_candidates_are_refused():
    with pytest.raises(InputError, match=r"^top must be at least 1, got 0$"):
        pretraining(top=0)


def test_the_attention_of_a_text_is_told_with_its_pieces(serving):
    model = pretraining().endpoints(serving)["attention"]
    answers = {name: np.asarray(value) for name, value in model(pretraining_probe()).items()}
    np.testing.assert_allclose(answers["attention"].sum(axis=-1), 1, atol=1e-5)
    assert answers["pieces"][0, :4].tolist() == [b"[CLS]", b"a", b"[UNK]", b"[MASK]"]
    pretraining().draw({}, {name: value[0] for name, value in answers.items()}, "name")


def pretraining_probe():
    return {name: tf.constant(value.tolist()) for name, value in pretraining().probe(None).items()}


# figures


def score(serving, rows, at_once=2):
    """What is told of test examples (first, second, is_next) that are training examples, too."""
    names = ("first", "second", "is_next")
    columns = {name: tf.constant(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}

    def fetch(indices):
        indices = tf.cast(indices, tf.int64)
        return {**{name: tf.gather(column, indices) for name, column in columns.items()}, "example": indices}

    source = Source(len(rows), fetch)
    data = Data("made up", source, source, source, inputs=("first", "second"), encoded=False, about={})
    batches = (fetch(tf.range(start, min(start + at_once, len(rows)))) for start in range(0, len(rows), at_once))
    return pretraining().score((({name: each.numpy() for name, each in raw.items()}, {}) for raw in batches), data, serving)


# 15 % of 20 pieces are 3, all a; of 4 pieces 1, which is b.
ROWS = [("a " * 10, "a " * 10, 1), ("b b", "b b", 0), ("b b", "b b", 0)]


@pytest.fixture(scope="module")
def report(serving):
    return score(serving, ROWS)


def figures(nats, next_sentence_accuracy):
    expected = {"masked_accuracy": 3 / 5, "masked_nats": nats, "masked_perplexity": np.exp(nats)}
    return pytest.approx({**expected, "next_sentence_accuracy": next_sentence_accuracy}, rel=1e-5)


def test_figures_are_means_over_all_masked_words_whatever_their_example(report):
    assert report.figures == figures((3 * np.log(2) + 2 * np.log(4)) / 5, 1 / 3)


def test_the_baseline_knows_how_frequent_pieces_and_answers_are(report):
    # 20 times a and 8 times b, and one more of each of the six pieces that are no marks.
    (found,) = report.baselines.values()
    assert found == figures(-(3 * np.log(21 / 34) + 2 * np.log(9 / 34)) / 5, 2 / 3)


def test_a_table_shows_what_is_masked_answered_and_true(report):
    table = report.tables["masked words"]
    assert [(row["answer"], row["truth"]) for row in table] == [("a", "a"), ("a", "b"), ("a", "b")]
    assert all(row["text"].split().count("____") == 1 for row in table)
    assert set(report.pictures) == {"attention"}


def test_figures_are_the_same_each_time_and_however_many_texts_are_answered_at_once():
    serving = serving_of(network_of())
    rows = [("a b c d " * 3, "d c b a", 1), ("a", "b", 0), ("d d d d d d d", "a b c d a b c d", 0)]
    one, other = (score(serving, rows, at_once).figures for at_once in (1, 3))
    assert one == pytest.approx(other, rel=1e-5)


def test_texts_without_words_have_no_figures(serving):
    with pytest.raises(InputError, match=r"^made up: no example has a word that could be masked$"):
        score(serving, [("", "", 1)])


# runs


def test_the_task_is_made_again_from_its_description():
    description = json.loads(json.dumps(masked_words(PIECES, whole_words=True).description))
    assert description["arguments"] == {"whole_words": True, "top": 5}
    assert rebuild(description).name == "pretraining"


def test_the_network_and_the_pieces_of_a_run_are_weights_for_other_tasks(sure, serving, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    sure.save(tmp_path / "model.keras")
    serving.save(tmp_path / "serving.keras")
    read = read_bert(tmp_path)
    assert (list(read.pieces), read.lower, read.sizes["vocabulary"]) == (PIECES, True, len(PIECES))
    again = network_of(weights=read, positions=None, vocabulary=None, depth=None, width=None, heads=None)
    for one, other in zip(sure.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_saved_serving_model_answers_as_before(serving, tmp_path):
    serving.save(tmp_path / "serving.keras")
    again = keras.saving.load_model(tmp_path / "serving.keras", compile=False, safe_mode=True)
    one, other = (ask(each, ("a [MASK]", "b")) for each in (serving, again))
    assert one["filled"].tolist() == other["filled"].tolist()
    np.testing.assert_array_equal(one["probabilities"], other["probabilities"])
