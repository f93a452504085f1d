"""Word pieces in the serving model: strings -> the tokens that BERT reads, by operations of TensorFlow alone.

Words are parted, cleaned and cut as in Devlin et al. 2018, https://arxiv.org/abs/1810.04805, whose program is
https://github.com/google-research/bert: white space and punctuation part words, ideographs stand alone, and each word is cut
from its beginning into the longest pieces that there are (Wu et al. 2016, section 4.1, https://arxiv.org/abs/1609.08144). What
does not begin a word is written with ## before it.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

PADDING = 0  # the token that every vocabulary has first
PAD, UNKNOWN, CLASSIFY, SEPARATE, MASK = MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
INSIDE = "##"  # before a piece that does not begin a word
LONGEST_WORD = 100  # characters; a longer word is unknown, as in the authors' program

# What becomes of a character.
_GONE, _SPACE, _ALONE, _IN_WORD = range(4)
_HOLE = 0xFDD0  # stands for [MASK] where that is read: a code point that is no character and never will be
_CODES, _PAGE, _BITS = 0x110000, 256, 21
# Blocks of ideographs, as in the authors' program (_is_chinese_char): each stands alone.
_IDEOGRAPHS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
               (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))  # fmt: skip


class Pieces(NamedTuple):
    """The pieces of some texts: tokens, and where each begins and ends in its text, in characters; all (batch, ragged) int32."""

    tokens: tf.RaggedTensor
    begins: tf.RaggedTensor
    ends: tf.RaggedTensor


@keras.saving.register_keras_serializable(package="kerastoolkit")
class WordPieces(keras.layers.Layer):
    """Texts, or pairs of them, -> [CLS] first [SEP], or [CLS] first [SEP] second [SEP].

    Input   first   (batch,) string, UTF-8
            second  (batch,) string; left out where texts stand alone
    Output  a dict
            tokens    (batch, longest in the batch) int32: places in ``pieces``; 0 after the end
            segments  (batch, longest in the batch) int32: 1 in the second text and at its [SEP], else 0

    Args:
        pieces: the vocabulary, [PAD] first, with [UNK], [CLS], [SEP] and [MASK].
        lower: whether capital letters become small ones and accents go, as in the uncased models.
        longest: tokens that are kept, marks counted; of a pair the longer text is cut first.
        masks: whether [MASK] in a text is that token; else it is a word in brackets.
    Raises:
        ValueError: the vocabulary lacks a mark, has a piece twice or an empty one, or ``longest`` leaves no room for a token.
    """

    def __init__(self, pieces: Sequence[str], lower: bool = True, longest: int = 512, masks: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.pieces, self.lower, self.longest, self.masks = list(pieces), bool(lower), int(longest), bool(masks)
        check_pieces(self.pieces)
        if self.longest < 5:
            raise ValueError(f"longest must be at least 5, got {longest}")
        self.marks = {mark: self.pieces.index(mark) for mark in MARKS}

    def call(self, first, second=None):
        if second is None:
            return self.pack(self.cut(first).tokens[:, : self.longest - 2])
        tokens = self.cut(tf.concat([first, second], axis=0)).tokens  # at once: the graph is half as large
        texts = tokens[: tf.size(first)], tokens[tf.size(first) :]
        # From the longer one token at a time, from the second where they are alike: what is left is known beforehand.
        room = self.longest - 3
        a, b = (tf.cast(each.row_lengths(), tf.int32) for each in texts)
        return self.pack(_first(texts[0], tf.minimum(a, tf.maximum(room - b, (room + 1) // 2))),
                         _first(texts[1], tf.minimum(b, tf.maximum(room - a, room // 2))))  # fmt: skip

    def pack(self, first, second=None):
        """Ragged tokens of one text or two, with the marks around them: what ``call`` returns."""
        rows = first.nrows()
        start, end = (tf.fill((rows, 1), tf.constant(self.marks[mark])) for mark in (CLASSIFY, SEPARATE))
        tokens = tf.concat([start, first, end], axis=1)
        segments = tf.zeros_like(tokens)
        if second is not None:
            second = tf.concat([second, end], axis=1)
            tokens, segments = tf.concat([tokens, second], axis=1), tf.concat([segments, tf.ones_like(second)], axis=1)
        return {"tokens": tokens.to_tensor(PADDING), "segments": segments.to_tensor(0)}

    def cut(self, text) -> Pieces:
        """The pieces of texts (batch,) string, without marks."""
        words, places = self._words(text)
        different, number = tf.unique(words.flat_values)
        tokens, begins = self._pieces_of(different)
        # Of each piece of each word: the token, and the characters of the text that it is made of.
        of_words = tf.gather(tokens, number)  # (words, pieces)
        starts = tf.gather(begins, number)
        ends = tf.concat([starts[:, 1:], tf.cast(places.row_lengths(), tf.int32)[:, None]], axis=1)
        ends = tf.minimum(ends, tf.cast(places.row_lengths(), tf.int32)[:, None])
        rows = tf.cast(of_words.value_rowids(), tf.int32)
        first_of_word = tf.gather(tf.cast(places.row_starts(), tf.int32), rows)
        begin = tf.gather(places.flat_values, first_of_word + starts.flat_values)
        end = tf.gather(places.flat_values, first_of_word + ends.flat_values - 1) + 1
        if self.masks:
            end += tf.where(of_words.flat_values == self.marks[MASK], len(MASK) - 1, 0)

        def by_text(values):
            return words.with_values(of_words.with_flat_values(values)).merge_dims(1, 2)

        return Pieces(by_text(of_words.flat_values), by_text(begin), by_text(end))

    def words(self, text):
        """The words that are cut, cleaned: (batch,) string -> (batch, ragged) string."""
        return self._words(text)[0]

    def _words(self, text):
        """(batch, ragged) string, and of each word's characters the places that they have in the text: (words, ragged) int32."""
        if self.masks:
            text = tf.strings.regex_replace(text, chr(_HOLE), "\ufffd")  # one that was there goes
            text = tf.strings.regex_replace(text, r"\[MASK\]", chr(_HOLE))
        codes = tf.strings.unicode_decode(text, "UTF-8", errors="replace")
        table = _characters(self.lower)
        flat, row = codes.flat_values, codes.value_rowids()
        treatment = tf.gather(tf.constant(table.pages), flat // _PAGE) * _PAGE + flat % _PAGE
        treatment = tf.gather(tf.constant(table.treatments), treatment)
        if self.masks:
            treatment = tf.where(flat == _HOLE, _ALONE, treatment)
        kind, replaced = treatment % 4, treatment // 4
        place = tf.range(tf.size(flat)) - tf.cast(tf.gather(codes.row_starts(), row), tf.int32)
        if self.masks:
            # Of [MASK] one character is left here, and what follows it stands further on in the text.
            holes = tf.cumsum(tf.cast(flat == _HOLE, tf.int32), exclusive=True)
            place += (len(MASK) - 1) * (holes - tf.gather(holes, tf.gather(codes.row_starts(), row)))
        kept = kind != _GONE  # what goes parts no word
        flat, row, kind, replaced, place = (tf.boolean_mask(each, kept) for each in (flat, row, kind, replaced, place))
        before = tf.concat([tf.constant([_SPACE]), kind[:-1]], 0)
        begins = (before != _IN_WORD) | (kind == _ALONE) | (row != tf.concat([row[:1], row[:-1]], 0))
        begins &= kind != _SPACE
        word = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        written = kind != _SPACE
        flat, row, word, replaced, place, begins = (
            tf.boolean_mask(each, written) for each in (flat, row, word, replaced, place, begins))  # fmt: skip
        # A character may become several, and each of these stands where that one stood.
        count = tf.gather(tf.constant(table.counts), replaced)
        source = tf.repeat(tf.range(tf.size(flat)), count)
        nth = tf.range(tf.size(source)) - tf.gather(tf.cumsum(count, exclusive=True), source)
        new = tf.gather(tf.constant(table.values), tf.gather(tf.constant(table.starts), tf.gather(replaced, source)) + nth)
        codes_out = tf.where(tf.gather(replaced, source) == 0, tf.gather(flat, source), new)
        count_words = tf.reduce_sum(tf.cast(begins, tf.int64))
        of_word = tf.cast(tf.gather(word, source), tf.int64)
        letters = tf.RaggedTensor.from_value_rowids(codes_out, of_word, nrows=count_words, validate=False)
        written_words, row_of_word = tf.strings.unicode_encode(letters, "UTF-8"), tf.boolean_mask(row, begins)
        words = tf.RaggedTensor.from_value_rowids(written_words, row_of_word, nrows=codes.nrows(), validate=False)
        return words, letters.with_values(tf.gather(place, source))

    def _pieces_of(self, words):
        """(words,) string -> their tokens and where these begin in the word, in characters; (words, ragged) int32 both."""
        trie = _trie(tuple(self.pieces))
        letters = tf.strings.unicode_decode(words, "UTF-8", errors="replace")
        length = tf.cast(letters.row_lengths(), tf.int32)
        readable = (length > 0) & (length <= LONGEST_WORD)
        # One place more than the longest: what is past the end is no letter.
        letters = letters[:, :LONGEST_WORD].to_tensor(-1)
        letters = tf.concat([letters, tf.fill((tf.shape(letters)[0], 1), -1)], axis=1)
        places = tf.range(tf.shape(letters)[1])
        keys, targets, tokens = (tf.constant(each) for each in trie)

        def step(out, at, node, start, best, best_end, going):
            letter = tf.gather(letters, at, batch_dims=1)
            wanted = tf.cast(node, tf.int64) * (1 << _BITS) + tf.cast(letter, tf.int64)
            found = tf.minimum(tf.searchsorted(keys, wanted), tf.size(keys) - 1)
            there = (tf.gather(keys, found) == wanted) & (letter >= 0)
            node = tf.where(there, tf.gather(targets, found), node)
            ends_here = there & (tf.gather(tokens, node) >= 0)
            best = tf.where(ends_here, tf.gather(tokens, node), best)
            best_end = tf.where(ends_here, at + 1, best_end)
            # Where the trie ends, the longest piece so far is one, and the next begins after it.
            taken = going & ~there & (best >= 0)
            out = tf.where(taken[:, None] & (places == start[:, None]), best[:, None], out)
            failed = going & ~there & (best < 0)
            done = failed | (taken & (best_end == length))
            out = tf.where(failed[:, None], -1, out)
            at = tf.where(there, at + 1, tf.where(taken, best_end, at))
            start = tf.where(taken, best_end, start)
            node, best = tf.where(taken, 1, node), tf.where(taken, -1, best)
            at = tf.minimum(at, tf.shape(letters)[1] - 1)
            return out, at, node, start, best, best_end, going & ~done

        nothing = tf.zeros_like(length)
        state = (tf.fill(tf.shape(letters), -1), nothing, nothing, nothing, nothing - 1, nothing, readable)
        out = tf.while_loop(lambda *state: tf.reduce_any(state[-1]), step, state)[0]
        unknown = (places == 0) & tf.reduce_all(out < 0, axis=1, keepdims=True)
        out = tf.where(unknown, self.marks[UNKNOWN], out)
        if self.masks:
            out = tf.where((words == chr(_HOLE))[:, None] & (places == 0), self.marks[MASK], out)
        begun = out >= 0
        return tf.ragged.boolean_mask(out, begun), tf.ragged.boolean_mask(tf.broadcast_to(places, tf.shape(out)), begun)

    def compute_output_spec(self, first, second=None):
        return {name: keras.KerasTensor((first.shape[0], None), "int32") for name in ("tokens", "segments")}

    def get_config(self):
        return {**super().get_config(), "pieces": self.pieces, "lower": self.lower, "longest": self.longest, "masks": self.masks}


def word_piece_inputs(pieces: Sequence[str], *, lower: bool, longest: int, pairs: bool, masks: bool = False) -> keras.Model:
    """What BERT's tasks have before the network: first (batch,) string, and of pairs second, -> tokens and segments
    (batch, longest) int32.

    Args:
        pieces, lower, longest, masks: see ``WordPieces``.
        pairs: whether there is a second text.
    """
    texts = [keras.Input((), dtype="string", name=name) for name in ("first", "second")[: 1 + pairs]]
    layer = WordPieces(pieces, lower, longest, masks, name="word_pieces")
    return keras.Model(texts if pairs else texts[0], layer(*texts), name="preprocess")


def check_pieces(pieces: Sequence[str]) -> None:
    """Refuses what is no vocabulary of BERT.

    Raises:
        ValueError: one is no string, a mark is missing, [PAD] is not the first, or a piece is empty or comes twice.
    """
    if wrong := [piece for piece in pieces if not isinstance(piece, str)]:
        raise ValueError(f"pieces must be strings, got {wrong[0]!r}")
    if missing := [mark for mark in MARKS if mark not in pieces]:
        raise ValueError(f"pieces must have {', '.join(MARKS)}, and lack {', '.join(missing)}")
    if pieces[PADDING] != PAD:
        raise ValueError(f"{PAD} must be the first of the pieces, got {pieces[PADDING]}")
    if len(set(pieces)) < len(pieces) or "" in pieces or INSIDE in pieces:
        seen: set[str] = set()
        wrong = next(piece for piece in pieces if piece in ("", INSIDE) or piece in seen or seen.add(piece))
        raise ValueError(f"pieces must be of one letter or more, each once, got {wrong!r}")


def _first(rows, counts):
    """The first ``counts`` (batch,) values of each row of a ragged tensor."""
    place = tf.range(tf.size(rows.flat_values)) - tf.cast(tf.gather(rows.row_starts(), rows.value_rowids()), tf.int32)
    return tf.ragged.boolean_mask(rows, rows.with_values(place < tf.gather(counts, rows.value_rowids())))


class _Characters(NamedTuple):
    """What becomes of each code point, in pages of which most are alike.

    ``treatments[pages[code // 256] * 256 + code % 256]`` is a kind + 4 times which of the replacements takes its place; the first
    replacement, of one character, stands for the character itself. ``values[starts[i]:][:counts[i]]`` is replacement i.
    """

    pages: np.ndarray
    treatments: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    values: np.ndarray


@functools.cache
def _characters(lower: bool) -> _Characters:
    table = np.full(_CODES, _IN_WORD, np.int32)
    for first, last in _IDEOGRAPHS:
        table[first : last + 1] = _ALONE
    replacements: dict[tuple[int, ...], int] = {(-1,): 0}
    for code in range(_CODES):
        if unicodedata.category(chr(code)) == "Cn":  # most are assigned to nothing, and stay as they are
            continue
        became = _became(chr(code), lower)
        if not became:
            table[code] = _SPACE if became is None else _GONE
            continue
        kind = _ALONE if table[code] == _ALONE or all(map(_is_punctuation, became)) else _IN_WORD
        codes = tuple(map(ord, became))
        table[code] = kind + 4 * (0 if codes == (code,) else replacements.setdefault(codes, len(replacements)))
    pages, numbers = np.unique(table.reshape(-1, _PAGE), axis=0, return_inverse=True)
    counts = np.array([len(each) for each in replacements], np.int32)
    values = np.array([code for each in replacements for code in each], np.int32)
    starts = (np.cumsum(counts) - counts).astype(np.int32)
    return _Characters(numbers.reshape(-1).astype(np.int32), pages.reshape(-1).astype(np.int32), starts, counts, values)


def _became(character: str, lower: bool) -> str | None:
    """What is read for a character; None for white space."""
    category = unicodedata.category(character)
    if character in "\t\n\r" or category[0] == "Z":
        return None
    if category in ("Cc", "Cf", "Co", "Cs") or character == "\ufffd":
        return ""
    if not lower:
        return character
    parts = unicodedata.normalize("NFD", character) if not character.isascii() else character
    return "".join(each for each in parts if unicodedata.category(each) != "Mn").lower()


def _is_punctuation(character: str) -> bool:
    return (character.isascii() and not character.isalnum()) or unicodedata.category(character)[0] == "P"


@functools.lru_cache(maxsize=8)
def _trie(pieces: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """keys (edges,) int64, ascending: node * 2**21 + letter; targets (edges,) int32; tokens (nodes,) int32, -1 for none.

    Node 0 is where words begin and node 1 where they go on.
    """
    edges: dict[int, int] = {}
    tokens = [-1, -1]
    for token, piece in enumerate(pieces):
        if piece in MARKS:
            continue
        node, letters = (1, piece[len(INSIDE) :]) if piece.startswith(INSIDE) else (0, piece)
        for letter in letters:
            after = edges.setdefault((node << _BITS) + ord(letter), len(tokens))
            if after == len(tokens):
                tokens.append(-1)
            node = after
        tokens[node] = token
    edges = edges or {0: 0}  # where there are marks alone: there must be a key to compare with, and no text has this one's letter
    keys = np.array(sorted(edges), np.int64)
    return keys, np.array([edges[key] for key in keys.tolist()], np.int32), np.array(tokens, np.int32)
