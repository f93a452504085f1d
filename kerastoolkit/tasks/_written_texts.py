"""What translation and summarisation share: a text is written for a text."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerastoolkit import charts
from kerastoolkit.experiment import InputError, Task
from kerastoolkit.losses import softmax_cross_entropy
from kerastoolkit.serving.byte_pairs import PADDING, BytePairPieces, BytePairText, BytePairTokens, Merges
from kerastoolkit.serving.decoding import SETTINGS, Decode, SourceAttention, shifted
from kerastoolkit.serving.model import inner_layer, with_settings

KINDS = {int: "int32", float: "float32"}
MOST_IN_TITLE = 60  # characters
MOST_BYTES = 10_000_000  # of a file to be answered
FILES = (".txt", ".md", ".tsv", ".csv", ".json", ".jsonl", ".gz")


def source_tokens(merges: Merges, *, key: str, longest: int | None = None) -> keras.Model:
    """The preprocessing of these tasks: ``key`` (batch,) string -> source_tokens (batch, longest) int32."""
    text = keras.Input((), dtype="string", name=key)
    return keras.Model(text, {"source_tokens": BytePairTokens(merges, longest, name="source_tokens")(text)}, name="preprocess")


def answer_with(merges: Merges, result: str) -> Callable[[keras.Model], keras.Model]:
    """``Task.answer``: ``result`` (batch,) string and score (batch,) float32, as ``serving.decoding.Decode`` states."""

    def answer(network: keras.Model) -> keras.Model:
        inputs = {"source_tokens": keras.Input((None,), dtype="int32", name="source_tokens"), **_settings()}
        written = Decode(network, name="decode")(inputs)
        text = BytePairText(merges, name="text")(written["tokens"])
        return keras.Model(inputs, {result: text, "score": written["score"]}, name="answer")

    return answer


def writing(name: str, *, key: str, result: str, smoothing: float, settings: dict[str, float], score: Callable[..., Any],
            read: Callable[[list[str]], tuple[list[str], dict[str, Any]]], probe: Sequence[str], answered_at_once: int,
            scoring: dict[str, str] | None = None) -> Task:  # fmt: skip
    """A task that writes ``result`` for ``key``; its ``answer`` is put in by who has the merges (``answer_with``), and ``score``
    also takes ``settings``.

    Training examples have target_tokens (batch, longest) int32, 0 after the end. A loss is the mean over the tokens of a text,
    and texts count by their tokens.
    """

    if not 0 <= smoothing < 1:
        raise InputError(f"smoothing must be in [0, 1), got {smoothing}")

    def encode(truths, inputs, side_outputs, seeds):
        return {"target_tokens": shifted(truths["target_tokens"])}, truths["target_tokens"]

    def weigh(tokens):
        return ops.sum(ops.cast(tokens != PADDING, "float32"), axis=1)

    def mean(tokens, values):
        return ops.sum(values * ops.cast(tokens != PADDING, values.dtype), axis=1) / ops.maximum(weigh(tokens), 1.0)

    def loss(tokens, logits):
        return mean(tokens, softmax_cross_entropy(tokens, logits, smoothing=smoothing))

    def nats_per_token(tokens, logits):
        return mean(tokens, softmax_cross_entropy(tokens, logits))

    def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
        rows = zip(names, answers[result], answers["score"], strict=True)
        return [{key: name, result: text.decode(), "score": float(score)} for name, text, score in rows]

    def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
        return attention_picture(answers, answers[result].decode())

    def made_up(serving):
        given = {name: np.full(3, value, KINDS[type(value)]) for name, value in SETTINGS.items()}
        given |= {"beams": np.array([4, 1, 1], np.int32), "temperature": np.array([0.0, 0.0, 0.8], np.float32)}
        given |= {"longest": np.array([12, 6, 9], np.int32), "top_k": np.array([0, 0, 20], np.int32)}
        given["no_repeat_ngram"] = np.array([2, 0, 3], np.int32)
        return {key: np.array(probe, dtype=object), **given}

    def answer(network):
        raise RuntimeError("a task made again from a run's description does not answer: the run's serving model does")

    return Task(
        name=name, encode=encode, loss=loss, metrics={"nats_per_token": nats_per_token}, weigh=weigh, answer=answer, score=score,
        read=read, tell=tell, draw=draw, probe=made_up, settings={**SETTINGS, **settings},
        scoring={**settings, **(scoring or {})}, endpoints=lambda serving: {"attention": attention_model(serving, key, result)},
        asks="attention", answered_at_once=answered_at_once)  # fmt: skip


def attention_model(serving: keras.Model, key: str, result: str) -> keras.Model:
    """A serving model that also tells where it looked.

    Output  a dict
            result, score  as the serving model gives them
            attention      (batch, length, source length) float32
            source_pieces, target_pieces  (batch, ...) string: what the columns and rows stand for, empty for ends and padding
    """
    text = keras.Input((), dtype="string", name=key)
    decode, tokens, back = (inner_layer(serving, name) for name in ("decode", "source_tokens", "text"))
    source = tokens(text)
    written = decode({"source_tokens": source, **(settings := _settings())})
    outputs = {
        result: back(written["tokens"]),
        "score": written["score"],
        "attention": SourceAttention(decode, name="attention")(source, written["tokens"]),
        "source_pieces": BytePairPieces(tokens.merges, name="source_pieces")(source),
        "target_pieces": BytePairPieces(back.merges, name="target_pieces")(written["tokens"]),
    }
    return keras.Model({key: text, **settings}, outputs, name="attention")


def attention_picture(answers: dict[str, Any], text: str):
    """What one example's ``attention_model`` gives, as a matplotlib figure with the beginning of what was written."""
    columns, rows = (_shown(answers[name]) for name in ("source_pieces", "target_pieces"))
    return charts.attention_map(answers["attention"][: len(rows), : len(columns)], columns, rows, text[:MOST_IN_TITLE])


def pictures(serving: keras.Model, key: str, result: str, texts: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    """The attention of what a serving model writes for some texts with some settings, as ``Report.pictures``."""
    given = with_settings({key: tf.constant(list(texts))}, {**SETTINGS, **settings})
    answers = attention_model(serving, key, result)(given)
    found = [{name: np.asarray(values)[i] for name, values in answers.items()} for i in range(len(texts))]
    return {f"attention_{i}": attention_picture(each, each[result].decode()) for i, each in enumerate(found, start=1)}


def decoded(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], key: str, truth: str,
            result: str) -> tuple[list[str], list[str], list[str]]:  # fmt: skip
    """(what was given, what people wrote for it, what was answered) of the batches that ``Task.score`` gets."""
    given, truths, answers = [], [], []
    for raw, answered in batches:
        for texts, values in ((given, raw[key]), (truths, raw[truth]), (answers, answered[result])):
            texts += [text.decode() for text in values]
    return given, truths, answers


def _shown(pieces: np.ndarray) -> list[str]:
    """The pieces of a text and a sign for its end."""
    texts = [piece.decode(errors="replace") for piece in pieces]
    used = max((place for place, text in enumerate(texts, start=1) if text), default=0)
    return [text.strip() or "␣" for text in texts[:used]] + ["■"] * (used < len(texts))


def file_text(path: str) -> str | None:
    """The text of a file; None where what is given is a text itself.

    Raises:
        InputError: the file is larger than a text to be answered may be, or is not UTF-8; or there is none of that name, though
            the name is that of a file.
    """
    if not os.path.isfile(path):
        if path.lower().endswith(FILES) and not path.split()[1:]:
            raise InputError(f"there is no file {path}")
        return None
    try:
        if (size := os.path.getsize(path)) > MOST_BYTES:
            raise InputError(f"{path}: a text may have at most {MOST_BYTES:,} bytes, got {size:,}")
        return Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error.reason
        raise InputError(f"{path}: must be a file of UTF-8 text ({reason})") from None


def composed(text: str) -> str:
    """In Unicode's composed form, as the texts of training are."""
    return unicodedata.normalize("NFC", text)


def _settings() -> dict[str, Any]:
    return {name: keras.Input((), dtype=KINDS[type(value)], name=name) for name, value in SETTINGS.items()}
