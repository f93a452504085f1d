"""RoIAlign against torchvision's algorithm in loops, by TensorFlow's kernel and by a table of neighbours."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.regions import alignment
from kerastoolkit.regions.alignment import pyramid_level, roi_align

SIZES = [(9, 13), (5, 7), (3, 4), (1, 1)]  # of the maps of several levels


@pytest.fixture(params=["kernel", "table"])
def way(request, monkeypatch):
    """TensorFlow's way, then that of the other backends."""
    if request.param == "table":
        monkeypatch.setattr(alignment, "_cropped", alignment._gathered)
    return request.param


def bilinear(one, y, x):
    height, width = one.shape[:2]
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0
    y, x = max(y, 0), max(x, 0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    y, x = y - top if top < bottom else 0, x - left if left < right else 0
    return ((1 - y) * (1 - x) * one[top, left] + (1 - y) * x * one[top, right]
            + y * (1 - x) * one[bottom, left] + y * x * one[bottom, right])  # fmt: skip


def slow_roi_align(maps, boxes, images, level, size, aligned):
    """torchvision's roi_align with a sampling ratio of 2, sample by sample."""
    found = np.zeros((len(boxes), size, size, maps[0].shape[-1]))
    for number, (left, top, right, bottom) in enumerate(np.array(boxes, "float64")):
        one = maps[level[number]][images[number]].astype("float64")
        width, height = right - left, bottom - top
        if aligned:
            left, top = left - 0.5, top - 0.5
        else:
            width, height = max(width, 1), max(height, 1)
        for row, column, i, j in np.ndindex(size, size, 2, 2):
            y, x = top + (row + (i + 0.5) / 2) * height / size, left + (column + (j + 0.5) / 2) * width / size
            found[number, row, column] += bilinear(one, y, x) / 4
    return found


def random_maps(images=3, channels=2, dtype="float32"):
    random = np.random.default_rng(0)
    return [random.uniform(0, 255, (images, *size, channels)).astype(dtype) for size in SIZES]


def random_boxes(n=24, seed=0):
    """Boxes of all images and levels, within the map, partly outside, far outside and without area."""
    random = np.random.default_rng(seed)
    images, level = random.integers(0, 3, n).astype("int32"), (np.arange(n) % len(SIZES)).astype("int32")
    extents = np.array(SIZES)[level][:, ::-1]
    corners = random.uniform(-0.3, 1.3, (n, 2, 2)) * extents[:, None]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes[4:8, 2:] = boxes[4:8, :2]
    boxes[8:12, 3] = boxes[8:12, 1] + 0.3
    boxes[12:16] += 100
    return boxes.astype("float32"), images, level


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_bins_are_those_of_torchvision_sample_by_sample(way, size, aligned):
    maps, (boxes, images, level) = random_maps(), random_boxes()
    expected = slow_roi_align(maps, boxes, images, level, size, aligned)
    assert not expected[12:16].any() and np.count_nonzero(expected) > expected.size / 2
    found = roi_align(maps, boxes, images, level, size, aligned=aligned)
    assert found.shape == (24, size, size, 2) and found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-3)


def test_a_box_of_whole_pixels_gives_the_means_of_its_pixels(way):
    # Centres at halves: 2 x 2 bins of 2 x 2 pixels, each sample at a pixel's centre.
    ramp = np.arange(30, dtype="float32").reshape(1, 5, 6, 1)
    found = roi_align([ramp], tf.constant([[1.0, 0, 5, 4]]), tf.constant([0]), tf.constant([0]), 2)
    np.testing.assert_allclose(found[0, ..., 0], [[(1 + 2 + 7 + 8) / 4, 5.5 + 1], [4.5 + 12, 6.5 + 12]], rtol=1e-5)


def test_centres_at_whole_numbers_are_half_a_pixel_off(way):
    # From 1 on to 3: samples at 1.5 and 2.5 across, and as far down.
    ramp = np.arange(30, dtype="float32").reshape(1, 5, 6, 1)
    box, zero = tf.constant([[1.0, 1, 3, 3]]), tf.constant([0])
    np.testing.assert_allclose(roi_align([ramp], box, zero, zero, 1, aligned=False), [[[[2 + 2 * 6]]]], rtol=1e-5)
    np.testing.assert_allclose(roi_align([ramp], box, zero, zero, 1, aligned=True), [[[[1.5 + 1.5 * 6]]]], rtol=1e-5)


def test_boxes_smaller_than_a_pixel_are_a_pixel_wide_unless_aligned(way):
    ramp = np.arange(30, dtype="float32").reshape(1, 5, 6, 1)
    boxes, zero = tf.constant([[1.0, 1, 1, 1], [1, 1, 2, 2]]), tf.constant([0, 0])
    one, other = roi_align([ramp], boxes, zero, zero, 2, aligned=False)
    np.testing.assert_array_equal(one, other)
    point = roi_align([ramp], boxes[:1] + 0.5, zero[:1], zero[:1], 2)
    np.testing.assert_allclose(point, np.full((1, 2, 2, 1), 1 + 6), rtol=1e-5)


def test_samples_up_to_a_pixel_beyond_the_border_take_its_value_and_others_are_0(way):
    # Samples across at -1.25, -0.75, -0.25 and 0.25 of a map of fives; down all lie within it.
    fives = np.full((1, 3, 3, 1), 5, "float32")
    found = roi_align([fives], tf.constant([[-1.0, 1, 1, 2]]), tf.constant([0]), tf.constant([0]), 2)
    np.testing.assert_allclose(found[0, ..., 0], [[2.5, 5]] * 2, rtol=1e-6)
    # And at 2.75, 3.25, 3.75 and 4.25: beyond 3 there is nothing.
    found = roi_align([fives], tf.constant([[3.0, 1, 5, 2]]), tf.constant([0]), tf.constant([0]), 2)
    np.testing.assert_allclose(found[0, ..., 0], [[2.5, 0]] * 2, rtol=1e-6)


def gradients(maps, boxes, images, level, factors, aligned):
    maps = [tf.constant(each) for each in maps]
    with tf.GradientTape() as tape:
        tape.watch(maps)
        value = tf.reduce_sum(roi_align(maps, boxes, images, level, 3, aligned=aligned) * factors)
    return [tf.convert_to_tensor(each).numpy() for each in tape.gradient(value, maps)]


@pytest.mark.parametrize("aligned", [True, False])
def test_both_ways_have_the_same_slopes(monkeypatch, aligned):
    maps, (boxes, images, level) = random_maps(), random_boxes()
    factors = np.random.default_rng(1).normal(size=(24, 3, 3, 2)).astype("float32")
    by_kernel = gradients(maps, boxes, images, level, factors, aligned)
    monkeypatch.setattr(alignment, "_cropped", alignment._gathered)
    for found, expected in zip(by_kernel, gradients(maps, boxes, images, level, factors, aligned), strict=True):
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_slopes_are_what_a_pixel_more_makes(way):
    # It is linear in the maps, so that a whole step tells the slope. 4 boxes, one of each level, partly outside.
    maps, (boxes, images, level) = [each[:1] / 255 for each in random_maps(1, 1)], random_boxes(4)
    images, factors = 0 * images, np.random.default_rng(1).normal(size=(4, 3, 3, 1))
    found = gradients(maps, boxes, images, level, factors.astype("float32"), True)
    for number, each in enumerate(maps):
        for place in np.ndindex(*each.shape):
            more = [np.array(one) for one in maps]
            more[number][place] += 1
            change = slow_roi_align(more, boxes, images, level, 3, True) - slow_roi_align(maps, boxes, images, level, 3, True)
            assert found[number][place] == pytest.approx((change * factors).sum(), abs=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "bfloat16", "float64"])
def test_maps_may_be_of_any_number_type(way, dtype):
    maps, (boxes, images, level) = random_maps(dtype="uint8"), random_boxes()
    found = roi_align([tf.cast(each, dtype) for each in maps], boxes, images, level, 2)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, slow_roi_align(maps, boxes, images, level, 2, True), rtol=1e-4, atol=2e-3)


def test_of_no_boxes_there_is_nothing(way):
    nothing = tf.zeros((0,), tf.int32)
    for maps in (random_maps(), random_maps()[:1]):
        assert roi_align(maps, tf.zeros((0, 4)), nothing, nothing, 7).shape == (0, 7, 7, 2)


def test_a_level_that_no_box_is_read_from_is_no_hindrance(way):
    maps, (boxes, images, level) = random_maps(), random_boxes()
    level[:] = 1
    expected = slow_roi_align(maps, boxes / 2, images, level, 2, True)
    np.testing.assert_allclose(roi_align(maps, boxes / 2, images, level, 2), expected, rtol=1e-4, atol=2e-3)


def test_a_graph_that_knows_no_size_gives_the_same(way):
    whole = tf.TensorSpec((None,), tf.int32)
    graph = tf.function(lambda maps, boxes, images, level: roi_align(maps, boxes, images, level, 3), input_signature=[
        [tf.TensorSpec((None, None, None, 2)) for _ in SIZES], tf.TensorSpec((None, 4)), whole, whole])  # fmt: skip
    for n in (24, 5, 0):
        boxes, images, level = random_boxes(24)
        boxes, images, level = boxes[:n], images[:n], level[:n]
        expected = slow_roi_align(random_maps(), boxes, images, level, 3, True)
        np.testing.assert_allclose(graph(random_maps(), boxes, images, level), expected, rtol=1e-4, atol=2e-3)


def test_a_box_of_224_pixels_is_read_from_level_4_and_each_doubling_from_the_next():
    sides = [224, 223, 112, 111, 448, 447, 56, 55, 1, 896, 3000, 0]
    boxes = tf.constant([[10, 20, 10 + side, 20 + side] for side in sides], tf.float32)
    found = pyramid_level(boxes, 2, 5)
    np.testing.assert_array_equal(found, [4, 3, 3, 2, 5, 4, 2, 2, 2, 5, 5, 2])
    assert found.dtype == tf.int32


def test_the_level_goes_by_the_area_whatever_the_shape():
    boxes = tf.constant([[[0.0, 0, 448, 112], [0, 0, 112, 448]], [[0, 0, 400, 112], [0, 0, 0, 999]]])
    np.testing.assert_array_equal(pyramid_level(boxes, 2, 5), [[4, 4], [3, 2]])
