"""Figures of class maps, worked out by hand and against slow twins."""

import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from kerastoolkit.metrics import boundary_scores, class_confusion, segmentation_figures

NAN = np.nan
# Three classes in the truth, of which the last is never said; a fourth that is only said, a fifth that is nowhere.
MATRIX = np.array([[6, 1, 0, 1, 0], [2, 4, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])


def maps(*rows):
    """A class map from lines of digits; a dot is an ignored pixel."""
    return np.array([[255 if each == "." else int(each) for each in row] for row in rows], np.uint8)


def test_confusion_has_true_classes_in_rows_and_leaves_out_ignored_pixels():
    truth, answer = maps("0012", ".11."), maps("0112", "010.")
    np.testing.assert_array_equal(class_confusion(truth, answer, 3)[:, :3], [[1, 1, 0], [1, 2, 0], [0, 0, 1]])
    assert class_confusion(truth, answer, 3).dtype == np.int64


def test_a_pixel_of_which_no_class_is_said_is_missed_by_its_class_and_taken_by_no_other():
    matrix = class_confusion(maps("0011"), maps("0.13"), 2)
    np.testing.assert_array_equal(matrix, [[1, 0, 1], [0, 1, 1]])
    figures = segmentation_figures(matrix)
    np.testing.assert_allclose([figures.recall, figures.precision, figures.iou], [[0.5, 0.5], [1, 1], [0.5, 0.5]])
    assert figures.pixel_accuracy == 0.5


def test_confusion_counts_up_to_255_classes_in_maps_of_any_shape():
    truth = np.arange(256, dtype=np.uint8).reshape(2, 8, 16)
    np.testing.assert_array_equal(class_confusion(truth, truth, 255), np.eye(255, 256))


def test_confusion_of_images_without_a_known_pixel_is_empty():
    np.testing.assert_array_equal(class_confusion(maps(".."), maps("01"), 2), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("truth", "answer", "message"),
    [
        (maps("01"), maps("0", "1"), r"truth and answer must have the same shape, got \(1, 2\) and \(2, 1\)"),
        (maps("03"), maps("00"), "truth must be 0 .. 2 or 255, got 3"),
    ],
)
def test_confusion_refuses_maps_that_cannot_be_counted(truth, answer, message):
    with pytest.raises(ValueError, match=message):
        class_confusion(truth, answer, 3)


def test_figures_of_each_class_are_those_worked_out_by_hand():
    figures = segmentation_figures(MATRIX)
    np.testing.assert_allclose(figures.iou, [6 / 10, 4 / 9, 0, 0, NAN])
    np.testing.assert_allclose(figures.dice, [12 / 16, 8 / 13, 0, 0, NAN])
    np.testing.assert_allclose(figures.precision, [6 / 8, 4 / 7, 0, 0, NAN])
    np.testing.assert_allclose(figures.recall, [6 / 8, 4 / 6, 0, 0, NAN])


def test_figures_of_all_classes_are_those_worked_out_by_hand():
    figures = segmentation_figures(MATRIX)
    assert figures.pixel_accuracy == pytest.approx(10 / 16)
    assert figures.mean_iou == pytest.approx((6 / 10 + 4 / 9) / 4)
    assert figures.mean_dice == pytest.approx((12 / 16 + 8 / 13) / 4)
    assert figures.frequency_weighted_iou == pytest.approx((8 * 6 / 10 + 6 * 4 / 9) / 16)


def test_mean_class_accuracy_is_over_the_classes_in_the_truth_alone():
    assert segmentation_figures(MATRIX).mean_class_accuracy == pytest.approx((6 / 8 + 4 / 6 + 0) / 3)


def test_figures_of_nothing_are_nan_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = segmentation_figures(np.zeros((2, 3), np.int64))
    for name, values in vars(figures).items():
        assert np.isnan(values).all(), name


def slow_boundary_scores(truth, answer, classes, reach):
    """Boundary F1 from all distances between all boundary pixels."""

    def boundary(classes_of, label):
        points = []
        for row, column in np.argwhere((classes_of == label) & (truth != 255)):
            for other in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                inside = 0 <= other[0] < truth.shape[0] and 0 <= other[1] < truth.shape[1]
                if inside and truth[other] != 255 and classes_of[other] != label:
                    points.append((row, column))
                    break
        return np.array(points).reshape(-1, 2)

    scores = []
    for label in range(classes):
        true, said = boundary(truth, label), boundary(answer, label)
        if not (truth == label).any():
            scores.append(NAN)
        elif not len(true) or not len(said):
            scores.append(float(len(true) == len(said) and ((answer == label) & (truth != 255)).any()))
        else:
            near = cdist(true, said) < reach
            recall, precision = near.any(axis=1).mean(), near.any(axis=0).mean()
            scores.append(2 * precision * recall / (precision + recall) if near.any() else 0.0)
    return scores


@pytest.mark.parametrize("seed", range(4))
def test_boundary_scores_are_those_of_all_distances(seed):
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 4, (2, 6, 8)).repeat(5, axis=1).repeat(5, axis=2).astype(np.uint8)  # 30 x 40: diagonal 50
    truth, answer = blocks[0], np.where(generator.uniform(size=(30, 40)) < 0.7, blocks[0], blocks[1])
    truth[3:9, 20:31] = 255
    answer[generator.uniform(size=(30, 40)) < 0.05] = 255
    expected = slow_boundary_scores(truth, answer, 5, 50 * 0.05)
    np.testing.assert_allclose(boundary_scores(truth, answer, 5, tolerance=0.05), expected)
    assert np.isnan(expected[4]) and 0.1 < np.nanmin(expected) < 1


def test_a_boundary_pixel_as_far_away_as_the_tolerance_is_not_matched():
    truth, answer = np.zeros((2, 300, 400), np.uint8)  # diagonal 500, tolerance 3.75
    truth[:, 200:], answer[:, 203:] = 1, 1
    np.testing.assert_array_equal(boundary_scores(truth, answer, 2), [1, 1])
    np.testing.assert_array_equal(boundary_scores(truth, answer, 2, tolerance=3 / 500), [0, 0])


def test_boundary_scores_are_the_harmonic_means_of_precision_and_recall():
    # Boundary pixels of class 0: columns 2, 5 of the truth and 2, 4 of the answer; of class 1: 3, 4 and 3.
    np.testing.assert_allclose(boundary_scores(maps("00011000"), maps("00010000"), 2), [1 / 2, 2 * 1 * (1 / 2) / (1 + 1 / 2)])


def test_pixels_beside_ignored_ones_alone_are_no_boundary():
    truth, answer = maps("00.11", "00.11"), maps("00011", "00111")
    np.testing.assert_array_equal(boundary_scores(truth, answer, 2), [1, 1])


def test_a_class_that_is_not_in_the_truth_has_no_boundary_score():
    np.testing.assert_array_equal(boundary_scores(maps("0011"), maps("0021"), 3, tolerance=0.3), [1, 1, NAN])


def test_a_class_that_fills_the_image_is_right_where_the_answer_has_nothing_else():
    truth = maps("000", "000")
    assert boundary_scores(truth, truth, 2)[0] == 1
    assert boundary_scores(truth, truth + 1, 2)[0] == 0
    assert boundary_scores(truth, maps("000", "001"), 2)[0] == 0
