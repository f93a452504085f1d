"""What an exported file and its run are asked: examples of the run's data, or made-up ones where the data is not here."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastoolkit.experiment import Data, Source, rebuild, without_fetching
from kerastoolkit.formats import Part, Trained
from kerastoolkit.pipeline import call
from kerastoolkit.runs import use_data_dir
from kerastoolkit.serving.model import decode_model, decoded_model, with_settings

MOST = 8
PROBED = 3  # made-up examples, as many as a task's probe has


@dataclass(frozen=True)
class Examples:
    """Some raw examples.

    Attributes:
        run: the run.
        raw: tensors by name, the truths among them where it is data; made-up ones have what the task's probe has.
        data: the data set, or None.
        about: how to call them.
    """

    run: Trained
    raw: dict[str, tf.Tensor]
    data: Data | None
    about: str

    def given_to(self, model: keras.Model, *, prepared: bool) -> dict[str, np.ndarray]:
        """Inputs for a model, by name; what is not known of them is made up.

        Args:
            prepared: whether the model takes what the network takes, not raw or decoded inputs.
        """
        # What takes raw input is asked in the several ways that the probe has. With its settings a detector lets hundreds of
        # boxes through, some with all but the same score, and which of them comes first may differ from runtime to runtime: what
        # takes numbers, as files of other runtimes do, is asked as by default.
        settings = [self._made_up, self._defaults]
        settings = settings if any(tensor.dtype == "string" for tensor in model.inputs) else settings[::-1]
        pools, length = [self.raw, self._decoded, *settings], 1
        if prepared:  # what is made up is as long as what it goes with
            pools = [self._prepared]
            length = max((value.shape[1] for value in self._prepared.values() if len(value.shape) == 2), default=1)
        return {tensor.name: self._value(tensor, pools, length).numpy() for tensor in model.inputs}

    def about_those_for(self, parts: list[Part]) -> str:
        """How to call what is given to these, with what the network takes that nobody knows."""
        taken = [tensor.name for part in parts if part.name == "network" for tensor in part.model.inputs]
        unknown = [name for name in taken if name not in self._prepared]
        return self.about + (f" with {' and '.join(unknown)} made up" if unknown else "")

    @property
    def count(self) -> int:
        return len(next(iter(self.raw.values())))

    @functools.cached_property
    def _defaults(self) -> dict[str, tf.Tensor]:
        return with_settings({"": tf.range(self.count)}, self.run.task.settings)

    @functools.cached_property
    def _made_up(self) -> dict[str, tf.Tensor]:
        return _tensors(self.run.task.probe(self.run.serving))

    @functools.cached_property
    def _decoded(self) -> dict[str, tf.Tensor]:
        return self._after_decoding(self.raw)

    @functools.cached_property
    def _prepared(self) -> dict[str, tf.Tensor]:
        """What the serving model's preprocessing gives, and what training gives the network besides."""
        found = self._after_preprocessing(self.raw)
        names = {tensor.name for tensor in self.run.network.inputs}
        if self.data is None or names <= set(found):
            return found
        # Only these have truths of the kind that training learns from; those of the test split are for scoring.
        raw = _some(self.data.validation if self.data.validation.size else self.data.train, self.count)
        found = self._after_preprocessing(raw)
        taken = {name: value for name, value in found.items() if name in names}
        beside = {name: value for name, value in found.items() if name not in names}
        try:
            extra, _ = self.run.task.encode(self.data.truths(raw), taken, beside, tf.zeros((self.count, 2), tf.int32))
        except KeyError:  # the recipe made what training learns from, with sub-words, and that is not in the run's description
            return found
        return {**found, **extra}

    def _after_decoding(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        decode = decode_model(self.run.serving)
        if decode is None:
            return {}
        found = call(decode, {tensor.name: self._value(tensor, [raw, self._made_up]) for tensor in decode.inputs})
        return found if isinstance(found, dict) else {decoded_model(self.run.serving).inputs[0].name: found}

    def _after_preprocessing(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        preprocess = decoded_model(self.run.serving).get_layer("preprocess")
        pools = [self._after_decoding(raw), raw, self._defaults, self._made_up]
        found = call(preprocess, {tensor.name: self._value(tensor, pools) for tensor in preprocess.inputs})
        return found if isinstance(found, dict) else {self.run.network.inputs[0].name: found}

    def _value(self, tensor: Any, pools: list[dict[str, tf.Tensor]], length: int = 1) -> tf.Tensor:
        for pool in pools:
            value = pool.get(tensor.name)
            if value is None:
                continue
            if (value.dtype == tf.string) == (tensor.dtype == "string") and len(value.shape) == len(tensor.shape):
                value = tf.gather(value, tf.range(self.count) % len(value))  # there may be fewer made-up ones
                return value if value.dtype == tf.string else tf.cast(value, tensor.dtype)
            if tensor.dtype == "string" and len(value.shape) == 4 and value.shape[3] in (1, 3):
                return tf.map_fn(tf.io.encode_png, tf.cast(tf.round(tf.cast(value, tf.float32)), tf.uint8),
                                 fn_output_signature=tf.string)  # fmt: skip
        generator, shape = np.random.default_rng(0), (self.count, *(size or length for size in tensor.shape[1:]))
        if tensor.dtype.startswith("int"):
            return tf.constant(generator.integers(1, 9, shape), tensor.dtype)
        return tf.constant(generator.normal(size=shape), tensor.dtype)


def examples_of(run: Trained) -> Examples:
    """Some of the run's data, of its test split if it has one; made-up ones where the data cannot be read here."""
    try:
        use_data_dir(run.record.get("data_dir"))
        with without_fetching():
            data = rebuild(run.record["data_set"])
            split = next(name for name in ("test", "validation", "train") if data.split(name).size)
            source = data.split(split)
            count = min(MOST, run.task.answered_at_once, source.size)
            return Examples(run, _some(source, count), data, f"{count} examples of {data.name}")
    except (ValueError, KeyError, OSError, StopIteration, tf.errors.OpError):
        return made_up(run)


def made_up(run: Trained) -> Examples:
    """Those of the task's probe."""
    raw = {name: value for name, value in _tensors(run.task.probe(run.serving)).items() if name not in run.task.settings}
    return Examples(run, raw, None, f"{len(next(iter(raw.values())))} made-up examples, because the data is not here")


def _some(source: Source, count: int) -> dict[str, tf.Tensor]:
    """Raw examples from all over a split: neighbours in a file are often of one kind."""
    return source.fetch(tf.constant(np.linspace(0, source.size - 1, count).astype(np.int64)))


def _tensors(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value.tolist() if value.dtype == object else value) for name, value in raw.items()}

