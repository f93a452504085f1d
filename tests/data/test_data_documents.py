import csv
import gzip
import json
import os
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data import documents as module
from kerastoolkit.data import table_rows as rows_module
from kerastoolkit.data import text_lines as lines_module
from kerastoolkit.data.documents import cnn_dailymail, documents
from kerastoolkit.data.sentence_pairs import texts
from kerastoolkit.experiment import InputError, RunError, rebuild

KOREAN = [{"document": f"읽기 테스트 {i}번.\n\n둘째 문단, 끝.", "summary": f"테스트 {i}"} for i in range(6)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where read texts are kept."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets" / "kerastoolkit" / "corpora"


@pytest.fixture
def write(tmp_path):
    """Writes a file (packed where its name ends with .gz) of rows, text or bytes, and gives its path."""

    def written(contents, name="articles.jsonl"):
        if isinstance(contents, list):
            contents = "".join(json.dumps(row) + "\n" for row in contents)
        contents = contents if isinstance(contents, bytes) else contents.encode()
        (tmp_path / name).write_bytes(gzip.compress(contents, mtime=0) if name.endswith(".gz") else contents)
        return str(tmp_path / name)

    return written


def rows_of(source):
    pairs = zip(texts(source, "document"), texts(source, "summary"), strict=True)
    return [{"document": document, "summary": summary} for document, summary in pairs]


def whole(path, **arguments):
    """All rows of a file, as training examples."""
    return rows_of(documents(path, validation=0, test=0, **arguments).train)


def summary_of(write, document, summary, **arguments):
    """What becomes of a summary."""
    return whole(write([{"document": document, "summary": summary}]), **arguments)[0]["summary"]


def in_csv(rows):
    lines = ["document,summary"]
    lines += [",".join('"' + row[key].replace('"', '""') + '"' for key in ("document", "summary")) for row in rows]
    return "\r\n".join(lines) + "\r\n"


# files of one's own


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a"])
def test_json_lines_are_read_whatever_their_script_gzip_or_not(write, name):
    assert whole(write(KOREAN, name)) == KOREAN


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz"])
def test_a_csv_file_is_read_with_line_feeds_and_quotes_in_its_cells(write, name):
    rows = [*KOREAN, {"document": 'She said "yes", then\n\nleft.', "summary": 'A "yes"'}]
    assert whole(write("\ufeff" + in_csv(rows), name)) == rows


def test_columns_can_have_other_names_and_others_beside_them(write):
    path = write([{"id": 1, "text": "한국어", "title": "가", "more": [1, {"a": None}]}])
    assert whole(path, document="text", summary="title") == [{"document": "한국어", "summary": "가"}]
    path = write('id,title,text\n1,가,"한국어"\n\n', "a.csv")
    assert whole(path, document="text", summary="title") == [{"document": "한국어", "summary": "가"}]


def test_paragraphs_stay_and_other_white_space_is_evened_out_in_the_composed_form(write):
    document = unicodedata.normalize("NFD", "\n 읽기\u00a0\u3000테스트\nline\ttwo\r\n \u00a0 \r\n\n\nsecond\u2028one\r\r \n")
    assert whole(write([{"document": document, "summary": " a\nb "}])) == [
        {"document": "읽기 테스트 line two\n\nsecond one", "summary": "a b"}
    ]


def test_lines_without_anything_are_passed_over(write):
    lines = [json.dumps(row) for row in KOREAN]
    assert whole(write("\n\n".join(lines) + "\n \r\n\n")) == KOREAN


DEEP = "[" * 200_000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no JSON", r"must be a JSON object, got no JSON$"),
        ('["document", "summary"]', r'must be a JSON object, got \["document", "summary"\]$'),
        ("3", r"must be a JSON object, got 3$"),
        ('{"document": "a", "summary": "b"', r"must be a JSON object, got {"),
        (f'{{"document": "a", "summary": {DEEP}', r"must be a JSON object, got {"),
        (f'{{"document": "a", "summary": {"9" * 5_000}}}', r"must be a JSON object, got {"),
        ('{"document": "a", "sum": "b"}', r"has no summary \(it has: document, sum\)$"),
        ("{}", r"has no document \(it has: none\)$"),
        ('{"document": "a", "summary": 3}', r"summary must be a text, got 3$"),
        ('{"document": null, "summary": "b"}', r"document must be a text, got null$"),
        ('{"document": ["a"], "summary": "b"}', r'document must be a text, got \["a"\]$'),
        ('{"document": "a", "summary": ""}', r"summary is empty$"),
        ('{"document": " \\n\\u3000", "summary": "b"}', r"document is empty$"),
        ('{"document": "a\\ud800", "summary": "b"}', r"document has half a character, \\ud800$"),
        (b'{"document": "\xff", "summary": "b"}', r"must be UTF-8 text, got the byte 0xff$"),
    ],
    ids=["text", "list", "number", "unended", "deep", "digits", "no_key", "no_keys", "kind", "null", "texts", "empty", "blank",
         "surrogate", "wrong_byte"],
)  # fmt: skip
def test_a_wrong_line_of_json_is_refused_with_its_number_and_leaves_nothing_behind(write, cache, line, message):
    line = line if isinstance(line, bytes) else line.encode()
    path = write(b"\n".join([json.dumps(KOREAN[0]).encode(), b"", line, b""]))
    with pytest.raises(InputError, match=r"articles.jsonl, line 3: " + message) as refused:
        documents(path)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("document,sum\na,b\n", r"a.csv: must have one column summary, got 0 \(it has: document, sum\)$"),
        ("document,summary,summary\na,b,c\n", r"a.csv: must have one column summary, got 2 \(it has: document, summary, summary"),
        ("", r"a.csv: must have one column document, got 0 \(it has: none\)$"),
        ('document,summary\n"a\n\nb",c\nd\n', r"a.csv, line 5: must have 2 cells, as the header, got 1$"),
        ("document,summary\na,b\nc,d,e\n", r"a.csv, line 3: must have 2 cells, as the header, got 3$"),
        ('document,summary\n"a\nb",c\n,d\n', r"a.csv, line 4: document is empty$"),
        ('document,summary\na,b\nc,"d\ne\n', r"a.csv, line 3: the row that begins here is no CSV \(unexpected end of data\)$"),
        ('document,summary\na,"b"c\n', r"a.csv, line 2: the row that begins here is no CSV \("),
        ("document,summary\n", r"a.csv: there are no texts in it$"),
        (b"document,summary\na,b\n\xff,b\n", r"a.csv, line 3: must be UTF-8 text, got the byte 0xff$"),
    ],
    ids=["no_column", "two_columns", "nothing", "few_cells", "many_cells", "empty", "unended", "quotes", "no_rows", "wrong_byte"],
)
def test_a_wrong_csv_file_is_refused_with_the_line_where_the_row_begins(write, cache, contents, message):
    with pytest.raises(InputError, match=message) as refused:
        documents(write(contents, "a.csv"))
    assert "\n" not in str(refused.value)
    assert list(cache.iterdir()) == []


def test_a_cell_longer_than_any_line_is_refused_before_its_end(write, monkeypatch):
    for holder in (rows_module, lines_module):
        monkeypatch.setattr(holder, "LONGEST_LINE", 100)
    before = csv.field_size_limit()
    with pytest.raises(InputError, match=r"a.csv, line 2: the row that begins here is no CSV \(field larger than field limit"):
        documents(write('document,summary\n"' + "line\n" * 1_000, "a.csv"))
    assert csv.field_size_limit() == before


def test_a_long_article_in_a_csv_file_is_read(write):
    row = {"document": "word " * 100_000 + "end", "summary": "b"}
    assert whole(write(in_csv([row]), "a.csv")) == [row]


def test_a_line_longer_than_any_is_refused(write, monkeypatch):
    monkeypatch.setattr(lines_module, "LONGEST_LINE", 300)
    with pytest.raises(InputError, match=r"articles.jsonl, line 7: a line may have at most 300 bytes, got more$"):
        documents(write([*KOREAN, {"document": "a" * 300, "summary": "b"}]))


def test_what_is_no_file_is_refused_with_what_there_is(tmp_path):
    for unknown in ("nowhere", str(tmp_path), "a" * 5_000):
        with pytest.raises(InputError, match=r"^unknown documents .*: choose cnn_dailymail, sample, or a file of JSON"):
            documents(unknown)


# splits and facts


def test_a_sorted_file_is_shuffled_before_parts_are_cut_from_it(write):
    path = write([{"document": f"d{i}", "summary": f"{i}"} for i in range(1_000)])
    data = documents(path, validation=0.1, test=150)
    numbers = {name: [int(each) for each in texts(data.split(name), "summary")] for name in ("train", "validation", "test")}
    assert {name: len(each) for name, each in numbers.items()} == {"train": 750, "validation": 100, "test": 150}
    assert sorted(number for each in numbers.values() for number in each) == list(range(1_000))
    assert all(400 < np.mean(each) < 600 for each in numbers.values())
    assert list(texts(documents(path, validation=0.1, test=150).test, "summary")) == [f"{i}" for i in numbers["test"]]


def test_data_says_how_long_its_texts_are(write):
    data = documents(write(KOREAN), validation=1, test=1)
    assert data.about == {"median_document_words": 6, "median_summary_words": 2}
    assert (data.inputs, data.encoded, data.notes) == (("document",), False, ())


def test_test_documents_that_are_training_documents_are_counted(write):
    data = documents(write(KOREAN[:1] * 10), validation=0, test=4)
    assert data.notes == ("test documents that are training documents with the same summary, too: 4 of 4",)


def test_data_is_made_again_from_its_description(write):
    data = documents(write(KOREAN), test=2)
    assert rows_of(rebuild(data.description).test) == rows_of(data.test)


def test_examples_are_fetched_in_any_order_and_inside_graphs_with_their_shape_known(write):
    source = documents(write(KOREAN), validation=0, test=0).train
    batches = tf.data.Dataset.from_tensors(np.array([2, 0, 2])).map(source.fetch)
    assert batches.element_spec["summary"] == tf.TensorSpec((3,), tf.string)
    for batch in batches:
        assert [each.decode() for each in batch["summary"].numpy()] == ["테스트 2", "테스트 0", "테스트 2"]
        assert [each.decode() for each in batch["document"].numpy()] == [KOREAN[i]["document"] for i in (2, 0, 2)]


# what is kept on disk


def test_a_file_is_read_once_and_then_found_again(write, cache, monkeypatch):
    path = write(KOREAN)
    assert whole(path) == KOREAN
    monkeypatch.setattr(module, "text_lines", None)
    assert whole(path) == KOREAN
    assert len(list(cache.iterdir())) == 1


def test_a_file_that_changed_is_read_anew(write):
    path = write(KOREAN)
    whole(path)
    os.utime(write(KOREAN[::-1]), ns=(10**18, 10**18))
    assert whole(path) == KOREAN[::-1]


def test_a_file_is_read_anew_for_other_columns_and_without_mending(write):
    path = write([{"document": "Both.", "summary": "One sentence.Two sentences.", "title": "Title"}])
    found = [whole(path, **each)[0]["summary"] for each in ({}, {"mend": False}, {"summary": "title"})]
    assert found == ["One sentence. Two sentences.", "One sentence.Two sentences.", "Title"]


def test_texts_are_mapped_from_the_disk_and_not_held():
    strings = module.kept_strings(module.kept_folder("a", [], "b"), lambda counts: iter(KOREAN), name="a")
    assert all(isinstance(contents.base, np.memmap) for contents, _ in strings.columns.values())


def test_a_disk_that_refuses_is_told_in_one_line(write, tmp_path):
    path = write(KOREAN)
    (tmp_path / "sets").write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"the texts cannot be kept in .*corpora \(Not a directory\); --data-dir"):
        documents(path)


# mending


@pytest.mark.parametrize(
    ("summary", "mended"),
    [
        ("up to $10.9bn.For the full-year", "up to $10.9bn. For the full-year"),
        ("by as much as 30%.Indonesia pays", "by as much as 30%. Indonesia pays"),
        ("by March 2005.Last month", "by March 2005. Last month"),
        ("won 5-4.He left", "won 5-4. He left"),
        ("losses for AOL.For 2005", "losses for AOL. For 2005"),
        ("(8.2bn euros).Allied", "(8.2bn euros). Allied"),
        ("the best?No!Not that", "the best? No! Not that"),
        ('was "speculation".Still', 'was "speculation". Still'),
        ("she said.” Then.“Now", "she said.” Then. “Now"),
        ("said so.”Then", "said so.” Then"),
        ('this market.""Job creation', 'this market." "Job creation'),
        ("das war schön.Ärzte", "das war schön. Ärzte"),
        ("one.Two.Three!Four", "one. Two. Three! Four"),
    ],
)
def test_a_space_is_put_between_sentences_that_run_together(write, summary, mended):
    assert summary_of(write, "another text", summary) == mended


@pytest.mark.parametrize(
    "summary",
    ["by J.K.Rowling", "in the U.S.Texas", "3.5bn or 1.2m", "at bbc.co.uk now", "already. Spaced", "a song.it is", "the end.",
     "테스트.둘째", 'no one knows."Which side', "No.7 and no.7"],
)  # fmt: skip
def test_what_may_be_no_end_of_a_sentence_stays_as_it_is(write, summary):
    assert summary_of(write, "another text", summary) == summary


def test_what_the_document_writes_in_the_same_way_stays_as_it_is(write):
    summary = summary_of(write, "The virus Zafi.D spread.", "The virus Zafi.D spread.It was new")
    assert summary == "The virus Zafi.D spread. It was new"


def test_a_straight_quotation_mark_stays_on_the_side_that_the_document_tells(write):
    document = 'Sales fell in recent months. "I think so," he said. "We hope for more." The firm agrees.'
    assert summary_of(write, document, 'in recent months."I think so') == 'in recent months. "I think so'
    assert summary_of(write, document, 'We hope for more."The firm agrees') == 'We hope for more." The firm agrees'
    assert summary_of(write, document, 'We hope for more."I think so') == 'We hope for more."I think so'  # it tells both


def test_mending_is_told_with_the_number_of_spaces_and_can_be_left_out(write):
    rows = [{"document": "a.A", "summary": "One sentence.Two here.Three."}, {"document": "b", "summary": "This one.That one."}]
    path = write(rows)
    told = "spaces put between sentences of summaries that ran together: 3; mend=false leaves them"
    assert documents(path, validation=0, test=0).notes == (told,)
    assert documents(path, validation=0, test=0, mend=False).notes == ()
    assert whole(path, mend=False) == rows


# named sets


def test_the_sample_is_sonnets_and_their_closing_couplets():
    data = documents("sample")
    assert [data.split(name).size for name in ("train", "validation", "test")] == [6, 1, 1]
    rows = [row for name in ("train", "validation", "test") for row in rows_of(data.split(name))]
    assert rows[0]["summary"] == "So long as men can breathe, or eyes can see, So long lives this, and this gives life to thee."
    assert all(row["document"].endswith(row["summary"]) and "\n" not in row["document"] for row in rows)
    assert len({row["document"] for row in rows}) == 8
    assert rebuild(data.description).about == data.about == {"median_document_words": 114, "median_summary_words": 17}


@pytest.fixture(scope="module")
def articles(tmp_path_factory):
    """The builder of a small set with the features of cnn_dailymail."""
    import tensorflow_datasets as tfds

    class TinyArticles(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {name: tfds.features.Text() for name in ("article", "highlights", "id")}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(name, size) for name, size in (("train", 5), ("validation", 2), ("test", 1))}

        def _generate_examples(self, name, size):
            yield "empty", {"article": " ", "highlights": "b", "id": ""}
            for i in range(size):
                yield i, {"article": f"기사 {name}  {i}\n\n끝", "highlights": f"One {i} .\nTwo of them.Three .", "id": ""}

    builder = TinyArticles(data_dir=tmp_path_factory.mktemp("articles"))
    builder.download_and_prepare()
    return builder


@pytest.fixture
def asked(articles, monkeypatch):
    """What was asked to be prepared."""
    found = []
    monkeypatch.setattr(module, "prepared_builder", lambda *arguments: found.append(arguments) or articles)
    return found


def test_cnn_dailymail_is_read_with_its_own_splits(asked, tmp_path):
    data = cnn_dailymail()
    assert {name: sorted(texts(data.split(name), "document")) for name in ("train", "validation", "test")} == {
        "train": [f"기사 train {i}\n\n끝" for i in range(5)],
        "validation": [f"기사 validation {i}\n\n끝" for i in range(2)],
        "test": ["기사 test 0\n\n끝"],
    }
    assert list(texts(data.test, "summary")) == ["One 0 . Two of them. Three ."]
    assert asked == [("cnn_dailymail", str(tmp_path / "sets"))]
    assert data.notes == (
        "articles left out because they or their summaries are empty: 3",
        "spaces put between sentences of summaries that ran together: 8; mend=false leaves them",
    )
    assert data.description["function"] == "kerastoolkit.data.documents.cnn_dailymail"


def test_cnn_dailymail_is_read_from_its_records_once(asked, articles, monkeypatch):
    before = rows_of(documents("cnn_dailymail").train)
    monkeypatch.setattr(articles, "as_dataset", None)
    assert rows_of(documents("cnn_dailymail").train) == before
    assert len(before) == 5
