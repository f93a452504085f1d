"""Figures in NumPy: of forecasts, with intervals that respect that neighbouring errors are alike, and of class maps."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class SegmentationFigures:
    """How class maps agree with their truths. Those of each class are (classes,) float64, 0..1, NaN for a class that is neither
    in the truths nor in the answers; means are over the others, NaN where there are none.

    Attributes:
        iou: intersection over union of the pixels that are of the class and those that are said to be.
        dice: twice the intersection over the sum of the two.
        precision, recall: the intersection over what is said, and over what is.
        pixel_accuracy: share of the pixels that have the right class.
        mean_class_accuracy: mean recall of the classes that are in the truths.
        mean_iou, mean_dice: over the classes.
        frequency_weighted_iou: mean IoU, weighted by the pixels that are of the class.
    """

    iou: np.ndarray
    dice: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    pixel_accuracy: float
    mean_class_accuracy: float
    mean_iou: float
    mean_dice: float
    frequency_weighted_iou: float


def class_confusion(truth: np.ndarray, answer: np.ndarray, classes: int, *, ignored: int = 255) -> np.ndarray:
    """How many pixels of each class are said to be of each.

    Args:
        truth: class maps, any shape, uint8, 0 .. classes - 1 or ``ignored``, whose pixels are not counted.
        answer: same shape; what is not 0 .. classes - 1 names no class.
    Returns:
        (classes, classes + 1) int64: rows are true classes, columns those said, the last one pixels of which no class is said:
        they are missed by their own class and taken by no other. Matrices of several images add up.
    Raises:
        ValueError: the shapes differ, or the truth holds a class that there is not.
    """
    if truth.shape != answer.shape:
        raise ValueError(f"truth and answer must have the same shape, got {truth.shape} and {answer.shape}")
    known = truth != ignored
    truth, answer = truth[known].astype(np.intp), answer[known]
    if truth.size and truth.max() >= classes:
        raise ValueError(f"truth must be 0 .. {classes - 1} or {ignored}, got {truth.max()}")
    pairs = truth * (classes + 1) + np.minimum(answer, classes)
    return np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def segmentation_figures(matrix: np.ndarray) -> SegmentationFigures:
    """The figures of Long et al. 2015, section 5, https://arxiv.org/abs/1411.4038, and those of each class.

    Args:
        matrix: (classes, classes + 1) of ``class_confusion``, or (classes, classes), pixels.
    Differs from the paper: classes that a mean cannot be told of are left out of it.
    """
    right, true, said = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)[: len(matrix)]
    present = true + said > 0
    iou, dice = ratio(right, true + said - right), ratio(2 * right, true + said)
    # 0, not unknown, where a class that is there is never said, or one that is said is never there.
    precision, recall = (np.where(present, right / np.maximum(total, 1), np.nan) for total in (said, true))
    return SegmentationFigures(
        iou=iou,
        dice=dice,
        precision=precision,
        recall=recall,
        pixel_accuracy=float(ratio(right.sum(), true.sum())),
        mean_class_accuracy=float(ratio(recall[true > 0].sum(), (true > 0).sum())),
        mean_iou=float(ratio(np.nansum(iou), present.sum())),
        mean_dice=float(ratio(np.nansum(dice), present.sum())),
        frequency_weighted_iou=float(ratio(np.nansum(true * iou), true.sum())),
    )


def boundary_scores(truth: np.ndarray, answer: np.ndarray, classes: int, *, ignored: int = 255,
                    tolerance: float = 0.0075) -> np.ndarray:  # fmt: skip
    """Boundary F1 (BF) of each class in one image: Csurka et al. 2013, https://doi.org/10.5244/C.27.32.

    Precision is the share of the class's boundary pixels in the answer that are nearer than the tolerance to one in the truth,
    recall the share of those in the truth that are as near to one in the answer. The figure of many images is the mean over the
    images that have a class, then over the classes. A boundary pixel has one of another class beside, above or below it. The
    end of the image makes no boundary, nor do ignored pixels, which are so in both maps.

    Args:
        truth: (height, width) uint8, 0 .. classes - 1 or ``ignored``.
        answer: same shape; what is not 0 .. classes - 1 is of no class, but ends those beside it.
        tolerance: share of the image's diagonal.
    Returns:
        (classes,) float64, 0..1; NaN where the class is not in the truth, 1 where it is in both maps and has no boundary in
        either.
    """
    known = truth != ignored
    maps = [np.where(known, each.astype(np.int16), -1) for each in (truth, answer)]
    lines = [np.where(_has_other_neighbour(each), each, -1) for each in maps]
    reach = tolerance * np.hypot(*truth.shape)
    true, said = (np.bincount(each[each >= 0], minlength=256)[:classes] for each in lines)
    recalled = np.bincount(_near(*lines, reach), minlength=256)[:classes]
    confirmed = np.bincount(_near(*lines[::-1], reach), minlength=256)[:classes]
    precision, recall = confirmed / np.maximum(said, 1), recalled / np.maximum(true, 1)
    scores = np.nan_to_num(ratio(2 * precision * recall, precision + recall))
    in_truth, in_answer = (np.bincount(each[known], minlength=256)[:classes] > 0 for each in maps)
    scores[(true + said == 0) & in_truth & in_answer] = 1.0
    return np.where(in_truth, scores, np.nan)


def _has_other_neighbour(classes: np.ndarray) -> np.ndarray:
    """Which pixels have one of another class beside, above or below them; -1 is no class."""
    found = np.zeros(classes.shape, bool)
    for one, other, found_one, found_other in (
        (classes[1:], classes[:-1], found[1:], found[:-1]),
        (classes[:, 1:], classes[:, :-1], found[:, 1:], found[:, :-1]),
    ):
        differ = (one != other) & (one >= 0) & (other >= 0)
        found_one |= differ
        found_other |= differ
    return found


def _near(lines: np.ndarray, others: np.ndarray, reach: float) -> np.ndarray:
    """The classes of those pixels of ``lines`` that have one of their class in ``others`` less than ``reach`` away; -1 is no
    class."""
    margin = int(np.ceil(reach))
    steps = np.mgrid[-margin : margin + 1, -margin : margin + 1].reshape(2, -1)
    distances = np.hypot(*steps)
    # The nearest first: most pixels find one soon and need not look farther.
    steps = steps[:, np.argsort(distances, kind="stable")[: np.count_nonzero(distances < reach)]]
    padded = np.pad(others, margin, constant_values=-1)
    rows, columns = np.nonzero(lines >= 0)
    wanted, places = lines[rows, columns], (rows + margin) * padded.shape[1] + columns + margin
    found = [wanted[:0]]
    for step in steps[0] * padded.shape[1] + steps[1]:
        hit = padded.ravel()[places + step] == wanted
        found.append(wanted[hit])
        wanted, places = wanted[~hit], places[~hit]
    return np.concatenate(found)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Their quotient, NaN where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan)
