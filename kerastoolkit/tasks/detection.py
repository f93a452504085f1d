"""Object detection: a box around each object of an image, with its class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastoolkit import box_pictures, charts
from kerastoolkit.boxes import to_letterbox
from kerastoolkit.experiment import Data, InputError, Report, Task, described
from kerastoolkit.losses.yolov3 import yolov3_loss_parts
from kerastoolkit.losses.yolov8 import yolov8_loss_parts
from kerastoolkit.metrics.coco import RECALL_POINTS, detection_figures
from kerastoolkit.metrics.detection import best_threshold, confusion_figures, detection_confusion, image_scores
from kerastoolkit.serving.detection import DecodeLetterboxed, SuppressBoxes
from kerastoolkit.serving.model import inner_layer
from kerastoolkit.tasks._image_files import made_up_images, pixels_of, read_images
from kerastoolkit.tasks._objects import coco_results_file, objects_row
from kerastoolkit.weights.folding import fold_batch_norms

# Of each family its losses, and their names.
LOSSES = {
    "yolov3": (yolov3_loss_parts, ("box", "objectness", "classes")),
    "yolov8": (yolov8_loss_parts, ("box", "classes", "distribution")),
}
SHOWN = 4  # of the best images, and of the worst
TRUTHS, ANSWERS = ("boxes", "labels", "crowd", "areas"), ("boxes", "scores", "labels", "size")


@described
def detection(classes: list[str] | tuple[str, ...], height: int, width: int, *, loss: str = "yolov8",
              category_ids: list[int] | tuple[int, ...] | None = None) -> Task:  # fmt: skip
    """Boxes around objects of ``classes``.

    The network takes letterboxed images (batch, height, width, 3) and gives what ``models.yolov8n`` or ``models.yolov3`` tells.
    The data's truths are boxes (batch, most, 4) float32, x_min, y_min, x_max, y_max in pixels of the image at its own size;
    labels (batch, most) int32, -1 where there is no object; crowd (batch, most) bool; and areas (batch, most) float32. Answers:
        boxes   (batch, most, 4) float32, as the truths; zeros beyond the count
        scores  (batch, most) float32, 0..1, falling; 0 beyond the count
        labels  (batch, most) int32; -1 beyond the count
        count   (batch,) int32, boxes of each image, at most 300
        size    (batch, 2) int32, height and width of the image
    Settings: conf, the score that a box must exceed, and iou, the overlap above which of two boxes of one class the one of the
    lower score goes (non-maximum suppression).

    Args:
        classes: names, in the order of the labels.
        height, width: of the network's images, in pixels.
        loss: whose the network is: "yolov8" or "yolov3".
        category_ids: of each class the id that it has in its COCO file, for results in COCO's format; by default 1, 2, ...
    Raises:
        InputError: no classes, no such loss, or not as many ids as classes.
    """
    classes = list(classes)
    if not classes:
        raise InputError("classes must be at least 1, got none")
    if loss not in LOSSES:
        raise InputError(f"loss must be {' or '.join(LOSSES)}, got {loss}")
    ids = list(category_ids or range(1, len(classes) + 1))
    if len(ids) != len(classes):
        raise InputError(f"category_ids must be as many as the classes, {len(classes)}, got {len(ids)}")
    parts, names_of_parts = LOSSES[loss]

    def encode(truths, inputs, side_outputs, seeds):
        boxes = to_letterbox(truths["boxes"], side_outputs["size"], height, width)
        return {}, {"boxes": boxes, "labels": ops.where(truths["crowd"], -1, truths["labels"]), "crowd": truths["crowd"]}

    def answer(network: keras.Model) -> keras.Model:
        inputs = {"image": keras.Input(network.inputs[0].shape[1:], name="image"),
                  "size": keras.Input((2,), dtype="int32", name="size"),
                  **{name: keras.Input((), dtype="float32", name=name) for name in ("conf", "iou")}}  # fmt: skip
        found = _scored(fold_batch_norms(network))(inputs["image"])
        given = found["boxes"], found["scores"], inputs["size"], inputs["conf"], inputs["iou"]
        found = SuppressBoxes(height, width, name="suppress")(*given)
        return keras.Model(inputs, {**found, "size": keras.layers.Identity(name="own_size")(inputs["size"])}, name="answer")

    def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
        rows = []
        for number, name in enumerate(names):
            count = int(answers["count"][number])
            boxes, scores, labels = (answers[key][number][:count].tolist() for key in ("boxes", "scores", "labels"))
            found = [{"class": classes[label], "score": score, "box": box}
                     for box, score, label in zip(boxes, scores, labels, strict=True)]  # fmt: skip
            rows.append(objects_row(name, found, answers["size"][number], "boxes"))
        return rows

    def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
        pixels = pixels_of(raw["image"], largest=box_pictures.LARGEST)
        found = (answers[key] for key in ("boxes", "scores", "labels"))
        return box_pictures.boxes_picture(pixels, *found, classes, name, size=answers["size"])

    return Task(
        name="detection", encode=encode, loss=parts, parts=names_of_parts, metrics={}, decode=decode_letterboxed, answer=answer,
        score=lambda batches, data, serving, **scoring: _score(batches, data, classes, **scoring), read=read_images, tell=tell,
        draw=draw, probe=_probe, endpoints=_endpoints, answered_at_once=16, settings={"conf": 0.25, "iou": 0.7},
        scoring={"conf": 0.001, "iou": 0.7, "shown": 0.25}, stages=_stages,
        summary=lambda names, answers: coco_results_file(names, answers, ids))  # fmt: skip


def decode_letterboxed(preprocess: keras.Model) -> keras.Model:
    """``Task.decode``: image files -> letterboxed pixels of the size that ``preprocess`` takes, and their own size."""
    _, height, width, _ = next(tensor.shape for tensor in preprocess.inputs if tensor.name == "image")
    contents = keras.Input((), dtype="string", name="image")
    return keras.Model(contents, DecodeLetterboxed(height, width, name="decode")(contents), name="decode_images")


def _scored(network: keras.Model) -> keras.Model:
    """Images -> all boxes of the network (batch, n, 4), and for each the score of every class (batch, n, classes)."""
    image = keras.Input(network.inputs[0].shape[1:], name="image")
    outputs = network(image)
    scores = ops.sigmoid(outputs["logits"])
    if "objectness" in outputs:
        scores = scores * ops.expand_dims(ops.sigmoid(outputs["objectness"]), -1)
    return keras.Model(image, {"boxes": outputs["boxes"], "scores": scores}, name="scored_boxes")


def _endpoints(decoded: keras.Model) -> dict[str, keras.Model]:
    """``candidates``: letterboxed pixels (batch, height, width, 3), 0..255 -> what suppression chooses from, all boxes of the
    network in pixels of the letterboxed image, and the score of every class."""
    preprocess, scored = (inner_layer(decoded, name) for name in ("preprocess", "scored_boxes"))
    (pixels,) = (tensor for tensor in preprocess.inputs if tensor.name == "image")
    image = keras.Input(pixels.shape[1:], name="image")
    of_no_meaning = ops.cast(ops.zeros_like(image[:, 0, 0, :2]), "int32")  # the sizes of files, which only pass by
    ready = preprocess({"image": image, "size": of_no_meaning})["image"]
    return {"candidates": keras.Model(image, scored(ready), name="candidates")}


def _probe(serving: keras.Model) -> dict[str, Any]:
    """Pictures, and settings that let many boxes through."""
    pictures = made_up_images(serving)
    count = len(pictures["image"])
    return {**pictures, "conf": np.full(count, 0.05, np.float32), "iou": np.full(count, 0.7, np.float32)}


def _stages(serving: keras.Model) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
    """The parts of a serving model: reading files, the network, and the suppression of boxes."""
    decode, preprocess, scored, suppress = (inner_layer(serving, name)
                                            for name in ("decode_images", "preprocess", "scored_boxes", "suppress"))  # fmt: skip

    def network(given):
        ready = preprocess({name: given[name] for name in ("image", "size")})
        return {**given, **scored(ready["image"])}

    def suppression(given):
        found = suppress(*(given[name] for name in ("boxes", "scores", "size", "conf", "iou")))
        return {**found, "size": given["size"]}

    return {"reading": lambda given: {**given, **decode(given["image"])}, "network": network, "suppression": suppression}


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, classes: list[str], *, conf: float, iou: float,
           shown: float) -> Report:  # fmt: skip
    truths, answers = [], []
    best: list[tuple[float, int, bytes]] = []
    worst: list[tuple[float, int, bytes]] = []
    for raw, found in batches:
        for number, contents in enumerate(raw["image"]):
            truths.append({name: raw[name][number] for name in TRUTHS})
            answers.append({name: found[name][number] for name in ANSWERS})
            (f1,) = image_scores(truths[-1:], answers[-1:], score=shown)
            if not np.isnan(f1):
                best, worst = ([*each, (sign * f1, len(truths) - 1, contents)] for sign, each in ((-1, best), (1, worst)))
        best, worst = (sorted(each, key=lambda image: image[:2])[:SHOWN] for each in (best, worst))
    found = detection_figures(truths, answers, len(classes))
    if not found.objects.sum():
        raise InputError(f"{data.name} has no objects in this split, so there is nothing to score")
    matrix = detection_confusion(truths, answers, len(classes), score=shown)
    at_shown = confusion_figures(matrix)
    threshold, best_f1 = best_threshold(truths, answers, len(classes))
    figures = {
        "ap": found.ap, "ap50": found.ap50, "ap75": found.ap75, "ap_small": found.ap_small, "ap_medium": found.ap_medium,
        "ap_large": found.ap_large, "ar1": found.ar1, "ar10": found.ar10, "ar100": found.ar100, "ar_small": found.ar_small,
        "ar_medium": found.ar_medium, "ar_large": found.ar_large, "precision": at_shown.precision, "recall": at_shown.recall,
        "f1": at_shown.f1,
    }  # fmt: skip
    columns = {"ap": found.class_ap, "ap50": found.class_ap50, "ar100": found.class_recall,
               "precision": at_shown.class_precision, "recall": at_shown.class_recall, "objects": found.objects,
               "images": found.images}  # fmt: skip
    rows = [{"class": name, **{column: values[i].item() for column, values in columns.items()}} for i, name in enumerate(classes)]

    def panels(images: list[tuple[float, int, bytes]]) -> list[tuple[Any, ...]]:
        return [(f"image {place + 1}, F1 {abs(f1):.2f}", pixels_of(contents), truths[place], _above(answers[place], shown))
                for f1, place, contents in images]  # fmt: skip

    return Report(
        figures, tables={"by class": rows},
        pictures={"precision_recall": box_pictures.precision_recall(RECALL_POINTS, found.precision, classes, found.class_ap50),
                  "confusion": charts.confusion(matrix, [*classes, "background"]),
                  "best": box_pictures.box_rows(panels(best), classes),
                  "worst": box_pictures.box_rows(panels(worst), classes)},
        notes=("ap and ar are COCO's, of at most 100 boxes of a class in an image whose scores exceed"
               f" {conf:g}; ap is the mean over IoU 0.50 to 0.95, ap50 that at 0.50",
               f"precision, recall, F1, confusion and pictures are of boxes whose scores are at least {shown:g}, at IoU 0.50;"
               f" the mean F1 over classes is largest, {best_f1:.3f}, at the score {threshold:.3f}"))  # fmt: skip


def _above(answer: dict[str, Any], score: float) -> dict[str, Any]:
    return {**answer, "labels": np.where(answer["scores"] >= score, answer["labels"], -1)}
