"""The code of a variational autoencoder: a sample of the posterior, and what its distance from the prior costs."""

import keras
from keras import ops

from kerastoolkit import replicas


def kl_to_standard_normal(mean, log_variance):
    """Kullback-Leibler divergence of N(mean, exp(log_variance)) from N(0, 1), for each number: Kingma & Welling 2013, appendix B,
    https://arxiv.org/abs/1312.6114.

    Input   mean, log_variance  (...) float
    Output  divergence          same shape, nats, 0 or more
    """
    return 0.5 * (ops.exp(log_variance) + ops.square(mean) - 1.0 - log_variance)


@keras.saving.register_keras_serializable(package="kerastoolkit")
class GaussianSample(keras.layers.Layer):
    """A reparameterised sample of a diagonal Gaussian posterior, whose divergence from the standard normal is added to the
    network's loss: Kingma & Welling 2013, sections 2.4 and 3, https://arxiv.org/abs/1312.6114.

    The loss added is beta * sum over dimensions of max(free_bits, mean over the batch of the divergence). It samples in training
    and outside, so that the loss is an estimate of the bound in both.

    Input   [mean, log_variance]  (batch, latent) float each
    Output  code                  (batch, latent), mean + exp(log_variance / 2) * noise

    Args:
        beta: weight of the divergence, 0 or more (Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl).
        free_bits: nats of each dimension, 0 or more, below which its divergence costs no less (Kingma et al. 2016, equation 15,
            https://arxiv.org/abs/1606.04934; each dimension is a group of its own).
        seed: of the noise, an int.
    Raises:
        ValueError: beta or free_bits is negative.
    """

    def __init__(self, beta: float = 1.0, free_bits: float = 0.0, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        for name, value in (("beta", beta), ("free_bits", free_bits)):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, got {value!r}")
        self.beta, self.free_bits, self.seed = beta, free_bits, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        mean, log_variance = inputs
        divergence = ops.mean(kl_to_standard_normal(mean, log_variance), axis=0)  # (latent,)
        if self.free_bits:  # else the mean of the replicas' losses is the batch's
            examples = ops.cast(ops.shape(mean)[0], divergence.dtype)
            divergence = replicas.summed(divergence * examples) / replicas.summed(examples)
        self.add_loss(self.beta * ops.sum(ops.maximum(divergence, self.free_bits)))
        noise = replicas.normal(mean, ops.shape(mean), self.seed_generator)
        return mean + ops.exp(0.5 * log_variance) * noise

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return super().get_config() | {"beta": self.beta, "free_bits": self.free_bits, "seed": self.seed}
