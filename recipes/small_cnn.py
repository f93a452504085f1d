"""Small convolutional networks on small images: convolution, pooling, dense (LeCun et al. 1998's kind of network,
https://doi.org/10.1109/5.726791)."""

from kerastoolkit.data.augment import pad_crop_flip, shift
from kerastoolkit.data.images import labelled_images
from kerastoolkit.data.preprocessing import standardise
from kerastoolkit.experiment import Experiment
from kerastoolkit.models import cnn
from kerastoolkit.optimizers import OneCycle, sgd
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.tasks.classification import classification


def digits_cnn(
    *, epochs: int = 100, batch_size: int = 64, learning_rate: float = 0.05, dropout: float = 0.3, data: str = "digits"
) -> Experiment:
    """Convolutional network on scikit-learn's 8 x 8 digits: everything in under a minute, offline."""
    return _small(data, (8, 8), (32, 64), 128, shift(pixels=1), epochs, batch_size, learning_rate, dropout)


def mnist_cnn(
    *, epochs: int = 12, batch_size: int = 128, learning_rate: float = 0.1, dropout: float = 0.4, data: str = "mnist"
) -> Experiment:
    """Convolutional network on MNIST's 28 x 28 digits."""
    return _small(data, (28, 28), (32, 64), 128, shift(pixels=2), epochs, batch_size, learning_rate, dropout)


def fashion_mnist_cnn(
    *, epochs: int = 20, batch_size: int = 128, learning_rate: float = 0.1, dropout: float = 0.4, data: str = "fashion_mnist"
) -> Experiment:
    """Convolutional network on Fashion-MNIST's 28 x 28 photographs of clothes (https://arxiv.org/abs/1708.07747)."""
    return _small(data, (28, 28), (32, 64), 256, pad_crop_flip(pixels=2), epochs, batch_size, learning_rate, dropout)


def cifar10_cnn(
    *, epochs: int = 20, batch_size: int = 128, learning_rate: float = 0.1, dropout: float = 0.4, data: str = "cifar10"
) -> Experiment:
    """Convolutional network on CIFAR-10: three stages, the step before residual networks."""
    return _small(data, (32, 32), (32, 64, 128), 256, pad_crop_flip(pixels=4), epochs, batch_size, learning_rate, dropout)


def _small(data, size, filters, dense, augment, epochs, batch_size, learning_rate, dropout) -> Experiment:
    images = labelled_images(data)
    network = cnn(classes=len(images.about["classes"]), input_shape=(*size, images.about["channels"]), filters=filters,
                  dense=(dense,), dropout=dropout, batch_norm=True)  # fmt: skip
    schedule = OneCycle(learning_rate, epochs * steps_per_epoch(images.train.size, batch_size))
    return Experiment(
        data=images, augment=augment, preprocess=standardise(images, size=size), network=network,
        task=classification(images.about["classes"]),
        optimizer=sgd(network, schedule, weight_decay=5e-4, nesterov=True, average=0.98),
        epochs=epochs, batch_size=batch_size)  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(digits_cnn)
