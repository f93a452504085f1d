"""Translation by a Transformer (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762) and by a recurrent encoder-decoder with
attention (Bahdanau et al. 2014, https://arxiv.org/abs/1409.0473), of sentence pairs in any script.

Sub-words are learned from the training pairs, of both languages together. A step takes sentences of the same length, so that
little is padded: ``batch_tokens`` is the length of the longest times their number, on either side."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

import keras

from kerastoolkit.data.byte_pairs import byte_pairs
from kerastoolkit.data.sentence_pairs import sentence_pairs, texts
from kerastoolkit.data.tokenised import tokenised
from kerastoolkit.experiment import Experiment, InputError
from kerastoolkit.models import attention_seq2seq, transformer
from kerastoolkit.optimizers import OneCycle, averaging_adam
from kerastoolkit.pipeline import Batches
from kerastoolkit.serving.byte_pairs import BytePairTokens, vocabulary_size
from kerastoolkit.tasks.translation import sentence_tokens, translation


def dates_transformer(
    *, depth: int = 2, width: int = 64, heads: int = 4, feed_forward: int = 256, dropout: float = 0.1, norm_first: bool = True,
    vocabulary: int = 400, smoothing: float = 0.1, epochs: int = 4, batch_tokens: int = 1024, learning_rate: float = 0.005,
    warm_up_steps: int = 200, averaged: int = 1, longest: int = 256, source: str = "words", target: str = "iso",
    data: str = "dates",
) -> Experiment:  # fmt: skip
    """Dates in words of five languages into numbers by a Transformer; needs no download."""
    return _transformer(**locals())


def dates_attention(
    *, cell: str = "gru", attention: str = "additive", units: int = 96, embedding: int = 32, dropout: float = 0.1,
    vocabulary: int = 400, smoothing: float = 0.1, epochs: int = 4, batch_tokens: int = 1024, learning_rate: float = 0.005,
    longest: int = 256, source: str = "words", target: str = "iso", data: str = "dates",
) -> Experiment:  # fmt: skip
    """Dates in words of five languages into numbers by a recurrent network with attention; needs no download."""
    return _attention(**locals())


def multi30k_transformer(
    *, depth: int = 4, width: int = 128, heads: int = 4, feed_forward: int = 256, dropout: float = 0.3, norm_first: bool = True,
    vocabulary: int = 4000, smoothing: float = 0.1, epochs: int = 30, batch_tokens: int = 2048, learning_rate: float = 0.003,
    warm_up_steps: int = 1000, averaged: int = 10, longest: int = 256, source: str = "de", target: str = "en",
    data: str = "multi30k",
) -> Experiment:  # fmt: skip
    """German captions of photographs into English by a small Transformer, whose sizes are those of Wu et al. 2021, section 4.1
    (https://arxiv.org/abs/2105.14462)."""
    return _transformer(**locals())


def multi30k_attention(
    *, cell: str = "gru", attention: str = "additive", units: int = 256, embedding: int = 128, dropout: float = 0.3,
    vocabulary: int = 4000, smoothing: float = 0.1, epochs: int = 12, batch_tokens: int = 2048, learning_rate: float = 0.003,
    longest: int = 256, source: str = "de", target: str = "en", data: str = "multi30k",
) -> Experiment:  # fmt: skip
    """German captions of photographs into English by a recurrent network with attention."""
    return _attention(**locals())


def _transformer(*, depth, width, heads, feed_forward, dropout, norm_first, learning_rate, warm_up_steps, averaged, epochs,
                 **reading):
    def build(size):
        return transformer(source_vocabulary=size, target_vocabulary=size, depth=depth, width=width, heads=heads,
                           feed_forward=feed_forward, dropout=dropout, norm_first=norm_first)  # fmt: skip

    def optimizer(network, steps):
        return averaging_adam(learning_rate, warm_up_steps=warm_up_steps, averaged=averaged, epochs=epochs, steps=steps)

    return _experiment(build, optimizer, epochs=epochs, **reading)


def _attention(*, cell, attention, units, embedding, dropout, learning_rate, epochs, **reading):
    def build(size):
        return attention_seq2seq(source_vocabulary=size, target_vocabulary=size, cell=cell, attention=attention, units=units,
                                 embedding=embedding, dropout=dropout)  # fmt: skip

    def optimizer(network, steps):
        return keras.optimizers.Adam(OneCycle(learning_rate, epochs * steps, rise=0.1), global_clipnorm=1.0)

    return _experiment(build, optimizer, epochs=epochs, **reading)


def _experiment(build, optimizer, *, vocabulary, smoothing, epochs, batch_tokens, longest, source, target, data):
    if longest < 2:
        raise InputError(f"longest must be at least 2, got {longest}")
    optimizer(None, 1)  # refuses a wrong setting before any text is read
    pairs = sentence_pairs(data, source=source, target=target)
    merges = byte_pairs((text for key in ("source", "target") for text in texts(pairs.train, key)), vocabulary=vocabulary)
    tokens = BytePairTokens(merges, longest + 1)  # of a text that is too long one more tells that it is
    pairs = tokenised(pairs, source_tokens=tokens, target_tokens=tokens, source="source", target="target", longest=longest)
    network = build(vocabulary_size(merges))
    steps = Batches(pairs.train.size, batch_tokens, pairs.train.lengths, batch_tokens).steps
    return Experiment(
        data=pairs, preprocess=sentence_tokens(merges, longest=longest), network=network,
        task=translation(merges, smoothing=smoothing), optimizer=optimizer(network, steps), epochs=epochs,
        batch_size=batch_tokens, batch_tokens=batch_tokens)  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(dates_transformer)
