"""How long the command takes to answer, against the least that a click program can take: python -c "import click".

    python benchmarks/start_up.py [--rounds 21] [--json FILE]

The commands run in turn, A B C A B C ..., and the ratio is taken within each round.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "import click": [sys.executable, "-c", "import click"],
    "kerastoolkit --help": [sys.executable, "-m", "kerastoolkit", "--help"],
    "kerastoolkit list": [sys.executable, "-m", "kerastoolkit", "list"],
}


def seconds(command):
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    for command in COMMANDS.values():
        seconds(command)  # fills the disk cache
    rounds = [{name: seconds(command) for name, command in COMMANDS.items()} for _ in range(options.rounds)]
    results = {}
    for name in COMMANDS:
        ratios = [each[name] / each["import click"] for each in rounds]
        results[name] = {
            "median_ms": 1000 * statistics.median(each[name] for each in rounds),
            "median_ratio": statistics.median(ratios), "least_ratio": min(ratios), "greatest_ratio": max(ratios),
        }  # fmt: skip
        print(f"{name:22} {results[name]['median_ms']:7.1f} ms   {results[name]['median_ratio']:.2f} times import click")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
