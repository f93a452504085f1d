"""The command line reads arguments, calls one verb, prints its answer, and tells each error in one line."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import click
import pytest

import kerastoolkit
from kerastoolkit import cli
from kerastoolkit.experiment import InputError, Report, RunError
from kerastoolkit.options import Options

ROOT = Path(__file__).parents[1]
MINE = '''"""Mine."""
import sys
from kerastoolkit.experiment import Experiment, InputError

def mine(*, epochs: int = 2, rate: float = 0.1, data: str = "gone") -> Experiment:
    """A recipe of my own."""
    raise InputError(f"{data} is not here")

if __name__ == "__main__":
    from kerastoolkit.cli import main
    main(mine)
'''


@pytest.fixture
def mine(tmp_path):
    """A recipe file of one's own, as the command line takes it."""
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return str(path)


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs the command line in this process: (arguments) -> (exit status, output, errors)."""
    monkeypatch.setattr(cli, "start_tensorflow", lambda: None)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("TFDS_DATA_DIR", "before")

    def call(*arguments, recipe=None):
        with pytest.raises(SystemExit) as left:
            cli.main(recipe, arguments=list(arguments))
        return left.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def verb(monkeypatch):
    """Puts functions in place of a module of verbs: verb("train", train=function)."""

    def replace(name, **functions):
        module = types.SimpleNamespace(**functions)
        monkeypatch.setitem(sys.modules, f"kerastoolkit.{name}", module)
        monkeypatch.setattr(kerastoolkit, name, module, raising=False)

    return replace


def process(*arguments, **environment):
    """Runs a Python process with the project importable; TF_CPP_MIN_LOG_LEVEL as a person has it, unset."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


def every_command(group=cli.commands, path=()):
    """(words, command) for each command, those in groups too."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))


# What is asked for often must answer at once.


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["train", "--help"], 0),
        (["--version"], 0),
        (["list"], 0),
        (["train", "no-such-recipe"], 2),
        (["train", "MINE", "--set", "rat=1"], 2),
        (["evaluat"], 2),
    ],
)
def test_help_lists_and_mistakes_import_nothing_slow(arguments, status, mine):
    arguments = [mine if each == "MINE" else each for each in arguments]
    program = (
        "import sys\nfrom kerastoolkit.cli import main\n"
        f"try: main(arguments={arguments})\nexcept SystemExit as left: status = left.code\n"
        "slow = {'keras', 'tensorflow', 'numpy', 'pandas', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "print(status, slow or 'none', file=sys.stderr)"
    )
    done = process("-c", program)
    assert done.stderr.splitlines()[-1] == f"{status} none"


def test_the_module_runs_as_the_command_does():
    done = process("-m", "kerastoolkit", "--version")
    assert (done.returncode, done.stdout) == (0, f"kerastoolkit {kerastoolkit.__version__}\n")


@pytest.mark.parametrize("words", [words for words, _ in every_command()], ids=" ".join)
def test_every_help_text_ends_with_examples_of_that_command(run, words):
    status, output, _ = run(*words, "--help")
    assert status == 0
    examples = output.partition("Examples:\n")[2].strip().splitlines()
    assert examples
    assert all(line.strip().startswith(f"kerastoolkit {' '.join(words)}") for line in examples)


def test_every_example_in_a_help_text_is_an_invocation_that_parses():
    for words, command in every_command():
        for line in (command.epilog or "").partition("Examples:\n")[2].splitlines():
            arguments = line.split()[1 + len(words) :]
            if not isinstance(command, click.Group):
                command.make_context("kerastoolkit", arguments, obj={"traceback": False})


# Errors.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean 'train'"),
        (["data", "lst"], "did you mean 'list'"),
        (["train", "--epoch", "3"], "did you mean"),
        (["train"], "a recipe is missing"),
        (["train", "digits-cn"], "did you mean digits-cnn?"),
        (["train", "MINE", "--set", "epoch=3"], "did you mean epochs?"),
        (["train", "MINE", "--set", "epochs=three"], "epochs must be int, got 'three'"),
        (["train", "MINE", "--set", "epochs=3", "--epochs", "3"], "epochs is given twice"),
        (["train", "MINE", "--seed", "one"], "not a valid integer"),
        (["evaluate", "last", "--split", "tset"], "tset"),
        (["evaluate", "last", "--set", "importance_samples"], "a setting must be NAME=VALUE, got importance_samples"),
        (["evaluate", "last", "--set", "seed=1", "--set", "seed=2"], "seed is given twice"),
        (["predict", "last"], "missing argument"),
        (["predict", "last", "a.png", "--conf", "0.4", "--set", "conf=0.3"], "conf is given twice"),
        (["predict", "last", "a.png", "--conf"], "requires an argument"),
        (["data", "inspect", "digits", "--out", "nowhere/look.png"], "nowhere"),
        (["data", "inspect", "digits", "--out", "look.doc"], "look.doc"),
    ],
)
def test_a_wrong_command_line_is_one_line_on_standard_error_and_exit_status_2(run, mine, arguments, message):
    status, output, errors = run(*[mine if each == "MINE" else each for each in arguments])
    assert (status, output) == (2, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message.lower() in errors.lower()


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("no such\nrun"), 2, "error: no such run\n"),
        (RunError("the loss is\nnot finite"), 1, "error: the loss is not finite\n"),
        (ValueError("odd\nand more"), 1, "error: ValueError: odd (--traceback shows where)\n"),
        (KeyError(), 1, "error: KeyError:  (--traceback shows where)\n"),
    ],
)
def test_an_error_of_a_verb_is_one_line_and_its_kind_decides_the_exit_status(run, verb, error, status, line):
    def evaluate(*_, **__):
        raise error

    verb("evaluate", evaluate=evaluate)
    assert run("evaluate", "last") == (status, "", line)


@pytest.mark.parametrize("arguments", [["--traceback", "export", "last"], ["export", "last", "--traceback"]])
def test_traceback_shows_where_an_error_arose_and_then_the_line(run, verb, arguments):
    def export_that_fails(*_, **__):
        raise InputError("no such run")

    verb("export", export_all=export_that_fails)
    status, _, errors = run(*arguments)
    assert status == 2
    assert "in export_that_fails" in errors
    assert errors.splitlines()[-1] == "error: no such run"


def test_ctrl_c_is_exit_status_130_without_a_traceback(run, verb):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    verb("predict", predict=interrupted)
    status, _, errors = run("predict", "last", "a.png")
    assert status == 130
    assert "Traceback" not in errors


def test_a_training_that_stopped_at_a_signal_keeps_its_exit_status(run, verb, mine):
    def stopped(*_, **__):
        raise SystemExit(143)

    verb("train", train=stopped)
    assert run("train", mine)[0] == 143


def test_another_backend_than_tensorflow_is_refused(run, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    status, _, errors = run("evaluate", "last")
    assert (status, errors) == (
        2,
        "error: the commands need the tensorflow backend, but KERAS_BACKEND is jax\n",
    )


def test_no_command_at_all_shows_the_help_and_is_an_error(run):
    status, output, errors = run()
    assert (status, errors) == (2, "")
    assert "train a recipe" in output.lower()


# What the commands hand to the verbs, and print.


@pytest.fixture
def trained(verb):
    """Stands in for training; a list of what it was called with."""
    calls = []

    def train(recipe, overrides, **settings):
        calls.append((recipe.name, overrides, settings))
        print("chatter of a verb")
        return Path("runs/mine/7")

    def resume(run, **settings):
        calls.append((run, settings))
        return Path(run)

    def dry_run(recipe, overrides, *, seed):
        return {"recipe": recipe.name, "arguments": {"limit": None}, "examples": {"train": 9}, "flops": None}

    verb("train", train=train, resume=resume, dry_run=dry_run)
    return calls


def test_train_hands_checked_settings_to_the_verb_and_prints_the_run_last(run, mine, trained):
    status, output, _ = run(
        "train", mine, "--set", "rate=1", "--epochs", "3", "--data", "x", "--out", "o", "--seed", "4"
    )
    overrides = {"rate": 1.0, "epochs": 3, "data": "x"}
    settings = {"out": "o", "seed": 4, "data_dir": None, "checkpoint_seconds": 30.0, "strategy": None, "logical_cpus": None}
    assert trained == [("mine", overrides, {**settings, "options": Options()})]
    assert (status, output.splitlines()[-1]) == (0, "run: runs/mine/7")


def test_data_dir_is_handed_over_and_set_for_the_process(run, mine, trained):
    run("train", mine, "--data-dir", "/some/where", "--checkpoint-seconds", "5")
    assert trained[0][2].items() >= {"out": None, "seed": 0, "data_dir": "/some/where", "checkpoint_seconds": 5.0}.items()
    assert os.environ["TFDS_DATA_DIR"] == "/some/where"


def test_a_recipe_file_run_as_a_program_is_train_for_its_recipe(run, mine, trained):
    scope = {"__name__": "not main"}
    exec(compile(MINE, mine, "exec"), scope)
    status, output, _ = run("--epochs", "3", recipe=scope["mine"])
    assert (trained[0][:2], status, output.splitlines()[-1]) == (
        ("mine", {"epochs": 3}),
        0,
        "run: runs/mine/7",
    )


def test_resume_needs_only_the_run(run, trained):
    status, output, _ = run("train", "--resume", "runs/mine/7", "--epochs", "60")
    how = {"checkpoint_seconds": 30.0, "strategy": None, "logical_cpus": None}
    assert trained == [("runs/mine/7", {"epochs": 60, **how})]
    assert (status, output) == (0, "run: runs/mine/7\n")


def test_train_hands_over_how_and_where_it_trains(run, mine, trained):
    options = ["--precision", "mixed_bfloat16", "--clip-norm", "0.5", "--accumulate", "2", "--average", "0.9"]
    run("train", mine, "--strategy", "mirrored", "--logical-cpus", "2", *options)
    assert trained[0][2].items() >= {"strategy": "mirrored", "logical_cpus": 2}.items()
    assert trained[0][2]["options"] == Options("mixed_bfloat16", 0.5, 2, 0.9)
    run("train", "--resume", "last", "--strategy", "multi-worker")
    assert trained[1][1]["strategy"] == "multi-worker"


@pytest.mark.parametrize(
    "more",
    [["digits-cnn"], ["--set", "a=1"], ["--data", "x"], ["--out", "o"], ["--seed", "0"], ["--dry-run"], ["--accumulate", "2"]],
)
def test_resume_refuses_what_would_change_the_run(run, trained, more):
    status, _, errors = run("train", "--resume", "last", *more)
    assert (status, trained) == (2, [])
    assert "--resume keeps the run's own settings" in errors


@pytest.mark.parametrize("more", [["--strategy", "mirrored"], ["--precision", "mixed_float16"]])
def test_a_dry_run_refuses_what_it_would_not_try(run, mine, trained, more):
    status, _, errors = run("train", mine, "--dry-run", *more)
    assert (status, trained) == (2, [])
    assert f"--dry-run builds the recipe as it is, on one device: {more[0]} cannot go with it" in errors


def test_a_dry_run_prints_facts_and_trains_nothing(run, mine, trained):
    status, output, _ = run("train", mine, "--dry-run")
    assert (status, trained) == (0, [])
    expected = ["recipe     mine", "arguments", "  limit  none", "examples", "  train  9", "flops      unknown"]
    assert output.splitlines() == expected


@pytest.fixture
def evaluated(verb):
    """Stands in for evaluating; a list of what it was called with."""
    calls = []

    def evaluate(run, **settings):
        calls.append((run, settings))
        print("chatter of a verb")
        record = {"run": run, "recipe": "mine", "data": "d", "split": "test", "examples": 5, "seconds": 0.1}
        record |= {
            "figures": {"accuracy": 0.75, "loss": 1 / 3},
            "baselines": {"most frequent class": {"accuracy": 0.1}},
        }
        return record, Report({}, tables={"by class": [{"class": "cat", "f1": 0.5}]}, notes=("measured twice",))

    verb("evaluate", evaluate=evaluate)
    return calls


def test_evaluate_shows_the_figures_above_the_baselines_and_the_tables_of_the_task(run, evaluated):
    status, output, _ = run("evaluate", "last", "--split", "train", "--data", "x", "--set", "k=3")
    assert evaluated == [("last", {"split": "train", "data": "x", "data_dir": None, "settings": {"k": "3"}})]
    shown = [line.split() for line in output.splitlines()]
    assert ["mine", "0.75", "0.333333"] in shown
    assert ["most", "frequent", "class", "0.1"] in shown
    assert ["cat", "0.5"] in shown
    assert output.splitlines()[-1] == "note: measured twice"


def test_json_is_the_only_thing_on_standard_output_whatever_a_verb_prints(run, evaluated):
    status, output, errors = run("evaluate", "last", "--json")
    assert json.loads(output)["figures"] == {"accuracy": 0.75, "loss": 1 / 3}
    assert errors == "chatter of a verb\n"


def test_predict_hands_inputs_over_and_shows_a_row_for_each(run, verb):
    calls = []

    def predict(target, inputs, *, out, settings):
        calls.append((target, inputs, out, settings))
        return [{"input": name, "label": "7", "probabilities": {"7": 1.0}} for name in inputs]

    verb("predict", predict=predict)
    _, table, _ = run("predict", "last", "a.png", "b.png", "--out", "answers", "--set", "length=3")
    assert calls == [("last", ["a.png", "b.png"], "answers", {"length": "3"})]
    assert table.split() == ["input", "label", "a.png", "7", "b.png", "7"]
    _, output, _ = run("predict", "last", "a.png", "--json")
    assert json.loads(output) == {
        "predictions": [{"input": "a.png", "label": "7", "probabilities": {"7": 1.0}}]
    }


def test_conf_is_a_setting_beside_the_others(run, verb):
    chosen = []
    verb("predict", predict=lambda target, inputs, *, out, settings: chosen.append(settings) or [])
    run("predict", "last", "a.png", "--conf", "0.4", "--set", "iou=0.5")
    run("predict", "last", "a.png")
    assert chosen == [{"iou": "0.5", "conf": "0.4"}, {}]


def test_export_says_where_it_wrote(run, verb):
    verb("export", export_all=lambda run, target, kinds: {kind: Path(target or f"{run}/{kind}") for kind in kinds})
    assert run("export", "a")[1] == "exported: a/saved_model\n"
    assert run("export", "a", "b")[1] == "exported: b\n"
    assert run("export", "a", "--format", "word2vec")[1] == "exported: a/word2vec\n"
    assert run("export", "a", "--format", "onnx, litert")[1] == "exported: a/onnx\nexported: a/litert\n"


def test_compare_shows_a_row_for_each_run(run, verb):
    verb("runs", compare=lambda runs: [{"run": name, "epochs": None} for name in runs])
    assert run("compare", "a", "b")[1].split() == ["run", "epochs", "a", "b"]
    assert json.loads(run("compare", "a", "--json")[1]) == {"runs": [{"run": "a", "epochs": None}]}


def test_data_prepare_and_inspect_call_the_data_sets_functions(run, verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figure = types.SimpleNamespace(savefig=lambda path: path.write_text("picture"))
    verb(
        "data.named",
        prepare=lambda name, data_dir: f"{name} is in {data_dir}",
        inspect=lambda name, split: ([{"data": f"data {name}", "split": split}], figure, ("a remark",)),
    )
    assert run("data", "prepare", "mnist", "--data-dir", "d")[1] == "mnist is in d\n"
    status, output, _ = run("data", "inspect", "mnist", "--split", "test")
    assert (status, output.splitlines()[-1]) == (0, "picture: mnist-test.png")
    assert Path("mnist-test.png").read_text() == "picture"


def test_list_shows_all_kinds_or_one_or_only_names(run):
    everything = run("list")[1].splitlines()
    assert {"recipes", "models", "data"} <= set(everything)
    assert "resnet_cifar" in run("list", "models", "--names")[1].splitlines()
    assert run("list", "data")[1] == run("data", "list")[1]
    assert run("list", "recipes")[1].splitlines()[0] == "recipes"


def test_a_table_that_something_else_reads_is_never_cut(run, verb):
    name = "a_folder/" * 40
    verb("runs", compare=lambda runs: [{"run": name, "recipe": "r"}])
    assert name in run("compare", "x")[1]


def test_a_table_on_a_terminal_keeps_long_names_whole_too(capsys, monkeypatch):
    from kerastoolkit.terminal import print_table

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    print_table([{"name": "abcdefghij" * 8, "number": 1}])
    output = capsys.readouterr().out
    assert "┃" in output or "|" in output, "drawn"
    assert output.count("abcdefghij"[:1]) >= 8, "folded, not cut"


def test_a_real_verb_starts_quietly_and_prints_json_alone(mine):
    """With no stand-ins: TensorFlow itself starts, and its remarks reach neither output."""
    done = process("-m", "kerastoolkit", "show", mine, "--json", KERAS_BACKEND="tensorflow")
    facts = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (facts["missing"], facts["settings"]["epochs"]) == ("gone is not here", 2)


def test_what_tensorflow_said_is_shown_when_its_start_fails():
    program = (
        "import os, sys\nfrom kerastoolkit.terminal import _withheld_stderr\n"
        "try:\n with _withheld_stderr():\n  os.write(2, b'reason\\n')\n  raise OSError\n"
        "except OSError: pass\n"
        "with _withheld_stderr(): os.write(2, b'remark\\n')\n"
        "os.write(2, b'after\\n')"
    )
    assert process("-c", program).stderr == "reason\nafter\n"
