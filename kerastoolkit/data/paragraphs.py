"""Paragraphs of documents as further training examples, each its own summary."""

from __future__ import annotations

import dataclasses

from kerastoolkit.data.strings import held_source, texts
from kerastoolkit.experiment import Data

SHORTEST = 30  # characters; a headline is hardly longer, and teaches little


def with_paragraphs(data: Data) -> Data:
    """The documents and summaries of ``data``, and beside those of training each paragraph of a training document, whose summary
    is the paragraph itself; a document of one paragraph adds none.

    From these a network learns to write out what it reads before it learns to choose; few documents do not teach both. Held in
    memory.

    Args:
        data: what ``data.documents.documents`` gives.
    """
    documents, summaries = (list(texts(data.train, key)) for key in ("document", "summary"))
    paragraphs = [part for document in documents for part in document.split("\n\n") if SHORTEST <= len(part) < len(document)]
    train = held_source({"document": documents + paragraphs, "summary": summaries + paragraphs})
    note = f"training examples: {len(documents):,} documents and {len(paragraphs):,} of their paragraphs"
    return dataclasses.replace(data, train=train, notes=(*data.notes, note))
