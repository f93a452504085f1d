"""Texts as tokens, written before training."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data import tokenised as module
from kerastoolkit.data.strings import held_source
from kerastoolkit.data.tokenised import tokenised
from kerastoolkit.experiment import Data, InputError
from kerastoolkit.serving.byte_pairs import END, FIRST_BYTE, BytePairTokens

SOURCES = BytePairTokens([])
TARGETS = BytePairTokens([(FIRST_BYTE + ord("a"), FIRST_BYTE + ord("b"))])  # others than the source's
# Of source and target, in bytes with the space before them and one for the end; "ab" is one token of a target.
PAIRS = [("x", "ab"), ("long source", "a"), ("", "ababab"), ("y" * 8, "abcdefg"), ("z", "a very long target"), ("한", "안녕")]
LENGTHS = [(3, 3), (13, 3), (1, 5), (10, 8), (3, 20), (5, 8)]


def source_of(pairs, named=True):
    source = held_source({"korean": [pair[0] for pair in pairs], "english": [pair[1] for pair in pairs]})
    return dataclasses.replace(source, name=(lambda index: f"line {index + 1}") if named else None)


def data(train=PAIRS, validation=PAIRS[:3], test=PAIRS, named=True):
    parts = [source_of(each, named) for each in (train, validation, test)]
    return Data("pairs", *parts, ("korean",), False, {}, notes=("a note",))


def written(longest=None, **parts):
    return tokenised(
        data(**parts), source_tokens=SOURCES, target_tokens=TARGETS, source="korean", target="english", longest=longest
    )


@functools.cache
def whole():
    """Without a bound."""
    return written()


def fetched(source, indices):
    batch = source.fetch(tf.constant(indices, tf.int64))
    return {key: value.numpy() for key, value in batch.items()}


def test_target_tokens_are_those_that_the_layer_gives_beside_the_strings():
    made = whole()
    for split, pairs in (("train", PAIRS), ("validation", PAIRS[:3])):
        batch = fetched(made.split(split), range(len(pairs)))
        assert [each.decode() for each in batch["korean"]] == [pair[0] for pair in pairs]
        assert [each.decode() for each in batch["english"]] == [pair[1] for pair in pairs]
        np.testing.assert_array_equal(batch["target_tokens"], TARGETS(tf.constant([pair[1] for pair in pairs])))
        assert batch["target_tokens"].dtype == np.int32


def test_a_batch_is_as_long_as_its_longest_target_in_any_order_and_again():
    made = whole()
    batch = fetched(made.train, [5, 0, 5])
    np.testing.assert_array_equal(batch["target_tokens"], TARGETS(tf.constant(["안녕", "ab", "안녕"])))
    assert batch["target_tokens"].shape == (3, 8)
    assert fetched(made.train, [0])["target_tokens"].shape == (1, 3)
    assert fetched(made.train, [])["target_tokens"].shape[0] == 0


def test_examples_are_fetched_inside_a_pipeline_of_tensorflow():
    batches = tf.data.Dataset.range(6).batch(2).map(whole().train.fetch, num_parallel_calls=2)
    assert batches.element_spec["target_tokens"] == tf.TensorSpec((None, None), tf.int32)
    rows = [row[row != 0].tolist() for batch in batches for row in batch["target_tokens"].numpy()]
    assert [len(row) for row in rows] == [length for _, length in LENGTHS]
    assert all(row[-1] == END for row in rows)


def test_lengths_are_the_tokens_of_source_and_target():
    made = whole()
    np.testing.assert_array_equal(made.train.lengths, LENGTHS)
    np.testing.assert_array_equal(made.validation.lengths, LENGTHS[:3])


def test_examples_that_are_too_long_on_either_side_are_left_out_and_counted():
    made = written(longest=8)
    kept = [0, 2, 5]
    assert made.train.size == 3
    np.testing.assert_array_equal(made.train.lengths, [LENGTHS[place] for place in kept])
    batch = fetched(made.train, [2, 0, 1])
    assert [each.decode() for each in batch["english"]] == [PAIRS[place][1] for place in (5, 0, 2)]
    np.testing.assert_array_equal(batch["target_tokens"], TARGETS(tf.constant([PAIRS[place][1] for place in (5, 0, 2)])))
    assert [made.train.name(place) for place in range(3)] == ["line 1", "line 3", "line 6"]
    assert made.validation.size == 2
    assert [made.validation.name(place) for place in range(2)] == ["line 1", "line 3"]
    assert made.notes == (
        "a note",
        "train examples of more than 8 tokens, left out: 3 of 6",
        "validation examples of more than 8 tokens, left out: 1 of 3",
    )


def test_a_bound_that_nothing_passes_leaves_all_and_no_note():
    made = written(longest=20)
    assert (made.train.size, made.validation.size, made.notes) == (6, 3, ("a note",))
    assert written(longest=19).train.size == 5


def test_what_is_scored_is_left_as_it_is():
    given = data()
    made = tokenised(given, source_tokens=SOURCES, target_tokens=TARGETS, source="korean", target="english", longest=3)
    assert made.test is given.test
    assert (made.name, made.inputs) == ("pairs", ("korean",))


def test_examples_without_names_have_none():
    assert written(named=False).train.name is None


def test_no_validation_is_no_error():
    made = written(longest=8, validation=PAIRS[1:2])
    assert (made.train.size, made.validation.size) == (3, 0)


def test_no_training_example_left_is_an_error_that_says_why():
    with pytest.raises(InputError, match="pairs: every training example has more than 2 tokens"):
        written(longest=2)


@pytest.mark.parametrize("at_once", [1, 4])
def test_texts_that_are_written_in_several_turns_are_the_same(at_once, monkeypatch):
    expected = fetched(whole().train, range(6))
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    made = written()
    np.testing.assert_array_equal(made.train.lengths, LENGTHS)
    np.testing.assert_array_equal(fetched(made.train, range(6))["target_tokens"], expected["target_tokens"])
