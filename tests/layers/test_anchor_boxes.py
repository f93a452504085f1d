"""Boxes of priors by hand and pixel by pixel, in a graph that knows no size, saved, and at the ends of the numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import AnchorBoxes

PRIORS, STRIDES = [[(10, 13), (16, 30)], [(59, 119), (116, 90)]], [8, 16]
CLASSES = 3


def levels(height=64, width=96, batch=2):
    generator = np.random.default_rng(0)
    shapes = [(batch, height // stride, width // stride, 2 * (5 + CLASSES)) for stride in STRIDES]
    return [generator.normal(size=shape).astype("float32") for shape in shapes]


def one_by_one(levels):
    """Every anchor of every example in turn."""
    found = {name: [[] for _ in levels[0]] for name in ("boxes", "offsets", "objectness", "logits", "points")}
    for level, priors, stride in zip(levels, PRIORS, STRIDES, strict=True):
        for example, row, column in np.ndindex(level.shape[:3]):
            for number, (width, height) in enumerate(priors):
                values = level[example, row, column, number * (5 + CLASSES) :][: 5 + CLASSES].astype("float64")
                x, y = ((1 / (1 + np.exp(-values[i])) + (column, row)[i]) * stride for i in (0, 1))
                half_width, half_height = width * np.exp(values[2]) / 2, height * np.exp(values[3]) / 2
                for name, value in {
                    "boxes": [x - half_width, y - half_height, x + half_width, y + half_height],
                    "offsets": values[:4], "objectness": values[4], "logits": values[5:],
                    "points": [column, row, stride, width, height],
                }.items():  # fmt: skip
                    found[name][example].append(value)
    return {name: np.array(values) for name, values in found.items()}


def test_a_box_is_that_of_figure_2_of_the_paper():
    # Stride 16, the cell in column 1 and row 0, the prior 20 x 40. t_x = ln 3: 3/4 of the cell, (1 + 3/4) * 16 = 28. t_y = 0: 1/2
    # of it, 8. Width 20 e^(ln 2) = 40, height 40 e^(ln 1/2) = 20. Corners: 28 -+ 20, 8 -+ 10.
    x = np.zeros((1, 1, 2, 6), "float32")
    x[0, 0, 1] = [np.log(3), 0, np.log(2), np.log(0.5), 5, 7]
    answer = AnchorBoxes([[(20, 40)]], [16])([x])
    np.testing.assert_allclose(answer["boxes"][0, 1], [8, -2, 48, 18], rtol=1e-5)
    np.testing.assert_array_equal(answer["points"][0, 1], [1, 0, 16, 20, 40])
    assert answer["objectness"][0, 1] == 5 and answer["logits"][0, 1, 0] == 7


def test_levels_rows_columns_and_priors_follow_one_another():
    answer, expected = AnchorBoxes(PRIORS, STRIDES)(levels()), one_by_one(levels())
    assert answer.keys() == expected.keys() and expected["boxes"].shape == (2, 2 * (8 * 12 + 4 * 6), 4)
    for name in expected:
        np.testing.assert_allclose(answer[name], expected[name], rtol=1e-4, atol=1e-4)


def test_a_graph_that_knows_no_size_gives_the_same():
    layer = AnchorBoxes(PRIORS, STRIDES)
    unknown = [[tf.TensorSpec((None, None, None, 2 * (5 + CLASSES))) for _ in STRIDES]]
    graph = tf.function(layer, input_signature=unknown)
    for size in ((64, 96), (32, 16)):
        answer, expected = graph(levels(*size)), layer(levels(*size))
        for name in expected:
            np.testing.assert_array_equal(answer[name], expected[name])


@pytest.mark.parametrize(("size", "anchors"), [((8, 12), 240), ((None, 12), None)])
def test_sizes_are_told_as_far_as_they_are_known(size, anchors):
    coarse = [each and each // 2 for each in size]
    answer = AnchorBoxes(PRIORS, STRIDES)([keras.Input((*size, 16)), keras.Input((*coarse, 16))])
    assert {name: each.shape for name, each in answer.items()} == {
        "boxes": (None, anchors, 4), "offsets": (None, anchors, 4), "objectness": (None, anchors),
        "logits": (None, anchors, CLASSES), "points": (None, anchors, 5),
    }  # fmt: skip


def test_a_saved_network_answers_the_same(tmp_path):
    inputs = [keras.Input((None, None, 16)) for _ in STRIDES]
    network = keras.Model(inputs, AnchorBoxes(PRIORS, STRIDES)(inputs))
    network.save(tmp_path / "network.keras")
    answer, expected = keras.saving.load_model(tmp_path / "network.keras")(levels()), network(levels())
    for name in expected:
        np.testing.assert_array_equal(answer[name], expected[name])


@pytest.mark.parametrize("extreme", [-1e30, -100, 8, 100, 1e30])
def test_no_number_makes_a_box_or_its_area_infinite(extreme):
    x = np.full((1, 1, 1, 6), extreme, "float32")
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(x))
        answer = AnchorBoxes([[(373, 326)]], [32])([x])
        left, top, right, bottom = (answer["boxes"][0, 0, i] for i in range(4))
        area = (right - left) * (bottom - top)
    assert np.isfinite(answer["boxes"]).all() and np.isfinite(area) and np.isfinite(tape.gradient(area, x)).all()


def test_a_side_is_at_most_e_to_the_8_times_that_of_its_prior():
    x = np.zeros((1, 1, 1, 6), "float32")
    x[..., 2:4] = 9, 7
    box = AnchorBoxes([[(10, 10)]], [8])([x])["boxes"][0, 0].numpy()
    np.testing.assert_allclose(box[2:] - box[:2], [10 * np.exp(8), 10 * np.exp(7)], rtol=1e-5)


def test_boxes_are_float32_where_the_network_computes_in_16_bits():
    x = [tf.constant(level, "bfloat16") for level in levels()]
    answer = AnchorBoxes(PRIORS, STRIDES, dtype="float32")(x)
    assert {each.dtype for each in answer.values()} == {tf.float32}
