"""State dicts of torchvision's Mask R-CNN: the names and shapes that it gives its weights, written down here once more.

The names are those of torchvision 0.29's ``maskrcnn_resnet50_fpn().state_dict()``, and the old ones those that its
``_load_from_state_dict`` methods rename (models/detection/rpn.py and mask_rcnn.py, ops/feature_pyramid_network.py).
"""

import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from kerastoolkit import models
from kerastoolkit.weights import is_torchvision, load_torchvision

CHANNELS, WIDTH, CLASSES = 4, 6, 2
SMALL = {"input_shape": (32, 32, 3), "channels": CHANNELS, "head_width": WIDTH}
BLOCKS = (3, 4, 6, 3)


def shapes():
    """Name -> shape, as PyTorch has them: outputs before inputs before height and width."""
    found = {"backbone.body.conv1.weight": (64, 3, 7, 7)}
    norms = {"backbone.body.bn1": 64}
    inputs = 64
    for stage, blocks in enumerate(BLOCKS, start=1):
        inner = 32 * 2**stage
        for block in range(blocks):
            place = f"backbone.body.layer{stage}.{block}"
            sizes = {1: (inner, inputs, 1, 1), 2: (inner, inner, 3, 3), 3: (4 * inner, inner, 1, 1)}
            for number, shape in sizes.items():
                found[f"{place}.conv{number}.weight"] = shape
                norms[f"{place}.bn{number}"] = shape[0]
            if block == 0:
                found[f"{place}.downsample.0.weight"] = (4 * inner, inputs, 1, 1)
                norms[f"{place}.downsample.1"] = 4 * inner
            inputs = 4 * inner
    for name, size in norms.items():
        found |= {f"{name}.{kind}": (size,) for kind in ("weight", "bias", "running_mean", "running_var")}
        found[f"{name}.num_batches_tracked"] = ()
    layers = {f"backbone.fpn.inner_blocks.{level}.0": (CHANNELS, 256 * 2**level, 1, 1) for level in range(4)}
    layers |= {f"backbone.fpn.layer_blocks.{level}.0": (CHANNELS, CHANNELS, 3, 3) for level in range(4)}
    layers |= {"rpn.head.conv.0.0": (CHANNELS, CHANNELS, 3, 3), "rpn.head.cls_logits": (3, CHANNELS, 1, 1),
               "rpn.head.bbox_pred": (12, CHANNELS, 1, 1), "roi_heads.box_head.fc6": (WIDTH, CHANNELS * 49),
               "roi_heads.box_head.fc7": (WIDTH, WIDTH), "roi_heads.box_predictor.cls_score": (CLASSES + 1, WIDTH),
               "roi_heads.box_predictor.bbox_pred": (4 * (CLASSES + 1), WIDTH)}  # fmt: skip
    layers |= {f"roi_heads.mask_head.{number}.0": (CHANNELS, CHANNELS, 3, 3) for number in range(4)}
    layers["roi_heads.mask_predictor.mask_fcn_logits"] = (CLASSES + 1, CHANNELS, 1, 1)
    found |= {f"{name}.weight": shape for name, shape in layers.items()}
    found |= {f"{name}.bias": shape[:1] for name, shape in layers.items()}
    up = "roi_heads.mask_predictor.conv5_mask"  # transposed: inputs before outputs
    return {**found, f"{up}.weight": (CHANNELS, CHANNELS, 2, 2), f"{up}.bias": (CHANNELS,)}


@pytest.fixture(scope="module")
def arrays():
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=shape).astype("float32") for name, shape in shapes().items()}


@pytest.fixture(scope="module")
def file(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "maskrcnn.safetensors"
    save_file(arrays, path)
    return path


@pytest.fixture(scope="module")
def loaded(file):
    return models.mask_rcnn(classes=CLASSES, **SMALL, weights=file)


def test_a_convolution_has_its_kernel_turned_round(loaded, arrays):
    for ours, theirs in (("stem_conv", "backbone.body.conv1"), ("stage3_block6_conv2", "backbone.body.layer3.5.conv2"),
                         ("stage2_block1_shortcut", "backbone.body.layer2.0.downsample.0"),
                         ("lateral5", "backbone.fpn.inner_blocks.3.0"), ("pyramid2", "backbone.fpn.layer_blocks.0.0"),
                         ("rpn_conv", "rpn.head.conv.0.0"), ("rpn_deltas", "rpn.head.bbox_pred"),
                         ("mask_conv4", "roi_heads.mask_head.3.0"),
                         ("mask_logits", "roi_heads.mask_predictor.mask_fcn_logits")):  # fmt: skip
        kernel = np.asarray(loaded.get_layer(ours).kernel)
        for place in np.ndindex(kernel.shape):
            row, column, entering, leaving = place
            assert kernel[place] == arrays[f"{theirs}.weight"][leaving, entering, row, column], ours


def test_a_transposed_convolution_keeps_which_channels_enter(loaded, arrays):
    kernel, theirs = np.asarray(loaded.get_layer("mask_up").kernel), arrays["roi_heads.mask_predictor.conv5_mask.weight"]
    for row, column, leaving, entering in np.ndindex(kernel.shape):
        assert kernel[row, column, leaving, entering] == theirs[entering, leaving, row, column]


def test_the_first_dense_layer_takes_the_channels_last(loaded, arrays):
    kernel, theirs = np.asarray(loaded.get_layer("fc6").kernel), arrays["roi_heads.box_head.fc6.weight"]
    for row, column, channel in np.ndindex(7, 7, CHANNELS):
        np.testing.assert_array_equal(kernel[(row * 7 + column) * CHANNELS + channel], theirs[:, channel * 49 + row * 7 + column])
    np.testing.assert_array_equal(loaded.get_layer("box_deltas").kernel, arrays["roi_heads.box_predictor.bbox_pred.weight"].T)


def test_a_batch_norm_has_scale_offset_and_statistics(loaded, arrays):
    for ours, theirs in (("stem_conv_norm", "backbone.body.bn1"), ("stage4_block3_conv3_norm", "backbone.body.layer4.2.bn3"),
                         ("stage1_block1_shortcut_norm", "backbone.body.layer1.0.downsample.1")):  # fmt: skip
        names = ("weight", "bias", "running_mean", "running_var")
        for value, name in zip(loaded.get_layer(ours).get_weights(), names, strict=True):
            np.testing.assert_array_equal(value, arrays[f"{theirs}.{name}"])


def test_with_its_weights_regions_are_read_as_torchvision_reads_them_and_norms_stay(loaded, file):
    assert not loaded.get_layer("box_align").aligned and not loaded.get_layer("mask_align").aligned
    assert not loaded.get_layer("stem_conv_norm").trainable
    assert models.mask_rcnn(classes=CLASSES, **SMALL, weights=file, aligned=True).get_layer("box_align").aligned
    assert models.mask_rcnn(classes=CLASSES, **SMALL).get_layer("box_align").aligned


def test_the_names_of_the_first_version_are_the_same_weights(loaded, arrays, tmp_path):
    older = {}
    for name, array in arrays.items():
        name = re.sub(r"(fpn\.\w+_blocks\.\d)\.0", r"\1", name).replace("rpn.head.conv.0.0", "rpn.head.conv")
        name = re.sub(r"mask_head\.(\d)\.0", lambda found: f"mask_head.mask_fcn{int(found[1]) + 1}", name)
        older[name] = array
    assert len(older.keys() - arrays.keys()) == 2 * (4 + 4 + 1 + 4)
    save_file(older, tmp_path / "older.safetensors")
    network = models.mask_rcnn(classes=CLASSES, **SMALL, weights=tmp_path / "older.safetensors")
    for one, other in zip(network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_files_of_other_networks_are_refused_and_change_nothing(arrays, tmp_path):
    network = models.mask_rcnn(classes=CLASSES, **SMALL)
    before = network.get_weights()
    fewer = {name: array for name, array in arrays.items() if name != "rpn.head.bbox_pred.bias"}
    wrong = {**arrays, "rpn.head.bbox_pred.bias": np.zeros(11, "float32")}
    more = {**arrays, "more": np.zeros(3, "float32")}
    for changed, message in ((fewer, r"lacks \['rpn.head.bbox_pred.bias'\]"), (more, r"adds \['more'\]"),
                             (wrong, r"rpn.head.bbox_pred.bias in .* must have the shape \(12,\), got \(11,\)")):  # fmt: skip
        save_file(changed, tmp_path / "changed.safetensors")
        with pytest.raises(ValueError, match=message):
            load_torchvision(network, tmp_path / "changed.safetensors")
    for one, other in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_network_on_another_backbone_does_not_take_them(file):
    with pytest.raises(ValueError, match="is not of mask_rcnn_resnet50_keras: it lacks"):
        models.mask_rcnn(classes=CLASSES, backbone="resnet50_keras", **SMALL, weights=file)


def test_other_files_are_not_torchvisions(file, tmp_path):
    save_file({"stem_conv/kernel": np.zeros(3, "float32")}, tmp_path / "own.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(file.read_bytes()[:1000])
    assert is_torchvision(file)
    assert not any(is_torchvision(tmp_path / name) for name in ("own.safetensors", "damaged.safetensors", "none.safetensors"))
    (tmp_path / "whole.safetensors").write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        load_torchvision(models.mask_rcnn(classes=CLASSES, **SMALL), tmp_path / "whole.safetensors")
