"""A recurrent decoder that looks at the source before each token that it writes."""

from __future__ import annotations

import keras
from keras import layers, ops

from kerastoolkit.layers.attention import AdditiveAttention, DotProductAttention, attend, with_weights

CELLS = {"gru": layers.GRUCell, "lstm": layers.LSTMCell}
ATTENTION = {"additive": AdditiveAttention, "dot": lambda units: DotProductAttention()}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class ReverseTexts(layers.Layer):
    """Texts from their last token to their first, with what follows them left where it is; twice gives back the texts.

    Input   x              (batch, length, any) float
            padding_mask   (batch, length) bool, False after the end of a text
    Output  same shape as x

    A recurrent layer that reads this reads no padding before the text, and so needs no mask itself.
    """

    def call(self, x, padding_mask):
        places = ops.arange(ops.shape(x)[1])
        lengths = ops.sum(ops.cast(padding_mask, "int32"), axis=1, keepdims=True)
        return ops.take_along_axis(x, ops.expand_dims(ops.where(places < lengths, lengths - 1 - places, places), -1), axis=1)

    def compute_output_shape(self, x_shape, padding_mask_shape):
        return x_shape


@keras.saving.register_keras_serializable(package="kerastoolkit")
class AttentionDecoder(layers.Layer):
    """A recurrent layer that looks at the source at each step: Bahdanau et al. 2014, appendix A.2, https://arxiv.org/abs/1409.0473,
    or Luong et al. 2015, sections 3.1 and 3.3, https://arxiv.org/abs/1508.04025.

    Input   x             (batch, length, any) float, the embeddings of what has been written so far
            memory        (batch, source length, units) float, what the encoder gives
            padding_mask  (batch, source length) bool, False where the source has padding
    Output  (batch, length, units) float; with ``return_weights`` also the attention (batch, length, source length)

    The state begins as a tanh layer of the memory's first place, where a reader from the end has read all (A.2.2 of Bahdanau).

    Args:
        units: numbers that the state holds, as many as a place of the memory has.
        cell: "gru" or "lstm".
        attention: "additive": the state before looks and what it finds goes into the cell, with the embedding. "dot": the state
            after looks, and the output is what goes into the cell of the next step, with the embedding (input feeding).
    Raises:
        ValueError: there is no such cell or attention.
    Differs from the papers: the output of "additive" is a tanh layer of state, finding and embedding where Bahdanau has maxout;
    the first state sees what both readers hold at the first place, where Bahdanau takes the one from the end; the GRU's reset
    gate acts after the product, as Keras has it.
    """

    attends = True  # to the source

    def __init__(self, units: int, cell: str = "gru", attention: str = "additive", **kwargs):
        super().__init__(**kwargs)
        for name, value, known in (("cell", cell, CELLS), ("attention", attention, ATTENTION)):
            if value not in known:
                raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")
        self.units, self.cell_name, self.attention_name = units, cell, attention

    def build(self, x_shape, memory_shape, padding_mask_shape):
        width = x_shape[-1]
        self.cell = CELLS[self.cell_name](self.units, name="cell")
        self.cell.build((None, width + self.units))
        self.states = 2 if self.cell_name == "lstm" else 1
        self.first = layers.Dense(self.units * self.states, activation="tanh", name="first_state")
        self.first.build((None, memory_shape[-1]))
        self.attention = ATTENTION[self.attention_name](self.units)
        self.attention.build((None, None, self.units), memory_shape)
        self.readout = layers.Dense(self.units, activation="tanh", name="readout")
        self.readout.build((None, None, 2 * self.units + (width if self.attention_name == "additive" else 0)))

    def call(self, x, memory, padding_mask, return_weights=False):
        constants = self.start(memory, padding_mask)
        looked_at, state = constants[:3], constants[3:]
        nothing = ops.zeros_like(state[0]), ops.zeros_like(memory[:, None, :, 0])

        # Keras' scan on TensorFlow gives out what it carries and nothing else.
        def advance(carried, x):
            y, state, weights = self._advance(ops.expand_dims(x, 1), looked_at, carried[:-2])
            return (*state, y, weights), (*state, y, weights)

        _, (*_, outputs, weights) = ops.scan(advance, (*state, *nothing), ops.transpose(x, (1, 0, 2)))
        outputs = ops.transpose(outputs[:, :, 0], (1, 0, 2))
        return (outputs, ops.transpose(weights[:, :, 0], (1, 0, 2))) if return_weights else outputs

    def start(self, memory, padding_mask):
        return self.attention.keys(memory), memory, ops.expand_dims(padding_mask, 1), *self._first(memory)

    def first_state(self, constants, number):
        return tuple(ops.repeat(each, number, axis=1) for each in constants[3:])

    def step(self, x, constants, state, position):
        y, state, _ = self._advance(x, constants[:3], state)
        return y, state

    def _first(self, memory):
        """The states of the cell and, for input feeding, the output before: (batch, 1, units) each."""
        states = ops.split(self.first(memory[:, :1]), self.states, axis=-1)
        return (*states, ops.zeros_like(states[0])) if self.attention_name == "dot" else tuple(states)

    def _advance(self, x, looked_at, state):
        """x (batch, n, width) and state (batch, n, units) of n texts of one source -> (output, new state, weights)."""
        keys, memory, mask = looked_at
        if self.attention_name == "additive":
            found, weights = attend(self.attention.score(state[0], keys), memory, mask)
            state = self._cell(ops.concatenate([x, found], axis=-1), state)
            return self.readout(ops.concatenate([state[0], found, x], axis=-1)), state, weights
        *state, before = state
        state = self._cell(ops.concatenate([x, before], axis=-1), state)
        found, weights = attend(self.attention.score(state[0], keys), memory, mask)
        y = self.readout(ops.concatenate([state[0], found], axis=-1))
        return y, (*state, y), weights

    def _cell(self, inputs, states):
        number = ops.shape(inputs)[1]
        flat = [ops.reshape(each, (-1, each.shape[-1])) for each in (inputs, *states)]
        _, after = self.cell(flat[0], flat[1:])
        after = after if isinstance(after, (list, tuple)) else [after]
        return tuple(ops.reshape(each, (-1, number, self.units)) for each in after)

    def compute_output_spec(self, x, memory, padding_mask, return_weights=False):
        outputs = keras.KerasTensor((*x.shape[:-1], self.units), self.compute_dtype)
        return with_weights(outputs, (x.shape[0], x.shape[1], memory.shape[1]), return_weights)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "cell": self.cell_name, "attention": self.attention_name}
