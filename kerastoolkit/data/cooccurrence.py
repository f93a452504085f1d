"""How often the words of a text stand near one another: the counts that GloVe learns from, kept on disk."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from kerastoolkit.data.corpus import Corpus, keep_whole
from kerastoolkit.experiment import InputError

WIDEST = 20  # an int64 holds 4e10 pairs of neighbours, each lcm(1, ..., 20) = 232,792,560
LEAST_MEMORY = 1 << 16  # bytes
BLOCK = 1 << 15  # words, or cells of the table, that are taken at once: what is made of them stays in the processor's cache
RANGE = 1 << 18  # keys that are written out at once
WORD_BITS, DISTANCE_BITS = 29, 5  # a pair of ranks and a distance are 63 bits of a key
PAIR_MASK = 2 ** (2 * WORD_BITS) - 1
SEED = (0x2545F4914F6CDD1D, 0x1D8E4E27C47D124F)  # any large odd numbers; they decide the order of the entries
FILES = {"first": "<i4", "second": "<i4", "weight": "<f4"}


@dataclass(frozen=True)
class Counts:
    """The word-word co-occurrences X of a corpus: X_ij, equal to X_ji, is the sum of 1 / distance wherever j is near i.

    The order of the entries is random and always the same, so that any block of them is a fair sample: GloVe shuffles, too.

    Attributes:
        folder: where the arrays are kept.
        first, second: (entries,) int32, memory-mapped: places in ``Corpus.words``, first <= second, each pair of words once.
        weight: (entries,) float32, memory-mapped: X of the two; never 0.
    """

    folder: Path
    first: np.ndarray
    second: np.ndarray
    weight: np.ndarray


def cooccurrences(corpus: Corpus, *, window: int = 10, memory: int = 512 * 2**20) -> Counts:
    """The co-occurrences of GloVe (Pennington, Socher & Manning 2014, https://aclanthology.org/D14-1162/, sections 3 and 4.2).

    Rare words are dropped before distances are taken, and a word d places from itself adds 2 / d, once for either side; both
    as in the authors' program (https://github.com/stanfordnlp/GloVe). Its windows end with the line; these do not, as a
    ``Corpus`` has no lines. They are counted once and found again beside the corpus. Sums are exact until they are brought to
    float32, so that ``memory`` changes nothing but the time.

    Args:
        corpus: the words.
        window: words to the left and to the right that count as near, 1 to 20.
        memory: bytes that counting may hold, about. Meanwhile 8 bytes for each co-occurrence of rarer words lie on disk.
    Raises:
        InputError: the window or the memory is out of its range, or no two words are near each other.
        RunError: the counts cannot be kept on disk.
    """
    if not 1 <= window <= WIDEST:
        raise InputError(f"window must be from 1 to {WIDEST} words, got {window}")
    if memory < LEAST_MEMORY:
        raise InputError(f"memory must be at least {LEAST_MEMORY:,} bytes, got {memory:,}")
    kept = corpus.folder / f"cooccurrences-{corpus.min_count}-{window}"
    if not kept.is_dir():
        keep_whole(kept, lambda folder: _count(folder, corpus, window, memory), what="the co-occurrences")
    return Counts(kept, **{name: np.memmap(kept / name, dtype, mode="r") for name, dtype in FILES.items()})


def _count(folder: Path, corpus: Corpus, window: int, memory: int) -> None:
    """Writes the files first, second and weight: adds pairs of frequent words up in a table, sorts the others by keys, and then
    writes all in the order of the keys.

    A sum is a whole number of 1 / lcm(1, ..., window), as 1 / distance is for every distance: exact in any order of summation.
    """
    scale = math.lcm(*range(1, window + 1))
    units = scale // np.arange(1, window + 1)
    row, limit, cells = _table(len(corpus.words), memory // 16 // 8)
    table = np.zeros(cells, np.int64)
    keys = _Keys(folder / "keys", min(len(corpus.tokens) * window + cells, memory // 2 // 8))
    for ranks, old in _blocks(corpus, window):
        for distance in range(1, window + 1):
            right = ranks[max(old, distance) :]
            left = ranks[max(old - distance, 0) :][: len(right)]
            low, high = np.minimum(left, right), np.maximum(left, right)
            outside = np.flatnonzero(low * high > limit)
            cell = row[low] + high
            cell[outside] = 0  # which is not read: cheaper than taking the others out
            np.add.at(table, cell, units[distance - 1])
            keys.add(_key(low[outside], high[outside]) + (distance - 1))
    begins = row[1:] + np.arange(1, len(row))
    for start in range(1, cells, BLOCK):
        cell = np.flatnonzero(table[start : start + BLOCK]) + start
        low = np.searchsorted(begins, cell, side="right")
        keys.add(_key(low, cell - row[low]))
    if not keys.filled and not keys.ends[-1]:
        raise InputError(f"{corpus.name}: at least two words of the text must be in the vocabulary")
    with open(folder / "first", "wb") as first, open(folder / "second", "wb") as second, open(folder / "weight", "wb") as weight:
        for each in keys.ascending(min(RANGE, memory // 128)):  # a key and what is made of it take about 100 bytes
            pair = each >> DISTANCE_BITS
            starts = np.flatnonzero(np.concatenate([[True], pair[1:] != pair[:-1]]))
            low, high = _ranks(each[starts])
            sums = np.add.reduceat(units[each & (2**DISTANCE_BITS - 1)], starts)
            inside = low * high <= limit
            sums[inside] = table[(row[low] + high)[inside]]
            sums[low == high] *= 2
            first.write((low - 1).astype("<i4"))
            second.write((high - 1).astype("<i4"))
            weight.write((sums / scale).astype("<f4"))
    keys.path.unlink(missing_ok=True)


def _table(known: int, most: int) -> tuple[np.ndarray, int, int]:
    """Which pairs have a cell in a table of ``most`` cells, and where: as in GloVe those whose ranks have a small product.

    Returns:
        row, limit, cells: the pair low <= high, where low * high <= limit, has the cell row[low] + high, from 1 to cells - 1.
    """
    ranks = np.arange(1, known + 1)

    def widths(limit: int) -> np.ndarray:
        return np.clip(limit // ranks, ranks - 1, known) - (ranks - 1)

    limit = bisect.bisect_right(range(known**2 + 1), most - 1, key=lambda limit: int(widths(limit).sum())) - 1
    ends = 1 + np.cumsum(widths(limit))
    return np.concatenate([[0], ends - widths(limit) - ranks]), limit, int(ends[-1])


def _blocks(corpus: Corpus, window: int) -> Iterator[tuple[np.ndarray, int]]:
    """The ranks, from 1, of the words in the vocabulary, block by block, each with as many before it as are within its windows.

    Yields:
        ranks (words,) int64, and how many were in the block before.
    """
    ranks = np.zeros(0, np.int64)
    for start in range(0, len(corpus.tokens), BLOCK):
        block = corpus.tokens[start : start + BLOCK]
        before = ranks[-window:]
        ranks = np.concatenate([before, block[block < len(corpus.words)] + 1])
        yield ranks, len(before)


def _key(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Pairs of ranks as uint64 whose last DISTANCE_BITS are 0: one for each, mixed so that their order is as good as random."""
    pair = (low.astype(np.uint64) << WORD_BITS) | high.astype(np.uint64)
    for odd in SEED:
        pair *= odd
        pair &= PAIR_MASK
        pair ^= pair >> WORD_BITS
    return pair << DISTANCE_BITS


def _ranks(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The low and the high, int64, that ``_key`` was made of."""
    pair = key >> DISTANCE_BITS
    for odd in reversed(SEED):
        pair ^= pair >> WORD_BITS  # undoes itself, since it is half of the bits
        pair *= pow(odd, -1, PAIR_MASK + 1)
        pair &= PAIR_MASK
    return (pair >> WORD_BITS).astype(np.int64), (pair & (2**WORD_BITS - 1)).astype(np.int64)


class _Keys:
    """Any number of keys, to be read in ascending order: if more than ``most``, they lie on disk in sorted runs of so many."""

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        self.held = np.empty(most, np.uint64)
        self.filled = 0
        self.ends = [0]  # of the runs

    def add(self, keys: np.ndarray) -> None:
        while len(keys):
            if self.filled == len(self.held):
                self._spill()
            part = keys[: len(self.held) - self.filled]
            self.held[self.filled : self.filled + len(part)] = part
            self.filled += len(part)
            keys = keys[len(part) :]

    def _spill(self) -> None:
        run = self.held[: self.filled]
        run.sort()
        with open(self.path, "ab") as file:
            file.write(run)
        self.ends.append(self.ends[-1] + self.filled)
        self.filled = 0

    def ascending(self, most: int) -> Iterator[np.ndarray]:
        """All keys, about ``most`` at a time, those of a pair together; nothing can be added any more."""
        # Mixed as they are, keys fall evenly into ranges; those of a pair into one, since they differ in their last bits alone.
        ranges = -(-(self.ends[-1] + self.filled) // most)
        bounds = np.array([part * (PAIR_MASK + 1) // ranges << DISTANCE_BITS for part in range(1, ranges)], np.uint64)
        if len(self.ends) == 1:  # all are held
            run = self.held[: self.filled]
            run.sort()
            yield from filter(len, np.split(run, np.searchsorted(run, bounds)))
            return
        self._spill()
        self.held = self.held[:0].copy()  # gives the memory back
        edges = []
        for first, last in pairwise(self.ends):
            run = np.memmap(self.path, np.uint64, mode="r", offset=first * 8, shape=(last - first,))
            edges.append(first + np.concatenate([[0], np.searchsorted(run, bounds), [len(run)]]))
        with open(self.path, "rb") as file:
            for part in range(ranges):
                pieces = []
                for start, end in (each[part : part + 2].tolist() for each in edges):
                    file.seek(start * 8)
                    pieces.append(np.fromfile(file, np.uint64, end - start))
                keys = np.concatenate(pieces)
                keys.sort()
                if len(keys):
                    yield keys
