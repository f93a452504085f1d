"""Darknet's files, written here from a description of their layout: an own list of the cfg file's layers, and NumPy."""

import re
import struct

import keras
import numpy as np
import pytest

from kerastoolkit import models
from kerastoolkit.weights import load_darknet, save_safetensors

# yolov3.cfg and yolov3-tiny.cfg, line by line: convolution (filters, size, stride; l is leaky with batch norm), shortcut, route,
# maxpool (size, stride), upsample and yolo, which is a level's end. Numbers below 0 count back from the layer.
DARKNET_53 = """
c32,3,1l
c64,3,2l c32,1,1l c64,3,1l s-3
c128,3,2l c64,1,1l c128,3,1l s-3 c64,1,1l c128,3,1l s-3
c256,3,2l c128,1,1l c256,3,1l s-3 c128,1,1l c256,3,1l s-3 c128,1,1l c256,3,1l s-3 c128,1,1l c256,3,1l s-3
          c128,1,1l c256,3,1l s-3 c128,1,1l c256,3,1l s-3 c128,1,1l c256,3,1l s-3 c128,1,1l c256,3,1l s-3
c512,3,2l c256,1,1l c512,3,1l s-3 c256,1,1l c512,3,1l s-3 c256,1,1l c512,3,1l s-3 c256,1,1l c512,3,1l s-3
          c256,1,1l c512,3,1l s-3 c256,1,1l c512,3,1l s-3 c256,1,1l c512,3,1l s-3 c256,1,1l c512,3,1l s-3
c1024,3,2l c512,1,1l c1024,3,1l s-3 c512,1,1l c1024,3,1l s-3 c512,1,1l c1024,3,1l s-3 c512,1,1l c1024,3,1l s-3
""".split()
YOLOV3 = [*DARKNET_53, *"""
c512,1,1l c1024,3,1l c512,1,1l c1024,3,1l c512,1,1l c1024,3,1l c{last},1,1 yolo
r-4 c256,1,1l upsample r-1,61 c256,1,1l c512,3,1l c256,1,1l c512,3,1l c256,1,1l c512,3,1l c{last},1,1 yolo
r-4 c128,1,1l upsample r-1,36 c128,1,1l c256,3,1l c128,1,1l c256,3,1l c128,1,1l c256,3,1l c{last},1,1 yolo
""".split()]  # fmt: skip
TINY_BEFORE_ITS_FIRST_END = """
c16,3,1l m2,2 c32,3,1l m2,2 c64,3,1l m2,2 c128,3,1l m2,2 c256,3,1l m2,2 c512,3,1l m2,1 c1024,3,1l c256,1,1l c512,3,1l
""".split()
YOLOV3_TINY = [*TINY_BEFORE_ITS_FIRST_END, *"""
c{last},1,1 yolo
r-4 c128,1,1l upsample r-1,8 c256,3,1l c{last},1,1 yolo
""".split()]  # fmt: skip

HEADER = struct.pack("<iiiq", 0, 2, 0, 32013312)


def layers_of(cfg, classes=80):
    """(kind, numbers, whether it has batch norm and a leaky ReLU) of each layer."""
    found = []
    for line in cfg:
        kind, numbers, leaky = re.fullmatch(r"([a-z]+?)([-\d,]*)(l?)", line.format(last=3 * (5 + classes))).groups()
        found.append((kind, [int(number) for number in numbers.split(",") if number], bool(leaky)))
    return found


def convolutions_of(cfg, classes=80, channels=3):
    """(inputs, filters, size, whether batch norm) of each convolution, by following the channels from layer to layer."""
    outputs, found = [], []
    for index, (kind, numbers, leaky) in enumerate(layers_of(cfg, classes)):
        if kind == "c":
            found.append((outputs[-1] if outputs else channels, *numbers[:2], leaky))
            outputs.append(numbers[0])
        elif kind == "r":
            outputs.append(sum(outputs[number if number >= 0 else index + number] for number in numbers))
        else:
            outputs.append(outputs[-1])
    return found


def blobs(cfg, classes=80, seed=0):
    """Of each convolution its arrays in the file's order, random, so that a signal keeps its size."""
    generator = np.random.default_rng(seed)

    def normal(*shape, scale=0.1):
        return (scale * generator.standard_normal(shape, "float32")).astype("<f4")

    for inputs, filters, size, batch_norm in convolutions_of(cfg, classes):
        kernel = normal(filters, inputs, size, size, scale=np.float32(np.sqrt(2 / (inputs * size * size))))
        if batch_norm:
            yield [normal(filters), 1 + normal(filters), normal(filters), 1 + np.abs(normal(filters)), kernel]
        else:
            yield [normal(filters), kernel]


def write(path, convolutions, header=HEADER):
    with open(path, "wb") as file:
        file.write(header)
        for arrays in convolutions:
            for array in arrays:
                file.write(array.tobytes())
    return path


def weights_of(network, number):
    """In the file's order and layout."""
    layer = network.get_layer(f"conv{number}")
    kernel = np.asarray(layer.kernel).transpose(3, 2, 0, 1)
    if layer.use_bias:
        return [np.asarray(layer.bias), kernel]
    scale, bias, mean, variance = network.get_layer(f"conv{number}_norm").get_weights()
    return [bias, scale, mean, variance, kernel]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("darknet") / "yolov3-tiny.weights", blobs(YOLOV3_TINY))


@pytest.fixture(scope="module")
def backbone_file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("darknet") / "darknet53.conv.74", blobs(DARKNET_53))


@pytest.fixture(scope="module")
def tiny():
    return models.yolov3_tiny(classes=80, input_shape=(64, 64, 3))


# The network written out in PyTorch.


def levels_in_torch(cfg, path, image, classes):
    """What the layers before each yolo layer give, (cells * anchors, 5 + classes), for an image (height, width, 3)."""
    torch = pytest.importorskip("torch")
    numbers = np.fromfile(path, "<f4", offset=len(HEADER))
    place, outputs, levels = 0, [], []

    def parameter(*shape):
        nonlocal place
        place += int(np.prod(shape))
        return torch.nn.Parameter(torch.from_numpy(numbers[place - int(np.prod(shape)) : place].reshape(shape)))

    x = torch.from_numpy(image.transpose(2, 0, 1)[None])
    with torch.no_grad():
        for index, (kind, arguments, batch_norm) in enumerate(layers_of(cfg, classes)):
            if kind == "c":
                filters, size, stride = arguments
                convolution = torch.nn.Conv2d(x.shape[1], filters, size, stride, size // 2, bias=not batch_norm)
                if batch_norm:
                    norm = torch.nn.BatchNorm2d(filters, eps=1e-5).eval()
                    norm.bias, norm.weight = parameter(filters), parameter(filters)
                    norm.running_mean, norm.running_var = parameter(filters).data, parameter(filters).data
                else:
                    convolution.bias = parameter(filters)
                convolution.weight = parameter(filters, x.shape[1], size, size)
                x = convolution(x)
                if batch_norm:
                    x = torch.nn.LeakyReLU(0.1)(norm(x))
            elif kind == "s":
                x = x + outputs[index + arguments[0]]
            elif kind == "m":
                size, stride = arguments
                if stride == 1:  # the last row and column have no neighbour
                    x = torch.nn.functional.pad(x, (0, 1, 0, 1), value=-torch.inf)
                x = torch.nn.MaxPool2d(size, stride)(x)
            elif kind == "upsample":
                x = torch.nn.Upsample(scale_factor=2, mode="nearest")(x)
            elif kind == "r":
                x = torch.cat([outputs[number if number >= 0 else index + number] for number in arguments], 1)
            else:
                levels.append(x[0].permute(1, 2, 0).reshape(-1, 5 + classes).numpy())
            outputs.append(x)
    assert place == len(numbers)
    return levels[::-1]  # the finest first


def assert_forward_pass_is_darknets(builder, cfg, path, size, classes):
    image = np.random.default_rng(1).uniform(size=(*size, 3)).astype("float32")
    expected = np.concatenate(levels_in_torch(cfg, path, image, classes))
    answer = builder(classes=classes, input_shape=(*size, 3), weights=path)(image[None], training=False)
    answer = np.concatenate([answer["offsets"][0], answer["objectness"][0][:, None], answer["logits"][0]], axis=-1)
    assert answer.shape == expected.shape and expected.std() > 0.1  # there is something to compare
    np.testing.assert_allclose(answer, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_the_small_network_answers_as_its_cfg_file_in_torch_does(tiny_file, size):
    assert_forward_pass_is_darknets(models.yolov3_tiny, YOLOV3_TINY, tiny_file, size, 80)


def test_yolov3_answers_as_its_cfg_file_in_torch_does(tmp_path):
    path = write(tmp_path / "yolov3.weights", blobs(YOLOV3, classes=2))
    assert_forward_pass_is_darknets(models.yolov3, YOLOV3, path, (64, 64), 2)


# What is read.


def test_files_have_the_sizes_of_those_that_the_authors_publish():
    def size(cfg):
        return len(HEADER) + 4 * sum(filters * (inputs * size**2 + (4 if norm else 1))
                                     for inputs, filters, size, norm in convolutions_of(cfg))  # fmt: skip

    assert (size(YOLOV3), size(YOLOV3_TINY), size(DARKNET_53)) == (248_007_048, 35_434_956, 162_482_580)


def test_every_weight_is_read_and_is_where_the_file_has_it(tiny_file, tiny):
    for variable in tiny.weights:
        variable.assign(np.full(variable.shape, 7.0))
    load_darknet(tiny, tiny_file)
    for number, arrays in enumerate(blobs(YOLOV3_TINY)):
        assert same(weights_of(tiny, number), arrays)
    assert not any((weight == 7.0).all() for weight in tiny.get_weights())


@pytest.mark.parametrize("header", [struct.pack("<iiii", 0, 1, 0, 9), struct.pack("<iiiq", 1, 0, 0, 9)])
def test_the_number_of_images_seen_has_four_bytes_before_version_0_2_and_eight_after(tmp_path, tiny, header):
    load_darknet(tiny, write(tmp_path / "old.weights", blobs(YOLOV3_TINY, seed=2), header))
    for number, arrays in enumerate(blobs(YOLOV3_TINY, seed=2)):
        assert same(weights_of(tiny, number), arrays)


def test_a_file_of_the_first_layers_leaves_the_others_as_they_are(tmp_path, tiny):
    before = {number: weights_of(tiny, number) for number in range(9, 13)}
    arrays = list(blobs(YOLOV3_TINY, seed=3))
    load_darknet(tiny, write(tmp_path / "yolov3-tiny.conv.15", arrays[:9]))
    assert len(convolutions_of(TINY_BEFORE_ITS_FIRST_END)) == 9
    assert all(same(weights_of(tiny, number), arrays[number]) for number in range(9))
    assert all(same(weights_of(tiny, number), before[number]) for number in before)


def test_darknet53_conv_74_fills_the_backbone_of_yolov3_alone(backbone_file):
    network = models.yolov3(classes=2, input_shape=(32, 32, 3), weights=backbone_file)
    for number, arrays in enumerate(blobs(DARKNET_53)):
        assert same(weights_of(network, number), arrays)
    assert number == 51 and network.get_layer("stage5_block4").input[1] is network.get_layer("conv51_leaky").output
    assert not any(network.get_layer(f"conv{number}_norm").moving_mean.numpy().any() for number in (52, 57, 59, 74 - 1))


def test_a_file_for_other_classes_leaves_the_last_layers_as_they_are(tiny_file):
    network = models.yolov3_tiny(classes=3, input_shape=(64, 64, 3))
    before = [weights_of(network, number) for number in (9, 12)]
    load_darknet(network, tiny_file)
    arrays = list(blobs(YOLOV3_TINY))
    assert all(same(weights_of(network, number), arrays[number]) for number in range(13) if number not in (9, 12))
    assert all(same(weights_of(network, number), old) for number, old in zip((9, 12), before, strict=True))


def test_a_saved_and_loaded_network_is_filled_as_well(tmp_path, tiny, tiny_file):
    tiny.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    load_darknet(again, write(tmp_path / "other.weights", blobs(YOLOV3_TINY, seed=4)))
    for number, arrays in enumerate(blobs(YOLOV3_TINY, seed=4)):
        assert same(weights_of(again, number), arrays)


def test_the_builder_takes_files_of_this_package_too(tmp_path, tiny):
    save_safetensors(tiny, tmp_path / "tiny.safetensors")
    again = models.yolov3_tiny(classes=80, input_shape=(64, 64, 3), weights=tmp_path / "tiny.safetensors")
    assert same(again.get_weights(), tiny.get_weights())


# What is refused.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: whole[:-1], r"must hold the numbers, .* of yolov3_tiny for any .* got 35434935 bytes after the header"),
        (lambda whole: whole + bytes(1), r"got 35434937 bytes after the header"),
        (lambda whole: whole[:-4], r"got 35434932 bytes after the header"),
        (lambda whole: whole + bytes(4), r"got 35434940 bytes after the header"),
        (lambda whole: whole[:20], r"got 0 bytes after the header"),
        (lambda whole: whole[:18], r"got -2 bytes after the header"),
        (lambda whole: whole[:15], r"must begin with 16 or 20 bytes that tell its version, got 15 bytes"),
        (lambda whole: b"", r"must begin with 16 or 20 bytes that tell its version, got 0 bytes"),
        # As many numbers as for 79 classes, but for 80: what follows the first level's end is not where it should be.
        (lambda whole: whole[: -4 * 3 * (513 + 257)], r"must hold variances of at least 0, got -.* conv10_norm/moving_variance"),
        (lambda whole: whole[:-4] + struct.pack("<f", np.nan), r"must hold finite numbers, got others for conv12/kernel"),
    ],
)
def test_what_is_no_such_file_is_refused_and_nothing_is_changed(tmp_path, tiny, tiny_file, change, message):
    before = tiny.get_weights()
    path = tmp_path / "damaged.weights"
    path.write_bytes(change(tiny_file.read_bytes()))
    with pytest.raises(ValueError, match=message) as refused:
        load_darknet(tiny, path)
    assert str(refused.value).startswith(f"weights: {path} must") and "\n" not in str(refused.value)
    assert same(tiny.get_weights(), before)


def test_a_file_of_the_other_network_is_refused(tiny, backbone_file):
    with pytest.raises(ValueError, match="of yolov3_tiny for any number of classes or .* got 162482560 bytes after the header"):
        load_darknet(tiny, backbone_file)


def test_the_size_is_compared_before_a_number_is_read(tmp_path, tiny):
    path = tmp_path / "huge.weights"
    with open(path, "wb") as file:
        file.write(HEADER)
        file.truncate(1 << 42)  # a file with a hole: 4 TiB that the disk does not have
    with pytest.raises(ValueError, match="got 4398046511084 bytes after the header"):
        load_darknet(tiny, path)


def test_a_file_that_is_not_there_is_refused(tmp_path, tiny):
    with pytest.raises(ValueError, match="weights must be an existing file, got '.*none.weights'"):
        models.yolov3_tiny(classes=80, weights=tmp_path / "none.weights")


def test_a_network_without_such_layers_is_refused(tiny_file):
    with pytest.raises(ValueError, match="must hold the numbers, in 4 bytes each, of resnet20_cifar"):
        load_darknet(models.resnet_cifar(depth=20, classes=2), tiny_file)
