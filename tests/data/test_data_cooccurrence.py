import math
import resource
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from kerastoolkit.data import cooccurrence
from kerastoolkit.data.cooccurrence import LEAST_MEMORY, cooccurrences
from kerastoolkit.data.corpus import Corpus, read_corpus
from kerastoolkit.experiment import InputError, RunError


def made_up(folder, tokens, known, *, min_count=5):
    """A corpus of these numbers; those from ``known`` on are rare words."""
    tokens = np.asarray(tokens, np.int32)
    counts = np.bincount(tokens, minlength=known)[:known]
    return Corpus("made up", folder, tuple(f"w{each}" for each in range(known)), counts, tokens, min_count)


def drawn(folder, seed, *, length, known, rare):
    """Words by Zipf's law, as in texts, ``rare`` of them beyond the vocabulary."""
    chances = 1 / np.arange(1, known + rare + 1)
    tokens = np.random.default_rng(seed).choice(known + rare, length, p=chances / chances.sum())
    return made_up(folder, tokens, known)


def slowly(corpus, window):
    """The whole matrix, as the authors' program fills it: for each word those before it, both ways round."""
    found = Counter()
    known = [int(word) for word in corpus.tokens if word < len(corpus.words)]
    for place, word in enumerate(known):
        for distance in range(1, min(window, place) + 1):
            found[word, known[place - distance]] += Fraction(1, distance)
            found[known[place - distance], word] += Fraction(1, distance)
    return {pair: np.float32(float(weight)) for pair, weight in found.items()}


def listed(counts):
    return list(zip(counts.first.tolist(), counts.second.tolist(), counts.weight.tolist(), strict=True))


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory):
    """Several blocks of words, and some hundred thousand pairs."""
    return drawn(tmp_path_factory.mktemp("long"), 0, length=65_536, known=2_000, rare=500)


@pytest.fixture(scope="module")
def unspilled(long_corpus):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence._Keys, "_spill", None)  # spilling would fail
        return cooccurrences(long_corpus)


def assert_same(counts, others):
    for name in ("first", "second", "weight"):
        np.testing.assert_array_equal(getattr(counts, name), getattr(others, name))


@pytest.mark.parametrize("window", range(1, 11))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_counts_are_those_of_a_slow_double_loop(tmp_path, monkeypatch, seed, window):
    monkeypatch.setattr(cooccurrence, "BLOCK", 7 + 40 * seed)  # windows reach across several blocks
    corpus = drawn(tmp_path, seed, length=600, known=40, rare=20)
    entries = listed(cooccurrences(corpus, window=window))
    assert all(first <= second for first, second, _ in entries)
    whole = {(first, second): weight for first, second, weight in entries}
    assert len(whole) == len(entries)
    assert whole | {(second, first): weight for first, second, weight in entries} == slowly(corpus, window)


def test_the_widest_window_is_counted_exactly(tmp_path):
    corpus = drawn(tmp_path, 3, length=300, known=10, rare=2)
    expected = slowly(corpus, 20)
    assert all(weight == expected[first, second] for first, second, weight in listed(cooccurrences(corpus, window=20)))


def test_rare_words_bring_their_neighbours_together(tmp_path):
    counts = cooccurrences(made_up(tmp_path, [0, 2, 3, 2, 1], 2), window=1)
    assert listed(counts) == [(0, 1, 1.0)]


def test_blocks_without_a_known_word_part_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(cooccurrence, "BLOCK", 2)
    counts = cooccurrences(made_up(tmp_path, [0, 2, 2, 2, 2, 2, 2, 1], 2), window=1)
    assert listed(counts) == [(0, 1, 1.0)]


def test_a_word_near_itself_is_counted_from_both_sides(tmp_path):
    # Three times the same word: twice at distance 1, once at distance 2.
    assert listed(cooccurrences(made_up(tmp_path, [0, 0, 0], 2), window=2)) == [(0, 0, 2 * (1 + 1 + 1 / 2))]


@pytest.mark.parametrize("memory", [LEAST_MEMORY, 3 * LEAST_MEMORY, 20 * LEAST_MEMORY])
def test_memory_changes_neither_an_entry_nor_their_order(long_corpus, unspilled, tmp_path, monkeypatch, memory):
    spills = []
    spill = cooccurrence._Keys._spill
    monkeypatch.setattr(cooccurrence._Keys, "_spill", lambda keys: (spills.append(keys.filled), spill(keys)))
    counts = cooccurrences(replace(long_corpus, folder=tmp_path), memory=memory)
    assert len(spills) > 3
    assert_same(counts, unspilled)
    assert sorted(each.name for each in counts.folder.iterdir()) == ["first", "second", "weight"]


@pytest.mark.parametrize("memory", [20 * LEAST_MEMORY, 256 * LEAST_MEMORY], ids=["spilled", "held"])
def test_as_many_keys_as_asked_for_are_written_out_at_once(long_corpus, unspilled, tmp_path, monkeypatch, memory):
    sizes = []
    ascending = cooccurrence._Keys.ascending

    def watched(keys, most):
        for each in ascending(keys, most):
            sizes.append(len(each))
            yield each

    monkeypatch.setattr(cooccurrence._Keys, "ascending", watched)
    monkeypatch.setattr(cooccurrence, "RANGE", 8_000)
    counts = cooccurrences(replace(long_corpus, folder=tmp_path), memory=memory)
    assert len(sizes) > 20 and max(sizes) < 1.2 * 8_000
    assert_same(counts, unspilled)


@pytest.mark.parametrize("memory", [LEAST_MEMORY, 512 * 2**20], ids=["spilled", "held"])
def test_ranges_without_a_key_are_passed_over(tmp_path, monkeypatch, memory):
    monkeypatch.setattr(cooccurrence, "RANGE", 1)
    corpus = drawn(tmp_path, 4, length=6_000, known=60, rare=0)
    expected = slowly(corpus, 10)
    entries = listed(cooccurrences(corpus, memory=memory))
    assert len(entries) == sum(first <= second for first, second in expected)
    assert all(weight == expected[first, second] for first, second, weight in entries)


@pytest.mark.parametrize(("known", "most"), [(2, 1), (2, 3), (2, 4), (50, 200), (50, 1_275), (50, 1_276), (50, 9_999)])
def test_the_table_has_a_cell_of_its_own_for_each_of_its_pairs(known, most):
    row, limit, cells = cooccurrence._table(known, most)
    pairs = [(low, high) for high in range(1, known + 1) for low in range(1, high + 1)]
    taken = sorted(row[low] + high for low, high in pairs if low * high <= limit)
    assert taken == list(range(1, cells))
    assert cells <= most
    assert (cells == len(pairs) + 1) == (most > len(pairs))


def test_any_block_of_entries_is_a_fair_sample(unspilled):
    entries, block = len(unspilled.weight), 2_000
    blocks = entries // block
    for values in (unspilled.first, unspilled.second, np.log(unspilled.weight), unspilled.first == 0):
        values = np.asarray(values, float)
        means = values[: blocks * block].reshape(blocks, block).mean(1)
        off = (means - values.mean()) / (values.std() / math.sqrt(block))
        assert np.abs(off).max() < 5
        assert 0.7 < off.std() < 1.3


def test_the_arrays_are_small_numbers_on_disk(unspilled, long_corpus):
    assert unspilled.folder == long_corpus.folder / "cooccurrences-5-10"
    arrays = (unspilled.first, unspilled.second, unspilled.weight)
    assert all(isinstance(each, np.memmap) for each in arrays)
    assert [each.dtype for each in arrays] == [np.int32, np.int32, np.float32]


def test_the_words_of_a_file_are_counted_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "t.txt").write_text("the cat and the dog and the bird " * 5)
    corpus = read_corpus(str(tmp_path / "t.txt"))
    counts = cooccurrences(corpus, window=3)
    expected = slowly(corpus, 3)
    assert all(weight == expected[first, second] for first, second, weight in listed(counts))
    monkeypatch.setattr(cooccurrence, "_count", None)  # counting would fail
    assert listed(cooccurrences(corpus, window=3)) == listed(counts)


def test_other_windows_and_vocabularies_are_counted_apart(tmp_path):
    tokens = [0, 1, 0, 2, 1, 0]
    weights = [
        sum(cooccurrences(made_up(tmp_path, tokens, known, min_count=min_count), window=window).weight)
        for known, min_count, window in ((3, 1, 1), (3, 1, 2), (2, 2, 1))
    ]
    assert weights == [5, 7.5, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window must be from 1 to 20 words, got 0"),
        ({"window": 21}, "window must be from 1 to 20 words, got 21"),
        ({"memory": 65_535}, "memory must be at least 65,536 bytes, got 65,535"),
    ],
)
def test_a_setting_out_of_range_is_refused(tmp_path, arguments, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        cooccurrences(made_up(tmp_path, [0, 1], 2), **arguments)


def test_a_text_without_two_known_words_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="^made up: at least two words of the text must be in the vocabulary$"):
        cooccurrences(made_up(tmp_path, [5, 1, 5], 2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("fit", "memory"), [(20_000, LEAST_MEMORY), (600_000, 512 * 2**20)], ids=["keys", "entries"])
def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(long_corpus, tmp_path, fit, memory):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (fit, hard))
    try:
        with pytest.raises(RunError, match=r"^the co-occurrences cannot be kept in .* \(File too large\); --data-dir") as caught:
            cooccurrences(replace(long_corpus, folder=tmp_path), memory=memory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_is_told_in_one_line(tmp_path):
    with pytest.raises(RunError, match=r"cannot be kept in .*gone \(No such file or directory\)"):
        cooccurrences(made_up(tmp_path / "gone", [0, 1], 2))


def test_an_interruption_leaves_nothing(long_corpus, tmp_path, monkeypatch):
    def interrupted(keys, most):
        assert list(tmp_path.glob(".writing-*/keys"))
        raise KeyboardInterrupt

    monkeypatch.setattr(cooccurrence._Keys, "ascending", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cooccurrences(replace(long_corpus, folder=tmp_path), memory=LEAST_MEMORY)
    assert not list(tmp_path.iterdir())


def test_counts_that_another_process_has_finished_meanwhile_are_taken(long_corpus, unspilled, tmp_path, monkeypatch):
    corpus = replace(long_corpus, folder=tmp_path)
    count = cooccurrence._count

    def overtaken(*arguments):
        count(*arguments)
        monkeypatch.setattr(cooccurrence, "_count", count)
        cooccurrences(corpus)

    monkeypatch.setattr(cooccurrence, "_count", overtaken)
    np.testing.assert_array_equal(cooccurrences(corpus).weight, unspilled.weight)
    assert [each.name for each in tmp_path.iterdir()] == ["cooccurrences-5-10"]
