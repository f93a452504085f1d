"""Autoencoders on small images: deep (Hinton & Salakhutdinov 2006, https://doi.org/10.1126/science.1127647), convolutional
(Masci et al. 2011, https://doi.org/10.1007/978-3-642-21735-7_7), sparse (Ng 2011,
https://web.stanford.edu/class/cs294a/sparseAutoencoder.pdf) and denoising (Vincent et al. 2010,
https://jmlr.org/papers/v11/vincent10a.html)."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

import keras

from kerastoolkit.data.preprocessing import intensities
from kerastoolkit.data.unlabelled import unlabelled_images
from kerastoolkit.experiment import Data, Experiment, Task
from kerastoolkit.layers import Corruption
from kerastoolkit.models import convolutional_autoencoder, deep_autoencoder, denoising_autoencoder, sparse_autoencoder
from kerastoolkit.optimizers import OneCycle
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.tasks.denoising import denoising
from kerastoolkit.tasks.reconstruction import reconstruction


def mnist_autoencoder(
    *, code: int = 30, hidden: tuple[int, ...] = (1000, 500, 250), activation: str = "elu", epochs: int = 60,
    batch_size: int = 250, learning_rate: float = 0.003, weight_decay: float = 0.15, loss: str = "squared_error",
    size: int | None = None, validation: float | None = None, data: str = "mnist",
) -> Experiment:  # fmt: skip
    """Deep autoencoder, 784-1000-500-250-30; the paper reports a squared error of 3.00 per test image, PCA 13.87."""
    images = unlabelled_images(data, size, validation)
    network = deep_autoencoder(input_shape=images.about["shape"], code=code, hidden=hidden, activation=activation)
    return _experiment(images, network, reconstruction(loss), epochs, batch_size, learning_rate, weight_decay)


def mnist_convolutional_autoencoder(
    *, code: int = 30, filters: tuple[int, ...] = (16, 32), hidden: tuple[int, ...] = (256,), epochs: int = 20,
    batch_size: int = 128, learning_rate: float = 0.002, loss: str = "squared_error", size: int | None = None,
    validation: float | None = None, data: str = "mnist",
) -> Experiment:  # fmt: skip
    """Convolutional autoencoder with a code of 30 numbers."""
    images = unlabelled_images(data, size, validation)
    network = convolutional_autoencoder(input_shape=images.about["shape"], code=code, filters=filters, hidden=hidden)
    return _experiment(images, network, reconstruction(loss), epochs, batch_size, learning_rate)


def mnist_sparse_autoencoder(
    *, code: int = 196, penalty: str = "kullback_leibler", weight: float = 1.0, target_rate: float = 0.05, epochs: int = 30,
    batch_size: int = 256, learning_rate: float = 0.003, loss: str = "squared_error", size: int | None = None,
    validation: float | None = None, data: str = "mnist",
) -> Experiment:  # fmt: skip
    """Sparse autoencoder with 196 units whose mean activation is pulled to 0.05."""
    images = unlabelled_images(data, size, validation)
    network = sparse_autoencoder(input_shape=images.about["shape"], code=code, penalty=penalty, weight=weight,
                                 target_rate=target_rate)  # fmt: skip
    # A sigmoid is never 0: a tenth counts as active.
    task = reconstruction(loss, active_above=0.0 if penalty == "l1" else 0.1)
    return _experiment(images, network, task, epochs, batch_size, learning_rate)


def mnist_denoising_autoencoder(
    *, noise: str = "masking", levels: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5),
    hidden: tuple[int, ...] = (1000, 1000), epochs: int = 30, batch_size: int = 256, learning_rate: float = 0.001,
    loss: str = "squared_error", size: int | None = None, validation: float | None = None, data: str = "mnist",
) -> Experiment:  # fmt: skip
    """Denoising autoencoder; masking, salt-and-pepper or Gaussian noise, scored at five levels beside a median filter."""
    images = unlabelled_images(data, size, validation, noise, levels)
    network = denoising_autoencoder(input_shape=images.about["shape"], noise=noise, level=(min(levels), max(levels)),
                                    hidden=hidden)  # fmt: skip
    return _experiment(images, network, denoising(loss), epochs, batch_size, learning_rate)


def cifar10_denoising_autoencoder(
    *, noise: str = "gaussian", levels: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.25), filters: tuple[int, ...] = (32, 64),
    epochs: int = 12, batch_size: int = 128, learning_rate: float = 0.002, loss: str = "squared_error", size: int | None = None,
    validation: float | None = None, data: str = "cifar10",
) -> Experiment:  # fmt: skip
    """Convolutional denoising autoencoder on colour photographs, scored at five levels beside a median filter."""
    images = unlabelled_images(data, size, validation, noise, levels)
    network = denoising_autoencoder(input_shape=images.about["shape"], noise=noise, level=(min(levels), max(levels)),
                                    filters=filters)  # fmt: skip
    return _experiment(images, network, denoising(loss), epochs, batch_size, learning_rate)


def _experiment(images: Data, network: keras.Model, task: Task, epochs: int, batch_size: int, learning_rate: float,
                weight_decay: float = 0.0) -> Experiment:  # fmt: skip
    schedule = OneCycle(learning_rate, epochs * steps_per_epoch(images.train.size, batch_size))
    layers = [*network.layers, *network.get_layer("encoder").layers]
    return Experiment(
        data=images, preprocess=intensities(images), network=network, task=task,
        # Decoupled from the gradient (Loshchilov & Hutter 2017): weights shrink by the learning rate times the decay each step.
        optimizer=keras.optimizers.Adam(schedule, weight_decay=weight_decay or None), epochs=epochs, batch_size=batch_size,
        # XLA makes dense networks faster on CPUs; convolutional ones and a random number for each pixel slower.
        jit_compile=not any(isinstance(layer, (keras.layers.Conv2D, Corruption)) for layer in layers))  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(mnist_autoencoder)
