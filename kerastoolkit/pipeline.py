"""Batches as a pure function of (source, seed, step): no iterator state, no shuffle buffer, no global random numbers.

A training that stopped after step n continues with step n + 1 by arithmetic, before anything is read or decoded.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from kerastoolkit import replicas
from kerastoolkit.experiment import Experiment, InputError, Source

REFUSED = re.compile(r"assertion failed: \[(\w+ must be [^\]]*, got)\] \[([^ \]]*)")
STEPS_IN_A_BLOCK = 64
BATCHES_AHEAD = 4


def steps_per_epoch(size: int, batch_size: int) -> int:
    """Steps in an epoch over ``size`` examples: all batches are full; what is left over differs from epoch to epoch.

    Raises:
        InputError: the batch size is no positive number.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    return max(1, size // batch_size)


@dataclass(frozen=True, eq=False)
class Batches:
    """Which examples each step of a training takes: a pure function of (seed, step).

    Attributes:
        size: examples.
        batch_size: examples in a step, or where ``batch_tokens`` is given the most of them.
        lengths: (size, n) integers, those of the examples' texts; needed for ``batch_tokens``.
        batch_tokens: the most that the examples of a step times their longest text may be; an example that is longer is alone.

    With ``batch_tokens`` the examples are sorted by length, those of the same lengths in an order that changes with each epoch,
    and cut into steps; the steps come in random order. So little is padded, and every epoch has the same number of steps.
    """

    size: int
    batch_size: int
    lengths: Any = None
    batch_tokens: int | None = None

    @functools.cached_property
    def steps(self) -> int:
        """Steps in an epoch."""
        return steps_per_epoch(self.size, self.batch_size) if self.batch_tokens is None else len(self._cuts) - 1

    @functools.cached_property
    def largest(self) -> int:
        """Examples in the largest step."""
        return min(self.size, self.batch_size) if self.batch_tokens is None else int(np.diff(self._cuts).max())

    def of_steps(self, *, seed: int, start: int, end: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """indices (batch,) int64 and seeds (batch, 2) int32 of each of the steps start .. end - 1, counted from 0."""
        for epoch in range(start // self.steps, -(-end // self.steps)):
            first, last = max(start - epoch * self.steps, 0), min(end - epoch * self.steps, self.steps)
            for indices in self._of_epoch(seed, epoch, first, last):
                yield indices, example_seeds(seed, epoch, indices)

    def in_order(self) -> Iterator[np.ndarray]:
        """indices (batch,) int64 of steps by tokens that hold every example once, in the same order each time."""
        order = _by_length(self.lengths).astype(np.int64)
        yield from np.split(order, self._cuts[1:-1])

    def _of_epoch(self, seed: int, epoch: int, first: int, last: int) -> Iterator[np.ndarray]:
        generator = np.random.default_rng((seed, epoch))
        order = generator.permutation(self.size)
        if self.batch_tokens is None:
            cuts, steps = np.arange(self.steps + 1) * self.largest, range(first, last)
        else:
            order = order[_by_length(self.lengths[order])]
            cuts, steps = self._cuts, generator.permutation(self.steps)[first:last]
        for step in steps:
            yield order[cuts[step] : cuts[step + 1]].astype(np.int64)

    @functools.cached_property
    def _cuts(self) -> np.ndarray:
        """Where each step begins among the sorted examples, and the end of the last: the same in every epoch, because examples
        that change places have the same lengths."""
        if self.lengths is None:
            raise InputError("batch_tokens needs data whose lengths are known")
        longest = np.max(self.lengths[_by_length(self.lengths)], axis=1).tolist()
        cuts, most = [0], 0
        for place, length in enumerate(longest):
            most = max(most, length)
            count = place - cuts[-1] + 1
            if count > 1 and (most * count > self.batch_tokens or count > self.batch_size):
                cuts.append(place)
                most = length
        return np.array([*cuts, self.size])


def _by_length(lengths: np.ndarray) -> np.ndarray:
    """An order by the last length, and where that is the same by the one before: rising and falling by turns, so that neighbours
    differ little."""
    last, *others = lengths.T[::-1]
    keys = [np.where(last % 2, -other, other) for other in others]
    return np.lexsort((*keys[::-1], last))


def batches_of(experiment: Experiment, split: str = "train") -> Batches:
    """Which examples of a split each step takes."""
    source = experiment.data.split(split)
    return Batches(source.size, experiment.batch_size, source.lengths, experiment.batch_tokens)


def example_seeds(seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """A seed pair for each example in each epoch: (batch, 2) int32, well mixed, whatever batch the example is in."""
    with np.errstate(over="ignore"):
        mixed = _mix(_mix(_mix(np.uint64(seed)) + np.uint64(epoch)) + indices.astype(np.uint64))
    return mixed.view(np.int32).reshape(-1, 2)


def _mix(x):
    """The finaliser of SplitMix64: Steele, Lea & Flood 2014, https://doi.org/10.1145/2660193.2660195, figure 17."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Slices:
    """What one process computes of each step: the slices first .. last - 1 of the ``of`` that its examples are cut into, in their
    order, as evenly as they can be."""

    first: int = 0
    last: int = 1
    of: int = 1

    def cut(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(number of its first row, rows) of each of this process' slices; one without rows is empty."""
        for number in range(self.first, self.last):
            begin, end = number * len(rows) // self.of, (number + 1) * len(rows) // self.of
            yield begin, rows[begin:end]


def check_slices(experiment: Experiment, slices: Slices) -> None:
    """Refuses more slices than a step has examples.

    Raises:
        InputError: there are.
    """
    if experiment.batch_tokens is None and (examples := batches_of(experiment).largest) < slices.of:
        raise InputError(f"a step's {examples} examples cannot be cut into {slices.of} slices, one for each replica and part:"
                         " raise batch_size, or take fewer workers or parts")  # fmt: skip


def training_batches(experiment: Experiment, *, seed: int, start: int, end: int, slices: Slices | None = None) -> tf.data.Dataset:
    """(network inputs, targets) of the steps start .. end - 1.

    With ``slices`` it is ((network inputs, targets), place) of each of these slices of each step, one after the other, where
    place is int64 (3,): the number of its first example in the step, how many examples it has, and how many the step has. A slice
    without examples has one that does not count, of the same step.
    """
    batches = batches_of(experiment)
    closing = batches.steps * max(0, experiment.epochs - experiment.closing_epochs) if experiment.closing_epochs else end
    closing = min(max(start, closing), end)
    spans = ((start, closing, experiment.augment), (closing, end, experiment.closing_augment))
    # One of no steps stands for a training that is done.
    parts = [_training_batches(experiment, batches, seed, slices, *span) for span in spans if span[0] < span[1] or start == end]
    return _ahead(functools.reduce(tf.data.Dataset.concatenate, parts))


def _training_batches(experiment: Experiment, batches: Batches, seed: int, slices: Slices | None, start: int, end: int,
                      augment: Callable[..., dict[str, Any]] | None) -> tf.data.Dataset:  # fmt: skip
    fetch = decoded_fetch(experiment, experiment.data.train)
    cut = slices or Slices()
    largest = -(-batches.largest // cut.of)
    is_full = experiment.batch_tokens is None and batches.largest % cut.of == 0

    # A fetch that refuses its file keeps its one line: autograph would wrap the error in pages.
    @tf.autograph.experimental.do_not_convert
    def batch(place, first_seed, indices, seeds):
        if not is_full:  # else their number is known beforehand
            count = tf.maximum(place[1], 1)
            indices, seeds = indices[:count], seeds[:count]
        with replicas.slice_of_batch(place[0], tf.shape(indices)[0], first_seed) if slices else contextlib.nullcontext():
            raw = fetch(indices)
            if augment is not None:
                raw = augment(raw, seeds, fetch)
            encoded = _encoded(experiment, raw, seeds)
        return (encoded, place) if slices else encoded

    # Those of many steps at once: TensorFlow takes longer to call Python than Python to count them.
    def block(first):
        rows = []
        for indices, seeds in batches.of_steps(seed=seed, start=int(first), end=min(int(first) + STEPS_IN_A_BLOCK, end)):
            for (begin, mine), (_, mine_seeds) in zip(cut.cut(indices), cut.cut(seeds), strict=True):
                place = np.array([begin, len(mine), len(indices)])
                mine, mine_seeds = (mine, mine_seeds) if len(mine) else (indices[:1], seeds[:1])
                rows.append((place, seeds[0], _filled(mine, largest), _filled(mine_seeds, largest)))
        return tuple(np.stack(each) for each in zip(*rows, strict=True))

    @tf.autograph.experimental.do_not_convert
    def numbers(first):
        places, firsts, indices, seeds = tf.numpy_function(block, [first], (tf.int64, tf.int32, tf.int64, tf.int32))
        return (tf.ensure_shape(places, (None, 3)), tf.ensure_shape(firsts, (None, 2)), tf.ensure_shape(indices, (None, largest)),
                tf.ensure_shape(seeds, (None, largest, 2)))  # fmt: skip

    # A stage of its own: a Python function inside the parallel map would make it sequential. Not from_generator, which TensorFlow
    # 2.21 lets change how the whole process gives memory back: see ``kerastoolkit.memory``.
    blocks = tf.data.Dataset.range(start, end, STEPS_IN_A_BLOCK).map(numbers)
    return blocks.unbatch().map(batch, num_parallel_calls=os.cpu_count(), deterministic=True)


def validation_batches(experiment: Experiment, *, seed: int) -> tf.data.Dataset:
    """(network inputs, targets) of the validation split, every example once, always in the same order."""
    source = experiment.data.validation
    fetch = decoded_fetch(experiment, source)

    @tf.autograph.experimental.do_not_convert
    def batch(indices):
        return _encoded(experiment, fetch(indices), _fixed_seeds(indices, seed))

    if experiment.batch_tokens is None:
        return _ahead(_in_order(source, experiment.batch_size).map(batch))
    indices = tf.ragged.constant(list(batches_of(experiment, "validation").in_order()), dtype=tf.int64)
    return _ahead(tf.data.Dataset.from_tensor_slices(indices).map(batch))


def raw_batches(source: Source, batch_size: int) -> tf.data.Dataset:
    """Raw batches of a split, in order, every example once, the last batch smaller where it must be."""
    return _ahead(_in_order(source, batch_size).map(source.fetch))


def _ahead(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The batches, made some steps before they are needed.

    Without tf.data's own tuning: the thread that tunes sleeps for longer and longer, and an iterator that is let go of can wait
    until it wakes, which was measured to double the time of short trainings.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(BATCHES_AHEAD).with_options(options)


def decoder(experiment: Experiment) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What brings a raw batch to decoded inputs: the task's decoding where the inputs are files' bytes, else nothing."""
    if not experiment.data.encoded:
        return lambda raw: raw
    model = experiment.task.decode(experiment.preprocess)

    def decode(raw):
        decoded = call(model, raw)
        return {**raw, **(decoded if isinstance(decoded, dict) else {experiment.data.inputs[0]: decoded})}

    return decode


def decoded_fetch(experiment: Experiment, source: Source) -> Callable[[Any], dict[str, Any]]:
    """``source.fetch`` with decoded inputs."""
    decode = decoder(experiment)
    return lambda indices: decode(source.fetch(indices))


@contextlib.contextmanager
def naming_unreadable(source: Source, indices: Iterable[int], read: Callable[[dict[str, Any]], Any]) -> Iterator[None]:
    """Turns a failure inside a batch into one line that names the file at fault, found by reading the examples one by one.

    Args:
        source: the split.
        indices: the examples that the batch, or the batches, can have held.
        read: what is done to a raw batch; fails for a file that cannot be read.
    Raises:
        InputError: an example that cannot be read was found; any other failure is raised as it came.
    """
    try:
        yield
    except tf.errors.OpError as error:
        for index in indices if source.name is not None else ():
            try:
                read(source.fetch(tf.constant([index], tf.int64)))
            except tf.errors.OpError:
                raise InputError(f"{source.name(int(index))}: cannot be read; the file is damaged or gone") from error
        raise


@contextlib.contextmanager
def naming_refused() -> Iterator[None]:
    """Turns what a graph says of a setting that it refuses into one line.

    Raises:
        InputError: such a refusal; any other failure is raised as it came.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if found := REFUSED.search(str(error)):
            raise InputError(" ".join(found.groups())) from error
        raise


def call(model: Any, tensors: dict[str, Any], **kwargs: Any) -> Any:
    """Calls a functional model with the tensors that bear its inputs' names."""
    names = [tensor.name for tensor in model.inputs]
    return model(tensors[names[0]] if len(names) == 1 else {name: tensors[name] for name in names}, **kwargs)


def _encoded(experiment: Experiment, raw: dict[str, Any], seeds: Any) -> tuple[Any, Any]:
    """Raw, decoded examples -> (network inputs by name, targets)."""
    outputs = call(experiment.preprocess, raw)
    names = [tensor.name for tensor in experiment.trained.inputs]
    outputs = outputs if isinstance(outputs, dict) else {experiment.network.inputs[0].name: outputs}
    inputs = {name: value for name, value in outputs.items() if name in names}
    side_outputs = {name: value for name, value in outputs.items() if name not in names}
    extra, targets = experiment.task.encode(experiment.data.truths(raw), inputs, side_outputs, seeds)
    return {**inputs, **extra}, targets


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    return rows if len(rows) == size else np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])


def _in_order(source: Source, batch_size: int) -> tf.data.Dataset:
    return tf.data.Dataset.range(source.size).batch(batch_size)


def _fixed_seeds(indices, seed: int):
    return tf.cast(tf.stack([indices, tf.fill(tf.shape(indices), tf.constant(seed, tf.int64))], axis=1), tf.int32)
