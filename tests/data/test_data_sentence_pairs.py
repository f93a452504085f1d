import gzip
import http.client
import io
import threading
import time
import unicodedata
import urllib.error

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data import file_blocks, multi30k_files, pair_files, strings
from kerastoolkit.data import text_lines as lines_module
from kerastoolkit.data.sentence_pairs import multi30k, sentence_pairs, texts
from kerastoolkit.data.strings import cut, held_source
from kerastoolkit.data.text_lines import text_lines
from kerastoolkit.experiment import InputError, rebuild

KOREAN = [("읽기 테스트", "A reading test"), ("안녕하세요, 세계!", "Hello, world!"), ("번역은 어렵다.", "Translation is hard.")]
SIX = [(f"문장 {i}", f"sentence {i}") for i in range(6)]


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
    """Where data sets are."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets"


@pytest.fixture
def write(tmp_path):
    """Writes a file (packed where its name ends with .gz) and gives its path."""

    def written(name, contents):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        contents = contents if isinstance(contents, bytes) else contents.encode()
        path.write_bytes(gzip.compress(contents, mtime=0) if name.endswith(".gz") else contents)
        return str(path)

    return written


@pytest.fixture
def aligned(write):
    """Writes aligned files of pairs, ``name`` with the languages at the end, and gives their folder."""

    def written(name, pairs, source="ko", target="en", end=""):
        for language, side in ((source, 0), (target, 1)):
            path = write(f"{name}.{language}{end}", "".join(f"{pair[side]}\n" for pair in pairs))
        return path.rpartition("/")[0]

    return written


def pairs_of(source):
    return list(zip(texts(source, "source"), texts(source, "target"), strict=True))


def all_pairs(data):
    return sorted(pair for split in ("train", "validation", "test") for pair in pairs_of(data.split(split)))


def in_columns(pairs):
    return "".join(f"{source}\t{target}\n" for source, target in pairs)


def whole(data, source="ko", target="en"):
    """All pairs of a file, as training pairs."""
    return pairs_of(sentence_pairs(data, source, target, validation=0, test=0).train)


# a file with two columns


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.tsv.gz"])
def test_a_file_with_two_columns_is_read_whatever_its_script_gzip_or_not(write, name):
    assert whole(write(name, in_columns(KOREAN))) == KOREAN


def test_gzip_is_told_by_what_is_in_the_file(write):
    assert whole(write("pairs.tsv", gzip.compress(in_columns(KOREAN).encode()))) == KOREAN


def test_sentences_are_composed_and_their_white_space_is_evened_out(write):
    source = unicodedata.normalize("NFD", "\ufeff  읽기\u00a0\u3000 테스트\u2028 \r")
    assert source != unicodedata.normalize("NFC", source)
    assert whole(write("pairs.tsv", f"{source}\tcafe\u0301  \x85 noir \r\n")) == [("읽기 테스트", "café noir")]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("가\ta\n나\n", r"pairs.tsv, line 2: must have two columns parted by a tab, got 1$"),
        ("가\ta\n나\tb\tc\n", r"pairs.tsv, line 2: must have two columns parted by a tab, got 3$"),
        ("가\ta\n\n", r"pairs.tsv, line 2: must have two columns parted by a tab, got 1$"),
        ("가\ta\n \u3000\tb\n", r"pairs.tsv, line 2: the source is empty$"),
        ("가\ta\n나\t\u00a0\r\n", r"pairs.tsv, line 2: the target is empty$"),
        ("가\ta\n나\tb\n다\t".encode() + b"\xff\n", r"pairs.tsv, line 3: must be UTF-8 text, got the byte 0xff$"),
        ("가\ta\n".encode("utf-16"), r"pairs.tsv, line 1: must be UTF-8 text, got the byte 0xff$"),
        ("", r"pairs.tsv: there are no sentence pairs in it$"),
        (gzip.compress(b"a\tb\n" * 99)[:-9], r"pairs.tsv: the gzip file is damaged or cut off"),
    ],
    ids=["one_column", "three_columns", "no_column", "no_source", "no_target", "wrong_byte", "utf_16", "empty", "cut_off"],
)
def test_a_wrong_file_with_two_columns_is_refused_with_its_line(write, contents, message):
    with pytest.raises(InputError, match=message) as refused:
        sentence_pairs(write("pairs.tsv", contents))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("block", [1, 2, 5, 64])
def test_lines_are_the_same_wherever_a_file_is_cut(write, monkeypatch, block):
    monkeypatch.setattr(file_blocks, "BLOCK", block)
    contents = "\ufeff읽기 테스트\r\n\n\u2028나\rb\nlast"
    path = write("lines.txt", contents)
    assert list(text_lines(path, most_bytes=99)) == ["읽기 테스트\r", "", "\u2028나\rb", "last"]


@pytest.mark.parametrize("end", ["", ".gz"], ids=["plain", "gzip"])
def test_a_file_too_large_is_refused_before_it_was_read_to_its_end(write, monkeypatch, end):
    monkeypatch.setattr(pair_files, "MOST_BYTES", 1_000)
    monkeypatch.setattr(file_blocks, "BLOCK", 100)
    read = []
    blocks = file_blocks.file_blocks
    monkeypatch.setattr(lines_module, "file_blocks", lambda path: (read.append(len(each)) or each for each in blocks(path)))
    with pytest.raises(InputError, match=r"a text may have at most 1,000 bytes \(unpacked\), got more$"):
        sentence_pairs(write(f"pairs.tsv{end}", "a\tb\n" * 100_000))
    assert sum(read) <= 1_100
    assert len(whole(write(f"most.tsv{end}", "a\tb\n" * 250))) == 250


@pytest.mark.parametrize("ending", ["", "\n"], ids=["unended", "ended"])
def test_a_line_too_long_is_refused_before_its_end_was_read(write, monkeypatch, ending):
    monkeypatch.setattr(lines_module, "LONGEST_LINE", 50)
    monkeypatch.setattr(file_blocks, "BLOCK", 10)
    with pytest.raises(InputError, match=r"pairs.tsv, line 2: a line may have at most 50 bytes, got more$"):
        sentence_pairs(write("pairs.tsv", "a\tb\n" + "x" * 51 + ending))
    assert whole(write("fits.tsv", "a\t" + "x" * 48 + ending)) == [("a", "x" * 48)]


# two aligned files


@pytest.mark.parametrize("end", ["", ".gz"], ids=["plain", "gzip"])
def test_line_i_of_one_file_is_the_translation_of_line_i_of_the_other(write, end):
    first = write(f"a.txt{end}", "\n".join(source for source, _ in KOREAN))
    second = write(f"b.txt{end}", "\n".join(target for _, target in KOREAN) + "\n")
    assert whole(f"{first},{second}") == KOREAN
    assert whole(f"{second}, {first}") == [(target, source) for source, target in KOREAN]


def test_files_with_unequal_numbers_of_lines_are_refused_with_both_numbers(write):
    first, second = write("a.txt", "가\n나\n다\n"), write("b.txt", "a\n" * 1_234)
    with pytest.raises(InputError, match=r"a.txt and .*b.txt must have as many lines, got 3 and 1,234$"):
        sentence_pairs(f"{first},{second}")


def test_pairs_with_an_empty_side_are_left_out_and_counted(write):
    first, second = write("a.txt", "가\n\n다\n \n마\n"), write("b.txt", "a\nb\n\u3000\n\ne\n")
    data = sentence_pairs(f"{first},{second}", validation=0, test=0)
    assert pairs_of(data.train) == [("가", "a"), ("마", "e")]
    assert data.notes == ("pairs left out because one side or both are empty: 3",)


def test_separators_of_unicode_and_carriage_returns_inside_a_line_do_not_end_it(write):
    first, second = write("a.txt", "가\u2028나\r다\n라\n"), write("b.txt", "a\nb\n")
    assert whole(f"{first},{second}") == [("가 나 다", "a"), ("라", "b")]


def test_an_aligned_file_that_is_not_there_is_named(write):
    with pytest.raises(InputError, match=r"nowhere.txt: cannot be read \(No such file or directory\)$"):
        sentence_pairs(f"{write('a.txt', 'a')},nowhere.txt")


def test_a_file_with_a_comma_in_its_name_is_one_file(write):
    assert whole(write("ko,en.tsv", in_columns(KOREAN))) == KOREAN


# cutting


def test_missing_parts_are_cut_from_the_training_pairs_by_the_shares(write):
    pairs = [(f"문장 {i}", f"sentence {i}") for i in range(100)]
    data = sentence_pairs(write("pairs.tsv", in_columns(pairs)), validation=0.1, test=25)
    assert [data.split(name).size for name in ("train", "validation", "test")] == [65, 10, 25]
    assert all_pairs(data) == sorted(pairs)


def test_what_is_cut_is_spread_over_a_sorted_file_and_always_the_same(write):
    path = write("pairs.tsv", in_columns([(f"{i}", f"{i}") for i in range(1_000)]))
    cut_off = [int(source) for source, _ in pairs_of(sentence_pairs(path, test=0.1).test)]
    assert 400 < np.mean(cut_off) < 600
    assert len(set(cut_off)) == 100
    assert cut_off == [int(source) for source, _ in pairs_of(sentence_pairs(path, test=0.1).test)]


def test_the_test_pairs_do_not_depend_on_how_many_are_for_validation(write):
    path = write("pairs.tsv", in_columns([(f"{i}", f"{i}") for i in range(100)]))
    few, many = (sentence_pairs(path, validation=share, test=0.1) for share in (0.1, 0.5))
    assert pairs_of(few.test) == pairs_of(many.test)


def test_a_small_share_gives_at_least_one_example_and_0_gives_none():
    parts = cut(5, {"test": 0.01, "validation": 0}, name="five")
    assert {split: len(rows) for split, rows in parts.items()} == {"train": 4, "test": 1, "validation": 0}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"validation": 0.5, "test": 0.5}, r"pairs.tsv: 3 for test and 3 for validation leave none of 6 examples for training$"),
        ({"validation": -0.1}, r"^validation must be a fraction below 1 or a whole number below 6, got -0.1$"),
        ({"test": 6}, r"^test must be a fraction below 1 or a whole number below 6, got 6$"),
        ({"test": 1.5}, r"^test must be a fraction below 1 or a whole number below 6, got 1.5$"),
        ({"test": float("nan")}, r"^test must be a fraction below 1 or a whole number below 6, got nan$"),
    ],
    ids=["everything", "negative", "all", "fraction", "nan"],
)
def test_shares_that_cannot_be_cut_are_refused(write, shares, message):
    with pytest.raises(InputError, match=message):
        sentence_pairs(write("pairs.tsv", in_columns(SIX)), **shares)


# a folder


@pytest.mark.parametrize("end", ["", ".gz"], ids=["plain", "gzip"])
@pytest.mark.parametrize("test", ["test", "test_2016_flickr", "test2014"])
@pytest.mark.parametrize("validation", ["val", "valid", "validation", "dev"])
def test_the_parts_of_a_folder_are_its_splits(aligned, validation, test, end):
    aligned("set/train", SIX, end=end)
    aligned(f"set/{validation}", KOREAN[:2], end=end)
    data = sentence_pairs(aligned(f"set/{test}", KOREAN[2:], end=end), "ko", "en")
    assert [pairs_of(data.split(name)) for name in ("train", "validation", "test")] == [SIX, KOREAN[:2], KOREAN[2:]]


def test_a_folder_can_be_read_from_either_language(aligned):
    data = sentence_pairs(aligned("set/train", SIX), "en", "ko", validation=0, test=0)
    assert pairs_of(data.train) == [(target, source) for source, target in SIX]


def test_parts_that_a_folder_has_not_are_cut_from_its_training_pairs(aligned):
    aligned("set/train", SIX)
    data = sentence_pairs(aligned("set/test", KOREAN), "ko", "en", validation=2)
    assert (data.train.size, data.validation.size) == (4, 2)
    assert pairs_of(data.test) == KOREAN
    assert sorted(pairs_of(data.train) + pairs_of(data.validation)) == SIX


def test_of_several_test_sets_that_of_2016_is_taken(aligned):
    for name, pairs in (("train", SIX), ("test_2017_mscoco", SIX[:1]), ("test_2016_flickr", KOREAN)):
        folder = aligned(f"set/{name}", pairs)
    assert pairs_of(sentence_pairs(folder, "ko", "en").test) == KOREAN


def test_files_of_other_languages_and_kinds_are_passed_over(aligned, write):
    aligned("set/train", SIX)
    aligned("set/test_2018", KOREAN, "cs", "fr")
    write("set/test.json", "{}")
    assert sentence_pairs(aligned("set/test", KOREAN), "ko", "en").test.size == 3


def test_lines_left_out_are_counted_over_all_parts_of_a_folder(aligned):
    aligned("set/train", [*SIX, ("", "a"), ("", "")])
    data = sentence_pairs(aligned("set/val", [*KOREAN, ("가", " ")]), "ko", "en")
    assert data.notes == ("pairs left out because one side or both are empty: 3",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"set: needs train.ko and train.en, or these with .gz, and has none of them$"),
        (["train.ko"], r"set: there is no train.en and no train.en.gz$"),
        (["train.ko", "train.ko.gz", "train.en"], r"set: has both train.ko and train.ko.gz$"),
        (["train.ko", "train.en", "val.ko"], r"set: there is no val.en and no val.en.gz$"),
        (["train.ko", "train.en", "val.ko", "dev.en"], r"set: must have one set of files for validation, got val, dev$"),
        (["train.ko", "train.en", "test_b.ko", "test_a.en"], r"set: must have one set of files for test, got test_a, test_b$"),
        (["train.ko", "train.en", "test.en"], r"set: there is no test.ko and no test.ko.gz$"),
    ],
    ids=["none", "one_side", "packed_twice", "validation_side", "two_validations", "two_tests", "test_side"],
)
def test_a_folder_with_too_few_or_too_many_files_is_refused(write, tmp_path, names, message):
    (tmp_path / "set").mkdir()
    for name in names:
        write(f"set/{name}", "가\n" * 9)
    with pytest.raises(InputError, match=message):
        sentence_pairs(str(tmp_path / "set"), "ko", "en")


def test_one_language_twice_is_refused(aligned):
    with pytest.raises(InputError, match=r"^source and target must be two languages, got ko twice$"):
        sentence_pairs(aligned("set/train", SIX), "ko", "ko")


# what is told of them


def test_test_pairs_that_are_training_pairs_are_counted_and_stay(aligned):
    aligned("set/train", [*SIX, *SIX])
    # The second has the source alone in common with a training pair.
    data = sentence_pairs(aligned("set/test", [SIX[0], (SIX[1][0], "else"), *KOREAN]), "ko", "en", validation=0)
    assert data.notes == ("test pairs that are training pairs, too: 1 of 5",)
    assert (data.train.size, data.test.size) == (12, 5)


def test_data_says_its_languages_and_how_long_sentences_are(write):
    data = sentence_pairs(write("pairs.tsv", in_columns(KOREAN)), "ko", "en")
    assert data.about == {"source": "ko", "target": "en", "median_source_words": 2, "median_target_words": 3}
    assert (data.inputs, data.encoded, data.notes) == (("source",), False, ())


def test_data_is_made_again_from_its_description(write):
    data = sentence_pairs(write("pairs.tsv", in_columns(SIX)), "ko", "en", test=2)
    assert data.description["arguments"]["source"] == "ko"
    assert pairs_of(rebuild(data.description).test) == pairs_of(data.test)


def test_an_unknown_name_is_refused_with_what_there_is(tmp_path):
    for unknown in ("nowhere", "a" * 5_000):
        with pytest.raises(InputError, match=r"^unknown sentence pairs .*: choose dates, multi30k, sample, tfds:NAME/CONFIG, a"):
            sentence_pairs(unknown)


@pytest.mark.parametrize("name", ["sample", "dates"])
def test_the_embedded_set_is_dates(name):
    data = sentence_pairs(name)
    assert data.name == "dates"
    assert next(texts(data.test, "target"))[4::3] == "--"
    assert data.description["function"] == "kerastoolkit.data.sentence_pairs.sentence_pairs"


# fetching


def test_examples_are_fetched_in_any_order_and_inside_graphs(write):
    source = sentence_pairs(write("pairs.tsv", in_columns(KOREAN)), validation=0, test=0).train
    for batch in tf.data.Dataset.from_tensors(np.array([2, 0, 2])).map(source.fetch):
        assert [each.decode() for each in batch["source"].numpy()] == [KOREAN[i][0] for i in (2, 0, 2)]
        assert [each.decode() for each in batch["target"].numpy()] == [KOREAN[i][1] for i in (2, 0, 2)]


def test_strings_are_handed_over_once_by_however_many_threads_at_once(monkeypatch):
    made, constant = [], tf.constant

    def slow(*arguments):
        made.append(arguments)
        time.sleep(0.05)
        return constant(*arguments)

    monkeypatch.setattr(tf, "constant", slow)
    failed = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    source = held_source({"source": ["가", "나"], "target": ["a", "b"]})
    threads = [threading.Thread(target=source.fetch, args=([0],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), failed) == (2, [])


def test_texts_of_a_key_come_in_order_block_by_block(write, monkeypatch):
    pairs = [(f"문장 {i}", f"sentence {i}") for i in range(10)]
    monkeypatch.setattr(strings, "BLOCK", 4)
    source = sentence_pairs(write("pairs.tsv", in_columns(pairs)), validation=0, test=0).train
    assert list(texts(source, "target")) == [target for _, target in pairs]


# Multi30k

FILES = [f"{part}.{language}.gz" for part in ("train", "val", "test_2016_flickr") for language in ("de", "en")]


@pytest.fixture
def served(monkeypatch):
    """Gives what is served to a download by the file's name, bytes or an error; returns what was asked for."""
    asked = []
    monkeypatch.setattr(multi30k_files, "LINES", {"train": 4, "val": 2, "test_2016_flickr": 1})

    def serve(answers):
        def open_it(url, timeout):
            asked.append(url)
            answer = answers[url.rpartition("/")[2]]
            if isinstance(answer, Exception):
                raise answer
            return io.BytesIO(answer)

        monkeypatch.setattr(multi30k_files.download.__globals__["urllib"].request, "urlopen", open_it)
        return asked

    return serve


def packed(lines):
    return gzip.compress("".join(f"{each}\n" for each in lines).encode(), mtime=0)


CONTENTS = ["eins zwei drei vier", "one two three four", "fünf sechs", "five six", "sieben", "seven"]
ANSWERS = {name: packed(words.split()) for name, words in zip(FILES, CONTENTS, strict=True)}


def test_multi30k_is_fetched_once_to_the_data_directory(served, data_dir):
    asked = served(ANSWERS)
    data = multi30k()
    assert pairs_of(data.train) == [("eins", "one"), ("zwei", "two"), ("drei", "three"), ("vier", "four")]
    assert (pairs_of(data.validation), pairs_of(data.test)) == ([("fünf", "five"), ("sechs", "six")], [("sieben", "seven")])
    assert pairs_of(sentence_pairs("multi30k", "en", "de").test) == [("seven", "sieben")]
    assert asked == [f"https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/{name}" for name in FILES]
    assert [each.name for each in data_dir.iterdir()] == ["multi30k"]


def test_multi30k_is_found_where_it_lies_in_other_languages_too(aligned, served):
    asked = served({})
    aligned("sets/multi30k/train", SIX, "fr", "cs")
    assert pairs_of(sentence_pairs("multi30k", "fr", "cs", validation=0, test=0).train) == SIX
    assert asked == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({FILES[0]: urllib.error.URLError("no route")}, r"cannot be fetched \(no route\); --data takes sentence pairs of your"),
        ({FILES[5]: TimeoutError("timed out")}, r"multi30k is not in .* \(timed out\); .* --data sample needs no download$"),
        ({FILES[3]: http.client.BadStatusLine("what?")}, r"cannot be fetched \(what\?\)"),
        ({FILES[2]: b"<html>moved</html>"}, r"raw/val.de.gz: must have 2 lines, got 1$"),
        ({FILES[4]: packed("ab")}, r"raw/test_2016_flickr.de.gz: must have 1 lines, got 2$"),
        ({FILES[1]: ANSWERS[FILES[1]][:-9]}, r"train.en.gz: the gzip file is damaged or cut off"),
    ],
    ids=["no_route", "time_out", "bad_status", "moved", "too_long", "cut_off"],
)
def test_multi30k_that_cannot_be_fetched_is_told_in_one_line_and_leaves_nothing_behind(served, data_dir, changed, message):
    served(ANSWERS | changed)
    with pytest.raises(InputError, match=message) as refused:
        multi30k()
    assert "\n" not in str(refused.value)
    assert list(data_dir.iterdir()) == []


# TensorFlow Datasets


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    """Where small translation sets are prepared: one with three splits, one with a training split alone, one without any."""
    import tensorflow_datasets as tfds

    three = {"train": [*SIX, ("", "nothing")], "validation": KOREAN[:1], "test": [*KOREAN[1:], SIX[0]]}
    contents = {"three": three, "one": {"train": SIX}, "held_out": {"test": SIX}}

    class TinyTalks(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in contents]

        def _info(self):
            return self.dataset_info_from_configs(features=tfds.features.Translation(languages=("ko", "en")))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(pairs) for split, pairs in contents[self.builder_config.name].items()}

        def _generate_examples(self, pairs):
            for number, (source, target) in enumerate(pairs):
                yield number, {"ko": f" {source} ", "en": target}

    folder = tmp_path_factory.mktemp("talks")
    for name in contents:
        TinyTalks(config=name, data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture
def prepared(talks, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(talks))
    return talks


def test_a_prepared_set_is_read_with_its_own_splits(prepared):
    data = sentence_pairs("tfds:tiny_talks/three", "ko", "en")
    assert sorted(pairs_of(data.train)) == SIX
    assert pairs_of(data.validation) == KOREAN[:1]
    assert sorted(pairs_of(data.test)) == sorted([*KOREAN[1:], SIX[0]])
    assert data.about == {"source": "ko", "target": "en", "median_source_words": 2, "median_target_words": 2}
    assert data.notes == (
        "pairs left out because one side or both are empty: 1",
        "test pairs that are training pairs, too: 1 of 3",
    )


def test_splits_that_a_prepared_set_has_not_are_cut_from_its_training_pairs(prepared):
    data = sentence_pairs("tfds:tiny_talks/one", "en", "ko", validation=1, test=2)
    assert [data.split(name).size for name in ("train", "validation", "test")] == [3, 1, 2]
    assert all_pairs(data) == sorted((target, source) for source, target in SIX)


def test_a_prepared_set_is_read_once_and_then_found_again(prepared, monkeypatch):
    import tensorflow_datasets as tfds

    before = pairs_of(sentence_pairs("tfds:tiny_talks/three", "ko", "en").train)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", None)
    assert pairs_of(sentence_pairs("tfds:tiny_talks/three", "ko", "en").train) == before


def test_pairs_on_disk_are_fetched_in_any_order_and_inside_graphs_with_their_shape_known(prepared):
    source = sentence_pairs("tfds:tiny_talks/one", "ko", "en", validation=0, test=0).train
    expected = pairs_of(source)
    batches = tf.data.Dataset.from_tensors(np.array([2, 0, 2])).map(source.fetch)
    assert batches.element_spec["source"] == tf.TensorSpec((3,), tf.string)
    for batch in batches:
        assert [each.decode() for each in batch["target"].numpy()] == [expected[i][1] for i in (2, 0, 2)]


@pytest.mark.parametrize(
    ("name", "languages", "message"),
    [
        ("tiny_talks/three", ("pt", "en"), r"^tfds:tiny_talks/three has no language pt \(it has: .*\)$"),
        ("tiny_talks/three", ("ko", "de"), r"^tfds:tiny_talks/three has no language de \(it has: (ko, en|en, ko)\)$"),
        ("tiny_talks/three", ("en", "en"), r"^source and target must be two languages, got en twice$"),
        ("tiny_talks/nine", ("ko", "en"), r"^tiny_talks/nine: TensorFlow Datasets has no such data set \(.*nine"),
        ("no_such_talks", ("ko", "en"), r"^no_such_talks: TensorFlow Datasets has no such data set \(.*not found"),
        ("mnist", ("ko", "en"), r"^tfds:mnist has no language ko \(it has: none\)$"),
        ("tiny_talks/held_out", ("ko", "en"), r"^tfds:tiny_talks/held_out has no train split \(it has: test\)$"),
    ],
    ids=["source", "target", "same", "config", "name", "images", "no_training"],
)
def test_a_set_that_is_no_translation_between_these_languages_is_refused(prepared, name, languages, message):
    with pytest.raises(InputError, match=message) as refused:
        sentence_pairs(f"tfds:{name}", *languages)
    assert "\n" not in str(refused.value)
