"""Of the objects that a network finds the sure ones, where they are in the image itself."""

from __future__ import annotations

import keras
import tensorflow as tf

from kerastoolkit.boxes import from_letterbox


@keras.saving.register_keras_serializable(package="kerastoolkit")
class SureObjects(keras.layers.Layer):
    """Objects whose scores exceed a threshold, their boxes in pixels of the image at its own size, cut at its border.

    Input   boxes   (batch, n, 4) float32, x_min, y_min, x_max, y_max in pixels of the letterboxed image
            scores  (batch, n) float32, falling; 0 where there is no object
            labels  (batch, n) int32
            masks   (batch, n, m, m) float32
            size    (batch, 2) int32, height and width of the image itself
            conf    (batch,) float32, the score that an object must exceed, 0..1
    Output  a dict, ``most`` being the largest number of objects that an image has, at least 1:
            boxes   (batch, most, 4) float32; zeros beyond the count
            scores  (batch, most) float32, falling; 0 beyond
            labels  (batch, most) int32; -1 beyond
            masks   (batch, most, m, m) float32
            count   (batch,) int32

    Args:
        height, width: of the letterboxed image, in pixels.
    """

    def __init__(self, height: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.height, self.width = height, width

    def call(self, boxes, scores, labels, masks, size, conf):
        check = tf.debugging.Assert(tf.reduce_all((conf >= 0) & (conf <= 1)), ["conf must be 0 to 1, got", conf])
        with tf.control_dependencies([check]):
            sure = scores > conf[:, None]
        count = tf.reduce_sum(tf.cast(sure, tf.int32), axis=1)
        most = tf.maximum(tf.reduce_max(count), 1)
        sure = sure[:, :most]
        boxes = from_letterbox(boxes[:, :most], size, self.height, self.width)
        return {"boxes": tf.where(sure[..., None], boxes, 0.0), "scores": tf.where(sure, scores[:, :most], 0.0),
                "labels": tf.where(sure, labels[:, :most], -1), "masks": masks[:, :most], "count": count}  # fmt: skip

    def compute_output_spec(self, boxes, scores, labels, masks, size, conf):
        batch = boxes.shape[0]
        return {"boxes": keras.KerasTensor((batch, None, 4), dtype="float32"),
                "scores": keras.KerasTensor((batch, None), dtype="float32"),
                "labels": keras.KerasTensor((batch, None), dtype="int32"),
                "masks": keras.KerasTensor((batch, None, *masks.shape[2:]), dtype="float32"),
                "count": keras.KerasTensor((batch,), dtype="int32")}  # fmt: skip

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}
