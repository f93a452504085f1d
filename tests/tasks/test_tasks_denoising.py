"""Denoising: its table by hand, and its verdict beside the median filter both ways."""

import io

import keras
import numpy as np
import pytest
from PIL import Image

from kerastoolkit.data.unlabelled import unlabelled_images
from kerastoolkit.experiment import InputError
from kerastoolkit.models import denoising_autoencoder
from kerastoolkit.tasks._reconstructions import Spread, image_figures
from kerastoolkit.tasks.denoising import _median, denoising


def slow_median(image, side):
    """(height, width) -> the median over a square around each pixel, the edge repeated."""
    padded = np.pad(image, side // 2, mode="edge")
    return np.array([[np.median(padded[row : row + side, column : column + side]) for column in range(image.shape[1])]
                     for row in range(image.shape[0])])  # fmt: skip


def dots():
    """Images with structures of two pixels, which a window of 5 x 5 removes: (2, 12, 12, 1)."""
    image = np.zeros((12, 12))
    image[2:4, :] = image[8:10, :] = 200.0
    return np.stack([image, image.T])[..., None]


@pytest.mark.parametrize("side", [3, 5])
def test_the_median_is_over_a_square_of_each_channel(side):
    noisy = np.random.default_rng(0).uniform(0, 255, (2, 9, 12, 3))
    for found, image in zip(_median(noisy, side), noisy, strict=True):
        for channel in range(3):
            np.testing.assert_allclose(found[..., channel], slow_median(image[..., channel], side))


def scored(cleaned, data_of, network, **about):
    """Scores answers made by hand: ``cleaned`` gives them from clean images."""
    clean = np.tile(dots(), (2, 1, 1, 1)).astype(np.float32)
    noisy = clean.copy()
    noisy[:2] += 20.0  # which no median takes away
    noisy[:2, 6, 6] = 255.0  # a window of 3 x 3 takes it away, one of 5 x 5 also lines of two pixels
    clean[2:] = 100.0  # nothing fine is lost here: the larger window averages more
    noisy[2:] = clean[2:] + np.random.default_rng(0).normal(0, 30, clean[2:].shape)
    level = np.array([0.01, 0.01, 0.25, 0.25], np.float32)
    raw = {"image": noisy + 1000, "clean": clean, "level": level}  # the answers' image counts, as the network saw it
    answers = {"image": noisy, "reconstruction": cleaned(clean)}
    batches = [({name: value[half] for name, value in raw.items()}, {name: value[half] for name, value in answers.items()})
               for half in (slice(0, 3), slice(3, 4))]  # fmt: skip
    data = data_of(raw, raw, noise="salt_and_pepper", levels=[0.01, 0.25])
    return denoising().score(batches, data, network), clean, noisy


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    return denoising_autoencoder(input_shape=(12, 12, 1), noise="salt_and_pepper", level=0.1, hidden=(6,))


def test_the_table_has_the_figures_of_each_method_at_each_level(data_of, network):
    report, clean, noisy = scored(lambda clean: clean + 5, data_of, network)
    ((title, rows),) = report.tables.items()
    assert title == "salt_and_pepper noise, by its level"
    assert [row["level"] for row in rows] == [0.01, 0.25]
    for number, (row, side) in enumerate(zip(rows, (3, 5), strict=True)):
        mine = slice(2 * number, 2 * number + 2)
        filtered = _median(noisy[mine], side)
        assert row["median window"] == f"{side} x {side}"
        for name, images in (("noisy", noisy[mine]), ("median filter", filtered), ("network", clean[mine] + 5)):
            expected = image_figures(clean[mine], images)
            assert row[f"psnr, {name}"] == pytest.approx(expected["psnr"])
            assert row[f"ssim, {name}"] == pytest.approx(expected["ssim"])
    assert rows[0]["psnr, network"] == pytest.approx(-20 * np.log10(5 / 255), rel=1e-4)


def test_figures_are_means_over_the_levels(data_of, network):
    report, _, _ = scored(lambda clean: clean + 5, data_of, network)
    ((_, rows),) = report.tables.items()
    assert set(report.baselines) == {"noisy", "median filter"}
    for figures, name in ((report.figures, "network"), *((report.baselines[name], name) for name in report.baselines)):
        assert figures["psnr"] == pytest.approx(np.mean([row[f"psnr, {name}"] for row in rows]))
        assert figures["ssim"] == pytest.approx(np.mean([row[f"ssim, {name}"] for row in rows]))
    assert report.figures["squared_error_per_image"] == pytest.approx(144 * (5 / 255) ** 2, rel=1e-4)


def test_the_verdict_goes_to_whichever_comes_nearer(data_of, network):
    better, _, _ = scored(lambda clean: clean + 0.1, data_of, network)
    worse, _, _ = scored(lambda clean: 255 - clean, data_of, network)
    assert {row["verdict"] for row in next(iter(better.tables.values()))} == {"the network beats the filter"}
    assert {row["verdict"] for row in next(iter(worse.tables.values()))} == {"the network does not beat the filter"}


def test_a_picture_for_each_level_has_the_four_forms_of_its_images(data_of, network):
    report, _, noisy = scored(lambda clean: clean + 5, data_of, network)
    assert set(report.pictures) == {"denoised_0.01", "denoised_0.25", "filters"}
    axes = report.pictures["denoised_0.25"].axes
    assert [each.get_ylabel() for each in axes[::2]] == ["noisy", "cleaned", "median filter", "original"]
    np.testing.assert_array_equal(axes[0].images[0].get_array(), np.rint(noisy[2, ..., 0]))


def test_a_run_is_scored_on_every_image_at_every_level(score):
    keras.utils.set_random_seed(0)
    network = denoising_autoencoder(input_shape=(8, 8, 1), noise="gaussian", level=(0.1, 0.3), hidden=(6,))
    report, _ = score(network, denoising(), unlabelled_images("digits", noise="gaussian", levels=(0.1, 0.3)))
    ((_, rows),) = report.tables.items()
    assert [row["level"] for row in rows] == [0.1, 0.3]
    # The clipping of black and white takes some of the noise away: more decibels than -20 log10 of the level.
    for row, level in zip(rows, (0.1, 0.3), strict=True):
        assert 0 < row["psnr, noisy"] + 20 * np.log10(level) < 4


def test_data_without_noise_is_refused(score):
    network = denoising_autoencoder(input_shape=(8, 8, 1), hidden=(6,))
    with pytest.raises(InputError, match="digits has no noise on these images"):
        score(network, denoising(), unlabelled_images("digits"))


def test_a_level_that_a_small_split_has_no_image_of_is_left_out(data_of, network):
    raw = {"image": dots(), "clean": dots(), "level": np.array([0.01, 0.25], np.float32)}
    answers = {"image": dots(), "reconstruction": dots()}
    data = data_of(raw, raw, noise="masking", levels=[0.01, 0.1, 0.25])
    ((_, rows),) = denoising().score([(raw, answers)], data, network).tables.items()
    assert [row["level"] for row in rows] == [0.01, 0.25]


@pytest.mark.parametrize("offered", [3, 10, 39, 40, 1000, 1234])
def test_the_images_shown_are_evenly_spread_over_all_that_came(offered):
    spread = Spread(10)
    for number in range(offered):
        spread.offer({"image": np.array(number)})
    kept = [int(row["image"]) for row in spread.kept()]
    assert len(kept) == min(offered, 10) and kept[0] == 0 and kept == sorted(set(kept))
    assert kept[-1] >= 0.9 * (offered - 1) - 1 and len(spread.found) < 40
    assert max(np.diff(kept)) <= 2 * min(np.diff(kept)) + 1


def test_the_target_is_the_clean_image_as_intensities():
    clean = np.array([0.0, 51.0, 255.0])
    extra, targets = denoising().encode({"clean": clean, "level": 1}, {"image": clean + 7}, {}, None)
    assert extra == {}
    np.testing.assert_allclose(targets, [0, 0.2, 1])


def test_an_unknown_loss_is_refused():
    with pytest.raises(InputError, match="loss must be squared_error or cross_entropy, got mse"):
        denoising("mse")


def test_the_answer_has_no_code():
    network = denoising_autoencoder(input_shape=(8, 8, 1), hidden=(6,))
    assert set(denoising().answer(network)(np.zeros((1, 8, 8, 1)))) == {"image", "reconstruction"}


def test_each_input_is_told_with_the_mean_change_of_its_pixels():
    images = np.zeros((2, 2, 2, 1))
    rebuilt = images.copy()
    rebuilt[0, 0, 0], rebuilt[0, 0, 1], rebuilt[1] = 8.0, -4.0, 2.0
    rows = denoising().tell(["a", "b"], {"image": images, "reconstruction": rebuilt})
    assert rows == [{"input": "a", "mean_change_in_grey_levels": 3.0}, {"input": "b", "mean_change_in_grey_levels": 2.0}]


def test_the_cleaned_image_is_drawn_and_written():
    answers = {"image": np.full((4, 6, 3), 10.0), "reconstruction": np.full((4, 6, 3), 20.4)}
    figure = denoising().draw({"image": np.full((9, 9, 1), 30, np.uint8)}, answers, "a.png")
    assert [axes.get_ylabel() for axes in figure.axes] == ["input", "as seen", "cleaned"]
    assert [int(axes.images[0].get_array().max()) for axes in figure.axes] == [30, 10, 20]
    ((ending, contents),) = denoising().files({}, answers).items()
    with Image.open(io.BytesIO(contents)) as image:
        assert (ending, image.format, image.size, image.getpixel((0, 0))) == ("-cleaned.png", "PNG", (6, 4), (20, 20, 20))
