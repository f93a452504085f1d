"""Standardising pixels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data.preprocessing import standardise, standardise_sized
from kerastoolkit.experiment import Data, InputError, Source


def colour_images(shape=(6, 5, 3)):
    nothing = Source(0, lambda indices: {})
    mean, std = (10.0, 20.0, 30.0), (1.0, 2.0, 4.0)
    about = {"classes": ("a", "b"), "shape": shape, "channels": 3, "mean": mean, "std": std}
    return Data("made up", nothing, nothing, nothing, inputs=("image",), encoded=shape is None, about=about)


def test_pixels_are_standardised_channel_by_channel():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    expected = (pixels - np.array([10.0, 20.0, 30.0])) / np.array([1.0, 2.0, 4.0])
    model = standardise(colour_images())
    np.testing.assert_allclose(model(tf.constant(pixels)), expected, rtol=1e-5)
    assert model.inputs[0].name == "image" and model.inputs[0].shape == (None, 6, 5, 3)


def test_images_of_another_size_are_resized_first():
    model = standardise(colour_images(), size=(3, 10))
    assert model.inputs[0].shape == (None, 6, 5, 3) and model.output.shape == (None, 3, 10, 3)
    grey = np.full((1, 6, 5, 3), 30.0, np.float32)
    np.testing.assert_allclose(model(grey)[0, 1, 1], [20.0, 5.0, 0.0], atol=1e-4)


def test_images_without_a_size_of_their_own_are_taken_at_the_size_asked_for():
    model = standardise(colour_images(shape=None), size=(7, 9))
    assert model.inputs[0].shape == model.output.shape == (None, 7, 9, 3)
    with pytest.raises(InputError, match="say size="):
        standardise(colour_images(shape=None))


def test_a_size_below_one_pixel_is_refused():
    with pytest.raises(InputError, match="size must be at least 1 x 1, got 0 x 4"):
        standardise(colour_images(), size=(0, 4))


def test_the_saved_model_gives_the_same_numbers(tmp_path):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 6, 5, 3)).astype(np.float32)
    model = standardise(colour_images(), size=(4, 4))
    model.save(tmp_path / "preprocess.keras")
    loaded = keras.models.load_model(tmp_path / "preprocess.keras")
    np.testing.assert_array_equal(loaded(pixels), model(pixels))


def sized(size=(4, 7), **options):
    model = standardise_sized(colour_images(shape=None), size=size, **options)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype(np.float32)
    return model, {"image": pixels, "size": np.array([[9, 200], [1, 3]], np.int32)}


def test_images_with_their_sizes_are_standardised_and_the_sizes_handed_on():
    model, given = sized()
    assert {tensor.name: tensor.shape for tensor in model.inputs} == {"image": (None, 4, 7, 3), "size": (None, 2)}
    found = model(given)
    expected = (given["image"] - np.array([10.0, 20.0, 30.0])) / np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(found["image"], expected, rtol=1e-5, atol=1e-5)
    assert found["size"].dtype == tf.int32
    np.testing.assert_array_equal(found["size"], given["size"])


def test_for_imagenet_weights_pixels_become_what_keras_applications_gives_them():
    model, given = sized(imagenet=True)
    expected = keras.applications.vgg16.preprocess_input(given["image"].copy())
    np.testing.assert_allclose(model(given)["image"], expected, atol=1e-4)
    np.testing.assert_array_equal(model(given)["size"], given["size"])


@pytest.mark.parametrize("imagenet", [False, True])
def test_the_saved_model_of_images_with_sizes_gives_the_same(tmp_path, imagenet):
    model, given = sized(imagenet=imagenet)
    model.save(tmp_path / "preprocess.keras")
    found = keras.models.load_model(tmp_path / "preprocess.keras")(given)
    for name, value in model(given).items():
        np.testing.assert_array_equal(found[name], value)


def test_a_size_below_one_pixel_is_refused_for_images_with_sizes_too():
    with pytest.raises(InputError, match="size must be at least 1 x 1, got 4 x 0"):
        sized((4, 0))
