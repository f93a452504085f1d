"""Reconstruction: its figures against NumPy and numbers by hand, and what it tells, draws and writes."""

import io

import keras
import numpy as np
import pytest
from PIL import Image

from kerastoolkit.experiment import InputError
from kerastoolkit.models import deep_autoencoder
from kerastoolkit.tasks import _reconstructions as reconstructions
from kerastoolkit.tasks._reconstructions import (
    classifier_accuracy,
    evenly,
    first_filters,
    image_figures,
    latent_space,
    principal_components,
    square,
    training_images,
)
from kerastoolkit.tasks.reconstruction import reconstruction


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape)


def slow_ssim(one, other, window):
    """Wang et al. 2004, equations 13 to 16 with K1 = 0.01 and K2 = 0.03, of two images (height, width) 0..1."""
    distance = np.square(np.arange(window) - window // 2)
    weights = np.exp(-(distance[:, None] + distance[None]) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for top in range(one.shape[0] - window + 1):
        for left in range(one.shape[1] - window + 1):
            x, y = (each[top : top + window, left : left + window] for each in (one, other))
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            variance_x, variance_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
            covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
            luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
            found.append(luminance * (2 * covariance + 0.03**2) / (variance_x + variance_y + 0.03**2))
    return np.mean(found)


def test_errors_and_decibels_by_hand():
    clean = np.zeros((2, 2, 1, 2))
    rebuilt = clean.copy()
    rebuilt[0] = 25.5  # every number off by a tenth
    rebuilt[1, 0, 0, 0] = 255.0  # one of four numbers off by 1
    figures = image_figures(clean, rebuilt)
    assert figures["squared_error_per_image"] == pytest.approx((0.04 + 1) / 2)
    assert figures["mean_squared_error"] == pytest.approx((0.01 + 0.25) / 2)
    assert figures["psnr"] == pytest.approx((20 - 10 * np.log10(0.25)) / 2)  # the mean over images, not of all errors


def test_images_that_are_equal_have_a_similarity_of_1_and_120_decibels():
    images = noise(3, 12, 12, 3)
    figures = image_figures(images, images)
    assert figures["ssim"] == pytest.approx(1, abs=1e-6)
    assert (figures["mean_squared_error"], figures["psnr"]) == (0, 120)


@pytest.mark.parametrize(("height", "width", "window"), [(13, 16, 11), (11, 11, 11), (8, 8, 7), (12, 5, 5), (7, 6, 5), (1, 4, 1)])
def test_structural_similarity_is_that_of_its_definition_with_the_largest_window_that_fits(height, width, window):
    clean = noise(2, height, width, 1)
    rebuilt = np.clip(clean + 0.3 * (noise(2, height, width, 1, seed=1) - 128), 0, 255)
    expected = np.mean([slow_ssim(*(each[n, ..., 0] / 255 for each in (clean, rebuilt)), window) for n in range(2)])
    assert image_figures(clean, rebuilt)["ssim"] == pytest.approx(expected, abs=1e-4)


def test_structural_similarity_of_colour_is_the_mean_over_channels():
    clean, rebuilt = noise(1, 12, 12, 3), noise(1, 12, 12, 3, seed=1)
    each = [image_figures(clean[..., [c]], rebuilt[..., [c]])["ssim"] for c in range(3)]
    assert image_figures(clean, rebuilt)["ssim"] == pytest.approx(np.mean(each), abs=1e-5)


def test_figures_of_many_images_are_the_means_over_all(monkeypatch):
    clean, rebuilt = noise(7, 8, 8, 1), noise(7, 8, 8, 1, seed=1)
    whole = image_figures(clean, rebuilt)
    monkeypatch.setattr(reconstructions, "BATCH_SIZE", 3)
    assert image_figures(clean, rebuilt) == pytest.approx(whole, rel=1e-6)


def test_principal_components_rebuild_what_the_singular_vectors_do(data_of, stripes):
    train = stripes(40, 0)
    model = principal_components(data_of(train, stripes(6, 1)), 3)
    rows, others = (stripes(*how)["image"].reshape(-1, 64) / 255.0 for how in ((40, 0), (6, 1)))
    mean = rows.mean(axis=0)
    basis = np.linalg.svd(rows - mean, full_matrices=False)[2][:3]
    expected = mean + (others - mean) @ basis.T @ basis
    np.testing.assert_allclose(model.inverse_transform(model.transform(others)), expected, atol=1e-4)


@pytest.mark.parametrize("components", [64, 65, 40])
def test_as_many_components_as_pixels_or_images_are_no_baseline(data_of, stripes, components):
    assert principal_components(data_of(stripes(40, 0), stripes(6, 1)), components) is None


def test_training_images_are_spread_evenly_over_all_with_their_labels(data_of):
    numbers = np.arange(10)
    data = data_of({"image": np.ones((10, 1, 1, 1)) * numbers[:, None, None, None], "label": numbers}, {"image": np.ones((1,))})
    images, labels = training_images(data, 4)
    assert images.dtype == np.float32
    assert images.ravel().tolist() == labels.tolist() == [0, 3, 6, 9]
    assert training_images(data, 99)[1].tolist() == numbers.tolist()


def test_a_linear_classifier_is_right_about_what_a_line_separates():
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    points = np.array([[0, 0], [9, 0], [0, 9]])[labels] + generator.normal(size=(60, 2))
    assert classifier_accuracy(points[:30], labels[:30], points[30:], labels[30:]) == 1
    assert classifier_accuracy(points[:30], labels[:30], points[30:], (labels[30:] + 1) % 3) == 0


def test_a_classifiers_features_count_alike_whatever_their_scale():
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 2
    points = np.stack([1e-4 * (2 * labels - 1 + 0.1 * generator.normal(size=400)), 1e3 * generator.normal(size=400)], axis=1)
    assert classifier_accuracy(points[:200], labels[:200], points[200:], labels[200:]) == 1


@pytest.mark.parametrize(("size", "wanted", "expected"), [(10, 4, [0, 3, 6, 9]), (3, 10, [0, 1, 2]), (5, 1, [0])])
def test_what_is_shown_is_spread_evenly(size, wanted, expected):
    assert evenly(size, wanted).tolist() == expected


def test_pictures_are_arranged_in_a_square_whose_rest_is_white():
    found = square(np.arange(5.0).reshape(5, 1, 1, 1))
    assert found[..., 0, 0, 0].tolist() == [[0, 1, 2], [3, 4, 255]]


def test_the_filters_of_a_dense_layer_are_drawn_by_their_own_range_with_grey_for_0(data_of, stripes):
    network = deep_autoencoder(input_shape=(2, 3, 1), code=2, hidden=(4,))
    kernel = np.zeros((6, 4), np.float32)
    kernel[0, 0], kernel[5, 0], kernel[2, 1] = 0.5, -0.25, -3.0
    kernel[4, 2], kernel[4, 3] = 1.0, 2.0
    network.get_layer("encoder").get_layer("hidden1").kernel.assign(kernel)
    pixels = first_filters(network).axes[0].images[0].get_array()
    assert pixels.shape == (5, 7)  # four filters of 2 x 3 with a line of white between them
    np.testing.assert_array_equal(pixels[:2, :3], [[255, 128, 128], [128, 128, 64]])
    np.testing.assert_array_equal(pixels[:2, 4:], [[128, 128, 0], [128, 128, 128]])
    np.testing.assert_array_equal(pixels[3:, :3], pixels[3:, 4:])


def test_of_many_filters_the_strongest_are_drawn(monkeypatch):
    network = deep_autoencoder(input_shape=(1, 1, 1), code=2, hidden=(5,))
    network.get_layer("encoder").get_layer("hidden1").kernel.assign([[0.1, -3.0, 0.2, 2.0, 0.0]])
    monkeypatch.setattr(reconstructions, "FILTERS_SHOWN", 2)
    assert first_filters(network).axes[0].images[0].get_array().tolist() == [[0, 255, 255]]  # -3, the gap, 2


def test_filters_over_more_channels_than_can_be_seen_are_not_drawn():
    assert first_filters(deep_autoencoder(input_shape=(2, 2, 2), code=2, hidden=(4,))) is None


def test_a_code_of_two_numbers_is_drawn_as_it_is_and_a_longer_one_by_its_components():
    codes, labels = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 6.0]]), np.array([0, 1, 0])
    axes = latent_space(codes, labels, ("ant", "bee"))["latent_space"].axes[0]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), codes[[0, 2]])
    long = np.concatenate([codes, 7 * np.ones((3, 2))], axis=1)
    axes = latent_space(long, labels, ("ant", "bee"))["latent_space"].axes[0]
    points = np.asarray(axes.collections[0].get_offsets())
    assert np.linalg.norm(points[1] - points[0]) == pytest.approx(np.hypot(4, 5))
    assert "component" in axes.get_xlabel()


def test_codes_without_labels_or_of_one_number_are_not_drawn():
    assert latent_space(np.zeros((3, 2)), None, None) == {}
    assert latent_space(np.zeros((3, 1)), np.zeros(3), ("ant",)) == {}


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("squared_error", (0.2 - 0.5) ** 2 + (1 - 0.75) ** 2), ("cross_entropy", np.log(2) - np.log(0.75))],
)
def test_the_loss_is_summed_over_the_numbers_of_an_image(loss, expected):
    targets, logits = np.array([[[[0.2], [1.0]]]], np.float32), np.array([[[[0.0], [np.log(3)]]]], np.float32)
    np.testing.assert_allclose(reconstruction(loss).loss(targets, logits), [expected], rtol=1e-5)


def test_trained_on_cross_entropy_the_squared_error_is_told_too():
    targets, logits = np.full((1, 1, 1, 1), 0.2, np.float32), np.zeros((1, 1, 1, 1), np.float32)
    np.testing.assert_allclose(reconstruction("cross_entropy").metrics["squared_error"](targets, logits), [0.09], rtol=1e-5)
    assert reconstruction().metrics == {}


def test_the_target_is_the_image_that_the_network_takes():
    image = object()
    assert reconstruction().encode({"label": 1}, {"image": image}, {}, None) == ({}, image)


def test_an_unknown_loss_is_refused():
    with pytest.raises(InputError, match="loss must be squared_error or cross_entropy, got absolute"):
        reconstruction("absolute")


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    return deep_autoencoder(input_shape=(8, 8, 1), code=2, hidden=(6,))


def test_a_run_is_scored_beside_principal_components_and_linear_classifiers(network, data_of, stripes, score):
    train, test = stripes(40, 0), stripes(10, 1)
    report, serving = score(network, reconstruction(), data_of(train, test, classes=("left", "right")))
    logits = np.asarray(network(test["image"] / 255), np.float64)
    rebuilt = 255 / (1 + np.exp(-logits))
    expected = image_figures(test["image"], rebuilt)
    assert {name: report.figures[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert report.figures["squared_error_per_image"] == pytest.approx(
        np.square((rebuilt - test["image"]) / 255).sum(axis=(1, 2, 3)).mean(), rel=1e-4
    )
    assert set(report.figures) == {*expected, "linear_classifier_accuracy"}
    assert set(report.baselines) == {"PCA with 2 components", "pixels"}
    assert report.baselines["pixels"] == {"linear_classifier_accuracy": 1}
    assert set(report.pictures) == {"reconstructions", "latent_space", "filters"}
    assert "40 training images" in report.notes[0]


def test_components_are_scored_clipped_and_by_their_definition(network, data_of, stripes, score):
    train, test = stripes(40, 0), stripes(10, 1)
    train["image"], test["image"] = (np.clip(2 * each["image"] - 160, 0, 255) for each in (train, test))
    report, _ = score(network, reconstruction(), data_of(train, test, classes=("left", "right")))
    rows, others = (each["image"].reshape(-1, 64) / 255.0 for each in (train, test))
    mean = rows.mean(axis=0)
    basis = np.linalg.svd(rows - mean, full_matrices=False)[2][:2]
    rebuilt = mean + (others - mean) @ basis.T @ basis
    exact, clipped = (np.square(each - others).sum(axis=1).mean() for each in (rebuilt, np.clip(rebuilt, 0, 1)))
    found = report.baselines["PCA with 2 components"]
    assert found["squared_error_per_image_before_clipping"] == pytest.approx(exact, rel=1e-3)
    assert found["squared_error_per_image"] == pytest.approx(clipped, rel=1e-3)
    assert found["squared_error_per_image"] < found["squared_error_per_image_before_clipping"]
    assert found["linear_classifier_accuracy"] == 1


def test_the_classifier_of_codes_learns_from_training_images_and_is_scored_on_the_test(network, data_of, stripes, score):
    encoder = network.get_layer("encoder")
    sides = np.zeros((64, 6), np.float32)
    sides.reshape(8, 8, 6)[:, :4, 0] = sides.reshape(8, 8, 6)[:, 4:, 1] = 1 / 32
    encoder.get_layer("hidden1").kernel.assign(sides)
    encoder.get_layer("code").kernel.assign(np.eye(6, 2))
    report, _ = score(network, reconstruction(), data_of(stripes(40, 0), stripes(10, 1), classes=("left", "right")))
    assert report.figures["linear_classifier_accuracy"] == 1
    test = stripes(10, 1)
    wrong = {**test, "label": 1 - test["label"]}
    report, _ = score(network, reconstruction(), data_of(stripes(40, 0), wrong, classes=("left", "right")))
    assert report.figures["linear_classifier_accuracy"] == 0


def test_images_without_labels_are_scored_without_a_classifier(network, data_of, stripes, score):
    report, _ = score(network, reconstruction(), data_of(*({"image": stripes(20, seed)["image"]} for seed in (0, 1))))
    assert set(report.baselines) == {"PCA with 2 components"} and report.notes == ("PCA: fitted to 20 of 20 training images",)
    assert "linear_classifier_accuracy" not in report.figures
    assert set(report.pictures) == {"reconstructions", "filters"}


def test_active_units_and_dead_ones_by_hand(network, data_of, score):
    encoder = network.get_layer("encoder")
    first = np.zeros((64, 6), np.float32)
    first[0, 0] = 1.0
    encoder.get_layer("hidden1").kernel.assign(first)
    encoder.get_layer("code").kernel.assign(np.eye(6, 2))  # the code is the first pixel's intensity, and 0
    images = np.zeros((4, 8, 8, 1), np.float32)
    images[:, 0, 0, 0] = 0, 51, 102, 255
    report, _ = score(network, reconstruction(active_above=0.3), data_of({"image": images}, {"image": images}))
    assert report.figures["mean_activation"] == pytest.approx((0 + 0.2 + 0.4 + 1) / 8, abs=1e-6)
    assert report.figures["active_share"] == 2 / 8
    assert report.figures["dead_units_share"] == 1 / 2


@pytest.fixture
def answers():
    """Of two images; the second is rebuilt without a fault."""
    images = np.stack([np.full((8, 8, 1), 100.0), noise(8, 8, 1)])
    rebuilt = images.copy()
    rebuilt[0] += 25.5
    return {"image": images, "reconstruction": rebuilt, "code": np.array([[[1.0, 2.0]], [[3.0, 4.0]]])}


def test_each_input_is_told_with_its_errors_and_its_code_as_a_list(answers):
    first, second = reconstruction().tell(["a.png", "b.png"], answers)
    assert (first["input"], second["input"]) == ("a.png", "b.png")
    assert (first["code"], second["code"]) == ([1.0, 2.0], [3.0, 4.0])
    assert first["mean_squared_error"] == pytest.approx(0.01, rel=1e-5)
    assert first["psnr"] == pytest.approx(20, rel=1e-5)
    assert (second["psnr"], second["ssim"]) == (120, pytest.approx(1, abs=1e-6))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_reconstruction_is_written_as_a_png_file_of_its_size(channels):
    rebuilt = np.array([[0.4, 0.6, 255.4], [-3.0, 100.0, 300.0]])[..., None] * np.ones(channels)
    (written,) = reconstruction().files({}, {"reconstruction": rebuilt}).items()
    assert written[0] == "-reconstruction.png"
    with Image.open(io.BytesIO(written[1])) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (3, 2), "L" if channels == 1 else "RGB")
        pixels = np.asarray(image).reshape(2, 3, channels)
    np.testing.assert_array_equal(pixels, np.array([[0, 1, 255], [0, 100, 255]])[..., None] * np.ones(channels))


def test_an_answer_is_drawn_as_the_file_what_was_seen_of_it_and_what_was_made_of_that(answers):
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(file, "PNG")
    first = {name: values[0] for name, values in answers.items()}
    figure = reconstruction().draw({"image": file.getvalue()}, first, "a.png")
    assert [axes.get_ylabel() for axes in figure.axes] == ["input", "as seen", "reconstruction"]
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert shown[0].shape == (20, 30, 3) and (shown[0] == 7).all()
    assert (shown[1] == 100).all() and (shown[2] == 126).all()


def test_made_up_images_are_files_of_two_kinds_and_several_sizes(network):
    contents = reconstruction().probe(network)["image"]
    found = [Image.open(io.BytesIO(each)) for each in contents]
    assert [image.format for image in found] == ["PNG", "JPEG", "PNG"]
    assert len({image.size for image in found}) == 3


def test_files_and_folders_of_files_are_read_as_bytes(tmp_path):
    (tmp_path / "inside").mkdir()
    paths = [tmp_path / "a.png", tmp_path / "inside" / "b.jpg"]
    for path in paths:
        Image.new("RGB", (4, 3)).save(path)
    names, raw = reconstruction().read([str(paths[0]), str(tmp_path / "inside")])
    assert names == [str(path) for path in paths]
    assert list(raw["image"]) == [path.read_bytes() for path in paths]
