"""Made pictures of coloured shapes with exact masks: a small task of segmentation whose truths are right by construction.

A picture has one to five circles, squares, triangles and stars of any colour, size and angle on a background of a paler colour,
some in front of others and some partly outside, with noise. All have surfaces of the same kind, shaded and striped, so that only
its outline tells what a shape is. No library draws them, whose next version may draw otherwise: a polygon is what lines
leave of the plane, and a pixel's class is that of the foremost shape that covers its centre.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.boxed_images import BoxedImage, boxed_image, gather_objects
from kerastoolkit.data.images import _held
from kerastoolkit.data.instance_images import gather_instances
from kerastoolkit.data.png_files import png_bytes
from kerastoolkit.experiment import Source
from kerastoolkit.metrics.run_lengths import encoded_mask

SIZES = {"train": 2_000, "validation": 200, "test": 500}
SEED = 20_150_518
CLASSES = ("background", "circle", "square", "triangle", "star")
PALETTE = ((40, 40, 40), (230, 80, 60), (70, 140, 230), (90, 190, 90), (240, 190, 50))
PICTURES = ((96, 96), (96, 96), (96, 96), (80, 112))  # height and width of a picture, by the remainder of its number
# Lines around the centre, their distance from it, how many of them a point inside may lie beyond (a star's tips lie beyond one),
# and how far the corners reach. Distances are in units of a shape's size; shapes of size 1 have areas of 2.2 to 2.6.
POLYGONS = {"square": (4, 0.8, 0, 1.132), "triangle": (3, 0.65, 0, 1.3), "star": (5, 0.45, 1, 1.457)}
RADIUS = 0.9  # of a circle, in the same units
SMALLEST, LARGEST = 10.0, 24.0  # size in pixels; the smallest circles are 18 wide
MOST_SHAPES = 5
LEAST_SEEN = 16  # pixels of a shape that has a box
PLACES_TRIED, COLOURS_TRIED = 30, 8
FINER = 3  # samples of a pixel in each direction; of an odd number one is in its centre
SHADE, STRIPES, NOISE = 30, 12, 12  # grey levels up and down


def shapes() -> tuple[dict[str, Source], dict[str, Any]]:
    """The splits train, validation and test, and what is known of the pictures.

    Raw examples: image () string and truth () string, the bytes of PNG files of one size. A split's are made, and held in memory,
    when it is first fetched from.
    """
    from kerastoolkit.serving.class_maps import index_coding

    about = {"classes": CLASSES, "palette": PALETTE, "coding": index_coding(len(CLASSES)), "shape": None, "channels": 3}
    # Computed here over the 2,000 training pictures.
    about |= {"mean": (127.49, 128.12, 128.03), "std": (54.18, 55.10, 54.53)}
    return {split: _source(split, size) for split, size in SIZES.items()}, about


def made_shape_image(split: str, number: int) -> tuple[np.ndarray, np.ndarray, list[tuple[int, np.ndarray]]]:
    """One picture: always the same for a split and a number.

    Args:
        split: train, validation or test.
        number: from 0 on; there are as many as one likes.
    Returns:
        pixels (height, width, 3) uint8, class map (height, width) uint8, and for each shape, the foremost last, its class and
        where it is seen (height, width) bool.
    """
    random = np.random.default_rng((SEED, list(SIZES).index(split), number))
    height, width = PICTURES[number % len(PICTURES)]
    colours = random.uniform(64, 192, (1, 3))  # pale, so that shapes of another colour are seen against it
    pixels = _surface(random, colours[0], height, width)
    foremost = np.zeros((height, width), np.uint8)  # the place in ``labels`` of the shape that is seen
    labels = [0]
    for label, size, centre in _places(random, height, width):
        box, inside = _covered(label, size, centre, random.uniform(0, 2 * np.pi), height, width)
        foremost[box][inside[FINER // 2 :: FINER, FINER // 2 :: FINER]] = len(labels)
        labels.append(label)
        colours = np.concatenate([colours, [_other_colour(random, colours)]])
        behind = pixels[box]
        share = inside.reshape(len(behind), FINER, -1, FINER).mean((1, 3), dtype=np.float32)[..., None]
        behind += share * (_surface(random, colours[-1], *behind.shape[:2]) - behind)
    pixels += random.integers(-NOISE, NOISE + 1, pixels.shape, np.int8)
    seen = [(label, foremost == place) for place, label in enumerate(labels)]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), np.array(labels, np.uint8)[foremost], seen[1:]


def _places(random: np.random.Generator, height: int, width: int) -> Iterator[tuple[int, float, np.ndarray]]:
    """Label, size and centre (y, x) of shapes of which each is seen for the most part, fewer where there is no room."""
    placed = np.zeros((0, 3))
    for _ in range(random.integers(1, MOST_SHAPES + 1)):
        label, size = int(random.integers(1, len(CLASSES))), random.uniform(SMALLEST, LARGEST)
        within = 0.5 * size  # the centre stays so far from the border
        centres = random.uniform((within, within), (height - within, width - within), (PLACES_TRIED, 2))
        apart = np.hypot(*np.moveaxis(centres[:, None] - placed[:, :2], -1, 0))  # (tried, placed)
        free = (apart > np.maximum(size, placed[:, 2]) + 0.4 * np.minimum(size, placed[:, 2])).all(1)
        if free.any():
            centre = centres[np.argmax(free)]
            placed = np.concatenate([placed, [[*centre, size]]])
            yield label, size, centre


def _covered(label: int, size: float, centre: np.ndarray, angle: float, height: int, width: int) -> tuple[Any, np.ndarray]:
    """A box of pixels that holds a shape, as two slices, and which of the box's samples lie in the shape, (y, x) bool."""
    sides, distance, beyond, reach = POLYGONS.get(CLASSES[label], (0, RADIUS, 0, RADIUS))
    first = np.maximum(np.floor(centre - reach * size), 0).astype(int)
    end = np.minimum(np.ceil(centre + reach * size), (height, width)).astype(int)
    # The pixel in row i and column j has its centre at (i + 1/2, j + 1/2).
    y, x = (low + (np.arange((high - low) * FINER) + 0.5) / FINER - middle
            for low, high, middle in zip(first, end, centre, strict=True))  # fmt: skip
    if not sides:
        inside = y[:, None] ** 2 + x**2 <= (distance * size) ** 2
    else:
        angles = angle + 2 * np.pi / sides * np.arange(sides)
        lines = np.sin(angles)[:, None, None] * y[:, None] + np.cos(angles)[:, None, None] * x > distance * size
        inside = lines.sum(0, dtype=np.uint8) <= beyond
    return tuple(map(slice, first, end)), inside


def _surface(random: np.random.Generator, colour: np.ndarray, height: int, width: int) -> np.ndarray:
    """A colour that changes from one end to the other, with stripes; (height, width, 3) float32."""
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    down, right = random.uniform(-SHADE / 2, SHADE / 2, (2, 3)).astype(np.float32)
    turn, waves, phase = random.uniform((0, 5, 0), (2 * np.pi, 20, 2 * np.pi))
    stripes = np.float32(waves * np.sin(turn)) * y + np.float32(waves * np.cos(turn)) * x + np.float32(phase)
    surface = (colour.astype(np.float32) + y * down)[:, None] + (x[:, None] * right)  # (height, width, 3)
    surface += (np.float32(STRIPES) * np.sin(stripes))[..., None]
    return surface


def _other_colour(random: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """Of some random colours the one that is farthest from all of ``colours``."""
    tried = random.uniform(0, 255, (COLOURS_TRIED, 3))
    return tried[np.argmax(np.linalg.norm(tried[:, None] - colours, axis=-1).min(1))]


def _source(split: str, size: int) -> Source:
    import tensorflow as tf

    held = _held(lambda: _encoded(split, size))

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        return {key: tf.gather(contents, indices) for key, contents in held().items()}

    return Source(size, fetch, name=lambda number: f"made picture {number} of {split}")


def _encoded(split: str, size: int) -> dict[str, np.ndarray]:
    pictures = (made_shape_image(split, number) for number in range(size))
    images, truths = zip(*((png_bytes(pixels), png_bytes(class_map)) for pixels, class_map, _ in pictures), strict=True)
    return {"image": np.array(images, object), "truth": np.array(truths, object)}


def boxed_shapes(labels: Sequence[int], limit: int | None = None) -> dict[str, Source]:
    """The splits train, validation and test of the same pictures, with boxes around what is seen of the shapes.

    Raw examples as ``boxed_images`` has them; areas are those of what is seen. A shape of which almost nothing is seen has no
    box.

    Args:
        labels: of circle, square, triangle and star; -1 where one is left out.
        limit: the first so many pictures of each split; by default all.
    """
    return {split: _boxed_source(split, size, labels, gather_objects) for split, size in _sizes(limit).items()}


def instance_shapes(labels: Sequence[int], height: int, width: int, limit: int | None = None) -> dict[str, Source]:
    """The same with the mask of what is seen of each shape; raw examples as ``instance_images`` has them.

    Args:
        height, width: of the masks, in pixels.
        labels, limit: as those of ``boxed_shapes``.
    """
    gather = {split: functools.partial(gather_instances, height=height, width=width, masks=split != "test") for split in SIZES}
    return {split: _boxed_source(split, size, labels, gather[split]) for split, size in _sizes(limit).items()}


def _sizes(limit: int | None) -> dict[str, int]:
    return {split: size if limit is None else min(limit, size) for split, size in SIZES.items()}


def _boxed_source(split: str, size: int, labels: Sequence[int], gather: Callable[..., Any]) -> Source:
    """A source of pictures and of what ``gather`` makes of their objects."""
    import tensorflow as tf

    @functools.cache
    def made() -> list[tuple[bytes, BoxedImage]]:
        found = []
        for number in range(size):
            pixels, _, seen = made_shape_image(split, number)
            kept = [(labels[label - 1], mask) for label, mask in seen
                    if labels[label - 1] >= 0 and mask.sum() >= LEAST_SEEN]  # fmt: skip
            objects = [(label, _box(mask), False, mask.sum()) for label, mask in kept]
            picture = boxed_image(Path(f"{number}.png"), *pixels.shape[:2], objects, [encoded_mask(mask) for _, mask in kept])
            found.append((png_bytes(pixels), picture))
        return found

    images, objects = _held(lambda: [image for image, _ in made()]), gather(lambda: [each for _, each in made()])

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        return {"image": tf.gather(images(), indices), **objects(indices)}

    return Source(size, fetch, name=lambda number: f"made picture {number} of {split}")


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x_min, y_min, x_max and y_max of the pixels that are set."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
