"""Recurrent encoder-decoders that look back at the source."""

import keras
from keras import layers, ops

from kerastoolkit.layers import GRU, LSTM, Dropout
from kerastoolkit.layers.attention_decoder import ATTENTION, CELLS, AttentionDecoder, ReverseTexts
from kerastoolkit.models._arguments import check_rate, check_sizes

_ENCODERS = {"gru": GRU, "lstm": LSTM}


def attention_seq2seq(
    *,
    source_vocabulary: int,
    target_vocabulary: int,
    cell: str = "gru",
    attention: str = "additive",
    units: int = 256,
    embedding: int = 256,
    dropout: float = 0.0,
) -> keras.Model:
    """Recurrent encoder-decoder with attention: Bahdanau et al. 2014, section 3, https://arxiv.org/abs/1409.0473, or with
    dot-product attention Luong et al. 2015, section 3, https://arxiv.org/abs/1508.04025.

    Input   source_tokens  (batch, any length) int32, 0 .. source_vocabulary - 1, where 0 is padding after the text
            target_tokens  (batch, any length) int32, 0 .. target_vocabulary - 1, what has been written so far, likewise
    Output  logits         (batch, target length, target_vocabulary) float32, unnormalised, of the token that comes next

    A position's logits follow from the source and from the target's tokens up to that position alone.

    Args:
        source_vocabulary, target_vocabulary: numbers of tokens, padding counted.
        cell: "gru" (Bahdanau's) or "lstm" (Luong's), of the encoder, which reads in both directions, and of the decoder.
        attention: "additive" (Bahdanau's) or "dot" (Luong's, with input feeding): ``layers.attention_decoder.AttentionDecoder``.
        units: numbers that the decoder's state holds, and of each direction of the encoder half as many; even.
        embedding: numbers that stand for a token.
        dropout: rate after the embeddings and before the logits, in [0, 1).
    Raises:
        ValueError: an argument is not one of the above.
    Differs from the papers: the readout before the logits is a tanh layer, where Bahdanau has maxout; Luong's encoder reads in
    one direction and has four layers; the decoder begins as Bahdanau's also with Luong's attention.
    """
    for name, value, known in (("cell", cell, CELLS), ("attention", attention, ATTENTION)):
        if value not in known:
            raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")
    check_sizes(source_vocabulary=source_vocabulary, target_vocabulary=target_vocabulary, units=units, embedding=embedding)
    if units % 2:
        raise ValueError(f"units must be even, half for each direction of the encoder, got {units}")
    check_rate("dropout", dropout)

    source = keras.Input((None,), dtype="int32", name="source_tokens")
    target = keras.Input((None,), dtype="int32", name="target_tokens")
    mask = ops.not_equal(source, 0)  # (b, s)
    x = layers.Embedding(source_vocabulary, embedding, name="source_embedding")(source)  # (b, s, embedding)
    if dropout:
        x = Dropout(dropout, name="encoder_dropout")(x)
    forwards = _ENCODERS[cell](units // 2, return_sequences=True, name="encoder_forwards")(x)
    x = ReverseTexts(name="reversed")(x, mask)
    backwards = _ENCODERS[cell](units // 2, return_sequences=True, name="encoder_backwards")(x)
    memory = layers.Concatenate(name="memory")([forwards, ReverseTexts(name="in_order")(backwards, mask)])  # (b, s, units)

    x = layers.Embedding(target_vocabulary, embedding, name="target_embedding")(target)  # (b, t, embedding)
    if dropout:
        x = Dropout(dropout, name="decoder_dropout")(x)
    x = AttentionDecoder(units, cell, attention, name="decoder_recurrent")(x, memory, mask)  # (b, t, units)
    if dropout:
        x = Dropout(dropout, name="decoder_readout_dropout")(x)
    logits = layers.Dense(target_vocabulary, name="logits")(x)
    return keras.Model([source, target], logits, name=f"{cell}_{attention}_attention")
