"""Series and text all the way: trained, scored, exported, and asked through the export, with settings."""

import json
import subprocess
import sys

import numpy as np
import pytest

from kerastoolkit import catalog, train
from kerastoolkit.evaluate import evaluate
from kerastoolkit.experiment import InputError
from kerastoolkit.export import export
from kerastoolkit.predict import predict

ELSEWHERE = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
takes = serve.structured_input_signature[1]
inputs = {name: tf.constant(value, takes[name].dtype) for name, value in json.loads(sys.argv[2]).items()}
answers = serve(**inputs)
assert "kerastoolkit" not in sys.modules
print(json.dumps({name: value.numpy().tolist() for name, value in answers.items()}, default=bytes.decode))
"""


def elsewhere(saved, **inputs):
    """What the SavedModel answers in a process that does not have this package."""
    command = [sys.executable, "-c", ELSEWHERE, str(saved), json.dumps(inputs)]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A run that has learned a text which repeats itself."""
    folder = tmp_path_factory.mktemp("writer")
    (folder / "t.txt").write_text("abcdefg\n" * 500)
    recipe = catalog.find_recipe("shakespeare-gru")
    settings = {"data": str(folder / "t.txt"), "units": 24, "embedding": 8, "window": 16, "epochs": 8, "learning_rate": 0.02,
                "dropout": 0.0}  # fmt: skip
    return train.train(recipe, settings, out=str(folder / "run"))


def test_a_text_that_repeats_itself_is_learned_and_gone_on_with(writer):
    record, report = evaluate(str(writer))
    assert record["figures"]["nats_per_character"] < 0.05
    assert next(iter(report.baselines.values()))["nats_per_character"] == pytest.approx(np.log(8), rel=1e-3)
    saved = str(export(str(writer)))
    for target in (str(writer), saved):
        (row,) = predict(target, ["abc"], settings={"length": "10", "temperature": "0"})
        assert row["text"] == "defg\nabcde"
    settings = {"temperature": [0.0, 0.0], "top_k": [0, 0], "length": [4, 4], "seed": [0, 0]}
    assert elsewhere(saved, prompt=["abc", "f"], **settings)["text"] == ["defg", "g\nab"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmth": "1"}, r"has no setting warmth \(it has: temperature, top_k, length, seed\)"),
        ({"length": "1.5"}, "length must be a whole number, got 1.5"),
        ({"temperature": "hot"}, "temperature must be a number, got hot"),
    ],
)
def test_a_setting_that_the_answer_does_not_have_is_refused(writer, settings, message):
    with pytest.raises(InputError, match=message):
        predict(str(writer), ["abc"], settings=settings)


def test_a_csv_file_of_ones_own_goes_all_the_way(tmp_path):
    hours = np.datetime64("2020-01-01T00") + np.arange(600)
    values = 10 + 5 * np.sin(np.arange(600) * 2 * np.pi / 24)
    path = tmp_path / "mine.csv"
    path.write_text("time,temp,sky\n" + "".join(f"{h}:00,{v:.4f},x\n" for h, v in zip(hours, values, strict=True)))
    recipe = catalog.find_recipe("weather-gru")
    settings = {"data": str(path), "window": 12, "horizon": 6, "units": 16, "epochs": 20, "learning_rate": 0.01, "dropout": 0.0}
    run = train.train(recipe, settings, out=str(tmp_path / "run"))
    record, report = evaluate(str(run))
    assert record["figures"]["mae"] < 0.3 * report.baselines["persistence"]["mae"]
    assert {path.name for path in (run / "plots").iterdir()} >= {"curves.png", "forecast.png", "error_by_step.png"}
    saved = export(str(run))
    rows = predict(str(saved), [str(path)], out=str(tmp_path / "answers"))
    assert [row["time"] for row in rows] == [str(hours[-1] + h).replace("T", " ") + ":00" for h in range(1, 7)]
    truth = 10 + 5 * np.sin((599 + np.arange(1, 7)) * 2 * np.pi / 24)
    np.testing.assert_allclose([row["temp"] for row in rows], truth, atol=1.5)
    assert (tmp_path / "answers" / "001-mine.png").is_file()
    latest = hours[-1].astype("datetime64[s]").astype(int).item()
    answers = elsewhere(saved, window=[values[-12:, None].tolist()], time=[latest])
    np.testing.assert_allclose(np.ravel(answers["forecast"]), [row["temp"] for row in rows], rtol=1e-3)


def series_file(path, columns, step="h", rows=400):
    times = np.datetime64("2020-01-01T00") + np.arange(rows).astype(f"timedelta64[{step}]")
    values = np.random.default_rng(0).normal(10, 1, (rows, len(columns)))
    lines = [f"{time}:00," + ",".join(map(str, row)) for time, row in zip(times, values, strict=True)]
    path.write_text("\n".join([f"time,{','.join(columns)}", *lines]) + "\n")
    return str(path)


def test_a_run_is_scored_on_another_file_that_has_its_columns_at_its_times(tmp_path):
    recipe = catalog.find_recipe("weather-gru")
    settings = {"data": series_file(tmp_path / "mine.csv", ["temp", "wind"]), "window": 6, "horizon": 2, "units": 4, "epochs": 1}
    run = str(train.train(recipe, settings, out=str(tmp_path / "run")))
    other = series_file(tmp_path / "other.csv", ["dew", "wind", "temp"], rows=300)
    record, _ = evaluate(run, data=other)
    assert record["data"] == other
    assert np.isfinite(record["figures"]["mae"])
    with pytest.raises(InputError, match="has no column wind"):
        evaluate(run, data=series_file(tmp_path / "third.csv", ["temp", "dew"]))
    with pytest.raises(InputError, match="are 86400 seconds apart, not 3600 as the run"):
        evaluate(run, data=series_file(tmp_path / "daily.csv", ["temp", "wind"], step="D"))
