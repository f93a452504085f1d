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
    ("builder", "side"),
    [(models.vgg16, 31), (models.inception_v3, 74), (models.cnn, 3), (models.resnet50, 16), (models.yolov8n, 31),
     (models.yolov3_tiny, 31)],
)  # fmt: skip
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 0}, "filters must be a positive integer, got 0"),
        ({"filters": 2.5}, "filters must be a positive integer, got 2.5"),
        ({"depth": 0}, "depth must be a positive integer, got 0"),
        ({"depth": True}, "depth must be a positive integer, got True"),
        ({"depth": 9}, "depth must be 1 to 8, got 9"),
        ({"up": "nearest"}, "up must be one of transpose, resize, got 'nearest'"),
        ({"padding": "full"}, "padding must be one of same, valid, mirror, got 'full'"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"classes": 0}, "classes must be a positive integer, got 0"),
        ({"input_shape": (32, 32)}, r"input_shape must be \(height, width, channels\), got \(32, 32\)"),
        ({"weights": "imagenet"}, "weights must be None or a file for this unet, got 'imagenet'"),
        ({"weights": "none.h5"}, "weights must be None, 'imagenet' or an existing file, got 'none.h5'"),
    ],
)
def test_an_argument_that_unet_does_not_take_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.unet(**{"classes": 2, "filters": 1, **arguments})


@pytest.mark.parametrize(
    ("depth", "shape", "rule"),
    [
        (4, (572, 570, 1), r"16 n \+ 12, at least 188"),
        (4, (172, 572, 1), r"16 n \+ 12, at least 188"),
        (3, (None, 93, 1), r"8 n \+ 4, at least 92"),
        (2, (40, None, 1), r"4 n \+ 0, at least 44"),
    ],
)
def test_sides_that_convolutions_without_padding_do_not_fit_are_refused(depth, shape, rule):
    message = rf"input_shape must have sides of {rule}, for valid padding at depth {depth}, got \({shape[0]}, {shape[1]}, 1\)"
    with pytest.raises(ValueError, match=message):
        models.unet(classes=2, filters=1, depth=depth, padding="valid", input_shape=shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": "alexnet"}, "encoder must be one of vgg11, .* resnet152, got 'alexnet'"),
        ({"filters": 0}, "filters must be a positive integer, got 0"),
        ({"up": "nearest"}, "up must be one of transpose, resize, got 'nearest'"),
        ({"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0.1"),
        ({"classes": 2.5}, "classes must be a positive integer, got 2.5"),
        ({"input_shape": (0, 32, 3)}, r"input_shape must be \(height, width, channels\), got \(0, 32, 3\)"),
        ({"weights": "none.h5"}, "weights must be None, 'imagenet' or an existing file, got 'none.h5'"),
        ({"weights": "imagenet"}, "weights must be None or a file for vgg11 with batch_norm, got 'imagenet'"),
        ({"weights": "imagenet", "encoder": "resnet18"}, "weights must be None or a file for this resnet18, got 'imagenet'"),
        # With batch norm, which there is by default, VGG has no such weights either.
        ({"weights": "imagenet", "encoder": "vgg16"}, "weights must be None or a file for vgg16 with batch_norm, got 'imagenet'"),
    ],
)
def test_an_argument_that_unet_with_encoder_does_not_take_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.unet_with_encoder(**{"classes": 2, "encoder": "vgg11", "filters": 1, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "alexnet"}, "backbone must be one of vgg11, .* resnet152, got 'alexnet'"),
        ({"backbone": "resnet18", "batch_norm": True}, "batch_norm must be False for backbone 'resnet18'.* got True"),
        ({"width": -1}, "width must be None, 0 or a positive integer, got -1"),
        ({"width": 2.5}, "width must be None, 0 or a positive integer, got 2.5"),
        ({"dropout": float("nan")}, r"dropout must be in \[0, 1\), got nan"),
        ({"classes": 0}, "classes must be a positive integer, got 0"),
        ({"input_shape": "abc"}, r"input_shape must be \(height, width, channels\), got 'abc'"),
        ({"weights": "none.h5"}, "weights must be None, 'imagenet' or an existing file, got 'none.h5'"),
        ({"weights": "imagenet"}, "weights must be None or a file for this vgg11, got 'imagenet'"),
    ],
)
@pytest.mark.parametrize("builder", [models.fcn32s, models.fcn16s, models.fcn8s])
def test_an_argument_that_fcn_does_not_take_is_refused(builder, arguments, message):
    with pytest.raises(ValueError, match=message):
        builder(**{"classes": 2, "backbone": "vgg11", "width": 4, **arguments})


@pytest.mark.parametrize("builder", [models.fcn16s, models.fcn8s])
def test_fcn_has_one_beginning(builder):
    with pytest.raises(ValueError, match="start must be None where weights are given, got 'coarser.keras'"):
        builder(classes=2, backbone="vgg11", width=4, weights="mine.keras", start="coarser.keras")


@pytest.mark.parametrize("builder", [models.fcn16s, models.fcn8s])
def test_a_beginning_that_is_no_file_is_refused(builder):
    with pytest.raises(ValueError, match="got 'none.keras'"):
        builder(classes=2, backbone="vgg11", width=4, start="none.keras")
