"""The records that a recipe is made of: Experiment, Data, Source, Task and Report.

They hold functions and Keras models, never state of a run. ``Data`` and ``Task`` also carry a JSON description of how they
were made, so that a run folder alone is enough to score or use a finished run.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKAGE = "kerastoolkit"


class InputError(ValueError):
    """Something that a person gave is wrong: a name, a value, a file. The command line prints it as one line, exit 2."""


class RunError(RuntimeError):
    """A run failed for a reason that is not the input's form: a loss that is not finite, a full disk. Exit 1."""


_may_fetch = contextvars.ContextVar("may_fetch", default=True)


@contextlib.contextmanager
def without_fetching() -> Iterator[None]:
    """While it lasts a data set that is not on this machine is refused, not fetched."""
    token = _may_fetch.set(False)
    try:
        yield
    finally:
        _may_fetch.reset(token)


def may_fetch() -> bool:
    """Whether a data set may be fetched over the network."""
    return _may_fetch.get()


@dataclass(frozen=True)
class Source:
    """Examples by number, so that any step of any epoch is computed without those before it.

    Attributes:
        size: number of examples.
        fetch: int64 indices (batch,) -> raw batch, a dict of tensors whose first dimension is the batch. Called inside
            ``tf.data``'s map (a graph), so it must be made of TensorFlow operations.
        name: an index -> what to call that example in an error (its file); None where examples have no names.
        lengths: (size, n) integers, how long each example's texts are, in tokens, for batches of examples alike; None where that
            does not matter.
    """

    size: int
    fetch: Callable[[Any], dict[str, Any]]
    name: Callable[[int], str] | None = None
    lengths: Any = None


@dataclass(frozen=True)
class Data:
    """A data set: three splits and what the raw examples are.

    Attributes:
        name: what it is called in tables.
        train, validation, test: the splits; validation is cut from the training examples, and test is for ``evaluate`` alone.
            Nothing is read until a split's ``fetch`` is called.
        inputs: keys of the raw batch that the serving model takes; the other keys are truths.
        encoded: whether the raw inputs are files' bytes, which ``Task.decode`` turns into tensors first.
        about: facts of the examples (classes, shape, ...), by plain names.
        notes: what a person should know of how the data was read: what was left out, filled in or looks wrong.
        description: how to make this record again; filled in by ``described``.
    """

    name: str
    train: Source
    validation: Source
    test: Source
    inputs: tuple[str, ...]
    encoded: bool
    about: dict[str, Any]
    notes: tuple[str, ...] = ()
    description: dict[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> Source:
        """The split called ``name``: train, validation or test."""
        if name not in ("train", "validation", "test"):
            raise InputError(f"split must be train, validation or test, got {name}")
        return getattr(self, name)

    def truths(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The part of a raw batch that is not given to the model."""
        return {key: value for key, value in batch.items() if key not in self.inputs}


@dataclass(frozen=True)
class Report:
    """What ``evaluate`` found.

    Attributes:
        figures: plain name -> number, the model's.
        baselines: method -> {plain name -> number}, other methods on the same examples.
        tables: title -> rows (dicts of cells with the same keys).
        pictures: file name without suffix -> matplotlib Figure.
        notes: sentences on how it was measured.
    """

    figures: dict[str, float]
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """What is asked of a network: targets, loss, answers, figures and pictures.

    Attributes:
        name: classification, detection, ...
        encode: (truths, network inputs, side outputs, seeds (batch, 2)) -> (extra network inputs or {}, targets).
        loss: (targets, network outputs) -> one loss per example (batch,); where there are ``parts``, a dict of these by name.
        parts: names of the losses that the loss is the sum of, each averaged in training like a metric.
        metrics: plain name -> function (targets, network outputs) -> one value per example (batch,), averaged in training.
        weigh: targets -> how much an example counts in those averages and in the loss (batch,), for instance its tokens; None
            where all count alike.
        decode: preprocess model -> model from encoded bytes to what ``preprocess`` takes; None where raw is never encoded.
        answer: network -> model from network inputs (and side outputs) to answers, a dict of named tensors.
        score: (iterable of (raw batch, answers), Data, serving model) -> Report; batches are dicts of NumPy arrays; the
            serving model is for what its answers alone do not tell.
        read: what a person points at on the command line (list of str) -> (names, raw inputs as a dict of NumPy arrays).
        tell: (names, answers) -> a row (dict) for each input, for tables and JSON.
        draw: (raw inputs of one example, its answers, name) -> matplotlib Figure.
        probe: serving model -> raw inputs of made-up examples, on which an export is compared with the run.
        settings: what ``answer`` takes besides what ``preprocess`` gives, (batch,) each: name -> default, an int or a float.
        scoring: what ``score`` takes besides, by keyword: name -> default, an int, a float or a text. The answers that it scores
            are made with those of them that are ``settings``, too.
        endpoints: decoded part of the serving model -> {name: model}, which ``export`` writes beside ``serve``.
        asks: the one of ``endpoints`` that ``predict`` asks, whose answers ``tell`` and ``draw`` get.
        formats: what ``export`` writes besides whole models: name of a format -> (serving model, path), which writes a file.
        answered_at_once: examples that ``evaluate`` and ``predict`` answer at once, at most; what the answers' memory allows.
        files: (raw inputs of one example, its answers) -> {end of a file's name: contents}, which ``predict`` writes beside
            what it draws.
        summary: (names, answers of each input) -> {name of a file: contents}, which ``predict`` writes once, beside what it draws
            of each.
        stages: serving model -> {name: function}, its parts, which give its answers one after the other, each a dict to a dict;
            ``predict`` tells how long each takes. None where that is of no interest.
        description: how to make this record again; filled in by ``described``.
    """

    name: str
    encode: Callable[..., tuple[dict[str, Any], Any]]
    loss: Callable[[Any, Any], Any]
    metrics: dict[str, Callable[[Any, Any], Any]]
    answer: Callable[[Any], Any]
    score: Callable[..., Report]
    read: Callable[[list[str]], tuple[list[str], dict[str, Any]]]
    tell: Callable[[list[str], dict[str, Any]], list[dict[str, Any]]]
    draw: Callable[[dict[str, Any], dict[str, Any], str], Any]
    probe: Callable[[Any], dict[str, Any]]
    parts: tuple[str, ...] = ()
    weigh: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None
    settings: dict[str, float] = field(default_factory=dict)
    scoring: dict[str, float | str] = field(default_factory=dict)
    endpoints: Callable[[Any], dict[str, Any]] | None = None
    asks: str = "serve"
    formats: dict[str, Callable[[Any, Path], None]] = field(default_factory=dict)
    answered_at_once: int = 250
    files: Callable[[dict[str, Any], dict[str, Any]], dict[str, bytes]] | None = None
    summary: Callable[[list[str], list[dict[str, Any]]], dict[str, bytes]] | None = None
    stages: Callable[[Any], dict[str, Callable[[dict[str, Any]], dict[str, Any]]]] | None = None
    description: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What a recipe returns: everything that ``train`` needs.

    Attributes:
        data: the data set.
        preprocess: functional model, decoded raw inputs (a dict by name) -> network inputs.
        network: functional model that a builder made: network inputs -> raw outputs (logits, ...).
        training: where given, what is trained in the network's place: a functional model of the same weights with other inputs
            and outputs, which the task's ``encode`` and ``loss`` then are for.
        task: what is asked of the network.
        optimizer: a Keras optimizer.
        epochs: passes over the training split.
        batch_size: examples in a step.
        batch_tokens: where given, a step has as many examples, of much the same lengths, as keep their longest text times their
            number within it, but never more than ``batch_size``; the training source needs ``lengths``.
        augment: (raw batch, seeds (batch, 2) int32, fetch) -> raw batch, on training examples only; stateless.
        closing_epochs, closing_augment: in the last so many epochs training examples are augmented by this instead.
        callbacks: Keras callbacks; those with state must have ``get_state`` and ``set_state``, or be Keras' own
            EarlyStopping or ReduceLROnPlateau.
        jit_compile: compile the whole training step with XLA. On CPUs it costs convolutional networks dearly; recurrent layers
            compile their own loops, and have a ``jit_compile`` of their own.
    """

    data: Data
    preprocess: Any
    network: Any
    task: Task
    optimizer: Any
    epochs: int
    batch_size: int
    batch_tokens: int | None = None
    augment: Callable[..., dict[str, Any]] | None = None
    closing_epochs: int = 0
    closing_augment: Callable[..., dict[str, Any]] | None = None
    callbacks: tuple[Any, ...] = ()
    jit_compile: bool = False
    training: Any = None

    @property
    def trained(self) -> Any:
        """``training``, or where there is none ``network``."""
        return self.network if self.training is None else self.training

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_tokens", "batch_size"):  # the recipes make the last of the one before
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.closing_epochs < 0:
            raise InputError(f"closing_epochs must be at least 0, got {self.closing_epochs}")
        own, trained = ({id(each) for each in model.trainable_variables} for model in (self.network, self.trained))
        if own != trained:
            raise InputError(f"training must be of the network's weights, all of them, got {len(own & trained)} of {len(own)}"
                             f" and {len(trained - own)} others")  # fmt: skip


def chosen_settings(defaults: dict[str, Any], given: dict[str, str], *, of: str) -> dict[str, Any]:
    """The defaults, and in their place what is given as text, in the type of its default; ``of`` is what messages call them by.

    Raises:
        InputError: a name has no default, or a text is no number of its type.
    """
    chosen = dict(defaults)
    for name, text in given.items():
        if name not in chosen:
            raise InputError(f"{of} has no setting {name} (it has: {', '.join(chosen) or 'none'})")
        kind = type(chosen[name])
        try:
            chosen[name] = kind(text)
        except ValueError:
            raise InputError(f"{name} must be {'a number' if kind is float else 'a whole number'}, got {text}") from None
    return chosen


def described(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for functions that make a Data or a Task: keeps the function's name and arguments in the record.

    The arguments must be what JSON can hold. ``rebuild`` calls the function again.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        description = {"function": f"{function.__module__}.{function.__qualname__}", "arguments": dict(bound.arguments)}
        return dataclasses.replace(function(*args, **kwargs), description=description)

    make.is_described = True
    return make


def rebuild(description: dict[str, Any], **changes: Any) -> Any:
    """Makes the Data or Task again that ``description`` (from a ``run.json``) tells of, with some arguments changed.

    Raises:
        InputError: the description names anything but a described function of this package.
    """
    path = str(description.get("function"))
    module_name, _, function_name = path.rpartition(".")
    if module_name.split(".")[0] != PACKAGE:
        raise InputError(f"a run's description must name a function of {PACKAGE}, got {path}")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError):
        raise InputError(f"this version of {PACKAGE} has no {path}, which the run was made with") from None
    if not getattr(function, "is_described", False):
        raise InputError(f"a run's description must name a described function, got {path}")
    return function(**{**description.get("arguments", {}), **changes})
