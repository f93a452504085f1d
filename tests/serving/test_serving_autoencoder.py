"""An autoencoder's endpoints: they compose, and the estimate of the likelihood is that of an integral done by hand."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.special import logsumexp

from kerastoolkit.experiment import InputError
from kerastoolkit.models import convolutional_autoencoder, variational_autoencoder
from kerastoolkit.serving import autoencoder
from kerastoolkit.serving.model import decoded_model, from_encoded, inner_layer, serving_model
from kerastoolkit.serving.random_numbers import normals
from kerastoolkit.tasks.reconstruction import reconstruction
from kerastoolkit.tasks.variational import variational

SHAPE, LATENT = (4, 4, 1), 2


def preprocess_of(shape):
    pixels = keras.Input(shape, name="image")
    return keras.Model(pixels, keras.layers.Rescaling(1 / 255, name="intensities")(pixels), name="preprocess")


def serving_of(network, task):
    return serving_model(preprocess=preprocess_of(network.inputs[0].shape[1:]), network=network, task=task)


@pytest.fixture(scope="module", params=["bernoulli", "gaussian"])
def likelihood(request):
    return request.param


@pytest.fixture(scope="module")
def network(likelihood):
    """A tiny one whose codes differ from image to image, and whose images differ from code to code.

    Its posteriors are somewhat wider than the prior, so that no weight is large: their mean then converges fast.
    """
    keras.utils.set_random_seed(3)
    made = variational_autoencoder(input_shape=SHAPE, latent=LATENT, hidden=(8,), activation="tanh", likelihood=likelihood)
    generator = np.random.default_rng(4)
    for weight in made.get_layer("decoder").trainable_variables:
        weight.assign(generator.normal(0, 0.6, weight.shape))
    spread = made.get_layer("encoder").get_layer("log_variance")
    spread.kernel.assign(0.3 * spread.kernel)
    spread.bias.assign([0.5, 0.7])
    return made


@pytest.fixture(scope="module")
def endpoints(network):
    return autoencoder.variational_endpoints(decoded_model(serving_of(network, variational())))


@pytest.fixture(scope="module")
def images():
    """Pixels 0..255: two that are black and white, one that is grey."""
    generator = np.random.default_rng(0)
    binary = 255.0 * generator.integers(0, 2, (2, *SHAPE))
    return np.concatenate([binary, generator.uniform(0, 255, (1, *SHAPE))]).astype(np.float32)


def estimated(endpoints, images, samples, seeds):
    seeds = np.broadcast_to(seeds, len(images))
    given = {"image": tf.constant(images), "samples": tf.fill([len(images)], samples), "seed": tf.constant(seeds, tf.int32)}
    return {name: value.numpy() for name, value in endpoints["log_likelihood"](given).items()}


def fit_of(network, intensities, codes):
    """log p(x | z) for each image and code, in float64: (images, height, width, 1), (codes, latent) -> (images, codes)."""
    outputs = network.get_layer("decoder")(tf.constant(codes, tf.float32))
    x, logits = intensities.astype(np.float64)[:, None], np.asarray(outputs["logits"], np.float64)[None]
    if "pixel_log_variance" not in outputs:
        each = x * logits - np.logaddexp(0, logits)
    else:
        spread, mean = np.asarray(outputs["pixel_log_variance"], np.float64)[None], 1 / (1 + np.exp(-logits))
        each = -0.5 * (np.log(2 * np.pi) + spread + (x - mean) ** 2 / np.exp(spread))
    return each.sum(axis=(2, 3, 4))


def posterior_of(network, images):
    encoded = network.get_layer("encoder")(tf.constant(images / 255))
    return (np.asarray(encoded[name], np.float64) for name in ("mean", "log_variance"))


def noise_of(seed, samples):
    """The noise of the samples of an image of that seed."""
    return normals(tf.constant([(seed, number) for number in range(samples)], tf.int32), (LATENT,), stream=1).numpy()


def test_the_importance_weighted_estimate_agrees_with_the_integral_over_the_latent_plane(network, endpoints, images):
    line = np.linspace(-7, 7, 281)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    prior = -0.5 * np.square(grid).sum(axis=1) - np.log(2 * np.pi)
    integral = logsumexp(fit_of(network, images / 255, grid) + prior, axis=1) + 2 * np.log(line[1] - line[0])
    estimate = estimated(endpoints, images, 40_000, [1, 2, 3])["log_likelihood"]
    np.testing.assert_allclose(estimate, integral, atol=0.03)
    assert np.ptp(integral) > 0.3  # the images differ by far more


def test_one_sample_gives_what_numpy_gives_from_the_same_noise(network, endpoints, images):
    found = estimated(endpoints, images, 1, [5, 6, 7])
    mean, log_variance = posterior_of(network, images)
    for number, seed in enumerate((5, 6, 7)):
        (noise,) = noise_of(seed, 1).astype(np.float64)
        code = mean[number] + np.exp(0.5 * log_variance[number]) * noise
        fit = fit_of(network, images[number : number + 1] / 255, code[None])[0, 0]
        log_prior = -0.5 * (code**2 + np.log(2 * np.pi)).sum()
        log_posterior = -0.5 * (noise**2 + log_variance[number] + np.log(2 * np.pi)).sum()
        assert found["expected_log_likelihood"][number] == pytest.approx(fit, rel=1e-4)
        assert found["log_likelihood"][number] == pytest.approx(fit + log_prior - log_posterior, rel=1e-4)


def test_many_samples_give_the_mean_of_the_weights_and_of_the_fits(network, endpoints, images):
    found = estimated(endpoints, images, 13, 11)
    mean, log_variance = posterior_of(network, images)
    for number in range(len(images)):
        noise = noise_of(11, 13).astype(np.float64)
        codes = mean[number] + np.exp(0.5 * log_variance[number]) * noise
        fits = fit_of(network, images[number : number + 1] / 255, codes)[0]
        weights = fits + 0.5 * (noise**2 - codes**2 + log_variance[number]).sum(axis=1)
        assert found["log_likelihood"][number] == pytest.approx(logsumexp(weights) - np.log(13), rel=1e-4)
        assert found["expected_log_likelihood"][number] == pytest.approx(fits.mean(), rel=1e-4)


def test_the_divergence_is_that_of_the_closed_formula_and_the_bound_the_fit_less_it(network, endpoints, images):
    found = estimated(endpoints, images, 4, 0)
    mean, log_variance = posterior_of(network, images)
    expected = -0.5 * (1 + log_variance - mean**2 - np.exp(log_variance)).sum(axis=1)  # Kingma & Welling 2013, appendix B
    np.testing.assert_allclose(found["divergence"], expected, rtol=1e-4)
    np.testing.assert_allclose(found["elbo"], found["expected_log_likelihood"] - expected, rtol=1e-4)


def test_the_bound_is_below_the_estimate_on_average(endpoints, images):
    found = estimated(endpoints, np.repeat(images, 20, axis=0), 50, np.arange(60))
    assert found["elbo"].mean() < found["log_likelihood"].mean() - 1e-3


@pytest.mark.parametrize("decoded_at_once", [1, 6, 10])
def test_how_many_are_decoded_at_once_changes_no_estimate(network, endpoints, images, monkeypatch, decoded_at_once):
    whole = estimated(endpoints, images, 7, [3, 4, 5])
    layer = inner_layer(endpoints["log_likelihood"], "likelihood")
    monkeypatch.setattr(layer, "decoded_at_once", decoded_at_once)  # 1, 2 and 3 of the 7 samples
    for name, values in estimated(endpoints, images, 7, [3, 4, 5]).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-5)


def test_an_image_is_never_decoded_more_often_at_once_than_said(endpoints, images, monkeypatch):
    sizes = []
    layer = inner_layer(endpoints["log_likelihood"], "likelihood")
    decoder = layer.decoder
    monkeypatch.setattr(layer, "decoded_at_once", 10)
    monkeypatch.setattr(layer, "decoder", lambda codes: sizes.append(len(codes)) or decoder(codes))
    estimated(endpoints, images, 7, [3, 4, 5])
    assert sizes == [9, 9, 9]  # 3 images, 3 samples each; the last two are left out


@pytest.mark.parametrize(("hidden", "filters", "widest"), [((6,), (), 64), ((100,), (), 100), ((6,), (8,), 8 * 8 * 8)])
def test_fewer_are_decoded_at_once_the_wider_the_decoders_widest_layer(hidden, filters, widest):
    network = variational_autoencoder(input_shape=(8, 8, 1), hidden=hidden, filters=filters)
    layer = autoencoder.LogLikelihood(network.get_layer("decoder"))
    assert layer.decoded_at_once == autoencoder.NUMBERS_AT_ONCE // widest


def test_an_image_has_the_same_estimate_alone_as_among_others(endpoints, images):
    together = estimated(endpoints, images, 7, [3, 4, 5])
    alone = estimated(endpoints, images[1:2], 7, [4])
    for name, values in alone.items():
        np.testing.assert_allclose(values, together[name][1:2], rtol=1e-5)


def test_a_batch_whose_size_is_known_beforehand_is_estimated_too(endpoints, images):
    model, seed = endpoints["log_likelihood"], tf.constant([4])
    compiled = tf.function(lambda image: model({"image": image, "samples": tf.constant([7]), "seed": seed}))
    found = compiled(tf.ensure_shape(tf.constant(images[1:2], tf.float32), (1, *images.shape[1:])))
    for name, values in estimated(endpoints, images[1:2], 7, [4]).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)


def test_another_seed_gives_another_estimate_and_the_same_one_the_same(endpoints, images):
    first, again, other = (estimated(endpoints, images[:1], 3, seed)["log_likelihood"] for seed in (1, 1, 2))
    assert first == again != other


def test_at_least_one_sample_is_taken(endpoints, images):
    np.testing.assert_array_equal(*(estimated(endpoints, images, samples, 1)["elbo"] for samples in (0, 1)))


def test_reconstructing_is_decoding_the_code_that_encoding_gives(network, endpoints, images):
    encoded = endpoints["encode"](images)
    mean, log_variance = posterior_of(network, images)
    np.testing.assert_allclose(encoded["mean"], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(encoded["log_variance"], log_variance, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(encoded["code"], encoded["mean"])
    decoded = endpoints["decode"](encoded["code"])["image"]
    logits = np.asarray(network.get_layer("decoder")(encoded["code"])["logits"])
    np.testing.assert_allclose(decoded, 255 / (1 + np.exp(-logits)), rtol=1e-4)
    np.testing.assert_allclose(endpoints["reconstruct"](images)["reconstruction"], decoded, rtol=1e-5)


def test_serving_answers_the_image_its_reconstruction_and_its_code(network, endpoints, images):
    answers = decoded_model(serving_of(network, variational()))(images)
    np.testing.assert_allclose(answers["image"], images, rtol=1e-5)
    np.testing.assert_allclose(answers["reconstruction"], endpoints["reconstruct"](images)["reconstruction"], rtol=1e-5)
    np.testing.assert_allclose(answers["code"], endpoints["encode"](images)["code"], rtol=1e-5)


def test_a_sample_is_the_decoded_prior_draw_of_its_own_seed_alone(endpoints):
    together = endpoints["sample"](tf.constant([7, 8, 9]))["image"].numpy()
    np.testing.assert_allclose(endpoints["sample"](tf.constant([8]))["image"][0], together[1], rtol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-3)
    draws = normals(tf.constant([[7, 0], [8, 0], [9, 0]]), (LATENT,))
    np.testing.assert_allclose(endpoints["decode"](draws)["image"], together, rtol=1e-5)


def test_samples_of_the_prior_are_standard_normal():
    codes = autoencoder.PriorSample(LATENT)(tf.range(20_000)).numpy()
    assert codes.shape == (20_000, LATENT)
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=0.035)  # standard error 0.007
    np.testing.assert_allclose(np.cov(codes.T), np.eye(LATENT), atol=0.05)  # standard error 0.01


@pytest.fixture(scope="module")
def files():
    generator, contents = np.random.default_rng(1), []
    for kind, size in (("PNG", (9, 5)), ("JPEG", (4, 4))):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, kind)
        contents.append(file.getvalue())
    return tf.constant(contents)


@pytest.fixture(scope="module")
def colourful():
    """The serving model of an autoencoder without random codes."""
    keras.utils.set_random_seed(0)
    made = convolutional_autoencoder(input_shape=(8, 6, 3), code=5, filters=(4,))
    return serving_of(made, reconstruction())


def test_endpoints_of_images_take_the_bytes_of_files(colourful, files):
    own = autoencoder.coding_endpoints(decoded_model(colourful))
    (decode,) = (layer for layer in colourful.layers if layer.name == "decode_images")
    pixels = decode(files)
    assert pixels.shape == (2, 8, 6, 3)
    for name, output in (("encode", "code"), ("reconstruct", "reconstruction")):
        found = from_encoded(colourful, own[name])(files)[output]
        np.testing.assert_allclose(found, own[name](pixels)[output], rtol=1e-5, atol=1e-6)


def test_endpoints_of_codes_and_seeds_stay_as_they_are(colourful):
    own = autoencoder.coding_endpoints(decoded_model(colourful))
    assert from_encoded(colourful, own["decode"]) is own["decode"]


def test_where_nothing_is_encoded_endpoints_stay_as_they_are(colourful):
    decoded = decoded_model(colourful)
    own = autoencoder.coding_endpoints(decoded)
    assert from_encoded(decoded, own["encode"]) is own["encode"]


def test_other_inputs_beside_a_files_bytes_are_handed_on(files):
    keras.utils.set_random_seed(0)
    serving = serving_of(variational_autoencoder(input_shape=(4, 4, 3), latent=2, hidden=(8,)), variational())
    own = autoencoder.variational_endpoints(decoded_model(serving))["log_likelihood"]
    (decode,) = (layer for layer in serving.layers if layer.name == "decode_images")
    numbers = {"samples": tf.constant([3, 3]), "seed": tf.constant([1, 2])}
    found = from_encoded(serving, own)({"image": files, **numbers})
    expected = own({"image": decode(files), **numbers})
    np.testing.assert_allclose(found["log_likelihood"], expected["log_likelihood"], rtol=1e-5)


def test_a_code_without_random_numbers_has_no_posterior(colourful):
    encoded = autoencoder.coding_endpoints(decoded_model(colourful))["encode"](tf.zeros((2, 8, 6, 3)))
    assert {name: tuple(value.shape) for name, value in encoded.items()} == {"code": (2, 5)}


def test_an_inner_layer_is_found_at_any_depth(colourful):
    assert inner_layer(colourful, "encoder") is inner_layer(decoded_model(colourful), "encoder")
    assert inner_layer(colourful, "conv1").kernel.shape == (3, 3, 3, 4)


def test_a_layer_that_a_model_lacks_is_refused_by_name(colourful):
    with pytest.raises(InputError, match="the model serving has no discriminator"):
        inner_layer(colourful, "discriminator")
