"""The pointer-generator: its probabilities by hand."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import PointerGenerator

RANDOM = np.random.default_rng(0)
BATCH, LENGTH, PLACES, WIDTH, VOCABULARY = 3, 4, 6, 8, 9
X = RANDOM.normal(size=(BATCH, LENGTH, WIDTH)).astype("float32")
LOGITS = RANDOM.normal(size=(BATCH, LENGTH, VOCABULARY)).astype("float32")
MEMORY = RANDOM.normal(size=(BATCH, PLACES, WIDTH)).astype("float32")
SOURCE = np.array([[3, 5, 3, 8, 3, 2], [4, 4, 2, 0, 0, 0], [2, 0, 0, 0, 0, 0]])


def randomised(context=4):
    layer = PointerGenerator(context)
    layer.build(X.shape, LOGITS.shape, MEMORY.shape, SOURCE.shape)
    layer.set_weights([0.3 * RANDOM.normal(size=weight.shape) for weight in layer.weights])
    return layer


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def with_earlier(values, place, number):
    """What stands at a place and the ``number`` before it, zeros before the beginning, the first first."""
    earlier = [values[each] if each >= 0 else np.zeros(WIDTH) for each in range(place - number, place + 1)]
    return np.concatenate(earlier)


@pytest.mark.parametrize("context", [0, 1, 3])
def test_probabilities_are_those_of_the_papers_equation_9(context):
    """See et al. 2017: P(w) = p_gen P_vocab(w) + (1 - p_gen) times the sum of the attention to the places where w stands."""
    layer = randomised(context)
    query_kernel, key_kernel, gate_kernel, gate_bias = layer.get_weights()
    found = np.exp(layer(X, LOGITS, MEMORY, SOURCE))
    for row in range(BATCH):
        places = [place for place in range(PLACES) if SOURCE[row, place] != 0]
        for position in range(LENGTH):
            query = with_earlier(X[row], position, max(0, context - 1)) @ query_kernel
            keys = [with_earlier(MEMORY[row], place, context) @ key_kernel for place in places]
            attention = softmax(np.array([query @ key / np.sqrt(WIDTH) for key in keys]))
            there = sum(share * MEMORY[row, place] for share, place in zip(attention, places, strict=True))
            p_gen = 1 / (1 + np.exp(-(np.concatenate([X[row, position], there]) @ gate_kernel[:, 0] + gate_bias[0])))
            expected = p_gen * softmax(LOGITS[row, position])
            for share, place in zip(attention, places, strict=True):
                expected[SOURCE[row, place]] += (1 - p_gen) * share
            np.testing.assert_allclose(found[row, position], expected, rtol=1e-4)


@pytest.mark.parametrize("context", [0, 1, 4])
def test_step_by_step_it_gives_the_same_for_each_of_several_texts(context):
    layer = randomised(context)
    constants = layer.start(MEMORY, SOURCE)
    state, found = layer.first_state(constants, 2), []
    x, logits = (np.stack([each, each[:, ::-1]], axis=1) for each in (X, LOGITS))  # (b, 2, length, ...)
    for position in range(LENGTH):
        each, state = layer.step(x[:, :, position], logits[:, :, position], constants, state)
        found.append(each)
    for number in range(2):
        expected = layer(x[:, number], logits[:, number], MEMORY, SOURCE)
        np.testing.assert_allclose(np.stack(found, axis=2)[:, number], expected, rtol=1e-5, atol=1e-5)


def test_it_is_made_again_from_its_configuration():
    assert PointerGenerator.from_config(PointerGenerator(1).get_config()).context == 1


def test_what_comes_later_changes_nothing():
    layer, changed = randomised(), X.copy()
    changed[:, 2:] += 1
    np.testing.assert_array_equal(
        layer(changed, LOGITS, MEMORY, SOURCE)[:, :2], layer(X, LOGITS, MEMORY, SOURCE)[:, :2]
    )


def test_a_context_below_0_is_refused():
    with pytest.raises(ValueError, match="context must be at least 0, got -1"):
        PointerGenerator(-1)


def test_probabilities_sum_to_1():
    np.testing.assert_allclose(np.exp(randomised()(X, LOGITS, MEMORY, SOURCE)).sum(axis=-1), 1, rtol=1e-5)


def test_it_works_in_16_bits():
    layer = PointerGenerator(dtype="mixed_float16")
    with tf.GradientTape() as tape:
        found = layer(X, LOGITS, MEMORY, SOURCE)
        total = tf.reduce_sum(found[:, :, 3])
    assert np.isfinite(found).all()
    gradients = tape.gradient(total, [variable.value for variable in layer.trainable_variables])
    assert all(np.isfinite(each).all() for each in gradients)
    np.testing.assert_allclose(np.exp(found).sum(axis=-1), 1, rtol=1e-2)
