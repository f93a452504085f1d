"""The verb that searches for a recipe's best settings.

What was tried stands in study.json, and the next settings depend on nothing else, so that a search killed at any moment goes on
as if it had never stopped.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from kerastoolkit import catalog
from kerastoolkit.checkpoints import write_file
from kerastoolkit.experiment import InputError, RunError
from kerastoolkit.progress import say
from kerastoolkit.runs import RUNS, locked
from kerastoolkit.search_space import Space, value_text
from kerastoolkit.search_trials import Trainer, alone, signals

MOST_REFUSED = 3  # so many first trials that the recipe refuses, and it will refuse the others too


def tune(
    recipe: catalog.Recipe,
    overrides: dict[str, Any],
    space: Space,
    *,
    trials: int = 20,
    goal: str = "val_loss",
    direction: str | None = None,
    out: str | None = None,
    seed: int = 0,
    data_dir: str | None = None,
    checkpoint_seconds: float = 30.0,
) -> dict[str, Any]:
    """Searches for the settings with which a recipe reaches the best goal, or continues that search.

    Args:
        recipe: which to train.
        overrides: settings that are the same in all trials and differ from the recipe's defaults.
        space: what to search, from ``search_space.parse_space``.
        trials: how many in all, those of before among them.
        goal: a column of history.csv of the validation split; its last epoch counts, for that model is kept.
        direction: "minimise" or "maximise"; None where the goal's name tells it.
        out: the folder of the search; None for ``runs/tune-<recipe>/<number>``.
        seed: of the search, and of each trial's training.
        data_dir, checkpoint_seconds: as for ``train``.
    Returns:
        What the command prints: "search" (the folder), "recipe", "goal", "direction", "trials" (a row for each, the best
        first), "picture" and "best" (the run folder).
    Raises:
        InputError: something given is wrong, or the recipe refuses every trial.
        RunError: no trial has finished, one was killed, or the disk is full.
        SystemExit: 130 or 143 after Ctrl-C or SIGTERM, when the trial has written its checkpoint.
    """
    for name in space:
        if name in overrides:
            raise InputError(f"{name} cannot be both searched and set to {value_text(overrides[name])}")
    for name, value, least in (("trials", trials, 1), ("seed", seed, 0), ("checkpoint seconds", checkpoint_seconds, 0)):
        if value < least:
            raise InputError(f"{name} must be {least} or more, got {value}")
    if not goal.startswith("val_"):
        raise InputError(f"the goal must be a figure of the validation split, such as val_loss, got {goal}")
    if importlib.util.find_spec("optuna") is None:
        raise InputError("tune needs optuna: pip install 'kerastoolkit[tune]'")
    study = {
        "recipe": recipe.name,
        "source": f"{recipe.path}:{recipe.function}",
        "source_sha256": recipe.source_sha256,
        "searched": {name: str(each) for name, each in space.items()},
        "arguments": {name: value for name, value in catalog.arguments(recipe, overrides).items() if name not in space},
        "seed": seed,
        "goal": goal,
        "direction": direction or _direction(goal),
        "trials": [],
    }
    folder = _choose_folder(out, study)
    options = ["--seed", str(seed), "--checkpoint-seconds", str(checkpoint_seconds)]
    options += [] if data_dir is None else ["--data-dir", data_dir]
    with locked(folder), signals() as stop:
        study = _begin(folder, study)
        with alone(folder, stop) as lock:
            _search(study, space, trials, folder, Trainer(recipe, overrides, goal, options, folder / "trials", stop, lock))
    if not (rows := _report(folder, study, space)) or rows[0]["status"] != "finished":
        last = next((trial["message"] for trial in reversed(study["trials"]) if trial["message"]), "none was begun")
        raise RunError(f"no trial has finished; the last: {last}")
    return {"search": str(folder), **{name: study[name] for name in ("recipe", "goal", "direction")}, "trials": rows,
            "picture": str(folder / "trials.png"), "best": rows[0]["run"]}  # fmt: skip


def _direction(goal: str) -> str:
    for ending, direction in (("loss", "minimise"), ("error", "minimise"), ("accuracy", "maximise")):
        if goal.endswith(ending):
            return direction
    raise InputError(f"{goal} needs --direction, minimise or maximise: it is known for losses, errors and accuracies alone")


# The folder of the search.


def _choose_folder(out: str | None, study: dict[str, Any]) -> Path:
    """As ``runs.choose_folder`` does it for runs: ``out``, or the newest of these numbers if it is this search, or the next."""
    if out is None:
        home = RUNS / f"tune-{study['recipe']}"
        numbers = sorted(int(path.name) for path in home.iterdir() if path.name.isdigit()) if home.is_dir() else []
        if numbers and (home / str(numbers[-1]) / "study.json").is_file():
            before = _read(home / str(numbers[-1]))
            if before["source_sha256"] == study["source_sha256"] and not _differences(before, study):
                return home / str(numbers[-1])
        return home / str(numbers[-1] + 1 if numbers else 1)
    folder = Path(out)
    if (folder / "study.json").is_file():
        if differences := _differences(_read(folder), study):
            raise InputError(f"{folder} holds another search ({'; '.join(differences)}); give another --out")
    elif folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - {"lock", ".writing-study.json"}):
        raise InputError(f"{folder} exists and is not a search's folder (it has no study.json)")
    return folder


def _begin(folder: Path, study: dict[str, Any]) -> dict[str, Any]:
    """The study with the trials of before, if it was begun before."""
    if (folder / "study.json").is_file():
        before = _read(folder)
        if before["source_sha256"] != study["source_sha256"]:
            say(f"warning: {study['source'].rpartition(':')[0]} has changed since the search began")
        study = {**study, "trials": before["trials"]}
    _write(folder, study)
    return study


def _differences(before: dict[str, Any], study: dict[str, Any]) -> list[str]:
    def flat(each):
        # A goal that no trial has reached yet has chosen nothing, and a mistyped one may be put right.
        goal = {name: each[name] for name in ("goal", "direction")} if _finished(before) else {}
        return {"recipe": each["recipe"], **each["arguments"], **each["searched"], "seed": each["seed"], **goal}

    old, new = flat(before), flat(json.loads(json.dumps(study)))
    return [f"{name} {old.get(name)}, not {new.get(name)}" for name in {**old, **new} if old.get(name) != new.get(name)]


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "study.json"
    try:
        study = json.loads(path.read_bytes())
        for key in ("recipe", "source_sha256", "searched", "arguments", "seed", "goal", "direction", "trials"):
            if key not in study:
                raise ValueError(f"no {key!r} in it")
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is not a search's study.json: {error}") from None
    return study


def _write(folder: Path, study: dict[str, Any]) -> None:
    write_file(folder / "study.json", json.dumps(study, indent=2) + "\n")


def _finished(study: dict[str, Any]) -> list[dict[str, Any]]:
    return [trial for trial in study["trials"] if trial["status"] == "finished"]


def _search(study: dict[str, Any], space: Space, trials: int, folder: Path, trainer: Trainer) -> None:
    from kerastoolkit.search_sampler import ask  # here, because a mistake in the command is told without optuna

    began, trained = time.monotonic(), 0
    for number in range(1, trials + 1):
        trainer.stop.leave_if_asked(f"before trial {number}")
        if number > len(study["trials"]):
            if number > MOST_REFUSED:
                _give_up_if_all_were_refused(study, folder)
            settings = ask(space, study)
            if settings is None:
                say(f"all {number - 1} combinations have been tried")
                break
            study["trials"].append({"number": number, "settings": settings, "status": "unfinished", "value": None,
                                    "seconds": None, "message": ""})  # fmt: skip
            _write(folder, study)
        trial = study["trials"][number - 1]
        if trial["status"] != "unfinished":
            continue
        say(f"trial {number} of {trials}: {' '.join(f'{name}={value_text(value)}' for name, value in trial['settings'].items())}")
        trial = study["trials"][number - 1] = trainer.train(trial)
        _write(folder, study)
        _report(folder, study, space)
        trained += 1
        seconds = (time.monotonic() - began) / trained * (trials - number)
        left = f"  {timedelta(seconds=round(seconds))} left" if number < trials else ""
        outcome = f"{trial['status']}, {trial['message']}"
        if trial["status"] == "finished":
            outcome = f"{study['goal']} {trial['value']:.6g}"
        say(f"trial {number} of {trials}: {outcome}{_best_so_far(study)}{left}")
    _give_up_if_all_were_refused(study, folder)


def _give_up_if_all_were_refused(study: dict[str, Any], folder: Path) -> None:
    if {trial["status"] for trial in study["trials"]} == {"refused"}:
        message = study["trials"][-1]["message"]
        # The same command tries them again: what is wrong may not be the settings but, say, data that were not there.
        study["trials"] = [{**trial, "status": "unfinished", "message": ""} for trial in study["trials"]]
        _write(folder, study)
        raise InputError(f"all {len(study['trials'])} trials were refused; the last: {message}")


def _best_so_far(study: dict[str, Any]) -> str:
    if not (finished := _finished(study)):
        return ""
    best = min(finished, key=_rank(study))
    return f"  best {best['value']:.6g} of trial {best['number']}"


# What a search leaves to be read.


def _rank(study: dict[str, Any]) -> Callable[[dict[str, Any]], tuple]:
    """The key that sorts trials: the best first, and last those without a value."""
    sign = 1 if study["direction"] == "minimise" else -1
    return lambda trial: (trial["value"] is None, sign * (trial["value"] or 0), trial["number"])


def _report(folder: Path, study: dict[str, Any], space: Space) -> list[dict[str, Any]]:
    """Writes trials.csv and trials.png; returns the rows of the table, the best first."""
    from kerastoolkit import charts
    from kerastoolkit.search_picture import search_picture

    rows = []
    for trial in sorted(study["trials"], key=_rank(study)):
        run = folder / "trials" / str(trial["number"])
        rows.append({"trial": trial["number"], **trial["settings"], study["goal"]: trial["value"],
                     "seconds": trial["seconds"], "status": trial["status"], "run": str(run) if run.is_dir() else None,
                     "message": trial["message"]})  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, **{name: value_text(row[name]) for name in space}} for row in rows)
    write_file(folder / "trials.csv", text.getvalue())
    write_file(folder / "trials.png", charts.png(search_picture(study, space)))
    return rows
