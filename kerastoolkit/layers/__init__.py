"""The few layers that the builders need and Keras lacks; all maths in ``keras.ops``."""

from kerastoolkit.layers.batch_normalization import BatchNormalization as BatchNormalization
from kerastoolkit.layers.local_response_normalization import (
    LocalResponseNormalization as LocalResponseNormalization,
)
