"""Recurrent networks that write like Shakespeare, character by character (Karpathy 2015,
https://karpathy.github.io/2015/05/21/rnn-effectiveness/). nanoGPT's README reports 1.88 nats for a small GPT in 3 minutes on a
CPU and 1.4697 for a larger one in 3 minutes on an A100, both on the last tenth of the text.

All windows of a training have one length, so that XLA can compile the loops over time once."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

import keras

from kerastoolkit.data.text import random_window, text
from kerastoolkit.experiment import Experiment
from kerastoolkit.models import recurrent_language_model
from kerastoolkit.optimizers import OneCycle
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.tasks.generation import character_generation, character_tokens, vocabulary


def shakespeare_lstm(
    *, units: int = 512, depth: int = 1, embedding: int = 64, window: int = 128, dropout: float = 0.3, epochs: int = 20,
    batch_size: int = 32, learning_rate: float = 0.003, data: str = "tiny_shakespeare",
    jit_compile: bool | None = True,
) -> Experiment:  # fmt: skip
    """Characters of Shakespeare by an LSTM."""
    return _characters("lstm", **locals())


def shakespeare_gru(
    *, units: int = 512, depth: int = 1, embedding: int = 64, window: int = 128, dropout: float = 0.3, epochs: int = 20,
    batch_size: int = 32, learning_rate: float = 0.003, data: str = "tiny_shakespeare",
    jit_compile: bool | None = True,
) -> Experiment:  # fmt: skip
    """Characters of Shakespeare by a GRU."""
    return _characters("gru", **locals())


def shakespeare_rnn(
    *, units: int = 512, depth: int = 1, embedding: int = 64, window: int = 128, dropout: float = 0.1, epochs: int = 20,
    batch_size: int = 32, learning_rate: float = 0.001, data: str = "tiny_shakespeare",
    jit_compile: bool | None = True,
) -> Experiment:  # fmt: skip
    """Characters of Shakespeare by a simple recurrent network."""
    return _characters("simple_rnn", **locals())


def _characters(cell, *, units, depth, embedding, window, dropout, epochs, batch_size, learning_rate, data, jit_compile):
    texts = text(data, window=window)
    characters = texts.about["characters"]
    network = recurrent_language_model(
        cell=cell, vocabulary=vocabulary(characters), units=units, depth=depth, embedding=embedding, dropout=dropout,
        jit_compile=jit_compile)  # fmt: skip
    schedule = OneCycle(learning_rate, epochs * steps_per_epoch(texts.train.size, batch_size), rise=0.1)
    return Experiment(
        data=texts, augment=random_window(characters=window + 1), preprocess=character_tokens(characters), network=network,
        task=character_generation(characters), optimizer=keras.optimizers.Adam(schedule, global_clipnorm=1.0),
        epochs=epochs, batch_size=batch_size)  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(shakespeare_lstm)
