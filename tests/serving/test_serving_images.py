"""Image files to pixels, inside and outside a model."""

import io
import struct
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.serving.images import (
    BlueGreenRed,
    ClassNames,
    DecodeImages,
    ResizeImages,
    decode_image,
    decode_pixels,
    resize_images,
)


def picture(height=37, width=51, mode="RGB"):
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def file_bytes(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def png_of_20000_by_20000():
    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def jpeg_of_20000_by_20000():
    contents = file_bytes(picture(), "JPEG")
    frame = contents.index(b"\xff\xc0")  # then length, precision, height and width
    return contents[: frame + 5] + struct.pack(">HH", 20_000, 20_000) + contents[frame + 9 :]


def decode_model(height, width, channels):
    contents = keras.Input((), dtype="string", name="image")
    return keras.Model(contents, DecodeImages(height, width, channels)(contents))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", mode) for mode in ("RGB", "L", "CMYK")]
    + [("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")]
    + [("BMP", mode) for mode in ("RGB", "RGBA")]
    + [("GIF", mode) for mode in ("RGB", "L")],
)
def test_each_kind_of_file_gives_the_pixels_that_pillow_gives(kind, mode):
    contents = file_bytes(picture(mode=mode), kind)
    expected = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(tf.constant(contents), 37, 51, 3), expected)
    # To grey the two weigh colours alike but round differently; of a JPEG the brightness is in the file.
    grey = np.asarray(Image.open(io.BytesIO(contents)).convert("L"), np.float32)[..., None]
    difference = np.abs(decode_image(tf.constant(contents), 37, 51, 1) - grey)
    assert difference.mean() <= 1 and difference.max() <= (20 if kind == "JPEG" else 1)


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("PNG", "P"), ("BMP", "RGB"), ("GIF", "L")])
def test_pixels_have_the_files_own_size_and_whole_values(kind, mode):
    contents = file_bytes(picture(mode=mode), kind)
    pixels = decode_pixels(tf.constant(contents), 3)
    assert pixels.dtype == tf.uint8 and decode_pixels(tf.constant(contents), 1).shape == (37, 51, 1)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(contents)).convert("RGB")))
    np.testing.assert_array_equal(resize_images(pixels, 16, 24), decode_image(tf.constant(contents), 16, 24, 3))


def test_sixteen_bits_of_grey_become_eight():
    levels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5_000
    pixels = decode_image(tf.constant(file_bytes(Image.fromarray(levels), "PNG")), 3, 4, 3)
    np.testing.assert_array_equal(pixels[..., 0], levels // 256)


def test_an_animation_gives_its_first_frame():
    first, buffer = picture(mode="L"), io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=[Image.new("L", first.size)])
    pixels = decode_image(tf.constant(buffer.getvalue()), 37, 51, 1)
    np.testing.assert_array_equal(pixels[..., 0], np.asarray(first))


def test_the_layer_decodes_a_batch_of_different_sizes_and_formats_as_the_function_does():
    contents = [
        file_bytes(picture(33, 17), "JPEG"),
        file_bytes(picture(5, 91), "PNG"),
        file_bytes(picture(16, 24), "BMP"),
    ]
    pixels = decode_model(16, 24, 3).predict_on_batch(tf.constant(contents))
    assert pixels.shape == (3, 16, 24, 3) and pixels.dtype == np.float32
    for one, expected in zip(contents, pixels, strict=True):
        np.testing.assert_array_equal(decode_image(tf.constant(one), 16, 24, 3), expected)
    np.testing.assert_array_equal(pixels[2], np.asarray(picture(16, 24)))


def test_an_exported_decoder_gives_the_same_pixels(tmp_path):
    model = decode_model(16, 24, 3)
    contents = tf.constant([file_bytes(picture(33, 17), "JPEG"), file_bytes(picture(5, 91), "PNG")])
    model.export(tmp_path / "export", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "export")
    np.testing.assert_array_equal(loaded.serve(contents), model(contents))


def test_a_model_of_these_layers_can_be_saved_and_loaded(tmp_path):
    contents = keras.Input((), dtype="string", name="image")
    pixels = ResizeImages(2, 2)(DecodeImages(16, 24, 1)(contents))
    names = ClassNames(("one", "two", "three", "four"))(keras.layers.Reshape((4,))(pixels))
    model = keras.Model(contents, {"pixels": pixels, "names": names})
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    given = tf.constant([file_bytes(picture(), "PNG"), file_bytes(picture(9, 9), "JPEG")])
    expected, found = model(given), loaded(given)
    np.testing.assert_array_equal(found["pixels"], expected["pixels"])
    assert found["names"].numpy().tolist() == expected["names"].numpy().tolist()


@pytest.mark.parametrize("contents", [b"", b"these are words", file_bytes(picture(), "BMP")[:2]])
def test_bytes_that_are_no_image_are_refused(contents):
    with pytest.raises(tf.errors.InvalidArgumentError, match="an image must be JPEG, PNG, GIF or BMP"):
        decode_image(tf.constant(contents), 8, 8, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_file_that_is_cut_short_is_refused(kind):
    contents = file_bytes(picture(), kind)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(tf.constant(contents[: len(contents) // 2]), 8, 8, 3)


def test_a_bmp_with_a_palette_is_refused_because_its_colours_would_be_wrong():
    with pytest.raises(tf.errors.InvalidArgumentError, match="24 or 32 bits"):
        decode_image(tf.constant(file_bytes(picture(mode="P"), "BMP")), 8, 8, 3)


@pytest.mark.parametrize(
    "contents",
    [
        png_of_20000_by_20000(),
        b"GIF89a" + struct.pack("<HH", 20_000, 20_000) + bytes(20),
        b"BM" + bytes(16) + struct.pack("<iiHH", 20_000, -20_000, 1, 24) + bytes(20),
        jpeg_of_20000_by_20000(),
    ],
    ids=["PNG", "GIF", "BMP", "JPEG"],
)
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(contents):
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 64,000,000 pixels"):
        decode_model(8, 8, 3)(tf.constant([contents]))


def test_resizing_to_the_same_size_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    any_size = tf.TensorSpec((None, None, None, 3), tf.uint8)
    resize = tf.function(lambda images: resize_images(images, 9, 7), input_signature=[any_size])
    np.testing.assert_array_equal(resize(pixels), pixels)


def test_halving_averages_over_neighbours():
    column = np.array([0.0, 0.0, 80.0, 80.0, 0.0, 0.0, 0.0, 0.0], np.float32).reshape(1, 8, 1, 1)
    # Antialiased bilinear at half the size weighs four pixels 1, 3, 3, 1, and at the border 3, 3, 1.
    expected = [80 * 1 / 7, 80 * 6 / 8, 80 * 1 / 8, 0.0]
    np.testing.assert_allclose(resize_images(column, 4, 1)[0, :, 0, 0], expected, rtol=1e-5)


def test_class_names_are_those_of_the_largest_probability():
    names = ClassNames(("cat", "dog"))(np.array([[0.1, 0.9], [0.7, 0.3], [0.5, 0.5]], np.float32))
    assert names.numpy().tolist() == [b"dog", b"cat", b"cat"]


def test_blue_comes_first_and_the_means_of_imagenet_are_taken_off():
    pixels = np.array([[[[255, 100, 0]]]], np.float32)
    np.testing.assert_allclose(BlueGreenRed()(pixels)[0, 0, 0], [-103.939, 100 - 116.779, 255 - 123.68], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DecodeImages(0, 4, 3), "height and width must be at least 1, got 0 and 4"),
        (lambda: DecodeImages(4, 4, 4), "channels must be 1 or 3, got 4"),
        (lambda: ResizeImages(4, 0), "height and width must be at least 1, got 4 and 0"),
    ],
)
def test_wrong_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
