"""Targets, losses, answers, figures and files of detection, worked out by hand."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit import charts
from kerastoolkit.data.preprocessing import intensities_sized
from kerastoolkit.experiment import Data, InputError, Source, rebuild
from kerastoolkit.losses.yolov3 import yolov3_loss, yolov3_loss_parts
from kerastoolkit.losses.yolov8 import yolov8_loss, yolov8_loss_parts
from kerastoolkit.pipeline import call
from kerastoolkit.serving.model import decoded_model, serving_model, with_settings
from kerastoolkit.tasks.detection import decode_letterboxed, detection

NAMES = ["ant", "bee", "cat"]
HEIGHT, WIDTH = 64, 96
CELLS = 24  # boxes that the stand-in for a network gives


def task_of(classes=NAMES, **options):
    return detection(classes, HEIGHT, WIDTH, **options)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


# Targets and losses.


def truths_of(boxes, labels, crowd):
    return {"boxes": tf.constant(boxes, tf.float32), "labels": tf.constant(labels), "crowd": tf.constant(crowd),
            "areas": tf.ones(tf.constant(labels).shape)}  # fmt: skip


def test_targets_are_boxes_in_pixels_of_the_letterboxed_image_and_crowds_have_no_label():
    # 50 x 100 is shrunk to 48 x 96, below 8 grey rows; 64 x 96 stays as it is.
    boxes = [[[10, 20, 30, 40], [0, 0, 100, 50]], [[10, 20, 30, 40], [0, 0, 0, 0]]]
    truths = truths_of(boxes, [[2, 1], [0, -1]], [[False, True], [False, False]])
    extra, targets = task_of().encode(truths, {}, {"size": tf.constant([[50, 100], [64, 96]])}, None)
    assert extra == {} and targets.keys() == {"boxes", "labels", "crowd"}
    expected = [[[9.6, 27.2, 28.8, 46.4], [0, 8, 96, 56]], boxes[1]]
    np.testing.assert_allclose(targets["boxes"], expected, rtol=1e-6)
    assert targets["labels"].numpy().tolist() == [[2, -1], [0, -1]]
    assert targets["crowd"].numpy().tolist() == [[False, True], [False, False]]


def outputs_of_yolov8(random, batch=2):
    y, x = np.mgrid[:HEIGHT:16, :WIDTH:16] + 8.0
    points = np.stack([x, y, np.full_like(x, 16)], axis=-1).reshape(-1, 3)
    sides = random.uniform(5, 20, (batch, len(points), 4))
    return {"boxes": np.concatenate([points[:, :2] - sides[..., :2], points[:, :2] + sides[..., 2:]], axis=-1),
            "logits": random.normal(size=(batch, len(points), 3)), "points": np.stack([points] * batch),
            "distributions": random.normal(size=(batch, len(points), 4, 16))}  # fmt: skip


def outputs_of_yolov3(random, batch=2):
    row, column = np.mgrid[: HEIGHT // 16, : WIDTH // 16].reshape(2, -1)
    points = np.stack([column, row, np.full_like(row, 16), np.full_like(row, 20), np.full_like(row, 15)], axis=-1)
    found = outputs_of_yolov8(random, batch)
    return {"boxes": found["boxes"], "logits": found["logits"], "points": np.stack([points] * batch),
            "offsets": random.normal(size=found["boxes"].shape),
            "objectness": random.normal(size=(batch, len(points)))}  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "outputs_of", "whole", "parts_of", "names"),
    [
        ("yolov8", outputs_of_yolov8, yolov8_loss, yolov8_loss_parts, ["box", "classes", "distribution"]),
        ("yolov3", outputs_of_yolov3, yolov3_loss, yolov3_loss_parts, ["box", "objectness", "classes"]),
    ],
)
def test_the_loss_is_told_in_the_parts_of_the_family_whose_sum_it_is(loss, outputs_of, whole, parts_of, names):
    random = np.random.default_rng(0)
    outputs = {name: tf.constant(value, tf.float32) for name, value in outputs_of(random).items()}
    truths = truths_of([[[10, 12, 40, 50], [50, 2, 90, 40]]] * 2, [[2, 0], [1, -1]], [[False, False], [False, True]])
    _, targets = task_of().encode(truths, {}, {"size": tf.constant([[HEIGHT, WIDTH]] * 2)}, None)
    task = task_of(loss=loss)
    found = task.loss(targets, outputs)
    assert list(task.parts) == names and found.keys() == set(names)
    for name, values in parts_of(targets, outputs).items():
        np.testing.assert_array_equal(found[name], values)
        assert (values.numpy() > 0).all()
    np.testing.assert_allclose(sum(found.values()), whole(targets, outputs), rtol=1e-6)


# The answers. A stand-in for a network reads its outputs from the pixels of an image of 8 x 8.


def stand_in(objectness=False):
    image = keras.Input((8, 8, 3), name="image")
    numbers = keras.layers.Reshape((CELLS, 8))(image)
    corner, side, logits = 8 * numbers[..., :2], 8 * numbers[..., 2:4], 16 * (numbers[..., 4:7] - 0.5)
    outputs = {"boxes": keras.ops.concatenate([corner, corner + side], axis=-1), "logits": logits}
    if objectness:
        outputs["objectness"] = 16 * (numbers[..., 7] - 0.5)
    return keras.Model(image, outputs, name="stand_in")


def image_of(*rows):
    """The image, 0..1, from which the stand-in reads these (box, logits of three classes and of objectness), and else nothing."""
    numbers = np.zeros((CELLS, 8), np.float32)
    for place, (box, logits) in enumerate(rows):
        numbers[place, :4] = np.array([box[0], box[1], box[2] - box[0], box[3] - box[1]]) / 8
        numbers[place, 4:] = np.array([*logits, 0][:4]) / 16 + 0.5
    return numbers.reshape(8, 8, 3)


def asked(images, sizes, conf=0.25, iou=0.7, objectness=False):
    answer = detection(NAMES, 8, 8).answer(stand_in(objectness))
    tensors = {"image": tf.constant(np.stack(images)), "size": tf.constant(sizes)}
    return {name: values.numpy() for name, values in call(answer, with_settings(tensors, {"conf": conf, "iou": iou})).items()}


def probability(logit):
    return 1 / (1 + np.exp(-logit))


def test_answers_are_the_surest_of_boxes_that_overlap_in_pixels_of_the_images_own_size():
    image = image_of(((1, 1, 5, 5), (2, -8, -8)), ((1, 1, 5, 4.5), (3, -8, -8)), ((1, 1, 5, 5), (-8, 1, -8)),
                     ((6, 6, 7, 8), (-8, -8, -2)))  # fmt: skip
    found = asked([image, image_of()], [[16, 16], [8, 8]])
    assert found["count"].tolist() == [2, 0]
    assert found["labels"].tolist() == [[0, 1], [-1, -1]]
    np.testing.assert_allclose(found["scores"], [[probability(3), probability(1)], [0, 0]], rtol=1e-5)
    np.testing.assert_allclose(found["boxes"], [[[2, 2, 10, 9], [2, 2, 10, 10]], [[0] * 4] * 2], rtol=1e-5)
    assert found["size"].tolist() == [[16, 16], [8, 8]]


def test_more_boxes_are_answered_with_a_lower_score_and_a_larger_overlap():
    image = image_of(((1, 1, 5, 5), (2, -8, -8)), ((1, 1, 5, 4.5), (3, -8, -8)), ((6, 6, 7, 8), (-8, -8, -2)))
    count = {(conf, iou): asked([image], [[8, 8]], conf, iou)["count"].tolist() for conf in (0.25, 0.1) for iou in (0.7, 0.9)}
    # sigmoid(-2) is 0.12, and the first two overlap by 7/8.
    assert count == {(0.25, 0.7): [1], (0.25, 0.9): [2], (0.1, 0.7): [2], (0.1, 0.9): [3]}


def test_a_score_is_multiplied_by_that_of_there_being_an_object_where_the_network_tells_it():
    image = image_of(((1, 1, 5, 5), (2, -8, -8, 1)))
    for objectness, expected in ((True, probability(2) * probability(1)), (False, probability(2))):
        np.testing.assert_allclose(asked([image], [[8, 8]], objectness=objectness)["scores"], [[expected]], rtol=1e-5)


def test_files_are_decoded_to_letterboxed_pixels_of_the_networks_size_and_their_own_size():
    found = decode_letterboxed(intensities_sized(4, 6))(tf.constant([png(np.full((9, 3, 3), 200))]))
    assert found["size"].numpy().tolist() == [[9, 3]]
    # 9 x 3 is shrunk to 4 x 1, beside 2 grey columns and before 3.
    assert found["image"][0, ..., 0].numpy().tolist() == [[114, 114, 200, 114, 114, 114]] * 4


@pytest.fixture(scope="module")
def serving():
    """A serving model around the stand-in."""
    return serving_model(preprocess=intensities_sized(8, 8), network=stand_in(), task=detection(NAMES, 8, 8))


def noise(count, seed=0):
    random = np.random.default_rng(seed)
    sizes = random.integers(5, 30, (count, 2))
    return np.array([png(random.integers(0, 256, (*size, 3))) for size in sizes], object)


def test_the_stages_one_after_the_other_give_what_the_whole_serving_model_gives(serving):
    tensors = with_settings({"image": tf.constant(noise(3).tolist())}, {"conf": 0.6, "iou": 0.3})
    expected = call(serving, tensors)
    stages = detection(NAMES, 8, 8).stages(serving)
    assert list(stages) == ["reading", "network", "suppression"]
    for stage in stages.values():
        tensors = stage(tensors)
    assert tensors.keys() == expected.keys() == {"boxes", "scores", "labels", "count", "size"}
    assert expected["count"].numpy().min() > 1
    for name, values in expected.items():
        np.testing.assert_array_equal(tensors[name], values)


def test_candidates_are_all_boxes_of_the_network_in_letterboxed_pixels_with_the_score_of_each_class(serving):
    candidates = detection(NAMES, 8, 8).endpoints(decoded_model(serving))["candidates"]
    image = image_of(((1, 2, 5, 7), (2, -8, 1)))
    found = call(candidates, {"image": tf.constant(255 * image[None]), "size": tf.constant([[500, 1000]])})
    assert found["boxes"].shape == (1, CELLS, 4) and found["scores"].shape == (1, CELLS, 3)
    np.testing.assert_allclose(found["boxes"][0, 0], [1, 2, 5, 7], rtol=1e-5)
    np.testing.assert_allclose(found["scores"][0, 0], probability(np.array([2, -8, 1])), rtol=1e-4)


def test_an_export_is_compared_on_pictures_and_settings_that_let_many_boxes_through(serving):
    probe = detection(NAMES, 8, 8).probe(serving)
    assert probe.keys() == {tensor.name for tensor in serving.inputs}
    tensors = {name: tf.constant(values.tolist(), None if name == "image" else tf.float32) for name, values in probe.items()}
    assert call(serving, tensors)["count"].numpy().min() > 3


# The figures.


def batch(*images, size=(120, 120)):
    """A batch as ``evaluate`` hands it to the task, of (objects, answers): an object is (label, box), or (label, box, True) for a
    crowd, and an answer (label, score, box)."""
    most = [max(1, *(len(each[side]) for each in images)) for side in (0, 1)]
    count = len(images)
    raw = {"image": np.array([png(np.full((12, 12, 3), 20 * number)) for number in range(count)], object),
           "boxes": np.zeros((count, most[0], 4), np.float32), "labels": np.full((count, most[0]), -1, np.int32),
           "crowd": np.zeros((count, most[0]), bool), "areas": np.zeros((count, most[0]), np.float32)}  # fmt: skip
    found = {"boxes": np.zeros((count, most[1], 4), np.float32), "labels": np.full((count, most[1]), -1, np.int32),
             "scores": np.zeros((count, most[1]), np.float32), "size": np.array([size] * count, np.int32)}  # fmt: skip
    for number, (objects, answers) in enumerate(images):
        for place, (label, box, *crowd) in enumerate(objects):
            raw["boxes"][number, place], raw["labels"][number, place], raw["crowd"][number, place] = box, label, bool(crowd)
            raw["areas"][number, place] = (box[2] - box[0]) * (box[3] - box[1])
        for place, (label, score, box) in enumerate(answers):
            found["boxes"][number, place], found["labels"][number, place], found["scores"][number, place] = box, label, score
    return raw, {**found, "count": (found["labels"] >= 0).sum(axis=1)}


def scored(*batches, classes=NAMES, **scoring):
    nothing = Source(0, lambda indices: {})
    data = Data("made up", nothing, nothing, nothing, inputs=("image",), encoded=True, about={"classes": classes})
    task = task_of(classes)
    return task.score(batches, data, None, **{**task.scoring, **scoring})


LARGE, SMALL, ELSEWHERE = (0, 0, 100, 100), (0, 0, 20, 20), (60, 70, 90, 110)
# Two ants, one of which is found, and of the other 62 rows of 100; and one that is made up. From the surest on the answers are
# right, wrong, right.
FIRST = [(0, LARGE)], [(0, 0.9, LARGE), (0, 0.8, ELSEWHERE)]
SECOND = [(0, LARGE)], [(0, 0.7, (0, 0, 100, 62))]


def test_answers_that_are_the_truth_have_the_figure_1_in_everything():
    objects = [(0, LARGE), (1, SMALL), (2, (10, 30, 60, 80))]
    report = scored(batch((objects, [(label, 0.9, box) for label, box in objects])))
    assert report.figures.keys() == {
        "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large",
        "precision", "recall", "f1"}  # fmt: skip
    assert all(value == pytest.approx(1) for value in report.figures.values())
    assert report.tables["by class"] == [
        {"class": name, "ap": 1.0, "ap50": 1.0, "ar100": 1.0, "precision": 1.0, "recall": 1.0, "objects": 1, "images": 1}
        for name in NAMES]  # fmt: skip


def test_average_precision_is_read_at_101_recalls_and_averaged_over_10_overlaps():
    figures = scored(batch(FIRST, SECOND), classes=NAMES[:1]).figures
    # Up to a recall of 1/2 all is right; beyond it two of three are, where 0.62 is overlap enough: at 0.5, 0.55 and 0.6.
    whole, half = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert figures["ap50"] == pytest.approx(whole) and figures["ap75"] == pytest.approx(half)
    assert figures["ap"] == pytest.approx((3 * whole + 7 * half) / 10)
    assert figures["ar100"] == pytest.approx((3 * 1 + 7 * 0.5) / 10)
    # What is made up is not above 96^2 pixels, and counts among the medium ones.
    assert figures["ap_large"] == pytest.approx((3 * 1 + 7 * half) / 10)
    assert np.isnan(figures["ap_small"]) and np.isnan(figures["ap_medium"])


def test_figures_do_not_depend_on_how_images_are_put_into_batches():
    third = [(1, SMALL), (0, LARGE)], []
    expected = scored(batch(FIRST, SECOND, third)).figures
    assert scored(batch(FIRST), batch(SECOND, third)).figures == pytest.approx(expected, nan_ok=True)


def test_shown_changes_precision_and_recall_and_no_average():
    low, high = (scored(batch(FIRST, SECOND), classes=NAMES[:1], shown=shown).figures for shown in (0.25, 0.85))
    assert [low[name] for name in ("precision", "recall", "f1")] == pytest.approx([2 / 3, 1, 0.8])
    assert [high[name] for name in ("precision", "recall", "f1")] == pytest.approx([1, 1 / 2, 2 / 3])
    for name in low.keys() - {"precision", "recall", "f1"}:
        assert low[name] == pytest.approx(high[name], nan_ok=True)


def test_the_notes_tell_what_scores_counted_and_which_would_be_best():
    averages, others = scored(batch(FIRST, SECOND), classes=NAMES[:1], conf=0.002, shown=0.3).notes
    assert "whose scores exceed 0.002" in averages
    # F1 down to each score: 2/3, 2/4 and 4/5.
    assert "scores are at least 0.3" in others and "largest, 0.800, at the score 0.700" in others


def test_each_class_has_its_own_figures_and_one_without_objects_has_none():
    report = scored(batch(FIRST, SECOND, ([(1, SMALL), (1, ELSEWHERE)], [(1, 0.6, SMALL), (0, 0.5, ELSEWHERE), (2, 0.4, LARGE)])))
    ant, bee, cat = report.tables["by class"]
    # The third image's bee that is taken for an ant is wrong as an ant, and missed as a bee.
    assert ant == {"class": "ant", "ap": pytest.approx(report.figures["ap"] * 2 - bee["ap"]), "objects": 2, "images": 2,
                   "ap50": pytest.approx((51 + 50 * 2 / 3) / 101), "ar100": pytest.approx(0.65), "precision": 0.5,
                   "recall": 1.0}  # fmt: skip
    assert bee == {"class": "bee", "ap": pytest.approx(51 / 101), "ap50": pytest.approx(51 / 101), "ar100": 0.5, "precision": 1.0,
                   "recall": 0.5, "objects": 2, "images": 1}  # fmt: skip
    assert cat.pop("class") == "cat" and cat.pop("objects") == cat.pop("images") == cat.pop("precision") == 0
    assert cat.keys() == {"ap", "ap50", "ar100", "recall"} and np.isnan(list(cat.values())).all()
    json.dumps(report.tables["by class"])


def test_an_answer_in_a_crowd_is_neither_right_nor_wrong_and_a_crowd_is_no_object():
    crowd = [(0, ELSEWHERE, True), (0, LARGE)], [(0, 0.95, (62, 75, 80, 100)), (0, 0.9, LARGE)]
    report = scored(batch(crowd), classes=NAMES[:1])
    assert report.figures["ap"] == report.figures["precision"] == report.figures["recall"] == pytest.approx(1)
    assert report.tables["by class"][0]["objects"] == 1


@pytest.mark.parametrize("objects", [[], [(0, LARGE, True)]])
def test_a_split_without_an_object_is_refused(objects):
    with pytest.raises(InputError, match="^made up has no objects in this split, so there is nothing to score$"):
        scored(batch((objects, [(0, 0.9, LARGE)])))


def headings(figure):
    return [text.get_text() for text in figure.texts]


def test_the_best_and_the_worst_images_of_whatever_batch_are_shown_beside_their_truths():
    right, nothing, missed = ([(0, LARGE)], [(0, 0.9, LARGE)]), ([], []), ([(1, SMALL)], [])
    report = scored(batch(SECOND, FIRST), batch(nothing, missed, right), batch(nothing, FIRST))
    assert report.pictures.keys() == {"precision_recall", "confusion", "best", "worst"}
    # 3 and 6 have neither objects nor answers.
    expected = {"best": ((1, "1.00"), (5, "1.00"), (2, "0.67"), (7, "0.67")),
                "worst": ((4, "0.00"), (2, "0.67"), (7, "0.67"), (1, "1.00"))}  # fmt: skip
    for name, images in expected.items():
        titles = [f"image {number}, F1 {f1}: truth" for number, f1 in images]
        assert headings(report.pictures[name])[::2] == titles
    assert set(headings(report.pictures["best"])[1::2]) == {"answer"}
    grey = [axes.images[0].get_array()[0, 0, 0] for axes in report.pictures["worst"].axes[::2]]
    assert grey == [20, 20, 20, 0]  # of the pictures: each one's place in its batch
    assert all(charts.png(figure) for figure in report.pictures.values())


def test_answers_that_are_not_shown_are_not_in_the_pictures_and_their_figure():
    for shown, f1, names in ((0.25, "0.67", ["ant 0.90", "ant 0.80"]), (0.85, "1.00", ["ant 0.90"])):
        figure = scored(batch(FIRST), shown=shown).pictures["best"]
        assert headings(figure) == [f"image 1, F1 {f1}: truth", "answer"]
        truth, answer = figure.axes
        assert [text.get_text() for text in truth.texts] == ["ant"]
        assert [text.get_text() for text in answer.texts] == names


# What a person gets.


def two_answers():
    """Of an image with three boxes, and of one without."""
    boxes = [[[1.25, 2, 11, 22], [3, 4, 5, 6], [0, 0, 7.125, 8]], [[0] * 4] * 3]
    return {"boxes": np.array(boxes, np.float32), "scores": np.array([[0.9, 0.8, 0.123456], [0] * 3], np.float32),
            "labels": np.array([[1, 0, 1], [-1] * 3], np.int32), "count": np.array([3, 0], np.int32),
            "size": np.array([[40, 50], [6, 7]], np.int32)}  # fmt: skip


def test_an_answer_is_told_by_its_boxes_and_how_many_there_are_of_each_class():
    first, second = task_of().tell(["a.png", "b.png"], two_answers())
    found = first.pop("boxes")
    assert first == {"input": "a.png", "objects": 3, "what": "2 bee, 1 ant", "height": 40, "width": 50}
    assert found[0] == {"class": "bee", "score": pytest.approx(0.9), "box": [1.25, 2, 11, 22]}
    assert [each["class"] for each in found] == ["bee", "ant", "bee"]
    assert second == {"input": "b.png", "objects": 0, "what": "", "height": 6, "width": 7, "boxes": []}
    json.dumps([first, found, second])


def test_results_in_cocos_format_have_the_ids_of_its_files():
    task = task_of(category_ids=[7, 30, 2])
    three, none = ({name: values[number] for name, values in two_answers().items()} for number in (0, 1))
    files = task.summary(["/some/where/000000000139.jpg", "kitchen/x 12.png", "3.png"], [three, three, none])
    assert files.keys() == {"coco_results.json"}
    records = json.loads(files["coco_results.json"])
    assert [record["image_id"] for record in records] == [139] * 3 + ["x 12.png"] * 3
    assert records[:3] == [
        {"image_id": 139, "category_id": 30, "bbox": [1.25, 2, 9.75, 20], "score": 0.9},
        {"image_id": 139, "category_id": 7, "bbox": [3, 4, 2, 2], "score": 0.8},
        {"image_id": 139, "category_id": 30, "bbox": [0, 0, 7.12, 8], "score": 0.12346},
    ]


def test_images_of_one_name_from_two_folders_are_told_apart_by_their_paths():
    answers = {name: values[0] for name, values in two_answers().items()}
    names = ["a/1.png", "b/1.png", "a/x.png", "b/x.png", "b/y.png"]
    records = json.loads(task_of().summary(names, [answers] * len(names))["coco_results.json"])
    assert list(dict.fromkeys(record["image_id"] for record in records)) == [*names[:4], "y.png"]


def test_categories_are_counted_from_1_where_nothing_is_known_of_their_ids():
    answers = {name: values[0] for name, values in two_answers().items()}
    records = json.loads(task_of().summary(["1.png"], [answers])["coco_results.json"])
    assert [record["category_id"] for record in records] == [2, 1, 2]


def test_an_answer_is_drawn_on_its_image():
    answers = {name: values[0] for name, values in two_answers().items()}
    figure = task_of().draw({"image": png(np.full((40, 50, 3), 100))}, answers, "a $1.png")
    (axes,) = figure.axes
    assert headings(figure) == [r"a \$1.png"]
    assert sorted(text.get_text() for text in axes.texts) == ["ant 0.80", "bee 0.12", "bee 0.90"]
    np.testing.assert_array_equal(axes.images[0].get_array(), np.full((40, 50, 3), 100))
    assert charts.png(figure)


def test_the_description_makes_the_same_task_from_json():
    task = task_of(tuple(NAMES), loss="yolov3", category_ids=(7, 30, 2))
    again = rebuild(json.loads(json.dumps(task.description)))
    answers = {name: values[0] for name, values in two_answers().items()}
    assert list(again.metrics) == list(task.metrics)
    assert again.summary(["1.png"], [answers]) == task.summary(["1.png"], [answers])


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: task_of([]), "classes must be at least 1, got none"),
        (lambda: task_of(loss="yolov5"), "loss must be yolov3 or yolov8, got yolov5"),
        (lambda: task_of(category_ids=[1, 2]), "category_ids must be as many as the classes, 3, got 2"),
    ],
)
def test_settings_that_are_wrong_are_refused(make, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        make()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"conf": 1.5}, "conf must be 0 to 1, got"), ({"iou": -0.1}, "iou must be 0 to 1, got"),
     ({"conf": np.nan}, "conf must be 0 to 1, got")],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        asked([image_of()], [[8, 8]], **settings)
