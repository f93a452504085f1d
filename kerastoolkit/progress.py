"""What a person sees of a long training: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time


def say(text: str) -> None:
    """A line for people, on stderr: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Shows the loss, the speed and the time left of a training of ``total`` steps, of which ``done`` are already done; not
    ``shown``, it is silent."""

    def __init__(self, *, total: int, done: int, steps_per_epoch: int, batch_size: float, seconds_between_lines: float = 30.0,
                 shown: bool = True):  # fmt: skip
        self.total, self.first, self.steps_per_epoch, self.batch_size = total, done, steps_per_epoch, batch_size
        self.epochs = -(-total // steps_per_epoch)
        self.began = self.last_line = time.monotonic()
        self.seconds_between_lines = seconds_between_lines
        self.bar, self.shown = None, shown

    def __enter__(self) -> Progress:
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("{task.fields[note]}"),
                           console=Console(stderr=True), transient=True)  # fmt: skip
            self.task = self.bar.add_task("train", total=self.total, completed=self.first, epoch=self._epoch(self.first), note="")
            self.bar.start()
        return self

    def __exit__(self, *unused) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self, step: int, loss: float) -> None:
        """After ``step`` steps; ``loss`` is the epoch's mean so far."""
        now = time.monotonic()
        if not self.shown or self.bar is None and now - self.last_line < self.seconds_between_lines:
            return
        self.last_line = now
        per_step = (now - self.began) / max(1, step - self.first)
        note = f"loss {loss:.4f}  {self.batch_size / per_step:,.0f} examples/s  {_duration((self.total - step) * per_step)} left"
        if self.bar is not None:
            self.bar.update(self.task, completed=step, epoch=self._epoch(step), note=note)
        else:
            say(f"epoch {self._epoch(step)}  step {step}/{self.total}  {note}")

    def epoch(self, row: dict[str, float]) -> None:
        """At the end of an epoch; ``row`` is its line of the history."""
        if not self.shown:
            return
        self.last_line = time.monotonic()
        step = int(row["step"])
        left = (self.total - step) * (self.last_line - self.began) / max(1, step - self.first)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in ("epoch", "step"))
        text = f"epoch {int(row['epoch'])}/{self.epochs}  {shown}  {_duration(left)} left"
        if self.bar is not None:
            self.bar.console.print(text, highlight=False)
        else:
            say(text)

    def _epoch(self, step: int) -> str:
        return f"{min(self.epochs, step // self.steps_per_epoch + 1)}/{self.epochs}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
