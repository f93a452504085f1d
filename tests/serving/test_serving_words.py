"""Words in the serving model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.serving.words import MeanVector, Neighbours, Vocabulary, WordTokens

WORDS = ["king", "queen", "man", "woman", "안녕", "-"]
VECTORS = np.array([[1, 1, 0], [1, -1, 0.1], [0, 1, 0], [0, -1, 0], [0, 0, 2], [1, 0, 0]], np.float32)


def strings(*texts):
    return tf.constant([each.encode() for each in texts])


def test_words_become_their_places_and_the_unknown_minus_one():
    tokens = WordTokens(WORDS)(strings("King  man", "안녕 nobody queen", ""))
    np.testing.assert_array_equal(tokens, [[0, 2, -1], [4, -1, 1], [-1, -1, -1]])


def test_capital_letters_count_where_they_are_told_to():
    tokens = WordTokens(["ÉTÉ", "été"], lower=False)(strings("ÉTÉ", "été"))
    np.testing.assert_array_equal(tokens, [[0], [1]])
    np.testing.assert_array_equal(WordTokens(["été"])(strings("ÉTÉ")), [[0]])


def test_places_that_no_word_has_are_no_words():
    tokens = Vocabulary(WORDS)(tf.constant([[0, 5, 6, -1, -7]]))
    np.testing.assert_array_equal(tokens, [[0, 5, -1, -1, -1]])


@pytest.mark.parametrize("words", [[], ["a", "b", "a"]])
def test_a_vocabulary_has_words_and_each_once(words):
    with pytest.raises(ValueError, match="each once"):
        Vocabulary(words)


def test_layers_with_words_are_made_again_from_their_configuration():
    for layer in (Vocabulary(WORDS, lower=False), WordTokens(WORDS, lower=False)):
        again = type(layer).from_config(layer.get_config())
        assert (again.words, again.lower) == (WORDS, False)


def test_a_phrase_has_the_mean_vector_of_its_known_words():
    vectors, tokens = tf.gather(VECTORS, [[0, 1], [2, 0], [0, 0]]), tf.constant([[0, 1], [2, -1], [-1, -1]])
    found = MeanVector()(vectors, tokens)
    np.testing.assert_allclose(found["vector"], [(VECTORS[0] + VECTORS[1]) / 2, VECTORS[2], [0, 0, 0]])
    np.testing.assert_array_equal(found["known"], [2, 1, 0])


@pytest.fixture(scope="module")
def ask():
    half = VECTORS / 2
    tables = [keras.layers.Embedding(*VECTORS.shape, embeddings_initializer=keras.initializers.Constant(half)) for _ in range(2)]
    for table in tables:
        table.build()
    layer = Neighbours(WORDS, True, tables)

    def run(*queries, count=6):
        counts = count if isinstance(count, list) else [count] * len(queries)
        found = layer({"text": strings(*queries), "count": tf.constant(counts)})
        return {name: value.numpy() for name, value in found.items()}

    return run


def cosine(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_neighbours_are_those_of_the_greatest_cosine_without_the_word_itself(ask):
    found = ask("king")
    cosines = {word: cosine(VECTORS[0], VECTORS[i]) for i, word in enumerate(WORDS) if word != "king"}
    expected = sorted(cosines, key=lambda word: -cosines[word])
    assert [each.decode() for each in found["neighbours"][0]] == [*expected, ""]
    np.testing.assert_allclose(found["similarities"][0], [*(cosines[word] for word in expected), 0.0], atol=1e-6)


def test_an_analogy_is_answered_as_gensim_answers_it(ask):
    from gensim.models import KeyedVectors

    known = KeyedVectors(3)
    known.add_vectors(WORDS, VECTORS)
    expected = known.most_similar(positive=["king", "woman"], negative=["man"], topn=3)
    found = ask("king - man + woman", count=3)
    assert [each.decode() for each in found["neighbours"][0]] == [word for word, _ in expected]
    np.testing.assert_allclose(found["similarities"][0], [value for _, value in expected], atol=1e-6)


def test_two_sides_have_the_cosine_of_their_sums(ask):
    found = ask("king ~ queen", "king - man ~ woman", "man")
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    expected = [cosine(VECTORS[0], VECTORS[1]), cosine(unit[0] - unit[2], unit[3]), 0.0]
    np.testing.assert_allclose(found["similarity"], expected, atol=1e-6)
    np.testing.assert_array_equal(found["sides"], [2, 2, 1])


def test_unknown_words_are_told_by_query(ask):
    found = ask("king nobody", "queen", "one ~ two")
    assert list(found["unknown"]) == [b"nobody", b"", b"one two"]


@pytest.mark.parametrize("query", ["", "~", "king ~", "~ king", "king ~ man ~ woman", "+", "- -"])
def test_a_query_without_words_on_a_side_is_malformed(ask, query):
    assert ask(query)["sides"][0] == 0


def test_a_sign_is_a_sign_even_where_the_vocabulary_has_it(ask):
    found = ask("king - man")
    assert b"-" in found["neighbours"][0]
    assert found["unknown"][0] == b""


def test_a_sign_of_one_query_says_nothing_of_the_next(ask):
    alone, after = ask("king"), ask("man -", "king")
    np.testing.assert_allclose(after["vector"][1], alone["vector"][0])


def test_each_query_has_as_many_neighbours_as_it_wants(ask):
    found = ask("king", "man", "woman", count=[1, 3, 0])
    assert [(row != b"").sum() for row in found["neighbours"]] == [1, 3, 0]
    assert found["neighbours"].shape == (3, 3)


@pytest.mark.parametrize("count", [-1, 1001])
def test_a_count_out_of_range_is_refused(ask, count):
    with pytest.raises(tf.errors.InvalidArgumentError, match="count must be 0 .. 1,000"):
        ask("king", count=count)
