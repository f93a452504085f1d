"""Noise: where there is none, its statistics, and whose fate is shared."""

import keras
import numpy as np
import pytest

from kerastoolkit.layers import Corruption

KINDS = ["gaussian", "masking", "salt_and_pepper"]


def images(shape=(20, 50, 50, 1), low=0.3, high=0.7):
    return np.random.default_rng(0).uniform(low, high, size=shape).astype("float32")


def noisy(kind, given, lowest, highest=None):
    return np.asarray(Corruption(kind, lowest, lowest if highest is None else highest, seed=0)(given, training=True))


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_no_noise_outside_training(kind):
    given = images((3, 4, 5, 2))
    layer = Corruption(kind, 0.5, 1.0)
    np.testing.assert_array_equal(layer(given, training=False), given)
    np.testing.assert_array_equal(layer(given), given)


@pytest.mark.parametrize("kind", KINDS)
def test_level_0_changes_nothing(kind):
    given = images((3, 4, 5, 2))
    np.testing.assert_array_equal(noisy(kind, given, 0.0), given)


def test_masking_sets_the_share_of_pixels_to_0_and_leaves_the_others():
    given = images()
    answer = noisy("masking", given, 0.3)
    masked = answer == 0
    assert masked.mean() == pytest.approx(0.3, abs=0.01)  # of 50,000 pixels: a standard error of 0.002
    np.testing.assert_array_equal(answer[~masked], given[~masked])


def test_salt_and_pepper_sets_half_of_the_share_to_0_and_half_to_1_and_leaves_the_others():
    given = images()
    answer = noisy("salt_and_pepper", given, 0.3)
    pepper, salt = answer == 0, answer == 1
    assert pepper.mean() == pytest.approx(0.15, abs=0.01)
    assert salt.mean() == pytest.approx(0.15, abs=0.01)
    np.testing.assert_array_equal(answer[~pepper & ~salt], given[~pepper & ~salt])


def test_gaussian_noise_has_mean_0_and_the_levels_standard_deviation():
    given = np.full((20, 50, 50, 2), 0.5, "float32")
    noise = noisy("gaussian", given, 0.08) - given  # six deviations from both ends
    assert noise.mean() == pytest.approx(0, abs=0.002)
    assert noise.std() == pytest.approx(0.08, rel=0.02)


def test_each_channel_has_gaussian_noise_of_its_own():
    noise = (noisy("gaussian", np.full((20, 50, 50, 2), 0.5, "float32"), 0.08) - 0.5).reshape(-1, 2)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.02


def test_gaussian_noise_is_clipped_to_intensities():
    answer = noisy("gaussian", images(), 1.0)
    assert (answer.min(), answer.max()) == (0.0, 1.0)
    assert (answer == 0).mean() == pytest.approx(0.31, abs=0.03)  # half a deviation below the middle


@pytest.mark.parametrize("kind", ["masking", "salt_and_pepper"])
def test_all_channels_of_a_pixel_share_its_fate(kind):
    answer = noisy(kind, images((10, 20, 20, 3)), 0.5)
    for value in {"masking": [0], "salt_and_pepper": [0, 1]}[kind]:
        changed = answer == value
        assert 0.1 < changed.mean() < 0.6
        np.testing.assert_array_equal(changed.all(axis=-1), changed.any(axis=-1))


@pytest.mark.parametrize("kind", KINDS)
def test_each_images_level_is_drawn_evenly_between_lowest_and_highest(kind):
    given = np.full((400, 40, 40, 1), 0.5, "float32")
    lowest, highest = (0.02, 0.1) if kind == "gaussian" else (0.2, 0.6)
    changes = noisy(kind, given, lowest, highest) - given
    levels = changes.std(axis=(1, 2, 3)) if kind == "gaussian" else (changes != 0).mean(axis=(1, 2, 3))
    width = highest - lowest
    error = 0.1 * width  # of a level as 1,600 pixels tell it
    assert lowest - error < levels.min() < lowest + error
    assert highest - error < levels.max() < highest + error
    assert levels.mean() == pytest.approx((lowest + highest) / 2, abs=0.06 * width)
    assert levels.std() == pytest.approx(width / np.sqrt(12), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_two_calls_and_two_images_have_different_noise(kind):
    given = np.full((2, 10, 10, 1), 0.5, "float32")
    layer = Corruption(kind, 0.5, 0.5)
    first, second = np.asarray(layer(given, training=True)), np.asarray(layer(given, training=True))
    assert (first != second).any(axis=(1, 2, 3)).all()
    assert (first[0] != first[1]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same_noise_in_a_saved_network(kind, tmp_path):
    inputs = keras.Input((6, 5, 2))
    network = keras.Model(inputs, Corruption(kind, 0.1, 0.7, seed=3)(inputs))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    given = images((4, 6, 5, 2))
    np.testing.assert_array_equal(again(given, training=True), network(given, training=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("blur", 0.1, 0.2), "noise must be 'gaussian', 'masking', 'salt_and_pepper', got 'blur'"),
        (("masking", -0.1, 0.2), r"a level of noise must be in 0..1, got -0.1"),
        (("masking", 0.1, 1.1), r"a level of noise must be in 0..1, got 1.1"),
        (("gaussian", float("nan"), 0.5), r"a level of noise must be in 0..1, got nan"),
        (("gaussian", 0.5, 0.4), "the lowest level of noise must be at most the highest, got 0.5 and 0.4"),
    ],
)
def test_a_wrong_argument_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Corruption(*arguments)
