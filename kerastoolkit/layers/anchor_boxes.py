"""Boxes as changes of prior boxes, several of which a detector has in each cell of a grid."""

import keras
from keras import ops

from kerastoolkit.boxes import cxcywh_to_xyxy

# e^8 = 2,981 times the size of a prior is more than any image has. From t = 89 on the exponential itself is infinite in float32.
MOST_GROWTH = 8.0


@keras.saving.register_keras_serializable(package="kerastoolkit")
class AnchorBoxes(keras.layers.Layer):
    """What a network tells of each prior box in each cell -> boxes: Redmon & Farhadi 2018 (YOLOv3), section 2.1,
    https://arxiv.org/abs/1804.02767.

    The centre is sigmoid(t_x), sigmoid(t_y) of the way through its cell, the size that of the prior times e^t_w, e^t_h. Here
    t_w and t_h count as 8 where they are larger, so that nothing overflows.

    Input   levels      list of (batch, height, width, priors * (5 + classes)) float: of each prior of a cell t_x, t_y, t_w, t_h,
                        the logit of its holding an object and those of the classes
    Output  a dict, one level after the other, the cells of a level row by row, the priors of a cell side by side:
            boxes       (batch, anchors, 4) float, x_min, y_min, x_max, y_max in pixels of the network's input
            offsets     (batch, anchors, 4), t_x, t_y, t_w, t_h as they came in
            objectness  (batch, anchors), logits
            logits      (batch, anchors, classes)
            points      (batch, anchors, 5), column and row of the cell, its stride, and the prior's width and height in pixels

    Args:
        priors: of each level the (width, height) of its priors, in pixels.
        strides: of each level the pixels of the input from one cell to the next.
    """

    def __init__(self, priors, strides, **kwargs):
        super().__init__(**kwargs)
        self.priors = [[tuple(prior) for prior in level] for level in priors]
        self.strides = list(strides)

    def call(self, levels):
        batch, grids = ops.shape(levels[0])[0], list(zip(levels, self.priors, self.strides, strict=True))
        values = ops.concatenate([ops.reshape(x, (batch, -1, x.shape[-1] // len(priors))) for x, priors, _ in grids], axis=1)
        points = ops.concatenate([_points(*grid) for grid in grids], axis=1)  # (1, anchors, 5)
        offsets = values[..., :4]
        centres = (ops.sigmoid(offsets[..., :2]) + points[..., :2]) * points[..., 2:3]
        sizes = points[..., 3:] * ops.exp(ops.minimum(offsets[..., 2:], MOST_GROWTH))
        return {"boxes": cxcywh_to_xyxy(ops.concatenate([centres, sizes], axis=-1)), "offsets": offsets,
                "objectness": values[..., 4], "logits": values[..., 5:],
                "points": points + ops.zeros_like(values[..., :5])}  # fmt: skip

    def compute_output_spec(self, levels):
        batch, anchors, outputs = levels[0].shape[0], 0, levels[0].shape[-1] // len(self.priors[0])
        for (_, height, width, _), priors in zip((x.shape for x in levels), self.priors, strict=True):
            anchors = None if None in (anchors, height, width) else anchors + height * width * len(priors)
        shapes = {"boxes": (4,), "offsets": (4,), "objectness": (), "logits": (outputs - 5,), "points": (5,)}
        return {name: keras.KerasTensor((batch, anchors, *rest), dtype=self.compute_dtype) for name, rest in shapes.items()}

    def get_config(self):
        return {**super().get_config(), "priors": self.priors, "strides": self.strides}


def _points(level, priors, stride):
    """(1, anchors of a level, 5): column and row of the cell, stride, width and height of the prior."""
    height, width = ops.shape(level)[1:3]
    columns = ops.reshape(ops.arange(width, dtype=level.dtype), (1, -1, 1))
    rows = ops.reshape(ops.arange(height, dtype=level.dtype), (-1, 1, 1))
    sizes = ops.reshape(ops.convert_to_tensor(priors, level.dtype), (1, 1, -1, 2))
    zeros = ops.zeros_like(rows + columns + sizes[..., 0])  # (height, width, priors)
    each = [columns + zeros, rows + zeros, stride + zeros, sizes[..., 0] + zeros, sizes[..., 1] + zeros]
    return ops.reshape(ops.stack(each, axis=-1), (1, -1, 5))
