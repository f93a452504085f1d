"""Text generation, one character after the other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastoolkit import charts
from kerastoolkit.experiment import Data, InputError, Report, Task, described
from kerastoolkit.losses import softmax_cross_entropy
from kerastoolkit.serving.text import FIRST, PADDING, CharacterTokens, Write, step_model

SETTINGS = {"temperature": 0.8, "top_k": 0, "length": 500, "seed": 0}
SHOWN = 3


def character_tokens(characters: str) -> keras.Model:
    """The preprocessing of ``character_generation``: prompt (batch,) string -> tokens (batch, longest) int32."""
    prompt = keras.Input((), dtype="string", name="prompt")
    return keras.Model(prompt, {"tokens": CharacterTokens(characters, name="tokens")(prompt)}, name="preprocess")


def vocabulary(characters: str) -> int:
    """How many tokens a network for these characters has: padding, unknown, and one for each."""
    return FIRST + len(characters)


@described
def character_generation(characters: str) -> Task:
    """The next character, at every position of a text.

    The network gives logits (batch, length, vocabulary) for tokens (batch, length). Answers: text (batch,) string, which goes on
    from the prompt; nats (batch,) float32 and characters (batch,) int32 of the prompt. Settings: temperature, top_k, length,
    seed, as ``serving.text.Write`` states them.

    Args:
        characters: the known ones, ascending by code point.
    """

    def encode(truths, inputs, side_outputs, seeds):
        tokens = inputs["tokens"]
        return {"tokens": tokens[:, :-1]}, tokens[:, 1:]

    def loss(tokens, logits):
        inside = ops.cast(tokens != PADDING, logits.dtype)
        losses = softmax_cross_entropy(tokens, logits) * inside
        return ops.sum(losses, axis=1) / ops.maximum(ops.sum(inside, axis=1), 1.0)

    def answer(network: keras.Model) -> keras.Model:
        kinds = {"temperature": "float32", "top_k": "int32", "length": "int32", "seed": "int32"}
        inputs = {name: keras.Input((), dtype=kind, name=name) for name, kind in kinds.items()}
        inputs["tokens"] = keras.Input((None,), dtype="int32", name="tokens")
        return keras.Model(inputs, Write(step_model(network), characters, name="write")(inputs), name="answer")

    def read(texts: list[str]) -> tuple[list[str], dict[str, Any]]:
        return texts, {"prompt": np.array(texts, dtype=object)}

    def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
        rows = []
        for prompt, text, nats, count in zip(names, answers["text"], answers["nats"], answers["characters"], strict=True):
            surprise = float(nats) / int(count) if count else None
            rows.append({"prompt": prompt, "text": text.decode(), "prompt_nats_per_character": surprise})
        return rows

    def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
        return charts.page(_string(raw["prompt"]), answers["text"].decode())

    return Task(
        name="character generation", encode=encode, loss=loss,
        metrics={"bits_per_character": lambda tokens, logits: loss(tokens, logits) / math.log(2)}, answer=answer,
        score=lambda batches, data, serving: _score(batches, data, characters), read=read, tell=tell, draw=draw,
        probe=lambda serving: _probe(characters), settings=SETTINGS)  # fmt: skip


def _string(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, characters: str) -> Report:
    nats, counts, counted, examples = 0.0, 0, np.zeros(len(characters) + 1), []
    for raw, answers in batches:
        nats += float(answers["nats"].sum(dtype=np.float64))
        counts += int(answers["characters"].sum())
        for prompt, text in zip(raw["prompt"], answers["text"], strict=True):
            for each in prompt.decode()[1:]:
                counted[characters.find(each)] += 1  # the last counts what is unknown
            if len(examples) < SHOWN:
                examples.append((prompt.decode(), text.decode()))
    if not counts:
        raise InputError(f"{data.name}: a text of at least 2 characters is needed to score")
    shares = counted[counted > 0] / counted.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    figures = {"nats_per_character": nats / counts, "bits_per_character": nats / counts / math.log(2),
               "characters": float(counts), "unknown_characters": float(counted[-1])}  # fmt: skip
    baselines = {
        "frequency of each character, known beforehand": {
            "nats_per_character": entropy,
            "bits_per_character": entropy / math.log(2),
        }
    }
    rows = [{"after": prompt[-60:], "it writes": text} for prompt, text in examples]
    pictures = {f"writing_{number}": charts.page(prompt[-300:], text) for number, (prompt, text) in enumerate(examples, start=1)}
    return Report(figures, baselines=baselines, tables={"it writes": rows}, pictures=pictures)


def _probe(characters: str) -> dict[str, Any]:
    """Prompts with known and unknown characters, greedy and drawn at random."""
    prompts = [characters[:20], "", "\u2603" + characters[-3:]]
    return {
        "prompt": np.array(prompts, dtype=object), "temperature": np.array([0.0, 0.7, 1.0], np.float32),
        "top_k": np.array([0, 5, 0], np.int32), "length": np.array([20, 9, 0], np.int32), "seed": np.array([0, 1, 2], np.int32),
    }  # fmt: skip
