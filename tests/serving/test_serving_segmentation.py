"""Image files -> pixels with the sizes that they had, and logits -> class maps of those sizes."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.formats.saved_model import write_endpoints
from kerastoolkit.serving.class_maps import IGNORED
from kerastoolkit.serving.images import decode_image
from kerastoolkit.serving.segmentation import BAND, ClassMaps, DecodeSizedImages, class_map


def logits_of(height, width, classes=5, seed=0):
    return np.random.default_rng(seed).normal(size=(height, width, classes)).astype(np.float32)


def resized_and_then_answered(logits, size):
    """The slow twin: all logits at the size wanted, and the largest of each pixel."""
    return tf.argmax(tf.image.resize(logits[None], size)[0], axis=-1).numpy()


def picture(height, width, kind, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    contents = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(contents, kind)
    return contents.getvalue()


def decode_model(height, width, channels=3):
    contents = keras.Input((), dtype="string", name="image")
    return keras.Model(contents, DecodeSizedImages(height, width, channels)(contents))


def maps_model(height, width, classes=5):
    logits, size = keras.Input((height, width, classes), name="logits"), keras.Input((2,), dtype="int32", name="size")
    return keras.Model({"logits": logits, "size": size}, ClassMaps()(logits, size))


@pytest.mark.parametrize("size", [(7, 11), (23, 40), (5, 3), (7, 3), (2, 30), (1, 1), (1, 11), (7, 1), (14, 22)])
def test_a_class_map_is_that_of_the_logits_resized(size):
    logits = logits_of(7, 11)
    found = class_map(tf.constant(logits), tf.constant(size))
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found, resized_and_then_answered(logits, size))


@pytest.mark.parametrize("height", [BAND - 1, BAND, BAND + 1, 3 * BAND, 3 * BAND + 17])
def test_bands_of_rows_meet_without_a_seam(height):
    logits = logits_of(9, 6)
    expected = resized_and_then_answered(logits, (height, 21))
    np.testing.assert_array_equal(class_map(tf.constant(logits), tf.constant([height, 21])), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_a_network_of_one_row_or_column_answers_at_any_size(shape):
    logits = logits_of(*shape)
    expected = resized_and_then_answered(logits, (13, 9))
    np.testing.assert_array_equal(class_map(tf.constant(logits), tf.constant([13, 9])), expected)


def test_the_class_changes_halfway_between_the_centres_of_the_networks_pixels():
    # Two pixels enlarged to eight: their centres are at 1.5 and 5.5, and between them the logits of both change evenly.
    logits = tf.constant([[[1.0, 0.0], [0.0, 1.0]]])
    assert class_map(logits, tf.constant([1, 8])).numpy().tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    # With three times the weight the second takes three quarters of the way: 1.5 + 1 = 2.5, so from pixel 3 on.
    assert class_map(tf.constant([[[1.0, 0.0], [0.0, 3.0]]]), tf.constant([1, 8])).numpy().tolist() == [[0] * 3 + [1] * 5]


def test_of_equal_logits_the_first_class_is_answered():
    assert class_map(tf.zeros((2, 2, 3)), tf.constant([3, 3])).numpy().tolist() == [[0, 0, 0]] * 3


def test_255_classes_are_told_apart_and_more_are_refused():
    logits = np.eye(255, dtype=np.float32).reshape(15, 17, 255)
    found = class_map(tf.constant(logits), tf.constant([15, 17]))
    np.testing.assert_array_equal(found, np.arange(255).reshape(15, 17))
    with pytest.raises(ValueError, match="classes must be at most 255, got 256"):
        class_map(tf.zeros((1, 1, 256)), tf.constant([1, 1]))


def test_maps_of_a_batch_have_the_largest_sides_and_255_beyond_each_image():
    logits = np.stack([logits_of(4, 6, seed=number) for number in range(3)])
    sizes = np.array([[9, 5], [2, 12], [1, 1]], np.int32)
    found = maps_model(4, 6)({"logits": logits, "size": sizes}).numpy()
    assert found.shape == (3, 9, 12) and found.dtype == np.uint8
    for one, own, (height, width) in zip(logits, found, sizes, strict=True):
        np.testing.assert_array_equal(own[:height, :width], resized_and_then_answered(one, (height, width)))
        assert (own == IGNORED).sum() == own.size - height * width


def test_images_come_with_the_sizes_that_their_files_had():
    files = [picture(33, 17, "JPEG"), picture(5, 91, "PNG"), picture(1, 1, "BMP"), picture(16, 24, "GIF", "P")]
    found = decode_model(16, 24)(tf.constant(files))
    assert found["size"].numpy().tolist() == [[33, 17], [5, 91], [1, 1], [16, 24]] and found["size"].dtype == tf.int32


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "mode"), [
    *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")), *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
    ("BMP", "RGB"), ("BMP", "RGBA"), ("GIF", "L"),
])  # fmt: skip
def test_pixels_of_each_kind_of_file_are_those_of_decode_image(kind, mode, channels):
    file = tf.constant(picture(21, 10, kind, mode))
    for height, width in ((21, 10), (8, 13)):
        found = DecodeSizedImages(height, width, channels)(file[None])
        np.testing.assert_array_equal(found["image"][0], decode_image(file, height, width, channels))
        assert found["size"].numpy().tolist() == [[21, 10]]


def test_the_shapes_of_pixels_sizes_and_maps_are_known_beforehand():
    decode = decode_model(16, 24, channels=1)
    assert decode.output["image"].shape == (None, 16, 24, 1) and decode.output["image"].dtype == "float32"
    assert decode.output["size"].shape == (None, 2) and decode.output["size"].dtype == "int32"
    maps = maps_model(4, 6)
    assert maps.output.shape == (None, None, None) and maps.output.dtype == "uint8"


def test_a_file_that_is_no_image_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="an image must be JPEG, PNG, GIF or BMP"):
        decode_model(4, 4)(tf.constant([b"these are words"]))


def whole_model():
    """From files to maps, the pixels taken for logits of three classes."""
    contents = keras.Input((), dtype="string", name="image")
    decoded = DecodeSizedImages(8, 12, 3, name="decode")(contents)
    return keras.Model(contents, {"map": ClassMaps(name="map")(decoded["image"], decoded["size"]), **decoded})


def test_a_model_of_these_layers_is_made_again_from_its_config():
    model = whole_model()
    again = keras.Model.from_config(model.get_config())
    decode = DecodeSizedImages.from_config(DecodeSizedImages(8, 12, 1).get_config())
    assert (decode.height, decode.width, decode.channels) == (8, 12, 1)
    given = tf.constant([picture(9, 7, "PNG")])
    np.testing.assert_array_equal(again(given)["map"], model(given)["map"])


@pytest.mark.parametrize("how", ["saved", "exported"])
def test_a_model_that_was_saved_or_exported_answers_the_same(tmp_path, how):
    model, files = whole_model(), tf.constant([picture(33, 17, "JPEG"), picture(5, 91, "PNG"), picture(70, 9, "BMP")])
    if how == "saved":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    else:
        write_endpoints({"serve": model}, tmp_path / "export")
        exported = tf.saved_model.load(tmp_path / "export")
        loaded = exported.serve
    expected, found = model(files), loaded(files)
    assert expected["map"].shape == (3, 70, 91)
    for name in ("map", "image", "size"):
        np.testing.assert_array_equal(found[name], expected[name])
