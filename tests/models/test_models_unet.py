"""U-Net against a NumPy twin, the paper's sizes, and images of any size."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import models
from kerastoolkit.weights import save_safetensors

SIZES = [(1, 1), (1, 9), (2, 3), (16, 32), (31, 33), (67, 45)]


def randomised(network):
    """Every weight drawn anew, biases and moving statistics too, so that the signal keeps its size."""
    generator = np.random.default_rng(0)
    for variable in network.weights:
        value = generator.normal(size=variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            value = 1 + 0.2 * np.abs(value)
        elif len(variable.shape) > 1:
            value = value * np.sqrt(2 / np.prod(variable.shape[:-1]))
        else:
            value = 0.1 * value
        variable.assign(value)
    return network


def images(*size, channels=3, batch=2):
    return np.random.default_rng(1).normal(size=(batch, *size, channels)).astype("float32")


def in_graph(network):
    """The network as an export has it: a graph that is made before any size is known."""
    unknown = tf.TensorSpec((None, None, None, network.input_shape[-1]))
    return tf.function(lambda image: network(image, training=False), input_signature=[unknown])


def assert_close(answer, expected):
    answer, expected = np.asarray(answer), np.asarray(expected)
    assert answer.shape == expected.shape and expected.std() > 1e-3  # there is something to compare
    assert np.abs(answer - expected).max() / np.abs(expected).max() < 1e-4


# The network written out.


def convolved(x, kernel, bias, before=0, after=0):
    padded = np.pad(x, ((before, after), (before, after), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(0, 1))  # (h, w, c, k, k)
    return np.einsum("hwcij,ijco->hwo", windows, kernel) + bias


def pooled(x):
    rows, columns = range(0, x.shape[0], 2), range(0, x.shape[1], 2)
    return np.array([[x[i : i + 2, j : j + 2].max(axis=(0, 1)) for j in columns] for i in rows])


def doubled_along(x, axis):
    """Linear interpolation at a quarter and at three quarters of each pixel; the first and last go on beyond their middles."""
    size = x.shape[axis]
    places = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
    lower = np.floor(places).astype(int)
    share = np.expand_dims(places - lower, tuple(range(1, x.ndim - axis)))
    return (1 - share) * x.take(lower, axis) + share * x.take(np.minimum(lower + 1, size - 1), axis)


def doubled(x, up, kernel, bias):
    if up == "resize":
        return convolved(doubled_along(doubled_along(x, 0), 1), kernel, bias, after=1)
    height, width, _ = x.shape
    return np.einsum("hwc,ijoc->hiwjo", x, kernel).reshape(2 * height, 2 * width, -1) + bias


def unet_by_hand(x, weights, depth, up, border):
    """Figure 1: ``border`` zeros are put around before each convolution of 3 x 3."""

    def two_convolutions(x, name):
        for index in (1, 2):
            x = np.maximum(convolved(x, *weights[f"{name}_conv{index}"], before=border, after=border), 0)
        return x

    skips = []
    for level in range(depth):
        skips.append(two_convolutions(x, f"down{level}"))
        x = pooled(skips[-1])
    x = two_convolutions(x, "bottom")
    for level, skip in reversed(list(enumerate(skips))):
        x = doubled(x, up, *weights[f"up{level}"])[: skip.shape[0], : skip.shape[1]]
        top, left = (skip.shape[0] - x.shape[0]) // 2, (skip.shape[1] - x.shape[1]) // 2
        skip = skip[top : top + x.shape[0], left : left + x.shape[1]]
        x = two_convolutions(np.concatenate([skip, x], axis=-1), f"join{level}")
    return convolved(x, *weights["scores"])


@pytest.mark.parametrize("up", ["transpose", "resize"])
@pytest.mark.parametrize(("padding", "size"), [("same", (12, 8)), ("same", (11, 6)), ("same", (1, 5)), ("valid", (44, 48))])
def test_the_answers_are_those_of_the_network_written_out(padding, size, up):
    network = randomised(models.unet(classes=2, filters=2, depth=2, up=up, padding=padding))
    weights = {layer.name: layer.get_weights() for layer in network.layers}
    expected = [unet_by_hand(image, weights, 2, up, int(padding == "same")) for image in images(*size)]
    assert_close(network(images(*size), training=False), expected)


def test_sizes_are_those_of_the_papers_figure_1():
    network = models.unet(classes=2, input_shape=(572, 572, 1), filters=1, padding="valid")
    side = {layer.name: layer.output.shape[1] for layer in network.layers}
    convolutions = [f"{name}_conv{index}" for name in ("down0", "down1", "down2", "down3", "bottom") for index in (1, 2)]
    assert [side[name] for name in convolutions] == [570, 568, 282, 280, 138, 136, 66, 64, 30, 28]
    assert [side[f"pool{level}"] for level in range(4)] == [284, 140, 68, 32]
    assert [side[f"up{level}"] for level in (3, 2, 1, 0)] == [56, 104, 200, 392]
    assert [side[f"crop{level}"] for level in (3, 2, 1, 0)] == [56, 104, 200, 392]
    assert [side[f"join{level}_conv1"] for level in (3, 2, 1, 0)] == [54, 102, 198, 390]
    assert [side[f"join{level}_conv2"] for level in (3, 2, 1, 0)] == [52, 100, 196, 388]
    assert network.output.shape == (None, 388, 388, 2)


def test_channels_are_those_of_the_papers_figure_1():
    network = models.unet(classes=2, input_shape=(None, None, 1), depth=4)
    channels = {layer.name: layer.output.shape[-1] for layer in network.layers}
    assert [channels[f"{name}_conv2"] for name in ("down0", "down1", "down2", "down3", "bottom")] == [64, 128, 256, 512, 1024]
    assert [channels[f"up{level}"] for level in (3, 2, 1, 0)] == [512, 256, 128, 64]
    assert [channels[f"join{level}"] for level in (3, 2, 1, 0)] == [1024, 512, 256, 128]
    assert [channels[f"join{level}_conv2"] for level in (3, 2, 1, 0)] == [512, 256, 128, 64]


def side_without_padding(side, depth):
    """Pixels that are left of a side, or None where a pool does not divide it or nothing is left."""
    for _ in range(depth):
        side -= 4
        if side <= 0 or side % 2:
            return None
        side //= 2
    side -= 4
    for _ in range(depth):
        side = 2 * side - 4
        if side <= 0:
            return None
    return side


@pytest.mark.parametrize(("depth", "sides"), [(1, range(1, 30)), (2, range(30, 60)), (3, range(80, 110)), (4, range(170, 206))])
def test_without_padding_the_sides_that_are_taken_are_those_of_which_something_is_left(depth, sides):
    taken = {}
    for side in sides:
        try:
            network = models.unet(classes=2, input_shape=(side, None, 1), filters=1, depth=depth, padding="valid")
            taken[side] = network.output.shape[1]
        except ValueError as error:
            assert "input_shape must have sides of" in str(error)
            taken[side] = None
    assert taken == {side: side_without_padding(side, depth) for side in sides}
    assert any(taken.values())


@pytest.mark.parametrize("up", ["transpose", "resize"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_mirrored_network_is_the_unpadded_one_on_an_image_that_numpy_mirrors(depth, up):
    arguments = {"classes": 2, "filters": 2, "depth": depth, "up": up}
    mirrored = randomised(models.unet(**arguments, padding="mirror"))
    unpadded = models.unet(**arguments, padding="valid")
    unpadded.set_weights(mirrored.get_weights())
    margin = {1: 8, 2: 20, 3: 44, 4: 92}[depth]  # half of what is lost
    height, width = 6, 21
    beyond = [margin, margin]
    for axis, side in enumerate((height, width)):
        while side_without_padding(margin + side + beyond[axis], depth) is None:
            beyond[axis] += 1
    around = np.pad(images(height, width), ((0, 0), (margin, beyond[0]), (margin, beyond[1]), (0, 0)), mode="reflect")
    expected = unpadded(around, training=False)[:, :height, :width]
    assert_close(mirrored(images(height, width), training=False), expected)


def test_a_tile_has_the_answers_that_the_whole_image_has_there():
    # The overlap-tile strategy: without padding an answer depends on the pixels around it alone, wherever the tile begins.
    network = randomised(models.unet(classes=2, filters=2, depth=2, padding="valid"))
    whole = images(76, 92)
    answers = np.asarray(network(whole, training=False))  # 20 pixels less on each side
    tile = network(whole[:, 16:72, 8:64], training=False)
    assert_close(tile, answers[:, 16:32, 8:24])


@pytest.mark.parametrize("padding", ["same", "mirror"])
@pytest.mark.parametrize("up", ["transpose", "resize"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_each_pixel_of_an_image_of_any_size_has_an_answer(depth, up, padding):
    network = models.unet(classes=3, input_shape=(None, None, 2), filters=1, depth=depth, up=up, padding=padding)
    assert network.output.shape == (None, None, None, 3)
    graph = in_graph(network)
    for size in SIZES:
        answer = graph(images(*size, channels=2)).numpy()
        assert answer.shape == (2, *size, 3) and np.isfinite(answer).all()


@pytest.mark.parametrize("arguments", [{"up": "transpose"}, {"up": "resize"}, {"padding": "mirror"}, {"batch_norm": True}])
@pytest.mark.parametrize("size", [(16, 32), (13, 7), (1, 1)])
def test_a_network_for_any_size_answers_as_one_for_this_size(size, arguments):
    anything = randomised(models.unet(classes=3, filters=2, depth=3, **arguments))
    fixed = models.unet(classes=3, input_shape=(*size, 3), filters=2, depth=3, **arguments)
    fixed.set_weights(anything.get_weights())
    assert fixed.output.shape == (None, *size, 3)
    assert_close(in_graph(anything)(images(*size)), fixed(images(*size), training=False))


def test_dropout_is_after_the_two_deepest_levels_and_what_is_joined_has_it():
    network = models.unet(classes=2, filters=2, dropout=0.3)
    dropouts = {layer.name: layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)}
    assert dropouts == {"dropout3": 0.3, "dropout4": 0.3}
    layer = network.get_layer
    assert layer("dropout3").input is layer("down3_conv2_relu").output
    assert layer("pool3").input is layer("join3").input[0] is layer("dropout3").output
    assert layer("dropout4").input is layer("bottom_conv2_relu").output
    assert layer("up3").input is layer("dropout4").output


def test_dropout_acts_in_training_alone():
    network = randomised(models.unet(classes=2, filters=4, depth=1))
    first, second = (np.asarray(network(images(8, 8), training=True)) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(network(images(8, 8)), network(images(8, 8), training=False))


def test_without_dropout_training_gives_the_same_answers():
    network = randomised(models.unet(classes=2, filters=4, depth=1, dropout=0.0))
    assert_close(network(images(8, 8), training=True), network(images(8, 8), training=False))


def test_batch_norm_makes_the_answers_independent_of_the_scale_of_a_convolution():
    network = randomised(models.unet(classes=2, filters=8, depth=2, batch_norm=True, dropout=0.0))
    before = np.asarray(network(images(16, 16), training=True))
    convolutions = [layer for layer in network.layers if getattr(layer, "kernel_size", None) == (3, 3)]
    assert len(convolutions) == 10 and not any(layer.use_bias for layer in convolutions)
    for layer in convolutions:
        layer.set_weights([8 * weight for weight in layer.get_weights()])
    after = np.asarray(network(images(16, 16), training=True))
    assert np.abs(after - before).max() / np.abs(before).max() < 0.02  # but for the number that is added to the variance


def test_convolutions_begin_as_the_paper_says():
    # Section 3: a standard deviation of sqrt(2 / N), N the incoming nodes of one neuron.
    network = models.unet(classes=2, filters=32, depth=2)
    for layer in (layer for layer in network.layers if getattr(layer, "kernel_size", None) == (3, 3)):
        kernel, bias = layer.get_weights()
        assert kernel.std() == pytest.approx(np.sqrt(2 / np.prod(kernel.shape[:3])), rel=0.15)  # the first has 864 numbers
        assert not bias.any()


@pytest.mark.parametrize("padding", ["same", "mirror"])
def test_a_saved_network_answers_the_same(tmp_path, padding):
    network = randomised(models.unet(classes=2, filters=2, depth=2, padding=padding))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(again(images(7, 5), training=False), network(images(7, 5), training=False))


@pytest.mark.parametrize("builder", [
    lambda **weights: models.unet(classes=2, filters=2, depth=2, batch_norm=True, **weights),
    lambda **weights: models.unet_with_encoder(classes=2, encoder="vgg11", filters=2, **weights),
])  # fmt: skip
def test_a_file_of_weights_gives_every_weight(tmp_path, builder):
    network = randomised(builder())
    save_safetensors(network, tmp_path / "w.safetensors")
    again = builder(weights=tmp_path / "w.safetensors")
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), again.get_weights(), strict=True))


@pytest.fixture(scope="module", params=["vgg11", "resnet18", "resnet50"])
def with_encoder(request):
    return randomised(models.unet_with_encoder(classes=3, encoder=request.param, filters=2))


def test_each_pixel_has_an_answer_after_an_encoder_too(with_encoder):
    assert with_encoder.output.shape == (None, None, None, 3)
    graph = in_graph(with_encoder)
    for size in SIZES:
        answer = graph(images(*size)).numpy()
        assert answer.shape == (2, *size, 3) and np.isfinite(answer).all()


def test_an_encoder_takes_zeros_below_and_at_the_right_for_what_32_does_not_divide(with_encoder):
    padded = np.pad(images(37, 5), ((0, 0), (0, 27), (0, 27), (0, 0)))
    assert_close(with_encoder(images(37, 5), training=False), with_encoder(padded, training=False)[:, :37, :5])


@pytest.mark.parametrize("size", [(32, 64), (33, 17)])
@pytest.mark.parametrize("up", ["transpose", "resize"])
def test_a_network_with_an_encoder_for_any_size_answers_as_one_for_this_size(size, up):
    arguments = {"classes": 3, "encoder": "vgg11", "filters": 2, "up": up}
    anything = randomised(models.unet_with_encoder(**arguments))
    fixed = models.unet_with_encoder(**arguments, input_shape=(*size, 3))
    fixed.set_weights(anything.get_weights())
    assert fixed.get_layer("pad").output.shape[1:3] == tuple(32 * math.ceil(side / 32) for side in size)
    assert fixed.output.shape == (None, *size, 3)
    assert_close(in_graph(anything)(images(*size)), fixed(images(*size), training=False))


def joined_features(network, sizes):
    """What the encoder hands over at the given sizes, and its last features."""
    joined = [network.get_layer(f"join{level}").input[0] for level in range(5) if 2**level in sizes]
    return keras.Model(network.input, [*joined, network.get_layer("up4_resize").input])


@pytest.mark.parametrize(("encoder", "reference", "sizes", "names"), [
    ("vgg16", "VGG16", (1, 2, 4, 8, 16),
     ["block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3", "block5_pool"]),
    ("resnet50", "ResNet50", (2, 4, 8, 16),
     ["conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"]),
])  # fmt: skip
def test_imagenet_weights_give_the_features_of_keras_applications(monkeypatch, encoder, reference, sizes, names):
    theirs = randomised(getattr(keras.applications, reference)(weights=None, include_top=encoder == "resnet50"))
    asked = []
    monkeypatch.setattr(keras.applications, reference, lambda **arguments: asked.append(arguments) or theirs)
    is_vgg = encoder == "vgg16"
    network = models.unet_with_encoder(classes=2, encoder=encoder, filters=2, batch_norm=not is_vgg, weights="imagenet")
    assert len(asked) == 1 and asked[0]["weights"] == "imagenet"
    assert asked[0].get("include_top", True) != is_vgg  # VGG's dense layers are not fetched
    expected = keras.Model(theirs.input, [theirs.get_layer(name).output for name in names])
    image = images(224, 224, batch=1)
    answers = joined_features(network, sizes)(image, training=False)
    for mine, other in zip(answers, expected(image, training=False), strict=True):
        assert_close(mine, other)


def test_dropout_after_an_encoder_acts_on_its_last_features():
    network = models.unet_with_encoder(classes=2, encoder="vgg11", filters=2, dropout=0.3)
    dropouts = [layer for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.rate for layer in dropouts] == [0.3]
    assert dropouts[0].input is network.get_layer("stage5_pool").output
    assert dropouts[0].output is network.get_layer("up4_resize").input


@pytest.mark.parametrize(("batch_norm", "convolutions"), [(True, 8 + 10), (False, 0)])
def test_batch_norm_is_in_both_paths_of_a_network_with_vgg(batch_norm, convolutions):
    network = models.unet_with_encoder(classes=2, encoder="vgg11", filters=2, batch_norm=batch_norm)
    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers) == convolutions
