"""Bilinear interpolation to twice the size, whether or not the size is known."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastoolkit")
class DoubleSize(keras.layers.Layer):
    """Twice the height and width, by bilinear interpolation: ``keras.layers.UpSampling2D(2, interpolation="bilinear")``, which
    cannot be part of a TensorFlow graph that is made before the size is known, as that of an export for images of any size.

    Input   x  (batch, height, width, channels) float
    Output  x  (batch, 2 * height, 2 * width, channels), same type; at the border the first and last pixels go on
    """

    def call(self, x):
        height, width = ops.shape(x)[1:3]
        if None not in x.shape[1:3]:
            return ops.image.resize(x, (2 * height, 2 * width), interpolation="bilinear", data_format="channels_last")
        # Only TensorFlow has sizes that are not known. Keras asks whether they are positive, which its graph cannot tell.
        import tensorflow as tf

        return ops.cast(tf.image.resize(x, (2 * height, 2 * width)), x.dtype)

    def compute_output_spec(self, x):
        sizes = (None if size is None else 2 * size for size in x.shape[1:3])
        return keras.KerasTensor((x.shape[0], *sizes, x.shape[3]), dtype=x.dtype)
