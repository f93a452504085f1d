"""Questions on texts: what is read, what is refused, and that no text is on two sides."""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest

from kerastoolkit.data.inspect_questions import inspect_questions, is_questions
from kerastoolkit.data.questions import questions, with_window_lengths
from kerastoolkit.experiment import InputError, rebuild


def asked(name, question="When?", *answers):
    return {"id": name, "question": question, "answers": [{"text": text, "answer_start": start} for text, start in answers]}


def squad_of(*paragraphs, title="A title"):
    return {"version": "1.1", "data": [{"title": title, "paragraphs": [{"context": context, "qas": list(qas)}
                                                                      for context, *qas in paragraphs]}]}  # fmt: skip


def saved(folder, value, name="asked.json"):
    text = value if isinstance(value, (str, bytes)) else json.dumps(value)
    text = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return str(folder / name)


def rows_of(source):
    raw = {key: value.numpy() for key, value in source.fetch(np.arange(source.size)).items()}
    columns = {key: [each.decode() if isinstance(each, bytes) else each for each in value.tolist()] for key, value in raw.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def many(count, letter="p"):
    """As many paragraphs of two questions each."""

    def paragraph(i):
        years = asked(f"{letter}{i}a", "When?", (str(1900 + i), len(f"{letter} {i} was in ")))
        return f"{letter} {i} was in {1900 + i}.", years, asked(f"{letter}{i}b", "Who?", (letter, 0))

    return squad_of(*map(paragraph, range(count)))


def whole(folder, *paragraphs, **kwargs):
    return rows_of(questions(saved(folder, squad_of(*paragraphs), **kwargs), validation=0, test=0).train)


def test_a_file_is_read_with_places_in_characters_of_the_text_as_it_is(tmp_path):
    context = " Caf\u00e9 and cafe\u0301\r\n 😀 in 東京. "
    row, *more = whole(tmp_path, (context, asked("one", " Where \t is cafe\u0301? ", ("東京", 23), ("in 東京", 20))))
    assert more == []
    assert row == {"question": "Where is caf\u00e9?", "context": context, "id": "one", "answers": '["東京", "in 東京"]',
                   "answer_begin": 23, "answer_end": 25}  # fmt: skip
    assert context[23:25] == "東京"


def test_a_gzip_file_is_read_alike(tmp_path):
    paths = [saved(tmp_path, many(4), name) for name in ("a.json", "a.json.gz")]
    plain, zipped = (rows_of(questions(path, validation=0, test=0).train) for path in paths)
    assert plain == zipped and len(plain) == 8


def test_an_answer_that_stands_elsewhere_is_taken_from_the_nearest_place_and_told_in_a_note(tmp_path):
    given = (asked(f"q{place}", "What?", ("12", place)) for place in (5, 9, -4, 99, 3))
    data = questions(saved(tmp_path, squad_of(("no 12 no no 12 no", *given))), validation=0, test=0)
    assert [row["answer_begin"] for row in rows_of(data.train)] == [3, 12, 3, 12, 3]
    assert data.notes == ("answers that do not stand where the file says, taken from the nearest place: 4",)


def test_questions_without_an_answer_in_the_text_or_without_words_are_left_out_and_told_in_a_note(tmp_path):
    given = (asked("a", "When?", ("June", 0)), asked("b"), asked("c", " \n", ("May", 10)),
             asked("d", "When?", ("June", 0), ("May", 10)))  # fmt: skip
    data = questions(saved(tmp_path, squad_of(("It was in May.", *given))), validation=0, test=0)
    (row,) = rows_of(data.train)
    assert (row["id"], row["answer_begin"], row["answers"]) == ("d", 10, '["June", "May"]')
    reasons = "1 because no answer of theirs is in the text, 1 because they have no answer, 1 because they are empty"
    assert data.notes == (f"questions left out: {reasons}",)


def test_no_text_is_in_two_splits(tmp_path):
    data = questions(saved(tmp_path, many(40)), validation=0.1, test=8)
    contexts = {split: [row["context"] for row in rows_of(data.split(split))] for split in ("train", "validation", "test")}
    assert {split: len(set(each)) for split, each in contexts.items()} == {"train": 28, "validation": 4, "test": 8}
    assert {split: len(each) for split, each in contexts.items()} == {"train": 56, "validation": 8, "test": 16}
    assert len(set().union(*contexts.values())) == 40
    assert data.about == {"paragraphs": 28}
    again = rebuild(data.description)
    assert rows_of(again.test) == rows_of(data.test)


def test_one_text_in_two_articles_is_one_paragraph(tmp_path):
    file = many(10)
    file["data"] += squad_of(("p 3 was in 1903.", asked("x", "Who?", ("p", 0))))["data"]
    for validation in (3, 7):
        data = questions(saved(tmp_path, file), validation=validation, test=0)
        sides = [{row["context"] for row in rows_of(data.split(split))} for split in ("train", "validation")]
        assert not sides[0] & sides[1]


def test_a_folder_has_its_dev_file_for_the_test_split(tmp_path):
    saved(tmp_path, many(20), "train-v1.1.json")
    saved(tmp_path, many(5, "q"), "dev-v1.1.json.gz")
    data = questions(str(tmp_path), validation=2)
    assert [data.split(split).size for split in ("train", "validation", "test")] == [36, 4, 10]
    assert {row["context"][0] for row in rows_of(data.test)} == {"q"}
    saved(tmp_path, many(20), "dev-v1.1.json.gz")
    assert questions(str(tmp_path)).notes == ("test paragraphs that are training paragraphs, too: 20 of 20",)
    saved(tmp_path, many(3), "train-v2.json")
    with pytest.raises(InputError, match=r"must have one file train\*.json, got train-v1.1.json, train-v2.json"):
        questions(str(tmp_path))


WHO = ("Who?", ("Ann", 0))
GOOD = squad_of(("In May.", asked("a", "When?", ("May", 3))), ("Ann.", asked("b", *WHO), asked("c", *WHO)))


def broken(**changes):
    """The good file with its third question changed."""
    file = json.loads(json.dumps(GOOD))
    file["data"][0]["paragraphs"][1]["qas"][1].update(changes)
    return file


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (broken(id="a"), r"article 1 \(A title\), paragraph 2, question 2 \(id a\): each id must .*paragraph 1, question 1"),
        (broken(id=5), r"paragraph 2, question 2: must have a text id, got 5"),
        (broken(question=None), r"question 2 \(id c\): must have a text question, got null"),
        (broken(question="a" * 100_001), "question may have at most 100,000 characters, got 100,001"),
        (broken(question="\ud800"), r"question has half a character, \\ud800"),
        (broken(answers={}), r"question 2 \(id c\): must have a list of answers, got \{\}"),
        (broken(answers=["Ann"]), r"question 2 \(id c\): must have a text text, got str"),
        (broken(answers=[{"text": " ", "answer_start": 0}]), "an answer's text is empty"),
        (broken(answers=[{"text": "Ann", "answer_start": "0"}]), 'answer_start must be a whole number, got "0"'),
        (broken(answers=[{"text": "Ann", "answer_start": True}]), "answer_start must be a whole number, got true"),
        (broken(answers=[{"text": "Ann", "answer_start": 0}] * 1_001), "at most 1,000 answers, got 1,001"),
        (squad_of(("a" * 100_001, asked("a"))), r"paragraph 1: context may have at most 100,000 characters"),
        ({"data": [{"paragraphs": [7]}]}, "article 1, paragraph 1: must have a text context, got int"),
        ({"data": [{"title": "x"}]}, r"article 1 \(x\): must have a list of paragraphs, got null"),
        ({"data": []}, "there are no questions with answers in it"),
        (squad_of(("In May.", asked("a"))), r"no questions with answers in it \(left out: 1 because they have no answer\)"),
        ([], "must have a list of data, got list"),
        ("{", "must be JSON in SQuAD's form"),
        ("[" * 100_000, "must be JSON in SQuAD's form"),
        (b'{"data": "\xff"}', "must be UTF-8 text"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(tmp_path, file, message):
    with pytest.raises(InputError, match=rf"asked\.json\b.*{message}"):
        questions(saved(tmp_path, file))


def test_a_file_that_is_too_long_is_refused_before_it_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("kerastoolkit.data.questions.MOST_BYTES", 1_000)
    with pytest.raises(InputError, match="at most 1,000 bytes .unpacked., got more"):
        questions(saved(tmp_path, many(50), "asked.json.gz"))


def test_data_that_is_not_there_and_shares_that_leave_nothing_are_refused(tmp_path):
    with pytest.raises(InputError, match="unknown questions nowhere.json: choose squad, sample, a .json file"):
        questions("nowhere.json")
    with pytest.raises(InputError, match=r"needs train\*.json in SQuAD's form, and has none"):
        questions(str(tmp_path))
    with pytest.raises(InputError, match="paragraphs.*leave none of 3 examples"):
        questions(saved(tmp_path, many(3)), validation=2, test=1)


def test_squad_is_read_as_tensorflow_datasets_gives_it(monkeypatch):
    import tensorflow as tf

    def split_of(paragraphs):
        for context, *qas in paragraphs:
            for each in qas:
                texts, starts = zip(*((answer["text"], answer["answer_start"]) for answer in each["answers"]), strict=True)
                yield {"id": each["id"], "question": each["question"], "context": context, "title": "t",
                       "answers": {"text": list(texts), "answer_start": np.array(starts, np.int32)}}  # fmt: skip

    def as_dataset(split):
        rows = {"train": [(f"É {i}", asked(f"t{i}", "What?", (str(i), 2))) for i in range(20)],
                "validation": [("Ann or Bo", asked("v", "Who?", ("Bo", 7), ("Ann", 0)))]}[split]  # fmt: skip
        datasets = [tf.data.Dataset.from_tensors(row) for row in split_of(rows)]
        found = datasets[0]
        for each in datasets[1:]:
            found = found.concatenate(each)
        return found

    builder = SimpleNamespace(as_dataset=as_dataset)
    monkeypatch.setattr("kerastoolkit.data.questions.prepared_builder", lambda name, folder: builder)
    data = questions("squad", validation=0.1)
    assert [data.split(split).size for split in ("train", "validation", "test")] == [18, 2, 1]
    (row,) = rows_of(data.test)
    assert row["answers"] == '["Bo", "Ann"]' and (row["answer_begin"], row["answer_end"]) == (7, 9)
    assert {row["context"][row["answer_begin"]:] for row in rows_of(data.validation)} < {str(i) for i in range(20)}
    assert "test is SQuAD's validation split" in data.notes[0]


def test_the_samples_answers_are_in_its_texts_and_each_question_has_one_answer():
    data = questions("sample")
    assert [data.split(split).size for split in ("train", "validation", "test")] == [600, 60, 120]
    assert data.notes == ()
    rows = [row for split in ("train", "validation", "test") for row in rows_of(data.split(split))]
    assert all(json.loads(row["answers"]) == [row["context"][row["answer_begin"] : row["answer_end"]]] for row in rows)
    assert len({(row["context"], row["question"]) for row in rows}) == len(rows) == len({row["id"] for row in rows})
    assert rows == [row for split in ("train", "validation", "test") for row in rows_of(questions("sample").split(split))]


def test_the_lengths_are_those_of_all_windows_of_an_example(tmp_path):
    from kerastoolkit.serving.spans import window_inputs
    from kerastoolkit.serving.word_pieces import MARKS

    texts = ["a " * count for count in (3, 12, 13, 30)]
    data = questions(saved(tmp_path, squad_of(*((text, asked(text, "a", ("a", 0))) for text in texts))), validation=0, test=0)
    found = with_window_lengths(data, window_inputs([*MARKS, "a"], lower=True, longest=16, stride=4, longest_question=2))
    # Four marks and question tokens; 12 of the text fit, and each window after the first moves by four.
    assert found.train.lengths.tolist() == [[7], [16], [2 * 16], [6 * 16]]
    assert found.validation.lengths.shape == (0, 1)


def test_questions_are_shown_with_their_answers(tmp_path):
    rows, figure, notes = inspect_questions(saved(tmp_path, many(40)), "train")
    assert len(rows) == 8
    assert rows[0] == {"question": "When?", "answer": "1900", "text": "p 0 was in >1900<."}
    assert len(figure.axes) == 3
    assert notes[0] == "examples: 68 train, 4 validation, 8 test"
    assert "questions begin with: when? 50%, who? 50%" in notes


def test_names_and_paths_of_questions_are_known(tmp_path):
    assert is_questions("squad") and is_questions("mine.json") and is_questions("mine.JSON.gz")
    assert not is_questions("mine.jsonl") and not is_questions(str(tmp_path)) and not is_questions("sample")
    saved(tmp_path, "{}", "train-v1.1.json")
    assert is_questions(str(tmp_path))
