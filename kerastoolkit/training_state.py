"""What decides a training's next step, and how it is kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.random.seed_generator import global_seed_generator  # not public, yet keras.random's default state lives in it
from safetensors import numpy as safetensors

from kerastoolkit import replicas
from kerastoolkit.callbacks import Trainee, get_states, set_states, writes_files
from kerastoolkit.checkpoints import load_checkpoint
from kerastoolkit.experiment import Experiment, RunError
from kerastoolkit.options import LossScale, Options, set_on
from kerastoolkit.pipeline import call, decoder, naming_unreadable, validation_batches
from kerastoolkit.progress import say
from kerastoolkit.runs import write_history
from kerastoolkit.workers import ALONE, Workers

NAMING = ("name", "inbound_nodes", "input_layers", "output_layers")  # what names layers in a model's description


class State:
    """Everything that decides what the next step does, and how it is kept."""

    def __init__(self, experiment: Experiment, workers: Workers = ALONE, options: Options = Options()):  # noqa: B008 - frozen
        self.experiment, self.workers, self.options = experiment, workers, options
        self.network, self.optimizer = experiment.network, experiment.optimizer
        set_on(self.optimizer, options)
        with workers.strategy.scope():
            self.optimizer.build(self.network.trainable_variables)
        self.loss_scale = LossScale(options.precision)
        names = ("loss", *experiment.task.parts, *experiment.task.metrics)
        self.sums = {name: tf.Variable(0.0, dtype=tf.float64, trainable=False, name=name) for name in names}
        self.counted = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.failed_at = tf.Variable(-1, dtype=tf.int64, trainable=False)
        self.step, self.history = 0, []
        self.preprocess = _digest(experiment.preprocess)
        # The planned end that a callback stopped short of: a run that is given more epochs goes on.
        self.stopped_before: int | None = None
        self.trainee = Trainee(self.network, self.optimizer)
        # The same on all workers, so that all stop and slow down together.
        callbacks = [each for each in experiment.callbacks if workers.is_chief or not writes_files(each)]
        self.callbacks = keras.callbacks.CallbackList(callbacks, model=self.trainee)
        self.evaluate_batch = None

    def variables(self) -> dict[str, Any]:
        """Every variable by a name that is the same in each process that builds this experiment."""
        groups = {"network": self.network.variables, "optimizer": self.optimizer.variables,
                  "random": [global_seed_generator().state], "sums": [*self.sums.values(), self.counted],
                  "loss_scale": self.loss_scale.variables()}  # fmt: skip
        return {
            f"{group}/{number:05d}/{variable.name}": variable
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        }

    def snapshot(self, seconds: float) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays, JSON values) from which ``restore`` makes this state again."""
        callbacks, arrays = get_states(self.experiment.callbacks)
        for name, variable in self.variables().items():
            of_replicas = self.workers.here(variable.value if isinstance(variable, keras.Variable) else variable)
            arrays[name] = np.asarray(of_replicas[0].numpy())
        values = {"history": self.history, "callbacks": callbacks, "stopped_before": self.stopped_before,
                  "preprocess": self.preprocess}  # fmt: skip
        return arrays, {**values, "seconds": seconds}

    def restore(self, folder: Path) -> float:
        """Puts back the chief's newest whole checkpoint, if there is one; returns the seconds trained so far.

        Raises:
            RunError: the checkpoint is of another network or of one that was given other numbers, or all are damaged.
        """
        self.callbacks.on_train_begin()
        loaded: list[Any] = []

        def load():
            loaded.append(load_checkpoint(folder / "checkpoints"))
            return loaded[0] and [loaded[0][0], *loaded[0][2:]]

        told = self.workers.agreed(load)
        if told is None:
            return 0.0
        self.step, values, warnings = told
        arrays = self._arrays(loaded[0][1] if loaded else {})
        for warning in warnings:
            say(f"warning: {warning}")
        if values.get("preprocess") != self.preprocess:
            raise RunError(f"{folder}: the data has changed since the checkpoint: what is learned from it before training"
                           " (sub-words, means, categories) is another; put it back, or begin a new run")  # fmt: skip
        for name, variable in self.variables().items():
            if name not in arrays or arrays[name].shape != tuple(variable.shape):
                found = "is missing" if name not in arrays else f"has shape {arrays[name].shape}"
                wanted = f"{name} {tuple(variable.shape)}"
                raise RunError(f"{folder}: the recipe's network has changed: {wanted} {found} in the checkpoint")
            variable.assign(arrays[name])
        self.history, self.stopped_before = values["history"], values["stopped_before"]
        set_states(self.experiment.callbacks, values["callbacks"], arrays)
        if self.workers.is_chief:
            write_history(folder, self.history)
        say(f"continuing {folder} after step {self.step}")
        return values["seconds"]

    def _arrays(self, mine: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The chief's."""
        if len(self.workers.addresses) < 2:
            return mine
        return safetensors.load(self.workers.from_chief(safetensors.save(mine)))

    @property
    def is_alone(self) -> bool:
        """Whether one device computes each step at once."""
        return self.workers.strategy is ALONE.strategy and self.options.accumulate == 1

    def begin_epoch(self, epoch: int) -> None:
        for variable in (*self.sums.values(), self.counted):
            variable.assign(0.0)
        self.callbacks.on_epoch_begin(epoch)

    def means(self) -> dict[str, float]:
        """The averages over the epoch so far."""
        counted = float(self.counted.numpy()) or float("nan")  # no step was taken yet, where a loss scale is still too large
        return {name: float(total.numpy()) / counted for name, total in self.sums.items()}

    def end_epoch(self, epoch: int, seed: int) -> dict[str, float]:
        """Adds the epoch's line to the history, with the validation split's averages, and tells the callbacks."""
        row = {"epoch": epoch + 1, "step": self.step, **self.means(), **self._validate(seed)}
        row["learning_rate"] = float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))
        self.history.append(row)
        self.callbacks.on_epoch_end(epoch, {name: value for name, value in row.items() if name not in ("epoch", "step")})
        return row

    def _validate(self, seed: int) -> dict[str, float]:
        if not self.experiment.data.validation.size:
            return {}
        if self.evaluate_batch is None:
            # Batches of texts or boxes have sizes of their own, and shall not have graphs of their own.
            self.evaluate_batch = tf.function(lambda inputs, targets: self.values(inputs, targets, training=False)[1:],
                                              reduce_retracing=True, autograph=False)  # fmt: skip
            self.validation = validation_batches(self.experiment, seed=seed)
            self.decode = decoder(self.experiment)
        totals: dict[str, float] = {}
        counted = 0.0
        source = self.experiment.data.validation
        with averaged(self.network, self.optimizer), naming_unreadable(source, range(source.size), self.decode):
            for inputs, targets in self.validation:
                values, weights = self.evaluate_batch(inputs, targets)
                counts = np.asarray(weights, np.float64)
                counted += float(counts.sum())
                for name, value in values.items():
                    totals[name] = totals.get(name, 0.0) + float(np.asarray(value, np.float64) @ counts)
        return {f"val_{name}": total / counted for name, total in totals.items()}

    def values(self, inputs, targets, *, training: bool):
        """(the loss to be minimised, {name: one value per example}, what each example counts); losses of the network's own count
        for each example alike."""
        task, trained = self.experiment.task, self.experiment.trained
        outputs = call(trained, inputs, training=training)
        if self.options.precision != "float32":
            outputs = tf.nest.map_structure(_in_float32, outputs)
        losses = task.loss(targets, outputs)
        parts = {name: losses[name] for name in task.parts}
        if parts:
            losses = sum(parts.values())
        if of_network := replicas.own(trained.losses):
            losses = losses + tf.cast(tf.add_n(of_network), losses.dtype)
        values = {"loss": losses, **parts, **{name: metric(targets, outputs) for name, metric in task.metrics.items()}}
        if task.weigh is None:
            return tf.reduce_mean(losses), values, tf.ones_like(losses)
        weights = tf.cast(task.weigh(targets), losses.dtype)
        return tf.reduce_sum(losses * weights) / tf.reduce_sum(weights), values, weights


def _in_float32(tensor: Any) -> Any:
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.bfloat16, tf.float16) else tensor


def _digest(model: keras.Model) -> str:
    """Tells models apart by all but the names of their layers, which differ from process to process."""

    def nameless(value):
        if isinstance(value, dict):
            return {key: nameless(each) for key, each in value.items() if key not in NAMING}
        return [nameless(each) for each in value] if isinstance(value, (list, tuple)) else value

    described = json.dumps(nameless(keras.saving.serialize_keras_object(model)), sort_keys=True)
    weights = b"".join(np.ascontiguousarray(each).tobytes() for each in model.get_weights())
    return hashlib.sha256(described.encode() + weights).hexdigest()


@contextlib.contextmanager
def averaged(network: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Puts the averaged weights in the network while the context lasts, where the optimizer averages them."""
    if not optimizer.use_ema:
        yield
        return
    own = [variable.numpy() for variable in network.trainable_variables]
    optimizer.finalize_variable_values(network.trainable_variables)
    try:
        yield
    finally:
        for variable, value in zip(network.trainable_variables, own, strict=True):
            variable.assign(value)
