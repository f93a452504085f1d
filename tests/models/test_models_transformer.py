"""The Transformer: counts of its parts, and equal outputs with its weights in keras_hub's layers and in torch.nn.Transformer."""

import keras
import keras_hub
import numpy as np
import pytest

from kerastoolkit import models

SMALL = {"source_vocabulary": 11, "target_vocabulary": 11, "depth": 2, "width": 8, "heads": 2, "feed_forward": 12}
SOURCE = np.array([[3, 4, 5, 6, 7, 2], [8, 9, 10, 2, 0, 0], [5, 2, 0, 0, 0, 0]])  # longer than the target, and with padding
TARGET = np.array([[1, 5, 6, 7], [1, 8, 3, 0], [1, 0, 0, 0]])


def randomised(network, seed=0):
    """Every weight drawn anew, biases and norms too: zeros and ones would hide their places."""
    generator = np.random.default_rng(seed)
    for variable in network.variables:
        value = generator.normal(size=variable.shape)
        if variable.name == "gamma":
            value = 1 + 0.2 * value
        elif len(variable.shape) < 2:
            value = 0.3 * value
        elif "embedding" not in variable.name:
            value = value * variable.shape[0] ** -0.5
        variable.assign(value)
    return network


def embedded(tokens, table):
    """Vaswani et al. 2017, sections 3.4 and 3.5: the square root of the width times the embedding, and sines and cosines."""
    width = table.shape[1]
    places = np.arange(tokens.shape[1])[:, None]
    angles = places / 10000 ** (2 * (np.arange(width) // 2) / width)
    return table[tokens] * np.sqrt(width) + np.where(np.arange(width) % 2 == 0, np.sin(angles), np.cos(angles))


def tables(network, shared):
    """(of the source, of the target, what gives the logits (width, vocabulary)) of a network."""
    if shared:
        (table,) = network.get_layer("embedding").get_weights()
        return table, table, table.T
    return [network.get_layer(name).get_weights()[0] for name in ("source_embedding", "target_embedding", "logits")]


def attention_of(network, name):
    """Kernels (rows, width) and biases (width,) of the queries, keys, values and outputs of one attention."""
    layer, part = name.split(".")
    values = {each.name: np.asarray(each.value) for each in getattr(network.get_layer(layer), part).weights}
    return [(values[f"{each}_kernel"], values[f"{each}_bias"]) for each in ("query", "key", "value", "output")]


# keras_hub ---------------------------------------------------------------------------------------------------------------------


def into_keras_hub(network, name, theirs):
    """Copies a block's weights into keras_hub's layer."""
    block, heads = network.get_layer(name), SMALL["heads"]
    for part in ("self_attention", "cross_attention")[: len(block.norms) - 1]:
        for (kernel, bias), dense in zip(
            attention_of(network, f"{name}.{part}"),
            [getattr(getattr(theirs, f"_{part}_layer"), f"_{each}_dense") for each in ("query", "key", "value", "output")],
            strict=True,
        ):
            shape = dense.kernel.shape  # (width, heads, width / heads), of the output (heads, width / heads, width)
            assert heads in shape
            dense.set_weights([kernel.reshape(shape), bias.reshape(dense.bias.shape)])
    parts = ("self_attention", "cross_attention", "feedforward") if len(block.norms) == 3 else ("self_attention", "feedforward")
    for norm, part in zip(block.norms, parts, strict=True):
        getattr(theirs, f"_{part}_layer_norm").set_weights(norm.get_weights())
    theirs._feedforward_intermediate_dense.set_weights(block.inner.get_weights())
    theirs._feedforward_output_dense.set_weights(block.outer.get_weights())


def layer_norm(x, weights):
    gamma, beta = weights
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * gamma + beta


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("norm_first", [False, True])
def test_the_same_weights_in_keras_hubs_layers_give_the_same_logits(norm_first, shared):
    network = randomised(models.transformer(**SMALL, norm_first=norm_first, shared_embeddings=shared))
    settings = {"intermediate_dim": 12, "num_heads": 2, "normalize_first": norm_first, "layer_norm_epsilon": 1e-5}
    of_source, of_target, to_logits = tables(network, shared)
    mask = SOURCE != 0
    x = embedded(SOURCE, of_source).astype("float32")
    for number in (1, 2):
        theirs = keras_hub.layers.TransformerEncoder(**settings)
        theirs.build(x.shape)
        into_keras_hub(network, f"encoder_{number}", theirs)
        x = np.asarray(theirs(x, padding_mask=mask))
    memory = layer_norm(x, network.get_layer("encoder_norm").get_weights()) if norm_first else x
    x = embedded(TARGET, of_target).astype("float32")
    for number in (1, 2):
        theirs = keras_hub.layers.TransformerDecoder(**settings)
        theirs.build(x.shape, memory.shape)
        into_keras_hub(network, f"decoder_{number}", theirs)
        x = np.asarray(theirs(x, memory, encoder_padding_mask=mask))
    x = layer_norm(x, network.get_layer("decoder_norm").get_weights()) if norm_first else x
    expected = x @ to_logits
    assert expected.std() > 0.1
    np.testing.assert_allclose(network([SOURCE, TARGET]), expected, atol=1e-5 * np.abs(expected).max())


# torch -------------------------------------------------------------------------------------------------------------------------


def into_torch(network, name, theirs, torch):
    """Copies a block's weights into torch.nn.TransformerEncoderLayer or TransformerDecoderLayer."""
    block = network.get_layer(name)

    def put(where, value):
        assert where.shape == value.shape
        where.copy_(torch.from_numpy(value.copy()))

    with torch.no_grad():
        for part, place in (("self_attention", "self_attn"), ("cross_attention", "multihead_attn"))[: len(block.norms) - 1]:
            *looking, (kernel, bias) = attention_of(network, f"{name}.{part}")
            attention = getattr(theirs, place)
            put(attention.in_proj_weight, np.concatenate([each.T for each, _ in looking]))
            put(attention.in_proj_bias, np.concatenate([each for _, each in looking]))
            put(attention.out_proj.weight, kernel.T)
            put(attention.out_proj.bias, bias)
        for norm, place in zip(block.norms, ("norm1", "norm2", "norm3"), strict=False):
            gamma, beta = norm.get_weights()
            put(getattr(theirs, place).weight, gamma)
            put(getattr(theirs, place).bias, beta)
        for dense, place in ((block.inner, theirs.linear1), (block.outer, theirs.linear2)):
            kernel, bias = dense.get_weights()
            put(place.weight, kernel.T)
            put(place.bias, bias)


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_same_weights_in_torchs_transformer_give_the_same_logits(norm_first):
    torch = pytest.importorskip("torch")  # not among what tests need: the test above holds the same property without it
    network = randomised(models.transformer(**SMALL, norm_first=norm_first))
    settings = {"d_model": 8, "nhead": 2, "dim_feedforward": 12, "dropout": 0.0, "activation": "relu", "batch_first": True,
                "norm_first": norm_first}  # fmt: skip
    norms = [torch.nn.LayerNorm(8) if norm_first else None for _ in range(2)]
    encoder = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(**settings), 2, norms[0], enable_nested_tensor=False)
    decoder = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(**settings), 2, norms[1])
    theirs = torch.nn.Transformer(d_model=8, nhead=2, custom_encoder=encoder, custom_decoder=decoder, batch_first=True)
    for half, layers in (("encoder", encoder.layers), ("decoder", decoder.layers)):
        for number, layer in enumerate(layers, start=1):
            into_torch(network, f"{half}_{number}", layer, torch)
    table = network.get_layer("embedding").get_weights()[0]
    with torch.no_grad():
        for norm, name in zip(norms, ("encoder_norm", "decoder_norm"), strict=True):
            if norm is not None:
                for parameter, value in zip((norm.weight, norm.bias), network.get_layer(name).get_weights(), strict=True):
                    parameter.copy_(torch.from_numpy(value))
        padding = torch.from_numpy(SOURCE == 0)
        decoded = theirs(
            *(torch.from_numpy(embedded(tokens, table).astype("float32")) for tokens in (SOURCE, TARGET)),
            tgt_mask=torch.triu(torch.ones(4, 4, dtype=torch.bool), 1),
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
    expected = decoded.numpy() @ table.T
    np.testing.assert_allclose(network([SOURCE, TARGET]), expected, atol=1e-5 * np.abs(expected).max())


# Counts ------------------------------------------------------------------------------------------------------------------------


def count(width, feed_forward, depth=6):
    """Numbers in the blocks: four products with biases an attention, two layers, a gain and a bias for each normalisation."""
    attention = 4 * (width * width + width)
    feed = width * feed_forward + feed_forward + feed_forward * width + width
    return depth * ((attention + feed + 2 * 2 * width) + (2 * attention + feed + 3 * 2 * width))


@pytest.mark.parametrize(
    ("builder", "blocks", "embedding"),
    [
        # Calculated from table 3 of the paper; 37,000 tokens are section 5.1's, and are embedded once (section 3.4). The blocks
        # of base are torch.nn.Transformer()'s 44,140,544 without its two last norms, of 2 * 512 each: the next test.
        (models.transformer_base, 44_138_496, 37_000 * 512),
        pytest.param(models.transformer_big, 176_357_376, 37_000 * 1024, marks=pytest.mark.slow),
    ],
)
def test_the_papers_networks_have_the_counts_of_their_parts(builder, blocks, embedding):
    assert count(*{models.transformer_base: (512, 2048), models.transformer_big: (1024, 4096)}[builder]) == blocks
    network = builder(source_vocabulary=37_000, target_vocabulary=37_000)
    assert network.count_params() == blocks + embedding
    assert network.output.shape == (None, None, 37_000)


def test_the_base_networks_blocks_have_torchs_count_but_for_two_norms():
    torch = pytest.importorskip("torch")  # not among what tests need: the counts themselves are held above
    with torch.device("meta"):
        theirs = sum(each.numel() for each in torch.nn.Transformer().parameters())
    assert count(512, 2048) == theirs - 2 * 2 * 512


def test_base_and_big_have_the_settings_of_the_papers_table_3():
    found = {}
    for builder in (models.transformer_base, models.transformer_big):
        block = builder(source_vocabulary=5, target_vocabulary=5, depth=1).get_layer("decoder_1")
        found[builder] = (block.self_attention.width, block.heads, block.feed_forward, block.dropout)
    assert found == {models.transformer_base: (512, 8, 2048, 0.1), models.transformer_big: (1024, 16, 4096, 0.3)}
    names = [layer.name for layer in models.transformer(**{**SMALL, "depth": 6}).layers]
    assert all(f"{half}_{number}" in names for half in ("encoder", "decoder") for number in range(1, 7))


def test_embeddings_that_are_not_shared_begin_with_other_numbers():
    made = models.transformer(**SMALL, shared_embeddings=False)
    source, target = (made.get_layer(f"{name}_embedding").get_weights()[0] for name in ("source", "target"))
    assert np.abs(source - target).max() > 0.1


def test_embeddings_that_are_not_shared_are_three():
    made = models.transformer(**{**SMALL, "target_vocabulary": 9}, shared_embeddings=False)
    assert made.count_params() == count(8, 12, depth=2) + 11 * 8 + 9 * 8 + 8 * 9
    assert made.output.shape == (None, None, 9)


def test_a_pointer_adds_products_of_four_and_of_five_places_and_a_gate():
    width = SMALL["width"]
    added = models.transformer(**SMALL, pointer=True).count_params() - models.transformer(**SMALL).count_params()
    assert added == (4 + 5) * width * width + 2 * width + 1


def test_norm_first_adds_a_norm_after_each_half():
    assert models.transformer(**SMALL, norm_first=True).count_params() == count(8, 12, depth=2) + 11 * 8 + 2 * 2 * 8


def test_embeddings_begin_with_the_variance_that_the_scaling_makes_1():
    keras.utils.set_random_seed(0)
    network = models.transformer(**{**SMALL, "source_vocabulary": 4_000, "target_vocabulary": 4_000, "width": 64})
    (table,) = network.get_layer("embedding").get_weights()
    assert (table * np.sqrt(64)).std() == pytest.approx(1, abs=0.01)  # 256,000 numbers: seven standard errors


# Errors ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_vocabulary": 0}, "source_vocabulary must be a positive integer, got 0"),
        ({"target_vocabulary": 2.5}, "target_vocabulary must be a positive integer, got 2.5"),
        ({"depth": 0}, "depth must be a positive integer, got 0"),
        ({"width": True}, "width must be a positive integer, got True"),
        ({"heads": -1}, "heads must be a positive integer, got -1"),
        ({"feed_forward": "12"}, "feed_forward must be a positive integer, got '12'"),
        ({"heads": 3}, r"width must be even and a multiple of heads \(3\), got 8"),
        ({"width": 9, "heads": 3}, r"width must be even and a multiple of heads \(3\), got 9"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0.1"),
        ({"target_vocabulary": 12}, "shared_embeddings need one vocabulary for source and target, got 11 and 12 tokens"),
        ({"target_vocabulary": 12, "shared_embeddings": False, "pointer": True},
         "a pointer needs one vocabulary for source and target, got 11 and 12 tokens"),
    ],
)
def test_a_wrong_argument_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        models.transformer(**{**SMALL, **change})
