"""A look at pairs and documents, and what is taken for them."""

import json

import pytest

from kerastoolkit.data.named import inspect
from kerastoolkit.experiment import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where read texts are kept."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))


@pytest.fixture
def folder(tmp_path):
    """A function that writes lines into files of a folder and gives its path."""

    def write(**files):
        (tmp_path / "folder").mkdir()
        for name, text in files.items():
            (tmp_path / "folder" / name.replace("_", ".")).write_text(text, "utf-8")
        return str(tmp_path / "folder")

    return write


def test_a_file_of_pairs_is_shown_with_its_lengths(tmp_path):
    lines = [f"Wort {i}\tone word {i}\n" for i in range(39)] + [f"{'a ' * 200}\tb\n"]
    (tmp_path / "pairs.tsv").write_text("".join(lines), "utf-8")
    rows, figure, remarks = inspect(str(tmp_path / "pairs.tsv"))
    assert len(rows) == 8 and set(rows[0]) == {"source", "target"}
    assert all(row["target"].startswith("one word") and row["source"].startswith("Wort") for row in rows if row["target"] != "b")
    assert remarks[0] == "examples: 36 train, 2 validation, 2 test"
    assert "target: 3 (median)" in remarks[1]
    assert len(figure.axes) == 1
    with pytest.raises(InputError, match="unknown sentence pairs .*nowhere.tsv"):
        inspect(str(tmp_path / "nowhere.tsv"))


def test_a_folder_shows_german_to_english_or_its_first_two_languages(folder):
    texts = {f"train_{language}": "".join(f"{language} {i}\n" for i in range(40)) for language in ("en", "de", "cs")}
    rows, _, remarks = inspect(folder(**texts))
    assert rows[0]["source"].startswith("de ") and rows[0]["target"].startswith("en ")
    assert remarks[-1] == "languages: cs, de, en; shown: de to en"


def test_a_folder_of_two_other_languages_is_shown_too(folder):
    rows, _, remarks = inspect(folder(train_ko="가\n" * 40, train_fr="a\n" * 40))
    assert rows[0] == {"source": "a", "target": "가"}
    assert remarks[-1] == "languages: fr, ko; shown: fr to ko"


def test_a_folder_with_one_train_file_is_a_text(folder):
    rows, _, _ = inspect(folder(train_txt="so many words are so many\n", valid_txt="and more\n"))
    assert {row["word"]: row["count"] for row in rows}["many"] == 2


def test_a_comma_in_a_path_is_no_sign_of_pairs(tmp_path):
    (tmp_path / "a,b.txt").write_text("to be or not to be, that is the question\n" * 20, "utf-8")
    rows, _, _ = inspect(str(tmp_path / "a,b.txt"))
    assert "character" in rows[0]


@pytest.mark.parametrize("name", ["news.jsonl", "news.csv"])
def test_documents_are_shown_with_their_summaries(tmp_path, name):
    texts = [(f"Something {i} happened. It was big.", f"Something {i}.") for i in range(40)]
    if name.endswith(".csv"):
        lines = ['"document",summary', *(f"{document},{summary}" for document, summary in texts)]
    else:
        lines = [json.dumps({"document": document, "summary": summary}) for document, summary in texts]
    (tmp_path / name).write_text("\n".join(lines) + "\n", "utf-8")
    rows, _, remarks = inspect(str(tmp_path / name))
    assert rows[0]["document"].startswith("Something ") and len(rows[0]["summary"]) < 14
    assert remarks[0] == "examples: 36 train, 2 validation, 2 test"


def test_a_csv_file_of_numbers_is_still_a_series(tmp_path):
    (tmp_path / "prices.csv").write_text("date,price\n" + "".join(f"2020-01-{day:02d},{day}\n" for day in range(1, 29)))
    rows, _, _ = inspect(str(tmp_path / "prices.csv"))
    assert rows[0]["column"] == "price"


def test_long_texts_are_cut_where_they_are_shown(tmp_path):
    (tmp_path / "pairs.tsv").write_text("".join(f"{'word ' * 100}{i}\tb\n" for i in range(40)), "utf-8")
    rows, _, _ = inspect(str(tmp_path / "pairs.tsv"))
    assert len(rows[0]["source"]) == 160 and rows[0]["source"].endswith("…")
