"""What regions are drawn to learn from: how many of each kind, from where, and on what it depends."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import SampleRegions

BACKGROUND, UNUSED = -1, -2
OBJECTS = np.array([[0, 0, 20, 20], [40, 0, 60, 20]], "float32")
LABELS = np.array([3, 5], "int32")


def around(box, n, seed=0):
    """Regions that overlap with a box of 20 x 20 by more than half."""
    return (box + np.random.default_rng(seed).uniform(-2, 2, (n, 4))).astype("float32")


def elsewhere(n, seed=0):
    first = np.random.default_rng(seed).uniform(100, 200, (n, 2))
    return np.concatenate([first, first + 10], axis=1).astype("float32")


def sampled(regions, boxes=OBJECTS, labels=LABELS, seeds=(1, 2), **arguments):
    """Of one image."""
    given = np.array([regions], "float32"), np.array([boxes], "float32"), np.array([labels], "int32"), np.array([seeds], "int32")
    return {name: each[0].numpy() for name, each in SampleRegions(**arguments)(*given).items()}


def slow_iou(box, other):
    width, height = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    both = max(width, 0) * max(height, 0)
    return both / (np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - both)


@pytest.mark.parametrize(("of_objects", "of_background", "expected"), [
    (50, 50, (4, 12)), (1, 50, (3, 13)), (50, 7, (4, 7)), (0, 3, (2, 3)), (0, 50, (2, 14)),
])  # fmt: skip
def test_a_quarter_shows_objects_as_far_as_there_are_and_background_fills_up(of_objects, of_background, expected):
    # The objects' own boxes are two more that show objects.
    regions = np.concatenate([elsewhere(of_background), around(OBJECTS[0], of_objects)])
    found = sampled(regions, count=16, share=0.25)
    assert found["regions"].shape == (16, 4) and found["places"].shape == (16,)
    kinds = np.where(found["places"] >= 0, 1, found["places"]).tolist()
    assert kinds == [1] * expected[0] + [BACKGROUND] * expected[1] + [UNUSED] * (16 - sum(expected))
    assert not found["regions"][sum(expected) :].any()


@pytest.mark.parametrize(("count", "share", "most"), [(512, 0.25, 128), (10, 0.25, 2), (8, 1.0, 8), (8, 0.01, 1)])
def test_at_most_the_share_rounded_down_shows_objects_but_at_least_one(count, share, most):
    found = sampled(np.concatenate([around(OBJECTS[0], 300), elsewhere(600)]), count=count, share=share)
    assert (found["places"] >= 0).sum() == most and (found["places"] == BACKGROUND).sum() == count - most


def test_each_drawn_region_is_a_candidate_once_and_shows_the_object_that_it_overlaps_with_most():
    random = np.random.default_rng(0)
    first = random.uniform(0, 60, (2, 80, 2))
    regions = np.concatenate([first, first + random.uniform(10, 30, (2, 80, 2))], axis=-1).astype("float32")
    boxes = np.stack([around(box, 2, seed) for seed, box in enumerate(OBJECTS)])
    found = SampleRegions(60, 0.5)(regions, boxes, np.array([[0, 1]] * 2, "int32"), np.array([[1, 2], [1, 3]], "int32"))
    for example in (0, 1):
        candidates = {tuple(box) for box in np.concatenate([regions[example], boxes[example]])}
        drawn = {tuple(box) for box in found["regions"][example].numpy()}
        assert len(drawn) == 60 and drawn <= candidates
        for box, place in zip(found["regions"][example].numpy(), found["places"][example].numpy(), strict=True):
            overlaps = [slow_iou(box, each) for each in boxes[example]]
            assert place == (np.argmax(overlaps) if max(overlaps) >= 0.5 else BACKGROUND)
    assert set(found["places"].numpy().ravel()) == {BACKGROUND, 0, 1}


def test_a_region_shows_an_object_from_half_on():
    regions = [[0, 0, 20, 10], [0, 0, 20, 9.9], [40, 5, 60, 20]]
    found = sampled(regions, count=5, share=0.8)
    place_of = dict(zip(map(tuple, found["regions"]), found["places"], strict=True))
    assert [place_of[tuple(np.float32(box))] for box in regions] == [0, BACKGROUND, 1]


def test_the_objects_own_boxes_are_candidates():
    found = sampled(elsewhere(30), count=8, share=0.5)
    assert sorted(zip(map(tuple, found["regions"][:2]), found["places"][:2], strict=True)) == [
        (tuple(OBJECTS[0]), 0), (tuple(OBJECTS[1]), 1)]  # fmt: skip


def test_what_has_no_label_is_neither_an_object_nor_a_candidate():
    # As a crowd is told: its box is that of the first object, but it counts as nothing.
    labels = np.array([-1, 5], "int32")
    found = sampled(around(OBJECTS[0], 6), labels=labels, count=16, share=0.5)
    assert found["places"].tolist() == [1] + [BACKGROUND] * 6 + [UNUSED] * 9
    assert tuple(OBJECTS[0]) not in set(map(tuple, found["regions"]))


def test_an_image_without_objects_gives_background_alone():
    found = sampled(elsewhere(30), np.zeros((2, 4)), [-1, -1], count=8, share=0.5)
    assert (found["places"] == BACKGROUND).all() and (found["regions"][:, 2:] > found["regions"][:, :2]).all()
    assert found["mask_places"].tolist() == [BACKGROUND] and found["mask_labels"].tolist() == [-1]


def test_regions_without_area_are_not_drawn():
    without = np.concatenate([np.zeros((5, 4)), [[3, 3, 3, 9], [3, 3, 9, 3], [150, 150, 140, 160]]])
    found = sampled(np.concatenate([without, elsewhere(2)]), count=8, share=0.5)
    assert (found["places"] != UNUSED).sum() == 2 + 2
    assert {tuple(box) for box in found["regions"][2:4]} == {tuple(box) for box in elsewhere(2)}


def test_the_draw_of_an_example_depends_on_its_seeds_and_not_on_its_batch():
    # Beside others an example is padded: with regions of zeros, and with objects without a label.
    regions, seeds = np.concatenate([around(OBJECTS[0], 40), elsewhere(40)]), np.array([[1, 2], [9, 9]], "int32")
    alone = sampled(regions, count=16)
    more = np.stack([np.concatenate([regions, np.zeros((30, 4))]), np.concatenate([elsewhere(60, 1), around(OBJECTS[1], 50)])])
    boxes = np.stack([np.concatenate([OBJECTS, np.zeros((3, 4))]), around(OBJECTS[1], 5, 1)]).astype("float32")
    labels = np.array([[*LABELS, -1, -1, -1], [1, 2, 3, 4, 5]], "int32")
    beside = SampleRegions(16)(more.astype("float32"), boxes, labels, seeds)
    for name in ("regions", "places", "mask_regions", "mask_places", "mask_labels"):
        np.testing.assert_array_equal(beside[name][0], alone[name])


def test_other_seeds_draw_others():
    regions = np.concatenate([around(OBJECTS[0], 40), elsewhere(40)])
    draws = {sampled(regions, count=16, seeds=seeds)["regions"].tobytes() for seeds in ((1, 2), (1, 3), (2, 2), (0, 0))}
    assert len(draws) == 4


def test_each_candidate_is_drawn_about_as_often_as_the_others():
    # 4 of 20 around the objects, in the mean 200 of 1,000 draws, with a deviation of 12.6.
    regions = np.concatenate([around(OBJECTS[0], 18), elsewhere(40)])
    given = [np.repeat(each[None], 1000, axis=0) for each in (regions, OBJECTS, LABELS)]
    found = SampleRegions(16)(*given, np.stack([np.arange(1000), np.full(1000, 7)], axis=1).astype("int32"))["regions"]
    drawn, counts = np.unique(found[:, :4].numpy().reshape(-1, 4), axis=0, return_counts=True)
    assert len(drawn) == 20 and counts.sum() == 4000 and abs(counts - 200).max() < 50


def test_mask_regions_are_the_first_as_many_as_show_an_object_where_most_do():
    regions = np.stack([elsewhere(30), np.concatenate([around(OBJECTS[0], 1), elsewhere(29)])])
    boxes, labels = np.stack([OBJECTS] * 2), np.array([[3, -1], [3, 5]], "int32")
    found = SampleRegions(16)(regions, boxes, labels, np.array([[1, 2], [3, 4]], "int32"))
    np.testing.assert_array_equal((found["places"] >= 0).numpy().sum(axis=1), [1, 3])
    np.testing.assert_array_equal(found["mask_regions"], found["regions"][:, :3])
    np.testing.assert_array_equal(found["mask_places"], found["places"][:, :3])
    expected = [[row[place] if place >= 0 else -1 for place in places]
                for row, places in zip(labels, found["mask_places"].numpy(), strict=True)]  # fmt: skip
    np.testing.assert_array_equal(found["mask_labels"], expected)
    assert sorted(expected[1]) == [3, 3, 5] and expected[0] == [3, -1, -1]


def test_no_gradient_goes_through_it():
    with tf.GradientTape() as tape:
        tape.watch(regions := tf.constant(elsewhere(30)[None]))
        found = SampleRegions(16)(regions, OBJECTS[None], LABELS[None], np.array([[1, 2]], "int32"))
        value = tf.reduce_sum(found["regions"]) + tf.reduce_sum(found["mask_regions"])
    assert tape.gradient(value, regions) is None


def test_a_graph_that_knows_no_size_gives_the_same():
    layer = SampleRegions(16, 0.5)
    whole = tf.TensorSpec((None, None), tf.int32)
    graph = tf.function(lambda *given: layer(*given), input_signature=[
        tf.TensorSpec((None, None, 4)), tf.TensorSpec((None, None, 4)), whole, tf.TensorSpec((None, 2), tf.int32)])  # fmt: skip
    for n in (80, 3):
        given = elsewhere(n)[None], OBJECTS[None], LABELS[None], np.array([[1, 2]], "int32")
        found, expected = graph(*given), layer(*given)
        assert found.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def test_its_outputs_are_told():
    given = keras.Input((None, 4)), keras.Input((None, 4)), keras.Input((None,), dtype="int32"), keras.Input((2,), dtype="int32")
    found = SampleRegions(16)(*given)
    assert {name: (each.shape, each.dtype) for name, each in found.items()} == {
        "regions": ((None, 16, 4), "float32"), "places": ((None, 16), "int32"), "mask_regions": ((None, None, 4), "float32"),
        "mask_places": ((None, None), "int32"), "mask_labels": ((None, None), "int32"),
    }  # fmt: skip


def test_its_configuration_makes_it_again():
    layer = SampleRegions(16, 0.5, name="sample")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (again.count, again.share, again.name) == (16, 0.5, "sample")
