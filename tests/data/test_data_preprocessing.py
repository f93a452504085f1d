"""Standardising pixels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data.preprocessing import standardise
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
