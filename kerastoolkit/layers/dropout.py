"""Dropout whose mask belongs to the examples, not to the device that computes them."""

import keras
from keras import ops

from kerastoolkit import replicas


@keras.saving.register_keras_serializable(package="kerastoolkit")
class Dropout(keras.layers.Dropout):
    """Dropout: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.

    The arguments and results are those of ``keras.layers.Dropout``. Where a batch is computed in slices, on several replicas or
    one after the other, what is dropped of an example is the same as in the whole batch; Keras' own layer drops the same in every
    slice. (Of texts, which have a padding of their own in each slice, others are dropped than in the whole.)

    Input   x  (batch, ...) float
    Output  y  same shape
    """

    def call(self, inputs, training=False):
        if not training or not self.rate or not replicas.is_slice() or self.noise_shape is not None:
            return super().call(inputs, training=training)
        kept = replicas.uniform(inputs, ops.shape(inputs), self.seed_generator) >= self.rate
        return ops.where(kept, inputs * ops.cast(1.0 / (1.0 - self.rate), inputs.dtype), ops.zeros_like(inputs))
