"""The verb that exports: a run's model as files that other programs use without this package."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from kerastoolkit.experiment import InputError, RunError, Task, rebuild
from kerastoolkit.formats import Format, Trained, litert, onnx, saved_model
from kerastoolkit.formats.examples import examples_of
from kerastoolkit.formats.proof import prove
from kerastoolkit.formats.saved_model import DESCRIPTION, endpoints_of, signature_name  # noqa: F401 - as other verbs name them
from kerastoolkit.progress import say
from kerastoolkit.runs import find_finished_run
from kerastoolkit.serving.model import load_serving_model

FORMATS = {module.FORMAT.name: module.FORMAT for module in (saved_model, onnx, litert)}


def export(run: str, target: str | None = None, *, kind: str = saved_model.FORMAT.name) -> Path:
    """Writes a finished run in one format; returns where it is. See ``export_all``."""
    return export_all(run, target, kinds=(kind,))[kind]


def export_all(run: str, target: str | None = None, *, kinds: Sequence[str]) -> dict[str, Path]:
    """Writes a finished run in some formats, all of them or none; returns where each is.

    A SavedModel's endpoint ``serve`` (also ``serving_default``) takes raw input (files' bytes); ``serve_decoded`` takes what
    decoding would give (pixels); what else the task offers (``encode``, ``sample``, ...) has a name of its own. Other formats
    hold the largest part of that which they can, which is said before it is written. Each file is asked in a process of its own,
    by its own runtime, and must answer as the run does before it appears.

    Args:
        run: a run folder, or ``last``.
        target: where to write, of several formats a folder for them; by default in the run's folder, by the formats' names.
        kinds: names of formats: saved_model, onnx, litert or one of ``Task.formats``.
    Raises:
        InputError: no such run or format, a target exists, a package is missing, or a format cannot hold the run.
        RunError: an exported model does not run or answers something else, or the disk is full.
    """
    folder, record = find_finished_run(run)
    task = rebuild(record["task"])
    _check_formats(kinds, task)
    alone = target is not None and len(kinds) == 1
    home = folder if target is None else Path(target)
    targets = {kind: home if alone else home / (FORMATS[kind].file if kind in FORMATS else kind) for kind in kinds}
    for path in targets.values() if target is None else [home]:
        if path.exists():
            raise InputError(f"export target {path} exists; nothing was written")
    trained = Trained(folder, record, task, load_serving_model(folder))
    plans = {kind: FORMATS[kind].choose(trained) for kind in kinds if kind in FORMATS}
    for _, line in plans.values():
        if line:
            say(line)
    examples = examples_of(trained) if plans else None
    try:
        with _temporary(home.parent if alone else home) as written:
            for kind in kinds:
                path = written / targets[kind].name
                if kind not in plans:
                    task.formats[kind](trained.serving, path)
                    continue
                parts, _ = plans[kind]
                with _converting(FORMATS[kind]):
                    FORMATS[kind].write(parts, path, trained.about)
                difference = prove(FORMATS[kind], path, parts, examples)
                runtime = f"{FORMATS[kind].runtime} {version(FORMATS[kind].runtime)}"
                equal = "equal" if difference is None else f"equal to {difference:.1e}"
                nothing = ", where nothing is found" if difference is None else ""
                say(f"{kind}: {equal} on {examples.about_those_for(parts)}{nothing}, in {runtime}")
            _move({written / path.name: path for path in targets.values()})
    except OSError as error:
        raise RunError(f"export to {home} failed ({error.strerror}); nothing was written") from error
    return targets


def _check_formats(kinds: Sequence[str], task: Task) -> None:
    """Raises InputError where a format is not one of the task's, or its packages are not installed."""
    offered = (*FORMATS, *task.formats)
    for kind in kinds:
        if kind not in offered:
            raise InputError(f"{task.name} is exported as {', '.join(offered[:-1])} or {offered[-1]}, got {kind}")
        if kinds.count(kind) > 1:
            raise InputError(f"format {kind} is given twice")
        packages = FORMATS[kind].packages if kind in FORMATS else ()
        if not all(importlib.util.find_spec(package.replace("-", "_")) for package in packages):
            wanted = f"pip install 'kerastoolkit[{FORMATS[kind].extra}]'"
            raise InputError(f"format {kind} needs {' and '.join(packages)}: {wanted}")


@contextlib.contextmanager
def _temporary(parent: Path) -> Iterator[Path]:
    """A folder beside the targets, so that what is written there can be renamed; what is not, is gone afterwards, and so are the
    folders that were made for it."""
    made = next((path for path in reversed((parent, *parent.parents)) if not path.exists()), None)
    parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".exporting-", dir=parent) as folder:
            yield Path(folder)
    except BaseException:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        raise


@contextlib.contextmanager
def _converting(format: Format) -> Iterator[None]:
    """Turns what a converter raises, of whatever kind, into one line.

    Raises:
        RunError: it did.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
        raise RunError(f"{format.name}: the model cannot be converted ({reason}); nothing was written") from error


def _move(written: dict[Path, Path]) -> None:
    """Renames all, or where one cannot be, none."""
    done = []
    try:
        for source, target in written.items():
            if source.is_dir():
                os.chmod(source, 0o755)
            os.rename(source, target)
            done.append((source, target))
    except OSError:
        for source, target in done:
            os.rename(target, source)
        raise
