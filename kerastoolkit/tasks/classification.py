"""Image classification: one label for each image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastoolkit import charts
from kerastoolkit.experiment import Data, Report, Task, described
from kerastoolkit.losses import softmax_cross_entropy
from kerastoolkit.serving.images import ClassNames
from kerastoolkit.tasks._image_files import decode_images, made_up_images, pixels_of, read_images

# Szegedy et al. 2014, section 5: the loss of each auxiliary classifier counts 0.3.
AUXILIARY_WEIGHT = 0.3
MISTAKES_DRAWN = 32
TOP = 5


@described
def classification(classes: list[str] | tuple[str, ...], label_smoothing: float = 0.0) -> Task:
    """One of ``classes`` for each image.

    The network gives logits (batch, classes), or a dict of them with "logits" and auxiliary heads, whose losses are added with
    weight 0.3. Answers: label (batch,) string, probabilities (batch, classes) float32 in the order of ``classes``.

    Args:
        classes: names, in the order of the labels.
        label_smoothing: share of the target's probability that the loss spreads over all classes, in [0, 1).
    Raises:
        ValueError: fewer than two classes, or the smoothing is outside its range.
    """
    classes = list(classes)
    if len(classes) < 2:
        raise ValueError(f"classes must be at least 2, got {len(classes)}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")

    def encode(truths, inputs, side_outputs, seeds):
        return {}, truths["label"]

    def loss(labels, outputs):
        heads = outputs if isinstance(outputs, dict) else {"logits": outputs}
        losses = {name: softmax_cross_entropy(labels, logits, smoothing=label_smoothing) for name, logits in heads.items()}
        return sum(value if name == "logits" else AUXILIARY_WEIGHT * value for name, value in losses.items())

    def accuracy(labels, outputs):
        return ops.cast(ops.cast(ops.argmax(_logits(outputs), axis=-1), "int32") == ops.cast(labels, "int32"), "float32")

    def answer(network: keras.Model) -> keras.Model:
        inputs = keras.Input(network.inputs[0].shape[1:], name=network.inputs[0].name)
        probabilities = keras.layers.Activation("softmax", dtype="float32", name="probabilities")(_logits(network(inputs)))
        label = ClassNames(classes, name="label")(probabilities)
        return keras.Model(inputs, {"label": label, "probabilities": probabilities}, name="answer")

    def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"input": name, "label": classes[probabilities.argmax()], "probability": float(probabilities.max()),
             "probabilities": dict(zip(classes, map(float, probabilities), strict=True))}
            for name, probabilities in zip(names, answers["probabilities"], strict=True)
        ]  # fmt: skip

    def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
        best = np.argsort(-answers["probabilities"], kind="stable")[:TOP]
        return charts.probabilities(pixels_of(raw["image"]), [classes[i] for i in best], answers["probabilities"][best], name)

    return Task(
        name="classification", encode=encode, loss=loss, metrics={"accuracy": accuracy}, decode=decode_images,
        answer=answer, score=lambda batches, data, serving: _score(batches, data, classes), read=read_images, tell=tell,
        draw=draw, probe=made_up_images)  # fmt: skip


def _logits(outputs):
    return outputs["logits"] if isinstance(outputs, dict) else outputs


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, classes: list[str]) -> Report:
    labels, probabilities, mistakes = [], [], []
    for raw, answers in batches:
        labels.append(raw["label"])
        probabilities.append(answers["probabilities"])
        answered = answers["probabilities"].argmax(axis=1)
        for i in np.flatnonzero(answered != raw["label"]):
            mistakes.append((answers["probabilities"][i].max(), raw["image"][i], raw["label"][i], answered[i]))
        mistakes = sorted(mistakes, key=lambda mistake: -mistake[0])[:MISTAKES_DRAWN]
    labels, probabilities = np.concatenate(labels), np.concatenate(probabilities)
    matrix = np.zeros((len(classes), len(classes)), int)
    np.add.at(matrix, (labels, probabilities.argmax(axis=1)), 1)

    rows = _by_class(matrix, classes)
    rank = (probabilities > np.take_along_axis(probabilities, labels[:, None], axis=1)).sum(axis=1)
    figures = {
        "accuracy": float(np.trace(matrix) / matrix.sum()),
        **({"top_5_accuracy": float((rank < TOP).mean())} if len(classes) > 2 * TOP else {}),
        "log_loss": float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-30)).mean()),
        "macro_f1": float(np.mean([row["f1"] for row in rows])),
    }
    pictures = {"confusion": charts.confusion(matrix, classes)}
    if mistakes:
        pictures["mistakes"] = charts.image_grid(
            [pixels_of(image) for _, image, _, _ in mistakes],
            [f"{classes[answer]} {confidence:.0%}\nis {classes[truth]}" for confidence, _, truth, answer in mistakes],
        )
    majority = {"accuracy": float(matrix.sum(axis=1).max() / matrix.sum())}
    return Report(figures, baselines={"most frequent class": majority}, tables={"by class": rows}, pictures=pictures)


def _by_class(matrix: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """Precision, recall and their harmonic mean of each class; 0 where a class was never answered or is not there."""
    rows = []
    for i, name in enumerate(classes):
        right, answered, there = matrix[i, i], matrix[:, i].sum(), matrix[i].sum()
        precision, recall = right / max(1, answered), right / max(1, there)
        f1 = 2 * right / max(1, answered + there)
        figures = {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
        rows.append({"class": name, **figures, "images": int(there)})
    return rows
