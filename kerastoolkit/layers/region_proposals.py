"""Where objects may be: the best of the boxes that a region proposal network makes of its anchors."""

import keras
from keras import ops

from kerastoolkit.regions.coding import decode_boxes, within
from kerastoolkit.regions.matching import at_most, taken
from kerastoolkit.regions.suppression import best_apart

LEAST_SIDE = 1e-3  # pixels; torchvision's value


@keras.saving.register_keras_serializable(package="kerastoolkit")
class RegionProposals(keras.layers.Layer):
    """Of each level the anchors that are the surest to show an object, moved and cut at the image's border, without those that
    overlap much with a surer one of their level, and of all levels the surest: Ren et al. 2015, section 3.1,
    https://arxiv.org/abs/1506.01497, on a pyramid: Lin et al. 2016, section 4.1, https://arxiv.org/abs/1612.03144.

    Anchors whose logit or deltas are not finite are no proposals, nor is a box without area. No gradient goes through this layer.

    Input   objectness  list of (batch, anchors of the level) float, logits
            deltas      list of (batch, anchors of the level, 4) float, as ``regions.coding`` decodes them
            anchors     list of (batch, anchors of the level, 4) float
            image       (batch, height, width, channels), of which the size alone counts
    Output  regions     (batch, most, 4) float32, x_min, y_min, x_max, y_max in pixels, by falling score; zeros where an image has
                        fewer; ``most`` is the largest number that an image has, at least 1, and ``count`` under JAX

    Args:
        per_level: of each level, before suppression.
        count: of all levels, after it.
        iou: overlap above which of two boxes the one of the lower score goes.
    """

    def __init__(self, per_level: int = 1000, count: int = 1000, iou: float = 0.7, **kwargs):
        super().__init__(**kwargs)
        self.per_level, self.count, self.iou = per_level, count, iou

    def call(self, objectness, deltas, anchors, image):
        height, width = ops.shape(image)[1:3]
        boxes, scores, kept = [], [], []
        for level in zip(objectness, deltas, anchors, strict=True):
            level_scores, level_deltas, level_anchors = (ops.stop_gradient(ops.cast(each, "float32")) for each in level)
            level_scores = ops.where(ops.isfinite(level_scores), level_scores, -float("inf"))
            level_scores, places = ops.top_k(level_scores, at_most(self.per_level, level_scores))
            changes = taken(level_deltas, places)
            found = within(decode_boxes(changes, taken(level_anchors, places)), height, width)
            known = ops.logical_and(ops.all(found[..., 2:] - found[..., :2] >= LEAST_SIDE, axis=-1), ops.isfinite(level_scores))
            known = ops.logical_and(known, ops.all(ops.isfinite(changes), axis=-1))
            found = ops.where(known[..., None], found, 0.0)
            boxes, scores, kept = [*boxes, found], [*scores, level_scores], [*kept, best_apart(found, known, self.iou)]
        boxes, scores, kept = (ops.concatenate(each, axis=1) for each in (boxes, scores, kept))
        scores = ops.where(kept, scores, -float("inf"))
        scores, places = ops.top_k(scores, at_most(self.count, scores))
        kept = ops.isfinite(scores)
        return first_known(ops.where(kept[..., None], taken(boxes, places), 0.0), kept)

    def compute_output_spec(self, objectness, deltas, anchors, image):
        return keras.KerasTensor((objectness[0].shape[0], None, 4), dtype="float32")

    def get_config(self):
        return {**super().get_config(), "per_level": self.per_level, "count": self.count, "iou": self.iou}


def first_known(values, known, *more):
    """Values (batch, n, ...) whose known ones (batch, n) come first, without what all examples have behind these, but for one
    row; ``more`` values likewise. JAX, whose sizes must not depend on numbers, keeps all."""
    if keras.config.backend() != "jax":
        most = ops.maximum(ops.max(ops.sum(ops.cast(known, "int32"), axis=1)), 1)
        values, *more = (each[:, :most] for each in (values, *more))
    return (values, *more) if more else values

