"""Forecasting: the next steps of a series, in its own unit, judged beside what needs no network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastoolkit import charts
from kerastoolkit.experiment import Data, InputError, Report, Task, described
from kerastoolkit.losses import mean_per_example, quantile_loss
from kerastoolkit.metrics import block_bootstrap, direction_hits, interval, smape
from kerastoolkit.serving.series import OriginalUnit, to_targets
from kerastoolkit.serving.tables import DAY, Reading, read_table

LOSSES = {"absolute": ops.abs, "squared": ops.square, "huber": lambda e: ops.where(ops.abs(e) < 1, e * e / 2, ops.abs(e) - 0.5)}
TRAINING_WINDOWS = 20_000  # of which, spread evenly, the linear autoregression is estimated


def forecasts(series: Data, *, loss: str = "absolute", quantiles: tuple[float, ...] = ()) -> Task:
    """``forecasting`` as a data set of ``data.series`` needs it."""
    names = (
        "columns",
        "targets",
        "window",
        "horizon",
        "transform",
        "places",
        "mean",
        "scale",
        "step",
        "business_days",
        "reading",
    )
    return forecasting(**{name: series.about[name] for name in names}, loss=loss, quantiles=quantiles)


@described
def forecasting(columns: list[str], targets: list[str], window: int, horizon: int, transform: str, places: list[int],
                mean: list[float], scale: list[list[float]], step: int, business_days: bool, reading: dict[str, Any],
                loss: str = "absolute", quantiles: tuple[float, ...] = ()) -> Task:  # fmt: skip
    """The next ``horizon`` values of each target.

    The network gives (batch, horizon, targets), with quantiles (batch, horizon, targets, quantiles), of what ``transform`` makes
    of the targets. Answers: forecast (batch, horizon, targets) float32 in the original unit, time (batch, horizon) int64 in
    seconds since 1970, and quantiles where there are any.

    Args:
        columns: of the raw window, in their order.
        targets, places: names of the targets, and their places among the columns.
        transform, scale: as in ``serving.series.to_targets``.
        mean: of each column.
        step, business_days: as in ``serving.series.OriginalUnit``.
        reading: fields of ``serving.tables.Reading``, for files that ``predict`` is given.
        loss: "absolute", whose best forecast is the median, "squared" (the mean) or "huber".
        quantiles: levels, ascending; then the loss is the pinball loss.
    Raises:
        InputError: no such loss.
    """
    if loss not in LOSSES:
        raise InputError(f"loss must be {', '.join(LOSSES)}, got {loss}")
    base = [mean[place] for place in places]

    def encode(truths, inputs, side_outputs, seeds):
        return {}, to_targets(truths["future"], side_outputs["last"], transform, base, scale)

    def training_loss(truths, outputs):
        return quantile_loss(truths, outputs, quantiles) if quantiles else mean_per_example(LOSSES[loss](truths - outputs))

    def answer(network: keras.Model) -> keras.Model:
        features = keras.Input(network.inputs[0].shape[1:], name=network.inputs[0].name)
        last = keras.Input((len(targets),), name="last")
        time = keras.Input((), dtype="int64", name="time")
        unit = OriginalUnit(transform, base, scale, step, business_days, quantiles, name="original_unit")
        outputs = unit({"outputs": network(features), "last": last, "time": time})
        return keras.Model({"features": features, "last": last, "time": time}, outputs, name="answer")

    def read(paths: list[str]) -> tuple[list[str], dict[str, Any]]:
        names, windows, times = [], [], []
        how = Reading(**{**reading, "columns": tuple(columns)})
        for path in paths:
            for each in read_table(path, how).series:
                label = f"{path} {each.name}".strip()
                if len(each.times) < window:
                    raise InputError(f"{label}: the network sees {window} rows, got {len(each.times)}")
                names.append(label)
                windows.append(each.values[-window:].astype(np.float32))
                times.append(each.times[-1])
        return names, {"window": np.stack(windows), "time": np.array(times)}

    def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
        rows = []
        for i, name in enumerate(names):
            for h, when in enumerate(answers["time"][i]):
                row = {"input": name, "time": _date(when, step), **_by_name(targets, answers["forecast"][i, h])}
                for q, level in enumerate(quantiles):
                    row |= {f"{target} {level:g}": float(answers["quantiles"][i, h, t, q]) for t, target in enumerate(targets)}
                rows.append(row)
        return rows

    def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
        past = _dates_before(raw["time"], window, step, business_days)
        band = answers["quantiles"][..., [0, -1]] if len(quantiles) > 1 else None
        forecast, times = answers["forecast"], _dates(answers["time"])
        return charts.forecast(past, raw["window"][:, places], times, forecast, targets, name, band=band)

    def probe(serving: keras.Model) -> dict[str, Any]:
        # About the size of the training data: an export is compared with the run in the original unit.
        noise = np.random.default_rng(0).uniform(0.9, 1.1, (3, window, len(columns)))
        level = np.ones(len(columns)) if transform == "log_returns" else np.array(mean)
        return {"window": (noise * level).astype(np.float32), "time": np.array([0, 1_000_000_000, 1_700_000_000])}

    return Task(
        name="forecasting", encode=encode, loss=training_loss, metrics={}, answer=answer,
        score=lambda batches, data, serving: _score(batches, data, list(quantiles)), read=read, tell=tell, draw=draw,
        probe=probe)  # fmt: skip


def _by_name(names: list[str], values: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _dates(times: np.ndarray) -> np.ndarray:
    return np.asarray(times).astype("datetime64[s]")


def _dates_before(time: int, rows: int, step: int, business_days: bool) -> np.ndarray:
    """About when the rows of a window were whose last one is at ``time``: holidays are not known."""
    back = np.arange(rows - 1, -1, -1)
    if business_days and step == DAY:
        return np.busday_offset(_dates(time).astype("datetime64[D]"), -back, roll="backward")
    return _dates(time - step * back)


def _date(time: int, step: int) -> str:
    return str(np.datetime64(int(time), "s").astype("datetime64[D]" if step >= 86_400 else "datetime64[m]")).replace("T", " ")


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, quantiles: list[float]) -> Report:
    about, parts = data.about, {}
    for raw, answers in batches:
        found = {"future": raw["future"], "seasonal": raw["seasonal"], "time": raw["time"], "series": raw["series"],
                 "window": raw["window"][:, :, about["places"]], "all": raw["window"], "forecast": answers["forecast"],
                 "ends": answers["time"][:, -1],
                 "quantiles": answers.get("quantiles")}  # fmt: skip
        for name, values in found.items():
            parts.setdefault(name, []).append(values)
    quantile_values = parts.pop("quantiles")
    found = {name: np.concatenate(values).astype(np.float64 if values[0].dtype == np.float32 else values[0].dtype)
             for name, values in parts.items()}  # fmt: skip
    last = found["window"][:, -1:]
    horizon = found["future"].shape[1]
    methods = {
        "network": found["forecast"],
        "persistence": np.repeat(last, horizon, axis=1),
        f"a season of {about['season']} before": found["seasonal"],
        **_linear(data, found, about),
    }
    figures = {name: _figures(found, values, about) for name, values in methods.items()}
    moved = np.sign(found["future"] - last)
    if (moved != 0).any():
        figures["always up"] = {"direction": float((moved > 0).sum() / (moved != 0).sum())}
    if quantiles:
        stacked = np.concatenate(quantile_values)
        inside = (found["future"] >= stacked[..., 0]) & (found["future"] <= stacked[..., -1])
        figures["network"][f"within_{quantiles[0]:g}_to_{quantiles[-1]:g}"] = float(inside.mean())
    steps = [
        {"step": h + 1, **{name: float(np.abs(values[:, h] - found["future"][:, h]).mean()) for name, values in methods.items()}}
        for h in range(horizon)
    ]
    pictures = {"error_by_step": charts.error_by_step(steps), **_pictures(found, methods, about)}
    tables = {"against the baselines": _comparison(found, methods), "mean absolute error by step": steps}
    return Report(figures.pop("network") | _intervals(found, methods["network"], about), baselines=figures, tables=tables,
                  pictures=pictures)  # fmt: skip


def _linear(data: Data, found: dict[str, np.ndarray], about: dict[str, Any]) -> dict[str, np.ndarray]:
    """Linear autoregressions, one for each step of the horizon, by least squares over training windows.

    They see the same window as the network: the targets' past values alone, and all columns'.
    """
    chosen = np.unique(np.linspace(0, data.train.size - 1, min(TRAINING_WINDOWS, data.train.size)).astype(np.int64))
    batches = [data.train.fetch(part) for part in np.array_split(chosen, -(-len(chosen) // 1_000))]
    windows, future = (np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in ("window", "future"))
    logarithms = about["transform"] == "log_returns"

    def changed(values):
        return np.log(np.maximum(values, 1e-6)) if logarithms else values

    def forecast(train_inputs, inputs):
        center, last = train_inputs.mean(axis=0), changed(windows[:, -1:, about["places"]].astype(np.float64))
        spread = np.maximum(train_inputs.std(axis=0), 1e-9)
        design = np.hstack([(train_inputs - center) / spread, np.ones((len(train_inputs), 1))])
        learned = (changed(future.astype(np.float64)) - last).reshape(len(future), -1)
        # A trace of ridge: columns of a window can be the same numbers.
        gram = design.T @ design + 1e-6 * len(design) * np.eye(design.shape[1])
        weights = np.linalg.solve(gram, design.T @ learned)
        moved = (np.hstack([(inputs - center) / spread, np.ones((len(inputs), 1))]) @ weights).reshape(found["future"].shape)
        values = changed(found["window"][:, -1:]) + moved
        return np.exp(values) if logarithms else values

    def flat(values):
        return changed(values.astype(np.float64)).reshape(len(values), -1)

    methods = {"linear autoregression": forecast(flat(windows[:, :, about["places"]]), flat(found["window"]))}
    if windows.shape[2] > len(about["places"]) and windows.shape[1] * windows.shape[2] <= len(windows) // 2:
        methods["linear autoregression on all columns"] = forecast(flat(windows), flat(found["all"]))
    return methods


def _naive(found: dict[str, np.ndarray], about: dict[str, Any]) -> np.ndarray:
    """Each example's error of the naive forecast in its series' training range, (examples, 1, targets); NaN without one."""
    missing = [float("nan")] * len(about["targets"])
    table = np.array([about["naive"][name] or missing for name in about["series"]])
    return np.where(table > 0, table, np.nan)[found["series"]][:, None]


def _figures(found: dict[str, np.ndarray], forecast: np.ndarray, about: dict[str, Any]) -> dict[str, float]:
    """Figures over all origins and steps; of each target by name where there are several."""
    truth, naive = found["future"], _naive(found, about)
    hits = direction_hits(truth, forecast, found["window"][:, -1:])
    figures = {}
    for place, target in enumerate(about["targets"]):
        error, prefix = (forecast - truth)[..., place], f"{target}_" if len(about["targets"]) > 1 else ""
        scaled = np.abs(error) / naive[..., place]
        moved = hits[..., place][np.isfinite(hits[..., place])]
        says = forecast[..., place] != found["window"][:, -1:, place]
        figures |= {
            f"{prefix}mae": float(np.abs(error).mean()),
            f"{prefix}rmse": float(np.sqrt(np.square(error).mean())),
            f"{prefix}smape": float(smape(truth[..., place], forecast[..., place]).mean()),
            f"{prefix}mase": float(np.nanmean(scaled)) if np.isfinite(scaled).any() else None,
            f"{prefix}direction": float(moved.mean()) if len(moved) and says.any() else None,
        }
    return figures


def _intervals(found: dict[str, np.ndarray], forecast: np.ndarray, about: dict[str, Any]) -> dict[str, float]:
    """95 % intervals of the network's scaled error and direction, by the block bootstrap over the origins' times."""
    scaled = np.abs(forecast - found["future"]) / _naive(found, about)
    hits = direction_hits(found["future"], forecast, found["window"][:, -1:])
    counted = [np.isfinite(each) for each in (scaled, hits)]
    above = np.stack([np.where(ok, each, 0).sum(axis=(1, 2)) for ok, each in zip(counted, (scaled, hits), strict=True)], axis=1)
    below = np.stack([ok.sum(axis=(1, 2)) for ok in counted], axis=1)
    samples = block_bootstrap(found["time"], above, below, block=_block(found))
    names = [name for name, count in zip(("mase", "direction"), below.sum(axis=0), strict=True) if count]
    return {f"{name}_{end}": value for i, name in enumerate(("mase", "direction")) if name in names
            for end, value in zip(("low", "high"), interval(samples[:, i]), strict=True)}  # fmt: skip


def _block(found: dict[str, np.ndarray]) -> int:
    """Times in a block: forecasts from neighbouring origins share truths, as many as the horizon has steps."""
    times = len(np.unique(found["time"]))
    return max(found["future"].shape[1], round(times ** (1 / 3)))


def _comparison(found: dict[str, np.ndarray], methods: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """For each baseline: whether the network's mean absolute error is lower, beyond what chance explains."""
    errors = {name: np.abs(values - found["future"]).mean(axis=(1, 2))[:, None] for name, values in methods.items()}
    rows = []
    for name in list(methods)[1:]:
        difference = errors["network"] - errors[name]
        low, high = interval(block_bootstrap(found["time"], difference, np.ones_like(difference), block=_block(found)))
        verdict = "the network beats it" if high < 0 else "the network does not beat it" if low > 0 else "no difference shown"
        rows.append({"baseline": name, "its mae": float(errors[name].mean()), "network's mae": float(errors["network"].mean()),
                     "difference": float(difference.mean()), "95 % from": low, "to": high, "verdict": verdict})  # fmt: skip
    return rows


def _pictures(found: dict[str, np.ndarray], methods: dict[str, np.ndarray], about: dict[str, Any]) -> dict[str, Any]:
    """For each of up to six series: truth, forecast and the best baseline at the last step of the horizon, over time."""
    best = min(list(methods)[1:], key=lambda name: np.abs(methods[name] - found["future"]).mean())
    pictures = {}
    for number in np.unique(found["series"])[:6]:
        mine = np.flatnonzero(found["series"] == number)[-300:]
        times, name = _dates(found["ends"][mine]), about["series"][number]
        lines = {"truth": found["future"], "network": methods["network"], best: methods[best]}
        values = {label: array[mine, -1, 0] for label, array in lines.items()}
        title = f"{name} {about['targets'][0]}, {about['horizon']} steps ahead".strip()
        pictures[f"forecast_{name}" if name else "forecast"] = charts.lines_over_time(times, values, title)
    return pictures
