"""The verb that scores: a run's serving model on a split of raw examples, so the figure is the exported model's."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from kerastoolkit import charts
from kerastoolkit.checkpoints import write_file
from kerastoolkit.experiment import Data, InputError, Report, chosen_settings, rebuild
from kerastoolkit.pipeline import call, naming_refused, naming_unreadable, raw_batches
from kerastoolkit.runs import find_finished_run, use_data_dir
from kerastoolkit.serving.model import decoded_model, load_serving_model, with_settings


def evaluate(
    run: str, *, split: str = "test", data: str | None = None, data_dir: str | None = None,
    settings: dict[str, str] | None = None,
) -> tuple[dict[str, Any], Report]:
    """Scores a finished run and draws what its task deserves.

    Args:
        run: a run folder, or ``last``.
        split: test, validation or train.
        data: another data set of the same kind than the one trained on, by name or path.
        data_dir: where the data sets are; by default where they were in training.
        settings: the task's settings of scoring where they differ from its defaults, as text.
    Returns:
        (what evaluation.json says, the report). evaluation.json and plots/ are written for the run's own test split; for any
        other split or data, evaluation-<split>.json or nothing.
    Raises:
        InputError: no such run, split or data, a setting that the task has not, or the data has other classes, columns,
            steps or sizes.
    """
    folder, record = find_finished_run(run)
    task = rebuild(record["task"])
    scoring = chosen_settings(task.scoring, settings or {}, of=f"scoring {task.name}")
    use_data_dir(data_dir or record.get("data_dir"))
    serving = load_serving_model(folder)
    examples = rebuild(record["data_set"], **(_other(data, record, serving) if data else {}))
    source = examples.split(split)
    if not source.size:
        raise InputError(f"{examples.name} has no {split} examples in this run")
    _check_same_kind(examples, record)
    _check_same_size(examples, serving)
    began = time.monotonic()
    answering = {**task.settings, **{name: value for name, value in scoring.items() if name in task.settings}}
    report = task.score(answered(serving, examples, split, answering, task.answered_at_once), examples, serving, **scoring)
    result = {
        "run": str(folder), "recipe": record["recipe"], "data": examples.name, "split": split, "examples": source.size,
        "figures": report.figures, "baselines": report.baselines, **({"tables": report.tables} if report.tables else {}),
        **({"settings": scoring} if scoring else {}), **({"notes": list(report.notes)} if report.notes else {}),
        "seconds": round(time.monotonic() - began, 2),
    }  # fmt: skip
    result = _for_json(result)
    if data is None:
        suffix = "" if split == "test" else f"-{split}"
        (folder / "plots").mkdir(exist_ok=True)
        for name, figure in report.pictures.items():
            write_file(folder / "plots" / f"{name}{suffix}.png", charts.png(figure))
        write_file(folder / f"evaluation{suffix}.json", json.dumps(result, indent=2) + "\n")
    return result, report


def answered(
    serving: Any, data: Data, split: str, settings: dict[str, float], at_once: int
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """(raw batch, answers) over a split, as NumPy arrays; ``settings`` and ``at_once`` are the task's."""
    model = serving if data.encoded else decoded_model(serving)
    answer = tf.function(lambda inputs: call(model, inputs), reduce_retracing=True, autograph=False)
    source = data.split(split)

    def answer_raw(raw: dict[str, Any]) -> Any:
        return answer(with_settings({name: raw[name] for name in data.inputs}, settings))

    with naming_refused(), naming_unreadable(source, range(source.size), answer_raw):
        for raw in raw_batches(source, at_once):
            yield _arrays(raw), _arrays(answer_raw(raw))


def _arrays(tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _for_json(value: Any) -> Any:
    """The same for JSON, which knows no NumPy and no NaN or infinity: null in their place."""
    if isinstance(value, dict):
        return {name: _for_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_for_json(each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _other(data: str, record: dict[str, Any], serving: Any) -> dict[str, Any]:
    """The arguments that make the data set of ``data`` as the run needs it: the columns or the size that it had in training."""
    arguments, trained = record["data_set"]["arguments"], record["task"]["arguments"]
    wanted = {"data": data} | {name: trained[name] for name in ("columns",) if name in arguments and name in trained}
    return wanted | ({"size": decoded_model(serving).inputs[0].shape[1]} if "size" in arguments else {})


def _check_same_kind(data: Data, record: dict[str, Any]) -> None:
    trained = record["task"]["arguments"]
    for name in ("classes", "columns", "targets"):
        if name in trained and list(data.about.get(name, ())) != list(trained[name]):
            raise InputError(f"{data.name} has other {name} than the run was trained on: {', '.join(trained[name])}")
    if "step" in trained and data.about.get("step") != trained["step"]:
        rows = f"{data.about.get('step')} seconds apart, not {trained['step']}"
        raise InputError(f"the rows of {data.name} are {rows} as the run was trained on")


def _check_same_size(data: Data, serving: Any) -> None:
    wanted, got = decoded_model(serving).inputs[0].shape[1:], data.about.get("shape")
    if got is not None and len(got) == len(wanted) and tuple(got) != tuple(wanted):
        sizes = (" x ".join(map(str, shape)) for shape in (got, wanted))
        raise InputError("the images of {} are {}, not {} as the run was trained on".format(data.name, *sizes))
