"""The verb that exports: a run's serving model as a SavedModel, which any TensorFlow program loads without this package."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastoolkit.experiment import InputError, RunError, rebuild
from kerastoolkit.pipeline import call
from kerastoolkit.runs import find_finished_run
from kerastoolkit.serving.model import decoded_model, load_serving_model

# TensorFlow's place for files that travel with a SavedModel and that no op of it reads.
DESCRIPTION = Path("assets.extra") / "kerastoolkit.json"
TOLERANCE = 1e-5


def export(run: str, directory: str | None = None) -> Path:
    """Writes the SavedModel of a finished run; returns its directory.

    The endpoint ``serve`` (also ``serving_default``) takes raw input (files' bytes); ``serve_decoded`` takes what decoding would
    give (pixels). Both are compared with the run's own answers before the directory appears.

    Args:
        run: a run folder, or ``last``.
        directory: where to write; by default ``<run>/saved_model``.
    Raises:
        InputError: no such run, or the directory exists.
        RunError: the exported model does not load or answers something else, or the disk is full.
    """
    folder, record = find_finished_run(run)
    target = Path(directory) if directory else folder / "saved_model"
    if target.exists():
        raise InputError(f"export target {target} exists; nothing was written")
    task = rebuild(record["task"])
    serving = load_serving_model(folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".exporting-", dir=target.parent) as temporary:
            written = Path(temporary) / "saved_model"
            _write(serving, written)
            extra = written / DESCRIPTION
            extra.parent.mkdir()
            extra.write_text(json.dumps({"task": record["task"], "recipe": record["recipe"]}, indent=2) + "\n")
            _compare(serving, written, task.probe(serving))
            os.chmod(written, 0o755)
            os.rename(written, target)
    except OSError as error:
        raise RunError(f"export to {target} failed ({error.strerror}); nothing was written") from error
    return target


def _write(serving: keras.Model, path: Path) -> None:
    archive = keras.export.ExportArchive()
    archive.track(serving)
    endpoints = {"serve": serving}
    decoded = decoded_model(serving)
    if decoded is not serving:
        endpoints["serve_decoded"] = decoded
    for name, model in endpoints.items():
        signature = [tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=tensor.name) for tensor in model.inputs]
        archive.add_endpoint(name, _by_name(model), input_signature=signature)
    archive.write_out(path, verbose=False)
    shutil.rmtree(path / "assets", ignore_errors=True)  # empty: nothing here reads files


def _by_name(model: keras.Model):
    names = [tensor.name for tensor in model.inputs]
    return lambda *tensors: call(model, dict(zip(names, tensors, strict=True)))


def _compare(serving: keras.Model, path: Path, probe: dict[str, Any]) -> None:
    """Answers made-up examples with the run's model and with the written one.

    Raises:
        RunError: an answer differs.
    """
    tensors = {name: tf.constant(value.tolist() if value.dtype == object else value) for name, value in probe.items()}
    loaded = tf.saved_model.load(path)  # kept in a name: its variables are gone with it
    expected = call(serving, tensors)
    actual = loaded.signatures["serving_default"](**tensors)
    for name, value in expected.items():
        difference = _difference(np.asarray(value), actual[name].numpy())
        if not difference <= TOLERANCE:
            raise RunError(f"the exported model's {name} differs from the run's by {difference}; nothing was written")


def _difference(expected: np.ndarray, actual: np.ndarray) -> float:
    if expected.shape != actual.shape:
        return float("inf")
    if np.issubdtype(expected.dtype, np.number):
        return float(np.max(np.abs(expected.astype(np.float64) - actual.astype(np.float64)), initial=0.0))
    return 0.0 if np.array_equal(expected, actual) else float("inf")
