"""What `data inspect` shows of labelled texts and of tagged words."""

import pytest

from kerastoolkit.data.inspect_tags import inspect_tags, is_tagged
from kerastoolkit.data.inspect_texts import inspect_labelled, is_labelled
from kerastoolkit.data.named import inspect
from kerastoolkit.experiment import InputError


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "reviews.tsv"
    rows = "".join(f'a "good film {n}\tgood\n' for n in range(12)) + "".join(f"bad {n}\tbad\n" for n in range(8))
    path.write_text(f"sentence\tlabel\n{rows}")
    return str(path)


def test_a_table_with_texts_and_labels_is_told_from_others_by_its_header(table, tmp_path):
    assert is_labelled(table) and is_labelled("sst2")
    (tmp_path / "pairs.tsv").write_text("ein Hund\ta dog\n")
    (tmp_path / "series.csv").write_text("date,level\n2020-01-01,1\n")
    assert not is_labelled(str(tmp_path / "pairs.tsv"))
    assert not is_labelled(str(tmp_path / "series.csv"))
    assert not is_labelled(str(tmp_path / "missing.csv"))


def test_labels_are_counted_and_texts_of_each_are_shown(table):
    rows, figure, remarks = inspect(table)
    assert [(row["label"], row["count"]) for row in rows] == [("good", 10), ("good", 10), ("bad", 7), ("bad", 7)]
    assert all(row["text"].startswith("bad" if row["label"] == "bad" else 'a "good film') for row in rows)
    assert "examples: 17 train, 1 validation, 2 test" in remarks
    assert figure.axes[0].get_title() == "17 examples"


def test_entities_are_counted_by_their_kind(tmp_path):
    path = tmp_path / "some.conll"
    sentence = "Anna B-PER\nLee I-PER\nlives O\nin O\nRome B-LOC\n\n"
    path.write_text(sentence * 10)
    assert is_tagged(str(path)) and is_tagged("conll2003") and not is_tagged("some.csv")
    rows, _, remarks = inspect(str(path))
    assert rows == [{"kind": kind, "count": 8, "different": 1, "mostly": text}
                    for kind, text in (("PER", "Anna Lee"), ("LOC", "Rome"))]  # fmt: skip
    assert "examples: 8 train, 1 validation, 1 test" in remarks


def test_a_split_without_examples_is_refused_by_its_name(table, tmp_path):
    (tmp_path / "two.tsv").write_text("text\tlabel\na\t1\nb\t2\nc\t1\nd\t2\n")
    (tmp_path / "few.conll").write_text("Anna B-PER\n\n" * 3)
    for show, path in ((inspect_labelled, tmp_path / "two.tsv"), (inspect_tags, tmp_path / "few.conll")):
        with pytest.raises(InputError, match="split must be train, validation or test, got none"):
            show(str(path), "none")
