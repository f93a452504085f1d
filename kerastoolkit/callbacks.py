"""The state of Keras callbacks, kept in checkpoints so that a continued run stops and slows down where it would have."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kerastoolkit.experiment import InputError

# Keras' own callbacks that change the training, and the attributes that hold where they are.
KNOWN = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
}
STATELESS = (keras.callbacks.TensorBoard, keras.callbacks.LambdaCallback, keras.callbacks.CSVLogger,
             keras.callbacks.TerminateOnNaN, keras.callbacks.LearningRateScheduler)  # fmt: skip


def writes_files(callback: Any) -> bool:
    """Whether a callback's only purpose is to write, which one of several workers does for all."""
    return isinstance(callback, (keras.callbacks.TensorBoard, keras.callbacks.CSVLogger))


class Trainee:
    """What a callback sees as its model: the network, with the optimizer and the wish to stop that ``fit`` would give it."""

    def __init__(self, network: Any, optimizer: Any):
        self.network, self.optimizer, self.stop_training = network, optimizer, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)


def check_resumable(callbacks: tuple[Any, ...]) -> None:
    """Refuses callbacks whose state cannot be kept.

    Raises:
        InputError: one is neither known, stateless, nor has ``get_state`` and ``set_state``.
    """
    for callback in callbacks:
        has_both = hasattr(callback, "get_state") and hasattr(callback, "set_state")
        if not has_both and type(callback) not in (*KNOWN, *STATELESS):
            raise InputError(
                f"callback {type(callback).__name__} cannot be continued after a kill: give it get_state() and set_state(state)"
            )


def get_states(callbacks: tuple[Any, ...]) -> tuple[list[Any], dict[str, np.ndarray]]:
    """The callbacks' states as JSON values, and the arrays among them under ``callback/<number>/<attribute>/<index>``."""
    values, arrays = [], {}
    for number, callback in enumerate(callbacks):
        if hasattr(callback, "get_state"):
            values.append(callback.get_state())
            continue
        state: dict[str, Any] = {}
        for name in KNOWN.get(type(callback), ()):
            value = getattr(callback, name, None)
            if name == "best_weights" and value is not None:
                arrays.update({f"callback/{number}/{name}/{i:04d}": np.asarray(weight) for i, weight in enumerate(value)})
            else:
                state[name] = None if value is None else float(value)
        values.append(state)
    return values, arrays


def set_states(callbacks: tuple[Any, ...], values: list[Any], arrays: dict[str, np.ndarray]) -> None:
    """Puts back what ``get_states`` gave; to be called after the callbacks' ``on_train_begin``."""
    for number, (callback, state) in enumerate(zip(callbacks, values, strict=True)):
        if hasattr(callback, "set_state"):
            callback.set_state(state)
            continue
        for name in KNOWN.get(type(callback), ()):
            prefix = f"callback/{number}/{name}/"
            if weights := [arrays[key] for key in sorted(arrays) if key.startswith(prefix)]:
                setattr(callback, name, weights)
            elif name in state:
                value = state[name]
                whole = name in ("wait", "stopped_epoch", "best_epoch", "cooldown_counter") and value is not None
                setattr(callback, name, int(value) if whole else value)
