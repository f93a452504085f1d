import math
from types import SimpleNamespace

import numpy as np
import pytest

from kerastoolkit.experiment import InputError
from kerastoolkit.tasks.generation import character_generation, vocabulary


def test_the_loss_is_the_mean_over_real_characters():
    logits = np.zeros((2, 3, vocabulary("ab")), np.float32)
    logits[0, 0, 2] = 5.0
    tokens = np.array([[2, 3, 0], [2, 2, 2]])
    first = math.log(1 + 3 * math.exp(-5))
    losses = character_generation("ab").loss(tokens, logits)
    np.testing.assert_allclose(losses, [(first + math.log(4)) / 2, math.log(4)], rtol=1e-5)


def test_targets_are_the_tokens_that_come_next():
    extra, targets = character_generation("ab").encode({}, {"tokens": np.array([[2, 3, 0]])}, {}, None)
    np.testing.assert_array_equal(extra["tokens"], [[2, 3]])
    np.testing.assert_array_equal(targets, [[3, 0]])


def score(batches):
    made = [
        ({"prompt": np.array([text.encode() for text in texts], object)},
         {"nats": np.array(nats), "characters": np.array([len(text) - 1 for text in texts]),
          "text": np.array([b"x"] * len(texts), object)})
        for texts, nats in batches
    ]  # fmt: skip
    return character_generation("ab").score(made, SimpleNamespace(name="test"), None)


def test_figures_are_per_character_over_all_of_the_text():
    report = score([(["aaabb", "ba"], [6.0, 1.0]), (["a?b"], [5.0])])
    assert report.figures["nats_per_character"] == pytest.approx(12 / 7)
    assert report.figures["bits_per_character"] == pytest.approx(12 / 7 / math.log(2))
    assert report.figures["characters"] == 7
    assert report.figures["unknown_characters"] == 1
    # After the first of each: a a b b, a, ? b.
    shares = np.array([3, 3, 1]) / 7
    (baseline,) = report.baselines.values()
    assert baseline["nats_per_character"] == pytest.approx(-(shares * np.log(shares)).sum())


def test_a_text_without_anything_to_predict_is_refused():
    with pytest.raises(InputError, match="a text of at least 2 characters is needed"):
        score([(["a"], [0.0])])
