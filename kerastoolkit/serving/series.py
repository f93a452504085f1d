"""Series in the serving model: windows of unscaled numbers -> what a network takes, and its outputs -> the original unit."""

from __future__ import annotations

import math

import keras
from keras import ops

DAY = 86_400
YEAR = 365.2425 * DAY
SMALLEST = 1e-6  # of what logarithms are taken of: a price of 0 is none


@keras.saving.register_keras_serializable(package="kerastoolkit")
class WindowFeatures(keras.layers.Layer):
    """Windows of raw columns -> standardised numbers, and the last known targets.

    Input   a dict
            window    (batch, window, columns) float32, unscaled, the latest row last
            time      (batch,) int64, seconds since 1970 of the latest row
    Output  a dict
            features  (batch, window, features) float32: each column minus its mean, by its deviation; columns of ``logarithmic``
                      first as the logarithm's change from the row before (0 in the first row); with ``calendar`` then sine and
                      cosine of the time of day (steps shorter than a day) and of the time of year
            last      (batch, targets) float32, the targets in the latest row
            time      (batch,) int64, as it came

    Args:
        mean, deviation: of each column (of its changes, where logarithmic), over the training rows.
        logarithmic: whether each column is taken as changes of its logarithm.
        targets: places of the targets among the columns.
        calendar: add the time of day and year.
        step: seconds from row to row.
    """

    def __init__(self, mean, deviation, logarithmic, targets, calendar: bool, step: int, **kwargs):
        super().__init__(**kwargs)
        self.mean, self.deviation = [float(each) for each in mean], [float(each) for each in deviation]
        self.logarithmic, self.targets = [bool(each) for each in logarithmic], [int(each) for each in targets]
        self.calendar, self.step = bool(calendar), int(step)
        if not len(self.mean) == len(self.deviation) == len(self.logarithmic):
            raise ValueError("mean, deviation and logarithmic must have one value for each column")
        if min(self.deviation) <= 0:
            raise ValueError(f"deviation must be positive, got {min(self.deviation)}")

    @property
    def features(self) -> int:
        """How many numbers there are at each step."""
        return len(self.mean) + (2 + 2 * (self.step < DAY)) * self.calendar

    def call(self, inputs):
        window, time = inputs["window"], inputs["time"]
        logarithms = ops.log(ops.maximum(window, SMALLEST))
        changes = ops.concatenate([ops.zeros_like(logarithms[:, :1]), logarithms[:, 1:] - logarithms[:, :-1]], axis=1)
        features = ops.where(ops.convert_to_tensor(self.logarithmic), changes, window)
        features = (features - ops.convert_to_tensor(self.mean)) / ops.convert_to_tensor(self.deviation)
        if self.calendar:
            features = ops.concatenate([features, self._calendar(time, window.shape[1])], axis=-1)
        return {"features": features, "last": ops.take(window[:, -1], self.targets, axis=-1), "time": time}

    def _calendar(self, time, window):
        # Whole seconds are taken modulo the period before they become 32-bit floats, which hold only 24 bits.
        times = time[:, None] - self.step * ops.arange(window - 1, -1, -1, dtype="int64")[None]
        turns = []
        for period in (DAY, round(YEAR)) if self.step < DAY else (round(YEAR),):
            angle = ops.cast(ops.mod(times, period), "float32") * (2 * math.pi / period)
            turns += [ops.sin(angle), ops.cos(angle)]
        return ops.stack(turns, axis=-1)

    def compute_output_spec(self, inputs):
        batch, window, _ = inputs["window"].shape
        return {
            "features": keras.KerasTensor((batch, window, self.features), dtype="float32"),
            "last": keras.KerasTensor((batch, len(self.targets)), dtype="float32"),
            "time": keras.KerasTensor((batch,), dtype="int64"),
        }

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "deviation": self.deviation, "logarithmic": self.logarithmic,
                "targets": self.targets, "calendar": self.calendar, "step": self.step}  # fmt: skip


def to_targets(values, last, transform: str, mean, scale):
    """What a network learns: values (batch, horizon, targets) in the original unit -> scaled, of the same shape.

    Args:
        values, last: float32 in the original unit; last (batch, targets) is the latest known row.
        transform: "values": (value - mean) / scale; "differences": (value - last) / scale; "log_returns":
            log(value / last) / scale.
        mean: (targets,), used by "values".
        scale: (horizon, targets).
    """
    if transform == "log_returns":
        values, last = ops.log(ops.maximum(values, SMALLEST)), ops.log(ops.maximum(last, SMALLEST))
    base = ops.convert_to_tensor(mean) if transform == "values" else last[:, None]
    return (values - base) / ops.convert_to_tensor(scale)


def from_targets(outputs, last, transform: str, mean, scale):
    """The inverse of ``to_targets``; outputs may have a last axis of quantiles."""
    scale, mean = ops.convert_to_tensor(scale), ops.convert_to_tensor(mean)
    last = last[:, None]
    if len(outputs.shape) == 4:
        scale, mean, last = scale[..., None], mean[..., None], last[..., None]
    if transform == "values":
        return outputs * scale + mean
    if transform == "differences":
        return outputs * scale + last
    return last * ops.exp(outputs * scale)


@keras.saving.register_keras_serializable(package="kerastoolkit")
class OriginalUnit(keras.layers.Layer):
    """A network's outputs -> forecasts in the original unit, with their times.

    Input   a dict
            outputs   (batch, horizon, targets) float32; with quantiles (batch, horizon, targets, quantiles)
            last      (batch, targets) float32; time (batch,) int64, as WindowFeatures gives them
    Output  a dict
            forecast  (batch, horizon, targets) float32; with quantiles the one nearest the median
            time      (batch, horizon) int64, seconds since 1970 of each forecast
            quantiles (batch, horizon, targets, quantiles) float32, ascending, where there are any

    Args:
        transform, mean, scale: as in ``to_targets``.
        step: seconds from row to row.
        business_days: the steps are days of which Saturdays and Sundays are none; holidays are not known.
        quantiles: levels, ascending, or none.
    """

    def __init__(self, transform: str, mean, scale, step: int, business_days: bool, quantiles=(), **kwargs):
        super().__init__(**kwargs)
        self.transform, self.step, self.business_days = transform, int(step), bool(business_days)
        self.mean = [float(each) for each in mean]
        self.scale = [[float(each) for each in row] for row in scale]
        self.quantiles = [float(each) for each in quantiles]

    def call(self, inputs):
        values = from_targets(inputs["outputs"], inputs["last"], self.transform, self.mean, self.scale)
        steps = ops.arange(1, len(self.scale) + 1, dtype="int64")[None]
        time = ops.expand_dims(inputs["time"], 1)
        times = business_days_after(time, steps) if self.business_days else time + steps * self.step
        if not self.quantiles:
            return {"forecast": values, "time": times}
        values = ops.sort(values, axis=-1)  # levels that the network let cross
        nearest = min(range(len(self.quantiles)), key=lambda i: abs(self.quantiles[i] - 0.5))
        return {"forecast": values[..., nearest], "time": times, "quantiles": values}

    def compute_output_spec(self, inputs):
        batch, shape = inputs["outputs"].shape[0], inputs["outputs"].shape
        spec = {"forecast": keras.KerasTensor(shape[:3], dtype="float32"),
                "time": keras.KerasTensor((batch, shape[1]), dtype="int64")}  # fmt: skip
        return {**spec, "quantiles": keras.KerasTensor(shape, dtype="float32")} if self.quantiles else spec

    def get_config(self):
        return {**super().get_config(), "transform": self.transform, "mean": self.mean, "scale": self.scale, "step": self.step,
                "business_days": self.business_days, "quantiles": self.quantiles}  # fmt: skip


def business_days_after(time, days):
    """The time of day ``time`` (seconds since 1970), ``days`` weekdays later; a weekend counts as its Friday."""
    day = time // DAY
    weekday = (day + 3) % 7  # 1 January 1970 was a Thursday
    day = day - ops.maximum(weekday - 4, 0)
    weekday = ops.minimum(weekday, 4)
    return (day + days + 2 * ((weekday + days) // 5)) * DAY + time % DAY
