"""Series of numbers over time: daily prices and weather, named or from CSV files of one's own, as windows and what followed."""

from __future__ import annotations

import functools
import importlib.util
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.experiment import Data, InputError, Source, described
from kerastoolkit.serving.series import SMALLEST
from kerastoolkit.serving.tables import DAY, Reading, Series, Table, find_column, read_table

TRANSFORMS = ("values", "differences", "log_returns")
PRICES = ("open", "high", "low", "close", "adj close", "volume")
ADJUSTED = ("adj close", "adj_close", "adjclose", "adjusted close", "adjusted_close")
SPLIT_MOVE = 0.4  # a day's move that is rather a split of the shares than a change of their worth


# Name -> package and file in it.
SAMPLES = {"bokeh_stocks": ("bokeh_sampledata", "stocks.csv.gz"), "seattle_weather": ("vega_datasets", "seattle-weather.csv")}


@described
def bokeh_stocks(*, window: int = 60, horizon: int = 5) -> Data:
    """Daily prices of AAPL, FB, GOOG, IBM and MSFT, 2000 to 2013; comes with bokeh_sampledata (BSD-3-Clause)."""
    return stocks("sample", window=window, horizon=horizon)


@described
def seattle_weather(*, window: int = 30, horizon: int = 7) -> Data:
    """Daily weather of Seattle, 2012 to 2015; comes with vega_datasets (BSD-3-Clause)."""
    return weather("sample", window=window, horizon=horizon)


@described
def stocks(data: str, window: int = 60, horizon: int = 5, columns: tuple[str, ...] = (), target: str = "",
           transform: str = "log_returns", time: str = "", time_format: str = "", ticker: str = "", gaps: str = "refuse",
           unsorted: str = "refuse", duplicates: str = "refuse", validation: float = 0.1, test: float = 0.2) -> Data:  # fmt: skip
    """Daily prices of one or several tickers: a CSV file with a column of dates and numeric columns, or ``sample``.

    Args:
        data: ``sample`` (``bokeh_stocks``), or the path of a .csv or .csv.gz.
        columns: what the network sees; by default open, high, low, close, volume and adjusted close, as far as they are there,
            whatever their case.
        target: what is forecast; by default the adjusted close, else the close.
        ticker: the column that tells the tickers apart; by default one called ticker or symbol, where there is one.
        window, horizon, transform, validation, test: as for ``weather``.
        time, time_format, gaps, unsorted, duplicates: as ``serving.tables.Reading`` states them.
    """
    name = "bokeh_stocks" if data == "sample" else data
    path = packaged(*SAMPLES[name]) if name in SAMPLES else name
    reading = Reading(tuple(columns), time, time_format, ticker, gaps, unsorted, duplicates, business_days=True)
    table = _read(path, reading)
    if not columns:
        chosen = tuple(name for name in table.columns if name.lower() in (*PRICES, *ADJUSTED))
        table = _only(table, chosen or table.columns)
    if not target:
        named = {name.lower(): name for name in table.columns}
        target = next((named[name] for name in (*ADJUSTED, "close") if name in named), "")
        if not target:
            raise InputError(f"{path}: has neither an adjusted close nor a close; say target=NAME ({', '.join(table.columns)})")
    notes = _suspected_splits(path, table, find_column(target, table.columns, path))
    step = 5 if table.step == DAY else 1
    return _data(name, path, table, reading, (target,), window, horizon, transform, step,
                 calendar=False, validation=validation, test=test, notes=notes)  # fmt: skip


@described
def weather(data: str, window: int = 72, horizon: int = 24, columns: tuple[str, ...] = (), target: tuple[str, ...] = (),
            transform: str = "differences", calendar: bool = True, time: str = "", time_format: str = "", gaps: str = "refuse",
            unsorted: str = "refuse", duplicates: str = "refuse", text: str = "drop", validation: float = 0.1,
            test: float = 0.2) -> Data:  # fmt: skip
    """Numbers measured at regular times: a CSV file with a time column, or year, month, day and hour columns; or ``sample``.

    Raw examples: window (batch, window, columns) float32, time (batch,) int64 of its last row, future (batch, horizon, targets)
    float32, seasonal (batch, horizon, targets) float32 (what was a season before) and series (batch,) int64. Where truths were
    filled in, the example is left out. The parts are cut by date; no truth of one part is in the truths of another.

    Args:
        data: ``sample`` (``seattle_weather``), or the path of a .csv or .csv.gz.
        window, horizon: rows that are seen, and rows that are forecast.
        columns: what the network sees; by default all numeric columns.
        target: what is forecast; by default the first column whose name begins with temp or t (, else the first column.
        transform: what the network learns: "values", "differences" from the last row, or "log_returns".
        calendar: show the network the time of day and of year.
        time, time_format, gaps, unsorted, duplicates, text: as ``serving.tables.Reading`` states them.
        validation, test: shares of the time covered, from its end, the test part last.
    Raises:
        InputError: something is wrong in the file (with its line) or with an argument.
    """
    name = "seattle_weather" if data == "sample" else data
    path = packaged(*SAMPLES[name]) if name in SAMPLES else name
    reading = Reading(tuple(columns), time, time_format, "", gaps, unsorted, duplicates, text)
    table = _read(path, reading)
    targets = tuple(target) or (
        next((name for name in table.columns if name.lower().startswith(("temp", "t ("))), table.columns[0]),
    )
    season = DAY // table.step if table.step < DAY else {DAY: 365, 7 * DAY: 52}.get(table.step, 12)
    return _data(name, path, table, reading, targets, window, horizon, transform,
                 max(1, season), calendar=calendar, validation=validation, test=test)  # fmt: skip


def packaged(package: str, file: str) -> str:
    """The path of a data file of an installed package, which is not imported."""
    found = importlib.util.find_spec(package)
    path = Path(next(iter(found.submodule_search_locations))) / "_data" / file if found else None
    if path is None or not path.is_file():
        raise InputError(f"the sample is in the package {package}, which is not installed: pip install 'kerastoolkit[samples]'")
    return str(path)


def _read(path: str, reading: Reading) -> Table:
    if not os.path.isfile(path):
        raise InputError(f"unknown series {path}: choose {', '.join(SAMPLES)}, sample, or a CSV file")
    return read_table(path, reading)


def _only(table: Table, columns: tuple[str, ...]) -> Table:
    places = [table.columns.index(name) for name in columns]
    series = tuple(Series(each.name, each.times, each.values[:, places], each.known[:, places]) for each in table.series)
    return Table(columns, series, table.step, table.notes)


def _suspected_splits(path: str, table: Table, target: str) -> list[str]:
    notes, place = [], table.columns.index(target)
    for each in table.series:
        prices = each.values[:, place]
        with np.errstate(divide="ignore", invalid="ignore"):
            moves = prices[1:] / prices[:-1] - 1
        for row in np.flatnonzero(np.abs(moves) > SPLIT_MOVE):
            date = np.datetime64(int(each.times[row + 1]), "s").astype("datetime64[D]")
            notes.append(f"{path}{f' ({each.name})' if each.name else ''}: {target} moves by {moves[row]:+.0%} on {date}: "
                         "a split that the prices are not adjusted for?")  # fmt: skip
    return notes


def _data(name: str, path: str, table: Table, reading: Reading, targets: tuple[str, ...], window: int, horizon: int,
          transform: str, season: int, *, calendar: bool, validation: float, test: float, notes: Any = ()) -> Data:  # fmt: skip
    for what, value in (("window", window), ("horizon", horizon)):
        if value < 1:
            raise InputError(f"{what} must be at least 1, got {value}")
    if transform not in TRANSFORMS:
        raise InputError(f"transform must be {', '.join(TRANSFORMS)}, got {transform}")
    if not (0 <= validation < 1 and 0 < test < 1 and validation + test < 1):
        raise InputError(f"validation and test must be shares that leave some time for training, got {validation} and {test}")
    places = [table.columns.index(find_column(target, table.columns, path)) for target in targets]
    first, last = min(each.times[0] for each in table.series), max(each.times[-1] for each in table.series)
    ends = [first + (last - first) * share for share in (1 - validation - test, 1 - test, 1.0)]
    values = np.concatenate([each.values for each in table.series])
    if transform == "log_returns" and values[:, places].min() <= 0:
        raise InputError(f"{path}: log_returns need targets above 0, got {values[:, places].min():g}")
    begins = np.cumsum([0, *(len(each.times) for each in table.series)])
    rows = [_origins(each, begin, window, horizon, places, ends) for each, begin in zip(table.series, begins, strict=False)]
    parts = [np.concatenate(each) for each in zip(*rows, strict=True)]
    needed = window + horizon
    if not len(parts[0]) or not len(parts[2]):
        raise InputError(f"{path}: a window of {window} and a horizon of {horizon} need more rows in each part than there are")
    training = [each.values[each.times <= ends[0]] for each in table.series]
    mean, deviation, logarithmic = _standard(training, transform)
    future, latest = _future(values, parts[0], horizon, places)
    scale = _scale(future, latest, transform)
    naive = {each.name: np.abs(np.diff(part[:, places], axis=0)).mean(axis=0).tolist() if len(part) > needed else None
             for each, part in zip(table.series, training, strict=True)}  # fmt: skip
    about = {
        "columns": table.columns, "targets": tuple(table.columns[place] for place in places), "window": window,
        "horizon": horizon, "series": tuple(each.name for each in table.series), "step": table.step, "season": season,
        "transform": transform, "calendar": calendar, "business_days": reading.business_days, "mean": mean,
        "deviation": deviation, "logarithmic": logarithmic, "places": places, "scale": scale, "naive": naive,
        "test_from": str(np.datetime64(int(ends[1]), "s")),
        "reading": {key: value for key, value in vars(reading).items()} | {"columns": table.columns},
    }  # fmt: skip
    arrays = values.astype(np.float32), np.concatenate([each.times for each in table.series])
    ids = np.repeat(np.arange(len(table.series)), [len(each.times) for each in table.series])
    sources = [_source(*arrays, ids, part, window, horizon, places, season, begins) for part in parts]
    return Data(name, *sources, inputs=("window", "time"), encoded=False, about=about, notes=(*table.notes, *notes))


def _origins(series: Series, begin: int, window: int, horizon: int, places: list[int], ends: list[float]) -> list[np.ndarray]:
    """For training, validation and test: the rows (of all series together) after which a forecast begins."""
    rows = np.arange(window - 1, len(series.times) - horizon)
    known = series.known[:, places].all(axis=1)
    unknown = np.cumsum(np.concatenate([[0], ~known]))
    rows = rows[unknown[rows + 1 + horizon] == unknown[rows + 1]]
    starts, stops = series.times[rows + 1], series.times[rows + horizon]
    bounds = [-math.inf, *ends]
    return [begin + rows[(starts > low) & (stops <= high)] for low, high in zip(bounds, ends, strict=False)]


def _standard(training: list[np.ndarray], transform: str) -> tuple[list[float], list[float], list[bool]]:
    """Mean and deviation of each column over the training rows, and which columns are taken as changes of the logarithm."""
    rows = np.concatenate(training)
    logarithmic = (rows > SMALLEST).all(axis=0) & (transform == "log_returns")
    changes = np.concatenate([np.diff(np.log(np.maximum(part, SMALLEST)), axis=0) for part in training])
    mean = np.where(logarithmic, changes.mean(axis=0), rows.mean(axis=0))
    deviation = np.where(logarithmic, changes.std(axis=0), rows.std(axis=0))
    return mean.tolist(), np.where(deviation > 1e-12, deviation, 1.0).tolist(), logarithmic.tolist()


def _future(values: np.ndarray, origins: np.ndarray, horizon: int, places: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return values[origins[:, None] + np.arange(1, horizon + 1)][:, :, places], values[origins][:, places]


def _scale(future: np.ndarray, latest: np.ndarray, transform: str) -> list[list[float]]:
    """The deviation of what is learned, (horizon, targets), over the training examples."""
    if transform == "log_returns":
        future, latest = np.log(future), np.log(latest)
    learned = future if transform == "values" else future - latest[:, None]
    deviation = learned.std(axis=0)
    return np.where(deviation > 1e-12, deviation, 1.0).tolist()


def _source(values: np.ndarray, times: np.ndarray, ids: np.ndarray, origins: np.ndarray, window: int, horizon: int,
            places: list[int], season: int, begins: np.ndarray) -> Source:  # fmt: skip
    import tensorflow as tf

    @functools.cache
    def held() -> tuple[Any, ...]:
        with tf.init_scope(), tf.device("CPU:0"):
            # A season before is a row before that, or further back where the horizon is longer than a season.
            back = season * -(-horizon // season)
            return tuple(map(tf.constant, (values, times, ids.astype(np.int64), origins.astype(np.int64), back)))

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        rows, when, whose, first, back = held()
        origin = tf.gather(first, indices)
        ahead = origin[:, None] + tf.range(1, horizon + 1, dtype=tf.int64)
        series = tf.gather(whose, origin)
        earliest = tf.gather(tf.constant(begins, tf.int64), series)[:, None]
        return {
            "window": tf.gather(rows, origin[:, None] + tf.range(1 - window, 1, dtype=tf.int64)),
            "time": tf.gather(when, origin),
            "future": tf.gather(tf.gather(rows, ahead), places, axis=2),
            "seasonal": tf.gather(tf.gather(rows, tf.maximum(ahead - tf.cast(back, tf.int64), earliest)), places, axis=2),
            "series": series,
        }

    return Source(len(origins), fetch)
