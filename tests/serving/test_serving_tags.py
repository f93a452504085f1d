"""Which word piece stands for which word inside the graph, and the entities that tags mean."""

import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.serving.tags import (
    BLANKS,
    TaggedPieces,
    WordTags,
    entities,
    tagged_piece_inputs,
    tags_of_tokens,
    words_of,
)
from kerastoolkit.serving.word_pieces import MARKS, WordPieces

PIECES = [*MARKS, *"abcdefghij,.()-", "##a", "##b", "##c"]


def tagged(*texts, longest=16):
    return {name: value.numpy().tolist() for name, value in TaggedPieces(PIECES, longest=longest)(tf.constant(texts)).items()}


def test_blanks_are_what_word_pieces_take_for_white_space():
    spaces = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Zs"]
    assert sorted(BLANKS) == sorted(["\t", "\n", "\r", *spaces])


def test_the_first_piece_of_a_word_stands_for_it():
    found = tagged("ab c", "d")
    assert found["words"] == [[-1, 0, -1, 1, -1], [-1, 0, -1, -1, -1]]
    assert found["starts"] == [[1, 3], [1, -2]]


def test_punctuation_is_part_of_the_word_that_it_stands_in():
    # [CLS] ( a ) . b - c [SEP]
    assert tagged("(a). b-c")["words"] == [[-1, 0, -1, -1, -1, 1, -1, -1, -1]]


def test_blanks_of_every_kind_and_number_part_words():
    assert tagged(" a\u00a0\u3000b\t\n c ")["starts"] == [[1, 2, 3]]


def test_a_word_of_which_nothing_is_read_has_no_token_but_is_counted():
    assert tagged("a \u0001\u200b b")["starts"] == [[1, -1, 2]]


def test_a_word_whose_first_character_is_not_read_is_stood_for_by_what_comes_after():
    assert tagged("a \u200bb")["starts"] == [[1, 2]]


def test_a_word_that_is_cut_off_has_no_token_but_is_counted():
    found = tagged("a b c d e", longest=5)
    assert found["starts"] == [[1, 2, 3, -1, -1]]
    assert found["words"] == [[-1, 0, 1, 2, -1]]


def test_an_empty_text_and_one_of_blanks_have_no_words():
    found = tagged("", "  ")
    assert (found["words"], found["starts"]) == ([[-1, -1]] * 2, [[], []])


def test_a_sentence_is_read_alike_whatever_its_batch():
    texts = ["ab, c", "", "\u0001", "(d e)f ghij"]
    alone = [tagged(text) for text in texts]
    together = tagged(*texts)
    for row, each in enumerate(alone):
        for name, padding in (("tokens", 0), ("words", -1), ("starts", -2)):
            filled = np.pad(each[name][0], (0, len(together[name][row]) - len(each[name][0])), constant_values=padding)
            assert together[name][row] == filled.tolist(), (name, texts[row])


def test_the_tokens_are_those_of_word_pieces():
    texts = tf.constant(["ab (c), d.", "", "a b c d e f g h i j"])
    expected = WordPieces(PIECES, longest=8)(texts)
    found = TaggedPieces(PIECES, longest=8)(texts)
    for name in ("tokens", "segments"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_the_words_that_are_counted_are_those_that_python_finds():
    text = " (ab) \u3000c\u2028d \u0001\t e\u0301"
    assert len(tagged(text)["starts"][0]) == len(words_of(text))
    assert [text[begin:end] for begin, end in words_of(text)] == ["(ab)", "c\u2028d", "\u0001", "e\u0301"]


def test_the_layer_is_the_same_after_saving(tmp_path):
    made = tagged_piece_inputs(PIECES, lower=False, longest=7)
    made.save(tmp_path / "made.keras")
    read = keras.saving.load_model(tmp_path / "made.keras")
    layer = read.get_layer("word_pieces")
    assert (layer.pieces, layer.cutting.lower, layer.cutting.longest) == (PIECES, False, 7)
    texts = tf.constant(["a A (b)", "abc"])
    for name, value in made(texts).items():
        np.testing.assert_array_equal(read(texts)[name], value)


def test_tags_go_to_the_tokens_that_begin_their_words():
    found = TaggedPieces(PIECES, longest=6)(tf.constant(["ab c", "a \u0001 b c d e", ""]))
    places = tags_of_tokens(tf.constant(["B-X O", "O B-X I-X B-X O O", ""]), found["words"], ["O", "B-X", "I-X"])
    assert places.numpy().tolist() == [[-1, 1, -1, 0, -1, -1], [-1, 0, 2, 1, 0, -1], [-1] * 6]


def test_tags_of_sentences_without_words_are_none():
    words = TaggedPieces(PIECES)(tf.constant(["", ""]))["words"]
    assert tags_of_tokens(tf.constant(["", ""]), words, ["O", "B-X"]).numpy().tolist() == [[-1, -1]] * 2


def test_a_word_has_the_most_probable_tag_of_its_first_piece():
    probabilities = [[[1.0, 0.0], [0.25, 0.75], [0.5, 0.5], [0.625, 0.375]], [[1.0, 0.0]] * 4]
    found = WordTags(["O", "B-X"])(tf.constant(probabilities), tf.constant([[1, -1, 3], [-2, -2, -2]]))
    assert found["tags"].numpy().tolist() == [b"B-X O O", b""]
    assert found["probability"].numpy().tolist() == [[0.75, 0.0, 0.625], [0.0, 0.0, 0.0]]


def test_a_batch_without_words_is_answered():
    found = WordTags(["O", "B-X"])(tf.ones((2, 2, 2)), tf.zeros((2, 0), tf.int32))
    assert found["tags"].numpy().tolist() == [b"", b""]
    assert found["probability"].shape == (2, 0)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-A I-A O B-B", [("A", 0, 2), ("B", 3, 4)]),
        ("B-A B-A I-A", [("A", 0, 1), ("A", 1, 3)]),  # neighbours of one kind
        ("O I-A I-A", [("A", 1, 3)]),  # begun with I-, after O and in the first place
        ("I-A O", [("A", 0, 1)]),
        ("B-A I-B I-B", [("A", 0, 1), ("B", 1, 3)]),  # the kind changes inside
        ("O B-A I-A", [("A", 1, 3)]),  # it ends with the sentence
        ("B-A I-A E-A S-A S-A", [("A", 0, 3), ("A", 3, 4), ("A", 4, 5)]),
        ("B-A E-A I-A E-A", [("A", 0, 2), ("A", 2, 4)]),  # after an end another begins
        ("E-A O S-B", [("A", 0, 1), ("B", 2, 3)]),
        ("B-A S-A I-A", [("A", 0, 1), ("A", 1, 2), ("A", 2, 3)]),
        ("B-x-y I-x-y I-x", [("x-y", 0, 2), ("x", 2, 3)]),
    ],
)
def test_tags_mean_the_entities_that_conlleval_finds(tags, expected):
    assert entities(tags.split()) == expected
