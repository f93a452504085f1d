"""Inception modules on CIFAR-10 (Szegedy et al. 2014, https://arxiv.org/abs/1409.4842, table 1)."""

from kerastoolkit.data.augment import pad_crop_flip
from kerastoolkit.data.images import labelled_images
from kerastoolkit.data.preprocessing import standardise
from kerastoolkit.experiment import Experiment
from kerastoolkit.models import googlenet_cifar
from kerastoolkit.optimizers import OneCycle, sgd
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.tasks.classification import classification


def cifar10_inception(
    *, epochs: int = 60, batch_size: int = 128, learning_rate: float = 0.1, weight_decay: float = 5e-4, data: str = "cifar10"
) -> Experiment:
    """GoogLeNet's nine modules behind a 3 x 3 stem, with batch normalization and no auxiliary heads."""
    images = labelled_images(data)
    network = googlenet_cifar(classes=len(images.about["classes"]), input_shape=(32, 32, images.about["channels"]))
    schedule = OneCycle(learning_rate, epochs * steps_per_epoch(images.train.size, batch_size))
    return Experiment(
        data=images, augment=pad_crop_flip(pixels=4), preprocess=standardise(images, size=(32, 32)), network=network,
        task=classification(images.about["classes"]),
        optimizer=sgd(network, schedule, weight_decay=weight_decay, nesterov=True),
        epochs=epochs, batch_size=batch_size)  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(cifar10_inception)
