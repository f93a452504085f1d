"""What a detector found, missed and made up at a score, in NumPy.

Truths and answers are lists of images, each a mapping of arrays as in a raw example or in what the serving model answers. Rows
with the label -1 are padding and may stand anywhere. Boxes are x_min, y_min, x_max, y_max in pixels of the image's own size.

    truths   boxes (n, 4), labels (n,) 0 .. classes - 1, crowd (n,) bool, areas (n,) of the objects
    answers  boxes (n, 4), scores (n,), labels (n,)

Where overlaps are those of masks, both also have

    rles  (n,) object, bytes: each one's mask at the image's own size, as in ``metrics.run_lengths``
    size  (2,), height and width of the image
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from faster_coco_eval.core import mask

from kerastoolkit.metrics import ratio

Boxes = Mapping[str, np.ndarray]


def detection_confusion(truths: Iterable[Boxes], answers: Iterable[Boxes], classes: int, *, score: float = 0.25,
                        iou: float = 0.5, masks: bool = False) -> np.ndarray:  # fmt: skip
    """How many objects of each class are said to be of each.

    An object and an answer are paired by falling IoU, whatever their labels, each once. Crowds are no objects, and an answer
    without an object that lies in a crowd of its class with ``iou`` of its area is not counted.

    Args:
        truths, answers: of the same images, as above.
        classes: number of labels.
        score: answers below are left out.
        iou: pairs below are none.
        masks: whether overlaps are those of masks in place of boxes.
    Returns:
        (classes + 1, classes + 1) int64: rows are true classes, the last one answers without an object; columns are those said,
        the last one objects that were missed.
    Raises:
        ValueError: there are not as many answers as truths, a label that is no class, or masks of another size than the truth's.
    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for truth, answer in images_without_padding(truths, answers, classes, score, masks=masks):
        places, ignored = _matched(truth, answer, iou, as_coco=False)
        labels = np.append(truth["labels"], classes)  # the place -1, no object, is the last
        np.add.at(matrix, (labels[places[~ignored]], answer["labels"][~ignored]), 1)
        missed = ~truth["crowd"]
        missed[places[places >= 0]] = False
        np.add.at(matrix, (truth["labels"][missed], classes), 1)
    return matrix


@dataclass(frozen=True)
class ConfusionFigures:
    """What a confusion matrix of detections says, 0..1; NaN where there is nothing to tell it of.

    Attributes:
        class_precision, class_recall, class_f1: (classes,) of answers of the class that are right, of objects of the class that
            are found, and their harmonic mean.
        precision, recall, f1: of all answers and objects.
    """

    class_precision: np.ndarray
    class_recall: np.ndarray
    class_f1: np.ndarray
    precision: float
    recall: float
    f1: float


def confusion_figures(matrix: np.ndarray) -> ConfusionFigures:
    """Precision, recall and F1 from the (classes + 1, classes + 1) counts of ``detection_confusion``."""
    right, true, said = np.diagonal(matrix)[:-1], matrix[:-1].sum(axis=1), matrix[:, :-1].sum(axis=0)
    by_class, overall = ((ratio(found, answered), ratio(found, wanted), ratio(2 * found, answered + wanted))
                         for found, answered, wanted in ((right, said, true), (right.sum(), said.sum(), true.sum())))  # fmt: skip
    return ConfusionFigures(*by_class, *map(float, overall))


def best_threshold(truths: Iterable[Boxes], answers: Iterable[Boxes], classes: int, *, iou: float = 0.5,
                   masks: bool = False) -> tuple[float, float]:  # fmt: skip
    """The score from which on answers should count: where the mean over classes of F1 is largest, and this mean.

    Answers are matched as COCO does at one IoU, of boxes or of ``masks``, the surest first; classes without objects are left out
    of the mean.

    Returns:
        the score, that of an answer, and the mean F1, 0..1; both NaN where there are no objects or no answers.
    Raises:
        ValueError: there are not as many answers as truths, a label that is no class, or masks of another size than the truth's.
    """
    objects, columns = np.zeros(classes, np.int64), []
    for truth, answer in images_without_padding(truths, answers, classes, masks=masks):
        places, ignored = _matched(truth, answer, iou, as_coco=True)
        objects += np.bincount(truth["labels"][~truth["crowd"]], minlength=classes)
        columns.append((answer["scores"][~ignored], answer["labels"][~ignored], places[~ignored] >= 0))
    if not columns or not objects.any():
        return np.nan, np.nan
    scores, labels, right = map(np.concatenate, zip(*columns, strict=True))
    order = np.argsort(-scores, kind="stable")
    scores, labels, right = scores[order], labels[order], right[order]
    steps = np.zeros(len(scores))  # by how much each answer changes the sum over classes
    for label in np.flatnonzero(objects):
        own = labels == label
        found, said = np.cumsum(right[own]), np.arange(1, own.sum() + 1)
        steps[own] = np.diff(2 * found / (said + objects[label]), prepend=0.0)
    last = np.append(scores[1:] < scores[:-1], True)[: len(scores)]  # answers of one score come in together
    if not last.any():
        return np.nan, np.nan
    means = np.cumsum(steps)[last] / np.count_nonzero(objects)
    return float(scores[last][means.argmax()]), float(means.max())


def image_scores(truths: Iterable[Boxes], answers: Iterable[Boxes], *, score: float = 0.25, iou: float = 0.5,
                 masks: bool = False) -> np.ndarray:  # fmt: skip
    """F1 of each image, all classes together, matched as in ``best_threshold``; answers below ``score`` are left out.

    Returns:
        (images,) float64, 0..1; NaN where there is neither an object nor an answer.
    Raises:
        ValueError: there are not as many answers as truths, or masks of another size than the truth's.
    """
    counts = []
    for truth, answer in images_without_padding(truths, answers, None, score, masks=masks):
        places, ignored = _matched(truth, answer, iou, as_coco=True)
        counts.append((2 * np.count_nonzero(places >= 0), np.count_nonzero(~ignored) + np.count_nonzero(~truth["crowd"])))
    found, of_both = np.array(counts, np.float64).reshape(-1, 2).T
    return ratio(found, of_both)


def images_without_padding(truths: Iterable[Boxes], answers: Iterable[Boxes], classes: int | None, score: float = -np.inf, *,
            masks: bool = False) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:  # fmt: skip
    """Truths and answers of each image, without padding, the surest answers first, those below ``score`` left out.

    With ``masks`` their rles are (n,) object, COCO's dicts of size and counts.
    """
    truths, answers = list(truths), list(answers)
    if len(truths) != len(answers):
        raise ValueError(f"answers must be of as many images as truths, {len(truths)}, got {len(answers)}")
    for number, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
        if masks and list(truth["size"]) != list(answer["size"]):
            raise ValueError(f"masks of image {number} must be of the size {[*map(int, truth['size'])]},"
                             f" got {[*map(int, answer['size'])]}")  # fmt: skip
        both = ("boxes", "labels", "rles") if masks else ("boxes", "labels")
        truth, answer = _rows(truth, *both, "crowd", "areas"), _rows(answer, *both, "scores")
        highest = max(truth["labels"].max(initial=-1), answer["labels"].max(initial=-1))
        if classes is not None and highest >= classes:
            raise ValueError(f"labels of image {number} must be -1 .. {classes - 1}, got {highest}")
        order = np.argsort(-answer["scores"], kind="stable")
        order = order[answer["scores"][order] >= score]
        yield truth, {name: values[order] for name, values in answer.items()}


def _rows(found: Boxes, *names: str) -> dict[str, np.ndarray]:
    known = np.asarray(found["labels"]) >= 0
    rows = {name: np.asarray(found[name])[known] for name in names}
    if "rles" in rows:
        size, rles = [*map(int, found["size"])], np.empty(known.sum(), object)
        rles[:] = [{"size": size, "counts": rle} for rle in rows["rles"].tolist()]
        rows["rles"] = rles
    return rows


def _matched(truth: Boxes, answer: Boxes, iou: float, *, as_coco: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pairs objects and answers, each once.

    Args:
        as_coco: each answer, from the first on, takes the object of its label with the largest IoU that is left; else pairs are
            made by falling IoU, whatever the labels.
    Returns:
        (answers,) the place of each one's object in ``truth``, -1 for none, and (answers,) bool, which have none and lie in a
        crowd of their label.
    """
    places = np.full(len(answer["labels"]), -1)
    if not len(places) or not len(truth["labels"]):
        return places, np.zeros(len(places), bool)
    said, true = ((each["rles"].tolist() if "rles" in each else xyxy_to_xywh(each["boxes"])) for each in (answer, truth))
    overlaps = mask.iou(said, true, truth["crowd"].astype(int).tolist())  # with crowds this is the share of the answer's area
    alike = answer["labels"][:, None] == truth["labels"]
    rows, columns = np.nonzero((overlaps >= iou) & ~truth["crowd"] & (alike if as_coco else True))
    falling = -overlaps[rows, columns]
    order = np.lexsort((falling, rows) if as_coco else (rows, falling))
    taken = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if places[row] < 0 and column not in taken:
            places[row] = column
            taken.add(column)
    in_crowd = ((overlaps >= iou) & truth["crowd"] & alike).any(axis=1)
    return places, in_crowd & (places < 0)


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Corners -> left, top, width and height, float64."""
    corners = boxes.astype(np.float64)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
