"""The serving model: raw input (files' bytes, strings, unscaled numbers) to what a person wants, in one Keras model."""

from __future__ import annotations

from typing import Any

import keras

DECODED = "decoded"


def serving_model(*, preprocess: keras.Model, network: keras.Model, task: Any) -> keras.Model:
    """Composes decode, preprocess, network and answer.

    Input   by name, what ``task.decode`` takes (encoded bytes), or what ``preprocess`` takes where nothing is ever encoded
    Output  the task's answers, a dict

    The part after decoding is a nested model named "decoded", for callers who hold decoded inputs.
    """
    inputs = {tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in preprocess.inputs}
    tensors = preprocess(inputs if len(inputs) > 1 else next(iter(inputs.values())))
    decoded = keras.Model(inputs, task.answer(network)(tensors), name=DECODED)
    if task.decode is None:
        return decoded
    decode = task.decode(preprocess)
    encoded = {tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in decode.inputs}
    pixels = decode(encoded if len(encoded) > 1 else next(iter(encoded.values())))
    pixels = pixels if isinstance(pixels, dict) else {next(iter(inputs)): pixels}
    return keras.Model(encoded, decoded(pixels), name="serving")


def decoded_model(serving: keras.Model) -> keras.Model:
    """The part of a serving model that takes decoded inputs."""
    return serving if serving.name == DECODED else serving.get_layer(DECODED)
