"""Weights of classes, by hand."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data.class_weights import AT_ONCE, MOST_MASKS, class_weights
from kerastoolkit.experiment import Data, InputError, Source


def data_of(masks, classes=("a", "b", "c"), fetched=None):
    masks = np.array(masks, np.uint8)

    def fetch(indices):
        if fetched is not None:
            fetched.append(np.array(indices))
        return {"mask": tf.gather(tf.constant(masks), indices)}

    train, nothing = Source(len(masks), fetch), Source(0, fetch)
    return Data("made up", train, nothing, nothing, inputs=("image",), encoded=True, about={"classes": classes})


# Of the nine pixels with a class, six are of a and three of b; c is nowhere, and three pixels are ignored.
MASKS = [[[0, 0, 255], [0, 1, 1]], [[0, 0, 0], [255, 255, 1]]]


@pytest.mark.parametrize(("power", "expected"), [
    (0.0, [1, 1, 0]),
    (1.0, [0.75, 1.5, 0]),  # 3 / 2 and 3, whose mean over pixels is 2
    (0.5, [np.sqrt(3 / 2) / (np.sqrt(2 / 3) + np.sqrt(1 / 3)), np.sqrt(3) / (np.sqrt(2 / 3) + np.sqrt(1 / 3)), 0]),
])  # fmt: skip
def test_weights_by_hand_where_a_class_is_absent(power, expected):
    weights = class_weights(data_of(MASKS), power)
    assert isinstance(weights, list) and weights == pytest.approx(expected)


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
def test_the_mean_pixel_counts_1(power):
    masks = np.random.default_rng(0).choice([0, 1, 2, 255], (7, 9, 5), p=[0.6, 0.25, 0.05, 0.1])
    weights = class_weights(data_of(masks), power)
    assert np.mean(np.array(weights)[masks[masks != 255]]) == pytest.approx(1)


def test_with_power_1_all_classes_count_the_same_together():
    weights = class_weights(data_of(MASKS), 1.0)
    assert 6 * weights[0] == pytest.approx(3 * weights[1])


def test_of_many_masks_a_thousand_are_counted_from_the_first_to_the_last():
    fetched = []
    masks = np.zeros((2_500, 1, 1))
    masks[-1] = 1
    weights = class_weights(data_of(masks, fetched=fetched), 1.0)
    assert max(map(len, fetched)) <= AT_ONCE
    counted = np.concatenate(fetched)
    assert len(counted) == len(set(counted.tolist())) == MOST_MASKS
    assert (counted[0], counted[-1]) == (0, 2_499) and np.diff(counted).max() == 3
    assert weights == pytest.approx([1000 / 999 / 2, 1000 / 2, 0])


@pytest.mark.parametrize("power", [-0.1, 1.1, float("nan")])
def test_a_power_out_of_range_is_refused(power):
    with pytest.raises(InputError, match=f"balance must be in 0 .. 1, got {power}"):
        class_weights(data_of(MASKS), power)


def test_masks_without_a_known_pixel_are_refused():
    with pytest.raises(InputError, match="the training masks of made up hold no pixel of a known class"):
        class_weights(data_of([[[255, 255]]]), 0.5)
