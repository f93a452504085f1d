"""Text classification: figures worked out by hand, what is read and told, and a tiny run through the public verbs."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import catalog, models
from kerastoolkit.data.labelled_texts import labelled_texts
from kerastoolkit.evaluate import answered, evaluate
from kerastoolkit.experiment import InputError, rebuild
from kerastoolkit.export import export
from kerastoolkit.predict import predict
from kerastoolkit.serving.model import load_serving_model, serving_model
from kerastoolkit.serving.word_pieces import MARKS, word_piece_inputs
from kerastoolkit.tasks.text_classification import text_classification

PIECES = [*MARKS, *"abcd|", "##a", "##b"]


def serving_of(classes, pairs=False):
    """A serving model whose network has random weights."""
    keras.utils.set_random_seed(1)
    network = models.bert_classifier(classes=len(classes), vocabulary=len(PIECES), depth=2, width=8, heads=2, positions=9)
    for variable in network.trainable_variables:
        if len(variable.shape) == 2:
            variable.assign(np.random.default_rng(len(variable.path)).normal(size=variable.shape))
    preprocess = word_piece_inputs(PIECES, lower=True, longest=9, pairs=pairs)
    return serving_model(preprocess=preprocess, network=network, task=text_classification(classes, pairs))


def data_of(folder, test, pairs=False, train=(("a b", "c", "no"), ("b a", "d", "yes"), ("a a", "c", "no"), ("b b", "d", "yes"))):
    """Texts (first, second, label) of training and of test."""
    for split, rows in (("train", train), ("test", test)):
        lines = "".join("\t".join(row) + "\n" for row in rows)
        (folder / f"{split}.tsv").write_text(f"one\tother\tlabel\n{lines}")
    return labelled_texts(str(folder), "one", "other" if pairs else None, validation=0)


# Figures -----------------------------------------------------------------------------------------------------------------------

# Truth and the probability of yes: one no and two yes are found, one of each is taken for the other.
FIVE = [("no", 0.2), ("no", 0.9), ("yes", 0.8), ("yes", 0.6), ("yes", 0.4)]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("five")
    data = data_of(folder, [("b" * (i + 1), "c", label) for i, (label, _) in enumerate(FIVE)])
    raw = data.test.fetch(np.arange(5))
    probabilities = np.array([[1 - yes, yes] for _, yes in FIVE], "float32")
    batches = [({key: value.numpy()[part] for key, value in raw.items()}, {"probabilities": probabilities[part]})
               for part in (slice(0, 2), slice(2, 5))]  # fmt: skip
    return text_classification(["no", "yes"]).score(iter(batches), data, serving_of(["no", "yes"]))


def test_figures_are_those_worked_out_by_hand(report):
    # Of yes 2 are found, 1 is missed and 1 is wrong: F1 = 2 * 2 / (2 * 2 + 1 + 1). Of no 1, 1 and 1: 2 / (2 + 1 + 1).
    assert report.figures == pytest.approx({
        "accuracy": 3 / 5, "f1": 2 / 3, "macro_f1": (2 / 3 + 1 / 2) / 2,
        "matthews": (2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2),
        "log_loss": -np.mean(np.log([0.8, 0.1, 0.8, 0.6, 0.4])),
    }, rel=1e-5)  # fmt: skip
    assert report.notes == ("f1 is that of yes",)


def test_the_baselines_answer_the_most_frequent_label_and_by_counted_words(report):
    assert report.baselines["most frequent class"] == pytest.approx(
        {"accuracy": 3 / 5, "f1": 2 * 3 / (2 * 3 + 2), "macro_f1": (0 + 3 / 4) / 2, "matthews": 0}
    )
    assert report.baselines["word counts, logistic regression"].keys() == report.baselines["most frequent class"].keys()


def test_tables_tell_each_class_and_the_surest_mistakes(report):
    assert report.tables["by class"] == [
        {"class": "no", "precision": 0.5, "recall": 0.5, "f1": 0.5, "texts": 2},
        {"class": "yes", **dict.fromkeys(("precision", "recall", "f1"), pytest.approx(2 / 3)), "texts": 3},
    ]
    assert [(row["text"], row["answer"], row["truth"]) for row in report.tables["surest mistakes"]] == [
        ("bb", "yes", "no"), ("bbbbb", "no", "yes")]  # fmt: skip
    assert report.pictures.keys() == {"confusion", "attention"}


def scored(data, classes, pairs=False):
    serving = serving_of(classes, pairs)
    return text_classification(classes, pairs).score(answered(serving, data, "test", {}, 2), data, serving)


@pytest.mark.slow
def test_pairs_are_scored_and_so_are_texts_with_the_separator_in_them(tmp_path):
    rows = [("a ||| b", "c", "no"), ("b", "d ||| a ||| b", "yes"), ("a ||| b ||| d", "c", "no")]
    for pairs in (True, False):
        report = scored(data_of(tmp_path, rows, pairs), ["no", "yes"], pairs)
        assert report.pictures.keys() == {"confusion", "attention"}
        assert ("word counts, logistic regression" in report.baselines) is not pairs


@pytest.mark.parametrize("test", [[("a", "c", "no")], [("a", "c", "yes"), ("b", "c", "yes")]])
def test_a_test_split_of_one_label_is_scored(tmp_path, test):
    figures = scored(data_of(tmp_path, test), ["no", "yes"]).figures
    assert np.isfinite(list(figures.values())).all()


def test_training_texts_of_one_label_are_scored(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\na,no\nb,yes\n")
    data = labelled_texts(str(tmp_path / "t.csv"), validation=0, test=1)
    assert scored(data, ["no", "yes"]).baselines["word counts, logistic regression"]["accuracy"] == 0


def test_of_three_classes_there_is_no_f1_of_one(tmp_path):
    rows = [("a", "c", "x"), ("b", "c", "y"), ("c", "c", "z")]
    report = scored(data_of(tmp_path, rows, train=rows), ["x", "y", "z"])
    assert "f1" not in report.figures
    assert report.notes == ()


def test_the_loss_and_the_accuracy_are_those_of_each_example():
    task = text_classification(["x", "y", "z"])
    logits, labels = np.log([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]).astype("float32"), np.array([0, 2])
    np.testing.assert_allclose(task.loss(labels, logits), -np.log([0.2, 0.7]), rtol=1e-5)
    np.testing.assert_array_equal(task.metrics["accuracy"](labels, logits), [0, 1])
    assert task.encode({"label": labels}, {}, {}, None) == ({}, labels)


# What is given and told --------------------------------------------------------------------------------------------------------


def test_texts_are_read_as_they_stand_and_files_by_line(tmp_path):
    (tmp_path / "t.txt").write_bytes("one\r\n\n  two |||  x\n \u00e9e\u0301\n".encode())
    names, raw = text_classification(["no", "yes"]).read(["a\nb", "", str(tmp_path / "t.txt")])
    assert names == ["a\nb", "", "one", "  two |||  x", " \u00e9e\u0301"]
    assert raw["first"].tolist() == ["a\nb", "", "one", "  two |||  x", " \u00e9\u00e9"]


def test_pairs_are_parted_by_bars_or_a_tab(tmp_path):
    (tmp_path / "t.txt").write_text("e ||| f\n\ng\th\n")
    names, raw = text_classification(["no", "yes"], pairs=True).read(["a ||| b", "c\td", str(tmp_path / "t.txt"), "|||"])
    assert names == ["a ||| b", "c\td", "e ||| f", "g\th", "|||"]
    assert raw["first"].tolist() == ["a", "c", "e", "g", ""]
    assert raw["second"].tolist() == ["b", "d", "f", "h", ""]


@pytest.mark.parametrize(
    ("text", "got"), [("alone", "alone"), ("a ||| b ||| c", r"a \|\|\| b \|\|\| c"), ("two\nlines", "two lines")]
)
def test_what_is_no_pair_is_refused_in_a_line(text, got):
    with pytest.raises(InputError, match=rf"^two texts are wanted, parted by \|\|\| or a tab .*, got {got}$"):
        text_classification(["no", "yes"], pairs=True).read([text])


@pytest.mark.parametrize("pairs", [False, True])
def test_a_file_without_texts_is_refused(tmp_path, pairs):
    (tmp_path / "t.txt").write_text("\n \n")
    with pytest.raises(InputError, match="t.txt: there are no texts in it"):
        text_classification(["no", "yes"], pairs=pairs).read([str(tmp_path / "t.txt")])


def test_a_row_tells_the_label_and_how_probable_each_is():
    answers = {"probabilities": np.array([[0.25, 0.75], [0.5, 0.5]], "float32")}
    assert text_classification(["no", "yes"]).tell(["a", "b"], answers) == [
        {"text": "a", "label": "yes", "probability": 0.75, "probabilities": {"no": 0.25, "yes": 0.75}},
        {"text": "b", "label": "no", "probability": 0.5, "probabilities": {"no": 0.5, "yes": 0.5}},
    ]


@pytest.mark.parametrize("classes", [[], ["one"]])
def test_fewer_than_two_classes_are_refused(classes):
    with pytest.raises(ValueError, match=f"classes must be at least 2, got {len(classes)}"):
        text_classification(classes)


def test_the_task_is_made_again_from_its_description():
    task = rebuild(json.loads(json.dumps(text_classification(("no", "yes"), pairs=True).description)))
    assert task.read(["a ||| b"])[1]["second"].tolist() == ["b"]


# A run -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from kerastoolkit.train import train

    folder = tmp_path_factory.mktemp("run")
    rows = (f"{('good', 'bad')[i % 2]} film ${i % 5},{('yes', 'no')[i % 2]}\n" for i in range(64))
    (folder / "t.csv").write_text("text,label\n" + "".join(rows))
    settings = {"data": str(folder / "t.csv"), "weights": None, "vocabulary": 60, "longest": 8, "epochs": 2, "batch_size": 16}
    return train(catalog.find_recipe("sst2_bert"), settings, out=str(folder / "run"))


@pytest.fixture(scope="module")
def exported(run):
    return export(str(run))


TEXTS = ["good film", "a $bad$ film_{", "", "\u2603 \uac1c"]
ELSEWHERE = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
answers = model.serve(tf.constant(json.loads(sys.argv[2])))
assert "kerastoolkit" not in sys.modules
print(json.dumps({"probabilities": answers["probabilities"].numpy().tolist(),
                  "label": [label.decode() for label in answers["label"].numpy()]}))
"""


def test_an_export_answers_as_the_run_does_without_this_package(run, exported):
    command = [sys.executable, "-c", ELSEWHERE, str(exported), json.dumps(TEXTS)]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    answers, expected = json.loads(result.stdout), load_serving_model(run)(tf.constant(TEXTS))
    np.testing.assert_allclose(answers["probabilities"], expected["probabilities"], atol=1e-5)
    assert answers["label"] == [label.decode() for label in expected["label"].numpy()]


def test_predictions_of_a_run_and_of_its_export_are_the_same_and_drawn(run, exported, tmp_path):
    of_run, of_export = predict(str(run), TEXTS, out=str(tmp_path)), predict(str(exported), TEXTS)
    assert [row["text"] for row in of_run] == TEXTS
    for one, other in zip(of_run, of_export, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert sorted(path.name[:4] for path in tmp_path.iterdir()) == ["001-", "002-", "003-", "004-"]


@pytest.mark.slow
def test_many_texts_are_answered_by_one_graph_as_few_are_without(run, monkeypatch):
    monkeypatch.setattr("kerastoolkit.predict.MOST_AT_ONCE", 2)
    texts = [f"{text} {number}" for number in range(11) for text in TEXTS[:2]] + ["film"]
    monkeypatch.setattr("kerastoolkit.predict.BATCHES_WORTH_A_GRAPH", 99)
    one_by_one = predict(str(run), texts)
    monkeypatch.setattr("kerastoolkit.predict.BATCHES_WORTH_A_GRAPH", 10)
    graphs, compiled = [], tf.function
    monkeypatch.setattr("kerastoolkit.predict.tf.function", lambda f, **how: graphs.append(compiled(f, **how)) or graphs[-1])
    for row, expected in zip(predict(str(run), texts), one_by_one, strict=True):
        assert row["text"] == expected["text"]
        assert row["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    (graph,) = graphs
    assert graph.experimental_get_tracing_count() == 1  # though the last batch is of one


def test_evaluating_draws_the_confusion_and_the_attention(run):
    record, _ = evaluate(str(run))
    assert record["figures"].keys() == {"accuracy", "f1", "macro_f1", "matthews", "log_loss"}
    assert {path.name for path in (run / "plots").iterdir()} >= {"attention.png", "confusion.png"}
    assert record["examples"] == 6


def test_evaluating_texts_with_other_labels_is_refused(run, tmp_path):
    (tmp_path / "other.csv").write_text("text,label\n" + "a,x\nb,y\n" * 20)
    with pytest.raises(InputError, match="other.csv has other classes than the run was trained on: no, yes"):
        evaluate(str(run), data=str(tmp_path / "other.csv"))
