"""A text as numbers of its words: read once, block by block, into an array on disk, whatever its script or size."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import shutil
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data import file_blocks
from kerastoolkit.experiment import InputError, RunError

FORMAT = 1  # of what is kept on disk; another number makes it anew
LONGEST_WORD = 10_000  # characters; a longer run of letters is no text, and would be held in memory whole
WITHOUT_LETTER = re.compile(r" [^\w ]+")  # marks and joiners that follow no letter or digit, as those between emoji
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


def read_corpus(path: str, *, name: str | None = None, min_count: int = 5, lower: bool = True) -> Corpus:
    """The words of a UTF-8 text file, or of all files in a folder and the folders inside, gzip or not.

    A word is a run of letters, marks and digits of any script that begins with a letter or digit; everything else parts words.
    Texts are brought to Unicode's composed form (NFC). Windows of words run across the ends of lines and files, as in text8.

    Args:
        path: a file, or a folder, whose files are read in the order of their names; hidden ones are left out.
        name: what to call it; by default the path.
        min_count: rarer words are not in the vocabulary: Mikolov et al. 2013, https://arxiv.org/abs/1301.3781, take 5.
        lower: whether capital letters become small ones.
    Raises:
        InputError: there is no such text, it is not UTF-8 (with file and line), a word is too long, or too few are frequent.
        RunError: what was read cannot be kept on disk.
    """
    if min_count < 1:
        raise InputError(f"min_count must be at least 1, got {min_count}")
    files = text_files(path)
    kept = _kept_folder(path, files, lower)
    if not kept.is_dir():
        keep_whole(kept, lambda folder: _number(folder, files, lower), what="the words of the text", parents=True)
    counts = np.load(kept / "counts.npy")
    known = int(np.searchsorted(-counts, -min_count, side="right"))
    if known < 2:
        raise InputError(f"{name or path}: at least 2 words must occur {min_count} times (min_count), got {known}")
    words = tuple((kept / "words.txt").read_text("utf-8").split("\n")[:known])
    return Corpus(name or path, kept, words, counts[:known], np.load(kept / "tokens.npy", mmap_mode="r"), min_count)


def text_files(path: str) -> list[Path]:
    """The file itself, or all files in a folder and the folders inside, in the order of their names; hidden ones are left out."""
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
    return corpora_folder() / f"{Path(path).expanduser().resolve().name[:50]}-{digest}"  # a name has at most 255 bytes


def keep_whole(kept: Path, write: Callable[[Path], None], *, what: str, parents: bool = False) -> None:
    """Makes a folder whose files ``write`` writes; it appears whole or not at all, also after a power cut.

    Args:
        kept: the folder; one that another process made meanwhile is left as it is.
        write: called with a temporary folder.
        what: what the files hold, for the message.
        parents: whether the folders above it are made where they are missing.
    Raises:
        RunError: the disk refuses it.
    """
    try:
        if parents:
            kept.parent.mkdir(parents=True, exist_ok=True)
        writing = Path(tempfile.mkdtemp(prefix=".writing-", dir=kept.parent))
        try:
            write(writing)
            for file in writing.iterdir():  # before the folder gets its name, lest a power cut leave it with zeros
                with open(file, "rb") as written:
                    os.fsync(written.fileno())
            os.chmod(writing, 0o755)
            try:
                os.rename(writing, kept)
            except OSError:
                if not kept.is_dir():
                    raise
        finally:
            shutil.rmtree(writing, ignore_errors=True)
    except OSError as error:
        where = f"{kept.parent} ({error.strerror or error})"
        raise RunError(f"{what} cannot be kept in {where}; --data-dir names another place") from error


def _number(folder: Path, files: list[Path], lower: bool) -> None:
    """Reads the files into words.txt, counts.npy and tokens.npy."""
    numbers: dict[str, int] = defaultdict(count().__next__)  # in the order of their first occurrence
    total = 0
    first = folder / "first"
    with open(first, "wb") as out:
        for words in (words for file in files for words in words_of_file(file, lower=lower)):
            block = np.fromiter(map(numbers.__getitem__, words), np.int32, len(words))
            total += len(block)
            out.write(block)
    if not total:
        raise InputError(f"{os.path.commonpath(files) or '.'}: there is no word in the text")
    before = np.memmap(first, np.int32, mode="r")
    # Not while reading: a folder may have more files than a block has words.
    counts = np.zeros(len(numbers), np.int64)
    for start in range(0, total, file_blocks.BLOCK):
        counts += np.bincount(before[start : start + file_blocks.BLOCK], minlength=len(counts))
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    # Not through a memory map, where a full disk would kill the process.
    with open(folder / "tokens.npy", "wb") as out:
        np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(before))
        for start in range(0, total, file_blocks.BLOCK):
            out.write(rank[before[start : start + file_blocks.BLOCK]])
    del before
    first.unlink()
    np.save(folder / "counts.npy", counts[order])
    all_words = list(numbers)
    (folder / "words.txt").write_text("\n".join(all_words[number] for number in order), "utf-8")


def words_of_file(path: Path, *, lower: bool) -> Iterator[list[str]]:
    """The words of a UTF-8 file, gzip or not, in order, block by block."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    separators, rest, line = _Separators(), "", 1
    for contents in file_blocks.file_blocks(path):
        try:
            text = decoder.decode(contents, final=not contents)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            raise InputError(f"{path}, line {line}: must be UTF-8 text, got the byte 0x{error.object[error.start]:02x}") from None
        line += text.count("\n")
        # With what the block before left over, since a mark may compose with its last letter.
        text = unicodedata.normalize("NFC", rest + text).translate(separators)
        _check_lengths(path, text)
        if contents:
            # The last word, and the marks that may follow it, can go on in the next block.
            end = text.rfind(" ")
            text, rest = text[: end + 1], text[end + 1 :]
        text = WITHOUT_LETTER.sub(" ", " " + text)
        words = (text.lower() if lower else text).split()
        if words:
            yield words


def _check_lengths(path: Path, text: str) -> None:
    for place in range(0, len(text), LONGEST_WORD):  # every longer word has one of these places
        begin, end = text.rfind(" ", 0, place) + 1, text.find(" ", place)
        if (end if end >= 0 else len(text)) - begin > LONGEST_WORD:
            got = f"got one that begins with {text[begin : begin + 20]}"
            raise InputError(f"{path}: a word must have at most {LONGEST_WORD:,} characters, {got}")


class _Separators(dict):
    """For ``str.translate``: what no word has becomes a space; each character is looked up once."""

    def __missing__(self, code: int) -> Any:
        character = chr(code)
        self[code] = code if unicodedata.category(character)[0] in "LMN" or character in JOINERS else " "
        return self[code]
