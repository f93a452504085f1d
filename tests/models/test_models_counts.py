"""Parameter counts of the published architectures.

Sources: of the ImageNet networks keras.applications' own ``count_params``, asked for here where it is cheap; of the others the
arithmetic of the papers' tables; ResNet-18 and 34 without convolution biases 11,689,512 and 21,797,672 (torchvision), plus
their batch norms' moving statistics, which PyTorch does not count.
"""

import math

import keras
import pytest

from kerastoolkit import models


def trainable(network):
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


@pytest.mark.parametrize(
    ("depth", "count"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_resnet_cifar_with_identity_shortcuts_has_the_papers_count(depth, count):
    assert trainable(models.resnet_cifar(depth=depth, classes=10)) == count


def test_projection_shortcuts_add_two_convolutions_and_two_batch_norms():
    assert trainable(models.resnet_cifar(depth=20, classes=10, shortcut="projection")) == 269_722 + 2_752


@pytest.mark.parametrize(
    ("builder", "count", "trained"),
    [
        (models.resnet50, 25_636_712, 25_583_592),
        (models.resnet50v2, 25_613_800, 25_568_360),
        (models.inception_v3, 23_851_784, 23_817_352),
        pytest.param(models.vgg16, 138_357_544, 138_357_544, marks=pytest.mark.slow),
        pytest.param(models.vgg19, 143_667_240, 143_667_240, marks=pytest.mark.slow),
        pytest.param(models.resnet101, 44_707_176, 44_601_832, marks=pytest.mark.slow),
        pytest.param(models.resnet152, 60_419_944, 60_268_520, marks=pytest.mark.slow),
        pytest.param(models.resnet101v2, 44_675_560, 44_577_896, marks=pytest.mark.slow),
        pytest.param(models.resnet152v2, 60_380_648, 60_236_904, marks=pytest.mark.slow),
    ],
)
def test_imagenet_networks_have_the_count_of_keras_applications(builder, count, trained):
    network = builder()
    assert (network.count_params(), trainable(network)) == (count, trained)


@pytest.mark.parametrize(("builder", "count"), [(models.resnet18, 11_689_512), (models.resnet34, 21_797_672)])
def test_shallow_resnets_have_the_count_without_convolution_biases(builder, count):
    assert trainable(builder()) == count


def test_vgg16_for_cifar_with_batch_norm_has_one_dense_layer():
    network = models.vgg16(classes=10, input_shape=(32, 32, 3), batch_norm=True, head="cifar")
    assert trainable(network) == 14_728_266


def test_googlenet_has_the_count_of_the_papers_table_1():
    assert models.googlenet(auxiliary=False).count_params() == 6_998_552


def test_auxiliary_heads_of_googlenet_are_two_and_counted():
    network = models.googlenet(auxiliary=True)
    assert sorted(network.output) == ["auxiliary_1", "auxiliary_2", "logits"]
    assert network.count_params() == 13_378_280


@pytest.mark.parametrize(
    "network",
    [
        lambda: models.cnn(classes=7, input_shape=(16, 16, 3)),
        lambda: models.vgg11(classes=7, input_shape=(32, 32, 3), head="cifar"),
        lambda: models.resnet_cifar(depth=8, classes=7),
        lambda: models.resnet18(classes=7, input_shape=(64, 64, 3)),
        lambda: models.googlenet_cifar(classes=7),
        lambda: models.inception_v3(classes=7, input_shape=(75, 75, 3)),
    ],
)
def test_output_is_one_logit_for_each_class(network):
    network = network()
    assert network.output.shape == (None, 7)
    assert not isinstance(network.layers[-1], (keras.layers.Softmax, keras.layers.Activation))
