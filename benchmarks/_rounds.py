"""What the benchmarks of speed share: contestants that run in turn, and ratios that are taken within each round."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys


def parser(documentation, contestants):
    """The options of such a benchmark; ``--run`` is for its own processes."""
    made = argparse.ArgumentParser(description=documentation.splitlines()[0])
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--only", nargs="+", choices=contestants, default=list(contestants)[:3])
    made.add_argument("--json", metavar="FILE")
    made.add_argument("--run", choices=contestants, help=argparse.SUPPRESS)
    return made


def compare(script, options, arguments, quantity):
    """Prints each round and the first contestant's ratios to the others; writes the medians to ``options.json``.

    Args:
        script: the benchmark's file, which prints one number when it is called with ``--run NAME`` and ``arguments``.
        options: what ``parser`` parsed.
        quantity: what the number is, such as images_per_second; more is better.
    """
    rounds = []
    for number in range(options.rounds):
        rounds.append({name: measure([sys.executable, script, "--run", name, *arguments], name) for name in options.only})
        print(f"round {number + 1}: " + ", ".join(f"{name} {speed:.4g}" for name, speed in rounds[-1].items()), flush=True)
    results = {name: {quantity: statistics.median(each[name] for each in rounds)} for name in options.only}
    first = options.only[0]
    for name in options.only[1:]:
        ratios = [each[first] / each[name] for each in rounds]
        results[name]["ratio"] = statistics.median(ratios)
        print(f"{first} / {name}: median {results[name]['ratio']:.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)


def peak_mb():
    """The most memory that this process has held; without what the process held that started it, where Linux tells."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(command, name):
    """What a contestant's process prints in its last line: a number, or a JSON object of several."""
    # The toolkit turns oneDNN on; Keras and TensorFlow beside it get it too, so that the ratio does not count it.
    environment = {"TF_ENABLE_ONEDNN_OPTS": "1", **os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        sys.exit(f"{name} failed: {result.stderr.strip().splitlines()[-1]}")
    return json.loads(result.stdout.strip().splitlines()[-1])
