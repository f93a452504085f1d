"""Figures of forecasts, in NumPy, with intervals that respect that neighbouring errors are alike."""

from __future__ import annotations

import numpy as np


def smape(truth: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Symmetric absolute percentage error of each forecast, 0 .. 200: Makridakis 1993,
    https://doi.org/10.1016/0169-2070(93)90079-3; 0 where both are 0."""
    size = np.abs(truth) + np.abs(forecast)
    return 200.0 * np.abs(truth - forecast) / np.where(size > 0, size, 1.0)


def direction_hits(truth: np.ndarray, forecast: np.ndarray, last: np.ndarray) -> np.ndarray:
    """1 where the forecast moves from ``last`` to the truth's side, 0 where it does not, NaN where the truth does not move."""
    moved = np.sign(truth - last)
    return np.where(moved == 0, np.nan, np.sign(forecast - last) == moved)


def block_bootstrap(groups: np.ndarray, numerators: np.ndarray, denominators: np.ndarray, *, block: int, samples: int = 1_000,
                    seed: int = 0) -> np.ndarray:  # fmt: skip
    """Ratios of sums over resampled times: moving blocks (Künsch 1989, https://doi.org/10.1214/aos/1176347265), whose members
    stay together, so that what is alike at one time or within a block stays alike.

    Args:
        groups: (examples,) the time of each example; those of one time are drawn together.
        numerators, denominators: (examples, figures).
        block: times in a block.
    Returns:
        (samples, figures): the figure sum(numerators) / sum(denominators) of each resampling.
    """
    _, places = np.unique(groups, return_inverse=True)
    times = int(places.max()) + 1
    block = max(1, min(block, times))
    sums = np.zeros((2, times, numerators.shape[1]))
    for total, values in zip(sums, (numerators, denominators), strict=True):
        np.add.at(total, places, values)
    # The sum over each block that begins at a time, by differences of running sums.
    running = np.concatenate([np.zeros_like(sums[:, :1]), np.cumsum(sums, axis=1)], axis=1)
    blocks = running[:, block:] - running[:, :-block]  # (2, times - block + 1, figures)
    draws = np.random.default_rng(seed).integers(0, blocks.shape[1], (samples, -(-times // block)))
    totals = blocks[:, draws].sum(axis=2)
    return totals[0] / np.maximum(totals[1], 1e-300)


def interval(values: np.ndarray, share: float = 0.95) -> tuple[float, float]:
    """The range that leaves out as much at either end."""
    low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
