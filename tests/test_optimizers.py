import keras
import numpy as np
import pytest

from kerastoolkit.losses import softmax_cross_entropy
from kerastoolkit.optimizers import CheckpointAveragingAdam, InverseSquareRoot, OneCycle, Steps, adamw, sgd
from kerastoolkit.training_state import averaged


@pytest.mark.parametrize(("step", "rate"), [(0, 0.01), (4, 0.01), (5, 0.1), (9, 0.1), (10, 0.01), (20, 0.001), (99, 0.001)])
def test_steps_divide_the_rate_by_ten(step, rate):
    assert float(Steps(0.1, at=(10, 20), warm_up_steps=5, warm_up_rate=0.01)(step)) == pytest.approx(rate)


@pytest.mark.parametrize(("step", "rate"), [(0, 1 / 21), (19, 20 / 21), (20, 1.0), (60, 0.5), (100, 0.0), (200, 0.0)])
def test_one_cycle_rises_linearly_and_falls_along_a_cosine(step, rate):
    assert float(OneCycle(1.0, total_steps=100, rise=0.2)(step)) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize(("step", "rate"), [(0, 1 / 11), (9, 10 / 11), (10, 1.0), (55, 0.5), (91, 0.1), (100, 0.0), (200, 0.0)])
def test_one_cycle_may_fall_linearly(step, rate):
    """Devlin et al. 2018, appendix A.2: warm-up over the first steps, and linear decay."""
    assert float(OneCycle(1.0, total_steps=100, rise=0.1, fall="linear")(step)) == pytest.approx(rate, abs=1e-6)


def test_an_unknown_fall_is_refused():
    with pytest.raises(ValueError, match="fall must be cosine or linear, got 'steps'"):
        OneCycle(1.0, 100, fall="steps")


@pytest.mark.parametrize("step", [1, 2, 100, 3_999, 4_000, 4_001, 16_000, 100_000])
def test_the_inverse_square_root_is_the_papers_equation_3(step):
    """Vaswani et al. 2017: lrate = d_model**-0.5 * min(step_num**-0.5, step_num * warmup_steps**-1.5), and steps from 1."""
    schedule = InverseSquareRoot((512 * 4_000) ** -0.5, 4_000)
    assert float(schedule(step - 1)) == pytest.approx(512**-0.5 * min(step**-0.5, step * 4_000**-1.5), rel=1e-5)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.1), (4, 0.5), (9, 1.0), (39, 0.5), (999, 0.1)])
def test_the_inverse_square_root_rises_to_its_peak_and_halves_at_four_times_the_step(step, rate):
    assert float(InverseSquareRoot(1.0, warm_up_steps=10)(step)) == pytest.approx(rate)


def test_a_warm_up_of_no_step_is_refused():
    with pytest.raises(ValueError, match="warm_up_steps must be at least 1, got 0"):
        InverseSquareRoot(0.1, 0)


@pytest.mark.parametrize("rate", [0.0, -0.1, float("inf"), float("nan")])
@pytest.mark.parametrize("make", [lambda rate: Steps(rate, at=(3,)), lambda rate: OneCycle(rate, 10), InverseSquareRoot])
def test_a_rate_that_is_not_above_0_is_refused(make, rate):
    with pytest.raises(ValueError, match="learning_rate must be above 0 and finite, got"):
        make(rate)


@pytest.mark.parametrize(
    "schedule", [Steps(0.1, at=(3,)), OneCycle(0.1, 10), OneCycle(0.1, 10, 0.3, fall="linear"), InverseSquareRoot(0.1, 5)]
)
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


def slow_adamw(values, gradients, rate, decayed, decay, norm=1.0, epsilon=1e-6):
    """Loshchilov & Hutter 2017, algorithm 2, for each step; gradients are cut at a norm together. Epsilon is as in Keras."""
    moments = [(np.zeros_like(value), np.zeros_like(value)) for value in values]
    for step, each in enumerate(gradients, start=1):
        size = np.sqrt(sum((gradient**2).sum() for gradient in each))
        each = [gradient * min(1.0, norm / size) for gradient in each]
        moments = [(0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2) for (m, v), g in zip(moments, each, strict=True)]
        scale = rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        values = [value * (1 - rate * decay * shrinks) - scale * m / (np.sqrt(v) + epsilon)
                  for value, (m, v), shrinks in zip(values, moments, decayed, strict=True)]  # fmt: skip
    return values


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("size", [0.01, 100.0])
def test_adamw_is_its_equations_spares_biases_and_cuts_gradients_together(decay, size):
    model, generator = network(), np.random.default_rng(0)
    optimizer = adamw(model, 0.05, weight_decay=decay)
    optimizer.build(model.trainable_variables)
    before = [value.astype(float) for value in model.get_weights()]
    gradients = [[size * generator.normal(size=value.shape) for value in before] for _ in range(6)]
    for each in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32") for gradient in each])
    expected = slow_adamw(before, gradients, 0.05, [value.ndim > 1 for value in before], decay)
    for found, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-4)


def test_rows_of_an_embedding_that_come_twice_are_added_up_before_they_are_cut():
    import tensorflow as tf

    found = []
    rows = tf.IndexedSlices(tf.constant([[3.0, 0], [3, 0], [0, 2]]), tf.constant([1, 1, 0]), tf.constant([3, 2]))
    for gradient in (rows, tf.convert_to_tensor(rows)):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Embedding(3, 2, embeddings_initializer="ones")])
        optimizer = adamw(model, keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5), epsilon=1.0)
        optimizer.build(model.trainable_variables)
        optimizer.apply([gradient])
        optimizer.apply([gradient])
        found += model.get_weights()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_adamw_may_have_another_norm_and_is_made_again_from_its_configuration():
    optimizer = adamw(network(), OneCycle(0.1, 10), weight_decay=0.3, global_clipnorm=5.0)
    again = type(optimizer).from_config(optimizer.get_config())
    for each in (optimizer, again):
        assert (each.global_clipnorm, each.epsilon, each.weight_decay) == (5.0, 1e-6, 0.3)


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


def steps_of(model, optimizer, numbers):
    """Takes steps with gradients that depend on the step's number and the weights; gives the weights after each."""
    found = []
    for number in numbers:
        gradients = [np.sin(number + np.arange(value.size)).reshape(value.shape) + value for value in model.get_weights()]
        optimizer.apply([keras.ops.convert_to_tensor(each, "float32") for each in gradients], model.trainable_variables)
        found.append(model.get_weights())
    return found


def average_of(model, optimizer):
    with averaged(model, optimizer):
        return model.get_weights()


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("first", "every"), [(1, 1), (3, 1), (3, 2), (4, 5)])
def test_the_networks_weights_are_the_mean_of_the_checkpoints_so_far(first, every):
    model = network()
    optimizer, seen = CheckpointAveragingAdam(0.05, first=first, every=every), []
    for number in range(1, 12):
        seen += steps_of(model, optimizer, [number])
        checkpoints = seen[first - 1 :: every]  # the first step's weights are seen[0]
        expected = [np.mean(each, axis=0) for each in zip(*checkpoints, strict=True)] if checkpoints else seen[-1]
        assert_same(average_of(model, optimizer), expected)
        assert_same(model.get_weights(), seen[-1])  # and training goes on from its own weights


def test_the_mean_is_taken_inside_a_compiled_step_too():
    import tensorflow as tf

    model = network()
    optimizer = CheckpointAveragingAdam(0.1, first=2, every=2)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step():
        optimizer.apply([tf.cos(variable.value) for variable in model.trainable_variables])

    seen = []
    for _ in range(7):
        step()
        seen.append(model.get_weights())
    assert_same(average_of(model, optimizer), [np.mean(each, axis=0) for each in zip(*seen[1::2], strict=True)])


def test_averaging_changes_nothing_of_training_with_the_papers_adam():
    """Vaswani et al. 2017, section 5.3: beta_1 0.9, beta_2 0.98, epsilon 1e-9."""
    one, other = network(), network()
    found = steps_of(one, CheckpointAveragingAdam(0.05, first=2, every=2), range(8))
    expected = steps_of(other, keras.optimizers.Adam(0.05, beta_1=0.9, beta_2=0.98, epsilon=1e-9), range(8))
    for step, plain in zip(found, expected, strict=True):
        assert_same(step, plain)


def test_checkpoint_averaging_is_made_again_from_its_configuration():
    optimizer = CheckpointAveragingAdam(InverseSquareRoot(0.1, 5), first=4, every=3, beta_2=0.9, global_clipnorm=1.0)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, CheckpointAveragingAdam)
    assert (again.first, again.every, again.beta_2, again.epsilon, again.global_clipnorm) == (4, 3, 0.9, 1e-9, 1.0)
    assert again.use_ema
    assert isinstance(again._learning_rate, InverseSquareRoot)


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_mean_goes_on_from_the_optimizers_saved_variables(stop):
    model, settings = network(), {"first": 3, "every": 2}
    whole = CheckpointAveragingAdam(0.05, **settings)
    seen = steps_of(model, whole, range(stop))
    state = [np.array(keras.ops.convert_to_numpy(each)) for each in whole.variables]
    seen += steps_of(model, whole, range(stop, 9))
    other, again = network(), CheckpointAveragingAdam(0.05, **settings)
    again.build(other.trainable_variables)
    other.set_weights(seen[stop - 1])
    for variable, value in zip(again.variables, state, strict=True):
        variable.assign(value)
    assert_same(steps_of(other, again, range(stop, 9))[-1], seen[-1])
    assert_same(average_of(other, again), average_of(model, whole))


def test_a_mean_begins_anew_where_training_goes_on_with_another_first_step():
    """As with more epochs, of which other ones are the last: what was averaged before is none of them."""
    model, before = network(), CheckpointAveragingAdam(0.05, first=2, every=1)
    steps_of(model, before, range(5))
    again = CheckpointAveragingAdam(0.05, first=7, every=2)
    again.build(model.trainable_variables)
    for variable, each in zip(again.variables, before.variables, strict=True):
        variable.assign(each)
    assert_same(average_of(model, again), model.get_weights())
    seen = steps_of(model, again, range(5, 11))  # steps 6 to 11, of which 7, 9 and 11 count
    assert_same(average_of(model, again), [np.mean(each, axis=0) for each in zip(*seen[1::2], strict=True)])


@pytest.mark.parametrize("name", ["first", "every"])
def test_checkpoints_before_the_first_step_or_none_apart_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        CheckpointAveragingAdam(0.1, **{"first": 3, "every": 2, name: 0})


def test_cross_entropy_is_the_negative_logarithm_of_the_labels_probability():
    # Probabilities 1/4, 1/2, 1/4.
    logits = np.log([[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]])
    np.testing.assert_allclose(softmax_cross_entropy(np.array([1, 2]), logits), [np.log(2), np.log(4)], rtol=1e-6)


def test_smoothing_spreads_its_share_over_all_classes():
    logits = np.log([[1.0, 2.0, 1.0]])
    expected = 0.7 * np.log(2) + 0.3 * (np.log(4) + np.log(2) + np.log(4)) / 3
    np.testing.assert_allclose(softmax_cross_entropy(np.array([1]), logits, smoothing=0.3), [expected], rtol=1e-6)
