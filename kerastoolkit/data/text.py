"""Running text: named texts, and UTF-8 files of one's own in any script, cut into windows of characters."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.prepared import prepared_builder
from kerastoolkit.experiment import Data, InputError, Source, described

MOST_BYTES = 256_000_000  # held in memory as code points, four bytes each
PASSAGE = 2_048  # characters that are scored in one go; the state begins at zero in each


@described
def tiny_shakespeare(*, window: int = 128) -> Data:
    """Tiny Shakespeare: 1,115,394 characters of plays (Karpathy 2015), cut 90 / 5 / 5 % by TensorFlow Datasets.

    Args:
        window: characters that are predicted in one training example.
    """
    parts = []
    for split in ("train", "validation", "test"):
        rows = prepared_builder("tiny_shakespeare", None).as_dataset(split=split).as_numpy_iterator()
        parts.append("".join(row["text"].decode() for row in rows))
    return _data("tiny_shakespeare", parts, window)


@described
def sonnets(*, window: int = 128) -> Data:
    """A few of Shakespeare's sonnets (1609, public domain); comes with the package.

    Args:
        window: characters that are predicted in one training example.
    """
    return _split("sonnets", Path(__file__).parent / "sonnets.txt", window, 0.1, 0.1)


KNOWN = {"tiny_shakespeare": tiny_shakespeare, "sonnets": sonnets, "sample": sonnets}


@described
def text(data: str, window: int = 128, validation: float = 0.05, test: float = 0.05) -> Data:
    """A named text, ``sample`` (sonnets), or a UTF-8 file of one's own in any script.

    Raw examples: prompt (batch,) string. A training example has 2 * window + 1 characters, of which ``random_window`` takes
    window + 1; validation and test are cut into passages of up to 2,049 that overlap in one character, so that each character
    but the first is predicted once.

    Args:
        data: a name or a path.
        window: characters that are predicted in one training example.
        validation, test: shares of a file of one's own, cut from its end, in that order; a named text has its own.
    Raises:
        InputError: no such text, the file is not UTF-8, is too short or too large, or a share is wrong.
    """
    if window < 1:
        raise InputError(f"window must be at least 1, got {window}")
    if data in KNOWN:
        return KNOWN[data](window=window)
    if os.path.isfile(data):
        return _split(data, Path(data), window, validation, test)
    raise InputError(f"unknown text {data}: choose {', '.join(sorted(KNOWN))}, or a file of UTF-8 text")


def random_window(*, characters: int) -> Callable[..., dict[str, Any]]:
    """Augmentation: a window of the training example, beginning anywhere in it.

    Args:
        characters: its length; at most that of the examples.
    """

    def augment(raw: dict[str, Any], seeds: Any, fetch: Any) -> dict[str, Any]:
        import tensorflow as tf

        spare = tf.strings.length(raw["prompt"], unit="UTF8_CHAR") - characters + 1
        # 31 bits of a well mixed seed: as good as any random number.
        first = tf.math.floormod(tf.bitwise.bitwise_and(seeds[:, 0], 0x7FFFFFFF), tf.maximum(spare, 1))
        lengths = tf.fill(tf.shape(first), characters)
        return {**raw, "prompt": tf.strings.substr(raw["prompt"], first, lengths, unit="UTF8_CHAR")}

    return augment


def _split(name: str, path: Path, window: int, validation: float, test: float) -> Data:
    whole = read_text(path)
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise InputError(f"validation and test must be shares that leave some text for training, got {validation} and {test}")
    ends = [round(len(whole) * (1 - validation - test)), round(len(whole) * (1 - test))]
    return _data(name, [whole[: ends[0]], whole[ends[0] : ends[1]], whole[ends[1] :]], window)


def read_text(path: Path) -> str:
    """The file's text, with line ends as line feeds and without a byte order mark.

    Raises:
        InputError: it is not UTF-8 (with the line), or too large.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InputError(f"{path}: a text may have at most {MOST_BYTES:,} bytes, got {size:,}")
        contents = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return contents.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = contents[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: must be UTF-8 text, got the byte 0x{contents[error.start]:02x}") from None


def _data(name: str, parts: list[str], window: int) -> Data:
    if len(parts[0]) < 2 * window + 1:
        raise InputError(
            f"{name}: a window of {window} needs at least {2 * window + 1} characters to train on, got {len(parts[0])}"
        )
    characters = "".join(sorted(set(parts[0])))
    about = {"characters": characters, "window": window, "sizes": [len(part) for part in parts]}
    starts = np.arange(0, len(parts[0]) - 2 * window, window)
    train = _source(parts[0], starts, 2 * window + 1)
    held_out = [_source(part, np.arange(0, max(0, len(part) - 1), PASSAGE), PASSAGE + 1) for part in parts[1:]]
    return Data(name, train, *held_out, inputs=("prompt",), encoded=False, about=about)


def _source(part: str, starts: np.ndarray, length: int) -> Source:
    """Pieces of a text, as strings; the last is shorter where the text ends."""
    import tensorflow as tf

    @functools.cache
    def held() -> tuple[Any, Any]:
        with tf.init_scope(), tf.device("CPU:0"):
            codes = np.frombuffer(part.encode("utf-32-le"), np.int32)
            return tf.constant(codes), tf.constant(starts, tf.int64)

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        codes, firsts = held()
        begin = tf.gather(firsts, indices)
        places = begin[:, None] + tf.range(length, dtype=tf.int64)
        pieces = tf.gather(codes, tf.minimum(places, len(part) - 1))
        lengths = tf.minimum(tf.cast(length, tf.int64), len(part) - begin)
        return {"prompt": tf.strings.unicode_encode(tf.RaggedTensor.from_tensor(pieces, lengths=lengths), "UTF-8")}

    return Source(len(starts), fetch)
