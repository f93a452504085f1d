"""Words a second and memory in counting which words occur together, for GloVe: beside sums of sparse matrices in SciPy.

    python benchmarks/cooccurrences.py [--text FILE] [--rounds 3] [--window 10] [--memory MB] [--only NAME ...] [--json FILE]

FILE is any text that ``text8-glove`` reads; without one, two million words are drawn by Zipf's law. It is read once for all.
``toolkit`` writes the entries to disk, in random order; ``toolkit_small`` is given MB, 64, to hold them in. ``scipy`` makes a
matrix of a million words for each distance and adds it to the others, all in memory. Both count 1 / distance in a symmetric
window; that they find as many entries and the same sum is checked. They run in turn, each in a process of its own; ratios are
taken within each round. Memory is the process's peak; what the SciPy of this comparison imports is not in the toolkit's.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time

import numpy as np
from _rounds import measure, peak_mb

BLOCK = 1_000_000  # words


def toolkit(corpus, window, memory):
    from kerastoolkit.data.cooccurrence import cooccurrences

    began = time.perf_counter()
    counts = cooccurrences(corpus, window=window, **({"memory": memory * 2**20} if memory else {}))
    seconds = time.perf_counter() - began
    told = seconds, len(counts.weight), float(np.sum(counts.weight, dtype=np.float64))
    shutil.rmtree(counts.folder)
    return told


def with_scipy(corpus, window):
    from scipy.sparse import coo_array, csr_array

    began = time.perf_counter()
    words = len(corpus.words)
    known = corpus.tokens[corpus.tokens < words]
    total = csr_array((words, words), dtype=np.float64)
    for start in range(0, len(known), BLOCK):
        right = known[start : start + BLOCK]
        for distance in range(1, window + 1):
            left = known[max(start - distance, 0) : start + len(right) - distance]
            here = right[len(right) - len(left) :]
            low, high = np.minimum(left, here), np.maximum(left, here)
            weight = np.where(low == high, 2.0, 1.0) / distance
            total = total + coo_array((weight, (low, high)), shape=(words, words)).tocsr()
    return time.perf_counter() - began, total.nnz, float(total.sum())


def measured(options):
    """Counts once in this process; what is told of it."""
    from kerastoolkit.data.corpus import read_corpus

    corpus = read_corpus(options.text)
    if options.run == "scipy":
        seconds, entries, total = with_scipy(corpus, options.window)
    else:
        seconds, entries, total = toolkit(corpus, options.window, options.memory if options.run == "toolkit_small" else None)
    return {"words_per_second": len(corpus.tokens) / seconds, "entries": entries, "sum": total,
            "peak_mb": peak_mb()}  # fmt: skip


CONTESTANTS = ("toolkit", "toolkit_small", "scipy")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", metavar="FILE")
    parser.add_argument("--window", type=int, default=10)
    parser.add_argument("--memory", type=int, default=64, metavar="MB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--run", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return print(json.dumps(measured(options)))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFDS_DATA_DIR"] = folder  # where the toolkit keeps texts that it has read
        from word_vectors import made_up

        from kerastoolkit.data.corpus import read_corpus

        text = options.text or made_up(folder)
        read_corpus(text)
        compare(options, text)


def compare(options, text):
    rounds = []
    for number in range(1, options.rounds + 1):
        rounds.append({name: _in_own_process(name, text, options) for name in options.only})
        for name, told in rounds[-1].items():
            print(f"round {number}, {name}: {told['words_per_second']:,.0f} words/s, {told['peak_mb']:.0f} MB", flush=True)
    first, results = options.only[0], {}
    for name in options.only:
        results[name] = {key: statistics.median(each[name][key] for each in rounds) for key in rounds[0][name]}
        ratios = [each[first]["words_per_second"] / each[name]["words_per_second"] for each in rounds]
        results[name]["ratio"] = statistics.median(ratios)
        told = f"{name}: {results[name]['words_per_second']:,.0f} words/s, {results[name]['peak_mb']:.0f} MB"
        print(f"{told}; {first} is {results[name]['ratio']:.2f} times as fast, {min(ratios):.2f} to {max(ratios):.2f}")
    entries = {told["entries"] for told in results.values()}
    sums = [told["sum"] for told in results.values()]
    if len(entries) > 1 or not np.allclose(sums, sums[0], rtol=1e-6):
        sys.exit(f"they do not count the same: {results}")
    print(f"{entries.pop():,.0f} entries, the same for all")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)


def _in_own_process(name, text, options):
    command = [sys.executable, __file__, "--text", text, "--window", str(options.window), "--memory", str(options.memory),
               "--run", name]  # fmt: skip
    return measure(command, name)


if __name__ == "__main__":
    main()
