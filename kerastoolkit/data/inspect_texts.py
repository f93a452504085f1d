"""A look at labelled texts: how many there are of each label, how long they are, and some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.labelled_texts import ENDS, GLUE, MOST_BYTES, labelled_texts
from kerastoolkit.data.strings import texts
from kerastoolkit.data.table_rows import is_tsv
from kerastoolkit.data.text_lines import text_lines
from kerastoolkit.experiment import InputError

LABEL = "label"
TEXTS = ("text", "sentence", "first", "sentence1")  # what the column of texts is mostly called, or the first of two
SECONDS = ("second", "sentence2")
EXAMPLES_OF_EACH, LONGEST_SHOWN, CLASSES_SHOWN = 2, 120, 30


def is_labelled(name: str) -> bool:
    """Whether a name is one of labelled texts, or a path that of a table with texts and labels: its header tells."""
    return name in GLUE or bool(_columns(name))


def inspect_labelled(name: str, split: str) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """What ``data.named.inspect`` gives of labelled texts.

    Raises:
        InputError: there are no such texts, or the split is empty.
    """
    from matplotlib.figure import Figure

    data = labelled_texts(name, **_columns(name))
    source = data.split(split)
    if not source.size:
        raise InputError(f"{data.name} has no {split} part")
    classes, labels = data.about["classes"], source.fetch(np.arange(source.size))["label"].numpy()
    counts = np.bincount(labels, minlength=len(classes))
    rows = []
    for number in np.argsort(-counts, kind="stable")[:CLASSES_SHOWN]:
        chosen = np.flatnonzero(labels == number)[:EXAMPLES_OF_EACH]
        raw = source.fetch(chosen)
        for both in zip(*(raw[key].numpy() for key in data.inputs), strict=True):
            shown = " ||| ".join(each.decode() for each in both)
            shown = shown if len(shown) <= LONGEST_SHOWN else shown[: LONGEST_SHOWN - 1] + "…"
            rows.append({"label": classes[number], "count": int(counts[number]), "text": shown})
    words = sum(np.array([len(text.split()) for text in texts(source, key)]) for key in data.inputs)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    longest = max(2, int(np.percentile(words, 99)))
    of_classes = [np.minimum(words[labels == number], longest) for number in range(len(classes))]
    if len(classes) <= CLASSES_SHOWN:
        axes.hist(of_classes, bins=min(30, longest), stacked=True, label=classes)
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.hist(np.concatenate(of_classes), bins=min(30, longest))
    axes.set(xlabel="words (the longest hundredth counts as the last)", ylabel="texts", title=f"{source.size:,} examples")
    axes.spines[["top", "right"]].set_visible(False)
    sizes = ", ".join(f"{data.split(part).size:,} {part}" for part in ("train", "validation", "test"))
    told = f"words of a text: {int(np.median(words))} (median) to {words.max():,}"
    return rows, figure, (f"examples: {sizes}", f"labels: {len(classes)}", told, *data.notes)


def _columns(name: str) -> dict[str, str]:
    """The columns of texts in a table that has labels; none where it is no such table."""
    path = Path(name).expanduser()
    if not (name.lower().endswith(ENDS) and path.is_file()):
        return {}
    header = next(text_lines(path, most_bytes=MOST_BYTES), "").strip()
    names = [column.strip('"') for column in header.split("\t" if is_tsv(path) else ",")]
    first, second = (next((each for each in known if each in names), None) for known in (TEXTS, SECONDS))
    if LABEL not in names or first is None:
        return {}
    return {"text": first, "label": LABEL, **({"second": second} if second else {})}
