"""Files of sentence pairs: one with two columns, two that are aligned by their lines, or a folder of aligned ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from kerastoolkit.data.text_lines import one_line, text_lines
from kerastoolkit.experiment import InputError

MOST_BYTES = 500_000_000  # of an unpacked file; its sentences are held in memory
SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev")}
TEST, PREFERRED = "test", "test_2016_flickr"


@dataclass(frozen=True)
class Pairs:
    """Sentences and their translations.

    Attributes:
        sources, targets: as many of the one as of the other, none of them empty.
        left_out: of how many lines one side or both were empty.
    """

    sources: list[str]
    targets: list[str]
    left_out: int = 0


def pairs_in_columns(path: Path) -> Pairs:
    """The pairs of a UTF-8 file, gzip or not, with a sentence, a tab and its translation in each line, and no header.

    Raises:
        InputError: a line has not two columns or an empty one (with file and line), or as ``text_lines``.
    """
    pairs = Pairs([], [])
    for number, line in enumerate(text_lines(path, most_bytes=MOST_BYTES), 1):
        columns = line.split("\t")
        if len(columns) != 2:
            raise InputError(f"{path}, line {number}: must have two columns parted by a tab, got {len(columns)}")
        for side, sentences, column in zip(("source", "target"), (pairs.sources, pairs.targets), columns, strict=True):
            sentences.append(one_line(column))
            if not sentences[-1]:
                raise InputError(f"{path}, line {number}: the {side} is empty")
    return _not_empty(pairs, path)


def aligned_pairs(source: Path, target: Path) -> Pairs:
    """The pairs of two UTF-8 files, gzip or not, of which line i of one is the translation of line i of the other.

    Lines of which one side or both are empty are left out.

    Raises:
        InputError: one has more lines (with both numbers), or as ``text_lines``.
    """
    both = [text_lines(path, most_bytes=MOST_BYTES) for path in (source, target)]
    pairs, numbers, left_out = Pairs([], []), [0, 0], 0
    for lines in zip_longest(*both):
        numbers = [number + (line is not None) for number, line in zip(numbers, lines, strict=True)]
        first, second = (one_line(line or "") for line in lines)
        if first and second:
            pairs.sources.append(first)
            pairs.targets.append(second)
        else:
            left_out += 1
    if numbers[0] != numbers[1]:
        raise InputError(f"{source} and {target} must have as many lines, got {numbers[0]:,} and {numbers[1]:,}")
    return _not_empty(Pairs(pairs.sources, pairs.targets, left_out), source)


def pairs_in_folder(folder: Path, source: str, target: str) -> dict[str, Pairs]:
    """The pairs of each split that is there: train, validation, test.

    The files are ``train.<language>`` or ``train.<language>.gz``, of each language one; in the place of ``train`` ``validation``,
    ``valid``, ``val`` or ``dev``, and what begins with ``test``; of several such ``test_2016_flickr`` is the one.

    Raises:
        InputError: a file is missing, there are several of a kind, or as ``aligned_pairs``.
    """
    if source == target:
        raise InputError(f"source and target must be two languages, got {source} twice")
    names = {split: [name for name in known if _there(folder, name, source, target)] for split, known in SPLITS.items()}
    if not names["train"]:
        raise InputError(f"{folder}: needs train.{source} and train.{target}, or these with .gz, and has none of them")
    names["test"] = sorted({name for file in folder.iterdir() if (name := file.name.split(".")[0]).startswith(TEST)
                            and _there(folder, name, source, target)})  # fmt: skip
    if PREFERRED in names["test"]:
        names["test"] = [PREFERRED]
    for split, several in names.items():
        if len(several) > 1:
            raise InputError(f"{folder}: must have one set of files for {split}, got {', '.join(several)}")
    return {split: aligned_pairs(*(_file(folder, f"{name[0]}.{language}") for language in (source, target)))
            for split, name in names.items() if name}  # fmt: skip


def _there(folder: Path, name: str, source: str, target: str) -> bool:
    """Whether there is a file of this name in either language."""
    return any((folder / f"{name}.{language}{end}").is_file() for language in (source, target) for end in ("", ".gz"))


def _file(folder: Path, name: str) -> Path:
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    if not found:
        raise InputError(f"{folder}: there is no {name} and no {name}.gz")
    if len(found) > 1:
        raise InputError(f"{folder}: has both {name} and {name}.gz")
    return found[0]


def _not_empty(pairs: Pairs, path: Path) -> Pairs:
    if not pairs.sources:
        raise InputError(f"{path}: there are no sentence pairs in it")
    return pairs
