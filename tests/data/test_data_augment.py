"""Augmentation against slow NumPy twins, and its dependence on the seeds alone."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data.augment import chain, cutout, pad_crop_flip, shift
from kerastoolkit.experiment import InputError


def batch(size=6, height=8, width=10, channels=3, dtype=np.uint8):
    images = np.random.default_rng(0).integers(1, 256, (size, height, width, channels)).astype(dtype)
    return {"image": tf.constant(images), "label": tf.range(size, dtype=tf.int64)}


def seeds(size=6, first=0):
    return tf.constant([[7, number] for number in range(first, first + size)], tf.int32)


def possible_crops(image, pixels, mode, flip):
    """Every picture that padding, cropping and mirroring may give, by NumPy."""
    height, width, _ = image.shape
    padded = np.pad(image, [(pixels, pixels), (pixels, pixels), (0, 0)], mode=mode)
    for top in range(2 * pixels + 1):
        for left in range(2 * pixels + 1):
            crop = padded[top : top + height, left : left + width]
            yield crop
            if flip:
                yield crop[:, ::-1]


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize("flip", [True, False])
def test_each_image_becomes_one_of_the_crops_that_numpy_gives(padding, mode, flip):
    raw = batch()
    images = pad_crop_flip(2, flip=flip, padding=padding)(raw, seeds())["image"].numpy()
    for before, after in zip(raw["image"].numpy(), images, strict=True):
        assert any(np.array_equal(after, crop) for crop in possible_crops(before, 2, mode, flip))


def test_all_crops_and_both_directions_come_up_about_equally_often():
    image = np.arange(1, 65, dtype=np.float32).reshape(1, 8, 8, 1)
    raw = {"image": tf.constant(np.repeat(image, 9_000, axis=0))}
    images = pad_crop_flip(1)(raw, seeds(9_000))["image"].numpy()
    _, counts = np.unique(images.reshape(9_000, -1), axis=0, return_counts=True)
    assert len(counts) == 18  # 3 x 3 places, mirrored or not
    assert counts.min() > 400 and counts.max() < 600  # 500 expected, standard deviation 22


def test_padding_by_zero_pixels_without_flips_changes_nothing():
    raw = batch()
    np.testing.assert_array_equal(shift(0)(raw, seeds())["image"], raw["image"])


def test_an_example_depends_on_its_own_seed_pair_alone():
    raw, augment = batch(), chain(pad_crop_flip(3), cutout(4))
    together = augment(raw, seeds())["image"].numpy()
    for number in (0, 3, 5):
        alone = {key: value[number : number + 1] for key, value in raw.items()}
        np.testing.assert_array_equal(augment(alone, seeds(1, number))["image"][0], together[number])
    assert not np.array_equal(augment(raw, seeds(first=50))["image"], together)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_labels_shape_and_type_stay_as_they_are(dtype):
    raw = batch(dtype=dtype)
    result = chain(pad_crop_flip(2), cutout(3))(raw, seeds())
    np.testing.assert_array_equal(result["label"], raw["label"])
    assert result["image"].dtype == raw["image"].dtype and result["image"].shape == raw["image"].shape


def test_shift_never_mirrors():
    raw = {"image": tf.constant(np.tile(np.arange(1.0, 9.0), (200, 8, 1))[..., None])}
    rows = shift(2)(raw, seeds(200))["image"].numpy()[:, 4, :, 0]
    assert all((np.diff(row[row > 0]) > 0).all() for row in rows)


def test_cutout_blackens_one_square_and_nothing_else():
    raw = batch(size=200, height=12, width=12)
    before, after = raw["image"].numpy(), cutout(4)(raw, seeds(200))["image"].numpy()
    black = (after == 0).all(axis=-1)
    assert (after[~black] == before[~black]).all()
    for one in black:
        rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
        assert one.sum() == len(rows) * len(columns)
        assert np.ptp(rows) == len(rows) - 1 <= 3 and np.ptp(columns) == len(columns) - 1 <= 3
    sizes = black.sum((1, 2))
    assert (sizes == 16).any() and (sizes < 16).any()  # whole ones, and some cut at the edge


def test_the_steps_of_a_chain_draw_independently():
    image = np.arange(1, 65, dtype=np.float32).reshape(1, 8, 8, 1)
    raw = {"image": tf.constant(np.repeat(image, 500, axis=0))}
    moved = chain(shift(1), shift(1))(raw, seeds(500))["image"].numpy()
    # Down by one and up again leaves a black last row; two moves that were the same would never give that.
    down_and_up = image[0, :, :, 0].copy()
    down_and_up[-1] = 0
    assert any(np.array_equal(picture[:, :, 0], down_and_up) for picture in moved)


def test_augmentation_in_a_graph_is_the_same_as_outside():
    raw, augment = batch(), chain(pad_crop_flip(2), cutout(3))
    inside = tf.function(lambda image, pairs: augment({"image": image}, pairs)["image"])
    np.testing.assert_array_equal(inside(raw["image"], seeds()), augment(raw, seeds())["image"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pad_crop_flip(-1), "pixels must be at least 0, got -1"),
        (lambda: pad_crop_flip(1, padding="mirror"), "padding must be zeros or reflect, got mirror"),
        (lambda: cutout(0), "pixels must be at least 1, got 0"),
    ],
)
def test_wrong_values_are_refused_with_the_rule_and_the_value(make, message):
    with pytest.raises(InputError, match=message):
        make()
