"""Images with boxes around their objects: named data sets, and folders of one's own."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kerastoolkit.data.coco_files import Faults, has_coco_layout, has_masks
from kerastoolkit.data.corpus import corpora_folder
from kerastoolkit.data.image_folders import TEST_SHARE, refuse
from kerastoolkit.data.images import _held
from kerastoolkit.experiment import Data, InputError, Source, described
from kerastoolkit.serving.image_files import check_image_file

KNOWN = ("shapes", "bccd", "coco", "voc")
LAYOUTS = ("COCO layout (annotations/instances_*.json), YOLO labels (data.yaml, or images and labels), or Pascal VOC layout"
           " (Annotations and JPEGImages)")  # fmt: skip
OBJECTS = ("boxes", "labels", "crowd", "areas")
BCCD_URL = "https://github.com/Shenggan/BCCD_Dataset"


@dataclass(frozen=True)
class BoxedImage:
    """A file, its size in pixels, and the objects in it.

    Attributes:
        boxes: (n, 4) float32, x_min, y_min, x_max, y_max in pixels, within the image, of positive width and height.
        labels: (n,) int32, 0 .. classes - 1.
        crowd: (n,) bool, no target and ignored in evaluation: a region with many objects of its label, or a difficult object.
        areas: (n,) float32, in pixels, of the object's mask where that is known, else of its box.
        rles: (n,) object, bytes, the objects' masks as ``coco_objects.object_rle`` packs them, b"" where there is none; None
            where masks are not read.
    """

    file: Path
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    rles: np.ndarray | None = None


@dataclass(frozen=True)
class BoxedFolder:
    """What a folder holds.

    Attributes:
        classes: their names, in the order of their labels.
        category_ids: of each the id that it has in its file, or 1, 2, ... where there is none.
        splits: train, validation and test, without the images and objects that have a fault.
        notes: what a person should know of how it was read.
        faults: what is wrong with those that were left out.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    splits: dict[str, list[BoxedImage]]
    notes: tuple[str, ...]
    faults: Faults


@described
def boxed_images(data: str, *, only: tuple[str, ...] = (), limit: int | None = None, validation: float | None = None,
                 skip_faults: bool = False) -> Data:  # fmt: skip
    """A named data set, or a folder of one's own: images with boxes, in COCO layout, with YOLO labels, or as Pascal VOC has them.

    Raw examples: image () string, the bytes of a file; boxes (n, 4) float32, x_min, y_min, x_max, y_max in pixels of the image at
    its own size; labels (n,) int32; crowd (n,) bool, no target and ignored in evaluation; areas (n,) float32, in pixels. A batch
    is padded to the most objects that one of its images has, at least 1, with zeros and the label -1.

    Args:
        data: ``sample`` or ``shapes`` (made pictures), ``bccd``, ``coco``, ``voc``, or a path; what ``coco_boxes``,
            ``yolo_labels`` and ``voc_xml`` say of the layout holds for a path.
        only: classes that count, by default all; objects of others are left out, and images that then have none are kept.
        limit: the first images of each split that are used; by default all.
        validation: how much of the training images is cut for validation where the data has no validation part of its own: a
            fraction below 1, a count, or 0; by default a tenth.
        skip_faults: whether images and objects that have a fault are left out and counted, where they would be refused; those of
            ``coco`` always are.
    Raises:
        InputError: no such name and no such folder, or something is wrong in it.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    if data in ("sample", "shapes"):
        from kerastoolkit.data.made_shapes import CLASSES, boxed_shapes

        data, notes = "shapes", ()
        labels, classes = chosen_classes(CLASSES[1:], only, data)
        ids, sources = of_chosen(range(1, len(CLASSES)), labels), boxed_shapes(labels, limit)
    else:
        found = read(data, only=only, limit=limit, validation=validation, skip_faults=skip_faults)
        classes, ids, notes = found.classes, found.category_ids, found.notes
        sources = {split: boxed_source(images) for split, images in found.splits.items()}
    about = {"classes": classes, "category_ids": ids, "shape": None, "channels": 3}
    name = data if data in KNOWN else Path(data).expanduser().resolve().name
    return Data(name, **sources, inputs=("image",), encoded=True, about=about, notes=notes)


@described
def bccd() -> Data:
    """BCCD: 364 photographs of blood cells in 3 classes (Shenggan 2017, MIT); to be put in by hand."""
    return boxed_images("bccd")


@described
def voc() -> Data:
    """Pascal VOC 2012: 11,540 photographs with boxes around things of 20 classes (Everingham et al. 2012)."""
    return boxed_images("voc")


def is_boxed(data: str) -> bool:
    """Whether a name is one of images with boxes alone, or a path that of a folder of them: none of its objects has a mask."""
    from kerastoolkit.data.voc_xml import has_voc_layout
    from kerastoolkit.data.yolo_labels import has_yolo_layout

    if data in KNOWN:
        return data in ("bccd", "voc") or (data == "coco" and not has_coco_layout(_by_hand(data)))  # else it has masks
    return has_coco_layout(data) and not has_masks(data) or has_yolo_layout(data) or has_voc_layout(data)


def read(data: str, *, only: tuple[str, ...] = (), limit: int | None = None, validation: float | None = None,
         skip_faults: bool = False) -> BoxedFolder:  # fmt: skip
    """What ``boxed_images`` makes its sources of, but for the made pictures; its errors."""
    from kerastoolkit.data.coco_boxes import coco_boxes
    from kerastoolkit.data.voc_xml import has_voc_layout, voc_xml
    from kerastoolkit.data.yolo_labels import has_yolo_layout, yolo_labels

    path = folder_of(data)
    layouts = ((has_coco_layout, coco_boxes), (has_yolo_layout, yolo_labels), (has_voc_layout, voc_xml))
    reader = next((reader for has_layout, reader in layouts if has_layout(path)), None)
    if reader is None:
        what = f"must be in {LAYOUTS}" if path.is_dir() else "is not a folder" if path.exists() else "no such folder"
        raise InputError(f"{path}: {what}")
    found = reader(path, validation=TEST_SHARE if validation is None else validation, limit=limit)
    check_faults(found.faults, data, skip_faults)
    found = each_once(of_classes(found, only, data))
    if not any(len(image.labels) for image in found.splits["train"]):
        faults = f" without a fault, the first fault: {found.faults[0][1]}" if found.faults else ""
        raise InputError(f"{path}: must have at least 1 box in {len(found.splits['train']):,} training images, got none{faults}")
    return found


def check_faults(faults: Faults, data: str, skip_faults: bool) -> None:
    """Refuses what has a fault, unless it is to be left out.

    Raises:
        InputError: as ``image_folders.refuse`` has it.
    """
    if not skip_faults and data != "coco":  # its training part has two boxes without area
        refuse([line for _, line in faults], hint="; --set skip_faults=true leaves out what has a fault")


def of_classes(found: BoxedFolder, only: tuple[str, ...], data: str) -> BoxedFolder:
    """The folder with objects of some classes alone, by default of all; ``data`` is what it is called in an error.

    Raises:
        InputError: one of ``only`` is no class.
    """
    labels, classes = chosen_classes(found.classes, only, data)
    splits = {split: [_relabelled(image, np.array(labels)) for image in images] for split, images in found.splits.items()}
    return replace(found, classes=classes, category_ids=of_chosen(found.category_ids, labels), splits=splits)


def each_once(found: BoxedFolder) -> BoxedFolder:
    """The folder without objects that stand there again, and with notes on what is in it."""
    once = {split: [_without_duplicates(image) for image in images] for split, images in found.splits.items()}
    return replace(found, splits=once, notes=(*found.notes, *_notes(found.splits, once, found.faults)))


def folder_of(data: str, *, fetch: bool = False) -> Path:
    """The folder of a named data set, or of a path; ``fetch`` is whether one that can be downloaded is, where it is not there.

    Raises:
        InputError: there is none of that name.
    """
    if data == "bccd":
        folders = _by_hand(data) / "BCCD", _by_hand(data)  # as the repository has it, or without the folder around it
        found = next((folder for folder in folders if folder.is_dir()), None)
        if found is None:
            raise InputError(f"bccd is not in {_by_hand(data).parent}: put there a folder bccd with what is in {BCCD_URL};"
                             " --data sample needs no files")  # fmt: skip
        return found
    # TensorFlow Datasets has a folder of that name for what it prepares.
    if data == "coco" and has_coco_layout(_by_hand(data)):
        return _by_hand(data)
    if data in ("coco", "voc"):
        from kerastoolkit.data.prepared_boxes import prepared_folder

        return prepared_folder(data, fetch=fetch)
    if not (os.path.exists(data) or os.sep in data):
        closest = difflib.get_close_matches(data, KNOWN, n=1)
        guess = f" (did you mean {closest[0]}?)" if closest else ""
        raise InputError(f"unknown data set of images with boxes {data}{guess}: choose sample, {', '.join(KNOWN)}, or a folder"
                         f" in {LAYOUTS}")  # fmt: skip
    return Path(data).expanduser()


def _by_hand(name: str) -> Path:
    return corpora_folder().parents[1] / name


def chosen_classes(classes: tuple[str, ...], only: tuple[str, ...], data: str) -> tuple[list[int], tuple[str, ...]]:
    """Of each class its label, -1 where it is left out, and the classes that are left."""
    for name in only:
        if name not in classes:
            closest = difflib.get_close_matches(name, classes, n=1)
            guess = f" (did you mean {closest[0]}?)" if closest else f": choose of {', '.join(classes)}"
            raise InputError(f"only must name classes of {data}, got {name}{guess}")
    left = tuple(name for name in classes if not only or name in only)
    return [left.index(name) if name in left else -1 for name in classes], left


def of_chosen(ids: Sequence[int], labels: list[int]) -> tuple[int, ...]:
    """The ids of the classes that ``chosen_classes`` left."""
    return tuple(number for number, label in zip(ids, labels, strict=True) if label >= 0)


def _relabelled(image: BoxedImage, labels: np.ndarray) -> BoxedImage:
    """The image with other labels, ``labels`` of its own; without the objects whose label becomes -1."""
    return with_objects(replace(image, labels=labels[image.labels].astype(np.int32)), labels[image.labels] >= 0)


def _without_duplicates(image: BoxedImage) -> BoxedImage:
    keys = [(*box, label, crowd) for box, label, crowd in
            zip(image.boxes.tolist(), image.labels.tolist(), image.crowd.tolist(), strict=True)]  # fmt: skip
    places = {key: place for place, key in reversed(list(enumerate(keys)))}  # of each the first
    return image if len(places) == len(keys) else with_objects(image, np.array(sorted(places.values())))


def with_objects(image: BoxedImage, wanted: np.ndarray) -> BoxedImage:
    """The image with some of its objects: their places (m,), or whether each is wanted (n,) bool."""
    names = OBJECTS if image.rles is None else (*OBJECTS, "rles")
    return replace(image, **{name: getattr(image, name)[wanted] for name in names})


def _notes(splits: dict[str, list[BoxedImage]], once: dict[str, list[BoxedImage]], faults: Faults) -> list[str]:
    first = {kind: line for kind, line in reversed(faults)}
    notes = [f"{count:,} {kind}{'s' * (count > 1)} with a fault left out, the first: {first[kind]}"
             for kind, count in Counter(kind for kind, _ in faults).items()]  # fmt: skip
    images = [image for each in once.values() for image in each]
    objects, crowds = (sum(len(image.labels) for image in images), sum(int(image.crowd.sum()) for image in images))
    repeated = sum(len(image.labels) for each in splits.values() for image in each) - objects
    empty = sum(not len(image.labels) for image in images)
    shared = {image.file for image in once["train"]} & {image.file for image in (*once["validation"], *once["test"])}
    if repeated:
        notes.append(f"{repeated:,} objects left out that stand there again: same image, class and box")
    if crowds:
        notes.append(f"{crowds:,} of {objects:,} objects are crowds or difficult: no targets, and ignored in evaluation")
    if empty:
        notes.append(f"{empty:,} of {len(images):,} images have no box: they are kept")
    if shared:
        notes.append(f"{len(shared):,} training images are among those of validation or test, too")
    return notes


def boxed_image(file: Path, height: int, width: int, objects: Sequence[tuple[int, Sequence[float], bool, float | None]],
                rles: Sequence[bytes] | None = None) -> BoxedImage:  # fmt: skip
    """A record of an image of this size with objects (label, box x_min, y_min, x_max, y_max, crowd, area or None), and their
    masks where these are read."""
    boxes = np.array([box for _, box, _, _ in objects], np.float32).reshape(-1, 4)
    labels = np.array([label for label, _, _, _ in objects], np.int32)
    crowd = np.array([crowd for _, _, crowd, _ in objects], bool)
    of_boxes = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    known = np.array([np.nan if area is None else area for _, _, _, area in objects], np.float32)
    masks = None if rles is None else np.array(rles, object)
    return BoxedImage(file, height, width, boxes, labels, crowd, np.where(np.isnan(known), of_boxes, known), masks)


def image_size(file: Path) -> tuple[int, int]:
    """Height and width of an image file.

    Raises:
        InputError: it cannot be read.
    """
    check_image_file(file)
    with Image.open(file) as image:
        return image.height, image.width


def boxed_source(images: list[BoxedImage]) -> Source:
    """The source of their raw examples, as ``boxed_images`` tells of them."""
    import tensorflow as tf

    files, objects = _held(lambda: [os.fsencode(image.file) for image in images]), gather_objects(lambda: images)

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        return {"image": tf.map_fn(tf.io.read_file, tf.gather(files(), indices)), **objects(indices)}

    return Source(len(images), fetch, name=lambda index: str(images[index].file))


def gather_objects(images: Callable[[], Sequence[BoxedImage]], *, rles: bool = False) -> Callable[[Any], dict[str, Any]]:
    """A function from indices (batch,) to the objects of those images, padded to the most that one of them has, at least 1.

    ``images`` is called when the first are asked for; ``rles`` is whether their masks are wanted, too, as strings.
    """
    import tensorflow as tf

    names = (*OBJECTS, "rles") if rles else OBJECTS
    padding = boxed_image(Path(), 0, 0, [(-1, (0, 0, 0, 0), False, None)], [b""])

    def read() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        found = images()
        counts = np.array([len(each.labels) for each in found], np.int64)
        # What pads is one more object, behind all others.
        flat = {name: np.concatenate([getattr(each, name) for each in (*found, padding)]) for name in names}
        return counts, np.cumsum(counts) - counts, flat

    held = _held(read)

    @tf.autograph.experimental.do_not_convert
    def gather(indices: Any) -> dict[str, Any]:
        counts, firsts, flat = held()
        own = tf.gather(counts, indices)[:, None]  # (batch, 1)
        places = tf.range(tf.maximum(tf.reduce_max(own), tf.constant(1, tf.int64)))  # (most,)
        places = tf.where(places < own, tf.gather(firsts, indices)[:, None] + places, tf.reduce_sum(counts))  # (batch, most)
        return {name: tf.gather(values, places) for name, values in flat.items()}

    return gather
