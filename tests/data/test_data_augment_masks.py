"""Images and masks moved by one map. Images whose pixels hold their own coordinates show where each pixel was taken from."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data import augment_masks
from kerastoolkit.data.augment import chain
from kerastoolkit.data.augment_masks import change_colours, move_with_masks
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.class_maps import IGNORED

HEIGHT, WIDTH = 12, 20  # 240 pixels: a mask of uint8 can give each a number of its own
COLOURS = np.array([[0, 0, 0], [200, 40, 90], [60, 220, 10], [250, 250, 250]], np.float32)
MOVES = {
    "enlarging": {"scale": (1.2, 2.0), "flip": False},
    "shrinking": {"scale": (0.5, 0.9), "flip": False},
    "turning": {"scale": (1.0, 1.0), "rotation": 30.0, "flip": False},
    "mirroring": {"scale": (1.0, 1.0)},
    "all": {"scale": (0.6, 1.7), "rotation": 20.0},
}


def seeds(size, first=0):
    return tf.constant([[7, number] for number in range(first, first + size)], tf.int32)


def repeated(size, **values):
    return {name: tf.constant(np.repeat(value[None], size, axis=0)) for name, value in values.items()}


def coordinates():
    """An image whose two channels are each pixel's column and row, and a mask that numbers the pixels."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    numbers = rows * WIDTH + columns
    return {"image": np.stack([columns, rows], axis=-1).astype(np.float32), "mask": numbers.astype(np.uint8),
            "weight": numbers.astype(np.float32) / 2}  # fmt: skip


def painted():
    """An image of 60 x 80 pixels whose colours are those of its classes, in blocks, and its mask."""
    mask = np.kron(np.random.default_rng(0).integers(0, 4, (5, 5)), np.ones((12, 16), int)).astype(np.uint8)
    return {"image": COLOURS[mask], "mask": mask}


def maps_of(size, **options):
    """The map of each of ``size`` examples, output (column, row, 1) -> input (column, row): (size, 3, 2)."""
    moved = move_with_masks(**options)(repeated(size, **coordinates()), seeds(size))
    found = []
    for image, mask in zip(moved["image"].numpy(), moved["mask"].numpy(), strict=True):
        rows, columns = np.nonzero(from_inside(mask))
        places = np.stack([columns, rows, np.ones_like(rows)], axis=1)
        solved, error, _, _ = np.linalg.lstsq(places, image[rows, columns], rcond=None)
        assert np.all(error < 1e-4)
        found.append(solved)
    return np.array(found)


def from_inside(mask):
    """Which pixels come from inside the image of ``coordinates``: into those from its border the grey beyond is mixed."""
    rows, columns = np.divmod(mask.astype(int), WIDTH)
    return (mask != IGNORED) & (rows > 0) & (rows < HEIGHT - 1) & (columns > 0) & (columns < WIDTH - 1)


def at(maps, column, row):
    return np.array([column, row, 1.0]) @ maps


@pytest.mark.parametrize("move", MOVES)
def test_a_painted_image_agrees_with_its_mask_but_on_edges(move):
    moved = move_with_masks(**MOVES[move])(repeated(30, **painted()), seeds(30))
    compared = 0
    for image, mask in zip(moved["image"].numpy(), moved["mask"].numpy(), strict=True):
        # Bilinear pixels mix neighbours: those compared have only their own class two pixels around.
        around = np.lib.stride_tricks.sliding_window_view(mask, (5, 5))
        same = (around == mask[2:-2, 2:-2, None, None]).all(axis=(2, 3)) & (mask[2:-2, 2:-2] != IGNORED)
        np.testing.assert_allclose(image[2:-2, 2:-2][same], COLOURS[mask[2:-2, 2:-2][same]], atol=1e-3)
        compared += same.mean() / 30
    assert compared > (0.2 if move == "shrinking" else 0.4)


@pytest.mark.parametrize("move", MOVES)
def test_each_pixel_of_mask_and_weight_is_the_nearest_to_where_the_image_was_read(move):
    moved = move_with_masks(**MOVES[move])(repeated(30, **coordinates()), seeds(30))
    for image, mask, weight in zip(*(moved[name].numpy() for name in ("image", "mask", "weight")), strict=True):
        column, row = image[..., 0], image[..., 1]
        halfway = (np.abs(column % 1 - 0.5) < 1e-3) | (np.abs(row % 1 - 0.5) < 1e-3)
        compared = from_inside(mask) & ~halfway
        np.testing.assert_array_equal(mask[compared], np.rint(row[compared]) * WIDTH + np.rint(column[compared]))
        np.testing.assert_array_equal(weight, np.where(mask == IGNORED, 0, mask / 2))
        assert compared.sum() > 10


def test_a_mask_has_no_class_that_was_not_there():
    mask = np.full((HEIGHT, WIDTH), 3, np.uint8)
    mask[3:7, 5:12], mask[8:, 2:9] = 90, 200
    raw = repeated(50, image=np.zeros((HEIGHT, WIDTH, 3), np.float32), mask=mask)
    moved = move_with_masks(**MOVES["all"])(raw, seeds(50))["mask"]
    assert moved.dtype == tf.uint8
    assert set(np.unique(moved)) == {3, 90, 200, IGNORED}


def test_beyond_a_shrunken_image_is_grey_that_is_ignored_and_weighs_nothing():
    mask = np.ones((40, 40), np.uint8)
    raw = repeated(20, image=np.full((40, 40, 3), 10, np.float32), mask=mask, weight=mask.astype(np.float32))
    moved = move_with_masks(scale=(0.5, 0.5))(raw, seeds(20))
    image, mask, weight = (moved[name].numpy() for name in ("image", "mask", "weight"))
    assert (mask == 1).sum(axis=(1, 2)).tolist() == [400] * 20 and set(np.unique(mask)) == {1, IGNORED}
    np.testing.assert_array_equal(weight, mask == 1)
    for one, known in zip(image, mask == 1, strict=True):
        rows, columns = np.nonzero(known)
        near = np.zeros_like(known)
        near[max(0, rows.min() - 1) : rows.max() + 2, max(0, columns.min() - 1) : columns.max() + 2] = True
        assert (one[~near] == 127.5).all()
        np.testing.assert_allclose(one[rows.min() + 1 : rows.max(), columns.min() + 1 : columns.max()], 10, atol=1e-3)


def test_scale_1_without_turn_and_mirror_changes_nothing():
    raw = repeated(5, **coordinates())
    raw["image"] = tf.random.stateless_uniform((5, HEIGHT, WIDTH, 3), (1, 2), 0, 255)
    moved = move_with_masks(scale=(1.0, 1.0), flip=False)(raw, seeds(5))
    np.testing.assert_allclose(moved["image"], raw["image"], atol=1e-3)
    for name in ("mask", "weight"):
        np.testing.assert_array_equal(moved[name], raw[name])


def test_scale_1_without_turn_mirrors_about_half_of_the_images_and_leaves_the_others():
    mask = coordinates()["mask"]
    moved = move_with_masks(scale=(1.0, 1.0))(repeated(400, **coordinates()), seeds(400))["mask"].numpy()
    as_they_were, mirrored = ((moved == each).all(axis=(1, 2)) for each in (mask, mask[:, ::-1]))
    assert (as_they_were ^ mirrored).all()
    assert 160 < mirrored.sum() < 240  # 200 expected, standard deviation 10


def test_mirroring_alone_is_what_the_map_does_at_scale_1():
    raw, hardly = repeated(16, **coordinates()), (1.0, 1.0 + 1e-9)
    alone, mapped = (move_with_masks(scale=scale)(raw, seeds(16)) for scale in ((1.0, 1.0), hardly))
    np.testing.assert_allclose(alone["image"], mapped["image"], atol=1e-3)
    for name in ("mask", "weight"):
        np.testing.assert_array_equal(alone[name], mapped[name])


@pytest.mark.parametrize(("turn", "mirror", "expected"), [
    (1.0, 0.9, [[3, 6, 9], [2, 5, 8], [1, 4, 7]]),  # to the left, a quarter
    (0.0, 0.9, [[7, 4, 1], [8, 5, 2], [9, 6, 3]]),
    (0.5, 0.9, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    (1.0, 0.1, [[9, 6, 3], [8, 5, 2], [7, 4, 1]]),  # the first, mirrored
])  # fmt: skip
def test_a_quarter_turn_by_hand(monkeypatch, turn, mirror, expected):
    draws = tf.constant([[0.5, turn, mirror, 0.5, 0.5]])  # size, turn, mirror, place
    monkeypatch.setattr(augment_masks, "uniforms", lambda seeds, shape: draws)
    mask = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3)
    moved = move_with_masks(scale=(1.0, 1.0), rotation=90.0)({"image": mask[..., None], "mask": mask}, seeds(1))
    assert moved["mask"][0].numpy().tolist() == expected
    np.testing.assert_allclose(moved["image"][0, ..., 0], expected, atol=1e-4)


def test_a_half_sized_image_by_hand(monkeypatch):
    monkeypatch.setattr(augment_masks, "uniforms", lambda seeds, shape: tf.constant([[0.0, 0.5, 0.9, 0.5, 0.5]]))
    mask = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    moved = move_with_masks(scale=(0.5, 1.0))({"image": 10 * mask[..., None], "mask": mask}, seeds(1))
    # Output pixels 1 and 2 lie at 0.5 and 2.5 of the input: the mean of two rows and two columns. 0 and 3 lie at -1.5 and 4.5.
    grey = [127.5] * 4
    expected = [grey, [127.5, 25, 45, 127.5], [127.5, 105, 125, 127.5], grey]
    np.testing.assert_allclose(moved["image"][0, ..., 0], expected, atol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 1.5, 0.75])
def test_the_middle_of_an_image_stays_in_the_middle_on_average(scale):
    middles = at(maps_of(300, scale=(scale, scale)), (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    room = abs(1 - 1 / scale) * np.array([WIDTH, HEIGHT])
    error = 4 * room / np.sqrt(12 * 300) + 1e-4  # four times the standard deviation of the mean of an even draw
    assert (np.abs(middles.mean(axis=0) - [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]) < error).all()


@pytest.mark.parametrize("scale", [1.6, 0.6])
def test_the_crop_or_the_border_goes_everywhere_and_never_farther(scale):
    maps = maps_of(300, scale=(scale, scale), flip=False)
    first, last = at(maps, -0.5, -0.5), at(maps, WIDTH - 0.5, HEIGHT - 0.5)  # the corners of the first and last pixel
    if scale < 1:  # the image's corners in the output, by turning the map round
        first, last = ((corner - maps[:, 2]) @ np.linalg.inv(maps[0, :2]) for corner in ([-0.5] * 2, [WIDTH - 0.5, HEIGHT - 0.5]))
    sides = np.array([WIDTH, HEIGHT])
    assert (first > -0.501).all() and (last < sides - 0.499).all()
    room = abs(1 - min(scale, 1 / scale)) * sides
    assert (first.min(axis=0) < -0.5 + 0.03 * room).all() and (last.max(axis=0) > sides - 0.5 - 0.03 * room).all()
    # Across and down are drawn apart.
    assert abs(np.corrcoef(first.T)[0, 1]) < 0.2


def test_scales_reach_both_ends_and_are_even_in_their_logarithm():
    maps = maps_of(400, scale=(0.5, 2.0), flip=False)
    drawn = -0.5 * np.log2(np.linalg.det(maps[:, :2]))  # -1 .. 1
    assert -1.001 < drawn.min() < -0.97 and 0.97 < drawn.max() < 1.001
    assert abs(drawn.mean()) < 0.12 and abs(drawn.std() - 1 / np.sqrt(3)) < 0.06


def test_turns_go_to_both_sides_as_far_as_the_limit_and_keep_the_shape():
    maps = maps_of(300, scale=(1.0, 1.0), rotation=40.0, flip=False)
    angles = np.degrees(np.arctan2(maps[:, 0, 1], maps[:, 0, 0]))
    assert -40.01 < angles.min() < -38 and 38 < angles.max() < 40.01
    np.testing.assert_allclose(maps[:, :2] @ maps[:, :2].transpose(0, 2, 1), np.broadcast_to(np.eye(2), (300, 2, 2)), atol=1e-4)


@pytest.mark.parametrize("augment", [move_with_masks(rotation=10.0), change_colours(0.5)], ids=["moved", "colours"])
def test_an_example_depends_on_its_own_seed_pair_alone(augment):
    generator = np.random.default_rng(0)
    raw = {"image": tf.constant(generator.uniform(0, 255, (6, 8, 10, 3)).astype(np.float32)),
           "mask": tf.constant(generator.integers(0, 5, (6, 8, 10)).astype(np.uint8))}  # fmt: skip
    together = augment(raw, seeds(6))
    for number in (0, 3, 5):
        alone = augment({name: value[number : number + 1] for name, value in raw.items()}, seeds(1, number))
        for name in raw:
            np.testing.assert_array_equal(alone[name][0], together[name][number])
    assert not np.array_equal(augment(raw, seeds(6, first=50))["image"], together["image"])


def test_in_a_graph_the_same_happens_and_what_else_an_example_has_stays():
    raw = {**repeated(4, **coordinates()), "image": tf.zeros((4, HEIGHT, WIDTH, 3), tf.uint8), "truth": tf.constant(["a"] * 4)}
    augment = chain(move_with_masks(), change_colours())
    inside = tf.function(lambda raw, pairs: augment(raw, pairs))(raw, seeds(4))
    outside = augment(raw, seeds(4))
    assert inside.keys() == raw.keys() and inside["image"].dtype == tf.float32
    for name, value in outside.items():
        assert value.shape == raw[name].shape
        if name == "image":
            np.testing.assert_allclose(inside[name], value, atol=1e-3)
        else:
            np.testing.assert_array_equal(inside[name], value)
    np.testing.assert_array_equal(inside["truth"], raw["truth"])


def two_colours(size):
    """Two pixels: 20 of all, and a colour with the mean 100."""
    return repeated(size, image=np.array([[[20, 20, 20], [160, 100, 40]]], np.float32), mask=np.zeros((1, 2), np.uint8))


def test_colours_change_within_their_limits_and_reach_them():
    changed = change_colours(0.3)(two_colours(500), seeds(500))["image"].numpy()[:, 0]
    grey, means = changed[:, 0, 0], changed[:, 1].mean(axis=-1)
    contrast = (means - grey) / 80 - 1
    shift = (grey - 127.5 - (1 + contrast) * (20 - 127.5)) / 64
    saturation = (changed[:, 1, 0] - changed[:, 1, 2]) / 120 / (1 + contrast) - 1
    for drawn in (contrast, shift, saturation):
        assert -0.301 < drawn.min() < -0.28 and 0.28 < drawn.max() < 0.301
        assert abs(drawn.mean()) < 0.03
    assert np.abs(np.corrcoef([contrast, shift, saturation]) - np.eye(3)).max() < 0.15


def test_grey_stays_grey_and_masks_stay_as_they_are():
    raw = two_colours(20)
    changed = change_colours(0.9)(raw, seeds(20))
    np.testing.assert_allclose(np.ptp(changed["image"].numpy()[:, 0, 0], axis=-1), 0, atol=1e-3)
    np.testing.assert_array_equal(changed["mask"], raw["mask"])


def test_strength_0_changes_no_colour():
    raw = two_colours(3)
    np.testing.assert_allclose(change_colours(0.0)(raw, seeds(3))["image"], raw["image"], atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: move_with_masks(scale=(0.0, 1.0)), "scale must be two numbers above 0, .* got 0.0 and 1.0"),
        (lambda: move_with_masks(scale=(1.5, 0.5)), "the second not below the first, got 1.5 and 0.5"),
        (lambda: move_with_masks(scale=(1.0, float("inf"))), "got 1.0 and inf"),
        (lambda: move_with_masks(rotation=-1.0), "rotation must be at least 0, got -1.0"),
        (lambda: change_colours(1.0), r"colours must be in \[0, 1\), got 1.0"),
        (lambda: change_colours(-0.1), r"colours must be in \[0, 1\), got -0.1"),
    ],
)
def test_wrong_values_are_refused_with_the_rule_and_the_value(make, message):
    with pytest.raises(InputError, match=message):
        make()
