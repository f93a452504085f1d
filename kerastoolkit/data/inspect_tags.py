"""A look at tagged words: how many entities there are of each kind, and which words they are mostly made of."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from kerastoolkit.data.tagged_words import tagged_words
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.tags import entities

ENDS = tuple(f".{kind}{packed}" for kind in ("conll", "iob", "bio") for packed in ("", ".gz"))
EXAMPLES = 5


def is_tagged(name: str) -> bool:
    """Whether a name or path is one of tagged words."""
    return name == "conll2003" or name.lower().endswith(ENDS)


def inspect_tags(name: str, split: str) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """What ``data.named.inspect`` gives of tagged words.

    Raises:
        InputError: there are no such words, or the split is empty.
    """
    from matplotlib.figure import Figure

    data = tagged_words(name)
    source = data.split(split)
    if not source.size:
        raise InputError(f"{data.name} has no {split} part")
    raw = source.fetch(np.arange(source.size))
    found: dict[str, Counter[str]] = defaultdict(Counter)
    lengths = []
    for text, tags in zip(raw["first"].numpy(), raw["tags"].numpy(), strict=True):
        words = text.decode().split(" ")
        lengths.append(len(words))
        for entity in entities(tags.decode().split(" ")):
            found[entity.kind][" ".join(words[entity.begin : entity.end])] += 1
    rows = [{"kind": kind, "count": sum(texts.values()), "different": len(texts),
             "mostly": ", ".join(text for text, _ in texts.most_common(EXAMPLES))}
            for kind, texts in sorted(found.items(), key=lambda each: -sum(each[1].values()))]  # fmt: skip
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.barh([row["kind"] for row in rows][::-1], [row["count"] for row in rows][::-1])
    axes.set(xlabel="entities", title=f"{source.size:,} sentences, {sum(lengths):,} words")
    axes.spines[["top", "right"]].set_visible(False)
    sizes = ", ".join(f"{data.split(part).size:,} {part}" for part in ("train", "validation", "test"))
    told = f"words of a sentence: {int(np.median(lengths))} (median) to {max(lengths):,}"
    return rows, figure, (f"examples: {sizes}", told, *data.notes)
