"""The convolutions of VGG and ResNet as the first half of networks that answer for each pixel."""

from pathlib import Path

import keras

from kerastoolkit.models import resnet, vgg
from kerastoolkit.weights import load_image_weights

ENCODERS = (*(f"vgg{depth}" for depth in vgg.CONVOLUTIONS), *(f"resnet{depth}" for depth in resnet.BLOCKS))


def check_encoder(argument: str, name: str, batch_norm: bool) -> None:
    """Refuses what is no name of an encoder; ResNets have batch norm whatever is asked for."""
    if name not in ENCODERS:
        raise ValueError(f"{argument} must be one of {', '.join(ENCODERS)}, got {name!r}")
    if batch_norm and name.startswith("resnet"):
        raise ValueError(f"batch_norm must be False for {argument} {name!r}, whose own batch norm stays, got {batch_norm!r}")


def encode(name: str, x, batch_norm: bool, *, pooled: bool = False) -> dict[int, keras.KerasTensor]:
    """Features by how many times smaller than the image they are: {2: ..., 4: ..., 8: ..., 16: ..., 32: ...}.

    Of VGG those before a pool, {1: ... 16: ...} and after the last one {32: ...}; with ``pooled`` those after each pool.
    """
    depth = int(name.removeprefix("vgg").removeprefix("resnet"))
    if name.startswith("resnet"):
        return {2 ** (stage + 1): features for stage, features in enumerate(resnet.resnet_stages(x, depth))}
    stages = vgg.vgg_stages(x, depth, batch_norm)
    after = {2 ** (stage + 1): pool for stage, (_, pool) in enumerate(stages)}
    return after if pooled else {**{2**stage: before for stage, (before, _) in enumerate(stages)}, 32: after[32]}


def load_encoder_weights(model: keras.Model, name: str, batch_norm: bool, weights: str | Path | None) -> None:
    """Fills the whole network from a file of its own, or its encoder from "imagenet".

    Raises:
        ValueError: the weights do not fit, or there are none of that encoder.
        OSError: the ImageNet weights could not be fetched.
    """
    if weights != "imagenet":
        load_image_weights(model, weights, reference=None)
        return
    if batch_norm:
        raise ValueError(f"weights must be None or a file for {name} with batch_norm, got 'imagenet': there are no such weights")
    options = {}
    if name.startswith("vgg"):
        # Nine tenths of VGG's numbers are in its dense layers, which are fetched only where they have a place.
        has_place = any(layer.name == "fc6" and layer.filters == 4096 for layer in model.layers)
        options = {"head": "imagenet" if has_place else "cifar"}
    copy_encoder(model, getattr(vgg if name.startswith("vgg") else resnet, name)(weights="imagenet", **options))


def copy_encoder(model: keras.Model, classifier: keras.Model) -> None:
    """Gives the layers of a network the weights of those of the same name in a VGG or ResNet, where it has such; VGG's first two
    dense layers become convolutions, fc6 and fc7: Long et al. 2015, section 3.1."""
    layers = {layer.name: layer for layer in model.layers}
    for layer in classifier.layers:
        mine = layers.get({"dense1": "fc6", "dense2": "fc7"}.get(layer.name, layer.name))
        if mine is not None and mine.weights:
            weights = layer.get_weights()
            if layer.name.startswith("dense"):
                weights[0] = weights[0].reshape(mine.kernel.shape)
            mine.set_weights(weights)
