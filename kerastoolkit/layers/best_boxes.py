"""What a two-stage detector answers: the best of its boxes."""

import keras
from keras import ops

from kerastoolkit.layers.region_proposals import first_known
from kerastoolkit.regions.coding import REGION_WEIGHTS, decode_boxes, within
from kerastoolkit.regions.matching import at_most, taken
from kerastoolkit.regions.suppression import best_apart

LEAST_SIDE = 1e-2  # pixels; torchvision's value
CANDIDATES = 1000  # of all regions and classes, by score


@keras.saving.register_keras_serializable(package="kerastoolkit")
class BestBoxes(keras.layers.Layer):
    """Boxes of each class, without those that overlap much with a surer one of their class, and of all classes the surest:
    Girshick et al. 2014, section 2.2, https://arxiv.org/abs/1311.2524.

    Boxes whose score or deltas are not finite are none.

    Input   regions  (batch, n, 4) float, those without area being none
            logits   (batch, n, 1 + classes) float, the background first
            deltas   (batch, n, 1 + classes, 4) float, what the region becomes where it shows that class
            image    (batch, height, width, channels), of which the size alone counts
    Output  a dict, ``most`` being the largest number of boxes that an image has, at least 1, and ``count`` under JAX:
            boxes    (batch, most, 4) float32, x_min, y_min, x_max, y_max in pixels, within the image; zeros where there is none
            scores   (batch, most) float32, falling; 0 where there is none
            labels   (batch, most) int32, 0 .. classes - 1; -1 where there is none

    Args:
        count: of an image.
        least_score: that a box must exceed, 0..1.
        iou: overlap above which of two boxes of one class the one of the lower score goes.
    Differs from torchvision: of an image the 1,000 surest boxes go into suppression. It has no such limit.
    """

    def __init__(self, count: int = 100, least_score: float = 0.05, iou: float = 0.5, **kwargs):
        super().__init__(**kwargs)
        self.count, self.least_score, self.iou = count, least_score, iou

    def call(self, regions, logits, deltas, image):
        height, width = ops.cast(ops.shape(image)[1], "float32"), ops.cast(ops.shape(image)[2], "float32")
        classes = logits.shape[-1] - 1
        scores = ops.softmax(ops.cast(logits, "float32"), axis=-1)[..., 1:]  # (b, n, classes)
        shown = ops.all(regions[..., 2:] > regions[..., :2], axis=-1, keepdims=True)
        scores = ops.reshape(ops.where(ops.logical_and(shown, ops.isfinite(scores)), scores, 0.0), (ops.shape(scores)[0], -1))
        # Those that are too many are not even decoded.
        scores, places = ops.top_k(scores, at_most(CANDIDATES, scores))
        region, label = places // classes, places % classes
        chosen = ops.reshape(deltas[:, :, 1:], (ops.shape(deltas)[0], -1, 4))
        changes = ops.cast(taken(chosen, places), "float32")
        boxes = within(decode_boxes(changes, taken(regions, region), REGION_WEIGHTS), height, width)
        known = ops.logical_and(scores > self.least_score, ops.all(boxes[..., 2:] - boxes[..., :2] >= LEAST_SIDE, axis=-1))
        known = ops.logical_and(known, ops.all(ops.isfinite(changes), axis=-1))
        boxes = ops.where(known[..., None], boxes, 0.0)
        # Classes lie so far apart that their boxes cannot overlap.
        apart = ops.cast(label, "float32")[..., None] * (ops.maximum(height, width) + 1)
        kept = best_apart(boxes + ops.where(known[..., None], apart, 0.0), known, self.iou)
        scores, order = ops.top_k(ops.where(kept, scores, 0.0), at_most(self.count, scores))
        kept = scores > 0
        boxes = ops.where(kept[..., None], taken(boxes, order), 0.0)
        labels = ops.where(kept, ops.cast(taken(label, order), "int32"), -1)
        return dict(zip(("boxes", "scores", "labels"), first_known(boxes, kept, scores, labels), strict=True))

    def compute_output_spec(self, regions, logits, deltas, image):
        batch = regions.shape[0]
        return {"boxes": keras.KerasTensor((batch, None, 4), dtype="float32"),
                "scores": keras.KerasTensor((batch, None), dtype="float32"),
                "labels": keras.KerasTensor((batch, None), dtype="int32")}  # fmt: skip

    def get_config(self):
        return {**super().get_config(), "count": self.count, "least_score": self.least_score, "iou": self.iou}

