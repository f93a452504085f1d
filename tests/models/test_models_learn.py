"""Each family can fit one small batch: what gradients cannot reach, or an activation kills, it cannot."""

import keras
import numpy as np
import pytest

from kerastoolkit import models
from kerastoolkit.losses import pixel_cross_entropy, softmax_cross_entropy

NETWORKS = {
    "cnn": lambda: models.cnn(classes=4, input_shape=(16, 16, 3), filters=(8, 16), dense=(32,)),
    "resnet_cifar": lambda: models.resnet_cifar(depth=8, classes=4, input_shape=(16, 16, 3)),
    "vgg11": lambda: models.vgg11(classes=4, input_shape=(32, 32, 3), batch_norm=True, head="cifar"),
    "resnet18": lambda: models.resnet18(classes=4, input_shape=(32, 32, 3)),
}
SLOW = ("vgg11", "resnet18")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NETWORKS])
def test_a_network_fits_eight_images_with_random_labels(name):
    keras.utils.set_random_seed(0)
    network, generator = NETWORKS[name](), np.random.default_rng(0)
    images = generator.normal(size=(8, *network.input_shape[1:])).astype("float32")
    labels = np.array([0, 1, 2, 3, 3, 2, 1, 0])
    network.compile(keras.optimizers.Adam(1e-3), lambda truths, logits: softmax_cross_entropy(truths, logits))
    history = network.fit(images, labels, batch_size=8, epochs=40, verbose=0, shuffle=False).history["loss"]
    assert history[0] > 0.8  # four classes by chance: ln 4 = 1.39
    assert history[-1] < 0.05


def images_of_squares(side, classes):
    """Two images of noise, cut into squares of 16 x 16 pixels, each of a class by chance, but for a row that is ignored."""
    generator = np.random.default_rng(0)
    squares = generator.integers(0, classes, (2, side // 16, side // 16))
    truths = squares.repeat(16, axis=1).repeat(16, axis=2).astype("uint8")
    truths[:, 0] = 255
    return generator.normal(size=(2, side, side, 3)).astype("float32"), truths


def pixel_accuracy(network, images, truths):
    known = truths != 255
    return (np.asarray(network(images, training=False)).argmax(axis=-1) == truths)[known].mean()


@pytest.mark.parametrize(
    "builder",
    [
        lambda: models.unet(classes=4, filters=16, depth=2, batch_norm=True, dropout=0.0),
        pytest.param(lambda: models.unet(classes=4, filters=16, depth=2, batch_norm=True, up="resize", padding="mirror",
                                         dropout=0.0), marks=pytest.mark.slow),
        pytest.param(lambda: models.fcn8s(classes=4, backbone="vgg11", batch_norm=True, width=32, dropout=0.0),
                     marks=pytest.mark.slow),
    ],
)
def test_a_network_fits_the_classes_of_squares_in_two_images(builder):
    keras.utils.set_random_seed(0)
    network, (images, truths) = builder(), images_of_squares(48, 4)
    network.compile(keras.optimizers.Adam(2e-3), lambda truths, logits: pixel_cross_entropy(truths, logits))
    before = [variable.numpy() for variable in network.trainable_variables]
    network.fit(images, truths, batch_size=2, epochs=50, verbose=0, shuffle=False)
    assert pixel_accuracy(network, images, truths) > 0.95
    # Random features would do for so few squares: each layer must have learned.
    assert all((start != end.numpy()).any() for start, end in zip(before, network.trainable_variables, strict=True))


@pytest.mark.slow
def test_fcn8s_of_the_papers_size_without_batch_norm_fits_two_images():
    keras.utils.set_random_seed(0)
    network, (images, truths) = models.fcn8s(classes=3), images_of_squares(64, 3)
    images *= 60  # as intensities of 0 to 255 without their mean, which the network takes
    network.compile(keras.optimizers.Adam(1e-4), lambda truths, logits: pixel_cross_entropy(truths, logits))
    for _ in range(8):  # tens of steps, about 12 s each on two cores; five are enough
        network.fit(images, truths, batch_size=2, epochs=10, verbose=0, shuffle=False)
        if pixel_accuracy(network, images, truths) > 0.95:
            return
    raise AssertionError(f"pixel accuracy {pixel_accuracy(network, images, truths)} after 80 steps")


def convolutional_network_by_hand(image, kernel, bias, dense, dense_bias, pool):
    """cnn(filters=(1,), dense=()) written out: a 3 x 3 convolution over zeros, ReLU, 2 x 2 pools, one linear layer."""
    padded = np.pad(image, 1)
    side = image.shape[0]
    convolved = np.array([[(padded[i : i + 3, j : j + 3] * kernel).sum() + bias for j in range(side)] for i in range(side)])
    active = np.maximum(convolved, 0)
    pooled = np.array([[pool(active[i : i + 2, j : j + 2]) for j in range(0, side, 2)] for i in range(0, side, 2)])
    return pooled.reshape(-1) @ dense + dense_bias


@pytest.mark.parametrize(("pooling", "pool"), [("max", np.max), ("average", np.mean)])
def test_the_numbers_of_a_convolutional_network(pooling, pool):
    network = models.cnn(classes=2, input_shape=(4, 4, 1), filters=(1,), pooling=pooling, dense=())
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=weight.shape).astype("float32") for weight in network.weights]
    network.set_weights(weights)
    kernel, bias, dense, dense_bias = weights
    image = generator.normal(size=(4, 4)).astype("float32")
    expected = convolutional_network_by_hand(image, kernel[:, :, 0, 0], bias[0], dense, dense_bias, pool)
    np.testing.assert_allclose(network(image[None, :, :, None])[0], expected, rtol=1e-5)


def test_option_a_takes_every_second_pixel_and_adds_zero_channels():
    # With the last batch norm of a block at zero the block is its shortcut and a ReLU.
    network = models.resnet_cifar(depth=8, classes=2, input_shape=(7, 6, 3))
    network.get_layer("stage2_block1_conv2_norm").set_weights([np.zeros(32), np.zeros(32), np.zeros(32), np.ones(32)])
    inside = keras.Model(
        network.input, [network.get_layer("stage1_block1_relu").output, network.get_layer("stage2_block1_relu").output]
    )
    before, after = inside(np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype("float32"))
    assert after.shape == (2, 4, 3, 32)
    np.testing.assert_array_equal(after[..., :16], before[:, ::2, ::2])
    np.testing.assert_array_equal(after[..., 16:], np.zeros((2, 4, 3, 16)))
