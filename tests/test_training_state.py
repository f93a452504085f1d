"""Averages in training and validation: by hand, of examples that count by their tokens."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import catalog, train
from kerastoolkit.experiment import InputError
from kerastoolkit.pipeline import call, training_batches, validation_batches
from kerastoolkit.steps import compile_step
from kerastoolkit.training_state import State

SETTINGS = {"width": 8, "heads": 2, "feed_forward": 8, "depth": 1, "dropout": 0.0, "vocabulary": 262, "batch_tokens": 400,
            "epochs": 1, "smoothing": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Of a translator of texts of very different lengths."""
    pairs = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    pairs.write_text("".join(f"{'ab ' * (1 + i % 9)}\t{'cd ' * (1 + i % 7)}\n" for i in range(120)), "utf-8")
    recipe = catalog.find_recipe("multi30k-transformer")
    return State(train.build(recipe, catalog.arguments(recipe, {**SETTINGS, "data": str(pairs)}), 0))


def nats_of_tokens(state, inputs, tokens):
    """Of each token that is no padding."""
    logits = np.asarray(state.network(inputs, training=False)).astype(float)
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    tokens = np.asarray(tokens)
    return [-logs[row, place, token] for (row, place), token in np.ndenumerate(tokens) if token]


def test_training_averages_over_tokens_and_minimises_that_average(state):
    inputs, tokens = max(training_batches(state.experiment, seed=0, start=0, end=5), key=lambda batch: np.ptp(lengths(batch[1])))
    assert np.ptp(lengths(tokens)) > 0
    expected = np.mean(nats_of_tokens(state, inputs, tokens))
    state.begin_epoch(0)
    loss, _, _ = state.values(inputs, tokens, training=True)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    compile_step(state)(inputs, tokens)
    assert state.means() == pytest.approx({"loss": expected, "nats_per_token": expected}, rel=1e-5)


def test_a_loss_in_parts_is_asked_for_once_and_each_part_is_averaged(state):
    task, asked = state.experiment.task, []

    def loss(tokens, logits):
        asked.append(tokens)
        whole = task.loss(tokens, logits)
        return {"third": whole / 3, "rest": whole * 2 / 3}

    told = dataclasses.replace(task, loss=loss, parts=("third", "rest"))
    of_parts = State(dataclasses.replace(state.experiment, task=told))
    inputs, tokens = next(iter(training_batches(state.experiment, seed=0, start=0, end=1)))
    expected = np.mean(nats_of_tokens(state, inputs, tokens))
    of_parts.begin_epoch(0)
    compile_step(of_parts)(inputs, tokens)
    assert len(asked) == 1
    figures = {"loss": expected, "third": expected / 3, "rest": expected * 2 / 3, "nats_per_token": expected}
    assert of_parts.means() == pytest.approx(figures, rel=1e-5)


def test_where_there_is_a_graph_for_training_its_inputs_are_made_and_its_outputs_are_learned_from(killable):
    experiment = train.build(killable, {}, 0)
    network, task = experiment.network, experiment.task
    factor = keras.Input((1,), name="factor")
    graph = keras.Model({**{each.name: each for each in network.inputs}, "factor": factor}, factor * network.output)

    def encode(truths, inputs, side_outputs, seeds):
        extra, targets = task.encode(truths, inputs, side_outputs, seeds)
        return {**extra, "factor": tf.fill((tf.shape(seeds)[0], 1), 3.0)}, targets

    changed = dataclasses.replace(experiment, training=graph, task=dataclasses.replace(task, encode=encode))
    inputs, targets = next(iter(training_batches(changed, seed=0, start=0, end=1)))
    assert inputs.keys() == {each.name for each in network.inputs} | {"factor"}
    expected = tf.reduce_mean(task.loss(targets, 3.0 * call(network, inputs, training=False)))
    before = [variable.numpy() for variable in network.trainable_variables]
    state = State(changed)
    assert float(state.values(inputs, targets, training=False)[0]) == pytest.approx(float(expected), rel=1e-5)
    compile_step(state)(inputs, targets)
    assert all((old != variable.numpy()).any() for old, variable in zip(before, network.trainable_variables, strict=True))


def test_a_graph_for_training_that_lacks_weights_of_the_network_or_has_others_is_refused(killable):
    experiment, other = train.build(killable, {}, 0), train.build(killable, {}, 1)
    part = keras.Model(experiment.network.inputs, experiment.network.layers[1].output)
    for graph in (other.network, part):
        with pytest.raises(InputError, match="training must be of the network's weights, all of them, got"):
            dataclasses.replace(experiment, training=graph)


def test_validation_averages_over_all_tokens_of_the_split(state):
    batches = list(validation_batches(state.experiment, seed=0))
    found = [nats for inputs, tokens in batches for nats in nats_of_tokens(state, inputs, tokens)]
    assert len({length for _, tokens in batches for length in lengths(tokens)}) > 1
    expected = {"val_loss": np.mean(found), "val_nats_per_token": np.mean(found)}
    assert state._validate(0) == pytest.approx(expected, rel=1e-5)


def lengths(tokens):
    return np.asarray(tf.math.count_nonzero(tokens, axis=1))
