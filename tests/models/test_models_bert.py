"""BERT: counts of its parts, a slow NumPy twin, keras_hub's network with the same weights, and what padding may not do."""

import keras
import keras_hub
import numpy as np
import pytest
from scipy.special import erf

from kerastoolkit import models
from kerastoolkit.models.bert import SIZES
from kerastoolkit.weights.bert import read_bert

SMALL = {"vocabulary": 13, "depth": 2, "width": 8, "heads": 2, "feed_forward": 12, "positions": 7}
TOKENS = np.array([[2, 5, 6, 7, 3, 8, 3], [2, 9, 3, 10, 3, 0, 0], [2, 3, 0, 0, 0, 0, 0]], "int32")
SEGMENTS = np.array([[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0, 0], [0] * 7], "int32")
POSITIONS = np.array([[0, 2], [1, 1], [0, 0]], "int32")
BUILDERS = {
    "bert": models.bert,
    "bert_pretraining": models.bert_pretraining,
    "bert_classifier": lambda **sizes: models.bert_classifier(classes=3, **sizes),
    "bert_classifier_of_means": lambda **sizes: models.bert_classifier(classes=4, pooling="mean", **sizes),
    "bert_tagger": lambda **sizes: models.bert_tagger(classes=5, **sizes),
    "bert_question_answering": models.bert_question_answering,
    "bert_sentence_embedding": models.bert_sentence_embedding,
}


def randomised(network, seed=0):
    """Every weight drawn anew, biases and norms too: zeros and ones would hide their places."""
    generator = np.random.default_rng(seed)
    for variable in network.variables:
        if "seed_generator" not in variable.path:
            variable.assign(0.4 * generator.normal(size=variable.shape) + (variable.name == "gamma"))
    return network


def asked(network, tokens=TOKENS, segments=SEGMENTS, positions=POSITIONS, **kwargs):
    """What a network gives, as a dict of arrays."""
    given = {"tokens": tokens, "segments": segments, "positions": positions}
    found = network({tensor.name: given[tensor.name] for tensor in network.inputs}, **kwargs)
    return {name: np.asarray(value) for name, value in (found if isinstance(found, dict) else {"": found}).items()}


def values_of(network):
    return {variable.path: np.array(keras.ops.convert_to_numpy(variable), float) for variable in network.variables}


# Against a slow twin -----------------------------------------------------------------------------------------------------------


def norm(x, values, name):
    """Ba et al. 2016, equation 4, for one vector."""
    centred = x - x.mean()
    return centred / np.sqrt((centred**2).mean() + 1e-12) * values[f"{name}/gamma"] + values[f"{name}/beta"]


def gelu(x):
    """Hendrycks & Gimpel 2016, section 2: x times the distribution function of the normal distribution."""
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def slow_bert(network, tokens, segments, heads):
    """Devlin et al. 2018, section 3, and Vaswani et al. 2017, section 3, one text without padding: (sequence, pooled)."""
    values = values_of(network)
    of = {name: values[f"{name}_embedding/embeddings"] for name in ("token", "position", "segment")}
    rows = zip(tokens, segments, strict=True)
    x = [norm(of["token"][token] + of["position"][place] + of["segment"][part], values, "embedding_norm")
         for place, (token, part) in enumerate(rows)]  # fmt: skip
    for number in range(1, 1 + sum(f"encoder_{n}/inner/kernel" in values for n in range(1, 9))):
        at = f"encoder_{number}/self_attention"
        q, k, v = ([row @ values[f"{at}/{name}_kernel"] + values[f"{at}/{name}_bias"] for row in x]
                   for name in ("query", "key", "value"))  # fmt: skip
        size, after = len(x[0]) // heads, []
        for place, row in enumerate(x):
            looked = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                scores = np.exp([q[place][part] @ key[part] / np.sqrt(size) for key in k])
                looked.append(sum(score * value[part] for score, value in zip(scores / scores.sum(), v, strict=True)))
            y = np.concatenate(looked) @ values[f"{at}/output_kernel"] + values[f"{at}/output_bias"]
            y = norm(row + y, values, f"{at}_norm")
            inner = gelu(y @ values[f"encoder_{number}/inner/kernel"] + values[f"encoder_{number}/inner/bias"])
            outer = inner @ values[f"encoder_{number}/outer/kernel"] + values[f"encoder_{number}/outer/bias"]
            after.append(norm(y + outer, values, f"encoder_{number}/feed_forward_norm"))
        x = after
    return np.array(x), np.tanh(x[0] @ values["pooled/kernel"] + values["pooled/bias"]) if "pooled/kernel" in values else None


def test_each_text_is_read_as_by_a_slow_twin_that_has_no_padding():
    network = randomised(models.bert(**SMALL))
    found = asked(network)
    for row, length in enumerate((TOKENS != 0).sum(axis=1)):
        sequence, pooled = slow_bert(network, TOKENS[row, :length], SEGMENTS[row, :length], SMALL["heads"])
        np.testing.assert_allclose(found["sequence"][row, :length], sequence, atol=1e-5)
        np.testing.assert_allclose(found["pooled"][row], pooled, atol=1e-5)
        assert sequence.std() > 0.1


def test_the_heads_are_what_the_paper_puts_on_the_twin():
    """Devlin et al. 2018, sections 3.1 and 4, and appendix A.2; Reimers & Gurevych 2019, section 3."""
    built = {name: randomised(builder(**SMALL)) for name, builder in BUILDERS.items()}
    found = {name: asked(network) for name, network in built.items()}
    for row, length in enumerate((TOKENS != 0).sum(axis=1)):
        for name, network in built.items():
            values = values_of(network)
            x, pooled = slow_bert(network, TOKENS[row, :length], SEGMENTS[row, :length], SMALL["heads"])
            if name == "bert_classifier":
                expected = {"": pooled @ values["class_logits/kernel"] + values["class_logits/bias"]}
            elif name == "bert_classifier_of_means":
                expected = {"": x.mean(axis=0) @ values["class_logits/kernel"] + values["class_logits/bias"]}
            elif name in ("bert_tagger", "bert_question_answering"):
                layer = "class_logits" if name == "bert_tagger" else "span_logits"
                expected = {"": x @ values[f"{layer}/kernel"] + values[f"{layer}/bias"]}
            elif name == "bert_sentence_embedding":
                expected = {"": x.mean(axis=0) / np.linalg.norm(x.mean(axis=0))}
            elif name == "bert_pretraining":
                y = gelu(x[POSITIONS[row]] @ values["masked_word_dense/kernel"] + values["masked_word_dense/bias"])
                y = np.array([norm(each, values, "masked_word_norm") for each in y])
                words = y @ values["token_embedding/embeddings"].T + values["masked_word_bias/bias"]
                follows = pooled @ values["next_sentence/kernel"] + values["next_sentence/bias"]
                expected = {"masked_words": words, "next_sentence": follows}
            else:
                continue
            for key, value in expected.items():
                got = found[name][key][row]
                np.testing.assert_allclose(got[: len(value)], value, atol=2e-5 * max(1, np.abs(value).max()), err_msg=name)


# Against keras_hub -------------------------------------------------------------------------------------------------------------


def test_a_preset_of_keras_hub_gives_its_outputs_here(tmp_path):
    theirs = keras_hub.models.BertBackbone(
        vocabulary_size=13, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=12, max_sequence_length=7)  # fmt: skip
    randomised(theirs)
    theirs.save_to_preset(tmp_path / "preset")
    network = models.bert(weights=str(tmp_path / "preset"))
    assert network.get_layer("encoder_1").activation == "gelu_approximate"
    expected = theirs({"token_ids": TOKENS, "segment_ids": SEGMENTS, "padding_mask": TOKENS != 0})
    found, real = asked(network), TOKENS != 0
    np.testing.assert_allclose(found["sequence"][real], np.asarray(expected["sequence_output"])[real], atol=1e-5)
    np.testing.assert_allclose(found["pooled"], expected["pooled_output"], atol=1e-5)
    assert network.count_params() == theirs.count_params()


# What changes what -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
def test_padding_and_its_length_change_nothing(name):
    network = randomised(BUILDERS[name](**SMALL))
    short = asked(network, TOKENS[2:, :2], SEGMENTS[2:, :2], POSITIONS[2:])
    by_token = ("sequence", "") if name in ("bert", "bert_tagger", "bert_question_answering") else ()
    # Padded, beside a text that is longer; and with other segments where the padding is.
    for segments in (SEGMENTS[1:], np.where(TOKENS[1:] == 0, 1, SEGMENTS[1:])):
        padded = asked(network, TOKENS[1:], segments, POSITIONS[1:])
        for key, value in short.items():
            found = padded[key][1]
            np.testing.assert_allclose(found[:2] if key in by_token else found, value[0], atol=1e-5)


def test_a_segment_and_a_place_change_what_is_given():
    network = randomised(models.bert(**SMALL))
    before = asked(network)["pooled"]
    other = SEGMENTS.copy()
    other[0, 4] = 1
    assert np.abs(asked(network, segments=other)["pooled"] - before)[0].max() > 1e-3
    swapped = TOKENS.copy()
    swapped[0, 1:3] = swapped[0, 2:0:-1]
    assert np.abs(asked(network, swapped)["pooled"] - before)[0].max() > 1e-3
    np.testing.assert_array_equal(asked(network, segments=other)["pooled"][1:], before[1:])


@pytest.mark.parametrize("rates", [{"dropout": 0.5, "attention_dropout": 0.0}, {"dropout": 0.0, "attention_dropout": 0.5}])
def test_dropout_acts_in_training_alone(rates):
    plain, network = (models.bert(**SMALL, **each) for each in ({"dropout": 0.0}, rates))
    randomised(plain), randomised(network)
    expected = asked(plain)["sequence"]
    np.testing.assert_array_equal(asked(plain, training=True)["sequence"], expected)
    np.testing.assert_array_equal(asked(network)["sequence"], expected)
    assert np.abs(asked(network, training=True)["sequence"] - expected).max() > 1e-2


@pytest.mark.parametrize(
    ("given", "rates"), [({}, (0.1, 0.1)), ({"dropout": 0.2}, (0.2, 0.2)), ({"attention_dropout": 0.0}, (0.1, 0.0))]
)
def test_attention_drops_as_the_rest_where_nothing_is_said(given, rates):
    network = models.bert(**SMALL, **given)
    block = network.get_layer("encoder_2")
    assert (block.dropout, block.attention_dropout) == rates
    assert network.get_layer("embedding_dropout").rate == rates[0]


def test_kernels_and_embeddings_begin_as_in_the_authors_program():
    """modeling.py: truncated normal of 0.02, at most two deviations, so of 0.02 * 0.8796; and the rest zeros and ones."""
    keras.utils.set_random_seed(0)
    network = models.bert_pretraining(vocabulary=400, depth=1, width=128, heads=2)
    for variable in network.trainable_variables:
        value = keras.ops.convert_to_numpy(variable)
        if value.ndim == 1 or variable.name.endswith("bias"):
            np.testing.assert_array_equal(value, variable.name.endswith("gamma"))
        else:
            assert np.abs(value).max() <= 0.04
            assert value.std() == pytest.approx(0.02 * 0.8796, rel=0.1), variable.path
    kernels = [variable for variable in network.trainable_variables if tuple(variable.shape) == (128, 128)]
    assert len({keras.ops.convert_to_numpy(kernel).tobytes() for kernel in kernels}) == len(kernels) == 6  # no two alike


@pytest.mark.parametrize("name", BUILDERS)
def test_a_saved_and_loaded_network_gives_the_same(name, tmp_path):
    network = randomised(BUILDERS[name](**SMALL))
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for key, value in asked(network).items():
        np.testing.assert_array_equal(asked(loaded)[key], value)


# Counts ------------------------------------------------------------------------------------------------------------------------


def encoder(vocabulary, depth, width, feed_forward, positions=512, segments=2):
    """Numbers in the encoder: embeddings and their norm; of each block four products, two layers and two norms."""
    block = 4 * (width * width + width) + width * feed_forward + feed_forward + feed_forward * width + width + 2 * 2 * width
    return (vocabulary + positions + segments) * width + 2 * width + depth * block


def pooling(width):
    return width * width + width


# keras_hub's presets bert_tiny_en_uncased .. bert_large_en_uncased, whose backbones are this with the pooled vector.
PUBLISHED = {"tiny": 4_385_920, "mini": 11_170_560, "small": 28_763_648, "medium": 41_373_184, "base": 109_482_240,
             "large": 335_141_888}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_counts_are_those_of_the_parts(name):
    width = SIZES[name]["width"]
    assert encoder(30_522, SIZES[name]["depth"], width, 4 * width) + pooling(width) == PUBLISHED[name]


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=() if each in ("tiny", "mini") else pytest.mark.slow) for each in SIZES]
)
def test_the_published_sizes_have_the_published_counts(name):
    assert getattr(models, f"bert_{name}")().count_params() == PUBLISHED[name]


# What each network has beside the encoder.
HEADS = {
    "bert": lambda width, vocabulary: pooling(width),
    "bert_pretraining": lambda width, vocabulary: pooling(width) + pooling(width) + 2 * width + vocabulary + 2 * width + 2,
    "bert_classifier": lambda width, vocabulary: pooling(width) + 3 * width + 3,
    "bert_classifier_of_means": lambda width, vocabulary: 4 * width + 4,
    "bert_tagger": lambda width, vocabulary: 5 * width + 5,
    "bert_question_answering": lambda width, vocabulary: 2 * width + 2,
    "bert_sentence_embedding": lambda width, vocabulary: 0,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_each_network_has_the_encoder_and_its_head(name):
    expected = encoder(13, 2, 8, 12, positions=7) + HEADS[name](8, 13)
    network = BUILDERS[name](**SMALL)
    assert sum(int(np.prod(variable.shape)) for variable in network.trainable_variables) == expected


# Of base, 109,482,240 with the pooled vector, 590,592. The heads of pretraining: 590,592 + 1,536 for the transformed vector, a
# bias for each of 30,522 words, whose table is that of the embeddings, and 2 * 768 + 2.
WITH_HEADS = {"pretraining": 110_106_428, "classifier": 109_483_778, "question_answering": 108_893_186}


def test_the_heads_of_base_have_the_counts_of_their_parts():
    of_base = encoder(30_522, 12, 768, 3_072)
    assert of_base + HEADS["bert_pretraining"](768, 30_522) == WITH_HEADS["pretraining"]
    assert of_base + pooling(768) + 2 * 768 + 2 == WITH_HEADS["classifier"]
    assert of_base + HEADS["bert_question_answering"](768, 30_522) == WITH_HEADS["question_answering"]


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_HEADS)
def test_base_with_its_heads_has_those_counts(name):
    classes = {"classes": 2} if name == "classifier" else {}
    network = getattr(models, f"bert_{name}")(vocabulary=30_522, **SIZES["base"], **classes)
    assert sum(int(np.prod(variable.shape)) for variable in network.trainable_variables) == WITH_HEADS[name]


def test_the_sizes_of_all_minilm_l6_v2_have_its_count():
    """22,713,216: the file that is published has as many numbers, its pooled vector's among them."""
    assert encoder(30_522, 6, 384, 1_536) + pooling(384) == 22_713_216


@pytest.mark.parametrize("name", BUILDERS)
def test_shapes_are_those_that_are_told(name):
    found = BUILDERS[name](**SMALL).output
    expected = {
        "bert": {"sequence": (None, None, 8), "pooled": (None, 8)},
        "bert_pretraining": {"masked_words": (None, None, 13), "next_sentence": (None, 2)},
        "bert_classifier": (None, 3), "bert_classifier_of_means": (None, 4), "bert_tagger": (None, None, 5),
        "bert_question_answering": (None, None, 2), "bert_sentence_embedding": (None, 8),
    }[name]  # fmt: skip
    assert ({key: value.shape for key, value in found.items()} if isinstance(found, dict) else found.shape) == expected


# Errors ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": None, "heads": None}, "without weights these are needed: vocabulary, heads$"),
        ({"vocabulary": 0}, "vocabulary must be a positive integer, got 0"),
        ({"depth": 1.5}, "depth must be a positive integer, got 1.5"),
        ({"width": "8", "feed_forward": None}, "width must be a positive integer, got '8'"),
        ({"heads": 3}, r"width must be a multiple of heads \(3\), got 8"),
        ({"feed_forward": -1}, "feed_forward must be a positive integer, got -1"),
        ({"positions": True}, "positions must be a positive integer, got True"),
        ({"segments": 0}, "segments must be a positive integer, got 0"),
        ({"activation": "swish"}, "activation must be relu, gelu, gelu_approximate, got 'swish'"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"attention_dropout": -0.1}, r"attention_dropout must be in \[0, 1\), got -0.1"),
    ],
)
def test_a_wrong_argument_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        models.bert(**{**SMALL, **change})


@pytest.mark.parametrize("builder", [models.bert_classifier, models.bert_tagger])
@pytest.mark.parametrize(("classes", "message"), [(1, "classes must be at least 2, got 1"), (0, "classes must be a positive"),
                                                  (2.0, "classes must be a positive integer, got 2.0")])  # fmt: skip
def test_fewer_than_two_classes_are_refused(builder, classes, message):
    with pytest.raises(ValueError, match=message):
        builder(classes=classes, **SMALL)


def test_another_pooling_is_refused():
    with pytest.raises(ValueError, match="^pooling must be first or mean, got 'max'$"):
        models.bert_classifier(classes=2, pooling="max", **SMALL)


@pytest.mark.parametrize("name", BUILDERS)
def test_an_unknown_size_is_refused(name):
    with pytest.raises(TypeError):
        BUILDERS[name](**SMALL, layers=3)


def test_weights_that_were_read_before_are_taken_too(tmp_path):
    theirs = randomised(keras_hub.models.BertBackbone(13, 1, 2, 8, 12, max_sequence_length=7))
    theirs.save_to_preset(tmp_path)
    read = read_bert(tmp_path)
    np.testing.assert_array_equal(asked(models.bert(weights=read))["pooled"], asked(models.bert(weights=tmp_path))["pooled"])
