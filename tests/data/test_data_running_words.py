import heapq
import http.client
import io
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chisquare

from kerastoolkit.data import named_texts as named
from kerastoolkit.data.corpus import Corpus
from kerastoolkit.data.running_words import (
    alias_table,
    corpus,
    huffman_tree,
    keep_probabilities,
    kept_length,
    running_words,
    word_windows,
)
from kerastoolkit.experiment import InputError, rebuild

SEEDS = [[3, -7], [11, 2**31 - 1], [5, 5], [-(2**31), 0]]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of named texts."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kerastoolkit"


def made_of(tokens, words):
    """A corpus of these tokens, of which the first ``words`` are its vocabulary."""
    tokens = np.asarray(tokens, np.int32)
    counts = np.bincount(tokens, minlength=words)[:words]
    return Corpus("made", Path("nowhere"), tuple(f"w{i}" for i in range(words)), counts, tokens, 1)


def zipf(words=60, rare=20, length=4096, seed=0):
    """A corpus by Zipf's law."""
    shares = 1 / np.arange(1, words + rare + 1)
    tokens = np.random.default_rng(seed).choice(words + rare, length, p=shares / shares.sum())
    return made_of(tokens, words)


def drawn(text, rows=None, seeds=SEEDS, **arguments):
    """What ``word_windows`` makes of blocks of the text, as NumPy arrays."""
    arguments = {"length": 256, "window": 3, "sample": 0.01, "segment": 16, "noise": 8} | arguments
    rows = text.tokens[: 4 * 256].reshape(4, 256) if rows is None else np.asarray(rows, np.int32)
    found = word_windows(text, **arguments)({"tokens": tf.constant(rows)}, tf.constant(seeds, tf.int32), None)
    return {name: value.numpy() for name, value in found.items()}


@pytest.fixture
def written(tmp_path):
    """A text of 30 words, the rarer of which are outside a vocabulary of words that occur 4 times."""
    path = tmp_path / "t.txt"
    path.write_text("a b c d e f " * 2 + "a b c a b c a b c d " + "a b c d a b g h")
    return str(path)


# sub-sampling


def test_frequent_words_are_kept_as_often_as_worked_out_by_hand():
    # Shares of 90, 9 and 1 times the threshold: (sqrt(90) + 1) / 90, (3 + 1) / 9, and 2, which is more than always.
    assert keep_probabilities(np.array([900, 90, 10]), 0.01) == pytest.approx([0.116520, 4 / 9, 1.0], rel=1e-5)


@pytest.mark.parametrize("sample", [1e-5, 1e-3, 0.1])
def test_frequent_words_are_kept_as_often_as_by_gensim(sample):
    counts = np.sort(np.random.default_rng(0).zipf(1.3, 200).clip(max=10**9))[::-1]
    threshold = sample * counts.sum()
    expected = [min(1.0, (np.sqrt(count / threshold) + 1) * (threshold / count)) for count in counts]
    assert keep_probabilities(counts, sample) == pytest.approx(expected, rel=1e-12)


def test_a_sample_of_0_keeps_all_words():
    assert keep_probabilities(np.array([900, 90, 10]), 0).tolist() == [1.0, 1.0, 1.0]


# the places for kept words


@pytest.mark.parametrize("segment", [1, 16, 100])
@pytest.mark.parametrize("sample", [0.001, 0.05])
def test_there_are_places_for_the_words_that_are_kept_in_whole_segments(sample, segment):
    text, length = zipf(length=20_000), 500
    places = kept_length(text, length=length, sample=sample, segment=segment)
    assert places % segment == 0
    keep = np.append(keep_probabilities(text.counts, sample), np.zeros(20))[text.tokens.reshape(-1, length)]
    most = max((np.random.default_rng(seed).random(keep.shape) < keep).sum(axis=1).max() for seed in range(1, 26))
    assert most <= places < 1.5 * most + segment


@pytest.mark.parametrize(
    ("tokens", "length", "segment", "places"),
    [
        ([0, 1] * 50, 10, 10, 10),  # all of a block
        ([0, 1] * 50, 10, 4, 12),
        ([0, 1] * 50, 10, 32, 32),
        ([0, 1] * 50, 1000, 32, 128),  # a text shorter than a block
        ([0, 2, 1, 2, 2] * 20, 10, 4, 4),  # 4 of 10 are in the vocabulary, exactly a segment
        ([0, 2, 1, 2, 2] * 20, 10, 3, 6),
        ([2] * 90 + [0] * 7 + [2] * 2 + [1], 10, 1, 8),  # only in the last block
        ([0, 2] * 5 + [1] * 7, 10, 1, 7),  # which is not full
    ],
)
def test_without_sub_sampling_there_are_just_as_many_places_as_words_of_a_block(tokens, length, segment, places):
    assert kept_length(made_of(tokens, 2), length=length, sample=0, segment=segment) == places


def test_a_long_text_is_looked_through_to_its_end():
    tokens = np.full(300 * 256 + 1, 2, np.int32)
    tokens[-8:-1] = 0
    assert kept_length(made_of(tokens, 2), length=8, sample=0, segment=1) == 7


# drawing from a distribution


@pytest.mark.parametrize(
    "weights",
    [
        np.array([3.0]),
        np.full(7, 2.5),
        np.array([1, 2, 3, 4]),
        np.array([1e9, 1, 1]),
        np.array([5.0, 0.0, 1.0, 0.0]),
        10.0 ** np.arange(-9, 9),
        *(np.random.default_rng(seed).random(1 + 37 * seed) for seed in range(4)),
        *(np.random.default_rng(seed).zipf(1.1, 5000).clip(max=10**12) ** 0.75 for seed in range(3)),
    ],
)
def test_the_tables_draw_each_outcome_as_often_as_its_weight_says(weights):
    before = weights.copy()
    chance, other = alias_table(weights)
    assert chance.dtype == np.float32 and other.dtype == np.int32
    assert chance.min() >= 0 and chance.max() <= 1
    probabilities = (chance + np.bincount(other, 1.0 - chance, len(weights))) / len(weights)
    assert np.abs(probabilities - weights / weights.sum()).max() < 1e-6
    assert (weights == before).all()


# the tree


def random_counts():
    random = np.random.default_rng(0)
    found = [np.array([1, 1, 2, 3, 5, 8, 13, 21, 34, 55])]  # as deep as can be
    for words in (2, 3, 4, 5, 17, 300):
        found += [random.integers(1, 50, words), random.zipf(1.2, words).clip(max=10**12), np.full(words, 9)]
    return found


def ways_of(counts):
    """For each word its [(inner node, turns left), ...]."""
    steps = np.stack(huffman_tree(counts), axis=2).tolist()
    return [[(node, turn) for node, turn in way if node >= 0] for way in steps]


@pytest.mark.parametrize("counts", random_counts())
def test_the_ways_in_the_tree_are_as_short_as_can_be(counts):
    heap, cost = [int(count) for count in counts], 0
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        heapq.heappush(heap, both)
        cost += both
    assert sum(int(count) * len(way) for count, way in zip(counts, ways_of(counts), strict=True)) == cost


@pytest.mark.parametrize("counts", random_counts())
def test_the_turns_to_a_word_lead_to_no_other_one_and_all_turns_lead_to_a_word(counts):
    codes = [tuple(turn for _, turn in way) for way in ways_of(counts)]
    assert {turn for code in codes for turn in code} == {0, 1}
    ordered = sorted(codes)
    assert all(later[: len(code)] != code for code, later in zip(ordered, ordered[1:], strict=False))
    assert sum(2 ** -len(code) for code in codes) == 1  # Kraft's inequality, an equality where no turn is wasted


@pytest.mark.parametrize("counts", random_counts())
def test_each_inner_node_has_one_child_to_the_left_and_one_to_the_right(counts):
    children = {}
    for word, way in enumerate(ways_of(counts)):
        follows = [node for node, _ in way[1:]] + [f"word {word}"]
        for (node, turn), child in zip(way, follows, strict=True):
            assert children.setdefault((node, turn), child) == child
    assert set(children) == {(node, turn) for node in range(len(counts) - 1) for turn in (0, 1)}
    assert len(set(children.values())) == 2 * len(counts) - 2


def test_the_ways_begin_at_the_root_and_are_filled_up_after_their_end():
    path, left = huffman_tree(np.array([8, 4, 2, 1]))
    assert path.dtype == left.dtype == np.int32
    assert path.tolist() == [[2, -1, -1], [2, 1, -1], [2, 1, 0], [2, 1, 0]]
    assert left.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]


# blocks of words


@pytest.mark.parametrize("length", [1, 4, 7, 15, 29])
def test_the_blocks_hold_each_word_of_the_text_once_and_in_order(written, length):
    data, text = running_words(written, 4, True, length), corpus(written, min_count=4)
    blocks = data.train.fetch(np.arange(data.train.size))["tokens"].numpy()
    assert blocks.dtype == np.int32
    assert blocks.shape == (-(-30 // length), length)
    assert blocks.ravel()[:30].tolist() == text.tokens.tolist()
    assert (blocks.ravel()[30:] == -1).all()


@pytest.mark.parametrize("length", [30, 31, 4096])
def test_a_text_shorter_than_a_block_is_one_of_its_own_length(written, length):
    data = running_words(written, 4, True, length)
    assert data.train.size == 1
    assert data.train.fetch(np.arange(1))["tokens"].numpy().tolist() == [corpus(written, min_count=4).tokens.tolist()]


def test_blocks_are_fetched_in_any_order_and_inside_graphs_with_their_shape_known(written):
    source = running_words(written, 4, True, 8).train
    batches = tf.data.Dataset.from_tensor_slices(np.array([[3, 0], [1, 3]])).map(source.fetch)
    assert batches.element_spec["tokens"].shape == (2, 8)
    whole = source.fetch(np.arange(4))["tokens"].numpy()
    assert np.stack([batch["tokens"] for batch in batches]).tolist() == whole[[[3, 0], [1, 3]]].tolist()


def test_the_test_examples_are_the_words_of_the_vocabulary(written):
    data = running_words(written, 4)
    assert data.test.size == len(corpus(written, min_count=4).words) == 4
    assert data.test.fetch(np.arange(4))["tokens"].numpy().tolist() == [[0], [1], [2], [3]]


def test_there_are_no_validation_examples(written):
    source = running_words(written, 4).validation
    assert source.size == 0
    with pytest.raises(InputError, match="word vectors have no validation examples"):
        source.fetch(np.arange(1))


def test_it_is_told_what_the_vocabulary_covers(written):
    # 24 of the 30 words: e, f, g and h occur less than 4 times.
    assert running_words(written, 4).about == {"vocabulary": 4, "words_of_text": 30, "share_in_vocabulary": 0.8}


def test_the_data_are_made_again_from_their_description(written):
    data = running_words(written, min_count=4, length=8)
    again = rebuild(data.description)
    assert again.train.size == data.train.size == 4
    assert again.about == data.about


def test_a_block_must_have_a_word(written):
    with pytest.raises(InputError, match="^length must be at least 1, got 0$"):
        running_words(written, 4, True, 0)


def test_an_unknown_text_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="^unknown text nowhere: choose sample, sonnets, text8, or a file or folder of UTF-8"):
        corpus("nowhere")


def test_the_sample_comes_with_the_package():
    text = corpus("sample", min_count=3)
    assert text.name == "sample"
    assert {"thou", "thy", "love"} < set(text.words)
    assert {"and", "And", "I"} < set(corpus("sample", min_count=1, lower=False).words)


def test_a_text_in_the_home_directory_and_capital_letters_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.txt").write_text("The the THE the")
    assert corpus("~/mine.txt", min_count=1, lower=False).words == ("the", "The", "THE")
    assert running_words("~/mine.txt", min_count=1, lower=False).about["vocabulary"] == 3


# what is drawn


@pytest.mark.parametrize("name", ["tokens", "reach", "negatives"])
def test_the_same_seeds_draw_the_same_and_others_something_else(name):
    text = zipf()
    first, again, other = drawn(text)[name], drawn(text)[name], drawn(text, seeds=[[4, -7], *SEEDS[1:]])[name]
    assert (first == again).all()
    assert (first != other).mean() > 0.2


def test_what_is_drawn_inside_a_graph_is_the_same_and_its_shapes_are_known():
    text = zipf()
    augment = word_windows(text, length=256, window=3, sample=0.01, segment=16, noise=8)
    raw = {"tokens": text.tokens[:1024].reshape(1, 4, 256)}
    batches = tf.data.Dataset.from_tensor_slices((raw, [SEEDS])).map(lambda raw, seeds: augment(raw, seeds, None))
    kept = kept_length(text, length=256, sample=0.01, segment=16)
    assert {name: spec.shape.as_list() for name, spec in batches.element_spec.items()} == {
        "tokens": [4, kept + 6], "reach": [4, kept, 2], "negatives": [4, kept // 16, 8]}  # fmt: skip
    inside, outside = next(iter(batches)), drawn(text)
    assert all((inside[name].numpy() == outside[name]).all() for name in outside)
    assert {value.dtype for value in outside.values()} == {np.dtype(np.int32)}


def test_the_words_that_are_kept_keep_their_order():
    text = made_of(np.arange(1024), 1024)  # each word once, in the order of their numbers
    for row in drawn(text, sample=1e-4)["tokens"]:
        kept = row[row >= 0]
        assert 0 < len(kept) < 256
        assert (np.diff(kept) > 0).all()


def test_rare_words_and_what_fills_a_block_up_are_never_kept():
    text = made_of([0, 1, 2, 3, 4, 5, 6, 7] * 32, 3)
    rows = [[0, 5, 1, 3, 2, 7, -1, -1] * 32, [3, 4, 5, 6] * 64, [-1] * 256, [2] * 256]
    found = drawn(text, rows, sample=0, length=256)["tokens"]
    places = kept_length(text, length=256, sample=0, segment=16)
    assert places == 96
    assert found[0, 3:-3].tolist() == [0, 1, 2] * 32
    assert (found[1:3] == -1).all()
    assert found[3, 3:-3].tolist() == [2] * 96  # no more than there are places


def test_a_word_has_no_neighbours_outside_its_block():
    found = drawn(zipf(), window=4)["tokens"]
    assert (found[:, :4] == -1).all()
    assert (found[:, -4:] == -1).all()
    inside = found[:, 4:-4]
    assert (inside[:, 0] >= 0).all()
    assert (np.diff((inside >= 0).astype(int), axis=1) <= 0).all()  # words first, then what is none


def test_without_sub_sampling_all_words_of_the_vocabulary_are_kept():
    text = zipf()
    for row, tokens in zip(drawn(text, sample=0)["tokens"], text.tokens[:1024].reshape(4, 256), strict=True):
        assert row[row >= 0].tolist() == tokens[tokens < 60].tolist()


def test_each_word_is_kept_as_often_as_its_probability_says():
    text = zipf(length=100 * 256)
    rows = text.tokens.reshape(100, 256)
    augment = word_windows(text, length=256, window=1, sample=0.01, segment=16, noise=1)
    kept = np.zeros(60)
    for seed in range(20):
        tokens = augment({"tokens": tf.constant(rows)}, tf.constant([[seed, 0]]), None)["tokens"].numpy()
        kept += np.bincount(tokens[tokens >= 0], minlength=60)
    keep, tries = keep_probabilities(text.counts, 0.01), 20 * text.counts
    assert keep.min() < 0.5 and keep.max() == 1.0
    assert (np.abs(kept - tries * keep) <= 4 * np.sqrt(tries * keep * (1 - keep)) + 1e-4 * tries).all()


def test_the_windows_are_as_often_of_any_width_and_only_around_words():
    text = zipf(length=100 * 256)
    found = drawn(text, text.tokens.reshape(100, 256), window=5)
    is_word = found["tokens"][:, 5:-5] >= 0
    assert not is_word.all()
    before, after = found["reach"][..., 0], found["reach"][..., 1]
    assert (found["reach"][~is_word] == 0).all()
    inside = is_word & (np.cumsum(is_word, axis=1) > 5) & (np.cumsum(is_word[:, ::-1], axis=1)[:, ::-1] > 5)
    assert (before[inside] == after[inside]).all()
    assert set(before[inside].tolist()) == {1, 2, 3, 4, 5}
    assert chisquare(np.bincount(before[inside])[1:]).pvalue > 0.001


def test_no_window_reaches_beyond_the_words_of_a_block():
    found = drawn(zipf(), window=3)
    for tokens, reach in zip(found["tokens"][:, 3:-3], found["reach"], strict=True):
        words = int((tokens >= 0).sum())
        places = np.arange(words)
        assert (reach[:words, 0] <= places).all() and (reach[:words, 1] < words - places).all()
        assert (reach[:words].max(axis=1) >= 1).all()
        assert reach[0].tolist()[0] == reach[words - 1].tolist()[1] == 0


def test_noise_words_are_drawn_by_their_counts_to_the_power_of_three_quarters():
    text = zipf(length=100 * 256)
    found = drawn(text, text.tokens.reshape(100, 256), noise=64)["negatives"]
    shares = text.counts**0.75
    assert chisquare(np.bincount(found.ravel(), minlength=60), found.size * shares / shares.sum()).pvalue > 0.001


def test_each_segment_of_each_block_has_noise_words_of_its_own():
    found = drawn(zipf())["negatives"]
    assert len({tuple(each) for each in found.reshape(-1, 8).tolist()}) == found.shape[0] * found.shape[1]


def test_hierarchical_softmax_gets_the_way_to_each_word():
    text = zipf()
    found = drawn(text, hierarchical=True)
    assert set(found) == {"tokens", "reach", "path", "left"}
    path, left = huffman_tree(text.counts)
    tokens = found["tokens"][:, 3:-3]
    here = tokens >= 0
    assert not here.all()
    assert (found["path"][here] == path[tokens[here]]).all()
    assert (found["left"][here] == left[tokens[here]]).all()
    assert (found["path"][~here] == -1).all()


def test_hierarchical_softmax_draws_the_same_words_and_windows():
    text = zipf()
    found, other = drawn(text), drawn(text, hierarchical=True)
    assert (found["tokens"] == other["tokens"]).all()
    assert (found["reach"] == other["reach"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "^window must be at least 1, got 0$"),
        ({"noise": 0}, "^noise must be at least 1, got 0$"),
        ({"segment": 0}, "^segment must be at least 1, got 0$"),
        ({"length": 0}, "^length must be at least 1, got 0$"),
        ({"sample": -0.1}, r"^sample must be in \[0, 1\), got -0.1$"),
        ({"sample": 1.0}, r"^sample must be in \[0, 1\), got 1.0$"),
        ({"sample": float("nan")}, r"^sample must be in \[0, 1\), got nan$"),
    ],
)
def test_a_number_out_of_range_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        word_windows(zipf(), **({"length": 256} | arguments))


# text8

WORDS = b" anarchism originated as a term of abuse " * 50


def zipped(contents=WORDS, name="text8", how=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        archive.writestr(name, contents)
    return file.getvalue()


@pytest.fixture
def served(monkeypatch):
    """Gives what is served to a download, bytes or an error; returns how often it was asked for."""
    asked = []
    monkeypatch.setattr(named, "SIZE", len(WORDS))

    def serve(answer):
        def open_it(url, timeout):
            asked.append(url)
            if isinstance(answer, Exception):
                raise answer
            return io.BytesIO(answer)

        monkeypatch.setattr(named.urllib.request, "urlopen", open_it)
        return asked

    return serve


def test_text8_is_fetched_once_and_unpacked(served, cache):
    asked = served(zipped())
    assert named.text8_file() == named.text8_file() == cache / "text8"
    assert asked == ["http://mattmahoney.net/dc/text8.zip"]
    assert (cache / "text8").read_bytes() == WORDS
    assert list(cache.iterdir()) == [cache / "text8"]


def test_text8_is_read_by_its_name(served):
    served(zipped())
    text = corpus("text8")
    assert text.name == "text8"
    assert text.words == ("anarchism", "originated", "as", "a", "term", "of", "abuse")


def damaged():
    """An archive whose end is whole, and whose text is not."""
    contents = bytearray(zipped(how=zipfile.ZIP_STORED))
    contents[60] ^= 0xFF
    return bytes(contents)


def undecodable():
    """An archive whose text begins with what deflate has no block for."""
    contents = bytearray(zipped())
    contents[30 + len("text8")] = 0xFF
    return bytes(contents)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (zipped(WORDS[:-1]), r"text8 must have 2,050 bytes, got 2,049$"),
        (zipped(WORDS * 9), r"text8 must have 2,050 bytes, got 2,051$"),
        (zipped(name="text9"), r"cannot be fetched \(.*no item named 'text8'.*\); --data takes"),
        (b"<html>moved</html>", r"cannot be fetched \(File is not a zip file\)"),
        (b"", r"cannot be fetched \(File is not a zip file\)"),
        (zipped()[:-30], r"cannot be fetched \(File is not a zip file\)"),
        (damaged(), r"cannot be fetched \(Bad CRC-32 for file 'text8'\)"),
        (undecodable(), r"cannot be fetched \(Error -3 while decompressing data.*\)"),
        (urllib.error.URLError("no route"), r"cannot be fetched \(no route\); --data takes a text of your own"),
        (TimeoutError("timed out"), r"cannot be fetched \(timed out\)"),
        (http.client.BadStatusLine("what?"), r"cannot be fetched \(what\?\)"),
    ],
)
def test_text8_that_cannot_be_fetched_is_told_in_one_line_and_leaves_nothing_behind(served, cache, answer, message):
    served(answer)
    with pytest.raises(InputError, match=message) as refused:
        named.text8_file()
    assert "\n" not in str(refused.value)
    assert "http://mattmahoney.net/dc/text8.zip" in str(refused.value)
    assert list(cache.iterdir()) == []


def test_text8_is_fetched_anew_after_a_failure(served, cache):
    served(b"")
    with pytest.raises(InputError):
        named.text8_file()
    served(zipped())
    assert named.text8_file().read_bytes() == WORDS
