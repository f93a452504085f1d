"""Images with one label each: named data sets, and folders of one's own.

The named sets are small and are held in memory once a split is first fetched from; nothing is read before
that, and the test images not before the test split itself is used. What is known of them (sizes, classes,
means) stands here, so that a model is built without reading anything.
"""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerastoolkit.data.image_folders import image_folder
from kerastoolkit.data.prepared import prepared_builder
from kerastoolkit.data.splits import number_to_cut, stratified
from kerastoolkit.experiment import Data, InputError, Source, described

# Images (examples, height, width, channels) uint8 and labels (examples,) int64.
Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Facts:
    """What is known of a set of TensorFlow Datasets: sizes of its splits, and what ``Data.about`` says."""

    train: int
    test: int
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


_DIGITS = tuple("0123456789")
_CLOTHES = tuple("T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(","))
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# The 100 fine classes, in the order of their labels.
_CIFAR100 = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
    can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
    pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
    seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table
    tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
    worm""".split()
)
# Means and standard deviations: of MNIST and CIFAR-10 computed here over all training images; of the others
# the figures in common use (Fashion-MNIST: 0.2860 and 0.3530 of the range 0..1).
_SETS = {
    "mnist": _Facts(60_000, 10_000, (28, 28, 1), _DIGITS, (33.318,), (78.567,)),
    "fashion_mnist": _Facts(60_000, 10_000, (28, 28, 1), _CLOTHES, (72.93,), (90.02,)),
    "cifar10": _Facts(
        50_000, 10_000, (32, 32, 3), _CIFAR10, (125.307, 122.950, 113.865), (62.993, 62.089, 66.705)
    ),
    "cifar100": _Facts(50_000, 10_000, (32, 32, 3), _CIFAR100, (129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
}


@described
def digits(*, validation: float = 0.1) -> Data:
    """Handwritten digits of 8 x 8 pixels, 1,797 in 10 classes; comes with scikit-learn (UCI, CC BY 4.0).

    The 17 grey levels 0..16 are spread over 0..255. One fifth, 360 images, is the test split.

    Args:
        validation: how much of the other 1,437 is cut for validation: a fraction, a count, or 0.
    """
    read = functools.cache(_read_digits)
    size, test_size = 1797, 360

    def rows() -> tuple[np.ndarray, np.ndarray]:
        test = stratified(read()[1], test_size, _order(size))
        return np.flatnonzero(~test), np.flatnonzero(test)

    def part(number: int) -> Callable[[], Arrays]:
        return lambda: tuple(array[rows()[number]] for array in read())

    train, held_out = _train_and_validation(part(0), size - test_size, validation)
    # Computed here over the 1,437 images outside the test split.
    about = _about((8, 8, 1), _DIGITS, mean=(77.760,), std=(95.801,))
    test = _source(_held(part(1)), test_size)
    return Data("digits", train, held_out, test, inputs=("image",), encoded=False, about=about)


@described
def mnist(*, validation: float = 5_000, data_dir: str | None = None) -> Data:
    """MNIST: 70,000 handwritten digits of 28 x 28 pixels in 10 classes (LeCun et al. 1998)."""
    return _prepared_set("mnist", validation, data_dir)


@described
def fashion_mnist(*, validation: float = 5_000, data_dir: str | None = None) -> Data:
    """Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28 pixels, 10 classes (Xiao et al. 2017, MIT)."""
    return _prepared_set("fashion_mnist", validation, data_dir)


@described
def cifar10(*, validation: float = 5_000, data_dir: str | None = None) -> Data:
    """CIFAR-10: 60,000 colour photographs of 32 x 32 pixels in 10 classes (Krizhevsky 2009)."""
    return _prepared_set("cifar10", validation, data_dir)


@described
def cifar100(*, validation: float = 5_000, data_dir: str | None = None) -> Data:
    """CIFAR-100: 60,000 colour photographs of 32 x 32 pixels in 100 classes (Krizhevsky 2009)."""
    return _prepared_set("cifar100", validation, data_dir)


# The named data sets, and ``sample``.
KNOWN = {make.__name__: make for make in (digits, mnist, fashion_mnist, cifar10, cifar100)}
KNOWN["sample"] = digits


@described
def labelled_images(data: str, validation: float | None = None) -> Data:
    """A named data set, ``sample`` (the digits), or a folder of class folders of one's own.

    Args:
        data: a name or a path; what ``image_folder`` says of the layout holds for a path.
        validation: how much of the training images is cut for validation: a fraction below 1, a count, or 0
            to train on all of them; by default 5,000 of a large named set, and a tenth of the digits or of a
            folder.
    Raises:
        InputError: no such name and no such folder, or something is wrong in the folder.
    """
    chosen = {} if validation is None else {"validation": validation}
    if data in KNOWN:
        return KNOWN[data](**chosen)
    if os.path.exists(data) or os.sep in data:
        return image_folder(data, **chosen)
    raise _unknown(data, ", or a folder of class folders")


def prepare(name: str, data_dir: str | None = None) -> str:
    """Downloads a named data set and writes it where it is found later.

    Args:
        name: one of the named sets.
        data_dir: where to; by default where TensorFlow Datasets looks: TFDS_DATA_DIR or
            ~/tensorflow_datasets.
    Returns:
        a sentence that says where it is.
    Raises:
        InputError: no such name, or it cannot be fetched.
    """
    if name in _SETS:
        return f"{name} is in {prepared_builder(name, data_dir).data_path}"
    if name in KNOWN:
        return f"{name} comes with scikit-learn: nothing to prepare"
    raise _unknown(name)


def inspect(data: Data, split: str = "train") -> tuple[list[dict[str, Any]], Any]:
    """Counts the images of each class in a split, or all where there are no classes, and draws up to 24 of them.

    Returns:
        rows (class, images, share), or one with images alone, and a matplotlib Figure.
    Raises:
        InputError: the split is empty or has another name.
    """
    import tensorflow as tf
    from matplotlib.figure import Figure

    from kerastoolkit.serving.images import decode_image

    source, classes = data.split(split), data.about.get("classes")
    if source.size == 0:
        raise InputError(f"the {split} split of {data.name} is empty")
    if classes is None:
        rows = [{"images": source.size}]
    else:
        counts = data.about["counts"][split] if "counts" in data.about else _counts(source, len(classes))
        rows = [
            {"class": name, "images": int(count), "share": f"{count / source.size:.1%}"}
            for name, count in zip(classes, counts, strict=True)
        ]
    shown = np.linspace(0, source.size - 1, num=min(24, source.size)).astype(np.int64)
    batch = source.fetch(tf.constant(shown))
    columns = min(8, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(1.4 * columns, 1.6 * lines), layout="constrained")
    for axes in figure.subplots(lines, columns, squeeze=False).flat:
        axes.axis("off")
    for number, (axes, image) in enumerate(zip(figure.axes, batch["image"], strict=False)):
        pixels = decode_image(image, 128, 128, data.about["channels"]) if data.encoded else image
        axes.imshow(np.squeeze(pixels).astype(np.uint8), cmap="gray", vmin=0, vmax=255)
        if classes is not None:
            axes.set_title(classes[int(batch["label"][number])], fontsize=8)
    return rows, figure


def _counts(source: Source, classes: int) -> np.ndarray:
    numbers = np.array_split(np.arange(source.size), -(-source.size // 5_000))
    return sum(np.bincount(source.fetch(part)["label"].numpy(), minlength=classes) for part in numbers)


def _unknown(name: str, otherwise: str = "") -> InputError:
    names = sorted(KNOWN)
    closest = difflib.get_close_matches(name, names, n=1)
    guess = f" (did you mean {closest[0]}?)" if closest else ""
    return InputError(f"unknown image data set {name}{guess}: choose {', '.join(names)}{otherwise}")


def _prepared_set(name: str, validation: float, data_dir: str | None) -> Data:
    facts = _SETS[name]

    def reader(split: str, size: int) -> Callable[[], Arrays]:
        return lambda: _read_prepared(name, split, data_dir, size)

    train, held_out = _train_and_validation(reader("train", facts.train), facts.train, validation)
    test = _source(_held(reader("test", facts.test)), facts.test)
    about = _about(facts.shape, facts.classes, facts.mean, facts.std)
    return Data(name, train, held_out, test, inputs=("image",), encoded=False, about=about)


def _about(shape: tuple[int, int, int], classes: tuple[str, ...], mean: Any, std: Any) -> dict[str, Any]:
    return {"classes": classes, "shape": shape, "channels": shape[2], "mean": mean, "std": std}


def _train_and_validation(read: Callable[[], Arrays], size: int, share: float) -> tuple[Source, Source]:
    """Sources over one pair of arrays, read once; which rows are whose follows from the labels alone."""
    count = number_to_cut(share, size, name="validation")
    held = _held(read)

    def part(wanted: bool) -> Callable[[], np.ndarray]:
        return lambda: np.flatnonzero(stratified(held()[1].numpy(), count, _order(size)) == wanted)

    return _source(held, size - count, part(False)), _source(held, count, part(True))


def _order(size: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(size)


def _held(read: Callable[[], Any]) -> Callable[[], Any]:
    """Arrays -> the same as tensors that live outside any graph and are made when they are first asked for.

    A graph then refers to one tensor in main memory, where a constant would be copied into every graph.
    """

    @functools.cache
    def tensors() -> Any:
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU:0"):
            return tf.nest.map_structure(tf.constant, read())

    return tensors


def _source(held: Callable[[], Any], size: int, rows: Callable[[], np.ndarray] | None = None) -> Source:
    """Examples gathered from tensors, whole batches at a time; ``rows`` says which, by default all."""
    import tensorflow as tf

    chosen = None if rows is None else _held(rows)

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        images, labels = held()
        if chosen is not None:
            indices = tf.gather(chosen(), indices)
        return {"image": tf.gather(images, indices), "label": tf.gather(labels, indices)}

    return Source(size, fetch)


def _read_digits() -> Arrays:
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.round(found.images[..., None] * (255 / 16)).astype(np.uint8), found.target.astype(np.int64)


def _read_prepared(name: str, split: str, data_dir: str | None, size: int) -> Arrays:
    """All images and labels of a split of a TensorFlow data set, in the order in which they are stored."""
    import tensorflow as tf

    builder = prepared_builder(name, data_dir)
    stored = builder.as_dataset(split=split, shuffle_files=False)
    options = tf.data.Options()
    options.autotune.enabled = False  # an iterator's end can wait for it for seconds
    pairs = stored.map(lambda one: (one["image"], one["label"]), num_parallel_calls=os.cpu_count())
    images, labels = zip(*pairs.batch(1_000).prefetch(2).with_options(options).as_numpy_iterator(), strict=True)
    images, labels = np.concatenate(images), np.concatenate(labels)
    if len(labels) != size:
        found = f"got {len(labels):,} in {builder.data_path}"
        raise InputError(f"{name} must have {size:,} {split} images, {found}")
    return images, labels
