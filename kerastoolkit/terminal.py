"""What the command line prints: tables, facts and JSON; and how it keeps TensorFlow's start quiet."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, indent=2))


def print_facts(facts: dict[str, Any], indent: str = "") -> None:
    """A line for each fact, its name before it; the facts of a fact stand under it, indented."""
    width = max(map(len, facts), default=0) + 2
    for name, value in facts.items():
        label = indent + name.replace("_", " ")
        if isinstance(value, dict):
            print(label)
            print_facts(value, indent + "  ")
        else:
            print(f"{label:<{len(indent) + width}}{'unknown' if value is None else _cell(value)}".rstrip())


def print_table(rows: list[dict[str, Any]], title: str = "") -> None:
    """A table: drawn on a terminal; plain aligned columns, never cut, where something else reads it."""
    if title:
        print(title)
    if not rows:
        print("none")
        return
    columns = list(rows[0])
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    if sys.stdout.isatty():
        _draw_table(columns, cells)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [columns, *cells]:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _draw_table(columns: list[str], cells: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")  # a long name goes on in the next line, whole
    for line in cells:
        table.add_row(*line)
    Console(markup=False, highlight=False).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_cell(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    # Lines of text as verses are quoted, for a cell has one line.
    return "" if value is None else str(value).replace("\n", " / ")


def start_tensorflow() -> None:
    """Imports TensorFlow without its remarks on processors, missing GPUs and its own graphs.

    What fails is an exception anyway. Whoever sets TF_CPP_MIN_LOG_LEVEL sees what TensorFlow has to say.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _withheld_stderr():
        import tensorflow

        tensorflow.config.list_physical_devices()  # a missing GPU is remarked on here, not at the first step


@contextlib.contextmanager
def _withheld_stderr() -> Iterator[None]:
    """Keeps back what is written to standard error, also by C++, and shows it only if an error follows.

    Needed because TensorFlow 2.21 writes its first lines before it reads TF_CPP_MIN_LOG_LEVEL.
    """
    import tempfile

    sys.stderr.flush()
    with tempfile.TemporaryFile() as withheld:
        before = os.dup(2)
        os.dup2(withheld.fileno(), 2)
        try:
            yield
        except Exception:
            withheld.seek(0)
            os.write(before, withheld.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
