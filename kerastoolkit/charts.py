"""Pictures of histories and answers, as matplotlib figures that need no screen."""

from __future__ import annotations

import functools
import io
import re
import textwrap
import unicodedata
import warnings
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib import colormaps, font_manager
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea, VPacker
from matplotlib.patches import Rectangle

FURTHER_FONTS = (
    "Noto Sans CJK KR", "Noto Sans CJK SC", "Noto Sans CJK JP", "NanumGothic", "Malgun Gothic", "AppleGothic",
    "Apple SD Gothic Neo", "Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Arial Unicode MS", "Noto Sans Arabic",
    "Noto Sans Devanagari", "Noto Sans Thai",
)  # fmt: skip
PASSAGE = 1_500  # characters of a text on each side of what is set off in it
MOST_PIECES = 60  # of a sequence that a map of attention shows
COLUMNS, MOST_CHARACTERS = 90, 2_000  # of a line and of a text whose parts are coloured
INK, MUTED, ACCENT, WRONG = "#1f2933", "#9aa5b1", "#2f6fb5", "#c0392b"


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that no installed font has is drawn as a box; the rest of the picture is worth having.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    return file.getvalue()


@functools.cache
def fonts() -> tuple[str, ...]:
    """matplotlib's own font, and of those for other scripts the ones that are installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in FURTHER_FONTS if name in installed))


def curves(history: Sequence[dict[str, float]]) -> Figure:
    """Learning curves: a panel for the loss and each metric, training and validation together, by epoch."""
    names = [name for name in history[0] if name not in ("epoch", "step") and not name.startswith("val_")] if history else []
    figure = Figure(figsize=(4.2 * max(1, len(names)), 3.2), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, max(1, len(names)))), names, strict=False):
        for key, colour, label in ((name, MUTED, "training"), (f"val_{name}", ACCENT, "validation")):
            points = [(row["epoch"], row[key]) for row in history if key in row]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, label=label, marker="." if len(points) < 30 else None)
        axes.set(xlabel="epoch", title=name.replace("_", " "))
        if any(f"val_{name}" in row for row in history):
            axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """A confusion matrix, counts (truth, answer): rows are shaded by their share, cells say the count."""
    side = min(12.0, 2.5 + 0.45 * len(classes))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 25:
        for row, column in np.ndindex(*matrix.shape):
            if matrix[row, column]:
                colour = "white" if shares[row, column] > 0.5 else INK
                axes.text(column, row, matrix[row, column], ha="center", va="center", color=colour, fontsize=8)
    size = 9 if len(classes) <= 25 else 4
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=size)
    axes.set_yticks(range(len(classes)), classes, fontsize=size)
    axes.set(xlabel="answer", ylabel="truth")
    return figure


def image_grid(images: Sequence[np.ndarray], titles: Sequence[str], *, wrong: Sequence[bool] | None = None) -> Figure:
    """Images (height, width, 1 or 3) uint8 in rows of eight, each under its title; the titles of wrong ones are red."""
    columns = min(8, max(1, len(images)))
    rows = -(-max(1, len(images)) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.75 * rows), layout="constrained")
    for number, axes in enumerate(np.atleast_1d(figure.subplots(rows, columns)).flat):
        axes.axis("off")
        if number < len(images):
            show_image(axes, images[number])
            axes.set_title(titles[number], fontsize=8, color=WRONG if wrong is not None and wrong[number] else INK)
    return figure


def probabilities(image: np.ndarray, names: Sequence[str], values: Sequence[float], title: str) -> Figure:
    """An image beside its most probable names, as bars."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    left.axis("off")
    show_image(left, image)
    left.set_title(title, fontsize=9, color=INK)
    positions = np.arange(len(names))[::-1]
    right.barh(positions, values, color=[ACCENT, *[MUTED] * (len(names) - 1)])
    for position, value in zip(positions, values, strict=True):
        inside = value > 0.8
        right.text(value - 0.02 if inside else value + 0.02, position, f"{value:.1%}", va="center", fontsize=8,
                   ha="right" if inside else "left", color="white" if inside else INK)  # fmt: skip
    right.set_yticks(positions, names)
    right.set_xlim(0, 1)
    right.set_xlabel("probability")
    right.spines[["top", "right"]].set_visible(False)
    return figure


def show_image(axes: Any, image: np.ndarray) -> None:
    """Draws one image; one channel is grey."""
    axes.imshow(np.squeeze(image, -1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)


def colour_map(classes: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """A class map (height, width) uint8 in its classes' colours, (height, width, 3) uint8; what has no class is white."""
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(palette)] = palette
    return colours[classes]


def overlay(pixels: np.ndarray, classes: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """An image (height, width, 1 or 3) uint8 in grey under the colours of its class map, same size, (height, width, 3) uint8, so
    that colour tells the class alone; where there is no class the image shows. A class map of another size is brought to the
    image's by nearest neighbours."""
    height, width = pixels.shape[:2]
    if classes.shape != (height, width):
        rows, columns = (((np.arange(size) + 0.5) * own / size).astype(int) for size, own in
                         zip((height, width), classes.shape, strict=True))  # fmt: skip
        classes = classes[rows[:, None], columns]
    # In 16 bits, because an image may have 64 million pixels.
    grey = pixels.mean(axis=-1, keepdims=True, dtype=np.float32).astype(np.uint16)
    mixed = (grey * 40 + colour_map(classes, palette).astype(np.uint16) * 60) // 100
    return np.where((classes < len(palette))[..., None], mixed, pixels).astype(np.uint8)


def overlays(panels: Sequence[tuple], names: Sequence[str], palette: Sequence[tuple[int, int, int]], *,
             columns: int = 2) -> Figure:  # fmt: skip
    """Images in rows, with class maps over them or without, and a legend of the classes that are seen.

    Args:
        panels: (title, image (height, width, 1 or 3) uint8) or (title, image, class map) each.
        names, palette: of the classes.
        columns: panels in a row.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.9 * rows + 0.5), layout="constrained")
    seen: set[int] = set()
    for axes, (title, image, *classes) in zip(np.atleast_1d(figure.subplots(rows, columns)).flat, panels, strict=False):
        show_image(axes, overlay(image, classes[0], palette) if classes else image)
        seen.update(int(each) for found in classes for each in np.unique(found) if each < len(names))
        axes.set_title(title.replace("$", r"\$"), fontsize=9, color=INK, family=fonts())
    for axes in figure.axes:
        axes.axis("off")
    patches = [Rectangle((0, 0), 1, 1, color=np.array(palette[each]) / 255, label=names[each].replace("$", r"\$"))
               for each in sorted(seen)]  # fmt: skip
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, max(1, len(patches))), frameon=False, fontsize=8)
    return figure


def page(before: str, text: str) -> Figure:
    """A page of text: what was given in grey, what was written after it in black."""
    lines = [(line, MUTED) for line in before.split("\n")] + [(line, INK) for line in text.split("\n")]
    wrapped = [(part, colour) for line, colour in lines for part in (textwrap.wrap(line, 90) or [""])]
    figure = Figure(figsize=(7, 0.4 + 0.18 * len(wrapped)))
    for number, (line, colour) in enumerate(wrapped):
        height = 1 - (number + 1) / (len(wrapped) + 1)
        figure.text(0.03, height, line.replace("$", r"\$"), family="monospace", fontsize=8, color=colour)
    return figure


def passage(text: str, begin: int, end: int, title: str) -> Figure:
    """A page of text in grey, with the characters begin .. end - 1 set off; of a long text what is around them."""
    start = max(0, begin - PASSAGE)
    lines, left = [], start
    for line in text[start : end + PASSAGE].split("\n"):
        for part in _wrapped(line):
            lines.append((part, left))
            left += len(part)
        left += 1
    figure = Figure(figsize=(8, 0.6 + 0.2 * len(lines)))
    packed = []
    for line, first in lines:
        places = [min(max(place - first, 0), len(line)) for place in (begin, end)]
        parts = zip((line[: places[0]], line[places[0] : places[1]], line[places[1] :]), (False, True, False), strict=True)
        style = {"fontsize": 9, "family": fonts()}
        packed.append(HPacker(pad=0, sep=0, align="baseline", children=[
            TextArea(part.replace("$", r"\$"), textprops={**style, "color": ACCENT if is_set_off else MUTED,
                                                          "weight": "bold" if is_set_off else "normal"})
            for part, is_set_off in parts if part] or [TextArea(" ", textprops=style)]))  # fmt: skip
    figure.add_artist(AnchoredOffsetbox("lower left", child=VPacker(pad=2, sep=4, align="left", children=packed), frameon=False,
                                        bbox_to_anchor=(0.02, 0.0), bbox_transform=figure.transFigure))  # fmt: skip
    figure.suptitle("\n".join(textwrap.wrap(title, 90)[:3]).replace("$", r"\$"), fontsize=9, family=fonts(), color=INK)
    return figure


def _wrapped(line: str) -> list[str]:
    """Parts of a line of at most 100 characters, cut after a space where there is one, that together are the line."""
    parts = []
    while len(line) > 100:
        cut = line.rfind(" ", 0, 100) + 1 or 100
        parts.append(line[:cut])
        line = line[cut:]
    return [*parts, line]


def lines_over_time(times: np.ndarray, values: dict[str, np.ndarray], title: str) -> Figure:
    """Lines over time, each under its name: the first (the truth) in black, the second in colour, the others in grey."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    for number, (label, line) in enumerate(values.items()):
        colour, style = ((INK, "-"), (ACCENT, "-"), (MUTED, "--"))[min(number, 2)]
        axes.plot(times, line, style, color=colour, linewidth=1.2, label=label)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def error_by_step(rows: Sequence[dict[str, float]]) -> Figure:
    """The error of each method by step of the horizon; rows hold "step", then "network", then the baselines."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    styles = ("-", "--", ":", "-.", (0, (1, 3)))
    for number, name in enumerate(name for name in rows[0] if name != "step"):
        colour = ACCENT if name == "network" else MUTED if number == 1 else INK
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], color=colour, label=name, marker=".",
                  linestyle=styles[number % len(styles)], linewidth=1.2)  # fmt: skip
    axes.set(xlabel="steps ahead", ylabel="mean absolute error")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def forecast(past: np.ndarray, values: np.ndarray, times: np.ndarray, forecasts: np.ndarray, names: Sequence[str], title: str, *,
             band: np.ndarray | None = None) -> Figure:  # fmt: skip
    """A panel for each target: its window (window, targets), then its forecast (horizon, targets), with a band (.., 2) if any."""
    figure = Figure(figsize=(8, 1 + 2.4 * len(names)), layout="constrained")
    for number, axes in enumerate(np.atleast_1d(figure.subplots(len(names), 1))):
        axes.plot(past, values[:, number], color=INK, linewidth=1.2)
        joined = np.concatenate([past[-1:], times])
        axes.plot(joined, np.concatenate([values[-1:, number], forecasts[:, number]]), color=ACCENT, marker=".", linewidth=1.2)
        if band is not None:
            axes.fill_between(times, band[:, number, 0], band[:, number, 1], color=ACCENT, alpha=0.2, linewidth=0)
        axes.set_ylabel(names[number])
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure


def image_rows(rows: dict[str, Sequence[np.ndarray]], title: str = "") -> Figure:
    """A row of images (height, width, 1 or 3), 0..255, for each label: the same images, each time in another form."""
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.6 + columns, 0.3 + len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (label, images) in zip(grid, rows.items(), strict=True):
        for axes in line:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        for axes, image in zip(line, images, strict=False):
            show_image(axes, np.clip(np.rint(image), 0, 255).astype(np.uint8))
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8, color=INK)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def mosaic(images: np.ndarray, title: str, *, gap: int = 1, xlabel: str = "", ylabel: str = "") -> Figure:
    """Images (rows, columns, height, width, 1 or 3), 0..255, side by side as one."""
    rows, columns, height, width, channels = images.shape
    whole = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255.0)
    for row, column in np.ndindex(rows, columns):
        top, left = row * (height + gap), column * (width + gap)
        whole[top : top + height, left : left + width] = images[row, column]
    longest = max(whole.shape[:2])
    figure = Figure(figsize=(8 * whole.shape[1] / longest + 0.5, 8 * whole.shape[0] / longest + 0.7), layout="constrained")
    axes = figure.subplots()
    show_image(axes, np.clip(np.rint(whole), 0, 255).astype(np.uint8))
    axes.set(xticks=[], yticks=[], xlabel=xlabel, ylabel=ylabel)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10)
    return figure


def points_by_class(points: np.ndarray, labels: np.ndarray, classes: Sequence[str], title: str,
                    axis_names: Sequence[str]) -> Figure:  # fmt: skip
    """Points (examples, 2), coloured by their label."""
    figure = Figure(figsize=(7.5, 6), layout="constrained")
    axes = figure.subplots()
    size = float(np.clip(20_000 / len(points), 4, 25))
    colours = colormaps["tab10" if len(classes) <= 10 else "turbo"].resampled(max(10, len(classes)))
    for number, name in enumerate(classes):
        mine = points[labels == number]
        axes.scatter(mine[:, 0], mine[:, 1], s=size, alpha=0.6, linewidths=0, color=colours(number), label=name)
    axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
    axes.set_title(title, fontsize=10)
    if len(classes) <= 25:
        legend = axes.legend(frameon=False, fontsize=8, markerscale=4, loc="center left", bbox_to_anchor=(1, 0.5))
        for handle in legend.legend_handles:
            handle.set_alpha(1)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def word_map(points: np.ndarray, words: Sequence[str], title: str, *, strengths: np.ndarray | None = None) -> Figure:
    """Words at their places in a plane.

    Args:
        points: (words, 2).
        words: what is written there.
        strengths: (words,) 0 .. 1, how dark each is written; the first is set off. None for all alike.
    """
    many = len(words) > 60
    figure = Figure(figsize=(12, 9) if many else (8, 6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(points[:, 0], points[:, 1], s=4, color="tab:blue", linewidths=0)
    for number, (word, (x, y)) in enumerate(zip(words, points, strict=True)):
        first = strengths is not None and number == 0
        alpha = 1.0 if strengths is None else float(np.clip(strengths[number], 0.35, 1.0))
        # A dollar sign would begin a formula.
        axes.annotate(word.replace("$", r"\$"), (x, y), (3, 2), textcoords="offset points", fontsize=7 if many else 9,
                      alpha=alpha, weight="bold" if first else "normal", family=fonts())  # fmt: skip
    axes.set_title(title.replace("$", r"\$"), fontsize=10, family=fonts())
    axes.set(xticks=[], yticks=[])
    axes.margins(0.08)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def attention_map(weights: np.ndarray, columns: Sequence[str], rows: Sequence[str], title: str = "") -> Figure:
    """How much each row (a piece of an answer) looks at each column (a piece of its source), as shades beside a colour bar.

    Args:
        weights: (rows, columns) 0 .. 1.
        columns, rows: what is written along the top and down the left. Only the first 60 are shown; then the title says so.

    Raises:
        ValueError: there are not as many rows or columns of weights as names.
    """
    if weights.shape != (len(rows), len(columns)):
        raise ValueError(f"weights must be (rows, columns) = {(len(rows), len(columns))}, got {weights.shape}")
    left_out = [f"{MOST_PIECES} of {len(names)} {kind}"
                for names, kind in ((rows, "rows"), (columns, "columns")) if len(names) > MOST_PIECES]  # fmt: skip
    weights, columns, rows = weights[:MOST_PIECES, :MOST_PIECES], columns[:MOST_PIECES], rows[:MOST_PIECES]
    figure = Figure(figsize=(2.5 + 0.2 * len(columns), 1.5 + 0.2 * len(rows)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    style = {"fontsize": 8, "color": INK, "family": fonts()}
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(columns)), [_piece(name) for name in columns], rotation=90, **style)
    axes.set_yticks(range(len(rows)), [_piece(name) for name in rows], **style)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes)
    title = " ".join(filter(None, [title, left_out and f"(the first {' and '.join(left_out)})"]))
    axes.set_title(title.replace("$", r"\$"), fontsize=10, family=fonts())
    return figure


def attention_maps(weights: np.ndarray, pieces: Sequence[str], title: str = "") -> Figure:
    """Where each piece of a text looks in it, a map for each block of a network, from the first at the top left.

    Args:
        weights: (blocks, pieces, pieces) 0 .. 1; rows look at columns.
        pieces: what stands beside rows and columns. Only the first 60 are shown; then the title says so.
    """
    left_out = f"(the first {MOST_PIECES} of {len(pieces)} pieces)" if len(pieces) > MOST_PIECES else ""
    weights, pieces = weights[:, :MOST_PIECES, :MOST_PIECES], pieces[:MOST_PIECES]
    columns = min(3, len(weights))
    rows = -(-len(weights) // columns)
    side = 1.6 + 0.13 * len(pieces)
    figure = Figure(figsize=(side * columns, side * rows), layout="constrained")
    style = {"fontsize": 6, "color": INK, "family": fonts()}
    for number, axes in enumerate(np.atleast_1d(figure.subplots(rows, columns)).flat):
        if number >= len(weights):
            axes.axis("off")
            continue
        image = axes.imshow(weights[number], cmap="Blues", vmin=0, vmax=1)
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(pieces)), [_piece(name) for name in pieces], rotation=90, **style)
        axes.set_yticks(range(len(pieces)), [_piece(name) for name in pieces], **style)
        axes.tick_params(length=0)
        axes.set_xlabel(f"block {number + 1}", fontsize=8)
    figure.colorbar(image, ax=figure.axes, shrink=0.6)
    title = " ".join(filter(None, [textwrap.shorten(title, 100, placeholder=" …"), left_out]))
    figure.suptitle(title.replace("$", r"\$"), fontsize=9, family=fonts())
    return figure


def tagged_text(texts: Sequence[tuple[str, Sequence[tuple[int, int, str]]]], kinds: Sequence[str]) -> Figure:
    """Texts with parts of them coloured, the name of its kind under each part.

    Args:
        texts: each with its parts: where one begins and where it ends, in characters, and its kind. Parts do not overlap.
        kinds: all that there may be, in the order of their colours.
    """
    colours = {kind: colormaps["tab20"](2 * number % 20 + 1) for number, kind in enumerate(kinds)}
    runs, row = [], 0
    for text, parts in texts:
        part_at = {place: (len(runs), begin, kind) for begin, end, kind in parts for place in range(begin, end)}
        left_out, text = len(text) > MOST_CHARACTERS, text[:MOST_CHARACTERS]
        column = 0
        for word in re.finditer(rf"\S{{1,{COLUMNS}}}\s*|\s+", text):
            if column and column + _columns(word.group().rstrip()) > COLUMNS:
                row, column = row + 1, 0
            for part, places in groupby(range(*word.span()), part_at.get):
                letters = "".join(text[place] for place in places)
                runs.append((row, column, letters, part))
                column += _columns(letters)
        if left_out:
            runs.append((row, column, "…", None))
        row += 1
    figure = Figure(figsize=(8, 0.4 * (row + 0.5)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(-1, COLUMNS + 5), ylim=(row, -0.5))
    # Of DejaVu Sans Mono a letter is 0.602 of its size wide; a figure of 8 inches has 576 points.
    style = {"family": ("DejaVu Sans Mono", *fonts()), "va": "center"}
    size, named = 576 / (COLUMNS + 6) / 0.602, set()
    for line, column, letters, part in runs:
        if part is not None:
            axes.add_patch(Rectangle((column, line - 0.3), _columns(letters), 0.5, facecolor=colours[part[2]], linewidth=0))
            if part not in named:  # a part may go on in the next line
                axes.text(column, line + 0.33, part[2].replace("$", r"\$"), color=MUTED, fontsize=0.6 * size, **style)
            named.add(part)
        place = column
        for letter in letters:  # one by one, because letters of other scripts come from fonts of other widths
            axes.text(place, line - 0.05, letter.replace("$", r"\$"), color=INK, fontsize=size, **style)
            place += _columns(letter)
    return figure


def _columns(text: str) -> int:
    """How many columns a text takes where all letters are as wide, or twice as wide."""
    return sum(0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def _piece(text: str) -> str:
    """A piece of text as a label: a dollar sign would begin a formula, and a line break a line."""
    return text.replace("$", r"\$").replace("\n", "↵")
