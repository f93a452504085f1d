"""Files, gzip or not, block by block."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from kerastoolkit.experiment import InputError

BLOCK = 1 << 23  # bytes that are read at once
GZIP = b"\x1f\x8b"


def file_blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and at its end an empty block.

    Raises:
        InputError: it cannot be read, or is a damaged gzip file.
    """
    try:
        with open(path, "rb") as file:
            is_gzip = file.peek(2)[:2] == GZIP
        with gzip.open(path) if is_gzip else open(path, "rb") as file:
            while block := file.read(BLOCK):
                yield block
        yield b""
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is damaged or cut off ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
