import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.layers import LocalResponseNormalization


def test_it_is_tensorflows_operation():
    x = np.random.default_rng(0).normal(scale=30.0, size=(2, 3, 4, 9)).astype("float32")
    ours = LocalResponseNormalization(size=5, bias=2.0, alpha=1e-3, beta=0.75)(x)
    theirs = tf.nn.local_response_normalization(x, depth_radius=2, bias=2.0, alpha=1e-3, beta=0.75)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_large_values_of_16_bits_do_not_overflow():
    layer = LocalResponseNormalization(dtype="float16")
    answer = layer(np.full((1, 2, 2, 6), 300.0, "float16"))  # 300 squared is beyond float16
    assert answer.dtype == "float16"
    # The middle channels see five: 300 / (2 + 1e-4 * 5 * 300 ** 2) ** 0.75, by hand.
    np.testing.assert_allclose(np.asarray(answer)[0, 0, 0, 2], 300 / 47**0.75, rtol=2e-3)


@pytest.mark.parametrize("size", [0, 4, -1])
def test_an_even_or_empty_neighbourhood_is_refused(size):
    with pytest.raises(ValueError, match=f"size must be a positive odd integer, got {size}"):
        LocalResponseNormalization(size=size)
