import functools
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from pathlib import Path

import pytest

from kerastoolkit import catalog, cli


@pytest.fixture(scope="session", autouse=True)
def own_data_dir(tmp_path_factory):
    """Texts that tests read are kept in a folder of theirs, not in the person's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="module", autouse=True)
def exports_are_asked_once(request):
    """An export is written only when a process of its own has answered as the run does, for which TensorFlow starts anew. Tests
    of exporting hold that; others ask what they need of an export themselves."""
    if request.path.name.startswith("test_export") or "kerastoolkit.export" not in sys.modules:
        yield
        return
    from kerastoolkit import export

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "prove", lambda *arguments: 0.0)
        yield


@pytest.fixture(scope="module")
def loaded_once():
    """A run's serving model is loaded, and the graphs that it keeps are traced, once in a module, whatever asks for it."""
    from kerastoolkit.serving.model import load_serving_model

    once = functools.cache(load_serving_model)
    with pytest.MonkeyPatch.context() as patch:
        for verb in ("evaluate", "predict"):
            patch.setattr(f"kerastoolkit.{verb}.load_serving_model", once)
        yield


@pytest.fixture(scope="session")
def killable():
    """A tiny recipe that trains in seconds."""
    return catalog.find_recipe(f"{Path(__file__).parent / 'recipes_for_tests' / 'killable.py'}:killable")


@pytest.fixture(scope="session")
def finished_run(killable, tmp_path_factory):
    """A run folder of that recipe, trained to the end; not to be changed."""
    from kerastoolkit.train import train

    folder = tmp_path_factory.mktemp("finished") / "run"
    return train(killable, {"epochs": 6}, out=str(folder))


@pytest.fixture(scope="session")
def digit_file(tmp_path_factory):
    """A PNG file of a handwritten seven of the test split's kind."""
    from PIL import Image
    from sklearn.datasets import load_digits

    path = tmp_path_factory.mktemp("digit") / "digit.png"
    Image.fromarray((load_digits().images[7] * 15.9375).astype("uint8")).resize((40, 32)).save(path)
    return path


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs the command line in this process: (arguments) -> (exit status, output, errors)."""
    monkeypatch.setattr(cli, "start_tensorflow", lambda: None)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main(None, arguments=list(arguments))
        return left.value.code, *capsys.readouterr()

    return run
