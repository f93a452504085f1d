"""Dates written in words and what they are in ISO 8601: a small translation task whose pairs are right by construction."""

from __future__ import annotations

import datetime
import re
from typing import Any

import numpy as np

from kerastoolkit.data.strings import held_source
from kerastoolkit.data.text_lines import one_line
from kerastoolkit.experiment import Data, InputError, described

FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
SEED = 20_170_503
CASES = (str, str, str.lower, str.upper)  # as Babel writes it twice as often
LANGUAGES = ("de", "en", "es", "fr", "ko")


@described
def dates(*, languages: tuple[str, ...] = LANGUAGES, train: int = 20_000, validation: int = 1_000,
          test: int = 2_000) -> Data:  # fmt: skip
    """Dates of 1900 to 2099 in words, in German, English, Spanish, French and Korean, and in ISO 8601: made, no download.

    Each pair has a date of its own, so that those of validation and test are dates that training never sees. A date is written in
    one of the languages, in one of the ways that Unicode's CLDR (as Babel has it) knows for it, with or without the day of the
    week, a quarter of them in small letters and a quarter in capitals. Each spelling means one date: years have four digits, and
    where the month is a number the year stands first. Another release of CLDR may write some dates in another way.

    Raw examples: source (batch,) string, as ``Mittwoch, 3. Mai 2017``, and target (batch,) string, as ``2017-05-03``.

    Args:
        languages: what Babel calls them.
        train, validation, test: how many dates.
    Raises:
        InputError: an unknown language, two of which one name means different months, or too many dates.
    """
    counts = {"validation": validation, "test": test, "train": train}
    days = (LAST - FIRST).days + 1
    if train < 1 or min(counts.values()) < 0 or sum(counts.values()) > days:
        got = f"got {train}, {validation} and {test}"
        raise InputError(f"train, validation and test must be numbers of dates, of {days:,} in all, {got}")
    locales = [_locale(language) for language in languages]
    pairs: dict[str, list[str]] = {"source": [], "target": []}
    for words, date, _ in written_dates(languages, sum(counts.values())):
        pairs["source"].append(words)
        pairs["target"].append(date.isoformat())
    sources, start = {}, 0
    for split, count in counts.items():
        sources[split] = held_source({key: column[start : start + count] for key, column in pairs.items()})
        start += count
    about = {"source": "dates in words", "target": "ISO 8601", "languages": tuple(map(str, locales))}
    notes = (f"the dates are written in {len(locales)} languages, mixed: {', '.join(map(str, locales))}",)
    return Data("dates", **sources, inputs=("source",), encoded=False, about=about, notes=notes)


def written_dates(languages: tuple[str, ...], count: int) -> list[tuple[str, datetime.date, str]]:
    """(words, date, language) of ``count`` different dates, always the same ones in the same order, as ``dates`` describes them.

    Raises:
        InputError: an unknown language, none, or two of which one name means different months.
    """
    locales = [_locale(language) for language in languages]
    if not locales:
        raise InputError("languages must be one or more, got none")
    _refuse_ambiguous_months(locales)
    patterns = [_patterns(locale) for locale in locales]
    random = np.random.default_rng(SEED)
    chosen = random.permutation((LAST - FIRST).days + 1)[:count] + FIRST.toordinal()
    written = []
    for day, number in zip(chosen.tolist(), random.integers(0, 2**31, (len(chosen), 3)).tolist(), strict=True):
        date, which = datetime.date.fromordinal(day), number[0] % len(locales)
        ways = patterns[which]
        words = ways[number[1] % len(ways)].apply(date, locales[which])
        written.append((one_line(CASES[number[2] % len(CASES)](words)), date, str(locales[which])))
    return written


def _locale(language: str) -> Any:
    from babel import Locale, UnknownLocaleError

    try:
        return Locale.parse(language)
    except (UnknownLocaleError, ValueError, TypeError):
        raise InputError(f"languages must be what Babel knows, such as de or pt_BR, got {language}") from None


def _patterns(locale: Any) -> list[Any]:
    """The language's ways of writing a date, each once, in an order that is always the same."""
    ways = [*locale.date_formats.values(), *locale.datetime_skeletons.values()]
    found = {way.pattern: way for way in ways if _means_one_date(way.pattern)}
    return [found[pattern] for pattern in sorted(found)]


def _means_one_date(pattern: str) -> bool:
    """Whether a CLDR pattern (https://unicode.org/reports/tr35/tr35-dates.html) tells year, month and day beyond doubt."""
    runs = [each.group() for each in re.finditer(r"([A-Za-z])\1*", re.sub("'[^']*'", "", pattern))]
    width = {run[0]: len(run) for run in runs}
    order = "".join(letter for letter in width if letter not in "Ec")  # days of the week
    in_words = width.get("M", width.get("L")) in (3, 4)  # 5 is a single letter
    as_number = order in ("yMd", "yLd") and not in_words and width.get("M", width.get("L")) in (1, 2)
    # CLDR 48 writes ordinal numbers as ddd, which Babel 2.19 makes 028 of.
    written_out = width.get("y") != 2 and width.get("d", 0) < 3
    return sorted(order) in (["M", "d", "y"], ["L", "d", "y"]) and written_out and (in_words or as_number)


def _refuse_ambiguous_months(locales: list[Any]) -> None:
    """Croatian's listopad is October, Polish's is November."""
    seen: dict[str, tuple[int, Any]] = {}
    for locale in locales:
        for width in ("wide", "abbreviated"):
            for names in (locale.months[context][width] for context in ("format", "stand-alone")):
                for month, name in names.items():
                    before, other = seen.setdefault(name.casefold(), (month, locale))
                    if before != month:
                        raise InputError(f"languages must not mean different months by {name}, as {other} and {locale} do")
