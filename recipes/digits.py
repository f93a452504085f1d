"""A small convolutional network on scikit-learn's 8 x 8 handwritten digits: the whole toolkit in under a minute, offline."""

from kerastoolkit.data.augment import shift
from kerastoolkit.data.images import labelled_images
from kerastoolkit.data.preprocessing import standardise
from kerastoolkit.experiment import Experiment
from kerastoolkit.models import cnn
from kerastoolkit.optimizers import OneCycle, sgd
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.tasks.classification import classification


def digits_cnn(
    *, epochs: int = 60, batch_size: int = 64, learning_rate: float = 0.05, dropout: float = 0.3, data: str = "digits"
) -> Experiment:
    """Convolutional network on 8 x 8 digits (LeCun et al. 1998's kind of network, https://doi.org/10.1109/5.726791)."""
    images = labelled_images(data)
    network = cnn(classes=len(images.about["classes"]), input_shape=(8, 8, images.about["channels"]), filters=(32, 64),
                  dense=(128,), dropout=dropout, batch_norm=True)  # fmt: skip
    schedule = OneCycle(learning_rate, epochs * steps_per_epoch(images.train.size, batch_size))
    return Experiment(
        data=images, augment=shift(pixels=1), preprocess=standardise(images, size=(8, 8)), network=network,
        task=classification(images.about["classes"]),
        optimizer=sgd(network, schedule, weight_decay=5e-4, nesterov=True, average=0.98),
        epochs=epochs, batch_size=batch_size)  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(digits_cnn)
