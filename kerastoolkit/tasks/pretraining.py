"""BERT's pretraining: what stood where words are masked, and whether one text follows another (Devlin et al. 2018,
https://arxiv.org/abs/1810.04805, section 3.1 and appendix A.2)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerastoolkit.experiment import Data, InputError, Report, Source, Task, described
from kerastoolkit.losses import softmax_cross_entropy
from kerastoolkit.serving.masking import FilledMasks, MaskPositions, mask_pieces
from kerastoolkit.serving.model import inner_layer
from kerastoolkit.serving.word_pieces import MARKS, MASK
from kerastoolkit.tasks._bert import SEPARATOR, attention_endpoint, attention_picture, read_texts

NETWORK = "bert_pretraining"
SEED = 20_181_011  # of the masks of examples that are scored
COUNTED = 20_000  # training examples, at most, whose pieces are counted for the baseline
AT_ONCE = 256
SHOWN = 8
AROUND = 8  # pieces on each side of a masked one that a table shows
IN_PICTURE = 40  # pieces of a text whose attention is drawn


def masked_words(pieces: Sequence[str], *, whole_words: bool = False, top: int = 5) -> Task:
    """``pretraining`` with a vocabulary, as a recipe needs it.

    Args:
        pieces: of which the texts' tokens are.
        whole_words, top: see ``pretraining``.
    """
    pieces = tuple(pieces)

    def encode(truths, inputs, side_outputs, seeds):
        masked = mask_pieces(inputs["tokens"], seeds, pieces, whole_words=whole_words)
        targets = {"words": masked.labels, "weights": masked.weights, "elsewhere": 1 - truths["is_next"]}
        return {"tokens": masked.tokens, "positions": masked.positions}, targets

    def answer(network: keras.Model) -> keras.Model:
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("tokens", "segments")}
        positions = MaskPositions(pieces.index(MASK), name="mask_positions")(inputs["tokens"])
        outputs = network({**inputs, "positions": positions})
        filled = FilledMasks(pieces, top, name="filled_masks")(*inputs.values(), positions, outputs["masked_words"])
        follows = keras.layers.Activation("softmax", dtype="float32", name="follows")(outputs["next_sentence"])[:, 0]
        return keras.Model(inputs, {**filled, "is_next": follows}, name="answer")

    return dataclasses.replace(pretraining(whole_words, top), encode=encode, answer=answer)


@described
def pretraining(whole_words: bool = False, top: int = 5) -> Task:
    """Masked words and next sentences. The network is ``models.bert_pretraining``; its vocabulary comes with ``masked_words``.

    Answers, for texts in which [MASK] stands where something is to be told:
        filled (batch,) string, with the likeliest pieces in these places;
        candidates (batch, masks, top) string and probabilities (batch, masks, top) float32, of each [MASK] in turn, empty and 0
        after a text's last one;
        is_next (batch,) float32, the probability that the second text follows the first; of a single text it tells nothing.

    Loss: the mean cross-entropy of an example's masked words, and that of its next sentence, in nats. All examples count alike.

    Args:
        whole_words: whether all pieces of a word are masked together: see ``serving.masking.mask_pieces``.
        top: candidates for each [MASK].
    Raises:
        InputError: top is no positive number.
    Differs from the paper: there the mean is over the masked words of a whole batch, so that those of short examples count less.
    """
    if top < 1:
        raise InputError(f"top must be at least 1, got {top}")

    def without_pieces(*arguments):
        raise RuntimeError("a task made again from a run's description neither trains nor answers: the run's serving model does")

    def read(given: list[str]) -> tuple[list[str], dict[str, Any]]:
        names, raw = read_texts(given, False)
        parts = [_both(text) for text in raw["first"]]
        columns = zip(("first", "second"), zip(*parts, strict=True), strict=True)
        return names, {key: np.array(column, dtype=object) for key, column in columns}

    def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
        rows = []
        for number, name in enumerate(names):
            row = {"text": name, "filled": answers["filled"][number].decode()}
            found = zip(answers["candidates"][number], answers["probabilities"][number], strict=True)
            told = [{each.decode(): round(float(p), 4) for each, p in zip(*mask, strict=True)} for mask in found if mask[0][0]]
            row |= {"candidates": told} if told else {}
            rows.append(row | {"is_next": float(answers["is_next"][number]) if _both(name)[1] else None})
        return rows

    def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
        return attention_picture(answers, answers["filled"].decode())

    def probe(serving):
        return {"first": np.array(["A dog [MASK].", "", "\u2603 \uac1c"], dtype=object),
                "second": np.array(["[MASK] has [MASK] legs.", "It runs.", ""], dtype=object)}  # fmt: skip

    return Task(
        name="pretraining", encode=without_pieces, loss=_loss,
        metrics={"masked_accuracy": _masked_accuracy, "masked_nats": _masked_nats, "next_sentence_accuracy": _next_accuracy},
        answer=without_pieces, score=lambda batches, data, serving: _score(batches, data, serving, whole_words),
        read=read, tell=tell, draw=draw, probe=probe, asks="attention",
        endpoints=lambda serving: {"attention": attention_endpoint(serving, NETWORK)}, answered_at_once=64)  # fmt: skip


def _both(text: str) -> tuple[str, str]:
    """The first text and the second, which is empty where there is one alone."""
    first, *others = (part.strip() for part in text.replace("\t", SEPARATOR).split(SEPARATOR))
    if len(others) > 1:
        raise InputError(f"one text, or two that {SEPARATOR} or a tab parts, are wanted, got {len(others) + 1}: {text[:60]}")
    return first, others[0] if others else ""


def _mean(targets, values):
    """(batch, n) -> (batch,), over the masked words of each example."""
    weights = targets["weights"]
    return ops.sum(values * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)


def _masked_nats(targets, outputs):
    return _mean(targets, softmax_cross_entropy(targets["words"], outputs["masked_words"]))


def _masked_accuracy(targets, outputs):
    right = ops.equal(ops.cast(ops.argmax(outputs["masked_words"], axis=-1), "int32"), ops.cast(targets["words"], "int32"))
    return _mean(targets, ops.cast(right, "float32"))


def _next_accuracy(targets, outputs):
    answered = ops.cast(ops.argmax(outputs["next_sentence"], axis=-1), "int32")
    return ops.cast(ops.equal(answered, ops.cast(targets["elsewhere"], "int32")), "float32")


def _loss(targets, outputs):
    return _masked_nats(targets, outputs) + softmax_cross_entropy(targets["elsewhere"], outputs["next_sentence"])


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, serving: keras.Model,
           whole_words: bool) -> Report:  # fmt: skip
    words, network = inner_layer(serving, "word_pieces"), inner_layer(serving, NETWORK)
    pieces = words.pieces

    # Each is traced once, whatever the sizes of batches.
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)] * 2, autograph=False)
    def cut(first, second):
        return words(first, second)

    numbers = [tf.TensorSpec((None, size), tf.int32) for size in (None, None, 2)]

    @tf.function(input_signature=numbers, autograph=False)
    def told(tokens, segments, seeds):
        """What the network says of masks that an example's seeds tell."""
        masked = mask_pieces(tokens, seeds, pieces, whole_words=whole_words)
        outputs = network({"tokens": masked.tokens, "segments": segments, "positions": masked.positions})
        nats = softmax_cross_entropy(masked.labels, outputs["masked_words"])
        best = tf.argmax(outputs["masked_words"], axis=-1, output_type=tf.int32)
        return {"tokens": masked.tokens, "positions": masked.positions, "labels": masked.labels, "there": masked.weights > 0,
                "nats": nats, "best": best, "follows": tf.argmax(outputs["next_sentence"], axis=-1) == 0}  # fmt: skip

    labels, best, nats, follows, is_next, shown, texts = [], [], [], [], [], [], []
    for raw, _ in batches:
        numbers = raw["example"].astype(np.int32)
        seeds = np.stack([numbers, np.full_like(numbers, SEED)], axis=1)
        inputs = cut(raw["first"], raw["second"])
        found = {name: each.numpy() for name, each in told(inputs["tokens"], inputs["segments"], seeds).items()}
        there = found["there"]
        labels.append(found["labels"][there])
        best.append(found["best"][there])
        nats.append(found["nats"][there].astype(np.float64))
        follows.append(found["follows"])
        is_next.append(raw["is_next"] == 1)
        texts += zip(raw["first"], raw["second"], strict=True)
        shown += _shown(found, pieces, SHOWN - len(shown))
    labels, best, nats, follows, is_next = map(np.concatenate, (labels, best, nats, follows, is_next))
    if not len(labels):
        raise InputError(f"{data.name}: no example has a word that could be masked")
    share = max(is_next.mean(), 1 - is_next.mean())
    counts = _counts(data.train, cut, pieces)
    logarithms = np.log(counts) - math.log(counts.sum())
    figures = {**_figures(labels == best, nats), "next_sentence_accuracy": float((follows == is_next).mean())}
    frequent = {**_figures(labels == counts.argmax(), -logarithms[labels]), "next_sentence_accuracy": float(share)}
    notes = (f"masks are the same each time: {len(labels):,} words of {len(is_next):,} pairs; perplexity is of word pieces",
             f"second texts that follow the first: {int(is_next.sum()):,}")  # fmt: skip
    return Report(figures, baselines={"how frequent pieces and answers are": frequent}, tables={"masked words": shown},
                  pictures=_attention(serving, texts), notes=notes)  # fmt: skip


def _figures(right: np.ndarray, nats: np.ndarray) -> dict[str, float]:
    mean = float(nats.mean())
    return {"masked_accuracy": float(right.mean()), "masked_nats": mean, "masked_perplexity": math.exp(min(mean, 700.0))}


def _shown(found: dict[str, np.ndarray], pieces: Sequence[str], most: int) -> list[dict[str, Any]]:
    """A masked word of each example, with what is around it."""
    rows = []
    for tokens, positions, labels, best, there in zip(
        *(found[name] for name in ("tokens", "positions", "labels", "best", "there")), strict=True
    ):
        if len(rows) < most and there.any():
            number = int(there.sum()) // 2  # one in the middle has others on both sides
            place = int(positions[number])
            before, after = tokens[max(1, place - AROUND) : place], tokens[place + 1 : place + 1 + AROUND]
            context = [*(pieces[token] for token in before), "____", *(pieces[token] for token in after if token)]
            rows.append({"text": " ".join(context).replace(" ##", ""), "answer": pieces[best[number]],
                         "truth": pieces[labels[number]]})  # fmt: skip
    return rows


def _counts(source: Source, cut: Any, pieces: Sequence[str]) -> np.ndarray:
    """How often each piece is in training examples, and one more; no mark ever is. (vocabulary,) float64."""
    counts = np.ones(len(pieces))
    chosen = np.linspace(0, source.size - 1, min(source.size, COUNTED)).astype(np.int64)
    for start in range(0, len(chosen), AT_ONCE):
        raw = source.fetch(tf.constant(chosen[start : start + AT_ONCE]))
        counts += np.bincount(cut(raw["first"], raw["second"])["tokens"].numpy().ravel(), minlength=len(counts))
    counts[[pieces.index(mark) for mark in MARKS]] = 1e-9
    return counts


def _attention(serving: keras.Model, texts: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """Where the network looks in the longest of the texts that a picture holds, else in the shortest."""
    lengths = [sum(len(text.split()) for text in both) for both in texts]
    small = [number for number, length in enumerate(lengths) if length <= IN_PICTURE]
    number = max(small, key=lengths.__getitem__) if small else min(range(len(lengths)), key=lengths.__getitem__)
    first, second = texts[number]
    answers = attention_endpoint(serving, NETWORK)({"first": tf.constant([first]), "second": tf.constant([second])})
    found = {name: np.asarray(value)[0] for name, value in answers.items()}
    return {"attention": attention_picture(found, found["filled"].decode())}
