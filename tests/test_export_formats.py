"""Exports in several formats: what each can hold is said, and none is written that does not answer as the run does."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import catalog, train
from kerastoolkit import export as verb
from kerastoolkit.experiment import InputError, RunError, rebuild
from kerastoolkit.export import FORMATS, export, export_all
from kerastoolkit.formats import Part, Trained, proof, runner
from kerastoolkit.formats.examples import examples_of
from kerastoolkit.formats.parts import largest_part
from kerastoolkit.predict import predict
from kerastoolkit.runs import read_run
from kerastoolkit.serving.images import ClassNames
from kerastoolkit.serving.model import decoded_model, load_serving_model, serving_model

ALL = ("saved_model", "onnx", "litert")
CLASSES = [str(number) for number in range(10)]


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """(where each format is, what was said on standard error)."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        written = export_all(str(finished_run), str(tmp_path_factory.mktemp("export") / "all"), kinds=ALL)
    return written, said.getvalue().splitlines()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).uniform(0, 255, (5, 8, 8, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(finished_run, pixels):
    return decoded_model(load_serving_model(finished_run))(pixels)["probabilities"].numpy()


def untrained(name, folder, **settings):
    """A run of a recipe as it begins, on its sample."""
    recipe = catalog.find_recipe(name)
    experiment = train.build(recipe, catalog.arguments(recipe, {"data": "sample", **settings}), 0)
    experiment.network.save(folder / "model.keras")
    serving = serving_model(preprocess=experiment.preprocess, network=experiment.network, task=experiment.task)
    record = {"task": experiment.task.description, "data_set": experiment.data.description, "recipe": name}
    return Trained(folder, record, experiment.task, serving)


def proved(run, kind, folder):
    """(the part that a format holds of a run, the line on it, the largest difference of its answers)."""
    parts, line = FORMATS[kind].choose(run)
    FORMATS[kind].write(parts, folder / FORMATS[kind].file, run.about)
    return parts[0], line, proof.prove(FORMATS[kind], folder / FORMATS[kind].file, parts, examples_of(run))


def test_several_formats_stand_in_one_folder_by_their_names(exported):
    written, _ = exported
    assert list(written) == list(ALL)
    (home,) = {path.parent for path in written.values()}
    assert sorted(path.name for path in home.iterdir()) == ["model.onnx", "model.tflite", "saved_model"]


def test_what_a_format_cannot_hold_is_said_before_and_how_equal_it_is_afterwards(exported):
    _, said = exported
    why = "holds serve_decoded: image -> probabilities; label (string) left out; no more, because serve takes strings (image)"
    assert said[:2] == [f"onnx {why}", f"litert {why}"]
    assert [line.split(": equal to ")[0] for line in said[2:]] == list(ALL)
    assert all(" on 8 examples of digits, in " in line for line in said[2:])


def test_an_onnx_file_answers_any_number_of_examples_and_tells_its_classes(exported, pixels, expected):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported[0]["onnx"]), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        (probabilities,) = session.run(["probabilities"], {"image": pixels[:count]})
        np.testing.assert_allclose(probabilities, expected[:count], atol=1e-5)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == CLASSES
    assert told["holds"] == "serve_decoded"


def test_a_litert_file_answers_any_number_of_examples_and_carries_its_description(exported, pixels, expected):
    from ai_edge_litert.interpreter import Interpreter

    path = exported[0]["litert"]
    answer = Interpreter(str(path)).get_signature_runner("serve_decoded")
    for count in (1, 5):
        np.testing.assert_allclose(answer(image=pixels[:count])["probabilities"], expected[:count], atol=1e-5)
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("kerastoolkit.json"))["task"]["arguments"]["classes"] == CLASSES


@pytest.mark.parametrize("kind", ALL)
def test_an_export_that_answers_something_else_is_refused_and_nothing_is_left(finished_run, tmp_path, monkeypatch, kind):
    def write_another(parts, path, about):
        weight = parts[0].model.trainable_variables[-1]  # the bias of the logits
        weight.assign_add(np.linspace(0, 1, weight.shape[0]))
        try:
            FORMATS_BEFORE[kind].write(parts, path, about)
        finally:
            weight.assign_sub(np.linspace(0, 1, weight.shape[0]))

    FORMATS_BEFORE = dict(FORMATS)
    monkeypatch.setitem(FORMATS, kind, replace(FORMATS[kind], write=write_another))
    with pytest.raises(RunError, match=f"^{kind}, serve.*: the exported model's (probabilities|label) differs from the run's by"):
        export_all(str(finished_run), str(tmp_path / "all"), kinds=("litert", kind) if kind == "onnx" else (kind,))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_a_file_that_its_runtime_cannot_run_is_refused_and_nothing_is_left(finished_run, tmp_path, monkeypatch, kind):
    damaged = replace(FORMATS[kind], write=lambda parts, path, about: path.write_bytes(b"nothing"))
    monkeypatch.setitem(FORMATS, kind, damaged)
    with pytest.raises(RunError, match=f"^{kind}: .* cannot run the exported model") as error:
        export(str(finished_run), str(tmp_path / "new" / "model"), kind=kind)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_converted_is_refused_in_one_line(finished_run, tmp_path, monkeypatch):
    def fail(parts, path, about):
        raise RuntimeError("\n the converter is lost\nand says why on many lines")

    monkeypatch.setitem(FORMATS, "litert", replace(FORMATS["litert"], write=fail))
    with pytest.raises(RunError, match=r"^litert: the model cannot be converted \(the converter is lost\); nothing was written$"):
        export(str(finished_run), str(tmp_path / "model"), kind="litert")
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_does_not_answer_in_time_is_not_waited_for(finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "SECONDS", 0.01)
    with pytest.raises(RunError, match="litert: ai-edge-litert has not answered"):
        export(str(finished_run), str(tmp_path / "model"), kind="litert")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["tf2onnx", "onnxruntime", "ai-edge-litert"])
def test_a_missing_package_is_named_with_what_installs_it(finished_run, tmp_path, monkeypatch, package):
    module, found = package.replace("-", "_"), verb.importlib.util.find_spec
    monkeypatch.setattr(verb.importlib.util, "find_spec", lambda name: None if name == module else found(name))
    kind = "litert" if module == "ai_edge_litert" else "onnx"
    with pytest.raises(InputError, match=rf"format {kind} needs .*{package}.*: pip install 'kerastoolkit\[{kind}\]'"):
        export_all(str(finished_run), str(tmp_path / "all"), kinds=("saved_model", kind))
    assert list(tmp_path.iterdir()) == []


def test_one_target_in_the_way_of_several_is_refused_and_left_alone(finished_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "model.onnx").write_text("dear")
    before = sorted(path.name for path in run.iterdir())
    with pytest.raises(InputError, match="model.onnx exists; nothing was written"):
        export_all(str(run), kinds=ALL)
    assert sorted(path.name for path in run.iterdir()) == before
    assert (run / "model.onnx").read_text() == "dear"


def test_the_command_takes_formats_parted_by_commas(finished_run, tmp_path, command):
    status, out, _ = command("export", str(finished_run), str(tmp_path / "all"), "--format", "litert,onnx")
    assert (status, out) == (0, f"exported: {tmp_path}/all/model.tflite\nexported: {tmp_path}/all/model.onnx\n")


@pytest.mark.parametrize(("kinds", "message"), [
    ("onnx,pickle", "classification is exported as saved_model, onnx or litert, got pickle"),
    ("onnx,onnx", "format onnx is given twice"),
])  # fmt: skip
def test_formats_that_are_none_are_refused(finished_run, command, kinds, message):
    status, _, errors = command("export", str(finished_run), "--format", kinds)
    assert (status, errors) == (2, f"error: {message}\n")


def test_the_process_that_is_asked_has_neither_this_package_nor_tensorflow(exported, tmp_path, pixels):
    runner.save(tmp_path / "given.npz", {"serve_decoded": [{"image": pixels}]})
    for kind in ("onnx", "litert"):
        command = [sys.executable, "-X", "importtime", "-P", runner.__file__, FORMATS[kind].runtime, str(exported[0][kind]),
                   str(tmp_path / "given.npz"), str(tmp_path / "answered.npz")]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert result.returncode == 0, result.stderr[-2000:]
        imported = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
        assert "numpy" in imported
        assert imported.isdisjoint({"kerastoolkit", "keras", "tensorflow"})


def test_strings_reach_the_process_whole(tmp_path):
    strings = np.array([[b"ends in nothing\0\0", b""], [b"\0", "\u2603".encode()]], dtype=object)
    runner.save(tmp_path / "some.npz", {"serve": [{"text": strings, "count": np.arange(2)}, {"text": strings[:0]}]})
    first, second = runner.load(tmp_path / "some.npz")["serve"]
    assert first["text"].tolist() == strings.tolist()
    assert first["count"].tolist() == [0, 1]
    assert second["text"].shape == (0, 2)


def test_an_lstm_is_written_out_for_litert_and_equal(tmp_path):
    run = untrained("stocks-lstm", tmp_path, units=8, window=12)
    part, line, difference = proved(run, "litert", tmp_path)
    assert part.name == "serve"
    assert list(part.answers) == ["forecast"]
    assert "time (FloorDiv of int64) left out" in line
    assert line.endswith("; its loops over time are written out, 12 steps")
    assert difference < 1e-5
    assert not any(layer.unroll for layer in run.network.layers if isinstance(layer, keras.layers.RNN))


def test_an_lstm_of_any_length_is_refused_for_litert_before_any_work_and_is_a_loop_in_onnx(tmp_path):
    run = untrained("shakespeare-lstm", tmp_path, units=8, embedding=4)
    with pytest.raises(InputError, match=r"^litert cannot hold this run: .*network needs a loop for logits$"):
        FORMATS["litert"].choose(run)
    part, line, difference = proved(run, "onnx", tmp_path)
    assert line == "onnx holds network: tokens -> logits; no more, because serve takes strings (prompt)"
    assert difference < 1e-5


def test_an_answer_with_the_name_of_an_input_gets_another_one_in_onnx(tmp_path):
    part, _, difference = proved(untrained("stocks-gru", tmp_path, units=8, window=12), "onnx", tmp_path)
    assert part.answers == {"forecast": "forecast", "time": "time_answer"}
    assert difference < 1e-5


def test_data_that_is_not_here_is_not_fetched_and_made_up_examples_stand_in(finished_run, monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    record = read_run(finished_run)
    away = {"function": record["data_set"]["function"], "arguments": {**record["data_set"]["arguments"], "data": "cifar10"}}
    run = Trained(finished_run, {**record, "data_set": away}, rebuild(record["task"]), load_serving_model(finished_run))
    examples = examples_of(run)
    assert examples.about == "3 made-up examples, because the data is not here"
    assert len(examples.given_to(run.serving, prepared=False)["image"]) == 3


def test_the_network_is_asked_what_preprocessing_and_training_give_it(tmp_path):
    run = untrained("bert-pretrain", tmp_path, size="tiny", weights=None)
    examples, parts = examples_of(run), [Part("network", run.network, {})]
    given = examples.given_to(run.network, prepared=True)
    assert given["tokens"].shape == given["segments"].shape
    assert given["positions"].shape[1] > 1  # of the words that training masks
    assert examples.about_those_for(parts) == examples.about


def test_what_the_network_takes_and_the_runs_record_does_not_tell_is_made_up_and_said(tmp_path):
    run = untrained("dates-transformer", tmp_path)
    examples = examples_of(run)
    given = examples.given_to(run.network, prepared=True)
    assert given["source_tokens"].shape == given["target_tokens"].shape
    assert given["source_tokens"].max() > 8
    assert examples.about_those_for([Part("network", run.network, {})]) == "8 examples of dates with target_tokens made up"


def choosing(outputs, inputs, lacking):
    model = keras.Model(inputs, outputs)
    return largest_part({"serve": model}, lambda op, kind: op not in lacking and (op, kind) not in lacking, format="some")


@keras.saving.register_keras_serializable(package="tests")
class Files(keras.layers.Layer):
    """Numbers -> files."""

    def call(self, x):
        return tf.map_fn(lambda one: tf.io.encode_png(tf.cast(one, tf.uint8)), x, fn_output_signature=tf.string)

    def compute_output_spec(self, x):
        return keras.KerasTensor((None,), "string")


def test_names_and_whole_numbers_may_be_left_out_but_nothing_else_may():
    x = keras.Input((3,), name="x")
    softmax, total = keras.ops.softmax(x), keras.ops.sum(keras.ops.cast(x, "int32"), axis=-1)
    part, line = choosing({"a": softmax, "b": total, "c": ClassNames(["p", "q", "r"])(x)}, x, {("Sum", "int32")})
    assert list(part.answers) == ["a"]
    assert line == "some holds serve: x -> a; b (Sum of int32), c (string) left out"
    with pytest.raises(InputError, match=r"some cannot hold this run: serve needs Softmax for a$"):
        choosing({"a": softmax, "b": total}, x, {"Softmax"})


def test_files_are_no_names_that_may_be_left_out():
    x = keras.Input((4, 4, 1), name="x")
    lacking = {"EncodePng"}
    with pytest.raises(InputError, match=r"serve needs EncodePng.* for files$"):
        choosing({"files": Files()(x), "sums": keras.ops.sum(x, axis=(1, 2, 3))}, x, lacking)


def test_an_answer_in_which_nothing_is_found_is_not_called_equal_to_so_many_digits():
    x = keras.Input((3,), name="x")
    found = keras.Model(x, {"boxes": keras.ops.zeros_like(x)[:, :1], "count": keras.ops.cast(keras.ops.sum(x, axis=1), "int32")})
    parts = [Part("serve", found, {"boxes": "boxes", "count": "count"})]
    given = {"serve": [{"x": np.ones((2, 3), np.float32)}]}
    answers = {"serve": [{"boxes": np.zeros((2, 1), np.float32), "count": np.array([3, 3])}]}
    assert proof.compare(FORMATS["onnx"], parts, given, answers) is None
    answers["serve"][0]["count"][1] = 2
    with pytest.raises(RunError, match="onnx, serve: the exported model's count differs"):
        proof.compare(FORMATS["onnx"], parts, given, answers)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_c_program_answers_as_predict_does(finished_run, exported, digit_file, tmp_path):
    home = tf.sysconfig.get_lib()
    libraries = ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    source = Path(__file__).parents[1] / "docs" / "serve.c"
    compiler = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(tmp_path / "serve"), str(source), f"-I{home}/include",
                f"-L{home}", f"-Wl,-rpath,{home}", *libraries]  # fmt: skip
    subprocess.run(compiler, check=True, timeout=120)
    answer = [str(tmp_path / "serve"), str(exported[0]["saved_model"])]
    result = subprocess.run([*answer, str(digit_file)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    label, *probabilities = (line.split() for line in result.stdout.splitlines())
    (row,) = predict(str(finished_run), [str(digit_file)])
    assert label == ["label", row["label"]]
    assert [float(value) for _, value in probabilities] == pytest.approx(list(row["probabilities"].values()), abs=1e-5)
    refused = subprocess.run([*answer, str(source)], capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1
    assert "an image must be JPEG" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "settings", "held"), [
    ("dates-transformer", {}, {"onnx": "network", "litert": "network"}),
    ("bbc-summarise-transformer", {}, {"onnx": "network", "litert": "network"}),
    ("dates-bert", {"size": "tiny"}, {"onnx": "network", "litert": "network"}),
    ("text8-skipgram", {}, {"onnx": "serve_decoded", "litert": "serve_decoded"}),
    ("mnist-vae", {}, {"onnx": "serve_decoded", "litert": "serve_decoded"}),
    ("shapes-unet", {}, {"onnx": "serve_decoded", "litert": "serve_decoded"}),
    ("cifar10-resnet20", {}, {"onnx": "network", "litert": "network"}),
    ("shapes-yolov8n", {}, {"onnx": "serve_decoded", "litert": "network"}),
])  # fmt: skip
def test_families_are_equal_in_the_formats_that_hold_them(recipe, settings, held, tmp_path):
    run = untrained(recipe, tmp_path, **settings)
    for kind, name in held.items():
        part, _, difference = proved(run, kind, tmp_path)
        assert part.name == name
        assert difference is None or difference <= FORMATS[kind].tolerance  # an untrained detector finds nothing
