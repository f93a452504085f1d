"""What lies within regions of a feature pyramid, at one size for all."""

import keras
from keras import ops

from kerastoolkit.regions.alignment import pyramid_level, roi_align

FINEST = 2  # the level whose stride is 4


@keras.saving.register_keras_serializable(package="kerastoolkit")
class RoiAlign(keras.layers.Layer):
    """RoIAlign on a feature pyramid: He et al. 2017, section 3, https://arxiv.org/abs/1703.06870; Lin et al. 2016, equation 1,
    https://arxiv.org/abs/1612.03144, for which level a region is read from.

    Input   levels   list of (batch, height, width, channels) float: P2, P3, ..., of strides 4, 8, ...
            regions  (batch, n, 4) float, x_min, y_min, x_max, y_max in pixels of the image
    Output           (batch, n, size, size, channels) float32; no gradient goes to the regions

    Args:
        size: bins in each direction, of 2 x 2 samples each.
        aligned: whether pixels' centres are at halves, as of boxes, or, as in torchvision's Mask R-CNN, at whole numbers.
    """

    def __init__(self, size: int, aligned: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.size, self.aligned = size, aligned

    def call(self, levels, regions):
        batch, count = ops.shape(regions)[:2]
        boxes = ops.reshape(ops.stop_gradient(regions), (-1, 4))
        level = pyramid_level(boxes, FINEST, FINEST + len(levels) - 1) - FINEST
        strides = ops.take(ops.convert_to_tensor([2.0 ** (FINEST + place) for place in range(len(levels))]), level)
        images = ops.reshape(ops.arange(batch, dtype="int32")[:, None] + ops.zeros((1, count), "int32"), (-1,))
        found = roi_align(levels, boxes / strides[:, None], images, level, self.size, aligned=self.aligned)
        return ops.reshape(found, (batch, count, self.size, self.size, levels[0].shape[-1]))

    def compute_output_spec(self, levels, regions):
        return keras.KerasTensor((*regions.shape[:2], self.size, self.size, levels[0].shape[-1]), dtype="float32")

    def get_config(self):
        return {**super().get_config(), "size": self.size, "aligned": self.aligned}
