"""Masks of instances in the serving model: probabilities within each object's box -> masks of the image's own size."""

from __future__ import annotations

import keras
import tensorflow as tf

MASK_THRESHOLD = 0.5  # the probability from which on a pixel belongs to an object: He et al. 2017, section 3.1
FARTHEST = 2.0**22  # pixels; up to here float32 tells the centres of pixels apart, and no image is so large
TOGETHER = 4  # masks that are made at a time; packing them takes most of the time, and one thread each


@keras.saving.register_keras_serializable(package="kerastoolkit")
class PasteMasks(keras.layers.Layer):
    """The mask of each object, from what is known within its box, as a PNG file of the image's own size.

    Masks are files because those of a hundred objects would fill the memory, each being as large as the photograph: so no more
    than TOGETHER are held unpacked at a time, however many objects there are. How one is made is told at ``pasted_mask``; a pixel
    belongs to the object where the probability is at least MASK_THRESHOLD.

    Input   probabilities  (batch, most, m, m) float32, 0..1, of the object at each place of its box
            boxes          (batch, most, 4) float32, x_min, y_min, x_max, y_max in pixels of the image's own size
            count          (batch,) int32, objects of each image; what is beyond is not looked at
            size           (batch, 2) int32, height and width of the image
    Output  (batch, most) string, PNG files of one channel, 255 where the object is and 0 elsewhere; "" beyond the count
    """

    def call(self, probabilities, boxes, count, size):
        batch, most = tf.shape(boxes)[0], tf.shape(boxes)[1]

        def paste(place):
            image, number = place // most, place % most
            return tf.cond(number < count[image],
                           lambda: _file(probabilities[image, number], boxes[image, number], size[image]),
                           lambda: tf.constant(""))  # fmt: skip

        files = tf.map_fn(paste, tf.range(batch * most), fn_output_signature=tf.string, parallel_iterations=TOGETHER)
        return tf.reshape(files, (batch, most))

    def compute_output_spec(self, probabilities, boxes, count, size):
        return keras.KerasTensor(boxes.shape[:2], dtype="string")


def pasted_mask(probabilities: tf.Tensor, box: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Probabilities within a box -> probabilities of every pixel of the image, by the rule of torchvision's Mask R-CNN
    (``paste_masks_in_image``).

    The mask gets a border of zeros, one pixel wide, and the box grows about its centre by (m + 2) / m with it. The box's corners
    are cut to whole pixels, toward 0; both belong to it. The mask is resized to that, bilinearly, with the centres of pixels at
    halves. No more is computed than lies in the image, however large the box may be.

    Input   probabilities  (m, m) float32
            box            (4,) float32, x_min, y_min, x_max, y_max; where it is not finite, there is no object
            size           (2,) int32, height and width of the image
    Output  (height, width) float32, 0 outside the box
    """
    patch, first = _patch(probabilities, box, size)
    return _in_image(patch, first, size)


def _file(probabilities: tf.Tensor, box: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    patch, first = _patch(probabilities, box, size)
    patch = tf.cast(patch >= MASK_THRESHOLD, tf.uint8) * tf.constant(255, tf.uint8)
    # Large areas of one value; more effort makes the files little smaller and takes much longer.
    return tf.io.encode_png(_in_image(patch, first, size)[..., None], compression=1)


def _in_image(patch: tf.Tensor, first: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.pad(patch, tf.stack([first, size - first - tf.shape(patch)], axis=1))


def _patch(probabilities: tf.Tensor, box: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The part of a pasted mask that is within both box and image, and its first row and column, (2,) int32."""
    side = tf.shape(probabilities)[0]
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * (tf.cast(side + 2, tf.float32) / tf.cast(side, tf.float32))
    corners = tf.concat([centre - half, centre + half], axis=0)
    corners = tf.where(tf.reduce_all(tf.math.is_finite(corners)), tf.clip_by_value(corners, -FARTHEST, FARTHEST), [0, 0, -1, -1])
    corners = tf.cast(corners, tf.int32)[::-1]  # the cast cuts toward 0; now y_max, x_max, y_min, x_min
    first, end = corners[2:], corners[:2] + 1
    start = tf.clip_by_value(first, 0, size)
    stop = tf.clip_by_value(end, start, size)
    padded = tf.pad(probabilities, [[1, 1], [1, 1]])
    for axis in (1, 0):  # along the rows first, as long as there are few
        places = tf.cast(tf.range(start[axis], stop[axis]) - first[axis], tf.float32) + 0.5
        scale = tf.cast(side + 2, tf.float32) / tf.cast(tf.maximum(end[axis] - first[axis], 1), tf.float32)
        places = tf.maximum(places * scale - 0.5, 0)
        before = tf.minimum(tf.cast(places, tf.int32), side + 1)
        share = places - tf.cast(before, tf.float32)
        share = share[:, None] if axis == 0 else share
        padded = (tf.gather(padded, before, axis=axis) * (1 - share)
                  + tf.gather(padded, tf.minimum(before + 1, side + 1), axis=axis) * share)  # fmt: skip
    return padded, start
