"""A look at questions on texts: examples, how questions begin, and a picture of the lengths."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.questions import ENDS, FILES, files_of_folder, questions
from kerastoolkit.experiment import InputError

EXAMPLES, LONGEST_SHOWN, SHOWN_BESIDE = 8, 160, 60  # questions, characters of one, and of the text on each side of its answer
AT_ONCE = 1_024  # questions that are fetched together


def is_questions(name: str) -> bool:
    """Whether a name or path is one of questions."""
    path = Path(name).expanduser()
    if os.path.isdir(path):
        return bool(files_of_folder(path, FILES["train"]))
    return name == "squad" or name.lower().endswith(ENDS)


def inspect_questions(name: str, split: str) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """What ``data.named.inspect`` gives of questions: examples, a picture of the lengths, and remarks.

    Raises:
        InputError: there are no such questions, or the split is empty.
    """
    from matplotlib.figure import Figure

    data = questions(name)
    source = data.split(split)
    if not source.size:
        raise InputError(f"{data.name} has no {split} part")
    words: dict[str, list[int]] = {"question": [], "context": [], "answer": []}
    first: Counter[str] = Counter()
    rows = []
    for start in range(0, source.size, AT_ONCE):
        raw = {key: value.numpy() for key, value in source.fetch(np.arange(start, min(start + AT_ONCE, source.size))).items()}
        for number in range(len(raw["id"])):
            question, context = raw["question"][number].decode(), raw["context"][number].decode()
            begin, end = int(raw["answer_begin"][number]), int(raw["answer_end"][number])
            for key, text in (("question", question), ("context", context), ("answer", context[begin:end])):
                words[key].append(len(text.split()))
            first[question.split()[0].lower()] += 1
            if len(rows) < EXAMPLES:
                rows.append({"question": _shown(question), "answer": _shown(context[begin:end]),
                             "text": _around(context, begin, end)})  # fmt: skip
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, (key, numbers) in zip(figure.subplots(1, 3), words.items(), strict=True):
        longest = max(2, int(np.percentile(numbers, 99)))
        axes.hist(np.minimum(numbers, longest), bins=min(40, longest), color="tab:blue")
        axes.set(xlabel=f"words of a{'n' if key == 'answer' else ''} {key}", ylabel="questions")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{source.size:,} questions (the longest hundredth counts as the last)", fontsize=10)
    sizes = ", ".join(f"{data.split(part).size:,} {part}" for part in ("train", "validation", "test"))
    told = "; ".join(f"words of {key}: {int(np.median(each))} (median) to {max(each):,}" for key, each in words.items())
    begun = ", ".join(f"{word} {count / source.size:.0%}" for word, count in first.most_common(6))
    return rows, figure, (f"examples: {sizes}", told, f"questions begin with: {begun}", *data.notes)


def _shown(text: str) -> str:
    whole = " ".join(text.split())
    return whole if len(whole) <= LONGEST_SHOWN else whole[: LONGEST_SHOWN - 1] + "…"


def _around(context: str, begin: int, end: int) -> str:
    """The answer between marks, with what stands beside it."""
    before = context[max(0, begin - SHOWN_BESIDE) : begin]
    after = context[end : end + SHOWN_BESIDE]
    return " ".join(f"{'…' if begin > SHOWN_BESIDE else ''}{before}>{context[begin:end]}<{after}".split()) + (
        "…" if end + SHOWN_BESIDE < len(context) else ""
    )
