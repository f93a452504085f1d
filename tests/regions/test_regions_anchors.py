"""Anchors by hand, place by place, and in a graph that knows no size."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.regions.anchors import base_anchors, grid_anchors

RATIOS = (0.5, 1.0, 2.0)


def test_base_anchors_are_torchvisions():
    # 32^2: 45.25 x 22.63, 32 x 32 and 22.63 x 45.25, each half of a side rounded: 22.6 -> 23, 11.3 -> 11.
    np.testing.assert_array_equal(base_anchors(32, RATIOS), [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]])
    # The sides of 512^2 with a ratio of 2 are 362.04 and 724.08.
    np.testing.assert_array_equal(base_anchors(512, [2.0]), [[-181, -362, 181, 362]])


@pytest.mark.parametrize(("size", "half"), [(5, 2), (7, 4), (9, 4)])
def test_of_halves_the_even_pixel_is_taken(size, half):
    np.testing.assert_array_equal(base_anchors(size, [1.0]), [[-half, -half, half, half]])


@pytest.mark.parametrize("size", [32.0, 64.0, 128.0, 256.0, 512.0])
def test_each_base_anchor_has_the_area_and_the_ratio_to_a_pixel(size):
    for ratio, (left, top, right, bottom) in zip(RATIOS, base_anchors(size, RATIOS).astype("float64"), strict=True):
        assert right - left == pytest.approx(size / np.sqrt(ratio), abs=1)
        assert bottom - top == pytest.approx(size * np.sqrt(ratio), abs=1)
        assert (left, top) == (-right, -bottom)


def test_the_first_place_is_at_the_corner_and_the_next_a_stride_on():
    found = grid_anchors(2, 3, (8, 8), 10.0, [1.0])
    np.testing.assert_array_equal(found, [
        [-5, -5, 5, 5], [3, -5, 13, 5], [11, -5, 21, 5],
        [-5, 3, 5, 13], [3, 3, 13, 13], [11, 3, 21, 13],
    ])  # fmt: skip


def test_anchors_go_row_by_row_and_those_of_a_place_follow_one_another():
    base, found = base_anchors(24.0, RATIOS), grid_anchors(4, 3, (16, 12), 24.0, RATIOS)
    expected = [base[shape] + [column * 12, row * 16, column * 12, row * 16] for row, column, shape in np.ndindex(4, 3, 3)]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == tf.float32


def test_heights_and_widths_may_be_tensors():
    graph = tf.function(lambda height, width: grid_anchors(height, width, (4, height), 24.0, RATIOS),
                        input_signature=[tf.TensorSpec((), tf.int32)] * 2)  # fmt: skip
    for size in ((3, 5), (1, 1), (6, 2)):
        np.testing.assert_array_equal(graph(*map(tf.constant, size)), grid_anchors(*size, (4, size[0]), 24.0, RATIOS))
