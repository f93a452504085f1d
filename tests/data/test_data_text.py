import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data.text import PASSAGE, random_window, text
from kerastoolkit.experiment import InputError


def strings(source):
    return [each.decode() for each in source.fetch(np.arange(source.size))["prompt"].numpy()]


@pytest.fixture
def korean(tmp_path):
    path = tmp_path / "korean.txt"
    whole = "".join(np.random.default_rng(0).choice(list("가나다라 마바사\n"), 60_000))
    path.write_text(whole)
    return str(path), whole


def test_each_held_out_character_but_the_first_is_predicted_once(korean):
    path, whole = korean
    data = text(path, window=16, validation=0.1, test=0.2)
    for source, part in ((data.validation, whole[42_000:48_000]), (data.test, whole[48_000:])):
        pieces = strings(source)
        assert pieces[0] + "".join(piece[1:] for piece in pieces[1:]) == part
        assert all(a[-1] == b[0] for a, b in zip(pieces, pieces[1:], strict=False))
        assert max(map(len, pieces)) == PASSAGE + 1


def test_training_pieces_are_of_the_training_part(korean):
    path, whole = korean
    pieces = strings(text(path, window=16, validation=0.1, test=0.2).train)
    assert {len(piece) for piece in pieces} == {33}
    assert [piece[:16] for piece in pieces] == [whole[i : i + 16] for i in range(0, 42_000 - 32, 16)]


def test_the_alphabet_is_that_of_the_training_part(tmp_path):
    (tmp_path / "t.txt").write_text("abc" * 300 + "z" * 100)
    assert text(str(tmp_path / "t.txt"), window=8, validation=0.0, test=0.1).about["characters"] == "abc"


def test_line_ends_and_a_byte_order_mark_are_evened_out(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbf" + b"ab\r\ncd\rx\n" * 50)
    assert text(str(tmp_path / "t.txt"), window=4).about["characters"] == "\nabcdx"


@pytest.mark.parametrize(
    ("contents", "arguments", "message"),
    [
        (b"fine\nfi\xffne", {}, r"t.txt, line 2: must be UTF-8 text, got the byte 0xff"),
        (b"short", {}, "a window of 128 needs at least 257 characters to train on, got"),
        (b"a" * 999, {"validation": 0.6, "test": 0.5}, "validation and test must be shares"),
        (b"a" * 999, {"window": 0}, "window must be at least 1, got 0"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(tmp_path, contents, arguments, message):
    (tmp_path / "t.txt").write_bytes(contents)
    with pytest.raises(InputError, match=message):
        text(str(tmp_path / "t.txt"), **arguments)


def test_an_unknown_text_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="unknown text nowhere: choose sample, sonnets, tiny_shakespeare"):
        text("nowhere")


def test_a_random_window_begins_anywhere_and_depends_on_its_seed_alone():
    whole = "가나다라마바사아자차"
    raw = {"prompt": tf.constant([whole] * 400)}
    seeds = np.random.default_rng(0).integers(-(2**31), 2**31, (400, 2)).astype(np.int32)
    augment = random_window(characters=4)
    found = [each.decode() for each in augment(raw, tf.constant(seeds), None)["prompt"].numpy()]
    assert set(found) == {whole[i : i + 4] for i in range(7)}
    again = augment({"prompt": raw["prompt"][:1]}, tf.constant(seeds[5:6]), None)["prompt"].numpy()[0].decode()
    assert again == found[5]
