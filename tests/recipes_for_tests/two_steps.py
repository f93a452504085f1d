"""A program: trains recipes for two steps, alone or together with other replicas, and prints what came of it as JSON.

    python two_steps.py alone|mirrored|multi-worker|mirrored+alone '[{"recipe": "digits-cnn", "settings": {}}, ...]'
"""

import hashlib
import json
import sys

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras

import numpy as np
import tensorflow as tf

from kerastoolkit import catalog, train
from kerastoolkit.pipeline import check_slices, training_batches
from kerastoolkit.steps import compile_steps
from kerastoolkit.training_state import State
from kerastoolkit.workers import ALONE, start_workers


def two_steps(name, settings, workers):
    """What is told of a recipe."""
    experiment = train.build(catalog.find_recipe(name), catalog.arguments(catalog.find_recipe(name), settings), 0, workers)
    check_slices(experiment, workers.slices())
    state = State(experiment, workers)
    weights = experiment.network.trainable_variables
    before = [np.array(variable.numpy()) for variable in weights]
    slices = None if state.is_alone else workers.slices()
    compile_steps(state)(iter(training_batches(experiment, seed=0, start=0, end=2, slices=slices)), tf.constant(2))
    after = [np.array(variable.numpy()) for variable in weights]
    return {"recipe": name, "replicas": workers.replicas, "finite": int(state.failed_at.numpy()) == -1,
            "loss": state.means()["loss"],
            "moved": float(max(np.abs(one - other).max() for one, other in zip(before, after, strict=True))),
            "start": digest(before), "end": digest(after)}  # fmt: skip


def digest(arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def main(where, cases):
    for each in where.split("+"):
        workers = ALONE if each == "alone" else start_workers(each, 2 if each == "mirrored" else None)
        for case in cases:
            print(json.dumps(two_steps(case["recipe"], case["settings"], workers)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
