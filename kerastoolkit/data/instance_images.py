"""Images with a mask of each of their objects: named data sets, and folders of one's own."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.boxes import letterbox
from kerastoolkit.data.boxed_images import (
    BoxedFolder,
    BoxedImage,
    boxed_image,
    check_faults,
    chosen_classes,
    each_once,
    gather_objects,
    of_chosen,
    of_classes,
    with_objects,
)
from kerastoolkit.data.coco_files import CocoImage, has_coco_layout, read_coco
from kerastoolkit.data.coco_objects import box_within, object_rle
from kerastoolkit.data.image_folders import TEST_SHARE
from kerastoolkit.data.images import _held
from kerastoolkit.experiment import Data, InputError, Source, described

KNOWN = ("shapes", "coco")
BOXES_ALONE = ("bccd", "voc")
LAYOUT = "COCO layout (annotations/instances_*.json) with masks"


@described
def instance_images(data: str, height: int, width: int, *, only: tuple[str, ...] = (), limit: int | None = None,
                    validation: float | None = None, skip_faults: bool = False, whole_images: bool = False) -> Data:  # fmt: skip
    """A named data set, or a folder of one's own: images in COCO layout with the mask of each object.

    Raw examples: image () string, the bytes of a file; boxes (n, 4) float32, x_min, y_min, x_max, y_max in pixels of the image at
    its own size; labels (n,) int32; crowd (n,) bool, no target and ignored in evaluation; areas (n,) float32, pixels of the mask;
    rles (n,) string, the mask at the image's own size, its run lengths as COCO packs them; and but in the test split masks
    (n, height, width) uint8, 1 inside and 0 outside, the same mask in the letterboxed picture. A batch is padded to the most
    objects that one of its images has, at least 1, with zeros, the label -1 and the rle "".

    Which files are read for which split is what ``coco_files.read_coco`` says. An object without bbox, or whose bbox has no width
    or no height, has the box around its mask. Boxes may stick out of the image by a pixel, and are cut at its border.

    Args:
        data: ``sample`` or ``shapes`` (made pictures), ``coco``, or a path.
        height, width: of the masks, in pixels.
        only: classes that count, by default all; objects of others are left out, and images that then have none are kept.
        limit: the first images of each split that are used; by default all.
        validation: how much of the training images is cut for validation where the data has no validation part of its own: a
            fraction below 1, a count, or 0; by default a tenth.
        skip_faults: whether images and objects that have a fault are left out and counted, where they would be refused; those of
            ``coco`` always are.
        whole_images: whether an image that has an object without a mask is left out, where that object alone would be.
    Raises:
        InputError: no such name and no such folder, or something is wrong in it.
    """
    if min(height, width) < 1:
        raise InputError(f"height and width must be at least 1, got {height} and {width}")
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    if data in ("sample", "shapes"):
        from kerastoolkit.data.made_shapes import CLASSES, instance_shapes

        data, notes = "shapes", ()
        labels, classes = chosen_classes(CLASSES[1:], only, data)
        ids, sources = of_chosen(range(1, len(CLASSES)), labels), instance_shapes(labels, height, width, limit)
    else:
        found = read(data, only=only, limit=limit, validation=validation, skip_faults=skip_faults, whole_images=whole_images)
        classes, ids, notes = found.classes, found.category_ids, found.notes
        sources = {split: _source(images, height, width, masks=split != "test") for split, images in found.splits.items()}
    about = {"classes": classes, "category_ids": ids, "shape": None, "channels": 3}
    name = data if data in KNOWN else Path(data).expanduser().resolve().name
    return Data(name, **sources, inputs=("image",), encoded=True, about=about, notes=notes)


def read(data: str, *, only: tuple[str, ...] = (), limit: int | None = None, validation: float | None = None,
         skip_faults: bool = False, whole_images: bool = False) -> BoxedFolder:  # fmt: skip
    """What ``instance_images`` makes its sources of, but for the made pictures; its errors."""
    path = _folder(data)
    coco = read_coco(path, validation=TEST_SHARE if validation is None else validation, limit=limit)
    check_faults(coco.faults, data, skip_faults)
    redrawn: Counter[str] = Counter()
    splits = {split: [_instances(image, redrawn) for image in images] for split, images in coco.splits.items()}
    notes = coco.notes + tuple(f"{count:,} objects have {what}: they get that around the mask" for what, count in redrawn.items())
    found = of_classes(BoxedFolder(coco.categories, coco.category_ids, splits, notes, coco.faults), only, data)
    boxes = sum(int((image.rles == b"").sum()) for image in found.splits["train"])
    found = each_once(_with_masks_alone(found, whole_images))
    train = found.splits["train"]
    if not any(len(image.labels) for image in train):
        those = " whose objects all have one" if whole_images else ""
        faults = f" and without a fault, the first fault: {found.faults[0][1]}" if found.faults else ""
        raise InputError(f"{path}: must have at least 1 object with a mask in {len(train):,} training images{those}, got"
                         f" {boxes:,} boxes without masks{faults}")  # fmt: skip
    return found


def _folder(data: str) -> Path:
    from kerastoolkit.data.mask_folders import has_masks
    from kerastoolkit.data.segmented_images import folder_by_hand
    from kerastoolkit.data.voc_xml import has_voc_layout
    from kerastoolkit.data.yolo_labels import has_yolo_layout

    choices = f"choose sample, {', '.join(KNOWN)}, or a folder in {LAYOUT}"
    if data in BOXES_ALONE:
        raise InputError(f"{data} has boxes alone, and instances need masks: {choices}")
    if not (data in KNOWN or os.path.exists(data) or os.sep in data):
        closest = difflib.get_close_matches(data, KNOWN, n=1)
        guess = f" (did you mean {closest[0]}?)" if closest else ""
        raise InputError(f"unknown data set of images with instance masks {data}{guess}: {choices}")
    path = folder_by_hand(data) if data == "coco" else Path(data).expanduser()
    if path.is_dir() and not has_coco_layout(path):
        others = ((has_yolo_layout, "YOLO labels, of which boxes alone are read"), (has_voc_layout, "Pascal VOC layout, which has"
                  " boxes alone"), (has_masks, "masks of classes, which do not tell one object from another"))  # fmt: skip
        got = next((f", got {what}" for has_layout, what in others if has_layout(path)), "")
        raise InputError(f"{path}: must be in {LAYOUT}{got}")
    return path


def _instances(image: CocoImage, redrawn: Counter[str]) -> BoxedImage:
    """The image with its objects, the rle of those without a mask b""; ``redrawn`` counts the boxes that are not the file's."""
    from faster_coco_eval.core import mask

    objects, rles = [], []
    for each in image.objects:
        rle = object_rle(each, image.height, image.width)
        packed = {"size": [image.height, image.width], "counts": rle}
        area = 0 if rle is None else float(mask.area(packed))
        left, top, wide, high = (0.0,) * 4 if each.box is None else each.box
        corners = left, top, left + wide, top + high
        if area:
            try:
                corners = box_within(corners, image.height, image.width)
            except ValueError:  # without width or height; what lies outside was a fault
                redrawn["no box" if each.box is None else "a box without width or height"] += 1
                left, top, wide, high = mask.toBbox(packed).tolist()
                corners = left, top, left + wide, top + high
        objects.append((each.category, corners, each.crowd, area))
        rles.append(rle if area else b"")
    return boxed_image(image.file, image.height, image.width, objects, rles)


def _with_masks_alone(found: BoxedFolder, whole_images: bool) -> BoxedFolder:
    """The folder without the objects that have no mask, or without the images that have such an object; its notes tell."""
    images = [image for each in found.splits.values() for image in each]
    without, objects = sum(int((image.rles == b"").sum()) for image in images), sum(len(image.rles) for image in images)
    if not without:
        return found
    if whole_images:
        splits = {split: [image for image in each if not (image.rles == b"").any()] for split, each in found.splits.items()}
        count = len(images) - sum(len(each) for each in splits.values())
        note = f"{count:,} of {len(images):,} images left out that have an object without a mask"
    else:
        splits = {split: [with_objects(image, image.rles != b"") for image in each] for split, each in found.splits.items()}
        note = f"{without:,} of {objects:,} objects left out that have no mask"
    return replace(found, splits=splits, notes=(*found.notes, note))


def _source(images: list[BoxedImage], height: int, width: int, *, masks: bool) -> Source:
    import tensorflow as tf

    files = _held(lambda: [os.fsencode(image.file) for image in images])
    objects = gather_instances(lambda: images, height, width, masks=masks)

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        return {"image": tf.map_fn(tf.io.read_file, tf.gather(files(), indices)), **objects(indices)}

    return Source(len(images), fetch, name=lambda index: str(images[index].file))


def gather_instances(images: Callable[[], Sequence[BoxedImage]], height: int, width: int, *, masks: bool
                     ) -> Callable[[Any], dict[str, Any]]:  # fmt: skip
    """``boxed_images.gather_objects`` with the objects' rles, and where wanted with their masks in pictures of height x width."""
    import tensorflow as tf

    objects = gather_objects(images, rles=True)
    sizes = _held(lambda: np.array([(image.height, image.width) for image in images()], np.int32).reshape(-1, 2))

    def decode(rles: np.ndarray, *places: np.ndarray) -> np.ndarray:
        drawn = np.zeros((*rles.shape, height, width), np.uint8)
        for pictures, each, *place in zip(drawn, rles, *places, strict=True):
            for picture, rle in zip(pictures, each, strict=True):
                if rle:
                    draw_letterboxed(picture, rle, *place)
        return drawn

    @tf.autograph.experimental.do_not_convert
    def gather(indices: Any) -> dict[str, Any]:
        found = objects(indices)
        if not masks:
            return found
        size = tf.gather(sizes(), indices)
        # A function without state: tf.data may call it for several batches at once, which order does not change.
        drawn = tf.numpy_function(decode, [found["rles"], size, *letterbox(size, height, width)], tf.uint8, stateful=False)
        return {**found, "masks": tf.ensure_shape(drawn, (*found["rles"].shape, height, width))}

    return gather


def draw_letterboxed(picture: np.ndarray, rle: bytes, size: np.ndarray, inner: np.ndarray, first: np.ndarray) -> None:
    """Sets the pixels of a letterboxed picture whose centres lie in a mask.

    Args:
        picture: (height, width) uint8.
        rle: the mask, at the image's own size.
        size: (2,) int32, height and width of the image.
        inner, first: (2,) int32, where the image lies in the picture, as ``boxes.letterbox`` tells.
    """
    from faster_coco_eval.core import mask

    packed = {"size": size.tolist(), "counts": rle}
    left, top, wide, high = mask.toBbox(packed).astype(int).tolist()
    chosen, places = zip(*(_read_from(own, new, begin, end) for own, new, begin, end in
                           zip(size.tolist(), inner.tolist(), (top, left), (top + high, left + wide), strict=True)),
                         strict=True)  # fmt: skip
    rows, columns = (each + begin for each, begin in zip(chosen, first.tolist(), strict=True))
    picture[rows[:, None], columns] = mask.decode(packed)[places[0][:, None], places[1]]


def _read_from(own: int, new: int, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the pixels on a side of ``new`` those whose centres lie in begin..end of a side of ``own`` pixels, and in which pixels
    they lie there."""
    # The centre of pixel i, (i + 1/2) own / new, in whole numbers, which no rounding moves.
    places = (2 * np.arange(new) + 1) * own // (2 * new)
    chosen = np.flatnonzero((places >= begin) & (places < end))
    return chosen, places[chosen]
