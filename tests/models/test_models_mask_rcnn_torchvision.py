"""Mask R-CNN against torchvision's own, with the same weights: the same pyramids, detections, masks and losses.

In a process of its own, which imports PyTorch before TensorFlow: some builds of the two die in the other order.
"""

import importlib.util
import os
import subprocess
import sys

import pytest

BOTH = """
import sys
import torch, torchvision
from safetensors.torch import save_file
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.image_list import ImageList
import keras, numpy as np
from kerastoolkit.losses import mask_rcnn as losses
from kerastoolkit.models import mask_rcnn, mask_rcnn_training
SIDE, path = 160, sys.argv[1]  # an odd multiple of 32, where the places of P6 are less than 64 pixels apart
torch.manual_seed(0)
theirs = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).eval()
with torch.no_grad():  # norms that are not trivial, and heads that suit the large numbers of such a pyramid
    for name, values in [*theirs.named_parameters(), *theirs.named_buffers()]:
        if "running_var" in name or ("bn" in name or "downsample.1" in name) and name.endswith("weight"):
            values.copy_(0.5 + torch.rand_like(values))
        elif "running_mean" in name or ("bn" in name or "downsample.1" in name) and name.endswith("bias"):
            values.copy_(0.1 * torch.randn_like(values))
    for layer, factor in ((theirs.rpn.head.cls_logits, 0.05), (theirs.rpn.head.bbox_pred, 0.02),
                          (theirs.roi_heads.box_predictor.cls_score, 0.1), (theirs.roi_heads.box_predictor.bbox_pred, 0.2),
                          (theirs.roi_heads.mask_predictor.mask_fcn_logits, 0.02)):
        layer.weight.mul_(factor)
save_file(theirs.state_dict(), path)
ours = mask_rcnn(classes=90, input_shape=(SIDE, SIDE, 3), weights=path)
coarse = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
images = np.asarray(keras.ops.image.resize(coarse, (SIDE, SIDE)))
boxes = np.array([[[5, 10, 40, 50], [50, 50, 125, 100], [15, 75, 30, 125]],
                  [[2, 2, 100, 30], [60, 40, 90, 120], [0] * 4]], "float32")
labels = np.array([[1, 17, 60], [3, 40, -1]], "int32")
masks = np.ones((2, 3, SIDE, SIDE), "uint8")  # inside everywhere, because the two read the masks half a pixel apart
with torch.no_grad():
    sizes = [(SIDE, SIDE)] * 2
    given = ImageList(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), sizes)
    levels = theirs.backbone(given.tensors)
    found, _ = theirs.roi_heads(levels, theirs.rpn(given, levels)[0], sizes)
    # All anchors and all regions instead of random ones.
    theirs.rpn.fg_bg_sampler = BalancedPositiveNegativeSampler(10**6, 0.5)
    theirs.roi_heads.fg_bg_sampler = BalancedPositiveNegativeSampler(10**5, 0.25)
    theirs.rpn.training = theirs.roi_heads.training = True
    truths = [{"boxes": torch.from_numpy(box[label >= 0]), "labels": torch.from_numpy(label[label >= 0].astype("int64") + 1),
               "masks": torch.from_numpy(mask[label >= 0])} for box, label, mask in zip(boxes, labels, masks)]
    proposals, first = theirs.rpn(given, levels, truths)
    _, second = theirs.roi_heads(levels, proposals, sizes, truths)
pyramid = keras.Model(ours.input, [ours.get_layer(f"pyramid{level}").output for level in range(2, 7)])
for mine, level in zip(pyramid(images), levels.values()):
    level = level.numpy().transpose(0, 2, 3, 1)
    assert np.abs(mine - level).max() < 2e-5 * np.abs(level).max(), np.abs(mine - level).max()
answers = {name: np.asarray(values) for name, values in ours(images).items()}
for number, each in enumerate(found):
    count = len(each["scores"])
    assert count > 20, count
    assert (answers["labels"][number] >= 0).sum() == count
    np.testing.assert_array_equal(answers["labels"][number, :count] + 1, each["labels"])
    for name, theirs_name, atol in (("boxes", "boxes", 5e-3), ("scores", "scores", 2e-5), ("masks", "masks", 5e-4)):
        value = each[theirs_name].numpy()
        np.testing.assert_allclose(answers[name][number, :count], value[:, 0] if name == "masks" else value, atol=atol)
losses.ANCHORS = 10_000
training = mask_rcnn_training(ours, regions=4_000, proposals=2_000)
targets = {"boxes": boxes, "labels": labels, "seeds": np.array([[1, 2], [3, 4]], "int32")}
parts = losses.mask_rcnn_loss_parts({**targets, "masks": masks}, training({"image": images, **targets}))
names = {"objectness": "loss_objectness", "anchor_boxes": "loss_rpn_box_reg", "classes": "loss_classifier",
         "boxes": "loss_box_reg", "masks": "loss_mask"}
for name, values in parts.items():
    np.testing.assert_allclose(np.mean(values), {**first, **second}[names[name]].item(), rtol=1e-4, err_msg=name)
print("the same as torchvision", torchvision.__version__)
"""


@pytest.mark.slow
def test_detections_masks_and_losses_are_those_of_torchvision(tmp_path):
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")  # of the benchmarks, and not among what tests need
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", BOTH, str(tmp_path / "torchvision.safetensors")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "the same as torchvision" in result.stdout
