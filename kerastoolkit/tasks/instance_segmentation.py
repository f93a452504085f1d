"""Instance segmentation: a box, a class and a mask for each object of an image."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from PIL import Image

from kerastoolkit import box_pictures, charts
from kerastoolkit.boxes import to_letterbox
from kerastoolkit.experiment import Data, InputError, Report, Task, described
from kerastoolkit.losses.mask_rcnn import mask_rcnn_loss_parts
from kerastoolkit.metrics.coco import RECALL_POINTS, DetectionFigures, detection_figures
from kerastoolkit.metrics.detection import best_threshold, confusion_figures, detection_confusion, image_scores
from kerastoolkit.metrics.run_lengths import decoded_mask, encoded_mask
from kerastoolkit.serving.instances import PasteMasks
from kerastoolkit.serving.model import inner_layer
from kerastoolkit.serving.sure_objects import SureObjects
from kerastoolkit.tasks._image_files import made_up_images, pixels_of, read_images
from kerastoolkit.tasks._objects import coco_results_file, objects_row
from kerastoolkit.tasks.detection import decode_letterboxed
from kerastoolkit.weights.folding import fold_batch_norms

PARTS = ("objectness", "anchor_boxes", "classes", "boxes", "masks")
SHOWN = 4  # of the best images, and of the worst
TRUTHS = ("boxes", "labels", "crowd", "areas", "rles")


@described
def instance_segmentation(classes: list[str] | tuple[str, ...], height: int, width: int, *,
                          category_ids: list[int] | tuple[int, ...] | None = None) -> Task:  # fmt: skip
    """Boxes around objects of ``classes``, and their masks.

    The network takes letterboxed images (batch, height, width, 3) and gives what ``models.mask_rcnn`` tells; what is trained is
    ``models.mask_rcnn_training`` of it. The data's truths are those of ``data.instance_images``. Answers:
        boxes   (batch, most, 4) float32, x_min, y_min, x_max, y_max in pixels of the image at its own size; zeros beyond the
                count
        scores  (batch, most) float32, 0..1, falling; 0 beyond the count
        labels  (batch, most) int32; -1 beyond the count
        masks   (batch, most) string, PNG files of the image's own size, one channel, 255 where the object is and 0 elsewhere; ""
                beyond the count
        count   (batch,) int32, objects of each image
        size    (batch, 2) int32, height and width of the image
    Setting: conf, the score that an object must exceed; the network has a least score of its own.

    Args:
        classes: names, in the order of the labels.
        height, width: of the network's images, in pixels.
        category_ids: of each class the id that it has in its COCO file, for results in COCO's format; by default 1, 2, ...
    Raises:
        InputError: no classes, or not as many ids as classes.
    """
    classes = list(classes)
    if not classes:
        raise InputError("classes must be at least 1, got none")
    ids = list(category_ids or range(1, len(classes) + 1))
    if len(ids) != len(classes):
        raise InputError(f"category_ids must be as many as the classes, {len(classes)}, got {len(ids)}")

    def encode(truths, inputs, side_outputs, seeds):
        found = {"boxes": to_letterbox(truths["boxes"], side_outputs["size"], height, width),
                 "labels": ops.where(truths["crowd"], -1, truths["labels"]), "seeds": seeds}  # fmt: skip
        return found, {**found, "masks": truths["masks"]}

    def answer(network: keras.Model) -> keras.Model:
        inputs = {"image": keras.Input(network.inputs[0].shape[1:], name="image"),
                  "size": keras.Input((2,), dtype="int32", name="size"),
                  "conf": keras.Input((), dtype="float32", name="conf")}  # fmt: skip
        found = fold_batch_norms(network)(inputs["image"])
        given = *(found[name] for name in ("boxes", "scores", "labels", "masks")), inputs["size"], inputs["conf"]
        found = SureObjects(height, width, name="sure")(*given)
        masks = PasteMasks(name="paste")(found["masks"], found["boxes"], found["count"], inputs["size"])
        own_size = keras.layers.Identity(name="own_size")(inputs["size"])
        return keras.Model(inputs, {**found, "masks": masks, "size": own_size}, name="answer")

    def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
        rows = []
        for number, name in enumerate(names):
            count = int(answers["count"][number])
            boxes, scores, labels = (answers[key][number][:count].tolist() for key in ("boxes", "scores", "labels"))
            areas = [int(np.count_nonzero(_mask(file))) for file in answers["masks"][number][:count]]
            found = [{"class": classes[label], "score": score, "box": box, "pixels": area}
                     for box, score, label, area in zip(boxes, scores, labels, areas, strict=True)]  # fmt: skip
            rows.append(objects_row(name, found, answers["size"][number], "instances"))
        return rows

    def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
        pixels = pixels_of(raw["image"], largest=box_pictures.LARGEST)
        found = (answers[key] for key in ("boxes", "scores", "labels"))
        return box_pictures.boxes_picture(pixels, *found, classes, name, size=answers["size"],
                                           masks=_Unpacked(_mask, answers["masks"]))

    def summary(names: list[str], answers: list[dict[str, Any]]) -> dict[str, bytes]:
        return coco_results_file(names, [{**each, "rles": _rles(each["masks"])} for each in answers], ids)

    return Task(
        name="instance_segmentation", encode=encode, loss=mask_rcnn_loss_parts, parts=PARTS, metrics={},
        decode=decode_letterboxed, answer=answer, score=lambda batches, data, serving, **scoring: _score(
            batches, data, classes, **scoring),
        read=read_images, tell=tell, draw=draw, probe=_probe, answered_at_once=4, settings={"conf": 0.5},
        scoring={"conf": 0.05, "shown": 0.5}, stages=_stages, summary=summary)  # fmt: skip


def _mask(file: bytes) -> np.ndarray:
    """A PNG file of an answer -> (height, width) bool."""
    return np.asarray(Image.open(io.BytesIO(file))) > 0


class _Unpacked(Sequence):
    """Masks that are unpacked when they are asked for: all of a crowded image at once would fill the memory."""

    def __init__(self, unpack: Callable[[bytes], np.ndarray], packed: Sequence[bytes]):
        self.unpack, self.packed = unpack, packed

    def __getitem__(self, row: int) -> np.ndarray:
        return self.unpack(self.packed[row])

    def __len__(self) -> int:
        return len(self.packed)


def _rles(files: np.ndarray) -> np.ndarray:
    """PNG files as COCO's run lengths, one after the other, so that one mask alone is unpacked at a time."""
    return np.array([encoded_mask(_mask(file)) if file else b"" for file in files], object)


def _probe(serving: keras.Model) -> dict[str, Any]:
    """Pictures, and a setting that lets all objects through."""
    pictures = made_up_images(serving)
    return {**pictures, "conf": np.full(len(pictures["image"]), 0.05, np.float32)}


def _stages(serving: keras.Model) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
    """The parts of a serving model: reading files, the network, and the masks of the image's own size."""
    decode, preprocess, answer = (inner_layer(serving, name) for name in ("decode_images", "preprocess", "answer"))
    network, sure, paste = (inner_layer(answer, name) for name in (_network_name(answer), "sure", "paste"))

    def found(given):
        ready = preprocess({name: given[name] for name in ("image", "size")})
        return {**given, **network(ready["image"])}

    def masks(given):
        found = sure(*(given[name] for name in ("boxes", "scores", "labels", "masks", "size", "conf")))
        return {**found, "masks": paste(found["masks"], found["boxes"], found["count"], given["size"]), "size": given["size"]}

    return {"reading": lambda given: {**given, **decode(given["image"])}, "network": found, "masks": masks}


def _network_name(answer: keras.Model) -> str:
    (network,) = (layer for layer in answer.layers if isinstance(layer, keras.Model))
    return network.name


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, classes: list[str], *, conf: float,
           shown: float) -> Report:  # fmt: skip
    truths, answers = [], []
    best: list[tuple[float, int, bytes]] = []
    worst: list[tuple[float, int, bytes]] = []
    for raw, found in batches:
        for number, contents in enumerate(raw["image"]):
            truths.append({**{name: raw[name][number] for name in TRUTHS}, "size": found["size"][number]})
            answers.append({**{name: found[name][number] for name in ("boxes", "scores", "labels", "size")},
                            "rles": _rles(found["masks"][number])})  # fmt: skip
            (f1,) = image_scores(truths[-1:], answers[-1:], score=shown, masks=True)
            if not np.isnan(f1):
                best, worst = ([*each, (sign * f1, len(truths) - 1, contents)] for sign, each in ((-1, best), (1, worst)))
        best, worst = (sorted(each, key=lambda image: image[:2])[:SHOWN] for each in (best, worst))
    of_masks, of_boxes = (detection_figures(truths, answers, len(classes), masks=masks) for masks in (True, False))
    if not of_masks.objects.sum():
        raise InputError(f"{data.name} has no objects in this split, so there is nothing to score")
    matrix = detection_confusion(truths, answers, len(classes), score=shown, masks=True)
    at_shown = confusion_figures(matrix)
    threshold, best_f1 = best_threshold(truths, answers, len(classes), masks=True)
    figures = {**_named("mask", of_masks), **_named("box", of_boxes), "precision": at_shown.precision,
               "recall": at_shown.recall, "f1": at_shown.f1}  # fmt: skip
    columns = {"mask_ap": of_masks.class_ap, "mask_ap50": of_masks.class_ap50, "mask_ar100": of_masks.class_recall,
               "box_ap": of_boxes.class_ap, "box_ap50": of_boxes.class_ap50, "precision": at_shown.class_precision,
               "recall": at_shown.class_recall, "objects": of_masks.objects, "images": of_masks.images}  # fmt: skip
    rows = [{"class": name, **{column: values[i].item() for column, values in columns.items()}} for i, name in enumerate(classes)]

    def panels(images: list[tuple[float, int, bytes]]) -> list[tuple[Any, ...]]:
        return [(f"image {place + 1}, F1 {abs(f1):.2f}", pixels_of(contents), _seen(truths[place], truths[place]["size"]),
                 _seen(_above(answers[place], shown), answers[place]["size"])) for f1, place, contents in images]  # fmt: skip

    return Report(
        figures, tables={"by class": rows},
        pictures={"precision_recall": box_pictures.precision_recall(RECALL_POINTS, of_masks.precision, classes,
                                                                    of_masks.class_ap50),
                  "confusion": charts.confusion(matrix, [*classes, "background"]),
                  "best": box_pictures.box_rows(panels(best), classes),
                  "worst": box_pictures.box_rows(panels(worst), classes)},
        notes=("ap and ar are COCO's, of at most 100 objects of a class in an image whose scores exceed"
               f" {conf:g}; ap is the mean over IoU 0.50 to 0.95 of masks or boxes, ap50 that at 0.50",
               f"precision, recall, F1, confusion and pictures are of objects whose scores are at least {shown:g}, at IoU 0.50 of"
               f" masks; the mean F1 over classes is largest, {best_f1:.3f}, at the score {threshold:.3f}"))  # fmt: skip


def _named(what: str, found: DetectionFigures) -> dict[str, float]:
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100")
    return {f"{what}_{name}": getattr(found, name) for name in names}


def _above(answer: dict[str, Any], score: float) -> dict[str, Any]:
    return {**answer, "labels": np.where(answer["scores"] >= score, answer["labels"], -1)}


def _seen(found: dict[str, Any], size: np.ndarray) -> dict[str, Any]:
    """With the masks of what is drawn."""
    return {**found, "masks": _Unpacked(lambda rle: decoded_mask(rle, size), found["rles"])}
