"""Windows of running text against loops that take one word and one neighbour at a time."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import layers
from kerastoolkit.layers.word_windows import window_mask

# (batch, segments, segment, window): several of each, one of each, and segments as short as they may be.
SIZES = [(3, 4, 5, 2), (1, 1, 2, 1), (2, 3, 6, 3), (2, 1, 9, 1), (1, 5, 4, 2)]
CUTS = [*SIZES, (2, 3, 4, 0), (1, 4, 1, 0)]  # without the words around them, too


def text(batch, segments, segment, window, seed=0):
    """Tokens (batch, length + 2 * window) with -1 here and there, and at the ends as in ``data.running_words``."""
    tokens = np.random.default_rng(seed).integers(-1, 7, size=(batch, segments * segment + 2 * window)).astype("int32")
    tokens[:, :window] = tokens[:, segments * segment + window :] = -1
    return tokens


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def reaches(size, seed=1):
    """(batch, length, 2) int32, 0 .. window."""
    batch, segments, segment, window = size
    return np.random.default_rng(seed).integers(0, window + 1, size=(batch, segments * segment, 2)).astype("int32")


def mask_by_loops(reach, window):
    mask = np.zeros((*reach.shape[:2], 2 * window + 1), "float32")
    for row, place in np.ndindex(*reach.shape[:2]):
        before, after = reach[row, place]
        for step in range(-before, after + 1):
            mask[row, place, window + step] = step != 0
    return mask


@pytest.mark.parametrize("size", SIZES)
def test_the_mask_is_one_for_the_words_in_reach_before_and_after(size):
    mask = mask_by_loops(reaches(size), size[3])
    assert 0 < mask.mean() < 1
    np.testing.assert_array_equal(window_mask(reaches(size), size[3]), mask)


def test_the_mask_of_three_words_is_one_written_by_hand():
    reach = np.array([[[0, 2], [1, 1], [2, 0]]])
    mask = [[[0, 0, 0, 1, 1], [0, 1, 0, 1, 0], [1, 1, 0, 0, 0]]]
    np.testing.assert_array_equal(window_mask(reach, 2), mask)


def test_a_reach_of_zero_has_no_neighbours():
    assert not np.any(window_mask(np.zeros((2, 5, 2), "int32"), 2))


def test_the_mask_is_float32_whatever_the_integers():
    mask = window_mask(np.full((2, 5, 2), 2, "uint8"), 2)
    assert mask.dtype == tf.float32
    np.testing.assert_array_equal(mask, mask_by_loops(np.full((2, 5, 2), 2), 2))


@pytest.mark.parametrize("size", CUTS)
def test_segments_are_the_words_with_those_before_and_after_them(size):
    _, segments, segment, window = size
    tokens = text(*size)
    expected = [tokens[:, number * segment : (number + 1) * segment + 2 * window] for number in range(segments)]
    found = layers.Segments(segment, window)(tokens)
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, np.stack(expected, axis=1))


@pytest.mark.parametrize(
    ("segment", "window", "message"),
    [
        (4, -2, "window must be at least 0, got -2"),
        (0, 0, "segment must be at least 1, got 0"),
        (5, 3, r"segment must be at least 2 \* window = 6, got 5"),
        (1, 1, r"segment must be at least 2 \* window = 2, got 1"),
    ],
)
def test_segments_of_a_wrong_size_are_refused(segment, window, message):
    with pytest.raises(ValueError, match=message):
        layers.Segments(segment, window)


def test_a_known_length_that_is_no_multiple_of_the_segment_is_refused():
    with pytest.raises(ValueError, match="the length must be a multiple of segment = 4, got 6"):
        layers.Segments(4, 2)(keras.Input((10,), dtype="int32"))


def scores_by_loops(words, others, window):
    """For each word of each segment its products with the words around it and with those that the segment shares."""
    batch, segments, segment, _ = words.shape
    neighbours = np.zeros((batch, segments * segment, 2 * window + 1))
    shared = np.zeros((batch, segments * segment, others.shape[2] - segment - 2 * window))
    for row, number, place in np.ndindex(batch, segments, segment):
        word, at = words[row, number, place], (row, number * segment + place)
        for step in range(2 * window + 1):
            neighbours[(*at, step)] = word @ others[row, number, place + step]
        for other in range(shared.shape[2]):
            shared[(*at, other)] = word @ others[row, number, segment + 2 * window + other]
    return neighbours, shared


@pytest.mark.parametrize("shared", [0, 1, 4])
@pytest.mark.parametrize("size", SIZES)
def test_window_scores_are_products_with_the_neighbours_and_the_shared(size, shared):
    batch, segments, segment, window = size
    words = vectors(batch, segments, segment, 3)
    others = vectors(batch, segments, segment + 2 * window + shared, 3, seed=1)
    for ours, theirs in zip(layers.WindowScores(window)(words, others), scores_by_loops(words, others, window), strict=True):
        same(ours, theirs)


@pytest.mark.parametrize("shared", [0, 1, 4])
@pytest.mark.parametrize("size", SIZES)
def test_own_scores_are_products_with_the_word_itself_and_the_shared(size, shared):
    batch, segments, segment, _ = size
    means, others = vectors(batch, segments, segment, 3), vectors(batch, segments, segment + shared, 3, seed=1)
    own, noise = np.zeros((batch, segments * segment)), np.zeros((batch, segments * segment, shared))
    for row, number, place in np.ndindex(batch, segments, segment):
        mean, at = means[row, number, place], (row, number * segment + place)
        own[at] = mean @ others[row, number, place]
        for other in range(shared):
            noise[(*at, other)] = mean @ others[row, number, segment + other]
    for ours, theirs in zip(layers.OwnScores()(means, others), (own, noise), strict=True):
        same(ours, theirs)


def means_by_loops(around, mask, window):
    means = np.zeros((*mask.shape[:2], around.shape[2]))
    for row, place in np.ndindex(*mask.shape[:2]):
        found = [around[row, place + step] for step in range(2 * window + 1) if mask[row, place, step]]
        if found:
            means[row, place] = np.mean(found, axis=0)
    return means


@pytest.mark.parametrize("size", SIZES)
def test_window_means_are_those_of_the_neighbours_that_count(size):
    batch, segments, segment, window = size
    around = vectors(batch, segments * segment + 2 * window, 3)
    reach = reaches(size)
    reach[:, 0] = 0  # a word without neighbours
    same(layers.WindowMean(window)(around, reach), means_by_loops(around, mask_by_loops(reach, window), window))


def test_the_mean_of_no_neighbours_is_zeros():
    means = layers.WindowMean(2)(vectors(2, 9, 4), np.zeros((2, 5, 2), "int32"))
    np.testing.assert_array_equal(means, np.zeros((2, 5, 4)))


def test_the_mean_of_two_neighbours_is_worked_out_by_hand():
    around = np.array([[[1.0], [2.0], [4.0], [8.0]]], "float32")  # two words, a window of one
    reach = np.array([[[1, 1], [0, 1]]], "int32")
    np.testing.assert_array_equal(layers.WindowMean(1)(around, reach), [[[2.5], [8.0]]])


def joined(known):
    """All four layers in one network, whose sizes Keras knows or not: it, its arguments and its outputs' shapes."""
    batch, segments, segment, window, shared, dimensions = 2, 3, 5, 2, 4, 3
    places, reach = segments * segment, segment + 2 * window
    arguments = [text(batch, segments, segment, window), np.ones((batch, places, 2), "int32"),
                 vectors(batch, segments, shared, dimensions)]  # fmt: skip
    shapes = [(None, None), (None, None, 2), (None, None, None, dimensions)]
    if known:
        shapes = [each.shape for each in arguments]
    tokens, near, noise = (
        keras.Input(batch_shape=shape, dtype=each.dtype) for shape, each in zip(shapes, arguments, strict=True)
    )
    around = layers.Segments(segment, window)(tokens)
    table = keras.layers.Embedding(9, dimensions)
    means = layers.WindowMean(window)(table(keras.ops.maximum(tokens, 0)), near)
    around, words = table(keras.ops.maximum(around, 0)), keras.layers.Reshape((-1, segment, dimensions))(means)
    neighbours, first = layers.WindowScores(window)(words, keras.ops.concatenate([around, noise], axis=2))
    own, second = layers.OwnScores()(words, keras.ops.concatenate([around[:, :, window:-window], noise], axis=2))
    network = keras.Model([tokens, near, noise], [around, means, neighbours, first, own, second])
    expected = [(batch, segments, reach, dimensions), (batch, places, dimensions), (batch, places, 2 * window + 1),
                (batch, places, shared), (batch, places), (batch, places, shared)]  # fmt: skip
    return network, arguments, expected


def test_sizes_that_are_known_are_told_to_the_last():
    network, arguments, expected = joined(known=True)
    assert [output.shape for output in network.outputs] == expected
    assert [tuple(output.shape) for output in network(arguments)] == expected


def test_sizes_that_are_not_known_are_found_when_they_come():
    network, arguments, expected = joined(known=False)
    behind_batch_and_length = [(9, 3), (3,), (5,), (None,), (), (None,)]
    assert [output.shape for output in network.outputs] == [(None, None, *sizes) for sizes in behind_batch_and_length]
    assert [tuple(output.shape) for output in network(arguments)] == expected


@pytest.mark.parametrize("compiled", [False, True])
def test_a_graph_that_knows_no_sizes_gives_the_same(compiled):
    # As an export has it.
    network, arguments, _ = joined(known=False)
    signature = [tf.TensorSpec(spec.shape, each.dtype) for spec, each in zip(network.inputs, arguments, strict=True)]
    graph = tf.function(lambda *given: network(list(given)), input_signature=signature, jit_compile=compiled)
    for ours, theirs in zip(graph(*arguments), network(arguments), strict=True):
        same(ours, theirs)


def test_gradients_of_window_scores_are_the_sums_of_those_of_their_products():
    words, others = vectors(2, 2, 4, 3), vectors(2, 2, 9, 3, seed=1)
    weights = [vectors(2, 8, 3, seed=2), vectors(2, 8, 3, seed=3)]
    ours = gradients_of(layers.WindowScores(1), [words, others], weights)
    theirs = [np.zeros_like(words), np.zeros_like(others)]
    for row, number, place, step in np.ndindex(2, 2, 4, 3):
        # The neighbours are at place + step; the three shared ones behind the six of the segment and its surroundings.
        for weight, column in zip(weights, (place + step, 6 + step), strict=True):
            share = weight[row, number * 4 + place, step]
            theirs[0][row, number, place] += share * others[row, number, column]
            theirs[1][row, number, column] += share * words[row, number, place]
    for one, other in zip(ours, theirs, strict=True):
        same(one, other)


def test_gradients_of_own_scores_are_the_sums_of_those_of_their_products():
    means, others = vectors(2, 2, 4, 3), vectors(2, 2, 6, 3, seed=1)
    weights = [vectors(2, 8, seed=2), vectors(2, 8, 2, seed=3)]
    ours = gradients_of(layers.OwnScores(), [means, others], weights)
    theirs = [np.zeros_like(means), np.zeros_like(others)]
    for row, number, place in np.ndindex(2, 2, 4):
        at = (row, number * 4 + place)
        for share, column in [(weights[0][at], place), (weights[1][at][0], 4), (weights[1][at][1], 5)]:
            theirs[0][row, number, place] += share * others[row, number, column]
            theirs[1][row, number, column] += share * means[row, number, place]
    for one, other in zip(ours, theirs, strict=True):
        same(one, other)


def test_gradients_of_a_mean_are_shared_by_its_words():
    around, weight = vectors(2, 10, 3), vectors(2, 8, 3, seed=2)
    reach = reaches((2, 2, 4, 1))
    mask, layer = mask_by_loops(reach, 1), layers.WindowMean(1)
    (ours,) = gradients_of(lambda given: [layer(given, reach)], [around], [weight])
    theirs = np.zeros_like(around)
    for row, place, step in np.ndindex(2, 8, 3):
        counts = mask[row, place]
        if counts[step]:
            theirs[row, place + step] += weight[row, place] / counts.sum()
    same(ours, theirs)


def gradients_of(function, arguments, weights):
    """Of the sum of all outputs, each times its weights."""
    arguments = [tf.constant(each) for each in arguments]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        total = sum(tf.reduce_sum(output * weight) for output, weight in zip(function(*arguments), weights, strict=True))
    return tape.gradient(total, arguments)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_layers_compute_in_the_precision_that_they_are_given(dtype):
    around, words, near = vectors(2, 2, 6, 3).astype(dtype), vectors(2, 2, 4, 3).astype(dtype), np.ones((2, 8, 2), "int32")
    outputs = [*layers.WindowScores(1, dtype=dtype)(words, around), *layers.OwnScores(dtype=dtype)(words, around),
               layers.WindowMean(1, dtype=dtype)(vectors(2, 10, 3).astype(dtype), near)]  # fmt: skip
    assert {output.dtype for output in outputs} == {tf.as_dtype(dtype)}


@pytest.mark.parametrize(
    ("layer", "settings"),
    [
        (layers.Segments(7, 3), {"segment": 7, "window": 3}),
        (layers.WindowScores(3), {"window": 3}),
        (layers.OwnScores(), {}),
        (layers.WindowMean(3), {"window": 3}),
    ],
)
def test_layers_are_made_again_from_their_configuration(layer, settings):
    assert settings.items() <= layer.get_config().items()
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


def test_a_saved_network_gives_the_same(tmp_path):
    network, arguments, _ = joined(known=False)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    for ours, theirs in zip(again(arguments), network(arguments), strict=True):
        np.testing.assert_array_equal(ours, theirs)
