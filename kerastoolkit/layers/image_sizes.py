"""Layers that bring images of any size to one that a network's pools and strides divide, and its answers back."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastoolkit")
class PadToMultiple(keras.layers.Layer):
    """Adds zeros below and at the right until height and width are multiples of a number, as a convolution's own padding does.

    Input   x  (batch, height, width, channels) float
    Output  x  (batch, height + 0 .. multiple - 1, width + 0 .. multiple - 1, channels), same type

    Args:
        multiple: what divides the output's height and width.
    """

    def __init__(self, multiple: int, **kwargs):
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, x):
        missing = [-size % self.multiple for size in ops.shape(x)[1:3]]
        return ops.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))

    def compute_output_spec(self, x):
        sizes = (None if size is None else size + -size % self.multiple for size in x.shape[1:3])
        return keras.KerasTensor((x.shape[0], *sizes, x.shape[3]), dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class CropLike(keras.layers.Layer):
    """The upper left part of x that has the height and width of another tensor: takes back what was padded.

    Input   x     (batch, any height, any width, channels), at least as large as ``like``
            like  (batch, height, width, any channels)
    Output  x     (batch, height, width, channels)
    """

    def call(self, x, like):
        if None not in x.shape[1:3] and tuple(x.shape[1:3]) == tuple(like.shape[1:3]):
            return x  # the gradient of a slice writes all of it once more
        batch, _, _, channels = ops.shape(x)
        height, width = ops.shape(like)[1:3]
        # Not x[:, :height, :width], whose gradient is slow in TensorFlow: 31 ms of the 1,040 of a step of camvid-unet.
        return ops.slice(x, (0, 0, 0, 0), (batch, height, width, channels))

    def compute_output_spec(self, x, like):
        return keras.KerasTensor((x.shape[0], *like.shape[1:3], x.shape[3]), dtype=x.dtype)


@keras.saving.register_keras_serializable(package="kerastoolkit")
class MirrorToFit(keras.layers.Layer):
    """Mirrors an image at its borders until unpadded convolutions give a class for each of its pixels: the extrapolation of the
    overlap-tile strategy, Ronneberger et al. 2015, section 2 and figure 2, https://arxiv.org/abs/1505.04597.

    Input   x  (batch, height, width, channels) float
    Output  x  (batch, H, W, channels) with H = multiple * n + offset, the least that is not under height + 2 * margin; the
               image's upper left corner lies at (margin, margin). The pixel at the border is not repeated; where the image is
               smaller than what is needed, it is mirrored again and again.

    Args:
        margin: pixels that are lost on each side.
        multiple, offset: which sizes the network takes.
    """

    def __init__(self, margin: int, multiple: int, offset: int, **kwargs):
        super().__init__(**kwargs)
        self.margin, self.multiple, self.offset = margin, multiple, offset

    def call(self, x):
        for axis in (1, 2):
            size = ops.shape(x)[axis]
            period = ops.maximum(2 * size - 2, 1)  # there and back again
            places = ops.mod(ops.abs(ops.arange(self._padded(size), dtype="int32") - self.margin), period)
            x = ops.take(x, ops.minimum(places, period - places), axis=axis)
        return x

    def _padded(self, size):
        needed = size + 2 * self.margin
        return needed + (self.offset - needed) % self.multiple

    def compute_output_spec(self, x):
        sizes = (None if size is None else self._padded(size) for size in x.shape[1:3])
        return keras.KerasTensor((x.shape[0], *sizes, x.shape[3]), dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "margin": self.margin, "multiple": self.multiple, "offset": self.offset}
