"""What training together costs: one device under a strategy against the plain loop, and one worker against two.

    python benchmarks/distributed_training.py [--recipe NAME ...] [--rounds 5] [--steps 40] [--json FILE]

``plain`` is the loop of ``kerastoolkit train``; ``mirrored`` the same with --strategy mirrored --logical-cpus 1, so one device
that is treated as many would be. Both train in one process, in turn, and the ratio is that of their times in each round. ``1
worker`` and ``2 workers`` are --strategy multi-worker with so many processes, each bound to one processor, on steps of the same
examples: twice the processors at best halve a step's time. Told are milliseconds a step, the ratio, and a process' peak memory.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

import _rounds as rounds_of

WARM_UP, A_CALL = 4, 4
SETTINGS = {
    "cifar10-resnet20": {"data": "sample", "batch_size": 128},
    "mnist-autoencoder": {"data": "sample", "batch_size": 128},
    "weather-lstm": {"data": "sample", "batch_size": 128, "jit_compile": False},
    "dates-transformer": {"batch_tokens": 4096},
}


def trainer(recipe, strategy, steps):
    """A function that takes ``A_CALL`` steps, for as many calls as there will be."""
    import tensorflow as tf

    from kerastoolkit import catalog, train
    from kerastoolkit.pipeline import training_batches
    from kerastoolkit.steps import compile_steps
    from kerastoolkit.training_state import State
    from kerastoolkit.workers import start_workers

    workers = start_workers(strategy, 1 if strategy == "mirrored" else None)
    found = catalog.find_recipe(recipe)
    experiment = train.build(found, catalog.arguments(found, SETTINGS[recipe]), 0, workers)
    state = State(experiment, workers)
    slices = None if state.is_alone else workers.slices()
    batches = iter(training_batches(experiment, seed=0, start=0, end=steps, slices=slices))
    run_steps, count = compile_steps(state), tf.constant(A_CALL)
    return lambda: run_steps(batches, count)


def overhead(recipe, rounds, steps):
    """Milliseconds a step of the plain loop and of one device under a strategy, for each round."""
    total = WARM_UP * A_CALL + rounds * steps
    trainers = {name: trainer(recipe, strategy, total) for name, strategy in (("mirrored", "mirrored"), ("plain", None))}
    for train in trainers.values():
        for _ in range(WARM_UP):
            train()
    times = {name: [] for name in trainers}
    for _ in range(rounds):
        for name, train in trainers.items():
            began = time.perf_counter()
            for _ in range(steps // A_CALL):
                train()
            times[name].append(1000 * (time.perf_counter() - began) / steps)
    return times


def worker(recipe, rounds, steps):
    """(milliseconds a step, megabytes at the peak) of this one of several workers."""
    train = trainer(recipe, "multi-worker", WARM_UP * A_CALL + rounds * steps)
    for _ in range(WARM_UP):
        train()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(steps // A_CALL):
            train()
        times.append(1000 * (time.perf_counter() - began) / steps)
    return times, rounds_of.peak_mb()


def growth(recipe, number, rounds, steps):
    """What the slowest worker tells, each on one processor."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("localhost", 0))
    addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    processes = []
    for index in range(number):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        command = [sys.executable, __file__, "--run", "worker", "--recipe", recipe, "--rounds", str(rounds), "--steps",
                   str(steps)]  # fmt: skip
        processes.append(subprocess.Popen(
            command, env={**os.environ, "TF_CONFIG": json.dumps(config), "TF_CPP_MIN_LOG_LEVEL": "3"}, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, preexec_fn=lambda index=index: os.sched_setaffinity(0, {index})))  # fmt: skip
    told = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    return [max(times) for times in zip(*(each[0] for each in told), strict=True)], max(each[1] for each in told)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help=f"a multiple of {A_CALL}")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--run", choices=["overhead", "worker"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        import kerastoolkit  # noqa: F401 - before Keras

        return print(json.dumps((overhead if options.run == "overhead" else worker)(
            options.recipe[0], options.rounds, options.steps)))  # fmt: skip
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("this needs two processors")
    results = {}
    columns = ("recipe", "plain", "mirrored", "ratio", "1 worker", "2 workers", "speed-up", "MB of 1", "MB of each of 2")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for recipe in options.recipe:
        command = [sys.executable, __file__, "--run", "overhead", "--recipe", recipe, "--rounds", str(options.rounds), "--steps",
                   str(options.steps)]  # fmt: skip
        times = rounds_of.measure(command, recipe)
        ratios = [a / b for a, b in zip(times["mirrored"], times["plain"], strict=True)]
        grown = {number: growth(recipe, number, options.rounds, options.steps) for number in (1, 2)}
        results[recipe] = {**times, "workers": grown}
        (one, memory), (two, memory_of_two) = grown[1], grown[2]
        middle = statistics.median
        cells = (f"`{recipe}`", f"{middle(times['plain']):.1f}", f"{middle(times['mirrored']):.1f}",
                 f"{middle(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", f"{middle(one):.1f}", f"{middle(two):.1f}",
                 f"{middle(one) / middle(two):.2f}", f"{memory:.0f}", f"{memory_of_two:.0f}")  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
