"""What a two-stage detector answers, by hand and box by box, at the ends of the numbers, and in a graph that knows no size."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import BestBoxes, best_boxes

IMAGE = np.zeros((1, 40, 60, 3), "float32")  # 60 wide
INFINITE, NAN = float("inf"), float("nan")
ONE, OTHER = [5, 5, 15, 15], [30, 20, 40, 30]


def best(regions, shares, deltas=None, image=IMAGE, **arguments):
    """Of one image; shares are the background's and each class', and regions do not change by default."""
    regions, logits = np.array([regions], "float32"), np.log(np.array([shares], "float32") + 1e-30)
    deltas = np.zeros((*logits.shape, 4), "float32") if deltas is None else np.array([deltas], "float32")
    return {name: each[0].numpy() for name, each in BestBoxes(**arguments)(regions, logits, deltas, image).items()}


def random_regions(batch=2, n=50, classes=3, seed=0):
    random = np.random.default_rng(seed)
    first = random.uniform(-5, 45, (batch, n, 2))
    regions = np.concatenate([first, first + random.uniform(5, 25, (batch, n, 2))], axis=-1)
    regions[:, -3:] = 0
    logits, deltas = random.normal(scale=1.5, size=(batch, n, 1 + classes)), random.normal(size=(batch, n, 1 + classes, 4))
    return tuple(each.astype("float32") for each in (regions, logits, deltas))


def slow_iou(box, other):
    width, height = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    both = max(width, 0) * max(height, 0)
    return both / (np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - both)


def one_by_one(regions, logits, deltas, height, width, count, least_score, iou):
    """Of each example its (score, label, box), class by class and region by region."""
    answer = []
    for row in zip(*(each.astype("float64") for each in (regions, logits, deltas)), strict=True):
        found = []
        for label in range(logits.shape[-1] - 1):
            boxes = []
            for (left, top, right, bottom), scores, changes in zip(*row, strict=True):
                score = np.exp(scores[1 + label]) / np.exp(scores).sum()
                x, y, w, h = changes[1 + label] / (10, 10, 5, 5)
                centre_x, centre_y = (left + right) / 2 + x * (right - left), (top + bottom) / 2 + y * (bottom - top)
                half_w, half_h = (right - left) * np.exp(w) / 2, (bottom - top) * np.exp(h) / 2
                box = np.array([max(centre_x - half_w, 0), max(centre_y - half_h, 0),
                                min(centre_x + half_w, width), min(centre_y + half_h, height)])  # fmt: skip
                if score > least_score and min(box[2:] - box[:2]) >= 1e-2:
                    boxes.append((score, label, box))
            kept = []
            for each in sorted(boxes, key=lambda each: -each[0]):
                if all(slow_iou(each[2], other[2]) <= iou for other in kept):
                    kept.append(each)
            found += kept
        answer.append(sorted(found, key=lambda each: -each[0])[:count])
    return answer


@pytest.mark.parametrize(("count", "least_score", "iou"), [(100, 0.05, 0.5), (7, 0.05, 0.5), (100, 0.3, 0.5), (100, 0.0, 0.2)])
def test_the_best_boxes_are_those_of_each_class_and_region_in_turn(count, least_score, iou):
    given = random_regions()
    expected = one_by_one(*given, 40, 60, count, least_score, iou)
    most = max(map(len, expected))
    found = {name: each.numpy() for name, each in BestBoxes(count, least_score, iou)(*given, IMAGE).items()}
    assert {name: each.shape for name, each in found.items()} == {"boxes": (2, most, 4), "scores": (2, most), "labels": (2, most)}
    assert 0 < most <= count and min(map(len, expected)) > 0
    for example, row in enumerate(expected):
        np.testing.assert_array_equal(found["labels"][example], [each[1] for each in row] + [-1] * (most - len(row)))
        np.testing.assert_allclose(found["scores"][example], [each[0] for each in row] + [0] * (most - len(row)), rtol=1e-4)
        boxes = np.concatenate([np.stack([each[2] for each in row]), np.zeros((most - len(row), 4))])
        np.testing.assert_allclose(found["boxes"][example], boxes, rtol=1e-4, atol=1e-4)


def test_a_score_is_the_share_of_its_class_and_the_background_is_no_box():
    found = best([ONE, OTHER], [[0.1, 0.7, 0.2], [0.96, 0.01, 0.03]])
    np.testing.assert_allclose(found["scores"], [0.7, 0.2], rtol=1e-5)
    np.testing.assert_array_equal(found["labels"], [0, 1])
    np.testing.assert_allclose(found["boxes"], [ONE, ONE], rtol=1e-5)


def test_a_box_is_what_the_region_becomes_where_it_shows_its_class():
    # The centre (10, 10) by 10 / 10 widths of 10, and 5 ln 2 / 5: twice as wide. Each class has its own.
    deltas = [[[-99] * 4, [10, 0, 5 * np.log(2), 0], [0, -5, 0, 0]]]
    found = best([ONE], [[0.0, 0.6, 0.4]], deltas)
    np.testing.assert_allclose(found["boxes"], [[10, 5, 30, 15], [5, 0, 15, 10]], rtol=1e-5)


def test_of_a_class_the_surer_of_two_boxes_at_one_place_stays():
    found = best([ONE, ONE, OTHER], [[0.3, 0.5, 0.2], [0.2, 0.8, 0.0], [0.4, 0.6, 0.0]], least_score=0.25)
    np.testing.assert_allclose(found["scores"], [0.8, 0.6], rtol=1e-5)


def test_boxes_of_two_classes_at_one_place_both_stay():
    found = best([ONE, ONE], [[0.1, 0.9, 0.0], [0.2, 0.0, 0.8]])
    np.testing.assert_array_equal(found["labels"], [0, 1])
    np.testing.assert_allclose(found["boxes"], [ONE, ONE], rtol=1e-5)


def test_classes_do_not_overlap_in_images_of_any_shape():
    # Each box reaches over the whole image, which is wide, or high, or of a pixel.
    for height, width in ((10, 900), (900, 10), (1, 1)):
        shares = np.concatenate([np.zeros((5, 1)), np.eye(5)], axis=1)
        found = best([[0, 0, width, height]] * 5, shares, image=np.zeros((1, height, width, 3), "float32"))
        assert sorted(found["labels"]) == [0, 1, 2, 3, 4]


def test_a_score_must_exceed_the_least():
    shares = [[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]]
    np.testing.assert_array_equal(best([ONE, OTHER], shares, least_score=0.5)["boxes"], [OTHER])
    np.testing.assert_array_equal(best([ONE, OTHER], shares, least_score=0.49)["boxes"], [OTHER, ONE])


def test_no_more_boxes_are_given_than_are_wanted_the_surest_first():
    regions = [[10 * i, 0, 10 * i + 8, 9] for i in range(6)]
    scores = [0.3, 0.8, 0.5, 0.9, 0.2, 0.6]
    found = best(regions, [[1 - score, score] for score in scores], count=4)
    np.testing.assert_allclose(found["scores"], [0.9, 0.8, 0.6, 0.5], rtol=1e-5)
    np.testing.assert_array_equal(found["boxes"], np.array(regions)[[3, 1, 5, 2]])


def test_of_an_image_the_surest_candidates_alone_go_into_suppression(monkeypatch):
    monkeypatch.setattr(best_boxes, "CANDIDATES", 2)
    found = best([ONE, ONE, OTHER], [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    np.testing.assert_array_equal(found["boxes"], [ONE])


def test_boxes_are_cut_at_the_images_border_and_those_outside_are_none():
    found = best([[-10, -20, 70, 50], [60, 5, 70, 9], [5, 40, 9, 50]], [[0.4, 0.6], [0.2, 0.8], [0.1, 0.9]])
    np.testing.assert_array_equal(found["boxes"], [[0, 0, 60, 40]])


def test_a_box_whose_cut_sides_are_less_than_a_hundredth_of_a_pixel_is_none():
    found = best([[-5, 0, 0.009, 9], [-5, 10, 0.011, 19]], [[0.1, 0.9], [0.2, 0.8]])
    np.testing.assert_allclose(found["boxes"], [[0, 10, 0.011, 19]], rtol=1e-3)


def test_regions_without_area_are_no_boxes():
    found = best([[0, 0, 0, 0], [5, 5, 5, 9], [9, 5, 5, 9], ONE], [[0.1, 0.9]] * 3 + [[0.4, 0.6]], np.full((4, 2, 4), 3.0))
    np.testing.assert_allclose(found["scores"], [0.6], rtol=1e-5)


def test_an_example_with_fewer_has_zeros_and_no_labels_last():
    regions = np.array([[ONE, OTHER], [ONE, [0] * 4]], "float32")
    logits = np.log(np.array([[[0.1, 0.9], [0.2, 0.8]]] * 2, "float32"))
    found = BestBoxes()(regions, logits, np.zeros((2, 2, 2, 4), "float32"), IMAGE)
    np.testing.assert_array_equal(found["boxes"], [[ONE, OTHER], [ONE, [0] * 4]])
    np.testing.assert_array_equal(found["labels"], [[0, 0], [0, -1]])
    np.testing.assert_allclose(found["scores"], [[0.9, 0.8], [0.9, 0]], rtol=1e-5)


def test_where_there_are_no_boxes_a_row_of_nothing_is_left():
    found = best([[0, 0, 0, 0]], [[0.1, 0.9]])
    assert {name: each.tolist() for name, each in found.items()} == {"boxes": [[0] * 4], "scores": [0], "labels": [-1]}


def test_of_no_regions_there_is_nothing():
    empty = [np.zeros(shape, "float32") for shape in ((2, 0, 4), (2, 0, 3), (2, 0, 3, 4))]
    assert {name: each.shape for name, each in BestBoxes()(*empty, IMAGE).items()} == {
        "boxes": (2, 0, 4), "scores": (2, 0), "labels": (2, 0)}  # fmt: skip


@pytest.mark.parametrize("number", [INFINITE, NAN])
@pytest.mark.parametrize("place", ["background", "own logit", "other logit", 0, 1, 2, 3])
def test_what_is_no_finite_number_is_no_box(place, number):
    logits, deltas = np.log([[[0.1, 0.8, 0.1], [0.39, 0.6, 0.01]]]).astype("float32"), np.zeros((1, 2, 3, 4), "float32")
    if isinstance(place, str):
        logits[0, 0, ["background", "own logit", "other logit"].index(place)] = number
    else:
        deltas[0, 0, 1:, place] = number
    for sign in (1, -1) if not isinstance(place, str) else (1,):
        found = BestBoxes()(np.array([[ONE, OTHER]], "float32"), logits, deltas * np.float32(sign), IMAGE)
        np.testing.assert_array_equal(found["boxes"], [[OTHER]])
        np.testing.assert_allclose(found["scores"], [[0.6]], rtol=1e-5)


@pytest.mark.parametrize(("changes", "boxes"), [((0, 0, 1e30, 1e30), [[0, 0, 60, 40]]), ((0, 0, 1e30, -1e30), [[0] * 4]),
                                                 ((1e30, 0, 0, 0), [[0] * 4]), ((0, -1e30, 1e30, 0), [[0] * 4])])  # fmt: skip
def test_what_grows_without_end_is_the_whole_image_and_what_shrinks_or_moves_so_is_none(changes, boxes):
    found = best([ONE], [[0.1, 0.9]], np.full((1, 2, 4), changes))
    np.testing.assert_array_equal(found["boxes"], boxes)


def test_a_graph_that_knows_no_size_gives_the_same():
    layer = BestBoxes()
    graph = tf.function(lambda *given: layer(*given), input_signature=[
        tf.TensorSpec((None, None, 4)), tf.TensorSpec((None, None, 4)), tf.TensorSpec((None, None, 4, 4)),
        tf.TensorSpec((None, None, None, 3))])  # fmt: skip
    for batch, n in ((2, 50), (1, 4)):
        given = random_regions(batch, n)
        found, expected = graph(*given, IMAGE), layer(*given, IMAGE)
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)


def test_its_outputs_are_told():
    found = BestBoxes()(keras.Input((None, 4)), keras.Input((None, 5)), keras.Input((None, 5, 4)), keras.Input((40, 60, 3)))
    assert {name: (each.shape, each.dtype) for name, each in found.items()} == {
        "boxes": ((None, None, 4), "float32"), "scores": ((None, None), "float32"), "labels": ((None, None), "int32"),
    }  # fmt: skip


def test_its_configuration_makes_it_again():
    layer = BestBoxes(7, 0.1, 0.4, name="best")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (again.count, again.least_score, again.iou, again.name) == (7, 0.1, 0.4, "best")
