"""A run killed at any moment and started again with the same command ends with the same bits."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from safetensors.numpy import load_file

RECIPES = Path(__file__).parent / "recipes_for_tests" / "killable.py"
ROOT = str(Path(__file__).parent.parent)


def start(folder, recipe="killable"):
    command = [sys.executable, "-m", "kerastoolkit", "train", f"{RECIPES}:{recipe}", "--out", "run", "--checkpoint-seconds", "0"]
    environment = {**os.environ, "PYTHONPATH": ROOT, "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(folder, recipe="killable"):
    process = start(folder, recipe)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def bits(folder):
    """Every bit that the promise is about: all variables of the last checkpoint, the saved network's weights, the history."""
    newest = max((folder / "run" / "checkpoints").iterdir())
    loaded = load_file(newest / "variables.safetensors")
    arrays = {name: (array.dtype, array.shape, array.tobytes()) for name, array in loaded.items()}
    return newest.name, arrays, (folder / "run" / "history.csv").read_bytes(), network_weights(folder)


def network_weights(folder):
    import keras

    import kerastoolkit.layers  # noqa: F401 - makes our layers known to Keras

    return [w.tobytes() for w in keras.saving.load_model(folder / "run" / "model.keras", compile=False).get_weights()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    code, _, err = finish(folder)
    assert code == 0, err
    return bits(folder), time.monotonic() - began


def killed_run(folder, kills, recipe="killable"):
    """Runs the command, killing it as each of ``kills`` says: ("flush", n) inside the n-th flush, ("after", seconds)."""
    happened = 0
    for kind, when in kills:
        if kind == "flush":
            (folder / "kill-at").write_text(str(when))
            process = start(folder, recipe)
            process.wait(timeout=600)
        else:
            process = start(folder, recipe)
            try:
                process.wait(timeout=when)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        process.stdout.close(), process.stderr.close()
        (folder / "kill-at").unlink(missing_ok=True)
        happened += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
    code, _, err = finish(folder, recipe)
    assert code == 0, err
    return happened


def test_two_kills_change_no_bit(tmp_path, undisturbed):
    # Flushes come four to a checkpoint and two to another file: these fall in the middle of writing one, at different places.
    assert killed_run(tmp_path, [("flush", 9), ("flush", 15)]) == 2
    assert bits(tmp_path) == undisturbed[0]


@pytest.mark.slow
def test_kills_change_no_bit_of_a_recurrent_network(tmp_path):
    found = []
    for name, kills in (("undisturbed", []), ("killed", [("flush", 9), ("flush", 14)])):
        folder = tmp_path / name
        folder.mkdir()
        rows = (f"{date.fromordinal(737_000 + n)},{n * n % 31}\n" for n in range(300))
        (folder / "series.csv").write_text("date,level\n" + "".join(rows))
        assert killed_run(folder, kills, "killable_series") == len(kills)
        found.append(bits(folder))
    assert found[0] == found[1]


@pytest.mark.slow
def test_kills_change_no_bit_of_a_network_with_random_numbers_inside(tmp_path):
    found = []
    for name, kills in (("undisturbed", []), ("killed", [("flush", 9), ("flush", 14)])):
        folder = tmp_path / name
        folder.mkdir()
        assert killed_run(folder, kills, "killable_variational") == len(kills)
        found.append(bits(folder))
    assert found[0] == found[1]
    # The state of the network's own generator of random numbers is among the bits.
    assert any("seed_generator" in name for name in found[0][1])


@pytest.mark.slow
def test_kills_change_no_bit_of_word_vectors(tmp_path):
    found = []
    for name, kills in (("undisturbed", []), ("killed", [("flush", 9), ("flush", 14)])):
        folder = tmp_path / name
        folder.mkdir()
        assert killed_run(folder, kills, "killable_words") == len(kills)
        found.append(bits(folder))
    assert found[0] == found[1]


@pytest.mark.slow
def test_kills_change_no_bit_of_a_translator(tmp_path):
    found = []
    for name, kills in (("undisturbed", []), ("killed", [("flush", 9), ("flush", 14)])):
        folder = tmp_path / name
        folder.mkdir()
        rows = (f"{number} {'x' * (number % 7)}\t{'y' * (number % 7)} {number}\n" for number in range(60))
        (folder / "pairs.tsv").write_text("".join(rows))
        assert killed_run(folder, kills, "killable_translation") == len(kills)
        found.append(bits(folder))
    assert found[0] == found[1]
    # The means of the last epochs' weights are among the bits.
    assert any("average" in name for name in found[0][1])


@pytest.mark.slow
def test_kills_change_no_bit_of_a_bert_in_pretraining(tmp_path):
    found = []
    for name, kills in (("undisturbed", []), ("killed", [("flush", 9), ("flush", 14)])):
        folder = tmp_path / name
        folder.mkdir()
        assert killed_run(folder, kills, "killable_pretraining") == len(kills)
        found.append(bits(folder))
    assert found[0] == found[1]


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(tmp_path, undisturbed):
    generator = random.Random(0)
    total = 0
    for number in range(20):  # a training may end before it has died five times: as many trainings as it takes
        folder = tmp_path / str(number)
        folder.mkdir()
        kills = [("flush", generator.randint(3, 16)) for _ in range(3)]
        kills += [("after", generator.uniform(0.5, 1.0) * undisturbed[1]) for _ in range(2)]
        total += killed_run(folder, kills)
        assert bits(folder) == undisturbed[0]
        shutil.rmtree(folder)
        if total >= 20:
            break
    assert total >= 20


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)])  # fmt: skip
def test_a_signal_writes_a_checkpoint_and_the_same_command_continues(tmp_path, undisturbed, number, status):
    process = start(tmp_path)
    checkpoints = tmp_path / "run" / "checkpoints"
    while process.poll() is None and not (checkpoints.is_dir() and any(p.name.isdigit() for p in checkpoints.iterdir())):
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "the same command continues" in err
    code, _, err = finish(tmp_path)
    assert code == 0 and "continuing" in err
    assert bits(tmp_path) == undisturbed[0]
