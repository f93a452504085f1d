"""Word vectors in files: the binary and the text format of word2vec, and GloVe's text, which has no header.

Sources: Mikolov et al. 2013, https://arxiv.org/abs/1301.3781, with its tool https://code.google.com/archive/p/word2vec/, whose
``word2vec.c`` defines both formats; GloVe, https://nlp.stanford.edu/projects/glove/. A file may come from anyone.
"""

import codecs
import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import keras
import numpy as np

MOST_DIMENSIONS = 100_000
# Where a damaged file has no end of a word or of a row, the search stops here. The row is 100,000 numbers of 40 characters.
LONGEST_WORD = 1 << 16
LONGEST_ROW = 1 << 22
SAMPLE_BYTES = 1 << 16
BLOCK_BYTES = 1 << 20
GZIP = b"\x1f\x8b"
MOST_INFLATION = 1032  # of DEFLATE, "Maximum Compression Factor" in https://zlib.net/zlib_tech.html
PACKED_NAMES = (".bz2", ".gz", ".lz4", ".xz", ".zst")
HEADER = re.compile(rb"\s*([+-]?\d+)\s+([+-]?\d+)\s*")
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def read_word_vectors(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    """The words of a file and their vectors, in the file's order.

    The format is found in the contents, whatever the name: gzip by its first two bytes; a header, which word2vec's formats
    have and GloVe's has not, by a first line of exactly two integers; word2vec's text by a first row that is a word and as
    many numbers as the header tells, or else by holding UTF-8 without control characters. Formats:
    https://code.google.com/archive/p/word2vec/ (Mikolov et al. 2013, https://arxiv.org/abs/1301.3781) and
    https://nlp.stanford.edu/projects/glove/.

    Numbers in text become the nearest double and then float32, as gensim and NumPy read them. Each row of text must end with
    a newline, without which its last digits may be missing. What cannot be seen is a GloVe file that lost whole rows at its
    end: it tells no count.

    Args:
        path: a file; nothing larger than it could hold is allocated on its header's word.

    Returns:
        words: they differ, and none is empty or has blanks of ASCII in it (U+00A0, which GloVe's words have, may be).
        vectors: (words, dimensions) float32, finite.

    Raises:
        ValueError: one line with the path, the row and the rule: no such file, an empty or damaged one, more or fewer rows
            than the header tells, a row of another length, what is no number or is not finite, a word that is not UTF-8,
            empty, with blanks or there twice. (This part of the package may not import ``InputError``, a ValueError too.)
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"word vectors must be an existing file, got {str(path)!r}")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.peek(2)[:2] != GZIP:
                return _read(file, size, packed=False)
            with gzip.open(file) as unpacked:
                return _read(unpacked, size * MOST_INFLATION, packed=True)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"word vectors: {path} cannot be read: {error}") from error
    except ValueError as error:
        raise ValueError(f"word vectors: {path}: {error}") from None


def write_word_vectors(path: str | os.PathLike, words: Sequence[str], vectors: np.ndarray, *, binary: bool) -> None:
    """Write word2vec's format (https://code.google.com/archive/p/word2vec/, Mikolov et al. 2013) as gensim writes it.

    ``read_word_vectors`` and gensim's ``KeyedVectors.load_word2vec_format`` give the same float32 bits back. In text each
    number is the shortest that does. An older file is replaced once the new one is whole and on the disk.

    Args:
        path: the file, in a folder that exists. It is not compressed, so its name must not end as if it were.
        words: (words,) of 1 to 65,536 bytes in UTF-8, without blanks of ASCII; no two are equal.
        vectors: (words, dimensions) real numbers, at least 1 by 1, at most 100,000 dimensions; they become float32.
        binary: whether numbers are written as their bytes (little-endian) rather than as text.

    Raises:
        ValueError: such a name, word or shape, or numbers that are not finite in float32. Nothing was written.
        OSError: the disk refused.
    """
    path, vectors = Path(path), np.asarray(vectors)
    if path.suffix in PACKED_NAMES:  # gensim would try to unpack it
        raise ValueError(f"word vectors are written uncompressed, so their file must not end in {path.suffix}, got {path}")
    if vectors.ndim != 2 or len(vectors) != len(words) or not len(words) or not 1 <= vectors.shape[1] <= MOST_DIMENSIONS:
        raise ValueError(
            f"vectors must have the shape (words, 1..{MOST_DIMENSIONS}) for at least 1 word, "
            f"got {vectors.shape} for {len(words)} words"
        )
    if vectors.dtype.kind not in "fiu":
        raise ValueError(f"vectors must be real numbers, got {vectors.dtype}")
    with np.errstate(over="ignore"):  # it becomes inf, which is refused
        vectors = vectors.astype("<f4", copy=False)
    _check_finite(vectors)
    row_of = {}
    for number, word in enumerate(words, 1):
        # A lone surrogate has no UTF-8; let through here, it is refused with all that is not UTF-8.
        _add_word(row_of, word.encode(errors="surrogatepass"), number)

    unfinished = path.with_name(f".writing-{path.name}")
    try:
        with open(unfinished, "wb") as file:
            file.write(b"%d %d\n" % vectors.shape)
            for word, vector in zip(row_of, vectors, strict=True):
                file.write(word.encode() + b" " + (vector.tobytes() if binary else _as_text(vector)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    # A rename is on the disk only when its folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def begin_with(network: keras.Model, words: Sequence[str], path: str | os.PathLike) -> int:
    """Puts the vectors of a file into a network's layer ``word_vectors``, for the words that both have; returns how many.

    Args:
        network: one of ``models.word_vectors``.
        words: in the order of the layer's rows.
        path: see ``read_word_vectors``.
    Raises:
        ValueError: as ``read_word_vectors``; the vectors have other dimensions, or no word is in both.
    """
    theirs, vectors = read_word_vectors(path)
    table = network.get_layer("word_vectors").embeddings
    if vectors.shape[1] != table.shape[1]:
        raise ValueError(f"word vectors: {path}: must have the network's {table.shape[1]} dimensions, got {vectors.shape[1]}")
    rows = {word: row for row, word in enumerate(theirs)}
    shared = [place for place, word in enumerate(words) if word in rows]
    if not shared:
        raise ValueError(f"word vectors: {path}: must have some of the vocabulary's {len(words):,} words, got none")
    values = keras.ops.convert_to_numpy(table).copy()
    values[shared] = vectors[[rows[words[place]] for place in shared]]
    table.assign(values)
    return len(shared)


def _as_text(vector: np.ndarray) -> bytes:
    numbers = [str(number) for number in vector]
    # A reader that rounds to double and then to float32 ends beside a few floats: 7.038531e-26 is such a shortest form.
    # Nine digits are too near their float for that.
    for place in np.flatnonzero(np.array(numbers, np.float32) != vector):
        numbers[place] = f"{vector[place]:.9g}"
    return " ".join(numbers).encode() + b"\n"


def _read(file: BinaryIO, most_bytes: int, *, packed: bool) -> tuple[list[str], np.ndarray]:
    """The words and vectors of an unpacked file of at most, or unless ``packed`` exactly, ``most_bytes``."""
    sample = file.read(SAMPLE_BYTES)
    if not sample.strip():
        raise ValueError(f"row 1: must be a word and its numbers, got {'blanks' if sample else 'an empty file'}")
    first, _, rest = sample.partition(b"\n")
    header = HEADER.fullmatch(first)
    if not header:
        file.seek(0)
        dimensions = max(0, len(file.readline(LONGEST_ROW).split()) - 1)
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise ValueError(f"row 1: must be a word and 1..{MOST_DIMENSIONS} numbers, got {dimensions} in {_short(first)}")
        file.seek(0)
        return _gather(_text_rows(file, None, dimensions), dimensions, 0)

    # Of twenty digits and more no file is; and Python refuses to turn thousands of them into a number.
    count, dimensions = (int(each) if len(each) < 20 else 0 for each in header.groups())
    if count < 1 or not 1 <= dimensions <= MOST_DIMENSIONS:
        raise ValueError(f"header: must be a count from 1 and 1..{MOST_DIMENSIONS} dimensions, got {_short(first)}")
    is_text = _is_text(rest, dimensions)
    # At the least a row is a letter, 2 bytes a number and a newline; in binary a letter, a blank and 4 bytes a number.
    least = count * ((2 if is_text else 4) * dimensions + 2)
    left = most_bytes - len(first) - 1
    if least > left:
        raise ValueError(
            f"header: {count} rows of {dimensions} dimensions are at least {least} bytes, "
            f"got {'at most ' if packed else ''}{max(0, left)} after it"
        )
    file.seek(len(first) + 1)
    rows = (_text_rows if is_text else _binary_rows)(file, count, dimensions)
    return _gather(rows, dimensions, 0 if packed else count)


def _is_text(rest: bytes, dimensions: int) -> bool:
    """Whether word2vec's text, not its binary format, follows the header; ``rest`` is the beginning of what follows."""
    line, newline, _ = rest.partition(b"\n")
    numbers = line.partition(b" ")[2].split()
    if newline and len(numbers) == dimensions and all(map(_is_number, numbers)):
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(rest)  # which forgives a letter that the sample's end cuts
    except UnicodeDecodeError:
        return False
    return not CONTROL.search(rest)


def _gather(rows: Iterator[tuple[bytes, np.ndarray]], dimensions: int, count: int) -> tuple[list[str], np.ndarray]:
    """All rows in one array; ``count`` is theirs, or 0 where nothing proves it: the array then grows with what is read."""
    words = {}
    vectors = np.empty((count or max(1, BLOCK_BYTES // (4 * dimensions)), dimensions), np.float32)
    with np.errstate(over="ignore"):  # 1e39 becomes inf, which is refused
        for number, (word, vector) in enumerate(rows, 1):
            _add_word(words, word, number)
            if number > len(vectors):
                vectors.resize((2 * len(vectors), dimensions), refcheck=False)
            vectors[number - 1] = vector
    vectors.resize((len(words), dimensions), refcheck=False)
    _check_finite(vectors)
    return list(words), vectors


def _binary_rows(file: BinaryIO, count: int, dimensions: int) -> Iterator[tuple[bytes, np.ndarray]]:
    """Word, blank and bytes of float32, ``count`` times. word2vec.c ends a row with a newline, and gensim does not."""
    width = 4 * dimensions
    buffer, start = b"", 0
    for number in range(1, count + 1):
        while (blank := buffer.find(b" ", start)) < 0 or len(buffer) - blank - 1 < width:
            if blank < 0 and len(buffer) - start > LONGEST_WORD:
                raise ValueError(f"row {number}: a word must have at most {LONGEST_WORD} bytes, got {_short(buffer[start:])}")
            more = file.read(BLOCK_BYTES)
            if not more:
                raise ValueError(
                    f"row {number}: must be a word, a blank and {width} bytes, as {count} rows must, "
                    f"got {len(buffer) - start} bytes"
                )
            buffer, start = buffer[start:] + more, 0
        yield buffer[start:blank].lstrip(b"\n"), np.frombuffer(buffer, "<f4", dimensions, blank + 1)
        start = blank + 1 + width
    more = buffer[start:].strip() or _beyond_blanks(file)
    if more:
        raise ValueError(f"row {count + 1}: must not be there after the header's {count} rows, got {_short(more)}")


def _text_rows(file: BinaryIO, count: int | None, dimensions: int) -> Iterator[tuple[bytes, np.ndarray]]:
    """Lines of a word and numbers, ``count`` of them; without a count, all lines there are."""
    number = 0
    while number != count and (line := file.readline(LONGEST_ROW)).strip():
        number += 1
        word, _, rest = line.partition(b" ")
        numbers = rest.split()
        if not line.endswith(b"\n"):
            raise ValueError(
                f"row {number}: must end with a newline within {LONGEST_ROW} bytes, or digits may be missing, "
                f"got {_short(line[-40:])} at its end"
            )
        if len(numbers) != dimensions:
            raise ValueError(f"row {number}: must be a word and {dimensions} numbers, got {len(numbers)} in {_short(line)}")
        try:
            vector = np.array(numbers, np.float32)
        except ValueError:
            vector = None
        if vector is None or b"_" in rest:
            wrong = next((each for each in numbers if not _is_number(each)), rest)
            raise ValueError(f"row {number}: must be a word and numbers, got {_short(wrong)}")
        yield word, vector
    more = _beyond_blanks(file)
    if more and number == count:
        raise ValueError(f"row {count + 1}: must not be there after the header's {count} rows, got {_short(more)}")
    if more:
        raise ValueError(f"row {number + 1}: must be a word and {dimensions} numbers, got a blank line before {_short(more)}")
    if count is not None and number < count:
        raise ValueError(f"row {number + 1}: must be there, as the header tells {count} rows, got the end of the file")


def _beyond_blanks(file: BinaryIO) -> bytes:
    """What comes first after blanks; nothing where only blanks are left, and then gzip's checksum at the end was right."""
    while block := file.read(BLOCK_BYTES):
        if found := block.strip():
            return found
    return b""


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return b"_" not in text  # 1_0 is a number in Python alone


def _add_word(words: dict[str, int], raw: bytes, number: int) -> None:
    """Put the word of row ``number`` (from 1) among those before it, each with its row."""
    if not 1 <= len(raw) <= LONGEST_WORD or raw.split() != [raw]:
        raise ValueError(f"row {number}: a word must be 1..{LONGEST_WORD} bytes without blanks, got {_short(raw)}")
    try:
        word = raw.decode()
    except UnicodeDecodeError:
        raise ValueError(f"row {number}: a word must be UTF-8, got {_short(raw)}") from None
    if word in words:
        raise ValueError(f"row {number}: words must differ, got {_short(word)} as in row {words[word]}")
    words[word] = number


def _check_finite(vectors: np.ndarray) -> None:
    for start in range(0, len(vectors), 1024):  # a mask of all numbers at once would be a quarter of their size
        wrong = np.argwhere(~np.isfinite(vectors[start : start + 1024]))
        if len(wrong):
            row, column = wrong[0]
            value = vectors[start + row, column]
            raise ValueError(f"row {start + row + 1}: numbers must be finite in float32, got {value} in dimension {column + 1}")


def _short(found: bytes | str) -> str:
    return repr(found) if len(found) <= 40 else f"{found[:40]!r}..."
