"""The loss, answers and figures of a class for each pixel, worked out by hand."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit import charts
from kerastoolkit.experiment import Data, InputError, Source, rebuild
from kerastoolkit.serving.class_maps import IGNORED, colour_coding, index_coding
from kerastoolkit.serving.segmentation import class_map
from kerastoolkit.tasks.segmentation import decode_sized_images, segmentation

NAMES, PALETTE = ["ant", "bee", "cat"], [(200, 0, 0), (0, 100, 0), (0, 0, 50)]
# One image of four pixels, of which the last is ignored, and one of four that are all known.
MASK = np.array([[[0, 1, 1, IGNORED]], [[2, 0, 0, 0]]], np.uint8)
SAID = np.array([[[[0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.0001, 0.0001, 0.9998]]],
                 [[[0.1, 0.1, 0.8], [0.4, 0.5, 0.1], [0.9, 0.05, 0.05], [0.3, 0.3, 0.4]]]])  # fmt: skip
OF_FIRST, OF_SECOND = np.array([0.5, 0.7, 0.3]), np.array([0.8, 0.4, 0.9, 0.3])  # said of the true classes
LOGITS = np.log(SAID).astype(np.float32)


def task_of(classes=NAMES, **options):
    return segmentation(classes, PALETTE[: len(classes)], **options)


def losses(mask=MASK, **options):
    weight = options.pop("weight", None)
    targets = {"mask": tf.constant(mask), **({} if weight is None else {"weight": tf.constant(weight)})}
    return np.asarray(task_of(**options).loss(targets, tf.constant(LOGITS)))


# The loss.


def test_the_loss_is_the_mean_cross_entropy_of_the_known_pixels():
    np.testing.assert_allclose(losses(), [-np.log(OF_FIRST).mean(), -np.log(OF_SECOND).mean()], rtol=1e-5)


def test_pixels_count_by_the_weight_of_their_true_class():
    # The first image has one ant and two bees, the second one cat and three ants.
    first = (2 * -np.log(0.5) + 5 * -np.log(0.7) + 5 * -np.log(0.3)) / 12
    second = (3 * -np.log(0.8) + 2 * -np.log([0.4, 0.9, 0.3]).sum()) / 9
    np.testing.assert_allclose(losses(class_weights=[2.0, 5.0, 3.0]), [first, second], rtol=1e-5)


def test_a_pixels_own_weight_is_added_to_that_of_its_class():
    weight = np.array([[[0.0, 3.0, 0.0, 100.0]], [[0.0] * 4]], np.float32)
    first = (1 * -np.log(0.5) + 4 * -np.log(0.7) + 1 * -np.log(0.3)) / 6
    np.testing.assert_allclose(losses(weight=weight), [first, losses()[1]], rtol=1e-5)


def test_the_focal_loss_counts_sure_pixels_less():
    each = (1 - OF_FIRST) ** 2 * -np.log(OF_FIRST)
    np.testing.assert_allclose(losses(loss="focal")[0], each.mean(), rtol=1e-5)
    weighted = losses(loss="focal", class_weights=[2.0, 5.0, 3.0])
    np.testing.assert_allclose(weighted[0], (each * [2, 5, 5]).sum() / 12, rtol=1e-5)


def test_as_much_as_said_of_the_dice_loss_of_the_whole_batch_is_added():
    # Over the seven known pixels: what is said where the class is true, how often it is true, and all that is said of it.
    ant = 1 - 2 * (0.5 + 0.4 + 0.9 + 0.3) / (4 + 0.5 + 0.2 + 0.6 + 0.1 + 0.4 + 0.9 + 0.3)
    bee = 1 - 2 * (0.7 + 0.3) / (2 + 0.25 + 0.7 + 0.3 + 0.1 + 0.5 + 0.05 + 0.3)
    cat = 1 - 2 * 0.8 / (1 + 0.25 + 0.1 + 0.1 + 0.8 + 0.1 + 0.05 + 0.4)
    np.testing.assert_allclose(losses(dice=0.5) - losses(), [0.5 * (ant + bee + cat) / 3] * 2, rtol=1e-4)


def test_accuracy_is_the_share_of_known_pixels_that_are_right():
    found = task_of().metrics["pixel_accuracy"]({"mask": tf.constant(MASK)}, tf.constant(LOGITS))
    np.testing.assert_allclose(found, [2 / 3, 2 / 4], rtol=1e-6)


def test_an_image_counts_by_its_known_pixels():
    np.testing.assert_allclose(task_of().weigh({"mask": tf.constant(MASK)}), [3, 4])


@pytest.mark.parametrize("options", [{}, {"dice": 1.0}, {"loss": "focal", "class_weights": [1.0, 0.0, 0.0]}])
def test_a_batch_without_a_known_pixel_has_the_loss_0_and_no_gradient(options):
    task, targets = task_of(**options), {"mask": tf.fill((2, 1, 4), tf.constant(IGNORED, tf.uint8))}
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        weights = task.weigh(targets)
        loss = tf.reduce_sum(task.loss(targets, logits) * weights) / tf.reduce_sum(weights)  # as training does
    assert float(loss) == 0
    assert not tape.gradient(loss, logits).numpy().any()
    assert task.metrics["pixel_accuracy"](targets, logits).numpy().tolist() == [0, 0]


def test_targets_are_the_mask_and_the_weight_where_there_is_one():
    truths = {"truth": ["a"], "mask": MASK, "weight": MASK * 1.0}
    extra, targets = task_of().encode(truths, {}, {}, None)
    assert extra == {} and targets.keys() == {"mask", "weight"}
    assert task_of().encode({"truth": ["a"], "mask": MASK}, {}, {}, None)[1].keys() == {"mask"}
    with pytest.raises(InputError, match="border weights are for the loss cross_entropy, got focal"):
        task_of(loss="focal").encode(truths, {}, {}, None)


# The answers.


def test_answers_are_maps_of_the_images_sizes_and_probabilities_of_the_networks():
    image = keras.Input((5, 7, 3), name="image")
    answer = task_of().answer(keras.Model(image, keras.layers.Rescaling(2.0)(image)))
    given = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    sizes = np.array([[9, 4], [3, 20]], np.int32)
    found = {name: value.numpy() for name, value in answer({"image": given, "size": sizes}).items()}
    assert found.keys() == {"map", "size", "probabilities"}
    assert found["map"].shape == (2, 9, 20) and found["map"].dtype == np.uint8
    np.testing.assert_array_equal(found["size"], sizes)
    for own, one, (height, width) in zip(found["map"], given, sizes, strict=True):
        np.testing.assert_array_equal(own[:height, :width], class_map(tf.constant(one), tf.constant([height, width])))
        assert (own == IGNORED).sum() == own.size - height * width
    shares = np.exp(2 * given)
    np.testing.assert_allclose(found["probabilities"], shares / shares.sum(axis=-1, keepdims=True), rtol=1e-4)


def test_files_are_decoded_to_the_size_that_the_network_takes():
    preprocess = keras.Model(*[{"size": keras.Input((2,), dtype="int32", name="size"),
                                "image": keras.Input((4, 6, 3), name="image")}] * 2)  # fmt: skip
    found = decode_sized_images(preprocess)(tf.constant([png(np.zeros((9, 3), np.uint8))]))
    assert found["image"].shape == (1, 4, 6, 3) and found["size"].numpy().tolist() == [[9, 3]]


# The figures.


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def pixels_in(contents):
    return np.asarray(Image.open(io.BytesIO(contents)))


def batch(*pairs, encode=np.asarray):
    """A batch of (truth, answer), maps of one size each, as ``evaluate`` hands it to the task: answers padded with 255."""
    truths, answers = zip(*([np.array(each, np.uint8) for each in pair] for pair in pairs), strict=True)
    largest = np.max([answer.shape for answer in answers], axis=0)
    padded = [np.pad(answer, [(0, most - size) for most, size in zip(largest, answer.shape, strict=True)],
                     constant_values=IGNORED) for answer in answers]  # fmt: skip
    images = [png(np.full((*truth.shape, 3), 10 * number)) for number, truth in enumerate(truths)]
    raw = {"image": np.array(images, object), "truth": np.array([png(encode(truth)) for truth in truths], object)}
    return raw, {"map": np.array(padded), "size": np.array([answer.shape for answer in answers])}


def scored(batches, classes=NAMES, coding=None):
    nothing = Source(0, lambda indices: {})
    about = {"classes": classes, "coding": coding or index_coding(len(classes))}
    data = Data("made up", nothing, nothing, nothing, inputs=("image",), encoded=True, about=about)
    return task_of(classes).score(batches, data, None)


# The first has two ants of which both are found, one that is taken for a bee, and a bee that is found; the second an ant that is
# found and four bees of which one is found.
FIRST, SECOND = ([[0, 0], [0, 1]], [[0, 0], [1, 1]]), ([[1, 1, 255, 0, 1, 1]], [[1, 0, 0, 0, 0, 0]])
CONFUSION = [[3, 1], [3, 2]]


def test_figures_are_of_the_pixels_of_the_whole_split_not_the_mean_of_its_images_or_batches():
    figures = scored([batch(FIRST), batch(SECOND)], NAMES[:2]).figures
    ant, bee = 3 / 7, 2 / 6
    assert figures["mean_iou"] == pytest.approx((ant + bee) / 2)
    assert figures["mean_iou"] != pytest.approx(((2 / 3 + 1 / 2) / 2 + 1 / 4) / 2)  # the mean of the two
    assert figures["mean_dice"] == pytest.approx((6 / 10 + 4 / 8) / 2)
    assert figures["pixel_accuracy"] == pytest.approx(5 / 9)
    assert figures["mean_class_accuracy"] == pytest.approx((3 / 4 + 2 / 5) / 2)
    assert figures["frequency_weighted_iou"] == pytest.approx((4 * ant + 5 * bee) / 9)
    assert figures == pytest.approx(scored([batch(FIRST, SECOND)], NAMES[:2]).figures)


def test_each_class_has_its_own_figures():
    (rows,) = scored([batch(FIRST), batch(SECOND)], NAMES[:2]).tables.values()
    boundary = [row.pop("boundary_f1") for row in rows]
    assert rows == [
        {"class": "ant", "iou": pytest.approx(3 / 7), "dice": pytest.approx(0.6), "precision": 0.5, "recall": 0.75,
         "share": pytest.approx(4 / 9), "images": 2},
        {"class": "bee", "iou": pytest.approx(1 / 3), "dice": 0.5, "precision": pytest.approx(2 / 3), "recall": 0.4,
         "share": pytest.approx(5 / 9), "images": 2},
    ]  # fmt: skip
    assert all(0 <= each <= 1 for each in boundary)


def test_the_boundary_figure_is_the_mean_over_images_with_the_class_then_over_classes():
    # Nearer than 0.75 % of the diagonal is in place. The first image has both classes and is right; of the second, a bee alone,
    # the answer has only half: its boundary is made up.
    right, wrong = ([[0, 0, 1, 1]], [[0, 0, 1, 1]]), ([[1, 1, 1, 1]], [[0, 0, 1, 1]])
    report = scored([batch(right), batch(wrong)], NAMES[:2])
    (rows,) = report.tables.values()
    assert [row["boundary_f1"] for row in rows] == [1.0, 0.5]
    assert report.figures["boundary_f1"] == 0.75


def test_the_commonest_class_for_all_pixels_is_the_baseline():
    baselines = scored([batch(FIRST), batch(SECOND)], NAMES[:2]).baselines
    assert baselines == {"always bee": {"mean_iou": pytest.approx(5 / 9 / 2), "mean_dice": pytest.approx(10 / 14 / 2),
                                        "pixel_accuracy": pytest.approx(5 / 9)}}  # fmt: skip


def test_masks_in_colours_are_scored_as_those_in_grey_values():
    colours = np.array([(255, 0, 0), (0, 0, 255)] + [(9, 9, 9)] * 254, np.uint8)
    coding = colour_coding({(255, 0, 0): 0, (0, 0, 255): 1})
    batches = [batch(FIRST, encode=colours.__getitem__), batch(SECOND, encode=colours.__getitem__)]
    assert scored(batches, NAMES[:2], coding).figures == scored([batch(FIRST), batch(SECOND)], NAMES[:2]).figures


def test_a_class_that_never_occurs_is_left_out_of_the_means_and_has_no_figures_of_its_own():
    report = scored([batch(FIRST), batch(SECOND)])
    assert report.figures == pytest.approx(scored([batch(FIRST), batch(SECOND)], NAMES[:2]).figures)
    absent = report.tables["by class"][2]
    assert absent.pop("class") == "cat" and absent.pop("share") == absent.pop("images") == 0
    assert absent.keys() == {"iou", "dice", "precision", "recall", "boundary_f1"} and np.isnan(list(absent.values())).all()
    json.dumps([report.figures, report.baselines], allow_nan=False)


def test_a_class_that_is_said_and_never_there_has_an_iou_of_0_and_no_boundary_figure():
    rows = scored([batch(([[0, 0, 0, 1]], [[0, 0, 2, 1]]))]).tables["by class"]
    assert (rows[2]["iou"], rows[2]["precision"], rows[2]["images"]) == (0, 0, 0)
    assert np.isnan(rows[2]["boundary_f1"])


def test_an_image_without_a_known_pixel_changes_no_figure_and_is_not_shown():
    unknown = ([[255, 255]], [[0, 1]])
    alone, both = scored([batch(FIRST)], NAMES[:2]), scored([batch(unknown, FIRST)], NAMES[:2])
    assert both.figures == alone.figures
    assert titles(both) == ["image 2", "truth", "answer, mean IoU 0.58"]


def titles(report):
    return [axes.get_title() for axes in report.pictures["worst"].axes]


def test_the_worst_images_are_shown_first_of_whatever_batch():
    report = scored([batch(FIRST), batch(SECOND)], NAMES[:2])
    assert titles(report) == ["image 2", "truth", "answer, mean IoU 0.25", "image 1", "truth", "answer, mean IoU 0.58"]
    shown = [axes.images[0].get_array() for axes in report.pictures["worst"].axes]
    image = np.zeros((1, 6, 3), np.uint8)
    truth, answer = (np.array(each, np.uint8) for each in SECOND)
    for found, expected in zip(shown, (image, charts.overlay(image, truth, PALETTE), charts.overlay(image, answer, PALETTE)),
                               strict=False):  # fmt: skip
        np.testing.assert_array_equal(found, expected)
    assert all(charts.png(figure) for figure in report.pictures.values())


def test_no_more_than_eight_images_are_shown():
    pairs = [([[0] * 20 + [1] * 20], [[0] * (20 - number) + [1] * (20 + number)]) for number in range(10)]
    shown = titles(scored([batch(*pairs[:4]), batch(*pairs[4:])], NAMES[:2]))
    assert shown[::3] == [f"image {number}" for number in range(10, 2, -1)]


def test_the_confusion_has_true_classes_in_rows():
    (axes,) = scored([batch(FIRST), batch(SECOND)], NAMES[:2]).pictures["confusion"].axes
    written = {(text.get_position()[::-1]): int(text.get_text()) for text in axes.texts}
    assert written == {(row, column): count for (row, column), count in np.ndenumerate(CONFUSION)}


def test_a_mask_that_has_not_its_images_size_is_refused():
    raw, answers = batch(FIRST, SECOND)
    raw["truth"][1] = png(np.zeros((2, 3)))
    with pytest.raises(InputError, match="the mask of example 1 of made up must have its image's size, 6 x 1, got 3 x 2"):
        scored([(raw, answers)])


def test_masks_without_a_known_pixel_are_refused():
    with pytest.raises(InputError, match="the masks of made up hold no pixel of a known class"):
        scored([batch(([[255, 255]], [[0, 1]]))])


# What a person is told.


def example(kind="PNG", mode="RGB"):
    """A raw image of 5 x 4 pixels, and answers for it among others: the upper two rows are of the second class."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    levels = pixels[..., 0].astype(np.uint16) * 257
    (Image.fromarray(levels) if mode == "I;16" else Image.fromarray(pixels).convert(mode)).save(file, kind)
    found = np.full((6, 7), IGNORED, np.uint8)
    found[:2, :5], found[2:4, :5] = 1, 0
    found[3, 0] = 2
    return {"image": file.getvalue()}, {"map": found, "size": np.array([4, 5], np.int32)}


def test_an_answer_is_told_by_the_shares_of_its_classes_the_largest_first():
    _, answers = example()
    (row, other) = task_of().tell(["a.png", "b.png"], {"map": np.stack([answers["map"], np.zeros((6, 7), np.uint8)]),
                                                       "size": np.array([[4, 5], [6, 7]])})  # fmt: skip
    assert (row["input"], row["height"], row["width"]) == ("a.png", 4, 5)
    assert list(row["shares"].items()) == [("bee", 0.5), ("ant", 0.45), ("cat", 0.05)]
    assert row["most"] == "bee 50%, ant 45%, cat 5%"
    assert other["shares"] == {"ant": 1.0}
    json.dumps([row, other])


def test_an_answer_is_drawn_beside_its_image_with_the_classes_that_are_in_it():
    raw, answers = example()
    figure = task_of().draw(raw, answers, "a $1.png")
    assert [axes.get_title() for axes in figure.axes] == [r"a \$1.png", "answer"]
    image = pixels_in(raw["image"])
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), image)
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), charts.overlay(image, answers["map"][:4, :5], PALETTE))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == NAMES
    assert charts.png(figure)


def test_a_large_image_is_drawn_smaller_under_the_whole_of_its_answer():
    classes = np.zeros((1000, 1500), np.uint8)
    classes[:, 750:] = 1
    raw = {"image": png(np.full((1000, 1500, 3), 100))}
    figure = task_of().draw(raw, {"map": classes, "size": np.array([1000, 1500])}, "large")
    shown = figure.axes[1].images[0].get_array()
    assert shown.shape == (341, 512, 3)
    assert (shown[:, :256] == shown[0, 0]).all() and (shown[:, 256:] == shown[0, -1]).all()


@pytest.mark.parametrize(("kind", "mode"), [
    *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")), *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
    ("BMP", "RGB"), ("GIF", "P"),
])  # fmt: skip
def test_files_of_an_answer_are_the_classes_their_colours_and_the_image_under_them(kind, mode):
    raw, answers = example(kind, mode)
    files = task_of().files(raw, answers)
    assert files.keys() == {"-classes.png", "-colours.png", "-overlay.png"}
    own = answers["map"][:4, :5]
    classes = pixels_in(files["-classes.png"])
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, own)
    np.testing.assert_array_equal(pixels_in(files["-colours.png"]), np.array(PALETTE)[own])
    whole = decode_sized_images(preprocess_of(4, 5))(tf.constant([raw["image"]]))["image"][0].numpy()
    np.testing.assert_array_equal(pixels_in(files["-overlay.png"]), charts.overlay(whole.astype(np.uint8), own, PALETTE))


def preprocess_of(height, width):
    inputs = {"image": keras.Input((height, width, 3), name="image"), "size": keras.Input((2,), dtype="int32", name="size")}
    return keras.Model(inputs, inputs)


def test_files_of_a_large_image_have_its_own_size():
    answers = {"map": np.zeros((700, 900), np.uint8), "size": np.array([700, 900])}
    files = task_of().files({"image": png(np.zeros((700, 900, 3)))}, answers)
    assert {pixels_in(contents).shape[:2] for contents in files.values()} == {(700, 900)}


def test_the_description_makes_the_same_task_from_json():
    task = task_of(loss="focal", dice=0.5, class_weights=(1.0, 2.0, 0.0))
    again = rebuild(json.loads(json.dumps(task.description)))
    targets = {"mask": tf.constant(MASK)}
    np.testing.assert_array_equal(again.loss(targets, tf.constant(LOGITS)), task.loss(targets, tf.constant(LOGITS)))
    assert again.files(*example()) == task.files(*example())


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: task_of(NAMES[:1]), "classes must be 2 to 255, got 1"),
        (lambda: segmentation([str(number) for number in range(256)], [(0, 0, 0)] * 256), "classes must be 2 to 255, got 256"),
        (lambda: segmentation(NAMES, PALETTE[:2]), "palette must have a colour for each of 3 classes, got 2"),
        (lambda: task_of(loss="dice"), "loss must be cross_entropy or focal, got dice"),
        (lambda: task_of(dice=-0.1), "dice must be at least 0, got -0.1"),
        (lambda: task_of(dice=float("nan")), "dice must be at least 0, got nan"),
        (lambda: task_of(class_weights=[1.0, 2.0]), r"class_weights must be 3 numbers of at least 0, got \[1.0, 2.0\]"),
        (lambda: task_of(class_weights=[1.0, 2.0, -1.0]), "class_weights must be 3 numbers of at least 0"),
    ],
)
def test_settings_that_are_wrong_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_255_classes_are_taken():
    assert segmentation([str(number) for number in range(255)], [(0, 0, 0)] * 255).name == "segmentation"
