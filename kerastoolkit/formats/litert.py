"""LiteRT files (once TensorFlow Lite): one graph of numbers, for phones and small computers.

TensorFlow's converter is given a SavedModel with a signature, so that inputs and answers keep their names and the number of
examples stays open. Keras' own ``export(format="litert")`` falls back on TensorFlow's operations where LiteRT has none, and then
writes files that LiteRT alone does not load; here there are none but LiteRT's.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kerastoolkit.formats import Format, Part, Trained
from kerastoolkit.formats.parts import graph_of, largest_part

# TensorFlow's operations that its converter turns into LiteRT's. No loops: those that recurrent layers run over time keep their
# outputs in lists, which LiteRT has not.
HELD = set("""
    Abs Add AddN AddV2 All Any ArgMax ArgMin AvgPool BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd BroadcastTo Cast Ceil
    ConcatV2 Conv2D Conv2DBackpropInput Cos Cumsum DepthToSpace DepthwiseConv2dNative Div Elu Equal Erf Erfc Exp ExpandDims
    Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV3 GatherNd GatherV2 Greater GreaterEqual IsNan LRN LeakyRelu
    Less LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool Maximum Mean Min Minimum
    MirrorPad Mul Neg NotEqual OneHot OnesLike Pack Pad PadV2 Pow Prod Range Rank RealDiv Relu Relu6 Reshape ResizeBilinear
    ResizeNearestNeighbor ReverseV2 Round Rsqrt ScatterNd Select SelectV2 Shape Sigmoid Sign Sin Size Slice Softmax Softplus
    SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze StridedSlice Sub Sum Tanh Tile TopKV2 Transpose Unpack
    UnsortedSegmentSum Where ZerosLike
""".split())  # fmt: skip
NO_SUCH_TYPE = {("FloorDiv", "int64")}


def _choose(run: Trained) -> tuple[list[Part], str]:
    candidates = run.candidates()
    with _unrolled(candidates.values()) as lengths:
        part, line = largest_part(candidates, _holds, format="litert")
    unrolled = f"; its loops over time are written out, {' and '.join(map(str, lengths))} steps" if lengths else ""
    return [part], line + unrolled


def _holds(operation: str, kind: str) -> bool:
    return operation in HELD and kind != "float64" and (operation, kind) not in NO_SUCH_TYPE


def _write(parts: list[Part], path: Path, about: dict[str, Any]) -> None:
    (part,) = parts
    module = tf.Module()
    module.weights = [variable.value for variable in part.model.variables]  # so that they are written, too
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=path.parent) as temporary:
        with _unrolled([part.model]):
            tf.saved_model.save(module, temporary, signatures={part.name: graph_of(part.model, part.answers)})
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(temporary, signature_keys=[part.name]).convert())
    # As TensorFlow Lite's metadata does it with labels: a zip archive after the graph, which the runtime does not read.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("kerastoolkit.json", json.dumps({**about, "holds": part.name}, indent=2))


@contextlib.contextmanager
def _unrolled(models: Any) -> Iterator[list[int]]:
    """Recurrent layers of sequences of a known length without loops, while the context lasts; gives these lengths."""
    layers = {id(layer): layer for model in models for layer in _recurrent(model) if layer.input.shape[1] is not None}.values()
    before = [(layer, layer.unroll) for layer in layers]
    try:
        for layer in layers:
            layer.unroll = True
        yield sorted({layer.input.shape[1] for layer in layers})
    finally:
        for layer, unroll in before:
            layer.unroll = unroll


def _recurrent(model: keras.Model) -> Iterator[keras.layers.RNN]:
    for layer in model.layers:
        if isinstance(layer, keras.layers.RNN):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _recurrent(layer)


# The tolerance as for ONNX, and for the same reasons.
FORMAT = Format("litert", file="model.tflite", runtime="ai-edge-litert", packages=("ai-edge-litert",), extra="litert",
                tolerance=1e-4, choose=_choose, write=_write)  # fmt: skip
