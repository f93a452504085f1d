"""Encoder-decoders learn, and write what they have learned."""

import functools
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import models
from kerastoolkit.layers import PointerGenerator
from kerastoolkit.serving.byte_pairs import END, START
from kerastoolkit.serving.decoding import SETTINGS, Decode

SMALL = {"depth": 1, "width": 16, "heads": 2, "feed_forward": 32, "dropout": 0.0}
NETWORKS = [
    pytest.param(models.transformer, SMALL, id="post_norm", marks=pytest.mark.slow),
    pytest.param(models.transformer, {**SMALL, "norm_first": True, "shared_embeddings": False}, id="norm_first"),
    pytest.param(models.attention_seq2seq, {"cell": "gru", "attention": "additive", "units": 32, "embedding": 16}, id="gru"),
    pytest.param(models.attention_seq2seq, {"cell": "lstm", "attention": "dot", "units": 32, "embedding": 16}, id="lstm",
                 marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("builder", "settings"), NETWORKS)
def test_reversing_eight_texts_is_learned_by_heart_and_written_again(builder, settings):
    """What a network is taught by all positions at once is what it writes token by token."""
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    texts = [generator.integers(3, 13, length) for length in (1, 2, 3, 4, 4, 5, 5, 6)]
    source, target = np.zeros((2, 8, 7), "int32")
    for row, text in enumerate(texts):
        source[row, : len(text) + 1] = [*text, END]
        target[row, : len(text) + 1] = [*text[::-1], END]
    given = np.concatenate([np.full((8, 1), START), target[:, :-1]], axis=1)
    model = builder(source_vocabulary=13, target_vocabulary=13, **settings)
    optimizer, variables = keras.optimizers.Adam(0.01), [variable.value for variable in model.trainable_variables]
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=model([source, given]))
            loss = tf.reduce_mean(tf.boolean_mask(losses, target != 0))
        optimizer.apply(tape.gradient(loss, variables))
        return loss

    losses = [float(step()) for _ in range(200)]
    assert losses[0] > 2
    assert losses[-1] < 0.02
    inputs = {each: tf.constant([value] * 8) for each, value in {**SETTINGS, "beams": 1}.items()}
    written = Decode(model)({"source_tokens": tf.constant(source), **inputs})
    np.testing.assert_array_equal(written["tokens"], target)


@pytest.mark.parametrize(("context", "least", "most"), [(4, 0.9, 1), (0, 0, 0.5)])
def test_a_pointer_with_context_learns_at_once_to_go_on_with_what_it_has_begun_to_copy(context, least, most, monkeypatch):
    """Six tokens from somewhere in twelve: new ones each step and in the end."""
    builder = sys.modules[models.transformer.__module__]
    monkeypatch.setattr(builder, "PointerGenerator", functools.partial(PointerGenerator, context))
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)

    def drawn(number):
        source, first = generator.integers(3, 60, (number, 12)), generator.integers(0, 7, (number, 1))
        target = np.take_along_axis(source, first + np.arange(6), axis=1)
        return source, np.concatenate([np.full((number, 1), START), target[:, :-1]], axis=1), target

    model = models.transformer(source_vocabulary=60, target_vocabulary=60, depth=1, width=32, heads=2, feed_forward=32,
                               dropout=0.0, norm_first=True, pointer=True)  # fmt: skip
    optimizer, variables = keras.optimizers.Adam(0.005), [variable.value for variable in model.trainable_variables]
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step(source, given, target):
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=model([source, given]))
            loss = tf.reduce_mean(losses[:, 1:])  # which token is the first cannot be known
        optimizer.apply(tape.gradient(loss, variables))

    for _ in range(100):
        step(*map(tf.constant, drawn(32)))
    source, given, target = drawn(200)
    right = np.argmax(model([source, given]), axis=-1) == target
    assert least < right[:, 1:].mean() < most
