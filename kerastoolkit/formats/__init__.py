"""The formats that a run is exported in: what each can hold, how it is written, and how it is shown to answer as the run does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kerastoolkit.experiment import Task
from kerastoolkit.serving.model import decoded_model, load_model


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder, record: where it is, and its run.json.
        task: what its record describes.
        serving: its serving model.
    """

    folder: Path
    record: dict[str, Any]
    task: Task
    serving: keras.Model

    @functools.cached_property
    def network(self) -> keras.Model:
        """What the builder made and training trained: tensors -> raw outputs.

        Raises:
            InputError: the run folder has no model.keras that this version reads.
        """
        return load_model(self.folder / "model.keras")

    def candidates(self) -> dict[str, keras.Model]:
        """What a file could hold, the largest first."""
        decoded = decoded_model(self.serving)
        parts = {"serve": self.serving, **({"serve_decoded": decoded} if decoded is not self.serving else {})}
        return {**parts, "network": self.network}

    @property
    def about(self) -> dict[str, Any]:
        """What an exported file should tell of itself."""
        return {"task": self.record["task"], "recipe": self.record["recipe"]}


@dataclass(frozen=True)
class Part:
    """Something that an exported file answers.

    Attributes:
        name: what it is called: ``serve``, ``serve_decoded``, ``network``, or one of the task's own endpoints.
        model: what answers it in the run.
        answers: the model's name of an answer -> the file's.
    """

    name: str
    model: keras.Model
    answers: dict[str, str]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: as it is asked for.
        file: what it is called in a folder.
        runtime: the package that runs it where this one is not, by its name on PyPI.
        packages: those that writing and running need, by their names on PyPI.
        extra: the extra of this package that brings them.
        tolerance: how far an answer may be from the run's, of the larger of 1 and the answer.
        choose: a run -> the parts that the file is to have, and a line on what they are and why there is no more, or "".
        write: (the parts, path, what the file should tell of itself); writes it.
    """

    name: str
    file: str
    runtime: str
    packages: tuple[str, ...]
    extra: str
    tolerance: float
    choose: Callable[[Trained], tuple[list[Part], str]]
    write: Callable[[list[Part], Path, dict[str, Any]], None]


def answers_of(model: keras.Model, tensors: Any) -> dict[str, Any]:
    """What a model gave, as a dict: a single tensor by the name of the layer that it comes from."""
    return dict(tensors) if isinstance(tensors, dict) else {model.output_names[0]: tensors}
