"""What a serving model tells of BERT besides its answers: where it looks, and what its tokens are called."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerastoolkit import models
from kerastoolkit.serving.bert import EncoderAttention, PieceNames
from kerastoolkit.serving.word_pieces import MARKS

SIZES = {"vocabulary": 9, "depth": 2, "width": 8, "heads": 2, "feed_forward": 12, "positions": 7}
TOKENS = np.array([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]], "int32")
SEGMENTS = np.array([[0, 0, 0, 1, 1], [0] * 5], "int32")


def network(build=models.bert, **kwargs):
    made = build(**SIZES, **kwargs)
    for variable in made.trainable_variables:
        variable.assign(np.random.default_rng(len(variable.path)).normal(size=variable.shape) * 0.5 + (variable.name == "gamma"))
    return made


def test_pieces_are_named_and_padding_is_empty():
    found = PieceNames([*MARKS, "a", "##\u00e9"])(tf.constant([[2, 5, 6, 3], [1, 3, 0, 0]]))
    names = [[each.decode() for each in row] for row in found.numpy()]
    assert names == [["[CLS]", "a", "##\u00e9", "[SEP]"], ["[UNK]", "[SEP]", "", ""]]


def test_names_are_saved_with_their_layer(tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    keras.Model(tokens, PieceNames([*MARKS, "a"])(tokens)).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded(tf.constant([[5, 0]])).numpy().tolist() == [[b"a", b""]]


@pytest.mark.parametrize("build", [models.bert, lambda **sizes: models.bert_tagger(classes=3, **sizes)])
def test_attention_is_the_mean_of_the_heads_of_each_block(build):
    made = network(build)
    found = EncoderAttention(made)(TOKENS, SEGMENTS)
    assert found.shape == (2, 2, 5, 5)
    # The softmax of the scores, Vaswani et al. 2017, equation 1, from what goes into each block.
    blocks = [made.get_layer(f"encoder_{number}") for number in (1, 2)]
    entering = keras.Model(made.inputs, [block.input[0] for block in blocks])({"tokens": TOKENS, "segments": SEGMENTS})
    for number, (block, x) in enumerate(zip(blocks, entering, strict=True)):
        q, k, _ = block.self_attention.project_all(x)
        scores = ops.convert_to_numpy(ops.matmul(q, ops.swapaxes(k, -1, -2))) / np.sqrt(4)
        weights = np.exp(scores) * (TOKENS != 0)[:, None, None, :]
        expected = (weights / weights.sum(axis=-1, keepdims=True)).mean(axis=1)
        np.testing.assert_allclose(found[:, number], expected, rtol=1e-4, atol=1e-6)
    assert np.abs(found[:, 0] - found[:, 1]).max() > 0.01


def test_attention_is_had_in_a_model_beside_the_networks_answers():
    made = network(models.bert, dropout=0.5)
    tokens, segments = (keras.Input((None,), dtype="int32") for _ in range(2))
    outputs = made([tokens, segments])["pooled"], EncoderAttention(made)(tokens, segments)
    pooled, attention = keras.Model([tokens, segments], outputs)([TOKENS, SEGMENTS])
    np.testing.assert_allclose(pooled, made([TOKENS, SEGMENTS])["pooled"], atol=1e-6)
    np.testing.assert_allclose(attention, EncoderAttention(made)(TOKENS, SEGMENTS), atol=1e-6)
    assert not ops.convert_to_numpy(attention)[1, :, :, 3:].any()  # nobody looks at padding
    np.testing.assert_allclose(np.sum(attention, axis=-1), 1, rtol=1e-5)
