"""Images with boxes that TensorFlow Datasets prepares, as folders in COCO layout: COCO 2017 and Pascal VOC 2012."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from kerastoolkit.data.corpus import corpora_folder, keep_whole
from kerastoolkit.data.prepared import named_builder, prepared_builder
from kerastoolkit.experiment import InputError


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What is known of a set: its name at TensorFlow Datasets, the sizes of its splits and what these are called here, whether
    pixels are counted from 1, the feature that makes an object crowd, and the ids of its classes."""

    prepared: str
    sizes: dict[str, int]
    parts: dict[str, str]
    first_pixel: int
    crowd: str
    ids: tuple[int, ...]


_WITHOUT_OBJECTS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # ids of COCO's 91 categories that no object has
SETS = {
    "coco": _Facts("coco/2017", {"train": 118_287, "validation": 5_000}, {"train": "train2017", "validation": "val2017"}, 0,
                   "is_crowd", tuple(number for number in range(1, 91) if number not in _WITHOUT_OBJECTS)),
    "voc": _Facts("voc/2012", {"train": 5_717, "validation": 5_823}, {"train": "train2012", "validation": "val2012"}, 1,
                  "is_difficult", tuple(range(1, 21))),
}  # fmt: skip


def prepared_folder(name: str, *, fetch: bool = False) -> Path:
    """The folder in COCO layout with the files of a set's images and the boxes of its objects, unpacked when first asked for.

    The files hold the bytes that the data set came with, so that they are read one at a time and at random, as TFRecords are not.
    They need the room of the prepared set once more, which may be deleted afterwards.

    Args:
        name: coco or voc.
        fetch: whether the set is downloaded where it is not prepared.
    Raises:
        InputError: it is not there, or cannot be fetched, or is not whole.
    """
    facts, kept = SETS[name], corpora_folder().parent / name
    if (kept / "annotations").is_dir():  # which are written last
        return kept
    if not fetch and not (builder := named_builder(facts.prepared, None)).is_prepared():
        raise InputError(f"{name} is not in {builder.data_path}: `kerastoolkit data prepare {name}` fetches it;"
                         " --data sample needs no files")  # fmt: skip
    builder = prepared_builder(facts.prepared, None)
    writers = {part: functools.partial(_write_images, builder, split, facts) for split, part in facts.parts.items()}
    for part, write in {**writers, "annotations": functools.partial(_write_annotations, builder, facts)}.items():
        if not (kept / part).is_dir():
            keep_whole(kept / part, write, what=f"{part} of {name}", parents=True)
    return kept


def _write_images(builder: Any, split: str, facts: _Facts, folder: Path) -> None:
    for one in _stored(builder, split):
        (folder / _file_name(one)).write_bytes(one["image"])
    count = sum(1 for _ in folder.iterdir())
    if count != facts.sizes[split]:
        raise InputError(f"{facts.prepared} must have {facts.sizes[split]:,} {split} images, got {count:,} in"
                         f" {builder.data_path}")  # fmt: skip


def _write_annotations(builder: Any, facts: _Facts, folder: Path) -> None:
    names = builder.info.features["objects"]["label"].names
    categories = [{"id": number, "name": name} for number, name in zip(facts.ids, names, strict=True)]
    for split, part in facts.parts.items():
        images, annotations = [], []
        for one in _stored(builder, split):
            width, height = Image.open(io.BytesIO(one["image"])).size
            number = int(one.get("image/id", len(images) + 1))
            images.append({"id": number, "file_name": _file_name(one), "height": height, "width": width})
            annotations += _annotations(one["objects"], images[-1], facts, len(annotations) + 1)
        contents = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"instances_{part}.json").write_text(json.dumps(contents))


def _file_name(one: dict[str, Any]) -> str:
    return Path(one["image/filename"].decode()).name


def _stored(builder: Any, split: str) -> Any:
    """The examples of a split as they are stored, images not decoded."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    stored = builder.as_dataset(split=split, shuffle_files=False, decoders={"image": tfds.decode.SkipDecoding()})
    options = tf.data.Options()
    options.autotune.enabled = False  # an iterator's end can wait for it for seconds
    return stored.with_options(options).as_numpy_iterator()


def _annotations(objects: dict[str, Any], image: dict[str, Any], facts: _Facts, first: int) -> list[dict[str, Any]]:
    """An image's objects in COCO's form, their ids from ``first`` on. Corners are stored in shares of the image's size, in 32
    bits: rounded to COCO's hundredths of a pixel they are what they were."""
    found = []
    for place, corners in enumerate(objects["bbox"].tolist()):
        top, left, bottom, right = (round(share * image[side], 2) for share, side in
                                    zip(corners, ("height", "width", "height", "width"), strict=True))  # fmt: skip
        left, top = left - facts.first_pixel, top - facts.first_pixel
        annotation = {"id": first + place, "image_id": image["id"], "category_id": facts.ids[objects["label"][place]],
                      "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
                      "iscrowd": int(objects[facts.crowd][place])}  # fmt: skip
        if "area" in objects:
            annotation["area"] = int(objects["area"][place])
        found.append(annotation)
    return found
