"""Semantic segmentation: a class for each pixel of an image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastoolkit import charts
from kerastoolkit.experiment import Data, InputError, Report, Task, described
from kerastoolkit.losses import dice_loss, focal_loss, mean_per_example, pixel_cross_entropy
from kerastoolkit.metrics import boundary_scores, class_confusion, segmentation_figures
from kerastoolkit.serving.class_maps import IGNORED, decode_class_map
from kerastoolkit.serving.segmentation import ClassMaps, DecodeSizedImages
from kerastoolkit.serving.tiles import DecodeWholeImages, TiledClassMaps
from kerastoolkit.tasks._image_files import made_up_images, pixels_of, png_file, read_images

SHOWN = 8  # of the worst images
TOLD = 3  # classes that the table of answers has of each image


@described
def segmentation(
    classes: list[str] | tuple[str, ...], palette: list[tuple[int, int, int]] | tuple[tuple[int, int, int], ...], *,
    loss: str = "cross_entropy", dice: float = 0.0, class_weights: list[float] | tuple[float, ...] | None = None,
    tile: list[int] | tuple[int, int] | None = None,
) -> Task:  # fmt: skip
    """One of ``classes`` for each pixel.

    The network gives logits (batch, height, width, classes). The data's truths are mask (batch, height, width) uint8 at the
    network's size, truth, the mask's file, and weight (batch, height, width) float32 or none. Answers, for images of any size:
        map            (batch, the largest height, the largest width) uint8, the class of each pixel of the image at its own
                       size; 255 beyond it
        size           (batch, 2) int32, height and width of the image
        probabilities  (batch, height, width, classes) float32, at the network's size; with ``tile`` in its place
        confidence     as map, float32, the probability of that class; 0 beyond the image

    Args:
        classes: names, in the order of the labels.
        palette: (red, green, blue), 0..255, with which each is drawn.
        loss: "cross_entropy", or "focal" (Lin et al. 2017), which counts sure pixels less.
        dice: how much of the Dice loss of the whole batch is added; 0 for none.
        class_weights: how much a pixel counts by its true class, in the first of these losses; None for all alike.
        tile: height and width of the overlapping tiles in which images are answered at their own resolution, for a network of any
            input size; None where they are brought to the network's size.
    Raises:
        InputError: fewer than two classes, not as many colours or weights as classes, no such loss, or a negative weight.
    """
    classes, palette = list(classes), [tuple(colour) for colour in palette]
    if not 2 <= len(classes) <= IGNORED:
        raise InputError(f"classes must be 2 to {IGNORED}, got {len(classes)}")
    if len(palette) != len(classes):
        raise InputError(f"palette must have a colour for each of {len(classes)} classes, got {len(palette)}")
    if loss not in ("cross_entropy", "focal"):
        raise InputError(f"loss must be cross_entropy or focal, got {loss}")
    if not dice >= 0:
        raise InputError(f"dice must be at least 0, got {dice}")
    if class_weights is not None and (len(class_weights) != len(classes) or not min(class_weights) >= 0):
        raise InputError(f"class_weights must be {len(classes)} numbers of at least 0, got {class_weights}")
    of_pixels = {"cross_entropy": pixel_cross_entropy, "focal": focal_loss}[loss]

    def encode(truths, inputs, side_outputs, seeds):
        if "weight" in truths and loss == "focal":
            raise InputError("border weights are for the loss cross_entropy, got focal")
        return {}, {name: truths[name] for name in ("mask", "weight") if name in truths}

    def losses(targets, logits):
        weights = {"pixel_weights": targets["weight"]} if "weight" in targets else {}
        value = of_pixels(targets["mask"], logits, class_weights=class_weights, **weights)
        return value + dice * dice_loss(targets["mask"], logits, together=True) if dice else value

    def accuracy(targets, logits):
        known = _known(targets)
        said = ops.cast(ops.argmax(logits, axis=-1), "int32")
        right = ops.cast(ops.equal(said, ops.cast(targets["mask"], "int32")), "float32")  # no class is IGNORED
        return mean_per_example(right) / ops.maximum(mean_per_example(known), 1e-9)

    def answer(network: keras.Model) -> keras.Model:
        image = keras.Input(network.inputs[0].shape[1:], name="image")
        size = keras.Input((2,), dtype="int32", name="size")
        if tile is None:
            logits = network(image)
            answers = {"map": ClassMaps(name="map")(logits, size),
                       "probabilities": keras.layers.Softmax(dtype="float32", name="probabilities")(logits)}  # fmt: skip
        else:
            answers = TiledClassMaps(network, *tile, name="tiles")(image, size)
        own_size = keras.layers.Identity(name="own_size")(size)
        return keras.Model({"image": image, "size": size}, {**answers, "size": own_size}, name="answer")

    def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
        rows = []
        for number, name in enumerate(names):
            found = _own_map(answers["map"][number], answers["size"][number])
            shares = np.bincount(found.ravel(), minlength=len(classes))[: len(classes)] / found.size
            order = [place for place in np.argsort(-shares, kind="stable") if shares[place] > 0]
            most = ", ".join(f"{classes[place]} {shares[place]:.0%}" for place in order[:TOLD])
            rows.append({"input": name, "height": found.shape[0], "width": found.shape[1], "most": most,
                         "shares": {classes[place]: float(shares[place]) for place in order}})  # fmt: skip
        return rows

    def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
        pixels, found = pixels_of(raw["image"]), _own_map(answers["map"], answers["size"])
        return charts.overlays([(name, pixels), ("answer", pixels, found)], classes, palette)

    def files(raw: dict[str, Any], answers: dict[str, Any]) -> dict[str, bytes]:
        found = _own_map(answers["map"], answers["size"])
        whole = pixels_of(raw["image"], largest=None)
        return {"-classes.png": png_file(found[..., None]), "-colours.png": png_file(charts.colour_map(found, palette)),
                "-overlay.png": png_file(charts.overlay(whole, found, palette))}  # fmt: skip

    return Task(
        name="segmentation", encode=encode, loss=losses, metrics={"pixel_accuracy": accuracy}, decode=decode_sized_images,
        answer=answer, score=lambda batches, data, serving: _score(batches, data, classes, palette), read=read_images, tell=tell,
        draw=draw, probe=made_up_images, answered_at_once=16 if tile is None else 1, files=files,
        # Never quite 0, by which the losses of a batch without a known pixel would be divided.
        weigh=lambda targets: ops.maximum(ops.sum(_known(targets), axis=(1, 2)), 1e-6))  # fmt: skip


def decode_sized_images(preprocess: keras.Model) -> keras.Model:
    """``Task.decode``: image files -> pixels, of the size that ``preprocess`` takes or their own, and their own size."""
    _, height, width, channels = next(tensor.shape for tensor in preprocess.inputs if tensor.name == "image")
    contents = keras.Input((), dtype="string", name="image")
    whole = height is None or width is None
    decode = DecodeWholeImages(channels, name="decode") if whole else DecodeSizedImages(height, width, channels, name="decode")
    return keras.Model(contents, decode(contents), name="decode_images")


def _known(targets):
    return ops.cast(ops.not_equal(ops.cast(targets["mask"], "int32"), IGNORED), "float32")


def _own_map(found: np.ndarray, size: np.ndarray) -> np.ndarray:
    return found[: size[0], : size[1]]


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, classes: list[str],
           palette: list[tuple[int, int, int]]) -> Report:  # fmt: skip
    matrix = np.zeros((len(classes), len(classes) + 1), np.int64)
    boundaries, images, number = [], [], 0
    worst: list[tuple[float, int, bytes, np.ndarray, np.ndarray]] = []
    for raw, answers in batches:
        for contents, file, found, size in zip(raw["image"], raw["truth"], answers["map"], answers["size"], strict=True):
            truth, found = decode_class_map(file, data.about["coding"]).numpy(), _own_map(found, size)
            if truth.shape != found.shape:
                raise InputError(f"the mask of example {number} of {data.name} must have its image's size, {found.shape[1]} x"
                                 f" {found.shape[0]}, got {truth.shape[1]} x {truth.shape[0]}")  # fmt: skip
            own = class_confusion(truth, found, len(classes))
            matrix += own
            boundaries.append(boundary_scores(truth, found, len(classes)))
            images.append(own.sum(axis=1) > 0)
            iou = segmentation_figures(own).mean_iou
            if not np.isnan(iou):
                worst.append((iou, number, contents, truth, found))
            number += 1
        worst = sorted(worst, key=lambda each: each[:2])[:SHOWN]
    if not matrix.sum():
        raise InputError(f"the masks of {data.name} hold no pixel of a known class, so there is nothing to score")
    found = segmentation_figures(matrix)
    boundary = _mean_by_class(np.array(boundaries))
    share = matrix.sum(axis=1) / matrix.sum()
    with_class = np.sum(images, axis=0)
    columns = {"iou": found.iou, "dice": found.dice, "precision": found.precision, "recall": found.recall,
               "boundary_f1": boundary, "share": share}  # fmt: skip
    rows = [{"class": name, **{column: float(values[i]) for column, values in columns.items()}, "images": int(with_class[i])}
            for i, name in enumerate(classes)]  # fmt: skip
    figures = {
        "mean_iou": found.mean_iou, "mean_dice": found.mean_dice, "pixel_accuracy": found.pixel_accuracy,
        "mean_class_accuracy": found.mean_class_accuracy, "frequency_weighted_iou": found.frequency_weighted_iou,
        "boundary_f1": float(np.nanmean(boundary)),
    }  # fmt: skip
    commonest = np.zeros_like(matrix)
    commonest[:, share.argmax()] = matrix.sum(axis=1)
    always = segmentation_figures(commonest)
    panels = []
    for iou, place, contents, truth, answer in worst:
        pixels = pixels_of(contents)
        panels += [(f"image {place + 1}", pixels), ("truth", pixels, truth), (f"answer, mean IoU {iou:.2f}", pixels, answer)]
    return Report(
        figures, baselines={f"always {classes[share.argmax()]}": {"mean_iou": always.mean_iou, "mean_dice": always.mean_dice,
                                                                  "pixel_accuracy": always.pixel_accuracy}},
        tables={"by class": rows},
        pictures={"confusion": charts.confusion(matrix[:, : len(classes)], classes),
                  "worst": charts.overlays(panels, classes, palette, columns=3)},
        notes=("all figures but boundary_f1 are of one confusion matrix over all pixels of the split at the images' own size;"
               " pixels of unknown class are left out",))  # fmt: skip


def _mean_by_class(scores: np.ndarray) -> np.ndarray:
    """(images, classes) -> (classes,), NaN where no image has the class."""
    known = ~np.isnan(scores)
    return np.where(known.any(axis=0), np.nansum(scores, axis=0) / np.maximum(known.sum(axis=0), 1), np.nan)
