"""The serving model: raw input (files' bytes, strings, unscaled numbers) to what a person wants, in one Keras model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import kerastoolkit.layers
import kerastoolkit.serving.bert
import kerastoolkit.serving.byte_pairs
import kerastoolkit.serving.decoding
import kerastoolkit.serving.detection
import kerastoolkit.serving.images
import kerastoolkit.serving.instances
import kerastoolkit.serving.masking
import kerastoolkit.serving.segmentation
import kerastoolkit.serving.series
import kerastoolkit.serving.spans
import kerastoolkit.serving.sure_objects
import kerastoolkit.serving.tags
import kerastoolkit.serving.text
import kerastoolkit.serving.tiles
import kerastoolkit.serving.word_pieces
import kerastoolkit.serving.words  # noqa: F401 - all register the layers that a saved model names
from kerastoolkit.experiment import InputError

DECODED = "decoded"


def serving_model(*, preprocess: keras.Model, network: keras.Model, task: Any) -> keras.Model:
    """Composes decode, preprocess, network and answer.

    Input   by name, what ``task.decode`` takes (encoded bytes), or what ``preprocess`` takes where nothing is ever encoded; and
            the task's settings, which only ``answer`` takes
    Output  the task's answers, a dict

    The part after decoding is a nested model named "decoded", for callers who hold decoded inputs.
    """
    inputs, answer = _inputs_like(preprocess), task.answer(network)
    outputs = preprocess(_alone(inputs))
    given = outputs if isinstance(outputs, dict) else {answer.inputs[0].name: outputs}
    settings = {name: tensor for name, tensor in _inputs_like(answer).items() if name not in given}
    inputs.update(settings)
    taken = {tensor.name: {**given, **settings}[tensor.name] for tensor in answer.inputs}
    decoded = keras.Model(_alone(inputs), answer(_alone(taken)), name=DECODED)
    if task.decode is None:
        return decoded
    decode = task.decode(preprocess)
    encoded = _inputs_like(decode)
    found = decode(_alone(encoded))
    found = found if isinstance(found, dict) else {decoded.inputs[0].name: found}
    # Fresh inputs: those of ``decoded`` are its own.
    settings = {name: tensor for name, tensor in _inputs_like(decoded).items() if name in settings}
    return keras.Model(_alone({**encoded, **settings}), decoded(_alone({**found, **settings})), name="serving")


def _inputs_like(model: keras.Model) -> dict[str, Any]:
    return {tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in model.inputs}


def _alone(tensors: dict[str, Any]) -> Any:
    # A model of one input takes the tensor itself; Keras warns about a dict.
    return tensors if len(tensors) > 1 else next(iter(tensors.values()))


def with_settings(raw: dict[str, Any], settings: dict[str, float]) -> dict[str, Any]:
    """A raw batch of tensors, and each of the settings for every example of it."""
    batch = tf.shape(next(iter(raw.values())))[:1]
    return {**raw, **{name: tf.fill(batch, tf.constant(value)) for name, value in settings.items()}}


def decoded_model(serving: keras.Model) -> keras.Model:
    """The part of a serving model that takes decoded inputs."""
    return serving if serving.name == DECODED else serving.get_layer(DECODED)


def decode_model(serving: keras.Model) -> keras.Model | None:
    """The part of a serving model that decodes: encoded inputs -> decoded ones; None where nothing is encoded."""
    decoded = decoded_model(serving)
    if decoded is serving:
        return None
    (decode,) = (layer for layer in serving.layers if isinstance(layer, keras.Model) and layer is not decoded)
    return decode


def from_encoded(serving: keras.Model, model: keras.Model) -> keras.Model:
    """A model of the decoded inputs of ``serving`` with the decoding of ``serving`` before it; any other as it is."""
    decoded = decoded_model(serving)
    decode = decode_model(serving)
    if decode is None or [tensor.name for tensor in decoded.inputs] != [tensor.name for tensor in model.inputs][:1]:
        return model
    inputs = {**_inputs_like(model), **_inputs_like(decode)}
    found = decode(_alone({tensor.name: inputs[tensor.name] for tensor in decode.inputs}))
    taken = {tensor.name: inputs[tensor.name] for tensor in model.inputs} | {decoded.inputs[0].name: found}
    return keras.Model(_alone(inputs), model(_alone(taken)), name=model.name)


def inner_layer(model: keras.Model, name: str) -> keras.layers.Layer:
    """The layer of that name in a model or in the models that it is made of.

    Raises:
        InputError: there is none.
    """
    models = [model]
    while models:
        layers = models.pop(0).layers
        for layer in layers:
            if layer.name == name:
                return layer
        models += [layer for layer in layers if isinstance(layer, keras.Model)]
    raise InputError(f"the model {model.name} has no {name}")


def load_serving_model(folder: Path) -> keras.Model:
    """The serving model of a finished run.

    Raises:
        InputError: the run folder has no serving.keras that this version reads.
    """
    return load_model(folder / "serving.keras")


def load_model(path: Path) -> keras.Model:
    """A model that a run wrote.

    Raises:
        InputError: there is none that this version reads.
    """
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from error
