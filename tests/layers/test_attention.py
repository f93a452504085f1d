"""Attention worked out by hand, its masks, and multi-head attention against loops in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from kerastoolkit.layers import AdditiveAttention, DotProductAttention, MultiHeadAttention
from kerastoolkit.layers.attention import (
    additive_scores,
    attend,
    attention_weights,
    causal_mask,
    dot_product_scores,
    padding_mask,
    scaled_dot_product_attention,
)

RANDOM = np.random.default_rng(0)
QUERIES, VALUES = RANDOM.normal(size=(2, 3, 8)).astype("float32"), RANDOM.normal(size=(2, 5, 6)).astype("float32")
MASK = np.array([[[1, 1, 1, 0, 0]], [[1, 1, 1, 1, 1]]], bool)


def softmax(x):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


# By hand -----------------------------------------------------------------------------------------------------------------------


def test_additive_scores_are_the_vector_times_the_tanh_of_the_sum():
    queries, keys = np.array([[[1.0, 0.0], [0.0, 2.0]]]), np.array([[[0.0, 0.0], [-1.0, 1.0], [1.0, -2.0]]])
    t1, t2, t3 = np.tanh([1.0, 2.0, 3.0])
    expected = [
        # sums: (1, 0), (0, 1), (2, -2); the vector is (10, 1)
        [10 * t1, t1, 10 * t2 - t2],
        # sums: (0, 2), (-1, 3), (1, 0)
        [t2, -10 * t1 + t3, 10 * t1],
    ]
    np.testing.assert_allclose(additive_scores(queries, keys, np.array([10.0, 1.0])), [expected], rtol=1e-6)


def test_dot_product_scores_are_the_products_of_each_query_with_each_key():
    queries, keys = np.array([[[1.0, 2.0], [3.0, -1.0]]]), np.array([[[1.0, 0.0], [2.0, 1.0], [0.0, -4.0]]])
    # 1*1 + 2*0, 1*2 + 2*1, 1*0 - 2*4; 3*1 - 1*0, 3*2 - 1*1, 3*0 + 1*4
    np.testing.assert_allclose(dot_product_scores(queries, keys), [[[1, 4, -8], [3, 5, 4]]])


def test_values_are_averaged_by_the_softmax_of_the_scores():
    scores = np.log([[[1.0, 2.0, 1.0], [3.0, 1.0, 4.0]]])  # weights 1/4, 1/2, 1/4; 3/8, 1/8, 4/8
    values = np.array([[[4.0, 0.0], [8.0, 16.0], [0.0, 8.0]]])
    context, weights = attend(scores, values)
    np.testing.assert_allclose(weights, [[[0.25, 0.5, 0.25], [0.375, 0.125, 0.5]]], rtol=1e-6)
    # 4/4 + 8/2 + 0/4, 0/4 + 16/2 + 8/4; 3*4/8 + 8/8 + 0, 0 + 16/8 + 8/2
    np.testing.assert_allclose(context, [[[5, 10], [2.5, 6]]], rtol=1e-6)


def test_scaled_scores_are_divided_by_the_root_of_the_units():
    # Four units, so the products are halved: 2 log 3 / 2 = log 3 against 0, weights 3/4 and 1/4.
    queries = np.array([[[2.0, 0.0, 0.0, 0.0]]])
    keys = np.array([[[np.log(3.0), 5.0, 0.0, 0.0], [0.0, 0.0, 7.0, 0.0]]])
    context, weights = scaled_dot_product_attention(queries, keys, np.array([[[4.0], [8.0]]]))
    np.testing.assert_allclose(weights, [[[0.75, 0.25]]], rtol=1e-6)
    np.testing.assert_allclose(context, [[[5.0]]], rtol=1e-6)


# Masks -------------------------------------------------------------------------------------------------------------------------


def test_padding_is_what_is_0():
    np.testing.assert_array_equal(padding_mask(np.array([[5, 2, 0], [2, 0, 0]])), [[[1, 1, 0]], [[1, 0, 0]]])


def test_a_position_may_look_at_itself_and_those_before():
    np.testing.assert_array_equal(causal_mask(3), [[[1, 0, 0], [1, 1, 0], [1, 1, 1]]])


def test_what_is_forbidden_has_no_weight_and_the_rest_share_all():
    scores = np.log([[[1.0, 2.0, 100.0], [3.0, 1.0, 4.0]]])
    weights = attention_weights(scores, np.array([[[True, True, False], [False, False, True]]]))
    np.testing.assert_allclose(weights, [[[1 / 3, 2 / 3, 0], [0, 0, 1]]], rtol=1e-6)
    assert (np.asarray(weights)[[0, 0, 0], [0, 1, 1], [2, 0, 1]] == 0).all()


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_a_row_that_is_forbidden_everywhere_has_equal_weights_and_no_nan(kind):
    scores = ops.cast(np.array([[[5.0, -3.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]]), kind)
    weights = ops.cast(attention_weights(scores, np.array([[[False] * 4, [True, True, False, False]]])), "float32")
    np.testing.assert_allclose(weights, [[[0.25] * 4, [0.5, 0.5, 0, 0]]])


@pytest.mark.parametrize("layer", [lambda: AdditiveAttention(4), lambda: DotProductAttention(), lambda: MultiHeadAttention(2)])
def test_what_is_forbidden_changes_nothing(layer):
    layer = layer()
    queries = QUERIES[:, :, :6]
    other = np.where(MASK[:, 0, :, None], VALUES, 100.0).astype("float32")
    before, after = (layer(queries, values, attention_mask=MASK) for values in (VALUES, other))
    for one, two in zip(*(each if isinstance(each, tuple) else (each,) for each in (before, after)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)
    assert np.abs(np.asarray(ops.convert_to_tensor(before[0])) - ops.convert_to_tensor(layer(queries, VALUES)[0])).max() > 1e-3


# Layers ------------------------------------------------------------------------------------------------------------------------


def test_the_additive_layer_multiplies_queries_and_values_first():
    layer = AdditiveAttention(4)
    context, weights = layer(QUERIES, VALUES, attention_mask=MASK)
    queries, keys, vector = layer.get_weights()
    assert (queries.shape, keys.shape, vector.shape) == ((8, 4), (6, 4), (4, 1))
    for row in range(2):
        for q in range(3):
            scores = [float(np.tanh(QUERIES[row, q] @ queries + value @ keys) @ vector[:, 0]) for value in VALUES[row]]
            expected = softmax(np.where(MASK[row, 0], scores, -np.inf))
            np.testing.assert_allclose(weights[row, q], expected, rtol=1e-5)
            np.testing.assert_allclose(context[row, q], expected @ VALUES[row], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [False, True])
def test_the_dot_product_layer_has_no_weights(scale):
    layer, queries = DotProductAttention(scale=scale), QUERIES[:, :, :6]
    context, weights = layer(queries, VALUES)
    assert not layer.weights
    for row in range(2):
        for q in range(3):
            expected = softmax(VALUES[row] @ queries[row, q] / (np.sqrt(6) if scale else 1))
            np.testing.assert_allclose(weights[row, q], expected, rtol=1e-5)
            np.testing.assert_allclose(context[row, q], expected @ VALUES[row], rtol=1e-4, atol=1e-6)


def test_dot_products_of_different_units_are_refused():
    with pytest.raises(ValueError, match="queries and values must have the same units, got 8 and 6"):
        DotProductAttention()(QUERIES, VALUES)


# Multi-head --------------------------------------------------------------------------------------------------------------------


def multi_head(heads, queries, values, **arguments):
    """The layer with random weights, biases too."""
    layer = MultiHeadAttention(heads, **arguments)
    layer.build(queries.shape, values.shape)
    generator = np.random.default_rng(1)
    layer.set_weights([generator.normal(size=weight.shape) * 0.4 for weight in layer.weights])
    return layer


def slow_multi_head(layer, queries, values, mask):
    """Vaswani et al. 2017, section 3.2.2, one query of one head at a time: (outputs, weights (batch, heads, q, k))."""
    named = {weight.name: np.asarray(weight.value, float) for weight in layer.weights}
    q, k, v = (x @ named[f"{name}_kernel"] + named[f"{name}_bias"]
               for name, x in (("query", queries), ("key", values), ("value", values)))  # fmt: skip
    batch, length, width = q.shape
    size, outputs = width // layer.heads, np.zeros(q.shape)
    all_weights = np.zeros((batch, layer.heads, length, values.shape[1]))
    for row in range(batch):
        for place in range(length):
            found = []
            for head in range(layer.heads):
                part = slice(head * size, (head + 1) * size)
                scores = np.array([q[row, place, part] @ key[part] for key in k[row]]) / np.sqrt(size)
                weights = softmax(np.where(mask[row, min(place, mask.shape[1] - 1)], scores, -np.inf))
                all_weights[row, head, place] = weights
                found.append(sum(weight * value[part] for weight, value in zip(weights, v[row], strict=True)))
            outputs[row, place] = np.concatenate(found) @ named["output_kernel"] + named["output_bias"]
    return outputs, all_weights


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
def test_heads_look_at_other_texts_as_in_loops(heads):
    layer = multi_head(heads, QUERIES, VALUES)
    outputs, weights = layer(QUERIES, VALUES, attention_mask=MASK, return_weights=True)
    expected, expected_weights = slow_multi_head(layer, QUERIES, VALUES, MASK)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(layer(QUERIES, VALUES, attention_mask=MASK), outputs)


def test_heads_look_at_their_own_text_as_in_loops():
    layer, mask = multi_head(2, QUERIES, QUERIES), np.tril(np.ones((2, 3, 3), bool))
    queries = ops.convert_to_tensor(QUERIES)
    outputs, weights = layer(queries, queries, attention_mask=mask, return_weights=True)
    expected, expected_weights = slow_multi_head(layer, QUERIES, QUERIES, mask)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-4, atol=1e-6)
    # The same tensor goes another way than an equal one.
    np.testing.assert_allclose(layer(queries, queries + 0, attention_mask=mask), outputs, rtol=1e-5, atol=1e-6)


def test_weights_are_dropped_in_training_alone():
    plain, layer = multi_head(2, QUERIES, VALUES), multi_head(2, QUERIES, VALUES, dropout=0.5)
    expected = np.asarray(plain(QUERIES, VALUES))
    np.testing.assert_array_equal(layer(QUERIES, VALUES), expected)
    np.testing.assert_array_equal(layer(QUERIES, VALUES, training=False), expected)
    drawn, weights = layer(QUERIES, VALUES, training=True, return_weights=True)
    assert np.abs(drawn - expected).max() > 1e-3
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1, rtol=1e-5)  # those before dropout are given
    np.testing.assert_array_equal(plain(QUERIES, VALUES, training=True), expected)


def test_kernels_begin_as_the_initializer_says_and_no_two_alike():
    layer = MultiHeadAttention(2, initializer=keras.initializers.RandomNormal(stddev=0.02))
    layer.build((None, 5, 64), (None, 5, 64))
    kernels = [ops.convert_to_numpy(weight) for weight in layer.weights if weight.name.endswith("kernel")]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels) == 4
    for kernel in kernels:
        assert kernel.std() == pytest.approx(0.02, rel=0.08)  # of 4,096: seven standard errors
    again = MultiHeadAttention.from_config(layer.get_config())
    assert again.initializer.get_config() == layer.initializer.get_config()


@pytest.mark.parametrize("heads", [3, 16])
def test_heads_that_do_not_part_the_width_are_refused(heads):
    with pytest.raises(ValueError, match=f"heads must part the width 8 evenly, got {heads}"):
        MultiHeadAttention(heads)(QUERIES, VALUES)


# Files -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (AdditiveAttention(4), ("units",)),
        (DotProductAttention(scale=True), ("scale",)),
        (MultiHeadAttention(2, dropout=0.3), ("heads", "dropout")),
    ],
)
def test_layers_are_made_again_from_their_configuration(layer, names):
    again = type(layer).from_config(layer.get_config())
    assert [getattr(again, name) for name in names] == [getattr(layer, name) for name in names]


@pytest.mark.parametrize("layer", [AdditiveAttention(4), DotProductAttention(scale=True), MultiHeadAttention(2, dropout=0.3)])
def test_a_saved_and_loaded_layer_gives_the_same(layer, tmp_path):
    inputs = [keras.Input((None, 6)), keras.Input((None, 6)), keras.Input((1, None), dtype="bool")]
    model = keras.Model(inputs, layer(inputs[0], inputs[1], attention_mask=inputs[2]))
    model.set_weights([np.random.default_rng(2).normal(size=weight.shape) for weight in model.get_weights()])
    model.save(tmp_path / "model.keras")
    loaded, given = keras.saving.load_model(tmp_path / "model.keras"), [QUERIES[:, :, :6], VALUES, MASK]
    np.testing.assert_array_equal(ops.convert_to_tensor(loaded(given)[0]), ops.convert_to_tensor(model(given)[0]))
