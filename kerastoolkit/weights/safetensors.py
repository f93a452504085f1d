"""A network's weights in a safetensors file: a JSON header and raw numbers (https://github.com/huggingface/safetensors#format)."""

import os
from pathlib import Path

import keras
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file


def save_safetensors(model: keras.Model, path: str | Path) -> None:
    """Write a network's weights under the names "layer/weight"; an older file is replaced once the new one is whole.

    Raises:
        OSError: the disk refused.
    """
    unfinished = f"{path}.part"
    save_file({name: keras.ops.convert_to_numpy(weight) for name, weight in _named(model).items()}, unfinished)
    os.replace(unfinished, path)


def load_safetensors(model: keras.Model, path: str | Path) -> None:
    """Give a network the weights that ``save_safetensors`` wrote.

    Names and shapes are compared in the header, before any number is read; nothing is changed unless all fit.

    Raises:
        ValueError: the file is damaged or no safetensors file, or its names or a shape differ from the network's.
        OSError: there is no such file.
    """
    weights = _named(model)
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            missing, unknown = sorted(weights.keys() - names), sorted(names - weights.keys())
            if missing or unknown:
                raise ValueError(f"weights: {path} is not of {model.name}: it lacks {missing[:3]} and adds {unknown[:3]}")
            for name, weight in weights.items():
                shape = tuple(file.get_slice(name).get_shape())
                if shape != tuple(weight.shape):
                    raise ValueError(f"weights: {name} in {path} must have the shape {tuple(weight.shape)}, got {shape}")
            arrays = {name: file.get_tensor(name) for name in weights}
    except SafetensorError as error:
        raise ValueError(f"weights: {path} is no whole safetensors file: {error}") from error
    for name, weight in weights.items():
        weight.assign(arrays[name])


def _named(model):
    return {weight.path: weight for weight in model.weights}
