"""Trains the trials of a search, one after another: each is an ordinary run, trained by ``train`` in a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerastoolkit import catalog
from kerastoolkit.experiment import InputError, RunError
from kerastoolkit.progress import say
from kerastoolkit.runs import read_history, read_run
from kerastoolkit.search_space import value_text

# Exit statuses of a trial that somebody else ended: it can go on. Any other means that its settings cannot be trained.
FROM_OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, 128 + signal.SIGINT, 128 + signal.SIGTERM}


@dataclass
class Stop:
    """The signals that have come, and the trial's process that is told of them."""

    received: list[int] = field(default_factory=list)
    process: subprocess.Popen | None = None

    def leave_if_asked(self, where: str) -> None:
        """Leaves with 130 or 143 where a signal has come."""
        if self.received:
            say(f"stopped by {signal.Signals(self.received[0]).name} {where}; the same command continues")
            raise SystemExit(128 + self.received[0])


@contextlib.contextmanager
def signals() -> Iterator[Stop]:
    """Hands SIGINT and SIGTERM on to the trial's process while the context lasts; it writes its checkpoint and ends."""
    stop, before = Stop(), {}

    def note(number, frame):
        stop.received.append(number)
        if stop.process is not None:
            stop.process.terminate()  # SIGINT would make a process that is only starting end with a traceback

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: signals are somebody else's
        pass
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def alone(folder: Path, stop: Stop) -> Iterator[int]:
    """Yields the descriptor of a lock that trials inherit, after waiting for a trial whose search was killed.

    Such a trial ends by itself, at the next line that it can no longer tell to anyone.
    """
    with open(folder / "trials.lock", "w") as file:
        waiting = False
        while True:
            stop.leave_if_asked("while it waited")
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if not waiting:
                say("waiting for the end of the trial that a killed search has left behind")
            waiting = True
            time.sleep(0.1)
        yield file.fileno()


@dataclass(frozen=True)
class Trainer:
    """Trains trials.

    Attributes:
        recipe, overrides: what is the same in all of them.
        goal: the column of history.csv that is wanted.
        options: of the command ``train``.
        folder: where the trials' run folders are.
        stop: the signals.
        lock: from ``alone``.
    """

    recipe: catalog.Recipe
    overrides: dict[str, Any]
    goal: str
    options: list[str]
    folder: Path
    stop: Stop
    lock: int

    def train(self, trial: dict[str, Any]) -> dict[str, Any]:
        """Trains a trial, or the rest of it; returns it as "finished", or with a message as "failed" or "refused".

        Raises:
            InputError: the trial was begun and cannot be continued, or it has no such goal.
            RunError: somebody ended its process.
            SystemExit: 130 or 143 after Ctrl-C or SIGTERM, when the trial has written its checkpoint.
        """
        run = self.folder / str(trial["number"])
        self.folder.mkdir(exist_ok=True)
        begun = (run / "run.json").is_file()
        if not begun:
            shutil.rmtree(run, ignore_errors=True)  # killed before anything was in it; ``train`` goes on only with runs
        if not begun or read_run(run)["status"] != "finished":
            status, message = self._process(trial, run)
            if status:
                self.stop.leave_if_asked(f"in trial {trial['number']}")
            if status in FROM_OUTSIDE:
                name = signal.Signals(-status if status < 0 else status - 128).name
                raise RunError(f"trial {trial['number']} was ended by {name} (sent by the system where memory is short);"
                               " the same command continues")  # fmt: skip
            begun = (run / "run.json").is_file()
            if status == 2 and begun:  # not for its settings, with which it had begun
                raise InputError(f"trial {trial['number']}: {message}")
            if status:
                message = message or f"its process ended with status {status}"
                return {**trial, "status": "failed" if begun else "refused", "message": message}
        value, seconds = self._value(run), read_run(run).get("seconds")
        if not math.isfinite(value):
            return {**trial, "status": "failed", "seconds": seconds, "message": f"{self.goal} is {value}"}
        return {**trial, "status": "finished", "value": value, "seconds": seconds}

    def _process(self, trial: dict[str, Any], run: Path) -> tuple[int, str]:
        """Exit status and error message of the trial's process."""
        ours = self.recipe.path.parent == catalog.recipes_folder()
        name = self.recipe.name if ours else f"{self.recipe.path}:{self.recipe.function}"
        settings = [f"{key}={value_text(value)}" for key, value in {**self.overrides, **trial["settings"]}.items()]
        command = [sys.executable, "-m", "kerastoolkit", "train", name, "--out", str(run), *self.options,
                   *(word for each in settings for word in ("--set", each))]  # fmt: skip
        # In a session of its own, so that Ctrl-C on a terminal reaches it once: through this process.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True, errors="replace", start_new_session=True, pass_fds=(self.lock,))  # fmt: skip
        self.stop.process = process
        message, checked = "", False
        try:
            if self.stop.received:  # between the last look and now
                process.terminate()
            for line in process.stderr:
                say(f"  {line.rstrip()}")
                if line.startswith("error: "):
                    message = line.removeprefix("error: ").strip()
                if not checked and read_history(run):
                    self._value(run)  # a goal that is not there is told after an epoch, not after a training
                    checked = True
        except BaseException:
            process.terminate()
            raise
        finally:
            process.wait()
            self.stop.process = None
            process.stderr.close()
        return process.returncode, message

    def _value(self, run: Path) -> float:
        row = (read_history(run) or [{}])[-1]
        if self.goal not in row:
            valid = [name for name in row if name.startswith("val_")]
            hint = catalog.closest(self.goal, valid)
            raise InputError(f"{run / 'history.csv'} has no {self.goal}{hint} (of the validation split it has:"
                             f" {', '.join(valid) or 'nothing'})")  # fmt: skip
        return row[self.goal]
