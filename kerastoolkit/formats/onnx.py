"""ONNX files: one graph of numbers, which ONNX Runtime and many others run.

Keras' own ``export(format="onnx")`` returns success for graphs that do not run, names outputs as it likes, and loses constants
that a layer holds as tensors. So the graph is made a constant one first, by TensorFlow, and tf2onnx gets that, with its names.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2  # as TensorFlow's own converters

from kerastoolkit.formats import Format, Part, Trained
from kerastoolkit.formats.parts import READ_AND_WRITTEN, graph_of, largest_part

OPSET = 18  # the newest that tf2onnx 1.17 writes
# tf2onnx converts these into a graph that ONNX Runtime refuses: paddings and what is padded get different types.
REFUSED = {("Pad", "uint8"), ("PadV2", "uint8"), (READ_AND_WRITTEN, "")}


def _choose(run: Trained) -> tuple[list[Part], str]:
    known = _converted()
    part, line = largest_part(run.candidates(), lambda op, kind: op in known and (op, kind) not in REFUSED, format="onnx")
    # In an ONNX file no two tensors have the same name.
    taken = {tensor.name for tensor in part.model.inputs}
    return [replace(part, answers={name: f"{name}_answer" if name in taken else name for name in part.answers})], line


def _write(parts: list[Part], path: Path, about: dict[str, Any]) -> None:
    from tf2onnx import convert

    (part,) = parts
    graph = convert_variables_to_constants_v2(graph_of(part.model, part.answers), lower_control_flow=False)
    inputs, outputs = [[tensor.name for tensor in tensors] for tensors in (graph.inputs, graph.outputs)]
    # TensorFlow gives the answers back sorted by name.
    names = {**{name: name.split(":")[0] for name in inputs}, **dict(zip(outputs, sorted(part.answers.values()), strict=True))}
    with _quiet():
        model, _ = convert.from_graph_def(
            graph.graph.as_graph_def(), name=part.name, input_names=inputs, output_names=outputs, opset=OPSET,
            tensors_to_rename=names, custom_op_handlers={name: (function, []) for name, function in _OWN.items()})  # fmt: skip
    arguments = about["task"].get("arguments", {})
    for key, value in {**about, "holds": part.name, **{key: arguments[key] for key in ("classes",) if key in arguments}}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    path.write_bytes(model.SerializeToString())


def _converted() -> set[str]:
    """The operations of TensorFlow that are converted."""
    with _quiet():
        import tf2onnx.tfonnx  # noqa: F401 - fills the list
        from tf2onnx.handler import tf_op

    return {name for versions in tf_op.get_opsets().values() for known in versions for name in known or ()} | set(_OWN)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """tf2onnx without its remarks, and with NumPy 2, whose missing names Keras gives back to it."""
    from keras.src.export.tf2onnx_lib import patch_tf2onnx  # not public, but what Keras' own export calls

    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch_tf2onnx()
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)  # what is not converted shows when the file is run
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def _complement(ctx: Any, node: Any, name: str, args: Any) -> None:
    """erfc(x) = 1 - erf(x): within float32's rounding of 1, the larger of the two in GELU."""
    one = _one(ctx, node)
    erf = ctx.make_node("Erf", node.input)
    _replaced(ctx, node, "Sub", [one, erf.output[0]])


def _log_of_sum(ctx: Any, node: Any, name: str, args: Any) -> None:
    """log1p(x) = log(1 + x), within float32's rounding of 1."""
    total = ctx.make_node("Add", [_one(ctx, node), node.input[0]])
    _replaced(ctx, node, "Log", total.output)


def _one(ctx: Any, node: Any) -> str:
    import numpy as np

    return ctx.make_const(f"{node.name}_one", np.array(1, np.float32)).output[0]


def _replaced(ctx: Any, node: Any, operation: str, inputs: list[str]) -> None:
    shapes, kinds, outputs = node.output_shapes, node.output_dtypes, list(node.output)
    ctx.remove_node(node.name)
    ctx.make_node(operation, inputs, name=node.name, outputs=outputs, shapes=shapes, dtypes=kinds)


_OWN = {"Erfc": _complement, "Log1p": _log_of_sum}  # which ONNX can express and tf2onnx does not know

# Another runtime adds up in another order and has its own exp and tanh: each layer rounds otherwise in the seventh digit, and
# deep networks, whose numbers are not all below 1, were seen to differ by some 1e-5.
FORMAT = Format("onnx", file="model.onnx", runtime="onnxruntime", packages=("tf2onnx", "onnxruntime"), extra="onnx",
                tolerance=1e-4, choose=_choose, write=_write)  # fmt: skip
