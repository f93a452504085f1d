"""Word vectors: learned from running text or from co-occurrence counts, and asked for neighbours, analogies and similarities."""

from __future__ import annotations

import functools
import importlib.util
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerastoolkit import charts
from kerastoolkit.experiment import Data, InputError, Report, Task, described
from kerastoolkit.layers.word_windows import window_mask
from kerastoolkit.losses import glove_loss, hierarchical_softmax, negative_sampling, sum_per_example
from kerastoolkit.serving.model import decoded_model, inner_layer
from kerastoolkit.serving.words import MeanVector, Neighbours, Vocabulary, WordTokens
from kerastoolkit.tasks._word_questions import read_analogies, read_pairs, score_analogies, score_pairs
from kerastoolkit.weights.word_vectors import write_word_vectors

# What gensim carries: Finkelstein et al. 2002; Hill et al. 2015; Mikolov et al. 2013a, section 4.1.
PAIRS = (("wordsim353", "wordsim353.tsv"), ("simlex999", "simlex999.txt"))
ANALOGIES = (("analogies", "questions-words.txt"),)
STOP_WORDS = 100  # the most frequent words, which say the least, are left out of pictures and tables
MAPPED = 300  # words of the word map
SHOWN, NEIGHBOURS_SHOWN = 12, 8


def vocabulary_tokens(words: Sequence[str], *, lower: bool = True) -> keras.Model:
    """The preprocessing of all tasks of this file: tokens (batch, length) int32, unchanged but for those that no word has; it
    holds the words for the serving model."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    return keras.Model(tokens, {"tokens": Vocabulary(words, lower, name="vocabulary")(tokens)}, name="preprocess")


@described
def word2vec(method: str = "skip_gram", window: int = 5, negatives: int = 5, hierarchical: bool = False) -> Task:
    """Predicting words from their neighbours, or neighbours from words, for the sake of the vectors.

    The network is one of ``models.word_vectors``; the raw examples of training are those of ``data.running_words.word_windows``.
    Answers: vector (batch, dimensions) float32 and known (batch,) int32 of texts, as ``serving.words.MeanVector`` states. The
    loss is told for a place of the text.

    Args:
        method: "skip_gram" or "cbow".
        window: how many words a window reaches to each side.
        negatives: k of Mikolov et al. 2013, equation 4: from how many noise words a pair is told; those that a segment shares
            are weighted to stand for as many. Where one is the word itself, CBOW leaves it out, as word2vec's own program does;
            skip-gram, whose noise stands against several words at a time, does not.
        hierarchical: hierarchical softmax in their place.
    Raises:
        InputError: no such method, or a number is too small.
    """
    if method not in ("skip_gram", "cbow"):
        raise InputError(f"method must be skip_gram or cbow, got {method}")
    if negatives < 1:
        raise InputError(f"negatives must be at least 1, got {negatives}")

    def encode(truths, inputs, side_outputs, seeds):
        drawn = truths["path"] if hierarchical else truths["negatives"]
        extra = {"path" if hierarchical else "negatives": drawn} | ({"reach": truths["reach"]} if method == "cbow" else {})
        # What counts is worked out from these in the step, where XLA makes it a part of the loss.
        return extra, {"tokens": inputs["tokens"], **truths}

    def weights(targets):
        """What each output of the network counts; and how many pairs there are, (batch,)."""
        # A place has a pair with each neighbour in turn, or one with the mean of them.
        neighbours = ops.cast(ops.sum(targets["reach"], axis=-1), "float32")
        pairs = window_mask(targets["reach"], window) if method == "skip_gram" else ops.minimum(neighbours, 1.0)
        if hierarchical:
            here, left = (ops.cast(each, "float32") for each in (targets["path"] >= 0, targets["left"]))
            if method == "skip_gram":
                here, left = here[:, :, None], left[:, :, None]
            return {"weights": pairs[..., None] * here, "left": left}, sum_per_example(pairs)
        noise = targets["negatives"]
        count = (neighbours if method == "skip_gram" else pairs)[..., None] * (negatives / noise.shape[-1])
        if method == "cbow":
            count = count * ops.cast(_not_own(targets["tokens"][:, window:-window], noise), "float32")
        return {"positive": pairs, "negative": count}, sum_per_example(pairs)

    loss_of_pairs = hierarchical_softmax if hierarchical else negative_sampling

    def loss(targets, outputs):
        return loss_of_pairs(weights(targets)[0], outputs) / targets["reach"].shape[1]

    def nats_per_pair(targets, outputs):
        counted, pairs = weights(targets)
        return loss_of_pairs(counted, outputs) / ops.maximum(pairs, 1.0)

    return _task("word2vec", encode, loss, {"nats_per_pair": nats_per_pair}, ("word_vectors",))


@described
def global_vectors(x_max: float = 100.0, alpha: float = 0.75) -> Task:
    """Fitting the logarithms of how often words occur together, for the sake of the vectors (GloVe).

    The network is ``models.glove``; the raw examples of training are those of ``data.word_pairs``. Answers as for ``word2vec``,
    of the sums of both vectors of a word (Pennington et al. 2014, section 4.2). The loss is told for an entry of the matrix.

    Args:
        x_max, alpha: of the paper's equation 9, more than 0 and at least 0.
    Raises:
        InputError: one of them is too small.
    """
    if not x_max > 0:
        raise InputError(f"x_max must be more than 0, got {x_max}")
    if not alpha >= 0:
        raise InputError(f"alpha must be at least 0, got {alpha}")

    def encode(truths, inputs, side_outputs, seeds):
        tokens = side_outputs["tokens"]  # which the network takes by other names
        first, second = tf.split(tokens, 2, axis=1)
        count = truths["count"]
        # The matrix is symmetric: an entry stands for two, but on the diagonal for one.
        again = tf.where(first == second, 0.0, count)
        return ({"word": tokens, "context": tf.concat([second, first], axis=1)},
                tf.concat([count, again], axis=1))  # fmt: skip

    def loss(counts, outputs):
        return glove_loss(counts, outputs, x_max=x_max, alpha=alpha) / counts.shape[1]

    return _task("global vectors", encode, loss, {}, ("word_vectors", "context_vectors"))


def _not_own(words, noise):
    """(batch, length, noise): whether a segment's noise word is another than the word at the place."""
    batch, segments, some = noise.shape
    words = ops.reshape(words, (batch, segments, -1, 1))
    return ops.reshape(words != noise[:, :, None, :], (batch, -1, some))


def _task(name, encode, loss, metrics, tables) -> Task:
    def answer(network: keras.Model) -> keras.Model:
        tokens = keras.Input((None,), dtype="int32", name="tokens")
        vectors = [network.get_layer(table)(ops.maximum(tokens, 0)) for table in tables]
        vectors = vectors[0] if len(vectors) == 1 else keras.layers.Add(name="sum")(vectors)
        return keras.Model(tokens, MeanVector(name="mean")(vectors, tokens), name="answer")

    def endpoints(decoded: keras.Model) -> dict[str, keras.Model]:
        vocabulary = inner_layer(decoded, "vocabulary")
        inputs = {"text": keras.Input((), dtype="string", name="text"), "count": keras.Input((), dtype="int32", name="count")}
        layer = Neighbours(vocabulary.words, vocabulary.lower, [inner_layer(decoded, table) for table in tables])
        return {"neighbours": keras.Model(inputs, layer(inputs), name="neighbours")}

    def probe(serving: keras.Model) -> dict[str, Any]:
        words = inner_layer(decoded_model(serving), "vocabulary").words
        texts = [words[0], f"{words[0]} - {words[1]} + {words[-1]} ~ {words[-1]}", f"{words[1]} \u2603 {words[0]}"]
        return {"text": np.array(texts, dtype=object), "count": np.array([5, 0, 3], np.int32)}

    return Task(
        name=name, encode=encode, loss=loss, metrics=metrics, answer=answer, score=_score, read=_read, tell=_tell, draw=_draw,
        probe=probe, decode=_decode, settings={"count": 10}, scoring={"pairs": "", "analogies": "", "most_frequent": 300_000},
        endpoints=endpoints, asks="neighbours", formats={"word2vec": functools.partial(_write, binary=False),
                                                         "word2vec-binary": functools.partial(_write, binary=True)})  # fmt: skip


def _decode(preprocess: keras.Model) -> keras.Model:
    vocabulary = preprocess.get_layer("vocabulary")
    text = keras.Input((), dtype="string", name="text")
    return keras.Model(text, WordTokens(vocabulary.words, vocabulary.lower, name="words")(text), name="decode_words")


def _write(serving: keras.Model, path: Path, *, binary: bool) -> None:
    try:
        write_word_vectors(path, *words_and_vectors(serving), binary=binary)
    except ValueError as error:
        raise InputError(str(error)) from None


def words_and_vectors(serving: keras.Model) -> tuple[list[str], np.ndarray]:
    """All words of a serving model and their vectors (words, dimensions) float32, as it answers them."""
    decoded = decoded_model(serving)
    words = inner_layer(decoded, "vocabulary").words
    tokens = np.arange(len(words), dtype=np.int32)[:, None]
    parts = [np.asarray(decoded(part)["vector"]) for part in np.array_split(tokens, -(-len(tokens) // 4096))]
    return words, np.concatenate(parts)


def _read(texts: list[str]) -> tuple[list[str], dict[str, Any]]:
    return texts, {"text": np.array([unicodedata.normalize("NFC", each) for each in texts], dtype=object)}


def _tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for i, name in enumerate(names):
        if answers["unknown"][i]:
            raise InputError(f"{name}: not in the vocabulary: {', '.join(answers['unknown'][i].decode().split())}")
        if not answers["sides"][i]:
            raise InputError(f'a query must be a word, "king - man + woman" or "cup ~ mug", got {name!r}')
        found = list(_neighbours_of(answers, i))
        two = answers["sides"][i] == 2
        rows.append({
            "query": name, "similarity": float(answers["similarity"][i]) if two else None,
            "nearest": "" if two else ", ".join(f"{word} {cosine:.3f}" for word, cosine in found),
            "neighbours": [{"word": word, "similarity": cosine} for word, cosine in found],
        })  # fmt: skip
    return rows


def _neighbours_of(answers: dict[str, Any], i: int):
    for word, cosine in zip(answers["neighbours"][i], answers["similarities"][i], strict=True):
        if word:
            yield word.decode(), float(cosine)


def _draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
    shown = answers["neighbours"] != b""
    vectors = np.concatenate([answers["vector"][None], answers["neighbour_vectors"][shown]])
    words = [name, *(word.decode() for word in answers["neighbours"][shown])]
    sizes = np.concatenate([[1.0], answers["similarities"][shown]])
    title = f"{name}: the nearest words, in the plane of their principal components"
    return charts.word_map(principal_plane(vectors), words, title, strengths=sizes)


def principal_plane(vectors: np.ndarray) -> np.ndarray:
    """(n, dimensions) -> (n, 2): the first two principal components, with zeros where there are fewer."""
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ axes[:2].T
    return np.pad(plane, [(0, 0), (0, 2 - plane.shape[1])])


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, serving: keras.Model, *, pairs: str,
           analogies: str, most_frequent: int) -> Report:  # fmt: skip
    if most_frequent < 2:
        raise InputError(f"most_frequent must be at least 2, got {most_frequent}")
    found = [(raw["tokens"][:, 0], answers["vector"]) for raw, answers in batches]
    words = inner_layer(decoded_model(serving), "vocabulary").words
    if data.about["vocabulary"] != len(words):
        found_words = f"{data.name} has {data.about['vocabulary']:,} words"
        raise InputError(f"{found_words}, not the {len(words):,} that the run was trained on")
    order = np.argsort(np.concatenate([tokens for tokens, _ in found]))  # the test examples are all words of the vocabulary
    vectors = np.concatenate([each for _, each in found])[order]
    norms = np.linalg.norm(vectors, axis=1)
    figures: dict[str, float] = {"vocabulary": float(len(words)), "mean_norm": float(norms.mean())}
    tables, notes = {}, []
    rows = []
    for name, path in question_files(pairs, PAIRS).items():
        lines = read_pairs(path)
        notes += _skipped(path, lines.skipped)
        score = score_pairs(lines, words, vectors, most_frequent=most_frequent)
        covered = f"{score.covered} of {score.pairs}"
        rows.append({"pairs": name, "covered": covered, "spearman": score.spearman, "pearson": score.pearson})
        if score.spearman is not None:
            figures[f"{name}_spearman"] = score.spearman
    if rows:
        tables["similarity, against people's judgement"] = rows
    for name, path in question_files(analogies, ANALOGIES).items():
        sections = read_analogies(path)
        notes += _skipped(path, sections.skipped)
        by_sum, by_product = (score_analogies(sections, words, vectors, most_frequent=most_frequent, method=method)
                              for method in ("3cosadd", "3cosmul"))  # fmt: skip
        tables[f"{name}, answered right"] = [
            {"section": one.name, "covered": f"{one.covered:,} of {one.questions:,}", "3CosAdd": one.accuracy,
             "3CosMul": other.accuracy}
            for one, other in zip((*by_sum.sections, by_sum.total), (*by_product.sections, by_product.total), strict=True)
        ]
        for method, score in (("3cosadd", by_sum), ("3cosmul", by_product)):
            if score.total.accuracy is not None:
                figures[f"{name}_{method}"] = score.total.accuracy
    if not pairs and not analogies and not rows:
        where = "the package gensim: pip install 'kerastoolkit[samples]'"
        notes.append(f"WordSim-353, SimLex-999 and the analogies are looked for in {where}")
    notes.append("pairs and questions with a word that the vocabulary has not are left out; capital letters count as small ones; "
                 f"only the {min(most_frequent, len(words)):,} most frequent words can be answers (as in gensim)")  # fmt: skip
    unit = vectors / np.maximum(norms, 1e-12)[:, None]
    tables["nearest words"] = _nearest_words(words, unit)
    some = np.arange(min(len(words), STOP_WORDS + MAPPED))[-MAPPED:]
    pictures = {"word_map": charts.word_map(_map(unit[some]), [words[i] for i in some], _map_title(some))}
    return Report(figures, tables=tables, pictures=pictures, notes=tuple(notes))


def _skipped(path: str, lines: int) -> list[str]:
    return [f"{path}: {lines:,} lines could not be read and are left out"] if lines else []


def _nearest_words(words: Sequence[str], unit: np.ndarray) -> list[dict[str, Any]]:
    """The neighbours of words spread evenly over the ranks of frequency, from the frequent to the rare."""
    ranks = np.unique(np.geomspace(min(STOP_WORDS, len(words) // 2) + 1, len(words), SHOWN).astype(int) - 1)
    rows = []
    for rank in ranks:
        cosines = unit @ unit[rank]
        cosines[rank] = -2.0
        nearest = np.argsort(-cosines, kind="stable")[: min(NEIGHBOURS_SHOWN, len(words) - 1)]
        rows.append({"rank": int(rank) + 1, "word": words[rank], "nearest": ", ".join(words[i] for i in nearest)})
    return rows


def _map(unit: np.ndarray) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton 2008) where there are enough points for it, else principal components."""
    if len(unit) < 10:
        return principal_plane(unit)
    from sklearn.manifold import TSNE

    return TSNE(perplexity=min(30.0, (len(unit) - 1) / 3), init="pca", metric="cosine", random_state=0).fit_transform(unit)


def _map_title(some: np.ndarray) -> str:
    return f"t-SNE of the words of the ranks {some[0] + 1} to {some[-1] + 1} of frequency"


def question_files(given: str, known: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Name -> path: the file that was given, else those that the package gensim carries, as far as it is installed."""
    if given:
        return {Path(given).stem: given}
    found = importlib.util.find_spec("gensim")  # looked at, not imported
    if found is None:
        return {}
    folder = Path(next(iter(found.submodule_search_locations))) / "test" / "test_data"
    return {name: str(folder / file) for name, file in known if (folder / file).is_file()}
