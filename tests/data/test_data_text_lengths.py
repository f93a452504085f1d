import numpy as np
import pytest

from kerastoolkit.data import text_lengths
from kerastoolkit.data.labelled_texts import labelled_texts
from kerastoolkit.data.text_lengths import with_lengths
from kerastoolkit.serving.word_pieces import MARKS, word_piece_inputs


@pytest.mark.parametrize(("pairs", "at_once"), [(False, 4_096), (True, 3)])
def test_lengths_are_the_tokens_of_each_example_marks_counted(tmp_path, monkeypatch, pairs, at_once):
    monkeypatch.setattr(text_lengths, "AT_ONCE", at_once)
    counts = [(1 + i % 5, 1 + i % 3) for i in range(20)]
    rows = (f"{'a ' * a},{'a ' * b},{i % 2}\n" for i, (a, b) in enumerate(counts))
    (tmp_path / "t.csv").write_text("one,other,label\n" + "".join(rows))
    data = labelled_texts(str(tmp_path / "t.csv"), "one", "other" if pairs else None, validation=4, test=2)
    found = with_lengths(data, word_piece_inputs([*MARKS, "a"], lower=True, longest=7, pairs=pairs))
    for split in ("train", "validation"):
        raw = data.split(split).fetch(np.arange(data.split(split).size))
        words = sum(np.array([len(text.split()) for text in raw[key].numpy()]) for key in data.inputs)
        np.testing.assert_array_equal(found.split(split).lengths[:, 0], np.minimum(words + (3 if pairs else 2), 7))
        assert found.split(split).lengths.dtype == np.int32
    assert found.test.lengths is None


def test_a_split_without_examples_has_no_lengths(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\na,1\na a,2\n")
    data = labelled_texts(str(tmp_path / "t.csv"), validation=0, test=0)
    found = with_lengths(data, word_piece_inputs([*MARKS, "a"], lower=True, longest=7, pairs=False))
    assert found.validation.lengths.shape == (0, 1)
    assert found.train.lengths.tolist() == [[3], [4]]
