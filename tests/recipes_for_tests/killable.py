"""A recipe with everything that a killed run must find again: order, augmentation, dropout, batch norm, a schedule, averaging."""

import os
import signal
from pathlib import Path

import keras

from kerastoolkit import checkpoints
from kerastoolkit.data.augment import shift
from kerastoolkit.data.images import labelled_images
from kerastoolkit.data.preprocessing import standardise
from kerastoolkit.experiment import Experiment
from kerastoolkit.models import cnn
from kerastoolkit.optimizers import OneCycle, sgd
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.tasks.classification import classification
from recipes.bert import bert_pretrain
from recipes.text8 import text8_skipgram
from recipes.translation import multi30k_transformer
from recipes.variational_autoencoders import binary_mnist_vae
from recipes.weather import weather_lstm


def killable(*, epochs: int = 3, learning_rate: float = 0.05, callback: str = "", data: str = "digits") -> Experiment:
    """A tiny network on digits. A file named kill-at beside the working folder says at which flush to the disk to die."""
    _die_at_flush(Path("kill-at"))
    images = labelled_images(data)
    network = cnn(classes=len(images.about["classes"]), input_shape=(8, 8, images.about["channels"]), filters=(4, 8),
                  dense=(8,), dropout=0.3, batch_norm=True)  # fmt: skip
    schedule = learning_rate
    if not callback:
        schedule = OneCycle(learning_rate, epochs * steps_per_epoch(images.train.size, 64))
    callbacks = {
        "": (),
        "stops": (keras.callbacks.EarlyStopping("loss", patience=1, min_delta=100.0, restore_best_weights=True),),
        "slows": (keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=100.0, factor=0.5),),
        "unknown": (keras.callbacks.ModelCheckpoint("never.keras"),),
    }[callback]
    return Experiment(
        data=images, augment=shift(pixels=1), preprocess=standardise(images, size=(8, 8)), network=network,
        task=classification(images.about["classes"]),
        optimizer=sgd(network, schedule, weight_decay=5e-4, nesterov=True, average=0.9),
        epochs=epochs, batch_size=64, callbacks=callbacks)  # fmt: skip


def killable_series(*, data: str = "series.csv") -> Experiment:
    """A small recurrent network, compiled by XLA and with dropout, on a series beside the working folder."""
    _die_at_flush(Path("kill-at"))
    return weather_lstm(data=data, window=8, horizon=4, units=8, dropout=0.3, epochs=4, batch_size=16)


def killable_variational(*, data: str = "digits") -> Experiment:
    """A small dense variational autoencoder, compiled by XLA, with random numbers in the network and in its targets."""
    _die_at_flush(Path("kill-at"))
    return binary_mnist_vae(data=data, latent=2, hidden=(8,), epochs=3, batch_size=64)


def killable_words(*, data: str = "sample") -> Experiment:
    """Skip-gram on a few sonnets: blocks read from an array on disk, sub-sampling, windows and noise words drawn at random."""
    _die_at_flush(Path("kill-at"))
    return text8_skipgram(data=data, dimensions=4, min_count=2, block=64, segment=16, window=2, noise=4, epochs=4, batch_size=2)


def killable_translation(*, data: str = "pairs.tsv") -> Experiment:
    """A small Transformer on pairs beside the working folder: learned sub-words, steps by tokens, dropout, averaged weights."""
    _die_at_flush(Path("kill-at"))
    return multi30k_transformer(data=data, depth=1, width=8, heads=2, feed_forward=16, vocabulary=280, epochs=3, batch_tokens=128,
                                averaged=2, warm_up_steps=10)  # fmt: skip


def killable_pretraining(*, data: str = "sample") -> Experiment:
    """A tiny BERT on a few sonnets: learned word pieces, masks and next sentences drawn anew in each epoch, dropout."""
    _die_at_flush(Path("kill-at"))
    return bert_pretrain(data=data, vocabulary=200, longest=32, dropout=0.1, epochs=3, batch_size=8, batch_tokens=256)


def _die_at_flush(path: Path) -> None:
    if not path.exists():
        return
    left, real = [int(path.read_text())], os.fsync

    def fsync(descriptor):
        left[0] -= 1
        if left[0] == 0:
            path.unlink()  # the next process lives
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    checkpoints.os.fsync = fsync
