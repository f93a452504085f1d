"""The pointer-generator: its probabilities by hand."""

import numpy as np
import tensorflow as tf

from kerastoolkit.layers import PointerGenerator

RANDOM = np.random.default_rng(0)
BATCH, LENGTH, PLACES, WIDTH, VOCABULARY = 3, 4, 6, 8, 9
X = RANDOM.normal(size=(BATCH, LENGTH, WIDTH)).astype("float32")
LOGITS = RANDOM.normal(size=(BATCH, LENGTH, VOCABULARY)).astype("float32")
MEMORY = RANDOM.normal(size=(BATCH, PLACES, WIDTH)).astype("float32")
SOURCE = np.array([[3, 5, 3, 8, 3, 2], [4, 4, 2, 0, 0, 0], [2, 0, 0, 0, 0, 0]])


def randomised():
    layer = PointerGenerator()
    layer.build(X.shape, LOGITS.shape, MEMORY.shape, SOURCE.shape)
    layer.set_weights([0.5 * RANDOM.normal(size=weight.shape) for weight in layer.weights])
    return layer


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def test_probabilities_are_those_of_the_papers_equation_9():
    """See et al. 2017: P(w) = p_gen P_vocab(w) + (1 - p_gen) times the sum of the attention to the places where w stands."""
    layer = randomised()
    query_kernel, key_kernel, gate_kernel, gate_bias = layer.get_weights()
    found = np.exp(layer(X, LOGITS, MEMORY, SOURCE))
    for row in range(BATCH):
        places = [place for place in range(PLACES) if SOURCE[row, place] != 0]
        for position in range(LENGTH):
            query = X[row, position] @ query_kernel
            attention = softmax(np.array([query @ (MEMORY[row, place] @ key_kernel) / np.sqrt(WIDTH) for place in places]))
            context = sum(share * MEMORY[row, place] for share, place in zip(attention, places, strict=True))
            p_gen = 1 / (1 + np.exp(-(np.concatenate([X[row, position], context]) @ gate_kernel[:, 0] + gate_bias[0])))
            expected = p_gen * softmax(LOGITS[row, position])
            for share, place in zip(attention, places, strict=True):
                expected[SOURCE[row, place]] += (1 - p_gen) * share
            np.testing.assert_allclose(found[row, position], expected, rtol=1e-4)


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
