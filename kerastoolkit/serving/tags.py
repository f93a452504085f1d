"""Tags of words in the serving model: which word piece stands for which word, and the entities that tags mean.

A word here is what blanks part, as in files of tagged words; BERT's own words are smaller, because punctuation parts them, too.
Of each word the first piece is what is tagged: Devlin et al. 2018, section 5.3, https://arxiv.org/abs/1810.04805.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerastoolkit.serving.word_pieces import WordPieces

OUTSIDE = "O"  # the tag of a word that is part of no entity
NO_WORD = -1  # of a token: it begins no word
UNREAD, PAST = -1, -2  # of a word: it has no token; there is no such word
# What ``WordPieces`` takes for white space: these control characters and Unicode's category Zs.
BLANKS = "\t\n\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_WORD = re.compile(f"[^{BLANKS}]+")


class Entity(NamedTuple):
    """What some words of a sentence name together: words begin .. end - 1, counted from 0."""

    kind: str
    begin: int
    end: int


@keras.saving.register_keras_serializable(package="kerastoolkit")
class TaggedPieces(keras.layers.Layer):
    """Sentences -> the tokens of ``WordPieces``, and which of them begin a word.

    Input   first   (batch,) string, UTF-8
    Output  a dict
            tokens    (batch, longest in the batch) int32: places in ``pieces``; 0 after the end
            segments  (batch, longest in the batch) int32: 0
            words     (batch, longest in the batch) int32: the number of the word, from 0, whose first piece a token is; else -1
            starts    (batch, most words in the batch) int32: the place of each word's first piece among the tokens; -1 where a
                      word has none, because ``longest`` cuts it off or nothing of it is read (control characters); -2 after
                      the last word

    Args:
        pieces, lower, longest: see ``WordPieces``.
    Raises:
        ValueError: as ``WordPieces``.
    """

    def __init__(self, pieces: Sequence[str], lower: bool = True, longest: int = 512, **kwargs):
        super().__init__(**kwargs)
        self.cutting = WordPieces(pieces, lower, longest, name="cutting")
        self.pieces = self.cutting.pieces

    def build(self, first_shape):
        pass  # there are no weights

    def call(self, first):
        pieces = self.cutting.cut(first)
        number, counts = _word_numbers(first)
        before = tf.cumsum(counts, exclusive=True)
        # Words are counted through the whole batch, so that those of two sentences differ.
        rows = pieces.begins.value_rowids()
        word = tf.gather(number.flat_values, tf.gather(number.row_starts(), rows) + tf.cast(pieces.begins.flat_values, tf.int64))
        begins = tf.concat([tf.ones_like(word[:1], tf.bool), word[1:] != word[:-1]], axis=0)
        within = tf.where(begins, word - tf.gather(before, rows), NO_WORD)
        room = self.cutting.longest - 2
        words = pieces.tokens.with_values(within)[:, :room]
        edge = tf.fill((words.nrows(), 1), NO_WORD)
        words = tf.concat([edge, words, edge], axis=1)
        # Where each word's first piece is, of those that have one.
        place = tf.range(tf.size(words.flat_values)) - tf.cast(tf.gather(words.row_starts(), words.value_rowids()), tf.int32)
        has_word = words.flat_values != NO_WORD
        found = tf.boolean_mask(words.flat_values + tf.gather(before, words.value_rowids()), has_word)
        starts = tf.tensor_scatter_nd_update(
            tf.fill((tf.reduce_sum(counts),), UNREAD), found[:, None], tf.boolean_mask(place, has_word))  # fmt: skip
        starts = tf.RaggedTensor.from_row_lengths(starts, counts, validate=False)
        packed = self.cutting.pack(pieces.tokens[:, :room])
        return {**packed, "words": words.to_tensor(NO_WORD), "starts": starts.to_tensor(PAST)}

    def compute_output_spec(self, first):
        return {name: keras.KerasTensor((first.shape[0], None), "int32") for name in ("tokens", "segments", "words", "starts")}

    def get_config(self):
        cutting = self.cutting
        return {**super().get_config(), "pieces": self.pieces, "lower": cutting.lower, "longest": cutting.longest}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class WordTags(keras.layers.Layer):
    """The most probable tag of each word.

    Input   probabilities  (batch, length, classes) float32, of each token
            starts         (batch, words) int32, as ``TaggedPieces`` gives them
    Output  a dict
            tags         (batch,) string: as many as there are words, parted by spaces; O for a word without a token
            probability  (batch, words) float32: of the tag; 0 for a word without a token, and after the last word

    Args:
        classes: the tags, in the order of the probabilities.
    """

    def __init__(self, classes: Sequence[str], **kwargs):
        super().__init__(**kwargs)
        self.classes = list(classes)

    def call(self, probabilities, starts):
        is_read = starts >= 0
        of_words = tf.gather(probabilities, tf.maximum(starts, 0), batch_dims=1)  # (batch, words, classes)
        tags = tf.where(is_read, tf.gather(tf.constant(self.classes), tf.argmax(of_words, axis=-1)), OUTSIDE)
        counts = tf.reduce_sum(tf.cast(starts != PAST, tf.int32), axis=1)
        tags = tf.strings.reduce_join(tf.RaggedTensor.from_tensor(tags, lengths=counts), axis=1, separator=" ")
        return {"tags": tags, "probability": tf.where(is_read, tf.reduce_max(of_words, axis=-1), 0.0)}

    def compute_output_spec(self, probabilities, starts):
        return {"tags": keras.KerasTensor(starts.shape[:1], "string"), "probability": keras.KerasTensor(starts.shape, "float32")}

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}


def tagged_piece_inputs(pieces: Sequence[str], *, lower: bool, longest: int) -> keras.Model:
    """What tagging has before the network: first (batch,) string -> what ``TaggedPieces`` gives.

    Args:
        pieces, lower, longest: see ``WordPieces``.
    """
    first = keras.Input((), dtype="string", name="first")
    return keras.Model(first, TaggedPieces(pieces, lower, longest, name="word_pieces")(first), name="preprocess")


def tags_of_tokens(tags: tf.Tensor, words: tf.Tensor, classes: Sequence[str]) -> tf.Tensor:
    """The places of tags among ``classes``, put to the tokens that begin the words: (batch, length) int32, else -1.

    Args:
        tags: (batch,) string, a tag for each word, parted by spaces; all are among ``classes``.
        words: (batch, length) int32, as ``TaggedPieces`` gives them.
        classes: the tags.
    """
    split = tf.strings.split(tags, " ")
    places = tf.argmax(split.flat_values[:, None] == tf.constant(list(classes)), axis=1, output_type=tf.int32)
    places = split.with_values(places).to_tensor(NO_WORD)
    places = tf.concat([places, tf.fill((tf.shape(places)[0], 1), NO_WORD)], axis=1)  # never empty: there may be no word
    return tf.where(words >= 0, tf.gather(places, tf.maximum(words, 0), batch_dims=1), NO_WORD)


def words_of(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end, in characters: those that ``TaggedPieces`` counts."""
    return [found.span() for found in _WORD.finditer(text)]


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities that the tags of a sentence mean, in order, as conlleval finds them, the program that scored CoNLL-2000 and
    CoNLL-2003 (https://aclanthology.org/W03-0419/).

    B- begins an entity, and so does I- after O or after another kind; O, another kind and B- end it. Where there are tags with E-
    and S-, too, E- ends an entity after its word, and S- is one of a single word.
    """
    return list(_entities(tags))


def _entities(tags: Sequence[str]) -> Iterator[Entity]:
    kind, begin, ended = "", 0, True
    for place, tag in enumerate(tags):
        prefix, _, named = tag.partition("-")
        goes_on = not ended and prefix in ("I", "E") and named == kind
        if not goes_on:
            if not ended:
                yield Entity(kind, begin, place)
            kind, begin, ended = named, place, prefix == OUTSIDE
        if prefix in ("E", "S"):
            yield Entity(kind, begin, place + 1)
            ended = True
    if not ended:
        yield Entity(kind, begin, len(tags))


def _word_numbers(text) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """(the number of the word that each character is in, or the one before it: (batch, ragged) int32, counted from 0 through the
    batch; how many words a text has: (batch,) int32)."""
    codes = tf.strings.unicode_decode(text, "UTF-8", errors="replace")
    flat, rows = codes.flat_values, codes.value_rowids()
    blank = tf.reduce_any(flat[:, None] == tf.constant(np.array([ord(each) for each in BLANKS], np.int32)), axis=1)
    after_blank = tf.concat([tf.ones_like(blank[:1]), blank[:-1] | (rows[1:] != rows[:-1])], axis=0)
    begins = tf.cast(~blank & after_blank, tf.int32)
    return codes.with_values(tf.cumsum(begins) - 1), tf.reduce_sum(codes.with_values(begins), axis=1)
