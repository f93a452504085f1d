"""Answers that are parts of a text, in the serving model: windows over the text before the network, and the best span after it.

Both follow the program of Devlin et al. 2018, https://arxiv.org/abs/1810.04805 (section 4.2, and run_squad.py in
https://github.com/google-research/bert).
"""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from kerastoolkit.serving.word_pieces import CLASSIFY, PADDING, SEPARATE, WordPieces

AROUND = 40  # characters on each side of an answer that are told with it
NONE = -1  # the place of a token that is not of the text
NEVER = -1e30  # the logit of what may not be: far below all others, and finite, as TensorFlow's maxima of no number are


@keras.saving.register_keras_serializable(package="kerastoolkit")
class QuestionWindows(keras.layers.Layer):
    """Questions and the texts that answer them -> windows: [CLS] question [SEP] part of the text [SEP].

    A text that is too long for one window has several, each ``stride`` tokens after the one before. There are at least as many
    windows as examples, those of an example one after another; an empty text has one.

    Input   question  (batch,) string, UTF-8
            context   (batch,) string, the text
    Output  a dict
            tokens    (windows, longest of them) int32: places in ``pieces``; 0 after the end
            segments  the same shape, int32: 1 in the text and at its [SEP], else 0
            example   (windows,) int32: whose window it is, 0 .. batch - 1
            begins    the same shape as tokens, int32: where a token begins in the text, in characters; -1 outside of the text
            ends      where it ends, one after its last character; -1 outside of the text
            central   the same shape, bool: whether a token of the text has in this window the most text on its shorter side; so
                      each token is central in one of its windows
            context   (batch,) string, as it came

    Args:
        pieces, lower: see ``WordPieces``.
        longest: tokens in a window, marks counted.
        stride: tokens from the beginning of a window to that of the next; never more than a window holds of the text.
        longest_question: tokens of the question that are kept.
    Raises:
        ValueError: a size is too small, no token of a text would have room beside a question, or ``pieces`` is no vocabulary.
    """

    def __init__(self, pieces: Sequence[str], lower: bool = True, longest: int = 384, stride: int = 128,
                 longest_question: int = 64, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        self.longest, self.stride, self.longest_question = int(longest), int(stride), int(longest_question)
        for name in ("stride", "longest_question"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.longest < self.longest_question + 4:
            least = f"longest_question + 4 ({self.longest_question + 4}): three marks and a token of the text"
            raise ValueError(f"longest must be at least {least}, got {longest}")
        self.word_pieces = WordPieces(pieces, lower, name="word_pieces")

    def build(self, question_shape, context_shape):
        pass  # it has no weights

    def call(self, question, context):
        asked = self.word_pieces.cut(question).tokens[:, : self.longest_question]
        text = self.word_pieces.cut(context)
        asked_length, text_length = (tf.cast(each.row_lengths(), tf.int32) for each in (asked, text.tokens))
        room = self.longest - 3 - asked_length
        step = tf.minimum(room, self.stride)
        count = 1 + tf.maximum(0, -(-(text_length - room) // step))

        example = tf.repeat(tf.range(tf.size(count)), count)
        number = tf.range(tf.size(example)) - tf.gather(tf.cumsum(count, exclusive=True), example)
        asked_length, text_length, room, step, count = (
            tf.gather(each, example)[:, None] for each in (asked_length, text_length, room, step, count))  # fmt: skip
        start = number[:, None] * step
        length = tf.minimum(room, text_length - start)  # (windows, 1)

        # Where each place of each window is: in the question, in the text, or at a mark.
        place = tf.range(tf.reduce_max(tf.concat([asked_length + length + 3, [[3]]], 0)))[None]
        offset = place - asked_length - 2
        in_text = (offset >= 0) & (offset < length)
        tokens = tf.where((place >= 1) & (place <= asked_length), _from_rows(asked, example, place - 1), PADDING)
        tokens = tf.where(in_text, _from_rows(text.tokens, example, start + offset), tokens)
        marks = self.word_pieces.marks
        tokens = tf.where(place == 0, marks[CLASSIFY], tokens)
        tokens = tf.where((place == asked_length + 1) | (offset == length), marks[SEPARATE], tokens)
        begins, ends = (_from_rows(each, example, start + offset) for each in (text.begins, text.ends))
        return {
            "tokens": tokens,
            "segments": tf.cast((offset >= 0) & (offset <= length), tf.int32),
            "example": example,
            "begins": tf.where(in_text, begins, NONE),
            "ends": tf.where(in_text, ends, NONE),
            "central": in_text & _is_central(start + offset, number[:, None], count, step, room, text_length),
            "context": tf.identity(context),
        }

    def compute_output_spec(self, question, context):
        kinds = {"tokens": "int32", "segments": "int32", "begins": "int32", "ends": "int32", "central": "bool"}
        return {
            **{name: keras.KerasTensor((None, None), kind) for name, kind in kinds.items()},
            "example": keras.KerasTensor((None,), "int32"),
            "context": keras.KerasTensor(context.shape, "string"),
        }

    def get_config(self):
        return {**super().get_config(), "pieces": self.word_pieces.pieces, "lower": self.word_pieces.lower,
                "longest": self.longest, "stride": self.stride, "longest_question": self.longest_question}  # fmt: skip


@keras.saving.register_keras_serializable(package="kerastoolkit")
class WindowLogits(keras.layers.Layer):
    """A network's logits for windows, some of them at a time: a long text has many, and attention takes memory for each.

    Input   tokens, segments  (windows, length) int32
    Output  logits            (windows, length, 2) float32

    Args:
        network: model from tokens and segments to logits, or its serialized form.
        at_once: windows that the network sees together.
    """

    def __init__(self, network, at_once: int = 16, **kwargs):
        super().__init__(**kwargs)
        self.network = keras.saving.deserialize_keras_object(network) if isinstance(network, dict) else network
        self.at_once = int(at_once)

    def build(self, tokens_shape, segments_shape):
        pass  # its layers are those of the network

    def call(self, tokens, segments):
        windows = tf.shape(tokens)[0]

        def step(start, found):
            some = {"tokens": tokens[start : start + self.at_once], "segments": segments[start : start + self.at_once]}
            logits = tf.cast(self.network(some, training=False), tf.float32)
            return start + self.at_once, found.write(start // self.at_once, logits)

        parts = -(-windows // self.at_once)
        found = tf.TensorArray(tf.float32, parts, infer_shape=False, element_shape=(None, None, 2))
        return tf.while_loop(lambda start, _: start < windows, step, (0, found), parallel_iterations=1)[1].concat()

    def compute_output_spec(self, tokens, segments):
        return keras.KerasTensor((*tokens.shape, 2), "float32")

    def get_config(self):
        return {**super().get_config(), "network": keras.saving.serialize_keras_object(self.network), "at_once": self.at_once}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class BestSpan(keras.layers.Layer):
    """Logits of windows -> the answer of each example: of all its spans the one whose two logits have the largest sum.

    A span begins with a token that is central in its window, ends with that token or a later one of the text, and has at most
    ``longest_answer`` tokens. Of equally good spans the first is taken.

    Input   logits   (windows, length, 2) float: that the answer begins, and that it ends, with a token
            example, begins, ends, central, context  as ``QuestionWindows`` gives them
    Output  a dict
            answer       (batch,) string: that part of the text, as it stands there
            begin, end   (batch,) int32: its place in the text, in characters; the end is one after the last
            probability  (batch,) float32: of a softmax over all spans of all windows of the example
            before, after  (batch,) string: the characters on both sides, up to 40

    Where no span may be an answer (an empty text), all are empty and 0. Marks that belong to the last letter, such as accents of
    their own, are part of the answer.

    Args:
        longest_answer: tokens.
    Raises:
        ValueError: ``longest_answer`` is below 1.
    """

    def __init__(self, longest_answer: int = 30, **kwargs):
        super().__init__(**kwargs)
        self.longest_answer = int(longest_answer)
        if self.longest_answer < 1:
            raise ValueError(f"longest_answer must be at least 1, got {longest_answer}")

    def call(self, logits, example, begins, ends, central, context):
        logits = tf.cast(logits, tf.float32)
        length, batch = tf.shape(logits)[1], tf.shape(context)[0]
        first = tf.where(central, logits[:, :, 0], NEVER)
        last = tf.where(begins != NONE, logits[:, :, 1], NEVER)
        # sums[w, i, k]: the span of window w from its token i to i + k.
        last = tf.pad(last, ((0, 0), (0, self.longest_answer - 1)), constant_values=NEVER)
        sums = first[:, :, None] + tf.gather(last, tf.range(length)[:, None] + tf.range(self.longest_answer), axis=1)
        sums = tf.reshape(sums, (-1, length * self.longest_answer))
        of_window = tf.reduce_max(sums, axis=1)
        of_example = tf.math.unsorted_segment_max(of_window, example, batch)
        there = of_example > NEVER / 2
        best = tf.where(there, of_example, 0.0)  # of those without a span it is never used
        shares = tf.reduce_sum(tf.exp(sums - tf.gather(best, example)[:, None]), axis=1)
        total = tf.math.unsorted_segment_sum(shares, example, batch)

        windows = tf.size(example)
        is_best = of_window == tf.gather(of_example, example)
        window = tf.math.unsorted_segment_min(tf.where(is_best, tf.range(windows), windows), example, batch)
        place = tf.argmax(tf.gather(sums, window), axis=1, output_type=tf.int32)
        start, more = place // self.longest_answer, place % self.longest_answer
        begin = tf.gather(tf.gather(begins, window), start, batch_dims=1)
        end = tf.gather(tf.gather(ends, window), tf.minimum(start + more, length - 1), batch_dims=1)
        begin, end = (tf.where(there, each, 0) for each in (begin, end))

        codes = tf.strings.unicode_decode(context, "UTF-8", errors="replace")
        end = tf.where(there, _after_marks(codes, end), 0)
        around = tf.where(there, AROUND, 0)
        return {
            "answer": _part(codes, begin, end), "begin": begin, "end": end,
            "probability": tf.where(there, 1.0 / tf.where(there, total, 1.0), 0.0),
            "before": _part(codes, begin - around, begin), "after": _part(codes, end, end + around),
        }  # fmt: skip

    def compute_output_spec(self, logits, example, begins, ends, central, context):
        kinds = {"answer": "string", "begin": "int32", "end": "int32", "probability": "float32", "before": "string",
                 "after": "string"}  # fmt: skip
        return {name: keras.KerasTensor(context.shape, kind) for name, kind in kinds.items()}

    def get_config(self):
        return {**super().get_config(), "longest_answer": self.longest_answer}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class AnswerWindow(keras.layers.Layer):
    """Of all windows those that the answers were taken from, one of each example.

    Input   tokens, segments, example, begins, ends, central  as ``QuestionWindows`` gives them
            begin     (batch,) int32, where the answer begins, as ``BestSpan`` gives it
    Output  a dict: tokens, segments, begins and ends (batch, length) int32. Where there is no answer, the example's first window.
    """

    def call(self, tokens, segments, example, begins, ends, central, begin):
        windows, batch = tf.size(example), tf.size(begin)
        holds = tf.reduce_any(central & (begins == tf.gather(begin, example)[:, None]), axis=1)
        # Their number, and for windows without the answer one above all numbers.
        number = tf.range(windows) + tf.where(holds, 0, windows)
        window = tf.math.unsorted_segment_min(number, example, batch) % windows
        given = {"tokens": tokens, "segments": segments, "begins": begins, "ends": ends}
        return {name: tf.gather(values, window) for name, values in given.items()}

    def compute_output_spec(self, tokens, segments, example, begins, ends, central, begin):
        shape = (begin.shape[0], tokens.shape[1])
        return {name: keras.KerasTensor(shape, "int32") for name in ("tokens", "segments", "begins", "ends")}


def window_inputs(pieces: Sequence[str], *, lower: bool, longest: int, stride: int = 128,
                  longest_question: int = 64) -> keras.Model:  # fmt: skip
    """What question answering has before the network: question and context (batch,) string -> what ``QuestionWindows`` gives,
    whose arguments these are."""
    texts = [keras.Input((), dtype="string", name=name) for name in ("question", "context")]
    windows = QuestionWindows(pieces, lower, longest, stride, longest_question, name="windows")(*texts)
    return keras.Model(texts, windows, name="preprocess")


def _from_rows(rows, number, place):
    """Values of a ragged tensor: of row number[w] those at place[w]; anything where there are none. (windows, length)"""
    flat = tf.concat([rows.flat_values, [0]], axis=0)
    found = tf.gather(tf.cast(rows.row_starts(), tf.int32), number)[:, None] + place
    return tf.gather(flat, tf.clip_by_value(found, 0, tf.size(flat) - 1))


def _is_central(token, number, count, step, room, text_length):
    """Whether no other window of the example has more text on the shorter side of a token, and no earlier one as much.

    Longer windows have a small advantage, as in the authors' program.

    Args:
        token: (windows, length) int32, places in the text's tokens.
        number, count, step, room, text_length: (windows, 1) int32: which window of its example it is, how many that has, and what
            ``QuestionWindows`` makes them by.
    """

    def context(which):
        start = which * step
        length = tf.minimum(room, text_length - start)
        last = start + length - 1
        least = tf.cast(tf.minimum(token - start, last - token), tf.float64) + 0.01 * tf.cast(length, tf.float64)
        inside = (token >= start) & (token <= last) & (which >= 0) & (which < count)
        return tf.where(inside, least, tf.constant(-np.inf, tf.float64))

    own = context(number)

    def look(distance, central):
        central &= (own > context(number - distance)) & (own >= context(number + distance))
        return distance + 1, central

    # Windows further apart than this have no token in common.
    furthest = tf.reduce_max(tf.concat([tf.minimum(count - 1, -(-room // step)), [[0]]], 0))
    return tf.while_loop(lambda distance, _: distance <= furthest, look, (1, tf.ones_like(token, tf.bool)))[1]


def _part(codes, begin, end):
    """The characters begin .. end - 1 of each row: code points (batch, ragged) -> (batch,) string."""
    place = tf.range(tf.size(codes.flat_values)) - tf.cast(tf.gather(codes.row_starts(), codes.value_rowids()), tf.int32)
    begin, end = (tf.gather(each, codes.value_rowids()) for each in (begin, end))
    part = tf.ragged.boolean_mask(codes, codes.with_values((place >= begin) & (place < end)))
    return tf.strings.unicode_encode(part, "UTF-8")


def _after_marks(codes, end):
    """``end``, moved past the combining marks that follow: (batch,) int32."""
    flat, row = codes.flat_values, codes.value_rowids()
    place = tf.range(tf.size(flat)) - tf.cast(tf.gather(codes.row_starts(), row), tf.int32)
    marks = tf.constant(_marks())
    is_mark = tf.gather(marks, tf.minimum(tf.searchsorted(marks, flat), tf.size(marks) - 1)) == flat
    after = tf.where((place < tf.gather(end, row)) | is_mark, codes.bounding_shape(axis=1, out_type=tf.int32), place)
    length = tf.cast(codes.row_lengths(), tf.int32)
    return tf.minimum(tf.math.unsorted_segment_min(after, row, codes.nrows()), length)


@functools.cache
def _marks() -> np.ndarray:
    """Code points of marks that take no room of their own, ascending."""
    return np.array([code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Mn"], np.int32)
