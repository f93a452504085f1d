"""What an autoencoder's SavedModel does beside answering: encode, decode, reconstruct; sample and estimate likelihoods.

Each endpoint is made from the serving model, so from the layers that answer.
"""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from kerastoolkit.layers.gaussian_sample import kl_to_standard_normal
from kerastoolkit.losses import image_nll, sum_per_example
from kerastoolkit.serving.model import inner_layer
from kerastoolkit.serving.random_numbers import normals

# Numbers that the likelihood estimate lets the decoder's widest layer make at once, 16 MB: more is no faster and takes memory.
NUMBERS_AT_ONCE = 4_000_000


def autoencoder_answer(network: keras.Model, *, with_code: bool) -> keras.Model:
    """Intensities -> what ``serve`` answers, all without random numbers: a variational code is the posterior's mean.

    Input   image           (batch, height, width, channels) float32, 0..1
    Output  a dict
            image           the same, as pixels 0..255: the image as the network saw it
            reconstruction  same shape, pixels 0..255
            code            (batch, ...) float32, if ``with_code``
    """
    inputs = keras.Input(network.inputs[0].shape[1:], name=network.inputs[0].name)
    code = _code(network.get_layer("encoder")(inputs))
    answers = {
        "image": keras.layers.Rescaling(255.0, name="image_pixels")(inputs),
        "reconstruction": _pixels("reconstruction")(_logits(network.get_layer("decoder")(code))),
    }
    return keras.Model(inputs, {**answers, "code": code} if with_code else answers, name="answer")


def coding_endpoints(decoded: keras.Model) -> dict[str, keras.Model]:
    """encode, decode and reconstruct, from the decoded part of an autoencoder's serving model.

    encode       image (batch, height, width, channels) pixels -> code, and of a variational one mean and log_variance
    decode       code (batch, ...) -> image, pixels 0..255
    reconstruct  image -> reconstruction, pixels 0..255
    """
    preprocess, encoder, decoder = (inner_layer(decoded, name) for name in ("preprocess", "encoder", "decoder"))
    image = keras.Input(decoded.inputs[0].shape[1:], name=decoded.inputs[0].name)
    encoded = encoder(preprocess(image))
    code = keras.Input(decoder.inputs[0].shape[1:], name="code")
    posterior = encoded if isinstance(encoded, dict) else {}
    return {
        "encode": keras.Model(image, {"code": _code(encoded), **posterior}, name="encode"),
        "decode": keras.Model(code, {"image": _pixels("image")(_logits(decoder(code)))}, name="decode"),
        "reconstruct": keras.Model(
            image, {"reconstruction": _pixels("reconstruction")(_logits(decoder(_code(encoded))))}, name="reconstruct"
        ),
    }


def variational_endpoints(decoded: keras.Model) -> dict[str, keras.Model]:
    """Those of ``coding_endpoints``, sample, and log_likelihood.

    sample          seed (batch,) int32 -> image, pixels 0..255: a draw from the prior for each seed, decoded
    log_likelihood  image, samples (batch,) int32 and seed (batch,) int32 -> what ``LogLikelihood`` states
    """
    preprocess, encoder, decoder = (inner_layer(decoded, name) for name in ("preprocess", "encoder", "decoder"))
    seed = keras.Input((), dtype="int32", name="seed")
    drawn = decoder(PriorSample(decoder.inputs[0].shape[1], name="prior")(seed))
    image = keras.Input(decoded.inputs[0].shape[1:], name=decoded.inputs[0].name)
    samples = keras.Input((), dtype="int32", name="samples")
    intensities = preprocess(image)
    given = {"image": intensities, **encoder(intensities), "samples": samples, "seed": seed}
    likelihood = LogLikelihood(decoder, name="likelihood")(given)
    return {
        **coding_endpoints(decoded),
        "sample": keras.Model(seed, {"image": _pixels("image")(_logits(drawn))}, name="sample"),
        "log_likelihood": keras.Model([image, samples, seed], likelihood, name="log_likelihood"),
    }


def _code(encoded):
    return encoded["mean"] if isinstance(encoded, dict) else encoded


def _logits(decoded):
    return decoded["logits"] if isinstance(decoded, dict) else decoded


def _pixels(name: str):
    squash, scale = keras.layers.Activation("sigmoid", name=f"{name}_intensities"), keras.layers.Rescaling(255.0, name=name)
    return lambda logits: scale(squash(logits))


class PriorSample(keras.layers.Layer):
    """seed (batch,) int32 -> code (batch, latent) float32 from the standard normal, by each seed alone."""

    def __init__(self, latent: int, **kwargs):
        super().__init__(**kwargs)
        self.latent = latent

    def call(self, seed):
        return normals(_pairs(seed), (self.latent,))

    def compute_output_spec(self, seed):
        return keras.KerasTensor((seed.shape[0], self.latent), dtype="float32")


class LogLikelihood(keras.layers.Layer):
    """Bounds on and estimates of the log-likelihood of images under a variational autoencoder, in nats.

    log_likelihood is the importance-weighted estimate log mean_k p(x | z_k) p(z_k) / q(z_k | x): Burda et al. 2015, equation 8,
    https://arxiv.org/abs/1509.00519. It is a lower bound in expectation, and rises with k.

    Input   a dict
            image              (batch, height, width, channels) float32, 0..1, taken as it is: binarise before
            mean, log_variance (batch, latent) float32, of the posterior
            samples            (batch,) int32, k; the largest counts for all
            seed               (batch,) int32; an image's estimate depends on its own seed alone
    Output  a dict of (batch,) float32
            log_likelihood     the estimate
            expected_log_likelihood  the mean of log p(x | z) over the samples
            divergence         of the posterior from the prior
            elbo               expected_log_likelihood - divergence
    """

    def __init__(self, decoder: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.decoder = decoder
        widest = max(math.prod(tensor.shape[1:]) for layer in decoder.layers for tensor in tf.nest.flatten(layer.output))
        self.decoded_at_once = NUMBERS_AT_ONCE // widest

    def call(self, inputs):
        image, mean, log_variance = inputs["image"], inputs["mean"], inputs["log_variance"]
        batch, latent = tf.shape(mean)[0], mean.shape[1]
        wanted = tf.maximum(tf.reduce_max(inputs["samples"]), 1)
        chunk = tf.clip_by_value(self.decoded_at_once // tf.maximum(batch, 1), 1, wanted)
        pairs, deviation = _pairs(inputs["seed"]), tf.exp(0.5 * log_variance)

        def body(done, highest, scaled, total):
            # Seeds by the number of the sample, so that how many are taken at once changes nothing.
            numbers = done + tf.range(chunk)
            seeds = tf.reshape(tf.stack([tf.broadcast_to(pairs[:, None, 0], (batch, chunk)),
                                         tf.broadcast_to(numbers[None], (batch, chunk))], axis=2), (-1, 2))  # fmt: skip
            noise = tf.reshape(normals(seeds, (latent,), stream=1), (batch, chunk, latent))
            code = mean[:, None] + deviation[:, None] * noise
            outputs = self.decoder(tf.reshape(code, (-1, latent)))
            repeated = tf.repeat(image, chunk, axis=0)
            fit = -tf.reshape(image_nll(repeated, outputs), (batch, chunk))
            # log p(z) - log q(z | x); the factors of 2 pi cancel.
            prior = tf.reduce_sum(0.5 * (tf.square(noise) - tf.square(code) + log_variance[:, None]), axis=2)
            inside = (numbers < wanted)[None]
            weights = tf.where(inside, fit + prior, float("-inf"))
            new_highest = tf.maximum(highest, tf.reduce_max(weights, axis=1))
            scaled = scaled * tf.exp(highest - new_highest) + tf.reduce_sum(tf.exp(weights - new_highest[:, None]), axis=1)
            return done + chunk, new_highest, scaled, total + tf.reduce_sum(tf.where(inside, fit, 0.0), axis=1)

        start = (tf.constant(0), tf.fill((batch,), float("-inf")), tf.zeros((batch,)), tf.zeros((batch,)))
        # Said, because a batch whose size is known while this is traced would be refused when the body loses it.
        shapes = (tf.TensorShape(()), *3 * (tf.TensorShape((None,)),))
        _, highest, scaled, total = tf.while_loop(lambda done, *_: done < wanted, body, start, shape_invariants=shapes)
        count = tf.cast(wanted, tf.float32)
        divergence, fit = sum_per_example(kl_to_standard_normal(mean, log_variance)), total / count
        return {"log_likelihood": highest + tf.math.log(scaled / count), "expected_log_likelihood": fit,
                "divergence": divergence, "elbo": fit - divergence}  # fmt: skip

    def compute_output_spec(self, inputs):
        names = ("log_likelihood", "expected_log_likelihood", "divergence", "elbo")
        return {name: keras.KerasTensor((inputs["mean"].shape[0],), dtype="float32") for name in names}


def _pairs(seed):
    return tf.stack([tf.cast(seed, tf.int32), tf.zeros_like(seed, tf.int32)], axis=1)
