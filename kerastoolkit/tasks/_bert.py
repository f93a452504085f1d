"""What the tasks that BERT is made for share: word pieces before the network, and pictures of its attention."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kerastoolkit import charts
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.bert import EncoderAttention, PieceNames
from kerastoolkit.serving.model import inner_layer
from kerastoolkit.serving.spans import AnswerWindow
from kerastoolkit.tasks._written_texts import composed, file_text

SEPARATOR = "|||"  # between two texts that are given as one, as in the authors' program
PIECES_AROUND = 12  # of a text that are shown on each side of an answer in it


def attention_endpoint(serving: keras.Model, network: str) -> keras.Model:
    """A serving model that also tells where it looked.

    Output  what the serving model gives, and
            attention  (batch, blocks, length, length) float32, the mean over the heads: where each row looks
            pieces     (batch, length) string: what rows and columns stand for; empty for padding

    Args:
        serving: the serving model.
        network: the name of the network in it.
    """
    inputs = {tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in serving.inputs}
    layer = inner_layer(serving, "word_pieces")
    tokens = layer(*(inputs[name] for name in ("first", "second") if name in inputs))
    given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    outputs = {
        **serving(given),
        "attention": EncoderAttention(inner_layer(serving, network))(tokens["tokens"], tokens["segments"]),
        "pieces": PieceNames(layer.pieces, name="pieces")(tokens["tokens"]),
    }
    return keras.Model(given, outputs, name="attention")


def answer_attention_endpoint(serving: keras.Model) -> keras.Model:
    """A serving model of question answering that also tells where it looked, in the window that the answer was taken from.

    Output  what the serving model gives, and
            attention  (batch, blocks, length, length) float32, the mean over the heads: where each row looks
            pieces     (batch, length) string: what rows and columns stand for; empty for padding
            begins, ends  (batch, length) int32: where a piece begins in the text and ends, in characters; else -1
    """
    inputs = {tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in serving.inputs}
    layer, network = inner_layer(serving, "windows"), inner_layer(serving, "window_logits").network
    answers, windows = serving(inputs), layer(inputs["question"], inputs["context"])
    given = [windows[name] for name in ("tokens", "segments", "example", "begins", "ends", "central")]
    chosen = AnswerWindow(name="answer_window")(*given, answers["begin"])
    outputs = {
        **answers,
        "attention": EncoderAttention(network)(chosen["tokens"], chosen["segments"]),
        "pieces": PieceNames(layer.word_pieces.pieces, name="pieces")(chosen["tokens"]),
        "begins": chosen["begins"],
        "ends": chosen["ends"],
    }
    return keras.Model(inputs, outputs, name="attention")


def answer_attention_picture(answers: dict[str, Any], title: str):
    """What one example's ``answer_attention_endpoint`` gives, as ``attention_picture``: the question and what is around the
    answer."""
    begins, ends, pieces = answers["begins"], answers["ends"], answers["pieces"]
    of_text = begins >= 0
    places = np.arange(len(begins))
    question = places < (of_text.argmax() if of_text.any() else (pieces != b"").sum())
    inside = np.flatnonzero(of_text & (begins < answers["end"]) & (ends > answers["begin"]))
    near = of_text & (np.abs(places[:, None] - inside) <= PIECES_AROUND).any(axis=1)
    shown = np.flatnonzero(question | near)
    names = [piece.decode() for piece in pieces[shown]]
    return charts.attention_maps(answers["attention"][:, shown][:, :, shown], names, title)


def attention_picture(answers: dict[str, Any], title: str):
    """What one example's ``attention_endpoint`` gives, as a matplotlib figure with a map for each block."""
    names = [piece.decode() for piece in answers["pieces"] if piece]
    return charts.attention_maps(answers["attention"][:, : len(names), : len(names)], names, title)


def read_texts(given: list[str], pairs: bool) -> tuple[list[str], dict[str, Any]]:
    """Texts as they stand, and of files each line that is not empty; two of a pair are parted by ||| or a tab.

    Raises:
        InputError: a file has no text, or where pairs are wanted, a text has not two parts.
    """
    texts = []
    for text in given:
        if (whole := file_text(text)) is None:
            texts.append(text)
        elif lines := [line.removesuffix("\r") for line in whole.split("\n") if line.strip()]:
            texts += lines
        else:
            raise InputError(f"{text}: there are no texts in it")
    if not pairs:
        return texts, {"first": np.array([composed(each) for each in texts], dtype=object)}
    parts = [composed(each).replace("\t", SEPARATOR).split(SEPARATOR) for each in texts]
    for text, both in zip(texts, parts, strict=True):
        if len(both) != 2:
            got = " ".join(text[:60].split())
            raise InputError(f'two texts are wanted, parted by {SEPARATOR} or a tab ("one {SEPARATOR} other"), got {got}')
    columns = zip(("first", "second"), zip(*parts, strict=True), strict=True)
    return texts, {name: np.array([each.strip() for each in column], dtype=object) for name, column in columns}
