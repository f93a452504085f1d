"""Made pictures of shapes: exact, always the same, and alike in all but their outlines."""

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.data import made_shapes
from kerastoolkit.data.made_shapes import CLASSES, PALETTE, boxed_shapes, instance_shapes, made_shape_image, shapes
from kerastoolkit.serving.class_maps import decode_class_map
from kerastoolkit.serving.images import decode_image


@functools.cache
def picture(number):
    return made_shape_image("train", number)


def pictures(count):
    return [picture(number) for number in range(count)]


def covered(label, size, centre, angle, height=40, width=40):
    """Which pixels of a picture have their centre in a shape."""
    found = np.zeros((height, width), bool)
    box, inside = made_shapes._covered(label, size, np.array(centre), angle, height, width)
    found[box] = inside[1::3, 1::3]
    return found


def test_a_picture_is_the_same_each_time_whichever_others_were_made():
    pixels, class_map, seen = made_shape_image("test", 7)
    made_shape_image("test", 6)
    again = made_shape_image("test", 7)
    np.testing.assert_array_equal(pixels, again[0])
    np.testing.assert_array_equal(class_map, again[1])
    np.testing.assert_array_equal([mask for _, mask in seen], [mask for _, mask in again[2]])


def test_no_two_pictures_are_alike_within_a_split_or_between_two():
    made = [made_shape_image(split, number)[0].tobytes() for split in made_shapes.SIZES for number in range(20)]
    assert len(set(made)) == 60


def test_the_class_map_is_what_is_seen_of_the_shapes():
    for _, class_map, seen in pictures(20):
        drawn = np.zeros_like(class_map)
        for label, mask in seen:
            assert not drawn[mask].any()  # no pixel is of two shapes
            drawn[mask] = label
        np.testing.assert_array_equal(class_map, drawn)


def test_every_class_occurs_and_each_shape_is_large_enough_to_be_told():
    seen = [each for _, _, shapes in pictures(200) for each in shapes]
    assert set(label for label, _ in seen) == {1, 2, 3, 4}
    assert min(mask.sum() for _, mask in seen) > 150
    assert {len(shapes) for _, _, shapes in pictures(60)} == {1, 2, 3, 4, 5}


def test_some_shapes_lie_in_front_of_others_and_some_partly_outside():
    made = pictures(40)
    masks = [mask for *_, seen in made for _, mask in seen]
    assert sum(any(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])) for mask in masks) > 10
    touching = 0
    for _, _, seen in made:
        grown = [np.pad(mask, 1)[2:, 1:-1] & ~mask for _, mask in seen]
        touching += any((one & other).any() for one in grown for _, other in seen)
    assert touching > 5


def test_a_circle_and_a_square_cover_the_pixels_whose_centres_are_in_them():
    y, x = np.mgrid[:40, :40] + 0.5
    radius = made_shapes.RADIUS * 11.3
    np.testing.assert_array_equal(covered(1, 11.3, (17.2, 21.9), 0.7), np.hypot(y - 17.2, x - 21.9) <= radius)
    half = 0.8 * 11.3
    upright = (abs(y - 17.2) <= half) & (abs(x - 21.9) <= half)
    np.testing.assert_array_equal(covered(2, 11.3, (17.2, 21.9), np.pi / 2), upright)


@pytest.mark.parametrize(("label", "corners", "turns"), [(3, 3, 1), (4, 5, 2)])
def test_a_triangle_and_a_star_are_those_that_their_corners_span(label, corners, turns):
    """The winding number of the polygon from corner to corner (a pentagram's from each to the next but one) around each pixel."""
    size, centre, angle = 12.0, np.array([20.1, 19.7]), 0.3
    name = CLASSES[label]
    _, distance, _, _ = made_shapes.POLYGONS[name]
    reach = distance * size / np.cos(np.pi * turns / corners)
    # A line's two corners lie half a step of the polygon to both sides of the direction in which it is nearest.
    steps = angle + np.pi * turns / corners + 2 * np.pi * turns / corners * np.arange(corners)
    points = centre + reach * np.stack([np.sin(steps), np.cos(steps)], 1)
    y, x = np.mgrid[:40, :40] + 0.5
    directions = np.arctan2(points[:, 0, None, None] - y, points[:, 1, None, None] - x)
    turned = (np.diff(directions, axis=0, append=directions[:1]) + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_array_equal(covered(label, size, centre, angle), np.rint(turned.sum(0) / (2 * np.pi)) != 0)


def test_no_shape_is_cut_by_the_box_that_it_is_drawn_in():
    for label in (1, 2, 3, 4):
        for angle in np.linspace(0, 2, 9):
            box, inside = made_shapes._covered(label, 12.0, np.array([30.0, 30.0]), angle, 60, 60)
            assert not (inside[0].any() or inside[-1].any() or inside[:, 0].any() or inside[:, -1].any())


def test_an_edge_is_mixed_from_both_sides(monkeypatch):
    monkeypatch.setattr(made_shapes, "NOISE", 0)
    monkeypatch.setattr(made_shapes, "SHADE", 0)
    monkeypatch.setattr(made_shapes, "STRIPES", 0)
    monkeypatch.setattr(made_shapes, "MOST_SHAPES", 1)
    pixels, class_map, _ = made_shape_image("train", 0)
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    background, shape = colours[np.argsort(counts)[::-1][:2]].astype(float)
    # How far each pixel is on the way from the background's colour to the shape's: ninths, by the nine samples.
    share = (pixels - background) @ (shape - background) / np.square(shape - background).sum()
    assert set(np.rint(share * 9).astype(int).ravel()) == set(range(10))
    np.testing.assert_allclose(share * 9, np.rint(share * 9), atol=0.1)
    assert share[class_map == 0].max() < 0.7 and share[class_map > 0].min() > 0.3


def test_colour_does_not_tell_the_class():
    colours = {label: [] for label in range(1, 5)}
    for pixels, _, seen in pictures(200):
        for label, mask in seen:
            colours[label].append(pixels[mask].mean(0))
    means = [np.mean(found, 0) for found in colours.values()]
    assert np.ptp(means, axis=0).max() < 35  # the colours themselves deviate by 80
    assert min(np.std(found, 0).min() for found in colours.values()) > 60


@pytest.fixture
def few(monkeypatch):
    """The splits with few pictures, and which were made."""
    made, make = [], made_shapes.made_shape_image
    monkeypatch.setattr(made_shapes, "SIZES", {"train": 9, "validation": 3, "test": 4})
    monkeypatch.setattr(made_shapes, "made_shape_image", lambda split, number: made.append(split) or make(split, number))
    return made


def test_a_split_holds_the_bytes_of_its_pictures_and_masks(few):
    splits, about = shapes()
    batch = splits["test"].fetch(tf.constant([3, 0], tf.int64))
    for place, number in enumerate((3, 0)):
        pixels, class_map, _ = made_shape_image("test", number)
        np.testing.assert_array_equal(decode_image(batch["image"][place], *pixels.shape), pixels)
        np.testing.assert_array_equal(decode_class_map(batch["truth"][place], about["coding"]), class_map)
        assert Image.open(io.BytesIO(batch["image"][place].numpy())).size == class_map.shape[::-1]
    assert {made_shape_image("test", number)[1].shape for number in range(4)} == {(96, 96), (80, 112)}


def test_pictures_are_made_when_their_split_is_first_fetched_from_and_once(few):
    splits, _ = shapes()
    assert few == [] and {name: source.size for name, source in splits.items()} == {"train": 9, "validation": 3, "test": 4}
    for batch in tf.data.Dataset.range(3).batch(2).map(splits["validation"].fetch):
        assert batch["image"].dtype == batch["truth"].dtype == tf.string
    splits["validation"].fetch(tf.constant([0], tf.int64))
    assert few == ["validation"] * 3


def test_what_is_known_of_the_pictures_goes_with_their_classes():
    splits, about = shapes()
    assert [splits[name].size for name in ("train", "validation", "test")] == [2_000, 200, 500]
    assert about["classes"] == CLASSES and about["palette"] == PALETTE and len(set(PALETTE)) == len(CLASSES)
    assert about["shape"] is None and about["channels"] == 3


def test_mean_and_deviation_are_near_those_of_some_pictures():
    pixels = np.concatenate([each[0].reshape(-1, 3) for each in pictures(200)]).astype(float)
    about = shapes()[1]
    np.testing.assert_allclose(about["mean"], pixels.mean(0), atol=6)
    np.testing.assert_allclose(about["std"], pixels.std(0), atol=3)


def decoded(rle, mask):
    from faster_coco_eval.core import mask as coco

    return coco.decode({"size": list(mask.shape), "counts": rle.numpy()})


def test_instances_are_the_boxed_objects_with_the_very_masks_of_what_is_seen(few):
    labels = (0, -1, 1, 2)
    splits, boxed = instance_shapes(labels, 96, 96), boxed_shapes(labels)
    assert {name: source.size for name, source in splits.items()} == {"train": 9, "validation": 3, "test": 4}
    for split in splits:
        batch, others = (each[split].fetch(tf.constant([2, 0], tf.int64)) for each in (splits, boxed))
        for name, values in others.items():
            np.testing.assert_array_equal(batch[name], values)
        for row, number in enumerate((2, 0)):
            seen = [mask for label, mask in made_shape_image(split, number)[2] if labels[label - 1] >= 0]
            assert len(seen) == (batch["labels"][row].numpy() >= 0).sum()
            for place, mask in enumerate(seen):
                np.testing.assert_array_equal(decoded(batch["rles"][row, place], mask), mask)
                if split != "test":
                    np.testing.assert_array_equal(batch["masks"][row, place], mask)
        assert ("masks" in batch) == (split != "test")


def test_a_shape_of_which_fewer_than_16_pixels_are_seen_is_no_instance(monkeypatch):
    masks = [np.zeros((8, 10), bool) for _ in range(2)]
    masks[0][:3, :5], masks[1][4:8, 2:6] = True, True
    monkeypatch.setattr(made_shapes, "made_shape_image", lambda split, number: (np.zeros((8, 10, 3), np.uint8), None, [
        (1, masks[0]), (3, masks[1])]))  # fmt: skip
    batch = instance_shapes((0, 1, 2, 3), 8, 10, limit=1)["train"].fetch(tf.constant([0], tf.int64))
    assert batch["labels"].numpy().tolist() == [[2]] and batch["masks"].shape == (1, 1, 8, 10)
    np.testing.assert_array_equal(batch["masks"][0, 0], masks[1])
