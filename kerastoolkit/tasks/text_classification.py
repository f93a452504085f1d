"""Text classification: one label for each text, or for each pair of texts."""

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
from kerastoolkit.tasks._bert import SEPARATOR, attention_endpoint, attention_picture, read_texts

MISTAKES_TOLD = 8
LONGEST_TOLD = 120  # characters


@described
def text_classification(classes: list[str] | tuple[str, ...], pairs: bool = False, network: str = "bert_classifier") -> Task:
    """One of ``classes`` for each text. The network gives logits (batch, classes) for tokens and segments.

    Answers: label (batch,) string, probabilities (batch, classes) float32 in the order of ``classes``.

    Args:
        classes: names, in the order of the labels; of two the second is the one that F1 and Matthews' coefficient are about.
        pairs: whether two texts have one label together.
        network: what the network is called.
    Raises:
        ValueError: fewer than two classes.
    """
    classes = list(classes)
    if len(classes) < 2:
        raise ValueError(f"classes must be at least 2, got {len(classes)}")

    def encode(truths, inputs, side_outputs, seeds):
        return {}, truths["label"]

    def accuracy(labels, logits):
        return ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), ops.cast(labels, "int32")), "float32")

    def answer(network: keras.Model) -> keras.Model:
        inputs = [keras.Input(each.shape[1:], dtype=each.dtype, name=each.name) for each in network.inputs]
        probabilities = keras.layers.Activation("softmax", dtype="float32", name="probabilities")(network(inputs))
        label = ClassNames(classes, name="label")(probabilities)
        return keras.Model(inputs, {"label": label, "probabilities": probabilities}, name="answer")

    def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"text": name, "label": classes[probabilities.argmax()], "probability": float(probabilities.max()),
             "probabilities": dict(zip(classes, map(float, probabilities), strict=True))}
            for name, probabilities in zip(names, answers["probabilities"], strict=True)
        ]  # fmt: skip

    def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
        best = answers["probabilities"].argmax()
        return attention_picture(answers, f"{classes[best]} {answers['probabilities'][best]:.0%}: {name}")

    def probe(serving):
        texts = {"first": ["A dog runs.", "", "\u2603 \uac1c"], "second": ["", "It has four legs.", "two [MASK]"]}
        return {key: np.array(texts[key], dtype=object) for key in ("first", "second")[: 1 + pairs]}

    return Task(
        name="text classification", encode=encode, loss=softmax_cross_entropy, metrics={"accuracy": accuracy}, answer=answer,
        score=lambda batches, data, serving: _score(batches, data, serving, classes, network),
        read=lambda given: read_texts(given, pairs), tell=tell, draw=draw, probe=probe, asks="attention",
        endpoints=lambda serving: {"attention": attention_endpoint(serving, network)}, answered_at_once=64)  # fmt: skip


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, serving: keras.Model, classes: list[str],
           network: str) -> Report:  # fmt: skip
    from sklearn.metrics import confusion_matrix, f1_score, log_loss, matthews_corrcoef, precision_recall_fscore_support

    labels, probabilities, parts = [], [], []
    for raw, answers in batches:
        labels.append(raw["label"])
        probabilities.append(answers["probabilities"])
        parts += [[each.decode() for each in both] for both in zip(*(raw[key] for key in data.inputs), strict=True)]
    texts = [f" {SEPARATOR} ".join(both) for both in parts]
    labels, probabilities = np.concatenate(labels), np.concatenate(probabilities).astype(np.float64)
    places, answered = np.arange(len(classes)), probabilities.argmax(axis=1)

    def figures(guesses):
        binary = {"f1": float(f1_score(labels, guesses, pos_label=1, zero_division=0))} if len(classes) == 2 else {}
        macro = float(f1_score(labels, guesses, labels=places, average="macro", zero_division=0))
        return {"accuracy": float((guesses == labels).mean()), **binary, "macro_f1": macro,
                "matthews": float(matthews_corrcoef(labels, guesses))}  # fmt: skip

    sure = probabilities / probabilities.sum(axis=1, keepdims=True)
    found = {**figures(answered), "log_loss": float(log_loss(labels, sure, labels=places))}
    precision, recall, f1, there = precision_recall_fscore_support(labels, answered, labels=places, zero_division=0)
    table = [{"class": name, "precision": float(precision[i]), "recall": float(recall[i]), "f1": float(f1[i]),
              "texts": int(there[i])} for i, name in enumerate(classes)]  # fmt: skip
    wrong = sorted(np.flatnonzero(answered != labels), key=lambda i: -probabilities[i].max())
    mistakes = [{"text": texts[i][:LONGEST_TOLD], "answer": classes[answered[i]], "probability": float(probabilities[i].max()),
                 "truth": classes[labels[i]]} for i in wrong[:MISTAKES_TOLD]]  # fmt: skip
    baselines = {"most frequent class": figures(np.full_like(answered, np.bincount(labels).argmax()))}
    if len(data.inputs) == 1:
        baselines["word counts, logistic regression"] = figures(_of_word_counts(data, texts))
    notes = (f"f1 is that of {classes[1]}",) if len(classes) == 2 else ()
    pictures = {"confusion": charts.confusion(confusion_matrix(labels, answered, labels=places), classes)}
    return Report(found, baselines=baselines, tables={"by class": table, **({"surest mistakes": mistakes} if mistakes else {})},
                  pictures={**pictures, **_attention(serving, data, parts, network)}, notes=notes)  # fmt: skip


def _of_word_counts(data: Data, texts: list[str]) -> np.ndarray:
    """The labels that a linear model gives, trained on the same texts' words and pairs of words, weighted by rarity."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    raw = data.train.fetch(np.arange(data.train.size))
    labels = raw["label"].numpy()
    if len(np.unique(labels)) < 2:
        return np.full(len(texts), labels[0])
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+"),
                          LogisticRegression(C=10.0, max_iter=300))  # fmt: skip
    model.fit([each.decode() for each in raw[data.inputs[0]].numpy()], labels)
    return model.predict(texts)


def _attention(serving: keras.Model, data: Data, parts: list[list[str]], network: str) -> dict[str, Any]:
    """Where the network looks in a text of middle length."""
    import tensorflow as tf

    chosen = sorted(parts, key=lambda both: sum(map(len, both)))[len(parts) // 2]
    given = {key: tf.constant([part]) for key, part in zip(data.inputs, chosen, strict=True)}
    model = attention_endpoint(serving, network)
    answers = model(given if len(given) > 1 else given[data.inputs[0]])
    of_it = {name: np.asarray(value)[0] for name, value in answers.items()}
    return {"attention": attention_picture(of_it, f" {SEPARATOR} ".join(chosen))}
