"""YOLOv3 and its small form: counts, shapes, beginnings, what is refused.

The forward pass is held to Darknet's layers beside the reader of Darknet's files, tests/weights/test_weights_darknet.py.
"""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import models
from kerastoolkit.losses.yolov3 import yolov3_loss
from kerastoolkit.models.yolov3 import ANCHORS, PUBLISHED_TINY_ANCHORS, TINY_ANCHORS

BUILDERS = pytest.mark.parametrize("builder", [models.yolov3, models.yolov3_tiny])


def images(*size, batch=2):
    return np.random.default_rng(1).uniform(size=(batch, *size, 3)).astype("float32")


@pytest.fixture(scope="module")
def large():
    return models.yolov3(classes=2, input_shape=(64, 64, 3))


@pytest.mark.parametrize(
    ("builder", "count", "trained"), [(models.yolov3, 62_001_757, 61_949_149), (models.yolov3_tiny, 8_858_734, 8_852_366)]
)
def test_it_has_the_count_of_the_authors_cfg_file(builder, count, trained):
    network = builder(classes=80)
    assert network.count_params() == count
    assert sum(math.prod(variable.shape) for variable in network.trainable_variables) == trained


@pytest.mark.parametrize(
    ("builder", "size", "anchors"),
    [
        (models.yolov3, (416, 416), 3 * (52**2 + 26**2 + 13**2)),
        (models.yolov3, (96, 160), 3 * (12 * 20 + 6 * 10 + 3 * 5)),
        (models.yolov3, (None, None), None),
        (models.yolov3_tiny, (96, 160), 3 * (6 * 10 + 3 * 5)),
        (models.yolov3_tiny, (None, 160), None),
    ],
)
def test_there_is_an_anchor_for_each_prior_of_each_cell(builder, size, anchors):
    network = builder(classes=7, input_shape=(*size, 3))
    assert {name: each.shape for name, each in network.output.items()} == {
        "boxes": (None, anchors, 4), "offsets": (None, anchors, 4), "objectness": (None, anchors),
        "logits": (None, anchors, 7), "points": (None, anchors, 5),
    }  # fmt: skip


def test_each_level_has_its_share_of_the_priors_the_smallest_at_the_finest(large):
    tiny = models.yolov3_tiny(classes=2, input_shape=(64, 64, 3))
    for network, anchors, grids in ((large, ANCHORS, (8, 4, 2)), (tiny, TINY_ANCHORS, (4, 2))):
        expected = [(column, row, 64 // cells, *prior) for level, cells in enumerate(grids)
                    for row in range(cells) for column in range(cells) for prior in anchors[3 * level :][:3]]  # fmt: skip
        answer = network(images(64, 64), training=False)
        np.testing.assert_array_equal(answer["points"], [expected, expected])  # the same for each of two examples


def test_priors_of_ones_own_are_shared_out_evenly():
    network = models.yolov3_tiny(classes=1, input_shape=(32, 32, 3), anchors=[(5, 6), (7, 8), (9, 10), (11.5, 12)])
    points = network(images(32, 32), training=False)["points"][0].numpy()
    assert points[:2, 2:].tolist() == [[16, 5, 6], [16, 7, 8]] and points[-2:, 2:].tolist() == [[32, 9, 10], [32, 11.5, 12]]


def test_priors_of_the_published_small_network_are_the_second_to_fourth_and_the_fourth_to_sixth():
    assert [TINY_ANCHORS.index(prior) for prior in PUBLISHED_TINY_ANCHORS] == [1, 2, 3, 3, 4, 5]
    assert len(models.yolov3_tiny(classes=1, anchors=PUBLISHED_TINY_ANCHORS).layers)


def test_a_network_for_any_size_answers_as_one_for_this_size():
    anything = models.yolov3_tiny(classes=2, input_shape=(None, None, 3))
    graph = tf.function(lambda image: anything(image, training=False), input_signature=[tf.TensorSpec((None, None, None, 3))])
    for size in ((32, 32), (64, 96)):
        fixed = models.yolov3_tiny(classes=2, input_shape=(*size, 3))
        fixed.set_weights(anything.get_weights())
        answer, expected = graph(images(*size)), fixed(images(*size), training=False)
        for name in expected:
            np.testing.assert_allclose(answer[name], expected[name], rtol=1e-4, atol=1e-3)


def test_a_saved_network_answers_the_same(tmp_path):
    network = models.yolov3_tiny(classes=2, input_shape=(32, 32, 3))
    network.save(tmp_path / "network.keras")
    answer = keras.saving.load_model(tmp_path / "network.keras")(images(32, 32), training=False)
    for name, expected in network(images(32, 32), training=False).items():
        np.testing.assert_array_equal(answer[name], expected)


def test_an_untrained_network_believes_one_anchor_in_a_hundred_to_hold_an_object(large):
    for network in (large, models.yolov3_tiny(classes=2, input_shape=(64, 64, 3))):
        answer = network(images(64, 64), training=True)
        probabilities = 1 / (1 + np.exp(-answer["objectness"].numpy()))
        assert probabilities.mean() == pytest.approx(0.01, rel=0.2) and probabilities.max() < 0.05
        assert np.abs(answer["offsets"]).max() < 2  # boxes begin near their priors


def test_names_of_layers_do_not_depend_on_what_was_built_before():
    first, second = (models.yolov3_tiny(classes=2, input_shape=(32, 32, 3)) for _ in range(2))
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


def test_boxes_are_float32_where_the_network_computes_in_16_bits():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = models.yolov3_tiny(classes=2, input_shape=(32, 32, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    assert {each.dtype for each in network(images(32, 32), training=False).values()} == {tf.float32}


def test_one_image_is_learned_by_heart():
    keras.utils.set_random_seed(0)
    network = models.yolov3_tiny(classes=3, input_shape=(64, 64, 3))
    image, optimizer = images(64, 64, batch=1), keras.optimizers.Adam(1e-3)
    targets = {"boxes": tf.constant([[[3.0, 5, 33, 52], [40, 8, 60, 30]]]), "labels": tf.constant([[2, 0]])}

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(yolov3_loss(targets, network(image, training=True)))
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    losses = [float(step()) for _ in range(25)]
    assert losses[-1] < 0.3 < 5 < losses[0]
    answer = network(image, training=True)
    scores = tf.sigmoid(answer["objectness"])[..., None] * tf.sigmoid(answer["logits"])
    best = tf.argsort(tf.reduce_max(scores, -1)[0], direction="DESCENDING")[:2].numpy()
    found = {int(tf.argmax(scores[0, place])): answer["boxes"][0, place].numpy() for place in best}
    assert found.keys() == {0, 2}
    np.testing.assert_allclose([found[2], found[0]], targets["boxes"][0], atol=2)


@BUILDERS
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes must be a positive integer, got 0"),
        ({"input_shape": (32, 32)}, r"input_shape must be \(height, width, channels\), got \(32, 32\)"),
        ({"input_shape": (16, 32, 3)}, r"input_shape must be at least 32 x 32 pixels, got \(16, 32, 3\)"),
        ({"input_shape": (32, 48, 3)}, r"input_shape must be multiples of 32 pixels, got \(32, 48, 3\)"),
        ({"input_shape": (40, None, 3)}, r"input_shape must be multiples of 32 pixels, got \(40, None, 3\)"),
        ({"anchors": ()}, r"anchors must be \(width, height\) in pixels, above 0, as many for each of . levels, got \(\)"),
        ({"anchors": ((1, 2),) * 5}, r"anchors must be .* as many for each of . levels, got \(\(1, 2\)"),
        ({"anchors": ((1, 2, 3),) * 6}, r"anchors must be \(width, height\) .*, got \(\(1, 2, 3\)"),
        ({"anchors": ((1, 0),) * 6}, r"anchors must be \(width, height\) in pixels, above 0, .*, got \(\(1, 0\)"),
        ({"anchors": ((1, float("nan")),) * 6}, r"anchors must be .* above 0, .*, got \(\(1, nan\)"),
        ({"anchors": 9}, r"anchors must be .*, got 9"),
    ],
)
def test_an_argument_that_it_does_not_take_is_refused(builder, arguments, message):
    with pytest.raises(ValueError, match=message):
        builder(**{"classes": 2, "input_shape": (32, 32, 3), **arguments})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("imagenet", "weights must be None or a file for this yolov3_tiny, got 'imagenet'"),
        ("none.keras", "weights must be None, 'imagenet' or an existing file, got 'none.keras'"),
        ("none.conv.74", "weights must be an existing file, got 'none.conv.74'"),
    ],
)
def test_weights_that_are_no_file_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        models.yolov3_tiny(classes=2, input_shape=(32, 32, 3), weights=weights)
