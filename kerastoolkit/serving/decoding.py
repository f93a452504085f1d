"""Writing a text for a source inside the graph, token by token.

Works for every network that takes ``source_tokens`` and ``target_tokens`` and whose layers are named as in
``models.transformer``: ``memory`` gives what the encoder found; the target's embedding, the layers whose names begin with
``decoder_`` and the logits follow one on the other, and each treats a position alone or has ``start``, ``first_state`` and
``step`` (see ``layers.transformer``); a layer ``pointer``, if there is one, comes last (see ``layers.pointer_generator``).
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from kerastoolkit.serving.byte_pairs import END, PADDING, START
from kerastoolkit.serving.search import beam_search, gains_of, sample, without_repeats

SETTINGS = {"beams": 4, "length_penalty": 0.6, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "no_repeat_ngram": 0, "longest": 0,
            "seed": 0}  # fmt: skip
MOST_BEAMS, MOST_TOKENS = 100, 10_000  # more would hold a server's memory
LONGER = 50  # than the source an output may be: Vaswani et al. 2017, section 6.1


class TokenByToken:
    """A network one position at a time, with what the positions before left: a key-value cache, or recurrent states.

    Args:
        network: see the head of this file.
    """

    def __init__(self, network: keras.Model):
        self.layers = [layer for layer in network.layers if layer.name.startswith("decoder_")]
        self.encoder = keras.Model(network.get_layer("source_tokens").output, network.get_layer("memory").output, name="encoder")
        names = {layer.name for layer in network.layers}
        self.embedding = network.get_layer("embedding" if "embedding" in names else "target_embedding")
        self.logits = network.get_layer("logits") if "logits" in names else lambda x: self.embedding(x, reverse=True)
        self.pointer = network.get_layer("pointer") if "pointer" in names else None

    def start(self, source_tokens: Any) -> list[Any]:
        """What does not change while a text is written; each tensor's first dimension is the batch."""
        memory, mask = self.encoder(source_tokens), source_tokens != PADDING
        constants = [layer.start(memory, mask) if hasattr(layer, "start") else () for layer in self.layers]
        return [*constants, self.pointer.start(memory, source_tokens) if self.pointer else ()]

    def first_state(self, constants: list[Any], number: int | Any) -> list[Any]:
        """What ``step`` begins with, for ``number`` texts of each source: tensors (batch, number, ...)."""
        return [
            layer.first_state(constant, number) if hasattr(layer, "start") else ()
            for layer, constant in zip([*self.layers, self.pointer], constants, strict=True)
        ]

    def step(self, tokens: Any, constants: list[Any], state: list[Any], position: Any) -> tuple[Any, list[Any]]:
        """tokens (batch, number) at ``position`` -> (logits (batch, number, vocabulary) of the next tokens, new state)."""
        x, after = self.embedding(tokens), []
        for layer, constant, before in zip(self.layers, constants[:-1], state[:-1], strict=True):
            if hasattr(layer, "step"):
                x, new = layer.step(x, constant, before, position)
                after.append(new)
            else:
                x = layer(x)
                after.append(())
        logits = self.logits(x)
        if not self.pointer:
            return logits, [*after, ()]
        logits, new = self.pointer.step(x, logits, constants[-1], state[-1])
        return logits, [*after, new]

    def attention(self, source_tokens: Any, target_tokens: Any) -> Any:
        """(batch, target length, source length) float: how much the last layer that looks at the source, the pointer if there is
        one, looked at each of its tokens when it wrote each token of the target, which ends with END; the mean of its heads."""
        memory, mask = self.encoder(source_tokens), source_tokens != PADDING
        x, weights = self.embedding(shifted(target_tokens)), None
        for layer in self.layers:
            if hasattr(layer, "attends"):
                x, weights = layer(x, memory, mask, return_weights=True)
            else:
                x = layer(x)
        if self.pointer:
            return self.pointer.look(x, *self.pointer.start(memory, source_tokens))[1]
        return tf.reduce_mean(weights, axis=1) if len(weights.shape) == 4 else weights


def shifted(tokens: Any) -> Any:
    """What a network is given to write ``tokens`` (batch, length): START and all but the last of them."""
    return tf.concat([tf.fill((tf.shape(tokens)[0], 1), tf.constant(START, tokens.dtype)), tokens[:, :-1]], axis=1)


@keras.saving.register_keras_serializable(package="kerastoolkit")
class Decode(keras.layers.Layer):
    """Writes a text for each source.

    Input   a dict
            source_tokens    (batch, any length) int32, with 0 after the end
            beams            (batch,) int32: texts followed at once, 1 .. 100; 1 takes the likeliest token each time
            length_penalty   (batch,) float32, 0 .. 10: the higher, the longer the texts
            temperature      (batch,) float32: 0 searches for the likeliest text; above 0 it is drawn and ``beams`` are not used
            top_k            (batch,) int32: draw among that many of the likeliest tokens; 0 for all
            top_p            (batch,) float32 in (0, 1]: draw among the fewest whose probabilities sum to it
            no_repeat_ngram  (batch,) int32, 0 .. 10,000: so many tokens in a row are not written twice; 0 for no such rule
            longest          (batch,) int32: tokens, the end counted, 0 .. 10,000; 0 for as many as the source has and 50 more
            seed             (batch,) int32, of the draws
    Output  a dict
            tokens  (batch, longest) int32: END and then padding after each text
            score   (batch,) float32: the logarithm of the text's probability, divided as ``beam_search`` states

    What is in the rest of the batch changes nothing.

    Args:
        network: see the head of this file, or its serialized form.
    Raises:
        tf.errors.InvalidArgumentError: a setting is outside its range.
    """

    def __init__(self, network, **kwargs):
        super().__init__(**kwargs)
        self.network = keras.saving.deserialize_keras_object(network) if isinstance(network, dict) else network
        self.stepwise = TokenByToken(self.network)
        # As one graph also where it is called eagerly: there are many small operations for each token.
        self._compiled = tf.function(self._decode, autograph=False, reduce_retracing=True)

    def call(self, inputs):
        return self._compiled(dict(inputs))

    def _decode(self, inputs):
        with tf.control_dependencies(_checks(inputs)):
            source = tf.identity(inputs["source_tokens"])
        length = tf.reduce_sum(tf.cast(source != PADDING, tf.int32), axis=1)
        limits = tf.where(inputs["longest"] > 0, inputs["longest"], length + LONGER)
        draws = inputs["temperature"] > 0
        constants = self.stepwise.start(source)

        def advance(tokens, state, position):
            logits, state = self.stepwise.step(tokens, constants, state, position)
            return gains_of(logits), state

        def begun(number):
            state = self.stepwise.first_state(constants, number)
            return without_repeats(advance, state, number=number, sizes=inputs["no_repeat_ngram"])

        def nothing():
            return tf.fill((tf.shape(source)[0], 1), END), tf.zeros((tf.shape(source)[0],))

        def searched():
            widths = tf.where(draws, 1, inputs["beams"])
            each, state = begun(tf.reduce_max(widths))
            return beam_search(each, state, widths=widths, limits=limits, penalties=inputs["length_penalty"])

        def drawn():
            each, state = begun(1)
            tokens, likelihoods = sample(
                each, state, temperature=tf.where(draws, inputs["temperature"], 1.0), top_k=inputs["top_k"],
                top_p=inputs["top_p"], limits=limits, seeds=inputs["seed"])  # fmt: skip
            written = tf.reduce_sum(tf.cast(tokens != PADDING, tf.float32), axis=1)
            return tokens, likelihoods / ((5.0 + written) / 6.0) ** inputs["length_penalty"]

        tokens, score = tf.cond(tf.reduce_all(draws), nothing, searched)
        drawn_tokens, drawn_score = tf.cond(tf.reduce_any(draws), drawn, nothing)
        longest = tf.maximum(tf.shape(tokens)[1], tf.shape(drawn_tokens)[1])
        tokens, drawn_tokens = (tf.pad(each, ((0, 0), (0, longest - tf.shape(each)[1]))) for each in (tokens, drawn_tokens))
        tokens = tf.where(draws[:, None], drawn_tokens, tokens)
        # What other texts of the batch needed in length is cut off with the columns that hold nothing.
        used = tf.reduce_max(tf.reduce_sum(tf.cast(tokens != PADDING, tf.int32), axis=1), axis=0)
        return {"tokens": tokens[:, :used], "score": tf.where(draws, drawn_score, score)}

    def compute_output_spec(self, inputs):
        batch = inputs["source_tokens"].shape[0]
        return {"tokens": keras.KerasTensor((batch, None), "int32"), "score": keras.KerasTensor((batch,), "float32")}

    def get_config(self):
        return {**super().get_config(), "network": keras.saving.serialize_keras_object(self.network)}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class SourceAttention(keras.layers.Layer):
    """How much the network looked at each token of the source when it wrote each token of a text.

    Input   source_tokens  (batch, source length) int32
            tokens         (batch, length) int32, as ``Decode`` gives them
    Output  attention      (batch, length, source length) float32, of sum 1 over the source: see ``TokenByToken.attention``

    Args:
        decode: the Decode layer whose network it is, or its serialized form.
    """

    def __init__(self, decode, **kwargs):
        super().__init__(**kwargs)
        self.decode = keras.saving.deserialize_keras_object(decode) if isinstance(decode, dict) else decode

    def call(self, source_tokens, tokens):
        return self.decode.stepwise.attention(source_tokens, tokens)

    def compute_output_spec(self, source_tokens, tokens):
        return keras.KerasTensor((source_tokens.shape[0], None, None), "float32")

    def get_config(self):
        return {**super().get_config(), "decode": keras.saving.serialize_keras_object(self.decode)}


def _checks(inputs):
    """Assertions that say what a setting must be."""

    def check(name, holds, rule):
        return tf.debugging.Assert(tf.reduce_all(holds), [f"{name} must be {rule}, got", inputs[name]])

    beams, longest, top_p, ngram = (inputs[name] for name in ("beams", "longest", "top_p", "no_repeat_ngram"))
    return [
        check("beams", (beams >= 1) & (beams <= MOST_BEAMS), f"1 .. {MOST_BEAMS}"),
        check("length_penalty", (inputs["length_penalty"] >= 0) & (inputs["length_penalty"] <= 10), "0 .. 10"),
        check("temperature", inputs["temperature"] >= 0, "0 or more"),
        check("top_k", inputs["top_k"] >= 0, "0 or more"),
        check("top_p", (top_p > 0) & (top_p <= 1), "above 0 and at most 1"),
        check("no_repeat_ngram", (ngram >= 0) & (ngram <= MOST_TOKENS), f"0 .. {MOST_TOKENS:,} tokens"),
        check("longest", (longest >= 0) & (longest <= MOST_TOKENS), f"0 .. {MOST_TOKENS:,} tokens"),
    ]
