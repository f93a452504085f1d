"""Windows of series: what each part holds, and that nothing of the future reaches the past."""

import numpy as np
import pytest

from kerastoolkit.data.preprocessing import window_features
from kerastoolkit.data.series import bokeh_stocks, seattle_weather, stocks, weather
from kerastoolkit.experiment import InputError, rebuild


def csv(path, values, *, start="2020-01-01", hours=24, header="date,temperature,wind"):
    times = np.datetime64(start, "s") + np.arange(len(values)) * np.timedelta64(hours, "h")
    lines = [
        header,
        *(f"{str(when).replace('T', ' ')},{','.join(map(str, row))}" for when, row in zip(times, values, strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def walk():
    generator = np.random.default_rng(0)
    return np.round(100 + np.cumsum(generator.normal(size=(200, 2)), axis=0), 4)


def batch(data, split, number=None):
    source = data.split(split)
    return {name: value.numpy() for name, value in source.fetch(np.arange(source.size) if number is None else [number]).items()}


def test_a_window_is_followed_by_its_future(tmp_path, walk):
    data = weather(csv(tmp_path / "w.csv", walk), window=5, horizon=3)
    raw = batch(data, "train")
    np.testing.assert_allclose(raw["window"][7], walk[7:12], rtol=1e-6)
    np.testing.assert_allclose(raw["future"][7][:, 0], walk[12:15, 0], rtol=1e-6)
    assert raw["time"][7] == np.datetime64("2020-01-12", "s").astype(int)


def test_the_parts_follow_one_another_and_share_no_truth(tmp_path, walk):
    data = weather(csv(tmp_path / "w.csv", walk), window=5, horizon=3, validation=0.1, test=0.2)
    days = {split: batch(data, split)["time"] // 86_400 - 18_262 for split in ("train", "validation", "test")}
    truths = {split: {day + h for day in each for h in (1, 2, 3)} for split, each in days.items()}
    assert max(truths["train"]) < min(truths["validation"]) <= max(truths["validation"]) < min(truths["test"])
    assert max(truths["test"]) == 199
    assert min(truths["test"]) == 160  # the last fifth by date


@pytest.mark.parametrize("transform", ["values", "differences", "log_returns"])
def test_changing_the_future_changes_no_past_forecast_scale_or_window(tmp_path, walk, transform):
    before = weather(csv(tmp_path / "a.csv", walk), window=5, horizon=3, transform=transform)
    changed = walk.copy()
    changed[141:] = 7.0 + 3.0 * changed[141:]  # all that comes after the training range, row 140 of 0..199 at 70 %
    changed[-1] = 500.0
    after = weather(csv(tmp_path / "b.csv", changed), window=5, horizon=3, transform=transform)
    for name in ("mean", "deviation", "scale", "naive"):
        assert before.about[name] == after.about[name], name
    for name, values in batch(before, "train").items():
        np.testing.assert_array_equal(values, batch(after, "train")[name])
    inputs = {name: batch(before, "train")[name] for name in ("window", "time")}
    for name, values in window_features(before)(inputs).items():
        np.testing.assert_array_equal(values, window_features(after)(inputs)[name])


def test_a_file_in_the_form_of_the_jena_climate_is_read(tmp_path):
    """Its header and the form of its dates: https://www.bgc-jena.mpg.de/wetter/."""
    header = '"Date Time","p (mbar)","T (degC)","rh (%)","max. wv (m/s)"'
    times = np.datetime64("2008-12-31T23:50", "s") + np.arange(60) * np.timedelta64(600, "s")
    lines = [f"{when.item():%d.%m.%Y %H:%M:%S},996.52,{-8 + i / 10:.2f},93.3,1.75" for i, when in enumerate(times)]
    (tmp_path / "jena.csv").write_text("\n".join([header, *lines]) + "\n")
    data = weather(str(tmp_path / "jena.csv"), window=6, horizon=2)
    assert (data.about["targets"], data.about["step"], data.about["season"]) == (("T (degC)",), 600, 144)
    assert data.about["columns"] == ("p (mbar)", "T (degC)", "rh (%)", "max. wv (m/s)")
    assert batch(data, "train")["time"][0] == times[5].astype(int)


def test_changing_the_training_range_does_change_the_scale(tmp_path, walk):
    before = weather(csv(tmp_path / "a.csv", walk), window=5, horizon=3)
    walk[100] += 50
    assert before.about["scale"] != weather(csv(tmp_path / "b.csv", walk), window=5, horizon=3).about["scale"]


def test_mean_deviation_and_scale_are_those_of_the_training_rows(tmp_path, walk):
    data = weather(csv(tmp_path / "w.csv", walk), window=5, horizon=2, transform="differences")
    rows = walk[: int(199 * 0.7) + 1]
    np.testing.assert_allclose(data.about["mean"], rows.mean(axis=0))
    np.testing.assert_allclose(data.about["deviation"], rows.std(axis=0))
    moves = [[rows[i + h, 0] - rows[i, 0] for i in range(4, len(rows) - 2)] for h in (1, 2)]
    np.testing.assert_allclose(np.array(data.about["scale"])[:, 0], np.std(moves, axis=1))
    np.testing.assert_allclose(data.about["naive"][""], [np.abs(np.diff(rows[:, 0])).mean()])


def test_what_was_filled_in_is_never_a_truth(tmp_path, walk):
    values = walk.astype(object)
    values[50, 0] = "NA"
    path = csv(tmp_path / "w.csv", values)
    with pytest.raises(InputError, match=r"w.csv, line 52: temperature is missing.*gaps=forward"):
        weather(path, window=5, horizon=3)
    data = weather(path, window=5, horizon=3, gaps="forward")
    days = batch(data, "train")["time"] // 86_400 - 18_262
    assert not {47, 48, 49} & set(days)
    assert {46, 50} <= set(days)
    assert any("1 missing cells" in note for note in data.notes)
    raw = batch(data, "train", list(days).index(50))
    assert raw["window"][0, -1, 0] == np.float32(walk[49, 0])


def test_a_season_before_is_the_row_of_a_season_before(tmp_path):
    values = np.stack([np.arange(400.0), np.zeros(400)], axis=1)
    data = weather(csv(tmp_path / "w.csv", values, hours=1), window=5, horizon=30)
    raw = batch(data, "test")
    np.testing.assert_array_equal(raw["future"] - raw["seasonal"], 48.0)  # a horizon of 30 hours reaches back two days
    assert data.about["season"] == 24


def prices(path, tickers, rows=120):
    lines, generator = ["Symbol,DATE,open,High,low,CLOSE,Adj Close,volume"], np.random.default_rng(0)
    for ticker in tickers:
        day = np.datetime64("2020-01-01")
        for _ in range(rows):
            day = np.busday_offset(day, 1, roll="forward")
            price = generator.uniform(50, 60)
            lines.append(f"{ticker},{day},{price},{price + 1},{price - 1},{price},{price / 2},{generator.integers(1000) + 1}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_stocks_take_the_adjusted_close_of_every_ticker(tmp_path):
    data = stocks(prices(tmp_path / "p.csv", ["A", "B"]), window=10, horizon=2)
    assert data.about["targets"] == ("Adj Close",)
    assert data.about["columns"] == ("open", "High", "low", "CLOSE", "Adj Close", "volume")
    assert data.about["series"] == ("A", "B")
    raw = batch(data, "train")
    assert set(raw["series"]) == {0, 1}
    # No window reaches from one ticker into the other.
    jumps = np.abs(np.diff(raw["window"][:, :, 3], axis=1)).max()
    assert jumps < 10.1


def test_without_an_adjusted_close_it_is_the_close(tmp_path):
    path = tmp_path / "p.csv"
    prices(path, ["A"])
    path.write_text(path.read_text().replace("Adj Close", "Other"))
    assert stocks(str(path), window=10, horizon=2).about["targets"] == ("CLOSE",)
    assert stocks(str(path), window=10, horizon=2, target="high").about["targets"] == ("High",)


def test_a_move_beyond_forty_percent_is_told_as_a_suspected_split(tmp_path):
    path = tmp_path / "p.csv"
    rows = [f"2020-{1 + i // 28:02}-{1 + i % 28:02},{100 if i < 60 else 50}" for i in range(120)]
    path.write_text("date,close\n" + "\n".join(rows))
    notes = stocks(str(path), window=10, horizon=2, transform="differences").notes
    assert any("close moves by -50% on 2020-03-05: a split" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"window": 500}, "need more rows"),
        ({"transform": "logs"}, "transform must be values, differences, log_returns, got logs"),
        ({"test": 0.0}, "validation and test must be shares"),
        ({"validation": 0.9}, "validation and test must be shares"),
        ({"target": ("rain",)}, "has no numeric column rain"),
        ({"columns": ("rain",)}, "has no column rain"),
        ({"gaps": "fill"}, "gaps must be refuse or forward, got fill"),
        ({"data": "nowhere.csv"}, "unknown series nowhere.csv"),
    ],
)
def test_a_wrong_argument_is_refused(tmp_path, walk, change, message):
    arguments = {"data": csv(tmp_path / "w.csv", walk), "window": 5, "horizon": 3, **change}
    with pytest.raises(InputError, match=message):
        weather(**arguments)


def test_log_returns_of_a_target_at_or_below_zero_are_refused(tmp_path, walk):
    with pytest.raises(InputError, match="log_returns need targets above 0, got -"):
        weather(csv(tmp_path / "w.csv", walk - 200), window=5, horizon=3, transform="log_returns")


def test_a_data_set_is_rebuilt_from_its_description(tmp_path, walk):
    import json

    data = weather(csv(tmp_path / "w.csv", walk), window=5, horizon=3)
    again = rebuild(json.loads(json.dumps(data.description)))
    np.testing.assert_array_equal(batch(data, "test")["window"], batch(again, "test")["window"])


def test_the_samples_are_real_series_of_known_length():
    weather_data, prices_data = seattle_weather(), bokeh_stocks()
    assert weather_data.about["columns"] == ("precipitation", "temp_max", "temp_min", "wind")
    assert weather_data.about["targets"] == ("temp_max",)
    assert prices_data.about["series"] == ("AAPL", "FB", "GOOG", "IBM", "MSFT")
    assert prices_data.about["naive"]["FB"] is None  # its shares were first traded after the training range
