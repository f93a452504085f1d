"""The devices and processes that train one run together, on TensorFlow's distribution strategies.

Several devices of one process are replicas under ``MirroredStrategy``; several processes, on one machine or on many, are workers
under ``MultiWorkerMirroredStrategy``, which find each other by TF_CONFIG. The chief, the first worker, decides and writes; what
it decides reaches the others by the strategy's own collective operations, so that only its machine needs the run folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastoolkit.catalog import CatalogError
from kerastoolkit.experiment import InputError, RunError
from kerastoolkit.pipeline import Slices
from kerastoolkit.progress import say

STRATEGIES = ("mirrored", "multi-worker")
BROADCAST_BYTES = 2**26  # of a checkpoint that are on their way at once
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
        tf.errors.InternalError)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Workers:
    """Who trains together.

    Attributes:
        strategy: TensorFlow's; the default one for one device of one process.
        addresses: of the worker processes, host:port; none where there is one.
        number: of this process among them, from 0; 0 is the chief.
    """

    strategy: tf.distribute.Strategy
    addresses: tuple[str, ...] = ()
    number: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process decides and writes."""
        return self.number == 0

    @property
    def replicas(self) -> int:
        """Devices of all workers."""
        return self.strategy.num_replicas_in_sync

    def slices(self, parts: int = 1) -> Slices:
        """What this process computes of each batch, which every replica takes in so many ``parts``, one after the other."""
        here = self.replicas // max(1, len(self.addresses))
        return Slices(first=self.number * here * parts, last=(self.number + 1) * here * parts, of=self.replicas * parts)

    def here(self, value: Any) -> list[Any]:
        """What the replicas of this process have of a value, in their order."""
        return list(self.strategy.experimental_local_results(value))

    def from_chief(self, data: bytes = b"") -> bytes:
        """The chief's ``data``, on all workers; each must ask."""
        if len(self.addresses) < 2:
            return data
        size = int(self._summed(np.array([len(data) if self.is_chief else 0]))[0])
        pieces = []
        for begin in range(0, size, BROADCAST_BYTES):
            piece = np.zeros(-(-min(BROADCAST_BYTES, size - begin) // 8), np.int64)
            if self.is_chief:
                mine = data[begin : begin + BROADCAST_BYTES]
                piece.view(np.uint8)[: len(mine)] = np.frombuffer(mine, np.uint8)
            pieces.append(self._summed(piece).tobytes())
        return b"".join(pieces)[:size]

    def agreed(self, function: Callable[[], Any]) -> Any:
        """What ``function`` returns on the chief, a JSON value, on all workers.

        Raises:
            InputError, RunError: as it does on the chief, on all workers.
        """
        if len(self.addresses) < 2:
            return function()
        told, own = {}, None
        if self.is_chief:
            try:
                told = {"value": function()}
            except (InputError, RunError, CatalogError) as error:
                own, told = error, {"error": str(error), "failed": isinstance(error, RunError)}
        told = json.loads(self.from_chief(json.dumps(told).encode()))
        if own is not None:
            raise own
        if "error" in told:
            raise (RunError if told["failed"] else InputError)(told["error"])
        return told["value"]

    def check_same(self, settings: dict[str, Any]) -> None:
        """Refuses workers that were started with other settings than the chief.

        Raises:
            InputError: on all workers, naming the first of them.
        """
        if len(self.addresses) < 2:
            return
        chiefs = json.loads(self.from_chief(json.dumps(settings).encode()))
        mine = json.loads(json.dumps(settings))
        other = [key for key in mine if mine[key] != chiefs.get(key)]
        found = self._summed(np.array([bool(other) and number == self.number for number in range(len(self.addresses))]))
        if found.any():
            number = int(found.argmax())
            known = f": {other[0]} {mine[other[0]]}, not {chiefs.get(other[0])}" if other and number == self.number else ""
            raise InputError(f"worker {number} was started with other settings than worker 0{known}")

    def added(self, numbers: list[int]) -> list[int]:
        """The sums over all workers of numbers that each has; each must ask."""
        return numbers if len(self.addresses) < 2 else self._summed(np.array(numbers)).tolist()

    @contextlib.contextmanager
    def naming_lost(self) -> Iterator[None]:
        """Turns what TensorFlow says when a worker is gone into one line.

        Raises:
            RunError: a worker died or left; any other failure is raised as it came.
        """
        try:
            yield
        except LOST as error:
            if len(self.addresses) < 2:
                raise
            named = re.search(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", str(error))
            number = _number_of(named.groups()) if named else None
            whom = "a worker" if number in (None, self.number) else f"worker {number} ({self.addresses[number]})"
            raise RunError(f"{whom} is gone; the checkpoints are kept, and the same command on all workers continues") from error

    def _summed(self, numbers: np.ndarray) -> np.ndarray:
        return self.here(_summed(self.strategy, tf.constant(numbers, tf.int64)))[0].numpy()


ALONE = Workers(tf.distribute.get_strategy())


def start_workers(strategy: str | None, logical_cpus: int | None = None) -> Workers:
    """Sets this process to work on all its GPUs, or with the other workers. To be called before TensorFlow computes anything.

    Args:
        strategy: None for one device, mirrored or multi-worker.
        logical_cpus: in the place of GPUs as many devices, which share this machine's processors; only with mirrored.
    Raises:
        InputError: no such strategy, there are no such devices, or TF_CONFIG does not name the workers.
    """
    if keras.distribution.distribution() is not None:
        raise InputError("keras.distribution is set, which Keras ignores on TensorFlow; use --strategy mirrored or multi-worker")
    if logical_cpus is not None and strategy != "mirrored":
        raise InputError("--logical-cpus goes with --strategy mirrored alone")
    if strategy is None:
        return ALONE
    if strategy == "mirrored":
        return Workers(_mirrored(logical_cpus))
    if strategy != "multi-worker":
        raise InputError(f"strategy must be {' or '.join(STRATEGIES)}, got {strategy}")
    _, addresses, number = _cluster(os.environ.get("TF_CONFIG"))
    return Workers(_multi_worker(addresses), addresses, number)


def _mirrored(logical_cpus: int | None) -> tf.distribute.Strategy:
    if logical_cpus is None:
        gpus = tf.config.list_logical_devices("GPU")
        if not gpus:
            raise InputError("strategy mirrored: this machine has no GPU; --logical-cpus 2 tries it on its processors")
        return tf.distribute.MirroredStrategy([device.name for device in gpus])
    if logical_cpus < 1:
        raise InputError(f"--logical-cpus must be at least 1, got {logical_cpus}")
    try:
        devices = [tf.config.LogicalDeviceConfiguration()] * logical_cpus
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    except RuntimeError:  # TensorFlow has started already: enough devices may be there
        if len(tf.config.list_logical_devices("CPU")) < logical_cpus:
            raise InputError(f"--logical-cpus {logical_cpus}: TensorFlow has started with fewer devices") from None
    # Sums of more than two in one operation depend on the order in which threads finish: see ``keep_order``.
    adding = tf.distribute.ReductionToOneDevice(accumulation_fn=_added_in_order)
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(logical_cpus)], cross_device_ops=adding)


def _added_in_order(tensors: list[Any]) -> Any:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def _cluster(text: str | None) -> tuple[dict[str, list[str]], tuple[str, ...], int]:
    """(jobs, addresses in order, this worker's number) from TF_CONFIG, checked."""
    if not text:
        raise InputError("strategy multi-worker finds the workers by TF_CONFIG, which is not set: "
                         '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}')  # fmt: skip
    try:
        config = json.loads(text)
        jobs, kind, index = config["cluster"], config["task"]["type"], int(config["task"]["index"])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"TF_CONFIG must be JSON with cluster and task (type and index), got {text} ({error})") from None
    if not isinstance(jobs, dict) or not all(isinstance(each, list) for each in jobs.values()):
        raise InputError(f"TF_CONFIG's cluster must name a list of addresses for each job, got {jobs}")
    jobs = {name: jobs[name] for name in ("chief", "worker") if name in jobs}
    if kind not in jobs or not 0 <= index < len(jobs[kind]):
        raise InputError(f"TF_CONFIG's task must be one of its chief and workers, got {kind} {index}")
    for address in (addresses := tuple(address for each in jobs.values() for address in each)):
        if not re.fullmatch(r"\S+:\d{1,5}", str(address)):
            raise InputError(f"TF_CONFIG's addresses must be host:port, got {address}")
    if len(set(addresses)) < len(addresses):
        raise InputError(f"TF_CONFIG names an address twice: {', '.join(addresses)}")
    return jobs, addresses, index + (len(jobs["chief"]) if kind == "worker" and "chief" in jobs else 0)


def _number_of(task: tuple[str, str]) -> int:
    """A worker's number from its job and index."""
    jobs, _, _ = _cluster(os.environ.get("TF_CONFIG"))
    return int(task[1]) + (len(jobs["chief"]) if task[0] == "worker" and "chief" in jobs else 0)


def _multi_worker(addresses: tuple[str, ...]) -> tf.distribute.Strategy:
    if len(addresses) > 1:
        say(f"waiting for {len(addresses)} workers: {', '.join(addresses)}")
    # A ring adds in the same order on all; AUTO is a ring between processors and NCCL between GPUs.
    options = tf.distribute.experimental.CommunicationOptions()
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except (RuntimeError, tf.errors.OpError) as error:
        raise InputError(f"strategy multi-worker could not start: {str(error).partition(chr(10))[0]}") from error


@tf.function(reduce_retracing=True, autograph=False)
def _summed(strategy: tf.distribute.Strategy, numbers: tf.Tensor) -> Any:
    def sum_over_replicas():
        here = tf.distribute.get_replica_context()
        first = tf.cast(tf.equal(here.replica_id_in_sync_group % len(strategy.extended.worker_devices), 0), numbers.dtype)
        return here.all_reduce(tf.distribute.ReduceOp.SUM, numbers * first)

    return strategy.run(sum_over_replicas)
