"""Windows to features and outputs to the original unit, against slow NumPy twins."""

import datetime

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.serving.series import DAY, OriginalUnit, WindowFeatures, business_days_after, from_targets, to_targets

HOUR = 3_600
RANDOM = np.random.default_rng(0)


def seconds(text):
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp())


def test_window_features_are_those_of_a_numpy_twin():
    window = RANDOM.uniform(1, 50, (3, 5, 2)).astype(np.float32)
    time = np.array([seconds("2014-12-31T23:00:00"), seconds("1969-02-03T04:00:00"), seconds("2100-07-01T12:00:00")])
    layer = WindowFeatures((0.01, 20), (0.3, 9), (True, False), (1,), calendar=True, step=HOUR)
    made = layer({"window": tf.constant(window), "time": tf.constant(time)})
    expected = np.zeros((3, 5, 6))
    for b in range(3):
        for t in range(5):
            change = np.log(window[b, t, 0]) - np.log(window[b, t - 1, 0]) if t else 0.0
            expected[b, t, :2] = (change - 0.01) / 0.3, (window[b, t, 1] - 20) / 9
            at = int(time[b]) - (4 - t) * HOUR
            day, year = 2 * np.pi * (at % DAY) / DAY, 2 * np.pi * (at % 31_556_952) / 31_556_952  # the Gregorian year's mean
            expected[b, t, 2:] = np.sin(day), np.cos(day), np.sin(year), np.cos(year)
    np.testing.assert_allclose(made["features"], expected, atol=2e-5)
    np.testing.assert_array_equal(made["last"], window[:, -1, 1:])
    np.testing.assert_array_equal(made["time"], time)


def test_days_have_no_time_of_day_and_no_calendar_adds_nothing():
    inputs = {"window": tf.ones((1, 4, 1)), "time": tf.constant([0], tf.int64)}
    for calendar, step, features in ((True, DAY, 3), (True, HOUR, 5), (False, HOUR, 1)):
        layer = WindowFeatures((0,), (1,), (False,), (0,), calendar=calendar, step=step)
        assert layer(inputs)["features"].shape == (1, 4, features) and layer.features == features


def test_a_deviation_of_zero_and_uneven_columns_are_refused():
    with pytest.raises(ValueError, match="deviation must be positive, got 0.0"):
        WindowFeatures((0, 0), (1, 0), (False, False), (0,), calendar=False, step=1)
    with pytest.raises(ValueError, match="one value for each column"):
        WindowFeatures((0, 0), (1,), (False, False), (0,), calendar=False, step=1)


def twin(values, last, transform, mean, scale):
    targets = np.zeros_like(values)
    for b, h, k in np.ndindex(values.shape):
        moved = {"values": values[b, h, k] - mean[k], "differences": values[b, h, k] - last[b, k],
                 "log_returns": np.log(values[b, h, k] / last[b, k])}[transform]  # fmt: skip
        targets[b, h, k] = moved / scale[h][k]
    return targets


@pytest.mark.parametrize("transform", ["values", "differences", "log_returns"])
def test_targets_are_those_of_a_numpy_twin_and_come_back(transform):
    values = RANDOM.uniform(1, 9, (4, 3, 2)).astype(np.float32)
    last = RANDOM.uniform(1, 9, (4, 2)).astype(np.float32)
    mean, scale = [2.0, 3.0], [[0.5, 1.0], [2.0, 3.0], [1.5, 0.7]]
    targets = to_targets(tf.constant(values), tf.constant(last), transform, mean, scale)
    np.testing.assert_allclose(targets, twin(values, last, transform, mean, scale), atol=1e-5)
    np.testing.assert_allclose(from_targets(targets, tf.constant(last), transform, mean, scale), values, rtol=1e-5)


@pytest.mark.parametrize("transform", ["values", "differences", "log_returns"])
def test_quantiles_come_back_as_points_do_in_ascending_order(transform):
    mean, scale = [2.0, 3.0], [[0.5, 1.0], [2.0, 3.0], [1.5, 0.7]]
    outputs = RANDOM.normal(size=(4, 3, 2, 3)).astype(np.float32)
    inputs = {"outputs": outputs, "last": RANDOM.uniform(1, 9, (4, 2)).astype(np.float32), "time": np.arange(4)}
    made = OriginalUnit(transform, mean, scale, step=60, business_days=False, quantiles=(0.1, 0.5, 0.9))(inputs)
    points = [from_targets(outputs[..., q], inputs["last"], transform, mean, scale) for q in range(3)]
    np.testing.assert_allclose(made["quantiles"], np.sort(np.stack(points, -1), -1), rtol=1e-6)
    np.testing.assert_array_equal(made["forecast"], made["quantiles"][..., 1])
    np.testing.assert_array_equal(made["time"], np.arange(4)[:, None] + [[60, 120, 180]])


def test_the_point_of_uneven_quantiles_is_the_one_nearest_the_median():
    layer = OriginalUnit("values", [0.0], [[1.0]], step=1, business_days=False, quantiles=(0.05, 0.4, 0.9))
    made = layer({"outputs": np.array([[[[1.0, 2.0, 3.0]]]]), "last": np.zeros((1, 1)), "time": np.zeros(1, int)})
    assert made["forecast"].numpy().item() == 2.0


def test_business_days_are_numpys_weekdays():
    first = seconds("2013-02-25")  # a Monday; two weeks of starts, weekends among them, each followed for three weeks
    starts, steps = np.arange(14), np.arange(1, 16)
    found = business_days_after(tf.constant(first + DAY * starts[:, None] + 5 * HOUR), tf.constant(steps[None]))
    days = np.datetime64("2013-02-25") + starts
    expected = np.busday_offset(np.busday_offset(days, 0, roll="backward")[:, None], steps[None])
    np.testing.assert_array_equal((found.numpy() - 5 * HOUR) // DAY, expected.astype("datetime64[D]").astype(int))


def test_both_layers_come_back_from_a_file(tmp_path):
    window, time = keras.Input((4, 2)), keras.Input((), dtype="int64")
    features = WindowFeatures((1, 2), (3, 4), (False, True), (0,), calendar=True, step=HOUR)({"window": window, "time": time})
    outputs = keras.layers.Reshape((2, 1))(keras.layers.Dense(2)(features["features"][:, -1]))
    unit = OriginalUnit("differences", [0.5], [[1.0], [2.0]], step=HOUR, business_days=False)
    made = keras.Model([window, time], unit({"outputs": outputs, "last": features["last"], "time": features["time"]}))
    made.save(tmp_path / "made.keras")
    inputs = [RANDOM.uniform(1, 5, (3, 4, 2)).astype(np.float32), np.arange(3) * HOUR]
    again = keras.saving.load_model(tmp_path / "made.keras")(inputs)
    for name, values in made(inputs).items():
        np.testing.assert_array_equal(again[name], values)
