"""Optimizers for tables of rows: against sums by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.optimizers import Steps
from kerastoolkit.row_optimizers import RowAdagrad, RowSGD

# A table of five rows, of which a step uses row 1 three times, row 3 once and row 4 with a gradient of zeros.
TABLE = np.arange(10, dtype="float32").reshape(5, 2)
USED = [1, 3, 1, 1, 4]
GRADIENTS = np.array([[1, 2], [4, -8], [3, 0], [-2, 4], [0, 0]], "float32")
UNUSED = [0, 2, 4]


def rows(indices=USED, values=GRADIENTS, table=TABLE):
    return tf.IndexedSlices(tf.constant(values), tf.constant(indices), tf.constant(table.shape))


def applied(optimizer, *gradients, table=TABLE, compiled=None):
    """The table after a step for each gradient: eager, or in a graph that is compiled or not."""
    variable = keras.Variable(table)
    optimizer.build([variable])
    apply = (lambda each: optimizer.apply([each])) if compiled is None else tf.function(lambda each: optimizer.apply([each]),
                                                                                          jit_compile=compiled)  # fmt: skip
    for gradient in gradients:
        apply(gradient)
    return np.asarray(variable)


def test_row_sgd_applies_the_sum_of_the_gradients_of_a_row():
    expected = TABLE.copy()
    expected[1] -= 0.5 * np.array([1 + 3 - 2, 2 + 0 + 4])
    expected[3] -= 0.5 * np.array([4, -8])
    np.testing.assert_array_equal(applied(RowSGD(0.5), rows()), expected)
    np.testing.assert_array_equal(applied(RowSGD(0.5, longest=100), rows()), expected)


@pytest.mark.parametrize("longest", [0.5, 4.6])
def test_row_sgd_shortens_all_steps_of_a_row_whose_way_is_too_long(longest):
    expected = TABLE.copy()
    way = 0.5 * (np.sqrt(5) + 3 + np.sqrt(20))  # of row 1, 4.85; its sum is (2, 6)
    expected[1] -= 0.5 * longest / way * np.array([2, 6])
    way = 0.5 * np.sqrt(80)  # of row 3, 4.47
    expected[3] -= 0.5 * min(1, longest / way) * np.array([4, -8])
    np.testing.assert_allclose(applied(RowSGD(0.5, longest=longest), rows()), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e15])
def test_no_row_moves_farther_in_a_step_than_row_sgd_lets_it(size):
    values = np.random.default_rng(0).normal(size=(300, 2)).astype("float32") * size
    table = np.zeros((5, 2), "float32")
    found = applied(RowSGD(0.5, longest=0.25), rows(np.arange(300) % 5, values + size, table), table=table)
    assert (np.linalg.norm(found, axis=1) <= 0.25 * (1 + 1e-6)).all()


def test_row_sgd_shortens_nothing_for_uses_whose_gradient_is_zero():
    # As those where there is no word, for which the vector of word 0 is read.
    zeros = np.zeros((50, 2), "float32")
    padded = rows(USED + 50 * [1], np.concatenate([GRADIENTS, zeros]))
    np.testing.assert_array_equal(applied(RowSGD(0.5, longest=2), padded), applied(RowSGD(0.5, longest=2), rows()))


def test_row_sgd_measures_the_way_of_each_step_anew():
    found = applied(RowSGD(0.5, longest=4.9), rows(), rows())
    np.testing.assert_array_equal(found[1], TABLE[1] - 2 * 0.5 * np.array([2, 6]))


def test_row_sgd_applies_gradients_of_whole_variables_as_they_are():
    gradient = np.arange(10, 20, dtype="float32").reshape(5, 2)
    np.testing.assert_array_equal(applied(RowSGD(0.5, longest=1), tf.constant(gradient)), TABLE - 0.5 * gradient)


@pytest.mark.parametrize("gradient", [rows(), tf.ones((5, 2))])
@pytest.mark.parametrize("kind", [RowSGD, RowAdagrad])
def test_the_gradient_of_a_mean_of_terms_gives_the_step_of_their_sum(kind, gradient):
    eighth = rows(values=GRADIENTS / 8) if isinstance(gradient, tf.IndexedSlices) else gradient / 8
    np.testing.assert_array_equal(applied(kind(0.5, terms=8), eighth), applied(kind(0.5), gradient))


def adagrad_by_hand(rate, start, steps, table=TABLE):
    """AdaGrad one use at a time: first all squares of a step are added, then all its uses are applied."""
    table, squares = table.copy(), np.full_like(table, start)
    for indices, values in steps:
        for index, value in zip(indices, values, strict=True):
            squares[index] += value**2
        for index, value in zip(indices, values, strict=True):
            table[index] -= rate * value / np.sqrt(squares[index])
    return table, squares


def test_row_adagrad_adds_the_squares_of_the_uses_of_a_row_one_by_one():
    optimizer = RowAdagrad(0.5, start=2.0)
    found = applied(optimizer, rows())
    # 2 + 1 + 9 + 4 = 16, and 2 + 4 + 0 + 16 = 22: not 2 + (1 + 3 - 2) ** 2 and 2 + (2 + 4) ** 2.
    np.testing.assert_array_equal(np.asarray(optimizer.squares[0])[1], [16, 22])
    np.testing.assert_allclose(found[1], [2 - 0.5 * 2 / 4, 3 - 0.5 * 6 / np.sqrt(22)], rtol=1e-6)
    np.testing.assert_allclose(found[3], [6 - 0.5 * 4 / np.sqrt(18), 7 + 0.5 * 8 / np.sqrt(66)], rtol=1e-6)


def test_row_adagrad_keeps_the_squares_of_all_steps():
    optimizer, other = RowAdagrad(0.5, start=0.1), ([0, 1], np.array([[1, 1], [2, -3]], "float32"))
    found = applied(optimizer, rows(), rows(*other), rows())
    table, squares = adagrad_by_hand(0.5, 0.1, [(USED, GRADIENTS), other, (USED, GRADIENTS)])
    np.testing.assert_allclose(found, table, rtol=1e-5)
    np.testing.assert_allclose(optimizer.squares[0], squares, rtol=1e-5)


def test_row_adagrad_of_gradients_of_whole_variables_is_adagrad():
    optimizer, gradients = RowAdagrad(0.5, start=0.1), np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float32")
    stock = keras.optimizers.Adagrad(0.5, initial_accumulator_value=0.1, epsilon=0.0)
    found = applied(optimizer, *map(tf.constant, gradients))
    np.testing.assert_allclose(found, applied(stock, *map(tf.constant, gradients)), rtol=1e-5)
    np.testing.assert_allclose(optimizer.squares[0], 0.1 + (gradients**2).sum(axis=0), rtol=1e-5)


@pytest.mark.parametrize("kind", [RowSGD, RowAdagrad])
def test_rows_that_a_step_does_not_use_stay_bit_for_bit_what_they_are(kind):
    table = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")
    optimizer = kind(0.3)
    found = applied(optimizer, rows(), rows(), table=table)
    np.testing.assert_array_equal(found[UNUSED], table[UNUSED])
    assert (found[[1, 3]] != table[[1, 3]]).all()
    if kind is RowAdagrad:
        np.testing.assert_array_equal(np.asarray(optimizer.squares[0])[UNUSED], np.ones((3, 2)))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("gradient", [rows(), tf.ones((5, 2))])
@pytest.mark.parametrize("kind", [lambda: RowSGD(0.3, terms=2, longest=2), lambda: RowAdagrad(0.3, terms=2, start=0.5)])
def test_steps_in_a_graph_compiled_or_not_are_those_outside(kind, gradient, compiled):
    found = applied(kind(), gradient, gradient, compiled=compiled)
    np.testing.assert_allclose(found, applied(kind(), gradient, gradient), rtol=1e-6)


@pytest.mark.parametrize("kind", [RowSGD, RowAdagrad])
def test_steps_follow_a_schedule(kind):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.5, 0.0])  # the first step alone
    np.testing.assert_array_equal(applied(kind(schedule), rows(), rows()), applied(kind(0.5), rows()))


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (RowSGD(Steps(0.5, at=(3,)), terms=7, longest=5), {"terms": 7.0, "longest": 5.0}),
        (RowAdagrad(Steps(0.5, at=(3,)), terms=7, start=0.3), {"terms": 7.0, "start": 0.3}),
    ],
)
def test_row_optimizers_are_made_again_from_their_configuration(optimizer, settings):
    assert settings.items() <= optimizer.get_config().items()
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    np.testing.assert_array_equal(applied(again, rows(), rows()), applied(optimizer, rows(), rows()))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (RowSGD, {"longest": 0}, "longest must be more than 0, got 0"),
        (RowSGD, {"longest": -3}, "longest must be more than 0, got -3"),
        (RowAdagrad, {"start": 0}, "start must be more than 0, got 0"),
        (RowAdagrad, {"start": -0.5}, "start must be more than 0, got -0.5"),
    ],
)
def test_a_wrong_number_is_refused(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(**change)
