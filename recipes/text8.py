"""Word vectors of text8 or of any text: Word2Vec (Mikolov et al. 2013, https://arxiv.org/abs/1301.3781 and
https://arxiv.org/abs/1310.4546) and GloVe (Pennington, Socher & Manning 2014, https://aclanthology.org/D14-1162/).

The first paper reports of 320 million words and 640 dimensions (table 3) 24 % of the semantic and 64 % of the syntactic analogies
for CBOW, and 55 % and 59 % for skip-gram. text8 has 17 million words.

The words of a step share their noise words by segments, which makes pairs a matrix product: Ji et al. 2016,
https://arxiv.org/abs/1604.04661. How far a word's vector may move in a step is bounded by ``longest``: see ``RowSGD``.
All shapes of a training are the same, so that XLA can compile the step once. Training can begin with the vectors of a file in
word2vec's format: vectors=FILE."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

import keras

from kerastoolkit.data.running_words import corpus, kept_length, running_words, word_windows
from kerastoolkit.data.word_pairs import word_pairs
from kerastoolkit.experiment import Experiment, InputError
from kerastoolkit.models import cbow, glove, skip_gram
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.row_optimizers import RowAdagrad, RowSGD
from kerastoolkit.tasks.word_vectors import global_vectors, vocabulary_tokens, word2vec
from kerastoolkit.weights.word_vectors import begin_with

LAST_RATE = 0.0001  # where word2vec's own program and gensim end


def text8_skipgram(
    *, dimensions: int = 100, window: int = 5, negatives: int = 5, hierarchical: bool = False, sample: float = 0.001,
    min_count: int = 5, lower: bool = True, epochs: int = 5, batch_size: int = 2, block: int = 4096, segment: int = 32,
    noise: int = 32, longest: float = 0.5, learning_rate: float = 0.04, vectors: str | None = None, data: str = "text8",
    jit_compile: bool = True,
) -> Experiment:  # fmt: skip
    """Word vectors by skip-gram: each word predicts its neighbours."""
    return _word2vec("skip_gram", **locals())


def text8_cbow(
    *, dimensions: int = 100, window: int = 5, negatives: int = 5, hierarchical: bool = False, sample: float = 0.001,
    min_count: int = 5, lower: bool = True, epochs: int = 5, batch_size: int = 2, block: int = 4096, segment: int = 64,
    noise: int = 16, longest: float = 1.0, learning_rate: float = 0.1, vectors: str | None = None, data: str = "text8",
    jit_compile: bool = True,
) -> Experiment:  # fmt: skip
    """Word vectors by CBOW: the mean of its neighbours predicts each word."""
    return _word2vec("cbow", **locals())


def _word2vec(method, *, dimensions, window, negatives, hierarchical, sample, min_count, lower, epochs, batch_size, block,
              segment, noise, longest, learning_rate, vectors, data, jit_compile):  # fmt: skip
    _check(block=block, learning_rate=learning_rate)
    text = corpus(data, min_count=min_count, lower=lower)
    block = min(block, max(64, len(text.tokens) // 256))  # a short text has some hundred steps in an epoch, too
    words = running_words(data, min_count, lower, block)
    network = {"skip_gram": skip_gram, "cbow": cbow}[method](
        vocabulary=len(text.words), dimensions=dimensions, window=window, segment=segment, hierarchical=hierarchical)  # fmt: skip
    if vectors is not None:
        begin_with(network, text.words, vectors)
    batch_size = min(batch_size, words.train.size)
    places = batch_size * kept_length(text, length=block, sample=sample, segment=segment)
    steps = epochs * steps_per_epoch(words.train.size, batch_size)
    schedule = keras.optimizers.schedules.PolynomialDecay(learning_rate, steps, min(LAST_RATE, learning_rate))
    return Experiment(
        data=words, preprocess=vocabulary_tokens(text.words, lower=lower), network=network,
        augment=word_windows(text, length=block, window=window, sample=sample, segment=segment, noise=noise,
                             hierarchical=hierarchical),
        task=word2vec(method, window, negatives, hierarchical), optimizer=RowSGD(schedule, terms=places, longest=longest),
        epochs=epochs, batch_size=batch_size, jit_compile=jit_compile)  # fmt: skip


def text8_glove(
    *, dimensions: int = 100, window: int = 10, x_max: float = 3.0, alpha: float = 0.75, min_count: int = 5, lower: bool = True,
    epochs: int = 25, batch_size: int = 16, block: int = 1024, learning_rate: float = 0.1, data: str = "text8",
    jit_compile: bool = True,
) -> Experiment:  # fmt: skip
    """Word vectors by GloVe: products of vectors fit the logarithms of co-occurrence counts.

    The paper's x_max is 100, for billions of words, and that of its program's example for text8 is 10; for ten million words 3
    was better than both (RESULTS.md).
    """
    _check(block=block, learning_rate=learning_rate)
    text = corpus(data, min_count=min_count, lower=lower)
    pairs = word_pairs(data, min_count, lower, window, block)
    batch_size = min(batch_size, pairs.train.size)
    entries = batch_size * min(block, pairs.about["entries"])
    # As GloVe's own program begins and slows down: see RowAdagrad.
    optimizer = RowAdagrad(1.0, terms=2 * entries, start=1 / learning_rate**2)
    return Experiment(
        data=pairs, preprocess=vocabulary_tokens(text.words, lower=lower),
        network=glove(vocabulary=len(text.words), dimensions=dimensions), task=global_vectors(x_max, alpha),
        optimizer=optimizer, epochs=epochs, batch_size=batch_size, jit_compile=jit_compile)  # fmt: skip


def _check(**settings):
    for name, value in settings.items():
        if not value > 0:
            raise InputError(f"{name} must be more than 0, got {value}")


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(text8_skipgram)
