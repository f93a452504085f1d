"""Local response normalization, the contrast control of the networks before batch norm."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastoolkit")
class LocalResponseNormalization(keras.layers.Layer):
    """Local response normalization: Krizhevsky et al. 2012, section 3.3, https://doi.org/10.1145/3065386.

    y_c = x_c / (bias + alpha * sum of x_d ** 2 over the ``size`` channels d around c) ** beta

    Input   x  (..., channels) floating
    Output  y  same shape and type

    Args:
        size: channels in the sum, odd: c and as many on either side; beyond the first and the last there are
            none.
        bias, alpha, beta: the equation's k, alpha and beta.
    Raises:
        ValueError: size is not a positive odd integer.
    """

    def __init__(self, size: int = 5, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75, **kwargs):
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size must be a positive odd integer, got {size!r}")
        self.size, self.bias, self.alpha, self.beta = size, bias, alpha, beta

    def call(self, inputs):
        x = ops.cast(inputs, "float32")  # the squares of float16 overflow from 256 on
        channels, reach = x.shape[-1], self.size // 2
        padding = [(0, 0)] * (len(x.shape) - 1) + [(reach, reach)]
        squares = ops.pad(ops.square(x), padding)
        total = sum(squares[..., shift : shift + channels] for shift in range(self.size))
        return ops.cast(x * ops.power(self.bias + self.alpha * total, -self.beta), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "size": self.size, "bias": self.bias, "alpha": self.alpha, "beta": self.beta
        }  # fmt: skip
