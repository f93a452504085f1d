import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import catalog, checkpoints
from kerastoolkit import train as training
from kerastoolkit.experiment import InputError, RunError
from kerastoolkit.runs import locked, read_history, read_run, write_run


def hashes(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def newest(folder):
    return max(path for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def last_arrays(folder):
    step, arrays, _, _ = checkpoints.load_checkpoint(folder / "checkpoints")
    return step, {name: array.tobytes() for name, array in arrays.items()}


def interrupted(killable, folder, monkeypatch, after, **overrides):
    """Trains until the checkpoint ``after`` is written, then fails as if the machine had."""
    real = checkpoints.save_checkpoint
    saved = []

    def save(*arguments):
        real(*arguments)
        saved.append(arguments[1])
        if len(saved) == after:
            raise RunError("the lights went out")

    monkeypatch.setattr(training, "save_checkpoint", save)
    with pytest.raises(RunError, match="the lights went out"):
        training.train(killable, overrides, out=str(folder), checkpoint_seconds=0)
    monkeypatch.setattr(training, "save_checkpoint", real)


@pytest.fixture(scope="module")
def whole(killable, tmp_path_factory):
    """A run of one epoch; not to be changed."""
    return training.train(killable, {"epochs": 1}, out=str(tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture(scope="module")
def cut(killable, tmp_path_factory):
    """The same, which failed after its third checkpoint; not to be changed."""
    folder = tmp_path_factory.mktemp("cut") / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupted(killable, folder, patch, after=3, epochs=1)
    return folder


def test_a_run_leaves_what_the_other_verbs_need(finished_run):
    assert {path.name for path in finished_run.iterdir()} >= {"run.json", "history.csv", "model.keras", "serving.keras", "plots"}
    assert read_run(finished_run)["status"] == "finished"
    history = read_history(finished_run)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_same_settings_give_the_same_bits_and_another_seed_gives_others(killable, whole, tmp_path):
    same, other = (training.train(killable, {"epochs": 1}, out=str(tmp_path / str(seed)), seed=seed) for seed in (0, 4))
    assert last_arrays(same) == last_arrays(whole)
    assert last_arrays(other) != last_arrays(whole)


def test_the_same_command_on_a_finished_run_changes_nothing(killable, finished_run, capsys):
    before = hashes(finished_run)
    assert training.train(killable, {"epochs": 6}, out=str(finished_run)) == finished_run
    assert "already finished" in capsys.readouterr().err
    assert hashes(finished_run) == before


def test_other_settings_in_a_run_folder_are_refused(killable, finished_run):
    before = hashes(finished_run)
    with pytest.raises(InputError, match="epochs 6, not 7"):
        training.train(killable, {"epochs": 7}, out=str(finished_run))
    with pytest.raises(InputError, match="seed 0, not 1"):
        training.train(killable, {"epochs": 6}, out=str(finished_run), seed=1)
    assert hashes(finished_run) == before


def test_a_folder_with_other_files_is_refused(killable, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is not a run folder"):
        training.train(killable, {}, out=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_two_trainings_in_one_folder_are_refused(killable, tmp_path):
    with locked(tmp_path / "run"), pytest.raises(InputError, match="another process"):
        training.train(killable, {"epochs": 1}, out=str(tmp_path / "run"))


def test_a_refused_setting_leaves_no_folder(killable, tmp_path):
    with pytest.raises(InputError, match="epochs must be at least 1, got 0"):
        training.train(killable, {"epochs": 0}, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_continued_in_the_middle_of_an_epoch_ends_with_the_same_bits(killable, tmp_path, monkeypatch):
    whole = training.train(killable, {}, out=str(tmp_path / "whole"))
    interrupted(killable, tmp_path / "cut", monkeypatch, after=3)
    step, _, _, _ = checkpoints.load_checkpoint(tmp_path / "cut" / "checkpoints")
    assert step % 20 != 0  # 1294 training images, 64 a step: 20 steps an epoch
    cut = training.train(killable, {}, out=str(tmp_path / "cut"))
    assert last_arrays(cut) == last_arrays(whole)
    assert (cut / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_older_one(killable, whole, cut, tmp_path, capsys, damage):
    shutil.copytree(cut, tmp_path / "cut")
    path = newest(tmp_path / "cut") / "variables.safetensors"
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents[:-100] if damage == "truncated" else contents)
    mended = training.train(killable, {"epochs": 1}, out=str(tmp_path / "cut"))
    assert "is damaged" in capsys.readouterr().err
    assert last_arrays(mended) == last_arrays(whole)


def test_a_run_whose_checkpoints_are_all_damaged_fails_in_one_line(killable, cut, tmp_path):
    shutil.copytree(cut, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        (path / "manifest.json").write_text("{}")
    with pytest.raises(RunError, match="every checkpoint in .* is damaged"):
        training.train(killable, {"epochs": 1}, out=str(tmp_path / "run"))


def test_a_full_disk_ends_the_run_and_keeps_the_checkpoints(killable, whole, cut, tmp_path, monkeypatch):
    shutil.copytree(cut, tmp_path / "run")
    before = hashes(tmp_path / "run" / "checkpoints")

    def full(path, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write_through", full)
        with pytest.raises(RunError, match="No space left on device"):
            training.train(killable, {"epochs": 1}, out=str(tmp_path / "run"), checkpoint_seconds=0)
    assert hashes(tmp_path / "run" / "checkpoints") == before
    assert last_arrays(training.train(killable, {"epochs": 1}, out=str(tmp_path / "run"))) == last_arrays(whole)


def test_a_loss_that_is_not_finite_stops_before_the_update(killable, tmp_path):
    experiment = training.build(killable, catalog.arguments(killable, {}), 0)
    state = training.State(experiment)
    good = training.training_batches(experiment, seed=0, start=0, end=2)
    bad = good.take(1).map(lambda inputs, labels: ({"image": inputs["image"] * float("nan")}, labels))
    run_steps = training.compile_steps(state)
    batches = iter(good.take(1).concatenate(bad).concatenate(good.take(1)))
    run_steps(batches, tf.constant(1))
    before = [variable.numpy().copy() for variable in (*state.network.trainable_variables, *state.optimizer.variables)]
    run_steps(batches, tf.constant(2))
    assert state.failed_at.numpy() == 1
    after = [variable.numpy() for variable in (*state.network.trainable_variables, *state.optimizer.variables)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_loss_is_what_is_minimised_with_the_losses_of_the_network_itself(tmp_path):
    recipe = catalog.find_recipe("mnist-vae")
    settings = {"data": "sample", "hidden": (8,), "beta": 3.0, "epochs": 1, "batch_size": 100}
    (row,) = read_history(training.train(recipe, settings, out=str(tmp_path / "run")))
    for split in ("", "val_"):
        reconstruction = row[f"{split}negative_elbo"] - row[f"{split}divergence"]
        assert row[f"{split}loss"] == pytest.approx(reconstruction + 3 * row[f"{split}divergence"], rel=1e-4)
    facts = training.dry_run(recipe, {**settings, "beta": 1e6})
    assert facts["loss_before_training"] > 1000 * training.dry_run(recipe, settings)["loss_before_training"]


def test_what_may_change_the_last_bits_is_told_when_a_run_goes_on(killable, whole, tmp_path, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    training.resume(str(run), epochs=2)
    assert "last bits" not in capsys.readouterr().err
    record = read_run(run)
    write_run(run, {**record, "threads": 999, "onednn": not record["onednn"]})
    training.resume(str(run), epochs=3)
    told = capsys.readouterr().err
    for words in ("the run began on 999 processors", "oneDNN is (on and was off|off and was on) when the run began"):
        assert re.search(f"warning: {words}.*: the last bits may differ", told)


def test_a_diverging_run_names_the_step_and_keeps_its_checkpoints(killable, tmp_path):
    with pytest.raises(RunError, match=r"not finite at step \d+; the update was not applied"):
        training.train(killable, {"learning_rate": 1e30}, out=str(tmp_path / "run"), checkpoint_seconds=0)
    assert read_run(tmp_path / "run")["status"] == "unfinished"
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        _, arrays, _, _ = checkpoints.load_checkpoint(path.parent)
        assert all(np.isfinite(array).all() for name, array in arrays.items() if name.endswith("/kernel"))


def test_a_finished_run_is_trained_for_more_epochs(killable, whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    assert training.resume(str(run), epochs=2) == run
    assert [row["epoch"] for row in read_history(run)] == [1, 2]
    assert read_run(run)["arguments"]["epochs"] == 2
    with pytest.raises(InputError, match="epochs must be at least the run's 2, got 1"):
        training.resume(str(run), epochs=1)


def test_early_stopping_remembers_how_long_it_has_waited(killable, tmp_path, monkeypatch):
    whole = training.train(killable, {"callback": "stops", "epochs": 5}, out=str(tmp_path / "whole"))
    epochs = [row["epoch"] for row in read_history(whole)]
    assert epochs == [1, 2]  # nothing is better by 100, so patience 1 ends it after the second epoch
    interrupted(killable, tmp_path / "cut", monkeypatch, after=8, callback="stops", epochs=5)
    cut = training.train(killable, {"callback": "stops", "epochs": 5}, out=str(tmp_path / "cut"))
    assert last_arrays(cut) == last_arrays(whole)
    training.resume(str(cut), epochs=6)
    assert len(read_history(cut)) > len(epochs)


@pytest.mark.slow
def test_a_slowing_callback_remembers_the_rate(killable, tmp_path, monkeypatch):
    whole = training.train(killable, {"callback": "slows", "epochs": 4}, out=str(tmp_path / "whole"))
    rates = [row["learning_rate"] for row in read_history(whole)]
    assert rates == pytest.approx([0.05, 0.05, 0.025, 0.0125])
    interrupted(killable, tmp_path / "cut", monkeypatch, after=8, callback="slows", epochs=4)
    cut = training.train(killable, {"callback": "slows", "epochs": 4}, out=str(tmp_path / "cut"))
    assert last_arrays(cut) == last_arrays(whole)


def test_a_callback_whose_state_cannot_be_kept_is_refused(killable, tmp_path):
    with pytest.raises(InputError, match="callback ModelCheckpoint cannot be continued"):
        training.train(killable, {"callback": "unknown"}, out=str(tmp_path / "run"))


def test_the_test_split_is_not_read_in_training(killable, tmp_path, monkeypatch):
    import kerastoolkit.data.images as images

    real = images.Source

    def source(size, fetch):
        def refuse(indices):
            raise AssertionError("the test split was read")

        return real(size, refuse if size == 360 else fetch)  # 360 test images of 1,797

    monkeypatch.setattr(images, "Source", source)
    training.train(killable, {"epochs": 1}, out=str(tmp_path / "run"))


def test_a_dry_run_tells_the_facts_and_writes_nothing(killable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = training.dry_run(killable, {})
    assert facts["batch"] == {"image": [64, 8, 8, 1, "float32"]}
    assert facts["steps_per_epoch"] == 20
    json.dumps(facts)
    assert not list(tmp_path.iterdir())
