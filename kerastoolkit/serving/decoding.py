"""Writing a text for a source inside the graph, token by token: beam search, the likeliest token, or draws at random.

Works for every network that takes ``source_tokens`` and ``target_tokens`` and whose layers are named as in
``models.transformer``: ``memory`` gives what the encoder found; the target's embedding, the layers whose names begin with
``decoder_`` and the logits follow one on the other, and each treats a position alone or has ``start``, ``first_state`` and
``step`` (see ``layers.transformer``); a layer ``pointer``, if there is one, comes last (see ``layers.pointer_generator``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kerastoolkit.serving.byte_pairs import END, PADDING, START

SETTINGS = {"beams": 4, "length_penalty": 0.6, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "no_repeat_ngram": 0, "longest": 0,
            "seed": 0}  # fmt: skip
MOST_BEAMS, MOST_TOKENS = 100, 10_000  # more would hold a server's memory
LONGER = 50  # than the source an output may be: Vaswani et al. 2017, section 6.1
IMPOSSIBLE = -1e9  # a logarithm of a probability of 0 with which one can reckon


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


Advance = Callable[[Any, Any, Any], tuple[Any, Any]]


def without_repeats(advance: Advance, state: Any, *, number: int | Any, sizes: Any) -> tuple[Advance, Any]:
    """No ``sizes`` tokens in a row are written twice: Paulus et al. 2017, section 2.5, https://arxiv.org/abs/1705.04304, where
    they are words, and 3.

    Args:
        advance, state: as for ``beam_search``.
        number: beams of that state.
        sizes: (batch,) int32; 0 where anything may be repeated.
    Returns:
        ``advance`` whose gains of repetitions are IMPOSSIBLE and all others what they were, and the state that it begins with.
    """

    def forbidden(gains, followers, same):
        shape, size = tf.shape(followers), tf.shape(gains)[2]
        repeats = (sizes > 0)[:, None, None] & (same >= sizes[:, None, None] - 1)
        rows = tf.reshape(tf.range(shape[0] * shape[1]), (shape[0], shape[1], 1))
        found = tf.math.unsorted_segment_sum(tf.cast(repeats, tf.int32), rows * size + followers, shape[0] * shape[1] * size)
        return tf.where(tf.reshape(found, tf.shape(gains)) > 0, IMPOSSIBLE, gains)

    def advance_without(tokens, state, position):
        written, same, state = state
        gains, state = advance(tokens, state, position)
        latest = tokens[:, :, None]
        # How many of the tokens up to each place are those written last: one more than up to the place before, or none.
        same = tf.where(written == latest, tf.pad(same, ((0, 0), (0, 0), (1, 0)))[:, :, :-1] + 1, 0)
        written = tf.concat([written, latest], axis=2)
        gains = tf.cond(tf.reduce_any(sizes > 0), lambda: forbidden(gains, written[:, :, 1:], same), lambda: gains)
        return gains, (written, tf.pad(same, ((0, 0), (0, 0), (0, 1))), state)

    nothing = tf.zeros((tf.shape(sizes)[0], number, 0), tf.int32)
    return advance_without, (nothing, nothing, state)


def beam_search(advance: Advance, state: Any, *, widths: Any, limits: Any, penalties: Any) -> tuple[Any, Any]:
    """The likeliest text that a beam finds: Wu et al. 2016, section 7, https://arxiv.org/abs/1609.08144, without the coverage
    penalty.

    Scores are the logarithm of a text's probability divided by ((5 + tokens) / 6) ** penalty, the end counted. A text ends with
    END, at the latest as token number ``limit``.

    Args:
        advance: (tokens (batch, beams), state, position) -> (gains (batch, beams, vocabulary) as ``gains_of`` gives them for what
            comes next, new state).
        state: any structure of tensors (batch, beams, ...), with as many beams as the widest has.
        widths: (batch,) int32, texts that are followed at once; 1 takes the likeliest token each time (greedy).
        limits: (batch,) int32, at least 1.
        penalties: (batch,) float32.
    Returns:
        tokens (batch, longest) int32 with END and then PADDING; scores (batch,) float32.
    """
    batch, beams = tf.shape(widths)[0], tf.reduce_max(widths)
    inside = tf.range(beams)[None] < widths[:, None]  # (b, beams)
    greedy = widths[:, None] == 1  # where the likeliest token is the end, that is the end
    flat = tf.nest.flatten(state)

    def normalised(likelihoods, length):
        return likelihoods / ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** penalties[:, None]

    def body(t, tokens, likelihoods, ended, end_scores, *flat):
        gains, new_state = advance(tokens[:, :, -1], tf.nest.pack_sequence_as(state, flat), t)
        size = tf.shape(gains)[2]
        gains = ending(gains, (t + 1 >= limits)[:, None, None])
        totals = likelihoods[:, :, None] + gains
        # Twice as many as are followed: should all that are followed end, as many are left to go on with.
        best, places = tf.math.top_k(tf.reshape(totals, (batch, beams * size)), 2 * beams)
        parents, chosen = places // size, places % size
        grown = tf.concat([tf.gather(tokens, parents, batch_dims=1), chosen[:, :, None]], axis=2)
        is_end = chosen == END
        # Those that end here compete with those that have ended.
        among = tf.range(2 * beams)[None] < tf.where(greedy, 1, 2 * widths[:, None])
        new_scores = tf.where(is_end & among & (best > IMPOSSIBLE / 2), normalised(best, t + 1), IMPOSSIBLE)
        scores = tf.concat([end_scores[:, None], new_scores], axis=1)
        winner = tf.argmax(scores, axis=1, output_type=tf.int32)
        everything = tf.concat([tf.pad(ended, ((0, 0), (0, 1)))[:, None], grown], axis=1)
        ended, end_scores = tf.gather(everything, winner, batch_dims=1), tf.gather(scores, winner, batch_dims=1)
        # The others go on.
        likelihoods, order = tf.math.top_k(tf.where(is_end, IMPOSSIBLE, best), beams)
        likelihoods = tf.where(inside & ~(greedy & is_end[:, :1]), likelihoods, IMPOSSIBLE)
        tokens = tf.gather(grown, order, batch_dims=1)
        parents = tf.gather(parents, order, batch_dims=1)
        flat = [tf.gather(each, parents, batch_dims=1) for each in tf.nest.flatten(new_state)]
        return t + 1, tokens, likelihoods, ended, end_scores, *flat

    def goes_on(t, tokens, likelihoods, ended, end_scores, *flat):
        # A text that goes on loses likelihood, and at best the whole length divides it.
        hoped = normalised(tf.reduce_max(likelihoods, axis=1, keepdims=True), limits[:, None])[:, 0]
        return tf.reduce_any((t < limits) & (hoped > end_scores))

    tokens = tf.fill((batch, beams, 1), START)
    # One beginning, not the same one n times.
    likelihoods = tf.tile(tf.where(tf.range(beams) == 0, 0.0, IMPOSSIBLE)[None], (batch, 1))
    begin = (tf.constant(0), tokens, likelihoods, tf.fill((batch, 1), START), tf.fill((batch,), IMPOSSIBLE), *flat)
    shapes = tuple(_shape_of(each) for each in begin)
    _, _, _, ended, scores, *_ = tf.while_loop(goes_on, body, begin, shape_invariants=shapes)
    return ended[:, 1:], scores


def sample(advance: Advance, state: Any, *, temperature: Any, top_k: Any, top_p: Any, limits: Any,
           seeds: Any) -> tuple[Any, Any]:  # fmt: skip
    """A text drawn token by token among the likeliest: Fan et al. 2018, https://arxiv.org/abs/1805.04833, for ``top_k``, and
    Holtzman et al. 2019, https://arxiv.org/abs/1904.09751, for ``top_p``.

    Args:
        advance: as for ``beam_search``, with one beam.
        state: as there.
        temperature: (batch,) float32, more than 0: logits are divided by it.
        top_k: (batch,) int32: draw among that many of the likeliest; 0 for all.
        top_p: (batch,) float32 in (0, 1]: draw among the fewest whose probabilities sum to it.
        limits: (batch,) int32, at least 1.
        seeds: (batch,) int32: the same seed gives the same text, whatever else is in the batch.
    Returns:
        tokens (batch, longest) int32 with END and then PADDING; the logarithms of their probabilities (batch,) float32, before
        temperature and choice.
    """
    batch, flat = tf.shape(limits)[0], tf.nest.flatten(state)

    def body(t, tokens, likelihoods, *flat):
        gains, new_state = advance(tokens[:, -1:], tf.nest.pack_sequence_as(state, flat), t)
        gains = gains[:, 0]
        size = tf.shape(gains)[1]
        values, order = tf.math.top_k(ending(gains, (t + 1 >= limits)[:, None]), size)  # the likeliest first
        # Divided as distances from the likeliest: no temperature makes what is impossible possible, or anything infinite.
        possible = values > IMPOSSIBLE / 2
        values = tf.where(possible, (values - values[:, :1]) / temperature[:, None], -math.inf)
        sums = tf.cumsum(tf.nn.softmax(values), axis=1, exclusive=True)  # probability of those before
        kept = possible & (sums < top_p[:, None]) & (tf.range(size)[None] < tf.where(top_k < 1, size, top_k)[:, None])
        ends = tf.cumsum(tf.nn.softmax(tf.where(kept, values, -math.inf)), axis=1)

        def draw(seed):
            return tf.random.stateless_uniform((), tf.stack([seed, t]))

        chance = tf.map_fn(draw, seeds, fn_output_signature=tf.float32)[:, None]
        place = tf.reduce_sum(tf.cast((ends <= chance * ends[:, -1:]) & kept, tf.int32), axis=1)
        chosen = tf.gather(order, tf.minimum(place, size - 1), batch_dims=1)
        over = (tokens[:, -1] == END) | (tokens[:, -1] == PADDING)
        chosen = tf.where(over, PADDING, chosen)
        likelihoods = tf.where(over, likelihoods, likelihoods + tf.gather(gains, chosen, batch_dims=1))
        return t + 1, tf.concat([tokens, chosen[:, None]], axis=1), likelihoods, *tf.nest.flatten(new_state)

    def goes_on(t, tokens, *_):
        return tf.reduce_any((tokens[:, -1] != END) & (tokens[:, -1] != PADDING))

    begin = (tf.constant(0), tf.fill((batch, 1), START), tf.zeros((batch,)), *flat)
    shapes = tuple(_shape_of(each) for each in begin)
    _, tokens, likelihoods, *_ = tf.while_loop(goes_on, body, begin, shape_invariants=shapes)
    return tokens[:, 1:], likelihoods


def _shape_of(tensor: Any) -> tf.TensorShape:
    """What a loop may rely on of a tensor's shape: not the first two sizes, batch and texts, and not one that is 0 at first and
    grows; of tokens, no size at all."""
    known = tensor.dtype != tf.int32
    return tf.TensorShape([size if known and place > 1 and size else None for place, size in enumerate(tensor.shape)])


def gains_of(logits: Any) -> Any:
    """Logits (..., vocabulary) -> logarithms of probabilities, of which padding and start have none: they are never written."""
    token = tf.range(tf.shape(logits)[-1])
    return tf.nn.log_softmax(tf.where((token == PADDING) | (token == START), IMPOSSIBLE, logits))


def ending(values: Any, must_end: Any) -> Any:
    """Values (..., vocabulary) of the next token, where ``must_end`` of none but END: it costs what it would cost anyway."""
    return tf.where(must_end & (tf.range(tf.shape(values)[-1]) != END), IMPOSSIBLE, values)


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
            no_repeat_ngram  (batch,) int32, 0 .. 10,000: no tokens in a row, as many as this, are written twice; 0 allows it
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
