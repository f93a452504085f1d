"""The legend of a folder of masks: which classes there are, and which value or colour of a mask means which."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from kerastoolkit.experiment import InputError
from kerastoolkit.serving.class_maps import IGNORED, Colour

PALETTES, LIST = ("palette.csv", "class_dict.csv"), "classes.txt"
HEADER = ["name", "r", "g", "b"]
NOT_CLASSES = ("void", "ignore", "unlabelled", "unlabeled")
MOST_BYTES = 1_000_000
MOST_ROWS = 255  # so that no row's place is IGNORED


@dataclass(frozen=True)
class Legend:
    """What a folder says of its classes.

    Attributes:
        source: the file that says it, or the folder where none does.
        classes: the names, or none where no file tells them.
        values: value of a mask -> class or IGNORED; None where all values are classes.
        colours: colour of a mask -> class or IGNORED; empty where no file tells them.
    """

    source: Path
    classes: tuple[str, ...]
    values: dict[int, int] | None
    colours: dict[Colour, int]


def read_legend(root: Path, ignore: int) -> Legend:
    """Reads palette.csv (or class_dict.csv): a header name,r,g,b and a row for each class, or classes.txt: a name a line.

    The value of a class in a mask without colours is its row's place, from 0 on; where all colours of a palette are greys
    (r = g = b), these are the values. A row called void, ignore, unlabelled or unlabeled has a value, yet is no class: its pixels
    are ignored, and the classes behind it move up.

    Args:
        root: the folder.
        ignore: another value, besides 255, of ignored pixels.
    Raises:
        InputError: one line with the file, the line, the rule and the value.
    """
    files = [root / name for name in (*PALETTES, LIST) if (root / name).is_file()]
    if not files:
        return Legend(root, (), None, {})
    if len(files) > 1:
        raise InputError(f"{root}: has both {files[0].name} and {files[1].name}; one must tell the classes")
    path = files[0]
    rows = _lines(path) if path.name == LIST else _palette(path)
    classes, numbers = [], []  # of all rows: the class or IGNORED
    for number, (name, _) in rows.items():
        is_class = name.lower() not in NOT_CLASSES
        if not name or (is_class and name in classes):
            raise InputError(f"{path}, line {number}: each class must have a name of its own, got {name or 'none'}")
        numbers.append(len(classes) if is_class else IGNORED)
        classes += [name] if is_class else []
    if len(classes) < 2 or len(rows) > MOST_ROWS:
        raise InputError(f"{path}: must have at least 2 classes and at most {MOST_ROWS} rows, got {len(classes)} and {len(rows)}")
    colours = dict(zip((colour for _, colour in rows.values()), numbers, strict=True)) if path.name != LIST else {}
    values = {IGNORED: IGNORED, ignore: IGNORED}
    if colours and all(len(set(colour)) == 1 for colour in colours):
        values |= {colour[0]: number for colour, number in colours.items()}
    else:
        values = dict(enumerate(numbers)) | values
    return Legend(path, tuple(classes), values, colours)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: must have at most {MOST_BYTES:,} bytes, got {path.stat().st_size:,}")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def _lines(path: Path) -> dict[int, tuple[str, Colour | None]]:
    """Number of a line -> its name; empty lines are passed over."""
    return {number: (line.strip(), None) for number, line in enumerate(_text(path).splitlines(), 1) if line.strip()}


def _palette(path: Path) -> dict[int, tuple[str, Colour]]:
    """Number of a line -> its name and colour."""
    lines = [[cell.strip() for cell in row] for row in csv.reader(_text(path).splitlines())]
    if not lines or [cell.lower() for cell in lines[0]] != HEADER:
        raise InputError(f"{path}: must begin with a line {','.join(HEADER)}, got {','.join(lines[0]) if lines else 'nothing'}")
    rows: dict[int, tuple[str, Colour]] = {}
    for number, row in enumerate(lines[1:], 2):
        if not any(row):
            continue
        if len(row) != 4 or not all(cell.isascii() and cell.isdigit() and int(cell) <= 255 for cell in row[1:]):
            raise InputError(f"{path}, line {number}: must be a name and three whole numbers 0 .. 255, got {','.join(row)}")
        red, green, blue = map(int, row[1:])
        if (red, green, blue) in (colour for _, colour in rows.values()):
            raise InputError(f"{path}, line {number}: each class must have a colour of its own, got {red},{green},{blue} again")
        rows[number] = row[0], (red, green, blue)
    return rows
