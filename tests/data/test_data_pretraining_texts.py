"""Documents as pairs of texts for pretraining."""

import gzip
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data import pretraining_texts as module
from kerastoolkit.data.pretraining_texts import estimated_tokens, next_or_not, pretraining_texts, sentences
from kerastoolkit.experiment import InputError, rebuild
from kerastoolkit.pipeline import example_seeds


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where read texts are kept."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets" / "kerastoolkit" / "corpora"


@pytest.fixture
def write(tmp_path):
    """Writes a file (packed where its name ends with .gz) and gives its path."""

    def written(contents, name="texts.txt"):
        contents = contents if isinstance(contents, bytes) else contents.encode()
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(contents, mtime=0) if name.endswith(".gz") else contents)
        return str(tmp_path / name)

    return written


def document(name, count, words=3):
    """Sentences that tell their document and place: ``a0 a0 a0``; of three tokens each."""
    return [" ".join([f"{name}{number}"] * words) for number in range(count)]


def in_file(*documents):
    return "\n\n".join("\n".join(each) for each in documents)


def rows_of(source):
    raw = {key: each.numpy() for key, each in source.fetch(tf.range(source.size, dtype=tf.int64)).items()}
    return [(first.decode(), second.decode(), int(is_next))
            for first, second, is_next in zip(raw["first"], raw["second"], raw["is_next"], strict=True)]  # fmt: skip


def whole(path, **arguments):
    """All pairs of a file, as training examples: (first, second)."""
    return [row[:2] for row in rows_of(pretraining_texts(path, validation=0, test=0, **arguments).train)]


MANY = {name: document(name, 12) for name in "abcdefghijkl"}


def many(write):
    return write(in_file(*MANY.values()))


def augmented(path, epoch=0, examples=None, **arguments):
    """Raw training examples after the augmentation of an epoch."""
    data = pretraining_texts(path, **arguments)
    examples = np.arange(data.train.size) if examples is None else examples
    seeds = tf.constant(example_seeds(3, epoch, examples))
    raw = next_or_not(path, **arguments)(data.train.fetch(tf.constant(examples)), seeds, None)
    return {key: each.numpy() for key, each in raw.items()}


# sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains. We stay! Why? Nobody knows", ["It rains.", "We stay!", "Why?", "Nobody knows"]),
        ('He said "no." “Yes,” she said.', ['He said "no."', "“Yes,” she said."]),
        ("It costs 3.5 pounds. approx. nothing", ["It costs 3.5 pounds. approx. nothing"]),
        ("by J. K. Rowling. She wrote", ["by J. K. Rowling.", "She wrote"]),
        ("in 2004. 30 of them", ["in 2004. 30 of them"]),
        ("비가 온다. 우리는 있다.", ["비가 온다.", "우리는 있다."]),
        ("下雨了。我们在家！好吗？", ["下雨了。", "我们在家！", "好吗？"]),
        ("Что? Ничего.", ["Что?", "Ничего."]),
        ("", []),
    ],
)
def test_a_line_is_parted_where_a_stop_is_before_a_letter_that_is_not_small(text, expected):
    assert sentences(text) == expected


def test_a_very_long_sentence_is_parted_at_spaces_and_where_there_are_none_between_letters():
    parts = sentences("word " * 100)
    assert [len(part.split()) for part in parts] == [60, 40]
    parts = sentences("한" * 1_000)
    assert "".join(parts).replace(" ", "") == "한" * 1_000
    assert max(map(estimated_tokens, parts)) <= 60


def test_tokens_are_estimated_by_letters_marks_and_ideographs():
    assert estimated_tokens("a word, (extraordinarily) 中文") == 1 + 1 + 1 + 1 + 2 + 1 + 2


# pairs


def test_the_sentences_of_a_document_follow_each_other_and_none_is_lost(write):
    rows = whole(write(in_file(document("a", 11), document("b", 2))), longest=16)  # 13 tokens: four sentences
    assert " ".join(text for row in rows[:3] for text in row) == " ".join(document("a", 11))
    assert [len(" ".join(row).split()) for row in rows] == [12, 12, 9, 6]
    assert rows[3] == ("b0 b0 b0", "b1 b1 b1")


def test_a_sentence_that_is_left_alone_makes_a_pair_with_the_one_before_it(write):
    rows = whole(write(in_file(document("a", 5), document("b", 2))), longest=16)
    assert " ".join(rows[0]) == " ".join(document("a", 4))
    assert rows[1] == ("a3 a3 a3", "a4 a4 a4")


def test_texts_are_parted_at_ends_of_sentences_that_differ(write):
    firsts = [len(first.split()) // 3 for first, _ in whole(many(write), longest=32)]
    assert set(firsts) <= set(range(1, 9))  # nine sentences of three tokens, of which each text has one at least
    assert len(set(firsts)) > 4


def test_two_long_sentences_are_a_pair_though_they_are_more_than_the_longest(write):
    assert whole(write(in_file(document("a", 2, 20), document("b", 2))), longest=16)[0] == tuple(document("a", 2, 20))


def test_lengths_are_told_in_steps_and_hold_the_marks(write):
    data = pretraining_texts(write(in_file(document("a", 2), document("b", 9))), longest=32, validation=0, test=0)
    np.testing.assert_array_equal(data.train.lengths, [[16], [32]])  # 3 + 6 and 3 + 27


def test_documents_of_one_sentence_are_left_out_and_counted(write):
    data = pretraining_texts(write(in_file(["One."], document("a", 2), ["Two."], document("b", 2))), validation=0, test=0)
    assert data.train.size == 2
    assert data.notes == ("documents left out because they have fewer than two sentences: 2",)


def test_test_documents_that_are_training_documents_too_are_counted(write):
    data = pretraining_texts(write(in_file(*[document("a", 2)] * 6)))
    assert data.notes == ("test documents that are training documents, too: 2 of 2",)


# texts from elsewhere


def test_half_of_the_second_texts_are_replaced_by_such_of_another_document(write):
    path = many(write)
    original, found = pretraining_texts(path, longest=16), augmented(path, longest=16)
    before = rows_of(original.train)
    assert 0.25 < found["is_next"].mean() < 0.75
    for (first, second, _), now, is_next in zip(before, found["second"], found["is_next"], strict=True):
        assert (now.decode() == second) == (is_next == 1)
        assert (now.decode()[0] == first[0]) == (is_next == 1)


def test_over_many_epochs_half_are_replaced_and_all_other_documents_of_the_split_are_drawn(write):
    path, drawn, follows = many(write), [], []
    train = {first[0] for first, _ in [row[:2] for row in rows_of(pretraining_texts(path, longest=16).train)]}
    for epoch in range(100):
        found = augmented(path, epoch, longest=16, examples=np.array([0, 1, 2]))
        follows += found["is_next"].tolist()
        drawn += [text.decode()[0] for text, is_next in zip(found["second"], found["is_next"], strict=True) if not is_next]
    assert abs(sum(follows) - 150) < 5 * np.sqrt(300 / 4)
    own = pretraining_texts(path, longest=16).train.fetch(tf.constant([0], tf.int64))["first"].numpy()[0].decode()[0]
    assert set(drawn) == train - {own}
    assert len(train) == 8


def test_a_text_from_elsewhere_is_a_documents_sentences_in_order_and_as_long_as_the_one_it_replaces(write):
    path = many(write)
    found, before = augmented(path, longest=16), rows_of(pretraining_texts(path, longest=16).train)
    for (_, second, _), now, is_next in zip(before, found["second"], found["is_next"], strict=True):
        if not is_next:
            name, text = now.decode()[0], now.decode()
            assert text in " ".join(MANY[name])
            assert len(text.split()) == len(second.split())


def test_what_becomes_of_an_example_is_told_by_its_seeds_alone(write):
    path = many(write)
    together, alone = augmented(path), augmented(path, examples=np.array([5]))
    assert {key: each[5] for key, each in together.items()} == {key: each[0] for key, each in alone.items()}


def test_in_another_epoch_other_texts_are_replaced(write):
    path = many(write)
    assert (augmented(path, 0, longest=16)["is_next"] != augmented(path, 1, longest=16)["is_next"]).any()


def test_the_pairs_of_validation_and_test_are_the_same_each_time_and_half_do_not_follow(write):
    data = pretraining_texts(many(write), longest=16, validation=3, test=4)
    for source, documents in ((data.validation, 3), (data.test, 4)):
        rows = rows_of(source)
        assert rows == rows_of(source)
        assert len({first[0] for first, _, _ in rows}) == documents
        assert {row[2] for row in rows} == {0, 1}
        assert all((first[0] == second[0]) == bool(is_next) for first, second, is_next in rows)
        assert {second[0] for _, second, _ in rows} <= {first[0] for first, _, _ in rows}


def test_splits_share_no_document(write):
    data = pretraining_texts(many(write), validation=0.2, test=0.2)
    names = [{first[0] for first, _, _ in rows_of(data.split(split))} for split in ("train", "validation", "test")]
    assert [len(each) for each in names] == [8, 2, 2]
    assert len(set.union(*names)) == 12


# files


@pytest.mark.parametrize("name", ["texts.txt", "texts.gz", "texts"])
def test_a_text_file_is_read_gzip_or_not_and_blank_lines_part_documents(write, name):
    rows = whole(write("\ufeffa one\r\na  two\r\n \t\r\n\r\nb one. B two.\r\n", name))
    assert rows == [("a one", "a two"), ("b one.", "B two.")]


def test_a_folder_is_read_in_the_order_of_its_names_and_the_end_of_a_file_ends_a_document(write, tmp_path):
    write("b0\nb1", "texts/2.txt")
    write("a0\na1", "texts/1.txt.gz")
    write("no text", "texts/.hidden")
    assert whole(str(tmp_path / "texts")) == [("a0", "a1"), ("b0", "b1")]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.csv"])
def test_a_row_is_a_document_whose_blank_lines_part_paragraphs(write, name):
    texts = ["Title\n\nOne line,\ngoing on. Second.", "b0. B1."]
    cells = "".join(f'"{text}",x\r\n' for text in texts)
    rows = "text,other\r\n" + cells if "csv" in name else "".join(json.dumps({"text": text}) + "\n" for text in texts)
    found = whole(write(rows, name), column="text")
    assert sorted(" ".join(row) for row in found) == ["Title One line, going on. Second.", "b0. B1."]


def test_what_was_read_is_kept_and_read_again_when_the_file_changes(write, cache, monkeypatch):
    path = write(in_file(document("a", 2), document("b", 2)))
    before = whole(path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "text_lines", None)
        assert whole(path) == whole(path, longest=64) == before
    assert len(list(cache.iterdir())) == 1
    write(in_file(document("c", 2), document("d", 2)))
    assert whole(path) == [("c0 c0 c0", "c1 c1 c1"), ("d0 d0 d0", "d1 d1 d1")]


def test_cnn_dailymail_has_parts_of_its_own(monkeypatch, tmp_path):
    sizes = {"train": 5, "validation": 2, "test": 2}
    (tmp_path / "records").write_text("")
    splits = {name: types.SimpleNamespace(filepaths=[tmp_path / "records"]) for name in sizes}
    info = types.SimpleNamespace(full_name="cnn/1", splits=splits)

    def as_dataset(split, batch_size):
        articles = [f"{split} {number}. The  end.\n\nMore" for number in range(sizes[split])]
        return tf.data.Dataset.from_tensor_slices({"article": articles, "highlights": articles}).batch(batch_size)

    monkeypatch.setattr(module, "prepared_builder", lambda *given: types.SimpleNamespace(info=info, as_dataset=as_dataset))
    data = pretraining_texts("cnn_dailymail")
    assert {name: data.split(name).size for name in sizes} == sizes
    assert rows_of(data.train)[4][0].startswith("train 4.")
    assert set(" ".join(rows_of(data.train)[0][:2]).split()) == {"train", "0.", "The", "end.", "More"}


def test_the_sample_has_eight_poems_and_is_made_again_from_its_description():
    data = pretraining_texts("sample", longest=32)
    assert data.about == {"documents": 4, "longest": 32}
    again = rebuild(json.loads(json.dumps(data.description)))
    assert rows_of(again.test) == rows_of(data.test)


@pytest.mark.parametrize(
    ("contents", "name", "arguments", "message"),
    [
        ("a\nb\n\nc\nd", "t.txt", {"longest": 15}, r"^longest must be at least 16, got 15$"),
        ("a\nb", "t.txt", {"test": 0, "validation": 0}, r"at least 2 documents of two sentences must be left .*, got 1 of 1$"),
        ("a\n\nb", "t.txt", {}, r"t.txt: there must be documents of at least two sentences, .*, got none$"),
        ("a\nb\n\nc\nd\n\ne\nf\n\n", "t.txt", {"test": 1}, r"^test must be 0 or at least 2 documents, got 1$"),
        ("a\nb\n\nc\nd\n\ne\nf\n\n", "t.txt", {}, r"2 for test and 2 for validation leave none of 3 examples for training$"),
        (b"a\n\xff\n", "t.txt", {}, r"t.txt, line 2: must be UTF-8 text, got the byte 0xff$"),
        ('{"document": "a. B."}\n[1]\n', "t.jsonl", {}, r"t.jsonl, line 2: must be a JSON object, got \[1\]$"),
        ('{"text": "a. B."}\n', "t.jsonl", {}, r"t.jsonl, line 1: has no document \(it has: text\)$"),
        ("text\na. B.\n", "t.csv", {}, r"t.csv: must have one column document, got 0 \(it has: text\)$"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_or_shared_out_is_refused(write, contents, name, arguments, message):
    with pytest.raises(InputError, match=message):
        pretraining_texts(write(contents, name), **arguments)


def test_documents_that_are_not_there_are_refused():
    with pytest.raises(InputError, match=r"^unknown documents nowhere: choose cnn_dailymail, sample, or a file"):
        pretraining_texts("nowhere")


def test_a_refused_file_leaves_nothing_behind(write, cache):
    with pytest.raises(InputError):
        pretraining_texts(write(b"a\nb\n\n\xff"))
    assert list(cache.iterdir()) == []
