"""The kernel with which a transposed convolution interpolates."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="kerastoolkit")
class BilinearKernel(keras.initializers.Initializer):
    """Weights of a transposed convolution that interpolates bilinearly, each channel by itself: Long et al. 2015, section 3.3,
    https://arxiv.org/abs/1411.4038.

    For a kernel of k x k and f = ceil(k / 2) the weight at (i, j) is (1 - |i / f - c|)(1 - |j / f - c|) with c = (k - 1) / 2f
    from a channel to itself, as in the authors' program, and 0 to all others. With a stride of f the output is the input enlarged
    by it, but for the border, where neighbours are missing and count as 0.

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
    return 1 - np.abs(np.arange(size) - (size - 1) / 2) / ((size + 1) // 2)
