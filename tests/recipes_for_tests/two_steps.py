"""A program: trains recipes for two steps alone and then together with other replicas, and prints what came of it as JSON.

    python two_steps.py mirrored|multi-worker '[{"recipe": "digits-cnn", "settings": {}}, ...]'
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


def two_steps(recipe, settings, workers):
    """(the network's weights before, after, the mean loss, whether no step failed)."""
    experiment = train.build(recipe, catalog.arguments(recipe, settings), 0, workers)
    check_slices(experiment, workers.slices())
    state = State(experiment, workers)
    weights = experiment.network.trainable_variables
    before = [np.array(variable.numpy()) for variable in weights]
    slices = None if state.is_alone else workers.slices()
    compile_steps(state)(iter(training_batches(experiment, seed=0, start=0, end=2, slices=slices)), tf.constant(2))
    return before, [np.array(variable.numpy()) for variable in weights], state.means()["loss"], int(state.failed_at.numpy()) == -1


def main(strategy, cases):
    workers = start_workers(strategy, 2 if strategy == "mirrored" else None)
    for case in cases:
        recipe = catalog.find_recipe(case["recipe"])
        start, alone, loss_alone, _ = two_steps(recipe, case["settings"], ALONE)
        same_start, together, loss, finite = two_steps(recipe, case["settings"], workers)
        pairs = list(zip(start, same_start, alone, together, strict=True))
        print(json.dumps({
            "recipe": recipe.name, "finite": finite, "loss_alone": loss_alone, "loss": loss,
            "same_start": all((a == b).all() for a, b, _, _ in pairs),
            "moved": float(max(np.abs(after - before).max() for before, _, after, _ in pairs)),
            "difference": float(max(np.abs(one - other).max() for _, _, one, other in pairs)),
            "bits": hashlib.sha256(b"".join(each.tobytes() for each in together)).hexdigest(),
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
