"""Boxes from a folder in COCO layout."""

from __future__ import annotations

from pathlib import Path

from kerastoolkit.data.boxed_images import BoxedFolder, BoxedImage, boxed_image
from kerastoolkit.data.coco_files import CocoImage, read_coco


def coco_boxes(path: str | Path, *, validation: float, limit: int | None) -> BoxedFolder:
    """Images in COCO layout with the boxes of their objects; the classes are the categories in the order of their ids.

    Which files are read for which split is what ``coco_files.read_coco`` says. An object without bbox has the box around its
    mask. Boxes may stick out of the image by a pixel, and are cut at its border.

    Args:
        path: the folder.
        validation: a fraction below 1, a count, or 0. Not used where there is a file for it.
        limit: the first so many images of each split; None for all.
    Raises:
        InputError: it is no such folder, or its files of annotations cannot be read.
    """
    found = read_coco(path, validation=validation, limit=limit, masks=False)
    splits = {split: [_boxed(image) for image in images] for split, images in found.splits.items()}
    return BoxedFolder(found.categories, found.category_ids, splits, found.notes, found.faults)


def _boxed(image: CocoImage) -> BoxedImage:
    objects = []
    for each in image.objects:
        left, top, width, height = each.box
        objects.append((each.category, (left, top, left + width, top + height), each.crowd, each.area))
    return boxed_image(image.file, image.height, image.width, objects)
