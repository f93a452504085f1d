"""What the tasks that BERT is made for share: word pieces before the network, and pictures of its attention."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kerastoolkit import charts
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.bert import EncoderAttention, PieceNames
from kerastoolkit.serving.model import inner_layer
from kerastoolkit.tasks._written_texts import composed, file_text

SEPARATOR = "|||"  # between two texts that are given as one, as in the authors' program


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
