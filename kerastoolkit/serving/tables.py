"""CSV files of series: a time column, numeric columns, one series or several; every fault is told with its file and line."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kerastoolkit.experiment import InputError

MOST_BYTES = 512_000_000  # unpacked: a small .gz can hold far more than memory
MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-"}
TIME_NAMES = ("datetime", "date time", "date_time", "timestamp", "date", "time")
PARTS = ("year", "month", "day", "hour", "minute")
GROUP_NAMES = ("ticker", "symbol", "series")
TIME_FORMATS = tuple(
    day + time
    for day in ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y",
                "%b %d %Y", "%d %b %Y", "%b %d, %Y")
    for time in ("", " %H:%M:%S", " %H:%M", "T%H:%M:%S", "T%H:%M", "T%H:%M:%SZ", "T%H:%MZ")
)  # fmt: skip
DAY = 86_400


@dataclass(frozen=True)
class Reading:
    """How a CSV file is read.

    Attributes:
        columns: the numeric columns wanted, in their order; () for all.
        time: the column of dates; "" for the one that has a usual name, or for year, month, day and hour columns.
        time_format: how dates are written, as ``datetime.strptime`` has it; "" for the one usual form that fits all rows.
        series: the column that tells several series apart; "" for ticker, symbol or series, where there is one.
        gaps: "refuse" missing cells and missing rows, or fill them "forward" from the row before, which tells nothing of the
            future; what is filled is never a truth that a forecast is compared with.
        unsorted: "refuse" rows that are not in the order of time, or "sort" them.
        duplicates: "refuse" a time that comes twice, or keep the "last" of its rows.
        text: "drop" columns of text, or make a "one_hot" column of each of their values.
        business_days: the rows are trading days: weekends and holidays are no gaps.
    """

    columns: tuple[str, ...] = ()
    time: str = ""
    time_format: str = ""
    series: str = ""
    gaps: str = "refuse"
    unsorted: str = "refuse"
    duplicates: str = "refuse"
    text: str = "drop"
    business_days: bool = False

    def __post_init__(self) -> None:
        choices = {"gaps": ("refuse", "forward"), "unsorted": ("refuse", "sort"), "duplicates": ("refuse", "last"),
                   "text": ("drop", "one_hot")}  # fmt: skip
        for name, legal in choices.items():
            if getattr(self, name) not in legal:
                raise InputError(f"{name} must be {' or '.join(legal)}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Series:
    """One series of a file.

    Attributes:
        name: its value in the column that tells series apart; "" where there is none.
        times: (rows,) int64, seconds since 1970, in ascending order.
        values: (rows, columns) float64, finite.
        known: (rows, columns) bool, false where a value was filled in.
    """

    name: str
    times: np.ndarray
    values: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class Table:
    """What a file holds: the names of its numeric columns, its series, the usual seconds from row to row, and remarks."""

    columns: tuple[str, ...]
    series: tuple[Series, ...]
    step: int
    notes: tuple[str, ...]


def read_table(path: str, reading: Reading) -> Table:
    """Reads a CSV file, or a .csv.gz.

    Raises:
        InputError: one line with the file and the first line at fault, and with the option that would accept it.
    """
    header, rows, lines = _cells(path)
    cells = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    of_time, times = _times(path, cells, lines, reading)
    of_series = _column_of_series(cells, reading, path)
    candidates = [name for name in header if name not in of_time and name != of_series]
    values, notes = _numbers(path, cells, candidates, lines, reading)
    names = np.array(cells[of_series]) if of_series else np.full(len(rows), "")
    parts = [(name, np.flatnonzero(names == name)) for name in dict.fromkeys(names.tolist())]
    numbers = np.stack(list(values.values()), axis=1)
    step = _step(times, [chosen for _, chosen in parts], path)
    series = []
    for name, chosen in parts:
        label = f"{path}{f' ({name})' if name else ''}"
        one, more = _series(label, name, times[chosen], numbers[chosen], np.array(lines)[chosen], tuple(values), step, reading)
        series.append(one)
        notes += more
    return Table(tuple(values), tuple(series), step, tuple(notes))


def find_column(wanted: str, columns: tuple[str, ...], path: str) -> str:
    """The column of that name, whatever its case.

    Raises:
        InputError: there is none.
    """
    for name in columns:
        if name.lower() == wanted.lower():
            return name
    raise InputError(f"{path} has no numeric column {wanted} (it has: {', '.join(columns)})")


def _cells(path: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows of as many cells, and the line on which each row ends."""
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            contents = file.read(MOST_BYTES + 1)
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(contents) > MOST_BYTES:
        raise InputError(f"{path}: a CSV file may hold at most {MOST_BYTES:,} bytes, this one holds more")
    try:
        reader = csv.reader(io.StringIO(contents.decode("utf-8-sig"), newline=""), strict=True)
        rows, lines = [], []
        for row in reader:
            if row:
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except UnicodeDecodeError as error:
        line = contents[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: must be UTF-8 text, got the byte 0x{contents[error.start]:02x}") from None
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: is not CSV ({error})") from None
    if len(rows) < 3:
        raise InputError(f"{path}: needs a header and at least 2 rows, got {max(0, len(rows) - 1)}")
    header = rows[0]
    for name, count in Counter(header).items():
        if count > 1:
            raise InputError(f"{path}, line {lines[0]}: the column {name or '(without a name)'} is there {count} times")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise InputError(f"{path}, line {line}: must have {len(header)} cells as the header has, got {len(row)}")
    return header, rows[1:], lines[1:]


def _times(path: str, cells: dict[str, list[str]], lines: list[int], reading: Reading) -> tuple[set[str], np.ndarray]:
    """The names of the columns that tell the time, and the time of each row in seconds since 1970."""
    lower = {name.lower(): name for name in cells}
    if reading.time and reading.time.lower() not in lower:
        raise InputError(f"{path} has no column {reading.time} for the time (it has: {', '.join(cells)})")
    name = lower.get(reading.time.lower()) or next((lower[each] for each in TIME_NAMES if each in lower), None)
    if not reading.time and all(part in lower for part in PARTS[:3]):
        used = [lower[part] for part in PARTS if part in lower]
        numbers = {column: pd.to_numeric(pd.Series(cells[column]), errors="coerce") for column in used}
        parsed = pd.to_datetime(pd.DataFrame({column.lower(): numbers[column] for column in used}), errors="coerce")
        texts = [" ".join(row) for row in zip(*(cells[column] for column in used), strict=True)]
        _check_parsed(path, ", ".join(used), parsed, texts, lines, "2013 3 1")
        return set(used), _seconds(parsed)
    if name is None:
        usual = ", ".join(TIME_NAMES)
        raise InputError(f"{path}: no column of dates found ({usual}; or year, month, day); name it with time=NAME")
    texts = pd.Series(cells[name])
    found, best = {}, None
    for form in (reading.time_format,) if reading.time_format else TIME_FORMATS:
        parsed = pd.to_datetime(texts, format=form, errors="coerce")
        if best is None or parsed.notna().sum() > best.notna().sum():
            best = parsed
        if parsed.notna().all():
            found[form] = parsed
    if not found:
        _check_parsed(path, name, best, cells[name], lines, reading.time_format or "2013-03-01")
    readings = {tuple(parsed) if len(parsed) < 50 else hash(tuple(parsed)): form for form, parsed in found.items()}
    if len(readings) > 1:
        forms = " or ".join(readings.values())
        raise InputError(f"{path}: the dates of {name} can be read in several ways; say time_format={forms}")
    return {name}, _seconds(next(iter(found.values())))


def _check_parsed(path: str, name: str, parsed: pd.Series, texts: list[str], lines: list[int], form: str) -> None:
    wrong = np.flatnonzero(parsed.isna())
    if len(wrong):
        raise InputError(f"{path}, line {lines[wrong[0]]}: {name} must be a date such as {form}, got {texts[wrong[0]]!r}; "
                         "time_format, such as %d-%b-%y, says how dates are written")  # fmt: skip


def _seconds(parsed: pd.Series) -> np.ndarray:
    return parsed.to_numpy().astype("datetime64[s]").astype(np.int64)


def _column_of_series(cells: dict[str, list[str]], reading: Reading, path: str) -> str | None:
    lower = {name.lower(): name for name in cells}
    if reading.series and reading.series.lower() not in lower:
        raise InputError(f"{path} has no column {reading.series} to tell series apart (it has: {', '.join(cells)})")
    return lower.get(reading.series.lower()) or next((lower[each] for each in GROUP_NAMES if each in lower), None)


def _numbers(path: str, cells: dict[str, list[str]], candidates: list[str], lines: list[int],
             reading: Reading) -> tuple[dict[str, np.ndarray], list[str]]:  # fmt: skip
    """Column -> float64 with NaN where a cell is missing, and remarks on columns that are left out."""
    found, texts = {}, []
    wanted = [_wanted(name, candidates, path) for name in reading.columns] or candidates
    for name in wanted:
        if name not in candidates:
            column, kind = _one_hot(name, candidates)
            found[name] = np.array([float(cell == kind) for cell in cells[column]])
            continue
        numbers, wrong = [], []
        for row, cell in enumerate(cells[name]):
            try:
                numbers.append(math.nan if cell.lower() in MISSING else float(cell))
                if math.isinf(numbers[-1]):
                    raise ValueError
            except ValueError:
                numbers.append(math.nan)
                wrong.append(row)
        present = sum(cell.lower() not in MISSING for cell in cells[name])
        if len(wrong) > present / 2:
            texts.append(name)
        elif wrong:
            raise InputError(f"{path}, line {lines[wrong[0]]}: {name} must be a number, got {cells[name][wrong[0]]!r}")
        else:
            found[name] = np.array(numbers)
    notes = []
    for name in texts:
        if reading.text == "one_hot":
            kinds = sorted(set(cells[name]))
            if len(kinds) > 100:
                raise InputError(f"{path}: {name} has {len(kinds)} different values, more than the 100 that one_hot takes")
            found |= {f"{name}={kind}": np.array([float(cell == kind) for cell in cells[name]]) for kind in kinds}
        else:
            notes.append(f"{path}: the column of text {name} is left out (text=one_hot would use it)")
    if not found:
        raise InputError(f"{path}: has no numeric column")
    return found, notes


def _wanted(name: str, candidates: list[str], path: str) -> str:
    for each in candidates:
        if each.lower() == name.lower():
            return each
    if _one_hot(name, candidates):
        return name
    raise InputError(f"{path} has no column {name} (it has: {', '.join(candidates)})")


def _one_hot(name: str, candidates: list[str]) -> tuple[str, str] | None:
    """(column, one of its values) of a name such as wind=NW, which a run that used text=one_hot asks its files for."""
    return next(((each, name[len(each) + 1 :]) for each in candidates if name.startswith(f"{each}=")), None)


def _step(times: np.ndarray, parts: list[np.ndarray], path: str) -> int:
    """The usual seconds between rows that follow one another in a series."""
    differences = np.concatenate([np.diff(np.sort(times[chosen])) for chosen in parts])
    differences = differences[differences > 0]
    if not len(differences):
        raise InputError(f"{path}: all rows have the same time")
    return int(np.median(differences))


def _series(label: str, name: str, times: np.ndarray, values: np.ndarray, lines: np.ndarray, columns: tuple[str, ...],
            step: int, reading: Reading) -> tuple[Series, list[str]]:  # fmt: skip
    notes = []
    backwards = np.flatnonzero(np.diff(times) < 0)
    if len(backwards):
        if reading.unsorted == "refuse":
            raise InputError(
                f"{label}, line {lines[backwards[0] + 1]}: comes before the time of the row above; unsorted=sort sorts"
            )
        notes.append(f"{label}: the rows were sorted by time")
        order = np.argsort(times, kind="stable")
        times, values, lines = times[order], values[order], lines[order]
    twice = np.flatnonzero(np.diff(times) == 0)
    if len(twice):
        if reading.duplicates == "refuse":
            at = f"{label}, line {lines[twice[0] + 1]}: has the time of line {lines[twice[0]]}"
            raise InputError(f"{at}; {len(twice)} such rows; duplicates=last keeps the last of each")
        notes.append(f"{label}: {len(twice)} rows with the time of a later row were left out")
        times, values, lines = (np.delete(each, twice, axis=0) for each in (times, values, lines))
    _check_steps(label, times, lines, step, reading)
    missing = np.isnan(values)
    if missing.any():
        if reading.gaps == "refuse":
            row, column = np.argwhere(missing)[0]
            raise InputError(f"{label}, line {lines[row]}: {columns[column]} is missing, and {missing.sum() - 1:,} more cells; "
                             f"gaps=forward fills them from the rows before, columns=... leaves the column out")  # fmt: skip
        notes.append(f"{label}: {missing.sum():,} missing cells were filled from the rows before")
    if reading.gaps == "forward" and not reading.business_days:
        times, values = _with_all_rows(times, values, step)
        if len(times) > len(missing):
            notes.append(f"{label}: {len(times) - len(missing):,} missing rows were filled from the rows before")
    known = ~np.isnan(values)
    filled = pd.DataFrame(values).ffill().to_numpy()
    whole = np.flatnonzero(~np.isnan(filled).any(axis=1))
    if not len(whole):
        raise InputError(f"{label}: some column has no number at all")
    if whole[0]:
        notes.append(f"{label}: the first {whole[0]} rows were left out, where some column has no number yet")
    first = whole[0]
    return Series(name, times[first:], filled[first:], known[first:]), notes


def _check_steps(label: str, times: np.ndarray, lines: np.ndarray, step: int, reading: Reading) -> None:
    """Refuses rows closer together than usual, and gaps where the reading does."""
    differences = np.diff(times)
    # Trading days have weekends and holidays between them; months differ in length.
    loose = reading.business_days or step > 27 * DAY
    close = np.flatnonzero(differences < (0.75 if loose else 1.0) * step)
    if len(close):
        at = f"{label}, line {lines[close[0] + 1]}: is {_duration(differences[close[0]])} after the row above"
        raise InputError(f"{at}, but rows are {_duration(step)} apart: the frequencies are mixed")
    longest = max(3 * step, 11 * DAY) if loose else step
    apart = np.flatnonzero(differences > longest)
    if len(apart) and (reading.gaps == "refuse"):
        at = f"{label}, line {lines[apart[0] + 1]}: is {_duration(differences[apart[0]])} after the row above"
        raise InputError(f"{at}, but rows are {_duration(step)} apart: rows are missing; gaps=forward goes on")
    if not loose:
        odd = np.flatnonzero(differences % step)
        if len(odd):
            at = f"{label}, line {lines[odd[0] + 1]}: is {_duration(differences[odd[0]])} after the row above"
            raise InputError(f"{at}, which is no multiple of {_duration(step)}: the frequencies are mixed")


def _with_all_rows(times: np.ndarray, values: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows, and rows of NaN where one is missing."""
    if step > 27 * DAY:
        return times, values
    count = (times[-1] - times[0]) // step + 1
    if count > 20 * len(times):
        raise InputError(f"filling every {_duration(step)} would make {count:,} rows of {len(times):,}")
    every = times[0] + step * np.arange(count)
    wide = np.full((count, values.shape[1]), np.nan)
    wide[(times - times[0]) // step] = values
    return every, wide


def _duration(seconds: float) -> str:
    for name, size in (("day", DAY), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            return f"{seconds / size:g} {name}{'' if seconds == size else 's'}"
    return f"{seconds:g} seconds"
