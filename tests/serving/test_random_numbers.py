"""Random numbers of each example's own, against SplitMix64 in Python's integers and against what chance allows."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from kerastoolkit.serving.random_numbers import hashed, mixed, normals, uniforms

WHOLE = 2**64 - 1
STEP = 0x9E3779B97F4A7C15
# A random test fails by chance once in a hundred thousand choices of seeds; these seeds are fixed.
LEAST_P = 1e-5


def pairs(count, first=0, second=0):
    """Seed pairs (first, second), (first + 1, second), ..."""
    return tf.constant([(first + number, second) for number in range(count)], tf.int32)


def splitmix64(x):
    """The finaliser, slowly: Steele, Lea & Flood 2014, figure 17, after one step of the counter."""
    x = (x + STEP) & WHOLE
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WHOLE
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WHOLE
    return x ^ (x >> 31)


def slow_uniforms(pair, count, stream=0):
    """The numbers of one seed pair by Python's integers: the upper 24 bits of each half of each hash, the lower half first."""
    low, high = (seed & 0xFFFFFFFF for seed in pair)
    start = splitmix64((splitmix64(low | high << 32) + stream) & WHOLE)
    words = [splitmix64((start + number * STEP) & WHOLE) for number in range((count + 1) // 2)]
    return [half / 2**24 for word in words for half in ((word & 0xFFFFFFFF) >> 8, word >> 40)][:count]


def test_the_finaliser_gives_the_published_outputs_of_splitmix64():
    # The first outputs of the reference implementation whose state begins at 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = tf.constant([(1234567 + number * STEP) & WHOLE for number in range(3)], tf.uint64)
    assert mixed(states).numpy().tolist() == expected


@pytest.mark.parametrize("stream", [0, 1, 7])
def test_the_hash_of_a_seed_pair_is_that_of_python_integers(stream):
    seeds = [(0, 0), (1, 0), (0, 1), (-1, 5), (2**31 - 1, -(2**31))]
    expected = [splitmix64((splitmix64((low & 0xFFFFFFFF) | (high & 0xFFFFFFFF) << 32) + stream) & WHOLE) for low, high in seeds]
    assert hashed(tf.constant(seeds, tf.int32), stream).numpy().tolist() == expected


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_uniforms_are_the_upper_bits_of_the_hashes(count):
    seeds = [(3, 4), (-7, 11)]
    found = uniforms(tf.constant(seeds, tf.int32), (count,), stream=2).numpy()
    assert found.tolist() == [slow_uniforms(pair, count, stream=2) for pair in seeds]


def test_uniforms_lie_between_0_and_1_and_are_multiples_of_two_to_the_minus_24():
    numbers = uniforms(pairs(1000), (99,)).numpy()
    assert numbers.dtype == np.float32
    assert 0 <= numbers.min() < 1e-3 and 1 - 1e-3 < numbers.max() < 1
    assert (numbers * 2**24 == np.rint(numbers * 2**24)).all()


def test_uniforms_are_evenly_spread_within_an_example_and_from_example_to_example():
    numbers = uniforms(pairs(1000), (100,)).numpy()
    counts, _ = np.histogram(numbers, bins=1000, range=(0, 1))
    assert LEAST_P < stats.chisquare(counts).pvalue < 1 - LEAST_P
    for place in (0, 1, 98, 99):  # the first and the last hash, both halves
        assert stats.kstest(numbers[:, place], "uniform").pvalue > LEAST_P
    assert stats.kstest(uniforms(pairs(1), (100_000,)).numpy()[0], "uniform").pvalue > LEAST_P


@pytest.mark.parametrize("draw", [uniforms, normals])
def test_the_numbers_of_an_example_are_the_same_whatever_batch_it_is_in(draw):
    together = draw(pairs(9), (3, 5)).numpy()
    np.testing.assert_array_equal(draw(pairs(2, first=4), (3, 5)), together[4:6])


@pytest.mark.parametrize("draw", [uniforms, normals])
def test_each_shape_holds_the_same_numbers_in_row_major_order(draw):
    numbers = draw(pairs(3), (30,)).numpy()
    np.testing.assert_array_equal(draw(pairs(3), (2, 5, 3)), numbers.reshape(3, 2, 5, 3))
    np.testing.assert_array_equal(draw(pairs(3), (7,)), numbers[:, :7])
    np.testing.assert_array_equal(draw(pairs(3), ()), numbers[:, 0])


def correlation(one, other):
    return np.corrcoef(np.ravel(one), np.ravel(other))[0, 1]


def test_streams_of_one_seed_are_uncorrelated():
    draws = [uniforms(pairs(1000), (100,), stream=stream).numpy() for stream in (0, 1, 2)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(correlation(draws[one], draws[other])) < 0.015  # standard error 0.003
        assert abs(correlation(draws[one][:, :-2], draws[other][:, 2:])) < 0.015  # nor are they the same numbers a hash later


@pytest.mark.parametrize("place", [0, 1])
def test_neighbouring_seeds_are_uncorrelated_in_both_places_of_the_pair(place):
    seeds = np.zeros((1001, 2), np.int32)
    seeds[:, place] = np.arange(1001)
    draws = uniforms(tf.constant(seeds), (100,)).numpy()
    assert abs(correlation(draws[:-1], draws[1:])) < 0.015
    assert abs(correlation(draws[:-1, 2:], draws[1:, :-2])) < 0.015
    assert abs(correlation(draws[:-1, :-2], draws[1:, 2:])) < 0.015
    assert len(np.unique(draws[:, :2], axis=0)) == 1001


def test_the_two_places_of_a_seed_pair_are_not_interchangeable():
    assert not np.array_equal(uniforms(tf.constant([[1, 2]]), (4,)), uniforms(tf.constant([[2, 1]]), (4,)))


def test_numbers_of_one_example_are_uncorrelated_with_their_neighbours():
    draws = uniforms(pairs(1000), (100,)).numpy()
    for distance in (1, 2, 3):
        assert abs(correlation(draws[:, :-distance], draws[:, distance:])) < 0.015


def test_normals_have_mean_0_variance_1_and_the_normal_distribution():
    numbers = normals(pairs(1000), (100,)).numpy().astype(np.float64)
    assert abs(numbers.mean()) < 0.015  # standard error 0.003
    assert abs(numbers.var() - 1) < 0.02  # standard error 0.0045
    assert stats.kstest(numbers.ravel(), "norm").pvalue > LEAST_P


def test_normals_are_the_quantiles_of_the_uniforms_of_the_same_stream():
    middles = uniforms(pairs(50), (9,), stream=3).numpy().astype(np.float64) + 2.0**-25
    np.testing.assert_allclose(normals(pairs(50), (9,), stream=3), stats.norm.ppf(middles), rtol=1e-4, atol=1e-5)


# Of the seeds from 0 on these are the first with the extremes among their first two numbers.
@pytest.mark.parametrize(("seed", "place", "extreme"), [(6_031_002, 0, 0.0), (7_298_506, 1, 1 - 2.0**-24)])
def test_the_smallest_and_the_largest_uniform_number_have_finite_normal_quantiles(seed, place, extreme):
    assert uniforms(pairs(1, first=seed), (2,)).numpy()[0, place] == extreme
    assert abs(normals(pairs(1, first=seed), (2,)).numpy()[0, place]) == pytest.approx(5.36, abs=0.1)


def test_numbers_in_a_graph_are_those_outside():
    inside = tf.function(lambda seeds: normals(seeds, (2, 3), stream=1), input_signature=[tf.TensorSpec((None, 2), tf.int32)])
    np.testing.assert_array_equal(inside(pairs(4)), normals(pairs(4), (2, 3), stream=1))
