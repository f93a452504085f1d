import pytest

from kerastoolkit import models


@pytest.mark.parametrize("depth", [0, 14 + 1, 21, 19])
def test_depth_that_is_not_6n_plus_2_is_refused(depth):
    with pytest.raises(ValueError, match=f"depth must be 6n \\+ 2 .* got {depth}"):
        models.resnet_cifar(depth=depth, classes=10)


def test_unknown_shortcut_is_refused():
    with pytest.raises(ValueError, match="shortcut must be"):
        models.resnet_cifar(depth=20, classes=10, shortcut="none")


@pytest.mark.parametrize("classes", [0, -1, 2.5, True])
def test_classes_must_be_a_positive_integer(classes):
    with pytest.raises(ValueError, match="classes must be a positive integer"):
        models.resnet_cifar(depth=20, classes=classes)


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 0), (0, 32, 3), (-1, 32, 3), "abc"])
def test_impossible_input_shape_is_refused(shape):
    with pytest.raises(ValueError, match="input_shape must be"):
        models.resnet_cifar(depth=20, classes=10, input_shape=shape)


@pytest.mark.parametrize(
    ("builder", "side"), [(models.vgg16, 31), (models.inception_v3, 74), (models.cnn, 3), (models.resnet50, 16)]
)
def test_images_that_the_strides_leave_nothing_of_are_refused(builder, side):
    with pytest.raises(ValueError, match="input_shape must be at least"):
        builder(classes=10, input_shape=(side, side, 3))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_dropout_must_be_a_share(rate):
    with pytest.raises(ValueError, match="dropout must be"):
        models.cnn(classes=10, input_shape=(16, 16, 3), dropout=rate)


def test_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling must be"):
        models.cnn(classes=10, input_shape=(16, 16, 3), pooling="median")


def test_unknown_head_of_vgg_is_refused():
    with pytest.raises(ValueError, match="head must be"):
        models.vgg16(classes=10, input_shape=(32, 32, 3), head="none")


def test_weights_that_are_no_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="weights must be None, 'imagenet' or an existing file"):
        models.resnet50(classes=10, input_shape=(64, 64, 3), weights=str(tmp_path / "none.h5"))
