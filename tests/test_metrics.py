import numpy as np
import pytest

from kerastoolkit.losses import quantile_loss
from kerastoolkit.metrics import block_bootstrap, direction_hits, interval, smape


def test_smape_is_twice_the_error_by_the_sum_in_percent():
    np.testing.assert_allclose(smape(np.array([100.0, 0.0, 1.0]), np.array([50.0, 0.0, -1.0])), [200 * 50 / 150, 0, 200])


def test_direction_counts_moves_alone():
    hits = direction_hits(np.array([2.0, 0.0, 1.0, 2.0]), np.array([3.0, 0.5, 5.0, 1.0]), np.ones(4))
    np.testing.assert_array_equal(hits, [1, 1, np.nan, 0])


def test_quantile_loss_weighs_the_sides_by_the_level():
    losses = quantile_loss(np.array([[10.0], [0.0]]), np.array([[[8.0, 8.0]], [[2.0, 2.0]]]), (0.1, 0.9))
    np.testing.assert_allclose(losses, [(0.2 + 1.8) / 2, (1.8 + 0.2) / 2], rtol=1e-6)


def test_the_bootstrap_is_about_the_ratio_and_the_same_each_time():
    generator = np.random.default_rng(0)
    values, weights = generator.normal(3, 1, (500, 1)), np.full((500, 1), 2.0)
    samples = block_bootstrap(np.arange(500), values, weights, block=5)
    assert samples.mean() == pytest.approx(values.mean() / 2, abs=0.01)
    np.testing.assert_array_equal(samples, block_bootstrap(np.arange(500), values, weights, block=5))
    low, high = interval(samples[:, 0])
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(500), rel=0.25)  # of independent values


def test_errors_that_are_alike_widen_the_interval():
    values = np.repeat(np.random.default_rng(0).normal(size=50), 10)[:, None]
    ones = np.ones_like(values)

    def width(groups, block):
        low, high = interval(block_bootstrap(groups, values, ones, block=block)[:, 0])
        return high - low

    single = width(np.arange(500), 1)
    assert width(np.arange(500), 20) > 2 * single  # in blocks of neighbours
    assert width(np.repeat(np.arange(50), 10), 1) > 2 * single  # at one time
