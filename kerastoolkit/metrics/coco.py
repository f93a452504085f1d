"""COCO's figures of object detection, by boxes or masks, and its format of results, through the well-kept successor of its own
program.

Truths and answers are as in ``metrics.detection``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask

from kerastoolkit.metrics.detection import Boxes, images_without_padding, xyxy_to_xywh

RECALL_POINTS = np.linspace(0, 1, 101)  # where COCO reads precision
IOU_50, IOU_75 = 0, 5  # places among its ten IoU thresholds, 0.50, 0.55, .. 0.95
ANY, SMALL, MEDIUM, LARGE = range(4)  # places among its areas, which part at 32^2 and 96^2 pixels
FIRST, FIRST_10, FIRST_100 = range(3)  # places among its limits of answers of a class in an image


@dataclass(frozen=True)
class DetectionFigures:
    """COCO's figures, https://cocodataset.org/#detection-eval (Lin et al. 2014, https://arxiv.org/abs/1405.0312), 0..1; NaN where
    there are no objects to tell one of.

    Attributes:
        ap: average precision, the mean over IoU thresholds 0.50, 0.55, .. 0.95 and over classes.
        ap50, ap75: at the IoU thresholds 0.50 and 0.75.
        ap_small, ap_medium, ap_large: of objects up to 32^2, up to 96^2 and above 96^2 pixels.
        ar1, ar10, ar100: recall by the first 1, 10 and 100 answers of a class in an image, the mean over IoU and classes.
        ar_small, ar_medium, ar_large: ar100 of objects of these areas.
        class_ap, class_ap50, class_recall: (classes,) ap, ap50 and ar100 of each class.
        objects, images: (classes,) int64, objects of each class that are no crowd, and images with one.
        precision: (101, classes) at the IoU threshold 0.50, the largest at this recall of RECALL_POINTS or a higher one; 0 beyond
            the highest that is reached.
        scores: (101, classes) the score down to which answers are counted there; 0 beyond.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    class_ap: np.ndarray
    class_ap50: np.ndarray
    class_recall: np.ndarray
    objects: np.ndarray
    images: np.ndarray
    precision: np.ndarray
    scores: np.ndarray


def detection_figures(truths: Iterable[Boxes], answers: Iterable[Boxes], classes: int, *,
                      masks: bool = False) -> DetectionFigures:  # fmt: skip
    """COCO's figures by its own rules: at most 100 answers of a class in an image count, and one without an object that lies in a
    crowd of its class, as far as the IoU threshold asks, is neither right nor wrong.

    Args:
        truths, answers: of the same images, as above.
        classes: number of labels.
        masks: whether the figures are those of masks in place of boxes. An answer's area is then the pixels of its mask; an
            object's is the one that is told, as for boxes.
    Raises:
        ValueError: there are not as many answers as truths, a label that is no class, or masks of another size than the truth's.
    """
    pairs = list(images_without_padding(truths, answers, classes, masks=masks))
    true, said = (_by_class([pair[side] for pair in pairs], classes) for side in (0, 1))
    # Class by class, because COCO's program keeps records of every pair of an image and a class.
    arrays = zip(*map(_coco_arrays, true, said), strict=True)
    precision, scores, recall = map(np.stack, arrays)  # (classes, IoU, recall, area, answers), the last without recall
    objects = [each["image"][~each["crowd"]] for each in true]
    last = precision[..., FIRST_100]
    return DetectionFigures(
        ap=_mean(last[..., ANY]),
        ap50=_mean(last[:, IOU_50, :, ANY]),
        ap75=_mean(last[:, IOU_75, :, ANY]),
        ap_small=_mean(last[..., SMALL]),
        ap_medium=_mean(last[..., MEDIUM]),
        ap_large=_mean(last[..., LARGE]),
        ar1=_mean(recall[..., ANY, FIRST]),
        ar10=_mean(recall[..., ANY, FIRST_10]),
        ar100=_mean(recall[..., ANY, FIRST_100]),
        ar_small=_mean(recall[..., SMALL, FIRST_100]),
        ar_medium=_mean(recall[..., MEDIUM, FIRST_100]),
        ar_large=_mean(recall[..., LARGE, FIRST_100]),
        class_ap=last[..., ANY].mean(axis=(1, 2)),
        class_ap50=last[:, IOU_50, :, ANY].mean(axis=1),
        class_recall=recall[..., ANY, FIRST_100].mean(axis=1),
        objects=np.array([len(each) for each in objects]),
        images=np.array([len(np.unique(each)) for each in objects]),
        precision=last[:, IOU_50, :, ANY].T,
        scores=scores[:, IOU_50, :, ANY, FIRST_100].T,
    )


def coco_results(image_id: int | str, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, category_ids: Sequence[int],
                 rles: np.ndarray | None = None, size: Sequence[int] | None = None) -> list[dict[str, Any]]:  # fmt: skip
    """An image's answers as COCO's results format has them, https://cocodataset.org/#format-results.

    Args:
        image_id: of the image in its COCO file.
        boxes, scores, labels: as above.
        category_ids: of each class the id in its COCO file.
        rles, size: as above, or None for boxes without masks.
    Returns:
        a record for each box: bbox is left, top, width and height in pixels, to 2 decimals; score to 5; segmentation, where there
        are masks, their size and counts.
    """
    known = labels >= 0
    columns = xyxy_to_xywh(boxes[known]), scores[known], labels[known]
    records = [{"image_id": image_id, "category_id": category_ids[label], "bbox": [round(number, 2) for number in box],
                "score": round(score, 5)}
               for box, score, label in zip(*map(np.ndarray.tolist, columns), strict=True)]  # fmt: skip
    if rles is not None:
        for record, rle in zip(records, rles[known], strict=True):
            record["segmentation"] = {"size": [*map(int, size)], "counts": rle.decode()}
    return records


def _by_class(found: Sequence[Boxes], classes: int) -> list[dict[str, np.ndarray]]:
    """All rows of each class with the number of their image, in the images' order."""
    if not found:
        return [{"image": np.zeros(0, np.int64), "crowd": np.zeros(0, bool)}] * classes
    together = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    together["image"] = np.repeat(np.arange(len(found)), [len(each["labels"]) for each in found])
    order = np.argsort(together["labels"], kind="stable")
    ends = np.searchsorted(together["labels"][order], np.arange(1, classes))
    parts = {name: np.split(values[order], ends) for name, values in together.items()}
    return [{name: values[label] for name, values in parts.items()} for label in range(classes)]


def _coco_arrays(true: Boxes, said: Boxes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What COCO's program finds for one class: precision and scores (IoU, recall, area, answers) and recall (IoU, area, answers),
    NaN where there are no objects."""
    if true["crowd"].all():
        return np.full((10, 101, 4, 3), np.nan), np.full((10, 101, 4, 3), np.nan), np.full((10, 4, 3), np.nan)
    columns = true["image"], xyxy_to_xywh(true["boxes"]), true["areas"], true["crowd"].astype(int)
    objects = [{"id": number, "image_id": image, "category_id": 1, "bbox": box, "area": area, "iscrowd": crowd}
               for number, image, box, area, crowd in zip(count(1), *map(np.ndarray.tolist, columns), strict=False)]  # fmt: skip
    columns = said["image"], xyxy_to_xywh(said["boxes"]), said["scores"]
    answers = [{"id": number, "image_id": image, "category_id": 1, "bbox": box, "area": box[2] * box[3], "score": score}
               for number, image, box, score in zip(count(1), *map(np.ndarray.tolist, columns), strict=False)]  # fmt: skip
    images = {image: {"id": image} for image in np.union1d(true["image"], said["image"]).tolist()}
    if "rles" in true:
        for record, rle in zip(objects + answers, np.concatenate([true["rles"], said["rles"]]), strict=True):
            record["segmentation"] = rle
            images[record["image_id"]].update(zip(("height", "width"), rle["size"], strict=True))
        for record, area in zip(answers, mask.area(said["rles"].tolist()), strict=True):
            record["area"] = float(area)
    sets = [COCO({"images": [*images.values()], "categories": [{"id": 1}], "annotations": rows}) for rows in (objects, answers)]
    kind = "segm" if "rles" in true else "bbox"
    evaluation = COCOeval_faster(*sets, iouType=kind, print_function=lambda text: None)
    evaluation.evaluate()
    found = evaluation.eval
    return tuple(np.where(values < 0, np.nan, values)
                 for values in (found["precision"][:, :, 0], found["scores"][:, :, 0], found["recall"][:, 0]))  # fmt: skip


def _mean(values: np.ndarray) -> float:
    """Of those that are known; NaN where none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
