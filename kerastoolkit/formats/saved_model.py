"""SavedModels: the whole serving model and what else its task offers, for TensorFlow in any language."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kerastoolkit.experiment import Task
from kerastoolkit.formats import Format, Part, Trained, answers_of
from kerastoolkit.pipeline import call
from kerastoolkit.serving.model import decoded_model, from_encoded

# TensorFlow's place for files that travel with a SavedModel and that no op of it reads.
DESCRIPTION = Path("assets.extra") / "kerastoolkit.json"


def endpoints_of(serving: keras.Model, task: Task) -> dict[str, keras.Model]:
    """What an export offers, by name: ``serve``, ``serve_decoded`` where raw input is encoded, and the task's own."""
    decoded = decoded_model(serving)
    own = task.endpoints(decoded) if task.endpoints else {}
    return {
        "serve": serving,
        **({"serve_decoded": decoded} if decoded is not serving else {}),
        **{name: from_encoded(serving, model) for name, model in own.items()},
    }


def parts_of(endpoints: dict[str, keras.Model]) -> list[Part]:
    """The same with all their answers, by their names in the run."""
    return [Part(name, model, {each: each for each in answers_of(model, model.output)}) for name, model in endpoints.items()]


def signature_name(endpoint: str) -> str:
    """What a SavedModel calls an endpoint."""
    return "serving_default" if endpoint == "serve" else endpoint


def write_endpoints(endpoints: dict[str, keras.Model], path: Path) -> None:
    """Writes a SavedModel with these endpoints, of which the first is also ``serving_default``."""
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


def _choose(run: Trained) -> tuple[list[Part], str]:
    return parts_of(endpoints_of(run.serving, run.task)), ""


def _write(parts: list[Part], path: Path, about: dict[str, Any]) -> None:
    write_endpoints({part.name: part.model for part in parts}, path)
    extra = path / DESCRIPTION
    extra.parent.mkdir()
    extra.write_text(json.dumps(about, indent=2) + "\n")


FORMAT = Format("saved_model", file="saved_model", runtime="tensorflow", packages=(), extra="", tolerance=1e-5, choose=_choose,
                write=_write)  # fmt: skip
