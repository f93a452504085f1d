"""What is measured of reconstructed images and of codes, and the methods that stand beside an autoencoder."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastoolkit import charts
from kerastoolkit.experiment import Data
from kerastoolkit.serving.model import inner_layer

BATCH_SIZE = 250
# Numbers in the training images that principal components are fitted to: 256 MB, all of MNIST and a third of CIFAR-10.
NUMBERS_FOR_COMPONENTS = 64_000_000
IMAGES_FOR_CLASSIFIER = 10_000
SSIM_WINDOW = 11
SHOWN = 10
FILTERS_SHOWN = 100


def image_figures(clean: np.ndarray, rebuilt: np.ndarray) -> dict[str, float]:
    """How near images come to others, both (images, height, width, channels), 0..255: ``mean_figures`` of ``nearness``."""
    return mean_figures(*nearness(clean, rebuilt), int(np.prod(clean.shape[1:])))


def nearness(clean: np.ndarray, rebuilt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean squared error of intensities 0..1, structural similarity) of each image."""
    squared, similar = [], []
    window = min(SSIM_WINDOW, *((side - 1) // 2 * 2 + 1 for side in clean.shape[1:3]))
    for start in range(0, len(clean), BATCH_SIZE):
        one, other = (np.asarray(each[start : start + BATCH_SIZE], np.float32) / 255.0 for each in (clean, rebuilt))
        squared.append(np.square(one.astype(np.float64) - other).mean(axis=(1, 2, 3)))
        similar.append(_structural_similarity(one, other, window).numpy())
    return np.concatenate(squared), np.concatenate(similar)


def mean_figures(squared: np.ndarray, similar: np.ndarray, numbers: int) -> dict[str, float]:
    """The figures of images from what ``nearness`` says of each, and how many numbers an image has.

    squared_error_per_image and mean_squared_error are of intensities 0..1, the first summed over an image's numbers; psnr is in
    decibels, the mean over images of 10 log10(1 / mean squared error); ssim is the structural similarity of Wang et al. 2004,
    https://doi.org/10.1109/TIP.2003.819861, with its window of 11 x 11 pixels, or the largest odd one that an image holds.
    """
    return {
        "squared_error_per_image": float(squared.mean() * numbers),
        "mean_squared_error": float(squared.mean()),
        # What is equal to the last bit has no ratio: 120 decibels stand for it.
        "psnr": float(-10.0 * np.log10(np.maximum(squared, 1e-12)).mean()),
        "ssim": float(similar.mean(dtype=np.float64)),
    }


@functools.partial(tf.function, reduce_retracing=True, autograph=False)
def _structural_similarity(one: tf.Tensor, other: tf.Tensor, window: int) -> tf.Tensor:
    """``tf.image.ssim``, compiled: called as it is, it spends half of its time in Python."""
    return tf.image.ssim(one, other, max_val=1.0, filter_size=window)


def training_images(data: Data, most: int) -> tuple[np.ndarray, np.ndarray | None]:
    """At most that many training images, evenly spread: (images, height, width, channels) float32, 0..255, and their labels."""
    chosen = np.unique(np.linspace(0, data.train.size - 1, min(most, data.train.size)).astype(np.int64))
    batches = [data.train.fetch(tf.constant(part)) for part in np.array_split(chosen, -(-len(chosen) // BATCH_SIZE))]
    images = np.concatenate([np.asarray(batch["image"], np.float32) for batch in batches])
    return images, np.concatenate([np.asarray(batch["label"]) for batch in batches]) if "label" in batches[0] else None


def principal_components(data: Data, components: int) -> Any | None:
    """A fitted ``sklearn.decomposition.PCA`` of training images, flat, 0..1; None where it would lose nothing.

    By the covariance for as many small images as MNIST has; where images are few or large, mostly by random projections (Halko et
    al. 2011, https://doi.org/10.1137/090771806), for the covariance of photographs would take minutes and gigabytes.
    """
    from sklearn.decomposition import PCA

    numbers = int(np.prod(data.about["shape"]))
    images, _ = training_images(data, NUMBERS_FOR_COMPONENTS // numbers)
    if components >= min(numbers, len(images)):
        return None
    return PCA(components, svd_solver="auto", random_state=0).fit(images.reshape(len(images), -1) / 255.0)


def components_note(data: Data, components: Any) -> str:
    """What ``principal_components`` was fitted to."""
    return f"PCA: fitted to {components.n_samples_:,} of {data.train.size:,} training images"


def classifier_accuracy(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> float:
    """Share of test examples that a linear classifier is right about: logistic regression on standardised features."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 300 rounds are the definition here
        return float(model.fit(flat(train), train_labels).score(flat(test), test_labels))


def flat(images: np.ndarray) -> np.ndarray:
    """(examples, ...) -> (examples, numbers)."""
    return images.reshape(len(images), -1)


def in_batches(model: keras.Model) -> Callable[..., dict[str, np.ndarray]]:
    """A model of named tensors as a function of NumPy arrays (by name), run a few hundred examples at a time."""
    names = [tensor.name for tensor in model.inputs]
    compiled = tf.function(lambda tensors: model(tensors if len(names) > 1 else tensors[names[0]]), reduce_retracing=True,
                           autograph=False)  # fmt: skip

    def run(batch_size: int = BATCH_SIZE, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        size = len(next(iter(arrays.values())))
        found = []
        for start in range(0, size, batch_size):
            some = slice(start, start + batch_size)
            part = {tensor.name: tf.cast(arrays[tensor.name][some], tensor.dtype) for tensor in model.inputs}
            found.append({name: value.numpy() for name, value in compiled(part).items()})
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    return run


def gathered(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, np.ndarray]:
    """All raw examples and answers of a split, by name; the answers' image stands for the raw one."""
    parts: dict[str, list[np.ndarray]] = {}
    for raw, answers in batches:
        for name, value in {**raw, **answers}.items():
            parts.setdefault(name, []).append(value)
    return {name: np.concatenate(values) for name, values in parts.items()}


def first_filters(serving: keras.Model) -> Any | None:
    """A picture of what the encoder's first units look for: each filter in grey or colour, by its own range; None if too many
    channels to be seen."""
    encoder = inner_layer(serving, "encoder")
    layer = next(each for each in encoder.layers if isinstance(each, (keras.layers.Dense, keras.layers.Conv2D)))
    kernel = np.asarray(layer.kernel)  # (numbers, units) or (rows, columns, channels, units)
    shape = encoder.inputs[0].shape[1:]
    if kernel.ndim == 2:
        kernel = kernel.reshape(*shape, -1)
    if kernel.shape[2] not in (1, 3):
        return None
    kernels = np.moveaxis(kernel, -1, 0)
    strongest = np.argsort(-np.square(kernels).sum(axis=(1, 2, 3)), kind="stable")[:FILTERS_SHOWN]
    kernels = kernels[np.sort(strongest)]
    scale = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    return charts.mosaic(square(127.5 + 127.5 * kernels / np.maximum(scale, 1e-12)), f"filters of {layer.name}; grey is 0")


def square(images: np.ndarray) -> np.ndarray:
    """(images, height, width, channels) -> (rows, columns, ...), about as many of each, the last ones white."""
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    filled = np.full((rows * columns, *images.shape[1:]), 255.0)
    filled[: len(images)] = images
    return filled.reshape(rows, columns, *images.shape[1:])


def evenly(size: int, wanted: int) -> np.ndarray:
    """Up to ``wanted`` numbers of 0 .. size - 1, evenly spread."""
    return np.unique(np.linspace(0, size - 1, min(size, wanted)).astype(np.int64))


class Spread:
    """Of rows of images that come one after the other, a few that are evenly spread; how many come need not be known."""

    def __init__(self, wanted: int):
        self.wanted, self.step, self.seen, self.found = wanted, 1, 0, []

    def offer(self, row: dict[str, np.ndarray]) -> None:
        if self.seen % self.step == 0:
            self.found.append({name: image.copy() for name, image in row.items()})  # not a view that holds its whole batch
        self.seen += 1
        if len(self.found) == 4 * self.wanted:
            self.found, self.step = self.found[::2], 2 * self.step

    def kept(self) -> list[dict[str, np.ndarray]]:
        return [self.found[number] for number in evenly(len(self.found), self.wanted)]


def latent_space(codes: np.ndarray, labels: np.ndarray | None, classes: Any) -> dict[str, Any]:
    """The codes of a split coloured by class: of two numbers as they are, of more their first two principal components."""
    from sklearn.decomposition import PCA

    if labels is None or min(codes.shape) < 2:
        return {}
    if codes.shape[1] == 2:
        return {"latent_space": charts.points_by_class(codes, labels, classes, "codes", ("code 1", "code 2"))}
    points, names = PCA(2).fit_transform(codes), ("first principal component", "second")
    return {"latent_space": charts.points_by_class(points, labels, classes, f"codes of {codes.shape[1]} numbers", names)}
