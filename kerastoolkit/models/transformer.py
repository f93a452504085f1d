"""The Transformer: an encoder-decoder made of attention alone."""

import keras
from keras import layers, ops

from kerastoolkit.layers.dropout import Dropout
from kerastoolkit.layers.pointer_generator import PointerGenerator
from kerastoolkit.layers.transformer import EPSILON, PositionEncoding, TransformerDecoderBlock, TransformerEncoderBlock
from kerastoolkit.models._arguments import check_rate, check_sizes


def transformer(
    *,
    source_vocabulary: int,
    target_vocabulary: int,
    depth: int = 6,
    width: int = 512,
    heads: int = 8,
    feed_forward: int = 2048,
    dropout: float = 0.1,
    shared_embeddings: bool = True,
    norm_first: bool = False,
    pointer: bool = False,
) -> keras.Model:
    """Transformer: Vaswani et al. 2017, section 3, https://arxiv.org/abs/1706.03762.

    Input   source_tokens  (batch, any length) int32, 0 .. source_vocabulary - 1, where 0 is padding after the text
            target_tokens  (batch, any length) int32, 0 .. target_vocabulary - 1, what has been written so far, likewise
    Output  logits         (batch, target length, target_vocabulary) float32, unnormalised, of the token that comes next

    A position's logits follow from the source and from the target's tokens up to that position alone.

    Args:
        source_vocabulary, target_vocabulary: numbers of tokens, padding counted.
        depth: blocks in the encoder, and in the decoder; the paper's N.
        width: numbers that stand for a position; the paper's d_model.
        heads: of each attention; they part the width evenly.
        feed_forward: width of the inner layer; the paper's d_ff.
        dropout: rate after the embeddings and after each part of a block, in [0, 1).
        shared_embeddings: one matrix embeds source and target and, transposed, gives the logits (section 3.4); else there are
            three.
        norm_first: normalise what goes into each part of a block and not the sum after it, and once more after the last block
            (Xiong et al. 2020, https://arxiv.org/abs/2002.04745), which trains without a warm-up.
        pointer: the network can also point at a token of the source, to copy it (See et al. 2017, section 2.2,
            https://arxiv.org/abs/1704.04368), and goes on with what it has begun to copy: ``layers.PointerGenerator``, with its
            context of 4. The logits are then logarithms of probabilities.
    Raises:
        ValueError: a number is too small, the heads do not part the width, the width is odd, or embeddings are to be shared, or
            tokens copied, between vocabularies of different sizes.
    """
    check_sizes(source_vocabulary=source_vocabulary, target_vocabulary=target_vocabulary, depth=depth, width=width, heads=heads,
                feed_forward=feed_forward)  # fmt: skip
    if width % heads or width % 2:
        raise ValueError(f"width must be even and a multiple of heads ({heads}), got {width}")
    check_rate("dropout", dropout)
    for name, wanted in (("shared_embeddings need", shared_embeddings), ("a pointer needs", pointer)):
        if wanted and source_vocabulary != target_vocabulary:
            raise ValueError(
                f"{name} one vocabulary for source and target, got {source_vocabulary} and {target_vocabulary} tokens"
            )
    block = {"heads": heads, "feed_forward": feed_forward, "dropout": dropout, "norm_first": norm_first}

    def initial():  # of variance 1 after the scaling of section 3.4, as in the authors' program; one object draws the same twice
        return keras.initializers.RandomNormal(stddev=width**-0.5)

    source = keras.Input((None,), dtype="int32", name="source_tokens")
    target = keras.Input((None,), dtype="int32", name="target_tokens")
    mask = ops.not_equal(source, 0)  # (b, s)
    if shared_embeddings:
        embed_source = embed_target = layers.ReversibleEmbedding(
            source_vocabulary, width, embeddings_initializer=initial(), name="embedding"
        )
    else:
        embed_source = layers.Embedding(source_vocabulary, width, initial(), name="source_embedding")
        embed_target = layers.Embedding(target_vocabulary, width, initial(), name="target_embedding")

    x = PositionEncoding(name="encoder_positions")(embed_source(source))  # (b, s, width)
    if dropout:
        x = Dropout(dropout, name="encoder_dropout")(x)
    for number in range(1, depth + 1):
        x = TransformerEncoderBlock(**block, name=f"encoder_{number}")(x, mask)
    if norm_first:
        x = layers.LayerNormalization(epsilon=EPSILON, name="encoder_norm")(x)
    memory = layers.Identity(name="memory")(x)

    x = PositionEncoding(name="decoder_positions")(embed_target(target))  # (b, t, width)
    if dropout:
        x = Dropout(dropout, name="decoder_dropout")(x)
    for number in range(1, depth + 1):
        x = TransformerDecoderBlock(**block, name=f"decoder_{number}")(x, memory, mask)
    if norm_first:
        x = layers.LayerNormalization(epsilon=EPSILON, name="decoder_norm")(x)
    if shared_embeddings:
        logits = embed_target(x, reverse=True)
    else:
        logits = layers.Dense(target_vocabulary, use_bias=False, name="logits")(x)
    if pointer:
        logits = PointerGenerator(name="pointer")(x, logits, memory, source)
    return keras.Model([source, target], logits, name="transformer")


def transformer_base(*, source_vocabulary: int, target_vocabulary: int, **kwargs) -> keras.Model:
    """Transformer (base): Vaswani et al. 2017, table 3; the arguments left out are those of ``transformer``."""
    return transformer(source_vocabulary=source_vocabulary, target_vocabulary=target_vocabulary, **kwargs)


def transformer_big(*, source_vocabulary: int, target_vocabulary: int, **kwargs) -> keras.Model:
    """Transformer (big): Vaswani et al. 2017, table 3: width 1024, 16 heads, feed-forward 4096, dropout 0.3."""
    settings = {"width": 1024, "heads": 16, "feed_forward": 4096, "dropout": 0.3, **kwargs}
    return transformer(source_vocabulary=source_vocabulary, target_vocabulary=target_vocabulary, **settings)
