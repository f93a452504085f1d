"""BERT: pretraining, and fine-tuning for classes of texts, tags of words and answers to questions (Devlin et al. 2018,
https://arxiv.org/abs/1810.04805)."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

from kerastoolkit.data.labelled_texts import labelled_texts
from kerastoolkit.data.text_lengths import with_lengths
from kerastoolkit.data.word_pieces import word_pieces
from kerastoolkit.experiment import Experiment, InputError
from kerastoolkit.models import bert_classifier
from kerastoolkit.models.bert import SIZES
from kerastoolkit.optimizers import OneCycle, adamw
from kerastoolkit.pipeline import Batches
from kerastoolkit.serving.word_pieces import word_piece_inputs
from kerastoolkit.tasks.text_classification import text_classification
from kerastoolkit.weights.bert import read_bert


def sst2_bert(
    *, weights: str | None = "minilm", size: str | None = None, vocabulary: int | None = None, longest: int = 128,
    dropout: float = 0.1, epochs: int = 3, batch_size: int = 32, batch_tokens: int = 1024, learning_rate: float = 5e-5,
    weight_decay: float = 0.01, text: str = "text", second: str | None = None, label: str = "label",
    validation: float = 0.02, test: float = 0.1, data: str = "sst2",
) -> Experiment:  # fmt: skip
    """Fine-tuning for the sentiment of sentences, SST-2; the paper's table 1 reports 93.5 % for BERT-base."""
    return _classification(**locals())


def mrpc_bert(
    *, weights: str | None = "minilm", size: str | None = None, vocabulary: int | None = None, longest: int = 128,
    dropout: float = 0.1, epochs: int = 5, batch_size: int = 16, batch_tokens: int = 1024, learning_rate: float = 5e-5,
    weight_decay: float = 0.01, text: str = "first", second: str | None = "second", label: str = "label",
    validation: float = 0.1, test: float = 0.1, data: str = "mrpc",
) -> Experiment:  # fmt: skip
    """Fine-tuning for whether two sentences say the same, MRPC; the paper's table 1 reports an F1 of 88.9 for BERT-base."""
    return _classification(**locals())


def _classification(*, longest, epochs, batch_size, batch_tokens, learning_rate, weight_decay, text, second, label, validation,
                    test, data, **network):
    texts = labelled_texts(data, text, second, label, validation, test)
    classes, pairs = texts.about["classes"], texts.about["pairs"]
    reading, build = _network(bert_classifier, texts, longest=longest, **network)
    preprocess = word_piece_inputs(**reading, pairs=pairs)
    texts = with_lengths(texts, preprocess)
    network = build(classes=len(classes))
    steps = Batches(texts.train.size, batch_size, texts.train.lengths, batch_tokens).steps
    return Experiment(
        data=texts, preprocess=preprocess, network=network, task=text_classification(classes, pairs),
        optimizer=adamw(network, OneCycle(learning_rate, epochs * steps, rise=0.1, fall="linear"), weight_decay=weight_decay),
        epochs=epochs, batch_size=batch_size, batch_tokens=batch_tokens)  # fmt: skip


def _network(builder, data, *, weights, size, vocabulary, longest, dropout):
    """(how texts are read, the builder with its sizes and weights): of weights their own, else of the size that is named."""
    if weights is None:
        if (size := size or "tiny") not in SIZES:
            raise InputError(f"size must be {', '.join(SIZES)}, got {size}")
        pieces = word_pieces(data, vocabulary=vocabulary or 8_000)
        sizes = {"vocabulary": len(pieces), **SIZES[size]}
        return ({"pieces": pieces, "lower": True, "longest": min(longest, 512)},
                lambda **kwargs: builder(dropout=dropout, **sizes, **kwargs))  # fmt: skip
    for name, value in (("size", size), ("vocabulary", vocabulary)):
        if value is not None:
            raise InputError(f"the weights {weights} have a {name} of their own: {name} goes with weights=none")
    read = read_bert(weights)
    if read.pieces is None:
        raise InputError(f"the weights {weights} come without a vocabulary (vocab.txt)")
    if longest > read.sizes["positions"]:
        raise InputError(f"longest must be at most the weights' {read.sizes['positions']} positions, got {longest}")
    return ({"pieces": read.pieces, "lower": read.lower, "longest": longest},
            lambda **kwargs: builder(dropout=dropout, weights=read, **kwargs))  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(sst2_bert)
