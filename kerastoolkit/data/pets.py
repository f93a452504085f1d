"""The Oxford-IIIT pets: photographs of cats and dogs, each with a mask of the animal, its border and the rest.

Parkhi et al. 2012, "Cats and dogs", https://www.robots.ox.ac.uk/~vgg/data/pets/, CC BY-SA 4.0.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.corpus import corpora_folder, keep_whole
from kerastoolkit.data.image_folders import TEST_SHARE, with_cuts
from kerastoolkit.data.images import _held
from kerastoolkit.data.prepared import prepared_builder
from kerastoolkit.data.splits import number_to_cut
from kerastoolkit.experiment import InputError, Source
from kerastoolkit.serving.class_maps import index_coding

NAME = "oxford_iiit_pet"
SIZES = {"train": 3_680, "test": 3_669}
CLASSES = ("pet", "background", "border")  # values 1, 2 and 3 of the masks; the border is where people could not tell
PALETTE = ((230, 80, 60), (40, 40, 40), (240, 220, 130))


def pets(data_dir: str | None = None, validation: float | None = None) -> tuple[dict[str, Source], dict[str, Any]]:
    """The splits and what is known of the images; nothing is read or fetched before a split is first fetched from.

    Raw examples: image () string, the bytes of an image file; truth () string, the bytes of a PNG file of its size.

    Args:
        data_dir: where data sets are; by default TFDS_DATA_DIR or ~/tensorflow_datasets.
        validation: how much of the 3,680 training images is cut for validation, by the hash of a file's name: a fraction below 1,
            a count, or 0; by default a tenth.
    Raises:
        InputError: validation is none of these; when fetched from, the set is not there and cannot be fetched.
    """
    share = TEST_SHARE if validation is None else validation
    count = number_to_cut(share, SIZES["train"], name="validation")

    @functools.cache
    def cut() -> dict[str, Any]:
        folder = _unpacked("train", data_dir)
        files = sorted(folder.glob("*.jpg"))
        return with_cuts({"train": (files, np.zeros(len(files), np.int64)), "test": ([], [])}, share, folder)

    splits = {
        "train": _source(lambda: cut()["train"][0], SIZES["train"] - count),
        "validation": _source(lambda: cut()["validation"][0], count),
        "test": _source(functools.cache(lambda: sorted(_unpacked("test", data_dir).glob("*.jpg"))), SIZES["test"]),
    }
    coding = index_coding({value: number for number, value in enumerate((1, 2, 3))})
    about = {"classes": CLASSES, "palette": PALETTE, "coding": coding, "shape": None, "channels": 3}
    # The figures of ImageNet that are in common use: its photographs are like these.
    return splits, about | {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)}


def pets_folder(data_dir: str | None = None) -> Path:
    """The folder with the files of all images and masks, which are fetched and unpacked where they are not there.

    Raises:
        InputError: they cannot be fetched.
    """
    return [_unpacked(split, data_dir) for split in SIZES][0].parent


def _unpacked(split: str, data_dir: str | None) -> Path:
    """The folder with NAME.jpg and NAME.png for each image of a split; it appears whole or not at all.

    The files hold the bytes that the data set came with, so that they are read one at a time and at random, as TFRecords are not.
    """
    data = corpora_folder().parent if data_dir is None else Path(data_dir).expanduser() / "kerastoolkit"
    kept = data / NAME / split
    if not kept.is_dir():
        keep_whole(kept, lambda folder: _unpack(split, data_dir, folder), what="the images of the pets", parents=True)
    return kept


def _unpack(split: str, data_dir: str | None, folder: Path) -> None:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = prepared_builder(NAME, data_dir)
    as_they_are = {key: tfds.decode.SkipDecoding() for key in ("image", "segmentation_mask")}
    stored = builder.as_dataset(split=split, shuffle_files=False, decoders=as_they_are)
    options = tf.data.Options()
    options.autotune.enabled = False  # an iterator's end can wait for it for seconds
    for one in stored.with_options(options).as_numpy_iterator():
        name = Path(one["file_name"].decode()).stem
        (folder / f"{name}.jpg").write_bytes(one["image"])
        (folder / f"{name}.png").write_bytes(one["segmentation_mask"])
    count = sum(1 for _ in folder.glob("*.jpg"))
    if count != SIZES[split]:
        raise InputError(f"{NAME} must have {SIZES[split]:,} {split} images, got {count:,} in {builder.data_path}")


def _source(files: Callable[[], list[Path]], size: int) -> Source:
    """Images and masks by their files, which are asked for when the first is fetched."""
    import tensorflow as tf

    held = _held(lambda: {key: np.array([os.fsencode(file.with_suffix(end)) for file in files()], object)
                          for key, end in (("image", ".jpg"), ("truth", ".png"))})  # fmt: skip

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        return {key: tf.map_fn(tf.io.read_file, tf.gather(names, indices)) for key, names in held().items()}

    return Source(size, fetch, name=lambda index: str(files()[index]))
