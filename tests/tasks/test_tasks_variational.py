"""Variational autoencoding: what is learned, what is scored and against which numbers, and what is drawn."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

from kerastoolkit.experiment import InputError
from kerastoolkit.models import variational_autoencoder
from kerastoolkit.serving.autoencoder import variational_endpoints
from kerastoolkit.serving.model import decoded_model
from kerastoolkit.tasks._reconstructions import image_figures
from kerastoolkit.tasks.variational import variational

FEW = {"elbo_samples": 2, "importance_samples": 5, "importance_images": 4}


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return variational_autoencoder(input_shape=(8, 8, 1), latent=2, hidden=(6,))


@pytest.fixture(scope="module")
def data(data_of, stripes):
    return data_of(stripes(40, 0), stripes(20, 1), classes=("left", "right"))


@pytest.fixture(scope="module")
def scored(network, data, score):
    """(report, serving model) by few samples and seed 3."""
    return score(network, variational(), data, **FEW, seed=3)


def likelihoods(serving, images, samples, seeds):
    """What the endpoint answers, by name, in float64."""
    given = {"image": tf.constant(images, tf.float32), "samples": tf.fill([len(images)], samples),
             "seed": tf.constant(seeds, tf.int32)}  # fmt: skip
    found = variational_endpoints(decoded_model(serving))["log_likelihood"](given)
    return {name: value.numpy().astype(np.float64) for name, value in found.items()}


def test_the_loss_is_the_bernoulli_likelihood_and_the_bound_adds_the_divergence():
    task, images = variational(), np.array([[[[1.0], [0.0]]]], np.float32)
    outputs = {"logits": np.array([[[[np.log(3)], [0.0]]]], np.float32), "mean": np.array([[1.0, 0.0]], np.float32),
               "log_variance": np.array([[0.0, np.log(4)]], np.float32)}  # fmt: skip
    fit, divergence = -np.log(0.75) - np.log(0.5), 0.5 * 1 + 0.5 * (4 - 1 - np.log(4))
    np.testing.assert_allclose(task.loss(images, outputs), [fit], rtol=1e-5)
    np.testing.assert_allclose(task.metrics["divergence"](images, outputs), [divergence], rtol=1e-5)
    np.testing.assert_allclose(task.metrics["negative_elbo"](images, outputs), [fit + divergence], rtol=1e-5)


def test_without_binarisation_the_network_and_the_target_are_the_image_as_it_is():
    image = tf.random.stateless_uniform((2, 4, 4, 1), (0, 1))
    extra, target = variational().encode({}, {"image": image}, {}, tf.zeros((2, 2), tf.int32))
    np.testing.assert_array_equal(extra["image"], image)
    np.testing.assert_array_equal(target, image)


def test_binarised_pixels_are_1_with_their_intensity_as_probability_for_network_and_target_alike():
    image = tf.constant(np.tile(np.array([0.0, 0.2, 0.7, 1.0], np.float32), (4000, 1, 1))[..., None])
    seeds = tf.stack([tf.range(4000), tf.zeros(4000, tf.int32)], axis=1)
    extra, target = variational("sampled").encode({}, {"image": image}, {}, seeds)
    np.testing.assert_array_equal(extra["image"], target)
    assert set(np.unique(target)) == {0.0, 1.0}
    shares = target.numpy().mean(axis=0).ravel()
    np.testing.assert_allclose(shares, [0, 0.2, 0.7, 1], atol=0.03)  # standard error 0.007
    assert (shares[[0, 3]] == [0, 1]).all()


def test_binarisation_is_the_same_for_the_same_seeds_and_drawn_anew_for_others_and_for_each_image():
    image = tf.fill((2, 8, 8, 1), 0.5)
    encode = variational("sampled").encode
    first, again, other = (encode({}, {"image": image}, {}, tf.constant([[a, 5], [2, 5]]))[1].numpy() for a in (1, 1, 3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other) and not np.array_equal(first[0], first[1])


def test_figures_are_means_of_what_the_serving_model_estimates(scored, stripes):
    report, serving = scored
    images = stripes(20, 1)["image"]
    bound = likelihoods(serving, images, 2, 3 + np.arange(20))
    assert report.figures["negative_elbo"] == pytest.approx(-bound["elbo"].mean(), rel=1e-4)
    assert report.figures["reconstruction_nats"] == pytest.approx(-bound["expected_log_likelihood"].mean(), rel=1e-4)
    assert report.figures["divergence_nats"] == pytest.approx(bound["divergence"].mean(), rel=1e-4)
    chosen = np.array([0, 6, 12, 19])
    estimate = likelihoods(serving, images[chosen], 5, 3 + chosen)["log_likelihood"]
    assert report.figures["importance_weighted_nll"] == pytest.approx(-estimate.mean(), rel=1e-4)
    assert report.figures["importance_weighted_nll_standard_error"] == pytest.approx(estimate.std(ddof=1) / 2, rel=1e-3)
    rebuilt = decoded_model(serving)(images)["reconstruction"].numpy()
    expected = image_figures(images, rebuilt)
    assert {name: report.figures[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert set(report.baselines) == {"PCA with 2 components"}
    assert any("2 posterior samples for each of 20 images" in note for note in report.notes)
    assert any("5 samples for each of 4 images" in note for note in report.notes)
    assert "PCA: fitted to 40 of 40 training images" in report.notes
    assert report.notes[0].startswith("likelihood: Bernoulli; binarisation: intensities 0..1 as they are")
    assert not any("not binarised" in note for note in report.notes)


def test_principal_components_of_as_many_numbers_stand_beside_the_network(scored, stripes):
    rows, others = (stripes(*how)["image"].reshape(-1, 64) / 255.0 for how in ((40, 0), (20, 1)))
    mean = rows.mean(axis=0)
    basis = np.linalg.svd(rows - mean, full_matrices=False)[2][:2]
    rebuilt = np.clip(mean + (others - mean) @ basis.T @ basis, 0, 1)
    found = scored[0].baselines["PCA with 2 components"]
    assert found["squared_error_per_image"] == pytest.approx(np.square(rebuilt - others).sum(axis=1).mean(), rel=1e-3)


def test_with_equal_samples_and_images_the_estimate_is_above_the_bound(network, data, score):
    report, _ = score(network, variational(), data, elbo_samples=20, importance_samples=20, importance_images=20)
    assert report.figures["importance_weighted_nll"] < report.figures["negative_elbo"]


def test_binarised_test_images_are_scored_but_reconstructions_are_of_the_images_themselves(network, data, stripes, score):
    report, serving = score(network, variational("sampled"), data, **FEW, seed=3)
    images = stripes(20, 1)["image"]
    binary = 255.0 * (np.random.default_rng(3).random(images.shape) < images / 255)
    bound = likelihoods(serving, binary, 2, 3 + np.arange(20))
    assert report.figures["negative_elbo"] == pytest.approx(-bound["elbo"].mean(), rel=1e-4)
    expected = image_figures(images, decoded_model(serving)(images)["reconstruction"].numpy())
    assert report.figures["mean_squared_error"] == pytest.approx(expected["mean_squared_error"], rel=1e-4)
    assert "binarisation: each pixel is 1" in report.notes[0]
    assert any("PSNR and SSIM: of the images as they are, not binarised" in note for note in report.notes)


def test_a_gaussian_likelihood_is_named_and_one_image_has_no_standard_error(data, score):
    network = variational_autoencoder(input_shape=(8, 8, 1), latent=2, hidden=(6,), likelihood="gaussian")
    report, _ = score(network, variational(), data, **{**FEW, "importance_images": 1})
    assert report.notes[0].startswith("likelihood: Gaussian, a density")
    assert np.isfinite(report.figures["importance_weighted_nll"])
    assert "importance_weighted_nll_standard_error" not in report.figures


def test_another_seed_gives_other_estimates_and_the_same_one_the_same(scored, network, data, score):
    first = scored[0].figures
    again, other = (score(network, variational(), data, **FEW, seed=seed)[0].figures for seed in (3, 100))
    assert first == again
    assert first["negative_elbo"] != other["negative_elbo"]
    assert first["divergence_nats"] == other["divergence_nats"]


def test_a_dimension_is_active_where_its_posterior_mean_varies_by_more_than_a_hundredth(data, stripes, score):
    network = variational_autoencoder(input_shape=(8, 8, 1), latent=2, hidden=(6,))
    mean = network.get_layer("encoder").get_layer("mean")
    hidden = network.get_layer("encoder").get_layer("hidden1")
    sides = np.zeros((64, 6), np.float32)
    sides.reshape(8, 8, 6)[:, :4, 0] = sides.reshape(8, 8, 6)[:, 4:, 0] = 1 / 64
    sides.reshape(8, 8, 6)[:, :4, 1] = 1 / 32  # bright or dark
    hidden.kernel.assign(sides)
    mean.kernel.assign(np.eye(6, 2))  # the first number is the mean of all pixels: the same for each kind
    report, _ = score(network, variational(), data, **FEW)
    first, second = report.tables["latent dimensions"]
    assert (first["dimension"], first["active"]) == (2, "yes")
    assert (second["dimension"], second["active"]) == (1, "no")
    images = stripes(20, 1)["image"] / 255
    assert first["variance of the posterior mean"] == pytest.approx(images[:, :, :4].mean(axis=(1, 2, 3)).var(), rel=1e-3)
    assert report.figures["active_dimensions"] == 1


def test_pictures_of_a_code_of_two_numbers(scored):
    report, serving = scored
    assert set(report.pictures) == {"reconstructions", "latent_space", "samples", "interpolations", "manifold", "filters"}
    endpoints = variational_endpoints(decoded_model(serving))

    def cell(name, row, column, gap=1):
        drawn = report.pictures[name].axes[0].images[0].get_array()
        return drawn[row * (8 + gap) : row * (8 + gap) + 8, column * (8 + gap) : column * (8 + gap) + 8]

    def decoded(code):
        return np.rint(endpoints["decode"](tf.constant([code], tf.float32))["image"][0, ..., 0])

    # Up and to the right are larger numbers, in steps of equal probability: Kingma & Welling 2013, figure 4.
    low, high = norm.ppf([0.025, 0.975])
    np.testing.assert_allclose(cell("manifold", 0, 19), decoded([high, high]), atol=1)
    np.testing.assert_allclose(cell("manifold", 19, 0), decoded([low, low]), atol=1)
    np.testing.assert_allclose(cell("manifold", 0, 0), decoded([low, high]), atol=1)
    drawn = endpoints["sample"](tf.constant([3, 14]))["image"]
    np.testing.assert_allclose(cell("samples", 0, 0), np.rint(drawn[0, ..., 0]), atol=1)
    np.testing.assert_allclose(cell("samples", 1, 1), np.rint(drawn[1, ..., 0]), atol=1)


def test_interpolations_begin_and_end_at_codes_of_test_images(scored, stripes):
    report, serving = scored
    endpoints = variational_endpoints(decoded_model(serving))
    images = stripes(20, 1)["image"]
    chosen = np.unique(np.linspace(0, 19, 16).astype(int))
    codes = endpoints["encode"](images[chosen])["code"].numpy()
    drawn = report.pictures["interpolations"].axes[0].images[0].get_array()
    assert drawn.shape == (8 * 9 - 1, 10 * 9 - 1)
    for column, code in ((0, codes[0]), (9, codes[1]), (3, codes[0] + (codes[1] - codes[0]) / 3)):
        expected = np.rint(endpoints["decode"](tf.constant(code[None]))["image"][0, ..., 0])
        np.testing.assert_allclose(drawn[:8, 9 * column : 9 * column + 8], expected, atol=1)


def test_with_few_test_images_and_a_longer_code_there_is_no_interpolation_and_no_plane(data_of, stripes, score):
    network = variational_autoencoder(input_shape=(8, 8, 1), latent=3, hidden=(6,))
    train, test = ({"image": stripes(size, size)["image"]} for size in (40, 5))
    report, _ = score(network, variational(), data_of(train, test), **FEW)
    assert set(report.pictures) == {"reconstructions", "samples", "filters"}


@pytest.mark.parametrize("name", ["elbo_samples", "importance_samples", "importance_images"])
@pytest.mark.parametrize("value", [0, 2**32 + 1])  # which would be 1 in 32 bits
def test_numbers_of_samples_and_images_out_of_range_are_refused(network, data, score, name, value):
    with pytest.raises(InputError, match=f"{name} must be in 1..1,000,000,000, got {value}"):
        score(network, variational(), data, **{**FEW, name: value})


@pytest.mark.parametrize("value", [-1, 2**31])
def test_a_seed_out_of_range_is_refused(network, data, score, value):
    with pytest.raises(InputError, match=f"seed must be in 0..1,000,000,000, got {value}"):
        score(network, variational("sampled"), data, **FEW, seed=value)


def test_an_unknown_binarisation_is_refused():
    with pytest.raises(InputError, match="binarisation must be none or sampled, got fixed"):
        variational("fixed")


def test_the_answer_has_the_posteriors_mean_for_a_code(network):
    answers = variational().answer(network)(tf.ones((1, 8, 8, 1)))
    encoded = network.get_layer("encoder")(tf.ones((1, 8, 8, 1)))
    np.testing.assert_allclose(answers["code"], encoded["mean"], rtol=1e-5)
    assert (answers["image"].numpy() == 255).all()
    (row,) = variational().tell(["a.png"], {name: value.numpy() for name, value in answers.items()})
    assert row["input"] == "a.png" and row["code"] == pytest.approx(encoded["mean"].numpy()[0].tolist(), rel=1e-5)
    assert set(variational().files({}, {"reconstruction": answers["reconstruction"].numpy()[0]})) == {"-reconstruction.png"}
