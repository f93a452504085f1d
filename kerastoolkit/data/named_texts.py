"""Texts that have a name: text8, and a small one that comes with the package."""

from __future__ import annotations

import http.client
import os
import shutil
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from kerastoolkit.data.corpus import corpora_folder
from kerastoolkit.experiment import InputError, may_fetch

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

    def write(unpacked: Path) -> None:
        packed = unpacked.with_name("text8.zip")
        download(URL, packed)
        with zipfile.ZipFile(packed) as archive, archive.open("text8") as source, open(unpacked, "wb") as file:
            # No more than is announced, whatever the archive holds.
            file.write(source.read(SIZE + 1))
        if unpacked.stat().st_size != SIZE:
            raise InputError(f"{URL}: text8 must have {SIZE:,} bytes, got {unpacked.stat().st_size:,}")

    fetch_whole(path, write, url=URL, instead="--data takes a text of your own")


def fetch_whole(path: Path, write: Callable[[Path], None], *, url: str, instead: str) -> None:
    """Fetches a file or a folder, which appears whole or not at all.

    Args:
        path: where it is to be.
        write: called with the path, in a temporary folder, at which it is to download it.
        url: what it is fetched from, for the message.
        instead: what a person can do without it, for the message.
    Raises:
        InputError: it cannot be fetched, or may not.
    """
    if not may_fetch():
        raise InputError(f"{path.name} is not in {path.parent}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=path.parent) as temporary:
            fetched = Path(temporary) / path.name
            write(fetched)
            try:
                os.replace(fetched, path)
            except OSError:
                if not path.is_dir():  # a folder that another process fetched meanwhile
                    raise
    except (OSError, http.client.HTTPException, zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise InputError(
            f"{path.name} is not in {path.parent} and {url} cannot be fetched ({getattr(error, 'reason', None) or error});"
            f" {instead}, and --data sample needs no download"
        ) from None


def download(url: str, path: Path) -> None:
    """Writes what a server sends to a new file."""
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, open(path, "wb") as file:
        shutil.copyfileobj(answer, file)
