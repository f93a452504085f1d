"""BERT: pretraining, and fine-tuning for classes of texts, tags of words and answers to questions (Devlin et al. 2018,
https://arxiv.org/abs/1810.04805)."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

from kerastoolkit.data.labelled_texts import labelled_texts
from kerastoolkit.data.pretraining_texts import next_or_not, pretraining_texts
from kerastoolkit.data.questions import questions, with_window_lengths
from kerastoolkit.data.tagged_words import tagged_words
from kerastoolkit.data.text_lengths import with_lengths
from kerastoolkit.data.word_pieces import read_word_pieces, word_pieces
from kerastoolkit.experiment import Experiment, InputError
from kerastoolkit.models import bert_classifier, bert_pretraining, bert_question_answering, bert_tagger
from kerastoolkit.models.bert import SIZES
from kerastoolkit.optimizers import OneCycle, adamw
from kerastoolkit.pipeline import Batches
from kerastoolkit.serving.spans import window_inputs
from kerastoolkit.serving.tags import tagged_piece_inputs
from kerastoolkit.serving.word_pieces import word_piece_inputs
from kerastoolkit.tasks.pretraining import masked_words
from kerastoolkit.tasks.question_answering import question_answering
from kerastoolkit.tasks.tagging import tagging
from kerastoolkit.tasks.text_classification import text_classification
from kerastoolkit.weights.bert import read_bert


def bert_pretrain(
    *, weights: str | None = None, size: str | None = None, vocabulary: int | None = None, vocabulary_file: str | None = None,
    lower: bool | None = None, longest: int = 64, whole_words: bool = False, dropout: float = 0.0, epochs: int = 5,
    batch_size: int = 64, batch_tokens: int = 4096, learning_rate: float = 2e-3, weight_decay: float = 0.01,
    column: str = "document", validation: float = 0.05, test: float = 0.05, data: str = "cnn_dailymail",
) -> Experiment:  # fmt: skip
    """Pretraining with masked words and next sentences, of a tiny BERT unless size or weights tell another (section 3.1).

    Texts are short at first, as in appendix A.2: where to look is learned sooner among few places. A run goes on with longer ones
    by weights=RUN longest=128. A larger network wants a lower learning rate, and dropout where the texts are few.
    """
    choices = {"data": data, "longest": longest, "column": column, "validation": validation, "test": test}
    texts = pretraining_texts(**choices)
    reading, build = _network(bert_pretraining, texts, weights=weights, size=size, vocabulary=vocabulary, longest=longest,
                              dropout=dropout, vocabulary_file=vocabulary_file, lower=lower)  # fmt: skip
    network = build()
    steps = Batches(texts.train.size, batch_size, texts.train.lengths, batch_tokens).steps
    return Experiment(
        data=texts, preprocess=word_piece_inputs(**reading, pairs=True, masks=True), network=network,
        task=masked_words(reading["pieces"], whole_words=whole_words),
        optimizer=adamw(network, OneCycle(learning_rate, epochs * steps, rise=0.1, fall="linear"), weight_decay=weight_decay),
        epochs=epochs, batch_size=batch_size, batch_tokens=batch_tokens, augment=next_or_not(**choices))  # fmt: skip


def sst2_bert(
    *, weights: str | None = "minilm", size: str | None = None, vocabulary: int | None = None, longest: int = 128,
    dropout: float = 0.1, epochs: int = 3, batch_size: int = 32, batch_tokens: int = 1024, learning_rate: float = 8e-5,
    weight_decay: float = 0.01, pooling: str = "mean", text: str = "text", second: str | None = None, label: str = "label",
    validation: float = 0.02, test: float = 0.1, data: str = "sst2",
) -> Experiment:  # fmt: skip
    """Fine-tuning for the sentiment of sentences, SST-2; the paper's table 1 reports 93.5 % for BERT-base.

    MiniLM was trained by means of its tokens' vectors; weights of BERT's own pretraining go with pooling=first.
    """
    return _classification(**locals())


def mrpc_bert(
    *, weights: str | None = "minilm", size: str | None = None, vocabulary: int | None = None, longest: int = 128,
    dropout: float = 0.1, epochs: int = 4, batch_size: int = 16, batch_tokens: int = 1024, learning_rate: float = 1e-4,
    weight_decay: float = 0.01, pooling: str = "mean", text: str = "first", second: str | None = "second", label: str = "label",
    validation: float = 0.1, test: float = 0.1, data: str = "mrpc",
) -> Experiment:  # fmt: skip
    """Fine-tuning for whether two sentences say the same, MRPC; the paper's table 1 reports an F1 of 88.9 for BERT-base.

    Of pooling see sst2-bert.
    """
    return _classification(**locals())


def conll_bert(
    *, weights: str | None = "minilm", size: str | None = None, vocabulary: int | None = None, longest: int = 128,
    dropout: float = 0.1, epochs: int = 3, batch_size: int = 16, batch_tokens: int = 1024, learning_rate: float = 5e-5,
    weight_decay: float = 0.01, word: int = 0, tag: int = -1, validation: float = 0.1, test: float = 0.1,
    data: str = "conll2003",
) -> Experiment:  # fmt: skip
    """Fine-tuning for named entities, CoNLL-2003; the paper's table 7 reports an F1 of 92.4 for BERT-base, of cased text."""
    return _tagging(**locals())


def dates_bert(
    *, size: str = "tiny", vocabulary: int = 400, longest: int = 64, dropout: float = 0.1, epochs: int = 3, batch_size: int = 32,
    batch_tokens: int = 1024, learning_rate: float = 1e-3, weight_decay: float = 0.01, word: int = 0, tag: int = -1,
    validation: float = 0.1, test: float = 0.1, data: str = "sample",
) -> Experiment:  # fmt: skip
    """Which word of a date is its day, month, year and day of the week, in five languages, from random weights."""
    return _tagging(weights=None, **locals())


def squad_bert(
    *, weights: str | None = "minilm", size: str | None = None, vocabulary: int | None = None, longest: int = 384,
    stride: int = 128, dropout: float = 0.1, epochs: int = 2, batch_size: int = 16, batch_tokens: int = 4096,
    learning_rate: float = 5e-5, weight_decay: float = 0.01, validation: float = 0.05, test: float = 0.1, data: str = "squad",
) -> Experiment:  # fmt: skip
    """Fine-tuning for questions whose answers are in a text, SQuAD 1.1; the paper's table 2 reports 80.8 % exact matches and an
    F1 of 88.5 for one BERT-base on the development set."""
    asked = questions(data, validation, test)
    reading, build = _network(bert_question_answering, asked, weights=weights, size=size, vocabulary=vocabulary, longest=longest,
                              dropout=dropout)  # fmt: skip
    preprocess = window_inputs(**reading, stride=stride)
    asked = with_window_lengths(asked, preprocess)
    network = build()
    steps = Batches(asked.train.size, batch_size, asked.train.lengths, batch_tokens).steps
    return Experiment(
        data=asked, preprocess=preprocess, network=network, task=question_answering(),
        optimizer=adamw(network, OneCycle(learning_rate, epochs * steps, rise=0.1, fall="linear"), weight_decay=weight_decay),
        epochs=epochs, batch_size=batch_size, batch_tokens=batch_tokens)  # fmt: skip


def _classification(*, longest, epochs, batch_size, batch_tokens, learning_rate, weight_decay, pooling, text, second, label,
                    validation, test, data, **network):  # fmt: skip
    texts = labelled_texts(data, text, second, label, validation, test)
    classes, pairs = texts.about["classes"], texts.about["pairs"]
    reading, build = _network(bert_classifier, texts, longest=longest, **network)
    preprocess = word_piece_inputs(**reading, pairs=pairs)
    texts = with_lengths(texts, preprocess)
    network = build(classes=len(classes), pooling=pooling)
    steps = Batches(texts.train.size, batch_size, texts.train.lengths, batch_tokens).steps
    return Experiment(
        data=texts, preprocess=preprocess, network=network, task=text_classification(classes, pairs),
        optimizer=adamw(network, OneCycle(learning_rate, epochs * steps, rise=0.1, fall="linear"), weight_decay=weight_decay),
        epochs=epochs, batch_size=batch_size, batch_tokens=batch_tokens)  # fmt: skip


def _tagging(*, longest, epochs, batch_size, batch_tokens, learning_rate, weight_decay, word, tag, validation, test, data,
             **network):
    sentences = tagged_words(data, word, tag, validation, test)
    classes = sentences.about["classes"]
    reading, build = _network(bert_tagger, sentences, longest=longest, **network)
    preprocess = tagged_piece_inputs(**reading)
    sentences = with_lengths(sentences, preprocess)
    network = build(classes=len(classes))
    steps = Batches(sentences.train.size, batch_size, sentences.train.lengths, batch_tokens).steps
    return Experiment(
        data=sentences, preprocess=preprocess, network=network, task=tagging(classes),
        optimizer=adamw(network, OneCycle(learning_rate, epochs * steps, rise=0.1, fall="linear"), weight_decay=weight_decay),
        epochs=epochs, batch_size=batch_size, batch_tokens=batch_tokens)  # fmt: skip


def _network(builder, data, *, weights, size, vocabulary, longest, dropout, vocabulary_file=None, lower=None):
    """(how texts are read, the builder with its sizes and weights): of weights their own, else of the size that is named."""
    if weights is None:
        if (size := size or "tiny") not in SIZES:
            raise InputError(f"size must be {', '.join(SIZES)}, got {size}")
        if vocabulary_file is not None and vocabulary is not None:
            raise InputError(f"the pieces in {vocabulary_file} are as many as they are: vocabulary goes without vocabulary_file")
        lower = lower is not False
        pieces = (word_pieces(data, vocabulary=vocabulary or 8_000, lower=lower) if vocabulary_file is None
                  else read_word_pieces(vocabulary_file))  # fmt: skip
        sizes = {"vocabulary": len(pieces), "positions": max(512, longest), **SIZES[size]}
        return ({"pieces": pieces, "lower": lower, "longest": longest},
                lambda **kwargs: builder(dropout=dropout, **sizes, **kwargs))  # fmt: skip
    own = {"size": size, "vocabulary": vocabulary, "vocabulary_file": vocabulary_file, "lower": lower}
    for name, value in own.items():
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
