"""Vocabularies of word pieces: learned from texts, or read from a file."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data import word_pieces as module
from kerastoolkit.data.word_pieces import learn_word_pieces, read_word_pieces, word_pieces
from kerastoolkit.experiment import Data, InputError, Source
from kerastoolkit.serving.word_pieces import MARKS, WordPieces

TEXTS = ("the lower the lowest", "a newer and the newest widow", "Ärger, 한국어 !", "low low low new new")


@functools.cache
def learned(texts=TEXTS, **arguments):
    return learn_word_pieces([np.array(texts, object)], **{"vocabulary": 100, **arguments})


def held(texts):
    source = Source(len(texts), lambda indices: {"first": tf.gather(tf.constant(texts), indices)})
    return Data("made up", source, source, source, inputs=("first",), encoded=False, about={})


def test_marks_come_first_then_every_letter_at_the_beginning_of_a_word_and_inside():
    letters = "adehilnorstw"  # of the three texts that have Latin ones
    pieces = learned(("the lower the lowest", "a newer and the newest widow"), vocabulary=200)
    expected = [*MARKS, *letters, *(f"##{letter}" for letter in letters)]
    assert pieces[: len(expected)] == expected


def test_pieces_that_come_often_together_become_one():
    assert {"low", "new", "the"} <= set(learned())


def test_the_vocabulary_has_no_more_pieces_than_wanted():
    assert learned(vocabulary=55) == learned()[:55]
    assert len(learned()) > 55


def test_every_word_that_it_was_learned_from_can_be_read():
    pieces = learned()
    tokens = WordPieces(pieces)(tf.constant(TEXTS))["tokens"].numpy()
    assert pieces.index("[UNK]") not in tokens


def test_capital_letters_and_accents_stay_where_they_are_told_to():
    assert "Ä" in learned(lower=False)
    assert "Ä" not in learned()
    assert "a" in learned()


def test_a_rare_letter_beyond_the_thousand_most_frequent_is_left_out(monkeypatch):
    monkeypatch.setattr(module, "MOST_LETTERS", 2)
    pieces = learned(("aa ab ba", "ca"))
    assert {"a", "##a", "b", "##b"} <= set(pieces)
    assert not any("c" in piece for piece in pieces if piece not in MARKS)


def test_too_small_a_vocabulary_for_the_letters_is_refused():
    with pytest.raises(InputError, match=r"^vocabulary must be at least 11 for the letters of these texts, got 10$"):
        learned(("abc",), vocabulary=10)


def test_the_vocabulary_is_the_same_from_process_to_process():
    program = (
        "import numpy as np\n"
        "from kerastoolkit.data.word_pieces import learn_word_pieces\n"
        f"print(ascii(learn_word_pieces([np.array({TEXTS!r}, object)], vocabulary=100)))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                           env={**os.environ, "PYTHONHASHSEED": "7"})  # fmt: skip
    assert found.stdout.strip().splitlines()[-1] == ascii(learned())


def test_it_is_learned_from_all_strings_of_training_examples():
    columns = {"first": ["aa", "bb"], "second": ["cc", "dd"], "label": ["x", "y"]}
    train = Source(2, lambda indices: {key: tf.gather(tf.constant(texts), indices) for key, texts in columns.items()})
    data = Data("made up", train, held(["z"]).train, held(["z"]).train, inputs=("first", "second"), encoded=False, about={})
    assert set(word_pieces(data, vocabulary=50)) == {*MARKS, *"abcd", *(f"##{letter}" for letter in "abcd")}


def test_of_very_many_texts_some_are_read_that_are_spread_evenly(monkeypatch):
    monkeypatch.setattr(module, "MOST_TEXTS", 3)
    pieces = word_pieces(held(["aa aa", "b", "cc cc", "d", "ee ee"]), vocabulary=50)
    assert {"a", "c", "e"} <= set(pieces)
    assert not {"b", "d"} & set(pieces)


# files


def test_a_file_of_pieces_is_read_in_its_order_and_with_any_ends_of_lines(tmp_path):
    pieces = [*MARKS, "b", "##a", "한"]
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*pieces, ""]).encode())
    assert read_word_pieces(str(tmp_path / "vocab.txt")) == pieces


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", r"vocab.txt: pieces must have .*, and lack \[MASK\]$"),
        ("\n".join([*MARKS, "a", "a"]), r"vocab.txt: pieces must be of one letter or more, each once, got 'a'$"),
        ("a\n" + "\n".join(MARKS), r"vocab.txt: \[PAD\] must be the first of the pieces, got a$"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path, contents, message):
    (tmp_path / "vocab.txt").write_text(contents)
    with pytest.raises(InputError, match=message):
        read_word_pieces(str(tmp_path / "vocab.txt"))


def test_a_vocabulary_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"^vocabulary_file must be a file with a word piece in each line, got /nowhere$"):
        read_word_pieces("/nowhere")
