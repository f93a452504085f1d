import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.losses import softmax_cross_entropy
from kerastoolkit.optimizers import OneCycle, RowAdagrad, RowSGD, Steps, sgd
from kerastoolkit.training_state import averaged


@pytest.mark.parametrize(("step", "rate"), [(0, 0.01), (4, 0.01), (5, 0.1), (9, 0.1), (10, 0.01), (20, 0.001), (99, 0.001)])
def test_steps_divide_the_rate_by_ten(step, rate):
    assert float(Steps(0.1, at=(10, 20), warm_up_steps=5, warm_up_rate=0.01)(step)) == pytest.approx(rate)


@pytest.mark.parametrize(("step", "rate"), [(0, 1 / 21), (19, 20 / 21), (20, 1.0), (60, 0.5), (100, 0.0), (200, 0.0)])
def test_one_cycle_rises_linearly_and_falls_along_a_cosine(step, rate):
    assert float(OneCycle(1.0, total_steps=100, rise=0.2)(step)) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize("schedule", [Steps(0.1, at=(3,)), OneCycle(0.1, 10)])
def test_schedules_are_made_again_from_their_configuration(schedule):
    again = type(schedule).from_config(schedule.get_config())
    assert [float(again(step)) for step in range(12)] == [float(schedule(step)) for step in range(12)]


def network():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, kernel_initializer="ones", bias_initializer="ones")])
    return model


def test_weight_decay_is_that_of_the_coupled_form_and_spares_biases():
    model = network()
    optimizer = sgd(model, 0.1, momentum=0.9, weight_decay=0.01)
    optimizer.build(model.trainable_variables)
    steps = 200
    for _ in range(steps):
        optimizer.apply([keras.ops.zeros(variable.shape) for variable in model.trainable_variables])
    # Coupled decay behind momentum 0.9 shrinks by rate * decay / (1 - 0.9) = 0.01 a step once the momentum has built up.
    kernel, bias = model.get_weights()
    assert kernel[0, 0] == pytest.approx((1 - 0.01) ** steps, rel=1e-3)
    np.testing.assert_array_equal(bias, np.ones(3))


def test_averaged_weights_are_in_the_network_only_for_the_while():
    model = network()
    optimizer = sgd(model, 1.0, momentum=0.0, average=0.5)
    optimizer.build(model.trainable_variables)
    for _ in range(2):
        optimizer.apply([keras.ops.ones(variable.shape) for variable in model.trainable_variables])
    # The weight goes 1 -> 0 -> -1; its average is 0 after the first step and 0.5 * 0 + 0.5 * -1 after the second.
    with averaged(model, optimizer):
        assert model.get_weights()[0][0, 0] == pytest.approx(-0.5)
    assert model.get_weights()[0][0, 0] == pytest.approx(-1.0)


def test_cross_entropy_is_the_negative_logarithm_of_the_labels_probability():
    # Probabilities 1/4, 1/2, 1/4.
    logits = np.log([[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]])
    np.testing.assert_allclose(softmax_cross_entropy(np.array([1, 2]), logits), [np.log(2), np.log(4)], rtol=1e-6)


def test_smoothing_spreads_its_share_over_all_classes():
    logits = np.log([[1.0, 2.0, 1.0]])
    expected = 0.7 * np.log(2) + 0.3 * (np.log(4) + np.log(2) + np.log(4)) / 3
    np.testing.assert_allclose(softmax_cross_entropy(np.array([1]), logits, smoothing=0.3), [expected], rtol=1e-6)


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


def test_row_sgd_applies_the_sum_of_the_gradients_of_a_row_of_few_uses():
    expected = TABLE.copy()
    expected[1] -= 0.5 * np.array([1 + 3 - 2, 2 + 0 + 4])
    expected[3] -= 0.5 * np.array([4, -8])
    np.testing.assert_array_equal(applied(RowSGD(0.5, most=3), rows()), expected)


@pytest.mark.parametrize("most", [1, 2])
def test_row_sgd_scales_the_gradients_of_a_row_of_many_uses_down_to_the_weight_of_so_many(most):
    expected = TABLE.copy()
    expected[1] -= 0.5 * most / 3 * np.array([2, 6])
    expected[3] -= 0.5 * np.array([4, -8])
    np.testing.assert_allclose(applied(RowSGD(0.5, most=most), rows()), expected, rtol=1e-6)


def test_row_sgd_does_not_count_uses_whose_gradient_is_zero():
    # As those where there is no word, for which the vector of word 0 is read.
    zeros = np.zeros((50, 2), "float32")
    padded = rows(USED + 50 * [1], np.concatenate([GRADIENTS, zeros]))
    np.testing.assert_array_equal(applied(RowSGD(0.5, most=2), padded), applied(RowSGD(0.5, most=2), rows()))


def test_row_sgd_counts_uses_one_of_whose_numbers_is_not_zero():
    values = np.array([[0, 2], [4, 0]], "float32")
    expected = TABLE - 0.5 * np.array([[0, 0], [2, 1], [0, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(applied(RowSGD(0.5, most=1), rows([1, 1], values)), expected)


def test_row_sgd_counts_the_uses_of_each_step_anew():
    found = applied(RowSGD(0.5, most=3), rows(), rows())
    np.testing.assert_array_equal(found[1], TABLE[1] - 2 * 0.5 * np.array([2, 6]))


def test_row_sgd_applies_gradients_of_whole_variables_as_they_are():
    gradient = np.arange(10, 20, dtype="float32").reshape(5, 2)
    np.testing.assert_array_equal(applied(RowSGD(0.5, most=1), tf.constant(gradient)), TABLE - 0.5 * gradient)


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
@pytest.mark.parametrize("kind", [lambda: RowSGD(0.3, terms=2, most=2), lambda: RowAdagrad(0.3, terms=2, start=0.5)])
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
        (RowSGD(Steps(0.5, at=(3,)), terms=7, most=5), {"terms": 7.0, "most": 5}),
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
        (RowSGD, {"most": 0}, "most must be at least 1, got 0"),
        (RowSGD, {"most": -3}, "most must be at least 1, got -3"),
        (RowAdagrad, {"start": 0}, "start must be more than 0, got 0"),
        (RowAdagrad, {"start": -0.5}, "start must be more than 0, got -0.5"),
    ],
)
def test_a_wrong_number_is_refused(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(**change)
