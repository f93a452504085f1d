"""How often each class occurs in a set of masks, and how much a pixel of it shall count."""

from __future__ import annotations

import numpy as np

from kerastoolkit.experiment import Data, InputError

MOST_MASKS = 1_000  # that are counted, spread evenly over the split
AT_ONCE = 50


def class_weights(images: Data, power: float) -> list[float]:
    """Weights that fall with a class's share of the training pixels: share ** -power, scaled so that the mean pixel counts 1.

    Args:
        images: a data set of ``segmented_images``.
        power: 0 for all alike, 0.5 (a square root) for some of the balance, 1 so that all classes count the same.
    Returns:
        a number for each class; 0 for one that no training mask has.
    Raises:
        InputError: the power is not in 0 .. 1, or no pixel has a class.
    """
    if not 0 <= power <= 1:
        raise InputError(f"balance must be in 0 .. 1, got {power}")
    source, classes = images.train, len(images.about["classes"])
    chosen = np.unique(np.linspace(0, source.size - 1, num=min(MOST_MASKS, source.size)).astype(np.int64))
    counts = np.zeros(256, np.int64)
    for part in np.array_split(chosen, -(-len(chosen) // AT_ONCE)):
        counts += np.bincount(source.fetch(part)["mask"].numpy().ravel(), minlength=256)
    counts = counts[:classes]
    if not counts.sum():
        raise InputError(f"the training masks of {images.name} hold no pixel of a known class")
    shares = counts / counts.sum()
    weights = np.where(shares > 0, np.maximum(shares, 1e-12) ** -power, 0.0)
    return (weights / (weights * shares).sum()).tolist()
