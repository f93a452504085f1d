"""Figures of detection: COCO's against pycocotools, the others against numbers worked out by hand and slow twins."""

import contextlib
import io
import json
import logging

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kerastoolkit.metrics.coco import RECALL_POINTS, coco_results, detection_figures
from kerastoolkit.metrics.detection import best_threshold, confusion_figures, detection_confusion, image_scores

NAN = np.nan
STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")


def truth(*rows, crowd=(), areas=None):
    """Rows are (label, x_min, y_min, x_max, y_max)."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    sides = table[:, 3:] - table[:, 1:3]
    return {"boxes": table[:, 1:], "labels": table[:, 0].astype(np.int32), "crowd": np.isin(np.arange(len(rows)), crowd),
            "areas": np.array(areas, np.float32) if areas else sides[:, 0] * sides[:, 1]}  # fmt: skip


def answer(*rows):
    """Rows are (label, score, x_min, y_min, x_max, y_max)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return {"boxes": table[:, 2:], "labels": table[:, 0].astype(np.int32), "scores": table[:, 1]}


def hard_images(seed, *, classes=5, images=14):
    """Truths and answers with crowds, ties in score, duplicates, areas at COCO's limits, more than 100 answers of a class, images
    without the one, the other or both, and classes that only truths, only answers or neither have; all padded."""
    generator = np.random.default_rng(seed)
    truths, answers = [], []
    for number in range(images):
        objects = 0 if number in (1, 3) else generator.integers(1, 9)
        sides = generator.choice([8, 31, 32, 33, 64, 95, 96, 97, 150], (objects, 2))
        first = generator.integers(0, 120, (objects, 2))
        boxes = np.concatenate([first, first + sides], axis=1)
        labels = generator.choice([0, 1, 3], objects)
        areas = sides.prod(axis=1) * generator.choice([1, 1, 0.7], objects)
        areas[generator.random(objects) < 0.2] = generator.choice([1024, 1024.001, 9216, 9216.001])
        said = 0 if number in (2, 3) else 260 if number == 4 else generator.integers(1, 40)
        found = generator.integers(0, 120, (said, 4))
        found[:, 2:] = found[:, :2] + generator.choice([20, 32, 50, 96], (said, 2))
        said_labels = generator.choice([0, 1, 2], said, p=[0.6, 0.2, 0.2])
        if objects and said:
            near, alike = generator.random((2, said)) < 0.6
            places = generator.integers(0, objects, said)
            found[near] = (boxes[places] + generator.choice([0, 0, 0, 1, 2, 5], (said, 4)))[near]
            said_labels[near & alike] = labels[places][near & alike]
            found[said // 2 : said // 2 + 2] = found[:1]  # the same box again
        truths.append({
            "boxes": np.pad(boxes, ((0, 3), (0, 0))).astype(np.float32),
            "labels": np.pad(labels, (0, 3), constant_values=-1).astype(np.int32),
            "crowd": np.pad(generator.random(objects) < 0.2, (0, 3)),
            "areas": np.pad(areas, (0, 3)).astype(np.float32),
        })  # fmt: skip
        answers.append({
            "boxes": np.pad(found, ((0, 2), (0, 0))).astype(np.float32),
            "labels": np.pad(said_labels, (0, 2), constant_values=-1).astype(np.int32),
            "scores": np.pad(generator.integers(1, 12, said) / 12, (0, 2)).astype(np.float32),
        })  # fmt: skip
    return truths, answers, classes


def pycocotools_evaluation(truths, answers, classes):
    objects, boxes = [], []
    for image, (true, said) in enumerate(zip(truths, answers, strict=True)):
        for row in range(len(true["labels"])):
            x, y, right, bottom = map(float, true["boxes"][row])
            if true["labels"][row] >= 0:
                objects.append({"id": len(objects) + 1, "image_id": image, "category_id": int(true["labels"][row]),
                                "bbox": [x, y, right - x, bottom - y], "area": float(true["areas"][row]),
                                "iscrowd": int(true["crowd"][row])})  # fmt: skip
        for row in range(len(said["labels"])):
            x, y, right, bottom = map(float, said["boxes"][row])
            if said["labels"][row] >= 0:
                boxes.append({"image_id": image, "category_id": int(said["labels"][row]), "score": float(said["scores"][row]),
                              "bbox": [x, y, right - x, bottom - y]})  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        ours = COCO()
        ours.dataset = {"images": [{"id": image} for image in range(len(truths))], "annotations": objects,
                        "categories": [{"id": label} for label in range(classes)]}  # fmt: skip
        ours.createIndex()
        evaluation = COCOeval(ours, ours.loadRes(boxes), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(12))
def test_figures_are_those_of_pycocotools(seed):
    truths, answers, classes = hard_images(seed)
    evaluation = pycocotools_evaluation(truths, answers, classes)
    figures = detection_figures(truths, answers, classes)

    def known(values):
        return np.where(values == -1, NAN, values)

    np.testing.assert_allclose([getattr(figures, name) for name in STATS], known(evaluation.stats), atol=1e-6)
    precision, recall, scores = (known(evaluation.eval[name]) for name in ("precision", "recall", "scores"))
    np.testing.assert_allclose(figures.precision, precision[0, :, :, 0, 2], atol=1e-6)
    np.testing.assert_allclose(figures.scores, scores[0, :, :, 0, 2], atol=1e-6)
    np.testing.assert_allclose(figures.class_ap, precision[..., 0, 2].mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(figures.class_ap50, precision[0, :, :, 0, 2].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(figures.class_recall, recall[..., 0, 2].mean(axis=0), atol=1e-6)
    assert 0.02 < figures.ap < figures.ap50 < 0.9 and figures.ar1 < figures.ar10 < figures.ar100  # a case worth comparing


def test_figures_do_not_depend_on_the_order_of_images_and_boxes():
    truths, answers, classes = hard_images(0)
    generator = np.random.default_rng(1)
    for each in answers:  # without ties, whose order decides
        each["scores"] += generator.uniform(0, 0.01, len(each["scores"])).astype(np.float32)
    places = generator.permutation(len(truths))

    def mixed(found):
        order = generator.permutation(len(found["labels"]))
        return {name: values[order] for name, values in found.items()}

    expected = detection_figures(truths, answers, classes)
    figures = detection_figures([mixed(truths[place]) for place in places], [mixed(answers[place]) for place in places], classes)
    for name, value in vars(expected).items():
        np.testing.assert_allclose(getattr(figures, name), value, atol=1e-9, err_msg=name)


def test_average_precision_by_hand():
    # Two objects; answers by score: right, wrong, right. Precision 1 up to the recall 1/2, then 2/3: 51 and 50 of 101 points.
    truths = [truth((0, 0, 0, 10, 10)), truth((0, 0, 0, 10, 10))]
    answers = [answer((0, 0.9, 0, 0, 10, 10), (0, 0.8, 50, 50, 60, 60)), answer((0, 0.7, 0, 0, 10, 8))]  # the last of IoU 0.8
    figures = detection_figures(truths, answers, 1)
    np.testing.assert_allclose(figures.ap50, (51 + 50 * 2 / 3) / 101)
    np.testing.assert_allclose(figures.ap, (7 * (51 + 50 * 2 / 3) + 3 * 51) / 10 / 101)  # found at 0.5 .. 0.8
    np.testing.assert_allclose(figures.scores[[0, 50, 51, 100], 0], [0.9, 0.9, 0.7, 0.7], atol=1e-6)
    np.testing.assert_allclose(figures.class_recall, (7 * 1 + 3 * 0.5) / 10)
    assert np.isnan([figures.ap_medium, figures.ap_large, figures.ar_medium, figures.ar_large]).all()
    assert figures.ap_small == figures.ap
    assert RECALL_POINTS[50] == 0.5 and len(RECALL_POINTS) == len(figures.precision)


def test_objects_and_images_are_counted_without_crowds():
    truths = [truth((0, 0, 0, 9, 9), (0, 0, 0, 5, 5), (2, 0, 0, 5, 5)), truth((0, 0, 0, 9, 9), (2, 0, 0, 9, 9), crowd=(1,)),
              truth()]  # fmt: skip
    figures = detection_figures(truths, [answer()] * 3, 4)
    assert figures.objects.tolist() == [3, 0, 1, 0] and figures.images.tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize("images", [0, 2])
def test_figures_of_no_objects_are_not_a_number(images):
    for said in (answer(), answer((1, 0.9, 0, 0, 9, 9))):
        figures = detection_figures([truth()] * images, [said] * images, 2)
        for name, value in vars(figures).items():
            assert (np.equal(value, 0) if name in ("objects", "images") else np.isnan(value)).all(), name
        assert figures.precision.shape == figures.scores.shape == (101, 2)


def test_objects_of_which_none_is_found_have_the_figure_0():
    figures = detection_figures([truth((1, 0, 0, 9, 9))], [answer()], 2)
    assert figures.ap == figures.ap50 == figures.ar100 == figures.ap_small == 0
    np.testing.assert_array_equal(figures.class_ap, [NAN, 0])


def test_nothing_is_printed_and_logged_at_most_for_debugging(capfd, caplog):
    caplog.set_level(logging.INFO)
    detection_figures(*hard_images(0))
    assert capfd.readouterr() == ("", "") and not caplog.records


@pytest.mark.parametrize("function", [detection_figures, detection_confusion, best_threshold])
def test_labels_that_are_no_class_and_images_without_a_partner_are_refused(function):
    with pytest.raises(ValueError, match=r"labels of image 1 must be -1 \.\. 1, got 2$"):
        function([truth(), truth((2, 0, 0, 9, 9))], [answer()] * 2, 2)
    with pytest.raises(ValueError, match="answers must be of as many images as truths, 1, got 2$"):
        function([truth()], [answer()] * 2, 2)


def test_a_confusion_matrix_by_hand():
    truths = truth((0, 0, 0, 10, 10), (1, 20, 0, 30, 10), (0, 40, 0, 50, 10), (1, 60, 0, 100, 40), crowd=(3,))
    said = answer(
        (0, 0.90, 0, 0, 10, 8),  # right, IoU 0.8
        (1, 0.30, 0, 0, 10, 9),  # of the other class, yet IoU 0.9: this takes the object
        (0, 0.99, 20, 0, 30, 10),  # a 1 that is called 0
        (0, 0.24, 40, 0, 50, 10),  # below the score
        (1, 0.80, 60, 0, 64, 4),  # within the crowd
        (0, 0.80, 60, 0, 64, 4),  # within the crowd of another class
        (1, 0.25, 58, 0, 62, 4),  # half of it within the crowd
        (1, 0.80, 57, 0, 61, 4),  # a quarter within
    )
    expected = [[0, 1, 1], [1, 0, 0], [2, 1, 0]]
    matrix = detection_confusion([truths], [said], 2)
    assert matrix.tolist() == expected and matrix.dtype == np.int64
    assert detection_confusion([truths] * 3, [said] * 3, 2).tolist() == (3 * np.array(expected)).tolist()


def test_every_object_is_in_its_row_and_every_answer_in_its_column():
    truths, answers, classes = hard_images(3)
    for each in truths:
        each["crowd"][:] = False
    matrix = detection_confusion(truths, answers, classes, score=0.5)
    true = np.concatenate([each["labels"] for each in truths])
    said = np.concatenate([each["labels"][each["scores"] >= 0.5] for each in answers])
    np.testing.assert_array_equal(matrix[:-1].sum(axis=1), [(true == label).sum() for label in range(classes)])
    np.testing.assert_array_equal(matrix[:, :-1].sum(axis=0), [(said == label).sum() for label in range(classes)])
    assert matrix[-1, -1] == 0 and (matrix[:2, :2].sum(axis=0) > 0).all()


def test_figures_of_a_confusion_matrix_by_hand():
    figures = confusion_figures(np.array([[3, 1, 0, 2], [0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]))
    np.testing.assert_allclose(figures.class_precision, [3 / 4, 0, NAN])
    np.testing.assert_allclose(figures.class_recall, [3 / 6, 0, NAN])
    np.testing.assert_allclose(figures.class_f1, [2 * 3 / (4 + 6), 0, NAN])
    np.testing.assert_allclose([figures.precision, figures.recall, figures.f1], [3 / 5, 3 / 7, 6 / 12])


def test_a_class_that_is_said_but_never_there_has_a_precision_and_no_recall():
    figures = confusion_figures(np.array([[0, 0], [2, 0]]))
    np.testing.assert_array_equal([figures.class_precision, figures.class_recall, figures.class_f1], [[0], [NAN], [0]])
    assert np.isnan(confusion_figures(np.zeros((2, 2), int)).f1)


def slow_overlap(box, other, crowd):
    width, height = np.maximum(np.minimum(box, other)[2:] - np.maximum(box, other)[:2], 0)
    area, other_area = np.prod(box[2:] - box[:2]), np.prod(other[2:] - other[:2])
    return width * height / (area if crowd else area + other_area - width * height)


def slow_mean_f1(truths, answers, classes, least):
    """Mean F1 by COCO's matching among the answers of at least this score, in loops."""
    right, said, true = np.zeros((3, classes))
    for own, found in zip(truths, answers, strict=True):
        free = [row for row in range(len(own["labels"])) if own["labels"][row] >= 0 and not own["crowd"][row]]
        for row in free:
            true[own["labels"][row]] += 1
        for row in np.argsort(-found["scores"], kind="stable"):
            label, box = found["labels"][row], found["boxes"][row].astype(float)
            if label < 0 or found["scores"][row] < least:
                continue
            overlaps = {other: slow_overlap(box, own["boxes"][other].astype(float), own["crowd"][other])
                        for other in np.flatnonzero(own["labels"] == label)}  # fmt: skip
            best = max((other for other in free if overlaps.get(other, 0) >= 0.5), key=overlaps.get, default=None)
            if best is not None:
                free.remove(best)
                right[label] += 1
            elif any(own["crowd"][other] and share >= 0.5 for other, share in overlaps.items()):
                continue
            said[label] += 1
    return np.mean((2 * right / np.maximum(said + true, 1))[true > 0])


@pytest.mark.parametrize("seed", range(3))
def test_the_best_threshold_is_that_of_the_largest_mean_f1(seed):
    truths, answers, classes = hard_images(seed, images=8)
    scores = np.unique(np.concatenate([each["scores"][each["labels"] >= 0] for each in answers]))
    means = [slow_mean_f1(truths, answers, classes, least) for least in scores]
    threshold, mean = best_threshold(truths, answers, classes)
    np.testing.assert_allclose(mean, max(means))
    assert threshold == scores[np.argmax(means)]


def test_the_best_threshold_counts_wrong_answers_below_the_last_right_one():
    # Class 0 is right at 0.9 and wrong four times at 0.5, which class 1 makes good with an answer that is right at 0.4.
    truths = [truth((0, 0, 0, 10, 10), (1, 50, 50, 60, 60))]
    wrong = [(0, 0.5, 20 * place, 80, 20 * place + 9, 90) for place in range(4)]
    said = [answer((0, 0.9, 0, 0, 10, 10), *wrong, (1, 0.4, 50, 50, 60, 60))]
    threshold, mean = best_threshold(truths, said, 2)
    np.testing.assert_allclose((threshold, mean), (0.4, (2 / 6 + 1) / 2), rtol=1e-6)
    sure = [answer((0, 0.9, 0, 0, 10, 10), *wrong, (1, 0.95, 50, 50, 60, 60))]
    np.testing.assert_allclose(best_threshold(truths, sure, 2), (0.9, 1), rtol=1e-6)


def test_there_is_no_best_threshold_without_objects_or_answers():
    some, said = truth((0, 0, 0, 9, 9)), answer((0, 0.9, 0, 0, 9, 9))
    for truths, answers in (([], []), ([truth()], [said]), ([some], [answer()])):
        assert np.isnan(best_threshold(truths, answers, 1)).all()


def test_scores_of_images_by_hand():
    two = truth((0, 0, 0, 10, 10), (1, 20, 0, 30, 10))
    crowd = truth((0, 0, 0, 40, 40), crowd=(0,))
    right, below = (0, 0.25, 0, 0, 10, 6), (1, 0.24, 20, 0, 30, 10)
    wrong_label, too_far = (1, 0.9, 0, 0, 10, 10), (0, 0.9, 0, 0, 10, 4)
    pairs = [
        (two, answer(right, below), 2 / 3),
        (two, answer(right, wrong_label), 2 / 4),
        (two, answer(wrong_label), 0),
        (two, answer(right, right), 2 / 4),  # one object is found once
        (two, answer(too_far), 0),
        (two, answer(), 0),
        (truth(), answer(right), 0),
        (truth(), answer(below), NAN),
        (truth(), answer(), NAN),
        (crowd, answer(right), NAN),
        (crowd, answer(wrong_label), 0),
    ]
    truths, answers, expected = zip(*pairs, strict=True)
    np.testing.assert_allclose(image_scores(truths, answers), expected)
    np.testing.assert_allclose(image_scores([two], [answer(too_far)], iou=0.4), [2 / 3])
    assert image_scores([], []).shape == (0,)


def test_coco_results_are_what_cocos_own_program_reads():
    said = answer((1, 0.123456, 10.126, 20.5, 15, 30.004), (-1, 0, 0, 0, 0, 0), (0, 1, 0, 0, 1, 2))
    rows = coco_results(7, said["boxes"], said["scores"], said["labels"], (3, 90))
    assert json.loads(json.dumps(rows)) == [
        {"image_id": 7, "category_id": 90, "bbox": [10.13, 20.5, 4.87, 9.5], "score": 0.12346},
        {"image_id": 7, "category_id": 3, "bbox": [0.0, 0.0, 1.0, 2.0], "score": 1.0},
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO()
        truths.dataset = {"images": [{"id": 7}], "categories": [{"id": 3}, {"id": 90}], "annotations": []}
        truths.createIndex()
        assert len(truths.loadRes(rows).anns) == 2
