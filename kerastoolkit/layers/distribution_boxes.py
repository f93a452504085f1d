"""Boxes as distributions over distances to their sides, which an anchor-free detector predicts in each cell of a grid."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="kerastoolkit")
class DistributionBoxes(keras.layers.Layer):
    """Distributions over the distances of a cell's centre to the four sides of a box -> boxes, by the means of the distributions:
    Li et al. 2020 (Generalized Focal Loss), section 3.2 and equation 5, https://arxiv.org/abs/2006.04388.

    Input   levels         list of (batch, height, width, 4 * bins) float, logits over the distances 0 .. bins - 1 in strides to
                           the left, top, right and bottom side, in each cell of a grid
    Output  a dict, cells row by row, one level after the other:
            boxes          (batch, cells, 4) float32, x_min, y_min, x_max, y_max in pixels of the network's input
            distributions  (batch, cells, 4, bins), the logits
            points         (batch, cells, 3) float32, the x and y of the cell's centre in pixels, and its stride

    Args:
        strides: pixels of the input from one cell to the next, of each level.
        bins: distances that are told apart. They are weights, which are not trained, as in the networks that others publish.
    """

    def __init__(self, strides, bins: int = 16, **kwargs):
        super().__init__(**kwargs)
        self.strides, self.bins = tuple(strides), bins

    def build(self, input_shape):
        distances = keras.initializers.Constant(np.arange(self.bins, dtype="float32"))
        self.distances = self.add_weight(shape=(self.bins,), initializer=distances, trainable=False, name="distances")

    def call(self, levels):
        distributions = ops.concatenate([ops.reshape(x, (ops.shape(x)[0], -1, 4, self.bins)) for x in levels], axis=1)
        points = ops.concatenate([_points(x, stride) for x, stride in zip(levels, self.strides, strict=True)], axis=1)
        centres, strides = points[..., :2], points[..., 2:]
        probabilities = ops.softmax(ops.cast(distributions, "float32"), axis=-1)
        distances = ops.sum(probabilities * self.distances, axis=-1) * strides  # (b, cells, 4)
        boxes = ops.concatenate([centres - distances[..., :2], centres + distances[..., 2:]], axis=-1)
        return {"boxes": boxes, "distributions": distributions, "points": points + ops.zeros_like(boxes[..., :3])}

    def compute_output_spec(self, levels):
        batch, cells = levels[0].shape[0], 0
        for _, height, width, _ in (x.shape for x in levels):
            cells = None if None in (cells, height, width) else cells + height * width
        return {"boxes": keras.KerasTensor((batch, cells, 4), dtype="float32"),
                "distributions": keras.KerasTensor((batch, cells, 4, self.bins), dtype=levels[0].dtype),
                "points": keras.KerasTensor((batch, cells, 3), dtype="float32")}  # fmt: skip

    def get_config(self):
        return {**super().get_config(), "strides": list(self.strides), "bins": self.bins}


def _points(level, stride: int):
    """(1, cells, 3) float32: x and y of the centres of a level's cells in pixels, and the stride."""
    height, width = ops.shape(level)[1:3]
    y = ops.expand_dims((ops.arange(height, dtype="float32") + 0.5) * stride, 1) + ops.zeros((1, width))
    x = (ops.arange(width, dtype="float32") + 0.5) * stride + ops.zeros((height, 1))
    return ops.reshape(ops.stack([x, y, ops.full_like(x, stride)], axis=-1), (1, -1, 3))
