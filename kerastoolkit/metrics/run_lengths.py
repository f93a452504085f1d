"""Masks as COCO's compressed run lengths: how many pixels are outside and inside by turns, down one column after the other.

The form is that of COCO's own program (Lin et al. 2014, https://arxiv.org/abs/1405.0312; ``rleToString`` in its maskApi.c): the
"counts" of https://cocodataset.org/#format-data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from faster_coco_eval.core import mask as coco_mask


def encoded_mask(mask: np.ndarray) -> bytes:
    """(height, width) bool -> its run lengths."""
    return coco_mask.encode(np.asarray(mask, bool).view(np.uint8))["counts"]


def decoded_mask(rle: bytes, size: Sequence[int]) -> np.ndarray:
    """Run lengths -> (height, width) bool.

    Args:
        size: height and width.
    Raises:
        ValueError: they are no run lengths, or not those of a mask of this size.
    """
    height, width = map(int, size)
    runs = unpacked_runs(rle)
    # Before there is room for the mask. No number alone is larger than the sum may be, so that the sum cannot wrap round.
    if runs.min() < 0 or runs.max() > height * width or runs.sum() != height * width:
        raise ValueError(f"counts must be positive or 0 with the sum {height * width}, got the sum {runs.sum()}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def unpacked_runs(packed: bytes) -> np.ndarray:
    """The numbers that the text holds, (n,) int64.

    A number is some characters of 5 bits each, counted from the character "0", the lowest first. A sixth bit tells that it goes
    on, and the fifth of its last character that it is negative. From the fourth on, numbers are differences to the last but one.

    Raises:
        ValueError: it is no such text.
    """
    codes = np.frombuffer(packed, np.uint8).astype(np.int64) - 48
    last = codes & 32 == 0
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise ValueError(f"counts must be run lengths as COCO packs them, got {packed[:50]!r}")
    begins = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(begins, np.diff([*begins, len(codes)]))
    if places.max() > 6:  # 35 bits; no image has so many pixels
        raise ValueError(f"counts must be run lengths as COCO packs them, got a number of {places.max() + 1} characters")
    numbers = np.add.reduceat((codes & 31) << (5 * places), begins)
    numbers -= np.where(codes[last] & 16 != 0, 1 << (5 * (places[last] + 1)), 0)
    # The first three as they are: differences begin with the fourth, to the second.
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers
