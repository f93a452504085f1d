"""Class maps of images of any size at their own resolution: overlapping tiles, one after the other, whose seams do not show."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from kerastoolkit.serving.class_maps import IGNORED
from kerastoolkit.serving.images import decode_pixels

OVERLAP = 4  # the share of a tile's side, one in so many, that it has in common with the next


@keras.saving.register_keras_serializable(package="kerastoolkit")
class DecodeWholeImages(keras.layers.Layer):
    """Image files of any size -> a batch of their pixels as they are, and their sizes.

    Input   contents  (batch,) string, the bytes of JPEG, PNG, BMP or GIF files
    Output  a dict:
            image     (batch, the largest height, the largest width, channels) float32, 0..255; 0 beyond an image
            size      (batch, 2) int32, height and width of each

    Args:
        channels: 1 (grey) or 3 (red, green, blue).
    """

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, contents):
        ragged = tf.map_fn(
            lambda one: tf.RaggedTensor.from_tensor(decode_pixels(one, self.channels), ragged_rank=2), contents,
            fn_output_signature=tf.RaggedTensorSpec((None, None, self.channels), tf.uint8, ragged_rank=2))  # fmt: skip
        height = tf.cast(ragged.row_lengths(), tf.int32)
        width = tf.cast(tf.reduce_max(ragged.row_lengths(axis=2), axis=1), tf.int32)
        return {"image": tf.cast(ragged.to_tensor(), tf.float32), "size": tf.stack([height, width], axis=1)}

    def compute_output_spec(self, contents):
        batch = contents.shape[0]
        image = keras.KerasTensor((batch, None, None, self.channels), dtype="float32")
        return {"image": image, "size": keras.KerasTensor((batch, 2), dtype="int32")}

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class TiledClassMaps(keras.layers.Layer):
    """A network's most probable class of each pixel of images larger than it takes at once.

    Tiles of the network's size overlap by a quarter of it. Where they do, their probabilities are added with weights that fall
    linearly to a tile's border and have the sum 1; at the image's border it is mirrored, which is the overlap-tile strategy of
    Ronneberger et al. 2015, figure 2, https://arxiv.org/abs/1505.04597. One tile is answered at a time and one row of tiles is
    kept, so that memory grows with the image's width, not with its size.

    Input   image       (batch, any height, any width, channels) float, as the network takes them
            size        (batch, 2) int32, height and width of each image in it; what is larger counts as the whole
    Output  a dict:
            map         (batch, the largest height, the largest width) uint8; 255 beyond an image
            confidence  same shape, float32, the probability of that class; 0 beyond an image

    Args:
        network: model from images (batch, height, width, channels) to logits of the same size, or its serialized form.
        height, width: of a tile, in pixels.
    """

    def __init__(self, network, height: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.network = keras.saving.deserialize_keras_object(network) if isinstance(network, dict) else network
        self.height, self.width = height, width
        # Compiled, also where the layer is called outside a graph: else each of thousands of tiles would go layer by layer.
        image = tf.TensorSpec((None, None, self.network.input.shape[-1]), tf.float32)
        self._answer_one = tf.function(self._answer, input_signature=[image], autograph=False)

    def build(self, image_shape, size_shape=None):
        pass  # its layers are those of the network

    def call(self, image, size):
        size = tf.minimum(size, tf.shape(image)[1:3])
        largest = tf.reduce_max(size, axis=0)

        def answer(one):
            image, size = one
            found, confidence = self._answer_one(image[: size[0], : size[1]])
            beyond = [[0, largest[0] - size[0]], [0, largest[1] - size[1]]]
            return tf.pad(found, beyond, constant_values=IGNORED), tf.pad(confidence, beyond)

        spec = (tf.TensorSpec((None, None), tf.uint8), tf.TensorSpec((None, None), tf.float32))
        found, confidence = tf.map_fn(answer, (image, size), fn_output_signature=spec, parallel_iterations=1)
        return {"map": found, "confidence": confidence}

    def _answer(self, image: Any) -> tuple[Any, Any]:
        """(height, width, channels) -> class map and confidence, (height, width) each."""
        rows, down = _places(tf.shape(image)[0], self.height)
        columns, across = _places(tf.shape(image)[1], self.width)
        overlap, weights = self.height // OVERLAP, _ramp(self.height)[:, None, None] * _ramp(self.width)[:, None]
        step = self.height - overlap

        def tile(place):
            part = tf.gather(tf.gather(image, rows[place[0] : place[0] + self.height]),
                             columns[place[1] : place[1] + self.width], axis=1)  # fmt: skip
            logits = self.network(part[None], training=False)[0]
            return weights * tf.nn.softmax(tf.cast(logits, tf.float32))

        classes = self.network.output.shape[-1]
        spec = tf.TensorSpec((self.height, self.width, classes), tf.float32)

        def band(number, left_over, found, confidence):
            """A row of tiles; its lower part waits for the next row, which adds to it."""
            places = tf.stack([tf.fill(tf.shape(across), down[number]), across], axis=1)
            tiles = tf.map_fn(tile, places, fn_output_signature=spec, parallel_iterations=1)
            whole = _joined(tiles, self.width // OVERLAP)  # (height, steps * columns, classes)
            sums = tf.concat([whole[:overlap] + left_over, whole[overlap:step]], axis=0)
            best = tf.cast(tf.argmax(sums, axis=-1), tf.uint8)
            return number + 1, whole[step:], found.write(number, best), confidence.write(number, tf.reduce_max(sums, axis=-1))

        count = tf.size(down)
        nothing = tf.zeros((overlap, tf.size(across) * (self.width - self.width // OVERLAP), classes))
        arrays = (tf.TensorArray(kind, count, element_shape=(step, None)) for kind in (tf.uint8, tf.float32))
        _, _, *written = tf.while_loop(
            lambda number, *_: number < count, band, (0, nothing, *arrays), parallel_iterations=1,
            shape_invariants=(tf.TensorShape(()), tf.TensorShape((overlap, None, classes)), None, None))  # fmt: skip
        # The first tile begins above and to the left of the image, by what it would have in common with one before it.
        top, left = overlap, self.width // OVERLAP
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        return tuple(each.concat()[top : top + height, left : left + width] for each in written)

    def compute_output_spec(self, image, size):
        shape = (image.shape[0], None, None)
        return {"map": keras.KerasTensor(shape, dtype="uint8"), "confidence": keras.KerasTensor(shape, dtype="float32")}

    def get_config(self):
        return {**super().get_config(), "network": keras.saving.serialize_keras_object(self.network), "height": self.height,
                "width": self.width}  # fmt: skip


def _places(size: Any, side: int) -> tuple[Any, Any]:
    """(which of an image's rows is at each place of the tiled plane, mirrored at its ends; where each tile begins there)."""
    overlap = side // OVERLAP
    step = side - overlap
    count = (size + overlap + step - 1) // step
    period = tf.maximum(2 * size - 2, 1)
    places = tf.abs(tf.range(count * step + overlap) - overlap) % period
    return tf.minimum(places, period - places), tf.range(count) * step


def _ramp(side: int) -> tf.Tensor:
    """How much each row of a tile counts, (side,): 1, and in what it has in common with another less, both together 1."""
    overlap = side // OVERLAP
    rise = (tf.range(overlap, dtype=tf.float32) + 0.5) / max(1, overlap)
    return tf.concat([rise, tf.ones(side - 2 * overlap), rise[::-1]], axis=0)


def _joined(tiles: tf.Tensor, overlap: int) -> tf.Tensor:
    """Tiles of a row (tiles, height, width, classes) -> one strip (height, tiles * (width - overlap), classes): their sums where
    they overlap; what the last one has beyond is left out."""
    count, height, width, classes = tf.shape(tiles)[0], *tiles.shape[1:]
    step = width - overlap
    own, common = tiles[:, :, :step], tiles[:, :, step:]
    before = tf.concat([tf.zeros_like(common[:1]), common[:-1]], axis=0)  # of the tile to the left
    sums = tf.concat([own[:, :, :overlap] + before, own[:, :, overlap:]], axis=2)
    return tf.reshape(tf.transpose(sums, (1, 0, 2, 3)), (height, count * step, classes))
