"""The input pipeline of ResNet-20's recipe: alone, against training, and how long training waits for it.

    python benchmarks/input_pipeline.py [--rounds 5] [--steps 100] [--json FILE]

Both sides read the same 8,192 random 32 x 32 images from memory in batches of 128, with the recipe's crops, flips and
standardisation. Alone, batches are made and thrown away. In training, the wait is the time from asking for a batch to
having it, the pipeline running ahead of the compiled step as it does in ``kerastoolkit train``.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from resnet20_training import BATCH, WARM_UP, experiment_on_random_images

from kerastoolkit.pipeline import training_batches
from kerastoolkit.steps import compile_step
from kerastoolkit.training_state import State


def pipeline_alone(experiment, steps):
    """Images a second."""
    batches = iter(training_batches(experiment, seed=0, start=0, end=WARM_UP + steps))
    for _ in range(WARM_UP):
        next(batches)
    began = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return steps * BATCH / (time.perf_counter() - began)


def training(experiment, step, steps):
    """Images a second, and the share of the time that was spent waiting for a batch."""
    batches = iter(training_batches(experiment, seed=0, start=0, end=WARM_UP + steps))
    for _ in range(WARM_UP):
        step(*next(batches))
    waited, began = 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        step(*batch)
    took = time.perf_counter() - began
    return steps * BATCH / took, waited / took


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    experiment = experiment_on_random_images()
    step = compile_step(State(experiment))
    training(experiment, step, 1)  # compiles
    rounds = []
    for number in range(options.rounds):
        alone, (trained, waiting) = pipeline_alone(experiment, 10 * options.steps), training(experiment, step, options.steps)
        rounds.append((alone, trained, alone / trained, waiting))
        print(f"round {number + 1}: pipeline {alone:.0f}, training {trained:.0f} images/s, waiting {waiting:.2%}", flush=True)
    names = ("pipeline_images_per_second", "training_images_per_second", "ratio", "waiting_share")
    results = dict(zip(names, map(statistics.median, zip(*rounds, strict=True)), strict=True))
    print(f"pipeline / training: median {results['ratio']:.1f}; waiting: median {results['waiting_share']:.2%} of the time")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
