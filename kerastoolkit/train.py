"""The verb that trains: a loop of our own, because what is promised of it (a run killed at any moment and started again ends
with the same bits) does not hold for ``fit``, which keeps neither the random state, the order of the data nor the callbacks.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.random.seed_generator import global_seed_generator  # not public, yet keras.random's default state lives in it
from tensorflow.python.util import _pywrap_util_port  # not public, yet it alone says whether oneDNN is on

from kerastoolkit import catalog, charts
from kerastoolkit.callbacks import check_resumable
from kerastoolkit.checkpoints import save_checkpoint, write_file
from kerastoolkit.determinism import keep_order
from kerastoolkit.experiment import Experiment, InputError, RunError
from kerastoolkit.memory import keep_freed_memory
from kerastoolkit.pipeline import batches_of, decoder, naming_unreadable, training_batches
from kerastoolkit.progress import Progress, say
from kerastoolkit.runs import choose_folder, find_run, locked, new_settings, read_run, write_history, write_run
from kerastoolkit.serving.model import serving_model
from kerastoolkit.training_state import State, averaged, compile_steps

SECONDS_PER_CALL = 0.5  # about how long the compiled loop runs before Python looks at signals and shows the loss
MOST_STEPS_PER_CALL = 64


def train(
    recipe: Any,
    overrides: dict[str, Any],
    *,
    out: str | None = None,
    seed: int = 0,
    data_dir: str | None = None,
    checkpoint_seconds: float = 30.0,
) -> Path:
    """Trains a recipe, or continues the run that the same settings began; returns the run folder.

    Args:
        recipe: a ``catalog.Recipe``.
        overrides: arguments of the recipe function that differ from its defaults.
        out: the run folder; None for ``runs/<recipe>/<number>``.
        seed: of weights, order, augmentation and dropout, 0 or more.
        data_dir: where the data sets are, kept in run.json.
        checkpoint_seconds: how much work a kill may cost, in seconds.
    Raises:
        InputError: the settings, the data or the folder is wrong.
        RunError: the loss is not finite, or the disk is full; the checkpoints are kept.
        SystemExit: 130 or 143 after Ctrl-C or SIGTERM, when the checkpoint is written.
    """
    _check_settings(seed, checkpoint_seconds)
    settings = new_settings(recipe, catalog.arguments(recipe, overrides), seed, data_dir) | {"onednn": _onednn()}
    folder, record = choose_folder(out, settings)
    if record is None:
        experiment = build(recipe, settings["arguments"], seed)  # before the folder is made: bad input leaves nothing behind
        with locked(folder):
            write_run(folder, settings)
            return _train(experiment, folder, settings, checkpoint_seconds)
    return _continue(recipe, folder, record, checkpoint_seconds)


def resume(run: str, *, epochs: int | None = None, checkpoint_seconds: float = 30.0) -> Path:
    """Continues an unfinished run, or with more ``epochs`` a finished one too; returns the run folder.

    Raises:
        InputError: no such run, its recipe is gone, or ``epochs`` is less than what it has.
        RunError, SystemExit: as for ``train``.
    """
    folder = find_run(run)
    record = read_run(folder)
    _check_settings(record["seed"], checkpoint_seconds)
    try:
        recipe = catalog.find_recipe(record["recipe"] if _is_ours(record["recipe"]) else record["source"])
    except ValueError as error:
        raise InputError(f"the recipe of {folder} cannot be found again: {error}") from None
    if record.get("data_dir"):
        os.environ.setdefault("TFDS_DATA_DIR", record["data_dir"])
    if epochs is not None:
        before = record["arguments"].get("epochs", epochs)
        if epochs < before:
            raise InputError(f"epochs must be at least the run's {before}, got {epochs}")
        if epochs > before:
            record = {**record, "status": "unfinished", "arguments": {**record["arguments"], "epochs": epochs}}
    return _continue(recipe, folder, record, checkpoint_seconds)


def dry_run(recipe: Any, overrides: dict[str, Any], *, seed: int = 0) -> dict[str, Any]:
    """Builds everything and one batch, trains nothing, writes nothing; returns the facts."""
    _check_settings(seed, 0)
    arguments = catalog.arguments(recipe, overrides)
    experiment = build(recipe, arguments, seed)
    inputs, targets = next(iter(training_batches(experiment, seed=seed, start=0, end=1)))
    loss, _, _ = State(experiment).values(inputs, targets, training=False)
    steps = batches_of(experiment).steps
    sizes = {split: experiment.data.split(split).size for split in ("train", "validation", "test")}
    return {
        "recipe": recipe.name, "arguments": arguments, "data": experiment.data.name, "examples": sizes,
        "parameters": experiment.network.count_params(), "epochs": experiment.epochs, "steps_per_epoch": steps,
        "batch": {name: [*tensor.shape, tensor.dtype.name] for name, tensor in inputs.items()},
        "loss_before_training": float(loss),
    }  # fmt: skip


def build(recipe: Any, arguments: dict[str, Any], seed: int) -> Experiment:
    """Calls the recipe function with every random state set from ``seed``.

    Raises:
        InputError: a builder or the data refused an argument.
    """
    keep_freed_memory()  # the command line has done so before TensorFlow came; who calls from Python has not
    keras.backend.clear_session()  # so that layer names, and with them checkpoints, do not depend on what was built before
    keras.utils.set_random_seed(seed)
    keep_order()
    global_seed_generator()  # created here, so that recipes do not decide where in the sequence of seeds it falls
    function = catalog.load(recipe)
    try:
        experiment = function(**arguments)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{recipe.name}: {error}") from error
    if not isinstance(experiment, Experiment):
        raise InputError(f"{recipe.name} must return an Experiment, got {type(experiment).__name__}")
    check_resumable(experiment.callbacks)
    for note in experiment.data.notes:
        say(f"note: {note}")
    return experiment


def _check_settings(seed: int, checkpoint_seconds: float) -> None:
    if seed < 0:
        raise InputError(f"seed must be 0 or more, got {seed}")
    if checkpoint_seconds < 0:
        raise InputError(f"checkpoint seconds must be 0 or more, got {checkpoint_seconds}")


def _is_ours(name: str) -> bool:
    return any(recipe.name == name for recipe in catalog.recipes())


def _continue(recipe: Any, folder: Path, record: dict[str, Any], checkpoint_seconds: float) -> Path:
    if record["status"] == "finished":
        say(f"{folder} is already finished with these settings; nothing is changed")
        return folder
    if record.get("threads") != os.cpu_count():
        say(f"warning: the run began on {record.get('threads')} processors, here are {os.cpu_count()}: the last bits may differ")
    if record.get("onednn", now := _onednn()) != now:
        now, then = ("on", "off") if now else ("off", "on")
        say(f"warning: oneDNN is {now} and was {then} when the run began: the last bits may differ")
    if record.get("source_sha256") != recipe.source_sha256:
        say(f"warning: {recipe.path} has changed since the run began")
    experiment = build(recipe, record["arguments"], record["seed"])
    with locked(folder):
        if read_run(folder) != record:  # more epochs than it began with
            write_run(folder, record)
        return _train(experiment, folder, record, checkpoint_seconds)


def _onednn() -> bool:
    return bool(_pywrap_util_port.IsMklEnabled())


def _train(experiment: Experiment, folder: Path, record: dict[str, Any], checkpoint_seconds: float) -> Path:
    steps = batches_of(experiment).steps
    total = steps * experiment.epochs
    state = State(experiment)
    began = time.monotonic()
    seconds_before = state.restore(folder)

    def seconds() -> float:
        return seconds_before + time.monotonic() - began

    with _signals() as received:
        _loop(state, folder, record["seed"], total, steps, checkpoint_seconds, received, seconds)
    save_checkpoint(folder / "checkpoints", state.step, *state.snapshot(seconds()))
    _finish(state, folder, record, seconds())
    return folder


def _loop(state: State, folder: Path, seed: int, total: int, steps: int, checkpoint_seconds: float, received: list[int],
          seconds: Callable[[], float]) -> None:  # fmt: skip
    experiment = state.experiment
    run_steps = compile_steps(state)
    batches = iter(training_batches(experiment, seed=seed, start=state.step, end=total))
    source, decode = experiment.data.train, decoder(experiment)
    ahead = functools.partial(batches_of(experiment).of_steps, seed=seed)
    mean_size = experiment.batch_size if experiment.batch_tokens is None else source.size / steps
    count, last_save, save_took = 1, time.monotonic(), 0.0

    with Progress(total=total, done=state.step, steps_per_epoch=steps, batch_size=mean_size) as progress:
        while state.step < total and state.stopped_before != total:
            at_epoch_start = state.step % steps == 0
            if at_epoch_start:
                state.begin_epoch(state.step // steps)
            count = min(count, steps - state.step % steps)
            started = time.monotonic()
            state.callbacks.on_train_batch_begin(state.step)
            next_batches = ahead(start=state.step, end=state.step + count)
            with naming_unreadable(source, (index for indices, _ in next_batches for index in indices), decode):
                run_steps(batches, tf.constant(count))
            if state.failed_at.numpy() >= 0:
                raise RunError(
                    f"the loss or a gradient is not finite at step {int(state.failed_at.numpy()) + 1}; the update was not applied"
                    f" and the checkpoints in {folder} are kept (a lower learning rate may help)"
                )
            state.step += count
            logs = state.means()
            state.callbacks.on_train_batch_end(state.step - 1, logs)
            progress.step(state.step, logs["loss"])
            if state.step % steps == 0:
                progress.epoch(state.end_epoch(state.step // steps - 1, seed))
                state.stopped_before = total if state.trainee.stop_training else None
                write_history(folder, state.history)
            # A save costs at most a twentieth of the time, however large the model is.
            if received or time.monotonic() - last_save >= max(checkpoint_seconds, 20 * save_took):
                before_save = time.monotonic()
                save_checkpoint(folder / "checkpoints", state.step, *state.snapshot(seconds()))
                last_save = time.monotonic()
                save_took = last_save - before_save if checkpoint_seconds else 0.0
            if received:
                name = signal.Signals(received[0]).name
                say(f"stopped by {name} after step {state.step} of {total}; the same command continues")
                raise SystemExit(128 + received[0])
            count = _next_count(count, time.monotonic() - started if not at_epoch_start else None)
    state.callbacks.on_train_end()


def _next_count(count: int, took: float | None) -> int:
    """Steps of the next call. How many there are in a call changes no bit; it only spares Python's share of small steps."""
    if took is not None and took < SECONDS_PER_CALL / 2:
        return min(2 * count, MOST_STEPS_PER_CALL)
    if took is not None and took > SECONDS_PER_CALL * 2:
        return max(1, count // 2)
    return max(1, count)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM while the context lasts; the second one acts as ever."""
    received: list[int] = []
    before = {}

    def note(number, frame):
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: signals are somebody else's
        pass
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(state: State, folder: Path, record: dict[str, Any], seconds: float) -> None:
    """Writes what the other verbs need; run.json says "finished" only when all of it is there."""
    experiment = state.experiment
    with averaged(state.network, state.optimizer):
        serving = serving_model(preprocess=experiment.preprocess, network=state.network, task=experiment.task)
        for name, model in (("model.keras", state.network), ("serving.keras", serving)):
            _save_model(folder / name, model)
    write_history(folder, state.history)
    (folder / "plots").mkdir(exist_ok=True)
    write_file(folder / "plots" / "curves.png", charts.png(charts.curves(state.history)))
    described = {"task": experiment.task.description, "data_set": experiment.data.description}
    write_run(folder, {**record, **described, "status": "finished", "seconds": round(seconds, 1),
                       "steps": state.step, "parameters": state.network.count_params()})  # fmt: skip
    say(f"trained in {seconds:.1f} s: {folder}")


def _save_model(path: Path, model: keras.Model) -> None:
    # Keras writes where it is told to, in place; the suffix must stay .keras.
    temporary = path.with_name(f"writing.{path.name}")
    try:
        model.save(temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"{path} could not be written ({error.strerror}); the checkpoints are kept") from error
