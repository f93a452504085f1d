"""Safetensors files: a JSON header and raw numbers (https://github.com/huggingface/safetensors#format)."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

# The format's own limit on its header.
LARGEST_HEADER = 100_000_000

# NumPy has no bfloat16: those numbers are read as the upper halves of float32.
TYPES = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}  # fmt: skip


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, mapped from the file; bfloat16 becomes float32 in memory.

    Every size is checked against the file's length first, so that a damaged or hostile file allocates
    nothing.

    Raises:
        ValueError: the file is not what the format says.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= header_size <= min(LARGEST_HEADER, size - 8):
            raise ValueError(f"{path} is no safetensors file: a header of {header_size} bytes in {size}")
        try:
            header = json.loads(file.read(header_size), object_pairs_hook=_without_repetition)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} is no safetensors file: its header is no JSON object: {error}"
            ) from error
    if not isinstance(header, dict):
        raise ValueError(f"{path} is no safetensors file: its header is no JSON object")
    header.pop("__metadata__", None)
    start = 8 + header_size
    _check_layout(header, size - start, path)
    return {name: _map(path, start, entry) for name, entry in header.items()}


def write_safetensors(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a safetensors file; an older one is replaced only once the new one is complete.

    Raises:
        ValueError: an array's type has no name in the format.
    """
    names = {dtype: name for name, dtype in TYPES.items() if name != "BF16"}
    header, offset = {}, 0
    for name, array in arrays.items():
        if array.dtype not in names:
            raise ValueError(f"{name}: safetensors has no type for {array.dtype}")
        header[name] = {
            "dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]
        }  # fmt: skip
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the format allows trailing spaces, which align the numbers for mapping
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).tobytes())
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def save_safetensors(model: keras.Model, path: str | Path) -> None:
    """Write a network's weights under the names "layer/weight"."""
    arrays = {name: keras.ops.convert_to_numpy(weight) for name, weight in _named(model).items()}
    write_safetensors(path, arrays)


def load_safetensors(model: keras.Model, path: str | Path) -> None:
    """Give a network the weights that ``save_safetensors`` wrote; all names and shapes must fit first.

    Raises:
        ValueError: the names or a shape differ, or the file is damaged.
    """
    arrays, weights = read_safetensors(path), _named(model)
    missing, unknown = sorted(weights.keys() - arrays.keys()), sorted(arrays.keys() - weights.keys())
    if missing or unknown:
        raise ValueError(f"{path} is not of {model.name}: it lacks {missing[:3]} and adds {unknown[:3]}")
    for name, weight in weights.items():
        if arrays[name].shape != tuple(weight.shape):
            raise ValueError(
                f"{path}: {name} must have the shape {tuple(weight.shape)}, got {arrays[name].shape}"
            )
    for name, weight in weights.items():
        weight.assign(arrays[name])


def _named(model):
    return {weight.path: weight for weight in model.weights}


def _without_repetition(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _check_layout(header, data_size, path):
    """The arrays must be of known types and fill the file without gaps or overlaps, as the format demands."""
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(item[1])):
        shape, dtype = entry.get("shape"), TYPES.get(str(entry.get("dtype")))
        if dtype is None or not isinstance(shape, list) or not all(_is_size(side) for side in shape):
            raise ValueError(f"{path}: {name} has no legal type and shape")
        start, stop = _offsets(entry)
        if start != end or stop - start != math.prod(shape) * dtype.itemsize or stop > data_size:
            raise ValueError(f"{path}: {name} lies where its shape {shape} and the file's size forbid")
        end = stop
    if end != data_size:
        raise ValueError(f"{path}: {data_size - end} bytes belong to no array")


def _offsets(entry):
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(offset) for offset in offsets):
        raise ValueError(f"an array of the file has no legal data_offsets: {offsets!r}")
    return tuple(offsets)


def _is_size(value):
    return type(value) is int and value >= 0


def _map(path, start, entry):
    dtype, shape = TYPES[entry["dtype"]], tuple(entry["shape"])
    if math.prod(shape) == 0:  # nothing to map
        array = np.empty(shape, dtype)
    else:
        array = np.memmap(path, dtype, mode="r", offset=start + entry["data_offsets"][0], shape=shape)
    return (array.astype("<u4") << 16).view("<f4") if entry["dtype"] == "BF16" else array
