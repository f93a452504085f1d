"""Keras' recurrent layers with a faster way through them on TensorFlow.

Keras differentiates its loop over time operation by operation. Here the gradient is written out (backpropagation through time:
Werbos 1990, https://doi.org/10.1109/5.58337), so that the products that do not depend on the state before, the inputs' with
their weights and every weight's gradient, are each one large matrix product outside the loop. Weights, names and numbers are
Keras'; where an argument is not the default, and on other backends, Keras' own loop runs.
"""

from __future__ import annotations

import keras


def _written_out(layer: keras.layers.RNN, sequences, mask, dropout_free: bool = True) -> bool:
    """Whether the gradient below is that of this layer, called like this."""
    cell, defaults = layer.cell, {"activation": keras.activations.tanh, "recurrent_activation": keras.activations.sigmoid}
    return (
        keras.config.backend() == "tensorflow"
        and mask is None
        and dropout_free
        and not layer.unroll
        and getattr(cell, "reset_after", True)
        and cell.use_bias
        and layer.compute_dtype == "float32"
        and all(getattr(cell, name, default) is default for name, default in defaults.items())
    )


def _run(layer: keras.layers.RNN, loop, sequences, initial_state):
    """(last output, all outputs, states) as ``keras.layers.RNN.inner_loop`` gives them."""
    import tensorflow as tf

    by_time = tf.transpose(sequences, (1, 0, 2))
    if layer.go_backwards:
        by_time = tf.reverse(by_time, [0])
    weights = [tf.convert_to_tensor(weight) for weight in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)]
    outputs, *states = loop(by_time, *weights, *initial_state)
    outputs = tf.transpose(outputs, (1, 0, 2))
    outputs.set_shape((None, sequences.shape[1], layer.units))
    return states[0], outputs, states


@keras.saving.register_keras_serializable(package="kerastoolkit")
class LSTM(keras.layers.LSTM):
    """``keras.layers.LSTM``, faster in training on TensorFlow: Gers et al. 2000, https://doi.org/10.1162/089976600300015015."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if not _written_out(self, sequences, mask, not (self.dropout or self.recurrent_dropout)):
            return super().inner_loop(sequences, initial_state, mask, training)
        return _run(self, _lstm, sequences, initial_state)


@keras.saving.register_keras_serializable(package="kerastoolkit")
class GRU(keras.layers.GRU):
    """``keras.layers.GRU``, faster in training on TensorFlow: Cho et al. 2014, https://arxiv.org/abs/1406.1078, where the reset
    gate is applied after the matrix product."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if not _written_out(self, sequences, mask, not (self.dropout or self.recurrent_dropout)):
            return super().inner_loop(sequences, initial_state, mask, training)
        return _run(self, _gru, sequences, initial_state)


@keras.saving.register_keras_serializable(package="kerastoolkit")
class SimpleRNN(keras.layers.SimpleRNN):
    """``keras.layers.SimpleRNN``, faster in training on TensorFlow: Elman 1990, https://doi.org/10.1207/s15516709cog1402_1."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if not _written_out(self, sequences, mask, not (self.dropout or self.recurrent_dropout)):
            return super().inner_loop(sequences, initial_state, mask, training)
        return _run(self, _simple_rnn, sequences, initial_state)


def _before(first, after):
    """What was held before each step, (time, batch, units), from the first state and what was held after each."""
    import tensorflow as tf

    return tf.concat([first[None], after[:-1]], axis=0)


def _project(x, kernel, bias):
    import tensorflow as tf

    flat = tf.matmul(tf.reshape(x, (-1, kernel.shape[0])), kernel) + bias
    return tf.reshape(flat, (tf.shape(x)[0], tf.shape(x)[1], kernel.shape[1]))


def _outer(a, b):
    """The sum over time and batch of a's and b's outer products: (time, batch, m), (time, batch, n) -> (m, n)."""
    import tensorflow as tf

    return tf.matmul(tf.reshape(a, (-1, a.shape[-1])), tf.reshape(b, (-1, b.shape[-1])), transpose_a=True)


def _total(d):
    """The sum over time and batch: (time, batch, n) -> (n,)."""
    import tensorflow as tf

    return tf.reduce_sum(tf.reshape(d, (-1, d.shape[-1])), 0)


def _back_project(d, kernel, x):
    """The gradient of x in ``_project``."""
    import tensorflow as tf

    return tf.reshape(tf.matmul(tf.reshape(d, (-1, kernel.shape[1])), kernel, transpose_b=True), tf.shape(x))


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
    return state[:number], [each.stack() for each in state[number:]]


def _lstm(x, kernel, recurrent_kernel, bias, first_h, first_c):
    """x (time, batch, inputs) -> outputs (time, batch, units), last h, last c; gates in Keras' order: i, f, g, o."""
    import tensorflow as tf

    units = recurrent_kernel.shape[0]

    @tf.custom_gradient
    def run(x, kernel, recurrent_kernel, bias, first_h, first_c):
        steps = tf.shape(x)[0]
        # sigmoid(z) = tanh(z / 2) / 2 + 1 / 2, so that one tanh does for all gates; XLA's is also the faster of the two.
        half = tf.concat([tf.fill((2 * units,), 0.5), tf.ones(units), tf.fill((units,), 0.5)], 0)
        projected, recurrent = _project(x, kernel * half, bias * half), recurrent_kernel * half

        def forward(t, state):
            h, c = state
            gates = tf.tanh(projected[t] + tf.matmul(h, recurrent)) * half + (1.0 - half)
            i, f, g, o = tf.split(gates, 4, axis=1)
            c = f * c + i * g
            return (o * tf.tanh(c), c), (gates, c)

        (last_h, last_c), (gates, c) = _over_time(forward, steps, (first_h, first_c), (4 * units, units))
        i, f, g, o = tf.split(gates, 4, axis=2)
        tanh_c = tf.tanh(c)
        h = o * tanh_c

        def gradient(d_outputs, d_last_h, d_last_c):
            to_c = o * (1.0 - tanh_c * tanh_c)
            to_z = tf.concat(
                [g * i * (1.0 - i), _before(first_c, c) * f * (1.0 - f), i * (1.0 - g * g), tanh_c * o * (1.0 - o)], axis=2
            )
            transposed = tf.transpose(recurrent_kernel)  # once: a product that transposes is slower, and there is one a step

            def backward(t, state):
                dh, dc = state
                dh = dh + d_outputs[t]
                dc = dc + dh * to_c[t]
                dz = tf.concat([dc, dc, dc, dh], 1) * to_z[t]
                return (tf.matmul(dz, transposed), dc * f[t]), (dz,)

            (dh, dc), (dz,) = _over_time(backward, steps, (d_last_h, d_last_c), (4 * units,), backwards=True)
            return _back_project(dz, kernel, x), _outer(x, dz), _outer(_before(first_h, h), dz), _total(dz), dh, dc

        return (h, last_h, last_c), gradient

    return run(x, kernel, recurrent_kernel, bias, first_h, first_c)


def _gru(x, kernel, recurrent_kernel, bias, first_h):
    """x (time, batch, inputs) -> outputs (time, batch, units), last h; gates in Keras' order: z, r, h."""
    import tensorflow as tf

    units = recurrent_kernel.shape[0]

    @tf.custom_gradient
    def run(x, kernel, recurrent_kernel, bias, first_h):
        projected, steps = _project(x, kernel, bias[0]), tf.shape(x)[0]
        gates_x, candidate_x = projected[:, :, : 2 * units], projected[:, :, 2 * units :]

        def forward(t, state):
            (h,) = state
            gates_h, inner = tf.split(tf.matmul(h, recurrent_kernel) + bias[1], [2 * units, units], axis=1)
            gates = tf.sigmoid(gates_x[t] + gates_h)
            z, r = tf.split(gates, 2, axis=1)
            candidate = tf.tanh(candidate_x[t] + r * inner)
            h = candidate + z * (h - candidate)
            return (h,), (gates, inner, candidate, h)

        (last_h,), (gates, inner, candidate, h) = _over_time(forward, steps, (first_h,), (2 * units, units, units, units))
        z, r = tf.split(gates, 2, axis=2)

        def gradient(d_outputs, d_last_h):
            h_before = _before(first_h, h)
            # All that the three gates' inputs get is the gradient of h times what is known beforehand.
            to_z = (h_before - candidate) * z * (1.0 - z)
            to_candidate = (1.0 - z) * (1.0 - candidate * candidate)
            to_r = to_candidate * inner * r * (1.0 - r)
            to_h = tf.concat([to_z, to_r, to_candidate * r], axis=2)
            transposed = tf.transpose(recurrent_kernel)

            def backward(t, state):
                dh = state[0] + d_outputs[t]
                return (dh * z[t] + tf.matmul(tf.concat([dh, dh, dh], 1) * to_h[t], transposed),), (dh,)

            (dh,), (each_dh,) = _over_time(backward, steps, (d_last_h,), (units,), backwards=True)
            tripled = tf.concat([each_dh, each_dh, each_dh], 2)
            d_from_x, d_from_h = tripled * tf.concat([to_z, to_r, to_candidate], axis=2), tripled * to_h
            d_bias = tf.stack([_total(d_from_x), _total(d_from_h)])
            return _back_project(d_from_x, kernel, x), _outer(x, d_from_x), _outer(h_before, d_from_h), d_bias, dh

        return (h, last_h), gradient

    return run(x, kernel, recurrent_kernel, bias, first_h)


def _simple_rnn(x, kernel, recurrent_kernel, bias, first_h):
    """x (time, batch, inputs) -> outputs (time, batch, units), last h."""
    import tensorflow as tf

    units = recurrent_kernel.shape[0]

    @tf.custom_gradient
    def run(x, kernel, recurrent_kernel, bias, first_h):
        projected, steps = _project(x, kernel, bias), tf.shape(x)[0]

        def forward(t, state):
            h = tf.tanh(projected[t] + tf.matmul(state[0], recurrent_kernel))
            return (h,), (h,)

        (last_h,), (h,) = _over_time(forward, steps, (first_h,), (units,))

        def gradient(d_outputs, d_last_h):
            slope, transposed = 1.0 - h * h, tf.transpose(recurrent_kernel)

            def backward(t, state):
                dz = (state[0] + d_outputs[t]) * slope[t]
                return (tf.matmul(dz, transposed),), (dz,)

            (dh,), (dz,) = _over_time(backward, steps, (d_last_h,), (units,), backwards=True)
            return _back_project(dz, kernel, x), _outer(x, dz), _outer(_before(first_h, h), dz), _total(dz), dh

        return (h, last_h), gradient

    return run(x, kernel, recurrent_kernel, bias, first_h)
