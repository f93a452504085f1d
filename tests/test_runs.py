import json
import os

import pytest

from kerastoolkit.experiment import InputError
from kerastoolkit.runs import choose_folder, compare, find_run, write_run

SETTINGS = {"recipe": "a-recipe", "arguments": {"epochs": 3, "data": "digits"}, "seed": 0, "source_sha256": "0",
            "status": "finished"}  # fmt: skip


def run_folder(folder, figures=None, **changes):
    folder.mkdir(parents=True)
    write_run(folder, {**SETTINGS, **changes})
    if figures:
        (folder / "evaluation.json").write_text(json.dumps({"figures": figures}))
    return folder


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_compare_shows_settings_only_where_they_differ_and_leaves_gaps(tmp_path):
    first = run_folder(tmp_path / "a", figures={"accuracy": 0.9}, seconds=5.0)
    second = run_folder(tmp_path / "b", arguments={"epochs": 4, "data": "digits"}, status="unfinished")
    assert compare([str(first), str(second)]) == [
        {"run": str(first), "recipe": "a-recipe", "status": "finished", "epochs": 3, "seconds": 5.0, "accuracy": 0.9},
        {"run": str(second), "recipe": "a-recipe", "status": "unfinished", "epochs": 4, "seconds": None, "accuracy": None},
    ]


@pytest.mark.parametrize("order", [("one/1", "two/7", "one/2"), ("two/7", "one/1", "mine")])
def test_last_is_the_run_that_was_begun_last(tmp_path, order):
    for number, name in enumerate(order):
        folder = run_folder(tmp_path / "runs" / name)
        os.utime(folder / "run.json", (1000 + number, 1000 + number))
    assert find_run("last").resolve() == tmp_path / "runs" / order[-1]


@pytest.mark.parametrize("run", ["last", "nowhere"])
def test_a_run_that_is_not_there_is_refused(run):
    with pytest.raises(InputError):
        find_run(run)


def test_runs_are_numbered_and_the_newest_with_the_same_settings_is_taken(tmp_path):
    home = tmp_path / "runs" / "a-recipe"
    assert str(choose_folder(None, SETTINGS)[0]) == "runs/a-recipe/1"
    run_folder(home / "9", seed=1)
    assert str(choose_folder(None, SETTINGS)[0]) == "runs/a-recipe/10"
    run_folder(home / "10")
    folder, record = choose_folder(None, SETTINGS)
    assert str(folder) == "runs/a-recipe/10" and record["arguments"] == SETTINGS["arguments"]
    assert str(choose_folder(None, {**SETTINGS, "source_sha256": "1"})[0]) == "runs/a-recipe/11"


def test_another_seed_in_the_same_folder_is_refused_by_its_value(tmp_path):
    folder = run_folder(tmp_path / "run")
    with pytest.raises(InputError, match="other settings .seed 0, not 5."):
        choose_folder(str(folder), {**SETTINGS, "seed": 5})


@pytest.mark.parametrize("contents", [b"", b"{", b"[]", b"\xff\xfe", b'{"recipe": "x"}'])
def test_a_run_json_that_is_none_is_refused_by_name(tmp_path, contents):
    folder = run_folder(tmp_path / "run")
    (folder / "run.json").write_bytes(contents)
    with pytest.raises(InputError, match=r"run\.json"):
        compare([str(folder)])
