import keras
import numpy as np
import pytest

from kerastoolkit.losses import softmax_cross_entropy
from kerastoolkit.optimizers import OneCycle, Steps, sgd
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
