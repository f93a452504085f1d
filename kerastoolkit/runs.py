"""The run folder, ``runs/<recipe>/<number>/``: what it is made from, who may write in it, and what others read from it."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import kerastoolkit
from kerastoolkit.checkpoints import write_file
from kerastoolkit.experiment import InputError

RUNS = Path("runs")
BEFORE_RUN = {"lock", ".writing-run.json"}  # what is in a run folder before its run.json is
PACKAGES = ("tensorflow", "keras", "keras-hub", "numpy")


def new_settings(recipe: Any, arguments: dict[str, Any], seed: int, data_dir: str | None) -> dict[str, Any]:
    """What run.json says of a run that begins now."""
    return {
        "recipe": recipe.name,
        "source": f"{recipe.path}:{recipe.function}",
        "source_sha256": recipe.source_sha256,
        "arguments": arguments,
        "seed": seed,
        "data_dir": data_dir,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {"kerastoolkit": kerastoolkit.__version__, "python": platform.python_version(), **_versions()},
        "git_commit": _git_commit(recipe.path),
        "threads": os.cpu_count(),
        "status": "unfinished",
    }


def choose_folder(out: str | None, settings: dict[str, Any]) -> tuple[Path, dict[str, Any] | None]:
    """The folder to train in and, where a run is there already, its run.json.

    With ``out`` it is that folder; the run there must have the same settings. Without it, it is the newest run of this recipe if
    that has the same settings and source, else the next free number.

    Raises:
        InputError: ``out`` holds another run, or something that is not a run.
    """
    if out is None:
        home = RUNS / settings["recipe"]
        numbers = sorted(int(path.name) for path in home.iterdir() if path.name.isdigit()) if home.is_dir() else []
        if numbers and (home / str(numbers[-1]) / "run.json").is_file():
            newest = home / str(numbers[-1])
            record = read_run(newest)
            same_source = record.get("source_sha256") == settings["source_sha256"]
            if same_source and not _differences(record, settings):
                return newest, record
        return home / str(numbers[-1] + 1 if numbers else 1), None
    folder = Path(out)
    if (folder / "run.json").is_file():
        record = read_run(folder)
        if differences := _differences(record, settings):
            raise InputError(f"{folder} holds a run with other settings ({'; '.join(differences)}); give another --out")
        return folder, record
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - BEFORE_RUN):
        raise InputError(f"{folder} exists and is not a run folder (it has no run.json)")
    return folder, None


def _differences(record: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    if record["recipe"] != settings["recipe"]:
        return [f"recipe {record['recipe']}, not {settings['recipe']}"]
    old = {**record["arguments"], "seed": record["seed"], **record.get("options", {})}
    new = {**json.loads(json.dumps(settings["arguments"])), "seed": settings["seed"], **settings.get("options", {})}
    return [f"{key} {old.get(key)}, not {new.get(key)}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the run folder, so that two processes never train in it at once; a killed process lets go of it.

    Raises:
        InputError: another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "lock", "w")  # noqa: SIM115 - held open as long as the lock
    except OSError as error:
        raise InputError(f"run folder {folder} cannot be written ({error.strerror})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{folder} is being trained by another process") from None
        yield


def read_run(folder: Path) -> dict[str, Any]:
    """The run's run.json.

    Raises:
        InputError: the folder is not a run folder, or its run.json is not readable as one.
    """
    path = folder / "run.json"
    if not folder.is_dir():
        raise InputError(f"run {folder} does not exist; a run is a folder such as runs/digits-cnn/1, or `last`")
    if not path.is_file():
        raise InputError(f"{folder} is not a run folder (it has no run.json)")
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")
        for key in ("recipe", "arguments", "seed", "status"):
            if key not in record:
                raise ValueError(f"no {key!r} in it")
    except ValueError as error:
        raise InputError(f"{path} is not a run's run.json: {error}") from None
    return record


def write_run(folder: Path, record: dict[str, Any]) -> None:
    """Replaces the run's run.json."""
    write_file(folder / "run.json", json.dumps(record, indent=2) + "\n")


def find_run(text: str) -> Path:
    """The run folder that a person means: a path, or ``last``, the run that was begun or finished last under runs/.

    Raises:
        InputError: there is none.
    """
    if text != "last":
        read_run(Path(text))
        return Path(text)
    # Beside runs/<recipe>/<number> also runs/<name>, which --out names.
    records = sorted([*RUNS.glob("*/run.json"), *RUNS.glob("*/*/run.json")], key=lambda path: path.stat().st_mtime_ns)
    if not records:
        raise InputError(f"there is no run under {RUNS}/ yet; begin one with: kerastoolkit train digits-cnn")
    return records[-1].parent


def find_finished_run(text: str) -> tuple[Path, dict[str, Any]]:
    """The run folder and its run.json, for the verbs that need a trained model.

    Raises:
        InputError: there is none, or its training has not ended.
    """
    folder = find_run(text)
    record = read_run(folder)
    if record["status"] != "finished":
        raise InputError(f"run {folder} is not finished; continue it with: kerastoolkit train --resume {folder}")
    return folder, record


def use_data_dir(data_dir: str | None) -> None:
    """Tells TensorFlow Datasets where the data sets are, for the rest of the process."""
    if data_dir is not None:
        os.environ["TFDS_DATA_DIR"] = data_dir


def write_history(folder: Path, history: list[dict[str, float]]) -> None:
    """Replaces history.csv: a row for each epoch."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in history for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_file(folder / "history.csv", text.getvalue())


def read_history(folder: Path) -> list[dict[str, float]]:
    """The rows of history.csv, or none where no epoch has ended yet."""
    path = folder / "history.csv"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def compare(runs: list[str]) -> list[dict[str, Any]]:
    """A row for each run: its settings where they differ, and its figures.

    Raises:
        InputError: one of them is not a run.
    """
    folders = [find_run(run) for run in runs]
    records = [read_run(folder) for folder in folders]
    settings = [{**record["arguments"], "seed": record["seed"]} for record in records]
    names = list(dict.fromkeys(name for each in settings for name in each))
    differing = [name for name in names if len({json.dumps(each.get(name)) for each in settings}) > 1]
    rows = []
    for folder, record, each in zip(folders, records, settings, strict=True):
        evaluation = folder / "evaluation.json"
        figures = json.loads(evaluation.read_bytes())["figures"] if evaluation.is_file() else {}
        row = {"run": str(folder), "recipe": record["recipe"], "status": record["status"]}
        rows.append({**row, **{name: each.get(name) for name in differing}, "seconds": record.get("seconds"), **figures})
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [{column: row.get(column) for column in columns} for row in rows]


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def _git_commit(path: Path) -> str | None:
    command = ["git", "-C", str(Path(path).resolve().parent), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
