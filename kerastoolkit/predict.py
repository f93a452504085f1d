"""The verb that answers for inputs of one's own, from a run folder or from an exported SavedModel."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerastoolkit import charts
from kerastoolkit.checkpoints import write_file
from kerastoolkit.experiment import InputError, RunError, Task, chosen_settings, rebuild
from kerastoolkit.export import DESCRIPTION, endpoints_of, signature_name
from kerastoolkit.pipeline import call, naming_refused
from kerastoolkit.progress import say
from kerastoolkit.runs import find_finished_run
from kerastoolkit.serving.model import load_serving_model, with_settings

MOST_AT_ONCE = 32
BATCHES_WORTH_A_GRAPH = 10  # tracing takes as long as some batches, which then run several times faster
MOST_IN_NAME = 100  # bytes that a picture takes over into its name of what it shows; a file system takes 255


def predict(
    target: str, inputs: list[str], *, out: str | None = None, settings: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Answers each input; returns a row for each.

    Args:
        target: a run folder, ``last``, or the directory of an exported SavedModel.
        inputs: what the task reads: image files, folders of them, prompts, ...
        out: folder for a picture of each answer; None for none.
        settings: the task's settings (temperature, ...) where they differ from its defaults, as text.
    Raises:
        InputError: the target is neither, an input is not what the task reads, or a setting is not one of the task's.
        RunError: a picture could not be written.
    """
    task, load = _found(target)
    chosen = chosen_settings(task.settings, settings or {}, of=task.name)
    names, raw = task.read(inputs)
    answer, stages = load()
    rows, all_answers = [], []
    at_once = min(MOST_AT_ONCE, task.answered_at_once)
    for start in range(0, len(names), at_once):
        part = {name: values[start : start + at_once] for name, values in raw.items()}
        tensors = with_settings(_tensors(part), chosen)
        if stages is None and start == 0 and len(names) >= BATCHES_WORTH_A_GRAPH * at_once:
            answer = _as_graph(answer, tensors)
        with naming_refused():
            answers = {name: np.asarray(values) for name, values in answer(tensors).items()}
        some = names[start : start + at_once]
        rows += task.tell(some, answers)
        if out is not None:
            for i, name in enumerate(some):
                given, answered = _example(part, i), _example(answers, i)
                figure = task.draw(given, answered, name)
                files = {".png": charts.png(figure), **(task.files(given, answered) if task.files else {})}
                for ending, contents in files.items():
                    # The number keeps apart inputs of the same name from different folders.
                    _write(Path(out), f"{start + i + 1:03d}-{_stem(name)}{ending}", contents)
                if task.summary:
                    all_answers.append(answered)
    if stages is not None:
        stages.say()
    if out is not None and task.summary:
        for name, contents in task.summary(names, all_answers).items():
            _write(Path(out), name, contents)
    return rows


class _Stages:
    """A serving model in parts, one after the other, and how long each takes."""

    def __init__(self, functions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]]):
        compiled = functools.partial(tf.function, reduce_retracing=True, autograph=False)
        self.functions = {name: compiled(function) for name, function in functions.items()}
        self.seconds = dict.fromkeys(functions, 0.0)
        self.examples = 0

    def __call__(self, tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if not self.examples:
            self._run(tensors)  # the first time takes longer, as it makes the graphs
            self.seconds = dict.fromkeys(self.seconds, 0.0)
        self.examples += len(next(iter(tensors.values())))
        return self._run(tensors)

    def _run(self, tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        for name, function in self.functions.items():
            began = time.perf_counter()
            tensors = function(tensors)
            for tensor in tensors.values():
                tensor.numpy()
            self.seconds[name] += time.perf_counter() - began
        return tensors

    def say(self) -> None:
        each = ", ".join(f"{name} {1000 * seconds / self.examples:.1f}" for name, seconds in self.seconds.items())
        say(f"milliseconds per input: {each}")


Answer = Callable[[dict[str, tf.Tensor]], dict[str, Any]]


def _found(target: str) -> tuple[Task, Callable[[], tuple[Answer, _Stages | None]]]:
    """What a target is asked for, and what loads it, which takes seconds."""
    path = Path(target)
    if (path / "saved_model.pb").is_file():
        if not (path / DESCRIPTION).is_file():
            raise InputError(f"{path} is a SavedModel of another program (it has no {DESCRIPTION})")
        task = rebuild(json.loads((path / DESCRIPTION).read_bytes())["task"])
        return task, lambda: (_load_export(path, task), None)
    folder, record = find_finished_run(target)
    task = rebuild(record["task"])
    return task, lambda: _load_run(folder, task)


def _load_export(path: Path, task: Task) -> Answer:
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures[signature_name(task.asks)]
    taken = signature.structured_input_signature[1]
    # The default argument keeps the loaded model alive as long as the function.
    return lambda tensors, loaded=loaded: signature(**{name: tensors[name] for name in taken})


def _load_run(folder: Path, task: Task) -> tuple[Answer, _Stages | None]:
    serving = load_serving_model(folder)
    if task.stages is not None:
        stages = _Stages(task.stages(serving))
        return stages, stages
    model = endpoints_of(serving, task)[task.asks]
    return lambda tensors: call(model, tensors), None


def _as_graph(answer: Answer, tensors: dict[str, tf.Tensor]) -> Answer:
    """The same for any number of such examples at once, so that it is traced once."""
    specs = {name: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for name, tensor in tensors.items()}
    return tf.function(answer, input_signature=[specs], autograph=False)


def _example(batch: dict[str, Any], number: int) -> dict[str, Any]:
    return {name: values[number] for name, values in batch.items()}


def _tensors(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value.tolist() if value.dtype == object else value) for name, value in raw.items()}


def _stem(name: str) -> str:
    """The name of a file, or the beginning of a text, as part of a file's name."""
    return os.fsencode(Path(name).stem.replace("\0", ""))[:MOST_IN_NAME].decode(errors="ignore")


def _write(folder: Path, name: str, contents: bytes) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} could not be made ({error.strerror})") from error
    write_file(folder / name, contents)
