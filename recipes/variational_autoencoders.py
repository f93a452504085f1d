"""Variational autoencoders on small images (Kingma & Welling 2013, https://arxiv.org/abs/1312.6114)."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

import keras

from kerastoolkit.data.preprocessing import intensities
from kerastoolkit.data.unlabelled import unlabelled_images
from kerastoolkit.experiment import Experiment, InputError
from kerastoolkit.models import variational_autoencoder
from kerastoolkit.optimizers import OneCycle
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.tasks.variational import variational


def mnist_vae(
    *, latent: int = 2, filters: tuple[int, ...] = (), hidden: tuple[int, ...] = (500, 500), activation: str = "leaky_relu",
    likelihood: str = "bernoulli", binarisation: str = "none", beta: float = 1.0, free_bits: float = 0.0, epochs: int = 30,
    batch_size: int = 128, learning_rate: float = 0.002, size: int | None = None, validation: float | None = None,
    data: str = "mnist",
) -> Experiment:  # fmt: skip
    """VAE with a code of two numbers, dense by default; keras.io's example reports 146.95 nats, test images trained on."""
    return _variational(**locals())


def fashion_mnist_vae(
    *, latent: int = 10, filters: tuple[int, ...] = (), hidden: tuple[int, ...] = (500, 500), activation: str = "leaky_relu",
    likelihood: str = "bernoulli", binarisation: str = "none", beta: float = 1.0, free_bits: float = 0.0, epochs: int = 30,
    batch_size: int = 128, learning_rate: float = 0.002, size: int | None = None, validation: float | None = None,
    data: str = "fashion_mnist",
) -> Experiment:  # fmt: skip
    """VAE of clothes with a code of ten numbers, dense by default (https://arxiv.org/abs/1708.07747)."""
    return _variational(**locals())


def binary_mnist_vae(
    *, latent: int = 50, filters: tuple[int, ...] = (), hidden: tuple[int, ...] = (500, 500), activation: str = "leaky_relu",
    likelihood: str = "bernoulli", binarisation: str = "sampled", beta: float = 1.0, free_bits: float = 0.0, epochs: int = 600,
    batch_size: int = 250, learning_rate: float = 0.002, size: int | None = None, validation: float | None = 0.0,
    data: str = "mnist",
) -> Experiment:  # fmt: skip
    """Dense VAE of binarised digits, beside the narrower one of 86.76 nats in Burda et al. (https://arxiv.org/abs/1509.00519)."""
    return _variational(**locals())


def _variational(*, latent, filters, hidden, activation, likelihood, binarisation, beta, free_bits, epochs, batch_size,
                 learning_rate, size, validation, data):  # fmt: skip
    if binarisation == "sampled" and likelihood != "bernoulli":
        raise InputError(f"binarisation sampled needs the likelihood bernoulli, got {likelihood}")
    images = unlabelled_images(data, size, validation)
    network = variational_autoencoder(
        input_shape=images.about["shape"], latent=latent, filters=filters, hidden=hidden, activation=activation,
        likelihood=likelihood, beta=beta, free_bits=free_bits)  # fmt: skip
    schedule = OneCycle(learning_rate, epochs * steps_per_epoch(images.train.size, batch_size), rise=0.05)
    return Experiment(
        data=images, preprocess=intensities(images), network=network, task=variational(binarisation),
        optimizer=keras.optimizers.Adam(schedule), epochs=epochs, batch_size=batch_size,
        # XLA makes dense networks faster on CPUs; convolutional ones and a random number for each pixel slower.
        jit_compile=not filters and binarisation == "none")  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(mnist_vae)
