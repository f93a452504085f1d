"""Words a second, quality and memory in training word vectors: this toolkit's Word2Vec beside gensim's.

    python benchmarks/word_vectors.py [--text FILE] [--method NAME] [--rounds 3] [--epochs 5] [--only NAME ...]
                                      [--set K=V] [--json FILE]

FILE is a text, gzip or not, in the form of text8: small letters and spaces; without one, two million words are drawn by Zipf's
law, which says something of speed alone. All contestants train 100 dimensions, window 5, 5 negatives, minimum count 5,
sub-sampling threshold 0.001, on 2 threads, for as many epochs, with the round's number as the seed; rates are each one's own
defaults. ``toolkit`` runs the compiled loop and the pipeline of ``kerastoolkit train`` on the recipes text8-skipgram and
text8-cbow; ``--set`` changes their settings. ``gensim`` has its text as lists of words in memory, which is its fastest way;
``gensim_streamed`` reads it from the disk in each epoch.

Words a second are raw words of the text, before sub-sampling, over the time of training alone: reading the text and counting
its words are told apart, and the toolkit's compilation by XLA counts as training. They run in turn, each in a process of its
own; ratios are taken within each round. Quality is everyone's vectors on WordSim-353, SimLex-999 and the analogies that come with
gensim, by the scoring of ``evaluate``, which tests hold to gensim's. Memory is the process's peak until training ends.
"""

import argparse
import gzip
import json
import os
import statistics
import sys
import tempfile
import time

from _rounds import measure, peak_mb

SETTINGS = {"vector_size": 100, "window": 5, "negative": 5, "min_count": 5, "sample": 1e-3, "workers": 2}
SENTENCE = 10_000  # words; gensim's own cut of a text without lines


def toolkit(text, method, epochs, seed, settings):
    import kerastoolkit  # noqa: F401  # before TensorFlow, because it turns oneDNN on
    from kerastoolkit.memory import keep_freed_memory

    keep_freed_memory()  # as the command does
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    from kerastoolkit import catalog, train
    from kerastoolkit.data.running_words import corpus
    from kerastoolkit.pipeline import steps_per_epoch, training_batches
    from kerastoolkit.steps import compile_steps
    from kerastoolkit.training_state import State

    recipe = catalog.find_recipe({"skip_gram": "text8-skipgram", "cbow": "text8-cbow"}[method])
    overrides = catalog.parse_overrides(recipe, [f"data={text}", f"epochs={epochs}", *settings])
    began = time.perf_counter()
    words = corpus(text)
    reading = time.perf_counter() - began
    experiment = train.build(recipe, catalog.arguments(recipe, overrides), seed)
    state = State(experiment)
    total = epochs * steps_per_epoch(experiment.data.train.size, experiment.batch_size)
    run_steps, done = compile_steps(state), 0
    began = time.perf_counter()
    batches = iter(training_batches(experiment, seed=seed, start=0, end=total))
    while done < total:
        count = min(64, total - done)
        run_steps(batches, tf.constant(count))
        done += count
    seconds = time.perf_counter() - began
    vectors = experiment.network.get_layer("word_vectors").embeddings.numpy()
    return list(words.words), vectors, epochs * len(words.tokens) / seconds, reading


def with_gensim(text, method, epochs, seed, streamed):
    from gensim.models import Word2Vec
    from gensim.models.word2vec import Text8Corpus

    with tempfile.TemporaryDirectory() as folder:
        path = text
        if text.endswith(".gz"):
            path = os.path.join(folder, "text")
            with gzip.open(text) as packed, open(path, "wb") as plain:
                plain.write(packed.read())
        sentences = Text8Corpus(path, SENTENCE)
        model = Word2Vec(sg=int(method == "skip_gram"), seed=seed, **SETTINGS)
        began = time.perf_counter()
        sentences = sentences if streamed else list(sentences)
        model.build_vocab(sentences)
        reading = time.perf_counter() - began
        began = time.perf_counter()
        model.train(sentences, total_examples=model.corpus_count, epochs=epochs)
        seconds = time.perf_counter() - began
    return model.wv.index_to_key, model.wv.vectors, epochs * model.corpus_total_words / seconds, reading


CONTESTANTS = ("toolkit", "gensim", "gensim_streamed")


def measured(name, options):
    """Trains one contestant in this process; what is told of it."""
    how = (options.text, options.method, options.epochs, options.seed)
    made = toolkit(*how, options.set) if name == "toolkit" else with_gensim(*how, name == "gensim_streamed")
    words, vectors, speed, reading = made
    told = {"words_per_second": speed, "reading_seconds": reading, "peak_mb": peak_mb()}
    if not options.scored:
        return told
    from kerastoolkit.tasks._word_questions import read_analogies, read_pairs, score_analogies, score_pairs
    from kerastoolkit.tasks.word_vectors import ANALOGIES, PAIRS, question_files

    for pairs, path in question_files("", PAIRS).items():
        told[pairs] = score_pairs(read_pairs(path), words, vectors).spearman
    (path,) = question_files("", ANALOGIES).values()
    told["analogies"] = score_analogies(read_analogies(path), words, vectors).total.accuracy
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", metavar="FILE")
    parser.add_argument("--method", choices=("skip_gram", "cbow"), default="skip_gram")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS)[:2])
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="a setting of the toolkit's recipe; repeatable")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--run", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--scored", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return print(json.dumps(measured(options.run, options)))
    with tempfile.TemporaryDirectory() as folder:
        compare(options, options.text or made_up(folder))


def made_up(folder):
    """A file of words that occur as often as Zipf's law has it."""
    import numpy as np

    path = os.path.join(folder, "words")
    numbers = np.minimum(np.random.default_rng(0).zipf(1.2, 2_000_000), 30_000)
    with open(path, "w") as file:
        file.write(" ".join(f"w{number}" for number in numbers))
    return path


def compare(options, text):
    rounds = []
    for number in range(1, options.rounds + 1):
        rounds.append({name: _in_own_process(name, number, text, options) for name in options.only})
        for name, told in rounds[-1].items():
            print(f"round {number}, {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in told.items()), flush=True)
    results = {}
    for name in options.only:
        values = {key: [each[name][key] for each in rounds] for key in rounds[0][name]}
        results[name] = {key: {"median": statistics.median(some), "from": min(some), "to": max(some)}
                         for key, some in values.items()}  # fmt: skip
        print(f"{name}: " + ", ".join(f"{key} {told['median']:.4g} ({told['from']:.4g} - {told['to']:.4g})"
                                      for key, told in results[name].items()))  # fmt: skip
    first = options.only[0]
    for name in options.only[1:]:
        ratios = [each[first]["words_per_second"] / each[name]["words_per_second"] for each in rounds]
        results[name]["ratio"] = statistics.median(ratios)
        told = f"median {results[name]['ratio']:.2f}, from {min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{first} / {name}, words a second: {told}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)


def _in_own_process(name, seed, text, options):
    command = [sys.executable, __file__, *sys.argv[1:], "--text", text, "--run", name, "--seed", str(seed)]
    command += ["--scored"] * bool(options.text)
    return measure(command, name)


if __name__ == "__main__":
    main()
