"""Checkpoints that appear whole or not at all, and are checked before they are believed.

A checkpoint is a folder ``checkpoints/<step>/`` with ``variables.safetensors`` (arrays by name), ``state.json`` (everything else)
and ``manifest.json`` (the SHA-256 of both). It is written under a temporary name, flushed to the disk and renamed; the two
newest are kept, so that a damaged newest one costs minutes, not the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from kerastoolkit.experiment import RunError

KEPT = 2
VARIABLES, STATE, MANIFEST = "variables.safetensors", "state.json", "manifest.json"


def save_checkpoint(folder: Path, step: int, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
    """Commits the state after ``step`` steps; removes all but the newest two checkpoints.

    Raises:
        RunError: the disk refused; earlier checkpoints are as they were.
    """
    target, temporary = folder / f"{step:010d}", folder / f".writing-{step:010d}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        # The library writes memory as it lies, so it must lie in order.
        in_order = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        contents = {VARIABLES: safetensors.save(in_order), STATE: _json(state)}
        contents[MANIFEST] = _json({name: hashlib.sha256(data).hexdigest() for name, data in contents.items()})
        for name, data in contents.items():
            _write_through(temporary / name, data)
        _flush_folder(temporary)
        if target.exists():  # a damaged one of the same step, which was passed over on resuming
            shutil.rmtree(target)
        os.rename(temporary, target)
        _flush_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(f"checkpoint {target} could not be written ({error.strerror}); earlier checkpoints are kept") from error
    for old in _steps(folder)[KEPT:]:
        shutil.rmtree(folder / f"{old:010d}", ignore_errors=True)


def load_checkpoint(folder: Path) -> tuple[int, dict[str, np.ndarray], dict[str, Any], list[str]] | None:
    """The newest checkpoint that is whole: (step, arrays, state, warnings), or None where there is none at all.

    Raises:
        RunError: there are checkpoints and every one is damaged.
    """
    warnings = []
    for leftover in folder.glob(".writing-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    steps = _steps(folder)
    for step in steps:
        path = folder / f"{step:010d}"
        try:
            contents = {name: (path / name).read_bytes() for name in (VARIABLES, STATE, MANIFEST)}
            manifest = json.loads(contents[MANIFEST])
            for name in (VARIABLES, STATE):
                if hashlib.sha256(contents[name]).hexdigest() != manifest.get(name):
                    raise ValueError(f"{name} does not match its SHA-256")
            return step, safetensors.load(contents[VARIABLES]), json.loads(contents[STATE]), warnings
        except (OSError, ValueError, AttributeError, SafetensorError) as error:
            warnings.append(f"checkpoint {path} is damaged ({error}); falling back to the one before it")
    if steps:
        raise RunError(f"every checkpoint in {folder} is damaged; the last: {warnings[-1]}")
    return None


def write_file(path: Path, data: bytes | str) -> None:
    """Replaces a file: its readers see the old contents or the new, never a part."""
    temporary = path.with_name(f".writing-{path.name}")
    try:
        _write_through(temporary, data.encode() if isinstance(data, str) else data)
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunError(f"{path} could not be written ({error.strerror})") from error


def _steps(folder: Path) -> list[int]:
    """Steps of the committed checkpoints, newest first."""
    if not folder.is_dir():
        return []
    return sorted((int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _write_through(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    # A rename is on the disk only when its folder is.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
