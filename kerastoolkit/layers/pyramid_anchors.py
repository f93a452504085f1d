"""The anchors of a feature pyramid as a layer, for images of any size."""

import keras
from keras import ops

from kerastoolkit.regions.anchors import grid_anchors


@keras.saving.register_keras_serializable(package="kerastoolkit")
class PyramidAnchors(keras.layers.Layer):
    """Anchors of one size on each level of a pyramid, in several shapes: Lin et al. 2016, section 4.1,
    https://arxiv.org/abs/1612.03144.

    Input   levels   list of (batch, height, width, channels), the finest first
    Output  anchors  list of (batch, height * width * ratios, 4) float32, x_min, y_min, x_max, y_max in pixels of the image, row
                     by row, those of a place one after the other; they may stick out of the image

    Args:
        strides: of each level the pixels from one place to the next.
        sizes: of each level the square root of its anchors' areas, in pixels.
        ratios: heights over widths.
    """

    def __init__(self, strides, sizes, ratios=(0.5, 1.0, 2.0), **kwargs):
        super().__init__(**kwargs)
        self.strides, self.sizes, self.ratios = list(strides), list(sizes), list(ratios)

    def call(self, levels):
        found = []
        for level, stride, size in zip(levels, self.strides, self.sizes, strict=True):
            anchors = grid_anchors(*ops.shape(level)[1:3], stride, size, self.ratios)
            found.append(ops.broadcast_to(anchors[None], (ops.shape(level)[0], *ops.shape(anchors))))
        return found

    def compute_output_spec(self, levels):
        found = []
        for batch, height, width, _ in (level.shape for level in levels):
            count = None if None in (height, width) else height * width * len(self.ratios)
            found.append(keras.KerasTensor((batch, count, 4), dtype="float32"))
        return found

    def get_config(self):
        return {**super().get_config(), "strides": self.strides, "sizes": self.sizes, "ratios": self.ratios}
