"""Keras' recurrent layers with a faster way through them on TensorFlow.

Keras differentiates its loop over time operation by operation. Here the gradient is written out (backpropagation through time:
Werbos 1990, https://doi.org/10.1109/5.58337), so that the products that do not depend on the state before, the inputs' with
their weights and every weight's gradient, are each one large matrix product outside the loop. In training on CPUs the batch is
cut into a piece for each processor, and XLA compiles the loops: it makes one fast program of a loop, but runs it on one
processor, so the pieces run side by side. Weights, names and numbers are Keras'; where an argument is not the default, on GPUs,
where Keras calls cuDNN, and on other backends, Keras' own loop runs.
"""

from __future__ import annotations

import functools
import itertools
import os

import keras

# Measured on 2 processors. Each piece has its own share of the batch's rows, and too few make poor matrix products.
MOST_PIECES = 4


class WrittenOut(keras.layers.RNN):
    """What the three layers below have in common.

    Args:
        jit_compile: compile the loops over time with XLA in training (in a ``tf.function``, as ``fit`` and ``kerastoolkit train``
            do); None does so where the length is known beforehand, for each new length is compiled anew.
    """

    def __init__(self, *args, jit_compile: bool | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.jit_compile = jit_compile

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if not self._is_written_out(mask):
            return super().inner_loop(sequences, initial_state, mask, training)
        # An eager tape records what is called inside a custom gradient too, which compiled loops do not bear.
        compiled = training and not _is_eager() and self.compiles(sequences.shape[1])
        return _run(self, type(self)._passes, sequences, initial_state, pieces() if compiled else 0)

    def compiles(self, length: int | None) -> bool:
        """Whether XLA compiles the loops in training, over so many steps (None: any number)."""
        return self.jit_compile if self.jit_compile is not None else length is not None

    def _is_written_out(self, mask) -> bool:
        cell, defaults = self.cell, {"activation": keras.activations.tanh, "recurrent_activation": keras.activations.sigmoid}
        return (
            keras.config.backend() == "tensorflow"
            and not _has_gpu()
            and mask is None
            and not (self.dropout or self.recurrent_dropout)
            and not self.unroll
            and getattr(cell, "reset_after", True)
            and cell.use_bias
            and self.compute_dtype == "float32"
            and all(getattr(cell, name, default) is default for name, default in defaults.items())
        )

    def get_config(self):
        return {**super().get_config(), "jit_compile": self.jit_compile}


def pieces() -> int:
    """Into how many pieces a batch is cut, of which each is computed on a processor of its own."""
    return min(os.cpu_count() or 1, MOST_PIECES)


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _is_eager() -> bool:
    import tensorflow as tf

    return tf.executing_eagerly()


def _run(layer, passes, sequences, initial_state, number):
    """(last output, all outputs, states) as ``keras.layers.RNN.inner_loop`` gives them."""
    import tensorflow as tf

    by_time = tf.transpose(sequences, (1, 0, 2))
    if layer.go_backwards:
        by_time = tf.reverse(by_time, [0])
    weights = [tf.convert_to_tensor(weight) for weight in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)]
    outputs, states = _through_time(*passes, by_time, *weights, initial_state, number, layer.return_sequences)
    if outputs is None:
        return states[0], states[0][:, None], states
    outputs = tf.transpose(outputs, (1, 0, 2))
    outputs.set_shape((None, sequences.shape[1], layer.units))
    return states[0], outputs, states


def _through_time(forward, backward, x, kernel, recurrent, bias, first, number, all_outputs):
    """x (time, batch, inputs) -> outputs (time, batch, units) or None, and each state after the last step (batch, units).

    Args:
        forward: (inputs by kernel (time, batch, gates), recurrent, further rows of bias, *first states)
            -> (outputs, last states, what backward needs too).
        backward: (recurrent transposed, outputs, what forward kept, gradient of outputs or None, gradients of last states)
            -> (gradients (time, batch, gates) of the inputs by kernel and, where it is another one, of the states by recurrent;
            gradients of first states).
        first: states before the first step.
        number: pieces of the batch, each compiled by XLA; 0 for one that is not.
        all_outputs: whether the outputs of all steps are asked for.
    """
    import tensorflow as tf

    if number:
        forward, backward = _compiled(forward), _compiled(backward)

    def cut(tensor, axis):
        if number < 2:
            return [tensor]
        rows = tf.shape(tensor)[axis]
        ends = [rows * piece // number for piece in range(number + 1)]
        return [tensor[:, low:high] if axis else tensor[low:high] for low, high in zip(ends, ends[1:], strict=False)]

    def join(tensors, axis):
        return tf.concat(tensors, axis) if len(tensors) > 1 else tensors[0]

    @tf.custom_gradient
    def run(x, kernel, recurrent, bias, *first):
        inputs, firsts = cut(x, 1), list(zip(*(cut(state, 0) for state in first), strict=True))
        there = [
            forward(_project(part, kernel, bias[0]), recurrent, bias[1:], *states)
            for part, states in zip(inputs, firsts, strict=True)
        ]
        hs, lasts, kept = zip(*there, strict=True)

        def gradient(*d):
            d_outputs, d_last = (cut(d[0], 1), d[1:]) if all_outputs else ([None] * len(inputs), d)
            transposed = tf.transpose(recurrent)  # once: a product that transposes is slower, and there is one a step
            d_lasts = zip(*(cut(state, 0) for state in d_last), strict=True)
            back = [backward(transposed, *each) for each in zip(hs, kept, d_outputs, d_lasts, strict=True)]
            d_gates, d_firsts = zip(*back, strict=True)
            d_x = join([_back_project(d[0], kernel) for d in d_gates], 1)
            each = zip(inputs, [states[0] for states in firsts], hs, d_gates, strict=True)
            d_weights = [tf.add_n(parts) for parts in zip(*itertools.starmap(_weight_gradients, each), strict=True)]
            return d_x, *d_weights, *(join(states, 0) for states in zip(*d_firsts, strict=True))

        outputs = (join(hs, 1),) if all_outputs else ()
        return (*outputs, *(join(states, 0) for states in zip(*lasts, strict=True))), gradient

    found = run(x, kernel, recurrent, tf.reshape(bias, (-1, kernel.shape[1])), *first)
    return (found[0], list(found[1:])) if all_outputs else (None, list(found))


@functools.cache
def _compiled(function):
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def _project(x, kernel, bias):
    import tensorflow as tf

    flat = tf.matmul(tf.reshape(x, (-1, kernel.shape[0])), kernel) + bias
    return tf.reshape(flat, (-1 if x.shape[0] is None else x.shape[0], tf.shape(x)[1], kernel.shape[1]))


def _back_project(d, kernel):
    """The gradient of x in ``_project``."""
    import tensorflow as tf

    flat = tf.matmul(tf.reshape(d, (-1, kernel.shape[1])), kernel, transpose_b=True)
    return tf.reshape(flat, tf.concat([tf.shape(d)[:2], kernel.shape[:1]], 0))


def _outer(a, b):
    """The sum over time and batch of a's and b's outer products: (time, batch, m), (time, batch, n) -> (m, n)."""
    import tensorflow as tf

    return tf.matmul(tf.reshape(a, (-1, a.shape[-1])), tf.reshape(b, (-1, b.shape[-1])), transpose_a=True)


def _weight_gradients(x, first_h, h, d_gates):
    """Of kernel, recurrent kernel and bias. Before the first step ``first_h`` was held, before each later one what ``h`` has."""
    import tensorflow as tf

    d_from_x, d_from_h = d_gates[0], d_gates[-1]
    d_recurrent = _outer(h[:-1], d_from_h[1:]) + _outer(first_h[None], d_from_h[:1])
    return _outer(x, d_from_x), d_recurrent, tf.stack([tf.reduce_sum(each, (0, 1)) for each in d_gates])


def _over_time(step, steps, carried, widths, *, backwards=False):
    """Loops ``step(t, carried) -> (carried, rows)`` over time; returns (carried, each row of all times: (time, batch, width)).

    A step of a small network takes as long as TensorFlow takes to start its operations, so there are few in each loop below: what
    does not depend on the step before is computed outside, for all times at once, and rows are kept apart: joining them copies.
    """
    import tensorflow as tf

    number = len(carried)

    def body(count, *state):
        t = steps - 1 - count if backwards else count
        new, rows = step(t, state[:number])
        return count + 1, *new, *(kept.write(t, row) for kept, row in zip(state[number:], rows, strict=True))

    kept = [tf.TensorArray(tf.float32, steps, element_shape=(None, width)) for width in widths]
    _, *state = tf.while_loop(lambda count, *_: count < steps, body, (tf.constant(0), *carried, *kept), maximum_iterations=steps)
    return tuple(state[:number]), tuple(each.stack() for each in state[number:])


def _plus(d, d_outputs, t):
    return d if d_outputs is None else d + d_outputs[t]


def _steps(by_time):
    import tensorflow as tf

    return by_time.shape[0] or tf.shape(by_time)[0]


def _lstm_forward(projected, recurrent, no_bias, first_h, first_c):
    """Gates in Keras' order: i, f, g, o."""
    import tensorflow as tf

    units = recurrent.shape[0]

    def step(t, state):
        h, before = state
        i_f, g, o = tf.split(projected[t] + tf.matmul(h, recurrent), [2 * units, units, units], axis=1)
        gates = tf.concat([tf.sigmoid(i_f), tf.tanh(g), tf.sigmoid(o)], axis=1)
        i, f, g, o = tf.split(gates, 4, axis=1)
        c = f * before + i * g
        h = o * tf.tanh(c)
        return (h, c), (h, gates, before)

    last, (h, gates, before) = _over_time(step, _steps(projected), (first_h, first_c), (units, 4 * units, units))
    return h, last, (gates, before)


def _lstm_backward(transposed, h, kept, d_outputs, d_last):
    import tensorflow as tf

    gates, before = kept
    i, f, g, o = tf.split(gates, 4, axis=2)
    tanh_c = tf.tanh(f * before + i * g)
    to_c = o * (1.0 - tanh_c * tanh_c)
    to_z = tf.concat([g * i * (1.0 - i), before * f * (1.0 - f), i * (1.0 - g * g), tanh_c * o * (1.0 - o)], axis=2)

    def step(t, state):
        dh, dc = state
        dh = _plus(dh, d_outputs, t)
        dc = dc + dh * to_c[t]
        dz = tf.concat([dc, dc, dc, dh], 1) * to_z[t]
        return (tf.matmul(dz, transposed), dc * f[t]), (dz,)

    d_first, (dz,) = _over_time(step, _steps(h), d_last, (transposed.shape[0],), backwards=True)
    return (dz,), d_first


def _gru_forward(projected, recurrent, bias, first_h):
    """Gates in Keras' order: z, r, h."""
    import tensorflow as tf

    units = recurrent.shape[0]
    gates_x, candidate_x = projected[:, :, : 2 * units], projected[:, :, 2 * units :]

    def step(t, state):
        (before,) = state
        gates_h, inner = tf.split(tf.matmul(before, recurrent) + bias[0], [2 * units, units], axis=1)
        gates = tf.sigmoid(gates_x[t] + gates_h)
        z, r = tf.split(gates, 2, axis=1)
        candidate = tf.tanh(candidate_x[t] + r * inner)
        h = candidate + z * (before - candidate)
        return (h,), (h, gates, inner, candidate)

    last, (h, *kept) = _over_time(step, _steps(projected), (first_h,), (units, 2 * units, units, units))
    return h, last, tuple(kept)


def _gru_backward(transposed, h, kept, d_outputs, d_last):
    import tensorflow as tf

    gates, inner, candidate = kept
    z, r = tf.split(gates, 2, axis=2)
    # All that the three gates' inputs get is the gradient of h times what is known beforehand; what h was before a step is not
    # needed, for h - candidate = z (before - candidate).
    to_z = (h - candidate) * (1.0 - z)
    to_candidate = (1.0 - z) * (1.0 - candidate * candidate)
    to_r = to_candidate * inner * r * (1.0 - r)
    to_h = tf.concat([to_z, to_r, to_candidate * r], axis=2)

    def step(t, state):
        dh = _plus(state[0], d_outputs, t)
        return (dh * z[t] + tf.matmul(tf.concat([dh, dh, dh], 1) * to_h[t], transposed),), (dh,)

    d_first, (dh,) = _over_time(step, _steps(h), d_last, (transposed.shape[1],), backwards=True)
    tripled = tf.concat([dh, dh, dh], 2)
    return (tripled * tf.concat([to_z, to_r, to_candidate], axis=2), tripled * to_h), d_first


def _simple_forward(projected, recurrent, no_bias, first_h):
    import tensorflow as tf

    def step(t, state):
        h = tf.tanh(projected[t] + tf.matmul(state[0], recurrent))
        return (h,), (h,)

    last, (h,) = _over_time(step, _steps(projected), (first_h,), (recurrent.shape[0],))
    return h, last, ()


def _simple_backward(transposed, h, kept, d_outputs, d_last):
    import tensorflow as tf

    slope = 1.0 - h * h

    def step(t, state):
        dz = _plus(state[0], d_outputs, t) * slope[t]
        return (tf.matmul(dz, transposed),), (dz,)

    d_first, (dz,) = _over_time(step, _steps(h), d_last, (transposed.shape[0],), backwards=True)
    return (dz,), d_first


@keras.saving.register_keras_serializable(package="kerastoolkit")
class LSTM(WrittenOut, keras.layers.LSTM):
    """``keras.layers.LSTM``, faster in training on TensorFlow: Gers et al. 2000, https://doi.org/10.1162/089976600300015015."""

    _passes = (_lstm_forward, _lstm_backward)


@keras.saving.register_keras_serializable(package="kerastoolkit")
class GRU(WrittenOut, keras.layers.GRU):
    """``keras.layers.GRU``, faster in training on TensorFlow: Cho et al. 2014, https://arxiv.org/abs/1406.1078, where the reset
    gate is applied after the matrix product."""

    _passes = (_gru_forward, _gru_backward)


@keras.saving.register_keras_serializable(package="kerastoolkit")
class SimpleRNN(WrittenOut, keras.layers.SimpleRNN):
    """``keras.layers.SimpleRNN``, faster in training on TensorFlow: Elman 1990, https://doi.org/10.1207/s15516709cog1402_1."""

    _passes = (_simple_forward, _simple_backward)
