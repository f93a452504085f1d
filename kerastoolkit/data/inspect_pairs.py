"""A look at sentence pairs, and at documents with their summaries: examples, lengths, and a picture of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.documents import MOST_BYTES, documents
from kerastoolkit.data.sentence_pairs import PREPARED, prepared_languages, sentence_pairs
from kerastoolkit.data.strings import texts
from kerastoolkit.data.text_lines import text_lines
from kerastoolkit.experiment import Data, InputError

EXAMPLES, LONGEST_SHOWN = 8, 160  # texts, and characters of each


def is_pairs(name: str) -> bool:
    """Whether a name or path is one of sentence pairs."""
    path = Path(name).expanduser()
    if name in ("multi30k", "dates") or name.startswith(PREPARED) or name.lower().endswith((".tsv", ".tsv.gz")):
        return True
    return len(_languages(path)) > 1 or (name.count(",") == 1 and not path.exists())


def is_documents(name: str) -> bool:
    """Whether a name or path is one of documents: of a CSV file its header tells."""
    if name.lower().endswith((".csv", ".csv.gz")) and Path(name).expanduser().is_file():
        header = next(text_lines(Path(name).expanduser(), most_bytes=MOST_BYTES), "")
        return {"document", "summary"} <= {column.strip('"') for column in header.strip().split(",")}
    return name == "cnn_dailymail" or name.lower().endswith((".jsonl", ".jsonl.gz"))


def inspect_pairs(name: str, split: str) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """What ``data.named.inspect`` gives of sentence pairs; of several languages German and English, or else the first two.

    Raises:
        InputError: there are no such pairs, or the split is empty.
    """
    prepared = name.startswith(PREPARED)
    known = prepared_languages(name.removeprefix(PREPARED)) if prepared else _languages(Path(name).expanduser())
    languages = ("de", "en") if len(known) < 2 or {"de", "en"} <= set(known) else known[:2]
    rows, figure, remarks = _inspect(sentence_pairs(name, *languages), split, "source", "target")
    return rows, figure, (*remarks, f"languages: {', '.join(known)}; shown: {' to '.join(languages)}") if known else remarks


def inspect_documents(name: str, split: str) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """What ``data.named.inspect`` gives of documents.

    Raises:
        InputError: there are no such documents, or the split is empty.
    """
    return _inspect(documents(name), split, "document", "summary")


def _languages(folder: Path) -> list[str]:
    """Those of ``train.<language>``, with .gz or without."""
    files = folder.glob("train.*") if folder.is_dir() else ()
    found = {path.name.removesuffix(".gz").removeprefix("train.") for path in files}
    return sorted(each for each in found if "." not in each and each != "gz")


def _inspect(data: Data, split: str, first: str, second: str) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    from matplotlib.figure import Figure

    source = data.split(split)
    if not source.size:
        raise InputError(f"{data.name} has no {split} part")
    words = {key: np.array([len(text.split()) for text in texts(source, key)]) for key in (first, second)}
    raw = source.fetch(np.arange(min(EXAMPLES, source.size)))
    examples = zip(raw[first].numpy(), raw[second].numpy(), strict=True)
    rows = [{first: _shown(one), second: _shown(other)} for one, other in examples]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    longest = max(2, *(int(np.percentile(each, 99)) for each in words.values()))
    for key, counts in words.items():
        axes.hist(np.minimum(counts, longest), bins=min(40, longest), histtype="step", label=key)
    axes.set(xlabel="words (the longest hundredth counts as the last)", ylabel="texts", title=f"{source.size:,} examples")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    told = "; ".join(f"words of {key}: {int(np.median(each))} (median) to {each.max():,}" for key, each in words.items())
    sizes = ", ".join(f"{data.split(part).size:,} {part}" for part in ("train", "validation", "test"))
    return rows, figure, (f"examples: {sizes}", told, *data.notes)


def _shown(text: bytes) -> str:
    whole = " ".join(text.decode().split())
    return whole if len(whole) <= LONGEST_SHOWN else whole[: LONGEST_SHOWN - 1] + "…"
