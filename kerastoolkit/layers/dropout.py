"""Dropout whose mask belongs to the examples, not to the device that computes them."""

import keras
from keras import ops

from kerastoolkit import replicas


@keras.saving.register_keras_serializable(package="kerastoolkit")
class Dropout(keras.layers.Dropout):
    """Dropout: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.

    The arguments and results are those of ``keras.layers.Dropout``. Where several replicas compute the slices of a batch, each
    drops what one replica alone would have dropped of these examples; Keras' own layer drops the same in every slice. (Of texts
    with a padding of their own in each slice it drops others than one replica alone would.)

    Input   x  (batch, ...) float
    Output  y  same shape
    """

    def call(self, inputs, training=False):
        if not training or not self.rate or replicas.count() == 1 or self.noise_shape is not None:
            return super().call(inputs, training=training)
        kept = replicas.uniform(inputs, ops.shape(inputs), self.seed_generator) >= self.rate
        return ops.where(kept, inputs * ops.cast(1.0 / (1.0 - self.rate), inputs.dtype), ops.zeros_like(inputs))
