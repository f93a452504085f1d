"""Which devices and workers a training may have, checked before anything is computed."""

import json

import keras
import pytest
import tensorflow as tf

from kerastoolkit.experiment import InputError, RunError
from kerastoolkit.workers import ALONE, Workers, _cluster, start_workers


def config(task=("worker", 0), **cluster):
    return json.dumps({"cluster": cluster, "task": {"type": task[0], "index": task[1]}})


def test_one_device_is_alone():
    workers = start_workers(None)
    assert workers is ALONE
    assert (workers.is_chief, workers.replicas, workers.slices()) == (True, 1, workers.slices(1))
    assert workers.from_chief(b"mine") == b"mine"
    assert workers.added([2, 3]) == [2, 3]


@pytest.mark.parametrize(
    ("strategy", "logical_cpus", "message"),
    [("mirrored", None, "strategy mirrored: this machine has no GPU; --logical-cpus 2 tries it"),
     ("mirrored", 0, "--logical-cpus must be at least 1, got 0"),
     ("multi-worker", 2, "--logical-cpus goes with --strategy mirrored alone"),
     (None, 2, "--logical-cpus goes with --strategy mirrored alone"),
     ("ring", None, "strategy must be mirrored or multi-worker, got ring")],
)  # fmt: skip
def test_what_is_no_strategy_is_refused(strategy, logical_cpus, message):
    with pytest.raises(InputError, match=message):
        start_workers(strategy, logical_cpus)


def test_keras_own_distribution_is_refused(monkeypatch):
    monkeypatch.setattr(keras.distribution, "distribution", lambda: "a mesh")
    with pytest.raises(InputError, match="keras.distribution is set, which Keras ignores on TensorFlow"):
        start_workers(None)


def test_the_chief_comes_first_and_workers_count_on():
    cluster = {"worker": ["b:1", "c:2"], "chief": ["a:1"]}
    assert _cluster(config(("chief", 0), **cluster))[1:] == (("a:1", "b:1", "c:2"), 0)
    assert _cluster(config(("worker", 1), **cluster))[1:] == (("a:1", "b:1", "c:2"), 2)
    assert _cluster(config(("worker", 1), worker=["b:1", "c:2"]))[1:] == (("b:1", "c:2"), 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "finds the workers by TF_CONFIG, which is not set"),
     ("{", "TF_CONFIG must be JSON with cluster and task"),
     ("[]", "TF_CONFIG must be JSON with cluster and task"),
     ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG must be JSON with cluster and task"),
     (config(worker="a:1"), "cluster must name a list of addresses for each job"),
     (config(("worker", 1), worker=["a:1"]), "task must be one of its chief and workers, got worker 1"),
     (config(("ps", 0), worker=["a:1"], ps=["b:1"]), "task must be one of its chief and workers, got ps 0"),
     (config(worker=["a"]), "addresses must be host:port, got a"),
     (config(worker=["a:1", "a:1"]), "TF_CONFIG names an address twice: a:1, a:1")],
)  # fmt: skip
def test_a_tf_config_that_does_not_name_the_workers_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        _cluster(text)


def test_a_lost_worker_is_told_by_its_number_and_address(monkeypatch):
    addresses = ("a:1", "b:1", "c:1")
    monkeypatch.setenv("TF_CONFIG", config(("chief", 0), chief=["a:1"], worker=["b:1", "c:1"]))
    workers = Workers(ALONE.strategy, addresses, 0)
    error = tf.errors.UnavailableError(None, None, "unhealthy: /job:worker/replica:0/task:1 stopped sending heartbeats")
    with pytest.raises(RunError, match="^worker 2 .c:1. is gone; the checkpoints are kept, and the same command on all workers"):
        with workers.naming_lost():
            raise error
    with pytest.raises(tf.errors.UnavailableError), ALONE.naming_lost():
        raise error
    with pytest.raises(tf.errors.InvalidArgumentError), workers.naming_lost():
        raise tf.errors.InvalidArgumentError(None, None, "a fault of the graph")


def test_each_worker_takes_its_own_slices_of_a_step_in_order(monkeypatch):
    monkeypatch.setattr(Workers, "replicas", 4)
    one, two = (Workers(ALONE.strategy, ("a:1", "b:1"), number) for number in (0, 1))
    assert [(each.first, each.last, each.of) for each in (one.slices(), two.slices(), two.slices(3))] == [
        (0, 2, 4), (2, 4, 4), (6, 12, 12)]  # fmt: skip
