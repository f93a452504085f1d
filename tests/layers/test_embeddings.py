"""What BERT adds to a token's embedding, and takes from its outputs, against loops in NumPy."""

import keras
import numpy as np
import pytest

from kerastoolkit.layers.embeddings import AtPositions, Bias, PositionEmbedding, SegmentEmbedding

X = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")


def test_each_position_has_its_vector_added():
    layer = PositionEmbedding(6)
    layer(X)
    layer.set_weights([np.arange(18.0).reshape(6, 3)])
    expected = [[[x + 3 * place + i for i, x in enumerate(row)] for place, row in enumerate(text)] for text in X]
    np.testing.assert_allclose(layer(X), expected, rtol=1e-6)


def test_each_segment_has_its_vector_added():
    layer, segments = SegmentEmbedding(3), np.array([[0, 0, 1, 2], [2, 1, 1, 0]])
    layer(X, segments)
    layer.set_weights([table := np.arange(9.0).reshape(3, 3)])
    np.testing.assert_allclose(layer(X, segments), X + table[segments], rtol=1e-6)


def test_each_feature_has_its_number_added():
    layer = Bias()
    np.testing.assert_array_equal(layer(X), X)  # it begins with zeros
    layer.set_weights([np.array([1.0, -2.0, 0.5])])
    np.testing.assert_allclose(layer(X), X + [1, -2, 0.5], rtol=1e-6)


def test_the_vectors_at_positions_are_taken_more_than_once_too():
    positions = np.array([[3, 0, 3], [1, 1, 2]])
    found = AtPositions()(X, positions)
    np.testing.assert_array_equal(found, [[X[row, place] for place in places] for row, places in enumerate(positions)])


def test_the_gradient_at_a_position_is_the_sum_of_those_of_its_takers():
    import tensorflow as tf

    x, positions = tf.constant(X), np.array([[3, 0, 3], [1, 1, 2]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(AtPositions()(x, positions))
    counts = [[1, 0, 0, 2], [0, 2, 1, 0]]
    np.testing.assert_array_equal(tape.gradient(loss, x), np.repeat(np.array(counts)[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", [PositionEmbedding, SegmentEmbedding])
def test_vectors_begin_as_the_initializer_says(kind):
    layer = kind(2_000, keras.initializers.RandomNormal(stddev=0.02, seed=1))
    layer.build(*((None, 4, 30),) * (2 if kind is SegmentEmbedding else 1))
    assert layer.embeddings.shape == (2_000, 30)
    assert np.std(keras.ops.convert_to_numpy(layer.embeddings)) == pytest.approx(0.02, rel=0.02)  # of 60,000: seven errors


@pytest.mark.parametrize(
    "layer",
    [PositionEmbedding(6, keras.initializers.TruncatedNormal(stddev=0.02)), SegmentEmbedding(2, "zeros"), Bias(), AtPositions()],
    ids=lambda layer: layer.name,
)
def test_a_saved_and_loaded_layer_gives_the_same(layer, tmp_path):
    x, places = keras.Input((None, 3)), keras.Input((None,), dtype="int32")
    two = isinstance(layer, (SegmentEmbedding, AtPositions))
    model = keras.Model([x, places], layer(x, places) if two else layer(x))
    model.set_weights([np.random.default_rng(1).normal(size=weight.shape) for weight in model.get_weights()])
    model.save(tmp_path / "model.keras")
    loaded, given = keras.saving.load_model(tmp_path / "model.keras"), [X, np.array([[0, 1, 1, 0], [1, 1, 0, 0]], "int32")]
    np.testing.assert_array_equal(loaded(given), model(given))
    again = next(each for each in loaded.layers if isinstance(each, type(layer)))
    assert {**again.get_config(), "dtype": 0} == {**layer.get_config(), "dtype": 0}
