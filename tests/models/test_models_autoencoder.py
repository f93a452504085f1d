"""Autoencoders: shapes, counts, the published example's numbers, noise, learning, saving and errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from kerastoolkit import models
from kerastoolkit.losses import bernoulli_nll, image_nll
from kerastoolkit.models.variational_autoencoder import LEAST_PIXEL_LOG_VARIANCE

# Those whose output is a tensor of logits.
PLAIN = {
    "deep": lambda shape: models.deep_autoencoder(input_shape=shape, code=5, hidden=(64, 16)),
    "convolutional": lambda shape: models.convolutional_autoencoder(input_shape=shape, code=5, filters=(8, 12)),
    "convolutional with a dense layer": lambda shape: models.convolutional_autoencoder(
        input_shape=shape, code=5, filters=(8, 12, 4), hidden=(16,), activation="elu"
    ),
    "sparse": lambda shape: models.sparse_autoencoder(input_shape=shape, code=32, weight=0.01),
    "sparse by l1": lambda shape: models.sparse_autoencoder(input_shape=shape, code=32, penalty="l1", weight=0.01, hidden=(16,)),
    "denoising": lambda shape: models.denoising_autoencoder(input_shape=shape, hidden=(64, 32)),
    "denoising with convolutions": lambda shape: models.denoising_autoencoder(
        input_shape=shape, noise="gaussian", level=(0.1, 0.3), filters=(8, 12)
    ),
}
VARIATIONAL = {
    "variational": lambda shape: models.variational_autoencoder(input_shape=shape, hidden=(32,), latent=4),
    "variational with convolutions": lambda shape: models.variational_autoencoder(
        input_shape=shape, filters=(8, 12), hidden=(16,), decoder_hidden=(), latent=4, beta=0.5, free_bits=0.1
    ),
    "variational with variances": lambda shape: models.variational_autoencoder(
        input_shape=shape, hidden=(32,), latent=4, likelihood="gaussian"
    ),
    "variational with convolutions and variances": lambda shape: models.variational_autoencoder(
        input_shape=shape, filters=(8, 12), hidden=(16,), latent=4, likelihood="gaussian", activation="tanh"
    ),
}
ALL = PLAIN | VARIATIONAL


def intensities(shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


def same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(9, 7, 3), (8, 8, 1), (1, 2, 1), (5, 12, 2)])
@pytest.mark.parametrize("name", ALL)
def test_outputs_have_the_shape_of_the_image(name, shape):
    outputs = ALL[name](shape)(intensities((2, *shape)))
    pixels = [outputs] if name in PLAIN else [outputs[key] for key in ("logits", "pixel_log_variance") if key in outputs]
    assert [tuple(each.shape) for each in pixels] == [(2, *shape)] * len(pixels)


@pytest.mark.parametrize("name", VARIATIONAL)
def test_a_variational_autoencoder_tells_its_posterior_and_the_gaussian_one_the_pixels_variance(name):
    outputs = VARIATIONAL[name]((9, 7, 3)).output
    pixels = {"logits", "pixel_log_variance"} if "variances" in name else {"logits"}
    assert set(outputs) == {"mean", "log_variance"} | pixels
    assert outputs["mean"].shape == outputs["log_variance"].shape == (None, 4)


@pytest.mark.parametrize("name", PLAIN)
def test_the_decoder_of_the_encoders_code_is_the_output(name):
    network, images = PLAIN[name]((9, 7, 3)), intensities((2, 9, 7, 3))
    code = network.get_layer("encoder")(images)
    same(network.get_layer("decoder")(code), network(images))


@pytest.mark.parametrize("name", VARIATIONAL)
def test_a_variational_output_is_the_encoders_posterior_and_its_samples_decoded(name):
    network, images = VARIATIONAL[name]((9, 7, 3)), intensities((2, 9, 7, 3))
    sample = network.get_layer("sample")
    before = sample.seed_generator.state.numpy()
    posterior = network.get_layer("encoder")(images)
    decoded = network.get_layer("decoder")(sample([posterior["mean"], posterior["log_variance"]]))
    sample.seed_generator.state.assign(before)  # the same noise again
    outputs = network(images)
    assert set(outputs) == set(posterior) | set(decoded)
    for key, value in {**posterior, **decoded}.items():
        same(outputs[key], value)


def test_beta_weighs_the_divergence_in_the_networks_losses():
    network = models.variational_autoencoder(input_shape=(4, 4, 1), hidden=(8,), latent=3, beta=0.5)
    outputs = network(intensities((6, 4, 4, 1)))
    mean, log_variance = np.asarray(outputs["mean"]), np.asarray(outputs["log_variance"])
    divergence = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance)
    assert [float(loss) for loss in network.losses] == pytest.approx([0.5 * divergence.sum(axis=1).mean()], rel=1e-5)


def test_free_bits_are_the_floor_of_each_latent_dimension_in_the_networks_losses():
    network = models.variational_autoencoder(input_shape=(4, 4, 1), hidden=(8,), latent=3, beta=0.5, free_bits=100.0)
    network(intensities((6, 4, 4, 1)))
    assert [float(loss) for loss in network.losses] == pytest.approx([0.5 * 3 * 100])


def test_codes_have_the_lengths_asked_for_and_a_convolutional_denoiser_keeps_its_map():
    shape = (9, 7, 3)
    codes = {name: PLAIN[name](shape).get_layer("encoder").output.shape[1:] for name in PLAIN}
    assert codes == {
        "deep": (5,), "convolutional": (5,), "convolutional with a dense layer": (5,), "sparse": (32,), "sparse by l1": (32,),
        "denoising": (32,), "denoising with convolutions": (3, 2, 12),
    }  # fmt: skip


def test_codes_are_linear_between_0_and_1_or_positive_as_the_builder_says():
    def code(network):
        network.set_weights([20 * np.random.default_rng(0).normal(size=weight.shape) for weight in network.get_weights()])
        return np.asarray(network.get_layer("encoder")(intensities((16, 4, 4, 1))))

    shape = (4, 4, 1)
    for linear in (models.deep_autoencoder(input_shape=shape, hidden=(8,)), models.convolutional_autoencoder(input_shape=shape)):
        assert code(linear).min() < -1 and code(linear).max() > 1
    by_rate, by_l1 = (code(models.sparse_autoencoder(input_shape=shape, penalty=name)) for name in ("kullback_leibler", "l1"))
    assert by_rate.min() >= 0 and by_rate.max() <= 1 and by_rate.max() > 0.9
    assert by_l1.min() == 0 and by_l1.max() > 1


def test_the_papers_deep_autoencoder_has_its_count():
    down = (784 * 1000 + 1000) + (1000 * 500 + 500) + (500 * 250 + 250) + (250 * 30 + 30)
    up = (30 * 250 + 250) + (250 * 500 + 500) + (500 * 1000 + 1000) + (1000 * 784 + 784)
    assert down + up == 2_837_314
    assert models.deep_autoencoder(input_shape=(28, 28, 1)).count_params() == down + up


def test_a_convolutional_autoencoder_has_the_count_of_its_layers():
    # Sides 9 x 7, 5 x 4, 3 x 2.
    down = (9 * 3 * 8 + 8) + (9 * 8 * 12 + 12) + (3 * 2 * 12 * 5 + 5)
    up = (5 * 3 * 2 * 12 + 3 * 2 * 12) + (9 * 12 * 12 + 12) + (9 * 12 * 8 + 8) + (9 * 8 * 3 + 3)
    assert PLAIN["convolutional"]((9, 7, 3)).count_params() == down + up


def test_ngs_sparse_autoencoder_has_one_layer_on_each_side():
    assert models.sparse_autoencoder(input_shape=(28, 28, 1)).count_params() == 784 * 196 + 196 + 196 * 784 + 784


def test_a_denoising_autoencoder_has_the_count_of_its_layers():
    network = models.denoising_autoencoder(input_shape=(28, 28, 1), hidden=(500, 100))
    assert network.count_params() == (784 * 500 + 500) + (500 * 100 + 100) + (100 * 500 + 500) + (500 * 784 + 784)


def test_a_convolutional_denoising_autoencoder_has_the_count_of_its_layers():
    network = models.denoising_autoencoder(input_shape=(28, 28, 1), filters=(8, 12))
    down = (9 * 1 * 8 + 8) + (9 * 8 * 12 + 12)
    up = (9 * 12 * 12 + 12) + (9 * 12 * 8 + 8) + (9 * 8 * 1 + 1)
    assert network.count_params() == down + up


def test_a_variance_for_each_pixel_doubles_the_last_layer():
    count = {
        likelihood: models.variational_autoencoder(input_shape=(28, 28, 1), likelihood=likelihood).count_params()
        for likelihood in ("bernoulli", "gaussian")
    }
    assert count["bernoulli"] == (784 * 500 + 500) + 2 * (500 * 2 + 2) + (2 * 500 + 500) + (500 * 784 + 784)
    assert count["gaussian"] == count["bernoulli"] + 500 * 784 + 784


# The architecture of "Variational AutoEncoder", https://keras.io/examples/generative/vae/.
EXAMPLE = {"input_shape": (28, 28, 1), "latent": 2, "filters": (32, 64), "hidden": (16,), "decoder_hidden": ()}


def test_the_variational_autoencoder_of_the_keras_example_has_the_counts_that_it_prints():
    network = models.variational_autoencoder(**EXAMPLE)
    assert network.get_layer("encoder").count_params() == 69_076
    assert network.get_layer("decoder").count_params() == 65_089


def example_by_plain_layers():
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(32, 3, activation="relu", strides=2, padding="same")(inputs)
    x = layers.Conv2D(64, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu")(x)
    encoder = keras.Model(inputs, [layers.Dense(2, name="z_mean")(x), layers.Dense(2, name="z_log_var")(x)])
    code = keras.Input((2,))
    x = layers.Dense(7 * 7 * 64, activation="relu")(code)
    x = layers.Reshape((7, 7, 64))(x)
    x = layers.Conv2DTranspose(64, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(32, 3, activation="relu", strides=2, padding="same")(x)
    return encoder, keras.Model(code, layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x))


def test_weights_of_the_keras_example_give_its_outputs():
    encoder, decoder = example_by_plain_layers()
    generator = np.random.default_rng(0)
    for part in (encoder, decoder):
        part.set_weights([0.1 * generator.normal(size=weight.shape) for weight in part.get_weights()])
    network = models.variational_autoencoder(**EXAMPLE)
    ours, back = network.get_layer("encoder"), network.get_layer("decoder")
    theirs = [layer.get_weights() for layer in encoder.layers if layer.weights]
    for name, weights in zip(("conv1", "conv2", "hidden1", "mean", "log_variance"), theirs, strict=True):
        ours.get_layer(name).set_weights(weights)
    theirs = [layer.get_weights() for layer in decoder.layers if layer.weights]
    for name, weights in zip(("spread", "transposed2", "transposed1", "logits"), theirs, strict=True):
        back.get_layer(name).set_weights(weights)

    images, codes = intensities((3, 28, 28, 1)), generator.normal(size=(3, 2)).astype("float32")
    mean, log_variance = encoder(images)
    posterior = ours(images)
    same(posterior["mean"], mean)
    same(posterior["log_variance"], log_variance)
    assert np.asarray(mean).std() > 0.01 and np.asarray(decoder(codes)).std() > 0.01
    same(ops.sigmoid(back(codes)["logits"]), decoder(codes))


def test_the_variance_of_a_pixel_has_a_floor_and_no_ceiling():
    decoder = VARIATIONAL["variational with variances"]((4, 4, 1)).get_layer("decoder")
    decoder.set_weights([20 * np.random.default_rng(0).normal(size=weight.shape) for weight in decoder.get_weights()])
    spread = np.asarray(decoder(np.random.default_rng(1).normal(size=(50, 4)))["pixel_log_variance"])
    assert LEAST_PIXEL_LOG_VARIANCE == pytest.approx(2 * np.log(0.02))
    assert spread.min() == pytest.approx(2 * np.log(0.02))
    assert spread.max() > 10


def test_logits_and_variances_are_different_pixels_of_the_last_layer():
    decoder = VARIATIONAL["variational with variances"]((4, 4, 3)).get_layer("decoder")
    decoder.get_layer("pixels").set_weights([np.zeros((32, 96)), np.tile([1.0, 2.0, 3.0, -1.0, -2.0, -3.0], 16)])
    outputs = decoder(np.zeros((1, 4)))
    np.testing.assert_array_equal(outputs["logits"][0, 2, 3], [1, 2, 3])
    np.testing.assert_array_equal(outputs["pixel_log_variance"][0, 2, 3], [-1, -2, -3])


@pytest.mark.parametrize("noise", ["gaussian", "masking", "salt_and_pepper"])
def test_a_denoising_autoencoder_is_random_in_training_and_not_outside(noise):
    network, images = models.denoising_autoencoder(input_shape=(6, 6, 1), noise=noise, hidden=(8,)), intensities((3, 6, 6, 1))
    np.testing.assert_array_equal(network(images, training=False), network(images, training=False))
    assert (np.asarray(network(images, training=True)) != np.asarray(network(images, training=True))).any()


def test_the_level_of_a_denoising_autoencoder_is_one_number_or_a_pair():
    for level, lowest, highest in ((0.3, 0.3, 0.3), ((0.1, 0.4), 0.1, 0.4), ([0.1, 0.4], 0.1, 0.4)):
        layer = models.denoising_autoencoder(input_shape=(4, 4, 1), level=level, hidden=(8,)).get_layer("corruption")
        assert (layer.kind, layer.lowest, layer.highest) == ("masking", lowest, highest)


@pytest.mark.parametrize("name", ALL)
def test_a_saved_network_gives_the_same_outputs(name, tmp_path):
    network, images = ALL[name]((9, 7, 3)), intensities((2, 9, 7, 3))
    keras.saving.save_model(network, tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    if name in PLAIN:
        np.testing.assert_array_equal(again(images), network(images))
        return
    states = [each.get_layer("sample").seed_generator.state for each in (network, again)]
    states[1].assign(states[0].numpy())  # a file holds the weights, and not where random numbers have got to
    ours, theirs = network(images), again(images)
    assert set(ours) == set(theirs)
    for key in ours:
        np.testing.assert_array_equal(theirs[key], ours[key])
    assert [float(loss) for loss in again.losses] == [float(loss) for loss in network.losses]


@pytest.mark.parametrize("name", ALL)
def test_a_network_learns_six_images_by_heart(name):
    keras.utils.set_random_seed(0)
    network, loss = ALL[name]((8, 8, 1)), bernoulli_nll if name in PLAIN else image_nll
    images = tf.constant(np.random.default_rng(0).integers(0, 2, size=(6, 8, 8, 1)), tf.float32)
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(network.trainable_variables)

    def total(training):
        outputs = network(images, training=training)
        return tf.reduce_mean(loss(images, outputs)) + sum(network.losses)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = total(training=True)
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(value, [variable.value for variable in variables]), variables)

    first = float(total(training=False))
    for _ in range(200):
        step()
    assert first > 40  # 64 pixels by chance: 64 ln 2 = 44
    assert float(total(training=False)) < 0.25 * first


SHAPE = {"input_shape": (8, 8, 1)}
IN_ALL = [
    ({"activation": "swish"}, "activation must be 'relu', 'leaky_relu', 'elu', 'softplus', 'tanh', 'sigmoid', got 'swish'"),
    ({"filters": (8, 0)}, r"filters must be positive integers, or \(\) for none, got \(8, 0\)"),
    ({"filters": (8, True)}, r"filters must be positive integers, or \(\) for none, got \(8, True\)"),
    ({"filters": 8}, r"filters must be positive integers, or \(\) for none, got 8"),
]
HIDDEN = [
    ({"hidden": (8, -1)}, r"hidden must be positive integers, or \(\) for none, got \(8, -1\)"),
    ({"hidden": (2.5,)}, r"hidden must be positive integers, or \(\) for none, got \(2.5,\)"),
    ({"hidden": None}, "hidden must be .*got None"),
    ({"hidden": 8}, r"hidden must be positive integers, or \(\) for none, got 8"),
]
SHAPES = [
    ({"input_shape": shape}, r"input_shape must be \(height, width, channels\), fixed and positive, got")
    for shape in ((8, 8), (8, 8, 0), (None, None, 1), (8, -8, 1), (8.0, 8, 1), (8, 8, True), "abc")
]
NO_SIZES = {0: "0", -1: "-1", 2.5: "2.5", "2": "'2'", (2, 2): r"\(2, 2\)"}
CODE = [({"code": code}, f"code must be a positive integer, got {told}") for code, told in NO_SIZES.items()]
WRONG = {
    models.deep_autoencoder: SHAPES + CODE + HIDDEN + IN_ALL[:1],
    models.convolutional_autoencoder: [
        *SHAPES, *CODE, *HIDDEN, *IN_ALL,
        ({"filters": ()}, r"filters must be one or more positive integers, got \(\)"),
    ],
    models.sparse_autoencoder: [
        *SHAPES, *CODE, *HIDDEN,
        ({"penalty": "l2"}, "penalty must be 'kullback_leibler' or 'l1', got 'l2'"),
        ({"weight": -1}, "weight must be 0 or more, got -1"),
        ({"target_rate": 1}, "target_rate must be between 0 and 1, got 1"),
    ],
    models.denoising_autoencoder: [
        *SHAPES, *HIDDEN, *IN_ALL,
        ({"noise": "blur"}, "noise must be 'gaussian', 'masking', 'salt_and_pepper', got 'blur'"),
        ({"level": 1.5}, "a level of noise must be in 0..1, got 1.5"),
        ({"level": (0.1, -0.5)}, "a level of noise must be in 0..1, got -0.5"),
        ({"level": (0.1,)}, r"level must be a number or a pair \(lowest, highest\), got \(0.1,\)"),
        ({"level": (0.1, 0.2, 0.3)}, r"level must be a number or a pair \(lowest, highest\), got \(0.1, 0.2, 0.3\)"),
        ({"level": (0.5, 0.1)}, "the lowest level of noise must be at most the highest, got 0.5 and 0.1"),
        ({"hidden": ()}, r"hidden must be one or more positive integers, got \(\)"),
    ],
    models.variational_autoencoder: [
        *SHAPES, *HIDDEN, *IN_ALL,
        *(({"latent": latent}, f"latent must be a positive integer, got {told}") for latent, told in NO_SIZES.items()),
        ({"decoder_hidden": (0,)}, r"decoder_hidden must be positive integers, or \(\) for none, got \(0,\)"),
        ({"likelihood": "laplace"}, "likelihood must be 'bernoulli' or 'gaussian', got 'laplace'"),
        ({"beta": -0.5}, "beta must be 0 or more, got -0.5"),
        ({"free_bits": -0.5}, "free_bits must be 0 or more, got -0.5"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("builder", "change", "message"),
    [(builder, *case) for builder, cases in WRONG.items() for case in cases],
    ids=lambda value: getattr(value, "__name__", None) or (str(value) if isinstance(value, dict) else ""),
)
def test_a_wrong_argument_is_refused(builder, change, message):
    with pytest.raises(ValueError, match=message):
        builder(**SHAPE | change)
