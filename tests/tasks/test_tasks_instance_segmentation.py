"""Targets, answers, figures and files of instance segmentation, worked out by hand."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit import charts
from kerastoolkit.data.preprocessing import imagenet_sized
from kerastoolkit.experiment import Data, InputError, Source, rebuild
from kerastoolkit.metrics.run_lengths import decoded_mask, encoded_mask
from kerastoolkit.pipeline import call
from kerastoolkit.serving.model import serving_model, with_settings
from kerastoolkit.tasks.instance_segmentation import PARTS, instance_segmentation

NAMES = ["ant", "bee", "cat"]
HEIGHT, WIDTH = 64, 96
SIZE = (120, 120)  # of the images that are scored


def task_of(classes=NAMES, **options):
    return instance_segmentation(classes, HEIGHT, WIDTH, **options)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


# Targets.


def test_targets_are_in_pixels_of_the_letterboxed_image_and_crowds_have_no_label():
    # 50 x 100 is shrunk to 48 x 96, below 8 grey rows; 64 x 96 stays as it is.
    boxes = [[[10, 20, 30, 40], [0, 0, 100, 50]], [[10, 20, 30, 40], [0, 0, 0, 0]]]
    masks = tf.cast(tf.random.stateless_uniform((2, 2, HEIGHT, WIDTH), (0, 1)) < 0.5, tf.uint8)
    truths = {"boxes": tf.constant(boxes, tf.float32), "labels": tf.constant([[2, 1], [0, -1]]), "masks": masks,
              "crowd": tf.constant([[False, True], [False, False]])}  # fmt: skip
    seeds = tf.constant([[1, 2], [3, 4]])
    extra, targets = task_of().encode(truths, {}, {"size": tf.constant([[50, 100], [64, 96]])}, seeds)
    assert extra.keys() == {"boxes", "labels", "seeds"} and targets.keys() == {*extra, "masks"}
    for found in (extra, targets):
        np.testing.assert_allclose(found["boxes"], [[[9.6, 27.2, 28.8, 46.4], [0, 8, 96, 56]], boxes[1]], rtol=1e-6)
        assert found["labels"].numpy().tolist() == [[2, -1], [0, -1]]
        assert found["seeds"].numpy().tolist() == seeds.numpy().tolist()
    np.testing.assert_array_equal(targets["masks"], masks)


def test_the_loss_is_told_in_its_five_parts():
    assert task_of().parts == PARTS == ("objectness", "anchor_boxes", "classes", "boxes", "masks")


# The answers. A stand-in for a network tells the same three objects of any image.


def stand_in():
    image = keras.Input((8, 8, 3), name="image")
    batch = keras.ops.zeros_like(image[:, 0, 0, :1])  # (batch, 1)
    boxes = np.array([[2, 2, 6, 6], [0, 0, 8, 4], [1, 1, 2, 2]], "float32")
    masks = np.zeros((3, 4, 4), "float32")
    masks[0], masks[1, :, :2], masks[2] = 1, 1, 0.2
    outputs = {"boxes": batch[:, :, None] + boxes, "scores": batch + np.array([0.9, 0.6, 0.3], "float32"),
               "labels": keras.ops.cast(batch, "int32") + np.array([2, 0, 1], "int32"),
               "masks": batch[:, :, None, None] + masks}  # fmt: skip
    return keras.Model(image, outputs, name="stand_in")


@pytest.fixture(scope="module")
def serving():
    task = instance_segmentation(NAMES, 8, 8)
    return serving_model(preprocess=imagenet_sized(8, 8), network=stand_in(), task=task)


def asked(serving, files, conf=0.5):
    found = call(serving, with_settings({"image": tf.constant(files)}, {"conf": conf}))
    return {name: values.numpy() for name, values in found.items()}


def mask_of(file):
    return np.asarray(Image.open(io.BytesIO(file)))


def test_answers_are_boxes_and_masks_in_pixels_of_the_images_own_size(serving):
    found = asked(serving, [png(np.zeros((16, 16, 3))), png(np.zeros((8, 4, 3)))])
    assert found.keys() == {"boxes", "scores", "labels", "masks", "count", "size"}
    assert found["count"].tolist() == [2, 2] and found["labels"].tolist() == [[2, 0]] * 2
    # 8 x 4 has two grey columns on each side, and the second box is cut at its border.
    np.testing.assert_allclose(found["boxes"], [[[4, 4, 12, 12], [0, 0, 16, 8]], [[0, 2, 4, 6], [0, 0, 4, 4]]])
    first, second = (mask_of(file) for file in found["masks"][0])
    assert first.shape == (16, 16) and mask_of(found["masks"][1, 0]).shape == (8, 4)
    # A mask that is all inside ends where its box does, to the pixel that both belong to.
    inside = np.zeros((16, 16), bool)
    inside[4:12, 4:12] = True
    assert set(np.unique(first)) == {0, 255} and ((first > 0) != inside).sum() <= 4 * 8
    assert (second[:8, :7] > 0).mean() > 0.8 and not (second[:, 10:] > 0).any()


def test_more_objects_are_answered_with_a_lower_score(serving):
    counts = {conf: asked(serving, [png(np.zeros((8, 8, 3)))], conf)["count"].tolist() for conf in (0.2, 0.5, 0.7, 0.95)}
    assert counts == {0.2: [3], 0.5: [2], 0.7: [1], 0.95: [0]}
    nothing = asked(serving, [png(np.zeros((8, 8, 3)))], 0.95)
    assert nothing["labels"].tolist() == [[-1]] and nothing["masks"].tolist() == [[b""]]


def test_the_stages_one_after_the_other_give_what_the_whole_serving_model_gives(serving):
    tensors = with_settings({"image": tf.constant([png(np.zeros((9, 7, 3))), png(np.zeros((20, 30, 3)))])}, {"conf": 0.2})
    expected = call(serving, tensors)
    stages = task_of().stages(serving)
    assert list(stages) == ["reading", "network", "masks"]
    for stage in stages.values():
        tensors = stage(tensors)
    assert tensors.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(tensors[name], values)


def test_an_export_is_compared_on_pictures_and_a_setting_that_lets_all_objects_through(serving):
    probe = task_of().probe(serving)
    assert probe.keys() == {tensor.name for tensor in serving.inputs}
    found = call(serving, {"image": tf.constant(probe["image"].tolist()), "conf": tf.constant(probe["conf"])})
    assert found["count"].numpy().tolist() == [3, 3, 3]


# The figures.


def block(left, top, right, bottom):
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def batch(*images):
    """A batch as ``evaluate`` hands it to the task, of (objects, answers): an object is (label, mask), or (label, mask, True) for
    a crowd, and an answer (label, score, mask)."""
    most = [max(1, *(len(each[side]) for each in images)) for side in (0, 1)]
    count = len(images)
    raw = {"image": np.array([png(np.full((12, 12, 3), 20 * number)) for number in range(count)], object),
           "boxes": np.zeros((count, most[0], 4), np.float32), "labels": np.full((count, most[0]), -1, np.int32),
           "crowd": np.zeros((count, most[0]), bool), "areas": np.zeros((count, most[0]), np.float32),
           "rles": np.full((count, most[0]), b"", object)}  # fmt: skip
    found = {"boxes": np.zeros((count, most[1], 4), np.float32), "labels": np.full((count, most[1]), -1, np.int32),
             "scores": np.zeros((count, most[1]), np.float32), "masks": np.full((count, most[1]), b"", object),
             "size": np.array([SIZE] * count, np.int32)}  # fmt: skip
    for number, (objects, answers) in enumerate(images):
        for place, (label, mask, *crowd) in enumerate(objects):
            raw["boxes"][number, place], raw["labels"][number, place] = box_of(mask), label
            raw["crowd"][number, place], raw["areas"][number, place] = bool(crowd), mask.sum()
            raw["rles"][number, place] = encoded_mask(mask)
        for place, (label, score, mask) in enumerate(answers):
            found["boxes"][number, place], found["masks"][number, place] = box_of(mask), png(255 * mask)
            found["labels"][number, place], found["scores"][number, place] = label, score
    return raw, {**found, "count": (found["labels"] >= 0).sum(axis=1)}


def scored(*batches, classes=NAMES, **scoring):
    nothing = Source(0, lambda indices: {})
    data = Data("made up", nothing, nothing, nothing, inputs=("image",), encoded=True, about={"classes": classes})
    task = task_of(classes)
    return task.score(batches, data, None, **{**task.scoring, **scoring})


LARGE, ELSEWHERE = block(0, 0, 100, 100), block(60, 70, 90, 110)
CORNERS = LARGE & ~block(10, 10, 100, 100)  # the left and the upper edge alone: a box as large, and little of the mask


def test_answers_that_are_the_truth_have_the_figure_1_in_everything():
    objects = [(0, LARGE), (1, block(0, 0, 20, 20)), (2, block(10, 30, 60, 80))]
    report = scored(batch((objects, [(label, 0.9, mask) for label, mask in objects])))
    names = {f"{what}_{name}" for what in ("mask", "box")
             for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100")}  # fmt: skip
    assert report.figures.keys() == names | {"precision", "recall", "f1"}
    assert all(value == pytest.approx(1) for value in report.figures.values())


def test_masks_and_boxes_have_figures_of_their_own():
    report = scored(batch(([(0, LARGE)], [(0, 0.9, CORNERS)])), classes=NAMES[:1])
    figures = report.figures
    assert figures["box_ap"] == pytest.approx(1) and figures["mask_ap"] == figures["mask_ap50"] == 0
    assert figures["precision"] == figures["recall"] == 0  # which are of masks
    (row,) = report.tables["by class"]
    assert (row["box_ap"], row["mask_ap"], row["objects"]) == (pytest.approx(1), 0, 1)


def test_average_precision_of_masks_is_averaged_over_10_overlaps():
    figures = scored(batch(([(0, LARGE)], [(0, 0.9, LARGE & block(0, 0, 62, 120))])), classes=NAMES[:1]).figures
    assert figures["mask_ap50"] == pytest.approx(1) and figures["mask_ap75"] == 0
    assert figures["mask_ap"] == pytest.approx(3 / 10)  # 0.62 is enough at 0.5, 0.55 and 0.6


def test_an_answer_in_a_crowd_is_neither_right_nor_wrong_and_a_crowd_is_no_object():
    crowd = [(0, ELSEWHERE, True), (0, LARGE & ~ELSEWHERE)], [(0, 0.95, block(62, 75, 80, 100)), (0, 0.9, LARGE & ~ELSEWHERE)]
    report = scored(batch(crowd), classes=NAMES[:1])
    assert report.figures["mask_ap"] == report.figures["precision"] == report.figures["recall"] == pytest.approx(1)
    assert report.tables["by class"][0]["objects"] == 1


def test_figures_do_not_depend_on_how_images_are_put_into_batches():
    images = ([(0, LARGE)], [(0, 0.9, LARGE)]), ([(1, ELSEWHERE)], [(1, 0.7, LARGE)]), ([(0, LARGE)], [])
    expected = scored(batch(*images)).figures
    assert scored(batch(images[0]), batch(*images[1:])).figures == pytest.approx(expected, nan_ok=True)


def test_a_split_without_an_object_is_refused():
    with pytest.raises(InputError, match="^made up has no objects in this split, so there is nothing to score$"):
        scored(batch(([], [(0, 0.9, LARGE)])))


def test_shown_changes_precision_and_recall_and_no_average():
    images = ([(0, LARGE)], [(0, 0.9, LARGE), (0, 0.6, ELSEWHERE)])
    low, high = (scored(batch(images), classes=NAMES[:1], shown=shown).figures for shown in (0.5, 0.8))
    assert (low["precision"], high["precision"]) == (pytest.approx(0.5), pytest.approx(1))
    assert low["mask_ap"] == high["mask_ap"]


def test_the_pictures_are_drawn_with_masks():
    report = scored(batch(([(0, LARGE), (1, ELSEWHERE)], [(0, 0.9, CORNERS), (1, 0.8, ELSEWHERE)]), ([], [])))
    assert report.pictures.keys() == {"precision_recall", "confusion", "best", "worst"}
    (truth, answer) = (axes.images[0].get_array() for axes in report.pictures["best"].axes)
    assert (np.asarray(truth) != np.asarray(answer)).any() and len(np.unique(np.asarray(truth).reshape(-1, 3), axis=0)) > 1
    assert all(charts.png(figure) for figure in report.pictures.values())


# What a person sees.


def answers(*objects):
    return {"boxes": np.array([[box_of(mask) for _, _, mask in objects]], np.float32).reshape(1, -1, 4),
            "scores": np.array([[score for _, score, _ in objects]], np.float32),
            "labels": np.array([[label for label, _, _ in objects]], np.int32), "count": np.array([len(objects)], np.int32),
            "masks": np.array([[png(255 * mask) for *_, mask in objects]], object),
            "size": np.array([SIZE], np.int32)}  # fmt: skip


def test_a_row_tells_each_object_with_the_pixels_of_its_mask():
    (row,) = task_of().tell(["photo.jpg"], answers((2, 0.9, CORNERS), (0, 0.6, ELSEWHERE)))
    assert row == {"input": "photo.jpg", "objects": 2, "what": "1 cat, 1 ant", "height": 120, "width": 120, "instances": [
        {"class": "cat", "score": pytest.approx(0.9), "box": [0, 0, 100, 100], "pixels": 1900},
        {"class": "ant", "score": pytest.approx(0.6), "box": [60, 70, 90, 110], "pixels": 1200}]}  # fmt: skip
    json.dumps(row)


def test_results_have_masks_in_cocos_format_and_the_ids_of_the_folders_categories():
    task = task_of(category_ids=[7, 8, 9])
    one = {name: values[0] for name, values in answers((2, 0.9, CORNERS)).items()}
    nothing = {name: values[0] for name, values in answers().items()}
    contents = task.summary(["a/000000000139.jpg", "b/other.png"], [one, nothing])
    assert contents.keys() == {"coco_results.json"}
    (record,) = json.loads(contents["coco_results.json"])
    assert (record["image_id"], record["category_id"], record["bbox"]) == (139, 9, [0, 0, 100, 100])
    assert record["segmentation"]["size"] == [120, 120]
    np.testing.assert_array_equal(decoded_mask(record["segmentation"]["counts"].encode(), SIZE), CORNERS)


def test_a_picture_shows_the_photograph_under_its_masks():
    found = {name: values[0] for name, values in answers((2, 0.9, CORNERS)).items()}
    figure = task_of().draw({"image": png(np.full((*SIZE, 3), 128))}, found, "photo.png")
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert (shown[60, 5] != 128).any() and (shown[60, 60] == 128).all()
    assert charts.png(figure)


def test_a_task_is_made_again_from_its_description():
    task = task_of(category_ids=[3, 5, 9])
    again = rebuild(json.loads(json.dumps(task.description)))
    assert (again.name, again.settings, again.scoring) == (task.name, task.settings, task.scoring) == (
        "instance_segmentation", {"conf": 0.5}, {"conf": 0.05, "shown": 0.5})  # fmt: skip


def test_classes_and_ids_that_are_impossible_are_refused():
    with pytest.raises(InputError, match="classes must be at least 1, got none"):
        task_of([])
    with pytest.raises(InputError, match="category_ids must be as many as the classes, 3, got 2"):
        task_of(category_ids=[1, 2])
