"""A search killed at any moment and started again with the same command ends with the same table and its runs' same bits."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPES = Path(__file__).parent / "recipes_for_tests" / "killable.py"
ROOT = str(Path(__file__).parent.parent)


def start(folder, trials):
    command = [sys.executable, "-m", "kerastoolkit", "tune", f"{RECIPES}:killable", "learning_rate=log(1e-3,1)", "--epochs", "2",
               "--trials", str(trials), "--out", "search", "--checkpoint-seconds", "0"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": ROOT, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder, trials):
    process = start(folder, trials)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def outcome(folder):
    """All that the promise is about: the table, but for the seconds, and of each trial the last checkpoint and the history."""
    with open(folder / "search" / "trials.csv", newline="") as file:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    runs = [folder / row["run"] for row in rows]
    newest = [max((run / "checkpoints").iterdir()) for run in runs]
    bits = [(path.name, (path / "variables.safetensors").read_bytes()) for path in newest]
    return rows, bits, [(run / "history.csv").read_bytes() for run in runs]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    code, _, err = finish(folder, 2)
    assert code == 0, err
    return outcome(folder)


@pytest.mark.slow
def test_a_kill_of_a_trial_and_one_of_the_search_change_neither_the_table_nor_a_bit(tmp_path, undisturbed):
    (tmp_path / "kill-at").write_text("9")  # the first trial dies while it writes a checkpoint
    code, out, err = finish(tmp_path, 2)
    assert code == 1 and out == "" and "trial 1 was ended by SIGKILL" in err.splitlines()[-1]
    checkpoints = tmp_path / "search" / "trials" / "2" / "checkpoints"
    with start(tmp_path, 2) as search:
        while search.poll() is None and not (checkpoints.is_dir() and any(path.name.isdigit() for path in checkpoints.iterdir())):
            time.sleep(0.02)
        search.send_signal(signal.SIGKILL)
        _, err = search.communicate()
    assert search.returncode == -signal.SIGKILL, err
    code, out, err = finish(tmp_path, 2)
    assert code == 0, err
    assert out.splitlines()[-1] == f"best: {undisturbed[0][0]['run']}"
    assert outcome(tmp_path) == undisturbed


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_neither_the_table_nor_a_bit(tmp_path):
    generator, kills = random.Random(0), 0
    folders = [tmp_path / "undisturbed", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    assert finish(folders[0], 4)[0] == 0
    while kills < 10:
        process = start(folders[1], 4)
        moment = time.monotonic() + generator.uniform(4, 12)
        while process.poll() is None and time.monotonic() < moment:
            time.sleep(0.05)
        trial = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        whom = generator.choice([[process.pid], trial, [process.pid, *trial], [*trial, process.pid]])
        for each in map(int, whom):
            os.kill(each, signal.SIGKILL)
            kills += 1
        process.communicate(timeout=600)
        if process.returncode == 0:
            break
    code, _, err = finish(folders[1], 4)
    assert code == 0, err
    assert outcome(folders[1]) == outcome(folders[0]) and kills >= 5
