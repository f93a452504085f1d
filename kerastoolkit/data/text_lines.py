"""Lines of text files, gzip or not, one at a time, and what is evened out in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from kerastoolkit.data.file_blocks import file_blocks
from kerastoolkit.experiment import InputError

LONGEST_LINE = 10_000_000  # bytes; a longer one is no line of text, and would be held in memory whole


def text_lines(path: Path, *, most_bytes: int) -> Iterator[str]:
    """The lines of a UTF-8 file without their line feeds and without a byte order mark.

    Nothing but a line feed ends a line: a carriage return or one of Unicode's line separators inside one of two aligned files
    would else move all that follow it.

    Args:
        path: the file; gzip is told by its first bytes.
        most_bytes: how long the unpacked file may be.
    Raises:
        InputError: it is not UTF-8 (with the line), damaged, too long, or has too long a line.
    """
    rest, number, total = b"", 0, 0
    for block in file_blocks(path):  # the last one is empty
        total += len(block)
        if total > most_bytes:
            raise InputError(f"{path}: a text may have at most {most_bytes:,} bytes (unpacked), got more")
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if rest and (not block or len(rest) > LONGEST_LINE):
            lines.append(rest)
        for line in lines:
            number += 1
            if len(line) > LONGEST_LINE:
                raise InputError(f"{path}, line {number}: a line may have at most {LONGEST_LINE:,} bytes, got more")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                wrong = f"got the byte 0x{line[error.start]:02x}"
                raise InputError(f"{path}, line {number}: must be UTF-8 text, {wrong}") from None
            yield text.removeprefix("\ufeff") if number == 1 else text


def one_line(text: str) -> str:
    """The text in Unicode's composed form (NFC), each run of white space of any kind a space, without those at its ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def paragraphs(text: str) -> str:
    """As ``one_line``, but blank lines stay, as two line feeds between paragraphs."""
    lines = [one_line(line) for line in text.split("\n")]
    return "\n\n".join(" ".join(group) for is_full, group in groupby(lines, bool) if is_full)
