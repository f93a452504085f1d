"""Parameter counts of the published architectures.

Sources: of the ImageNet networks keras.applications' own ``count_params``, asked for here where it is cheap; of the others the
arithmetic of the papers' tables and figures; ResNet-18 and 34 without convolution biases 11,689,512 and 21,797,672
(torchvision), plus their batch norms' moving statistics, which PyTorch does not count.
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


@pytest.mark.parametrize("up", ["transpose", "resize"])
@pytest.mark.parametrize(("channels", "classes", "count"), [(1, 2, 31_030_658), (1, 1, 31_030_593), (3, 1, 31_031_745)])
def test_unet_has_the_count_of_the_papers_figure_1_however_it_doubles_its_size(channels, classes, count, up):
    network = models.unet(classes=classes, input_shape=(None, None, channels), up=up)
    assert (network.count_params(), trainable(network)) == (count, count)


def test_batch_norm_of_unet_adds_four_numbers_and_takes_one_bias_for_each_channel():
    plain, normal = (models.unet(classes=2, filters=4, batch_norm=batch_norm).count_params() for batch_norm in (False, True))
    channels = 2 * (4 + 8 + 16 + 32 + 64 + 32 + 16 + 8 + 4)  # of the 18 convolutions of 3 x 3
    assert normal - plain == (4 - 1) * channels


# VGG-16's convolutions, fc6 and fc7, scores and enlargements of 21 x 21 channels.
FCN_32S = 14_714_688 + (49 * 512 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 21 + (64 * 21) ** 2
FCN_16S = FCN_32S + (512 + 1) * 21 + (4 * 21) ** 2 + (32 * 21) ** 2 - (64 * 21) ** 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "count"), [(models.fcn32s, FCN_32S), (models.fcn16s, FCN_16S), (models.fcn8s, 134_489_759)]
)
def test_fcn_of_vgg16_has_the_count_of_the_papers_layers(builder, count):
    assert builder(classes=21).count_params() == count


@pytest.mark.parametrize(
    ("builder", "enlargements"),
    [(models.fcn32s, 64**2), (models.fcn16s, 4**2 + 32**2), (models.fcn8s, 2 * 4**2 + 16**2)],
)
def test_a_finer_fcn_has_one_score_more_and_smaller_enlargements(builder, enlargements):
    finer = {models.fcn32s: (), models.fcn16s: (512,), models.fcn8s: (512, 256)}[builder]
    scores = sum((channels + 1) * 2 for channels in (8, *finer))
    count = 14_714_688 + (49 * 512 + 1) * 8 + (8 + 1) * 8 + scores + enlargements * 2**2
    assert builder(classes=2, width=8).count_params() == count


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
