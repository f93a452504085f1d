"""A search tries settings, each trial in a process of its own, and can be stopped and continued at any moment."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerastoolkit import catalog, charts
from kerastoolkit.experiment import InputError, RunError
from kerastoolkit.runs import locked
from kerastoolkit.search_space import parse_space
from kerastoolkit.tune import tune

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable  # the stand-in takes its place
RECIPE = '''"""Mine."""
def mine(*, rate: float = 0.1, depth: int = 20, epochs: int = 2, data: str = "digits") -> Experiment:
    """A recipe of my own."""
'''
# In place of Python, so that tests take no minutes: what `train` does, as a search sees it, without training anything.
STAND_IN = '''#!{python}
import json, math, os, signal, sys, time
from pathlib import Path

assert sys.argv[1:4] == ["-m", "kerastoolkit", "train"], sys.argv
words = sys.argv[5:]
settings = dict(after.split("=") for word, after in zip(words, words[1:]) if word == "--set")
run = Path(words[words.index("--out") + 1])
rate = float(settings["rate"])
with open("begun", "a") as file:
    print(run.name, sys.argv[4], *words, file=file)
print("run: printed on stdout")
if settings.get("depth") == "21":
    sys.exit(print("error: depth must be 6n + 2, got 21", file=sys.stderr) or 2)
if run.name == Path("die-in").read_text():
    exec(Path("how").read_text())
run.mkdir(exist_ok=True)
(run / "run.json").write_text(json.dumps(dict(recipe="mine", arguments={{}}, seed=0, status="unfinished")))
if run.name == Path("die-begun-in").read_text():
    exec(Path("how").read_text())
if rate > 1:
    sys.exit(print("error: the loss is not finite", file=sys.stderr) or 1)
loss = "nan" if settings.get("depth") == "33" else abs(math.log10(rate) + 2)
(run / "history.csv").write_text(f"epoch,loss,val_loss,val_accuracy,val_f1\\n1,0,0,0,0\\n2,9,{{loss}},{{rate}},{{rate}}\\n")
print("epoch 1", file=sys.stderr, flush=True)
(run / "run.json").write_text(json.dumps(dict(recipe="mine", arguments={{}}, seed=0, status="finished", seconds=1.5)))
'''


@pytest.fixture(autouse=True)
def stand_in(tmp_path, monkeypatch):
    """Trials are trained by the stand-in, in the test's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(RECIPE)
    (tmp_path / "python").write_text(STAND_IN.format(python=PYTHON))
    (tmp_path / "python").chmod(0o755)
    for name in ("die-in", "die-begun-in"):
        (tmp_path / name).write_text("nowhere")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))


@pytest.fixture
def recipe(tmp_path):
    return catalog.find_recipe(str(tmp_path / "mine.py"))


@pytest.fixture
def search(recipe, monkeypatch):
    """Searches: (what to search, further arguments of ``tune``) -> what it returns; pictures, which take long, are not drawn."""
    monkeypatch.setattr(charts, "png", lambda figure: b"no picture")

    def call(*texts, overrides=None, trials=4, **options):
        return tune(recipe, overrides or {}, parse_space(recipe, texts or ["rate=log(1e-4,1)"]), trials=trials, **options)

    return call


def begun():
    """The trials that were started, by number, a restart too."""
    return [int(line.split()[0]) for line in Path("begun").read_text().splitlines()]


def die(number, how, begun=False):
    """Makes a trial do something before it has begun, or after."""
    Path("die-begun-in" if begun else "die-in").write_text(str(number))
    Path("how").write_text(how)


def live():
    for name in ("die-in", "die-begun-in"):
        Path(name).write_text("nowhere")


# What a search does and leaves.


def test_trials_are_runs_sorted_by_the_last_epochs_goal_of_the_validation_split(search):
    done = search("rate=log(1e-4,1)", "depth=20,32")
    assert done["search"] == "runs/tune-mine/1" and begun() == [1, 2, 3, 4]
    losses = [row["val_loss"] for row in done["trials"]]
    assert losses == sorted(losses) and len(set(losses)) == 4
    best = done["trials"][0]
    assert done["best"] == best["run"] == f"runs/tune-mine/1/trials/{best['trial']}"
    assert best["seconds"] == 1.5 and best["status"] == "finished" and best["depth"] in (20, 32)


def test_a_trial_is_the_command_train_with_the_searched_and_the_fixed_settings(search, recipe):
    done = search(overrides={"epochs": 7}, trials=1, seed=3, data_dir="sets", checkpoint_seconds=5.0)
    rate = done["trials"][0]["rate"]
    assert Path("begun").read_text().split() == [
        "1", f"{recipe.path}:mine", "--out", "runs/tune-mine/1/trials/1", "--seed", "3", "--checkpoint-seconds", "5.0",
        "--data-dir", "sets", "--set", "epochs=7", "--set", f"rate={rate!r}",
    ]  # fmt: skip


def test_the_table_is_also_a_csv_file(search):
    done = search("rate=log(1e-4,1)", "depth=20,32", trials=2)
    with open("runs/tune-mine/1/trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [row["run"] for row in done["trials"]]
    assert [float(row["val_loss"]) for row in rows] == [row["val_loss"] for row in done["trials"]]


def test_trials_can_be_compared_as_all_runs_can(search, command):
    search("rate=0.1,0.2", trials=2)
    status, output, _ = command("compare", *sorted(map(str, Path("runs/tune-mine/1/trials").iterdir())))
    assert status == 0 and len(output.splitlines()) == 3


def test_an_accuracy_is_maximised_and_direction_says_otherwise(search):
    for goal, direction, best in (("val_accuracy", None, max), ("val_f1", "maximise", max), ("val_f1", "minimise", min)):
        rows = search(goal=goal, direction=direction, trials=3)["trials"]
        assert rows[0]["rate"] == best(row["rate"] for row in rows)


def test_trials_that_fail_or_are_refused_are_noted_and_the_search_goes_on(search):
    done = search("rate=1e-3,10", "depth=20,21,33", trials=6)
    outcomes = {(row["rate"], row["depth"]): (row["status"], row["message"]) for row in done["trials"]}
    assert outcomes == {
        (1e-3, 20): ("finished", ""),
        (10, 20): ("failed", "the loss is not finite"),
        (1e-3, 21): ("refused", "depth must be 6n + 2, got 21"),
        (10, 21): ("refused", "depth must be 6n + 2, got 21"),
        (1e-3, 33): ("failed", "val_loss is nan"),
        (10, 33): ("failed", "the loss is not finite"),
    }
    assert done["trials"][0]["rate"] == 1e-3 and done["trials"][0]["depth"] == 20


def test_a_search_ends_when_every_combination_has_been_tried(search, capsys):
    assert len(search("depth=20,32", "rate=0.1,0.2", trials=9)["trials"]) == 4
    assert "all 4 combinations have been tried" in capsys.readouterr().err


def test_a_search_whose_first_trials_are_all_refused_is_given_up_and_they_are_tried_again(search):
    with pytest.raises(InputError, match="all 3 trials were refused; the last: depth must be 6n"):
        search("rate=log(1e-4,1)", overrides={"depth": 21}, trials=20)
    (Path("python")).write_text(Path("python").read_text().replace('"21"', '"none"'))
    assert len(search("rate=log(1e-4,1)", overrides={"depth": 21}, trials=4)["trials"]) == 4
    assert begun() == [1, 2, 3, 1, 2, 3, 4]


def test_a_search_of_which_no_trial_finishes_is_a_failed_run(search):
    with pytest.raises(RunError, match="no trial has finished; the last: the loss is not finite"):
        search("rate=10,20", trials=2)


# Continuing.


def test_the_same_search_goes_on_in_its_folder_and_another_one_has_its_own(search):
    first = search(trials=2)
    assert search(trials=2) == first and begun() == [1, 2]
    more = search(trials=4)
    assert begun() == [1, 2, 3, 4] and {row["trial"]: row for row in more["trials"]}[1] in first["trials"]
    assert search(trials=1, seed=1)["search"] == "runs/tune-mine/2"
    assert search(trials=1, goal="val_accuracy")["search"] == "runs/tune-mine/3"
    assert search("rate=log(1e-4,0.5)", trials=1)["search"] == "runs/tune-mine/4"
    assert search(trials=1, overrides={"epochs": 3})["search"] == "runs/tune-mine/5"
    assert search(trials=1, overrides={"epochs": 2})["search"] == "runs/tune-mine/6", "settings as the first, but not the newest"


def test_more_trials_are_those_that_a_longer_search_would_have_had(search):
    search(trials=2, out="short")
    longer = [{**row, "run": None} for row in search(trials=4, out="long")["trials"]]
    assert [{**row, "run": None} for row in search(trials=4, out="short")["trials"]] == longer


def test_a_folder_with_another_search_or_with_something_else_is_refused(search):
    search(trials=1, out="mine")
    with pytest.raises(InputError, match="mine holds another search .seed 0, not 4."):
        search(trials=1, out="mine", seed=4)
    with pytest.raises(InputError, match="runs exists and is not a search's folder"):
        Path("runs").mkdir()
        Path("runs/file").touch()
        search(out="runs")


@pytest.mark.parametrize("contents", ["", "[]", "{}", '"x"'])
def test_a_study_json_that_is_none_is_refused_by_name(search, contents):
    search(trials=1)
    Path("runs/tune-mine/1/study.json").write_text(contents)
    with pytest.raises(InputError, match=r"runs/tune-mine/1/study\.json"):
        search(trials=1)


def test_a_goal_that_is_not_there_is_told_with_the_closest_and_can_be_put_right(search):
    with pytest.raises(InputError, match="has no val_acuracy; did you mean val_accuracy.* has: val_loss, val_accuracy, val_f1"):
        search(goal="val_acuracy", direction="maximise")
    assert search(goal="val_accuracy")["search"] == "runs/tune-mine/1"
    assert sorted(set(begun())) == [1, 2, 3, 4] and not Path("runs/tune-mine/2").exists()


def test_a_goal_that_is_not_there_is_told_after_an_epoch_and_not_after_the_training(search):
    text = Path("python").read_text()
    Path("python").write_text(text.replace('print("epoch 1", file=sys.stderr, flush=True)', """
print("epoch 1", file=sys.stderr, flush=True)
time.sleep(60)
"""))  # fmt: skip
    with pytest.raises(InputError, match="has no val_other"):
        search(goal="val_other", direction="minimise")
    assert json.loads(Path("runs/tune-mine/1/trials/1/run.json").read_text())["status"] == "unfinished"


@pytest.mark.parametrize("begun_before", [False, True])
def test_a_trial_that_is_killed_stops_the_search_and_the_same_command_continues_it(search, begun_before):
    undisturbed = [{**row, "run": None} for row in search(out="undisturbed")["trials"]]
    Path("begun").unlink()
    die(3, "os.kill(os.getpid(), signal.SIGKILL)", begun_before)
    with pytest.raises(RunError, match="trial 3 was ended by SIGKILL .*the same command continues"):
        search()
    live()
    assert [{**row, "run": None} for row in search()["trials"]] == undisturbed
    assert begun() == [1, 2, 3, 3, 4]


def test_a_trial_that_was_begun_and_is_refused_later_is_not_taken_for_bad_settings(search):
    die(2, 'sys.exit(print("error: the data have changed", file=sys.stderr) or 2)', begun=True)
    with pytest.raises(InputError, match="trial 2: the data have changed"):
        search()
    live()
    assert [row["status"] for row in search()["trials"]] == ["finished"] * 4


def test_what_a_kill_left_of_a_trial_that_had_not_begun_is_in_nobodys_way(search):
    die(2, "run.mkdir(); (run / '.writing-run.json').touch(); os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(RunError):
        search()
    live()
    assert {path.name for path in Path(search()["search"], "trials/2").iterdir()} == {"run.json", "history.csv"}


WAIT_FOR_TERM = """
signal.signal(signal.SIGTERM, lambda *_: (Path("written").touch(), sys.exit(143)))
os.kill(os.getppid(), signal.SIG%s)
time.sleep(60)
"""


@pytest.mark.parametrize(("name", "status"), [("TERM", 143), ("INT", 130)])
def test_a_signal_reaches_the_trial_which_may_write_its_checkpoint(search, capsys, name, status):
    die(2, WAIT_FOR_TERM % name, begun=True)
    with pytest.raises(SystemExit) as left:
        search()
    assert left.value.code == status and Path("written").exists()
    assert f"stopped by SIG{name} in trial 2; the same command continues" in capsys.readouterr().err
    live()
    assert [row["status"] for row in search()["trials"]] == ["finished"] * 4
    assert begun() == [1, 2, 2, 3, 4]


def test_a_trial_whose_search_was_killed_ends_before_the_next_search_begins(tmp_path):
    # It goes on for a while, until it sees that nobody hears it.
    die(2, """
while os.getppid() == int(Path("search").read_text()):
    print("still here", file=sys.stderr, flush=True)
    time.sleep(0.05)
time.sleep(2)
Path("ended").touch()
print("nobody hears this", file=sys.stderr, flush=True)
""", begun=True)  # fmt: skip
    program = (
        f"import os, sys\nopen('search', 'w').write(str(os.getpid()))\nsys.executable = {sys.executable!r}\n"
        "from kerastoolkit.cli import main\nmain(arguments=sys.argv[1:])"
    )

    def start():
        command = [PYTHON, "-c", program, "tune", "mine.py", "rate=log(1e-4,1)", "--trials", "3"]
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)

    with start() as first:
        for line in first.stderr:
            if "still here" in line:
                break
        first.kill()
    live()
    with start() as second:
        errors = second.communicate(timeout=60)[1]
    assert second.returncode == 0, errors
    assert "waiting for the end of the trial that a killed search has left behind" in errors
    assert Path("ended").exists() and begun() == [1, 2, 2, 3]


def test_two_searches_in_one_folder_at_once_are_refused(search):
    with locked(Path("runs/tune-mine/1")), pytest.raises(InputError, match="by another process"):
        search(out="runs/tune-mine/1")


# Mistakes, and the command line.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials must be 1 or more, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"checkpoint_seconds": -1.0}, "checkpoint seconds must be 0 or more, got -1.0"),
        ({"goal": "accuracy"}, "must be a figure of the validation split, such as val_loss, got accuracy"),
        ({"goal": "val_f1"}, "val_f1 needs --direction, minimise or maximise"),
        ({"overrides": {"rate": 0.1}}, "rate cannot be both searched and set to 0.1"),
    ],
)
def test_a_mistake_is_told_before_any_work_and_leaves_nothing_behind(search, options, message):
    with pytest.raises(InputError, match=message):
        search(**options)
    assert not Path("runs").exists() and not Path("begun").exists()


def test_without_optuna_it_is_said_how_to_get_it(command, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else found(name, *rest))
    status, output, errors = command("tune", "mine.py", "depth=1,2")
    assert (status, output) == (2, "")
    assert errors == "error: tune needs optuna: pip install 'kerastoolkit[tune]'\n"


def test_the_command_prints_a_table_the_reasons_and_last_the_best_run(command):
    status, output, errors = command("tune", "mine.py", "rate=0.001,10", "--trials", "5", "--set", "depth=20")
    lines = output.splitlines()
    assert status == 0 and lines[0].split() == ["trial", "rate", "val_loss", "seconds", "status", "run"]
    assert [line.split()[1] for line in lines[1:3]] == ["0.001", "10"] and "failed" in lines[2]
    failed = lines[2].split()[0]
    assert lines[3:] == [
        f"note: trial {failed}: the loss is not finite",
        "picture: runs/tune-mine/1/trials.png",
        f"best: runs/tune-mine/1/trials/{3 - int(failed)}",
    ]
    assert Path("runs/tune-mine/1/trials.png").read_bytes().startswith(b"\x89PNG")
    assert "trial 1 of 5: rate=" in errors and "  epoch 1\n" in errors


def test_json_is_one_object_and_nothing_else_on_standard_output(command):
    status, output, _ = command("tune", "mine.py", "rate=0.001,10", "--json")
    done = json.loads(output)
    assert status == 0 and done["goal"] == "val_loss" and done["direction"] == "minimise"
    assert [row["status"] for row in done["trials"]] == ["finished", "failed"] and done["best"] == done["trials"][0]["run"]


def test_mistakes_in_what_to_search_import_nothing_slow(monkeypatch, tmp_path):
    program = (
        "import sys\nfrom kerastoolkit.cli import main\n"
        "try: main(arguments=['tune', 'mine.py', 'rat=1,2'])\nexcept SystemExit as left: status = left.code\n"
        "print(status, {'keras', 'tensorflow', 'numpy', 'optuna'} & set(sys.modules) or 'none', file=sys.stderr)"
    )
    command = [PYTHON, "-c", program]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "2 none"
