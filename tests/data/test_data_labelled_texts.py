import gzip
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data import labelled_texts as module
from kerastoolkit.data.labelled_texts import labelled_texts, mrpc, sst2
from kerastoolkit.experiment import InputError, rebuild


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


def table(size, labels=("no", "yes"), first=0):
    """A CSV file's text: so many rows, whose labels come by turns."""
    return "text,label\n" + "".join(f"text {i},{labels[i % len(labels)]}\n" for i in range(first, first + size))


def rows_of(data, split):
    """(texts, label) of each example of a split, in order."""
    source = data.split(split)
    raw = source.fetch(np.arange(source.size))
    columns = [[each.decode() for each in raw[key].numpy()] for key in data.inputs]
    assert raw["label"].dtype == tf.int32
    return [(*texts, data.about["classes"][label]) for *texts, label in zip(*columns, raw["label"].numpy(), strict=True)]


# Files -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "contents", "expected"),
    [
        ("a.csv", 'label,text\nyes,"one, ""two""\nthree"\nno, four  five \n', [('one, "two" three', "yes"), ("four five", "no")]),
        (
            "a.tsv",
            'text\tlabel\na "lone quotation mark\tyes\n"b", c\tno\n',
            [('a "lone quotation mark', "yes"), ('"b", c', "no")],
        ),
        ("a.csv.gz", "text,label\r\na,yes\r\nb,no\r\n", [("a", "yes"), ("b", "no")]),
        ("a.TSV.gz", "\ufefftext\tother\tlabel\na\t1\tyes\n\nb\t\tno\n", [("a", "yes"), ("b", "no")]),
        ("a.csv", "text,label\ne\u0301\u2028\u3000\u00a0x,ye\u0301s\n각,no", [("\u00e9 x", "y\u00e9s"), ("각", "no")]),
    ],
    ids=["quoted", "tabs", "gzip", "tabs and gzip", "composed"],
)
def test_the_rows_of_a_file_are_the_examples(write, name, contents, expected):
    data = labelled_texts(write(name, contents), validation=0, test=0)
    assert rows_of(data, "train") == expected
    assert (data.validation.size, data.test.size) == (0, 0)
    assert data.about == {"classes": tuple(sorted(label for _, label in expected)), "pairs": False}


def test_two_columns_make_pairs(write):
    path = write("a.csv", "one,other,same\na,b,1\nc,d,0\n")
    data = labelled_texts(path, "one", "other", "same", validation=0, test=0)
    assert data.inputs == ("first", "second")
    assert rows_of(data, "train") == [("a", "b", "1"), ("c", "d", "0")]
    assert data.about["pairs"]


@pytest.mark.parametrize("name", ["dev", "val", "valid", "validation"])
def test_a_folder_gives_its_three_files(write, name):
    write("set/train.csv", table(4))
    write(f"set/{name}.tsv.gz", "text\tlabel\nv\tyes\n")
    folder = write("set/test.csv.gz", table(2, first=10)).rpartition("/")[0]
    data = labelled_texts(folder)
    assert [len(rows_of(data, split)) for split in ("train", "validation", "test")] == [4, 1, 2]
    assert rows_of(data, "validation") == [("v", "yes")]


def test_texts_of_training_in_the_test_file_are_told(write):
    write("set/train.csv", table(6))
    folder = write("set/test.csv", table(4, first=4)).rpartition("/")[0]
    assert labelled_texts(folder).notes == ("test texts that are training texts, too: 2 of 4",)


# Labels ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(["10", "9", "-1", "2.5"], ("-1", "2.5", "9", "10")), (["b", "10", "a", "9"], ("9", "10", "a", "b")),
     (["nan", "3", "inf", "x", "-inf"], ("3", "-inf", "inf", "nan", "x"))],
)  # fmt: skip
@pytest.mark.parametrize("turned", [False, True])
def test_labels_stand_by_their_size_before_those_that_are_no_numbers(write, labels, classes, turned):
    path = write("a.csv", table(len(labels), labels[::-1] if turned else labels))
    data = labelled_texts(path, validation=0, test=0)
    assert data.about["classes"] == classes
    assert [label for _, label in rows_of(data, "train")] == (labels[::-1] if turned else labels)


def test_a_label_that_no_training_example_has_is_refused(write):
    write("set/train.csv", table(4))
    folder = write("set/test.csv", "text,label\na,perhaps\n").rpartition("/")[0]
    with pytest.raises(InputError, match=f"^{folder}: test has the label perhaps, which no training example has$"):
        labelled_texts(folder)


@pytest.mark.parametrize(("labels", "count"), [(("yes",), "1"), ([f"l{i}" for i in range(1_001)], "1,001")])
def test_one_label_and_too_many_are_refused(write, labels, count):
    with pytest.raises(InputError, match=f"there must be 2 .. 1,000 different labels, got {count}$"):
        labelled_texts(write("a.csv", table(1_100, labels)))


# Cutting -----------------------------------------------------------------------------------------------------------------------


def test_what_is_cut_has_each_label_in_proportion_and_nothing_twice(write):
    labels = ["a"] * 6 + ["b"] * 3 + ["c"]
    data = labelled_texts(write("a.csv", table(200, labels)), validation=0.1, test=0.2)
    parts = [rows_of(data, split) for split in ("train", "validation", "test")]
    assert [Counter(label for _, label in part) for part in parts] == [
        {"a": 84, "b": 42, "c": 14}, {"a": 12, "b": 6, "c": 2}, {"a": 24, "b": 12, "c": 4}]  # fmt: skip
    assert sorted(row for part in parts for row in part) == sorted((f"text {i}", labels[i % 10]) for i in range(200))


def test_the_same_is_cut_in_another_process(write):
    path = write("a.csv", table(60))
    program = "import sys; from kerastoolkit.data.labelled_texts import labelled_texts as read; d = read(sys.argv[1], test=7); "
    program += "print([x.decode() for x in d.test.fetch(range(7))['first'].numpy()])"
    found = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=120)
    assert found.stdout.strip() == str([text for text, _ in rows_of(labelled_texts(path, test=7), "test")]), found.stderr[-2000:]


def test_a_share_may_be_a_count_and_one_that_leaves_nothing_is_refused(write):
    path = write("a.csv", table(10))
    data = labelled_texts(path, validation=3, test=2)
    assert (data.train.size, data.validation.size, data.test.size) == (5, 3, 2)
    with pytest.raises(InputError, match="a.csv: nothing is left of 10 examples for training"):
        labelled_texts(path, validation=5, test=5)
    for share in (-1, 1.5, 10, float("nan")):
        with pytest.raises(InputError, match=f"validation must be a fraction below 1 or a whole number below 10, got {share}"):
            labelled_texts(path, validation=share)


# Named -------------------------------------------------------------------------------------------------------------------------


def test_the_sample_is_dates_with_their_language():
    data = labelled_texts("sample")
    assert (data.train.size, data.validation.size, data.test.size) == (2_000, 200, 400)
    assert Counter(label for _, label in rows_of(data, "test")).keys() == set(data.about["classes"])
    assert rows_of(rebuild(data.description), "test") == rows_of(data, "test")


def test_half_the_pairs_of_the_sample_mean_the_same():
    data = labelled_texts("sample", second="second")
    assert data.about == {"classes": ("another", "same"), "pairs": True}
    assert Counter(label for *_, label in rows_of(data, "train")) == {"same": 1_000, "another": 1_000}


@pytest.fixture
def glue(monkeypatch):
    """In the place of TensorFlow Datasets: four phrases, or pairs, of training and two of validation."""
    asked = []

    class Names:
        names = ("negative", "positive")

    def prepared(name, data_dir):
        asked.append(name)
        keys = ("sentence",) if name == "glue/sst2" else ("sentence1", "sentence2")

        class Builder:
            class info:
                features = {"label": Names}

            def as_dataset(self, split, batch_size):
                size = {"train": 40, "validation": 2}[split]
                columns = {key: [f"{split} {key} {i} " for i in range(size)] for key in keys}
                columns |= {"label": np.arange(size) % 2, "idx": np.arange(size)}
                return tf.data.Dataset.from_tensor_slices(columns).batch(batch_size)

        return Builder()

    monkeypatch.setattr(module, "prepared_builder", prepared)
    return asked


@pytest.mark.parametrize(
    ("make", "name", "row"),
    [(sst2, "glue/sst2", ("validation sentence 1", "positive")),
     (mrpc, "glue/mrpc", ("validation sentence1 1", "validation sentence2 1", "positive"))],
)  # fmt: skip
def test_the_test_split_of_glues_sets_is_their_validation_split(glue, make, name, row):
    data = make(validation=0.25)
    assert glue == [name]
    assert (data.train.size, data.validation.size, data.test.size) == (30, 10, 2)
    assert rows_of(data, "test")[1] == row
    assert data.about == {"classes": ("negative", "positive"), "pairs": len(row) == 3}
    assert "test is GLUE's validation split: its test labels are hidden" in data.notes


# Errors ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("a.csv", "text,class\na,b\n", r"a.csv: must have one column label, got 0 \(it has: text, class\)"),
        ("a.csv", "text,text,label\na,b,c\n", "a.csv: must have one column text, got 2"),
        ("a.csv", "", r"a.csv: must have one column text, got 0 \(it has: none\)"),
        ("a.csv", "text,label\n", r"a.csv: there are no rows under the header \(cells are parted by commas\)"),
        ("a.tsv", "text\tlabel\n", r"a.tsv: there are no rows under the header \(cells are parted by tabs\)"),
        ("a.csv", "text,label\na,yes\n\u3000 ,no\n", "a.csv, line 3: text is empty"),
        ("a.csv", 'text,label\n"a\nb",yes\nc,\n', "a.csv, line 4: label is empty"),
        ("a.csv", "text,label\na,yes\nb\n", "a.csv, line 3: must have 2 cells, as the header, got 1"),
        ("a.csv", b"text,label\na,yes\n\xff,no\n", "a.csv, line 3: must be UTF-8 text, got the byte 0xff"),
        ("a.csv", 'text,label\na,yes\n"b,no\n', r"a.csv, line 3: the row that begins here is no CSV \("),
    ],
)
def test_a_bad_file_is_refused_by_name(write, name, contents, message):
    with pytest.raises(InputError, match=message):
        labelled_texts(write(name, contents))


def test_a_folder_without_a_training_file_or_with_two_is_refused(write):
    folder = write("set/test.csv", table(4)).rpartition("/")[0]
    with pytest.raises(InputError, match="set: needs train.csv or train.tsv"):
        labelled_texts(folder)
    write("set/train.csv", table(4))
    write("set/train.tsv", "text\tlabel\n")
    with pytest.raises(InputError, match="set: must have one file for train, got train.tsv, train.csv"):
        labelled_texts(folder)


@pytest.mark.parametrize("name", ["nothing", "no/such.csv", "x" * 300, "~nobody-of-this-name/a.csv", "a\x00b"])
def test_what_is_nowhere_is_refused(name):
    with pytest.raises(InputError, match="unknown labelled texts .*: choose sst2, mrpc, sample, a CSV or TSV file, or a folder"):
        labelled_texts(name)
