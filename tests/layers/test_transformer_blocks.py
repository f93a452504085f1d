"""The Transformer's blocks and the recurrent decoder: against keras_hub and NumPy, and one position at a time."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import PositionEncoding, TransformerDecoderBlock, TransformerEncoderBlock
from kerastoolkit.layers.attention_decoder import AttentionDecoder, ReverseTexts

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 5, 8)).astype("float32")
MEMORY = RANDOM.normal(size=(3, 7, 8)).astype("float32")  # longer than x
LENGTHS = np.array([7, 4, 1])
MASK = np.arange(7) < LENGTHS[:, None]
COMBINATIONS = [(cell, attention) for cell in ("gru", "lstm") for attention in ("additive", "dot")]


def randomised(layer):
    """Every weight drawn anew, biases and norms too."""
    generator = np.random.default_rng(1)
    layer.set_weights([generator.normal(size=weight.shape) * 0.5 + (weight.name == "gamma") for weight in layer.weights])
    return layer


# Positions ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 8, 512, 7])
def test_positions_are_sines_and_cosines_in_turn(width):
    """Vaswani et al. 2017, section 3.5: PE(pos, 2i) = sin(pos / 10000**(2i / width)), PE(pos, 2i + 1) = cos of the same."""
    expected = np.zeros((60, width))
    for position in range(60):
        for i in range(0, width, 2):
            angle = position / 10000 ** (i / width)
            expected[position, i] = np.sin(angle)
            if i + 1 < width:
                expected[position, i + 1] = np.cos(angle)
    found = PositionEncoding()(np.zeros((2, 60, width), "float32"))
    np.testing.assert_allclose(found, [expected] * 2, atol=1e-5)


def test_positions_are_those_of_keras_hub():
    x = np.zeros((1, 200, 64), "float32")
    np.testing.assert_allclose(PositionEncoding()(x), keras_hub.layers.SinePositionEncoding()(x), atol=2e-5)


def test_embeddings_are_multiplied_by_the_root_of_the_width():
    """Vaswani et al. 2017, section 3.4."""
    layer = PositionEncoding()
    np.testing.assert_allclose(layer(X) - layer(np.zeros_like(X)), np.sqrt(8) * X, rtol=1e-4, atol=1e-6)


# Blocks ------------------------------------------------------------------------------------------------------------------------


def block(kind, **arguments):
    layer = kind(heads=2, feed_forward=12, **arguments)
    layer.build(*((X.shape, MASK.shape) if kind is TransformerEncoderBlock else (X.shape, MEMORY.shape, MASK.shape)))
    return randomised(layer)


def into_keras_hub(ours, theirs):
    """Copies a block's weights into keras_hub's layer."""
    parts = ("self_attention", "cross_attention")[: len(ours.norms) - 1]
    for part in parts:
        values = {weight.name: np.asarray(weight.value) for weight in getattr(ours, part).weights}
        for name in ("query", "key", "value", "output"):
            dense = getattr(getattr(theirs, f"_{part}_layer"), f"_{name}_dense")
            dense.set_weights([values[f"{name}_kernel"].reshape(dense.kernel.shape),
                               values[f"{name}_bias"].reshape(dense.bias.shape)])  # fmt: skip
    for norm, part in zip(ours.norms, (*parts, "feedforward"), strict=True):
        getattr(theirs, f"_{part}_layer_norm").set_weights(norm.get_weights())
    theirs._feedforward_intermediate_dense.set_weights(ours.inner.get_weights())
    theirs._feedforward_output_dense.set_weights(ours.outer.get_weights())
    return theirs


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_encoder_block_gives_the_outputs_of_keras_hub(norm_first):
    ours = block(TransformerEncoderBlock, norm_first=norm_first)
    theirs = keras_hub.layers.TransformerEncoder(12, 2, layer_norm_epsilon=1e-5, normalize_first=norm_first)
    theirs.build(X.shape)
    into_keras_hub(ours, theirs)
    mask = MASK[:, :5]
    expected, expected_weights = theirs(X, padding_mask=mask, return_attention_scores=True)
    outputs, weights = ours(X, mask, return_weights=True)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(ours(X, mask), outputs)


@pytest.mark.parametrize(
    ("activation", "theirs"),
    [("gelu", keras.activations.gelu), ("relu", "relu"),
     ("gelu_approximate", lambda x: keras.activations.gelu(x, approximate=True))],
)  # fmt: skip
def test_the_activation_of_the_inner_layer_is_the_one_that_is_asked_for(activation, theirs):
    ours = block(TransformerEncoderBlock, activation=activation, epsilon=1e-12)
    other = keras_hub.layers.TransformerEncoder(12, 2, layer_norm_epsilon=1e-12, activation=theirs)
    other.build(X.shape)
    mask = MASK[:, :5]
    np.testing.assert_allclose(ours(X, mask), into_keras_hub(ours, other)(X, padding_mask=mask), rtol=1e-5, atol=2e-6)


def test_the_two_ways_to_gelu_differ_by_more_than_the_tests_allow():
    exact, approximate = (block(TransformerEncoderBlock, activation=each) for each in ("gelu", "gelu_approximate"))
    assert np.abs(exact(X, MASK[:, :5]) - approximate(X, MASK[:, :5])).max() > 5e-5


def test_epsilon_is_that_of_the_normalisation():
    layer = block(TransformerEncoderBlock, epsilon=1.0)
    assert [norm.epsilon for norm in layer.norms] == [1.0, 1.0]
    assert np.abs(layer(X, MASK[:, :5]) - block(TransformerEncoderBlock)(X, MASK[:, :5])).max() > 0.01


@pytest.mark.parametrize("kind", [TransformerEncoderBlock, TransformerDecoderBlock])
def test_kernels_begin_as_the_initializer_says_and_no_two_alike(kind):
    layer = kind(heads=2, feed_forward=64, initializer=keras.initializers.RandomNormal(stddev=0.02))
    layer.build(*((None, 5, 64), (None, 5, 64), (None, 5))[3 - (2 if kind is TransformerEncoderBlock else 3) :])
    kernels = [keras.ops.convert_to_numpy(weight) for weight in layer.weights if weight.name.endswith("kernel")]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels) == (6 if kind is TransformerEncoderBlock else 10)
    for kernel in kernels:
        assert kernel.std() == pytest.approx(0.02, rel=0.08)  # of 4,096: seven standard errors


def test_attention_is_dropped_in_training_alone():
    plain, layer = block(TransformerEncoderBlock), block(TransformerEncoderBlock, attention_dropout=0.5)
    mask = MASK[:, :5]
    np.testing.assert_array_equal(layer(X, mask), plain(X, mask))
    assert np.abs(layer(X, mask, training=True) - plain(X, mask)).max() > 0.01


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation must be relu, gelu, gelu_approximate, got 'swish'"):
        TransformerEncoderBlock(2, 12, activation="swish")


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_decoder_block_gives_the_outputs_of_keras_hub(norm_first):
    ours = block(TransformerDecoderBlock, norm_first=norm_first)
    theirs = keras_hub.layers.TransformerDecoder(12, 2, layer_norm_epsilon=1e-5, normalize_first=norm_first)
    theirs.build(X.shape, MEMORY.shape)
    into_keras_hub(ours, theirs)
    expected = theirs(X, MEMORY, encoder_padding_mask=MASK)
    np.testing.assert_allclose(ours(X, MEMORY, MASK), expected, rtol=1e-4, atol=1e-5)


def decoder_layers():
    """(layer with random weights) of each kind that has both ways through it."""
    return {
        "position_encoding": PositionEncoding,
        "post_norm": lambda: block(TransformerDecoderBlock),
        "norm_first": lambda: block(TransformerDecoderBlock, norm_first=True, dropout=0.5),
        **{"_".join(each): lambda each=each: recurrent(*each) for each in COMBINATIONS},
    }


def recurrent(cell, attention, units=8):
    layer = AttentionDecoder(units, cell, attention)
    layer.build(X.shape, MEMORY.shape, MASK.shape)
    return randomised(layer)


@pytest.mark.parametrize("name", decoder_layers())
def test_steps_give_for_each_of_several_texts_what_all_positions_at_once_give(name):
    layer = decoder_layers()[name]()
    texts = np.random.default_rng(3).normal(size=(3, 4, 5, 8)).astype("float32")  # four texts of each source
    constants = layer.start(tf.constant(MEMORY), tf.constant(MASK))
    assert all(each.shape[0] == 3 for each in constants)
    state, found = layer.first_state(constants, 4), []
    assert all(tuple(each.shape[:2]) == (3, 4) for each in state)
    for position in range(5):
        y, state = layer.step(tf.constant(texts[:, :, position]), constants, state, tf.constant(position))
        assert all(tuple(each.shape[:2]) == (3, 4) for each in state)
        found.append(y)
    for number in range(4):
        x = texts[:, number]
        expected = layer(x) if name == "position_encoding" else layer(x, MEMORY, MASK)
        np.testing.assert_allclose(np.stack(found, axis=2)[:, number], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in decoder_layers() if name != "position_encoding"])
def test_attention_to_the_source_is_given_and_has_its_length(name):
    layer = decoder_layers()[name]()
    outputs, weights = layer(X, MEMORY, MASK, return_weights=True)
    np.testing.assert_array_equal(layer(X, MEMORY, MASK), outputs)
    assert layer.attends
    assert weights.shape == ((3, 5, 7) if "_" in name and "norm" not in name else (3, 2, 5, 7))
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1, rtol=1e-5)
    of_source = np.moveaxis(np.asarray(weights), -1, 1).reshape(3, 7, -1)
    np.testing.assert_array_equal((of_source > 0).all(axis=-1), MASK)
    np.testing.assert_array_equal((of_source > 0).any(axis=-1), MASK)


@pytest.mark.parametrize("kind", [TransformerEncoderBlock, TransformerDecoderBlock])
def test_what_is_added_is_dropped_in_training_alone(kind):
    given = (X, MASK[:, :5]) if kind is TransformerEncoderBlock else (X, MEMORY, MASK)
    plain, layer = block(kind), block(kind, dropout=0.5)
    np.testing.assert_array_equal(layer(*given), plain(*given))
    assert np.abs(layer(*given, training=True) - plain(*given)).max() > 0.01
    np.testing.assert_array_equal(plain(*given, training=True), plain(*given))


@pytest.mark.parametrize("kind", [TransformerEncoderBlock, TransformerDecoderBlock])
def test_heads_that_do_not_part_the_width_are_refused_by_a_block(kind):
    with pytest.raises(ValueError, match="heads must part the width 8 evenly, got 3"):
        kind(heads=3, feed_forward=4)(*((X, MASK[:, :5]) if kind is TransformerEncoderBlock else (X, MEMORY, MASK)))


# Recurrent ---------------------------------------------------------------------------------------------------------------------


def test_texts_are_reversed_and_padding_stays():
    x = np.arange(1, 11).reshape(2, 5, 1).astype("float32")
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    layer = ReverseTexts()
    found = layer(x, mask)
    np.testing.assert_array_equal(found[:, :, 0], [[3, 2, 1, 4, 5], [10, 9, 8, 7, 6]])
    np.testing.assert_array_equal(layer(found, mask), x)
    np.testing.assert_array_equal(layer(MEMORY, np.zeros((3, 7), bool)), MEMORY)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


def gru(x, state, w, u, b):
    """Cho et al. 2014, equations 5 to 8, with the reset gate after the product; gates in the order update, reset, candidate."""
    (h,) = state
    (xz, xr, xh), (hz, hr, hh) = np.split(x @ w + b[0], 3), np.split(h @ u + b[1], 3)
    z, r = sigmoid(xz + hz), sigmoid(xr + hr)
    return (z * h + (1 - z) * np.tanh(xh + r * hh),)


def lstm(x, state, w, u, b):
    """Gers et al. 2000, equations 1 to 6; gates in the order input, forget, candidate, output."""
    h, c = state
    i, f, g, o = np.split(x @ w + h @ u + b, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@pytest.mark.parametrize(("cell", "attention"), COMBINATIONS)
def test_the_recurrent_decoder_is_its_equations_in_loops(cell, attention):
    layer = recurrent(cell, attention)
    outputs, weights = layer(X, MEMORY, MASK, return_weights=True)
    advance = {"gru": gru, "lstm": lstm}[cell]
    first, first_bias = layer.first.get_weights()
    readout, readout_bias = layer.readout.get_weights()
    for row, length in enumerate(LENGTHS):
        memory = MEMORY[row, :length]
        # Bahdanau et al. 2014, A.2.2: the state begins as a tanh layer of the first place, where the backwards reader ends.
        state = tuple(np.split(np.tanh(memory[0] @ first + first_bias), 2 if cell == "lstm" else 1))
        output = np.zeros(8)
        for place, x in enumerate(X[row]):
            if attention == "additive":  # A.1.2: the state before looks; what it finds goes into the cell
                queries, keys, vector = layer.attention.get_weights()
                scores = [np.tanh(state[0] @ queries + each @ keys) @ vector[:, 0] for each in memory]
                looked = softmax(np.array(scores))
                found = looked @ memory
                state = advance(np.concatenate([x, found]), state, *layer.cell.get_weights())
                seen = np.concatenate([state[0], found, x])
            else:  # Luong et al. 2015, equations 5 and 8, section 3.3: the state after looks; the output goes into the next step
                state = advance(np.concatenate([x, output]), state, *layer.cell.get_weights())
                looked = softmax(memory @ state[0])
                found = looked @ memory
                seen = np.concatenate([state[0], found])
            output = np.tanh(seen @ readout + readout_bias)
            np.testing.assert_allclose(outputs[row, place], output, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(weights[row, place, :length], looked, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"cell": "rnn"}, "cell must be 'gru' or 'lstm', got 'rnn'"),
     ({"attention": "none"}, "attention must be 'additive' or 'dot', got 'none'")],
)  # fmt: skip
def test_an_unknown_cell_or_attention_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AttentionDecoder(8, **change)


# Files -------------------------------------------------------------------------------------------------------------------------


AS_IN_BERT = {"activation": "gelu_approximate", "epsilon": 1e-12, "attention_dropout": 0.2,
              "initializer": keras.initializers.TruncatedNormal(stddev=0.02)}  # fmt: skip


@pytest.mark.parametrize(
    "layer",
    [
        TransformerEncoderBlock(2, 12, dropout=0.3, norm_first=True),
        TransformerDecoderBlock(2, 12, dropout=0.3, norm_first=True),
        TransformerEncoderBlock(2, 12, **AS_IN_BERT, name="as_in_bert"),
        AttentionDecoder(8, "lstm", "dot"),
        AttentionDecoder(8, "gru", "additive"),
        ReverseTexts(),
        PositionEncoding(),
    ],
    ids=lambda layer: layer.name,
)
def test_a_saved_and_loaded_layer_gives_the_same(layer, tmp_path):
    inputs = [keras.Input((None, 8)), keras.Input((None, 8)), keras.Input((None,), dtype="bool")]
    number = {PositionEncoding: 1, TransformerDecoderBlock: 3, AttentionDecoder: 3}.get(type(layer))
    called, given = (inputs[:number], [X, MEMORY, MASK][:number]) if number else (inputs[1:], [MEMORY, MASK])
    model = keras.Model(called, layer(*called))
    randomised(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(given), model(given))
    made_anew = {key: value for key, value in loaded.layers[-1].get_config().items() if key != "dtype"}
    assert made_anew == {key: value for key, value in layer.get_config().items() if key != "dtype"}


# In a functional model ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TransformerEncoderBlock, TransformerDecoderBlock, AttentionDecoder])
def test_weights_can_be_had_in_a_functional_model(kind):
    x, memory = keras.Input((None, 8)), keras.Input((None, 8))
    mask = keras.Input((None,), dtype="bool")
    layer = AttentionDecoder(8) if kind is AttentionDecoder else kind(heads=2, feed_forward=12)
    taken = [memory, mask] if kind is TransformerEncoderBlock else [x, memory, mask]
    y, weights = layer(*taken, return_weights=True)
    given = [MEMORY, MASK] if kind is TransformerEncoderBlock else [X, MEMORY, MASK]
    found, found_weights = keras.Model(taken, [y, weights])(given)
    expected, expected_weights = layer(*given, return_weights=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found_weights, expected_weights, atol=1e-6)
    assert len(weights.shape) == len(found_weights.shape) and weights.shape[-1] is None
