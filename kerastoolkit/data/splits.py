"""Cutting a part from labelled examples: the same part each time, with the classes in their proportions."""

from __future__ import annotations

import numpy as np

from kerastoolkit.experiment import InputError


def number_to_cut(share: float, size: int, *, name: str) -> int:
    """How many of ``size`` examples ``share`` means: a fraction below 1, a count from 1 on, 0 for none.

    Raises:
        InputError: share is negative, not whole, or leaves nothing; ``name`` is what the message calls it.
    """
    count = round(share * size) if 0 <= share < 1 else share
    if not 0 <= count < size or count != int(count):
        raise InputError(f"{name} must be a fraction below 1 or a whole number below {size:,}, got {share}")
    return int(count)


def stratified(labels: np.ndarray, count: int, order: np.ndarray) -> np.ndarray:
    """Chooses count examples, of each class in proportion (by largest remainder), the first in ``order``.

    Args:
        labels: (examples,) integers.
        count: 0 .. examples.
        order: (examples,) a permutation of the numbers of the examples.
    Returns:
        (examples,) bool, true for exactly ``count``.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * count / max(1, len(labels))
    taken = np.floor(shares).astype(int)
    largest_remainders = np.argsort(taken - shares, kind="stable")[: count - taken.sum()]
    taken[largest_remainders] += 1
    chosen = np.zeros(len(labels), bool)
    for value, number in zip(classes, taken, strict=True):
        chosen[order[labels[order] == value][:number]] = True
    return chosen
