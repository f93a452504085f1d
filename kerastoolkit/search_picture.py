"""The picture of a search: the goal by trial and by each searched setting, as a matplotlib figure that needs no screen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from kerastoolkit.charts import ACCENT, INK, WRONG
from kerastoolkit.search_space import Choice, Range, Space, value_text

COLUMNS = 4  # at most
WIDE = 10  # times the smallest goal: from here on a logarithmic axis shows more
GOLDEN = 0.618  # multiples of it, less their whole part, are spread evenly however many there are


def search_picture(study: dict[str, Any], space: Space) -> Figure:
    """A panel for the goal by trial, with the best so far, and one for each searched setting; the best trial is marked in all.

    Args:
        study: "trials", each with "number", "settings", "status" and "value" (None where it has not finished); "goal",
            "direction" and "recipe".
        space: what was searched.
    """
    panels = 1 + len(space)
    rows = -(-panels // COLUMNS)
    columns = -(-panels // rows)
    figure = Figure(figsize=(3.7 * columns, 3.2 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    finished = [trial for trial in study["trials"] if trial["value"] is not None]
    others = [trial for trial in study["trials"] if trial["status"] in ("failed", "refused")]
    best = (min if study["direction"] == "minimise" else max)(finished, key=lambda trial: trial["value"], default=None)
    for axes in grid[panels:]:
        axes.axis("off")
    for number, axes in enumerate(grid[:panels]):
        axes.spines[["top", "right"]].set_visible(False)
        if number % columns == 0:
            axes.set_ylabel(study["goal"])

    places = [trial["number"] for trial in finished]
    _draw(grid[0], places, [trial["number"] for trial in others], finished, best)
    if finished:
        better = np.minimum if study["direction"] == "minimise" else np.maximum
        so_far = better.accumulate([trial["value"] for trial in finished])
        grid[0].step([*places, len(study["trials"])], [*so_far, so_far[-1]], where="post", color=INK, linewidth=1, zorder=1,
                     label="best so far")  # fmt: skip
    grid[0].set_xlabel("trial")
    grid[0].set_xlim(0.5, max(2, len(study["trials"])) + 0.5)
    grid[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, (name, each) in zip(grid[1:], space.items(), strict=False):
        place = _across(axes, each)
        axes.set_xlabel(name)
        _draw(axes, [place(trial, name) for trial in finished], [place(trial, name) for trial in others], finished, best)
    # The axes share the scale. It follows from what is drawn.
    _scale_goal(grid[0], [trial["value"] for trial in finished])

    handles, labels = grid[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    title = f"{study['recipe']}: {len(study['trials'])} trial{'' if len(study['trials']) == 1 else 's'}"
    if best is not None:
        settings = ", ".join(f"{name} {_short(value)}" for name, value in best["settings"].items())
        title += f"\nbest {study['goal']} {best['value']:.4g} of trial {best['number']}: {settings}"
    figure.suptitle(title.replace("$", r"\$"), fontsize=10, color=INK)
    return figure


def _draw(axes: Axes, places: list[float], lost: list[float], finished: list[dict[str, Any]],
          best: dict[str, Any] | None) -> None:  # fmt: skip
    if finished:
        values = [trial["value"] for trial in finished]
        axes.scatter(places, values, s=26, color=ACCENT, alpha=0.65, linewidths=0, label="trial")
    if lost:
        # What has no value stands on the lower edge: where it was tried is worth knowing.
        axes.scatter(lost, [0.02] * len(lost), s=28, color=WRONG, marker="x", linewidths=1.2, clip_on=False,
                     transform=axes.get_xaxis_transform(), label="failed or refused")  # fmt: skip
    if best is not None:
        index = next(number for number, trial in enumerate(finished) if trial is best)
        axes.scatter(places[index], best["value"], s=95, facecolors="none", edgecolors=INK, linewidths=1.4, label="best")


def _across(axes: Axes, each: Choice | Range):
    """Sets the axis of a setting up; returns (trial, name) -> where on it the trial stands."""
    if isinstance(each, Range):
        if each.kind == "log":
            axes.set_xscale("log")
            margin = (each.high / each.low) ** 0.04
            axes.set_xlim(each.low / margin, each.high * margin)
            _plain_numbers(axes.xaxis)
        else:
            margin = (each.high - each.low) * 0.04
            axes.set_xlim(each.low - margin, each.high + margin)
            if each.whole:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return lambda trial, name: trial["settings"][name]
    names = [value_text(value) for value in each.values]
    turned = sum(map(len, names)) > 30
    style = {"rotation": 30, "ha": "right"} if turned else {}
    axes.set_xticks(range(len(names)), [_cut(name) for name in names], **style)
    axes.set_xlim(-0.5, len(names) - 0.5)
    # Side by side, so that none hides another.
    return lambda trial, name: names.index(value_text(trial["settings"][name])) + 0.4 * ((trial["number"] * GOLDEN) % 1 - 0.5)


def _scale_goal(axes: Axes, values: list[float]) -> None:
    if values and min(values) > 0 and max(values) > WIDE * min(values):
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis)


def _plain_numbers(axis: Axis) -> None:
    """0.2 where matplotlib writes 2 x 10^-1, at so few places of a logarithmic axis that they can be read."""
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else _cut(value_text(value))


def _cut(text: str) -> str:
    return (text if len(text) <= 24 else f"{text[:23]}…").replace("$", r"\$")
