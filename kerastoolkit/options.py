"""How a recipe is trained, in what its function does not say: precision, clipped gradients, parts of a step, averaged weights."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from kerastoolkit.experiment import InputError

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class Options:
    """What may be asked of any recipe's training.

    Attributes:
        precision: float32, or the type that layers compute in while weights, losses and sums stay float32: mixed_bfloat16, or
            mixed_float16 with a loss scale that adapts itself (Micikevicius et al. 2017, https://arxiv.org/abs/1710.03740).
        clip_norm: the norm of all gradients together that they are cut to (Pascanu et al. 2012, https://arxiv.org/abs/1211.5063),
            above 0; None for what the recipe's optimizer does.
        accumulate: parts that a step is computed in, one after the other; the step and its examples are the same. What a layer
            computes of its batch, as batch normalisation does, it computes of a part.
        average: the momentum, in (0, 1), of an exponential moving average of the weights, which the network is scored and saved
            with; None for what the recipe's optimizer does.
    Raises:
        InputError: a value is not one of these.
    """

    precision: str = "float32"
    clip_norm: float | None = None
    accumulate: int = 1
    average: float | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"precision must be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, got {self.precision}")
        if self.clip_norm is not None and not 0 < self.clip_norm < float("inf"):
            raise InputError(f"clip-norm must be above 0 and finite, got {self.clip_norm}")
        if self.accumulate < 1:
            raise InputError(f"accumulate must be at least 1, got {self.accumulate}")
        if self.average is not None and not 0 < self.average < 1:
            raise InputError(f"average must be between 0 and 1, got {self.average}")

    def chosen(self) -> dict[str, Any]:
        """Those that differ from their defaults, for run.json."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)
                if getattr(self, each.name) != each.default}  # fmt: skip


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Layers made while the context lasts compute in this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def compute_in_float32(model: keras.Model) -> None:
    """Makes all layers of a model compute in float32, whatever they were made for."""
    for layer in model._flatten_layers():
        if layer.compute_dtype in ("bfloat16", "float16"):
            layer.dtype_policy = "float32"


def set_on(optimizer: keras.optimizers.Optimizer, options: Options) -> None:
    """Sets the options that are the optimizer's; to be called before it is built.

    Raises:
        InputError: the optimizer averages weights in a way of its own.
    """
    if options.clip_norm is not None:
        optimizer.clipnorm = optimizer.clipvalue = None
        optimizer.global_clipnorm = options.clip_norm
    if options.average is not None:
        keras_own = keras.optimizers.Optimizer._update_model_variables_moving_average
        if type(optimizer)._update_model_variables_moving_average is not keras_own:
            raise InputError(f"average cannot be set: the recipe's {type(optimizer).__name__} averages weights in its own way")
        optimizer.use_ema, optimizer.ema_momentum, optimizer.ema_overwrite_frequency = True, options.average, None


class LossScale:
    """A factor of the loss that keeps gradients in float16's range: Micikevicius et al. 2017, section 3.2, adapted as in its
    "dynamic" form: halved where a gradient is not finite, and the step is left out; doubled after 2,000 steps that were.

    With another precision it is 1 and stays so.
    """

    START, STEPS, SMALLEST = 2.0**15, 2000, 1.0

    def __init__(self, precision: str):
        self.is_used = precision == "mixed_float16"
        self.factor = tf.Variable(self.START if self.is_used else 1.0, trainable=False, name="loss_scale")
        self.steps = tf.Variable(0, trainable=False, name="loss_scale_steps")

    def variables(self) -> list[tf.Variable]:
        """What a checkpoint keeps of it."""
        return [self.factor, self.steps] if self.is_used else []

    def applied(self) -> None:
        """After a step that was taken."""
        if self.is_used:
            grows = self.steps + 1 >= self.STEPS
            self.steps.assign(tf.where(grows, 0, self.steps + 1))
            self.factor.assign(tf.where(grows & (self.factor < 2.0**24), 2.0 * self.factor, self.factor))

    def refused(self) -> tf.Tensor:
        """After a step with a gradient that is not finite; returns whether there is no smaller factor to try."""
        if not self.is_used:
            return tf.constant(True)
        is_smallest = self.factor <= self.SMALLEST
        self.factor.assign(tf.maximum(self.factor / 2.0, self.SMALLEST))
        self.steps.assign(0)
        return is_smallest
