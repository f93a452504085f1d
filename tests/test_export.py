"""Evaluate, predict and export: what is scored is what is exported, and an export needs nothing of this package."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kerastoolkit.evaluate import evaluate
from kerastoolkit.experiment import InputError
from kerastoolkit.export import export
from kerastoolkit.predict import predict
from kerastoolkit.serving.model import load_serving_model

ELSEWHERE = """
import json, sys
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
contents = tf.constant([open(path, "rb").read() for path in sys.argv[2:]])
answers = model.serve(contents)
pixels = model.serve_decoded(tf.zeros((3, 8, 8, 1)))
assert "kerastoolkit" not in sys.modules
print(json.dumps({"probabilities": answers["probabilities"].numpy().tolist(),
                  "label": [label.decode() for label in answers["label"].numpy()],
                  "decoded": list(pixels["probabilities"].shape)}))
"""


@pytest.fixture
def pictures(tmp_path):
    generator, paths = np.random.default_rng(0), []
    for name, size in (("a.png", (31, 40)), ("b.jpg", (64, 17)), ("c.png", (8, 8))):
        coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        paths.append(tmp_path / name)
        coarse.resize(size, Image.Resampling.BICUBIC).save(paths[-1])
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    return export(str(finished_run), str(tmp_path_factory.mktemp("export") / "model"))


def test_an_export_answers_files_of_all_sizes_as_the_run_does_without_this_package(finished_run, exported, pictures):
    import tensorflow as tf

    command = [sys.executable, "-c", ELSEWHERE, str(exported), *pictures]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    answers = json.loads(result.stdout)
    serving = load_serving_model(finished_run)
    expected = serving(tf.constant([open(path, "rb").read() for path in pictures]))
    np.testing.assert_allclose(answers["probabilities"], expected["probabilities"], atol=1e-5)
    assert answers["label"] == [label.decode() for label in expected["label"].numpy()]
    assert answers["decoded"] == [3, 10]


def test_an_export_needs_only_the_run_folder(finished_run, tmp_path, monkeypatch):
    folder = tmp_path / "moved"
    shutil.copytree(finished_run, folder)
    shutil.rmtree(folder / "checkpoints")
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "source": "gone.py:gone"}))
    monkeypatch.chdir(tmp_path)
    assert (export(str(folder)) / "saved_model.pb").is_file()


def test_an_export_target_that_exists_is_refused_and_left_alone(finished_run, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="export target .* exists"):
        export(str(finished_run), str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_what_is_not_a_run_is_refused(tmp_path):
    for verb in (export, evaluate, lambda folder: predict(folder, ["x.png"])):
        with pytest.raises(InputError, match="is not a run folder"):
            verb(str(tmp_path))
        with pytest.raises(InputError, match="does not exist"):
            verb(str(tmp_path / "none"))


def test_predictions_of_a_run_and_of_its_export_are_the_same(finished_run, exported, digit_file, tmp_path):
    of_run = predict(str(finished_run), [str(digit_file)], out=str(tmp_path / "answers"))
    of_export = predict(str(exported), [str(digit_file)])
    assert of_run[0]["label"] == of_export[0]["label"]
    assert of_run[0]["probabilities"] == pytest.approx(of_export[0]["probabilities"], abs=1e-5)
    assert sum(of_run[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    (picture,) = (tmp_path / "answers").iterdir()
    assert np.asarray(Image.open(picture).convert("L")).std() > 10  # something is drawn


def test_a_folder_of_images_is_answered_in_order(finished_run, pictures, tmp_path):
    rows = predict(str(finished_run), [str(tmp_path)])
    assert [row["input"] for row in rows] == pictures


@pytest.mark.parametrize("kind", ["truncated", "text", "missing", "huge"])
def test_a_bad_image_is_refused_by_name(finished_run, tmp_path, kind):
    path = tmp_path / "bad.png"
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    contents = file.getvalue()
    if kind == "truncated":
        path.write_bytes(contents[: len(contents) // 2])
    elif kind == "text":
        path.write_text("a letter")
    elif kind == "huge":
        path.write_bytes(contents[:16] + (20_000).to_bytes(4, "big") * 2 + contents[24:])
    with pytest.raises(InputError, match="bad.png"):
        predict(str(finished_run), [str(path)], out=str(tmp_path / "answers"))
    assert not (tmp_path / "answers").exists()


def test_figures_are_those_counted_slowly(finished_run):
    from sklearn.metrics import f1_score, log_loss

    from kerastoolkit.data.images import labelled_images
    from kerastoolkit.evaluate import answered

    record, report = evaluate(str(finished_run))
    batches = list(answered(load_serving_model(finished_run), labelled_images("digits"), "test", {}, 250))
    labels = np.concatenate([raw["label"] for raw, _ in batches])
    probabilities = np.concatenate([answers["probabilities"] for _, answers in batches]).astype(np.float64)
    answer = probabilities.argmax(axis=1)
    assert record["examples"] == len(labels) == 360
    assert record["figures"]["accuracy"] == pytest.approx(sum(a == b for a, b in zip(answer, labels, strict=True)) / 360)
    assert record["figures"]["macro_f1"] == pytest.approx(f1_score(labels, answer, average="macro", zero_division=0))
    normalised = probabilities / probabilities.sum(axis=1, keepdims=True)
    assert record["figures"]["log_loss"] == pytest.approx(log_loss(labels, normalised), rel=1e-4)
    assert record["baselines"]["most frequent class"]["accuracy"] == pytest.approx(np.bincount(labels).max() / 360)
    assert json.loads((finished_run / "evaluation.json").read_text())["figures"] == record["figures"]
    assert {path.stem for path in (finished_run / "plots").iterdir()} >= {"curves", "confusion"}
    assert sum(row["images"] for row in report.tables["by class"]) == 360


def test_data_with_other_classes_is_refused(finished_run):
    with pytest.raises(InputError, match="cifar10 has other classes"):
        evaluate(str(finished_run), data="cifar10")


def test_a_run_that_is_not_finished_is_told_how_to_continue(finished_run, tmp_path):
    record = json.loads((finished_run / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "status": "unfinished"}))
    with pytest.raises(InputError, match="train --resume"):
        export(str(tmp_path))


def test_each_weight_is_written_once(finished_run, exported):
    import tensorflow as tf

    written = [name for name, _ in tf.train.list_variables(str(exported / "variables" / "variables"))
               if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]  # fmt: skip
    needed = [each for each in load_serving_model(finished_run).variables if each.name != "seed_generator_state"]
    assert len(written) == len(needed)
