"""Tagging: entities counted by hand, targets and losses by hand, baselines, and the whole way on a small problem."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import charts
from kerastoolkit.data.tagged_words import tagged_words
from kerastoolkit.evaluate import answered
from kerastoolkit.experiment import Experiment
from kerastoolkit.models import bert_tagger
from kerastoolkit.optimizers import adamw
from kerastoolkit.pipeline import training_batches
from kerastoolkit.serving.model import serving_model
from kerastoolkit.serving.tags import entities, tagged_piece_inputs
from kerastoolkit.serving.word_pieces import MARKS
from kerastoolkit.tasks.tagging import _baselines, _tags_of_known, entity_scores, tagging

CLASSES = ["O", "B-A", "I-A", "B-B"]
PIECES = [*MARKS, "mr", "li", "the", "dog", "ibm", "runs", "##s", ".", ","]
TEXT = """Mr B-PER
Li I-PER
runs O
. O

the O
dog O
runs O

IBM B-ORG
runs O

the O
IBM B-ORG
dogs, O
"""


def scores(truth, found, kind=""):
    """Precision, recall and F1 of sentences that stand in lines."""
    both = [[entities(line.split()) for line in text.split("\n")] for text in (truth, found)]
    row = entity_scores(*both)[kind]
    return row["precision"], row["recall"], row["f1"]


def test_an_entity_counts_where_its_words_and_kind_are_right():
    # Of three entities that are told two are true ones, of four: 2/3, 2/4 and 2 * 2 / (3 + 4).
    truth, found = "B-A I-A O B-B\nB-A O B-A", "B-A I-A O B-A\nB-A O O"
    assert scores(truth, found) == pytest.approx((2 / 3, 1 / 2, 4 / 7))


@pytest.mark.parametrize(
    ("truth", "found", "right"),
    [
        ("B-A B-A", "B-A I-A", 0),  # neighbours run into one
        ("B-A I-A", "B-A B-A", 0),
        ("B-A I-A", "I-A I-A", 1),  # I- after O begins an entity, too
        ("B-A I-A O", "B-A I-A I-A", 0),  # one word too many
        ("O B-A I-A", "O B-A O", 0),  # one too few, at the end
        ("B-A I-A", "B-A I-B", 0),  # the kind changes inside
        ("B-A I-A", "B-B I-B", 0),  # the words are right and the kind is not
        ("B-A B-B", "I-A I-B", 1 + 1),
    ],
)
def test_an_entity_that_is_nearly_right_is_wrong(truth, found, right):
    assert scores(truth, found)[1] == right / len(entities(truth.split()))


def test_each_kind_has_figures_of_its_own():
    truth, found = "B-A O B-B", "B-A B-A B-C"
    assert scores(truth, found, "A") == pytest.approx((1 / 2, 1, 2 / 3))
    assert scores(truth, found, "B") == scores(truth, found, "C") == (0, 0, 0)


def test_where_nothing_is_told_or_true_figures_are_0():
    assert scores("O O", "O O") == (0, 0, 0)
    assert scores("B-A O", "O O") == (0, 0, 0)


def test_an_entity_of_another_sentence_is_no_match():
    assert scores("B-A\nO", "O\nB-A") == (0, 0, 0)


def test_a_loss_is_the_mean_over_the_first_pieces_alone():
    task = tagging(CLASSES)
    tags = tf.constant([[-1, 1, -1, 0], [-1, -1, -1, -1]])
    logits = np.zeros((2, 4, 4), np.float32)
    logits[0, 1] = [0, np.log(5), 0, 0]  # probabilities 1/8, 5/8, ...
    logits[0, 2] = [9, 0, 0, 0]  # an inner piece: not counted
    # The mean of -log(5/8) and -log(1/4); a sentence without words is 0.
    np.testing.assert_allclose(task.loss(tags, tf.constant(logits)), [(np.log(8 / 5) + np.log(4)) / 2, 0], rtol=1e-6)
    np.testing.assert_allclose(task.metrics["word_accuracy"](tags, tf.constant(logits)), [1, 0])
    np.testing.assert_allclose(task.weigh(tags), [2, 1e-6])


def test_a_step_of_sentences_without_words_has_a_loss():
    task = tagging(CLASSES)
    tags, logits = tf.fill((2, 3), -1), tf.ones((2, 3, 4))
    weights = task.weigh(tags)
    assert float(tf.reduce_sum(task.loss(tags, logits) * weights) / tf.reduce_sum(weights)) == 0


@pytest.mark.parametrize("classes", [["O"], ["B-A", "I-A"], []])
def test_classes_without_o_or_without_another_are_refused(classes):
    with pytest.raises(ValueError, match="classes must be O and at least one more, got"):
        tagging(classes)


def test_entities_are_told_with_their_places_in_the_text_as_it_was_given():
    probability = np.array([[1, 0.75, 0.5, 0, 1], [0] * 5], np.float32)
    answers = {"tags": np.array([b"O B-A I-A O B-B", b""], object), "probability": probability}
    rows = tagging(CLASSES).tell(["a  (b\u00a0c) \u0001 d", " "], answers)
    assert rows[0]["entities"] == [{"text": "(b\u00a0c)", "kind": "A", "begin": 3, "end": 8, "probability": 0.5},
                                   {"text": "d", "kind": "B", "begin": 11, "end": 12, "probability": 1.0}]  # fmt: skip
    assert (rows[0]["tags"], rows[0]["found"], rows[0]["unread_words"]) == (
        ["O", "B-A", "I-A", "O", "B-B"], "(b\u00a0c) (A); d (B)", 1)  # fmt: skip
    assert (rows[1]["entities"], rows[1]["tags"], rows[1]["unread_words"]) == ([], [], 0)


def test_known_entities_are_marked_from_the_left_the_longest_first():
    known = {("new",): "A", ("new", "york"): "B", ("york", "times"): "A"}
    assert _tags_of_known("the new york times new".split(), known) == ["O", "B-B", "I-B", "O", "B-A"]
    assert _tags_of_known([], known) == []


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagged")
    for name in ("train", "valid", "test"):
        (folder / f"{name}.txt").write_text(TEXT, "utf-8")
    return tagged_words(str(folder))


def test_baselines_know_training_by_heart_and_nothing_else(data):
    found = _baselines(data, ["Mr runs", "Mr Li dog", "li IBM"])
    assert found["most frequent tag of each word"] == [["B-PER", "O"], ["B-PER", "I-PER", "O"], ["O", "B-ORG"]]
    assert found["entities of training"] == [["O", "O"], ["B-PER", "I-PER", "O"], ["O", "B-ORG"]]


def test_an_entity_that_training_has_in_two_kinds_is_none_that_is_known(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("Paris B-PER\nLi B-PER\n\nParis B-LOC\n", "utf-8")
    found = _baselines(tagged_words(str(path), validation=0, test=0), ["Paris Li"])
    assert found["entities of training"] == [["O", "B-PER"]]


@pytest.fixture(scope="module")
def experiment(data):
    tf.keras.utils.set_random_seed(0)
    network = bert_tagger(classes=5, vocabulary=len(PIECES), depth=1, width=16, heads=2, positions=16, dropout=0.0)
    preprocess = tagged_piece_inputs(PIECES, lower=True, longest=16)
    return Experiment(data=data, preprocess=preprocess, network=network, task=tagging(data.about["classes"]),
                      optimizer=adamw(network, 2e-2), epochs=1, batch_size=4)  # fmt: skip


@pytest.fixture(scope="module")
def fitted(experiment):
    """The serving model after a few steps on the four sentences."""
    network, task = experiment.network, experiment.task

    for inputs, tags in training_batches(experiment, seed=0, start=0, end=25):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(task.loss(tags, network(inputs, training=True)))
        experiment.optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
    return serving_model(preprocess=experiment.preprocess, network=network, task=task)


def test_training_gets_a_tag_for_the_first_piece_of_each_word(experiment):
    (inputs, tags), *_ = training_batches(experiment, seed=0, start=0, end=1)
    row = next(row for row in range(4) if PIECES.index(",") in inputs["tokens"][row].numpy())
    # [CLS] the ibm dog ##s , [SEP], of the classes O, B-ORG, B-PER, I-PER.
    assert tags[row].numpy().tolist() == [-1, 0, 1, 0, -1, -1, -1]
    assert sorted(inputs) == ["segments", "tokens"]


def test_a_small_network_learns_its_sentences_and_the_report_says_so(experiment, fitted):
    data, task = experiment.data, experiment.task
    report = task.score(answered(fitted, data, "test", {}, 4), data, fitted)
    assert report.figures == {"f1": 1, "precision": 1, "recall": 1, "word_accuracy": 1}
    assert [(row["kind"], row["entities"], row["found"]) for row in report.tables["by kind"]] == [("ORG", 2, 2), ("PER", 1, 1)]
    assert set(report.pictures) == {"sentences", "attention"}
    assert "worst sentences" not in report.tables


def test_the_worst_sentences_say_what_was_missed_and_what_was_wrongly_found(experiment, fitted):
    raw = {"first": np.array([b"Mr Li runs .", b"the dog"], object), "tags": np.array([b"B-PER I-PER O O", b"O O"], object)}
    answers = {"tags": np.array([b"B-PER O O B-ORG", b"O O"], object), "probability": np.array([[1, 1, 0, 1], [1, 1, 0, 0]])}
    report = experiment.task.score([(raw, answers)], experiment.data, fitted)
    assert report.tables["worst sentences"] == [
        {"text": "Mr Li runs .", "missed": "Mr Li (PER)", "wrongly_found": "Mr (PER); . (ORG)"}]  # fmt: skip
    assert report.figures == {"f1": 0, "precision": 0, "recall": 0, "word_accuracy": 4 / 6}
    assert report.notes[-1] == "1 of 6 words were cut off or unreadable and count as O"


def test_the_attention_endpoint_also_answers_the_tags(experiment, fitted):
    found = experiment.task.endpoints(fitted)["attention"](tf.constant(["Mr Li runs ."]))
    assert found["tags"].numpy().tolist() == [b"B-PER I-PER O O"]
    assert found["pieces"].numpy()[0].tolist() == [b"[CLS]", b"mr", b"li", b"runs", b".", b"[SEP]"]
    assert found["attention"].shape == (1, 1, 6, 6)


def test_a_picture_names_each_entity_under_its_words(experiment):
    answers = {"tags": b"B-PER I-PER O B-PER", "probability": np.ones(4, np.float32)}
    figure = experiment.task.draw({}, answers, "Mr Li met $x")
    written = [(text.get_position()[0], text.get_text()) for text in figure.axes[0].texts]
    assert [place for place, text in written if text == "PER"] == [0, 10]
    assert (11, "x") in written and (10, r"\$") in written
    # "Mr ", "Li" and "$x" are coloured, from their first column on.
    assert [(patch.get_x(), patch.get_width()) for patch in figure.axes[0].patches] == [(0, 3), (3, 2), (10, 2)]
    assert charts.png(figure).startswith(b"\x89PNG")


def test_files_are_read_line_by_line(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("Mr Li runs\n\nthe dog\n", "utf-8")
    names, raw = tagging(CLASSES).read(["cafe\u0301", str(path)])
    assert names == ["cafe\u0301", "Mr Li runs", "the dog"]
    assert raw["first"].tolist() == ["caf\u00e9", "Mr Li runs", "the dog"]
