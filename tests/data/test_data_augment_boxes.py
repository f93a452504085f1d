"""Boxes that move with their images: rectangles are painted, and found again where the moved boxes say."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data import augment_boxes
from kerastoolkit.data.augment import chain
from kerastoolkit.data.augment_boxes import in_letterbox, mixup, mosaic, move_with_boxes
from kerastoolkit.experiment import InputError

HEIGHT, WIDTH = 48, 64
EXAMPLES = 12
STILL = {"scale": (1.0, 1.0), "translate": 0.0, "flip": False}
MOVES = {
    "enlarging": {"scale": (1.2, 2.0), "flip": False},
    "shrinking": {"scale": (0.5, 0.9), "flip": False},
    "mirroring": {**STILL, "flip": True},
    "upside down": {**STILL, "flip_vertical": True},
    "shifting": {**STILL, "translate": 0.3},
    "all": {"flip_vertical": True},
}


def seeds(size, first=0):
    return tf.constant([[7, number] for number in range(first, first + size)], tf.int32)


def batch(image, boxes, labels=None, *, size=None, crowd=None, areas=None):
    """A raw batch; by default every box has label 0 and its own area, and an image is its own picture."""
    image, boxes = np.asarray(image, np.float32), np.asarray(boxes, np.float32).reshape(len(image), -1, 4)
    shape = boxes.shape[:2]
    raw = {"image": image, "boxes": boxes, "labels": np.zeros(shape, np.int32) if labels is None else np.int32(labels),
           "size": np.broadcast_to(np.int32(image.shape[1:3] if size is None else size), (len(image), 2)),
           "crowd": np.zeros(shape, bool) if crowd is None else np.array(crowd),
           "areas": np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) if areas is None else np.float32(areas)}  # fmt: skip
    return {name: tf.constant(value) for name, value in raw.items()}


def repeated(raw, size):
    return {name: tf.repeat(value, size, axis=0) for name, value in raw.items()}


def taken(raw, indices):
    """Some examples, padded as a source pads them: to the most boxes that one of them has."""
    some = {name: tf.gather(value, indices) for name, value in raw.items()}
    most = tf.maximum(tf.reduce_max(tf.reduce_sum(tf.cast(some["labels"] >= 0, tf.int32), axis=1)), 1)
    return {name: value[:, :most] if name in (*augment_boxes.TRUTHS, "masks") else value for name, value in some.items()}


def painted():
    """Of EXAMPLES pictures each has a channel of its own, and one or two rectangles: 255 in it, in all else 0.

    The first is painted in the picture's own channel, which is its label, the second in the one EXAMPLES further on. None touches
    the picture's border, where half a pixel is lost to the grey beyond.
    """
    generator = np.random.default_rng(0)
    image, boxes, labels = np.zeros((EXAMPLES, HEIGHT, WIDTH, 2 * EXAMPLES)), np.zeros((EXAMPLES, 2, 4)), np.zeros((EXAMPLES, 2))
    for example in range(EXAMPLES):
        for number, label in enumerate((example, example + EXAMPLES)):
            ends = (generator.choice(np.arange(2, side, 2), 2, replace=False) for side in (WIDTH, HEIGHT))
            (left, right), (top, bottom) = (np.sort(each) for each in ends)
            is_there = number == 0 or example % 3 == 0
            image[example, top:bottom, left:right, label] = 255 * is_there
            boxes[example, number], labels[example, number] = np.array([left, top, right, bottom]) * is_there, label
            labels[example, number] -= (label + 1) * (not is_there)
    return batch(image, boxes, labels)


def real(raw):
    """Of each example the boxes, labels, crowd and areas that are no padding, as NumPy arrays."""
    there = raw["labels"].numpy() >= 0
    return [tuple(raw[name].numpy()[row][there[row]] for name in augment_boxes.TRUTHS) for row in range(len(there))]


def assert_the_padding_is_empty_and_last(raw):
    boxes, labels, crowd, areas = (raw[name].numpy() for name in augment_boxes.TRUTHS)
    assert np.all(np.diff((labels >= 0).astype(int), axis=1) <= 0)
    assert labels.shape[1] == max(1, (labels >= 0).sum(axis=1).max())
    assert set(labels[labels < 0]) <= {-1}
    assert not boxes[labels < 0].any() and not crowd[labels < 0].any() and not areas[labels < 0].any()


def test_boxes_come_into_the_letterbox_of_an_image_of_odd_size_by_hand():
    # 101 x 50 in 64 x 48: its height fits, its width becomes 50 * 64 / 101 = 31.7, so 32, with (48 - 32) / 2 = 8 to the left.
    raw = batch(np.zeros((1, 64, 48, 3)), [[10, 20.2, 35, 50.5], [0, 0, 0, 0]], [[4, -1]], size=(101, 50), areas=[[100, 0]])
    boxed = in_letterbox()(raw)
    np.testing.assert_allclose(boxed["boxes"][0], [[14.4, 12.8, 30.4, 32], [0, 0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(boxed["areas"][0], [100 * 0.64 * 64 / 101, 0], rtol=1e-6)
    assert boxed["size"].numpy().tolist() == [[64, 48]] and boxed["labels"].numpy().tolist() == [[4, -1]]


def test_in_the_letterbox_is_where_boxes_stay_the_second_time():
    once = in_letterbox()(batch(np.zeros((1, 64, 48, 3)), [[10, 20.2, 35, 50.5]], size=(101, 50)))
    twice = in_letterbox()(once)
    for name, value in once.items():
        np.testing.assert_array_equal(twice[name], value)


@pytest.mark.parametrize("tiled", [False, True], ids=["alone", "in a mosaic"])
@pytest.mark.parametrize("move", MOVES)
def test_a_painted_rectangle_is_where_its_box_is(monkeypatch, move, tiled):
    # No picture twice in a mosaic, so that each channel holds one rectangle.
    partners = (np.repeat(np.arange(EXAMPLES), 4)[:, None] + [1, 2, 5]) % EXAMPLES
    monkeypatch.setattr(augment_boxes, "_drawn", lambda seeds, count, examples: tf.constant(partners))
    raw, moving = painted(), move_with_boxes(height=HEIGHT, width=WIDTH, **MOVES[move])
    augment = chain(mosaic(EXAMPLES), moving) if tiled else moving
    moved = augment(repeated(raw, 4), seeds(4 * EXAMPLES), lambda indices: taken(raw, indices))
    assert_the_padding_is_empty_and_last(moved)
    assert np.all(moved["size"] == [HEIGHT, WIDTH])
    compared = 0
    for image, (boxes, labels, _, _) in zip(moved["image"].numpy(), real(moved), strict=True):
        assert np.all(boxes >= 0) and np.all(boxes <= [WIDTH, HEIGHT, WIDTH, HEIGHT])
        for box, label in zip(boxes, labels, strict=True):
            rows, columns = np.nonzero(image[..., label] > 127.5)  # pixels whose centres are in the box
            np.testing.assert_allclose(box, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], rtol=0, atol=0.501)
            compared += 1
    assert compared > 40


def test_a_rectangle_without_a_box_is_hardly_to_be_seen():
    raw = repeated(painted(), 8)
    augment = move_with_boxes(height=HEIGHT, width=WIDTH, scale=(1.5, 3.0), translate=0.4, least_visible=0.0)
    moved = augment(raw, seeds(8 * EXAMPLES))
    dropped = 0
    for image, before, (_, labels, _, _) in zip(moved["image"].numpy(), raw["labels"].numpy(), real(moved), strict=True):
        for label in set(before[before >= 0]) - set(labels):
            rows, columns = np.nonzero(image[..., label] > 127.5)
            assert len(rows) == 0 or min(np.ptp(rows), np.ptp(columns)) + 1 <= 2
            dropped += 1
    assert dropped > 20


def test_a_still_picture_stays_as_it_is_to_the_bit():
    raw = painted()
    moved = move_with_boxes(height=HEIGHT, width=WIDTH, **STILL)(raw, seeds(EXAMPLES))
    for name, value in raw.items():
        np.testing.assert_array_equal(moved[name], value)


def test_a_half_sized_picture_by_hand():
    pixels = 10.0 * np.arange(16).reshape(1, 4, 4, 1)
    moved = move_with_boxes(height=4, width=4, **{**STILL, "scale": (0.5, 0.5)})(batch(pixels, [[0, 0, 4, 4]]), seeds(1))
    # Output pixels 1 and 2 lie at 0.5 and 2.5 of the input: the mean of two rows and two columns. 0 and 3 lie at -1.5 and 4.5.
    grey = [114] * 4
    np.testing.assert_allclose(moved["image"][0, ..., 0], [grey, [114, 25, 45, 114], [114, 105, 125, 114], grey], atol=1e-3)
    assert moved["boxes"].numpy().tolist() == [[[1, 1, 3, 3]]] and moved["areas"].numpy().tolist() == [[4]]


def test_boxes_are_cut_and_dropped_by_hand():
    # At scale 2 a picture of 40 x 40 shows what was in 10..30, of the size 20 x 20.
    boxes = [
        [0, 10, 11, 20],  # 1 of 11 columns is left: dropped
        [0, 15, 20, 25],  # half is left
        [20, 20, 20.9, 30],  # 1.8 pixels wide: dropped
        [20, 20, 21.1, 30],  # 2.2 pixels wide
        [0, 0, 0, 0],  # padding
        [0, 10, 12, 20],  # 2 of 12 columns are left; a crowd
        [35, 35, 40, 40],  # beyond: dropped
    ]
    raw = batch(np.zeros((1, 40, 40, 3)), boxes, [[0, 1, 2, 3, -1, 5, 6]], crowd=[[False] * 5 + [True, False]],
                areas=[[10, 100, 9, 8, 0, 60, 25]])  # fmt: skip
    moved = move_with_boxes(height=40, width=40, **{**STILL, "scale": (2.0, 2.0)})(raw, seeds(1))
    assert moved["labels"].numpy().tolist() == [[1, 3, 5]] and moved["crowd"].numpy().tolist() == [[False, False, True]]
    np.testing.assert_allclose(moved["boxes"][0], [[0, 10, 20, 30], [20, 20, 22.2, 40], [0, 0, 4, 20]], atol=1e-4)
    np.testing.assert_allclose(moved["areas"][0], [200, 32, 40], rtol=1e-4)  # four times as large, times what is left


def centres_and_sizes(raw):
    """Of one box in each of many examples: its centre (x, y) as shares of the picture, and its width in pixels."""
    height, width = raw["image"].shape[1:3]
    assert np.all(raw["labels"] == 0)
    boxes = raw["boxes"].numpy()[:, 0]
    return (boxes[:, :2] + boxes[:, 2:]) / 2 / [width, height], boxes[:, 2] - boxes[:, 0]


def middle_box(height, width, size):
    """A black picture of that size, many times, with a box of 4 x 4 pixels in its middle."""
    middle = np.array([width, height] * 2) / 2 + [-2, -2, 2, 2]
    return repeated(batch(np.zeros((1, height, width, 3)), middle), size)


def test_scales_reach_both_ends_and_are_even_in_their_logarithm():
    moved = move_with_boxes(height=20, width=20, scale=(0.5, 2.0))(middle_box(20, 20, 500), seeds(500))
    drawn = np.log2(centres_and_sizes(moved)[1] / 4)  # -1 .. 1
    assert -1.001 < drawn.min() < -0.97 and 0.97 < drawn.max() < 1.001
    assert abs(drawn.mean()) < 0.1 and abs(drawn.std() - 1 / np.sqrt(3)) < 0.05


def test_a_picture_is_shifted_evenly_and_no_farther_than_allowed():
    moved = move_with_boxes(height=20, width=40, **{**STILL, "translate": 0.2})(middle_box(20, 40, 500), seeds(500))
    shift = centres_and_sizes(moved)[0] - 0.5
    assert np.all(np.abs(shift) < 0.2001) and np.all(shift.min(axis=0) < -0.19) and np.all(shift.max(axis=0) > 0.19)
    assert np.all(np.abs(shift.mean(axis=0)) < 0.02) and abs(np.corrcoef(shift.T)[0, 1]) < 0.15


@pytest.mark.parametrize(("scale", "reach"), [(1.0, 0.5), (1.4, 0.5), (0.75, 0.25), (0.5, 0.0)])
def test_the_corner_of_a_mosaics_tiles_goes_as_far_as_it_is_seen_and_nothing_beyond_them_is(scale, reach):
    raw = middle_box(40, 80, 400)  # 0 throughout: grey would be seen
    moved = move_with_boxes(height=20, width=40, scale=(scale, scale), least_visible=0.0)(raw, seeds(400))
    assert not np.any(moved["image"])
    inside = tf.reduce_all(moved["labels"] >= 0, axis=1)  # at the very border the box is cut
    centres = centres_and_sizes({name: tf.boolean_mask(value, inside) for name, value in moved.items()})[0] - 0.5
    assert np.all(np.abs(centres) < reach + 1e-3)
    for side in (centres.min(axis=0), -centres.max(axis=0)):
        assert np.all(side < 0.08 - reach)  # a cut box's centre is up to 2 of 20 pixels from where the corner is
    assert np.all(np.abs(centres.mean(axis=0)) < 0.06)


def test_each_of_the_four_ways_to_mirror_comes_about_as_often():
    raw = repeated(batch(np.zeros((1, 20, 20, 3)), [0, 0, 4, 6]), 800)
    moved = move_with_boxes(height=20, width=20, **{**STILL, "flip": True, "flip_vertical": True})(raw, seeds(800))
    boxes, counts = np.unique(moved["boxes"].numpy()[:, 0], axis=0, return_counts=True)
    assert boxes.tolist() == [[0, 0, 4, 6], [0, 14, 4, 20], [16, 0, 20, 6], [16, 14, 20, 20]]
    assert np.all(np.abs(counts - 200) < 50)  # standard deviation 12


def test_a_mosaic_by_hand(monkeypatch):
    monkeypatch.setattr(augment_boxes, "_drawn", lambda seeds, count, examples: tf.constant([[1, 2, 3], [3, 3, 0]], tf.int64))
    image = np.arange(1, 5)[:, None, None, None] * np.ones((4, 2, 3, 1))
    # The third image is of 4 x 6 pixels, so that its box shrinks to half; the fourth has none.
    boxes = [[[0, 0, 1, 1], [1, 1, 3, 2]], [[1, 0, 2, 1], [0] * 4], [[2, 2, 4, 4], [0] * 4], [[0] * 4, [0] * 4]]
    labels, size = [[10, 11], [20, -1], [30, -1], [-1, -1]], [[2, 3], [2, 3], [4, 6], [2, 3]]
    raw = batch(image, boxes, labels, size=size, crowd=np.array(labels) == 20)
    made = mosaic(4)(taken(raw, [0, 1]), seeds(2), lambda indices: taken(raw, indices))
    up, down = np.repeat([1, 2], 3).tolist(), np.repeat([3, 4], 3).tolist()
    assert made["image"][0, ..., 0].numpy().tolist() == [up, up, down, down]
    assert made["size"].numpy().tolist() == [[4, 6], [4, 6]]
    assert made["labels"].numpy().tolist() == [[10, 11, 20, 30], [20, 10, 11, -1]]
    assert made["boxes"].numpy().tolist() == [
        [[0, 0, 1, 1], [1, 1, 3, 2], [4, 0, 5, 1], [1, 3, 2, 4]],
        [[1, 0, 2, 1], [3, 2, 4, 3], [4, 3, 6, 4], [0, 0, 0, 0]],
    ]
    assert made["crowd"].numpy().tolist() == [[False, False, True, False], [True, False, False, False]]
    assert made["areas"].numpy().tolist() == [[1, 2, 1, 1], [1, 1, 2, 0]]


def test_the_partners_in_mosaics_are_spread_evenly_over_the_examples():
    fetched = []
    raw = middle_box(8, 8, 10)

    def fetch(indices):
        fetched.append(indices.numpy().reshape(-1, 3))
        return taken(raw, indices)

    mosaic(10)(repeated(middle_box(8, 8, 1), 2000), seeds(2000), fetch)
    (partners,) = fetched
    assert np.all(np.abs(np.bincount(partners.ravel(), minlength=10) - 600) < 100)  # standard deviation 23
    assert np.abs(np.corrcoef(partners.T) - np.eye(3)).max() < 0.1


def test_no_partner_is_beyond_the_last_example(monkeypatch):
    largest = np.float32(1 - 2.0**-24)
    monkeypatch.setattr(augment_boxes, "uniforms", lambda seeds, shape: tf.fill((1, *shape), largest))
    for examples in (1, 2, 1000, 2**17, 2**17 + 1, 118_287, 1_281_167, 2**24):
        assert augment_boxes._drawn(seeds(1), 3, examples).numpy().tolist() == [[examples - 1] * 3]


def two_pictures():
    return batch(np.array([20, 120])[:, None, None, None] * np.ones((2, 6, 8, 3)), [[[0, 0, 4, 4]], [[2, 2, 8, 6]]], [[0], [1]])


def test_a_blend_by_hand(monkeypatch):
    monkeypatch.setattr(augment_boxes, "_drawn", lambda seeds, count, examples: tf.constant([[1], [0], [0]], tf.int64))
    monkeypatch.setattr(augment_boxes, "uniforms", lambda *_, **__: tf.constant([[0.2, 0.25], [0.6, 0.5], [0.4, 0.75]]))
    # The second is of 12 x 16 pixels, in a letterbox of half that.
    pictures = {**two_pictures(), "size": tf.constant([[6, 8], [12, 16]])}
    pictures["boxes"] *= [[[1.0]], [[2.0]]]
    pictures["areas"] *= [[1.0], [4.0]]
    raw = taken(pictures, [0, 1, 1])
    blended = mixup(2, 0.5, least=0.4)(raw, seeds(3), lambda indices: taken(pictures, indices))
    # The weights are 0.4 + 0.2 * 0.25 = 0.45 and 0.55; the second is left out.
    expected = [0.45 * 20 + 0.55 * 120, 120, 0.55 * 120 + 0.45 * 20]
    np.testing.assert_allclose(blended["image"], np.reshape(expected, (3, 1, 1, 1)) * np.ones((1, 6, 8, 3)), rtol=1e-6)
    assert blended["labels"].numpy().tolist() == [[0, 1], [1, -1], [1, 0]]
    small, large, none = [0, 0, 4, 4], [2, 2, 8, 6], [0] * 4
    assert blended["boxes"].numpy().tolist() == [[small, large], [large, none], [large, small]]
    assert blended["areas"].numpy().tolist() == [[16, 24], [24, 0], [24, 16]]


def test_blends_are_as_many_as_the_share_and_only_for_them_is_fetched():
    pictures, fetched = two_pictures(), []

    def fetch(indices):
        fetched.extend(indices.numpy())
        return taken(pictures, indices)

    raw = repeated(taken(pictures, [0]), 1000)
    blended = mixup(2, 0.3, least=0.2)(raw, seeds(1000), fetch)
    both = blended["labels"].numpy()[:, 1] >= 0
    assert both.sum() == len(fetched) and 240 < both.sum() < 360  # 300 expected, standard deviation 14
    assert 0.4 < np.mean(fetched) < 0.6
    weights = 1 - (blended["image"].numpy()[:, 0, 0, 0] - 20)[blended["labels"].numpy()[:, 1] == 1] / 100
    assert 0.2 <= weights.min() + 1e-6 < 0.25 and 0.75 < weights.max() - 1e-6 <= 0.8
    np.testing.assert_array_equal(blended["image"][~both], raw["image"][~both])


def test_with_share_0_nothing_is_fetched_and_nothing_changes():
    raw = two_pictures()
    blended = mixup(2, 0.0)(raw, seeds(2), lambda indices: pytest.fail("fetched"))
    for name, value in raw.items():
        np.testing.assert_array_equal(blended[name], value)


def photographs():
    """Noise for pictures, in letterboxes of many sizes, with 0 to 4 boxes, and names."""
    generator = np.random.default_rng(1)
    size = generator.integers(30, 90, (EXAMPLES, 2))
    boxes = np.sort(generator.uniform(0, size[:, None, None, ::-1], (EXAMPLES, 4, 2, 2)), axis=2).reshape(EXAMPLES, 4, 4)
    there = np.arange(4) < np.arange(EXAMPLES)[:, None] % 5
    labels = np.where(there, generator.integers(0, 9, there.shape), -1)
    raw = batch(generator.uniform(0, 255, (EXAMPLES, HEIGHT, WIDTH, 3)), boxes * there[..., None], labels, size=size,
                crowd=there & (boxes[..., 0] < 10))  # fmt: skip
    return {**raw, "name": tf.constant([f"{number}.jpg" for number in range(EXAMPLES)])}


def everything(examples):
    return chain(mosaic(examples), move_with_boxes(height=HEIGHT, width=WIDTH, flip_vertical=True), mixup(examples, 0.5))


def test_an_example_depends_on_its_own_seed_pair_alone():
    raw = photographs()

    @tf.function(reduce_retracing=True)
    def augmented(indices, pairs):
        return everything(EXAMPLES)(taken(raw, indices), pairs, lambda indices: taken(raw, indices))

    numbers = np.arange(EXAMPLES)
    pairs = seeds(EXAMPLES)
    together = augmented(numbers, pairs)
    assert_the_padding_is_empty_and_last(together)
    for some in (numbers[::-1], numbers[3:4], numbers[5:9]):
        others = augmented(some, tf.gather(pairs, some))
        assert_the_padding_is_empty_and_last(others)
        np.testing.assert_array_equal(others["image"], tf.gather(together["image"], some))
        expected = real(together)
        for row, number in enumerate(some):
            for value, before in zip(real(others)[row], expected[number], strict=True):
                # The last bit of a product may depend on how many are computed at once.
                np.testing.assert_allclose(value, before, rtol=1e-6)
    assert not np.array_equal(augmented(numbers, seeds(EXAMPLES, first=50))["image"], together["image"])


def test_in_a_pipeline_where_neither_batch_nor_boxes_have_a_known_count_the_same_happens():
    raw, augment = photographs(), everything(EXAMPLES)

    def fetch(indices):
        return taken(raw, indices)

    batches = tf.data.Dataset.range(EXAMPLES).batch(8).map(
        lambda indices: augment(fetch(indices), tf.gather(seeds(EXAMPLES), indices), fetch))  # fmt: skip
    assert batches.element_spec["image"].shape.as_list() == [None, HEIGHT, WIDTH, 3]
    for made, numbers in zip(batches, (np.arange(8), np.arange(8, EXAMPLES)), strict=True):
        outside = augment(fetch(numbers), tf.gather(seeds(EXAMPLES), numbers), fetch)
        assert made.keys() == raw.keys()
        for name, value in outside.items():
            assert value.dtype == raw[name].dtype
            if value.dtype == tf.float32:
                np.testing.assert_allclose(made[name], value, rtol=1e-5, atol=1e-3)
            else:
                np.testing.assert_array_equal(made[name], value)
        assert made["size"].numpy().tolist() == [[HEIGHT, WIDTH]] * len(numbers)
        assert made["name"].numpy().tolist() == [f"{number}.jpg".encode() for number in numbers]


def test_images_without_any_box_pass_through_all():
    raw = batch(np.ones((3, HEIGHT, WIDTH, 3)), np.zeros((3, 1, 4)), np.full((3, 1), -1), size=(30, 70))
    changed = everything(3)(raw, seeds(3), lambda indices: taken(raw, indices))
    assert changed["boxes"].numpy().tolist() == [[[0] * 4]] * 3 and changed["labels"].numpy().tolist() == [[-1]] * 3
    assert not np.any(changed["crowd"]) and not np.any(changed["areas"])


def with_masks(raw, masks):
    return {**raw, "masks": tf.constant(masks, tf.uint8)}


def brackets():
    """Of EXAMPLES pictures each has one to three objects, each white in the channel of its label and black elsewhere, as its mask
    is: an upright and a level bar that meet in a corner of its box."""
    generator = np.random.default_rng(4)
    masks, boxes = np.zeros((EXAMPLES, 3, HEIGHT, WIDTH), np.uint8), np.zeros((EXAMPLES, 3, 4))
    labels = np.where(np.arange(3) <= np.arange(EXAMPLES)[:, None] % 3, np.arange(3), -1)
    for example, number in np.argwhere(labels >= 0):
        left, top = generator.integers(1, (WIDTH - 22, HEIGHT - 22))
        wide, high = generator.integers(12, 21, 2)
        bracket = np.zeros((high, wide), np.uint8)
        bracket[:, :4] = bracket[-5:] = 1
        masks[example, number, top : top + high, left : left + wide] = np.rot90(bracket, 2 * (example % 2))[:, :: (-1) ** number]
        boxes[example, number] = left, top, left + wide, top + high
    return with_masks(batch(255 * np.moveaxis(masks, 1, -1), boxes, labels), masks)


def extent(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("move", MOVES)
def test_a_mask_moves_with_its_image_and_its_box_is_tight_around_it(move):
    moved = move_with_boxes(height=HEIGHT, width=WIDTH, **MOVES[move])(repeated(brackets(), 4), seeds(4 * EXAMPLES))
    assert_the_padding_is_empty_and_last(moved)
    masks, labels = moved["masks"].numpy(), moved["labels"].numpy()
    assert masks.dtype == np.uint8 and masks.shape == (*labels.shape, HEIGHT, WIDTH) and not masks[labels < 0].any()
    places = np.argwhere(labels >= 0)
    assert len(places) > 40
    differing = 0
    for example, number in places:
        mask, image = masks[example, number], moved["image"][example, ..., labels[example, number]].numpy()
        np.testing.assert_allclose(moved["boxes"][example, number], extent(mask), rtol=0, atol=0.501)
        differing += (mask != (image >= 127.5)).sum()
    assert set(np.unique(masks)) == {0, 1} and differing <= len(places)  # those that are half white, which rounding decides


def test_a_still_mask_stays_as_it_is_to_the_bit():
    raw = brackets()
    moved = move_with_boxes(height=HEIGHT, width=WIDTH, **STILL)(raw, seeds(EXAMPLES))
    assert moved["masks"].dtype == tf.uint8
    np.testing.assert_array_equal(moved["masks"], raw["masks"])


def test_masks_are_mirrored_both_ways():
    raw, ways = repeated(taken(brackets(), [2]), 40), set()
    moved = move_with_boxes(height=HEIGHT, width=WIDTH, **{**STILL, "flip": True, "flip_vertical": True})(raw, seeds(40))
    for before, boxes, mask in zip(raw["masks"].numpy(), moved["boxes"].numpy(), moved["masks"].numpy(), strict=True):
        turned = {(down, right): before[:, ::down, ::right] for down in (1, -1) for right in (1, -1)}
        (way,) = [way for way, each in turned.items() if np.array_equal(each, mask)]
        assert boxes.tolist() == [extent(each) for each in turned[way]]
        ways.add(way)
    assert len(ways) == 4


def cut_in_half(*, bar):
    """A picture of 40 x 40 of which scale 2 shows what is in 10..30, and three objects in one and the same box, half of it seen.
    The first is an upright bar, which is not seen, and with ``bar`` a level one besides, which is in part."""
    masks = np.zeros((1, 3, 40, 40))
    masks[0, 0, 10:30, 0:6] = 1
    masks[0, 0, 26:30, 0:20] = bar
    masks[0, 1, 10:30, 0:20] = masks[0, 2, 10:30, 0:20] = 1
    raw = batch(np.zeros((1, 40, 40, 3)), [[[0, 10, 20, 30]] * 3], [[0, 1, 2]])
    return with_masks(raw, masks)


def test_of_the_box_of_an_object_that_is_cut_is_left_what_its_mask_still_covers():
    moved = move_with_boxes(height=40, width=40, **{**STILL, "scale": (2.0, 2.0)})(cut_in_half(bar=1), seeds(1))
    assert moved["boxes"].numpy().tolist() == [[[0, 32, 20, 40], [0, 0, 20, 40], [0, 0, 20, 40]]]
    assert moved["masks"].numpy().sum((2, 3)).tolist() == [[20 * 8, 20 * 40, 20 * 40]]


def test_an_object_of_whose_mask_no_pixel_is_left_is_dropped():
    moved = move_with_boxes(height=40, width=40, **{**STILL, "scale": (2.0, 2.0)})(cut_in_half(bar=0), seeds(1))
    assert moved["labels"].numpy().tolist() == [[1, 2]] and moved["boxes"].numpy().tolist() == [[[0, 0, 20, 40]] * 2]
    assert moved["masks"].shape == (1, 2, 40, 40) and moved["masks"].numpy().sum((2, 3)).tolist() == [[20 * 40] * 2]


def test_an_object_that_is_not_cut_is_dropped_where_its_mask_becomes_too_thin_for_a_pixel():
    masks = np.zeros((1, 2, 40, 40))
    masks[0, 0, 10:20, 15] = masks[0, 1, 10:20, 12:20] = 1  # at scale 0.4 pixels are read at 13.75 and 16.25
    raw = with_masks(batch(np.zeros((1, 40, 40, 3)), [[[10, 10, 20, 20], [12, 10, 20, 20]]], [[0, 1]]), masks)
    moved = move_with_boxes(height=40, width=40, **{**STILL, "scale": (0.4, 0.4)})(raw, seeds(1))
    assert moved["labels"].numpy().tolist() == [[1]]
    np.testing.assert_allclose(moved["boxes"][0], [[16.8, 16, 20, 20]], rtol=1e-5)


def test_an_object_of_whose_mask_less_than_two_pixels_are_left_is_dropped_where_it_is_cut():
    masks, boxes = np.zeros((1, 3, 40, 40)), [[0, 10, 20, 30], [0, 10, 20, 30], [10, 10, 20, 30]]
    masks[0, 0, 20], masks[0, 1, 20:22], masks[0, 2, 20] = 1, 1, 1  # rows that become 1, 3 and 1 high; the last box is not cut
    raw = with_masks(batch(np.zeros((1, 40, 40, 3)), boxes, [[0, 1, 2]]), masks)
    moved = move_with_boxes(height=40, width=40, **{**STILL, "scale": (1.4, 1.4)})(raw, seeds(1))
    assert moved["labels"].numpy().tolist() == [[1, 2]]
    np.testing.assert_allclose(moved["boxes"][0], [[0, 20, 20, 23], [6, 6, 20, 34]], rtol=1e-5)
    assert moved["masks"].numpy().any(axis=3).sum(2).tolist() == [[3, 1]]


def test_a_moved_mask_depends_on_its_own_example_alone():
    raw, augment = brackets(), move_with_boxes(height=HEIGHT, width=WIDTH, flip_vertical=True)
    together = augment(raw, seeds(EXAMPLES))
    for some in (np.arange(EXAMPLES)[::-1], np.arange(3, 4), np.arange(5, 9)):
        others = augment(taken(raw, some), tf.gather(seeds(EXAMPLES), some))
        for row, number in enumerate(some):
            count = (others["labels"][row].numpy() >= 0).sum()
            assert count == (together["labels"][number].numpy() >= 0).sum()
            np.testing.assert_array_equal(others["masks"][row, :count], together["masks"][number, :count])
            np.testing.assert_array_equal(others["boxes"][row, :count], together["boxes"][number, :count])


def test_in_a_pipeline_where_neither_batch_nor_boxes_have_a_known_count_masks_move_too():
    raw, augment = brackets(), move_with_boxes(height=HEIGHT, width=WIDTH)
    batches = tf.data.Dataset.range(EXAMPLES).batch(8).map(
        lambda indices: augment(taken(raw, indices), tf.gather(seeds(EXAMPLES), indices)))  # fmt: skip
    assert batches.element_spec["masks"].shape.as_list() == [None, None, HEIGHT, WIDTH]
    for made, numbers in zip(batches, (np.arange(8), np.arange(8, EXAMPLES)), strict=True):
        outside = augment(taken(raw, numbers), tf.gather(seeds(EXAMPLES), numbers))
        np.testing.assert_array_equal(made["masks"], outside["masks"])


def test_masks_of_images_without_any_object_are_empty():
    raw = batch(np.ones((3, HEIGHT, WIDTH, 3)), np.zeros((3, 2, 4)), np.full((3, 2), -1))
    raw = with_masks(raw, np.zeros((3, 2, HEIGHT, WIDTH)))
    moved = move_with_boxes(height=HEIGHT, width=WIDTH)(raw, seeds(3))
    assert moved["labels"].numpy().tolist() == [[-1]] * 3
    assert moved["masks"].shape == (3, 1, HEIGHT, WIDTH) and not moved["masks"].numpy().any()


def test_in_the_letterbox_masks_are_already():
    raw = {**brackets(), "size": tf.constant([[2 * HEIGHT, WIDTH]] * EXAMPLES)}
    boxed = in_letterbox()(raw)
    assert not np.array_equal(boxed["boxes"], raw["boxes"])
    np.testing.assert_array_equal(boxed["masks"], raw["masks"])


def test_masks_at_the_images_own_sizes_are_not_passed_on():
    raw = {**brackets(), "rles": tf.fill((EXAMPLES, 3), "a"), "name": tf.fill((EXAMPLES,), "b")}
    for augment in (in_letterbox(), move_with_boxes(height=HEIGHT, width=WIDTH)):
        assert augment(raw, seeds(EXAMPLES)).keys() == raw.keys() - {"rles"}


@pytest.mark.parametrize("augment", [mosaic(4), mixup(4, 0.5)], ids=["mosaic", "mixup"])
def test_masks_are_refused_where_pictures_are_put_together(augment):
    with pytest.raises(ValueError, match=r"(mosaic|mixup) is for batches without masks, got .* \(12, 3, 48, 64\)"):
        augment(brackets(), seeds(EXAMPLES), lambda indices: pytest.fail("fetched"))


def test_masks_of_another_size_than_their_image_are_refused():
    raw = middle_box(48, 64, 1)
    with pytest.raises(ValueError, match="masks must be of the image's size, 48 x 64, got 24 x 64"):
        move_with_boxes(height=48, width=64)(with_masks(raw, np.zeros((1, 1, 24, 64))), seeds(1))


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match="image must be 48 x 64 or twice that, got 40 x 64"):
        move_with_boxes(height=48, width=64)(middle_box(40, 64, 1), seeds(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: move_with_boxes(height=8, width=8, scale=(0.0, 1.0)), "scale must be two numbers above 0, .* got 0.0 and 1.0"),
        (lambda: move_with_boxes(height=8, width=8, scale=(1.5, 0.5)), "the second not below the first, got 1.5 and 0.5"),
        (lambda: move_with_boxes(height=8, width=8, translate=-0.1), "translate must be at least 0, got -0.1"),
        (lambda: move_with_boxes(height=8, width=8, least_visible=1.1), r"least_visible must be in \[0, 1\], got 1.1"),
        (lambda: mosaic(0), "examples must be at least 1, got 0"),
        (lambda: mixup(0, 0.5), "examples must be at least 1, got 0"),
        (lambda: mixup(4, 1.5), r"share must be in \[0, 1\], got 1.5"),
        (lambda: mixup(4, 0.5, least=0.6), r"least must be in \[0, 0.5\], got 0.6"),
    ],
)
def test_wrong_values_are_refused_with_the_rule_and_the_value(make, message):
    with pytest.raises(InputError, match=message):
        make()
