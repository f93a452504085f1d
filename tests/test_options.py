"""Options of training: each changes what it says, and a training that goes on with it ends with the same bits."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import catalog, train
from kerastoolkit.experiment import InputError
from kerastoolkit.options import LossScale, Options, computing_in
from kerastoolkit.pipeline import batches_of, training_batches
from kerastoolkit.steps import compile_step, compile_steps
from kerastoolkit.training_state import State, averaged
from kerastoolkit.workers import ALONE
from tests.together import PLAIN, bits

ALL = {"precision": "mixed_float16", "clip_norm": 0.5, "accumulate": 4, "average": 0.9}
EACH = [{name: value} for name, value in (("precision", "mixed_bfloat16"), *ALL.items())]


@pytest.fixture(scope="module")
def recipe():
    return catalog.find_recipe(PLAIN)


def built(recipe, options, **overrides):
    """A State of that recipe, before the first step."""
    experiment = train.build(recipe, catalog.arguments(recipe, overrides), 0, options=options)
    return State(experiment, options=options)


def stepped(state, steps):
    """The same state after so many steps."""
    slices = None if state.is_alone else ALONE.slices(state.options.accumulate)
    batches = iter(training_batches(state.experiment, seed=0, start=0, end=steps, slices=slices))
    compile_steps(state)(batches, tf.constant(steps))
    return state


def weights(state):
    return [np.array(variable.numpy()) for variable in state.network.trainable_variables]


def farthest(some, others):
    return max(np.abs(a - b).max() for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("asked", [ALL, *(pytest.param(one, marks=pytest.mark.slow) for one in EACH)], ids=str)
def test_a_training_that_goes_on_with_an_option_ends_with_the_same_bits(asked, recipe, tmp_path, monkeypatch):
    options = Options(**asked)
    whole = train.train(recipe, {"epochs": 2, "dropout": 0.2}, out=str(tmp_path / "whole"), options=options)
    first = train.train(recipe, {"epochs": 1, "dropout": 0.2}, out=str(tmp_path / "parts"), options=options)
    assert json.loads((first / "run.json").read_text())["options"] == asked
    assert bits(train.resume(str(first), epochs=2)) == bits(whole)
    model = keras.saving.load_model(whole / "model.keras")
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}


def test_the_same_folder_with_another_option_is_refused(recipe, tmp_path):
    train.train(recipe, {"epochs": 1}, out=str(tmp_path / "run"))
    with pytest.raises(InputError, match="other settings .clip_norm None, not 2.0"):
        train.train(recipe, {"epochs": 1}, out=str(tmp_path / "run"), options=Options(clip_norm=2.0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_computes_in_half_and_keeps_weights_and_inputs_whole(dtype, recipe):
    state = built(recipe, Options(precision=f"mixed_{dtype}"))
    assert {layer.compute_dtype for layer in state.network.layers} == {dtype}
    assert {variable.dtype for variable in state.network.trainable_variables} == {"float32"}
    assert {layer.compute_dtype for layer in state.experiment.preprocess.layers} == {"float32"}
    inputs, _ = next(iter(training_batches(state.experiment, seed=0, start=0, end=1)))
    assert inputs["image"].dtype == tf.float32
    assert state.network(inputs["image"]).dtype == dtype
    assert keras.config.dtype_policy().name == "float32"


def test_mixed_precision_trains_near_to_whole_numbers(recipe):
    whole = stepped(built(recipe, Options()), 20)
    mixed = stepped(built(recipe, Options(precision="mixed_bfloat16")), 20)
    assert 1e-6 < farthest(weights(whole), weights(mixed)) < 0.02
    assert mixed.means()["loss"] == pytest.approx(whole.means()["loss"], rel=0.01)


def test_gradients_are_cut_to_the_norm(recipe):
    norms = []
    for norm in (None, 0.01):
        state = built(recipe, Options(clip_norm=norm))
        before = weights(state)
        norms.append(np.sqrt(sum(np.square(a - b).sum() for a, b in zip(weights(stepped(state, 1)), before, strict=True))))
    assert norms[0] > 0.001
    assert norms[1] == pytest.approx(0.01 * 0.01, rel=1e-3)  # the rate times the norm


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.5}, {"batch_size": 10}], ids=str)
def test_a_step_in_parts_is_the_step(settings, recipe):
    whole, parts = (weights(stepped(built(recipe, Options(accumulate=count), **settings), 20)) for count in (1, 4))
    assert 0 < farthest(whole, parts) < 1e-6


def test_a_step_in_parts_normalises_by_each_part(recipe):
    whole, parts = (weights(stepped(built(recipe, Options(accumulate=count), batch_norm=True), 1)) for count in (1, 4))
    assert farthest(whole, parts) > 1e-5


def test_more_parts_than_examples_are_refused(recipe, tmp_path):
    with pytest.raises(InputError, match="a step's 2 examples cannot be cut into 3 slices"):
        train.train(recipe, {"batch_size": 2}, out=str(tmp_path / "run"), options=Options(accumulate=3))


def test_optimizers_that_need_each_use_of_a_row_take_no_parts(tmp_path):
    words = catalog.find_recipe("text8-skipgram")
    with pytest.raises(InputError, match="accumulate cannot go with RowSGD"):
        train.train(words, {"data": "sample", "batch_size": 2}, out=str(tmp_path / "run"), options=Options(accumulate=2))


def test_the_average_is_that_counted_slowly(recipe):
    state = built(recipe, Options(average=0.75))
    slow = weights(state)
    for step in range(1, 4):
        batches = iter(training_batches(state.experiment, seed=0, start=step - 1, end=step))
        compile_step(state)(*next(batches))
        kept = 0.75 if step > 1 else 0.0  # Keras begins with the weights after the first step
        slow = [kept * mean + (1 - kept) * weight for mean, weight in zip(slow, weights(state), strict=True)]
    own = weights(state)
    with averaged(state.network, state.optimizer):
        assert farthest(weights(state), slow) < 1e-6
    assert farthest(weights(state), own) == 0 < farthest(own, slow)


def test_an_optimizer_with_an_average_of_its_own_keeps_it(recipe):
    dates = catalog.find_recipe("dates-transformer")
    with pytest.raises(InputError, match="average cannot be set: the recipe's CheckpointAveragingAdam"):
        built(dates, Options(average=0.9), depth=1, width=8, heads=2, feed_forward=16)


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"precision": "half"}, "precision must be float32, mixed_bfloat16 or mixed_float16, got half"),
     ({"clip_norm": 0.0}, "clip-norm must be above 0"), ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
     ({"average": 1.0}, "average must be between 0 and 1")],
)  # fmt: skip
def test_what_is_no_option_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        Options(**asked)


def test_a_gradient_beyond_float16_is_left_out_and_the_scale_halved(recipe):
    state = built(recipe, Options(precision="mixed_float16"))
    inputs, targets = next(iter(training_batches(state.experiment, seed=0, start=0, end=1)))
    before = weights(state)
    state.loss_scale.factor.assign(2.0**30)
    step = compile_step(state)
    step(inputs, targets)
    assert farthest(weights(state), before) == 0
    assert (state.failed_at.numpy(), state.loss_scale.factor.numpy()) == (-1, 2.0**29)
    assert np.isnan(state.means()["loss"])
    state.loss_scale.factor.assign(2.0**10)
    step(inputs, targets)
    assert farthest(weights(state), before) > 0
    assert state.loss_scale.steps.numpy() == 1
    step({"image": inputs["image"] * float("nan")}, targets)  # no scale helps a loss that is not finite
    assert state.failed_at.numpy() == 1


def test_the_scale_does_not_change_the_step(recipe):
    ends = []
    for factor in (2.0**6, 2.0**12):
        state = built(recipe, Options(precision="mixed_float16"))
        state.loss_scale.factor.assign(factor)
        ends.append(weights(stepped(state, 3)))
    assert farthest(*ends) < 1e-4


def test_the_scale_doubles_after_many_good_steps():
    scale = LossScale("mixed_float16")
    scale.steps.assign(LossScale.STEPS - 1)
    scale.applied()
    assert (scale.factor.numpy(), scale.steps.numpy()) == (2 * LossScale.START, 0)
    unused = LossScale("float32")
    assert unused.refused().numpy() and not unused.variables()


def test_a_builder_makes_layers_of_the_precision():
    from kerastoolkit.models import cnn

    with computing_in("mixed_bfloat16"):
        network = cnn(classes=3, input_shape=(8, 8, 1), filters=(4,), dense=(8,), batch_norm=True)
    assert network(np.zeros((1, 8, 8, 1), np.float32)).dtype == "bfloat16"


@pytest.mark.slow
def test_parts_without_a_text_of_their_own_do_not_count(tmp_path):
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"{'ein langer Hund ' * (n % 5 + 1)}{n}\t{'a long dog ' * (n % 5 + 1)}{n}\n" for n in range(60)))
    translator = catalog.find_recipe("multi30k-transformer")
    settings = {"data": str(pairs), "depth": 1, "width": 8, "heads": 2, "feed_forward": 16, "vocabulary": 280, "dropout": 0.0,
                "batch_tokens": 64, "averaged": 1, "warm_up_steps": 10}  # fmt: skip
    whole, parts = (built(translator, Options(accumulate=count), **settings) for count in (1, 3))
    sizes = [len(indices) for indices, _ in batches_of(whole.experiment).of_steps(seed=0, start=0, end=10)]
    assert min(sizes) < 3 < max(sizes)
    stepped(whole, 10), stepped(parts, 10)
    assert parts.counted.numpy() == whole.counted.numpy()
    assert parts.means()["loss"] == pytest.approx(whole.means()["loss"], rel=1e-5)
