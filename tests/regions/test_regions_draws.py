"""Random numbers: against a twin of whole numbers, how evenly they are spread, and what they depend on."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.regions.draws import draws

MASK = 2**32 - 1


def lowbias32(x: int) -> int:
    x ^= x >> 16
    x = x * 0x7FEB352D & MASK
    x ^= x >> 15
    x = x * 0x846CA68B & MASK
    return x ^ x >> 16


def one_draw(first: int, second: int, place: int, stream: int) -> float:
    """In whole numbers without a sign and without a limit, cut to 32 bits."""
    x = lowbias32(first + (stream * 0x9E3779B9 & 0x7FFFFFFF) & MASK)
    x = lowbias32(x + place * 0x1E3779B1 & MASK)
    return (lowbias32(x ^ second & MASK) & 0xFFFFFF) / 2**24


def pairs(first, second):
    """(n, 2) int32 seeds."""
    first, second = np.broadcast_arrays(first, second)
    return np.stack([first, second], axis=1).astype("int32")


def unevenness(numbers, bins=256):
    """How many standard deviations the chi-square of a histogram lies from its mean."""
    counts = np.histogram(numbers, bins, (0, 1))[0]
    mean = np.size(numbers) / bins
    return (((counts - mean) ** 2 / mean).sum() - (bins - 1)) / np.sqrt(2 * (bins - 1))


def correlation(first, second):
    """In standard deviations of that of independent numbers."""
    return np.corrcoef(np.ravel(first), np.ravel(second))[0, 1] * np.sqrt(np.size(first))


@pytest.mark.parametrize("stream", [0, 1, 2, 3, 1000])
def test_draws_are_those_of_the_hash_in_whole_numbers(stream):
    seeds = np.array([[0, 0], [1, 0], [0, 1], [-1, -1], [2**31 - 1, -(2**31)], [-(2**31), 2**31 - 1], [123456789, -987654321]])
    expected = [[one_draw(*map(int, pair), place, stream) for place in range(50)] for pair in seeds]
    found = draws(tf.constant(seeds, tf.int32), 50, stream)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, np.array(expected, "float32"))


def test_draws_are_at_least_0_and_below_1():
    numbers = draws(pairs(np.arange(50), 7), 20_000).numpy()
    assert numbers.min() >= 0 and numbers.max() < 1
    assert numbers.min() < 1e-5 and numbers.max() > 1 - 1e-5


@pytest.mark.parametrize("by", ["place", "first seed", "second seed", "stream"])
def test_draws_are_evenly_spread_over(by):
    count = np.arange(100_000)
    numbers = {
        "place": lambda: draws(pairs([3], [5]), len(count)),
        "first seed": lambda: draws(pairs(count, 5), 1),
        "second seed": lambda: draws(pairs(3, count), 1),
        "stream": lambda: tf.concat([draws(pairs(np.arange(5000), 5), 1, stream) for stream in range(20)], axis=0),
    }[by]()
    assert np.size(numbers) == 100_000 and abs(unevenness(numbers)) < 4


def test_the_numbers_of_a_seed_are_almost_all_different():
    # Of 2,000 of 2^24 numbers, 0.12 pairs are equal in the mean.
    numbers = draws(pairs(np.arange(50), 5), 2000).numpy()
    assert sum(2000 - len(np.unique(row)) for row in numbers) < 20


@pytest.mark.parametrize("by", ["first seed", "second seed", "both seeds", "place", "stream"])
def test_draws_are_not_correlated_with_those_of_the_next(by):
    count = np.arange(300)
    first, second = {"first seed": (1, 0), "second seed": (0, 1), "both seeds": (1, 1)}.get(by, (1, 0))
    numbers = draws(pairs(first * count, second * count), 500).numpy()
    if by == "place":
        this, following = numbers[:, :-1], numbers[:, 1:]
    elif by == "stream":
        this, following = numbers, draws(pairs(first * count, second * count), 500, 1).numpy()
    else:
        this, following = numbers[:-1], numbers[1:]
    assert abs(correlation(this, following)) < 4
    assert abs(correlation((this - 0.5) ** 2, (following - 0.5) ** 2)) < 4


def test_the_order_of_places_is_not_that_of_another_seed():
    numbers = draws(pairs(np.repeat(np.arange(8), 8), np.tile(np.arange(8), 8)), 100).numpy()
    orders = {tuple(np.argsort(row)) for row in numbers}
    assert len(orders) == 64


def test_draws_of_an_example_do_not_depend_on_its_batch_or_on_how_many_they_are():
    seeds = pairs(np.arange(6), 9)
    numbers = draws(seeds, 40, 2).numpy()
    for number, seed in enumerate(seeds):
        np.testing.assert_array_equal(draws(seed[None], 40, 2), numbers[number : number + 1])
    np.testing.assert_array_equal(draws(seeds[::-1], 40, 2), numbers[::-1])
    np.testing.assert_array_equal(draws(seeds, 15, 2), numbers[:, :15])


def test_how_many_may_be_a_tensor():
    graph = tf.function(lambda seeds, count: draws(seeds, count, 1),
                        input_signature=[tf.TensorSpec((None, 2), tf.int32), tf.TensorSpec((), tf.int32)])  # fmt: skip
    seeds = pairs(np.arange(3), 4)
    for count in (0, 1, 30):
        np.testing.assert_array_equal(graph(seeds, tf.constant(count)), draws(seeds, count, 1))
