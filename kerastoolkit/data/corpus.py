"""A text as numbers of its words: read once, block by block, into an array on disk, whatever its script or size."""

from __future__ import annotations

import codecs
import functools
import gzip
import hashlib
import json
import os
import shutil
import tempfile
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.experiment import InputError, RunError

FORMAT = 1  # of what is kept on disk; another number makes it anew
BLOCK = 1 << 23  # bytes that are read at once
LONGEST_WORD = 10_000  # characters; a longer run of letters is no text, and would be held in memory whole
GZIP = b"\x1f\x8b"
JOINERS = "\u200c\u200d"  # parts of words in Persian and in the scripts of India, though Unicode calls them format characters


@dataclass(frozen=True)
class Corpus:
    """The words of a text.

    Attributes:
        name: what it is called in tables.
        folder: where its arrays are kept; the same text is found there again.
        words: those that occur at least ``min_count`` times, the most frequent first.
        counts: (words,) int64, how often each occurs.
        tokens: (all words of the text,) int32, memory-mapped: places in ``words``; rarer words have larger numbers.
        min_count: see ``words``.
    """

    name: str
    folder: Path
    words: tuple[str, ...]
    counts: np.ndarray
    tokens: np.ndarray
    min_count: int


@functools.lru_cache(maxsize=4)
def read_corpus(path: str, *, name: str | None = None, min_count: int = 5, lower: bool = True) -> Corpus:
    """The words of a UTF-8 text file, or of all files in a folder and the folders inside, gzip or not.

    A word is a run of letters, marks and digits of any script; everything else parts words. Texts are brought to Unicode's
    composed form (NFC). Windows of words run across the ends of lines and files, as in text8.

    Args:
        path: a file, or a folder, whose files are read in the order of their names; hidden ones are left out.
        name: what to call it; by default the path.
        min_count: rarer words are not in the vocabulary: Mikolov et al. 2013, https://arxiv.org/abs/1301.3781, take 5.
        lower: whether capital letters become small ones.
    Raises:
        InputError: there is no such text, it is not UTF-8 (with file and line), or no word is frequent enough.
        RunError: what was read cannot be kept on disk.
    """
    if min_count < 1:
        raise InputError(f"min_count must be at least 1, got {min_count}")
    files = _files(path)
    kept = _kept_folder(path, files, lower)
    if not kept.is_dir():
        _keep(kept, files, lower)
    counts = np.load(kept / "counts.npy")
    known = int(np.searchsorted(-counts, -min_count, side="right"))
    if known < 2:
        raise InputError(f"{name or path}: at least 2 words must occur {min_count} times (min_count), got {known}")
    words = tuple((kept / "words.txt").read_text("utf-8").split("\n")[:known])
    return Corpus(name or path, kept, words, counts[:known], np.load(kept / "tokens.npy", mmap_mode="r"), min_count)


def _files(path: str) -> list[Path]:
    given = Path(path).expanduser()
    if given.is_dir():
        inside = (each for each in given.rglob("*") if each.is_file())
        files = sorted(each for each in inside if not any(part.startswith(".") for part in each.relative_to(given).parts))
        if not files:
            raise InputError(f"{path}: the folder has no files")
        return files
    if not given.is_file():
        raise InputError(f"there is no text {path}: neither a file nor a folder")
    return [given]


def corpora_folder() -> Path:
    """Where read texts are kept: beside the data sets of TensorFlow Datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser() / "kerastoolkit" / "corpora"


def _kept_folder(path: str, files: list[Path], lower: bool) -> Path:
    found = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(json.dumps([FORMAT, lower, found]).encode()).hexdigest()[:16]
    return corpora_folder() / f"{Path(path).expanduser().resolve().name}-{digest}"


def _keep(kept: Path, files: list[Path], lower: bool) -> None:
    """Reads the files into words.txt, counts.npy and tokens.npy; the folder appears whole or not at all."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        writing = Path(tempfile.mkdtemp(prefix=".reading-", dir=kept.parent))
        try:
            _number(writing, files, lower)
            os.chmod(writing, 0o755)
            try:
                os.rename(writing, kept)
            except OSError:
                if not kept.is_dir():  # else another process has read the same text meanwhile
                    raise
        finally:
            shutil.rmtree(writing, ignore_errors=True)
    except OSError as error:
        where = f"{kept.parent} ({error.strerror or error})"
        raise RunError(f"the words of the text cannot be kept in {where}; --data-dir names another place") from error


def _number(folder: Path, files: list[Path], lower: bool) -> None:
    numbers: dict[str, int] = defaultdict(count().__next__)  # in the order of their first occurrence
    counts = np.zeros(0, np.int64)
    total = 0
    first = folder / "first"
    with open(first, "wb") as out:
        for words in (words for file in files for words in words_of_file(file, lower=lower)):
            block = np.fromiter(map(numbers.__getitem__, words), np.int32, len(words))
            found = np.bincount(block, minlength=len(numbers))
            found[: len(counts)] += counts
            counts, total = found, total + len(block)
            block.tofile(out)
    if not total:
        raise InputError(f"{files[0] if len(files) == 1 else files[0].parent}: there is no word in the text")
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    tokens = np.lib.format.open_memmap(folder / "tokens.npy", mode="w+", dtype=np.int32, shape=(total,))
    before = np.memmap(first, np.int32, mode="r")
    for start in range(0, total, BLOCK):
        tokens[start : start + BLOCK] = rank[before[start : start + BLOCK]]
    tokens.flush()
    del before
    first.unlink()
    np.save(folder / "counts.npy", counts[order])
    all_words = list(numbers)
    (folder / "words.txt").write_text("\n".join(all_words[number] for number in order), "utf-8")


def words_of_file(path: Path, *, lower: bool) -> Iterator[list[str]]:
    """The words of a UTF-8 file, gzip or not, some thousands at a time, in order."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    separators, rest, line = _Separators(), "", 1
    for contents in _blocks(path):
        try:
            text = decoder.decode(contents, final=not contents)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            raise InputError(f"{path}, line {line}: must be UTF-8 text, got the byte 0x{error.object[error.start]:02x}") from None
        line += text.count("\n")
        # With what the block before left over, since a mark may compose with its last letter.
        text = unicodedata.normalize("NFC", rest + text).translate(separators)
        if contents:
            # The last word, and the marks that may follow it, can go on in the next block.
            end = text.rfind(" ")
            text, rest = text[: end + 1], text[end + 1 :]
            if len(rest) > LONGEST_WORD:
                raise InputError(f"{path}, line {line}: a word must have at most {LONGEST_WORD:,} characters")
        words = (text.lower() if lower else text).split()
        if words:
            yield words


def _blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and at its end an empty block."""
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
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


class _Separators(dict):
    """For ``str.translate``: what no word has becomes a space; each character is looked up once."""

    def __missing__(self, code: int) -> Any:
        character = chr(code)
        self[code] = code if unicodedata.category(character)[0] in "LMN" or character in JOINERS else " "
        return self[code]
