"""Windows of large images: they cover each image side by side, and the mask of each is its image's."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.data.windows import _starts, image_windows, with_class_truths
from kerastoolkit.experiment import Source
from kerastoolkit.serving.class_maps import IGNORED, colour_coding, index_coding

SIZES = [(10, 25), (7, 8), (16, 16)]
COLOURS = {(10, 0, 0): 0, (0, 200, 0): 1, (7, 7, 7): 2}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pixels_of(contents):
    return np.asarray(Image.open(io.BytesIO(contents)))


@pytest.fixture
def examples():
    """Images whose first channel is their class; (images, class maps)."""
    generator = np.random.default_rng(0)
    maps = [generator.integers(0, 3, size, dtype=np.uint8) for size in SIZES]
    return [np.stack([each, *generator.integers(0, 256, (2, *each.shape), dtype=np.uint8)], axis=-1) for each in maps], maps


def source_of(images, truths):
    images, truths = (tf.constant([png(each) for each in group]) for group in (images, truths))

    def fetch(indices):
        return {"image": tf.gather(images, indices), "truth": tf.gather(truths, indices)}

    return Source(len(SIZES), fetch, name=lambda index: f"file {index}")


@pytest.mark.parametrize(
    ("size", "starts"), [(10, [0]), (9, [0]), (1, [0]), (11, [0, 1]), (20, [0, 10]), (25, [0, 7, 15])]
)
def test_windows_begin_so_that_they_cover_a_size_and_end_with_it(size, starts):
    assert _starts(size, 10).tolist() == starts


def test_windows_hold_every_pixel_of_every_image_with_its_class(examples):
    images, maps = examples
    windows = image_windows(source_of(images, maps), index_coding(3), 8, 10)
    assert windows.size == 2 * 3 + 1 * 1 + 2 * 2
    raw = {name: value.numpy() for name, value in windows.fetch(np.arange(windows.size)).items()}
    seen = {number: set() for number in range(len(SIZES))}
    for number, (image, truth) in enumerate(zip(raw["image"], raw["truth"], strict=True)):
        pixels, classes = pixels_of(image), pixels_of(truth)
        assert pixels.shape == (8, 10, 3) and classes.shape == (8, 10)
        known = classes != IGNORED
        np.testing.assert_array_equal(classes[known], pixels[known][:, 0])
        of = int(windows.name(number).split()[1])
        seen[of].update(map(tuple, pixels[known]))
    for number, image in enumerate(images):
        assert seen[number] == set(map(tuple, image.reshape(-1, 3)))


def test_a_window_is_black_and_without_class_beyond_a_smaller_image(examples):
    images, maps = examples
    windows = image_windows(source_of(images, maps), index_coding(3), 8, 10)
    raw = windows.fetch(np.array([6]))
    pixels, classes = pixels_of(raw["image"].numpy()[0]), pixels_of(raw["truth"].numpy()[0])
    np.testing.assert_array_equal(pixels[:7, :8], images[1])
    np.testing.assert_array_equal(classes[:7, :8], maps[1])
    assert not pixels[7:].any() and not pixels[:, 8:].any()
    assert (classes[7:] == IGNORED).all() and (classes[:, 8:] == IGNORED).all()


def test_masks_in_colours_become_classes_in_windows_and_in_whole_images(examples):
    images, maps = examples
    colours = np.array(list(COLOURS), np.uint8)
    source = source_of(images, [colours[each] for each in maps])
    whole = with_class_truths(source, colour_coding(COLOURS)).fetch(np.arange(3))
    for truth, expected in zip(whole["truth"].numpy(), maps, strict=True):
        np.testing.assert_array_equal(pixels_of(truth), expected)
    window = image_windows(source, colour_coding(COLOURS), 16, 16).fetch(np.array([3]))
    np.testing.assert_array_equal(pixels_of(window["truth"].numpy()[0]), maps[2])


def test_windows_are_fetched_in_the_graph_of_a_pipeline(examples):
    images, maps = examples
    windows = image_windows(source_of(images, maps), index_coding(3), 8, 10)
    batches = tf.data.Dataset.range(windows.size).batch(4).map(windows.fetch)
    assert sum(len(batch["image"]) for batch in batches) == windows.size
