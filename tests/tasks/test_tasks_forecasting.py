"""The forecasting task: losses, baselines and figures against numbers worked out by hand."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data.preprocessing import window_features
from kerastoolkit.data.series import weather
from kerastoolkit.experiment import InputError
from kerastoolkit.models import recurrent_forecaster
from kerastoolkit.pipeline import call
from kerastoolkit.serving.model import serving_model
from kerastoolkit.tasks.forecasting import _dates_before, forecasts


def write(path, values):
    days = np.datetime64("2020-01-01") + np.arange(len(values))
    path.write_text("date,value,other\n" + "".join(f"{day},{a},{b}\n" for day, (a, b) in zip(days, values, strict=True)))
    return str(path)


@pytest.fixture
def walk(tmp_path):
    """A random walk that sometimes stands still."""
    generator = np.random.default_rng(0)
    steps = generator.choice([-1.0, 0.0, 1.0, 2.0], size=300)
    return weather(write(tmp_path / "w.csv", np.stack([np.cumsum(steps), generator.normal(size=300)], 1)), window=4, horizon=2)


def scored(data, forecast, **arguments):
    """The report of a network that forecasts ``forecast(raw)``."""
    raw = {name: value.numpy() for name, value in data.test.fetch(np.arange(data.test.size)).items()}
    halves = np.array_split(np.arange(data.test.size), 2)
    batches = [{name: value[half] for name, value in raw.items()} for half in halves]
    ahead = data.about["step"] * np.arange(1, data.about["horizon"] + 1)
    answers = [{"forecast": forecast(batch).astype(np.float32), "time": batch["time"][:, None] + ahead} for batch in batches]
    return forecasts(data, **arguments).score(zip(batches, answers, strict=True), data, None), raw


def test_figures_are_those_of_their_definitions(walk):
    report, raw = scored(walk, lambda raw: raw["window"][:, -1:, :1] + np.array([1.0, 2.0])[None, :, None])
    truth, last = raw["future"][..., 0].astype(float), raw["window"][:, -1:, 0].astype(float)
    error = truth - (last + [1.0, 2.0])
    figures = report.figures
    assert figures["mae"] == pytest.approx(np.abs(error).mean())
    assert figures["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert figures["mase"] == pytest.approx(np.abs(error).mean() / walk.about["naive"][""][0])
    moved = truth - last
    assert figures["direction"] == pytest.approx((moved > 0).sum() / (moved != 0).sum())  # it always says up
    assert report.baselines["always up"]["direction"] == figures["direction"]
    assert figures["mase_low"] < figures["mase"] < figures["mase_high"]


def test_persistence_is_the_last_value_and_has_no_direction(walk):
    report, raw = scored(walk, lambda raw: raw["future"])
    error = raw["future"][..., 0] - raw["window"][:, -1:, 0]
    assert report.baselines["persistence"]["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-6)
    assert report.baselines["persistence"]["direction"] is None
    assert report.figures["mae"] == 0


def test_a_linear_autoregression_finds_a_linear_rule(tmp_path):
    generator, values = np.random.default_rng(0), [1.0, 2.0]
    for _ in range(400):
        values.append(0.5 * values[-1] - 0.3 * values[-2] + generator.normal())
    data = weather(write(tmp_path / "a.csv", np.stack([values, np.zeros(402)], axis=1)), window=4, horizon=1)
    report, raw = scored(data, lambda raw: raw["future"])
    ideal = raw["future"][:, 0, 0] - (0.5 * raw["window"][:, -1, 0] - 0.3 * raw["window"][:, -2, 0])
    found = report.baselines["linear autoregression"]["rmse"]
    assert found == pytest.approx(np.sqrt((ideal**2).mean()), rel=0.05)
    assert found < 0.95 * report.baselines["persistence"]["rmse"]


def test_the_verdict_says_when_the_network_does_not_beat_a_baseline(walk):
    def verdicts(forecast):
        rows = scored(walk, forecast)[0].tables["against the baselines"]
        return {row["baseline"]: row["verdict"] for row in rows}

    perfect = verdicts(lambda raw: raw["future"])
    assert set(perfect.values()) == {"the network beats it"}
    assert verdicts(lambda raw: raw["future"] + 50.0)["persistence"] == "the network does not beat it"
    assert verdicts(lambda raw: raw["window"][:, -1:, :1].repeat(2, 1))["persistence"] == "no difference shown"


def test_losses_are_those_of_their_definitions(walk):
    truth, output = tf.constant([[[0.0], [0.0]]]), tf.constant([[[3.0], [-0.5]]])
    assert float(forecasts(walk, loss="absolute").loss(truth, output)[0]) == pytest.approx(1.75)
    assert float(forecasts(walk, loss="squared").loss(truth, output)[0]) == pytest.approx(4.625)
    assert float(forecasts(walk, loss="huber").loss(truth, output)[0]) == pytest.approx((2.5 + 0.125) / 2)
    with pytest.raises(InputError, match="loss must be absolute, squared, huber, got cubic"):
        forecasts(walk, loss="cubic")


@pytest.mark.parametrize("quantiles", [(), (0.1, 0.5, 0.9)])
def test_the_serving_model_undoes_what_training_targets_do(walk, quantiles):
    """A network whose outputs are the encoded truths must answer the truths, in the original unit."""
    task, preprocess = forecasts(walk, quantiles=quantiles), window_features(walk)
    raw = walk.test.fetch(np.arange(3))
    outputs = preprocess({"window": raw["window"], "time": raw["time"]})
    _, targets = task.encode(walk.truths(raw), {"features": outputs["features"]}, outputs, None)
    network = recurrent_forecaster(
        cell="gru", window=4, features=outputs["features"].shape[-1], horizon=2, units=2, quantiles=quantiles
    )
    kernel, bias = network.get_layer("steps").get_weights()
    encoded = np.repeat(targets[0].numpy().ravel(), max(1, len(quantiles)))
    network.get_layer("steps").set_weights([np.zeros_like(kernel), encoded])
    serving = serving_model(preprocess=preprocess, network=network, task=task)
    answers = call(serving, raw)
    np.testing.assert_allclose(answers["forecast"][0], raw["future"][0], atol=1e-4)
    day = 86_400
    np.testing.assert_array_equal(answers["time"][0], raw["time"][0].numpy() + [day, 2 * day])
    assert ("quantiles" in answers) == bool(quantiles)


def test_a_file_is_read_as_in_training_and_told_with_dates(walk, tmp_path):
    path = write(tmp_path / "new.csv", [(i, 0.5) for i in range(10)])
    task = forecasts(walk)
    names, raw = task.read([path])
    assert names == [path]
    np.testing.assert_array_equal(raw["window"][0, :, 0], [6, 7, 8, 9])
    answers = {"forecast": np.array([[[1.0], [2.0]]]), "time": raw["time"][:, None] + 86_400 * np.arange(1, 3)}
    assert task.tell(names, answers) == [
        {"input": path, "time": "2020-01-11", "value": 1.0}, {"input": path, "time": "2020-01-12", "value": 2.0}]  # fmt: skip
    short = write(tmp_path / "short.csv", [(i, 0.5) for i in range(3)])
    with pytest.raises(InputError, match="short.csv: the network sees 4 rows, got 3"):
        task.read([short])


def test_the_rows_of_a_window_of_trading_days_are_weekdays():
    monday = np.datetime64("2024-01-08", "s").astype(int)
    fridays_on = _dates_before(monday, 3, 86_400, True)
    np.testing.assert_array_equal(fridays_on, np.array(["2024-01-04", "2024-01-05", "2024-01-08"], "datetime64[D]"))
    every_day = _dates_before(monday, 3, 86_400, False)
    np.testing.assert_array_equal(every_day, np.array(["2024-01-06", "2024-01-07", "2024-01-08"], "datetime64[s]"))


def test_examples_without_a_training_range_of_their_own_have_no_scaled_error(walk):
    about = {**walk.about, "naive": {"": None}}
    report, _ = scored(dataclasses.replace(walk, about=about), lambda raw: raw["future"] + 1)
    assert report.figures["mase"] is None
    assert "mase_low" not in report.figures
