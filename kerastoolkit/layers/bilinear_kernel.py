"""The kernel with which a transposed convolution interpolates."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="kerastoolkit")
class BilinearKernel(keras.initializers.Initializer):
    """Weights of a transposed convolution that interpolates bilinearly, each channel by itself: Long et al. 2015, section 3.3,
    https://arxiv.org/abs/1411.4038.

    For a kernel of k and f = ceil(k / 2) the weight at (i, j) is (1 - |i / f - c|)(1 - |j / f - c|) with
    c = (2f - 1 - f mod 2) / 2f for k = 2f - 1, and (2f - 1) / 2f for k = 2f, where both input and output have that channel, and 0
    elsewhere. With a stride of k / 2 the output is the input enlarged by it, but for the border.

    Args of the call: shape (height, width, channels out, channels in) of a Conv2DTranspose.
    """

    def __call__(self, shape, dtype=None):
        height, width, filters, channels = shape
        kernel = np.zeros(shape, "float32")
        same = np.arange(min(filters, channels))
        kernel[:, :, same, same] = (_tent(height)[:, None] * _tent(width))[:, :, None]
        return ops.convert_to_tensor(kernel, dtype or keras.config.floatx())


def _tent(size: int) -> np.ndarray:
    """Weights that fall linearly from the centre, (size,)."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    return 1 - np.abs(np.arange(size) - centre) / factor
