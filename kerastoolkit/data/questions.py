"""Questions whose answers are parts of a text: SQuAD 1.1, files in its form, and a small sample."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.file_blocks import file_blocks
from kerastoolkit.data.made_questions import made_questions
from kerastoolkit.data.prepared import prepared_builder
from kerastoolkit.data.strings import cut, held_source
from kerastoolkit.data.text_lines import one_line
from kerastoolkit.experiment import Data, InputError, Source, described

MOST_BYTES = 300_000_000  # of an unpacked file, which is held in memory; SQuAD's own has 30 million
LONGEST = {"context": 100_000, "question": 100_000, "id": 1_000, "answer": 100_000}  # characters
MOST_ANSWERS = 1_000  # of a question
ENDS = (".json", ".json.gz")
FILES = {"train": "train*.json", "test": "dev*.json"}
AT_ONCE = 256  # questions whose windows are counted together
SAMPLE = {"train": 200, "validation": 20, "test": 40}  # paragraphs


@dataclass(frozen=True)
class Questions:
    """Questions of one part as they are read, and what was left out.

    Attributes:
        contexts: each different text -> its number.
        rows: questions, ids, all answers as JSON, number of the text, and where the first answer begins and ends in it.
        places: id -> where it was read, for a message on the second of that name.
        counts: of what was met with.
    """

    contexts: dict[str, int] = field(default_factory=dict)
    rows: list[tuple[str, str, str, int, int, int]] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


@described
def questions(data: str, validation: float = 0.05, test: float = 0.1) -> Data:
    """Questions and texts with the answers in them: Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250.

    Raw examples: question (batch,) string, in Unicode's composed form (NFC) and its white space evened out; context (batch,)
    string, the text as it was found; id (batch,) string; answers (batch,) string, a JSON list of all texts that count as right;
    answer_begin, answer_end (batch,) int32, where the first of them stands in the context, in characters (code points), the end
    one after the last. Where an answer does not stand at the place that is given, the nearest place counts; a question whose
    answers are nowhere in its text is left out and counted in a note, and so are questions without words or without an answer.

    Args:
        data: one of
            ``squad``, SQuAD 1.1, whose validation split is the test split here, because the test questions are not public;
            ``sample``, made paragraphs on who did what when and where;
            a file in SQuAD's form, .json or .json.gz;
            a folder with train*.json and, if there is, dev*.json (or these with .gz), which is the test split.
        validation, test: what is cut from the training part where there is none: a fraction of the paragraphs below 1, a count of
            paragraphs, or 0. Questions on one text are never on both sides.
    Raises:
        InputError: no such data, something is wrong in a file (with its place), or a share leaves nothing for training.
    """
    if data == "sample":
        parts = dict(zip(SAMPLE, map(_made, SAMPLE, made_questions(tuple(SAMPLE.values()))), strict=True))
    elif data == "squad":
        parts = {"train": _prepared("train"), "test": _prepared("validation")}
    else:
        parts = {split: _read(file) for split, file in _files(data).items()}
    shares = {split: share for split, share in (("test", test), ("validation", validation)) if split not in parts}
    return _data(data, parts, shares)


@described
def squad(*, validation: float = 0.05) -> Data:
    """SQuAD 1.1: 87,599 questions on Wikipedia's paragraphs (Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250).

    Args:
        validation: what is cut from the training paragraphs; the official validation split, 10,570 questions, is the test split.
    """
    return questions("squad", validation)


def with_window_lengths(data: Data, preprocess: Any) -> Data:
    """The data with the lengths of the training and validation examples, in tokens: that of the longest window times the number
    of windows, because a step holds all windows of its examples.

    Args:
        data: what ``questions`` gives.
        preprocess: model from question and context to a dict with tokens (windows, length) int32, 0 after the end, and example
            (windows,) int32.
    """
    return dataclasses.replace(data, **{split: _with_lengths(data.split(split), preprocess) for split in ("train", "validation")})


def _files(data: str) -> dict[str, Path]:
    path = Path(data).expanduser()
    if os.path.isdir(path):
        files = {}
        for split, pattern in FILES.items():
            found = files_of_folder(path, pattern)
            if len(found) > 1:
                raise InputError(f"{path}: must have one file {pattern}, got {', '.join(each.name for each in found)}")
            if found:
                files[split] = found[0]
        if "train" not in files:
            raise InputError(f"{path}: needs {FILES['train']} in SQuAD's form, and has none")
        return files
    if not os.path.isfile(path):
        known = "squad, sample, a .json file in SQuAD's form, or a folder with train*.json"
        raise InputError(f"unknown questions {data}: choose {known}")
    return {"train": path}


def files_of_folder(folder: Path, pattern: str) -> list[Path]:
    """The files of a pattern, with .gz or without."""
    return sorted(each for end in ("", ".gz") for each in folder.glob(pattern + end) if each.is_file())


def _read(path: Path) -> Questions:
    """The questions of a file in SQuAD's form."""
    blocks, size = [], 0
    for block in file_blocks(path):
        size += len(block)
        if size > MOST_BYTES:
            raise InputError(f"{path}: a file of questions may have at most {MOST_BYTES:,} bytes (unpacked), got more")
        blocks.append(block)
    try:
        whole = json.loads(b"".join(blocks).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text ({error.reason} at byte {error.start:,})") from None
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and brackets without end
        raise InputError(f"{path}: must be JSON in SQuAD's form ({str(error)[:100]})") from None
    del blocks
    found = Questions()
    for number, article in enumerate(_list(f"{path}", whole, "data"), start=1):
        where = f"{path}, article {number}"
        if isinstance(article, dict) and isinstance(article.get("title"), str):
            where += f" ({ascii(article['title'][:60])[1:-1]})"
        for paragraph_number, paragraph in enumerate(_list(where, article, "paragraphs"), start=1):
            place = f"{where}, paragraph {paragraph_number}"
            context = _text(place, paragraph, "context", "context")
            for question_number, asked in enumerate(_list(place, paragraph, "qas"), start=1):
                _add(found, f"{place}, question {question_number}", context, asked)
    if not found.rows:
        told = _left_out_told(found.counts)
        raise InputError(f"{path}: there are no questions with answers in it{f' ({told})' if told else ''}")
    return found


def _add(found: Questions, where: str, context: str, asked: Any) -> None:
    """Checks a question and puts it with the others."""
    name = _text(where, asked, "id", "id")
    where += f" (id {ascii(name[:60])[1:-1]})"
    if name in found.places:
        raise InputError(f"{where}: each id must be there once, and this one is that of {found.places[name]}")
    found.places[name] = where
    question = one_line(_text(where, asked, "question", "question"))
    answers = _list(where, asked, "answers")
    if len(answers) > MOST_ANSWERS:
        raise InputError(f"{where}: there may be at most {MOST_ANSWERS:,} answers, got {len(answers):,}")
    texts, place = [], None
    for answer in answers:
        text, start = _text(where, answer, "text", "answer"), answer.get("answer_start")
        if isinstance(start, bool) or not isinstance(start, int):
            raise InputError(f"{where}: answer_start must be a whole number, got {json.dumps(start)[:30]}")
        if not text.strip():
            raise InputError(f"{where}: an answer's text is empty")
        texts.append(text)
        if place is None and (begin := _nearest(context, text, start)) is not None:
            place = begin, begin + len(text)
            found.counts["moved"] += begin != start
    if not question or place is None:
        found.counts["empty" if not question else "missing" if texts else "unanswered"] += 1
        return
    number = found.contexts.setdefault(context, len(found.contexts))
    found.rows.append((question, name, json.dumps(texts, ensure_ascii=False), number, *place))


def _nearest(context: str, text: str, start: int) -> int | None:
    """Where the text stands in the context, as near to ``start`` as there is; None where it does not."""
    if start >= 0 and context.startswith(text, start):
        return start
    start = min(max(start, 0), len(context))
    before = context.rfind(text, 0, start + len(text))
    after = context.find(text, start)
    places = [place for place in (before, after) if place >= 0]
    return min(places, key=lambda place: abs(place - start), default=None)


def _list(where: str, record: Any, name: str) -> list[Any]:
    if not isinstance(record, dict) or not isinstance(record.get(name), list):
        got = type(record).__name__ if not isinstance(record, dict) else json.dumps(record.get(name))[:30]
        raise InputError(f"{where}: must have a list of {name}, got {got}")
    return record[name]


def _text(where: str, record: Any, name: str, kind: str) -> str:
    if not isinstance(record, dict) or not isinstance(record.get(name), str):
        got = type(record).__name__ if not isinstance(record, dict) else json.dumps(record.get(name))[:30]
        raise InputError(f"{where}: must have a text {name}, got {got}")
    text = record[name]
    if len(text) > LONGEST[kind]:
        raise InputError(f"{where}: {name} may have at most {LONGEST[kind]:,} characters, got {len(text):,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: {name} has half a character, \\u{ord(text[error.start]):04x}") from None
    return text


def _prepared(split: str) -> Questions:
    """A split of SQuAD 1.1 as TensorFlow Datasets has it."""
    builder = prepared_builder("squad", None)
    found = Questions()
    for number, row in enumerate(builder.as_dataset(split=split).as_numpy_iterator(), start=1):
        starts, texts = row["answers"]["answer_start"], row["answers"]["text"]
        answers = [{"text": text.decode(), "answer_start": int(start)} for text, start in zip(texts, starts, strict=True)]
        asked = {"id": row["id"].decode(), "question": row["question"].decode(), "answers": answers}
        _add(found, f"squad, {split} split, question {number}", row["context"].decode(), asked)
    return found


def _made(split: str, paragraphs: list[tuple[str, list[dict[str, Any]]]]) -> Questions:
    found = Questions()
    for number, (text, asked_of_it) in enumerate(paragraphs, start=1):
        for asked in asked_of_it:
            _add(found, f"sample, {split}, paragraph {number}", text, {**asked, "id": f"{split}-{len(found.rows) + 1}"})
    return found


def _left_out_told(counts: Counter[str]) -> str:
    reasons = {"missing": "no answer of theirs is in the text", "unanswered": "they have no answer", "empty": "they are empty"}
    told = [f"{counts[key]:,} because {reason}" for key, reason in reasons.items() if counts[key]]
    return f"left out: {', '.join(told)}" if told else ""


def _data(name: str, parts: dict[str, Questions], shares: dict[str, float]) -> Data:
    train = parts["train"]
    cuts = cut(len(train.contexts), shares, name=f"{name} (paragraphs)")
    of_split = {split: (train, paragraphs) for split, paragraphs in cuts.items()}
    of_split |= {split: (part, np.arange(len(part.contexts))) for split, part in parts.items() if split != "train"}
    columns = {id(part): _columns(part) for part in parts.values()}
    sources = {split: _source(*columns[id(part)], paragraphs) for split, (part, paragraphs) in of_split.items()}
    counts = sum((part.counts for part in parts.values()), Counter())
    notes = []
    if name == "squad":
        notes.append("test is SQuAD's validation split: its test questions are not public")
    if left_out := _left_out_told(counts):
        notes.append(f"questions {left_out}")
    if counts["moved"]:
        notes.append(f"answers that do not stand where the file says, taken from the nearest place: {counts['moved']:,}")
    if "test" in parts and (twice := len(parts["test"].contexts.keys() & train.contexts.keys())):
        notes.append(f"test paragraphs that are training paragraphs, too: {twice:,} of {len(parts['test'].contexts):,}")
    about = {"paragraphs": len(train.contexts) - sum(len(cuts[split]) for split in shares)}
    return Data(name, **sources, inputs=("question", "context"), encoded=False, about=about, notes=tuple(notes))


def _columns(part: Questions) -> tuple[Source, Source, np.ndarray]:
    """(questions, contexts, and of each question the number of its context and its answer's place)."""
    asked, names, answers, *numbers = zip(*part.rows, strict=True)
    texts = held_source({"question": list(asked), "id": list(names), "answers": list(answers)})
    return texts, held_source({"context": list(part.contexts)}), np.array(numbers, np.int32).T


def _source(texts: Source, contexts: Source, numbers: np.ndarray, paragraphs: np.ndarray) -> Source:
    """The questions on some paragraphs, in the order in which they were read."""
    import tensorflow as tf

    rows = np.flatnonzero(np.isin(numbers[:, 0], paragraphs))

    @functools.cache
    def held() -> tuple[Any, Any]:
        with tf.init_scope(), tf.device("CPU:0"):
            return tf.constant(rows, tf.int64), tf.constant(numbers[rows])

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        places, found = (tf.gather(each, indices) for each in held())
        number, begin, end = tf.unstack(found, axis=1)
        return {**texts.fetch(places), **contexts.fetch(number), "answer_begin": begin, "answer_end": end}

    return Source(len(rows), fetch)


def _with_lengths(source: Source, preprocess: Any) -> Source:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64)], autograph=False)
    def lengths(indices):
        raw = source.fetch(indices)
        found = preprocess({name: raw[name] for name in ("question", "context")})
        used = tf.reduce_sum(tf.cast(found["tokens"] != 0, tf.int32), axis=1)
        count = tf.size(indices)
        longest = tf.math.unsorted_segment_max(used, found["example"], count)
        return (longest * tf.math.unsorted_segment_sum(tf.ones_like(used), found["example"], count))[:, None]

    found = [np.zeros((0, 1), np.int32)]
    for start in range(0, source.size, AT_ONCE):
        found.append(lengths(tf.range(start, min(start + AT_ONCE, source.size), dtype=tf.int64)).numpy())
    return dataclasses.replace(source, lengths=np.concatenate(found))
