"""Text in the serving model: strings -> tokens, and a recurrent language model that goes on writing inside the graph."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops

# Tokens of every vocabulary: what follows the end of a shorter text, and characters that training never saw.
PADDING, UNKNOWN, FIRST = 0, 1, 2
# A request for more would hold the memory of a server for minutes.
MOST_CHARACTERS = 100_000


@keras.saving.register_keras_serializable(package="kerastoolkit")
class CharacterTokens(keras.layers.Layer):
    """UTF-8 strings -> tokens, one for each Unicode code point.

    Input   text    (batch,) string
    Output  tokens  (batch, longest) int32: 0 after the end, 1 for an unknown character, else 2 + its place in ``characters``

    Args:
        characters: the known characters, ascending by code point, each once.
    Raises:
        ValueError: the characters are not ascending.
    """

    def __init__(self, characters: str, **kwargs):
        super().__init__(**kwargs)
        if not characters or list(characters) != sorted(set(characters)):
            raise ValueError("characters must be one or more, ascending by code point, each once")
        self.characters = characters

    def call(self, text):
        codes = tf.strings.unicode_decode(text, "UTF-8")
        known = tf.constant([ord(each) for each in self.characters])
        places = tf.minimum(tf.searchsorted(known, codes.flat_values, out_type=tf.int32), len(self.characters) - 1)
        tokens = tf.where(tf.gather(known, places) == codes.flat_values, places + FIRST, UNKNOWN)
        return codes.with_flat_values(tokens).to_tensor(PADDING)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], None)

    def compute_output_spec(self, text):
        return keras.KerasTensor(self.compute_output_shape(text.shape), dtype="int32")

    def get_config(self):
        return {**super().get_config(), "characters": self.characters}


def step_model(network: keras.Model) -> keras.Model:
    """A recurrent language model one step at a time, with the same weights.

    Input   token    (batch, 1) int32; state_0, state_1, ...  (batch, units) float32, zeros to begin with
    Output  a list: logits (batch, 1, vocabulary) float32, and the new states in the same order

    Args:
        network: tokens (batch, length) -> logits, a chain of recurrent layers in one direction and of layers that treat each
            position alone.
    """
    token = x = keras.Input((1,), dtype="int32", name="token")
    states, new_states = [], []
    for layer in network.layers[1:]:  # the first is the input
        if not isinstance(layer, keras.layers.RNN):
            x = layer(x)
            continue
        sizes = layer.cell.state_size
        sizes = sizes if isinstance(sizes, (list, tuple)) else [sizes]
        own = [keras.Input((size,), name=f"state_{len(states) + i}") for i, size in enumerate(sizes)]
        layer.cell.name = f"{layer.name}_cell"  # Keras calls all cells of a kind alike, and a model's names must differ
        output, after = layer.cell(ops.squeeze(x, 1), own)
        x = ops.expand_dims(output, 1)
        states += own
        new_states += after if isinstance(after, (list, tuple)) else [after]
    return keras.Model([token, *states], [x, *new_states], name="step")


@keras.saving.register_keras_serializable(package="kerastoolkit")
class Write(keras.layers.Layer):
    """Goes on from the tokens of a prompt, one character after the other, and says how likely the prompt was.

    Input   a dict
            tokens       (batch, any length) int32, as CharacterTokens gives them
            temperature  (batch,) float32: logits are divided by it; 0 takes the likeliest character
            top_k        (batch,) int32: choose among that many of the likeliest; 0 for all
            length       (batch,) int32: characters to write, 0 .. 100,000
            seed         (batch,) int32: the same seed and prompt give the same text, whatever else is in the batch
    Output  a dict
            text         (batch,) string, what was written, without the prompt
            nats         (batch,) float32, minus the logarithm of the probability of the prompt's characters after its first
            characters   (batch,) int32, how many those are

    Unknown characters and padding are never written. An empty prompt is taken for a line break.

    Args:
        step: what ``step_model`` returns, or its serialized form.
        characters: those of CharacterTokens.
    Raises:
        tf.errors.InvalidArgumentError: a temperature, top_k or length is outside its range.
    """

    def __init__(self, step, characters: str, **kwargs):
        super().__init__(**kwargs)
        self.step = keras.saving.deserialize_keras_object(step) if isinstance(step, dict) else step
        self.characters = characters

    def call(self, inputs):
        inputs = dict(inputs)
        with tf.control_dependencies(_checks(inputs)):
            tokens = tf.identity(inputs["tokens"])
        newline = self.characters.find("\n") + FIRST if "\n" in self.characters else UNKNOWN
        tokens = tf.cond(tf.shape(tokens)[1] > 0, lambda: tokens, lambda: tf.fill((tf.shape(tokens)[0], 1), PADDING))
        empty = tf.concat([tokens[:, :1] == PADDING, tf.zeros_like(tokens[:, 1:], tf.bool)], axis=1)
        tokens = tf.where(empty, newline, tokens)
        logits, states, nats = self._read(tokens)
        text = self._write(logits, states, **{name: inputs[name] for name in ("temperature", "top_k", "length", "seed")})
        characters = tf.reduce_sum(tf.cast(tokens[:, 1:] != PADDING, tf.int32), axis=1)
        return {"text": text, "nats": nats, "characters": characters}

    def _advance(self, token, states):
        """(logits (batch, vocabulary), new states) after one more token (batch,)."""
        logits, *states = self.step([token[:, None], *states])
        return logits[:, 0], states

    def _read(self, tokens):
        """What is held after each prompt's last character, and the prompt's nats."""
        batch, longest = tf.shape(tokens)[0], tf.shape(tokens)[1]
        states = [tf.zeros((batch, each.shape[1])) for each in self.step.inputs[1:]]
        logits, states = self._advance(tokens[:, 0], states)
        by_time = tf.transpose(tokens)

        def body(t, logits, nats, *states):
            token = by_time[t]
            inside = token != PADDING
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(token, logits)
            new_logits, new_states = self._advance(token, states)
            kept = [tf.where(inside[:, None], new, old) for new, old in zip(new_states, states, strict=True)]
            return t + 1, tf.where(inside[:, None], new_logits, logits), nats + tf.where(inside, loss, 0.0), *kept

        _, logits, nats, *states = tf.while_loop(
            lambda t, *_: t < longest, body, (tf.constant(1), logits, tf.zeros((batch,)), *states)
        )
        return logits, states, nats

    def _write(self, logits, states, temperature, top_k, length, seed):
        batch, longest = tf.shape(logits)[0], tf.reduce_max(length)
        vocabulary = len(self.characters)
        # One number for each character to come, by the example's own seed, so that the rest of the batch changes nothing.
        def draw(one):
            return tf.random.stateless_uniform((longest,), tf.stack([one, 0]))

        chances = tf.map_fn(draw, seed, fn_output_signature=tf.float32)
        chances = tf.transpose(chances)
        greedy = temperature[:, None] == 0
        temperature = tf.where(greedy, 1.0, temperature[:, None])
        rank = tf.where(top_k < 1, vocabulary, tf.minimum(top_k, vocabulary))

        def choose(t, logits):
            known = logits[:, FIRST:]
            ordered = tf.sort(known, axis=1, direction="DESCENDING")
            least = tf.gather(ordered, rank - 1, batch_dims=1)[:, None]
            scaled = tf.where(known < least, float("-inf"), (known - ordered[:, :1]) / temperature)
            sums = tf.cumsum(tf.nn.softmax(scaled), axis=1)
            drawn = tf.reduce_sum(tf.cast(sums <= chances[t][:, None] * sums[:, -1:], tf.int32), axis=1)
            return FIRST + tf.where(greedy[:, 0], tf.argmax(known, axis=1, output_type=tf.int32), drawn)

        def body(t, logits, written, *states):
            token = choose(t, logits)
            logits, states = self._advance(token, states)
            return t + 1, logits, written.write(t, token), *states

        written = tf.TensorArray(tf.int32, longest, element_shape=(None,))
        written = tf.while_loop(lambda t, *_: t < longest, body, (tf.constant(0), logits, written, *states))[2]
        tokens = tf.transpose(tf.reshape(written.stack(), (longest, batch)))
        codes = tf.gather(tf.constant([ord(each) for each in self.characters]), tokens - FIRST)
        return tf.strings.unicode_encode(tf.RaggedTensor.from_tensor(codes, lengths=length), "UTF-8")

    def compute_output_spec(self, inputs):
        batch = inputs["tokens"].shape[0]
        kinds = {"text": "string", "nats": "float32", "characters": "int32"}
        return {name: keras.KerasTensor((batch,), dtype=kind) for name, kind in kinds.items()}

    def get_config(self):
        step = keras.saving.serialize_keras_object(self.step)
        return {**super().get_config(), "step": step, "characters": self.characters}


def _checks(inputs):
    most = f"length must be 0 .. {MOST_CHARACTERS:,} characters, got"
    return [
        tf.debugging.Assert(
            tf.reduce_all(inputs["temperature"] >= 0), ["temperature must be 0 or more, got", inputs["temperature"]]
        ),
        tf.debugging.Assert(tf.reduce_all(inputs["top_k"] >= 0), ["top_k must be 0 or more, got", inputs["top_k"]]),
        tf.debugging.Assert(
            tf.reduce_all((inputs["length"] >= 0) & (inputs["length"] <= MOST_CHARACTERS)), [most, inputs["length"]]
        ),
    ]
