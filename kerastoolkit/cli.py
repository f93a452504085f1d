"""The command line: each command reads its arguments, calls one verb and prints what that returns.

The verbs import Keras and TensorFlow, which takes seconds, so the commands import them
themselves: help, lists and mistakes in names answer at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

import kerastoolkit
from kerastoolkit import catalog
from kerastoolkit.experiment import InputError, RunError
from kerastoolkit.terminal import print_facts, print_json, print_table, start_tensorflow


def main(recipe: Callable[..., Any] | None = None, arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line, then leaves with 0, 1 (a run failed), 2 (bad input) or 130 (Ctrl-C).

    Args:
        recipe: a recipe function, given at the end of its own file: the arguments are those of its ``train``.
        arguments: in place of ``sys.argv[1:]``.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if recipe is not None:
        arguments = ["train", f"{recipe.__code__.co_filename}:{recipe.__name__}", *arguments]
    wishes = {"traceback": False}
    try:
        status = commands.main(arguments, prog_name="kerastoolkit", standalone_mode=False, obj=wishes) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        status = 2
    except (click.Abort, KeyboardInterrupt):
        status = 130
    except Exception as error:
        if wishes["traceback"]:
            sys.excepthook(*sys.exc_info())
        message, status = _told(error)
        click.echo("\n".join([f"error: {message}", *_notes(error)]), err=True)
    sys.exit(status)


def _told(error: Exception) -> tuple[str, int]:
    """An error as one line, and the exit status that goes with it."""
    if isinstance(error, click.ClickException):
        return " ".join(error.format_message().split()), 2
    if isinstance(error, (InputError, catalog.CatalogError)):
        return " ".join(str(error).split()), 2
    if isinstance(error, RunError):
        return " ".join(str(error).split()), 1
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line} (--traceback shows where)", 1


def _notes(error: Exception) -> list[str]:
    """What an InputError tells besides, a line each: the further faults of a data set."""
    notes = getattr(error, "__notes__", ()) if isinstance(error, InputError) else ()
    return [" ".join(note.split()) for note in notes]


def _note_traceback(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    context.obj["traceback"] |= wanted


def _examples(lines: tuple[str, ...]) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  kerastoolkit {line}" for line in lines)


def _command(name: str, *examples: str, group: click.Group | None = None) -> Callable[..., click.Command]:
    """A decorator that makes a function a command; its help ends with the examples."""

    def make(function: Callable[..., None]) -> click.Command:
        command = (group or commands).command(name, epilog=_examples(examples))(function)
        command.params.append(_traceback)
        return command

    return make


_traceback = click.Option(
    ["--traceback"],
    is_flag=True,
    expose_value=False,
    callback=_note_traceback,
    help="Show where errors arise.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
_data_dir = click.option("--data-dir", metavar="DIR", help="Where data sets are; sets TFDS_DATA_DIR.")
_data = click.option("--data", metavar="NAME|PATH", help="A data set's name, `sample`, or your own path.")
_set = click.option("--set", "settings", metavar="K=V", multiple=True, help="Change a setting; repeatable.")
_split = click.Choice(["train", "validation", "test"])


@click.group(epilog=_examples(("list", "train digits-cnn", "evaluate last", "export last")))
@click.version_option(kerastoolkit.__version__, message="%(prog)s %(version)s")
def commands() -> None:
    """Train, evaluate, use and export neural networks with Keras 3.

    A recipe names a data set, a network and how to train it. `train` leaves a run folder, and `evaluate`,
    `predict` and `export` need nothing else. RUN is such a folder, or `last`.
    """


commands.params.append(_traceback)


@_command("list", "list", "list recipes", "list recipes --names")
@click.argument("what", type=click.Choice(["recipes", "models", "data"]), required=False)
@click.option("--names", is_flag=True, help="Print only the names, one on a line.")
def list_command(what: str | None, names: bool) -> None:
    """List recipes, models and data sets."""
    kinds = {"recipes": catalog.recipes, "models": catalog.models, "data": catalog.data_sets}
    for kind in [what] if what else kinds:
        entries = kinds[kind]()
        if names:
            click.echo("".join(f"{entry.name}\n" for entry in entries), nl=False)
            continue
        print_table([{"name": entry.name, "what it is": entry.summary} for entry in entries], title=kind)
        if not what:
            click.echo()


@_command("show", "show digits-cnn", "show cifar10-resnet56 --data sample --layers")
@click.argument("recipe")
@_set
@_data
@_data_dir
@click.option("--layers", is_flag=True, help="Show the table of layers too.")
@_as_json
def show_command(recipe: str, settings: tuple[str, ...], data: str | None, data_dir: str | None, layers: bool,
                 as_json: bool) -> None:  # fmt: skip
    """Describe a recipe.

    Its paper and published figures, settings, data, parameters, and FLOPs of one forward pass on one example.
    """
    found, overrides = _recipe(recipe, settings, data=data)
    with _verb(data_dir, as_json):
        from kerastoolkit.show import show

        facts = show(found, overrides)
    if as_json:
        return print_json(facts)
    table = facts.pop("layers", [])
    click.echo(facts.pop("documentation") + "\n")
    facts["settings"] = {name: "none" if value is None else value for name, value in facts["settings"].items()}
    print_facts(facts)
    if layers:
        click.echo()
        print_table(table, title="layers")


@_command(
    "train",
    "train digits-cnn",
    "train cifar10-resnet20 --epochs 30 --set learning_rate=0.05",
    "train cifar10-cnn --data path/to/class_folders --out runs/mine",
    "train path/to/mine.py:my_recipe --dry-run",
    "train --resume last --epochs 60",
    "train cifar10-resnet20 --strategy mirrored --precision mixed_bfloat16",
    "train cifar10-resnet20 --strategy multi-worker --out shared/run",
)
@click.argument("recipe", metavar="RECIPE|FILE.py:FUNCTION", required=False)
@_set
@_data
@_data_dir
@click.option("--epochs", type=int, help="Passes over the training examples.")
@click.option("--out", metavar="DIR", help="The run's own folder.  [default: runs/<recipe>/<number>]")
@click.option("--seed", type=int, help="Of weights, order, augmentation and dropout.  [default: 0]")
@click.option("--checkpoint-seconds", type=float, default=30, show_default=True, help="Between checkpoints.")
@click.option("--dry-run", is_flag=True, help="Build everything and one batch; train and write nothing.")
@click.option("--resume", metavar="RUN", help="Continue this run with its own settings, or for more epochs.")
@click.option("--strategy", type=click.Choice(["mirrored", "multi-worker"]),
              help="mirrored: all GPUs here. multi-worker: the processes of TF_CONFIG, each with this command.")  # fmt: skip
@click.option("--logical-cpus", type=int, metavar="N", help="With mirrored: N devices on this machine's processors.")
@click.option("--precision", type=click.Choice(["float32", "mixed_bfloat16", "mixed_float16"]),
              help="What layers compute in; weights stay float32.  [default: float32]")  # fmt: skip
@click.option("--clip-norm", type=float, metavar="NORM", help="Cut the gradients, all together, to this norm.")
@click.option("--accumulate", type=int, metavar="N", help="Compute a step in N parts, one after the other.  [default: 1]")
@click.option("--average", type=float, metavar="MOMENTUM", help="Score and save a moving average of the weights.")
def train_command(recipe: str | None, settings: tuple[str, ...], data: str | None, data_dir: str | None,
                  epochs: int | None, out: str | None, seed: int | None, checkpoint_seconds: float,
                  dry_run: bool, resume: str | None, strategy: str | None, logical_cpus: int | None,
                  **options: Any) -> None:  # fmt: skip
    """Train a recipe, or continue a run.

    The same command continues a run that was stopped, at whatever moment. The run's folder is the last line
    on standard output; progress goes to standard error.
    """
    how_options = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    for name, value in {**how_options, "--strategy": strategy, "--logical-cpus": logical_cpus}.items():
        if dry_run and value is not None:
            raise click.UsageError(f"--dry-run builds the recipe as it is, on one device: {name} cannot go with it")
    if resume is not None:
        given = {"a recipe": recipe, "--set": settings, "--data": data, "--out": out, "--seed": seed, **how_options}
        for name, value in {**given, "--dry-run": dry_run or None}.items():
            if value not in (None, ()):
                raise click.UsageError(f"--resume keeps the run's own settings: {name} cannot go with it")
    elif recipe is None:
        raise click.UsageError("a recipe is missing (`kerastoolkit list recipes`), or a run to --resume")
    else:
        found, overrides = _recipe(recipe, settings, data=data, epochs=epochs)
    with _verb(data_dir):
        from kerastoolkit import train
        from kerastoolkit.options import Options

        if dry_run:
            facts = train.dry_run(found, overrides, seed=seed or 0)
            arguments = {name: "none" if value is None else value for name, value in facts["arguments"].items()}
            return print_facts({**facts, "arguments": arguments})
        how = {"checkpoint_seconds": checkpoint_seconds, "strategy": strategy, "logical_cpus": logical_cpus}
        if resume is not None:
            folder = train.resume(resume, epochs=epochs, **how)
        else:
            how["options"] = Options(**{name: value for name, value in options.items() if value is not None})
            folder = train.train(found, overrides, out=out, seed=seed or 0, data_dir=data_dir, **how)
    click.echo(f"run: {folder}")


@_command("evaluate", "evaluate last", "evaluate runs/digits-cnn/1 --split validation --json",
          "evaluate last --set importance_samples=5000")  # fmt: skip
@click.argument("run")
@click.option("--split", type=_split, default="test", show_default=True, help="Which examples to score.")
@_data
@_data_dir
@click.option("--set", "settings", metavar="K=V", multiple=True, help="Change a setting of the scoring; repeatable.")
@_as_json
def evaluate_command(run: str, split: str, data: str | None, data_dir: str | None, settings: tuple[str, ...],
                     as_json: bool) -> None:  # fmt: skip
    """Score a finished run, and draw how it does.

    The figures go to evaluation.json and the pictures to plots/ in the run's folder.
    """
    with _verb(data_dir, as_json):
        from kerastoolkit.evaluate import evaluate

        record, report = evaluate(run, split=split, data=data, data_dir=data_dir, settings=_pairs(settings))
    if as_json:
        return print_json(record)
    print_facts({key: value for key, value in record.items() if key not in ("figures", "baselines", "tables", "notes")})
    methods = {record["recipe"]: record["figures"], **record["baselines"]}
    columns = list(dict.fromkeys(name for figures in methods.values() for name in figures))
    rows = [{"method": name, **{key: each.get(key) for key in columns}} for name, each in methods.items()]
    for title, table in {"figures": rows, **report.tables}.items():
        click.echo()
        print_table(table, title=title)
    for note in report.notes:
        click.echo(f"note: {note}")


@_command(
    "predict",
    "predict last digit.png",
    "predict exported/digits *.jpg --out answers --json",
    "predict last prices.csv --out answers",
    'predict last "ROMEO:" --set temperature=0.7 --set length=300',
    'predict runs/text8-cbow/1 king "king - man + woman" "cup ~ mug"',
    'predict runs/multi30k-transformer/1 "Ein Hund läuft." letters.txt --set beams=1',
    'predict runs/squad-bert/1 "When was it built?" article.txt',
    'predict runs/bert-pretrain/1 "The capital of France is [MASK]."',
    "predict runs/bccd-yolov8n/1 photographs/ --conf 0.4 --out answers",
)
@click.argument("target", metavar="RUN|SAVEDMODEL")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("--out", metavar="DIR", help="Draw each input with its answer into this folder.")
@click.option("--set", "settings", metavar="K=V", multiple=True, help="Change a setting of the answer; repeatable.")
@click.option("--conf", metavar="SCORE", help="The score that a detector's box must exceed: short for --set conf=SCORE.")
@_as_json
def predict_command(target: str, inputs: tuple[str, ...], out: str | None, settings: tuple[str, ...], conf: str | None,
                    as_json: bool) -> None:  # fmt: skip
    """Answer for inputs of your own.

    Images for a classifier, a CSV file for a forecaster, a prompt for a language model, whose settings are temperature, top_k,
    length and seed; for word vectors a word, "king - man + woman" or "cup ~ mug", and the setting count; for a translator a
    sentence or a file of lines, for a summariser a text or a file of one, with the settings beams, length_penalty,
    no_repeat_ngram, longest, temperature, top_k, top_p and seed. For BERT texts or files of lines, two of a pair parted by |||,
    in which words may be [MASK]; for question answering questions, and last the text that they are about, or its file. For a
    detector images, with the settings conf and iou; --out also gets coco_results.json, all boxes in COCO's format.
    """
    chosen = _pairs((*settings, *([] if conf is None else [f"conf={conf}"])))
    with _verb(None, as_json):
        from kerastoolkit.predict import predict

        rows = predict(target, list(inputs), out=out, settings=chosen)
    if as_json:
        return print_json({"predictions": rows})
    # What has parts of its own, such as the probability of every class, is for --json.
    print_table([{key: value for key, value in row.items() if not isinstance(value, (dict, list))} for row in rows])


@_command("export", "export last", "export runs/digits-cnn/1 exported/digits",
          "export runs/digits-cnn/1 exported/digits --format saved_model,onnx,litert",
          "export runs/text8-cbow/1 vectors.bin --format word2vec-binary")  # fmt: skip
@click.argument("run")
@click.argument("target", metavar="[DIR|FILE]", required=False)
@click.option("--format", "kinds", metavar="NAME[,NAME...]", default="saved_model", show_default=True,
              help="saved_model, onnx, litert; word vectors also word2vec or word2vec-binary, which gensim reads.")  # fmt: skip
def export_command(run: str, target: str | None, kinds: str) -> None:
    """Write a run for other programs.

    A SavedModel takes raw input: files' bytes, text, unscaled numbers. Other programs need only TensorFlow to use it. ONNX and
    LiteRT files hold as much of it as these formats can, which is said before the work. Each file is asked in a process of its
    own, by its own runtime, and appears only if it answers as the run does. Of several formats [DIR] is the folder for all.
    """
    # An export is for any machine: where there is a GPU, Keras' recurrent layers would be cuDNN's, which run nowhere else.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with _verb(None):
        from kerastoolkit.export import export_all

        written = export_all(run, target, kinds=[kind.strip() for kind in kinds.split(",")])
    for path in written.values():
        click.echo(f"exported: {path}")


@commands.group("data", epilog=_examples(("data list", "data prepare cifar10", "data inspect digits")))
def data_commands() -> None:
    """List, fetch and look at data sets."""


@_command("list", "data list", group=data_commands)
@click.pass_context
def data_list_command(context: click.Context) -> None:
    """List the data sets that have a name."""
    context.invoke(list_command, what="data", names=False)


@_command("prepare", "data prepare mnist", "data prepare cifar10 --data-dir ~/data", group=data_commands)
@click.argument("name")
@_data_dir
def data_prepare_command(name: str, data_dir: str | None) -> None:
    """Fetch a data set for later use."""
    with _verb(data_dir):
        from kerastoolkit.data.named import prepare

        message = prepare(name, data_dir)
    click.echo(message)


@_command("inspect", "data inspect my_photographs --out look.png", "data inspect prices.csv", group=data_commands)
@click.argument("name", metavar="NAME|PATH")
@click.option("--split", type=_split, default="train", show_default=True, help="Which examples to look at.")
@click.option("--out", metavar="FILE", help="The picture to write.  [default: <name>-<split>.png]")
@_data_dir
def data_inspect_command(name: str, split: str, out: str | None, data_dir: str | None) -> None:
    """Draw some examples, and count them all: of a data set, a folder of images, with masks, with boxes or without, a CSV file,
    texts with labels or without, tagged words, sentence pairs, documents, questions."""
    picture = Path(out or f"{Path(name).resolve().name}-{split}.png")
    if not picture.parent.is_dir():
        raise InputError(f"the folder of --out does not exist: {picture.parent}")
    if picture.suffix.lower() not in (".png", ".jpg", ".jpeg", ".svg", ".pdf"):
        raise InputError(f"--out must end in .png, .jpg, .svg or .pdf, got {picture}")
    with _verb(data_dir):
        from kerastoolkit.data.named import inspect

        rows, figure, notes = inspect(name, split)
        figure.savefig(picture)
    print_table(rows, title=f"{name}, {split}")
    for note in notes:
        click.echo(f"note: {note}")
    click.echo(f"picture: {picture}")


@_command(
    "tune",
    "tune digits-cnn --trials 8 'learning_rate=log(1e-4,1e-1)' batch_size=32,64,128",
    "tune cifar10-resnet20 --trials 30 --epochs 20 'learning_rate=log(0.01,1)' weight_decay=1e-4,5e-4 --goal val_accuracy",
    "tune weather-lstm --set horizon=6 'units=log(8,128)' 'dropout=uniform(0,0.5)' --out runs/weather-search",
    "tune path/to/mine.py:my_recipe 'filters=(8,16),(16,32)' --data path/to/class_folders --json",
)
@click.argument("recipe", metavar="RECIPE|FILE.py:FUNCTION")
@click.argument("searched", metavar="NAME=VALUES...", nargs=-1, required=True)
@click.option("--trials", type=int, default=20, show_default=True, help="How many in all; more continue a finished search.")
@click.option("--goal", metavar="NAME", default="val_loss", show_default=True, help="The figure of history.csv that is best.")
@click.option("--direction", type=click.Choice(["minimise", "maximise"]),
              help="What is best of the goal.  [default: minimise a loss or error, maximise an accuracy]")  # fmt: skip
@_set
@_data
@_data_dir
@click.option("--epochs", type=int, help="Passes over the training examples, in every trial.")
@click.option("--out", metavar="DIR", help="The search's own folder.  [default: runs/tune-<recipe>/<number>]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the search, and of every trial's training.")
@click.option("--checkpoint-seconds", type=float, default=30, show_default=True, help="Between checkpoints of a trial.")
@_as_json
def tune_command(recipe: str, searched: tuple[str, ...], trials: int, goal: str, direction: str | None, settings: tuple[str, ...],
                 data: str | None, data_dir: str | None, epochs: int | None, out: str | None, seed: int,
                 checkpoint_seconds: float, as_json: bool) -> None:  # fmt: skip
    """Search for a recipe's best settings.

    \b
    What to search, each a setting of the recipe (quote the brackets):
      depth=20,32,44                choices; of settings with several
                                    parts 'filters=(8,16),(16,32)'
      'learning_rate=log(1e-4,0.1)' a number, evenly by ratio
      'dropout=uniform(0,0.5)'      a number, evenly by difference

    Both ends belong to a range; of a setting that is a whole number only whole numbers are tried.

    optuna's sampler (TPE) chooses: the first ten trials at random, the others near what was good. What is best is told by the
    validation split at a trial's last epoch, never by the test split. A trial whose loss is not finite, or which the recipe
    refuses, is noted as such, and the search goes on.

    The same command continues a search that was stopped, at whatever moment, and a larger --trials one that is finished. Each
    trial is a run as `train` makes it, in <out>/trials/<number>, for `evaluate`, `predict`, `export` and `compare`; `last` passes
    over them. The folder also has trials.csv and the picture trials.png. The best run is the last line on standard output.
    """
    found, overrides = _recipe(recipe, settings, data=data, epochs=epochs)
    from kerastoolkit.search_space import parse_space

    space = parse_space(found, searched)
    from kerastoolkit.tune import tune

    done = tune(found, overrides, space, trials=trials, goal=goal, direction=direction, out=out, seed=seed,
                data_dir=data_dir, checkpoint_seconds=checkpoint_seconds)  # fmt: skip
    if as_json:
        return print_json(done)
    print_table([{name: value for name, value in row.items() if name != "message"} for row in done["trials"]])
    for row in done["trials"]:
        if row["message"]:
            click.echo(f"note: trial {row['trial']}: {row['message']}")
    click.echo(f"picture: {done['picture']}")
    click.echo(f"best: {done['best']}")


@_command("compare", "compare runs/digits-cnn/1 runs/digits-cnn/2", "compare runs/*/* --json")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@_as_json
def compare_command(runs: tuple[str, ...], as_json: bool) -> None:
    """Set runs side by side.

    The columns are the settings in which the runs differ, and their figures.
    """
    from kerastoolkit.runs import compare

    rows = compare(list(runs))
    if as_json:
        return print_json({"runs": rows})
    print_table(rows)


def _pairs(settings: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for each in settings:
        name, equals, value = each.partition("=")
        if not equals:
            raise click.UsageError(f"a setting must be NAME=VALUE, got {each}")
        if name in pairs:
            raise click.UsageError(f"{name} is given twice")
        pairs[name] = value
    return pairs


def _recipe(text: str, settings: tuple[str, ...], **short: Any) -> tuple[catalog.Recipe, dict[str, Any]]:
    """The recipe and its checked overrides; ``--epochs 3`` is short for ``--set epochs=3``."""
    found = catalog.find_recipe(text)
    given = [f"{name}={value}" for name, value in short.items() if value is not None]
    return found, catalog.parse_overrides(found, [*settings, *given])


@contextlib.contextmanager
def _verb(data_dir: str | None, as_json: bool = False) -> Iterator[None]:
    """Where a verb runs: TensorFlow is there, and with --json what the verb prints goes to standard error."""
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise InputError(f"the commands need the tensorflow backend, but KERAS_BACKEND is {backend}")
    if data_dir is not None:
        os.environ["TFDS_DATA_DIR"] = data_dir
    from kerastoolkit.memory import keep_freed_memory

    keep_freed_memory()
    start_tensorflow()
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield
