import keras
import numpy as np
import pytest

from kerastoolkit.experiment import Data, Source
from kerastoolkit.tasks.classification import classification

NAMES = ["ant", "bee", "cat"]
LOGITS = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], "float32"))


def test_the_loss_is_the_negative_log_of_the_labels_probability():
    losses = classification(NAMES).loss(np.array([0, 1]), LOGITS)
    np.testing.assert_allclose(losses, [-np.log(0.7), -np.log(0.3)], rtol=1e-6)


def test_smoothing_mixes_in_the_mean_over_all_classes():
    losses = classification(NAMES, label_smoothing=0.3).loss(np.array([0, 1]), LOGITS)
    targets = 0.7 * np.eye(3)[[0, 1]] + 0.3 / 3  # Szegedy et al. 2015, section 7
    np.testing.assert_allclose(losses, -(targets * LOGITS).sum(axis=1), rtol=1e-6)


def test_an_auxiliary_head_counts_three_tenths():
    task, labels = classification(NAMES), np.array([0, 1])
    alone = np.asarray(task.loss(labels, LOGITS))
    both = task.loss(labels, {"logits": LOGITS, "auxiliary_1": LOGITS, "auxiliary_2": LOGITS})
    np.testing.assert_allclose(both, 1.6 * alone, rtol=1e-6)  # 1 + 0.3 + 0.3
    np.testing.assert_array_equal(task.metrics["accuracy"](labels, {"logits": LOGITS, "auxiliary_1": -LOGITS}), [1, 0])


def test_the_answer_is_the_softmax_and_the_largest_ones_name():
    image = keras.Input((3,), name="image")
    answer = classification(NAMES).answer(keras.Model(image, image))(LOGITS)
    np.testing.assert_allclose(answer["probabilities"], np.exp(LOGITS), rtol=1e-6)
    assert [name.decode() for name in answer["label"].numpy()] == ["ant", "cat"]


@pytest.mark.parametrize(
    ("classes", "smoothing", "message"),
    [(["one"], 0.0, "classes must be at least 2, got 1"), (NAMES, 1.0, r"label_smoothing must be in \[0, 1\), got 1.0"),
     (NAMES, -0.1, "label_smoothing must be in")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(classes, smoothing, message):
    with pytest.raises(ValueError, match=message):
        classification(classes, smoothing)


def scored(labels, probabilities, classes):
    labels, probabilities = np.array(labels), np.array(probabilities, "float64")
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    nothing = Source(0, lambda indices: {})
    data = Data("test", nothing, nothing, nothing, inputs=("image",), encoded=False, about={"classes": classes})
    halves = [slice(0, 2), slice(2, None)]
    batches = [({"image": images[half], "label": labels[half]}, {"probabilities": probabilities[half]}) for half in halves]
    return classification(classes).score(batches, data, None)


def test_figures_by_hand():
    # Answers: ant, ant, bee, ant for the truths ant, bee, bee, cat.
    report = scored([0, 1, 1, 2], [[0.8, 0.1, 0.1], [0.5, 0.4, 0.1], [0.2, 0.8, 0.0], [0.6, 0.2, 0.2]], NAMES)
    assert report.figures["accuracy"] == 0.5
    assert report.figures["log_loss"] == pytest.approx(-np.log([0.8, 0.4, 0.8, 0.2]).mean())
    assert report.figures["macro_f1"] == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert report.baselines["most frequent class"]["accuracy"] == 0.5
    rows = {row["class"]: row for row in report.tables["by class"]}
    assert rows["ant"] == {"class": "ant", "precision": pytest.approx(1 / 3), "recall": 1.0, "f1": 0.5, "images": 1}
    assert rows["cat"] == {"class": "cat", "precision": 0.0, "recall": 0.0, "f1": 0.0, "images": 1}
    assert set(report.pictures) == {"confusion", "mistakes"}
    assert "top_5_accuracy" not in report.figures


def test_the_top_five_are_counted_where_there_are_many_classes():
    ranked = np.linspace(1, 0.1, 12)  # class 0 is the most probable, class 11 the least
    report = scored([0, 4, 5, 11], [ranked / ranked.sum()] * 4, [str(number) for number in range(12)])
    assert report.figures["top_5_accuracy"] == 0.5


def test_no_mistake_no_picture_of_mistakes():
    assert set(scored([0, 1, 2], np.eye(3), NAMES).pictures) == {"confusion"}
