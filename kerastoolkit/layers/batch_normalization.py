"""Batch normalization that runs as one kernel where TensorFlow has one."""

import keras
from keras import ops

from kerastoolkit import replicas

# cuDNN documents this as the smallest epsilon that its kernels take; a GPU run with less goes through
# keras.ops.
SMALLEST_EPSILON_ON_GPU = 1.001e-5


@keras.saving.register_keras_serializable(package="kerastoolkit")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization: Ioffe & Szegedy 2015, algorithm 1, https://arxiv.org/abs/1502.03167.

    The arguments, weights, results and moving averages are those of ``keras.layers.BatchNormalization``. The first
    difference is speed: Keras composes the layer of a dozen TensorFlow operations, each of which reads or writes the
    whole tensor. For images (4-D, channels last) on the TensorFlow backend this layer calls TensorFlow's fused
    kernels instead. The second is that replicas which compute slices of a batch always normalize by the mean and
    variance of the whole batch. Every other case (JAX, PyTorch, masks, float64, renormalization) is Keras' own code.

    Input   x  (batch, height, width, channels) float32, float16 or bfloat16; or whatever the Keras layer
               takes
    Output  y  same shape, in the layer's compute dtype
    """

    def call(self, inputs, training=None, mask=None):
        if training and self.trainable and mask is None and not self.renorm and replicas.count() > 1:
            return self._normalize_across_replicas(inputs)
        if mask is not None or not self._has_fused_kernel(inputs):
            return super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            return self._normalize_by_batch(inputs)
        if self._inference_kernel_is_safe():
            return self._normalize_by_moving_averages(inputs)
        return super().call(inputs, training=training)

    def _has_fused_kernel(self, inputs) -> bool:
        return (
            keras.config.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "float16", "bfloat16")
            and not self.renorm
            and (self.epsilon >= SMALLEST_EPSILON_ON_GPU or not _has_gpu())
        )

    def _inference_kernel_is_safe(self) -> bool:
        # Under op determinism TensorFlow refuses the gradient of the inference kernel on a GPU, and a frozen
        # layer in a network that is being fine-tuned needs that gradient.
        return not _has_gpu()

    def _normalize_by_batch(self, inputs):
        import tensorflow as tf

        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, *self._scale_and_offset(inputs), epsilon=self.epsilon, is_training=True
        )
        # The kernel returns the unbiased variance, sum / (n - 1); Keras keeps the biased one, sum / n. For n
        # = 1 both are 0.
        count = tf.cast(tf.size(inputs, out_type=tf.int64) // inputs.shape[-1], tf.float32)
        variance = variance * (1.0 - 1.0 / count)
        self._update_moving_average(self.moving_mean, mean)
        self._update_moving_average(self.moving_variance, variance)
        return ops.cast(outputs, self.compute_dtype)

    def _normalize_across_replicas(self, inputs):
        axis = self.axis % len(inputs.shape)
        others = [each for each in range(len(inputs.shape)) if each != axis]
        shape = [-1 if each == axis else 1 for each in range(len(inputs.shape))]
        # Squares lose least where they are taken near the mean, and the average is near it and the same for all.
        shift = ops.stop_gradient(ops.cast(self.moving_mean, "float32"))
        shifted = ops.cast(inputs, "float32") - ops.reshape(shift, shape)
        examples = ops.cast(ops.size(inputs) // inputs.shape[axis], "float32")
        total, squares, examples = replicas.summed(
            [ops.sum(shifted, axis=others), ops.sum(ops.square(shifted), axis=others), examples]
        )
        mean = total / examples
        variance = ops.maximum(squares / examples - ops.square(mean), 0.0)
        self._update_moving_average(self.moving_mean, mean + shift)
        self._update_moving_average(self.moving_variance, variance)
        scale, offset = self._scale_and_offset(inputs)
        scale = scale * ops.rsqrt(variance + self.epsilon)
        outputs = shifted * ops.reshape(scale, shape) + ops.reshape(offset - mean * scale, shape)
        return ops.cast(outputs, self.compute_dtype)

    def _normalize_by_moving_averages(self, inputs):
        import tensorflow as tf

        outputs, _, _ = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            *self._scale_and_offset(inputs),
            mean=ops.cast(self.moving_mean, "float32"),
            variance=ops.cast(self.moving_variance, "float32"),
            epsilon=self.epsilon,
            is_training=False,
        )
        return ops.cast(outputs, self.compute_dtype)

    def _scale_and_offset(self, inputs):
        channels = inputs.shape[self.axis]
        scale = ops.cast(self.gamma, "float32") if self.scale else ops.ones((channels,), "float32")
        offset = ops.cast(self.beta, "float32") if self.center else ops.zeros((channels,), "float32")
        return scale, offset

    def _update_moving_average(self, variable, value):
        average = ops.cast(variable, "float32")
        variable.assign(average * self.momentum + value * (1.0 - self.momentum))


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
