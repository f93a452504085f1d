"""A recipe without dropout and batch norm, which many workers train to the weights of one but for rounding."""

import keras

from kerastoolkit.data.augment import shift
from kerastoolkit.data.images import labelled_images
from kerastoolkit.data.preprocessing import standardise
from kerastoolkit.experiment import Experiment
from kerastoolkit.models import cnn
from kerastoolkit.tasks.classification import classification


def plain(*, epochs: int = 2, batch_size: int = 64, learning_rate: float = 0.01, dropout: float = 0.0, batch_norm: bool = False,
          distribution: bool = False, data: str = "digits") -> Experiment:  # fmt: skip
    """A small network on digits, by plain gradient descent, so that rounding is not made larger."""
    images = labelled_images(data)
    network = cnn(classes=10, input_shape=(8, 8, 1), filters=(4, 8), dense=(8,), dropout=dropout, batch_norm=batch_norm)
    if distribution:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=["cpu:0"]))
    return Experiment(
        data=images, augment=shift(pixels=1), preprocess=standardise(images, size=(8, 8)), network=network,
        task=classification(images.about["classes"]), optimizer=keras.optimizers.SGD(learning_rate, momentum=0.9),
        epochs=epochs, batch_size=batch_size)  # fmt: skip
