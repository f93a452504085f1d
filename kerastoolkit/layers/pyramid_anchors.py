"""The anchors of a feature pyramid as a layer, for images of any size."""

import keras
from keras import ops

from kerastoolkit.regions.anchors import grid_anchors


@keras.saving.register_keras_serializable(package="kerastoolkit")
class PyramidAnchors(keras.layers.Layer):
    """Anchors of one size on each level of a pyramid, in several shapes: Lin et al. 2016, section 4.1,
    https://arxiv.org/abs/1612.03144.

    Places are as far apart as whole pixels of the image fit between them, as torchvision's are: where a side of the image is an
    odd multiple of 32, those of P6 less than 64.

    Input   levels   list of (batch, height, width, channels), the finest first
            image    (batch, height, width, channels), of which the size alone counts
    Output  anchors  list of (batch, height * width * ratios, 4) float32, x_min, y_min, x_max, y_max in pixels of the image, row
                     by row, those of a place one after the other; they may stick out of the image

    Args:
        sizes: of each level the square root of its anchors' areas, in pixels.
        ratios: heights over widths.
    """

    def __init__(self, sizes, ratios=(0.5, 1.0, 2.0), **kwargs):
        super().__init__(**kwargs)
        self.sizes, self.ratios = list(sizes), list(ratios)

    def call(self, levels, image):
        found = []
        for level, size in zip(levels, self.sizes, strict=True):
            height, width = ops.shape(level)[1:3]
            stride = ops.shape(image)[1] // height, ops.shape(image)[2] // width
            anchors = grid_anchors(height, width, stride, size, self.ratios)
            found.append(ops.broadcast_to(anchors[None], (ops.shape(level)[0], *ops.shape(anchors))))
        return found

    def compute_output_spec(self, levels, image):
        found = []
        for batch, height, width, _ in (level.shape for level in levels):
            count = None if None in (height, width) else height * width * len(self.ratios)
            found.append(keras.KerasTensor((batch, count, 4), dtype="float32"))
        return found

    def get_config(self):
        return {**super().get_config(), "sizes": self.sizes, "ratios": self.ratios}
