"""Fully convolutional networks: scores written out, images of any size, beginnings from coarser networks and classifiers."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import models
from kerastoolkit.models._encoders import copy_encoder
from kerastoolkit.models.vgg import vgg_stages
from kerastoolkit.weights import save_safetensors

SIZES = [(1, 1), (1, 40), (31, 33), (32, 64), (67, 45)]
SMALL = {"classes": 3, "backbone": "vgg11", "width": 5}


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


def trained(network):
    """As ``randomised``, but for the enlargements, which interpolate as at the beginning."""
    kept = {layer.name: layer.get_weights() for layer in network.layers if layer.name.startswith("enlarge")}
    randomised(network)
    for name, weights in kept.items():
        network.get_layer(name).set_weights(weights)
    return network


def images(*size, batch=2):
    return np.random.default_rng(1).normal(size=(batch, *size, 3)).astype("float32")


def in_graph(network):
    """The network as an export has it: a graph that is made before any size is known."""
    unknown = tf.TensorSpec((None, None, None, 3))
    return tf.function(lambda image: network(image, training=False), input_signature=[unknown])


def inside(network, *names):
    """The network's outputs of some of its layers."""
    return keras.Model(network.input, [network.get_layer(name).output for name in names])


def assert_close(answer, expected):
    answer, expected = np.asarray(answer), np.asarray(expected)
    assert answer.shape == expected.shape and expected.std() > 1e-3  # there is something to compare
    assert np.abs(answer - expected).max() / np.abs(expected).max() < 1e-4


def same_weights(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


def enlarged(scores, kernel):
    """A transposed convolution pixel by pixel: scores (h, w, c) and a kernel of 2f x 2f -> (f h, f w, c)."""
    factor = len(kernel) // 2
    height, width, channels = scores.shape
    answer = np.zeros(((height + 1) * factor, (width + 1) * factor, channels))
    for i, j in np.ndindex(height, width):
        answer[i * factor : (i + 2) * factor, j * factor : (j + 2) * factor] += kernel @ scores[i, j]
    return answer[factor // 2 :, factor // 2 :][: height * factor, : width * factor]


def interpolation(factor, channels):
    """The kernel of a bilinear enlargement, (2f, 2f, channels, channels)."""
    tent = 1 - np.abs(np.arange(2 * factor) - factor + 0.5) / factor
    return (tent[:, None] * tent)[:, :, None, None] * np.eye(channels)


@pytest.mark.parametrize(("builder", "stages"), [(models.fcn32s, 0), (models.fcn16s, 1), (models.fcn8s, 2)])
def test_scores_of_finer_features_are_added_to_enlarged_ones_and_enlarged_in_turn(builder, stages):
    network = randomised(builder(**SMALL))
    weights = {layer.name: layer.get_weights() for layer in network.layers}
    image = images(64, 96, batch=1)
    features = inside(network, "fc7_relu", "stage4_pool", "stage3_pool")(image, training=False)
    coarse, *finer = (each[0].numpy() for each in features)

    def score(features, name):
        kernel, bias = weights[name]
        return features @ kernel[0, 0] + bias

    scores = score(coarse, "score")
    for stride, features in list(zip((16, 8), finer, strict=True))[:stages]:
        scores = enlarged(scores, *weights[f"enlarge_to_{stride}"]) + score(features, f"score_{stride}")
    expected = enlarged(scores, *weights[f"enlarge_from_{32 // 2**stages}"])
    assert_close(network(image, training=False)[0], expected)


def test_finer_features_are_a_residual_networks_stages():
    network = models.fcn8s(classes=3, backbone="resnet18")
    assert network.get_layer("score").input is network.get_layer("stage4_block2_relu").output
    assert network.get_layer("score_16").input is network.get_layer("stage3_block2_relu").output
    assert network.get_layer("score_8").input is network.get_layer("stage2_block2_relu").output


@pytest.mark.parametrize(("builder", "arguments"), [
    (models.fcn32s, SMALL),
    (models.fcn16s, SMALL),
    (models.fcn8s, {**SMALL, "batch_norm": True}),
    (models.fcn8s, {"classes": 3, "backbone": "resnet18"}),
    (models.fcn16s, {"classes": 3, "backbone": "resnet50", "width": 5}),
])  # fmt: skip
def test_each_pixel_of_an_image_of_any_size_has_an_answer(builder, arguments):
    network = randomised(builder(**arguments))
    assert network.output.shape == (None, None, None, 3)
    graph = in_graph(network)
    for size in SIZES:
        answer = graph(images(*size)).numpy()
        assert answer.shape == (2, *size, 3) and np.isfinite(answer).all()


@pytest.mark.parametrize("builder", [models.fcn32s, models.fcn16s, models.fcn8s])
@pytest.mark.parametrize("size", [(32, 64), (33, 17), (1, 1)])
def test_a_network_for_any_size_answers_as_one_for_this_size(size, builder):
    anything = randomised(builder(**SMALL))
    fixed = builder(**SMALL, input_shape=(*size, 3))
    fixed.set_weights(anything.get_weights())
    assert fixed.get_layer("pad").output.shape[1:3] == tuple(32 * math.ceil(side / 32) for side in size)
    assert fixed.output.shape == (None, *size, 3)
    assert_close(in_graph(anything)(images(*size)), fixed(images(*size), training=False))


@pytest.mark.parametrize("builder", [models.fcn32s, models.fcn8s])
def test_zeros_are_added_below_and_at_the_right_for_what_32_does_not_divide(builder):
    network = randomised(builder(**SMALL))
    padded = np.pad(images(37, 5), ((0, 0), (0, 27), (0, 27), (0, 0)))
    assert_close(network(images(37, 5), training=False), network(padded, training=False)[:, :37, :5])


def test_a_network_begins_with_scores_of_zero_and_enlargements_that_interpolate():
    network = models.fcn8s(**SMALL)
    assert not np.asarray(network(images(33, 40))).any()
    for name, factor in (("enlarge_to_16", 2), ("enlarge_to_8", 2), ("enlarge_from_8", 8)):
        (kernel,) = network.get_layer(name).get_weights()  # no bias
        np.testing.assert_allclose(kernel, interpolation(factor, 3), rtol=1e-6)


@pytest.mark.parametrize(("finer", "coarser", "stride"), [(models.fcn16s, models.fcn32s, 16), (models.fcn8s, models.fcn16s, 8)])
def test_a_network_begins_with_every_layer_of_a_coarser_one_but_the_last(finer, coarser, stride):
    start = randomised(coarser(**SMALL, batch_norm=True))
    network = finer(**SMALL, batch_norm=True, start=start)
    theirs = {layer.name: layer.get_weights() for layer in start.layers if layer.weights}
    last = theirs.pop(f"enlarge_from_{2 * stride}")
    assert last and len(theirs) > 20
    for name, weights in theirs.items():
        assert all(np.array_equal(a, b) for a, b in zip(network.get_layer(name).get_weights(), weights, strict=True)), name
    assert not any(weight.any() for weight in network.get_layer(f"score_{stride}").get_weights())


@pytest.mark.parametrize(("finer", "coarser", "stride"), [(models.fcn16s, models.fcn32s, 16), (models.fcn8s, models.fcn16s, 8)])
def test_a_network_begins_with_the_scores_of_a_coarser_one_enlarged_in_two_steps(finer, coarser, stride):
    start = trained(coarser(**SMALL))
    network = finer(**SMALL, start=start)
    image = images(64, 96, batch=1)
    scores = inside(start, "score" if stride == 16 else "sum_16")(image, training=False)[0].numpy()
    expected = enlarged(enlarged(scores, interpolation(2, 3)), interpolation(stride, 3))
    assert_close(network(image, training=False)[0], expected)


def test_a_network_begins_with_the_answers_of_a_coarser_one_where_two_steps_interpolate_as_one():
    # Two steps interpolate between points a quarter from each coarse pixel: from there to three quarters on the way to the next,
    # this is the same; near a coarse pixel, where the one step has a kink, and at the border it is not.
    start = trained(models.fcn32s(**SMALL))
    network = models.fcn16s(**SMALL, start=start)
    image = images(96, 128, batch=1)
    answer, expected = network(image, training=False)[0].numpy(), start(image, training=False)[0].numpy()
    rows, columns = ([place for place in range(16, side - 16) if 0.25 < (place - 15.5) / 32 % 1 < 0.75] for side in (96, 128))
    assert (len(rows), len(columns)) == (2 * 16, 3 * 16)
    assert_close(answer[np.ix_(rows, columns)], expected[np.ix_(rows, columns)])
    assert np.abs(answer - expected).max() > 1e-3


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5", "w.safetensors"])
def test_a_network_begins_from_a_file_as_from_the_network(tmp_path, name):
    start = randomised(models.fcn32s(**SMALL))
    path = tmp_path / name
    {".keras": start.save, ".h5": start.save_weights}.get(path.suffix, lambda path: save_safetensors(start, path))(path)
    assert same_weights(models.fcn16s(**SMALL, start=path), models.fcn16s(**SMALL, start=start))


@pytest.mark.parametrize("start", [
    lambda: models.fcn32s(**{**SMALL, "classes": 4}),
    lambda: models.fcn32s(**{**SMALL, "width": 6}),
    lambda: models.fcn32s(**{**SMALL, "width": 0}),
    lambda: models.fcn32s(**SMALL, batch_norm=True),
    lambda: models.fcn32s(**{**SMALL, "backbone": "vgg13"}),
    lambda: models.fcn32s(**{**SMALL, "backbone": "resnet18"}),
    lambda: models.fcn16s(**SMALL),
    lambda: models.fcn8s(**SMALL),
    lambda: models.vgg11(classes=3, input_shape=(32, 32, 3), head="cifar"),
])  # fmt: skip
def test_a_beginning_with_another_network_is_refused(start):
    with pytest.raises(ValueError, match="start must be an fcn32s of the same arguments as this fcn16s_vgg11, got "):
        models.fcn16s(**SMALL, start=start())


@pytest.mark.parametrize(("mine", "other"), [({"backbone": "vgg13"}, {}), ({"batch_norm": True}, {})])
def test_a_beginning_with_a_network_whose_layers_are_all_here_and_not_enough_is_refused(mine, other):
    with pytest.raises(ValueError, match="got fcn32s_vgg11, which differs in "):
        models.fcn16s(**{**SMALL, **mine}, start=models.fcn32s(**{**SMALL, **other}))


def test_fcn8s_does_not_begin_with_fcn32s():
    with pytest.raises(ValueError, match="start must be an fcn16s of the same arguments as this fcn8s_vgg11, got fcn32s_vgg11"):
        models.fcn8s(**SMALL, start=models.fcn32s(**SMALL))


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5", "w.safetensors"])
@pytest.mark.parametrize("other", [{"classes": 4}, {"width": 0}])
def test_a_file_of_another_network_is_refused(tmp_path, name, other):
    start = models.fcn32s(**{**SMALL, **other})
    path = tmp_path / name
    {".keras": start.save, ".h5": start.save_weights}.get(path.suffix, lambda path: save_safetensors(start, path))(path)
    with pytest.raises(ValueError):
        models.fcn16s(**SMALL, start=path)


def test_a_saved_network_answers_the_same(tmp_path):
    network = randomised(models.fcn8s(**SMALL))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(again(images(7, 45), training=False), network(images(7, 45), training=False))
    assert same_weights(models.fcn8s(**SMALL, weights=tmp_path / "network.keras"), network)


def test_dense_layers_become_convolutions_that_see_the_whole_image_from_its_middle():
    # Section 3.1. At 224 x 224 pixels the last pool has 7 x 7 places, and a kernel of 7 x 7 on the middle one covers them all.
    image = keras.Input((224, 224, 3))
    x = keras.layers.Flatten()(vgg_stages(image, 11, False)[-1][1])
    for index in (1, 2):
        x = keras.layers.Dense(5, activation="relu", name=f"dense{index}")(x)
    classifier = randomised(keras.Model(image, keras.layers.Dense(9, name="logits")(x)))
    network = models.fcn32s(**SMALL)
    copy_encoder(network, classifier)
    answer = inside(network, "fc7_dropout")(images(224, 224), training=False)
    assert answer.shape == (2, 7, 7, 5)
    assert_close(answer[:, 3, 3], inside(classifier, "dense2")(images(224, 224), training=False))


@pytest.mark.slow
def test_imagenet_weights_make_the_papers_network_the_classifier_in_the_middle_of_an_image(monkeypatch):
    theirs = randomised(keras.applications.VGG16(weights=None))
    monkeypatch.setattr(keras.applications, "VGG16", lambda **arguments: theirs if arguments["include_top"] else None)
    network = models.fcn32s(classes=2, weights="imagenet")
    answer = inside(network, "fc7_dropout")(images(224, 224, batch=1), training=False)
    assert_close(answer[:, 3, 3], inside(theirs, "fc2")(images(224, 224, batch=1), training=False))
    assert not np.asarray(network(images(224, 224, batch=1), training=False)).any()  # the scores are new


def test_imagenet_weights_of_a_narrower_network_are_those_of_the_convolutions_alone(monkeypatch):
    theirs = randomised(keras.applications.VGG16(weights=None, include_top=False))
    monkeypatch.setattr(keras.applications, "VGG16", lambda **arguments: None if arguments["include_top"] else theirs)
    network = models.fcn8s(classes=2, width=5, weights="imagenet")
    answers = inside(network, "stage3_pool", "stage4_pool", "stage5_pool")(images(64, 64), training=False)
    expected = inside(theirs, "block3_pool", "block4_pool", "block5_pool")(images(64, 64), training=False)
    for mine, other in zip(answers, expected, strict=True):
        assert_close(mine, other)
    assert network.get_layer("fc6").kernel.shape == (7, 7, 512, 5)


def test_dropout_is_after_each_of_the_two_fully_convolutional_layers():
    network = models.fcn8s(**SMALL, dropout=0.3)
    dropouts = {layer.name: layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)}
    assert dropouts == {"fc6_dropout": 0.3, "fc7_dropout": 0.3}
    assert network.get_layer("fc6_dropout").input is network.get_layer("fc6_relu").output
    assert network.get_layer("fc7").input is network.get_layer("fc6_dropout").output
    assert network.get_layer("fc7_dropout").input is network.get_layer("fc7_relu").output
    assert network.get_layer("score").input is network.get_layer("fc7_dropout").output


@pytest.mark.parametrize(("backbone", "width", "expected"), [
    ("vgg11", 7, [7, 7]), ("vgg11", 0, []), ("resnet18", None, []), ("resnet18", 7, [7, 7]),
])  # fmt: skip
def test_the_fully_convolutional_layers_are_as_wide_as_asked_for(backbone, width, expected):
    network = models.fcn32s(classes=3, backbone=backbone, width=width)
    assert [layer.filters for layer in network.layers if layer.name in ("fc6", "fc7")] == expected


def test_batch_norm_makes_the_answers_independent_of_the_scale_of_a_convolution():
    network = randomised(models.fcn8s(**SMALL, batch_norm=True, dropout=0.0))
    before = np.asarray(network(images(64, 64), training=True))
    convolutions = [layer for layer in network.layers if layer.name.startswith(("stage", "fc")) and hasattr(layer, "kernel")]
    assert len(convolutions) == 8 + 2
    for layer in convolutions:
        layer.set_weights([8 * weight for weight in layer.get_weights()])
    after = np.asarray(network(images(64, 64), training=True))
    assert np.abs(after - before).max() / np.abs(before).max() < 0.02  # but for the number that is added to the variance
