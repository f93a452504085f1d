"""What a recipe is, before it is trained: its paper, settings, data, parameters, FLOPs and layers."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from kerastoolkit import catalog
from kerastoolkit.experiment import Data, Experiment, InputError
from kerastoolkit.layers.recurrent import WrittenOut
from kerastoolkit.train import build


def show(recipe: catalog.Recipe, overrides: dict[str, Any], *, seed: int = 0) -> dict[str, Any]:
    """Facts of a recipe, as JSON can hold them.

    Where the recipe's data is not there, they end with the settings, and ``missing`` says what is.

    Raises:
        InputError: an override is refused.
    """
    facts: dict[str, Any] = {
        "name": recipe.name,
        "documentation": recipe.documentation,
        "settings": catalog.arguments(recipe, overrides),
    }
    try:
        experiment = build(recipe, facts["settings"], seed)
    except InputError as error:
        if overrides and str(error) != _failure(recipe, seed):
            raise
        return {**facts, "missing": str(error)}
    return {**facts, **_facts(experiment)}


def _failure(recipe: catalog.Recipe, seed: int) -> str | None:
    """What is wrong with the recipe as it stands, so for no fault of the overrides."""
    try:
        build(recipe, catalog.arguments(recipe, {}), seed)
    except InputError as error:
        return str(error)
    return None


def _facts(experiment: Experiment) -> dict[str, Any]:
    network = experiment.network
    return {
        "data": _data_facts(experiment.data),
        "task": experiment.task.name,
        "parameters": {
            "total": network.count_params(),
            "trainable": sum(_size(variable) for variable in network.trainable_variables),
        },
        "flops": flops(network),
        "compiled_by_xla": _compiled(experiment),
        **_normalised(network),
        "layers": layers(network),
    }


def _normalised(network: keras.Model) -> dict[str, str]:
    """What batch normalisation, where there is some, does on several replicas."""
    if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in network._flatten_layers()):
        return {}
    return {"batch_normalisation": "synchronised: by all examples of a step, whatever number of devices and workers compute it"}


def _compiled(experiment: Experiment) -> str:
    """What of the training step XLA compiles."""
    if experiment.jit_compile:
        return "the whole training step"
    found = []
    for layer in experiment.network.layers:
        parts = (layer.forward_layer, layer.backward_layer) if isinstance(layer, keras.layers.Bidirectional) else (layer,)
        if all(isinstance(part, WrittenOut) and part.compiles(layer.input.shape[1]) for part in parts):
            found.append(layer.name)
    return f"in training, the loops over time of {', '.join(found)}" if found else "nothing"


def _data_facts(data: Data) -> dict[str, Any]:
    sizes = {name: data.split(name).size for name in ("train", "validation", "test")}
    # How a mask's file is read is for the code, and its colours are for pictures.
    about = {name: value for name, value in data.about.items() if name not in ("coding", "palette")}
    return {"name": data.name, **sizes, **about}


def _size(variable: Any) -> int:
    return int(tf.TensorShape(variable.shape).num_elements())


def layers(network: keras.Model, inside: str = "") -> list[dict[str, Any]]:
    """A row for each layer of a functional model, those of models in it as encoder/hidden1: name, type, output shape without the
    batch, parameters."""
    rows = []
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            rows += layers(layer, f"{inside}{layer.name}/")
        elif not (inside and isinstance(layer, keras.layers.InputLayer)):
            rows.append({
                "name": inside + layer.name,
                "type": type(layer).__name__,
                "output": keras.tree.map_structure(lambda tensor: _shape_text(tensor.shape), layer.output),
                "parameters": layer.count_params(),
            })  # fmt: skip
    return rows


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape[1:]) or "one number"


def flops(network: keras.Model) -> int | None:
    """Floating-point operations of one forward pass on one example; a multiplication and an addition are two.

    TensorFlow's profiler counts them, and ``_einsum_flops`` what it leaves out. None where the graph does not
    tell: an input's size is left open, or there is a loop or a function in it, which the profiler skips.
    """
    inputs = keras.tree.map_structure(lambda x: tf.TensorSpec((1, *x.shape[1:]), x.dtype), network.input)
    if not all(spec.shape.is_fully_defined() for spec in keras.tree.flatten(inputs)):
        return None
    graph = tf.function(lambda inputs: network(inputs, training=False)).get_concrete_function(inputs).graph
    operations = graph.get_operations()
    if any(operation.type.endswith(("While", "PartitionedCall")) for operation in operations):
        return None
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    with _quiet():
        counted = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    return counted + sum(_einsum_flops(each) for each in operations if each.type == "Einsum")


def _einsum_flops(operation: tf.Operation) -> int:
    """Two for each combination of the equation's letters, so 2 n m k for "nk,km->nm"."""
    sizes: dict[str, int] = {}
    terms = operation.get_attr("equation").decode().partition("->")[0].split(",")
    for letters, tensor in zip(terms, operation.inputs, strict=True):
        sizes.update(zip(letters, tensor.shape, strict=True))
    return 2 * math.prod(sizes.values())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the profiler's remarks on its own deprecated calls and on operations without arithmetic."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
