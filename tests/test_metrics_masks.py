"""Figures of masks: COCO's against pycocotools, the others against numbers worked out by hand, and run lengths against loops."""

import contextlib
import io
import json
import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kerastoolkit.metrics.coco import coco_results, detection_figures
from kerastoolkit.metrics.detection import best_threshold, detection_confusion, image_scores
from kerastoolkit.metrics.run_lengths import decoded_mask, encoded_mask, unpacked_runs

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # within pycocotools
NAN = np.nan
STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")
SIZE = (20, 30)


def rles_of(masks):
    rles = np.empty(len(masks), object)
    rles[:] = [encoded_mask(each) for each in masks]
    return rles


def rectangle(x_min, y_min, x_max, y_max, size=SIZE):
    mask = np.zeros(size, bool)
    mask[y_min:y_max, x_min:x_max] = True
    return mask


def truth(*rows, crowd=(), size=SIZE):
    """Rows are (label, mask); the boxes say nothing."""
    masks = [mask for _, mask in rows]
    return {"boxes": np.zeros((len(rows), 4), np.float32), "labels": np.array([label for label, _ in rows], np.int32),
            "crowd": np.isin(np.arange(len(rows)), crowd), "areas": np.array([mask.sum() for mask in masks], np.float32),
            "rles": rles_of(masks), "size": np.array(size)}  # fmt: skip


def answer(*rows, size=SIZE):
    """Rows are (label, score, mask)."""
    return {"boxes": np.zeros((len(rows), 4), np.float32), "labels": np.array([label for label, _, _ in rows], np.int32),
            "scores": np.array([score for _, score, _ in rows], np.float32),
            "rles": rles_of([mask for _, _, mask in rows]), "size": np.array(size)}  # fmt: skip


def blob(generator, height, width):
    """An ellipse with a hole, anywhere, and as large as a COCO object of any area."""
    y, x = np.ogrid[:height, :width]
    middle, radius = generator.uniform(0, (height, width)), generator.choice([4, 12, 17, 18, 30, 54, 56, 70], 2)
    middle = np.clip(middle, 2, np.array([height, width]) - 2)
    far = ((y - middle[0]) / radius[0]) ** 2 + ((x - middle[1]) / radius[1]) ** 2
    return (far <= 1) & (far >= generator.choice([0, 0, 0.1]))


def around(mask):
    rows, columns = np.nonzero(mask)
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else (0, 0, 0, 0)


def hard_images(seed, *, classes=5, images=12):
    """Truths and answers with crowds, masks that overlap, ties in score, duplicates, masks without pixels, images of several
    sizes and without objects, answers or both, and classes that only truths, only answers or neither have; all padded."""
    generator = np.random.default_rng(seed)
    truths, answers = [], []
    for number in range(images):
        size = height, width = ((120, 160), (150, 90), (200, 200))[number % 3]
        objects = 0 if number in (1, 3) else generator.integers(1, 8)
        masks = [blob(generator, height, width) for _ in range(objects)]
        labels = generator.choice([0, 1, 3], objects)
        areas = np.array([mask.sum() for mask in masks]) * generator.choice([1, 1, 0.7], objects)
        areas[generator.random(objects) < 0.2] = generator.choice([1024, 1024.001, 9216, 9216.001])
        said = 0 if number in (2, 3) else 140 if number == 4 else generator.integers(1, 30)
        found, said_labels = [], generator.choice([0, 1, 2], said, p=[0.6, 0.2, 0.2])
        for place in range(said):
            found.append(blob(generator, height, width))
            if objects and generator.random() < 0.7:
                near = generator.integers(0, objects)
                moved = np.roll(masks[near], generator.choice([0, 0, 1, 3, 6], 2), (0, 1))
                found[place] = moved & (generator.random(size) < 0.95)
                said_labels[place] = labels[near] if generator.random() < 0.8 else said_labels[place]
        if said > 2:
            found[1], found[2] = found[0], np.zeros(size, bool)
        truths.append({
            "boxes": np.pad(np.reshape([around(each) for each in masks], (-1, 4)), ((0, 3), (0, 0))).astype(np.float32),
            "labels": np.pad(labels, (0, 3), constant_values=-1).astype(np.int32),
            "crowd": np.pad(generator.random(objects) < 0.2, (0, 3)),
            "areas": np.pad(areas, (0, 3)).astype(np.float32),
            "rles": np.append(rles_of(masks), [b""] * 3), "size": np.array(size),
        })  # fmt: skip
        answers.append({
            "boxes": np.pad(np.reshape([around(each) for each in found], (-1, 4)), ((0, 2), (0, 0))).astype(np.float32),
            "labels": np.pad(said_labels, (0, 2), constant_values=-1).astype(np.int32),
            "scores": np.pad(generator.integers(1, 12, said) / 12, (0, 2)).astype(np.float32),
            "rles": np.append(rles_of(found), [b""] * 2), "size": np.array(size),
        })  # fmt: skip
    return truths, answers, classes


def pycocotools_evaluation(truths, answers, classes):
    images, objects, results = [], [], []
    for image, (true, said) in enumerate(zip(truths, answers, strict=True)):
        height, width = map(int, true["size"])
        images.append({"id": image, "height": height, "width": width})
        for row in np.flatnonzero(true["labels"] >= 0):
            packed = {"size": [height, width], "counts": true["rles"][row]}
            objects.append({"id": len(objects) + 1, "image_id": image, "category_id": int(true["labels"][row]),
                            "segmentation": packed, "bbox": coco_mask.toBbox(packed).tolist(),
                            "area": float(true["areas"][row]), "iscrowd": int(true["crowd"][row])})  # fmt: skip
        for row in np.flatnonzero(said["labels"] >= 0):
            results.append({"image_id": image, "category_id": int(said["labels"][row]), "score": float(said["scores"][row]),
                            "segmentation": {"size": [height, width], "counts": said["rles"][row]}})  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        ours = COCO()
        ours.dataset = {"images": images, "annotations": objects, "categories": [{"id": label} for label in range(classes)]}
        ours.createIndex()
        evaluation = COCOeval(ours, ours.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(6))
def test_figures_of_masks_are_those_of_pycocotools(seed):
    truths, answers, classes = hard_images(seed)
    evaluation = pycocotools_evaluation(truths, answers, classes)
    figures = detection_figures(truths, answers, classes, masks=True)

    def known(values):
        return np.where(values == -1, NAN, values)

    np.testing.assert_allclose([getattr(figures, name) for name in STATS], known(evaluation.stats), atol=1e-6)
    precision, recall, scores = (known(evaluation.eval[name]) for name in ("precision", "recall", "scores"))
    np.testing.assert_allclose(figures.precision, precision[0, :, :, 0, 2], atol=1e-6)
    np.testing.assert_allclose(figures.scores, scores[0, :, :, 0, 2], atol=1e-6)
    np.testing.assert_allclose(figures.class_ap, precision[..., 0, 2].mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(figures.class_recall, recall[..., 0, 2].mean(axis=0), atol=1e-6)
    assert 0.02 < figures.ap < figures.ap50 < 0.9 and figures.ar1 < figures.ar10  # a case worth comparing
    assert abs(figures.ap - detection_figures(truths, answers, classes).ap) > 1e-4  # and another one than that of boxes


def test_average_precision_of_masks_by_hand():
    # Of ten pixels the answer has eight, and none that is not the object's: found at the IoU 0.50 .. 0.80, seven of ten.
    true, said = truth((0, rectangle(0, 0, 10, 1))), answer((0, 0.9, rectangle(2, 0, 10, 1)))
    figures = detection_figures([true], [said], 1, masks=True)
    np.testing.assert_allclose((figures.ap, figures.ap50, figures.ap_small), (0.7, 1, 0.7))


def test_an_object_without_pixels_is_missed_and_an_answer_without_them_wrong():
    # As b"" tells of an object whose mask is not known.
    true = truth((0, rectangle(0, 0, 10, 1)), (0, rectangle(0, 5, 10, 6)))
    true["rles"][1] = b""
    said = answer((0, 0.9, np.zeros(SIZE, bool)), (0, 0.8, rectangle(0, 0, 10, 1)))
    figures = detection_figures([true], [said], 1, masks=True)
    np.testing.assert_allclose((figures.ap50, figures.ar100), (51 / 101 / 2, 1 / 2))
    assert detection_confusion([true], [said], 1, masks=True).tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("images", [0, 2])
def test_figures_of_masks_of_no_objects_are_not_a_number(images):
    for said in (answer(), answer((1, 0.9, rectangle(0, 0, 5, 5)))):
        figures = detection_figures([truth()] * images, [said] * images, 2, masks=True)
        assert np.isnan([figures.ap, figures.ap50, figures.ar100]).all() and not figures.objects.any()


@pytest.mark.parametrize("function", [detection_figures, detection_confusion, best_threshold])
def test_masks_of_another_size_than_the_truths_are_refused(function):
    with pytest.raises(ValueError, match=r"masks of image 1 must be of the size \[20, 30\], got \[30, 20\]$"):
        function([truth()] * 2, [answer(), answer(size=(30, 20))], 2, masks=True)


def test_a_confusion_matrix_of_masks_by_hand():
    true = truth((0, rectangle(0, 0, 10, 2)), (1, rectangle(10, 0, 20, 2)), (0, rectangle(20, 0, 30, 2)),
                 (1, rectangle(0, 10, 30, 20)), crowd=(3,))  # fmt: skip
    said = answer(
        (0, 0.90, rectangle(0, 0, 8, 2)),  # right, IoU 0.8
        (1, 0.30, rectangle(0, 0, 9, 2)),  # of the other class, yet IoU 0.9: this takes the object
        (0, 0.99, rectangle(10, 0, 20, 2)),  # a 1 that is called 0
        (0, 0.24, rectangle(20, 0, 30, 2)),  # below the score
        (1, 0.80, rectangle(0, 12, 4, 16)),  # within the crowd
        (0, 0.80, rectangle(0, 12, 4, 16)),  # within the crowd of another class
        (1, 0.25, rectangle(0, 8, 4, 12)),  # half of it within the crowd
        (1, 0.80, rectangle(0, 7, 4, 11)),  # a quarter within
    )
    assert detection_confusion([true], [said], 2, masks=True).tolist() == [[0, 1, 1], [1, 0, 0], [2, 1, 0]]


def test_two_objects_of_one_box_are_told_apart_by_their_masks():
    upper, lower = np.tri(*SIZE, dtype=bool), ~np.tri(*SIZE, dtype=bool)
    true, said = truth((0, upper), (1, lower)), answer((0, 0.9, lower), (1, 0.9, upper))
    for each in (true, said):
        each["boxes"][:] = (0, 0, 30, 20)
    assert image_scores([true], [said]).tolist() == [1] and image_scores([true], [said], masks=True).tolist() == [0]
    np.testing.assert_allclose(best_threshold([true], [said], 2), (0.9, 1), rtol=1e-6)
    np.testing.assert_allclose(best_threshold([true], [said], 2, masks=True), (0.9, 0), rtol=1e-6)
    assert detection_confusion([true], [said], 2, masks=True).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_scores_of_images_by_masks_count_an_overlap_of_a_half():
    true = truth((0, rectangle(0, 0, 10, 2)), (1, rectangle(20, 0, 30, 10)))
    half, less = answer((0, 0.25, rectangle(0, 0, 10, 1))), answer((0, 0.25, rectangle(1, 0, 10, 1)))
    np.testing.assert_allclose(image_scores([true] * 2, [half, less], masks=True), [2 / 3, 0])
    np.testing.assert_allclose(image_scores([true], [less], masks=True, iou=0.45), [2 / 3])


def test_coco_results_of_masks_are_what_cocos_own_program_reads():
    masks = np.stack([rectangle(3, 4, 10, 12), np.zeros(SIZE, bool), np.tri(*SIZE, dtype=bool)])
    said = answer((1, 0.5, masks[0]), (-1, 0, masks[1]), (0, 1, masks[2]))
    rows = coco_results(7, said["boxes"], said["scores"], said["labels"], (3, 90), said["rles"], said["size"])
    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO()
        truths.dataset = {"images": [{"id": 7, "height": 20, "width": 30}], "categories": [{"id": 3}, {"id": 90}],
                          "annotations": []}  # fmt: skip
        truths.createIndex()
        read = truths.loadRes(json.loads(json.dumps(rows)))
    assert [(each["category_id"], each["score"]) for each in read.anns.values()] == [(90, 0.5), (3, 1.0)]
    for mask, each in zip(masks[[0, 2]], read.anns.values(), strict=True):
        np.testing.assert_array_equal(read.annToMask(each), mask)


def slow_runs(mask):
    """Down one column after the other, pixel by pixel."""
    runs, inside = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != inside:
            runs, inside = [*runs, 0], pixel
        runs[-1] += 1
    return runs


@pytest.mark.parametrize("mask", [
    np.random.default_rng(0).random((13, 17)) < 0.5, np.zeros((4, 5), bool), np.ones((4, 5), bool), np.ones((1, 1), bool),
    rectangle(3, 4, 10, 12), rectangle(0, 0, 1, 1), rectangle(0, 0, 600, 500, (700, 900)), rectangle(5, 2, 6, 690, (700, 900)),
], ids=lambda mask: f"{mask.shape[0]} x {mask.shape[1]}, {mask.sum()}")  # fmt: skip
def test_a_mask_comes_back_from_its_run_lengths(mask):
    rle = encoded_mask(mask)
    assert isinstance(rle, bytes) and unpacked_runs(rle).tolist() == slow_runs(mask)
    found = decoded_mask(rle, mask.shape)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_array_equal(coco_mask.decode({"size": [*mask.shape], "counts": rle}), mask)


def test_masks_are_encoded_the_same_however_they_lie_in_memory():
    mask = np.random.default_rng(0).random((13, 17)) < 0.5
    wide = np.repeat(mask, 2, axis=1)
    for same in (np.asfortranarray(mask), wide[:, ::2], mask.astype(np.uint8), 255 * mask.astype(int)):
        assert encoded_mask(same) == encoded_mask(mask)


@pytest.mark.parametrize("size", [(13, 16), (13, 18), (221, 2), (0, 0), (10**6, 10**6)])
def test_run_lengths_of_another_size_are_refused_before_there_is_room_for_a_mask(size):
    rle = encoded_mask(np.random.default_rng(0).random((13, 17)) < 0.5)
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"with the sum {size[0] * size[1]}, got the sum 221$"):
        decoded_mask(rle, size)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(("rle", "message"), [
    (b"", "counts must be run lengths as COCO packs them, got b''"),
    (b"95~", "counts must be run lengths as COCO packs them, got b'95~'"),
    (b"9P", "counts must be run lengths as COCO packs them, got b'9P'"),
    (b"9" + b"P" * 9 + b"0", "got a number of 10 characters"),
    (b";O:", "positive or 0 with the sum 20, got the sum 20"),  # 11, -1 and 10
    (b"PPPPPP1", "with the sum 20, got the sum 1073741824"),
])  # fmt: skip
def test_what_is_no_run_lengths_is_refused(rle, message):
    with pytest.raises(ValueError, match=message):
        decoded_mask(rle, (4, 5))
