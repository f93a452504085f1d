"""BERT and what it is made into: Devlin et al. 2018, https://arxiv.org/abs/1810.04805."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from kerastoolkit.layers.dropout import Dropout
from kerastoolkit.layers.embeddings import AtPositions, Bias, PositionEmbedding, SegmentEmbedding
from kerastoolkit.layers.transformer import ACTIVATIONS, TransformerEncoderBlock
from kerastoolkit.models._arguments import check_rate, check_sizes
from kerastoolkit.weights.bert import BertWeights, assign_bert, read_bert

EPSILON = 1e-12  # of layer normalisation, as in the authors' program
DEFAULTS = {"positions": 512, "segments": 2, "activation": "gelu"}
TOKEN_EMBEDDING = "token_embedding"
POOLINGS = ("first", "mean")


def bert(
    *,
    vocabulary: int | None = None,
    depth: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    feed_forward: int | None = None,
    positions: int | None = None,
    segments: int | None = None,
    activation: str | None = None,
    dropout: float = 0.1,
    attention_dropout: float | None = None,
    weights: str | Path | BertWeights | None = None,
) -> keras.Model:
    """BERT's encoder: Devlin et al. 2018, section 3, https://arxiv.org/abs/1810.04805.

    Input   tokens    (batch, any length up to positions) int32, 0 .. vocabulary - 1, where 0 is padding after the text
            segments  (batch, same length) int32, 0 .. segments - 1: which of the texts a token belongs to
    Output  a dict
            sequence  (batch, length, width) float32, a vector for each token
            pooled    (batch, width) float32, a vector for the text: that of the first token, through a layer with a tanh

    What is at padding changes nothing else.

    Args:
        vocabulary: number of tokens.
        depth: blocks; the paper's L.
        width: numbers that stand for a token; the paper's H.
        heads: of each attention; the paper's A. They part the width evenly.
        feed_forward: width of the inner layer; 4 times the width if left out.
        positions: tokens that a text may have, marks counted; 512 if left out.
        segments: 2 if left out.
        activation: of the inner layer: gelu, if left out; gelu_approximate, which keras_hub has; or relu.
        dropout: rate after the embeddings and after each part of a block, in [0, 1).
        attention_dropout: rate of the attention's weights; the same if left out.
        weights: None for random ones; else, as ``weights.bert.read_bert`` takes them: a run folder of this toolkit, a preset of
            keras_hub, the folder of a model of Hugging Face (config.json and model.safetensors), or "minilm". They bring their
            sizes: a size may be left out, and one that is given must be theirs.
    Raises:
        ValueError: a size is missing, too small, or not that of the weights; the heads do not part the width; a rate is outside
            its range; or the weights cannot be read or lack an array.
    """
    inputs, sequence, _, read, initial = _encoder(
        weights, dropout, attention_dropout, vocabulary=vocabulary, depth=depth, width=width, heads=heads,
        feed_forward=feed_forward, positions=positions, segments=segments, activation=activation)  # fmt: skip
    outputs = {"sequence": sequence, "pooled": _pooled(sequence, initial)}
    return _filled(keras.Model(inputs, outputs, name="bert"), read)


def bert_tiny(*, vocabulary: int = 30_522, **kwargs: Any) -> keras.Model:
    """BERT-tiny: Turc et al. 2019, https://arxiv.org/abs/1908.08962: 2 blocks, width 128; the others are those of ``bert``."""
    return bert(vocabulary=vocabulary, **SIZES["tiny"], **kwargs)


def bert_mini(*, vocabulary: int = 30_522, **kwargs: Any) -> keras.Model:
    """BERT-mini: Turc et al. 2019: 4 blocks, width 256; other arguments are those of ``bert``."""
    return bert(vocabulary=vocabulary, **SIZES["mini"], **kwargs)


def bert_small(*, vocabulary: int = 30_522, **kwargs: Any) -> keras.Model:
    """BERT-small: Turc et al. 2019: 4 blocks, width 512; other arguments are those of ``bert``."""
    return bert(vocabulary=vocabulary, **SIZES["small"], **kwargs)


def bert_medium(*, vocabulary: int = 30_522, **kwargs: Any) -> keras.Model:
    """BERT-medium: Turc et al. 2019: 8 blocks, width 512; other arguments are those of ``bert``."""
    return bert(vocabulary=vocabulary, **SIZES["medium"], **kwargs)


def bert_base(*, vocabulary: int = 30_522, **kwargs: Any) -> keras.Model:
    """BERT-base: Devlin et al. 2018, section 3: 12 blocks, width 768; other arguments are those of ``bert``."""
    return bert(vocabulary=vocabulary, **SIZES["base"], **kwargs)


def bert_large(*, vocabulary: int = 30_522, **kwargs: Any) -> keras.Model:
    """BERT-large: Devlin et al. 2018, section 3: 24 blocks, width 1024; other arguments are those of ``bert``."""
    return bert(vocabulary=vocabulary, **SIZES["large"], **kwargs)


# Turc et al. 2019, table 1, and Devlin et al. 2018, section 3; a head has 64 numbers in all of them.
SIZES = {
    "tiny": {"depth": 2, "width": 128, "heads": 2},
    "mini": {"depth": 4, "width": 256, "heads": 4},
    "small": {"depth": 4, "width": 512, "heads": 8},
    "medium": {"depth": 8, "width": 512, "heads": 8},
    "base": {"depth": 12, "width": 768, "heads": 12},
    "large": {"depth": 24, "width": 1024, "heads": 16},
}


def bert_pretraining(*, weights: str | Path | BertWeights | None = None, dropout: float = 0.1,
                     attention_dropout: float | None = None, **sizes: Any) -> keras.Model:  # fmt: skip
    """BERT with the two heads that it is pretrained with: Devlin et al. 2018, section 3.1 and appendix A.2.

    Input   tokens     (batch, length) int32, with [MASK] in the place of words
            segments   (batch, length) int32
            positions  (batch, n) int32, 0 .. length - 1: which tokens are to be told
    Output  a dict
            masked_words   (batch, n, vocabulary) float32, logits of what stood there; from the embeddings, transposed, and a bias
            next_sentence  (batch, 2) float32, logits: that the second text follows the first, and that it is from elsewhere

    Args:
        weights, dropout, attention_dropout, sizes: those of ``bert``. The heads stay random where the weights have none.
    Raises:
        ValueError: as for ``bert``.
    """
    inputs, sequence, embed, read, initial = _encoder(weights, dropout, attention_dropout, **sizes)
    positions = keras.Input((None,), dtype="int32", name="positions")
    x = AtPositions(name="at_positions")(sequence, positions)  # (b, n, width)
    x = layers.Dense(x.shape[-1], kernel_initializer=initial.clone(), name="masked_word_dense")(x)
    x = layers.Activation(ACTIVATIONS["gelu"], name="masked_word_activation")(x)
    x = layers.LayerNormalization(epsilon=EPSILON, name="masked_word_norm")(x)
    outputs = {
        "masked_words": Bias(name="masked_word_bias")(embed(x, reverse=True)),
        "next_sentence": layers.Dense(2, kernel_initializer=initial.clone(), name="next_sentence")(_pooled(sequence, initial)),
    }
    return _filled(keras.Model([*inputs, positions], outputs, name="bert_pretraining"), read)


def bert_classifier(*, classes: int, pooling: str = "first", weights: str | Path | BertWeights | None = None,
                    dropout: float = 0.1, attention_dropout: float | None = None, **sizes: Any) -> keras.Model:  # fmt: skip
    """BERT with a class for a text, or for a pair of texts: Devlin et al. 2018, section 4.1.

    Input   tokens, segments  (batch, length) int32
    Output  logits  (batch, classes) float32, unnormalised

    Args:
        classes: how many, at least 2.
        pooling: which vector of the text is classified: first, the pooled one of ``bert``, as in the paper; or mean, that of the
            tokens' vectors, which weights such as MiniLM's were trained for: Reimers & Gurevych 2019, section 3,
            https://arxiv.org/abs/1908.10084.
        weights, dropout, attention_dropout, sizes: those of ``bert``. The last layer stays random where the weights have none of
            as many classes.
    Raises:
        ValueError: fewer than 2 classes, another pooling, or as for ``bert``.
    """
    _check_classes(classes)
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be {' or '.join(POOLINGS)}, got {pooling!r}")
    inputs, sequence, _, read, initial = _encoder(weights, dropout, attention_dropout, **sizes)
    x = _dropped(_pooled(sequence, initial) if pooling == "first" else _mean(inputs[0], sequence), dropout)
    logits = layers.Dense(classes, kernel_initializer=initial.clone(), name="class_logits")(x)
    return _filled(keras.Model(inputs, logits, name="bert_classifier"), read)


def bert_tagger(*, classes: int, weights: str | Path | BertWeights | None = None, dropout: float = 0.1,
                attention_dropout: float | None = None, **sizes: Any) -> keras.Model:  # fmt: skip
    """BERT with a class for each token: Devlin et al. 2018, section 5.3.

    Input   tokens, segments  (batch, length) int32
    Output  logits  (batch, length, classes) float32, unnormalised

    Args: as for ``bert_classifier``. There is no pooled vector.
    Raises:
        ValueError: fewer than 2 classes, or as for ``bert``.
    """
    _check_classes(classes)
    inputs, sequence, _, read, initial = _encoder(weights, dropout, attention_dropout, **sizes)
    x = _dropped(sequence, dropout)
    logits = layers.Dense(classes, kernel_initializer=initial.clone(), name="class_logits")(x)
    return _filled(keras.Model(inputs, logits, name="bert_tagger"), read)


def bert_question_answering(*, weights: str | Path | BertWeights | None = None, dropout: float = 0.1,
                            attention_dropout: float | None = None, **sizes: Any) -> keras.Model:  # fmt: skip
    """BERT that finds where in a text the answer to a question begins and ends: Devlin et al. 2018, section 4.2.

    Input   tokens, segments  (batch, length) int32: the question, and the text as segment 1
    Output  logits  (batch, length, 2) float32, unnormalised: that the answer begins, and that it ends, with a token

    Args:
        weights, dropout, attention_dropout, sizes: those of ``bert``. There is no pooled vector.
    Raises:
        ValueError: as for ``bert``.
    """
    inputs, sequence, _, read, initial = _encoder(weights, dropout, attention_dropout, **sizes)
    logits = layers.Dense(2, kernel_initializer=initial.clone(), name="span_logits")(sequence)
    return _filled(keras.Model(inputs, logits, name="bert_question_answering"), read)


def bert_sentence_embedding(*, weights: str | Path | BertWeights | None = None, dropout: float = 0.1,
                            attention_dropout: float | None = None, **sizes: Any) -> keras.Model:  # fmt: skip
    """BERT with one vector for a sentence, the mean of its tokens': Reimers & Gurevych 2019, section 3,
    https://arxiv.org/abs/1908.10084.

    Input   tokens, segments  (batch, length) int32
    Output  embedding  (batch, width) float32, of length 1, so that products of two are cosines

    Args:
        weights, dropout, attention_dropout, sizes: those of ``bert``. There is no pooled vector.
    Raises:
        ValueError: as for ``bert``.
    Differs from the paper: the mean is brought to length 1, as in the models that are published with that program.
    """
    inputs, sequence, _, read, _ = _encoder(weights, dropout, attention_dropout, **sizes)
    return _filled(keras.Model(inputs, ops.normalize(_mean(inputs[0], sequence), axis=-1), name="bert_sentence_embedding"), read)


def _encoder(weights, dropout, attention_dropout, **given):
    """([tokens, segments], sequence, the embedding layer, what was read of ``weights``, the initializer of kernels)."""
    read = read_bert(weights) if weights is not None and not isinstance(weights, BertWeights) else weights
    sizes = _sizes(given, read)
    for name, rate in (("dropout", dropout), ("attention_dropout", attention_dropout or 0.0)):
        check_rate(name, rate)
    initial = keras.initializers.TruncatedNormal(stddev=0.02)  # appendix A.2's program: initializer_range
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    segments = keras.Input((None,), dtype="int32", name="segments")
    embed = layers.ReversibleEmbedding(
        sizes["vocabulary"], sizes["width"], embeddings_initializer=initial.clone(), name=TOKEN_EMBEDDING
    )
    x = PositionEmbedding(sizes["positions"], initial.clone(), name="position_embedding")(embed(tokens))  # (b, l, width)
    x = SegmentEmbedding(sizes["segments"], initial.clone(), name="segment_embedding")(x, segments)
    x = layers.LayerNormalization(epsilon=EPSILON, name="embedding_norm")(x)
    x = _dropped(x, dropout, "embedding_dropout")
    mask = ops.not_equal(tokens, 0)
    for number in range(1, sizes["depth"] + 1):
        x = TransformerEncoderBlock(
            sizes["heads"], sizes["feed_forward"], dropout, activation=sizes["activation"], epsilon=EPSILON,
            initializer=initial.clone(), attention_dropout=dropout if attention_dropout is None else attention_dropout,
            name=f"encoder_{number}")(x, mask)  # fmt: skip
    return [tokens, segments], x, embed, read, initial


def _sizes(given: dict[str, Any], read: BertWeights | None) -> dict[str, Any]:
    """All sizes of the encoder: those that are given, those of the weights, and the usual ones."""
    unknown = given.keys() - {"vocabulary", "depth", "width", "heads", "feed_forward", *DEFAULTS}
    if unknown:
        raise TypeError(f"there is no size {', '.join(sorted(unknown))}")
    sizes = {name: value for name, value in given.items() if value is not None}
    if read is not None:
        for name, value in sizes.items():
            if value != read.sizes[name]:
                raise ValueError(f"{name} must be {read.sizes[name]}, as in the weights {read.name}, got {value}")
        return read.sizes
    sizes = {**DEFAULTS, **sizes}
    if missing := [name for name in ("vocabulary", "depth", "width", "heads") if name not in sizes]:
        raise ValueError(f"without weights these are needed: {', '.join(missing)}")
    sizes.setdefault("feed_forward", 4 * sizes["width"] if isinstance(sizes["width"], int) else sizes["width"])
    check_sizes(**{name: value for name, value in sizes.items() if name != "activation"})
    if sizes["width"] % sizes["heads"]:
        raise ValueError(f"width must be a multiple of heads ({sizes['heads']}), got {sizes['width']}")
    if sizes["activation"] not in ACTIVATIONS:
        raise ValueError(f"activation must be {', '.join(ACTIVATIONS)}, got {sizes['activation']!r}")
    return sizes


def _pooled(sequence, initial):
    """The first token's vector through a layer with a tanh: (batch, length, width) -> (batch, width)."""
    return layers.Dense(sequence.shape[-1], "tanh", kernel_initializer=initial.clone(), name="pooled")(sequence[:, 0])


def _mean(tokens, sequence):
    """The mean of the vectors of tokens that are no padding: (batch, length, width) -> (batch, width)."""
    there = ops.expand_dims(ops.cast(ops.not_equal(tokens, 0), sequence.dtype), -1)  # (b, l, 1)
    return ops.sum(sequence * there, axis=1) / ops.maximum(ops.sum(there, axis=1), 1.0)


def _dropped(x, dropout, name="dropout"):
    return Dropout(dropout, name=name)(x) if dropout else x


def _filled(model: keras.Model, read: BertWeights | None) -> keras.Model:
    if read is not None:
        assign_bert(model, read)
    return model


def _check_classes(classes: int) -> None:
    check_sizes(classes=classes)
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}")
