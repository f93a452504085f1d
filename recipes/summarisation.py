"""Summaries by a Transformer (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762), of news in any script.

Sub-words are learned from the training documents. A step takes documents of the same length, so that little is padded:
``batch_tokens`` is the length of the longest times their number."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

from kerastoolkit.data.byte_pairs import byte_pairs
from kerastoolkit.data.documents import documents
from kerastoolkit.data.strings import texts
from kerastoolkit.data.tokenised import tokenised
from kerastoolkit.experiment import Experiment, InputError
from kerastoolkit.models import transformer
from kerastoolkit.optimizers import averaging_adam
from kerastoolkit.pipeline import Batches
from kerastoolkit.serving.byte_pairs import BytePairTokens, vocabulary_size
from kerastoolkit.serving.decoding import MOST_TOKENS
from kerastoolkit.tasks.summarisation import read_documents, summarisation


def bbc_summarise_transformer(
    *, depth: int = 2, width: int = 256, heads: int = 4, feed_forward: int = 1024, dropout: float = 0.2, norm_first: bool = True,
    vocabulary: int = 4000, smoothing: float = 0.1, epochs: int = 6, batch_tokens: int = 4096, learning_rate: float = 0.001,
    warm_up_steps: int = 600, averaged: int = 3, document_tokens: int = 768, summary_tokens: int = 400,
    pointer: bool = True, document: str = "document", summary: str = "summary", mend: bool = True,
    data: str = "bbc_news.jsonl.gz",
) -> Experiment:  # fmt: skip
    """Summaries of BBC news (Greene & Cunningham 2006, https://doi.org/10.1145/1143844.1143892) by a Transformer; ``data`` is a
    file of them in JSON lines, which is not fetched."""
    return _summaries(**locals())


def cnn_dailymail_transformer(
    *, depth: int = 4, width: int = 512, heads: int = 8, feed_forward: int = 2048, dropout: float = 0.1, norm_first: bool = True,
    vocabulary: int = 32000, smoothing: float = 0.1, epochs: int = 10, batch_tokens: int = 8192, learning_rate: float = 0.001,
    warm_up_steps: int = 4000, averaged: int = 5, document_tokens: int = 512, summary_tokens: int = 128,
    pointer: bool = True, document: str = "document", summary: str = "summary", mend: bool = True,
    data: str = "cnn_dailymail",
) -> Experiment:  # fmt: skip
    """Summaries of CNN and Daily Mail articles (See et al. 2017, https://arxiv.org/abs/1704.04368) by a Transformer."""
    return _summaries(**locals())


def _summaries(*, depth, width, heads, feed_forward, dropout, norm_first, vocabulary, smoothing, epochs, batch_tokens,
               learning_rate, warm_up_steps, averaged, document_tokens, summary_tokens, pointer, document, summary,
               mend, data):
    for name, tokens in (("document_tokens", document_tokens), ("summary_tokens", summary_tokens)):
        if not 2 <= tokens <= MOST_TOKENS:
            raise InputError(f"{name} must be 2 .. {MOST_TOKENS:,}, got {tokens}")
    pairs = documents(data, document=document, summary=summary, mend=mend)
    merges = byte_pairs((text for key in ("document", "summary") for text in texts(pairs.train, key)), vocabulary=vocabulary)
    pairs = tokenised(pairs, source_tokens=BytePairTokens(merges, document_tokens),
                      target_tokens=BytePairTokens(merges, summary_tokens), source="document", target="summary")  # fmt: skip
    network = transformer(
        source_vocabulary=vocabulary_size(merges), target_vocabulary=vocabulary_size(merges), depth=depth, width=width,
        heads=heads, feed_forward=feed_forward, dropout=dropout, norm_first=norm_first, pointer=pointer)  # fmt: skip
    steps = Batches(pairs.train.size, batch_tokens, pairs.train.lengths, batch_tokens).steps
    optimizer = averaging_adam(learning_rate, warm_up_steps=warm_up_steps, averaged=averaged, epochs=epochs, steps=steps)
    task = summarisation(merges, smoothing=smoothing, longest=summary_tokens)
    return Experiment(
        data=pairs, preprocess=read_documents(merges, longest=document_tokens), network=network, task=task, optimizer=optimizer,
        epochs=epochs, batch_size=batch_tokens, batch_tokens=batch_tokens)  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(bbc_summarise_transformer)
