"""Masks of objects pasted into images, held to a slow twin of torchvision's rule and, where it is installed, to torchvision."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.serving.instances import PasteMasks, pasted_mask

HEIGHT, WIDTH = 60, 90


def slowly_resized(mask, height, width):
    """Bilinear, the centres of pixels at halves, no antialiasing, in loops."""
    found = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y, x = (max((place + 0.5) * own / side - 0.5, 0)
                    for place, own, side in ((row, mask.shape[0], height), (column, mask.shape[1], width)))  # fmt: skip
            top, left = int(y), int(x)
            bottom, right = min(top + 1, mask.shape[0] - 1), min(left + 1, mask.shape[1] - 1)
            upper = mask[top, left] * (1 - x + left) + mask[top, right] * (x - left)
            lower = mask[bottom, left] * (1 - x + left) + mask[bottom, right] * (x - left)
            found[row, column] = upper * (1 - y + top) + lower * (y - top)
    return found


def slowly_pasted(mask, box, height, width):
    """What torchvision's paste_masks_in_image does with one mask."""
    side = len(mask)
    padded = np.zeros((side + 2, side + 2))
    padded[1:-1, 1:-1] = mask
    middle_x, middle_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half_x, half_y = (box[2] - box[0]) / 2 * (side + 2) / side, (box[3] - box[1]) / 2 * (side + 2) / side
    left, top, right, bottom = map(int, (middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y))
    resized = slowly_resized(padded, max(bottom - top + 1, 1), max(right - left + 1, 1))
    image = np.zeros((height, width))
    for row in range(max(top, 0), min(bottom + 1, height)):
        for column in range(max(left, 0), min(right + 1, width)):
            image[row, column] = resized[row - top, column - left]
    return image


def some_masks(seed, count, side=14):
    """Probabilities, and boxes of which many reach beyond the border of the image."""
    generator = np.random.default_rng(seed)
    middles = generator.uniform(0, (WIDTH, HEIGHT), (count, 2))
    halves = generator.uniform(1, 40, (count, 2))
    boxes = np.concatenate([middles - halves, middles + halves], axis=1).astype("float32")
    return generator.uniform(size=(count, side, side)).astype("float32"), boxes


def pasted(probabilities, box, height=HEIGHT, width=WIDTH):
    found = pasted_mask(tf.constant(probabilities, tf.float32), tf.constant(box, tf.float32), tf.constant([height, width]))
    assert found.shape == (height, width) and found.dtype == tf.float32
    return found.numpy()


def files(probabilities, boxes, count, size):
    """The layer's answer to images with as many objects."""
    return PasteMasks()(tf.constant(probabilities, tf.float32), tf.constant(boxes, tf.float32), tf.constant(count),
                        tf.constant(size)).numpy()  # fmt: skip


def read(file):
    pixels = tf.io.decode_png(file).numpy()
    assert pixels.shape[2] == 1
    return pixels[..., 0]


@pytest.mark.parametrize("side", [1, 5, 14, 28])
def test_a_mask_is_pasted_by_torchvisions_rule(side):
    for mask, box in zip(*some_masks(side, 12, side), strict=True):
        expected = slowly_pasted(mask, box.astype(float), HEIGHT, WIDTH)
        np.testing.assert_allclose(pasted(mask, box), expected, atol=2e-5)
        assert expected.any()


def test_a_mask_is_pasted_as_torchvision_itself_does():
    torch = pytest.importorskip("torch")
    heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    masks, boxes = some_masks(7, 200, 28)
    expected = heads.paste_masks_in_image(torch.tensor(masks)[:, None], torch.tensor(boxes), (HEIGHT, WIDTH))[:, 0].numpy()
    for mask, box, one in zip(masks, boxes, expected, strict=True):
        np.testing.assert_allclose(pasted(mask, box), one, atol=1e-5)


def test_a_full_mask_fills_its_box_up_to_half_a_place_of_the_mask_at_each_side():
    # 2 x 2 places of 10 pixels each grow to 4 x 4 in a box from 0 to 40, which is 41 pixels. The full value ends half a place
    # inside the box of 10 to 30, at 15 and 25, and 0 begins half a place outside, at 5 and 35.
    found = pasted(np.ones((2, 2)), (10, 10, 30, 30))
    assert (found[16:25, 16:25] == 1).all() and not found[:5].any() and not found[36:].any() and not found[:, 36:].any()
    row = found[20, :41]
    np.testing.assert_allclose(row, row[::-1], atol=1e-6)
    rising = row[6:15]
    assert (np.diff(rising) > 0.05).all() and (row >= 0.5).sum() == 21  # 10 to 30, both of them


def test_corners_are_cut_toward_0_to_whole_pixels():
    # One place grows to three: a box from -2.5 to 0.5 to one from -5.5 to 3.5, cut to -5 .. 3, which are nine pixels. The centres
    # of the image's first three are at 5.5, 6.5 and 7.5 ninths of three places, less a half: 4/3, 5/3 and 2. The middle place is
    # 1, the third 0.
    found = pasted([[1.0]], (-2.5, 9, 0.5, 15))
    np.testing.assert_allclose(found[12, :5], [2 / 3, 1 / 3, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("box", [(5, 5, 5, 5), (5, 5, 5, 40), (20, 20, 10, 10), (-50, -50, -20, -20), (200, 10, 300, 20),
                                 (np.nan, 0, 10, 10), (0, 0, np.inf, 10), (-np.inf, 0, np.inf, 10), (-3e38, 0, 3e38, 10),
                                 (0, 0, 0, 0)])  # fmt: skip
def test_a_box_without_area_outside_or_not_finite_has_hardly_a_pixel(box):
    found = pasted(np.ones((14, 14)), box)
    assert np.isfinite(found).all() and (found > 0).sum() <= 42
    (file,) = files(np.ones((1, 1, 14, 14)), [[box]], [1], [[HEIGHT, WIDTH]])[0]
    np.testing.assert_array_equal(read(file) == 255, found >= 0.5)


@pytest.mark.parametrize("reach", [1e5, 1e9, 1e30])
def test_of_a_huge_box_no_more_is_made_than_lies_in_the_image(reach):
    # At 1e5 a resize of the whole would take 160 GB. The image lies in the middle of the mask, which is 1 there and 0 elsewhere.
    mask = np.zeros((15, 15))
    mask[:, 7] = 1
    found = pasted(mask, (-reach, -reach, reach, reach))
    np.testing.assert_allclose(found, 1, atol=0.02)


def test_files_hold_255_where_the_probability_is_at_least_a_half():
    masks, boxes = some_masks(3, 6)
    found = files(masks[None], boxes[None], [6], [[HEIGHT, WIDTH]])
    assert found.shape == (1, 6)
    for mask, box, file in zip(masks, boxes, found[0], strict=True):
        pixels, expected = read(file), slowly_pasted(mask, box.astype(float), HEIGHT, WIDTH)
        sure = np.abs(expected - 0.5) > 1e-4
        np.testing.assert_array_equal(pixels[sure], np.where(expected >= 0.5, 255, 0)[sure])
        assert set(np.unique(pixels)) == {0, 255} and sure.mean() > 0.99


def test_a_probability_of_exactly_a_half_belongs_to_the_object():
    # A mask without its border is seen in the middle, where it is even.
    half = files(np.full((1, 1, 14, 14), 0.5), [[[-500, -500, 500, 500]]], [1], [[HEIGHT, WIDTH]])
    less = files(np.full((1, 1, 14, 14), 0.4999), [[[-500, -500, 500, 500]]], [1], [[HEIGHT, WIDTH]])
    assert (read(half[0, 0]) == 255).all() and not read(less[0, 0]).any()


def test_every_image_has_its_own_size_and_its_own_objects_and_nothing_beyond_their_count():
    masks, boxes = some_masks(5, 9)
    masks, boxes = masks.reshape(3, 3, 14, 14), boxes.reshape(3, 3, 4)
    sizes = [[HEIGHT, WIDTH], [33, 17], [100, 120]]
    found = files(masks, boxes, [2, 3, 0], sizes)
    assert [[file != b"" for file in row] for row in found] == [[True, True, False], [True] * 3, [False] * 3]
    for image, number in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2)):
        np.testing.assert_array_equal(read(found[image, number]) == 255,
                                      pasted(masks[image, number], boxes[image, number], *sizes[image]) >= 0.5)  # fmt: skip


def test_objects_beyond_the_count_are_not_looked_at():
    masks = np.full((1, 2, 14, 14), np.nan)
    masks[0, 0] = 1
    found = files(masks, [[[0, 0, 9, 9], [np.nan] * 4]], [1], [[HEIGHT, WIDTH]])
    assert read(found[0, 0]).any() and found[0, 1] == b""


def whole_model():
    given = {"probabilities": keras.Input((None, 14, 14), name="probabilities"), "boxes": keras.Input((None, 4), name="boxes"),
             "count": keras.Input((), dtype="int32", name="count"),
             "size": keras.Input((2,), dtype="int32", name="size")}  # fmt: skip
    return keras.Model(given, {"masks": PasteMasks(name="paste")(*given.values())})


def test_shape_and_kind_of_the_answer_are_known_beforehand():
    (found,) = whole_model().output.values()
    assert found.shape == (None, None) and found.dtype == "string"


@pytest.mark.parametrize("how", ["saved", "exported"])
def test_a_model_that_was_saved_or_exported_answers_the_same_to_any_batch(tmp_path, how):
    model = whole_model()
    if how == "saved":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    else:
        model.export(tmp_path / "export", verbose=False)
        exported = tf.saved_model.load(tmp_path / "export")
        loaded = exported.serve
    for shape in ((1, 1), (3, 4)):
        masks, boxes = some_masks(0, math.prod(shape))
        given = {"probabilities": tf.constant(masks.reshape(*shape, 14, 14)), "boxes": tf.constant(boxes.reshape(*shape, 4)),
                 "count": tf.constant([1, 4, 0][: shape[0]]), "size": tf.constant([[HEIGHT, WIDTH]] * shape[0])}  # fmt: skip
        found = loaded(given)["masks"].numpy()
        assert found.shape == shape and read(found[0, 0]).any()
        np.testing.assert_array_equal(found, files(*(each.numpy() for each in given.values())))
