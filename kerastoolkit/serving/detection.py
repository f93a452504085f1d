"""Detection in the serving model: image files -> letterboxed pixels and the files' own sizes; many boxes -> the best of them."""

from __future__ import annotations

import keras
import tensorflow as tf

from kerastoolkit.boxes import from_letterbox, letterbox
from kerastoolkit.serving.images import decode_pixels

GREY = 114.0  # of what an image leaves of its letterbox, as in most detectors since YOLOv3


@keras.saving.register_keras_serializable(package="kerastoolkit")
class DecodeLetterboxed(keras.layers.Layer):
    """Image files of any size -> a batch of pixels of one size, and the sizes that the files had.

    An image is resized so that it just fits (shrunk: the mean over the area of a pixel; enlarged: bilinear) and centred; what is
    left over is grey.
    ``boxes.letterbox`` tells where it lies.

    Input   contents  (batch,) string, the bytes of JPEG, PNG, BMP or GIF files
    Output  a dict:
            image     (batch, height, width, 3) float32, 0..255
            size      (batch, 2) int32, height and width of the file's image

    Args:
        height, width: the size wanted, in pixels.
    """

    def __init__(self, height: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.height, self.width = height, width

    def call(self, contents):
        def decode(one):
            pixels = decode_pixels(one, 3)
            size = tf.shape(pixels)[:2]
            return {"image": letterboxed(pixels, size, self.height, self.width), "size": size}

        spec = {"image": tf.TensorSpec((self.height, self.width, 3), tf.float32), "size": tf.TensorSpec((2,), tf.int32)}
        return tf.map_fn(decode, contents, fn_output_signature=spec)

    def compute_output_spec(self, contents):
        batch = contents.shape[0]
        return {"image": keras.KerasTensor((batch, self.height, self.width, 3), dtype="float32"),
                "size": keras.KerasTensor((batch, 2), dtype="int32")}  # fmt: skip

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}


def letterboxed(pixels: tf.Tensor, size: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """(own height, own width, 3), any numbers -> (height, width, 3) float32 in the same range, grey where the image is not."""
    inner, first = letterbox(size, height, width)
    image = tf.cond(
        tf.reduce_all(inner <= size),
        lambda: tf.image.resize(pixels, inner, method="area"),  # four times as fast as the antialiased bilinear, and as smooth
        lambda: tf.image.resize(pixels, inner),
    )
    after = tf.constant([height, width]) - inner - first
    padded = tf.pad(image, [[first[0], after[0]], [first[1], after[1]], [0, 0]], constant_values=GREY)
    return tf.ensure_shape(padded, (height, width, 3))


@keras.saving.register_keras_serializable(package="kerastoolkit")
class SuppressBoxes(keras.layers.Layer):
    """Class-wise non-maximum suppression: of boxes of one label that overlap, the one of the highest score stays.

    Each box counts once for every class whose score is high enough. Boxes come out in pixels of the image at its own size, cut at
    its border.

    Input   boxes   (batch, n, 4) float32, x_min, y_min, x_max, y_max in pixels of the letterboxed image
            scores  (batch, n, classes) float32, 0..1
            size    (batch, 2) int32, height and width of the image itself
            conf    (batch,) float32, the score that a box must exceed
            iou     (batch,) float32, the overlap (intersection over union) above which the box of the lower score goes
    Output  a dict, ``most`` being the largest number of boxes that an image has, at least 1:
            boxes   (batch, most, 4) float32, x_min, y_min, x_max, y_max in pixels of the image itself; zeros beyond the count
            scores  (batch, most) float32, falling; 0 beyond
            labels  (batch, most) int32; -1 beyond
            count   (batch,) int32

    Args:
        height, width: of the letterboxed image, in pixels.
        largest: the most boxes of an image.
    """

    def __init__(self, height: int, width: int, largest: int = 300, **kwargs):
        super().__init__(**kwargs)
        self.height, self.width, self.largest = height, width, largest

    def call(self, boxes, scores, size, conf, iou):
        checks = [tf.debugging.Assert(tf.reduce_all((values >= 0) & (values <= 1)), [f"{name} must be 0 to 1, got", values])
                  for name, values in (("conf", conf), ("iou", iou))]  # fmt: skip
        with tf.control_dependencies(checks):
            conf, iou = tf.identity(conf), tf.identity(iou)

        def suppress(number):
            # Few boxes have a score that counts, and looking through the others takes longer than these do.
            high = tf.where(tf.reduce_max(scores[number], axis=-1) > conf[number])[:, 0]
            found = tf.image.combined_non_max_suppression(
                tf.gather(boxes[number], high)[None, :, None], tf.gather(scores[number], high)[None],
                max_output_size_per_class=self.largest, max_total_size=self.largest, iou_threshold=iou[number],
                score_threshold=conf[number], clip_boxes=False)  # fmt: skip
            count = found.valid_detections[0]
            labels = tf.where(tf.range(self.largest) < count, tf.cast(found.nmsed_classes[0], tf.int32), -1)
            return {"boxes": found.nmsed_boxes[0], "scores": found.nmsed_scores[0], "labels": labels, "count": count}

        # One by one, because the operation takes the same two numbers for all images of a batch.
        most = self.largest
        spec = {"boxes": tf.TensorSpec((most, 4), tf.float32), "scores": tf.TensorSpec((most,), tf.float32),
                "labels": tf.TensorSpec((most,), tf.int32), "count": tf.TensorSpec((), tf.int32)}  # fmt: skip
        found = tf.map_fn(suppress, tf.range(tf.shape(boxes)[0]), fn_output_signature=spec)
        most = tf.maximum(tf.reduce_max(found["count"], axis=0), 1)
        found = {name: values if name == "count" else values[:, :most] for name, values in found.items()}
        return {**found, "boxes": from_letterbox(found["boxes"], size, self.height, self.width)}

    def compute_output_spec(self, boxes, scores, size, conf, iou):
        batch = boxes.shape[0]
        return {"boxes": keras.KerasTensor((batch, None, 4), dtype="float32"),
                "scores": keras.KerasTensor((batch, None), dtype="float32"),
                "labels": keras.KerasTensor((batch, None), dtype="int32"),
                "count": keras.KerasTensor((batch,), dtype="int32")}  # fmt: skip

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width, "largest": self.largest}

