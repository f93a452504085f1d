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
from kerastoolkit.formats.parts import graph_of
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
    """Writes a SavedModel with these endpoints, of which ``serve`` is also ``serving_default``.

    Not by Keras' ExportArchive, which traces each endpoint four times where once is enough.
    """
    module, graphs = tf.Module(), {}
    for name, model in endpoints.items():
        graphs[name] = graph_of(model)
        setattr(module, name, graphs[name])
    module.weights = list({id(variable): variable for graph in graphs.values() for variable in graph.variables}.values())
    module.tables = [each for model in endpoints.values() for each in _tables(model)]
    tf.saved_model.save(module, path, signatures={signature_name(name): graph for name, graph in graphs.items()} | graphs)
    shutil.rmtree(path / "assets", ignore_errors=True)  # empty: nothing here reads files


def _tables(model: keras.Model) -> list[Any]:
    """Those in which layers look up words."""
    found = tf.train.TrackableView(model).descendants()
    return [each for each in found if isinstance(each, tf.saved_model.experimental.TrackableResource)]


def _choose(run: Trained) -> tuple[list[Part], str]:
    return parts_of(endpoints_of(run.serving, run.task)), ""


def _write(parts: list[Part], path: Path, about: dict[str, Any]) -> None:
    write_endpoints({part.name: part.model for part in parts}, path)
    extra = path / DESCRIPTION
    extra.parent.mkdir()
    extra.write_text(json.dumps(about, indent=2) + "\n")


FORMAT = Format("saved_model", file="saved_model", runtime="tensorflow", packages=(), extra="", tolerance=1e-5, choose=_choose,
                write=_write)  # fmt: skip
