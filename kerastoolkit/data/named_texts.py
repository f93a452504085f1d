"""Texts that have a name: text8, and a small one that comes with the package."""

from __future__ import annotations

import http.client
import os
import shutil
import tempfile
import urllib.request
import zipfile
import zlib
from pathlib import Path

from kerastoolkit.data.corpus import corpora_folder
from kerastoolkit.experiment import InputError

URL = "http://mattmahoney.net/dc/text8.zip"
SIZE = 100_000_000  # bytes of the unpacked file
TIMEOUT = 30  # seconds without a byte


def text8_file() -> Path:
    """text8: the first 100 million letters of Wikipedia of March 2006, small letters and spaces (Mahoney, http://mattmahoney.net/dc/textdata).

    Fetched once, 31 MB, to where read texts are kept.

    Raises:
        InputError: it is not there and cannot be fetched.
    """
    path = corpora_folder().parent / "text8"
    if not path.is_file():
        _fetch(path)
    return path


def _sonnets() -> Path:
    return Path(__file__).parent / "sonnets.txt"


KNOWN = {"text8": text8_file, "sonnets": _sonnets, "sample": _sonnets}


def _fetch(path: Path) -> None:
    """Downloads and unpacks to ``path``, which appears whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=path.parent) as temporary:
            packed, unpacked = Path(temporary) / "text8.zip", Path(temporary) / "text8"
            with urllib.request.urlopen(URL, timeout=TIMEOUT) as answer, open(packed, "wb") as file:
                shutil.copyfileobj(answer, file)
            with zipfile.ZipFile(packed) as archive, archive.open("text8") as source, open(unpacked, "wb") as file:
                # No more than is announced, whatever the archive holds.
                file.write(source.read(SIZE + 1))
            if unpacked.stat().st_size != SIZE:
                raise InputError(f"{URL}: text8 must have {SIZE:,} bytes, got {unpacked.stat().st_size:,}")
            os.replace(unpacked, path)
    except (OSError, http.client.HTTPException, zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise InputError(
            f"text8 is not in {path.parent} and {URL} cannot be fetched ({getattr(error, 'reason', None) or error});"
            " --data takes a text of your own, and --data sample needs no download"
        ) from None
