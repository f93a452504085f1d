"""Weights of torchvision's Mask R-CNN: its state dict as a safetensors file."""

import re
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError, safe_open

MARK = "backbone.body.conv1.weight"
# How its first version spelled names, which torchvision's own loading still renames so.
OLD_NAMES = ((r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2"),
             (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
             (r"^(roi_heads\.mask_head\.)mask_fcn(\d)\.(weight|bias)$",
              lambda found: f"{found[1]}{int(found[2]) - 1}.0.{found[3]}"))  # fmt: skip
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
HEADS = {"rpn_conv": "rpn.head.conv.0.0", "rpn_objectness": "rpn.head.cls_logits", "rpn_deltas": "rpn.head.bbox_pred",
         "fc6": "roi_heads.box_head.fc6", "fc7": "roi_heads.box_head.fc7", "class_logits": "roi_heads.box_predictor.cls_score",
         "box_deltas": "roi_heads.box_predictor.bbox_pred", "mask_up": "roi_heads.mask_predictor.conv5_mask",
         "mask_logits": "roi_heads.mask_predictor.mask_fcn_logits"}  # fmt: skip


def is_torchvision(path: str | Path) -> bool:
    """Whether a file is a state dict of a detector of torchvision in the format of safetensors; its header alone is read."""
    if Path(path).suffix != ".safetensors" or not Path(path).is_file():
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            return MARK in file.keys()
    except SafetensorError:
        return False


def load_torchvision(model: keras.Model, path: str | Path) -> None:
    """Gives a network of ``models.mask_rcnn`` on torchvision's ResNet the weights of its twin,
    ``torchvision.models.detection.maskrcnn_resnet50_fpn``: a state dict, saved by ``safetensors.torch.save_file``.

    Names and shapes are compared in the header, before any number is read; nothing is changed unless all fit.

    Raises:
        ValueError: the file is damaged, or its names or a shape differ from the network's.
    """
    weights = {_name(weight): weight for weight in model.weights}
    try:
        with safe_open(path, framework="numpy") as file:
            keys = {_new(key): key for key in file.keys() if not key.endswith("num_batches_tracked")}
            missing, unknown = sorted(weights.keys() - keys.keys()), sorted(keys.keys() - weights.keys())
            if missing or unknown:
                raise ValueError(f"weights: {path} is not of {model.name}: it lacks {missing[:3]} and adds {unknown[:3]}")
            for name, weight in weights.items():
                shape, wanted = tuple(file.get_slice(keys[name]).get_shape()), _shape(name, tuple(weight.shape))
                if shape != wanted:
                    raise ValueError(f"weights: {keys[name]} in {path} must have the shape {wanted}, got {shape}")
            arrays = {name: _array(name, file.get_tensor(keys[name]), tuple(weight.shape)) for name, weight in weights.items()}
    except SafetensorError as error:
        raise ValueError(f"weights: {path} is no whole safetensors file: {error}") from error
    for name, weight in weights.items():
        weight.assign(arrays[name])


def _new(key: str) -> str:
    for old, new in OLD_NAMES:
        key = re.sub(old, new, key)
    return key


def _name(weight) -> str:
    """What torchvision calls a weight of ours."""
    layer, _, kind = weight.path.rpartition("/")
    layer = layer.split("/")[-1]
    last = NORM[kind] if layer.endswith("_norm") else {"kernel": "weight"}.get(kind, kind)
    if layer in HEADS:
        return f"{HEADS[layer]}.{last}"
    if found := re.fullmatch(r"(lateral|pyramid)(\d)", layer):
        return f"backbone.fpn.{'inner' if found[1] == 'lateral' else 'layer'}_blocks.{int(found[2]) - 2}.0.{last}"
    if found := re.fullmatch(r"mask_conv(\d)", layer):
        return f"roi_heads.mask_head.{int(found[1]) - 1}.0.{last}"
    if found := re.fullmatch(r"stem_conv(_norm)?", layer):
        return f"backbone.body.{'bn1' if found[1] else 'conv1'}.{last}"
    if found := re.fullmatch(r"stage(\d)_block(\d+)_(conv(\d)|shortcut)(_norm)?", layer):
        part = f"downsample.{1 if found[5] else 0}" if found[3] == "shortcut" else f"{'bn' if found[5] else 'conv'}{found[4]}"
        return f"backbone.body.layer{found[1]}.{int(found[2]) - 1}.{part}.{last}"
    return weight.path  # which no file of torchvision has


def _shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a weight of ours, the one that it has there."""
    return shape[::-1] if len(shape) == 2 else (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape


def _array(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 4:
        return values.transpose(2, 3, 1, 0)
    if name == f"{HEADS['fc6']}.weight":  # what it flattens has the channels first there
        side = 7
        values = values.reshape(len(values), -1, side, side).transpose(0, 2, 3, 1).reshape(len(values), -1)
    return values.T if len(shape) == 2 else values
