"""Translation: a sentence for a sentence, scored on the decoded strings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from kerastoolkit.experiment import Data, Report, Task, described
from kerastoolkit.serving.byte_pairs import Merges
from kerastoolkit.tasks._text_scores import (
    TOKENIZERS,
    check_tokenizer,
    copied_share,
    length_ratio,
    translation_scores,
    worst_and_best,
)
from kerastoolkit.tasks._written_texts import answer_with, composed, decoded, file_text, pictures, source_tokens, writing

KEY, RESULT, TRUTH = "source", "translation", "target"
SHOWN = 4


def sentence_tokens(merges: Merges, *, longest: int = 1_024) -> keras.Model:
    """The preprocessing of ``translation``: source (batch,) string -> source_tokens (batch, up to longest) int32.

    Args:
        merges: see ``serving.byte_pairs.BytePairTokens``.
        longest: tokens of a text that are read, the end counted. Memory grows with their square; sentences have a tenth.
    """
    return source_tokens(merges, key=KEY, longest=longest)


def translation(target_merges: Merges, **kwargs: Any) -> Task:
    """``translations`` that answers with these merges; the arguments are that function's."""
    return dataclasses.replace(translations(**kwargs), answer=answer_with(target_merges, RESULT))


@described
def translations(smoothing: float = 0.1, beams: int = 4, length_penalty: float = 0.6) -> Task:
    """Sentences to sentences. The network gives logits (batch, length, vocabulary) for source_tokens and target_tokens.

    Answers: translation (batch,) string; score (batch,) float32, as ``serving.decoding.Decode`` states. ``evaluate`` scores
    the decoded strings.

    Args:
        smoothing: of the labels, in [0, 1): Szegedy et al. 2015 as in Vaswani et al. 2017, section 5.4.
        beams, length_penalty: what ``predict`` and ``evaluate`` take unless they are told another.
    """
    return writing(
        "translation", key=KEY, result=RESULT, smoothing=smoothing, settings={"beams": beams, "length_penalty": length_penalty},
        score=_score, scoring={"tokenizer": TOKENIZERS[0]}, read=_read, probe=("A dog runs.", "", "\u2603 \uac1c"),
        answered_at_once=64)  # fmt: skip


def _read(given: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Sentences as they stand, and of files each line that is not empty."""
    sentences = []
    for text in given:
        lines = [text] if (whole := file_text(text)) is None else whole.split("\n")
        sentences += [line for line in lines if line.strip() or lines == [text]]
    return sentences, {KEY: np.array([composed(each) for each in sentences], dtype=object)}


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, serving: keras.Model, *,
           tokenizer: str, **settings: Any) -> Report:  # fmt: skip
    check_tokenizer(tokenizer)  # before anything is written for it
    sources, truths, answers = decoded(batches, KEY, TRUTH, RESULT)
    figures, signatures = translation_scores(answers, truths, tokenizer=tokenizer)
    figures |= {"copied_from_source": copied_share(answers, sources), "length_ratio": length_ratio(answers, truths)}
    copied, _ = translation_scores(sources, truths, tokenizer=tokenizer)
    return Report(
        figures, baselines={"the source as it stands": copied},
        tables={"lowest and highest chrF": worst_and_best(answers, truths, sources, SHOWN)},
        pictures=pictures(serving, KEY, RESULT, sources[:SHOWN], settings),
        notes=tuple(f"{name}: {text}" for name, text in signatures.items()))  # fmt: skip
