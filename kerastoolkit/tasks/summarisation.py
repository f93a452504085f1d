"""Summarisation: a short text for a document, scored on the decoded strings beside the document's own sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from kerastoolkit.experiment import Data, Report, Task, described
from kerastoolkit.serving.byte_pairs import Merges
from kerastoolkit.tasks._text_scores import (
    copied_share,
    lead,
    length_ratio,
    random_sentences,
    repeated_share,
    rouge_scores,
    sentences,
)
from kerastoolkit.tasks._written_texts import answer_with, composed, decoded, file_text, pictures, source_tokens, writing

KEY, RESULT, TRUTH = "document", "summary", "summary"
SENTENCES = 3  # of the baselines: lead-3 and as many at random
SHOWN = 3


def read_documents(merges: Merges, *, longest: int | None = None) -> keras.Model:
    """The preprocessing of ``summarisation``: document (batch,) string -> source_tokens (batch, longest) int32."""
    return source_tokens(merges, key=KEY, longest=longest)


def summarisation(merges: Merges, **kwargs: Any) -> Task:
    """``summaries`` that answers with these merges; the arguments are that function's."""
    return dataclasses.replace(summaries(**kwargs), answer=answer_with(merges, RESULT))


@described
def summaries(smoothing: float = 0.1, beams: int = 4, length_penalty: float = 1.5, no_repeat_ngram: int = 6,
              longest: int = 0) -> Task:  # fmt: skip
    """Documents to summaries. The network gives logits (batch, length, vocabulary) for source_tokens and target_tokens.

    Answers: summary (batch,) string; score (batch,) float32, as ``serving.decoding.Decode`` states. ``evaluate`` scores the
    decoded strings by ROUGE, and beside them the document's first sentences and some at random.

    Args:
        smoothing: of the labels, in [0, 1).
        beams, length_penalty, no_repeat_ngram, longest: what ``predict`` and ``evaluate`` take unless they are told another.
    """
    return writing(
        "summarisation", key=KEY, result=RESULT, smoothing=smoothing,
        settings={"beams": beams, "length_penalty": length_penalty, "no_repeat_ngram": no_repeat_ngram, "longest": longest},
        score=_score, read=_read,
        probe=("A dog ran home. It was late. Nobody saw it.", "", "\u2603 \uac1c."), answered_at_once=16)  # fmt: skip


def _read(given: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Documents as they stand, and of files the whole text."""
    documents = [text if (whole := file_text(text)) is None else whole for text in given]
    return given, {KEY: np.array([composed(each) for each in documents], dtype=object)}


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, serving: keras.Model,
           **settings: Any) -> Report:  # fmt: skip
    documents, truths, answers = decoded(batches, KEY, TRUTH, RESULT)
    # Longer texts share more words with a long reference: so the first sentences are told at the summaries' length, too.
    as_many = max(1, round(float(np.mean([len(sentences(answer)) for answer in answers]))))
    baselines = {
        f"{SENTENCES} sentences at random": [random_sentences(text, SENTENCES, seed) for seed, text in enumerate(documents)],
        **{f"the first {n} sentences": [lead(text, n) for text in documents] for n in sorted({SENTENCES, as_many})},
    }
    figures = {**_figures(answers, truths), "repeated": repeated_share(answers),
               "copied_from_source": copied_share(answers, documents)}  # fmt: skip
    rows = zip(documents[:SHOWN], answers, truths, strict=False)
    table = [{"document": text[:200], "summary": answer, "reference": truth} for text, answer, truth in rows]
    return Report(
        figures, baselines={name: _figures(texts, truths) for name, texts in baselines.items()},
        tables={"it writes": table}, pictures=pictures(serving, KEY, RESULT, documents[:1], settings)
    )


def _figures(answers: list[str], truths: list[str]) -> dict[str, float]:
    return {**rouge_scores(answers, truths), "length_ratio": length_ratio(answers, truths)}
