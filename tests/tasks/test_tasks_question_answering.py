import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import charts, models
from kerastoolkit.experiment import Data, Experiment, InputError, Source, rebuild
from kerastoolkit.optimizers import adamw
from kerastoolkit.pipeline import training_batches
from kerastoolkit.serving.model import serving_model
from kerastoolkit.serving.spans import QuestionWindows, window_inputs
from kerastoolkit.serving.word_pieces import MARKS
from kerastoolkit.steps import compile_steps
from kerastoolkit.tasks._answer_scores import (
    Asked,
    exact_match,
    figures,
    first_words,
    question_word,
    score_answers,
    word_f1,
    words_of_likest_sentence,
)
from kerastoolkit.tasks._bert import answer_attention_picture
from kerastoolkit.tasks.question_answering import answer_positions, question_answering, read_questions, tell
from kerastoolkit.training_state import State

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = [*MARKS, *LETTERS, *"0123456789?.", *("##" + letter for letter in LETTERS + "0123456789")]
TEXT = "It was built in 1889. It was closed in 1940."


@pytest.mark.parametrize(
    ("answer", "truths", "exact", "f1"),
    [
        # The numbers are what the official evaluate-v1.1.py of SQuAD gives for these texts.
        ("The Eiffel Tower!", ["Eiffel tower"], 1.0, 1.0),
        ("built in 1889", ["in 1889", "1889"], 0.0, 0.8),
        ("an apple a day", ["apple days", "the apple day."], 1.0, 1.0),
        ("", ["the"], 1.0, 0.0),
        ("École", ["ecole"], 0.0, 0.0),
        ("semi-final", ["semifinal", "semi final"], 1.0, 1.0),
        ("the cat the cat", ["cat"], 0.0, 2 / 3),
        ("New York City in New York", ["New York"], 0.0, 0.5),
    ],
)
def test_answers_are_compared_as_the_official_program_does(answer, truths, exact, f1):
    assert exact_match(answer, truths) == exact
    assert word_f1(answer, truths) == pytest.approx(f1, abs=1e-9)


def test_figures_are_means_over_all_questions_in_percent():
    asked = [Asked("", "", ("a b c d",)), Asked("", "", ("x y",)), Asked("", "", ("z",)), Asked("", "", ("z",))]
    # Precision 1/1, recall 1/3 (the article does not count): F1 0.5; then 1; then 0 twice.
    assert figures(asked, ["b", "x, y", "", "q"]) == {"exact_match": 25.0, "f1": 37.5}


def test_the_baselines_answer_from_the_text():
    asked = Asked("When was the old tower built?", "A man came in. The old tower was built in May 1889. It is high.", ())
    assert words_of_likest_sentence(asked) == "May 1889."
    assert first_words(asked) == "A man came"
    assert words_of_likest_sentence(Asked("What?", "", ())) == first_words(Asked("What?", " ", ())) == ""


def test_a_question_is_of_the_kind_of_its_first_question_word():
    assert question_word("In what year, and how?") == "what"
    assert question_word("Whose is it?") == "other"


def test_a_report_has_the_figures_the_kinds_and_the_surest_mistakes():
    raw = {
        "question": np.array([b"Who is it?", b"When was it?", b"Who was it?"], object),
        "context": np.array([b"Ann. In May."] * 3, object),
        "answers": np.array([json.dumps(each).encode() for each in (["Ann", "ann b"], ["May"], ["Ann"])], object),
    }  # fmt: skip
    answers = {"answer": np.array([b"Ann", b"In", b"Bob"], object), "probability": np.array([0.5, 0.25, 0.75], np.float32)}
    report = score_answers([(raw, answers)])
    assert report.figures["exact_match"] == pytest.approx(100 / 3)
    kinds = {row["question word"]: (row["exact_match"], row["questions"]) for row in report.tables["by question word"]}
    assert kinds == {"who": (50.0, 2), "when": (0.0, 1)}
    assert [row["answer"] for row in report.tables["surest mistakes"]] == ["Bob", "In"]
    assert report.notes[0].startswith("exact_match and f1 are percent of 3 questions, against 4 answers")


def encoded(question, context, answer, **sizes):
    """The pieces of each window from where its target begins to where it ends."""
    layer = QuestionWindows(PIECES, **{"longest": 16, "stride": 4, "longest_question": 4, **sizes})
    found = layer(tf.constant([question]), tf.constant([context]))
    begin = context.index(answer)
    positions = answer_positions(found, tf.constant([begin]), tf.constant([begin + len(answer)])).numpy()
    return [[PIECES[token] for token in row[first : last + 1]]
            for row, (first, last) in zip(found["tokens"].numpy(), positions, strict=True)]  # fmt: skip


def test_the_target_is_the_answer_in_each_window_that_has_all_of_it_and_else_the_first_token():
    # Windows of ten pieces of the text, every four: a..j, e..n, i..p.
    assert encoded("who", "a b c d e f g h i j k l m n o p", "i j k") == [["[CLS]"], ["i", "j", "k"], ["i", "j", "k"]]
    assert encoded("who", "a b c d e f g h i j k l m n o p", "a b c d e f g h i j k l") == [["[CLS]"]] * 3


def test_an_answer_that_is_part_of_a_word_is_the_pieces_that_hold_it():
    assert encoded("who", "in (1889-90)", "1889", longest=40) == [["1", "##8", "##8", "##9"]]
    assert encoded("who", "all yes", "l y", longest=40) == [["##l", "y"]]


def test_an_answer_of_no_piece_has_the_first_token_as_its_target():
    assert encoded("who", "a \u200b b", "\u200b") == [["[CLS]"]]


def test_the_loss_is_the_mean_of_two_cross_entropies_and_padding_has_no_part_in_it():
    task = question_answering()
    logits = np.array([[[0, 0], [1, 0], [0, 2], [50, 50]]], np.float32)
    targets = {"positions": np.array([[1, 2]], np.int32), "present": np.array([[True, True, True, False]])}
    start, end = np.log(2 + np.e) - 1, np.log(2 + np.e**2) - 2
    np.testing.assert_allclose(task.loss(targets, logits), [(start + end) / 2], rtol=1e-6)
    assert task.metrics["exact"](targets, logits).numpy().tolist() == [1.0]
    assert task.metrics["exact"]({**targets, "positions": np.array([[1, 1]])}, logits).numpy().tolist() == [0.0]


def test_encode_marks_padding_and_gives_the_network_nothing_more():
    found = window_inputs(PIECES, lower=True, longest=30, longest_question=4)(
        {"question": tf.constant(["who", "a"]), "context": tf.constant(["ab c", "d"])})  # fmt: skip
    truths = {"answer_begin": tf.constant([3, 0]), "answer_end": tf.constant([4, 1])}
    extra, targets = question_answering().encode(truths, {"tokens": found["tokens"]}, found, None)
    assert extra == {}
    assert targets["positions"].numpy().tolist() == [[7, 7], [3, 3]]
    assert targets["present"].numpy().sum(axis=1).tolist() == [9, 5]


def knowing_network(wanted):
    """A BERT whose block adds nothing and that finds a digit sequence: logits are high where a token begins a number of four
    digits, and where one ends."""
    network = models.bert_question_answering(vocabulary=len(PIECES), depth=1, width=len(PIECES), heads=1)
    for variable in network.trainable_variables:
        variable.assign(np.ones(variable.shape) if variable.name == "gamma" else np.zeros(variable.shape))
    network.get_layer("token_embedding").embeddings.assign(np.eye(len(PIECES)))
    kernel = np.zeros((len(PIECES), 2), np.float32)
    kernel[PIECES.index(wanted), 0] = kernel[PIECES.index("##9"), 1] = 2.0
    network.get_layer("span_logits").kernel.assign(kernel)
    return network


@pytest.fixture(scope="module")
def serving():
    preprocess = window_inputs(PIECES, lower=True, longest=24, stride=6, longest_question=8)
    return serving_model(preprocess=preprocess, network=knowing_network("1"), task=question_answering())


def test_the_serving_model_answers_for_long_and_for_short_texts(serving):
    names, raw = read_questions(["When?", "When was it?", "word " * 30 + "in 1889 and then " + "more " * 30])
    found = serving({name: tf.constant(value.tolist()) for name, value in raw.items()})
    rows = tell(names, {name: value.numpy() for name, value in found.items()})
    assert [row["question"] for row in rows] == ["When?", "When was it?"]
    assert all(row["answer"] == "1889" and (row["begin"], row["end"]) == (153, 157) and row["probability"] > 0.9 for row in rows)
    assert rows[0]["text"] == "…word word word word word word word in >1889< and then more more more more more more…"


def test_the_score_is_that_of_the_serving_models_answers(serving):
    raw = {"question": ["When?", "Then?"], "context": [TEXT, "In 19."], "answers": ['["1889"]', '["In"]']}
    source = Source(2, lambda indices: {name: tf.gather(tf.constant(values), indices) for name, values in raw.items()})
    data = Data("made", source, source, source, inputs=("question", "context"), encoded=False, about={})
    from kerastoolkit.evaluate import answered

    report = question_answering().score(answered(serving, data, "test", {}, 2), data, serving)
    assert report.figures == {"exact_match": 50.0, "f1": 50.0}
    assert [row["answer"] for row in report.tables["surest mistakes"]] == ["19"]
    title = report.pictures["attention"].get_suptitle()
    assert title == "When? 1889"


def test_the_attention_told_is_that_of_the_window_with_the_answer(serving):
    raw = {"question": ["When?", "Then?"], "context": ["word " * 30 + "in 1889 and then " + "more " * 30, "no"]}
    found = question_answering().endpoints(serving)["attention"]({name: tf.constant(texts) for name, texts in raw.items()})
    assert found["answer"].numpy().tolist() == [b"1889", b"n"]
    length = found["pieces"].shape[1]
    assert length <= 24 and found["attention"].shape == (2, 1, length, length)
    of_it = {name: value.numpy()[0] for name, value in found.items()}
    inside = (of_it["begins"] >= 153) & (of_it["ends"] <= 157)
    assert of_it["pieces"][inside].tolist() == [b"1", b"##8", b"##8", b"##9"]
    # The block's scores are all 0: every piece looks at all pieces alike.
    np.testing.assert_allclose(of_it["attention"][0, :, of_it["pieces"] != b""], 1 / 24, rtol=1e-5)
    assert found["pieces"][1].numpy()[:9].tolist() == [b"[CLS]", b"t", b"##h", b"##e", b"##n", b"?", b"[SEP]", b"n", b"##o"]


def test_a_picture_of_attention_shows_the_question_and_what_is_around_the_answer():
    length = 60
    answers = {"pieces": np.array([b"[CLS]", b"q", b"[SEP]", *(b"t%d" % place for place in range(55)), b"[SEP]", b""]),
               "begins": np.array([-1] * 3 + list(range(55)) + [-1] * 2),
               "ends": np.array([-1] * 3 + list(range(1, 56)) + [-1] * 2),
               "begin": 30, "end": 32, "attention": np.full((1, length, length), 0.1, np.float32)}  # fmt: skip
    (axes, *_) = answer_attention_picture(answers, "q").axes
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["[CLS]", "q", "[SEP]", *(f"t{place}" for place in range(30 - 12, 31 + 12 + 1))]
    nothing = answers | {"begins": np.full(length, -1), "ends": np.full(length, -1), "begin": 0, "end": 0}
    assert len(answer_attention_picture(nothing, "").axes[0].get_xticklabels()) == 59


def test_questions_are_learned_whose_texts_have_several_windows():
    years = ["1889", "1940", "2017", "1066"]
    contexts = ["no word " * place + f"in {year} and on" + " more" * (6 - place) for place, year in enumerate(years)]
    begins = [context.index(year) for context, year in zip(contexts, years, strict=True)]
    raw = {"question": ["When?"] * 4, "context": contexts, "answers": [json.dumps([year]) for year in years],
           "answer_begin": begins, "answer_end": [begin + 4 for begin in begins]}  # fmt: skip
    source = Source(4, lambda indices: {name: tf.gather(tf.constant(values), indices) for name, values in raw.items()})
    data = Data("made", source, source, source, inputs=("question", "context"), encoded=False, about={})
    preprocess = window_inputs(PIECES, lower=True, longest=24, stride=6, longest_question=8)
    keras.utils.set_random_seed(0)
    network = models.bert_question_answering(vocabulary=len(PIECES), depth=1, width=32, heads=2, dropout=0.0)
    task = question_answering()
    experiment = Experiment(data, preprocess, network, task, adamw(network, 1e-2), epochs=60, batch_size=4)
    state = State(experiment)
    compile_steps(state)(iter(training_batches(experiment, seed=0, start=0, end=60)), tf.constant(60))
    answers = serving_model(preprocess=preprocess, network=state.network, task=task)(
        {name: tf.constant(raw[name]) for name in ("question", "context")})  # fmt: skip
    assert [answer.decode() for answer in answers["answer"].numpy()] == years
    assert answers["probability"].numpy().min() > 0.9


def test_an_answer_is_drawn_in_its_text():
    answers = {"answer": b"1889", "begin": 16, "end": 20, "probability": 0.5}
    figure = question_answering().draw({"context": TEXT + "\n\n$5 東京 " + "word " * 99}, answers, "When?")
    set_off = [text for text in figure.findobj(lambda each: getattr(each, "get_weight", lambda: "")() == "bold")]
    assert [text.get_text() for text in set_off] == ["1889"]
    assert charts.png(figure).startswith(b"\x89PNG")


def test_all_but_the_last_argument_are_questions_about_the_last(tmp_path):
    (tmp_path / "text.txt").write_text("\ufeffIn 1889.\n", "utf-8")
    names, raw = read_questions(["When?", "Where?", str(tmp_path / "text.txt")])
    assert names == raw["question"].tolist() == ["When?", "Where?"]
    assert raw["context"].tolist() == ["In 1889.\n"] * 2
    assert read_questions(["When?", TEXT])[1]["context"].tolist() == [TEXT]


def test_a_file_in_squads_form_brings_questions_and_texts(tmp_path):
    paragraph = {"context": TEXT, "qas": [{"question": "When?"}, {"question": "Why?"}]}
    (tmp_path / "asked.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    names, raw = read_questions([str(tmp_path / "asked.json")])
    assert names == ["When?", "Why?"] and raw["context"].tolist() == [TEXT] * 2
    (tmp_path / "asked.json").write_text('{"data": [{"paragraphs": [{"context": 5, "qas": [{"question": "a"}]}]}]}')
    with pytest.raises(InputError, match="asked.json: must be JSON in SQuAD's form"):
        read_questions([str(tmp_path / "asked.json")])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["When was it built?"], "takes a question, or several, and last the text or its file; .*got When was it built"),
        ([], "got nothing"),
        (["", TEXT], "got an empty question"),
        (["When?", " \n"], "got an empty text"),
        (["When?", "a" * 100_001], "at most 100,000 characters, got 100,001"),
        (["When?", "nowhere.txt"], "there is no file nowhere.txt"),
        (["nowhere.json"], "there is no file nowhere.json"),
    ],
)
def test_what_is_no_question_with_a_text_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        read_questions(given)


def test_the_task_is_made_again_from_its_description():
    assert rebuild(question_answering(7).description).description["arguments"] == {"longest_answer": 7}
    with pytest.raises(ValueError, match="longest_answer must be at least 1, got 0"):
        question_answering(0)
