"""Tagged words: files of CoNLL's form in their schemes, what is refused in them, and dates whose parts are tagged."""

import datetime
import gzip

import numpy as np
import pytest

from kerastoolkit.data import tagged_words as module
from kerastoolkit.data.dates import LANGUAGES, written_dates
from kerastoolkit.data.tagged_words import date_tags, tagged_words
from kerastoolkit.experiment import InputError, rebuild

SPLITS = ("train", "validation", "test")
NEWS = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC
call NN I-NP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


def sentences(data, split="train"):
    """The (words, tags) of a split."""
    raw = data.split(split).fetch(np.arange(data.split(split).size))
    return list(zip(*([each.decode() for each in raw[key].numpy()] for key in ("first", "tags")), strict=True))


@pytest.fixture
def written(tmp_path):
    """Writes files into a folder, whole names -> text, and returns it."""

    def write(**texts):
        for name, text in texts.items():
            (tmp_path / name.replace("_", ".")).write_text(text, "utf-8")
        return str(tmp_path)

    return write


def read(written, text, **columns):
    return tagged_words(written(train_txt=text) + "/train.txt", validation=0, test=0, **columns)


@pytest.fixture(scope="module")
def dates():
    return tagged_words("sample")


def test_a_sentence_is_its_words_and_as_many_tags(written):
    assert sentences(read(written, NEWS)) == [
        ("EU rejects German call", "B-ORG O B-MISC O"), ("Peter Blackburn", "B-PER I-PER")]  # fmt: skip


def test_classes_are_o_and_then_the_tags_of_each_kind_beside_each_other(written):
    assert read(written, NEWS).about == {"classes": ("O", "B-MISC", "B-ORG", "B-PER", "I-PER")}


def test_a_file_without_a_last_line_feed_and_with_carriage_returns_is_read_alike(written):
    expected = sentences(read(written, NEWS))
    assert sentences(read(written, NEWS.rstrip().replace("\n", "\r\n"))) == expected


def test_another_column_can_be_the_tag(written):
    assert sentences(read(written, NEWS, tag=2))[1] == ("Peter Blackburn", "B-NP I-NP")


def test_columns_that_tabs_part_may_have_spaces_which_the_words_lose(written):
    text = "1\t20 000\tB-N\n2\tcafe\u0301\tO\n"
    assert sentences(read(written, text, word=1)) == [("20000 caf\u00e9", "B-N O")]


def test_a_no_break_space_parts_no_columns(written):
    assert sentences(read(written, "1\u00a0000 B-N\n")) == [("1000", "B-N")]


def test_comments_before_a_sentence_are_passed_over(written):
    text = "# sent_id = 1\n#\tnews of today\nEU\tB-ORG\n\n# text = I got O\nrises\tO\n"
    assert sentences(read(written, text)) == [("EU", "B-ORG"), ("rises", "O")]


def test_a_number_sign_that_has_a_tag_is_a_word(written):
    assert sentences(read(written, "EU B-ORG\n\n# O\n1 O\n# O\n")) == [("EU", "B-ORG"), ("# 1 #", "O O O")]


@pytest.mark.parametrize(
    ("tags", "expected", "note"),
    [
        ("B-A I-A B-A O", "B-A I-A B-A O", None),
        ("I-A I-A B-A O I-B", "B-A I-A B-A O B-B", "IOB1"),
        ("B-A E-A S-A O S-B", "B-A I-A B-A O B-B", "BIOES"),
        ("B-A O I-A I-B", "B-A O B-A B-B", "2 entities began with I-"),
    ],
    ids=["bio", "iob1", "bioes", "mixed"],
)
def test_every_scheme_becomes_bio_and_a_note_says_so(written, tags, expected, note):
    data = read(written, "".join(f"w {tag}\n" for tag in tags.split()))
    assert sentences(data)[0][1] == expected
    assert [note in each for each in data.notes] == ([True] if note else [])


def test_a_folder_has_a_file_for_each_split(written, tmp_path):
    folder = written(train_conll=NEWS, dev_conll="EU a b B-ORG\n")
    (tmp_path / "test.bio.gz").write_bytes(gzip.compress(b"He a b O\nsleeps a b O\n"))
    data = tagged_words(folder)
    assert [data.split(split).size for split in SPLITS] == [2, 1, 1]
    assert sentences(data, "test") == [("He sleeps", "O O")]


def test_what_is_cut_from_one_file_is_every_sentence_once(written):
    text = "".join(f"word{number} B-A\n\n" for number in range(50))
    data = tagged_words(written(train_txt=text) + "/train.txt", validation=0.1, test=7)
    parts = {split: {words for words, _ in sentences(data, split)} for split in SPLITS}
    assert {split: len(each) for split, each in parts.items()} == {"train": 38, "validation": 5, "test": 7}
    assert len(set.union(*parts.values())) == 50


def test_a_test_sentence_that_is_a_training_sentence_is_told(written):
    data = tagged_words(written(train_txt="EU B-ORG\n\nhe O\n", test_txt="he O\n\nshe O\n"), validation=0)
    assert data.notes == ("test sentences that are training sentences, too: 1 of 2",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EU x B-ORG\nrises O\n", r"train\.txt, line 2: must have 3 columns, as the first word's line, got 2$"),
        ("EU\n", r"line 1: must have a word and a tag in two columns, got 1 \(tabs or spaces part columns\)$"),
        ("EU B-ORG\nrises B\n", r"train\.txt, line 2: a tag must be O, or B-, I-, E- or S- and a kind, got 'B'$"),
        ("EU NNP\n", r"line 1: a tag must be O, .* got 'NNP'$"),
        ("EU B-\n", r"line 1: a tag must be O, .* got 'B-'$"),
        ("EU B-A\n\u00a0 O\n", r"line 2: the word is empty$"),
        ("\n\n", r"train\.txt: there are no words in it$"),
        ("EU O\n", r"training must have 1 .. 999 different tags besides O, got 0$"),
    ],
    ids=["columns", "one_column", "prefix", "no_scheme", "no_kind", "empty_word", "empty_file", "nothing_tagged"],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(written, text, message):
    with pytest.raises(InputError, match=message):
        read(written, text)


def test_a_file_without_empty_lines_is_refused_before_it_is_one_sentence(written, monkeypatch):
    monkeypatch.setattr(module, "MOST_WORDS", 3)
    with pytest.raises(InputError, match=r"line 4: a sentence may have at most 3 words, and an empty line ends it; got more$"):
        read(written, "w B-A\n" * 4)


@pytest.mark.parametrize("columns", [{"word": 4}, {"tag": -5}, {"word": 3}])
def test_columns_that_a_file_has_not_or_that_are_one_are_refused(written, columns):
    with pytest.raises(InputError, match=r"line 3: must have a (column -?\d for the|word and a tag in two columns).*, got 4 "):
        read(written, NEWS, **columns)


def test_a_tag_that_training_has_not_is_refused_by_its_name(written):
    folder = written(train_txt=NEWS, test_txt="Rome x y B-LOC\n")
    with pytest.raises(InputError, match="test has the tag B-LOC, which no word of training has$"):
        tagged_words(folder)


def test_unknown_data_and_a_folder_without_training_are_refused(written):
    with pytest.raises(InputError, match="choose conll2003 or sample, a file, or a folder"):
        tagged_words("nowhere")
    with pytest.raises(InputError, match="needs a file train with one of the endings .txt,"):
        tagged_words(written(test_txt=NEWS))


def test_two_files_for_one_split_are_refused(written):
    with pytest.raises(InputError, match="must have one file for train, got train.txt, train.bio$"):
        tagged_words(written(train_txt=NEWS, train_bio=NEWS))


@pytest.mark.parametrize(
    ("words", "day", "language", "expected"),
    [
        ("Mittwoch, 3. Mai 2017", (2017, 5, 3), "de", "WEEKDAY DAY MONTH YEAR"),
        ("MAY 5, 2017", (2017, 5, 5), "en", "MONTH DAY YEAR"),
        ("24 de febrero de 2080", (2080, 2, 24), "es", "DAY O MONTH O YEAR"),
        ("mar, 6 mar 2018", (2018, 3, 6), "es", "WEEKDAY DAY MONTH YEAR"),
        ("6 mar 2018", (2018, 3, 6), "es", "DAY MONTH YEAR"),
        ("2017. 5. 5.", (2017, 5, 5), "ko", "YEAR MONTH DAY"),
        ("2017년 5월 5일 (금)", (2017, 5, 5), "ko", "YEAR MONTH DAY WEEKDAY"),
    ],
)
def test_each_word_of_a_date_is_tagged_by_what_it_is(words, day, language, expected):
    tags = [kind if kind == "O" else f"B-{kind}" for kind in expected.split()]
    assert date_tags(words, datetime.date(*day), language) == tags


def test_a_date_in_one_word_has_no_tags():
    assert date_tags("2017/5/3", datetime.date(2017, 5, 3), "ko") is None


def test_every_date_of_thousands_has_each_of_its_parts_once_and_the_numbers_are_theirs():
    left_out = 0
    for words, date, language in written_dates(LANGUAGES, 8_000):
        tags = date_tags(words, date, language)
        if tags is None:
            assert "/" in words
            left_out += 1
            continue
        told = {tag: word for tag, word in zip(tags, words.split(" "), strict=True) if tag != "O"}
        assert len(told) == len(tags) - tags.count("O") and told.keys() >= {"B-DAY", "B-MONTH", "B-YEAR"}, words
        digits = {tag: "".join(filter(str.isdecimal, word)) for tag, word in told.items()}
        assert (digits["B-DAY"], digits["B-YEAR"]) == (str(date.day), str(date.year)), words
        assert digits["B-MONTH"] in ("", str(date.month)), words
        assert {word for word, tag in zip(words.split(" "), tags, strict=True) if tag == "O"} <= {"de", "DE"}, words
    assert left_out < 800


def test_the_sample_has_dates_of_its_own_in_each_split(dates):
    assert [dates.split(split).size for split in SPLITS] == [4_000, 200, 500]
    assert dates.about["classes"] == ("O", "B-DAY", "B-MONTH", "B-WEEKDAY", "B-YEAR")
    assert not {words for words, _ in sentences(dates)} & {words for words, _ in sentences(dates, "test")}


def test_conll2003_is_read_from_what_tensorflow_datasets_has_made_of_its_files(tmp_path, monkeypatch):
    from tensorflow_datasets.text.conll2003.conll2003 import Conll2003

    from kerastoolkit.data.prepared import named_builder

    def from_files(self, _):
        return {split: self._generate_examples(tmp_path / "news.txt") for split in ("train", "dev", "test")}

    (tmp_path / "news.txt").write_text(NEWS, "utf-8")
    monkeypatch.setattr(Conll2003, "_split_generators", from_files)
    builder = named_builder("conll2003", str(tmp_path))
    builder.download_and_prepare()
    monkeypatch.setattr(module, "prepared_builder", lambda name, data_dir: builder)
    data = tagged_words("conll2003")
    expected = [("EU rejects German call", "B-ORG O B-MISC O"), ("Peter Blackburn", "B-PER I-PER")]
    assert all(sorted(sentences(data, split)) == expected for split in SPLITS)


def test_the_data_can_be_made_again_from_its_description(dates):
    assert sentences(rebuild(dates.description), "test") == sentences(dates, "test")
