"""An exported file is asked in a process of its own, with its own runtime, and must answer as the run does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerastoolkit.experiment import RunError
from kerastoolkit.formats import Format, Part, runner
from kerastoolkit.formats.examples import Examples
from kerastoolkit.formats.parts import graph_of

SECONDS = 900  # for the process; a summariser's needs a minute or two on a busy machine
Batches = dict[str, list[dict[str, np.ndarray]]]


def prove(format: Format, path: Path, parts: list[Part], examples: Examples) -> float | None:
    """The largest difference of what a file answers from what the run does, of the larger of 1 and the answer; None where the run
    finds nothing in the examples, and so there is nothing but that to compare.

    Raises:
        RunError: the file does not run, or an answer differs by more than the format's tolerance.
    """
    batches = batches_for(parts, examples)
    return compare(format, parts, batches, answered(format, path, batches))


def batches_for(parts: list[Part], examples: Examples) -> Batches:
    """For each part all examples at once, and the first alone: a file must not hold how many there were when it was written."""
    given = {part.name: examples.given_to(part.model, prepared=part.name == "network") for part in parts}
    return {part: [tensors, {name: value[:1] for name, value in tensors.items()}] for part, tensors in given.items()}


def answered(format: Format, path: Path, batches: Batches) -> Batches:
    """What a file answers in a process that has never imported this package.

    Raises:
        RunError: it does not answer.
    """
    return ask(format, path, batches)[0]


def ask(format: Format, path: Path, batches: Batches, *, times: int | None = None) -> tuple[Batches, dict[str, float]]:
    """What a file answers, and where ``times`` are given also the milliseconds of each part's last batch, the median of these.

    Raises:
        RunError: it does not answer.
    """
    # Without -P the folder of the script would come before all others, and its onnx.py be taken for the package of that name.
    command = [sys.executable, "-P", runner.__file__, format.runtime, str(path.resolve())]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:
        given, answers = Path(folder) / "given.npz", Path(folder) / "answered.npz"
        runner.save(given, batches)
        command += [str(given), str(answers), *([] if times is None else [str(times)])]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, cwd=folder)
        except subprocess.TimeoutExpired:
            raise RunError(f"{format.name}: {format.runtime} has not answered in {SECONDS} s; nothing was written") from None
        if result.returncode:
            last = (result.stderr.strip() or f"exit {result.returncode}").splitlines()[-1][:300]
            raise RunError(f"{format.name}: {format.runtime} cannot run the exported model ({last}); nothing was written")
        return runner.load(answers), {} if times is None else json.loads(result.stdout)


def compare(format: Format, parts: list[Part], batches: Batches, answers: Batches) -> float | None:
    """The largest difference of answers from the run's own; None where the run's answers hold none but whole numbers and
    padding, as a detector's do that finds nothing.

    Raises:
        RunError: one is larger than the format's tolerance.
    """
    largest, compared = 0.0, 0
    for part in parts:
        run = _as_graph(part)
        for given, actual in zip(batches[part.name], answers[part.name], strict=True):
            for name, expected in run(given).items():
                difference = _difference(expected, actual[name])
                if not difference <= format.tolerance:
                    where = f"{format.name}, {part.name}: the exported model's {name}"
                    raise RunError(f"{where} differs from the run's by {difference:.1e}; nothing was written")
                largest = max(largest, difference)
                compared += np.count_nonzero(expected) if np.issubdtype(expected.dtype, np.floating) else 0
    return largest if compared else None


def _as_graph(part: Part) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """What the run answers, by the file's names. In a graph, as ``evaluate`` and ``predict`` do: operations one by one round
    otherwise, which large logits show."""
    graph = graph_of(part.model, part.answers)
    names = [tensor.name for tensor in part.model.inputs]

    def answer(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = (given[name] for name in names)
        found = graph(*(tf.constant(value.tolist() if value.dtype == object else value) for value in values))
        return {name: value.numpy() for name, value in found.items()}

    return answer


def _difference(expected: np.ndarray, actual: Any) -> float:
    if expected.shape != actual.shape:
        return float("inf")
    if np.issubdtype(expected.dtype, np.number):
        expected = expected.astype(np.float64)
        return float(np.max(np.abs(expected - actual) / np.maximum(1.0, np.abs(expected)), initial=0.0))
    return 0.0 if np.array_equal(expected, actual) else float("inf")
