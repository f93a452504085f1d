"""The weight map of U-Net against a twin that measures every distance."""

import numpy as np
import pytest
from scipy import ndimage

from kerastoolkit.data.border_weights import border_weights
from kerastoolkit.experiment import InputError


def discs(size=96, count=14, seed=0):
    """A class map of discs of two classes, some of which touch, with ignored pixels."""
    generator, (y, x) = np.random.default_rng(seed), np.mgrid[:size, :size]
    class_map = np.zeros((size, size), np.uint8)
    for number in range(count):
        row, column, radius = generator.uniform(0, size, 2).tolist() + [generator.uniform(2, 10)]
        class_map[np.hypot(y - row, x - column) < radius] = 1 + number % 2
    class_map[40:44, 10:70] = 255
    return class_map


def slow_border_weights(class_map, w0, sigma, background=0):
    """The equation with the distances of all pixels to all cells."""
    distances = []
    for label in set(np.unique(class_map)) - {background, 255}:
        cells, count = ndimage.label(class_map == label)
        for number in range(1, count + 1):
            rows, columns = np.nonzero(cells == number)
            y, x = np.mgrid[: class_map.shape[0], : class_map.shape[1]]
            distances.append(np.hypot(y[..., None] - rows, x[..., None] - columns).min(axis=-1))
    first, second = np.sort(distances, axis=0)[:2]
    return np.where(class_map == background, w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2)), 0)


@pytest.mark.parametrize("sigma", [1.3, 5.0])
def test_border_weights_are_those_of_all_distances(sigma):
    class_map = discs()
    expected = slow_border_weights(class_map, 10, sigma)
    answer = border_weights(class_map, sigma=sigma)
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=10 * np.exp(-12.5))
    assert answer.dtype == np.float32 and expected.max() > 2 and (expected > 1).sum() > 5


def test_the_weight_of_a_gap_is_that_of_its_two_sides():
    # One pixel wide: d1 = d2 = 1; three wide: 1 + 3, 2 + 2.
    one, three = np.array([[1, 0, 1]], np.uint8), np.array([[1, 0, 0, 0, 1]], np.uint8)
    np.testing.assert_allclose(border_weights(one, w0=10, sigma=5), [[0, 10 * np.exp(-4 / 50), 0]], rtol=1e-6)
    np.testing.assert_allclose(border_weights(three, w0=2, sigma=3), [[0, *[2 * np.exp(-16 / 18)] * 3, 0]], rtol=1e-6)


def test_cells_and_ignored_pixels_have_no_border_weight():
    class_map = discs()
    weights = border_weights(class_map)
    assert not weights[class_map != 0].any() and weights[class_map == 0].any()


def test_ignored_pixels_are_no_cell():
    assert not border_weights(np.array([[1, 0, 255]], np.uint8)).any()


@pytest.mark.parametrize("cells", [0, 1])
def test_fewer_than_two_cells_have_no_border(cells):
    class_map = np.zeros((8, 8), np.uint8)
    class_map[2:4, 3 : 3 + cells] = 1
    np.testing.assert_array_equal(border_weights(class_map), np.zeros((8, 8)))


def test_cells_that_touch_by_a_corner_are_two():
    class_map = np.array([[1, 0], [0, 1]], np.uint8)
    np.testing.assert_allclose(border_weights(class_map)[0, 1], 10 * np.exp(-4 / 50), rtol=1e-6)


def test_neighbours_of_different_classes_are_two_cells():
    class_map = np.array([[1, 2, 0]], np.uint8)
    np.testing.assert_allclose(border_weights(class_map)[0, 2], 10 * np.exp(-9 / 50), rtol=1e-6)


def test_the_background_can_be_another_class():
    class_map = np.array([[0, 1, 0]], np.uint8)
    np.testing.assert_allclose(border_weights(class_map, background=1), [[0, 10 * np.exp(-4 / 50), 0]], rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan])
def test_a_width_that_is_not_above_0_is_refused(sigma):
    with pytest.raises(InputError, match=f"sigma must be above 0, got {sigma}"):
        border_weights(np.zeros((2, 2), np.uint8), sigma=sigma)
