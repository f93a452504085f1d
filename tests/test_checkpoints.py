import os

import numpy as np
import pytest

from kerastoolkit.checkpoints import load_checkpoint, save_checkpoint, write_file
from kerastoolkit.experiment import RunError

ARRAYS = {"network/00000/kernel": np.arange(6, dtype="float32").reshape(2, 3), "random/0": np.array([1, 2], "uint32"),
          "sums/loss": np.array(0.1), "callback/0/best_weights/0000": np.arange(6.0).reshape(2, 3).T}  # fmt: skip


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    state = {"history": [{"epoch": 1, "loss": 0.1}], "seconds": 1 / 3, "callbacks": [{"best": float("inf")}]}
    save_checkpoint(tmp_path, 12, ARRAYS, state)
    step, arrays, loaded, warnings = load_checkpoint(tmp_path)
    assert (step, loaded, warnings) == (12, state, [])
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].tobytes() == array.tobytes()


def test_the_two_newest_are_kept_by_number_not_by_age(tmp_path):
    for step in (5, 100, 20, 9):
        save_checkpoint(tmp_path, step, ARRAYS, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000000020", "0000000100"]
    assert load_checkpoint(tmp_path)[0] == 100


def test_nothing_saved_is_none(tmp_path):
    assert load_checkpoint(tmp_path / "absent") is None


def test_a_save_that_was_cut_off_is_cleared_away_and_never_loaded(tmp_path):
    save_checkpoint(tmp_path, 1, ARRAYS, {})
    (tmp_path / ".writing-0000000002").mkdir()
    (tmp_path / ".writing-0000000002" / "variables.safetensors").write_bytes(b"half")
    assert load_checkpoint(tmp_path)[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["0000000001"]


@pytest.mark.parametrize("name", ["variables.safetensors", "state.json", "manifest.json"])
def test_a_file_that_is_gone_makes_it_damaged(tmp_path, name):
    save_checkpoint(tmp_path, 1, ARRAYS, {})
    save_checkpoint(tmp_path, 2, ARRAYS, {})
    (tmp_path / "0000000002" / name).unlink()
    step, _, _, warnings = load_checkpoint(tmp_path)
    assert step == 1 and len(warnings) == 1 and "0000000002 is damaged" in warnings[0]


def test_a_failed_save_leaves_the_earlier_checkpoint_and_no_remains(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, ARRAYS, {})
    monkeypatch.setattr(os, "rename", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match="0000000002 could not be written .No space left on device"):
        save_checkpoint(tmp_path, 2, ARRAYS, {})
    assert [path.name for path in tmp_path.iterdir()] == ["0000000001"]


def test_a_file_is_replaced_whole_or_left_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_file(path, "old")
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match=r"run\.json could not be written"):
        write_file(path, "new")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    monkeypatch.undo()
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
