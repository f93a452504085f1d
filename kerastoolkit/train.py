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
from kerastoolkit.options import Options, compute_in_float32, computing_in
from kerastoolkit.pipeline import batches_of, check_slices, decoder, naming_unreadable, training_batches
from kerastoolkit.progress import Progress, say
from kerastoolkit.runs import choose_folder, find_run, locked, new_settings, read_run, write_history, write_run
from kerastoolkit.serving.model import serving_model
from kerastoolkit.steps import compile_steps
from kerastoolkit.training_state import State, averaged
from kerastoolkit.workers import ALONE, Workers, start_workers

SECONDS_PER_CALL = 0.5  # about how long the compiled loop runs before Python looks at signals and shows the loss
MOST_STEPS_PER_CALL = 64
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def train(
    recipe: Any,
    overrides: dict[str, Any],
    *,
    out: str | None = None,
    seed: int = 0,
    data_dir: str | None = None,
    checkpoint_seconds: float = 30.0,
    options: Options = Options(),  # noqa: B008 - frozen
    strategy: str | None = None,
    logical_cpus: int | None = None,
) -> Path:
    """Trains a recipe, or continues the run that the same settings began; returns the run folder.

    Args:
        recipe: a ``catalog.Recipe``.
        overrides: arguments of the recipe function that differ from its defaults.
        out: the run folder; None for ``runs/<recipe>/<number>``.
        seed: of weights, order, augmentation and dropout, 0 or more.
        data_dir: where the data sets are, kept in run.json.
        checkpoint_seconds: how much work a kill may cost, in seconds.
        options: how it is trained, in what the recipe does not say.
        strategy, logical_cpus: on which devices, and with which other workers: see ``start_workers``.
    Raises:
        InputError: the settings, the data or the folder is wrong.
        RunError: the loss is not finite, the disk is full or another worker is gone; the checkpoints are kept.
        SystemExit: 130 or 143 after Ctrl-C or SIGTERM, when the checkpoint is written.
    """
    _check_settings(seed, checkpoint_seconds)
    arguments = catalog.arguments(recipe, overrides)
    workers = start_workers(strategy, logical_cpus)
    settings = new_settings(recipe, arguments, seed, data_dir) | {"onednn": _onednn(), "options": options.chosen()}
    with workers.naming_lost():
        workers.check_same({key: settings[key] for key in ("recipe", "arguments", "seed", "options", "source_sha256")})
        folder, record = _chosen_folder(workers, out, settings)
        if record is not None:
            return _continue(recipe, folder, record, checkpoint_seconds, workers)
        settings["replicas"] = workers.replicas
        # Before the folder is made: bad input leaves nothing behind.
        experiment = build(recipe, arguments, seed, workers, options)
        with _held(workers, folder):
            if workers.is_chief:
                write_run(folder, settings)
            return _train(experiment, folder, settings, checkpoint_seconds, workers)


def _chosen_folder(workers: Workers, out: str | None, settings: dict[str, Any]) -> tuple[Path, dict[str, Any] | None]:
    def choose():
        folder, record = choose_folder(out, settings)
        return [str(folder), record]

    folder, record = workers.agreed(choose)
    return Path(folder), record


@contextlib.contextmanager
def _held(workers: Workers, folder: Path) -> Iterator[None]:
    """The run folder, locked by the chief for all."""
    with contextlib.ExitStack() as stack:
        workers.agreed(lambda: stack.enter_context(locked(folder)))
        yield


def resume(run: str, *, epochs: int | None = None, checkpoint_seconds: float = 30.0, strategy: str | None = None,
           logical_cpus: int | None = None) -> Path:  # fmt: skip
    """Continues an unfinished run, or with more ``epochs`` a finished one too; returns the run folder.

    Raises:
        InputError: no such run, its recipe is gone, or ``epochs`` is less than what it has.
        RunError, SystemExit: as for ``train``.
    """
    workers = start_workers(strategy, logical_cpus)

    def find():
        folder = find_run(run)
        return [str(folder), read_run(folder)]

    with workers.naming_lost():
        folder, record = workers.agreed(find)
        return _resumed(Path(folder), record, epochs, checkpoint_seconds, workers)


def _resumed(folder: Path, record: dict[str, Any], epochs: int | None, checkpoint_seconds: float, workers: Workers) -> Path:
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
    return _continue(recipe, folder, record, checkpoint_seconds, workers)


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


def build(recipe: Any, arguments: dict[str, Any], seed: int, workers: Workers = ALONE,
          options: Options = Options()) -> Experiment:  # noqa: B008 - frozen  # fmt: skip
    """Calls the recipe function with every random state set from ``seed``, and makes the variables where ``workers`` need them.

    Raises:
        InputError: a builder or the data refused an argument.
    """
    keep_freed_memory()  # the command line has done so before TensorFlow came; who calls from Python has not
    keras.backend.clear_session()  # so that layer names, and with them checkpoints, do not depend on what was built before
    keras.utils.set_random_seed(seed)
    keep_order()
    function = catalog.load(recipe)
    try:
        with workers.strategy.scope(), computing_in(options.precision):
            global_seed_generator()  # created here, so that recipes do not decide where in the sequence of seeds it falls
            experiment = function(**arguments)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{recipe.name}: {error}") from error
    if not isinstance(experiment, Experiment):
        raise InputError(f"{recipe.name} must return an Experiment, got {type(experiment).__name__}")
    if options.precision != "float32":
        compute_in_float32(experiment.preprocess)
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


def _continue(recipe: Any, folder: Path, record: dict[str, Any], checkpoint_seconds: float, workers: Workers) -> Path:
    if record["status"] == "finished":
        say(f"{folder} is already finished with these settings; nothing is changed")
        return folder
    if record.get("threads") != os.cpu_count():
        say(f"warning: the run began on {record.get('threads')} processors, here are {os.cpu_count()}: the last bits may differ")
    if (began_on := record.get("replicas", 1)) != workers.replicas:
        say(f"warning: the run began on {began_on} replicas, here are {workers.replicas}: the last bits may differ")
    if record.get("onednn", now := _onednn()) != now:
        now, then = ("on", "off") if now else ("off", "on")
        say(f"warning: oneDNN is {now} and was {then} when the run began: the last bits may differ")
    if record.get("source_sha256") != recipe.source_sha256:
        say(f"warning: {recipe.path} has changed since the run began")
    experiment = build(recipe, record["arguments"], record["seed"], workers, Options(**record.get("options", {})))
    with _held(workers, folder):
        if workers.is_chief and read_run(folder) != record:  # more epochs than it began with
            write_run(folder, record)
        return _train(experiment, folder, record, checkpoint_seconds, workers)


def _onednn() -> bool:
    return bool(_pywrap_util_port.IsMklEnabled())


def _train(experiment: Experiment, folder: Path, record: dict[str, Any], checkpoint_seconds: float, workers: Workers) -> Path:
    options = Options(**record.get("options", {}))
    check_slices(experiment, workers.slices(options.accumulate))
    steps = batches_of(experiment).steps
    total = steps * experiment.epochs
    state = State(experiment, workers, options)
    began = time.monotonic()
    seconds_before = state.restore(folder)

    def seconds() -> float:
        return seconds_before + time.monotonic() - began

    with _signals() as received:
        _loop(state, folder, record["seed"], total, steps, checkpoint_seconds, received, seconds)
    if workers.is_chief:
        save_checkpoint(folder / "checkpoints", state.step, *state.snapshot(seconds()))
        _finish(state, folder, record, seconds())
    workers.added([0])  # the others wait for the chief: who leaves early looks like one that died
    return folder


def _loop(state: State, folder: Path, seed: int, total: int, steps: int, checkpoint_seconds: float, received: list[int],
          seconds: Callable[[], float]) -> None:  # fmt: skip
    experiment, workers = state.experiment, state.workers
    run_steps = compile_steps(state)
    slices = None if state.is_alone else workers.slices(state.options.accumulate)
    batches = iter(training_batches(experiment, seed=seed, start=state.step, end=total, slices=slices))
    source, decode = experiment.data.train, decoder(experiment)
    ahead = functools.partial(batches_of(experiment).of_steps, seed=seed)
    mean_size = experiment.batch_size if experiment.batch_tokens is None else source.size / steps
    count, last_save, save_took = 1, time.monotonic(), 0.0

    with Progress(total=total, done=state.step, steps_per_epoch=steps, batch_size=mean_size, shown=workers.is_chief) as progress:
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
                if workers.is_chief:
                    write_history(folder, state.history)
            # What clocks and signals say differs from worker to worker: the chief's clock counts for all, and each one's signals.
            # A save costs at most a twentieth of the time, however large the model is.
            is_due = time.monotonic() - last_save >= max(checkpoint_seconds, 20 * save_took)
            wished = _next_count(count, time.monotonic() - started if not at_epoch_start else None)
            wishes = [wished, is_due] if workers.is_chief else [0, 0]
            count, is_due, *signals = workers.added([*wishes, *(each in received for each in SIGNALS)])
            if any(signals) or is_due:
                before_save = time.monotonic()
                if workers.is_chief:
                    save_checkpoint(folder / "checkpoints", state.step, *state.snapshot(seconds()))
                last_save = time.monotonic()
                save_took = last_save - before_save if checkpoint_seconds else 0.0
            if any(signals):
                number = next(each for each, came in zip(SIGNALS, signals, strict=True) if came)
                say(f"stopped by {signal.Signals(number).name} after step {state.step} of {total}; the same command continues")
                workers.added([0])
                raise SystemExit(128 + number)
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
        for number in SIGNALS:
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
    compute_in_float32(state.network)
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
