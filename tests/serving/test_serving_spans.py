"""Windows over texts, held to a slow twin of the loop in the authors' run_squad.py, and spans, held to a search one by one."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.serving.spans import AnswerWindow, BestSpan, QuestionWindows, WindowLogits, window_inputs
from kerastoolkit.serving.word_pieces import MARKS, WordPieces

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = [*MARKS, *LETTERS, *"?.", *("##" + letter for letter in LETTERS), "東", "京"]
SIDE = ("example", "begins", "ends", "central", "context")


@functools.cache
def windows(longest, stride, longest_question):
    layer = QuestionWindows(PIECES, True, longest, stride, longest_question)
    return tf.function(layer, input_signature=[tf.TensorSpec((None,), tf.string)] * 2)


@functools.cache
def cut():
    return tf.function(WordPieces(PIECES).cut, input_signature=[tf.TensorSpec((None,), tf.string)])


def windows_of(questions, contexts, longest=14, stride=3, longest_question=4):
    found = windows(longest, stride, longest_question)(tf.constant(questions), tf.constant(contexts))
    return {name: value.numpy() for name, value in found.items()}


def slow_windows(question, context, longest, stride, longest_question):
    """(tokens, begins, ends, central) of each window, without padding."""
    asked = cut()(tf.constant([question])).tokens[0].numpy().tolist()[:longest_question]
    tokens, begins, ends = (each[0].numpy().tolist() for each in cut()(tf.constant([context])))
    most, spans, start = longest - len(asked) - 3, [], 0
    while start < len(tokens):
        length = min(len(tokens) - start, most)
        spans.append((start, length))
        if start + length == len(tokens):
            break
        start += min(length, stride)

    def best_window(place):
        best, best_score = None, None
        for number, (start, length) in enumerate(spans):
            if start <= place < start + length:
                score = min(place - start, start + length - 1 - place) + 0.01 * length
                if best_score is None or score > best_score:
                    best, best_score = number, score
        return best

    head, tail = len(asked) + 2, [-1]
    for number, (start, length) in enumerate(spans):
        places = range(start, start + length)
        yield ([2, *asked, 3, *tokens[start : start + length], 3], [-1] * head + begins[start : start + length] + tail,
               [-1] * head + ends[start : start + length] + tail,
               [False] * head + [best_window(place) == number for place in places] + [False])  # fmt: skip


def some_text(random, most):
    words = ("".join(random.choice(list(LETTERS), random.integers(1, 7))) for _ in range(random.integers(1, most)))
    return " ".join(words)


@pytest.mark.parametrize(("longest", "stride", "longest_question"), [(14, 3, 4), (12, 50, 3), (130, 7, 8)])
def test_windows_are_those_of_a_loop_over_each_text(longest, stride, longest_question):
    random = np.random.default_rng(longest)
    questions, contexts = ([some_text(random, most) for _ in range(12)] for most in (4, 90))
    found = windows_of(questions, contexts, longest=longest, stride=stride, longest_question=longest_question)
    wanted = [
        (number, *window)
        for number, pair in enumerate(zip(questions, contexts, strict=True))
        for window in slow_windows(*pair, longest, stride, longest_question)
    ]
    assert found["example"].tolist() == [each[0] for each in wanted]
    assert found["tokens"].shape[1] == max(len(each[1]) for each in wanted)
    for row, (_, tokens, begins, ends, central) in enumerate(wanted):
        size = len(tokens)
        assert found["tokens"][row, :size].tolist() == tokens and not found["tokens"][row, size:].any()
        assert found["begins"][row, :size].tolist() == begins and (found["begins"][row, size:] == -1).all()
        assert found["ends"][row, :size].tolist() == ends and (found["ends"][row, size:] == -1).all()
        assert found["central"][row, :size].tolist() == central and not found["central"][row, size:].any()
        question, padding = tokens.index(3) + 1, len(found["tokens"][row]) - size
        assert found["segments"][row].tolist() == [0] * question + [1] * (size - question) + [0] * padding


def test_a_window_without_a_question_or_a_text_has_its_marks():
    found = windows_of(["", "", "a"], ["", "b", ""])
    assert found["tokens"].tolist() == [[2, 3, 3, 0], [2, 3, 6, 3], [2, 5, 3, 3]]
    assert found["segments"].tolist() == [[0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert found["begins"].tolist() == [[-1] * 4, [-1, -1, 0, -1], [-1] * 4]


def test_each_token_of_a_text_is_central_in_one_window():
    random = np.random.default_rng(0)
    found = windows_of(["who"] * 6, [some_text(random, 60) for _ in range(6)])
    example = np.broadcast_to(found["example"][:, None], found["begins"].shape)
    places = [list(zip(example[some], found["begins"][some], strict=True)) for some in (found["begins"] >= 0, found["central"])]
    assert sorted(set(places[0])) == sorted(places[1])


def test_the_places_of_tokens_are_counted_in_characters_of_the_text_as_it_is():
    found = windows_of(["x"], ["😀 É\u200b\t東京 e\u0301b"], longest=40)
    used = found["begins"][0] >= 0
    assert list(zip(found["begins"][0][used], found["ends"][0][used], strict=True)) == [
        (0, 1), (2, 3), (5, 6), (6, 7), (8, 9), (10, 11)]  # fmt: skip


def made_up_spans(seed):
    random = np.random.default_rng(seed)
    contexts = [some_text(random, most) for most in (3, 40, 2, 25, 60)] + [""]
    found = windows_of(["who"] * len(contexts), contexts)
    logits = (random.normal(size=(*found["tokens"].shape, 2)) * 3).astype(np.float32)
    return found, logits


@pytest.mark.parametrize("longest_answer", [1, 3, 30])
def test_the_best_span_is_that_of_a_search_over_all_spans(longest_answer):
    found, logits = made_up_spans(longest_answer)
    answers = {name: value.numpy() for name, value in BestSpan(longest_answer)(logits, *(found[name] for name in SIDE)).items()}
    for example, context in enumerate(found["context"]):
        spans = []
        for window in np.flatnonzero(found["example"] == example):
            places = np.flatnonzero(found["begins"][window] >= 0)
            for first in places:
                for last in places:
                    if found["central"][window, first] and first <= last < first + longest_answer:
                        total = float(logits[window, first, 0]) + float(logits[window, last, 1])
                        spans.append((total, found["begins"][window, first], found["ends"][window, last]))
        if not spans:
            assert context == b"" and answers["answer"][example] == b"" and answers["probability"][example] == 0
            continue
        total, begin, end = max(spans)
        assert (answers["begin"][example], answers["end"][example]) == (begin, end)
        assert answers["answer"][example] == context[begin:end] != b""
        shares = np.exp(np.array([each[0] for each in spans]) - total)
        assert answers["probability"][example] == pytest.approx(1 / shares.sum(), rel=1e-4)


def test_the_window_of_an_answer_is_the_one_in_which_its_first_token_is_central():
    found, logits = made_up_spans(2)
    begin = BestSpan(5)(logits, *(found[name] for name in SIDE))["begin"].numpy()
    names = ("tokens", "segments", "example", "begins", "ends", "central")
    chosen = AnswerWindow()(*(tf.constant(found[name]) for name in names), begin)
    later = 0
    for example in range(len(begin)):
        own = np.flatnonzero(found["example"] == example)
        holds = [window for window in own if (found["begins"][window][found["central"][window]] == begin[example]).any()]
        assert len(holds) == 1 or found["context"][example] == b""
        window = (*holds, own[0])[0]
        later += window > own[0]
        for name, values in chosen.items():
            assert values.numpy()[example].tolist() == found[name][window].tolist()
    assert later >= 2  # else the first window would do


def answer_at(context, first, last):
    """The answer of which two tokens of the text have the largest logits."""
    found = windows_of(["x"], [context], longest=40)
    logits = np.zeros((*found["tokens"].shape, 2), np.float32)
    logits[0, 3 + first, 0] = logits[0, 3 + last, 1] = 9
    return {name: value.numpy()[0] for name, value in BestSpan()(logits, *(found[name] for name in SIDE)).items()}


@pytest.mark.parametrize(
    ("context", "first", "last", "answer"),
    [
        ("Von É zu 😀👍🏽 in 東京.", 3, 3, "É"),
        ("Von É zu 😀👍🏽 in 東京.", 6, 6, "😀👍🏽"),
        ("Von É zu 😀👍🏽 in 東京.", 9, 10, "東京"),
        ("a cafe\u0301 b", 1, 4, "cafe\u0301"),
        ("a cafe\u0301", 1, 4, "cafe\u0301"),
        ("\ufeffab\r\n c", 0, 2, "ab\r\n c"),
    ],
)
def test_an_answer_is_that_part_of_the_text_with_all_its_characters(context, first, last, answer):
    found = answer_at(context, first, last)
    assert found["answer"].decode() == answer == context[found["begin"] : found["end"]]


def test_a_span_does_not_end_before_it_begins():
    found = answer_at("one two three", 6, 0)  # the logits of "three" and of the first letter of "one"
    assert found["begin"] < found["end"]


def test_what_stands_beside_an_answer_is_told():
    found = answer_at("a" + " b" * 30 + " c", 0, 0)
    assert found["before"] == b"" and found["after"] == b" b" * 20


def test_of_empty_texts_alone_all_answers_are_empty():
    found = windows_of(["who", ""], ["", " \n"])
    answers = BestSpan()(np.ones((*found["tokens"].shape, 2), np.float32), *(found[name] for name in SIDE))
    assert {name: value.numpy().tolist() for name, value in answers.items()} == {
        "answer": [b""] * 2, "before": [b""] * 2, "after": [b""] * 2, "begin": [0] * 2, "end": [0] * 2,
        "probability": [0.0] * 2}  # fmt: skip


def test_what_else_is_in_the_batch_changes_neither_windows_nor_answers():
    found, logits = made_up_spans(5)
    together = BestSpan(4)(logits, *(found[name] for name in SIDE))
    for example in range(len(found["context"])):
        own = found["example"] == example
        alone = windows_of(["who"], [found["context"][example].decode()])
        length = alone["tokens"].shape[1]
        for name in ("tokens", "segments", "begins", "ends", "central"):
            assert (found[name][own, :length] == alone[name]).all()
        answers = BestSpan(4)(logits[own, :length], *(alone[name] for name in SIDE))
        for name, values in answers.items():
            expected = together[name].numpy()[example]
            assert values.numpy()[0] == (pytest.approx(expected, rel=1e-5) if name == "probability" else expected)


def tiny_network():
    tokens, segments = (keras.Input((None,), dtype="int32", name=name) for name in ("tokens", "segments"))
    x = keras.layers.Embedding(len(PIECES), 8)(tokens) + keras.layers.Embedding(2, 8)(segments)
    return keras.Model([tokens, segments], keras.layers.Dense(2)(x))


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_a_network_that_sees_some_windows_at_a_time_gives_the_logits_of_all(at_once):
    found, _ = made_up_spans(1)
    network = tiny_network()
    logits = WindowLogits(network, at_once)(found["tokens"], found["segments"])
    np.testing.assert_allclose(logits, network([found["tokens"], found["segments"]]), rtol=1e-5, atol=1e-6)


def test_a_saved_model_with_these_layers_answers_alike(tmp_path):
    preprocess = window_inputs(PIECES, lower=True, longest=20, stride=4, longest_question=5)
    found = preprocess.output
    logits = WindowLogits(tiny_network())(found["tokens"], found["segments"])
    model = keras.Model(preprocess.input, BestSpan(5)(logits, *(found[name] for name in SIDE)))
    model.save(tmp_path / "model.keras")
    given = {"question": tf.constant(["who is it?", ""]), "context": tf.constant(["some words " * 9, "É 東京"])}
    again = keras.saving.load_model(tmp_path / "model.keras")(given)
    for name, values in model(given).items():
        assert values.numpy().tolist() == again[name].numpy().tolist()


def test_sizes_without_room_are_refused():
    with pytest.raises(ValueError, match=r"longest must be at least longest_question \+ 4 \(68\).* got 67"):
        QuestionWindows(PIECES, longest=67)
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        QuestionWindows(PIECES, stride=0)
    with pytest.raises(ValueError, match="longest_question must be at least 1, got 0"):
        QuestionWindows(PIECES, longest_question=0)
    with pytest.raises(ValueError, match="longest_answer must be at least 1, got 0"):
        BestSpan(0)
