import gzip
import os
import re
import tracemalloc
from pathlib import Path

import gensim
import numpy as np
import pytest
from gensim.models import KeyedVectors

from kerastoolkit.weights import word_vectors
from kerastoolkit.weights.word_vectors import read_word_vectors, write_word_vectors

PUBLISHED = Path(gensim.__file__).parent / "test" / "test_data"
WORDS = ["the", "한국어", "낱말", "</s>", "non\u00a0breaking", "1999", "-0.5"]
# What is hard to write: the largest, the smallest, a negative zero, and a float whose shortest form rounds wrongly by way
# of double.
EDGES = np.array([3.4028235e38, -1.1754944e-38, 1e-45, -0.0, 0.1, 16777216.0], np.float32)
EDGES = np.append(EDGES, np.array([0x15AE43FD], np.uint32).view(np.float32))

KINDS = ["binary", "binary with newlines", "text", "text with blanks", "glove"]
COUNTED = [kind for kind in KINDS if kind != "glove"]


def vectors(words, dimensions, seed=0):
    return np.random.default_rng(seed).normal(size=(words, dimensions)).astype(np.float32)


def contents(kind, words, rows):
    """A file's bytes, written here as slowly and plainly as the formats are defined."""
    parts = [] if kind == "glove" else [b"%d %d\n" % rows.shape]
    for word, row in zip(words, rows, strict=True):
        numbers = row.astype("<f4").tobytes() if kind.startswith("binary") else " ".join(f"{x:.9g}" for x in row).encode()
        end = {"binary": b"", "binary with newlines": b"\n", "text with blanks": b" \n"}.get(kind, b"\n")
        parts.append(word.encode() + b" " + numbers + end)
    return b"".join(parts)


def file(path, data):
    path.write_bytes(data)
    return path


def gensims(words, rows):
    keyed = KeyedVectors(rows.shape[1])
    keyed.add_vectors(words, rows)
    return keyed


def same_bits(first, second):
    return first.dtype == second.dtype == np.float32 and np.array_equal(first.view(np.uint32), second.view(np.uint32))


def refused(path, data, rule):
    """Whether a file is refused in one line that names it and what the rule says."""
    with pytest.raises(ValueError) as caught:
        read_word_vectors(file(path, data))
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and len(message) < 300 + len(str(path)), message
    assert re.search(rule, message), message
    return True


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_packed_or_not_is_told_by_its_contents_and_gives_every_bit(tmp_path, kind, packed):
    rows = np.concatenate([vectors(6, len(EDGES)), EDGES[None]])
    rows[rows == EDGES[-1]] *= 1.5  # of the numbers written here plainly, none is read by way of double to another
    data = contents(kind, WORDS, rows)
    words, read = read_word_vectors(file(tmp_path / "no.ending", gzip.compress(data) if packed else data))
    assert words == WORDS
    assert same_bits(read, rows)


def test_a_binary_file_that_is_ascii_throughout_is_no_text(tmp_path):
    rows = np.array([[0.5, 2.0], [0.0, 8.0]], np.float32)
    data = contents("binary", ["a", "b"], rows)
    assert data.isascii()
    assert same_bits(read_word_vectors(file(tmp_path / "vectors", data))[1], rows)


@pytest.mark.parametrize("name", ["vectors.bin", "vectors.txt", "vectors.bin.gz", "vectors.txt.gz", "vectors.glove"])
def test_a_file_of_gensim_is_read_to_the_bits_that_gensim_reads(tmp_path, name):
    rows = vectors(len(WORDS), 20)
    path = tmp_path / name
    gensims(WORDS, rows).save_word2vec_format(path, binary=".bin" in name, write_header=".glove" not in name)
    words, read = read_word_vectors(path)
    assert words == WORDS
    assert same_bits(read, rows)


@pytest.mark.parametrize("name", ["euclidean_vectors.bin", "poincare_vectors.bin", "high_precision.kv.bin",
                                  "high_precision.kv.txt", "lee_fasttext.vec", "test_glove.txt"])  # fmt: skip
def test_published_files_are_read_to_the_bits_that_gensim_reads(name):
    words, read = read_word_vectors(PUBLISHED / name)
    theirs = KeyedVectors.load_word2vec_format(PUBLISHED / name, binary=".bin" in name, no_header="glove" in name)
    assert words == theirs.index_to_key
    assert same_bits(read, theirs.vectors)


@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_what_is_written_to_the_same_bits_and_so_does_this(tmp_path, binary):
    rows = np.concatenate([vectors(6, len(EDGES)), EDGES[None]])
    path = tmp_path / "vectors"
    write_word_vectors(path, WORDS, rows, binary=binary)
    theirs = KeyedVectors.load_word2vec_format(path, binary=binary)
    words, read = read_word_vectors(path)
    assert words == theirs.index_to_key == WORDS
    assert same_bits(theirs.vectors, rows)
    assert same_bits(read, rows)


@pytest.mark.parametrize("binary", [False, True])
def test_what_is_written_is_byte_for_byte_gensims_file(tmp_path, binary):
    rows = vectors(len(WORDS), 20)
    gensims(WORDS, rows).save_word2vec_format(tmp_path / "theirs", binary=binary)
    write_word_vectors(tmp_path / "ours", WORDS, rows.astype(np.float64), binary=binary)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_floats_of_any_bits_come_back_from_text(tmp_path):
    bits = np.random.default_rng(1).integers(0, 1 << 32, 20_000, dtype=np.uint32).view(np.float32)
    rows = np.resize(bits[np.isfinite(bits)], (190, 100))
    write_word_vectors(tmp_path / "vectors", [f"word{i}" for i in range(190)], rows, binary=False)
    assert same_bits(read_word_vectors(tmp_path / "vectors")[1], rows)
    assert same_bits(KeyedVectors.load_word2vec_format(tmp_path / "vectors").vectors, rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_rows_that_need_many_blocks_are_all_read(tmp_path, monkeypatch, kind, packed):
    monkeypatch.setattr(word_vectors, "BLOCK_BYTES", 100)
    names, rows = [f"낱말{i}" for i in range(1500)], vectors(1500, 9)
    data = contents(kind, names, rows)
    words, read = read_word_vectors(file(tmp_path / "vectors", gzip.compress(data) if packed else data))
    assert words == names
    assert same_bits(read, rows)


def test_the_most_dimensions_are_read_and_one_more_is_refused(tmp_path):
    for kind in KINDS:
        most = np.full((1, 100_000), -1.1754944e-38, np.float32)
        assert same_bits(read_word_vectors(file(tmp_path / "most", contents(kind, ["a"], most)))[1], most)
        assert refused(tmp_path / "more", contents(kind, ["a"], np.full((1, 100_001), 0.1)), r"1\.\.100000 .*, got .*100001")


@pytest.mark.parametrize("kind", COUNTED)
def test_blanks_after_the_last_row_are_no_rows(tmp_path, kind):
    data = contents(kind, ["a", "b"], vectors(2, 3)) + b"\n \r\n"
    assert read_word_vectors(file(tmp_path / "vectors", data))[0] == ["a", "b"]


def test_lines_that_end_as_on_windows_are_read(tmp_path):
    data = contents("text", ["a", "b"], vectors(2, 3)).replace(b"\n", b"\r\n")
    words, read = read_word_vectors(file(tmp_path / "vectors", data))
    assert words == ["a", "b"]
    assert same_bits(read, vectors(2, 3))


@pytest.mark.parametrize("first", ["2000 1 2", "2000 1.0", "2000 1e3", "년 2"])
def test_a_first_row_that_is_not_two_integers_is_no_header(tmp_path, first):
    second = "word " + " ".join(first.split()[1:])
    words, read = read_word_vectors(file(tmp_path / "vectors", f"{first}\n{second}\n".encode()))
    assert words == [first.split()[0], "word"]
    assert read.tolist() == [[float(each) for each in first.split()[1:]]] * 2


@pytest.mark.parametrize("kind", COUNTED)
def test_a_file_cut_at_any_byte_is_refused_or_whole(tmp_path, kind):
    words, rows = ["the", "한국어", "z"], vectors(3, 2)
    data = contents(kind, words, rows)
    for end in range(len(data)):
        if kind == "binary with newlines" and end == len(data) - 1:  # the last newline ends no number here
            assert same_bits(read_word_vectors(file(tmp_path / "cut", data[:end]))[1], rows)
        else:
            assert refused(tmp_path / "cut", data[:end], r"row [123]: must|header: "), end


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_file_cut_at_any_byte_is_refused(tmp_path, kind):
    data = gzip.compress(contents(kind, ["the", "한국어", "z"], vectors(3, 2)))
    for end in range(len(data)):
        assert refused(tmp_path / "cut", data[:end], "cannot be read: |row 1: "), end


def test_a_glove_file_cut_within_a_row_is_refused_and_cut_after_a_row_is_a_file_of_the_rows_before(tmp_path):
    words, rows = ["the", "한국어", "z"], vectors(3, 2)
    data = contents("glove", words, rows)
    whole = 0
    for end in range(len(data)):
        if data[:end].endswith(b"\n"):
            whole += 1
            read = read_word_vectors(file(tmp_path / "cut", data[:end]))
            assert read[0] == words[:whole] and same_bits(read[1], rows[:whole])
        else:
            assert refused(tmp_path / "cut", data[:end], r"row [123]: must"), end
    assert whole == 2


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("told", [2, 4])
def test_more_or_fewer_rows_than_the_header_tells_are_refused(tmp_path, kind, packed, told):
    data = contents(kind, ["a" * 30, "b" * 30, "c" * 30], vectors(3, 2)).replace(b"3 2", b"%d 2" % told, 1)
    rule = "row 3: must not be there after the header's 2 rows, got b'c" if told == 2 else "row 4: must be"
    assert refused(tmp_path / "vectors", gzip.compress(data) if packed else data, rule)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "row 1: .*got an empty file"),
        (gzip.compress(b"", mtime=0), "row 1: .*got an empty file"),
        (b" \n\n", "row 1: .*got blanks"),
        (b"0 300\n", "header: must be a count from 1 .*got b'0 300'"),
        (b"-1 300\n", "header: .*got b'-1 300'"),
        (b"2 0\na\nb\n", r"header: .*1\.\.100000 dimensions, got b'2 0'"),
        (b"1 100001\n", "header: .*got b'1 100001'"),
        (b"9" * 5000 + b" 300\n", "header: .*got b'999"),
        (b"word\n", "row 1: must be a word and 1.*got 0 in b'word"),
        (b"a 1 2\nb 1\n", "row 2: must be a word and 2 numbers, got 1 in b'b 1"),
        (b"a 1 2\nb 1 2 3\n", "row 2: must be a word and 2 numbers, got 3"),
        (b"2 2\na 1 2 3\nb 1 2 3\n", "row 1: must be a word and 2 numbers, got 3"),
        (b"2 2\na 1 2\nb\t1 2\n", "row 2: must be a word and 2 numbers, got 1"),
        (b"2 2\na 1 2\n\nb 1 2\n", "row 2: .*got a blank line before b'b 1 2'"),
        (b"a 1 2\n\nb 1 2\n", "row 2: .*got a blank line before b'b 1 2'"),
        (b"a 1 2\nb 1 x2\n", "row 2: must be a word and numbers, got b'x2'"),
        (b"1 2\na 0.1 x.2\n", r"row 1: must be a word and numbers, got b'x\.2'"),
        (b"a 1 1_0\n", "row 1: must be a word and numbers, got b'1_0'"),
        (b"a 1 0x1\n", "row 1: must be a word and numbers, got b'0x1'"),
        (b"a 1 1,5\n", "row 1: must be a word and numbers, got b'1,5'"),
        (b"a 1 " + b"x" * 10_000 + b"\n", r"row 1: must be a word and numbers, got b'x{40}'\.\.\."),
        (b"a 1 2\nb 1 nan\n", "row 2: numbers must be finite in float32, got nan in dimension 2"),
        (b"a 1 2\nb -inf 1\n", "row 2: numbers must be finite in float32, got -inf in dimension 1"),
        (b"a 1 2\nb 1 1e39\n", "row 2: numbers must be finite in float32, got inf in dimension 2"),
        (b"a 1 2\na 3 4\n", "row 2: words must differ, got 'a' as in row 1"),
        (b"a 1 2\n\xed\x95 3 4\n", r"row 2: a word must be UTF-8, got b'\\xed\\x95'"),
        (b"2 2\na 1 2\n\xed\x95 3 4\n", r"row 2: a word must be UTF-8, got b'\\xed\\x95'"),
        (b"a 1 2\n 3 4\n", r"row 2: a word must be 1\.\.65536 bytes without blanks, got b''"),
        (b"a 1 2\nb\tc 3 4\n", r"row 2: a word must be 1\.\.65536 bytes without blanks, got b'b\\tc'"),
        (b"a" * 65537 + b" 1 2\n", r"row 1: a word must be 1\.\.65536 bytes"),
        (b"a 1 2\nb" + b" 1" * 3_000_000, "row 2: must end with a newline within 4194304 bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "row 1: "),
        (gzip.compress(b"a 1 2\n", mtime=0) + b"rest", "cannot be read: "),
        (gzip.compress(b"a 1 2\n", mtime=0)[:-8] + bytes(8), "cannot be read: "),
    ],
    ids=lambda each: repr(each[:40]),
)
def test_what_is_wrong_in_text_is_told_with_its_row(tmp_path, data, rule):
    assert refused(tmp_path / "vectors", data, rule)


ONE, NAN, INF = (np.array(x, "<f4").tobytes() for x in (1, np.nan, np.inf))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"2 1\na " + ONE + b"b " + NAN, "row 2: numbers must be finite in float32, got nan in dimension 1"),
        (b"2 1\na " + ONE + b"b " + INF, "row 2: numbers must be finite in float32, got inf in dimension 1"),
        (b"2 1\na " + ONE + b"a " + ONE, "row 2: words must differ, got 'a' as in row 1"),
        (b"2 1\na " + ONE + b"\xed\x95 " + ONE, r"row 2: a word must be UTF-8, got b'\\xed\\x95'"),
        (b"2 1\na " + ONE + b" " + ONE + b"\n", r"row 2: a word must be 1\.\.65536 bytes without blanks, got b''"),
        (b"2 1\na " + ONE + b"b\nc " + ONE, r"row 2: a word must be 1\.\.65536 bytes without blanks, got b'b\\nc'"),
        (b"1 1\na " + ONE + b"\n\nb", "row 2: must not be there after the header's 1 rows, got b'b'"),
        (b"2 1\na " + ONE + b"b" * 2_000_000, "row 2: a word must have at most 65536 bytes, got b'bbb"),
        (b"2 1\nlong " + ONE + b"b " + ONE[:3], "row 2: must be a word, a blank and 4 bytes, .*got 5 bytes"),
    ],
    ids=lambda each: repr(each[:40]),
)
def test_what_is_wrong_in_a_binary_file_is_told_with_its_row(tmp_path, data, rule):
    assert refused(tmp_path / "vectors", data, rule)
    assert refused(tmp_path / "packed", gzip.compress(data), rule)


@pytest.mark.parametrize("header", [b"3000000000 300", b"1 100000", b"9999999999999999999 100000"])
@pytest.mark.parametrize("rows", [b"a 0.5 0.25\n" * 50, b"a " + ONE * 50])
@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_no_file_of_this_size_fulfils_is_refused_before_anything_is_allocated(tmp_path, header, rows, packed):
    data = header + b"\n" + rows
    path = tmp_path / "vectors"
    read_word_vectors(file(path, b"a 1\n"))  # what Python allocates once
    tracemalloc.start()
    rule = f"header: {header.split()[0].decode()} rows of .* are at least "
    assert refused(path, gzip.compress(data) if packed else data, rule)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("rows", [b"a 0.5 0.25\n", b"a " + ONE * 2])
def test_a_packed_files_header_is_not_believed_where_its_size_proves_nothing(tmp_path, rows):
    # 300 KB can unpack to 300 MB, and the rows told would take 240 MB of memory.
    noise = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
    data = b"30000000 2\n" + rows + noise
    tracemalloc.start()
    assert refused(tmp_path / "vectors", gzip.compress(data), "row [0-9]+: ")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_file_that_is_not_there_is_told(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match="word vectors must be an existing file, got '.*" + path.name):
            read_word_vectors(path)


@pytest.mark.parametrize(
    ("words", "rows", "rule"),
    [
        (["a", "b c"], np.ones((2, 2)), "row 2: a word must be .* without blanks, got b'b c'"),
        (["a", "b\n"], np.ones((2, 2)), "row 2: a word must be .* without blanks"),
        (["", "b"], np.ones((2, 2)), "row 1: a word must be .*got b''"),
        (["a", "a"], np.ones((2, 2)), "row 2: words must differ, got 'a' as in row 1"),
        (["a", "\ud800"], np.ones((2, 2)), "row 2: a word must be UTF-8"),
        (["a", "b"], [[1, 2], [3, np.nan]], "row 2: numbers must be finite in float32, got nan in dimension 2"),
        (["a", "b"], [[1, 2], [1e39, 0]], "row 2: numbers must be finite in float32, got inf in dimension 1"),
        (["a", "b"], np.ones((3, 2)), r"vectors must have the shape .*got \(3, 2\) for 2 words"),
        (["a", "b"], np.ones(2), r"got \(2,\) for 2 words"),
        (["a", "b"], np.ones((2, 0)), r"got \(2, 0\) for 2 words"),
        ([], np.ones((0, 2)), r"got \(0, 2\) for 0 words"),
        (["a"], np.ones((1, 100_001)), r"got \(1, 100001\) for 1 words"),
        (["a"], np.ones((1, 2), complex), "vectors must be real numbers, got complex128"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_what_no_reader_would_give_back_is_not_written_and_the_older_file_stays(tmp_path, words, rows, rule, binary):
    path = file(tmp_path / "vectors", b"older")
    with pytest.raises(ValueError, match=rule):
        write_word_vectors(path, words, rows, binary=binary)
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["vectors"]


def test_a_name_that_says_packed_is_refused_for_writing(tmp_path):
    with pytest.raises(ValueError, match=r"must not end in \.gz, got .*vectors\.gz"):
        write_word_vectors(tmp_path / "vectors.gz", ["a"], np.ones((1, 2)), binary=True)
    assert os.listdir(tmp_path) == []


def test_an_older_file_is_replaced_by_a_whole_one_or_stays(tmp_path, monkeypatch):
    path = file(tmp_path / "vectors", b"older")

    def full(descriptor):
        assert path.read_bytes() == b"older"
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_word_vectors(path, ["a"], np.ones((1, 2)), binary=True)
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["vectors"]
    write_word_vectors(path, ["a"], np.ones((1, 2)), binary=True)
    assert read_word_vectors(path)[0] == ["a"]
    assert os.listdir(tmp_path) == ["vectors"]
