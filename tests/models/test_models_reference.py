"""The ImageNet networks against keras.applications: the same weights give the same outputs."""

import keras
import numpy as np
import pytest

from kerastoolkit import models
from kerastoolkit.weights import copy_from_keras_applications

SHALLOW = [
    (models.resnet50, keras.applications.ResNet50, 64),
    (models.resnet50v2, keras.applications.ResNet50V2, 64),
    (models.inception_v3, keras.applications.InceptionV3, 96),
]
DEEP = [
    (models.vgg16, keras.applications.VGG16, 64),
    (models.vgg19, keras.applications.VGG19, 64),
    (models.resnet101, keras.applications.ResNet101, 64),
    (models.resnet152, keras.applications.ResNet152, 64),
    (models.resnet101v2, keras.applications.ResNet101V2, 64),
    (models.resnet152v2, keras.applications.ResNet152V2, 64),
]


def randomised(network):
    """Every weight drawn anew, batch norm's moving statistics too: a mean of 0 and a variance of 1 would hide their order."""
    generator = np.random.default_rng(0)
    for variable in network.variables:
        value = generator.normal(size=variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            value = 1 + 0.2 * np.abs(value)
        elif len(variable.shape) > 1:
            value = value * np.sqrt(2 / np.prod(variable.shape[:-1]))  # He: the signal keeps its size
        else:
            value = 0.1 * value
        variable.assign(value)
    return network


@pytest.mark.parametrize(
    ("builder", "reference", "side"), [*SHALLOW, *(pytest.param(*case, marks=pytest.mark.slow) for case in DEEP)]
)
def test_weights_of_keras_applications_give_its_outputs(builder, reference, side):
    shape = (side, side, 3)
    theirs = randomised(reference(weights=None, classes=11, input_shape=shape, classifier_activation=None))
    ours = builder(classes=11, input_shape=shape)
    copy_from_keras_applications(ours, theirs)
    images = np.random.default_rng(1).normal(size=(2, *shape)).astype("float32")
    expected = np.asarray(theirs(images, training=False))
    assert expected.std() > 1e-3  # not all the same: there is something to compare
    error = np.abs(np.asarray(ours(images, training=False)) - expected).max() / np.abs(expected).max()
    assert error < 1e-4


def test_an_h5_file_written_by_keras_applications_loads(tmp_path):
    shape = (64, 64, 3)
    theirs = randomised(keras.applications.ResNet50(weights=None, classes=5, input_shape=shape, classifier_activation=None))
    path = tmp_path / "resnet50.weights.h5"
    theirs.save_weights(path)
    ours = models.resnet50(classes=5, input_shape=shape, weights=path)
    images = np.random.default_rng(1).normal(size=(2, *shape)).astype("float32")
    np.testing.assert_allclose(ours(images, training=False), theirs(images, training=False), rtol=1e-4, atol=1e-4)


def test_a_saved_and_loaded_network_answers_the_same(tmp_path):
    network = models.resnet_cifar(depth=8, classes=3)
    network.save(tmp_path / "network.keras")
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype("float32")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded(images, training=False), network(images, training=False))


def test_weights_of_another_network_are_refused_and_nothing_is_copied():
    ours = models.resnet50(classes=5, input_shape=(64, 64, 3))
    before = [value.copy() for value in ours.get_weights()]
    theirs = keras.applications.ResNet50V2(weights=None, classes=5, input_shape=(64, 64, 3))
    with pytest.raises(ValueError, match="must|cannot"):
        copy_from_keras_applications(ours, theirs)
    assert all(np.array_equal(a, b) for a, b in zip(before, ours.get_weights(), strict=True))
