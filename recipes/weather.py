"""Weather some steps ahead by recurrent networks, beside persistence, the season before and linear autoregressions.

The loss is the absolute error, by which forecasts are judged; the network learns differences from the last row, and sees the time
of day and of year. The settings from ``columns`` on say how a CSV file of one's own is read: ``data.series.weather``."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

import keras

from kerastoolkit.data.preprocessing import window_features
from kerastoolkit.data.series import weather
from kerastoolkit.experiment import Experiment
from kerastoolkit.models import recurrent_forecaster
from kerastoolkit.optimizers import OneCycle
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.tasks.forecasting import forecasts


def weather_rnn(
    *, units: int = 64, depth: int = 1, dropout: float = 0.1, window: int = 72, horizon: int = 24,
    quantiles: tuple[float, ...] = (), epochs: int = 15, batch_size: int = 64, learning_rate: float = 0.002, data: str = "sample",
    columns: tuple[str, ...] = (), target: tuple[str, ...] = (), transform: str = "differences", time: str = "",
    time_format: str = "", gaps: str = "refuse", unsorted: str = "refuse", duplicates: str = "refuse", text: str = "drop",
    jit_compile: bool | None = None,
) -> Experiment:  # fmt: skip
    """Weather by a simple recurrent network."""
    return _weather("simple_rnn", **locals())


def weather_lstm(
    *, units: int = 64, depth: int = 1, dropout: float = 0.3, window: int = 72, horizon: int = 24,
    quantiles: tuple[float, ...] = (), epochs: int = 6, batch_size: int = 64, learning_rate: float = 0.001, data: str = "sample",
    columns: tuple[str, ...] = (), target: tuple[str, ...] = (), transform: str = "differences", time: str = "",
    time_format: str = "", gaps: str = "refuse", unsorted: str = "refuse", duplicates: str = "refuse", text: str = "drop",
    jit_compile: bool | None = None,
) -> Experiment:  # fmt: skip
    """Weather by an LSTM."""
    return _weather("lstm", **locals())


def weather_gru(
    *, units: int = 64, depth: int = 1, dropout: float = 0.3, window: int = 72, horizon: int = 24,
    quantiles: tuple[float, ...] = (), epochs: int = 6, batch_size: int = 64, learning_rate: float = 0.001, data: str = "sample",
    columns: tuple[str, ...] = (), target: tuple[str, ...] = (), transform: str = "differences", time: str = "",
    time_format: str = "", gaps: str = "refuse", unsorted: str = "refuse", duplicates: str = "refuse", text: str = "drop",
    jit_compile: bool | None = None,
) -> Experiment:  # fmt: skip
    """Weather by a GRU."""
    return _weather("gru", **locals())


def _weather(cell, *, units, depth, dropout, window, horizon, quantiles, epochs, batch_size, learning_rate, data,
             jit_compile, **reading):
    series = weather(data, window=window, horizon=horizon, **reading)
    preprocess = window_features(series)
    network = recurrent_forecaster(
        cell=cell, window=window, features=preprocess.output["features"].shape[-1], horizon=horizon,
        targets=len(series.about["targets"]), units=units, depth=depth, dropout=dropout, quantiles=quantiles,
        jit_compile=jit_compile)  # fmt: skip
    schedule = OneCycle(learning_rate, epochs * steps_per_epoch(series.train.size, batch_size), rise=0.1)
    return Experiment(
        data=series, preprocess=preprocess, network=network, task=forecasts(series, quantiles=quantiles),
        optimizer=keras.optimizers.Adam(schedule, global_clipnorm=1.0), epochs=epochs, batch_size=batch_size)  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(weather_lstm)
