"""Documents and their summaries: CNN / Daily Mail, files of one's own, and a small sample."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.corpus import corpora_folder
from kerastoolkit.data.prepared import prepared_builder
from kerastoolkit.data.strings import KeptStrings, cut, held_source, kept_folder, kept_source, kept_strings, prepared_strings
from kerastoolkit.data.table_rows import some_names, table_rows
from kerastoolkit.data.text_lines import paragraphs, text_lines
from kerastoolkit.experiment import Data, InputError, described

MOST_BYTES = 100_000_000_000  # of an unpacked file; its texts are kept on disk
KEYS = ("document", "summary")

# The end of a sentence with something to close it or not, and what follows right after it. What stands before is a word of two
# letters, a digit, or closes something: no initial (J.K.Rowling), no U.S.
GLUED = re.compile(r"""(?:(?<=[^\W_]{2})|(?<=[\d%)"”’']))([.!?]+)(""|"|[)”’]?)(?=[\w“‘])""")
BESIDE = 12  # characters on each side that are looked up in the document


@described
def documents(data: str, document: str = "document", summary: str = "summary", validation: float = 0.05, test: float = 0.05,
              mend: bool = True) -> Data:  # fmt: skip
    """Documents and their summaries.

    Raw examples: document (batch,) string and summary (batch,) string, in Unicode's composed form (NFC), with two line feeds
    between paragraphs and else single spaces. A file's rows are read once, to where read texts are kept, and shuffled.

    Args:
        data: ``cnn_dailymail``; ``sample``, eight sonnets and their closing couplets; a UTF-8 file, gzip or not, of JSON objects,
            one a line; or a CSV file (.csv or .csv.gz) with a header.
        document, summary: what the file calls the two.
        validation, test: what is cut from a file: a fraction below 1, a count, or 0; a named set has parts of its own.
        mend: whether a space is put where a summary's sentences run together, ``.For``, if the document itself does not have it
            so; beside a straight quotation mark, which may open or close, where the document tells on which side.
    Raises:
        InputError: no such data, something is wrong in a file (with its line), or a share leaves nothing for training.
        RunError: the texts cannot be kept on disk.
    """
    if data == "sample":
        return _sonnets()
    if data == "cnn_dailymail":
        return _cnn_dailymail(mend)
    path = Path(data).expanduser()
    if not os.path.isfile(path):
        raise InputError(f"unknown documents {data}: choose cnn_dailymail, sample, or a file of JSON lines or CSV")
    is_table = path.name.lower().removesuffix(".gz").endswith(".csv")

    def rows(counts: Counter[str]) -> Iterator[dict[str, str]]:
        for where, row in (table_rows if is_table else json_rows)(path, (document, summary)):
            texts = {key: row_text(where, row, name) for key, name in zip(KEYS, (document, summary), strict=True)}
            yield _mended(texts, counts) if mend else texts

    strings = kept_strings(kept_folder(path.name, [path], "documents", document, summary, mend), rows, name=data)
    parts = cut(len(strings.digests), {"test": test, "validation": validation}, name=data)
    return _data(data, {split: (strings, numbers) for split, numbers in parts.items()}, Counter(strings.facts["counts"]))


@described
def cnn_dailymail(*, mend: bool = True) -> Data:
    """CNN / Daily Mail: 287,113 news articles and their highlights (See et al. 2017, https://arxiv.org/abs/1704.04368).

    Args:
        mend: see ``documents``.
    """
    return documents("cnn_dailymail", mend=mend)


def _cnn_dailymail(mend: bool) -> Data:
    builder = prepared_builder("cnn_dailymail", str(corpora_folder().parents[1]))

    def clean(row: dict[str, str], counts: Counter[str]) -> dict[str, str]:
        row = {key: paragraphs(text) for key, text in row.items()}
        return _mended(row, counts) if mend else row

    features = {"document": "article", "summary": "highlights"}
    strings = {split: prepared_strings(builder, split, features, clean, mend) for split in ("train", "validation", "test")}
    counts = sum((Counter(each.facts["counts"]) for each in strings.values()), Counter())
    return _data("cnn_dailymail", {split: (each, np.arange(len(each.digests))) for split, each in strings.items()}, counts)


def _sonnets() -> Data:
    """Six sonnets to train on, and one each for validation and test."""
    poems = (Path(__file__).parent / "sonnets.txt").read_text("utf-8").strip().split("\n\n")
    columns = {"document": [paragraphs(poem) for poem in poems],
               "summary": [paragraphs("\n".join(poem.split("\n")[-2:])) for poem in poems]}  # fmt: skip
    rows = {"train": slice(0, 6), "validation": slice(6, 7), "test": slice(7, 8)}
    sources = {split: held_source({key: column[of] for key, column in columns.items()}) for split, of in rows.items()}
    medians = {key: int(np.median([len(text.split()) for text in column])) for key, column in columns.items()}
    return Data("sample", **sources, inputs=("document",), encoded=False, about=_about(medians))


def _data(name: str, splits: dict[str, tuple[KeptStrings, np.ndarray]], counts: Counter[str]) -> Data:
    notes = []
    if counts["left_out"]:
        notes.append(f"articles left out because they or their summaries are empty: {counts['left_out']:,}")
    if counts["mended"]:
        notes.append(f"spaces put between sentences of summaries that ran together: {counts['mended']:,}; mend=false leaves them")
    train, test = (strings.digests[rows] for strings, rows in (splits["train"], splits["test"]))
    if twice := int(np.isin(test, train).sum()):
        notes.append(f"test documents that are training documents with the same summary, too: {twice:,} of {len(test):,}")
    sources = {split: kept_source(*each) for split, each in splits.items()}
    about = _about(splits["train"][0].facts["median_words"])
    return Data(name, **sources, inputs=("document",), encoded=False, about=about, notes=tuple(notes))


def _about(medians: dict[str, int]) -> dict[str, int]:
    return {f"median_{key}_words": number for key, number in medians.items()}


def json_rows(path: Path, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each row stands, and the row; lines without anything are passed over."""
    for number, line in enumerate(text_lines(path, most_bytes=MOST_BYTES), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # also a number of thousands of digits, and brackets in brackets without end
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{where}: must be a JSON object, got {line.strip()[:30]}")
        yield where, row


def row_text(where: str, row: dict[str, Any], name: str) -> str:
    """The text that a row has under a name, its white space evened out as ``paragraphs`` does.

    Raises:
        InputError: there is none, or what is there is no text or an empty one.
    """
    if name not in row:
        raise InputError(f"{where}: has no {name} (it has: {some_names(row)})")
    if not isinstance(row[name], str):
        raise InputError(f"{where}: {name} must be a text, got {json.dumps(row[name])[:30]}")
    text = paragraphs(row[name])
    if not text:
        raise InputError(f"{where}: {name} is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: {name} has half a character, \\u{ord(text[error.start]):04x}") from None
    return text


def _mended(row: dict[str, str], counts: Counter[str]) -> dict[str, str]:
    """The row, with spaces between sentences of its summary that ran together."""
    article, text = row["document"], row["summary"]

    def parted(found: re.Match[str]) -> str:
        end, mark = found.groups()
        following = text[found.end()]
        after, before = text[found.end() :][:BESIDE], text[: found.end(1)][-BESIDE:]
        if not (following.isupper() or following in "“‘") or before + mark + after[:3] in article:
            return found.group()
        if mark == '"':
            closes, opens = f'{before}"' in article, f'"{after}' in article
            if closes == opens:
                return found.group()
            with_space = f'{end}" ' if closes else f'{end} "'
        else:
            with_space = f'{end}" "' if mark == '""' else f"{end}{mark} "
        counts["mended"] += 1
        return with_space

    return {**row, "summary": GLUED.sub(parted, text)}
