import json
import struct
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from kerastoolkit.weights import load_safetensors, load_weights, save_safetensors


def network(units=3, name="small"):
    image = keras.Input((4,), name="image")
    hidden = layers.BatchNormalization(name="norm")(layers.Dense(units, name="hidden")(image))
    return keras.Model(image, layers.Dense(2, name="logits")(hidden), name=name)


def values(model):
    return [np.array(weight) for weight in model.get_weights()]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def write(path, model):
    if path.suffix == ".safetensors":
        save_safetensors(model, path)
    elif path.suffix == ".keras":
        model.compile("adam", "mse")  # so that the file holds an optimizer's arrays too
        model.fit(np.ones((2, 4)), np.ones((2, 2)), verbose=0)
        model.save(path)
    else:
        model.save_weights(path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.weights.h5", "w.keras"])
def test_each_kind_of_file_gives_back_every_weight(tmp_path, name):
    source, target = network(), network()
    assert not same(values(source), values(target))
    load_weights(target, write(tmp_path / name, source))
    assert same(values(source), values(target))


@pytest.mark.parametrize("name", ["w.safetensors", "w.weights.h5", "w.keras"])
def test_weights_of_another_shape_are_refused_and_nothing_is_changed(tmp_path, name):
    target = network(units=3)
    before = values(target)
    with pytest.raises(ValueError):
        load_weights(target, write(tmp_path / name, network(units=5)))
    assert same(values(target), before)


@pytest.mark.parametrize("name", ["w.safetensors", "w.weights.h5", "w.keras"])
@pytest.mark.parametrize("keep", [0, 5, 0.5])
def test_a_file_that_is_cut_short_is_refused_by_name(tmp_path, name, keep):
    path = write(tmp_path / name, network())
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=name):
        load_weights(network(), path)


def test_an_older_safetensors_file_is_replaced_and_nothing_else_is_left(tmp_path):
    first, second = network(), network()
    save_safetensors(first, tmp_path / "w.safetensors")
    save_safetensors(second, tmp_path / "w.safetensors")
    target = network()
    load_safetensors(target, tmp_path / "w.safetensors")
    assert same(values(target), values(second))
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_safetensors_names_that_differ_are_told(tmp_path):
    image = keras.Input((4,), name="image")
    other = keras.Model(image, layers.Dense(2, name="head")(image))
    save_safetensors(other, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"lacks \['hidden/bias'.* adds \['head/bias', 'head/kernel'\]"):
        load_safetensors(network(), tmp_path / "w.safetensors")


def header_only(path, header, length=None):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text)
    return path


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ({"hidden/kernel": {"dtype": "F32", "shape": [4, 10**12], "data_offsets": [0, 16 * 10**12]}}, None),
        ({}, 2**60),
        ({"hidden/kernel": {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 4]}}, None),
        ({"hidden/kernel": "no entry"}, None),
    ],
)
def test_a_safetensors_header_that_lies_allocates_nothing(tmp_path, header, length):
    with pytest.raises(ValueError, match=r"w\.safetensors"):
        load_weights(network(), header_only(tmp_path / "w.safetensors", header, length))


def test_an_h5_array_larger_than_every_weight_is_refused_before_it_is_read(tmp_path):
    path = write(tmp_path / "w.weights.h5", network())
    with h5py.File(path, "a") as file:
        file.create_dataset("large", shape=(10**6, 10**6), dtype="f4", chunks=(1, 1000), compression="gzip")  # bytes on disk
    with pytest.raises(ValueError, match="large in .*larger than every weight of small"):
        load_weights(network(), path)


@pytest.mark.parametrize("kind", [h5py.SoftLink, lambda to: h5py.ExternalLink("elsewhere.h5", to)])
def test_an_h5_link_is_refused(tmp_path, kind):
    path = write(tmp_path / "w.weights.h5", network())
    with h5py.File(path, "a") as file:
        file["link"] = kind("/layers")
    with pytest.raises(ValueError, match="holds a link, link"):
        load_weights(network(), path)


def test_an_h5_array_kept_in_another_file_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    path = write(tmp_path / "w.weights.h5", network())
    with h5py.File(path, "a") as file:
        file.create_dataset("borrowed", shape=(4,), dtype="f4", external=[(str(tmp_path / "secret"), 0, 16)])
    with pytest.raises(ValueError, match="refers to other files in borrowed"):
        load_weights(network(), path)


def test_a_keras_file_that_unpacks_to_too_much_is_refused(tmp_path):
    path = write(tmp_path / "w.keras", network())
    with zipfile.ZipFile(path) as archive:
        others = {name: archive.read(name) for name in archive.namelist() if name != "model.weights.h5"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in others.items():
            archive.writestr(name, data)
        archive.writestr("model.weights.h5", bytes(32_000_000))
    with pytest.raises(ValueError, match="unpacks to 32000000 bytes, too many for small"):
        load_weights(network(), path)


def test_a_keras_file_is_read_for_its_weights_alone(tmp_path):
    # A configuration that names a class to be imported is never looked at.
    path = write(tmp_path / "w.keras", source := network())
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents["config.json"] = b'{"module": "os", "class_name": "system", "config": "exit 1", "registered_name": null}'
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    target = network()
    load_weights(target, path)
    assert same(values(target), values(source))


@pytest.mark.parametrize("name", ["w.npz", "w.pkl", "w"])
def test_another_kind_of_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"must end in \.h5, \.hdf5, \.keras or \.safetensors"):
        load_weights(network(), tmp_path / name)
