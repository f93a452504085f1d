"""Image files -> letterboxed pixels, and many boxes -> the best of them, held to a slow twin of the suppression."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.boxes import to_letterbox
from kerastoolkit.serving.detection import DecodeLetterboxed, SuppressBoxes
from kerastoolkit.serving.images import decode_pixels

HEIGHT, WIDTH = 64, 96


def file_of(pixels, kind="PNG"):
    contents = io.BytesIO()
    Image.fromarray(np.asarray(pixels, "uint8")).save(contents, kind)
    return contents.getvalue()


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def decoded(*files, height=HEIGHT, width=WIDTH):
    found = DecodeLetterboxed(height, width)(tf.constant(files))
    return found["image"].numpy(), found["size"].numpy().tolist()


def candidates(seed=0, batch=4, count=40, classes=3):
    """Boxes of which many overlap, and a score of each class for each."""
    generator = np.random.default_rng(seed)
    middles = generator.uniform((20, 15), (WIDTH - 20, HEIGHT - 15), (batch, 5, 2)).repeat(count // 5, axis=1)
    centres = middles + generator.normal(scale=3, size=middles.shape)
    halves = generator.uniform(6, 14, (batch, count, 2))
    boxes = np.clip(np.concatenate([centres - halves, centres + halves], axis=-1), 0, [WIDTH, HEIGHT] * 2)
    return boxes.astype("float32"), generator.uniform(size=(batch, count, classes)).astype("float32")


def suppressed(boxes, scores, *, size=None, conf=0.25, iou=0.7, **arguments):
    """The layer's answer to lists; of one number of conf and iou for all images, and images of the network's size."""
    boxes = tf.constant(boxes, "float32")
    batch = len(boxes)
    size = np.broadcast_to([HEIGHT, WIDTH] if size is None else size, (batch, 2)).astype("int32")
    conf, iou = (tf.constant(np.broadcast_to(each, batch), "float32") for each in (conf, iou))
    found = SuppressBoxes(HEIGHT, WIDTH, **arguments)(boxes, tf.constant(scores, "float32"), tf.constant(size), conf, iou)
    return {name: value.numpy() for name, value in found.items()}


def overlap(a, b):
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def suppressed_one_by_one(boxes, scores, conf, iou):
    """Of one image: (score, label, box), the best first; each class greedily on its own."""
    boxes, kept = boxes.astype("float64"), []
    for label in range(scores.shape[1]):
        mine = []
        for index in sorted(range(len(boxes)), key=lambda index: -scores[index, label]):
            if scores[index, label] > conf and all(overlap(boxes[index], boxes[each]) <= iou for each in mine):
                mine.append(index)
        kept += [(scores[index, label], label, boxes[index]) for index in mine]
    return sorted(kept, key=lambda each: -each[0])


def test_an_image_shrunk_by_four_is_the_mean_of_four_by_four_pixels_between_bands_of_grey():
    pixels = noise(24, 40)
    (image,), size = decoded(file_of(pixels), height=11, width=10)
    assert image.shape == (11, 10, 3) and size == [[24, 40]]
    np.testing.assert_allclose(image[2:8], pixels.reshape(6, 4, 10, 4, 3).mean(axis=(1, 3)), atol=1e-3)
    np.testing.assert_array_equal(image[:2], np.full((2, 10, 3), 114))
    np.testing.assert_array_equal(image[8:], np.full((3, 10, 3), 114))


def test_an_enlarged_image_changes_evenly_between_the_centres_of_its_pixels():
    # Two pixels, 0 and 100, are enlarged to eight: their centres are at 1.5 and 5.5.
    (image,), _ = decoded(file_of([[[0] * 3, [100] * 3]]), height=6, width=8)
    np.testing.assert_allclose(image[1:5, :, 0], [[0, 0, 12.5, 37.5, 62.5, 87.5, 100, 100]] * 4, atol=1e-4)
    np.testing.assert_array_equal(image[[0, 5]], np.full((2, 8, 3), 114))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF"])
def test_an_image_of_the_networks_size_is_left_as_it_is(kind):
    file = file_of(noise(HEIGHT, WIDTH), kind)
    (image,), size = decoded(file)
    np.testing.assert_array_equal(image, decode_pixels(tf.constant(file), 3))
    assert size == [[HEIGHT, WIDTH]]


@pytest.mark.parametrize(("height", "width"), [(333, 501), (501, 333), (1, 300), (300, 1), (7, 5), (1, 1)])
def test_what_an_image_leaves_of_its_letterbox_is_grey_and_nothing_else(height, width):
    (image,), size = decoded(file_of(np.full((height, width, 3), (200, 10, 30))))
    assert size == [[height, width]]
    scale = min(HEIGHT / height, WIDTH / width)
    inner = [max(1, int(side * scale + 0.5)) for side in (height, width)]
    grey = (np.abs(image - 114) < 1e-3).all(axis=-1)
    own = (np.abs(image - (200, 10, 30)) < 1e-2).all(axis=-1)
    rows, columns = own.any(axis=1).nonzero()[0], own.any(axis=0).nonzero()[0]
    assert [len(rows), len(columns)] == inner and own.sum() == inner[0] * inner[1] and (grey | own).all()
    assert [rows[0], columns[0]] == [(HEIGHT - inner[0]) // 2, (WIDTH - inner[1]) // 2]


def test_images_of_a_batch_are_those_of_each_file_alone():
    files = [file_of(noise(33, 17), "JPEG"), file_of(noise(5, 91)), file_of(noise(70, 140), "BMP")]
    images, sizes = decoded(*files)
    assert sizes == [[33, 17], [5, 91], [70, 140]]
    for file, image in zip(files, images, strict=True):
        np.testing.assert_array_equal(image, decoded(file)[0][0])


def test_a_file_that_is_no_image_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="an image must be JPEG, PNG, GIF or BMP"):
        decoded(b"these are words")


@pytest.mark.parametrize("seed", [0, 1])
def test_suppression_is_that_of_each_class_and_image_in_turn(seed):
    boxes, scores = candidates(seed)
    conf, iou = np.array([0.25, 0.5, 0.05, 0.9], "float32"), np.array([0.7, 0.3, 0.5, 0.95], "float32")
    found = suppressed(boxes, scores, conf=conf, iou=iou)
    expected = [suppressed_one_by_one(*each) for each in zip(boxes, scores, conf, iou, strict=True)]
    counts = [len(each) for each in expected]
    assert found["count"].tolist() == counts and min(counts) < max(counts) == found["boxes"].shape[1]
    assert counts[0] < (scores[0] > conf[0]).sum()  # some went
    for number, rows in enumerate(expected):
        own = {name: found[name][number, : len(rows)] for name in ("boxes", "scores", "labels")}
        np.testing.assert_array_equal(own["scores"], [score for score, _, _ in rows])
        np.testing.assert_array_equal(own["labels"], [label for _, label, _ in rows])
        np.testing.assert_allclose(own["boxes"], [box for _, _, box in rows], atol=1e-4)
        assert (np.diff(own["scores"]) <= 0).all()


def test_beyond_an_images_own_boxes_there_are_zeros_and_the_label_minus_1():
    found = suppressed(*candidates(), conf=[0.25, 0.999, 0.6, 0.9])
    assert len(set(found["count"])) > 2
    for number, count in enumerate(found["count"]):
        assert (found["labels"][number, count:] == -1).all() and (found["labels"][number, :count] >= 0).all()
        assert not found["scores"][number, count:].any() and not found["boxes"][number, count:].any()
    assert {name: value.dtype.name for name, value in found.items()} == {
        "boxes": "float32", "scores": "float32", "labels": "int32", "count": "int32",
    }  # fmt: skip


def test_without_any_box_there_is_room_for_one():
    found = suppressed(*candidates(), size=[333, 501], conf=1.0)
    assert found["count"].tolist() == [0] * 4 and found["labels"].tolist() == [[-1]] * 4
    assert found["boxes"].tolist() == [[[0, 0, 0, 0]]] * 4 and found["scores"].tolist() == [[0]] * 4


def test_boxes_of_two_classes_do_not_suppress_each_other():
    # The second box lies on the first; the third is told to be of both classes.
    boxes = [[[10, 10, 30, 30], [10, 10, 30, 30.5], [50, 10, 70, 30]]]
    scores = [[[0.9, 0], [0, 0.8], [0.6, 0.7]]]
    found = suppressed(boxes, scores)
    assert found["labels"].tolist() == [[0, 1, 1, 0]]
    np.testing.assert_allclose(found["scores"], [[0.9, 0.8, 0.7, 0.6]])
    np.testing.assert_allclose(found["boxes"][0], [boxes[0][each] for each in (0, 1, 2, 2)], atol=1e-4)
    assert suppressed(boxes, [[[0.9], [0.8], [0.7]]])["count"] == 2  # of one class they do


def test_a_score_must_exceed_conf_and_an_overlap_iou():
    # The second box is half of the first.
    boxes, scores = [[[0, 0, 32, 32], [0, 0, 32, 16]]], [[[0.75], [0.5]]]
    assert suppressed(boxes, scores, conf=0.25, iou=0.5)["count"] == 2
    assert suppressed(boxes, scores, conf=0.25, iou=0.4999)["count"] == 1
    assert suppressed(boxes, scores, conf=0.5, iou=0.5)["count"] == 1
    assert suppressed(boxes, scores, conf=0.4999, iou=0.5)["count"] == 2


def test_a_box_that_has_gone_suppresses_no_other():
    # Of three boxes in a row each overlaps the next by 1/3; the second goes, and the third stays.
    boxes, scores = [[[0, 0, 20, 20], [10, 0, 30, 20], [20, 0, 40, 20]]], [[[0.9], [0.8], [0.7]]]
    np.testing.assert_allclose(suppressed(boxes, scores, iou=0.3)["scores"], [[0.9, 0.7]])


@pytest.mark.parametrize(("largest", "arguments"), [(300, {}), (5, {"largest": 5})])
def test_the_best_300_boxes_are_the_most_of_an_image(largest, arguments):
    columns, rows = (each.ravel() for each in np.meshgrid(np.arange(24), np.arange(16)))
    boxes = np.stack([columns * 4, rows * 4, columns * 4 + 3, rows * 4 + 3], axis=-1)  # 384, none on another
    scores = np.random.default_rng(0).uniform(0.3, 1, (1, 384, 2)).astype("float32")
    found = suppressed(boxes[None], scores, **arguments)
    assert found["count"].tolist() == [largest] and found["boxes"].shape == (1, largest, 4)
    np.testing.assert_array_equal(found["scores"][0], np.sort(scores.ravel())[::-1][:largest])


@pytest.mark.parametrize("size", [(333, 501), (501, 333), (7, 13), (1081, 1919), (HEIGHT, WIDTH)])
def test_boxes_come_out_in_pixels_of_the_image_itself(size):
    height, width = size
    shares = np.array([[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1], [0.55, 0.5, 0.95, 0.9]])
    boxes = (shares * [width, height, width, height]).astype("float32")
    inside = to_letterbox(boxes[None], tf.constant([size]), HEIGHT, WIDTH)
    found = suppressed(inside, [[[0.9], [0.8], [0.7]]], size=size)
    assert found["count"].tolist() == [3]
    np.testing.assert_allclose(found["boxes"][0], boxes, rtol=1e-5, atol=1e-4 * max(height / HEIGHT, width / WIDTH, 1))


def test_boxes_are_cut_at_the_border_of_the_image():
    # 32 x 96 pixels in 64 x 96: the rows 16 to 48.
    boxes = [[[-5, -5, 200, 200], [10, 20, 30, 60]]]
    found = suppressed(boxes, [[[0.9], [0.8]]], size=[32, 96])
    np.testing.assert_array_equal(found["boxes"], [[[0, 0, 96, 32], [10, 4, 30, 32]]])


def test_an_image_has_the_boxes_that_it_has_alone():
    boxes, scores = candidates()
    size = [[333, 501], [64, 96], [1000, 10], [50, 60]]
    found = suppressed(boxes, scores, size=size, conf=[0.25, 0.5, 0.05, 0.9], iou=[0.7, 0.3, 0.5, 0.9])
    for number, (conf, iou) in enumerate([(0.25, 0.7), (0.5, 0.3), (0.05, 0.5), (0.9, 0.9)]):
        one = slice(number, number + 1)
        alone = suppressed(boxes[one], scores[one], size=size[number], conf=conf, iou=iou)
        assert alone["count"] == found["count"][number] > 0
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(alone[name][0], found[name][number, : alone["count"][0]])


def whole_model():
    """From files and candidates to the best boxes."""
    given = {"image": keras.Input((), dtype="string", name="image"), "boxes": keras.Input((None, 4), name="boxes"),
             "scores": keras.Input((None, 3), name="scores"),
             **{name: keras.Input((), name=name) for name in ("conf", "iou")}}  # fmt: skip
    pixels = DecodeLetterboxed(HEIGHT, WIDTH, name="decode")(given["image"])
    others = given["boxes"], given["scores"], pixels["size"], given["conf"], given["iou"]
    return keras.Model(given, {**SuppressBoxes(HEIGHT, WIDTH, 20, name="suppress")(*others), **pixels})


def test_shapes_and_kinds_of_answers_are_known_beforehand():
    assert {name: (each.shape, each.dtype) for name, each in whole_model().output.items()} == {
        "image": ((None, HEIGHT, WIDTH, 3), "float32"), "size": ((None, 2), "int32"), "boxes": ((None, None, 4), "float32"),
        "scores": ((None, None), "float32"), "labels": ((None, None), "int32"), "count": ((None,), "int32"),
    }  # fmt: skip


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
    files = [file_of(noise(33, 17), "JPEG"), file_of(noise(5, 91)), file_of(noise(70, 140)), file_of(noise(HEIGHT, WIDTH))]
    for batch, count in ((1, 10), (4, 25)):
        boxes, scores = candidates(batch=batch, count=count)
        given = {"image": tf.constant(files[:batch]), "boxes": tf.constant(boxes), "scores": tf.constant(scores),
                 "conf": tf.fill([batch], 0.3), "iou": tf.fill([batch], 0.5)}  # fmt: skip
        expected, found = model(given), loaded(given)
        assert expected["boxes"].shape[0] == batch and expected["count"][0] > 3
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-4)
