"""Sub-words in the serving model: strings -> tokens -> strings, by operations of TensorFlow alone.

Byte-pair encoding: Sennrich et al. 2016, https://aclanthology.org/P16-1162/, over the bytes of UTF-8 as in Radford et al. 2019,
section 2.2: no character of any script is unknown, and tokens give back the text. A space belongs to the word after it, and
digits stand alone. Runs of white space count as one space.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

# Tokens of every vocabulary: what follows a shorter text, what a text begins and ends with; then the 256 bytes, then the pieces.
PADDING, START, END, FIRST_BYTE = 0, 1, 2, 3
FIRST_MERGED = FIRST_BYTE + 256
# Pieces never reach across these. Longer runs than LONG are cut, which bounds what one word can cost.
WORD = r" ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+"
LONG = r"[^\n]{32}"
_NO_PAIR = 1 << 30

Merges = Sequence[tuple[int, int]]


def normalise(texts):
    """(any shape) string -> valid UTF-8 with single spaces, none at the ends."""
    valid = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    return tf.strings.strip(tf.strings.regex_replace(valid, r"[\s\p{Z}\p{Cc}]+", " "))


def split_words(texts):
    """(batch,) string, normalised -> (batch, ragged) string: words with the space before them, the first, too; and empty ones."""
    parted = tf.strings.regex_replace(tf.where(texts == "", "", tf.strings.join([" ", texts])), f"({WORD})", "\\1\n")
    return tf.strings.split(tf.strings.regex_replace(parted, f"({LONG})", "\\1\n"), "\n")


def vocabulary_size(merges: Merges) -> int:
    """How many tokens there are with these merges."""
    return FIRST_MERGED + len(merges)


def piece_bytes(merges: Merges) -> list[bytes]:
    """The bytes that each token stands for; none for padding, start and end."""
    pieces = [b"", b"", b""] + [bytes([each]) for each in range(256)]
    for left, right in merges:
        pieces.append(pieces[left] + pieces[right])
    return pieces


class _BytePairs(keras.layers.Layer):
    """What both layers have: the merges, checked."""

    def __init__(self, merges: Merges, **kwargs):
        super().__init__(**kwargs)
        self.merges = [(int(left), int(right)) for left, right in merges]
        for token, pair in enumerate(self.merges, start=FIRST_MERGED):
            if not all(FIRST_BYTE <= each < token for each in pair):
                raise ValueError(f"a merge must join two earlier tokens, got {pair} for token {token}")

    def get_config(self):
        return {**super().get_config(), "merges": [list(pair) for pair in self.merges]}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class BytePairTokens(_BytePairs):
    """UTF-8 strings -> tokens, with one for the end of the text.

    Input   text    (batch,) string, best in Unicode's composed form (NFC)
    Output  tokens  (batch, longest) int32: 0 after the end

    Args:
        merges: pairs of tokens that become one, the first of which is token 259; in the order in which they are applied.
        longest: tokens of a text that are kept, with the one for the end; None for all.
    Raises:
        ValueError: a merge names a later token, or ``longest`` is below 2.
    """

    def __init__(self, merges: Merges, longest: int | None = None, **kwargs):
        super().__init__(merges, **kwargs)
        if longest is not None and longest < 2:
            raise ValueError(f"longest must be at least 2, got {longest}")
        self.longest = longest

    def call(self, text):
        tokens = self.pieces(text)
        if self.longest is not None:
            tokens = tokens[:, : self.longest - 1]
        end = tf.fill((tokens.nrows(), 1), END)
        return tf.concat([tokens, end], axis=1).to_tensor(PADDING)

    def pieces(self, text):
        """(batch,) string -> (batch, ragged) int32, without the token for the end."""
        words = split_words(normalise(text))
        different, place = tf.unique(words.flat_values)
        symbols = self._merged(different)
        pieces = tf.gather(symbols, place)  # (words, pieces)
        return words.with_values(pieces).merge_dims(1, 2)

    def _merged(self, words):
        """(words,) string -> (words, ragged) int32."""
        count = tf.strings.length(words)
        widest = tf.maximum(tf.reduce_max(count, axis=0), 1) if words.shape[0] != 0 else tf.constant(1)
        values = tf.cast(tf.io.decode_raw(words, tf.uint8, fixed_length=widest), tf.int64) + FIRST_BYTE
        places = tf.range(widest)
        symbols = tf.where(places < count[:, None], values, -1)
        if self.merges:
            symbols = self._merge(symbols, places)
        return tf.ragged.boolean_mask(tf.cast(symbols, tf.int32), symbols >= 0)

    def _merge(self, symbols, places):
        """Joins the pair that was learned first, in each word, until there is none: (words, widest) int64, -1 after the end."""
        size = vocabulary_size(self.merges)
        ordered = sorted((left * size + right, token) for token, (left, right) in enumerate(self.merges, start=FIRST_MERGED))
        keys = tf.constant([key for key, _ in ordered], tf.int64)
        made = tf.constant([token for _, token in ordered], tf.int64)

        def best_pairs(symbols):
            """(words, widest): the token that this place and the next one make."""
            after = tf.concat([symbols[:, 1:], tf.fill((tf.shape(symbols)[0], 1), tf.constant(-1, tf.int64))], axis=1)
            wanted = tf.where(after < 0, tf.constant(-1, tf.int64), symbols * size + after)
            found = tf.minimum(tf.reshape(tf.searchsorted(keys, tf.reshape(wanted, (-1,))), tf.shape(wanted)), len(ordered) - 1)
            pairs = tf.where(tf.gather(keys, found) == wanted, tf.gather(made, found), _NO_PAIR)
            return pairs, after

        def body(symbols, pairs, after, going):
            token = tf.reduce_min(pairs, axis=1, keepdims=True)
            place = tf.argmin(pairs, axis=1, output_type=tf.int32)[:, None]
            joined = tf.where(places < place, symbols, tf.where(places == place, token, after))
            symbols = tf.where(token < _NO_PAIR, joined, symbols)
            pairs, after = best_pairs(symbols)
            return symbols, pairs, after, tf.reduce_any(pairs < _NO_PAIR)

        pairs, after = best_pairs(symbols)
        going = tf.reduce_any(pairs < _NO_PAIR)
        return tf.while_loop(lambda *state: state[-1], body, (symbols, pairs, after, going))[0]

    def compute_output_spec(self, text):
        return keras.KerasTensor((text.shape[0], None), "int32")

    def get_config(self):
        return {**super().get_config(), "longest": self.longest}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class BytePairText(_BytePairs):
    """Tokens -> the text that they stand for, in valid UTF-8; padding, start and end stand for nothing.

    Input   tokens  (batch, length) int32
    Output  text    (batch,) string

    Args:
        merges: those of ``BytePairTokens``.
    """

    def call(self, tokens):
        text = tf.strings.reduce_join(tf.gather(tf.constant(piece_bytes(self.merges)), tokens), axis=-1)
        return tf.strings.strip(tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace"))

    def compute_output_spec(self, tokens):
        return keras.KerasTensor(tokens.shape[:1], "string")


@keras.saving.register_keras_serializable(package="kerastoolkit")
class BytePairPieces(_BytePairs):
    """Tokens -> what each stands for alone, to be shown: (batch, length) int32 -> string of the same shape, with a space where a
    word begins; bytes that are no whole character become U+FFFD.

    Args:
        merges: those of ``BytePairTokens``.
    """

    def call(self, tokens):
        return tf.strings.unicode_transcode(tf.gather(tf.constant(piece_bytes(self.merges)), tokens), "UTF-8", "UTF-8")

    def compute_output_spec(self, tokens):
        return keras.KerasTensor(tokens.shape, "string")
