import gzip
import os
import unicodedata
from collections import Counter

import numpy as np
import pytest

from kerastoolkit.data import corpus, file_blocks
from kerastoolkit.data.corpus import read_corpus, words_of_file
from kerastoolkit.experiment import InputError, RunError

MIXED = (
    "The cat, the CAT & the hat: 3 cats (nº 12)!\r\nd’accord_well-known naïve\u00a0café—rôle\n"
    "한국어 분석·한국어; हिन्दी क्\u200dष\u0964 می\u200cخواهم ٠١\n"
    "\u1100\u1161 οδος 你好，世界 \U00020000 x\u0323\u0307 q\u0301\n"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where read texts are kept."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kerastoolkit" / "corpora"


@pytest.fixture
def text(tmp_path):
    """Writes a text, or bytes, and gives its path."""

    def write(contents, name="text.txt"):
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        return str(path)

    return write


def words_of(path, lower=True):
    return [word for words in words_of_file(path, lower=lower) for word in words]


def in_order(path, **arguments):
    """The words of a corpus, in the order of the text."""
    read = read_corpus(path, min_count=1, **arguments)
    return [read.words[token] for token in read.tokens]


def slow_words(contents, lower=True):
    """Word by word and character by character; "." stands for what parts words."""
    words, word = [], ""
    for each in unicodedata.normalize("NFC", contents) + ".":
        kind = unicodedata.category(each)[0]
        if kind in "LN" or word and (kind == "M" or each in "\u200c\u200d"):
            word += each
        elif word or kind not in "M":
            words, word = words + [word] * bool(word), ""
    return [word.lower() if lower else word for word in words]


def nothing_is_left_in(folder):
    return not folder.exists() or not list(folder.iterdir())


def test_punctuation_symbols_and_blanks_part_words_and_digits_are_words(text):
    path = text("One, two;\tTHREE!\r\n4 five_six-seven (8.5) 'nine'’s\u00a0ten\u3000$11 = a+b\n")
    assert words_of(path) == "one two three 4 five six seven 8 5 nine s ten 11 a b".split()


def test_capital_letters_stay_where_they_are_wanted(text):
    path = text("The the École Ж")
    assert in_order(path, lower=False) == ["The", "the", "École", "Ж"]
    assert in_order(path, lower=True) == ["the", "the", "école", "ж"]


def test_composed_and_decomposed_texts_have_the_same_words(text):
    contents = "한국어 분석, café Ångström ệ 한국어"
    decomposed = unicodedata.normalize("NFD", contents)
    assert decomposed != contents
    composed = in_order(text(contents, "composed.txt"))
    assert in_order(text(decomposed, "decomposed.txt")) == composed
    assert composed == ["한국어", "분석", "café", "ångström", "ệ", "한국어"]


def test_vowel_signs_and_viramas_belong_to_their_words(text):
    assert words_of(text("हिन्दी भाषा।")) == ["हिन्दी", "भाषा"]


def test_joiners_inside_words_belong_to_them(text):
    persian, sinhala = "می\u200cخواهم", "ශ\u0dca\u200dර\u0dd3"
    assert words_of(text(f"{persian}\u060c {sinhala}.")) == [persian, sinhala]


def test_marks_and_joiners_without_a_letter_are_no_words(text):
    # Variation selectors are marks, and family emoji are held together by joiners.
    path = text("I \u2764\ufe0f you \U0001f468\u200d\U0001f469\u200d\U0001f467 \ufe0f\u200d \u0301a \u0301")
    assert words_of(path) == ["i", "you", "a"]


def test_the_dotted_capital_i_becomes_a_small_one_with_a_dot(text):
    assert in_order(text("İstanbul I\u0307stanbul ısparta")) == ["i\u0307stanbul"] * 2 + ["ısparta"]


def test_a_final_sigma_is_one_wherever_the_text_is_cut(text, monkeypatch):
    path = text("ΟΔΟΣ, ΟΔΟΣΑ.")
    for block in (1, 3, 100):
        monkeypatch.setattr(file_blocks, "BLOCK", block)
        assert words_of(path) == ["οδος", "οδοσα"]


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("block", [1, 2, 3, 4, 5, 6, 7, 1 << 20])
def test_a_text_cut_anywhere_has_the_words_of_the_whole(text, monkeypatch, block, form, lower):
    contents = unicodedata.normalize(form, MIXED + "a≠b =\u0338c \u2764\ufe0fd e\u0301\u0323" + MIXED)
    monkeypatch.setattr(file_blocks, "BLOCK", block)
    assert words_of(text(contents), lower) == slow_words(contents, lower)


def test_words_are_given_block_by_block(text, monkeypatch):
    monkeypatch.setattr(file_blocks, "BLOCK", 100)
    assert [len(words) for words in words_of_file(text("four " * 100), lower=True)] == [20] * 5


@pytest.mark.parametrize("block", [3, 1 << 20])
def test_random_characters_have_the_words_of_a_slow_twin(text, monkeypatch, block):
    monkeypatch.setattr(file_blocks, "BLOCK", block)
    some = list("aB1 .\n\u0301\u0338=\u1100\u1161\u11a8가\u200d\ufe0f\u2764\u09c7\u09beİΣ\U0001f468\U00020000")
    for seed in range(30):
        contents = "".join(np.random.default_rng(seed).choice(some, 80))
        assert words_of(text(contents)) == slow_words(contents), ascii(contents)


@pytest.mark.parametrize("block", [7, 1 << 23])
def test_a_corpus_is_that_of_a_slow_twin(text, monkeypatch, block):
    monkeypatch.setattr(file_blocks, "BLOCK", block)
    contents = " ".join(np.random.default_rng(0).choice(MIXED.split(), 300))
    words = slow_words(contents)
    counts = Counter(words)  # in the order of their first occurrence
    known = sorted((word for word in counts if counts[word] >= 15), key=lambda word: -counts[word])
    read = read_corpus(text(contents), min_count=15)
    assert 2 < len(known) < len(counts)
    assert read.words == tuple(known)
    assert read.counts.tolist() == [counts[word] for word in known]
    assert [read.words[token] if token < len(known) else None for token in read.tokens] == [
        word if word in known else None for word in words]  # fmt: skip
    # Rarer words have numbers of their own, in the same order.
    everything = sorted(counts, key=lambda word: -counts[word])
    assert read.tokens.tolist() == [everything.index(word) for word in words]


def test_words_are_ordered_by_count_and_then_by_their_first_occurrence(text):
    read = read_corpus(text("z b z a b a m z c"), min_count=1)
    assert read.words == ("z", "b", "a", "m", "c")
    assert read.counts.tolist() == [3, 2, 2, 1, 1]


def test_rarer_words_keep_their_places_in_the_text_with_larger_numbers(text):
    path = text("z b z a b a m z c")
    read = read_corpus(path, min_count=2)
    assert read.words == ("z", "b", "a")
    assert read.counts.tolist() == [3, 2, 2]
    assert read.tokens.tolist() == read_corpus(path, min_count=1).tokens.tolist() == [0, 1, 0, 2, 1, 2, 3, 0, 4]


def test_tokens_are_numbers_of_32_bits_mapped_from_the_disk(text):
    read = read_corpus(text("a b a b"), min_count=1)
    assert isinstance(read.tokens, np.memmap)
    assert read.tokens.dtype == np.int32
    assert read.counts.dtype == np.int64


def test_a_corpus_is_called_what_was_said_or_else_by_its_path(text):
    path = text("a b")
    assert read_corpus(path, name="letters", min_count=1).name == "letters"
    assert read_corpus(path, min_count=1).name == path


def test_a_gzip_file_is_read_whatever_its_name_is(text):
    packed = text(gzip.compress(MIXED.encode()), "packed.txt")
    assert in_order(packed) == in_order(text(MIXED, "plain.txt")) == slow_words(MIXED)


def test_files_of_a_folder_are_read_in_the_order_of_their_names_those_inside_too(text, tmp_path):
    for name, contents in (("b.txt", "two"), ("c/a.txt", "three"), ("a.txt", "one"), ("c/d/a", "four"), ("e.gz", "six")):
        text(contents, name)
    text(gzip.compress(b"five", mtime=0), "d.gz")
    assert in_order(str(tmp_path / "texts")) == ["one", "two", "three", "four", "five", "six"]


def test_the_ends_of_files_part_words(text, tmp_path):
    text("one tw", "a.txt")
    text("o\u0301three", "b.txt")
    assert in_order(str(tmp_path / "texts")) == ["one", "tw", "óthree"]


def test_hidden_files_and_folders_are_left_out(text, tmp_path):
    for name in ("a.txt", ".hidden", ".git/config", "b/.DS_Store"):
        text("seen seems" if name == "a.txt" else b"\xff", name)
    assert in_order(str(tmp_path / "texts")) == ["seen", "seems"]


@pytest.mark.parametrize("block", [1, 2, 4, 100])
def test_a_byte_order_mark_is_no_part_of_a_word(text, monkeypatch, block):
    monkeypatch.setattr(file_blocks, "BLOCK", block)
    assert words_of(text(b"\xef\xbb\xbfone two")) == ["one", "two"]


def test_a_text_is_found_again_without_being_read(text, monkeypatch):
    path = text("a b a b c")
    before = read_corpus(path, min_count=1)

    def fail(*arguments, **more):
        raise AssertionError("read again")

    monkeypatch.setattr(corpus, "words_of_file", fail)
    again = read_corpus(path, min_count=2)
    assert again.folder == before.folder
    assert again.tokens.tolist() == before.tokens.tolist()
    assert again.words == ("a", "b")


def test_a_changed_text_is_read_anew(text):
    path = text("a b a b")
    read_corpus(path, min_count=1)
    assert in_order(text("c d e")) == ["c", "d", "e"]


def test_a_text_of_the_same_length_written_later_is_read_anew(text):
    path = text("a b a b")
    os.utime(path, ns=(10**18, 10**18))
    read_corpus(path, min_count=1)
    os.utime(text("c d c d"), ns=(10**18, 10**18 + 1))
    assert in_order(path) == ["c", "d", "c", "d"]


def test_a_text_of_another_length_is_read_anew_whenever_it_was_written(text):
    path = text("a b a b")
    os.utime(path, ns=(10**18, 10**18))
    read_corpus(path, min_count=1)
    os.utime(text("c d c"), ns=(10**18, 10**18))
    assert in_order(path) == ["c", "d", "c"]


def test_a_file_more_in_a_folder_is_read(text, tmp_path):
    text("a b", "1.txt")
    assert in_order(str(tmp_path / "texts")) == ["a", "b"]
    text("c", "2.txt")
    assert in_order(str(tmp_path / "texts")) == ["a", "b", "c"]


def test_what_was_deleted_from_the_cache_is_read_again(text, cache):
    path = text("a b a b")
    kept = read_corpus(path, min_count=1).folder
    for each in kept.iterdir():
        each.unlink()
    kept.rmdir()
    assert in_order(path) == ["a", "b", "a", "b"]


def test_texts_are_kept_where_the_data_directory_is_now(text, tmp_path, monkeypatch):
    path = text("a b")
    read_corpus(path, min_count=1)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "other"))
    assert tmp_path / "other" in read_corpus(path, min_count=1).folder.parents


def test_a_name_as_long_as_the_file_system_allows_is_kept(text):
    assert in_order(text("a b", "한" * 83 + ".txt")) == ["a", "b"]


def test_the_cache_holds_nothing_but_what_is_read_again(text, cache):
    kept = read_corpus(text("a b"), min_count=1).folder
    assert list(cache.iterdir()) == [kept]
    assert {each.name for each in kept.iterdir()} == {"words.txt", "counts.npy", "tokens.npy"}
    assert kept.stat().st_mode & 0o777 == 0o755


def test_of_two_readers_at_once_the_one_that_ends_later_takes_what_the_other_kept(text, cache, monkeypatch):
    path = text("a b a b")
    number, others = corpus._number, []

    def interrupted(folder, files, lower):
        number(folder, files, lower)
        monkeypatch.setattr(corpus, "_number", number)
        others.append(read_corpus(path, min_count=1))

    monkeypatch.setattr(corpus, "_number", interrupted)
    read = read_corpus(path, min_count=1)
    assert len(others) == 1
    assert list(cache.iterdir()) == [read.folder] == [others[0].folder]
    assert read.tokens.tolist() == [0, 1, 0, 1]


GZIPPED = gzip.compress(" ".join(f"word{i} more{i * 7919}" for i in range(500)).encode(), mtime=0)


@pytest.mark.parametrize(
    ("contents", "arguments", "message"),
    [
        (b"fine\nfi\xffne more words", {}, r"text.txt, line 2: must be UTF-8 text, got the byte 0xff$"),
        (b"fine\n" * 50 + "한".encode()[:2], {}, r"text.txt, line 51: must be UTF-8 text, got the byte 0xed$"),
        ("fine".encode("utf-16"), {}, r"text.txt, line 1: must be UTF-8 text, got the byte 0xff$"),
        (gzip.compress(b"fine\n\n\xe9", mtime=0), {}, r"text.txt, line 3: must be UTF-8 text, got the byte 0xe9$"),
        (b"", {}, r"text.txt: there is no word in the text$"),
        (b" ... \n \xe2\x9d\xa4\xef\xb8\x8f", {}, r"text.txt: there is no word in the text$"),
        (b"a b c", {}, r"text.txt: at least 2 words must occur 5 times \(min_count\), got 0$"),
        (b"a a a b", {"min_count": 3}, r"text.txt: at least 2 words must occur 3 times \(min_count\), got 1$"),
        (b"a a a b", {"min_count": 3, "name": "mine"}, r"^mine: at least 2 words must occur 3 times \(min_count\), got 1$"),
        (b"a b", {"min_count": 0}, r"^min_count must be at least 1, got 0$"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(text, contents, arguments, message):
    with pytest.raises(InputError, match=message) as refused:
        read_corpus(text(contents), **arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("block", [1, 2, 3, 5, 100])
def test_the_line_of_a_wrong_byte_is_told_wherever_the_text_is_cut(text, monkeypatch, block):
    monkeypatch.setattr(file_blocks, "BLOCK", block)
    with pytest.raises(InputError, match="line 4: must be UTF-8 text, got the byte 0xed$"):
        words_of(text("one\ntwo\r\n\n한".encode() + "한".encode()[:2] + b"\nfive"))


@pytest.mark.parametrize("length", [2, 3, 9, 10, 11, 100, len(GZIPPED) - 9, len(GZIPPED) - 8, len(GZIPPED) - 1])
def test_a_gzip_file_that_was_cut_off_is_refused(text, cache, length):
    with pytest.raises(InputError, match="text.txt: the gzip file is damaged or cut off .*$") as refused:
        read_corpus(text(GZIPPED[:length]), min_count=1)
    assert "\n" not in str(refused.value)
    assert nothing_is_left_in(cache)


@pytest.mark.parametrize("place", [2, 12, 200, len(GZIPPED) // 2, len(GZIPPED) - 7, len(GZIPPED) - 1])
def test_a_gzip_file_with_a_changed_byte_is_refused(text, cache, place):
    damaged = bytearray(GZIPPED)
    damaged[place] ^= 0xFF
    # What comes out of a damaged stream before that is noticed may be no UTF-8.
    with pytest.raises(InputError, match="text.txt(: the gzip file is damaged or cut off |, line .* must be UTF-8)"):
        read_corpus(text(bytes(damaged)), min_count=1)
    assert nothing_is_left_in(cache)


@pytest.mark.parametrize("before", [0, 1, 9_999, 12_345])
def test_a_word_longer_than_any_is_refused_wherever_it_stands(text, cache, before):
    contents = "x" * min(before, 1) + " " * before
    assert len(words_of(text(contents + "y" * 10_000 + " end"))[-2]) == 10_000
    with pytest.raises(InputError, match="text.txt: a word must have at most 10,000 characters, got one that begins with y{20}$"):
        read_corpus(text(contents + "y" * 10_001 + " end"), min_count=1)
    assert nothing_is_left_in(cache)


@pytest.mark.parametrize("block", [1_000, 9_999])
def test_a_word_longer_than_any_is_refused_before_its_end_was_read(text, monkeypatch, block):
    monkeypatch.setattr(file_blocks, "BLOCK", block)
    read = []
    blocks = file_blocks.file_blocks
    monkeypatch.setattr(file_blocks, "file_blocks", lambda path: (read.append(len(each)) or each for each in blocks(path)))
    with pytest.raises(InputError, match="a word must have at most 10,000 characters"):
        words_of(text(b"y" * 100_000))
    assert sum(read) < 20_000


def test_a_text_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^there is no text .*nowhere: neither a file nor a folder$"):
        read_corpus(str(tmp_path / "nowhere"))


def test_a_folder_without_files_is_refused(tmp_path, text):
    text("a b", ".hidden/a.txt")
    with pytest.raises(InputError, match=r"texts: the folder has no files$"):
        read_corpus(str(tmp_path / "texts"))


def test_files_without_words_are_refused_with_the_folder_that_holds_them(tmp_path, text):
    text(" ", "a/1.txt")
    text("!", "b/2.txt")
    with pytest.raises(InputError, match=r"texts: there is no word in the text$"):
        read_corpus(str(tmp_path / "texts"))


def test_the_file_at_fault_in_a_folder_is_named(tmp_path, text):
    text("fine", "a.txt")
    text(b"one\n\xff", "b/c.txt")
    with pytest.raises(InputError, match=r"b/c.txt, line 2: must be UTF-8"):
        read_corpus(str(tmp_path / "texts"))


def test_a_refused_text_leaves_nothing_behind(text, cache):
    with pytest.raises(InputError):
        read_corpus(text(b"many words " * 100 + b"\xff"), min_count=1)
    assert cache.is_dir() and nothing_is_left_in(cache)


def test_a_text_that_was_refused_is_read_once_it_is_mended(text):
    with pytest.raises(InputError):
        read_corpus(text(b"a \xff"), min_count=1)
    assert in_order(text("a b")) == ["a", "b"]


def test_a_cache_that_cannot_be_written_is_told_in_one_line(text, tmp_path):
    path = text("a b")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"kept in .*corpora \(Not a directory\); --data-dir names another place$") as told:
        read_corpus(path, min_count=1)
    assert "\n" not in str(told.value)


def test_a_full_disk_is_told_and_leaves_nothing_behind(text, cache, monkeypatch):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(RunError, match=r"cannot be kept in .*corpora \(No space left on device\); --data-dir"):
        read_corpus(text("a b"), min_count=1)
    assert cache.is_dir() and nothing_is_left_in(cache)
