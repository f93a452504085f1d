"""One run on several devices and several workers: the same weights as on one, the chief alone writes, and a worker may die."""

import json
import random
import signal
import time

import pytest

from kerastoolkit.runs import read_run
from tests.together import (
    KILLABLE,
    PLAIN,
    bits,
    ended,
    largest_difference,
    start_alone,
    start_workers,
    training,
    trainings,
)

MIRRORED = ("--strategy", "mirrored", "--logical-cpus", "2")
WORKERS = ("--strategy", "multi-worker")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of one device and of several, trained in one process."""
    folder = tmp_path_factory.mktemp("together")
    drops = {"dropout": 0.3, "batch_norm": True, "epochs": 1}
    odd = {"batch_size": 10, "epochs": 1}
    (code, _, errors), = ended([start_alone(folder, *trainings(
        (PLAIN, odd, "odd-by-three", 3), (PLAIN, odd, "odd", None), (PLAIN, {}, "alone", None), (PLAIN, {}, "by-devices", 2),
        (PLAIN, drops, "drops", None), (PLAIN, drops, "drops-by-devices", 2)))])  # fmt: skip
    assert code == 0, errors[-2000:]
    return folder


def trained_by_two(folder, recipe, out, *options):
    """The run of two workers that must end well."""
    for code, _, errors in ended(start_workers(folder, 2, *training(recipe, out, *options), *WORKERS)):
        assert code == 0, errors[-2000:]
    return folder / out


@pytest.fixture(scope="module")
def by_two(folder):
    return trained_by_two(folder, PLAIN, "by-two")


def test_two_workers_train_the_weights_of_one(folder, by_two):
    assert 0 < largest_difference(folder / "alone", by_two) < 1e-6


def test_two_devices_train_the_weights_of_one(folder):
    assert 0 < largest_difference(folder / "alone", folder / "by-devices") < 1e-6


def test_dropout_and_batch_norm_are_those_of_the_whole_step(folder):
    assert 0 < largest_difference(folder / "drops", folder / "drops-by-devices") < 1e-5


def test_slices_that_are_not_even_give_the_same_weights(folder):
    assert 0 < largest_difference(folder / "odd", folder / "odd-by-three") < 1e-6


def test_a_run_of_workers_is_written_once_and_names_its_replicas(by_two):
    record = read_run(by_two)
    assert (record["status"], record["replicas"]) == ("finished", 2)
    assert (by_two / "serving.keras").is_file()
    assert len((by_two / "history.csv").read_text().splitlines()) == 3


def newest(checkpoints):
    """The step of the newest checkpoint, 0 where there is none."""
    return max((int(each.name) for each in checkpoints.glob("[0-9]*")), default=0)


def test_workers_that_are_killed_and_started_again_end_with_the_same_bits(by_two, tmp_path):
    check_kills(tmp_path, training(PLAIN, "run"), [10], bits(by_two))  # of 40 steps


@pytest.mark.slow
def test_workers_that_are_killed_five_times_end_with_the_same_bits(tmp_path):
    settings, generator = ("--set", "epochs=25"), random.Random(5)
    undisturbed = trained_by_two(tmp_path, KILLABLE, "undisturbed", *settings)
    steps = [generator.randrange(1, 60) for _ in range(5)]  # of 20 an epoch
    check_kills(tmp_path, training(KILLABLE, "run", *settings), steps, bits(undisturbed))


def check_kills(folder, arguments, steps, undisturbed):
    """Kills the chief and the other worker by turns, so many steps after each start, and compares what comes of it."""
    arguments, kept = (*arguments, *WORKERS), folder / "run" / "checkpoints"
    for number, after in enumerate(steps):
        wanted = newest(kept) + after
        processes = start_workers(folder, 2, *arguments)
        victim, survivor = processes[number % 2], processes[1 - number % 2]
        while newest(kept) < wanted:
            assert victim.poll() is None, victim.communicate()[1]
            time.sleep(0.01)
        victim.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        (code, _, errors), = ended([survivor], seconds=60)
        assert time.monotonic() - killed < 15
        assert code == 1
        last = errors.strip().splitlines()[-1]
        assert last.startswith("error: ") and last.endswith("is gone; the checkpoints are kept, and the same command on all"
                                                            " workers continues"), errors  # fmt: skip
        victim.communicate()
    for code, _, errors in ended(start_workers(folder, 2, *arguments)):
        assert code == 0, errors
        assert "after step" in errors
    assert bits(folder / "run") == undisturbed


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_after_the_same_step(tmp_path):
    arguments = (*training(KILLABLE, "run", "--set", "epochs=400"), *WORKERS)
    processes = start_workers(tmp_path, 2, *arguments)
    while not newest(tmp_path / "run" / "checkpoints"):
        assert processes[0].poll() is None, processes[0].communicate()[1]
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    told = ended(processes, seconds=60)
    assert [code for code, _, _ in told] == [143, 143]
    lines = [errors.strip().splitlines()[-1] for _, _, errors in told]
    assert lines[0] == lines[1] and "stopped by SIGTERM after step" in lines[0]


def test_workers_with_other_settings_are_refused_by_name(tmp_path):
    config = json.dumps
    one, two = start_workers(tmp_path, 2, "-c", f"""
import json, os, sys
from kerastoolkit.cli import main
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
main(None, {config(["train", PLAIN, "--out", "run", *WORKERS])} + (["--seed", "1"] if index else []))
""")  # fmt: skip
    told = ended([one, two])
    assert [code for code, _, _ in told] == [2, 2]
    assert told[0][2].strip().endswith("error: worker 1 was started with other settings than worker 0")
    assert told[1][2].strip().endswith("error: worker 1 was started with other settings than worker 0: seed 1, not 0")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_replicas_and_says_so(folder, tmp_path):
    process = start_alone(tmp_path, *training(PLAIN, "run", *MIRRORED))
    while not newest(tmp_path / "run" / "checkpoints"):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    (code, _, _), = ended([process])
    assert code == 143
    (code, _, errors), = ended([start_alone(tmp_path, *training(PLAIN, "run"))])
    assert code == 0
    assert "warning: the run began on 2 replicas, here are 1: the last bits may differ" in errors
    assert largest_difference(folder / "alone", tmp_path / "run") < 1e-6
