import datetime
from collections import Counter

import numpy as np
import pytest
from babel import Locale
from babel.dates import format_date

from kerastoolkit.data import dates as module
from kerastoolkit.data.dates import dates
from kerastoolkit.data.sentence_pairs import texts
from kerastoolkit.experiment import InputError, rebuild

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def data():
    return dates()


@pytest.fixture(scope="module")
def pairs(data):
    """Split -> its (written, ISO) pairs."""
    return {name: list(zip(texts(data.split(name), "source"), texts(data.split(name), "target"), strict=True)) for name in SPLITS}


def patterns(language):
    return [way.pattern for way in module._patterns(Locale.parse(language))]


def everything(pairs):
    return [pair for split in SPLITS for pair in pairs[split]]


def test_there_are_20_000_dates_to_train_on_and_3_000_others(pairs):
    assert {name: len(each) for name, each in pairs.items()} == {"train": 20_000, "validation": 1_000, "test": 2_000}


def test_each_date_stands_in_one_pair_of_one_split(pairs):
    assert len({iso for _, iso in everything(pairs)}) == 23_000


def test_targets_are_dates_of_two_centuries_in_iso_8601(pairs):
    days = [datetime.date.fromisoformat(iso) for _, iso in everything(pairs)]
    assert [day.isoformat() for day in days] == [iso for _, iso in everything(pairs)]
    assert (min(days).year, max(days).year) == (1900, 2099)


def test_no_spelling_means_two_dates(pairs):
    assert len({written.casefold() for written, _ in everything(pairs)}) == 23_000


def test_each_spelling_has_the_digits_of_its_day_and_of_its_whole_year(pairs):
    for written, iso in everything(pairs):
        year, month, day = iso.split("-")
        numbers = ["".join(c if c.isdecimal() else " " for c in written).split()][0]
        expected = Counter([year, str(int(day))])
        # Where there is a third number it is the month, and the year stands first: 2017. 5. 3.
        assert Counter(numbers) - expected in (Counter(), Counter([str(int(month))])), (written, iso)
        if len(numbers) == 3:
            assert numbers == [year, str(int(month)), str(int(day))], (written, iso)


def test_every_spelling_is_what_babel_writes_for_its_date(pairs):
    locales = [Locale.parse(language) for language in ("de", "en", "es", "fr", "ko")]
    ways = [(way, locale) for locale in locales for way in patterns(str(locale))]
    for written, iso in pairs["validation"][:200]:
        day = datetime.date.fromisoformat(iso)
        known = {format_date(day, way, locale).casefold() for way, locale in ways}
        assert written.casefold() in known, (written, iso)


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("de", {"Mittwoch, 3. Mai 2017", "Mi., 3. Mai 2017", "3. Mai 2017"}),
        ("en", {"Wednesday, May 3, 2017", "Wed, May 3, 2017", "May 3, 2017"}),
        ("fr", {"mercredi 3 mai 2017", "mer. 3 mai 2017", "3 mai 2017"}),
        ("es", {"miércoles, 3 de mayo de 2017", "3 de mayo de 2017", "3 may 2017"}),
        ("ko", {"2017년 5월 3일 수요일", "2017년 5월 3일 (수)", "2017년 5월 3일", "2017. 5. 3."}),
    ],
)
def test_a_language_writes_a_date_with_and_without_the_day_of_the_week(language, expected):
    written = {format_date(datetime.date(2017, 5, 3), way, language) for way in patterns(language)}
    assert expected <= written


def test_each_language_is_among_the_pairs_of_each_split(pairs):
    for each in pairs.values():
        written = " ".join(source.lower() for source, _ in each)
        assert all(word in written for word in ("oktober", "october", "octubre", "octobre", "년", "수요일", "donnerstag"))


def test_a_quarter_of_the_dates_is_in_small_letters_and_a_quarter_in_capitals(pairs):
    german = [source for source, _ in pairs["train"] if "oktober" in source.lower()]
    cases = Counter("lower" if each.islower() else "upper" if each.isupper() else "as it is" for each in german)
    shares = {case: count / len(german) for case, count in cases.items()}
    assert shares == pytest.approx({"lower": 0.25, "upper": 0.25, "as it is": 0.5}, abs=0.06)


@pytest.mark.parametrize(
    ("pattern", "is_good"),
    [
        ("EEEE, d. MMMM y", True),
        ("d 'de' MMM 'de' y", True),
        ("cccc d. LLLL yyyy", True),
        ("y. M. d.", True),
        ("y-MM-dd", True),
        ("dd.MM.y", False),
        ("M/d/y", False),
        ("y-dd-MM", False),
        ("MMMM d, yy", False),
        ("d MMMMM y", False),
        ("MMMM y", False),
        ("d MMMM", False),
        ("d MMMM y G", False),
        ("'y' d MMMM", False),
        ("d MMMM y HH:mm", False),
    ],
)
def test_a_pattern_that_leaves_a_doubt_is_left_out(pattern, is_good):
    assert module._means_one_date(pattern) == is_good


def test_the_dates_are_always_the_same(data, pairs):
    assert list(texts(dates().test, "source")) == [source for source, _ in pairs["test"]]
    assert list(texts(rebuild(data.description).test, "source")) == [source for source, _ in pairs["test"]]


def test_more_training_dates_leave_those_of_validation_and_test_as_they_are(pairs):
    few = dates(train=10)
    assert few.train.size == 10
    assert list(zip(texts(few.test, "source"), texts(few.test, "target"), strict=True)) == pairs["test"]


def test_the_data_says_that_its_languages_are_mixed(data):
    assert data.about == {"source": "dates in words", "target": "ISO 8601", "languages": ("de", "en", "es", "fr", "ko")}
    assert data.notes == ("the dates are written in 5 languages, mixed: de, en, es, fr, ko",)
    assert (data.name, data.inputs, data.encoded) == ("dates", ("source",), False)


def test_other_languages_can_be_chosen():
    found = list(texts(dates(languages=["ja"], train=50, validation=1, test=1).train, "source"))
    assert all(set("年/") & set(each) for each in found)


def test_all_dates_of_the_two_centuries_can_be_had():
    data = dates(train=70_000, validation=1_000, test=2_049)
    assert len({iso for name in SPLITS for iso in texts(data.split(name), "target")}) == 73_049


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"languages": ["de", "klingon"]}, r"^languages must be what Babel knows, such as de or pt_BR, got klingon$"),
        ({"languages": [""]}, r"^languages must be what Babel knows, .* got $"),
        ({"languages": []}, r"^languages must be one or more, got none$"),
        ({"languages": ["hr", "cs"]}, r"^languages must not mean different months by listopad, as hr and cs do$"),
        ({"train": 0}, r"^train, validation and test must be numbers of dates, of 73,049 in all, got 0, 1000 and 2000$"),
        ({"train": 70_050}, r"of 73,049 in all, got 70050, 1000 and 2000$"),
        ({"test": -1}, r"of 73,049 in all, got 20000, 1000 and -1$"),
    ],
    ids=["unknown", "nameless", "none", "months", "no_training", "too_many", "negative"],
)
def test_what_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        dates(**arguments)


def test_the_seed_of_numpy_itself_is_left_alone():
    np.random.seed(3)
    before = np.random.get_state()[1].tolist()
    dates(train=5, validation=1, test=1)
    assert np.random.get_state()[1].tolist() == before
