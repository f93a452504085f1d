"""Word vectors: targets, figures and what is told of an answer."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.experiment import InputError
from kerastoolkit.tasks import word_vectors
from kerastoolkit.tasks.word_vectors import global_vectors, principal_plane, question_files, word2vec

TOKENS = np.array([[-1, -1, 3, 5, 4, -1, -1, -1]], np.int32)  # a window of 2, four places, the last without a word
REACH = np.array([[[0, 1], [1, 1], [1, 0], [0, 0]]], np.int32)


def losses(task, outputs, **drawn):
    """(extra network inputs, the loss and nats_per_pair of these outputs) of the text above."""
    given = {"reach": REACH, **({} if drawn else {"negatives": np.array([[[5, 9]]], np.int32)}), **drawn}
    truths = {name: tf.constant(value) for name, value in given.items()}
    extra, targets = task.encode(truths, {"tokens": tf.constant(TOKENS)}, {}, None)
    outputs = {name: tf.constant(value, tf.float32) for name, value in outputs.items()}
    return extra, float(task.loss(targets, outputs)[0]), float(task.metrics["nats_per_pair"](targets, outputs)[0])


FAR = -50.0  # a logit of a pair that is surely not real: its loss as a positive is 50 nats, as a negative none


def test_skip_gram_has_a_pair_for_each_neighbour_within_reach():
    expected = np.array([[0, 0, 0, 1, 0], [0, 1, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    nothing = {"positive": np.zeros((1, 4, 5)), "negative": np.full((1, 4, 2), FAR)}
    assert losses(word2vec("skip_gram", 2, 6), nothing)[1] == pytest.approx(4 * np.log(2) / 4)
    for place, offset in np.ndindex(4, 5):
        positive = np.zeros((1, 4, 5))
        positive[0, place, offset] = FAR
        loss = losses(word2vec("skip_gram", 2, 6), {**nothing, "positive": positive})[1]
        assert loss == pytest.approx((4 * np.log(2) + (50 - np.log(2)) * expected[place, offset]) / 4)


def test_the_noise_words_of_a_segment_stand_for_as_many_as_the_pairs_are_told_from():
    outputs = {"positive": np.full((1, 4, 5), -FAR), "negative": np.zeros((1, 4, 2))}
    extra, loss, per_pair = losses(word2vec("skip_gram", 2, 6), outputs)
    assert set(extra) == {"negatives"}
    # Four pairs with six noise words each.
    assert (loss, per_pair) == pytest.approx((24 * np.log(2) / 4, 6 * np.log(2)))


def test_cbow_has_one_pair_for_each_word_with_a_neighbour_and_leaves_the_word_itself_out_of_the_noise():
    outputs = {"positive": np.full((1, 4), -FAR), "negative": np.zeros((1, 4, 2))}
    extra, loss, per_pair = losses(word2vec("cbow", 2, 6), outputs)
    assert set(extra) == {"negatives", "reach"}
    # Three places, each with two noise words that count three, but for the 5 that is the word itself at the second.
    assert (loss, per_pair) == pytest.approx((15 * np.log(2) / 4, 5 * np.log(2)))
    outputs = {"positive": np.array([[FAR, 0, 0, FAR]]), "negative": np.full((1, 4, 2), FAR)}
    assert losses(word2vec("cbow", 2, 6), outputs)[1] == pytest.approx((50 + 2 * np.log(2)) / 4)


@pytest.mark.parametrize(("method", "shape", "turns"), [("cbow", (1, 4, 2), 5), ("skip_gram", (1, 4, 5, 2), 6)])
def test_hierarchical_softmax_has_a_turn_for_each_node_of_the_way(method, shape, turns):
    path = np.array([[[0, 1], [0, -1], [0, 1], [-1, -1]]], np.int32)
    left = np.array([[[1, 0], [0, 0], [1, 1], [0, 0]]], np.int32)
    task = word2vec(method, 2, 5, True)
    extra, loss, _ = losses(task, {"branches": np.zeros(shape)}, path=path, left=left)
    np.testing.assert_array_equal(extra["path"], path)
    # CBOW: ways of two, one and two nodes; skip-gram: the second word has two neighbours.
    assert loss == pytest.approx(turns * np.log(2) / 4)
    # To the left everywhere: wrong at the second node of the first word and at the only one of the second word.
    wrong = {"cbow": 2, "skip_gram": 3}[method]
    assert losses(task, {"branches": np.full(shape, -FAR)}, path=path, left=left)[1] == pytest.approx(50 * wrong / 4)


def test_glove_takes_each_entry_in_both_directions_but_on_the_diagonal():
    tokens, count = tf.constant([[1, 2, 3, 7, 2, 4]]), tf.constant([[5.0, 6.0, 0.0]])
    extra, counts = global_vectors().encode({"count": count}, {}, {"tokens": tokens}, None)
    np.testing.assert_array_equal(extra["word"], [[1, 2, 3, 7, 2, 4]])
    np.testing.assert_array_equal(extra["context"], [[7, 2, 4, 1, 2, 3]])
    np.testing.assert_array_equal(counts, [[5, 6, 0, 5, 0, 0]])


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="method must be skip_gram or cbow, got glove"):
        word2vec("glove")
    with pytest.raises(InputError, match="negatives must be at least 1, got 0"):
        word2vec(negatives=0)
    with pytest.raises(InputError, match="x_max must be more than 0, got 0"):
        global_vectors(x_max=0)
    with pytest.raises(InputError, match="alpha must be at least 0, got -0.5"):
        global_vectors(alpha=-0.5)


def answers(**changes):
    found = {"unknown": np.array([b""]), "sides": np.array([1]), "similarity": np.array([0.5]),
             "neighbours": np.array([[b"queen", b""]]), "similarities": np.array([[0.75, 0.0]])}  # fmt: skip
    return {**found, **changes}


def test_a_word_is_told_its_neighbours_and_a_pair_its_similarity():
    (row,) = word2vec().tell(["king"], answers())
    assert row["neighbours"] == [{"word": "queen", "similarity": 0.75}]
    assert (row["nearest"], row["similarity"]) == ("queen 0.750", None)
    (row,) = word2vec().tell(["king ~ queen"], answers(sides=np.array([2])))
    assert (row["nearest"], row["similarity"]) == ("", 0.5)


def test_unknown_words_and_malformed_queries_are_refused():
    with pytest.raises(InputError, match="king nobody: not in the vocabulary: nobody"):
        word2vec().tell(["king nobody"], answers(unknown=np.array([b"nobody"])))
    with pytest.raises(InputError, match="a query must be a word"):
        word2vec().tell(["+"], answers(sides=np.array([0])))


def test_decomposed_letters_are_asked_for_in_composed_form():
    _, raw = word2vec().read(["cafe\u0301"])
    assert raw["text"][0] == "caf\u00e9"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_plane_keeps_the_distances_of_points_that_lie_in_one(count):
    points = np.random.default_rng(0).normal(size=(count, 2)) @ np.random.default_rng(1).normal(size=(2, 7))
    plane = principal_plane(points)
    expected = np.linalg.norm(points[:, None] - points, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(plane[:, None] - plane, axis=-1), expected, atol=1e-9)


@pytest.fixture
def scored(monkeypatch, tmp_path):
    """Scores vectors of the words given, with a file of pairs and one of analogies."""
    (tmp_path / "mine.tsv").write_text("a\tb\t9\nc\td\t1\na\tnobody\t5\na\tc\t4\n")
    (tmp_path / "asked.txt").write_text(": letters\na b c d\na b c nobody\n")

    def run(words, vectors, **how):
        monkeypatch.setattr(word_vectors, "inner_layer", lambda *_: SimpleNamespace(words=words))
        monkeypatch.setattr(word_vectors, "decoded_model", lambda serving: serving)
        rows = np.arange(len(words))[:, None]
        batches = [({"tokens": rows[i : i + 2]}, {"vector": vectors[i : i + 2]}) for i in range(0, len(words), 2)]
        data = SimpleNamespace(name="made up", about={"vocabulary": how.pop("vocabulary", len(words))})
        given = {"pairs": str(tmp_path / "mine.tsv"), "analogies": str(tmp_path / "asked.txt"), "most_frequent": 300_000, **how}
        return word2vec().score(batches, data, None, **given)

    return run


def test_figures_are_of_the_covered_pairs_and_questions(scored):
    words = ["a", "b", "c", "d", "e"]
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [-0.4, 1], [-1, -1]], np.float32)
    report = scored(words, vectors)
    # Cosines of a b, c d and a c fall in the order 1, 2, 3 of which people have 9, 1, 4: Spearman's is 0.5 by hand.
    assert report.figures["mine_spearman"] == pytest.approx(0.5)
    assert report.figures["asked_3cosadd"] == report.figures["asked_3cosmul"] == 1.0
    assert report.tables["similarity, against people's judgement"][0]["covered"] == "3 of 4"
    assert report.tables["asked, answered right"][0]["covered"] == "1 of 2"
    assert report.figures["vocabulary"] == 5
    assert "word_map" in report.pictures


def test_vectors_without_any_covered_pair_have_no_such_figure(scored):
    report = scored(["가", "나", "다"], np.eye(3, dtype=np.float32))
    assert not [name for name in report.figures if "spearman" in name or "cos" in name]


def test_data_with_other_words_is_refused(scored):
    with pytest.raises(InputError, match="made up has 7 words, not the 3 that the run was trained on"):
        scored(["a", "b", "c"], np.eye(3, dtype=np.float32), vocabulary=7)


def test_too_few_frequent_words_are_refused(scored):
    with pytest.raises(InputError, match="most_frequent must be at least 2, got 1"):
        scored(["a", "b", "c"], np.eye(3, dtype=np.float32), most_frequent=1)


def test_questions_come_from_gensim_unless_a_file_is_given(monkeypatch):
    assert question_files("my/pairs.tsv", word_vectors.PAIRS) == {"pairs": "my/pairs.tsv"}
    assert set(question_files("", word_vectors.PAIRS)) == {"wordsim353", "simlex999"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert question_files("", word_vectors.PAIRS) == {}
