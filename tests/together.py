"""Starts real processes that work together on this machine, and compares what they leave."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

TESTS = Path(__file__).parent
PLAIN = f"{TESTS / 'recipes_for_tests' / 'plain.py'}:plain"
KILLABLE = f"{TESTS / 'recipes_for_tests' / 'killable.py'}:killable"


def start_alone(folder, *arguments):
    """A process that runs Python with these arguments in a folder."""
    return _start(folder, {}, arguments)


def start_workers(folder, number, *arguments):
    """So many processes with these arguments, each with its TF_CONFIG, on free ports."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("localhost", 0))
    addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    tasks = [{"type": "worker", "index": index} for index in range(number)]
    configs = [json.dumps({"cluster": {"worker": addresses}, "task": task}) for task in tasks]
    return [_start(folder, {"TF_CONFIG": config}, arguments) for config in configs]


def _start(folder, environment, arguments):
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def ended(processes, seconds=600):
    """(exit status, output, errors) of each."""
    told = [process.communicate(timeout=seconds) for process in processes]
    return [(process.returncode, *each) for process, each in zip(processes, told, strict=True)]


TRAIN_ALL = """
import json, sys
import kerastoolkit
from kerastoolkit import catalog, train
for recipe, overrides, out, devices in json.loads(sys.argv[1]):
    where = {"strategy": "mirrored", "logical_cpus": devices} if devices else {}
    train.train(catalog.find_recipe(recipe), overrides, out=out, **where)
"""


def trainings(*runs):
    """The arguments of several trainings in one process, first that with most devices: each (recipe, overrides, out, devices)."""
    return ("-c", TRAIN_ALL, json.dumps(runs))


def training(recipe, out, *options):
    """The arguments of a training whose every call is kept."""
    return ("-m", "kerastoolkit", "train", recipe, "--out", str(out), "--checkpoint-seconds", "0", *options)


def last_state(run):
    """All variables of the newest checkpoint, by name."""
    return load_file(max((run / "checkpoints").iterdir()) / "variables.safetensors")


def bits(run):
    """Everything that must be the same where nothing may be lost."""
    state = {name: (array.dtype, array.shape, array.tobytes()) for name, array in last_state(run).items()}
    return state, (run / "history.csv").read_bytes()


def largest_difference(run, other):
    """Of any weight of the networks."""
    one, two = last_state(run), last_state(other)
    assert one.keys() == two.keys()
    return max(np.abs(one[name] - two[name]).max() for name in one if name.startswith("network") and one[name].dtype.kind == "f")
