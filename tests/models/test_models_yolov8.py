"""YOLOv8: counts, how its parts hang together, beginnings, learning by heart, what is refused."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import models
from kerastoolkit.losses.yolov8 import yolov8_loss

# Of each size the counts that YOLOv8's authors state for 80 classes: of weights that are trained, with the 16 fixed distances,
# and of all, with the moving averages.
COUNTS = {
    "yolov8n": (3_157_200, 3_167_792), "yolov8s": (11_166_560, 11_186_592), "yolov8m": (25_902_640, 25_935_760),
    "yolov8l": (43_691_520, 43_737_984), "yolov8x": (68_229_648, 68_287_728),
}  # fmt: skip
SLOW = ("yolov8m", "yolov8l", "yolov8x")


def images(*size, batch=2):
    return np.random.default_rng(1).uniform(size=(batch, *size, 3)).astype("float32")


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return models.yolov8n(classes=3, input_shape=(64, 96, 3))


@pytest.fixture(scope="module")
def anything():
    """The same for images of any size."""
    return models.yolov8n(classes=3, input_shape=(None, None, 3))


@pytest.fixture(scope="module")
def inside(network):
    """What each layer makes of two images, and what it takes, with weights none of which is 0 or 1."""
    weights, generator = network.get_weights(), np.random.default_rng(0)
    network.set_weights([each + generator.uniform(0.01, 0.1, each.shape) for each in weights])
    tensors = {name: tensor for layer in network.layers for name, tensor in (
        (layer.name, layer.output), (f"{layer.name} takes", layer.input)) if isinstance(tensor, keras.KerasTensor)}  # fmt: skip
    found = keras.Model(network.input, tensors)(images(64, 96), training=False)
    network.set_weights(weights)
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in COUNTS])
def test_it_has_the_counts_that_its_authors_state(name):
    network = getattr(models, name)(classes=80, input_shape=(64, 64, 3))
    trained = sum(math.prod(variable.shape) for variable in network.trainable_variables)
    assert (trained + 16, network.count_params()) == COUNTS[name]
    assert network.name == name


@pytest.mark.parametrize("size", [(64, 96), (None, None)])
def test_there_is_a_box_in_each_cell_of_three_grids(size):
    network = models.yolov8n(classes=7, input_shape=(*size, 3))
    cells = None if None in size else 8 * 12 + 4 * 6 + 2 * 3
    assert {name: (each.shape, each.dtype) for name, each in network.output.items()} == {
        "boxes": ((None, cells, 4), "float32"), "logits": ((None, cells, 7), "float32"),
        "distributions": ((None, cells, 4, 16), "float32"), "points": ((None, cells, 3), "float32"),
    }  # fmt: skip


def test_cells_follow_one_another_row_by_row_the_finest_grid_first(network):
    points = network(images(64, 96), training=False)["points"]
    expected = [((column + 0.5) * stride, (row + 0.5) * stride, stride) for stride in (8, 16, 32)
                for row in range(64 // stride) for column in range(96 // stride)]  # fmt: skip
    np.testing.assert_array_equal(points, [expected, expected])


@pytest.mark.parametrize(("stride", "first", "count"), [(8, 0, 96), (16, 96, 24), (32, 120, 6)])
def test_boxes_and_logits_are_those_of_the_cells(network, inside, stride, first, count):
    # With the weights that a network begins with, and only the last of one level changed, only its cells answer otherwise.
    answer = network(images(64, 96), training=False)
    last = [network.get_layer(f"{each}{stride}_out") for each in ("box", "class")]
    before = [layer.get_weights() for layer in last]
    for layer in last:
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel, bias + np.linspace(0, 1, bias.size)])
    changed = network(images(64, 96), training=False)
    for layer, weights in zip(last, before, strict=True):
        layer.set_weights(weights)
    for name in ("boxes", "logits", "distributions"):
        differ = (answer[name].numpy() != changed[name].numpy()).reshape(2, 126, -1).any(axis=(0, 2))
        assert np.flatnonzero(differ).tolist() == list(range(first, first + count))


def test_a_convolution_of_stride_2_pads_all_sides_alike(network):
    image, kernel = images(64, 96), network.get_layer("stem_conv").get_weights()[0]
    found = keras.Model(network.input, network.get_layer("stem_conv").output)(image).numpy()
    padded = np.pad(image, [(0, 0), (1, 1), (1, 1), (0, 0)])
    for row, column in ((0, 0), (0, 47), (31, 0), (31, 47), (13, 20)):
        expected = np.einsum("bijc,ijco->bo", padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3], kernel)
        np.testing.assert_allclose(found[:, row, column], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stage", "repeats", "residual"), [("stage2", 1, True), ("stage3", 2, True), ("up4", 1, False)])
def test_half_of_the_channels_pass_by_and_what_each_bottleneck_gives_is_kept(inside, stage, repeats, residual):
    both = inside[f"{stage}_in_silu"]
    kept, last = [both], both[..., both.shape[-1] // 2 :]
    for number in range(repeats):
        last = inside[f"{stage}_{number}b_silu"] + (last if residual else 0)
        kept.append(last)
    np.testing.assert_allclose(inside[f"{stage}_kept"], np.concatenate(kept, axis=-1), rtol=1e-5, atol=1e-6)


def test_the_pyramid_holds_the_maxima_over_1_5_9_and_13_pixels(anything):
    pyramid = keras.Model(anything.get_layer("pooling_in_silu").output, anything.get_layer("pooling_all").output)
    x = np.random.default_rng(0).normal(size=(1, 17, 19, 128)).astype("float32")
    padded, expected = np.pad(x, [(0, 0), (6, 6), (6, 6), (0, 0)], constant_values=-np.inf), []
    for reach in (0, 2, 4, 6):
        windows = [padded[:, 6 + i :, 6 + j :][:, :17, :19] for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]
        expected.append(np.max(windows, axis=0))
    np.testing.assert_array_equal(pyramid(x), np.concatenate(expected, axis=-1))


@pytest.mark.parametrize(
    ("layer", "joined"),
    [
        ("up4_in_conv", ["pooling_out_silu", "stage4_out_silu"]),
        ("up3_in_conv", ["up4_out_silu", "stage3_out_silu"]),
        ("down4_half_pad", ["up3_out_silu"]),
        ("down4_in_conv", ["down4_half_silu", "up4_out_silu"]),
        ("down5_half_pad", ["down4_out_silu"]),
        ("down5_in_conv", ["down5_half_silu", "pooling_out_silu"]),
        *((f"{kind}{stride}_a_conv", [level]) for kind in ("box", "class")
          for stride, level in ((8, "up3_out_silu"), (16, "down4_out_silu"), (32, "down5_out_silu"))),
    ],
)  # fmt: skip
def test_scales_are_joined_on_the_way_up_and_on_the_way_down(inside, layer, joined):
    found = inside[f"{layer} takes"]
    joined = [inside[name] for name in joined]
    factors = [found.shape[1] // each.shape[1] for each in joined]  # 2 for what comes from a coarser grid
    enlarged = [each.repeat(factor, axis=1).repeat(factor, axis=2) for each, factor in zip(joined, factors, strict=True)]
    np.testing.assert_array_equal(found, np.concatenate(enlarged, axis=-1))


def test_a_network_for_any_size_answers_as_one_for_this_size(network, anything):
    anything.set_weights(network.get_weights())
    graph = tf.function(lambda image: anything(image, training=False), input_signature=[tf.TensorSpec((None, None, None, 3))])
    answer, expected = graph(images(64, 96)), network(images(64, 96), training=False)
    for name in expected:
        np.testing.assert_allclose(answer[name], expected[name], rtol=1e-4, atol=1e-3)
    assert graph(images(32, 32, batch=1))["boxes"].shape == (1, 16 + 4 + 1, 4)


def test_a_saved_network_answers_the_same(network, tmp_path):
    network.save(tmp_path / "network.keras")
    answer = keras.saving.load_model(tmp_path / "network.keras")(images(64, 96), training=False)
    for name, expected in network(images(64, 96), training=False).items():
        np.testing.assert_array_equal(answer[name], expected)


def test_an_untrained_network_expects_few_objects_and_boxes_of_15_strides(network):
    answer = {name: value.numpy() for name, value in network(images(64, 96), training=True).items()}
    for stride, cells in ((8, slice(0, 96)), (16, slice(96, 120)), (32, slice(120, 126))):
        assert answer["logits"][:, cells].mean() == pytest.approx(np.log(5 / 3 / (640 / stride) ** 2), abs=0.7)
        sides = answer["boxes"][:, cells, 2:] - answer["boxes"][:, cells, :2]
        assert sides.mean() == pytest.approx(15 * stride, rel=0.1)


def test_boxes_are_float32_where_the_network_computes_in_16_bits():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = models.yolov8n(classes=2, input_shape=(32, 32, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    assert {each.dtype for each in network(images(32, 32), training=False).values()} == {tf.float32}


@pytest.mark.slow
def test_one_image_is_learned_by_heart():
    keras.utils.set_random_seed(0)
    network = models.yolov8n(classes=3, input_shape=(64, 64, 3))
    image, optimizer = images(64, 64, batch=1), keras.optimizers.Adam(2e-3)
    targets = {"boxes": tf.constant([[[3.0, 5, 33, 52], [40, 8, 60, 30]]]), "labels": tf.constant([[2, 0]])}

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(yolov8_loss(targets, network(image, training=True)))
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    before = [variable.numpy() for variable in network.trainable_variables]
    losses = [float(step()) for _ in range(50)]
    answer = network(image, training=True)
    best = tf.argmax(answer["logits"][0], axis=0).numpy()  # of each class the cell
    assert losses[-1] < 3 < 10 < losses[0]
    np.testing.assert_allclose(tf.gather(answer["boxes"][0], [best[2], best[0]]), targets["boxes"][0], atol=3)
    assert all((start != end.numpy()).any() for start, end in zip(before, network.trainable_variables, strict=True))


@pytest.mark.parametrize("builder", [models.yolov8n, models.yolov8s, models.yolov8m, models.yolov8l, models.yolov8x])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes must be a positive integer, got 0"),
        ({"classes": 2.5}, "classes must be a positive integer, got 2.5"),
        ({"input_shape": (32, 32)}, r"input_shape must be \(height, width, channels\), got \(32, 32\)"),
        ({"input_shape": (32, 0, 3)}, r"input_shape must be \(height, width, channels\), got \(32, 0, 3\)"),
        ({"input_shape": (16, 32, 3)}, r"input_shape must be at least 32 x 32 pixels, got \(16, 32, 3\)"),
        ({"input_shape": (32, 48, 3)}, r"input_shape must be multiples of 32 pixels, got \(32, 48, 3\)"),
        ({"input_shape": (40, None, 3)}, r"input_shape must be multiples of 32 pixels, got \(40, None, 3\)"),
    ],
)
def test_an_argument_that_it_does_not_take_is_refused(builder, arguments, message):
    with pytest.raises(ValueError, match=message):
        builder(**{"classes": 2, "input_shape": (32, 32, 3), **arguments})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("imagenet", "weights must be None or a file for this yolov8n, got 'imagenet'"),
        ("none.keras", "weights must be None, 'imagenet' or an existing file, got 'none.keras'"),
    ],
)
def test_weights_that_are_no_file_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        models.yolov8n(classes=2, input_shape=(32, 32, 3), weights=weights)
