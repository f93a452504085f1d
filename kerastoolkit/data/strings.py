"""Examples that are strings: held in memory, or read once into files on disk that are mapped into it."""

from __future__ import annotations

import hashlib
import json
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.corpus import corpora_folder, keep_whole
from kerastoolkit.data.splits import number_to_cut
from kerastoolkit.experiment import InputError, Source

FORMAT = 1  # of what is kept on disk; another number makes it anew
BATCH = 1_024  # rows that TensorFlow Datasets gives at once
BLOCK = 256  # examples that ``texts`` fetches at once
SEED = 20_160_502  # of the shuffling before a part is cut: files may be sorted


@dataclass(frozen=True)
class KeptStrings:
    """Rows of strings on disk.

    Attributes:
        columns: key -> the UTF-8 bytes of all rows, memory-mapped, and (rows + 1,) int64, where each begins.
        digests: (rows,) uint64, equal for equal rows: see ``row_digest``.
        facts: median_words by key, and counts of what was met with in reading.
    """

    columns: dict[str, tuple[np.ndarray, np.ndarray]]
    digests: np.ndarray
    facts: dict[str, Any]


def held_source(columns: dict[str, list[str]]) -> Source:
    """Examples whose strings are in memory: key (batch,) string for each key.

    The lists are let go of when their strings were handed to TensorFlow, at the first ``fetch``.
    """
    import tensorflow as tf

    keys, size = tuple(columns), len(next(iter(columns.values())))
    waiting, held, lock = dict(columns), {}, threading.Lock()
    del columns

    def tensors() -> dict[str, Any]:
        with lock, tf.init_scope(), tf.device("CPU:0"):
            while waiting:
                key, strings = waiting.popitem()
                held[key] = tf.constant(strings, tf.string)
        return held

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        strings = tensors()
        return {key: tf.gather(strings[key], indices) for key in keys}

    return Source(size, fetch)


def kept_strings(kept: Path, rows: Callable[[Counter[str]], Iterator[dict[str, str]]], *, name: str) -> KeptStrings:
    """The rows that are in the folder ``kept``, which is made where it is not there, whole or not at all.

    Args:
        kept: see ``kept_folder``.
        rows: gives the rows, texts that are not empty by key, and may count in what it is called with.
        name: what to call them in a message.
    Raises:
        InputError: there is no row, or what ``rows`` raises.
        RunError: the disk refuses it.
    """
    if not kept.is_dir():
        keep_whole(kept, lambda folder: _write(folder, rows, name), what="the texts", parents=True)
    facts = json.loads((kept / "facts.json").read_text("utf-8"))
    # As plain arrays: to cut a piece from a memmap takes ten times as long.
    columns = {key: (np.memmap(kept / f"{key}.txt", np.uint8, "r").view(np.ndarray), np.load(kept / f"{key}.npy"))
               for key in facts["median_words"]}  # fmt: skip
    return KeptStrings(columns, np.load(kept / "digests.npy"), facts)


def kept_folder(name: str, files: list[Path], *choices: Any) -> Path:
    """Where the strings of files are kept: another folder when a file changes or is read in another way."""
    found = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(json.dumps(["strings", FORMAT, choices, found]).encode()).hexdigest()[:16]
    return corpora_folder() / f"{name.replace('/', '-')[-50:]}-{digest}"  # a name has at most 255 bytes


def kept_source(strings: KeptStrings, rows: np.ndarray) -> Source:
    """Examples whose strings are read from disk: key (batch,) string for each key.

    Args:
        strings: where they are.
        rows: (examples,) integers, which of them.
    """
    import tensorflow as tf

    def read(indices: np.ndarray) -> list[np.ndarray]:
        chosen = rows[indices].tolist()
        return [np.array([texts[begins[row] : begins[row + 1]].tobytes() for row in chosen], object)
                for texts, begins in strings.columns.values()]  # fmt: skip

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        indices = tf.cast(indices, tf.int64)
        # Not stateful: it reads what nobody writes, and may run beside others.
        found = tf.numpy_function(read, [indices], [tf.string] * len(strings.columns), stateful=False)
        return {key: tf.ensure_shape(each, indices.shape) for key, each in zip(strings.columns, found, strict=True)}

    return Source(len(rows), fetch)


def prepared_strings(builder: Any, split: str, features: dict[str, str],
                     clean: Callable[[dict[str, str], Counter[str]], dict[str, str]],
                     *choices: Any) -> KeptStrings:  # fmt: skip
    """Texts of a prepared data set, kept where their places are known: TFRECORD files can only be read from their beginning.

    Rows of which a text is empty are left out and counted as ``left_out``.

    Args:
        builder: of TensorFlow Datasets, prepared.
        split: its name there.
        features: key -> what the builder calls that text.
        clean: evens out a row, and may count in the second that it is called with.
        choices: what else of the texts depends on, besides the files.
    Raises:
        InputError: there is no such text.
        RunError: the disk refuses it.
    """

    def rows(counts: Counter[str]) -> Iterator[dict[str, str]]:
        batches = builder.as_dataset(split=split, batch_size=BATCH)
        for batch in batches.map(lambda row: {key: row[feature] for key, feature in features.items()}).as_numpy_iterator():
            for texts in zip(*(batch[key] for key in features), strict=True):
                row = clean({key: text.decode() for key, text in zip(features, texts, strict=True)}, counts)
                if all(row.values()):
                    yield row
                else:
                    counts["left_out"] += 1

    name = f"{builder.info.full_name}:{split}"
    files = [Path(file) for file in builder.info.splits[split].filepaths]
    return kept_strings(kept_folder(name, files, features, *choices), rows, name=name)


def texts(source: Source, key: str) -> Iterator[str]:
    """The strings of one key of a split, in order, fetched in blocks: what a tokeniser is trained on.

    Args:
        source: a split of sentence pairs or of documents.
        key: ``source``, ``target``, ``document`` or ``summary``.
    """
    for start in range(0, source.size, BLOCK):
        for text in source.fetch(np.arange(start, min(start + BLOCK, source.size)))[key].numpy():
            yield text.decode()


def row_digest(*texts: str) -> int:
    """64 bits that are equal for equal texts, and for others practically never."""
    return int.from_bytes(hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest(), "little")


def cut(size: int, shares: dict[str, float], *, name: str) -> dict[str, np.ndarray]:
    """The numbers of the training examples and of what is cut from them, always the same, out of a shuffled order.

    Args:
        size: how many examples there are.
        shares: name of a split -> a fraction below 1, a count, or 0; of a fraction that is not 0, there is at least one example.
        name: what to call the data in a message.
    Raises:
        InputError: a share is wrong, or none is left for training.
    """
    counts = {split: number_to_cut(share, size, name=split) or int(share > 0) for split, share in shares.items()}
    if sum(counts.values()) >= size:
        wanted = " and ".join(f"{count:,} for {split}" for split, count in counts.items())
        raise InputError(f"{name}: {wanted} leave none of {size:,} examples for training")
    order = np.random.default_rng(SEED).permutation(size) if any(counts.values()) else np.arange(size)
    found, start = {}, 0
    for split, count in counts.items():
        found[split] = order[start : start + count]
        start += count
    return {"train": order[start:], **found}


def _write(folder: Path, rows: Callable[[Counter[str]], Iterator[dict[str, str]]], name: str) -> None:
    counts: Counter[str] = Counter()
    begins: dict[str, array] = {}
    words: dict[str, array] = {}
    digests = array("Q")
    with ExitStack() as open_files:
        files: dict[str, Any] = {}
        for row in rows(counts):
            for key, text in row.items():
                if key not in files:
                    files[key] = open_files.enter_context(open(folder / f"{key}.txt", "wb"))
                    begins[key], words[key] = array("q", [0]), array("l")
                begins[key].append(begins[key][-1] + files[key].write(text.encode()))
                words[key].append(len(text.split()))
            digests.append(row_digest(*row.values()))
    if not digests:
        raise InputError(f"{name}: there are no texts in it")
    for key, places in begins.items():
        np.save(folder / f"{key}.npy", np.array(places, np.int64))
    np.save(folder / "digests.npy", np.array(digests, np.uint64))
    facts = {"median_words": {key: int(np.median(each)) for key, each in words.items()}, "counts": dict(counts)}
    (folder / "facts.json").write_text(json.dumps(facts), "utf-8")
