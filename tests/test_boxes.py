"""Boxes by hand and against NumPy twins, and letterboxes of odd sizes."""

import importlib.util
import io
import json
import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.boxes import (
    complete_iou,
    cxcywh_to_xyxy,
    from_letterbox,
    letterbox,
    pairwise_iou,
    to_letterbox,
    xyxy_to_cxcywh,
)
from kerastoolkit.serving.detection import DecodeLetterboxed

ODD_SIZES = [(333, 501), (501, 333), (1, 1000), (1000, 1), (7, 13), (1, 1), (1081, 1919), (416, 320)]
DEGENERATE = [
    ("equal", (3, 4, 10, 9), (3, 4, 10, 9)),
    ("without width", (3, 4, 3, 9), (1, 2, 10, 9)),
    ("without height", (3, 4, 10, 4), (1, 2, 10, 9)),
    ("points", (3, 4, 3, 4), (1, 2, 10, 9)),
    ("a target that is a point", (1, 2, 10, 9), (3, 4, 3, 4)),
    ("one point twice", (3, 4, 3, 4), (3, 4, 3, 4)),
    ("zeros", (0, 0, 0, 0), (0, 0, 0, 0)),
    ("sides in common", (0, 0, 4, 4), (4, 0, 8, 4)),
    ("far apart", (0, 0, 4, 4), (600, 500, 640, 640)),
]


def random_boxes(*shape, seed=0, size=100.0):
    first, second = np.random.default_rng(seed).uniform(0, size, (2, *shape, 2))
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1).astype("float32")


def slow_iou(box, other):
    left, top, right, bottom = (float(each) for each in box)
    other_left, other_top, other_right, other_bottom = (float(each) for each in other)
    width, height = min(right, other_right) - max(left, other_left), min(bottom, other_bottom) - max(top, other_top)
    both = width * height if width > 0 and height > 0 else 0
    return both / ((right - left) * (bottom - top) + (other_right - other_left) * (other_bottom - other_top) - both)


def slow_complete_iou(box, other, alpha=None):
    """Of two boxes with area; of alpha also what equation 11 of the paper makes of it."""
    box, other = np.array(box, "float64"), np.array(other, "float64")
    iou = slow_iou(box, other)
    apart = ((box[:2] + box[2:]) / 2 - (other[:2] + other[2:]) / 2) ** 2
    diagonal = (np.maximum(box[2:], other[2:]) - np.minimum(box[:2], other[:2])) ** 2
    (width, height), (other_width, other_height) = box[2:] - box[:2], other[2:] - other[:2]
    aspect = 4 / math.pi**2 * (math.atan(other_width / other_height) - math.atan(width / height)) ** 2
    alpha = aspect / (1 - iou + aspect) if alpha is None else alpha
    return iou - apart.sum() / diagonal.sum() - alpha * aspect, alpha


def gradient(boxes, others):
    boxes, others = tf.constant(boxes, "float32"), tf.constant(others, "float32")
    with tf.GradientTape() as tape:
        tape.watch([boxes, others])
        value = complete_iou(boxes, others)
    return tuple(each.numpy() for each in tape.gradient(value, (boxes, others)))


def whole(size):
    """The box around an image of this size."""
    return [0, 0, size[1], size[0]]


def test_the_two_forms_of_a_box_are_inverse_to_each_other():
    np.testing.assert_array_equal(cxcywh_to_xyxy(tf.constant([10.0, 20, 4, 6])), [8, 17, 12, 23])
    boxes = random_boxes(3, 5)
    np.testing.assert_allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes, atol=1e-4)
    np.testing.assert_allclose(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes, atol=1e-4)


def test_pairwise_iou_is_the_shared_area_of_the_area_of_both():
    # 2 x 2 against itself; 1 of 4 + 4 - 1; a side in common; 2 x 2 in 4 x 4; 1 x 2 of 4 + 6 - 2; far away.
    others = [[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [-1, -1, 3, 3], [1, 0, 4, 2], [9, 9, 10, 10]]
    found = pairwise_iou(tf.constant([[[0.0, 0, 2, 2]]]), tf.constant([others], "float32"))
    np.testing.assert_allclose(found, [[[1, 1 / 7, 0, 1 / 4, 1 / 4, 0]]], rtol=1e-6)


def test_pairwise_iou_is_that_of_each_pair_of_each_example():
    boxes, others = random_boxes(2, 5), random_boxes(2, 7, seed=1)
    expected = [[[slow_iou(box, other) for other in others[example]] for box in boxes[example]] for example in (0, 1)]
    assert np.count_nonzero(expected) > 20
    np.testing.assert_allclose(pairwise_iou(boxes, others), expected, rtol=1e-5, atol=1e-7)


def test_boxes_without_area_overlap_with_nothing():
    boxes = tf.constant([[[3.0, 4, 3, 4], [0, 0, 0, 0], [3, 4, 3, 9]]])
    np.testing.assert_array_equal(pairwise_iou(boxes, boxes), np.zeros((1, 3, 3)))
    np.testing.assert_array_equal(pairwise_iou(boxes, tf.constant([[[0.0, 0, 10, 10]]])), np.zeros((1, 3, 1)))


def test_complete_iou_is_that_of_the_papers_equations():
    # 4 x 2 and 2 x 4, which share 2 x 2: 4 / (8 + 8 - 4). Centres (2, 1) and (3, 2): 2 of the diagonal's 4^2 + 4^2.
    aspect = 4 / np.pi**2 * (np.arctan(2 / 4) - np.arctan(4 / 2)) ** 2
    expected = 1 / 3 - 2 / 32 - aspect**2 / (1 - 1 / 3 + aspect)
    found = complete_iou(tf.constant([0.0, 0, 4, 2]), tf.constant([2.0, 0, 4, 4]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_complete_iou_of_many_boxes_is_that_of_each_pair():
    boxes, others = random_boxes(20, 5), random_boxes(20, 5, seed=1)
    expected = [slow_complete_iou(*pair)[0] for pair in zip(boxes.reshape(-1, 4), others.reshape(-1, 4), strict=True)]
    assert 10 < np.count_nonzero(np.array(expected) > 0) < 90
    np.testing.assert_allclose(np.ravel(complete_iou(boxes, others)), expected, rtol=1e-4, atol=1e-5)


def test_complete_iou_of_equal_boxes_is_1():
    boxes = random_boxes(50)
    np.testing.assert_allclose(complete_iou(boxes, boxes), np.ones(50), atol=1e-5)


def test_complete_iou_comes_near_to_minus_1_5_and_no_nearer():
    found = complete_iou(tf.constant([[0.0, 0, 0.01, 1000]]), tf.constant([[1e6, 1e6, 1e6 + 1000, 1e6 + 0.125]]))
    assert -1.5 < found[0] < -1.49


@pytest.mark.parametrize(("box", "other"), [each[1:] for each in DEGENERATE], ids=[each[0] for each in DEGENERATE])
def test_complete_iou_and_its_slope_are_finite(box, other):
    assert np.isfinite(complete_iou(tf.constant(box, "float32"), tf.constant(other, "float32")))
    assert all(np.isfinite(each).all() for each in gradient(box, other))


def test_boxes_that_do_not_touch_are_drawn_together():
    slope, _ = gradient([0, 0, 4, 4], [10, 0, 14, 4])
    assert slope[0] + slope[2] > 0.01 and abs(slope[1] + slope[3]) < 1e-6


def test_the_weight_of_the_aspect_ratio_is_held_fixed_in_the_slope():
    boxes, others = random_boxes(8).astype("float64"), random_boxes(8, seed=1).astype("float64")
    found, _ = gradient(boxes, others)
    for slope, box, other in zip(found, boxes, others, strict=True):
        _, alpha = slow_complete_iou(box, other)
        there = [slow_complete_iou(box + step, other, alpha)[0] for step in 1e-4 * np.eye(4)]
        back = [slow_complete_iou(box - step, other, alpha)[0] for step in 1e-4 * np.eye(4)]
        np.testing.assert_allclose(slope, np.subtract(there, back) / 2e-4, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "network", "inner", "first"),
    [
        ((333, 501), (416, 416), (277, 416), (69, 0)),  # 333 * 416 / 501 = 276.5; 139 rows are left
        ((501, 333), (416, 416), (416, 277), (0, 69)),
        ((480, 640), (320, 640), (320, 427), (0, 106)),  # 640 * 320 / 480 = 426.7; 213 columns are left
        ((3, 2), (32, 64), (32, 21), (0, 21)),  # 2 * 32 / 3 = 21.3; 43 are left
        ((208, 416), (320, 640), (320, 640), (0, 0)),
        ((640, 640), (640, 640), (640, 640), (0, 0)),
        ((8509, 6877), (1280, 1280), (1280, 1034), (0, 123)),  # 1034.49995, which is 1034.5 in float32
        ((1, 1), (64, 32), (32, 32), (16, 0)),
        ((1, 1000), (416, 416), (1, 416), (207, 0)),
        ((1000, 1), (416, 416), (416, 1), (0, 207)),
        ((64_000_000, 1), (416, 416), (416, 1), (0, 207)),
        ((1, 64_000_000), (32, 1280), (1, 1280), (15, 0)),
    ],
)
def test_an_image_is_as_large_as_fits_and_centred(size, network, inner, first):
    found = letterbox(tf.constant([size]), *network)
    assert [each.numpy().tolist() for each in found] == [[list(inner)], [list(first)]]
    assert {each.dtype for each in found} == {tf.int32}


@pytest.mark.parametrize("network", [(416, 416), (320, 640), (96, 32)])
def test_letterboxes_of_many_sizes_keep_the_aspect_ratio_to_half_a_pixel(network):
    sizes = np.random.default_rng(0).integers(1, (3000, 5000), (300, 2))
    inner, first = (each.numpy() for each in letterbox(sizes, *network))
    for size, own, begin in zip(sizes.tolist(), inner.tolist(), first.tolist(), strict=True):
        scale = min(Fraction(side, of) for side, of in zip(network, size, strict=True))
        for side, of, own_side, own_begin in zip(network, size, own, begin, strict=True):
            assert own_side == max(1, math.floor(of * scale + Fraction(1, 2)))
            assert own_begin == (side - own_side) // 2
        assert own[0] == network[0] or own[1] == network[1]


def test_boxes_are_moved_with_their_image():
    # 333 x 501 becomes 277 x 416, 69 rows down.
    boxes = tf.constant([[[0.0, 0, 501, 333], [250.5, 166.5, 501, 333]], [[0, 0, 10, 10], [2, 4, 6, 8]]])
    found = to_letterbox(boxes, tf.constant([[333, 501], [10, 10]]), 416, 416)
    np.testing.assert_allclose(found[0], [[0, 69, 416, 346], [208, 207.5, 416, 346]], rtol=1e-6)
    np.testing.assert_allclose(found[1], [[0, 0, 416, 416], [83.2, 166.4, 249.6, 332.8]], rtol=1e-6)


@pytest.mark.parametrize("network", [(416, 416), (320, 640), (96, 32)])
def test_boxes_come_back_from_the_letterbox_as_they_were(network):
    sizes = np.array(ODD_SIZES, "int32")
    limits = np.array([whole(size)[2:] * 2 for size in ODD_SIZES], "float32")[:, None]
    boxes = np.concatenate([random_boxes(8, 20, size=1.0) * limits, limits * [0, 0, 1, 1]], axis=1).astype("float32")
    inside = to_letterbox(boxes, sizes, *network).numpy()
    assert inside.min() >= 0 and (inside <= np.array([*network[::-1], *network[::-1]]) * (1 + 1e-6)).all()
    back = from_letterbox(inside, sizes, *network).numpy()
    # A pixel of the network's is so many of the image's, and the shift has cost some of its last bits.
    coarse = np.max(sizes / np.array(network), axis=1)[:, None, None]
    assert (np.abs(back - boxes) <= 1e-4 * np.maximum(1, coarse)).all()


def test_boxes_that_leave_the_image_are_cut_at_its_border():
    back = from_letterbox(tf.constant([[[-50.0, -50, 700, 700], [0, 0, 416, 60]]]), tf.constant([[333, 501]]), 416, 416)
    np.testing.assert_array_equal(back, [[[0, 0, 501, 333], [0, 0, 501, 0]]])


@pytest.mark.parametrize("network", [(64, 64), (32, 96)])
@pytest.mark.parametrize("size", [(333, 501), (501, 333), (37, 53), (21, 9), (5, 7), (64, 64)])
def test_pixels_and_boxes_go_into_the_letterbox_together(size, network):
    height, width = size
    left, top, right, bottom = box = [width // 5, height // 3, width - width // 4, height - height // 5]
    pixels = np.zeros((height, width, 3), "uint8")
    pixels[top:bottom, left:right] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    found = DecodeLetterboxed(*network)(tf.constant([file.getvalue()]))
    x_min, y_min, x_max, y_max = to_letterbox(tf.constant([[box]], "float32"), found["size"], *network)[0, 0].numpy()
    white = found["image"][0, :, :, 0].numpy() > 127.5  # a pixel is, from half of its area on
    row, column = white[int((y_min + y_max) / 2)].nonzero()[0], white[:, int((x_min + x_max) / 2)].nonzero()[0]
    seen = [row.min(), column.min(), row.max() + 1, column.max() + 1]
    np.testing.assert_allclose(seen, [x_min, y_min, x_max, y_max], atol=0.6)


BACKEND = """
import json, sys
import keras
from kerastoolkit.boxes import complete_iou, from_letterbox, letterbox, pairwise_iou, to_letterbox
assert "tensorflow" not in sys.modules, "boxes must not need TensorFlow"
sizes, boxes, others = json.loads(sys.stdin.read())
sizes, boxes, others = keras.ops.convert_to_tensor(sizes, "int32"), *(keras.ops.convert_to_tensor(x) for x in (boxes, others))
answers = (*letterbox(sizes, 416, 320), to_letterbox(boxes, sizes, 416, 320), from_letterbox(boxes, sizes, 416, 320),
           pairwise_iou(boxes, others), complete_iou(boxes, others))
print(json.dumps([keras.ops.convert_to_numpy(each).tolist() for each in answers]))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_boxes_are_the_same_on_the_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    sizes, boxes, others = np.array(ODD_SIZES), random_boxes(8, 5, size=500.0), random_boxes(8, 5, seed=1, size=500.0)
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    given = json.dumps([each.tolist() for each in (sizes, boxes, others)])
    result = subprocess.run(
        [sys.executable, "-c", BACKEND], env=environment, input=given, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr[-2000:]
    expected = (*letterbox(sizes, 416, 320), to_letterbox(boxes, sizes, 416, 320), from_letterbox(boxes, sizes, 416, 320),
                pairwise_iou(boxes, others), complete_iou(boxes, others))  # fmt: skip
    for found, each in zip(json.loads(result.stdout.splitlines()[-1]), expected, strict=True):
        np.testing.assert_allclose(found, each, rtol=1e-4, atol=1e-4)
