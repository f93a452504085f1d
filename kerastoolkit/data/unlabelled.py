"""Images of one size whose labels are not needed: for autoencoders, with or without noise on what is scored."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerastoolkit.data.image_folders import flat_folder, has_class_folders
from kerastoolkit.data.images import KNOWN, labelled_images
from kerastoolkit.experiment import Data, InputError, Source, described
from kerastoolkit.layers.corruption import check_noise, corrupt
from kerastoolkit.serving.images import decode_image, resize_images
from kerastoolkit.serving.random_numbers import normals, uniforms

FOLDER_SIZE = 32
# Seeds of the noise, so that a validation image and a test image of one number have different noise.
_NOISE_SEED, _VALIDATION_SEED = 20_080_705, 20_080_706


@described
def unlabelled_images(data: str, size: int | None = None, validation: float | None = None, noise: str | None = None,
                      levels: tuple[float, ...] = ()) -> Data:  # fmt: skip
    """A named data set, ``sample`` (the digits), a folder of images, or one of class folders, brought to one size.

    Raw examples: image (height, width, channels), 0..255, with one channel where all images of a folder are grey; label () int64
    where the data has labels. With ``noise`` also clean, the image without it, and level () float32: training
    images are left clean, for there the network makes the noise; validation images have the levels in turn; the test split holds
    each test image once at every level. What noise an image has at a level is always the same.

    Args:
        data: a name or a path.
        size: height and width that the images are brought to, in pixels; stretched if the aspect ratio differs. None for a named
            set's own, and for 32 in a folder.
        validation: how much of the training images is cut for validation: a fraction below 1, a count, or 0; by default 5,000
            of a large named set, and a tenth of the digits or of a folder.
        noise: None, or a kind that ``kerastoolkit.layers.Corruption`` knows.
        levels: of the noise, one or more.
    Raises:
        InputError: no such data, something is wrong in the folder, or an argument is not one of the above.
    """
    if size is not None and size < 1:
        raise InputError(f"size must be at least 1, got {size}")
    if data not in KNOWN and Path(data).expanduser().is_dir() and not has_class_folders(data):
        found = flat_folder(data, **({} if validation is None else {"validation": validation}))
    else:
        found = labelled_images(data, validation)
    channels = 1 if found.about.get("grey") else found.about["channels"]
    shape = (size, size, channels) if size else found.about["shape"] or (FOLDER_SIZE, FOLDER_SIZE, channels)
    sources = {name: found.split(name) for name in ("train", "validation", "test")}
    if found.encoded:
        sources = {name: _decoded(source, shape) for name, source in sources.items()}
    elif shape != found.about["shape"]:
        sources = {name: _resized(source, shape) for name, source in sources.items()}
    about = {name: found.about[name] for name in ("classes", "skipped") if name in found.about}
    about |= {"shape": tuple(shape), "channels": shape[2]}
    if noise is not None:
        levels = [float(level) for level in levels]
        _check(noise, levels)
        about |= {"noise": noise, "levels": levels}
        train = sources["train"]
        sources = {
            "train": dataclasses.replace(train, fetch=lambda indices: _clean(train.fetch(indices))),
            "validation": _noisy(sources["validation"], noise, levels, repeat=False),
            "test": _noisy(sources["test"], noise, levels, repeat=True),
        }
    return Data(found.name, **sources, inputs=("image",), encoded=False, about=about, notes=found.notes)


def _check(noise: str, levels: list[float]) -> None:
    if not levels:
        raise InputError("levels must be one or more")
    try:
        check_noise(noise, *levels)
    except ValueError as error:
        raise InputError(str(error)) from None


def _decoded(source: Source, shape: tuple[int, int, int]) -> Source:
    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        raw = source.fetch(indices)
        specification = tf.TensorSpec(shape, tf.float32)
        return {**raw, "image": tf.map_fn(lambda one: decode_image(one, *shape), raw["image"], fn_output_signature=specification)}

    return dataclasses.replace(source, fetch=fetch)


def _resized(source: Source, shape: tuple[int, int, int]) -> Source:
    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        raw = source.fetch(indices)
        return {**raw, "image": resize_images(raw["image"], *shape[:2])}

    return dataclasses.replace(source, fetch=fetch)


def _clean(raw: dict[str, Any]) -> dict[str, Any]:
    return {**raw, "clean": tf.cast(raw["image"], tf.float32)}


def _noisy(source: Source, noise: str, levels: list[float], *, repeat: bool) -> Source:
    """Each example at all levels, one level after the other, or, without ``repeat``, each once with the levels in turn."""
    seed = _NOISE_SEED if repeat else _VALIDATION_SEED

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        indices = tf.cast(indices, tf.int64)
        numbers, which = (indices % source.size, indices // source.size) if repeat else (indices, indices % len(levels))
        raw = _clean(source.fetch(numbers))
        level = tf.gather(tf.constant(levels, tf.float32), which)
        sizes = raw["clean"].shape[1:]
        seeds = tf.cast(tf.stack([indices, tf.fill(tf.shape(indices), tf.constant(seed, tf.int64))], axis=1), tf.int32)
        random = {
            "normal": lambda: normals(seeds, tuple(sizes)),
            "uniform": lambda: uniforms(seeds, (*sizes[:2], 1)),
        }
        noisy = 255.0 * corrupt(raw["clean"] / 255.0, noise, level[:, None, None, None], **random)
        return {**raw, "image": noisy, "level": level}

    name = None if source.name is None else lambda index: source.name(index % source.size)
    return Source(source.size * (len(levels) if repeat else 1), fetch, name=name)
