"""Variational autoencoders, dense or convolutional."""

import math
from collections.abc import Sequence

import keras
from keras import layers, ops

from kerastoolkit.layers import GaussianSample
from kerastoolkit.models._encoder_decoder import check, features_of, image, image_of

LIKELIHOODS = ("bernoulli", "gaussian")
# A pixel that never changes, as in the corners of MNIST, would else have a density without bound: 0.02 is 5 grey levels.
LEAST_PIXEL_LOG_VARIANCE = 2 * math.log(0.02)


def variational_autoencoder(
    *,
    input_shape: tuple[int, int, int],
    latent: int = 2,
    filters: Sequence[int] = (),
    hidden: Sequence[int] = (500,),
    decoder_hidden: Sequence[int] | None = None,
    activation: str = "relu",
    likelihood: str = "bernoulli",
    beta: float = 1.0,
    free_bits: float = 0.0,
) -> keras.Model:
    """Variational autoencoder: Kingma & Welling 2013, https://arxiv.org/abs/1312.6114, appendix C.

    The posterior is a diagonal Gaussian, the prior a standard normal. ``network.get_layer("encoder")`` gives mean and
    log_variance, ``network.get_layer("decoder")`` what a code is decoded to. The divergence, weighed by ``beta``, is one of
    ``network.losses``: a loss on the outputs needs to add only the negative log-likelihood.

    Input   image         (batch, height, width, channels) float32, intensities 0..1
    Output  logits        same shape; their sigmoid is each pixel's probability or, for "gaussian", its mean
            mean          (batch, latent), of the posterior
            log_variance  (batch, latent), of the posterior
            pixel_log_variance  (batch, height, width, channels), of the pixels, for "gaussian" only

    Args:
        input_shape: (height, width, channels) in pixels.
        latent: dimensions of the code.
        filters: channels of 3 x 3 convolutions of stride 2, undone by transposed ones; () for a dense network.
        hidden: units of the encoder's dense layers, after the convolutions.
        decoder_hidden: units of the decoder's dense layers, as the encoder would have them; by default ``hidden``.
        activation: "relu", "leaky_relu", "elu", "softplus", "tanh" (the paper's) or "sigmoid".
        likelihood: "bernoulli" or "gaussian", with a variance for each pixel.
        beta: weight of the divergence, 0 or more (Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl).
        free_bits: nats of each latent dimension that cost nothing (Kingma et al. 2016, equation 15,
            https://arxiv.org/abs/1606.04934).
    Raises:
        ValueError: an argument is not one of the above.
    Differs from the paper: the standard deviation of a pixel is at least 0.02.
    """
    back = hidden if decoder_hidden is None else decoder_hidden
    check(activation=activation, latent=latent, filters=filters, hidden=hidden, decoder_hidden=back)
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood must be {' or '.join(map(repr, LIKELIHOODS))}, got {likelihood!r}")
    sample = GaussianSample(beta, free_bits, name="sample")
    inputs, encoder_inputs, shape = image(input_shape), image(input_shape), tuple(input_shape)

    x = features_of(encoder_inputs, filters=filters, hidden=hidden, activation=activation)
    posterior = {name: layers.Dense(latent, name=name)(x) for name in ("mean", "log_variance")}
    encoder = keras.Model(encoder_inputs, posterior, name="encoder")

    code = keras.Input((latent,), name="code")
    twice = 2 if likelihood == "gaussian" else 1
    pixels = image_of(code, shape=(*shape[:2], twice * shape[2]), filters=filters, hidden=back, activation=activation,
                      name="pixel_parameters" if twice == 2 else "logits")  # fmt: skip
    decoded = {"logits": pixels}
    if twice == 2:
        spread = ops.maximum(pixels[..., shape[2] :], LEAST_PIXEL_LOG_VARIANCE)
        decoded = {"logits": pixels[..., : shape[2]], "pixel_log_variance": spread}
    decoder = keras.Model(code, decoded, name="decoder")

    posterior = encoder(inputs)
    outputs = decoder(sample([posterior["mean"], posterior["log_variance"]]))
    return keras.Model(inputs, {**outputs, **posterior}, name="variational_autoencoder")
