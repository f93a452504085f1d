"""Masked words, which BERT learns to tell: Devlin et al. 2018, section 3.1, https://arxiv.org/abs/1810.04805."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from kerastoolkit.serving.random_numbers import uniforms
from kerastoolkit.serving.word_pieces import INSIDE, MARKS, MASK, PADDING, SEPARATE

SHARE = 0.15  # of the pieces that are to be told
MASKED, CHANGED = 0.8, 0.1  # of these, the shares that become [MASK] and any piece; the rest stays
TEXTS_PARTED = " ||| "
_PICK, _REPLACE, _PIECE = range(3)  # streams of an example's random numbers


class Masked(NamedTuple):
    """Tokens of which some are to be told.

    Attributes:
        tokens: (batch, length) int32, with those that were picked replaced, or most of them.
        positions: (batch, most picked in the batch) int32, ascending; 0 after the end.
        labels: (batch, most picked) int32, the tokens that stood there; 0 after the end.
        weights: (batch, most picked) float32, 1, and 0 after the end.
    """

    tokens: tf.Tensor
    positions: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor


def mask_pieces(tokens: tf.Tensor, seeds: tf.Tensor, pieces: Sequence[str], *, whole_words: bool = False) -> Masked:
    """Picks 15 % of an example's pieces, evenly and at least one; of these 80 % become [MASK], 10 % any other piece, 10 %
    stay.

    What becomes of an example is told by its seeds and its own tokens, not by what else is in the batch.

    Input   tokens  (batch, length) int32, 0 after the end
            seeds   (batch, 2) int32

    Args:
        pieces: the vocabulary. Its marks are never picked, [UNK] neither, because it says of no word what it is.
        whole_words: whether the pieces of a word are picked together, as the authors' program of May 2019 does; each of them is
            then replaced on its own, as there. Words are picked as long as all of their pieces keep within 15 %.
    Differs from the authors' program: with ``whole_words`` it passes over a word that is too long and goes on with shorter ones,
        which here ends the picking. There, [UNK] is picked like any piece.
    """
    marks = [pieces.index(mark) for mark in MARKS]
    others = tf.constant([number for number in range(len(pieces)) if number not in marks], tf.int32)
    is_mark = tf.constant([number in marks for number in range(len(pieces))])
    goes_on = tf.constant([whole_words and piece.startswith(INSIDE) for piece in pieces])
    length = tf.shape(tokens)[1]
    places = tf.range(length)
    may = ~tf.gather(is_mark, tokens)
    candidates = tf.reduce_sum(tf.cast(may, tf.int32), axis=1)
    wanted = tf.maximum(tf.cast(tf.round(SHARE * tf.cast(candidates, tf.float32)), tf.int32), 1)

    # Words are numbered, each number has a random one, and pieces are put in the order of these: the first are picked.
    word = tf.maximum(tf.cumsum(tf.cast(may & ~tf.gather(goes_on, tokens), tf.int32), axis=1) - 1, 0)
    chance = tf.gather(uniforms(seeds, (length,), _PICK), word, batch_dims=1)
    order = tf.argsort(tf.where(may, chance, 2.0), axis=1, stable=True)
    ordered = tf.gather(word, order, batch_dims=1)
    # Where a word ends in that order, as many pieces are picked; the last one has no next.
    ends = tf.concat([ordered[:, 1:] != ordered[:, :-1], tf.ones_like(ordered[:, :1], tf.bool)], axis=1)
    counts = tf.where(ends, places + 1, 0)
    picked = tf.reduce_max(tf.where(counts <= wanted[:, None], counts, 0), axis=1)
    of_first_word = tf.reduce_min(tf.where(ends, places + 1, length), axis=1)
    picked = tf.minimum(tf.where(picked > 0, picked, of_first_word), candidates)
    is_picked = tf.argsort(order, axis=1) < picked[:, None]

    fate = uniforms(seeds, (length,), _REPLACE)
    drawn = tf.cast(uniforms(seeds, (length,), _PIECE) * float(others.shape[0]), tf.int32)
    other = tf.gather(others, tf.minimum(drawn, others.shape[0] - 1))
    replaced = tf.where(fate < MASKED, pieces.index(MASK), tf.where(fate < MASKED + CHANGED, other, tokens))
    positions = tf.ragged.boolean_mask(tf.broadcast_to(places, tf.shape(tokens)), is_picked)
    return Masked(
        tf.where(is_picked, replaced, tokens), positions.to_tensor(0), tf.ragged.boolean_mask(tokens, is_picked).to_tensor(0),
        tf.ones_like(positions, tf.float32).to_tensor(0.0))  # fmt: skip


@keras.saving.register_keras_serializable(package="kerastoolkit")
class MaskPositions(keras.layers.Layer):
    """Where [MASK] stands: tokens (batch, length) int32 -> positions (batch, most of them in the batch) int32, 0 after the end.

    There is no [MASK] at 0, where [CLS] stands.

    Args:
        mask: the token of [MASK].
    """

    def __init__(self, mask: int, **kwargs):
        super().__init__(**kwargs)
        self.mask = int(mask)

    def call(self, tokens):
        places = tf.broadcast_to(tf.range(tf.shape(tokens)[1]), tf.shape(tokens))
        return tf.ragged.boolean_mask(places, tokens == self.mask).to_tensor(0)

    def compute_output_spec(self, tokens):
        return keras.KerasTensor((tokens.shape[0], None), "int32")

    def get_config(self):
        return {**super().get_config(), "mask": self.mask}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class FilledMasks(keras.layers.Layer):
    """What a network says of each [MASK] in a text, and the text with the likeliest pieces in their places.

    Input   tokens     (batch, length) int32
            segments   (batch, length) int32
            positions  (batch, masks) int32, as ``MaskPositions`` gives them
            logits     (batch, masks, vocabulary) float
    Output  a dict
            filled         (batch,) string: the pieces as text; two texts are parted by |||
            candidates     (batch, masks, top) string: the likeliest pieces, the best first; empty after the last mask
            probabilities  (batch, masks, top) float32, theirs; 0 after the last mask

    Marks are no answers: probabilities are shared among the other pieces. Pieces that begin with ## are joined to what is before
    them, and stops to their words; capital letters and other spaces are those of the pieces.

    Args:
        pieces: the vocabulary.
        top: how many candidates there are for a mask; fewer where the vocabulary has fewer pieces.
    """

    def __init__(self, pieces: Sequence[str], top: int = 5, **kwargs):
        super().__init__(**kwargs)
        self.pieces, self.top = list(pieces), int(top)
        self.marks = [self.pieces.index(mark) for mark in MARKS]
        self.shown = min(self.top, len(self.pieces) - len(MARKS))

    def call(self, tokens, segments, positions, logits):
        names = tf.constant(self.pieces)
        is_mark = tf.constant([number in self.marks for number in range(len(self.pieces))])
        probabilities = tf.nn.softmax(tf.where(is_mark, -1e9, tf.cast(logits, tf.float32)))
        best, which = tf.math.top_k(probabilities, self.shown)
        there = (positions > 0)[:, :, None]
        row = tf.broadcast_to(tf.range(tf.shape(tokens)[0])[:, None], tf.shape(positions))
        places = tf.boolean_mask(tf.stack([row, positions], axis=-1), there[:, :, 0])
        tokens = tf.tensor_scatter_nd_update(tokens, places, tf.boolean_mask(which[:, :, 0], there[:, :, 0]))
        return {"filled": self._text(names, tokens, segments), "candidates": tf.where(there, tf.gather(names, which), ""),
                "probabilities": tf.where(there, best, 0.0)}  # fmt: skip

    def _text(self, names, tokens, segments):
        text = tf.strings.regex_replace(tf.strings.join([" ", tf.gather(names, tokens)]), f"^ {INSIDE}", "")
        length = tf.shape(tokens)[1]
        separator = tokens == self.marks[MARKS.index(SEPARATE)]
        # The first [SEP] parts two texts where anything but a mark follows it.
        second = (segments == 1) & ~separator & (tokens != PADDING)
        parts = separator & (segments == 0) & tf.reduce_any(second, axis=1, keepdims=True)
        is_left_out = (tf.range(length) == 0) | separator | (tokens == PADDING)
        text = tf.where(parts, TEXTS_PARTED.rstrip(), tf.where(is_left_out, "", text))
        return tf.strings.strip(tf.strings.regex_replace(tf.strings.reduce_join(text, axis=1), r" ([.,!?;:%)\]])", r"\1"))

    def compute_output_spec(self, tokens, segments, positions, logits):
        shape = (*positions.shape, self.shown)
        return {"filled": keras.KerasTensor(tokens.shape[:1], "string"), "candidates": keras.KerasTensor(shape, "string"),
                "probabilities": keras.KerasTensor(shape, "float32")}  # fmt: skip

    def get_config(self):
        return {**super().get_config(), "pieces": self.pieces, "top": self.top}
