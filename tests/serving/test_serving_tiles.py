"""Class maps in overlapping tiles: the same as of the whole image, wherever the network does not look beyond a tile."""

import io
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.serving.images import decode_pixels
from kerastoolkit.serving.tiles import OVERLAP, DecodeWholeImages, TiledClassMaps, _ramp

HEIGHT, WIDTH, CLASSES = 16, 20, 5


def network(size=1, seed=0):
    """Logits from ``size`` x ``size`` pixels, or what a pair says, around each."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((None, None, 3), name="image")
    return keras.Model(image, keras.layers.Conv2D(CLASSES, size, padding="same", kernel_initializer="he_normal")(image))


def image_of(height, width, seed=0):
    return np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)


def answer(layer, *images):
    largest = np.max([image.shape[:2] for image in images], axis=0)
    batch = np.zeros((len(images), *largest, 3), np.float32)
    for place, image in zip(batch, images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    found = layer(batch, np.array([image.shape[:2] for image in images], np.int32))
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("size", [(1, 1), (1, 33), (5, 7), (12, 15), (16, 20), (17, 21), (41, 17), (100, 63)])
def test_tiles_answer_as_the_whole_image_does_where_a_pixel_is_all_that_counts(size):
    image, of_pixels = image_of(*size), network()
    probabilities = tf.nn.softmax(of_pixels(image[None]))[0].numpy()
    found = answer(TiledClassMaps(of_pixels, HEIGHT, WIDTH), image)
    np.testing.assert_array_equal(found["map"][0], probabilities.argmax(-1))
    np.testing.assert_allclose(found["confidence"][0], probabilities.max(-1), rtol=1e-5)


def test_seams_do_not_show_where_the_network_sees_less_than_half_of_the_overlap():
    # 3 x 3 pixels reach 1 beyond a tile. There the weights are 1 / 8 and 1 / 10 of a pixel, not 0, so a probability differs by
    # little, and inside not at all.
    image, of_pixels = image_of(70, 90), network(size=3)
    layer = TiledClassMaps(of_pixels, HEIGHT, WIDTH)
    whole = tf.nn.softmax(of_pixels(np.pad(image, [(1, 1), (1, 1), (0, 0)], mode="reflect")[None]))[0, 1:-1, 1:-1].numpy()
    found = answer(layer, image)
    rows, columns = (np.arange(size) for size in image.shape[:2])
    edges = [np.isin((places + side // OVERLAP) % (side - side // OVERLAP), [0, side // OVERLAP - 1])
             for places, side in ((rows, HEIGHT), (columns, WIDTH))]  # fmt: skip
    inside = ~edges[0][:, None] & ~edges[1]
    assert 0.4 < inside.mean() < 0.8
    np.testing.assert_allclose(found["confidence"][0][inside], whole.max(-1)[inside], rtol=1e-4)
    assert (found["map"][0] == whole.argmax(-1)).mean() > 0.97


def test_the_image_is_mirrored_at_its_border_not_padded():
    # What is seen from 3 x 1 pixels of an image whose lines are alike is the same in all lines, at the border too. The first tile
    # ends with line 11, and what it has in common with the next begins with line 8.
    image = np.repeat(image_of(1, 30), 25, axis=0)
    found = answer(TiledClassMaps(network((3, 1)), HEIGHT, WIDTH), image)["map"][0]
    assert (found[:8] == found[4]).all()


@pytest.mark.parametrize("side", [1, 3, 4, 16, 19, 20, 256])
def test_weights_of_neighbouring_tiles_add_up_to_one(side):
    ramp, overlap = _ramp(side).numpy(), side // OVERLAP
    assert ramp.shape == (side,)
    np.testing.assert_allclose(ramp[:overlap] + ramp[side - overlap :], 1, rtol=1e-6)
    np.testing.assert_array_equal(ramp[overlap : side - overlap], 1)


def test_each_image_of_a_batch_is_answered_as_alone_and_is_255_beyond_its_size():
    images, layer = [image_of(30, 20), image_of(9, 41, seed=1)], TiledClassMaps(network(), HEIGHT, WIDTH)
    found = answer(layer, *images)
    for number, image in enumerate(images):
        height, width = image.shape[:2]
        np.testing.assert_array_equal(found["map"][number, :height, :width], answer(layer, image)["map"][0])
        for name, beyond in (("map", 255), ("confidence", 0)):
            rest = found[name][number].copy()
            rest[:height, :width] = beyond
            assert (rest == beyond).all()


def test_a_size_that_is_larger_than_the_image_counts_as_the_whole_image():
    image, layer = image_of(9, 11), TiledClassMaps(network(), HEIGHT, WIDTH)
    found = layer(image[None], np.array([[20, 30]], np.int32))["map"].numpy()
    np.testing.assert_array_equal(found, answer(layer, image)["map"])


def test_tiles_are_answered_in_graphs_of_unknown_size():
    layer, image = TiledClassMaps(network(), HEIGHT, WIDTH), image_of(33, 50)
    inputs = keras.Input((None, None, 3)), keras.Input((2,), dtype="int32")
    found = keras.Model(inputs, layer(*inputs)).predict_on_batch([image[None], np.array([[33, 50]], np.int32)])
    np.testing.assert_array_equal(found["map"], answer(layer, image)["map"])


def test_tiles_are_saved_and_loaded_with_their_network(tmp_path):
    layer, image = TiledClassMaps(network(), HEIGHT, WIDTH), image_of(33, 50)
    inputs = keras.Input((None, None, 3)), keras.Input((2,), dtype="int32")
    keras.Model(inputs, layer(*inputs)).save(tmp_path / "tiles.keras")
    loaded = keras.saving.load_model(tmp_path / "tiles.keras")
    found = loaded([image[None], np.array([[33, 50]], np.int32)])["map"].numpy()
    np.testing.assert_array_equal(found, answer(layer, image)["map"])


MEMORY = """
import resource
import kerastoolkit, keras, numpy as np
from kerastoolkit.serving.tiles import TiledClassMaps
image = keras.Input((None, None, 3))
wide = keras.layers.Conv2D(128, 3, padding="same")(image)
layer = TiledClassMaps(keras.Model(image, keras.layers.Conv2D(5, 1)(wide)), 64, 64)
def answer(height):
    layer(np.zeros((1, height, 64, 3), np.float32), np.array([[height, 64]], np.int32))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
few = answer(100)
print(answer(12_800) - few)
"""


def test_memory_does_not_grow_with_what_the_network_needs_for_the_whole_image():
    # Of 12,800 x 64 pixels the 128 channels alone would be 419 MB; image, map and confidence are 14 MB.
    found = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(found.stdout) < 150


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_whole_images_are_decoded_with_their_sizes_and_are_black_beyond():
    generator = np.random.default_rng(0)
    images = [generator.integers(1, 256, (*size, 3), dtype=np.uint8) for size in ((5, 9), (8, 4), (1, 1))]
    found = DecodeWholeImages(3)(tf.constant([png(image) for image in images]))
    np.testing.assert_array_equal(found["size"], [[5, 9], [8, 4], [1, 1]])
    assert found["image"].shape == (3, 8, 9, 3)
    for pixels, image in zip(found["image"].numpy(), images, strict=True):
        np.testing.assert_array_equal(pixels[: image.shape[0], : image.shape[1]], image)
        assert pixels.sum() == image.sum()
    np.testing.assert_array_equal(decode_pixels(tf.constant(png(images[0])), 3), images[0])


def test_whole_images_of_one_channel_are_grey():
    image = np.array([[10, 200]], np.uint8)
    found = DecodeWholeImages(1)(tf.constant([png(image)]))
    np.testing.assert_array_equal(found["image"], image[None, :, :, None])
