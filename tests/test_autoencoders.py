"""Autoencoders all the way: trained, scored, exported, and asked through the export and without this package."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit import catalog, train
from kerastoolkit.evaluate import evaluate
from kerastoolkit.experiment import InputError, RunError, chosen_settings, rebuild
from kerastoolkit.export import endpoints_of, export
from kerastoolkit.formats import Trained, proof, runner, saved_model
from kerastoolkit.formats.examples import made_up
from kerastoolkit.pipeline import call
from kerastoolkit.predict import predict
from kerastoolkit.runs import read_run
from kerastoolkit.serving.model import load_serving_model

ELSEWHERE = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
wanted, files = json.loads(sys.argv[2]), sys.argv[3:]
contents = tf.constant([open(path, "rb").read() for path in files])
found = {}
for endpoint, given in wanted.items():
    ask = model.signatures[endpoint]
    takes = ask.structured_input_signature[1]
    inputs = {name: tf.constant(given[name], spec.dtype) if name in given else contents for name, spec in takes.items()}
    found[endpoint] = {name: value.numpy().tolist() for name, value in ask(**inputs).items()}
assert "kerastoolkit" not in sys.modules
print(json.dumps({"endpoints": sorted(model.signatures), "found": found}))
"""
# Endpoint -> what it is asked besides the files' bytes.
ASKED = {
    "serving_default": {},
    "encode": {},
    "reconstruct": {},
    "decode": {"code": [[0.5, -1.0], [0.0, 2.0]]},
    "sample": {"seed": [1, 2, 3]},
    "log_likelihood": {"samples": [4, 4], "seed": [5, 6]},
}
OF_CODES = ["decode", "encode", "reconstruct", "serve", "serve_decoded"]
SAVED = sorted([*OF_CODES, "serving_default"])


def elsewhere(saved, asked, files):
    """(all endpoints, what the asked ones answer) of a SavedModel, in a process that does not have this package."""
    command = [sys.executable, "-c", ELSEWHERE, str(saved), json.dumps(asked), *files]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    answered = json.loads(result.stdout)
    return answered["endpoints"], answered["found"]


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    settings = {"data": "sample", "filters": (4,), "hidden": (8,), "epochs": 2}
    return train.train(catalog.find_recipe("mnist-vae"), settings, out=str(tmp_path_factory.mktemp("vae") / "run"))


@pytest.fixture(scope="module")
def exported(vae, tmp_path_factory):
    return export(str(vae), str(tmp_path_factory.mktemp("export") / "model"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two pictures of other sizes than the network's, one of them in colour."""
    folder, generator = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    paths = [folder / "a.png", folder / "b.jpg"]
    for path, size, channels in zip(paths, ((11, 20), (8, 8)), ((), (3,)), strict=True):
        Image.fromarray(generator.integers(0, 256, (*size, *channels), dtype=np.uint8)).save(path)
    return [str(path) for path in paths]


def own_endpoints(run):
    serving = load_serving_model(run)
    return endpoints_of(serving, rebuild(read_run(run)["task"]))


def test_an_exports_endpoints_answer_as_the_run_does_without_this_package(vae, exported, files):
    names, found = elsewhere(exported, ASKED, files)
    assert names == sorted([*SAVED, "sample", "log_likelihood"])
    contents, own = tf.constant([open(path, "rb").read() for path in files]), own_endpoints(vae)
    for endpoint, given in ASKED.items():
        model = own["serve" if endpoint == "serving_default" else endpoint]
        inputs = {tensor.name: tf.constant(given[tensor.name], tensor.dtype) if tensor.name in given else contents
                  for tensor in model.inputs}  # fmt: skip
        expected = call(model, inputs)
        assert found[endpoint].keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[endpoint][name], value, rtol=1e-4, atol=1e-4, err_msg=f"{endpoint} {name}")


def test_endpoints_of_an_export_are_those_of_the_task_beside_serving(vae, finished_run):
    assert sorted(own_endpoints(vae)) == sorted([*OF_CODES, "sample", "log_likelihood"])
    assert list(own_endpoints(finished_run)) == ["serve", "serve_decoded"]  # a classifier has none of its own


def test_an_export_whose_endpoint_answers_something_else_is_refused_by_its_name(vae, exported):
    serving = load_serving_model(vae)
    task = rebuild(read_run(vae)["task"])
    endpoints = endpoints_of(serving, task)

    def compare(*names):
        parts = saved_model.parts_of({name: endpoints[name] for name in names})
        batches = proof.batches_for(parts, made_up(Trained(vae, read_run(vae), task, serving)))
        return proof.compare(saved_model.FORMAT, parts, batches, runner.answered("tensorflow", exported, batches))

    compare(*endpoints)
    weight = serving.get_layer("decoded").get_layer("answer").get_layer("decoder").trainable_variables[0]
    weight.assign(2 * weight + 0.1)
    with pytest.raises(RunError, match="decode: the exported model's image differs"):
        compare("decode")
    compare("encode")


def test_predictions_of_a_run_and_of_its_export_are_equal(vae, exported, files, tmp_path):
    of_run = predict(str(vae), files, out=str(tmp_path / "answers"))
    of_export = predict(str(exported), files)
    assert [row["input"] for row in of_run] == files
    for one, other in zip(of_run, of_export, strict=True):
        assert one["code"] == pytest.approx(other["code"], abs=1e-5) and len(one["code"]) == 2
        assert {name: one[name] for name in ("psnr", "ssim")} == pytest.approx({name: other[name] for name in ("psnr", "ssim")})
    written = {path.name for path in (tmp_path / "answers").iterdir()}
    assert written == {"001-a.png", "001-a-reconstruction.png", "002-b.png", "002-b-reconstruction.png"}
    with Image.open(tmp_path / "answers" / "002-b-reconstruction.png") as image:
        assert image.size == (8, 8)


def test_a_run_is_scored_with_the_settings_given(vae, command):
    settings = ("--set", "importance_samples=7", "--set", "importance_images=20")
    status, output, errors = command("evaluate", str(vae), *settings, "--json")
    assert status == 0, errors
    record = json.loads(output)
    assert record["settings"] == {"elbo_samples": 10, "importance_samples": 7, "importance_images": 20, "seed": 0}
    assert any("7 samples for each of 20 images" in note for note in record["notes"])
    assert json.loads((vae / "evaluation.json").read_text())["figures"] == record["figures"]
    figures = record["figures"]
    assert figures["negative_elbo"] == pytest.approx(figures["reconstruction_nats"] + figures["divergence_nats"], rel=1e-5)
    names = {path.stem for path in (vae / "plots").iterdir()}
    assert names >= {"reconstructions", "latent_space", "samples", "interpolations", "manifold"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("samples=3", "scoring variational autoencoding has no setting samples (it has: elbo_samples, importance_samples,"),
        ("importance_samples=many", "importance_samples must be a whole number, got many"),
        ("importance_samples=7.5", "importance_samples must be a whole number, got 7.5"),
        ("elbo_samples=0", "elbo_samples must be in 1..1,000,000,000, got 0"),
    ],
)
def test_a_setting_of_the_scoring_that_is_wrong_is_one_line_and_exit_status_2(vae, command, setting, message):
    status, output, errors = command("evaluate", str(vae), "--set", setting)
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert message in errors


def test_a_classifier_has_no_setting_of_its_scoring(finished_run):
    with pytest.raises(InputError, match=r"scoring classification has no setting seed \(it has: none\)"):
        evaluate(str(finished_run), settings={"seed": "1"})


def test_settings_given_have_the_type_of_their_default_and_change_no_default():
    defaults = {"temperature": 1.0, "length": 10}
    chosen = chosen_settings(defaults, {"temperature": "2"}, of="writing")
    assert chosen == {"temperature": 2.0, "length": 10} and isinstance(chosen["temperature"], float)
    assert defaults == {"temperature": 1.0, "length": 10}


@pytest.mark.parametrize(
    ("name", "compiled"),
    [
        ("mnist-autoencoder", True),
        ("mnist-convolutional-autoencoder", False),
        ("mnist-denoising-autoencoder", False),
        ("cifar10-denoising-autoencoder", False),
        ("mnist-vae", True),
        ("binary-mnist-vae", False),
    ],
)
def test_xla_compiles_what_it_does_not_make_slower(name, compiled):
    recipe = catalog.find_recipe(name)
    assert train.build(recipe, catalog.arguments(recipe, {"data": "digits"}), 0).jit_compile is compiled


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(30):
        coarse = Image.fromarray(generator.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        coarse.resize((14 + number % 5, 20 - number % 3), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def test_other_data_is_brought_to_the_size_of_the_run_and_scored(vae, tmp_path):
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (11, 9), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    few = {"importance_samples": "2", "importance_images": "2", "elbo_samples": "2"}
    record, _ = evaluate(str(vae), data=str(tmp_path), settings=few)
    assert (record["data"], record["examples"]) == (tmp_path.name, 1)
    assert record["figures"]["negative_elbo"] > evaluate(str(vae), settings=few)[0]["figures"]["negative_elbo"]


def test_data_with_other_channels_is_refused_in_one_line(vae, photographs, command):
    status, output, errors = command("evaluate", str(vae), "--data", str(photographs))
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert f"the images of {photographs.name} are 8 x 8 x 3, not 8 x 8 x 1 as the run was trained on" in errors


def test_a_density_of_binary_images_is_refused_in_one_line(command):
    arguments = ["--data", "sample", "--set", "likelihood=gaussian", "--set", "binarisation=sampled", "--dry-run"]
    status, output, errors = command("train", "mnist-vae", *arguments)
    assert (status, output) == (2, "")
    assert errors == "error: binarisation sampled needs the likelihood bernoulli, got gaussian\n"


def test_a_denoising_autoencoder_goes_all_the_way(files, tmp_path):
    settings = {"data": "sample", "hidden": (16,), "levels": (0.1, 0.3), "epochs": 2}
    run = str(train.train(catalog.find_recipe("mnist-denoising-autoencoder"), settings, out=str(tmp_path / "run")))
    record, report = evaluate(run)
    assert record["examples"] == 2 * 360
    assert [row["level"] for row in next(iter(report.tables.values()))] == [0.1, 0.3]
    assert set(record["baselines"]) == {"noisy", "median filter"}
    assert "settings" not in record
    saved = export(run)
    of_run, of_export = predict(run, files, out=str(tmp_path / "answers")), predict(str(saved), files)
    for one, other in zip(of_run, of_export, strict=True):
        assert one["mean_change_in_grey_levels"] == pytest.approx(other["mean_change_in_grey_levels"], abs=1e-3)
    assert (tmp_path / "answers" / "001-a-cleaned.png").is_file()
    loaded = tf.saved_model.load(saved)
    assert sorted(loaded.signatures) == SAVED
    cleaned = loaded.signatures["reconstruct"](image=tf.constant([open(files[1], "rb").read()]))["reconstruction"]
    with Image.open(tmp_path / "answers" / "002-b-cleaned.png") as image:
        np.testing.assert_allclose(np.asarray(image), cleaned[0, ..., 0], atol=0.51)


@pytest.mark.slow
def test_a_flat_folder_of_photographs_goes_all_the_way(photographs, tmp_path, command):
    settings = {"data": str(photographs), "size": 12, "filters": (4,), "hidden": (), "code": 3, "epochs": 2, "batch_size": 8}
    run = train.train(catalog.find_recipe("mnist-convolutional-autoencoder"), settings, out=str(tmp_path / "run"))
    record, report = evaluate(str(run))
    assert record["examples"] == 3
    assert np.isfinite(record["figures"]["psnr"])
    assert set(record["baselines"]) == {"PCA with 3 components"}  # without labels nothing is classified
    saved = export(str(run))
    (row,) = predict(str(saved), [str(photographs / "3.png")], out=str(tmp_path / "answers"))
    loaded = tf.saved_model.load(saved)
    assert sorted(loaded.signatures) == SAVED
    code = loaded.signatures["encode"](image=tf.constant([(photographs / "3.png").read_bytes()]))["code"]
    np.testing.assert_allclose(code, [row["code"]], rtol=1e-4, atol=1e-5)
    with Image.open(io.BytesIO((tmp_path / "answers" / "001-3-reconstruction.png").read_bytes())) as image:
        assert (image.size, image.mode) == ((12, 12), "RGB")
    status, output, _ = command("predict", str(run), str(photographs / "3.png"))
    assert status == 0 and "psnr" in output and "code" not in output  # lists are for --json
