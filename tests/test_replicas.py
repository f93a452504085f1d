"""What a slice of a batch draws is what the whole batch draws for its examples."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import replicas
from kerastoolkit.layers import BatchNormalization, Corruption, Dropout, GaussianSample

CUTS = (0, 3, 4, 10)  # of ten examples; odd numbers of numbers each, so that slices begin inside Philox' blocks of four


def slices(function, rows, **how):
    """What ``function`` gives for each slice of rows, together."""
    found = []
    for begin, end in zip(CUTS, CUTS[1:], strict=False):
        with replicas.slice_of_batch(tf.constant(begin, tf.int64), tf.constant(end - begin, tf.int64), **how):
            found.append(np.asarray(function(rows[begin:end])))
    return np.concatenate(found)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_slices_draw_the_numbers_of_the_whole(kind, dtype):
    rows = tf.zeros((10, 7), dtype)
    whole = getattr(keras.random, kind)((10, 7), dtype=dtype, seed=keras.random.SeedGenerator(5))
    draw = getattr(replicas, kind)
    cut = slices(lambda part: draw(part, part.shape, keras.random.SeedGenerator(5)), rows)
    np.testing.assert_array_equal(np.asarray(whole, "float64"), cut.astype("float64"))
    assert len(np.unique(cut)) > 40


def test_slices_draw_whole_numbers_of_the_whole():
    seed = tf.constant([3, 9])
    whole = replicas.batch_uniform((10, 7), seed, 1, 1000, tf.int32)
    cut = slices(lambda part: replicas.batch_uniform(part.shape, replicas.batch_seed(None), 1, 1000, tf.int32), tf.zeros((10, 7)),
                 seed=seed)  # fmt: skip
    np.testing.assert_array_equal(whole, cut)


def test_the_seed_of_a_whole_batch_is_its_first_examples():
    assert replicas.batch_seed(tf.constant([[1, 2], [3, 4]])).numpy().tolist() == [1, 2]


@pytest.mark.parametrize("make", [
    lambda: Dropout(0.5, seed=1), lambda: GaussianSample(seed=1), lambda: Corruption("gaussian", 0.1, 0.9, seed=1),
    lambda: Corruption("salt_and_pepper", 0.5, 0.5, seed=1)], ids=["dropout", "gaussian", "noise", "salt"])  # fmt: skip
def test_layers_draw_by_example(make):
    rows = tf.random.stateless_uniform((10, 5, 3, 1), (0, 1))

    def call(part):
        layer = make()
        if isinstance(layer, GaussianSample):
            flat = tf.reshape(part, (len(part), 15))
            return layer([flat, flat])
        return layer(part, training=True)

    whole = np.asarray(call(rows))
    np.testing.assert_allclose(slices(call, rows), whole, rtol=1e-6)
    assert not np.allclose(whole[:3], whole[3:6])


def test_keras_own_dropout_drops_the_same_in_every_slice():
    """Why ours is not Keras'."""
    rows = tf.ones((10, 7))
    whole = keras.layers.Dropout(0.5, seed=1)(rows, training=True)
    assert not np.allclose(slices(lambda part: keras.layers.Dropout(0.5, seed=1)(part, training=True), rows), whole)


def test_texts_with_a_padding_of_their_own_draw_other_numbers_in_each_slice():
    seeds = keras.random.SeedGenerator(1)

    @tf.function(input_signature=[tf.TensorSpec((None, None)), tf.TensorSpec((), tf.int64)])
    def draw(rows, first):
        with replicas.slice_of_batch(first, tf.shape(rows, tf.int64)[0]):
            return replicas.uniform(rows, tf.shape(rows), seeds)

    first = draw(tf.ones((2, 6)), 0)
    seeds.state.assign([1, 0])
    assert not np.isin(draw(tf.ones((2, 6)), 2), first).any()


def test_alone_nothing_is_summed():
    value = tf.constant([1.0, 2.0])
    assert replicas.count() == 1
    assert replicas.summed(value) is value
    assert replicas.own([value]) == [value]


def test_dropout_and_batch_norm_are_keras_own_where_one_replica_is_alone():
    rows = tf.random.stateless_normal((6, 4), (1, 2))
    ours, theirs = (kind(0.4, seed=3)(rows, training=True) for kind in (Dropout, keras.layers.Dropout))
    np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (kind()(rows, training=True) for kind in (BatchNormalization, keras.layers.BatchNormalization))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
