"""Words in the serving model: strings -> places in the vocabulary -> vectors, and the words nearest to a vector."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

MOST_NEIGHBOURS = 1_000


@keras.saving.register_keras_serializable(package="kerastoolkit")
class Vocabulary(keras.layers.Layer):
    """Holds the words of a model; the places that no word has become -1.

    Input, output  tokens  (batch, length) int32

    Args:
        words: in the order of their places, each once.
        lower: whether texts have their capital letters made small before words are looked up.
    Raises:
        ValueError: there are no words, or one comes twice.
    """

    def __init__(self, words: Sequence[str], lower: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.words, self.lower = list(words), lower
        if not self.words or len(set(self.words)) < len(self.words):
            raise ValueError("words must be one or more, each once")

    def call(self, tokens):
        return tf.where((tokens >= 0) & (tokens < len(self.words)), tokens, -1)

    def compute_output_spec(self, tokens):
        return keras.KerasTensor(tokens.shape, "int32")

    def get_config(self):
        return {**super().get_config(), "words": self.words, "lower": self.lower}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class WordTokens(keras.layers.Layer):
    """UTF-8 strings -> the places of their words, which blanks part.

    Input   text    (batch,) string, in Unicode's composed form (NFC)
    Output  tokens  (batch, longest) int32: -1 for an unknown word and after the end

    Args:
        words: in the order of their places.
        lower: whether capital letters are made small first.
    """

    def __init__(self, words: Sequence[str], lower: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.words, self.lower = list(words), lower
        # Keras' own layer, because it carries its table into a SavedModel.
        self.lookup = keras.layers.StringLookup(vocabulary=self.words, num_oov_indices=1)

    def build(self, text):
        self.lookup.build(text)

    def call(self, text):
        return self.places(tf.strings.split(tf.strings.lower(text, "utf-8") if self.lower else text)).to_tensor(-1)

    def places(self, words):
        """(any shape, ragged or not) string -> int32: the place of each word, -1 for an unknown one."""
        return tf.cast(self.lookup(words), tf.int32) - 1

    def compute_output_spec(self, text):
        return keras.KerasTensor((text.shape[0], None), "int32")

    def get_config(self):
        return {**super().get_config(), "words": self.words, "lower": self.lower}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class MeanVector(keras.layers.Layer):
    """The vector of a word, and of several the mean of those that are known.

    Input   vectors  (batch, length, dimensions) float32
            tokens   (batch, length) int32, -1 where there is no word
    Output  a dict: vector (batch, dimensions) float32, zeros where no word is known; known (batch,) int32, how many words are
    """

    def call(self, vectors, tokens):
        here = tf.cast(tokens >= 0, vectors.dtype)
        known = tf.reduce_sum(here, axis=1)
        vector = tf.squeeze(tf.matmul(here[:, None], vectors), 1) / tf.maximum(known, 1.0)[:, None]
        return {"vector": vector, "known": tf.cast(known, tf.int32)}

    def compute_output_spec(self, vectors, tokens):
        return {"vector": keras.KerasTensor((vectors.shape[0], vectors.shape[2]), vectors.dtype),
                "known": keras.KerasTensor((vectors.shape[0],), "int32")}  # fmt: skip


class Neighbours(keras.layers.Layer):
    """What a query asks of word vectors: the nearest words, an analogy, or how similar two sides are.

    A query is made of words and signs, which blanks part: ``king``; ``king - man + woman``, words added and taken away; and
    ``cup ~ mug``, two such sides. As gensim does, words of several are brought to length one and the sum of each side decides:
    Mikolov et al. 2013, https://aclanthology.org/N13-1090/, section 5. The words of a query are not among its neighbours. A query
    with two sides has the neighbours of the first.

    Input   a dict
            text   (batch,) string
            count  (batch,) int32: neighbours wanted, 0 .. 1,000
    Output  a dict
            neighbours    (batch, most wanted) string, the nearest first; empty where fewer are wanted or there are
            similarities  (batch, most wanted) float32: cosines, 0 where there is no neighbour
            similarity    (batch,) float32: the cosine of the two sides, 0 where there is one
            sides         (batch,) int32: 1 or 2; 0 where the query is malformed: a side without words, or a third
            vector        (batch, dimensions) float32: the sum of the first side, at length one
            neighbour_vectors  (batch, most wanted, dimensions) float32, at length one
            unknown       (batch,) string: the words that the vocabulary does not have, parted by blanks

    Args:
        words, lower: as for WordTokens.
        tables: embeddings with a row for each word; their sum is the words' vectors.
    Raises:
        tf.errors.InvalidArgumentError: a count is outside its range.
    """

    def __init__(self, words: Sequence[str], lower: bool, tables: Sequence[keras.layers.Embedding], **kwargs):
        super().__init__(**kwargs)
        self.tokens, self.tables = WordTokens(words, lower), list(tables)

    def build(self, inputs):
        self.tokens.build(inputs["text"])

    def call(self, inputs):
        text, count = inputs["text"], inputs["count"]
        asked = tf.debugging.Assert(
            tf.reduce_all((count >= 0) & (count <= MOST_NEIGHBOURS)), [f"count must be 0 .. {MOST_NEIGHBOURS:,}, got", count]
        )
        with tf.control_dependencies([asked]):
            count = tf.identity(count)
        terms = tf.strings.split(tf.strings.lower(text, "utf-8") if self.tokens.lower else text)
        row, flat = terms.value_rowids(), terms.flat_values
        places = self.tokens.places(flat)
        # A sign is no word, even where the vocabulary had one.
        minus, between = flat == "-", flat == "~"
        is_word = ~(minus | between | (flat == "+"))
        before = tf.concat([[False], minus[:-1]], 0) & tf.concat([[False], row[1:] == row[:-1]], 0)
        sign = tf.where(before, -1.0, 1.0)
        # The side of a term is how many "~" its row has before it.
        passed = tf.cumsum(tf.cast(between, tf.int32))
        row_starts = tf.gather(tf.concat([[0], passed], 0), terms.row_starts())
        side = passed - tf.gather(row_starts, row)
        known = is_word & (places >= 0)
        rows = tf.cast(terms.nrows(), tf.int32)
        slot = 2 * tf.cast(row, tf.int32) + tf.minimum(side, 1)
        chosen, weights = tf.maximum(places, 0), tf.where(known, sign, 0.0)
        vectors = tf.math.l2_normalize(tf.add_n([tf.convert_to_tensor(each.embeddings) for each in self.tables]), axis=1)
        sums = tf.math.unsorted_segment_sum(tf.gather(vectors, chosen) * weights[:, None], slot, 2 * rows)
        sums = tf.reshape(tf.math.l2_normalize(sums, axis=1), (rows, 2, -1))
        words_in = tf.math.unsorted_segment_sum(tf.cast(is_word, tf.int32), slot, 2 * rows)
        has = tf.reshape(words_in > 0, (rows, 2))
        last = tf.math.unsorted_segment_max(side, tf.cast(row, tf.int32), rows)
        two = last == 1
        sides = tf.where(has[:, 0] & (last == 0), 1, tf.where(has[:, 0] & has[:, 1] & two, 2, 0))
        missing = tf.ragged.boolean_mask(terms, terms.with_values(is_word & (places < 0)))
        names, cosines, near = self._nearest(vectors, sums[:, 0], tf.cast(row, tf.int32), chosen, known, count)
        return {
            "neighbours": names, "similarities": cosines, "vector": sums[:, 0], "neighbour_vectors": near,
            "similarity": tf.reduce_sum(sums[:, 0] * sums[:, 1], axis=1), "sides": sides,
            "unknown": tf.strings.reduce_join(missing, axis=1, separator=" "),
        }  # fmt: skip

    def _nearest(self, vectors, sums, row, chosen, known, count):
        words, most = len(self.tokens.words), tf.reduce_max(tf.concat([[0], count], 0))
        cosines = tf.matmul(sums, vectors, transpose_b=True)
        asked = tf.boolean_mask(tf.stack([row, chosen], axis=1), known)
        cosines = tf.tensor_scatter_nd_min(cosines, asked, tf.fill(tf.shape(asked)[:1], -2.0))  # below any cosine
        found, places = tf.math.top_k(cosines, tf.minimum(most, words))
        shown = (tf.range(tf.minimum(most, words)) < count[:, None]) & (found > -2.0)
        names = tf.where(shown, tf.gather(tf.constant(self.tokens.words), places), "")
        return names, tf.where(shown, found, 0.0), tf.gather(vectors, places)

    def compute_output_spec(self, inputs):
        batch, dimensions = inputs["text"].shape[0], self.tables[0].output_dim
        made = {"neighbours": ((batch, None), "string"), "similarities": ((batch, None), "float32"),
                "vector": ((batch, dimensions), "float32"), "neighbour_vectors": ((batch, None, dimensions), "float32"),
                "similarity": ((batch,), "float32"), "sides": ((batch,), "int32"), "unknown": ((batch,), "string")}  # fmt: skip
        return {name: keras.KerasTensor(shape, kind) for name, (shape, kind) in made.items()}
