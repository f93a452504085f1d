"""Sentences whose words have a tag each: CoNLL-2003's, files of the same form, and dates whose parts are tagged."""

from __future__ import annotations

import datetime
import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from kerastoolkit.data.dates import LANGUAGES, written_dates
from kerastoolkit.data.prepared import prepared_builder
from kerastoolkit.data.strings import cut, held_source
from kerastoolkit.data.text_lines import text_lines
from kerastoolkit.experiment import Data, InputError, Source, described
from kerastoolkit.serving.tags import OUTSIDE, entities

PREFIXES = ("B", "I", "E", "S")
SPLITS = {"train": ("train",), "validation": ("valid", "dev", "validation"), "test": ("test",)}
ENDS = tuple(f".{kind}{packed}" for kind in ("txt", "conll", "iob", "bio", "tsv") for packed in ("", ".gz"))
DOCUMENT = "-DOCSTART-"  # the first column of a line that parts documents
MOST_BYTES = 1_000_000_000  # of an unpacked file, whose words are held in memory
MOST_WORDS = 10_000  # of a sentence; more stand where blank lines are missing
MOST_CLASSES = 1_000
SAMPLE = {"train": 4_000, "validation": 200, "test": 500}
SPARE = 1_000  # dates that are written for the sample and may be left out

Sentence = tuple[list[str], list[str]]  # its words and their tags


@described
def tagged_words(data: str, word: int = 0, tag: int = -1, validation: float = 0.1, test: float = 0.1) -> Data:
    """Sentences with a tag for each word, O or the part (B- or I-) and kind of an entity.

    Raw examples: first (batch,) string, the words of a sentence parted by single spaces; tags (batch,) string, as many tags,
    parted by single spaces. Words are in Unicode's composed form (NFC) and have no white space in them. All tags are in
    ``about["classes"]``, O first. Whatever the scheme of the files, entities begin with B- here and go on with I- (BIO, also
    called IOB2).

    Args:
        data: one of
            ``conll2003``: news, persons, places, organisations and others (Tjong Kim Sang & De Meulder 2003,
            https://aclanthology.org/W03-0419/), which TensorFlow Datasets fetches;
            ``sample``: dates in five languages, of which the day, month, year and day of the week are tagged;
            a file in the form of CoNLL-2003's, gzip or not: a line for each word, whose columns tabs or else blanks part, and an
            empty line after each sentence;
            a folder with such files: train and, where there are, valid (or dev, validation) and test, each with the ending .txt,
            .conll, .iob, .bio or .tsv, and .gz or not.
        word, tag: the columns of a file, counted from 0, or from the end with -1.
        validation, test: what is cut from the training sentences where there is no such part: a fraction below 1, a count, or 0.
    Raises:
        InputError: no such data; a line lacks a column or has a tag of another form (with the line); a tag is not among those of
            training; or a share leaves nothing.
    """
    shares = {"validation": validation, "test": test}
    if data == "conll2003":
        return _data(data, _conll2003(), {})
    if data == "sample":
        return _data(data, _sample(), {}, notes=(f"dates in {len(LANGUAGES)} languages: {', '.join(LANGUAGES)}",))
    path = Path(data).expanduser()
    if os.path.isdir(path):
        files = {split: file for split, names in SPLITS.items() if (file := _one_file(path, names)) is not None}
        if "train" not in files:
            raise InputError(f"{path}: needs a file train with one of the endings {', '.join(ENDS)}, and has none")
    elif os.path.isfile(path):
        files = {"train": path}
    else:
        raise InputError(f"unknown tagged words {data}: choose conll2003 or sample, a file, or a folder with train.txt")
    if word == tag:
        raise InputError(f"word and tag must be two columns, got {word} twice")
    return _data(data, {split: list(_read(file, word, tag)) for split, file in files.items()}, shares)


@described
def conll2003() -> Data:
    """CoNLL-2003: 14,041 English sentences of news; persons, places, organisations and others (Tjong Kim Sang & De Meulder)."""
    return tagged_words("conll2003")


def _conll2003() -> dict[str, list[Sentence]]:
    builder = prepared_builder("conll2003", None)
    names = builder.info.features["ner"].feature.names
    parts = {}
    for ours, theirs in (("train", "train"), ("validation", "dev"), ("test", "test")):
        rows = builder.as_dataset(split=theirs).as_numpy_iterator()
        read = (([_cleaned(each.decode()) for each in row["tokens"]], [names[each] for each in row["ner"]]) for row in rows)
        # Each document begins with a line that is no sentence.
        parts[ours] = [(words, tags) for words, tags in read if words and words[0] != DOCUMENT]
    return parts


def _sample() -> dict[str, list[Sentence]]:
    """Dates of ``data.dates``; those that are written in a single word, as 2017/5/3, are left out."""
    written = written_dates(LANGUAGES, sum(SAMPLE.values()) + SPARE)
    found = [(words.split(" "), tags) for words, date, language in written if (tags := date_tags(words, date, language))]
    parts, start = {}, 0
    for split, count in SAMPLE.items():
        parts[split] = found[start : start + count]
        start += count
    return parts


def date_tags(words: str, date: datetime.date, language: str) -> list[str] | None:
    """The tag of each word of a date that ``data.dates`` has written: DAY, MONTH, YEAR, WEEKDAY or O; None where a word is more
    than one of these.

    Args:
        words: the date, parted by single spaces.
        date: which it is.
        language: what Babel calls it.
    """
    split = words.split(" ")
    weekdays, months = _names(date, language)
    # In Spanish mar is March and Tuesday; the day of the week stands first.
    named = max((place for place, word in enumerate(split) if _plain(word) in months), default=None)
    numbers = [place for place, word in enumerate(split) if place != named and any(map(str.isdecimal, word))]
    values = {"YEAR": date.year, "MONTH": date.month, "DAY": date.day}
    if named is None:  # where the month is a number, too, the year stands first: 2017. 5. 3.
        kinds = dict(zip(numbers, values, strict=False))
    else:
        kinds = {place: "YEAR" if _number(split[place]) == date.year else "DAY" for place in numbers}
    if len(numbers) != 3 - (named is not None) or any(_number(split[place]) != values[kind] for place, kind in kinds.items()):
        return None
    kinds |= {} if named is None else {named: "MONTH"}
    kinds = {place: "WEEKDAY" for place, word in enumerate(split) if _plain(word) in weekdays} | kinds
    return [f"B-{kinds[place]}" if place in kinds else OUTSIDE for place in range(len(split))]


def _names(date: datetime.date, language: str) -> tuple[set[str], set[str]]:
    """What a language calls the day of the week and the month of a date."""
    from babel import Locale

    locale = Locale.parse(language)
    weekdays, months = ({_plain(of[context][width][number]) for context in ("format", "stand-alone")
                         for width in ("wide", "abbreviated")}
                        for of, number in ((locale.days, date.weekday()), (locale.months, date.month)))  # fmt: skip
    return weekdays, months


def _number(word: str) -> int:
    return int("".join(letter for letter in word if letter.isdecimal()))


def _plain(word: str) -> str:
    """A name without the marks around it, in small letters."""
    return word.strip("().,").casefold()


def _read(file: Path, word: int, tag: int) -> Iterator[Sentence]:
    """The sentences of a file; lines between them that are comments are passed over."""
    words: list[str] = []
    tags: list[str] = []
    columns = 0  # as many as the first word's line has
    for number, line in enumerate(text_lines(file, most_bytes=MOST_BYTES), 1):
        line = line.removesuffix("\r")
        cells = line.split("\t") if "\t" in line else [cell for cell in line.split(" ") if cell]
        if not line.strip() or cells[0] == DOCUMENT:
            if words:
                yield words, tags
            words, tags = [], []
            continue
        if not words and _is_comment(cells, columns, tag):
            continue
        where = f"{file}, line {number}"
        columns = columns or _checked_columns(len(cells), word, tag, where)
        if len(cells) != columns:
            raise InputError(f"{where}: must have {columns} columns, as the first word's line, got {len(cells)}")
        if not _is_tag(cells[tag]):
            raise InputError(f"{where}: a tag must be O, or B-, I-, E- or S- and a kind, got {cells[tag][:50]!r}")
        if not (cleaned := _cleaned(cells[word])):
            raise InputError(f"{where}: the word is empty")
        if len(words) == MOST_WORDS:
            raise InputError(f"{where}: a sentence may have at most {MOST_WORDS:,} words, and an empty line ends it; got more")
        words.append(cleaned)
        tags.append(cells[tag])
    if words:
        yield words, tags
    if not columns:
        raise InputError(f"{file}: there are no words in it")


def _is_comment(cells: list[str], columns: int, tag: int) -> bool:
    """Whether a line that begins with # is a comment: it has other columns than the words have, or no tag among them."""
    has_tag = -len(cells) <= tag < len(cells) and _is_tag(cells[tag])
    return cells[0].startswith("#") and not (has_tag and columns in (0, len(cells)))


def _checked_columns(count: int, word: int, tag: int, where: str) -> int:
    for name, column in (("word", word), ("tag", tag)):
        if not -count <= column < count:
            raise InputError(f"{where}: must have a column {column} for the {name}, got {count} (tabs or spaces part columns)")
    if word % count == tag % count:
        raise InputError(f"{where}: must have a word and a tag in two columns, got {count} (tabs or spaces part columns)")
    return count


def _is_tag(tag: str) -> bool:
    prefix, _, kind = tag.partition("-")
    return tag == OUTSIDE or (prefix in PREFIXES and bool(kind) and not any(map(str.isspace, kind)))


def _cleaned(word: str) -> str:
    """In Unicode's composed form, without white space."""
    return "".join(unicodedata.normalize("NFC", word).split())


def _one_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    found = [folder / f"{name}{end}" for name in names for end in ENDS if (folder / f"{name}{end}").is_file()]
    if len(found) > 1:
        raise InputError(f"{folder}: must have one file for {names[0]}, got {', '.join(each.name for each in found)}")
    return found[0] if found else None


def _in_bio(parts: dict[str, list[Sentence]]) -> tuple[dict[str, list[Sentence]], tuple[str, ...]]:
    """The sentences with the tags B-, I- and O alone, and what to say of how they were tagged."""
    prefixes, begun_inside, begun = set(), 0, 0
    found: dict[str, list[Sentence]] = {split: [] for split in parts}
    for split, sentences in parts.items():
        for words, tags in sentences:
            written = [OUTSIDE] * len(tags)
            end = kind = None
            for entity in entities(tags):
                first = tags[entity.begin][0]
                # IOB1 has B- only where an entity follows another of its kind.
                follows = entity.begin == end and entity.kind == kind
                begun_inside += first == "I"
                begun += first == "B" and not follows
                end, kind = entity.end, entity.kind
                written[entity.begin : entity.end] = [f"B-{kind}", *[f"I-{kind}"] * (entity.end - entity.begin - 1)]
            prefixes.update(tag[0] for tag in tags)
            found[split].append((words, written))
    if prefixes & {"E", "S"}:
        return found, ("the tags were BIOES and are BIO (IOB2) here",)
    if begun_inside and not begun:
        return found, ("the tags were IOB1 and are BIO (IOB2) here",)
    if begun_inside:
        return found, (f"{begun_inside:,} entities began with I-, which conlleval takes for B-, and begin with B- here",)
    return found, ()


def _data(name: str, parts: dict[str, list[Sentence]], shares: dict[str, float], notes: tuple[str, ...] = ()) -> Data:
    parts, said = _in_bio(parts)
    of_train = {tag for _, tags in parts["train"] for tag in tags} - {OUTSIDE}
    if not 1 <= len(of_train) < MOST_CLASSES:
        raise InputError(f"{name}: training must have 1 .. {MOST_CLASSES - 1:,} different tags besides O, got {len(of_train):,}")
    for split in parts:
        if unknown := sorted({tag for _, tags in parts[split] for tag in tags} - of_train - {OUTSIDE}):
            raise InputError(f"{name}: {split} has the tag {unknown[0][:50]}, which no word of training has")
    chosen = cut(len(parts["train"]), {split: share for split, share in shares.items() if split not in parts}, name=name)
    whole = parts["train"]
    parts |= {split: [whole[row] for row in sorted(rows.tolist())] for split, rows in chosen.items()}
    seen = {tuple(words) for words, _ in parts["train"]}
    if twice := sum(tuple(words) in seen for words, _ in parts["test"]):
        said = (*said, f"test sentences that are training sentences, too: {twice:,} of {len(parts['test']):,}")
    # Beside each other stand the tags of a kind.
    classes = (OUTSIDE, *sorted(of_train, key=lambda tag: (tag[2:], tag)))
    sources = {split: _source(parts[split]) for split in SPLITS}
    return Data(name, **sources, inputs=("first",), encoded=False, about={"classes": classes}, notes=(*notes, *said))


def _source(sentences: Iterable[Sentence]) -> Source:
    columns = {"first": [" ".join(words) for words, _ in sentences], "tags": [" ".join(tags) for _, tags in sentences]}
    return held_source(columns)
