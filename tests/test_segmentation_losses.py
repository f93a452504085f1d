"""Losses of class maps, by hand and against NumPy twins. A logit of ln 3 beside one of 0 is a probability of 3/4."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.losses import dice_loss, focal_loss, pixel_cross_entropy

IGNORED = 255
LN3 = np.log(3)
LOSSES = pytest.mark.parametrize("loss", [pixel_cross_entropy, focal_loss, dice_loss])


def floats(values):
    return tf.constant(values, "float32")


def labels_and_logits(seed=0, shape=(3, 5, 4), classes=3):
    """Random class maps, a quarter of whose pixels are ignored, and logits."""
    generator = np.random.default_rng(seed)
    labels = np.where(generator.uniform(size=shape) < 0.25, IGNORED, generator.integers(0, classes, shape)).astype("uint8")
    return labels, generator.normal(scale=2, size=(*shape, classes)).astype("float32")


def slow_means(labels, logits, *, class_weights=(1, 1, 1), pixel_weights=None, gamma=0):
    """Cross-entropy or focal loss pixel by pixel, in float64."""
    means = []
    for example, truths in enumerate(labels):
        total = weights = 0
        for place in np.argwhere(truths != IGNORED):
            scores, label = logits[(example, *place)].astype("float64"), truths[tuple(place)]
            probability = np.exp(scores[label]) / np.exp(scores).sum()
            weight = class_weights[label] + (0 if pixel_weights is None else pixel_weights[(example, *place)])
            total -= weight * (1 - probability) ** gamma * np.log(probability)
            weights += weight
        means.append(total / weights)
    return means


def gradient(loss, labels, logits, **arguments):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits, **arguments)
    return tape.gradient(value, logits).numpy()


def test_pixel_cross_entropy_is_the_mean_over_pixels_of_known_class():
    labels, logits = tf.constant([[[0, 1, IGNORED]]]), floats([[[[LN3, 0], [LN3, 0], [9, 0]]]])
    np.testing.assert_allclose(pixel_cross_entropy(labels, logits), [(np.log(4 / 3) + np.log(4)) / 2], rtol=1e-6)


def test_class_weights_of_pixel_cross_entropy_are_taken_by_the_true_class_and_divided_out():
    labels, logits = tf.constant([[[0, 1, IGNORED]]]), floats([[[[LN3, 0], [LN3, 0], [9, 0]]]])
    losses = pixel_cross_entropy(labels, logits, class_weights=(2, 6))
    np.testing.assert_allclose(losses, [(2 * np.log(4 / 3) + 6 * np.log(4)) / 8], rtol=1e-6)


def test_pixel_weights_are_added_to_the_weight_of_the_class():
    labels, logits = tf.constant([[[0, 1, IGNORED]]]), floats([[[[LN3, 0], [LN3, 0], [9, 0]]]])
    losses = pixel_cross_entropy(labels, logits, class_weights=(2, 6), pixel_weights=floats([[[10, 0, 10]]]))
    np.testing.assert_allclose(losses, [(12 * np.log(4 / 3) + 6 * np.log(4)) / 18], rtol=1e-6)


def test_pixel_weights_alone_are_added_to_one():
    labels, logits = tf.constant([[[0, 1]]]), floats([[[[LN3, 0], [LN3, 0]]]])
    losses = pixel_cross_entropy(labels, logits, pixel_weights=floats([[[3, 0]]]))
    np.testing.assert_allclose(losses, [(4 * np.log(4 / 3) + np.log(4)) / 5], rtol=1e-6)


def test_pixel_cross_entropy_of_a_batch_is_that_of_each_example_pixel_by_pixel():
    labels, logits = labels_and_logits()
    weights = {"class_weights": (0.5, 2, 1), "pixel_weights": np.random.default_rng(1).uniform(size=labels.shape)}
    np.testing.assert_allclose(pixel_cross_entropy(labels, logits, **weights), slow_means(labels, logits, **weights), rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_what_is_added_to_all_logits_does_not_change_the_cross_entropy(offset):
    # ln 11 where all are alike; a logsumexp of 1e6 would be rounded to the next 1/16.
    losses = pixel_cross_entropy(tf.constant([[[3]]]), tf.fill((1, 1, 1, 11), offset))
    np.testing.assert_allclose(losses, [np.log(11)], rtol=1e-6)


@pytest.mark.parametrize("loss", [pixel_cross_entropy, focal_loss])
def test_the_loss_of_a_sure_mistake_is_the_difference_of_the_logits(loss):
    np.testing.assert_allclose(loss(tf.constant([[[0]]]), floats([[[[-1e4, 1e4]]]])), [2e4], rtol=1e-6)


@LOSSES
def test_an_ignored_pixel_moves_no_logit(loss):
    labels, logits = labels_and_logits()
    moved = np.abs(gradient(loss, labels, logits)).sum(axis=-1)
    np.testing.assert_array_equal(moved > 0, labels != IGNORED)


@LOSSES
def test_what_the_network_says_of_an_ignored_pixel_does_not_count(loss):
    labels, logits = labels_and_logits()
    others = np.where((labels == IGNORED)[..., None], labels_and_logits(seed=7)[1], logits)
    np.testing.assert_array_equal(loss(labels, logits), loss(labels, others))


@LOSSES
def test_another_number_can_stand_for_ignored(loss):
    labels, logits = labels_and_logits()
    others = np.where(labels == IGNORED, -1, labels.astype("int32"))
    np.testing.assert_array_equal(loss(labels, logits), loss(others, logits, ignored=-1))


@LOSSES
def test_an_example_without_a_known_pixel_has_no_loss_and_no_gradient(loss):
    labels, logits = labels_and_logits()
    labels[1] = IGNORED
    losses, gradients = np.asarray(loss(labels, logits)), gradient(loss, labels, logits)
    assert losses[1] == 0 and not gradients[1].any()
    assert losses[[0, 2]].all() and gradients[[0, 2]].any(axis=(1, 2, 3)).all()


def test_pixels_whose_class_has_no_weight_have_no_loss():
    labels, logits = tf.constant([[[0, 0]]]), floats([[[[LN3, 0], [LN3, 0]]]])
    np.testing.assert_array_equal(pixel_cross_entropy(labels, logits, class_weights=(0, 1)), [0])


def test_focal_loss_is_the_cross_entropy_times_a_power_of_what_the_probability_lacks():
    labels, logits = tf.constant([[[0, 1, IGNORED]]]), floats([[[[LN3, 0], [LN3, 0], [9, 0]]]])
    expected = [((1 / 4) ** 2 * np.log(4 / 3) + (3 / 4) ** 2 * np.log(4)) / 2]
    np.testing.assert_allclose(focal_loss(labels, logits), expected, rtol=1e-6)


def test_focal_loss_of_a_batch_is_that_of_each_example_pixel_by_pixel():
    labels, logits = labels_and_logits()
    expected = slow_means(labels, logits, class_weights=(0.5, 2, 1), gamma=1.5)
    np.testing.assert_allclose(focal_loss(labels, logits, gamma=1.5, class_weights=(0.5, 2, 1)), expected, rtol=1e-5)


def test_focal_loss_with_gamma_0_is_the_cross_entropy():
    labels, logits = labels_and_logits()
    np.testing.assert_allclose(focal_loss(labels, logits, gamma=0.0), pixel_cross_entropy(labels, logits), rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_of_a_pixel_that_is_surely_right_has_a_finite_gradient(gamma):
    gradients = gradient(focal_loss, tf.constant([[[0]]]), floats([[[[200, 0]]]]), gamma=gamma)
    np.testing.assert_array_equal(gradients, 0)


def test_dice_loss_is_one_minus_the_mean_coefficient():
    # Probabilities of class 0: 3/4 and 3/4; of class 1: 1/4 and 1/4. One pixel is of each.
    labels, logits = tf.constant([[[0, 1]]]), floats([[[[LN3, 0], [LN3, 0]]]])
    coefficients = 2 * 3 / 4 / (3 / 4 + 3 / 4 + 1), 2 * 1 / 4 / (1 / 4 + 1 / 4 + 1)
    np.testing.assert_allclose(dice_loss(labels, logits), [1 - np.mean(coefficients)], rtol=1e-6)


def test_dice_loss_of_a_batch_is_that_of_each_example_class_by_class():
    labels, logits = labels_and_logits()
    labels[1][labels[1] == 2] = IGNORED  # two classes only
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = []
    for truths, each in zip(labels, probabilities, strict=True):
        known, coefficients = truths != IGNORED, []
        for label in np.unique(truths[known]):
            p, g = each[known][:, label], truths[known] == label
            coefficients.append(2 * (p * g).sum() / (p.sum() + g.sum()))
        expected.append(1 - np.mean(coefficients))
    np.testing.assert_allclose(dice_loss(labels, logits), expected, rtol=1e-5)


def test_dice_loss_together_is_that_of_one_image_with_all_pixels():
    labels, logits = labels_and_logits()
    batch, height, width, classes = logits.shape
    expected = dice_loss(labels.reshape(1, batch * height, width), logits.reshape(1, batch * height, width, classes))
    np.testing.assert_allclose(dice_loss(labels, logits, together=True), [*expected] * batch, rtol=1e-5)


def test_dice_loss_of_a_sure_and_right_answer_is_0_with_classes_that_are_absent():
    labels = np.array([[[0, 2], [2, IGNORED]]])
    logits = 1e4 * np.eye(5, dtype="float32")[labels % 5]  # an ignored pixel is said to be of class 0
    np.testing.assert_array_equal(dice_loss(labels, logits), [0])


def test_dice_loss_pushes_down_what_is_believed_of_an_absent_class():
    gradients = gradient(dice_loss, tf.constant([[[0, 1]]]), tf.zeros((1, 1, 2, 3)))
    assert (gradients[..., 2] > 0.01).all()


BACKEND = """
import json, sys
import keras, numpy as np
from kerastoolkit.losses import dice_loss, focal_loss, pixel_cross_entropy
assert "tensorflow" not in sys.modules, "the losses must not need TensorFlow"
labels, logits, weights = (keras.ops.convert_to_tensor(np.array(each, dtype))
                           for each, dtype in zip(json.loads(sys.stdin.read()), ("uint8", "float32", "float32")))
print(json.dumps([np.asarray(keras.ops.convert_to_numpy(losses)).tolist() for losses in (
    pixel_cross_entropy(labels, logits, class_weights=(0.5, 2, 1), pixel_weights=weights),
    focal_loss(labels, logits, class_weights=(0.5, 2, 1)), dice_loss(labels, logits))]))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_losses_are_the_same_on_the_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    (labels, logits), weights = labels_and_logits(), np.random.default_rng(1).uniform(size=(3, 5, 4)).astype("float32")
    labels[1] = IGNORED
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    numbers = json.dumps([labels.tolist(), logits.tolist(), weights.tolist()])
    result = subprocess.run(
        [sys.executable, "-c", BACKEND], env=environment, input=numbers, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr[-2000:]
    expected = [
        pixel_cross_entropy(labels, logits, class_weights=(0.5, 2, 1), pixel_weights=weights),
        focal_loss(labels, logits, class_weights=(0.5, 2, 1)),
        dice_loss(labels, logits),
    ]
    np.testing.assert_allclose(json.loads(result.stdout.splitlines()[-1]), np.array(expected), rtol=1e-5)
