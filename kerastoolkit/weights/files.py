"""Weights from a file, checked before anything is allocated: a file may come from anyone."""

import io
import math
import zipfile
from pathlib import Path

import h5py
import keras

from kerastoolkit.weights.safetensors import load_safetensors

# A .keras file holds the weights and at most three more of each for the optimizer (Adam with amsgrad), plus
# its outline.
COPIES_OF_A_WEIGHT = 4
OUTLINE_BYTES = 1 << 24


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Give ``model`` the weights of a file.

    Files by the end of their names:
    - ``.weights.h5``: ``model.save_weights`` of this network, or of its twin in keras.applications;
    - ``.h5``, ``.hdf5``: Keras 2's layout, in which keras.applications publishes its weights;
    - ``.keras``: a whole saved model, of which only the weights are read (its configuration is not run);
    - ``.safetensors``: written by ``save_safetensors``.

    No format here can hold code, and no array may be larger than the network's largest weight. HDF5 files are
    matched by order and shape, as Keras does; safetensors by name and shape.

    Raises:
        ValueError: no such file, another kind of file, a damaged one, or weights of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"weights must be None, 'imagenet' or an existing file, got {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            load_safetensors(model, path)
        elif path.suffix == ".keras":
            _check_h5(_weights_in_archive(path, model), path, model)
            model.load_weights(path)
        elif path.suffix in (".h5", ".hdf5"):
            _check_h5(path, path, model)
            model.load_weights(path)
        else:
            raise ValueError(f"weights must end in .h5, .hdf5, .keras or .safetensors, got {str(path)!r}")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"weights: {path} cannot be read: {error}") from error


def _weights_in_archive(path, model):
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("model.weights.h5")
        weight_bytes = sum(math.prod(weight.shape) * 8 for weight in model.weights)
        if member.file_size > COPIES_OF_A_WEIGHT * weight_bytes + OUTLINE_BYTES:
            raise ValueError(
                f"weights: {path} unpacks to {member.file_size} bytes, too many for {model.name}"
            )
        return io.BytesIO(archive.read(member))


def _check_h5(source, path, model):
    """Refuse what could allocate more than the network needs, other files, and another network's weights."""
    largest = max(math.prod(weight.shape) for weight in model.weights)
    found = 0
    with h5py.File(source, "r") as file:
        for name, dataset in _datasets(file, path):
            if dataset.is_virtual or dataset.external:
                raise ValueError(f"weights: {path} refers to other files in {name}")
            if math.prod(dataset.shape) > largest:
                raise ValueError(
                    f"weights: {name} in {path} has the shape {dataset.shape}, "
                    f"larger than every weight of {model.name}"
                )
            is_seed = dataset.dtype.kind != "f"
            is_optimizer = "optimizer" in name.split("/")[0]
            found += not is_seed and not is_optimizer
    if found != len(model.weights):
        raise ValueError(
            f"weights: {path} holds {found} arrays and {model.name} has {len(model.weights)} weights"
        )


def _datasets(group, path):
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"weights: {path} holds a link, {name}, where only arrays are read")
        member = group[name]
        if isinstance(member, h5py.Dataset):
            yield member.name.lstrip("/"), member
        else:
            yield from _datasets(member, path)
