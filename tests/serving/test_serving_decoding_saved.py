"""A model that writes, in files."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import models
from kerastoolkit.formats.saved_model import write_endpoints
from kerastoolkit.serving.decoding import SETTINGS, Decode, SourceAttention

SIZES = {"source_vocabulary": 9, "target_vocabulary": 9}
NETWORKS = [
    pytest.param(lambda: models.transformer(**SIZES, depth=1, width=8, heads=2, feed_forward=12, pointer=True), id="pointer"),
    pytest.param(lambda: models.attention_seq2seq(**SIZES, cell="lstm", attention="dot", units=6, embedding=4), id="recurrent"),
]
ROWS = [{"beams": 1}, {"beams": 3, "no_repeat_ngram": 2}, {"temperature": 1.0, "seed": 1, "no_repeat_ngram": 1},
        {"temperature": 1.0, "seed": 2, "top_k": 4}]  # fmt: skip
GIVEN = {
    "source_tokens": tf.constant([[3, 4, 5, 2], [6, 7, 2, 0], [8, 2, 0, 0], [8, 7, 6, 2]]),
    **{each: tf.constant([{**SETTINGS, "longest": 6, **row}[each] for row in ROWS]) for each in SETTINGS},
}


def as_model(layer):
    kinds = {each: "int32" if isinstance(value, int) else "float32" for each, value in SETTINGS.items()}
    taken = {each: keras.Input((), dtype=kind, name=each) for each, kind in kinds.items()}
    taken = {"source_tokens": keras.Input((None,), dtype="int32", name="source_tokens"), **taken}
    answers = layer(taken)
    attention = SourceAttention(layer, name="attention")(taken["source_tokens"], answers["tokens"])
    return keras.Model(taken, {**answers, "attention": attention})


@pytest.mark.parametrize("network", NETWORKS)
def test_a_model_that_writes_is_saved_exported_and_loaded(network, tmp_path):
    keras.utils.set_random_seed(3)  # with others, all rows may be empty texts
    model = as_model(Decode(network()))
    expected = model(GIVEN)
    assert len({tuple(text) for text in expected["tokens"].numpy()}) > 1
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    write_endpoints({"serve": model}, tmp_path / "exported")
    exported = tf.saved_model.load(tmp_path / "exported")
    for again in (loaded(GIVEN), exported.serve(**GIVEN)):
        np.testing.assert_array_equal(again["tokens"], expected["tokens"])
        np.testing.assert_allclose(again["score"], expected["score"], rtol=1e-5)
        np.testing.assert_allclose(again["attention"], expected["attention"], atol=1e-5)
    assert len(loaded.weights) == len(model.weights)  # writing and looking share one network
