"""Daily prices some days ahead by recurrent networks, beside persistence and linear autoregressions.

One network learns the logarithms of returns of all tickers. That prices are close to a random walk, which no method beats by
much (Fama 1965, https://doi.org/10.1086/294743), is what the tables of ``evaluate`` are there to show. The settings from
``columns`` on say how a CSV file of one's own is read: ``data.series.stocks``."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

import keras

from kerastoolkit.data.preprocessing import window_features
from kerastoolkit.data.series import stocks
from kerastoolkit.experiment import Experiment
from kerastoolkit.models import recurrent_forecaster
from kerastoolkit.optimizers import OneCycle
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.tasks.forecasting import forecasts


def stocks_rnn(
    *, units: int = 32, depth: int = 1, dropout: float = 0.2, window: int = 60, horizon: int = 5,
    quantiles: tuple[float, ...] = (), epochs: int = 10, batch_size: int = 64, learning_rate: float = 0.001, data: str = "sample",
    columns: tuple[str, ...] = (), target: str = "", transform: str = "log_returns", time: str = "", time_format: str = "",
    ticker: str = "", gaps: str = "refuse", unsorted: str = "refuse", duplicates: str = "refuse",
    jit_compile: bool | None = None,
) -> Experiment:  # fmt: skip
    """Daily prices by a simple recurrent network."""
    return _stocks("simple_rnn", **locals())


def stocks_lstm(
    *, units: int = 32, depth: int = 1, dropout: float = 0.2, window: int = 60, horizon: int = 5,
    quantiles: tuple[float, ...] = (), epochs: int = 10, batch_size: int = 64, learning_rate: float = 0.001, data: str = "sample",
    columns: tuple[str, ...] = (), target: str = "", transform: str = "log_returns", time: str = "", time_format: str = "",
    ticker: str = "", gaps: str = "refuse", unsorted: str = "refuse", duplicates: str = "refuse",
    jit_compile: bool | None = None,
) -> Experiment:  # fmt: skip
    """Daily prices by an LSTM."""
    return _stocks("lstm", **locals())


def stocks_gru(
    *, units: int = 32, depth: int = 1, dropout: float = 0.2, window: int = 60, horizon: int = 5,
    quantiles: tuple[float, ...] = (), epochs: int = 10, batch_size: int = 64, learning_rate: float = 0.001, data: str = "sample",
    columns: tuple[str, ...] = (), target: str = "", transform: str = "log_returns", time: str = "", time_format: str = "",
    ticker: str = "", gaps: str = "refuse", unsorted: str = "refuse", duplicates: str = "refuse",
    jit_compile: bool | None = None,
) -> Experiment:  # fmt: skip
    """Daily prices by a GRU."""
    return _stocks("gru", **locals())


def _stocks(cell, *, units, depth, dropout, window, horizon, quantiles, epochs, batch_size, learning_rate, data,
            jit_compile, **reading):
    series = stocks(data, window=window, horizon=horizon, **reading)
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

    main(stocks_lstm)
