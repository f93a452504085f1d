"""Rows of CSV and TSV files, gzip or not, one at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kerastoolkit.data.text_lines import LONGEST_LINE, text_lines
from kerastoolkit.experiment import InputError

MOST_BYTES = 100_000_000_000  # of an unpacked file, which is read row by row
NAMES_TOLD = 10  # of columns, in messages


def table_rows(path: Path, names: Sequence[str], *, most_bytes: int = MOST_BYTES) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row stands, and its cells by column; empty lines are passed over.

    Of a TSV file (.tsv or .tsv.gz) the cells are parted by tabs and quotation marks stand for themselves; of any other they are
    parted by commas, and quoted where they hold one.

    Args:
        path: a file whose first line names the columns.
        names: columns that it must have.
        most_bytes: how long the unpacked file may be.
    Raises:
        InputError: a column is missing or there twice, a row has another number of cells (with its line), or as ``text_lines``.
    """
    dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if is_tsv(path) else {}
    lines = (f"{line.removesuffix(chr(13))}\n" for line in text_lines(path, most_bytes=most_bytes))
    before = csv.field_size_limit(LONGEST_LINE)
    try:
        rows = csv.reader(lines, strict=True, **dialect)
        number = 1
        header = next(rows, [])
        for name in names:
            if header.count(name) != 1:
                raise InputError(f"{path}: must have one column {name}, got {header.count(name)} (it has: {some_names(header)})")
        while True:
            number = rows.line_num + 1  # where the row begins: a cell may have several lines
            row = next(rows, None)
            if row is None:
                return
            if row and len(row) != len(header):
                raise InputError(f"{path}, line {number}: must have {len(header)} cells, as the header, got {len(row)}")
            if row:
                yield f"{path}, line {number}", dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}, line {number}: the row that begins here is no CSV ({error})") from None
    finally:
        csv.field_size_limit(before)


def is_tsv(path: Path) -> bool:
    """Whether a file's name says that tabs part its cells."""
    return path.name.lower().removesuffix(".gz").endswith(".tsv")


def some_names(names: Any) -> str:
    """The first names, for a message."""
    return ", ".join(str(name)[:50] for name in list(names)[:NAMES_TOLD]) or "none"
