"""The verb that exports: a run's serving model as a SavedModel, which any TensorFlow program loads without this package."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastoolkit.experiment import InputError, RunError, Task, rebuild
from kerastoolkit.pipeline import call
from kerastoolkit.runs import find_finished_run
from kerastoolkit.serving.model import decoded_model, from_encoded, load_serving_model

SAVED_MODEL = "saved_model"
# TensorFlow's place for files that travel with a SavedModel and that no op of it reads.
DESCRIPTION = Path("assets.extra") / "kerastoolkit.json"
TOLERANCE = 1e-5  # of the larger of 1 and the answer
PROBED = 3  # made-up examples, as many as a task's probe has


def export(run: str, target: str | None = None, *, kind: str = SAVED_MODEL) -> Path:
    """Writes the SavedModel of a finished run, or a file in another format that its task offers; returns where it is.

    The endpoint ``serve`` (also ``serving_default``) takes raw input (files' bytes); ``serve_decoded`` takes what decoding would
    give (pixels); what else the task offers (``encode``, ``sample``, ...) has a name of its own. All are compared with the run's
    own answers before the directory appears.

    Args:
        run: a run folder, or ``last``.
        target: where to write; by default ``<run>/saved_model``, or a file in the run's folder that bears the format's name.
        kind: the format: saved_model, or one of ``Task.formats``.
    Raises:
        InputError: no such run or format, or the target exists.
        RunError: the exported model does not load or answers something else, or the disk is full.
    """
    folder, record = find_finished_run(run)
    task = rebuild(record["task"])
    if kind not in (SAVED_MODEL, *task.formats):
        raise InputError(f"{task.name} is exported as {' or '.join((SAVED_MODEL, *task.formats))}, got {kind}")
    target = Path(target) if target else folder / kind
    if target.exists():
        raise InputError(f"export target {target} exists; nothing was written")
    serving = load_serving_model(folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind != SAVED_MODEL:
            task.formats[kind](serving, target)
            return target
        with tempfile.TemporaryDirectory(prefix=".exporting-", dir=target.parent) as temporary:
            written = Path(temporary) / "saved_model"
            endpoints = endpoints_of(serving, task)
            _write(serving, written, endpoints)
            extra = written / DESCRIPTION
            extra.parent.mkdir()
            extra.write_text(json.dumps({"task": record["task"], "recipe": record["recipe"]}, indent=2) + "\n")
            _compare(serving, written, task.probe(serving), endpoints)
            os.chmod(written, 0o755)
            os.rename(written, target)
    except OSError as error:
        raise RunError(f"export to {target} failed ({error.strerror}); nothing was written") from error
    return target


def endpoints_of(serving: keras.Model, task: Task) -> dict[str, keras.Model]:
    """What an export offers, by name: ``serve``, ``serve_decoded`` where raw input is encoded, and the task's own."""
    decoded = decoded_model(serving)
    own = task.endpoints(decoded) if task.endpoints else {}
    return {
        "serve": serving,
        **({"serve_decoded": decoded} if decoded is not serving else {}),
        **{name: from_encoded(serving, model) for name, model in own.items()},
    }


def _write(serving: keras.Model, path: Path, endpoints: dict[str, keras.Model]) -> None:
    archive = keras.export.ExportArchive()
    for model in {id(model): model for model in endpoints.values()}.values():
        archive.track(model)  # with its tables of words; ``serving`` is one of them
    # Keras lists its own variables here and TensorFlow's elsewhere, and each list would be written with all the weights.
    for name in ("variables", "trainable_variables", "non_trainable_variables"):
        setattr(archive._tf_trackable, name, [variable.value for variable in getattr(archive, name)])
    for name, model in endpoints.items():
        signature = [tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=tensor.name) for tensor in model.inputs]
        archive.add_endpoint(name, _by_name(model), input_signature=signature)
    archive.write_out(path, verbose=False)
    shutil.rmtree(path / "assets", ignore_errors=True)  # empty: nothing here reads files


def _by_name(model: keras.Model):
    names = [tensor.name for tensor in model.inputs]
    return lambda *tensors: call(model, dict(zip(names, tensors, strict=True)))


def _compare(serving: keras.Model, path: Path, probe: dict[str, Any], endpoints: dict[str, keras.Model]) -> None:
    """Answers made-up examples with the run's model and with the written one, at every endpoint.

    Raises:
        RunError: an answer differs.
    """
    loaded = tf.saved_model.load(path)  # kept in a name: its variables are gone with it
    for endpoint, model in endpoints.items():
        tensors = {tensor.name: _made_up(tensor, probe) for tensor in model.inputs}
        # In a graph, as ``evaluate`` and ``predict`` answer: operations one by one round otherwise, which large logits show.
        expected = tf.function(functools.partial(call, model))(tensors)
        actual = loaded.signatures[signature_name(endpoint)](**tensors)
        for name, value in expected.items():
            difference = _difference(np.asarray(value), actual[name].numpy())
            if not difference <= TOLERANCE:
                where = f"{endpoint}: the exported model's {name}"
                raise RunError(f"{where} differs from the run's by {difference:.1e}; nothing was written")


def signature_name(endpoint: str) -> str:
    """What a SavedModel calls an endpoint."""
    return "serving_default" if endpoint == "serve" else endpoint


def _made_up(tensor: Any, probe: dict[str, Any]) -> tf.Tensor:
    """What the probe has for an input, else a few numbers of its type."""
    value = probe.get(tensor.name)
    if value is not None and (value.dtype == object) == (tensor.dtype == "string"):
        return tf.constant(value.tolist() if value.dtype == object else value)
    generator, shape = np.random.default_rng(0), (PROBED, *(size or 1 for size in tensor.shape[1:]))
    if tensor.dtype.startswith("int"):
        return tf.constant(generator.integers(1, 9, shape), tensor.dtype)
    return tf.constant(generator.normal(size=shape), tensor.dtype)


def _difference(expected: np.ndarray, actual: np.ndarray) -> float:
    if expected.shape != actual.shape:
        return float("inf")
    if np.issubdtype(expected.dtype, np.number):
        expected = expected.astype(np.float64)
        return float(np.max(np.abs(expected - actual) / np.maximum(1.0, np.abs(expected)), initial=0.0))
    return 0.0 if np.array_equal(expected, actual) else float("inf")
