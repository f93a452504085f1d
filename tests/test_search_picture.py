"""The picture of a search shows each trial where it was tried and how good it was."""

import pytest

from kerastoolkit import charts
from kerastoolkit.search_picture import search_picture
from kerastoolkit.search_space import Choice, Range

SPACE = {"rate": Range("log", 1e-4, 0.1), "filters": Choice(((8, 16), (16, 32))), "units": Range("uniform", 1, 64)}


def study(values, direction="minimise"):
    trials = []
    for number, value in enumerate(values, 1):
        settings = {"rate": 10.0**-number, "filters": [8, 16] if number % 2 else [16, 32], "units": 8 * number}
        status = "finished" if value is not None else "failed"
        trials.append({"number": number, "settings": settings, "status": status, "value": value})
    return {"recipe": "mine", "goal": "val_loss", "direction": direction, "trials": trials}


def points(axes, label):
    return [tuple(point) for each in axes.collections if each.get_label() == label for point in each.get_offsets().tolist()]


def test_each_searched_setting_has_a_panel_with_its_own_kind_of_axis():
    panels = search_picture(study([0.3, 0.2]), SPACE).axes
    assert [each.get_xlabel() for each in panels] == ["trial", "rate", "filters", "units"]
    _, rate, filters, units = panels
    assert (rate.get_xscale(), units.get_xscale()) == ("log", "linear")
    assert [each.get_text() for each in filters.get_xticklabels()] == ["(8,16)", "(16,32)"]


def test_a_trial_stands_where_it_was_tried_and_a_failed_one_on_the_edge():
    by_trial, rate, filters, units = search_picture(study([0.3, None, 0.2]), SPACE).axes
    assert points(by_trial, "trial") == [(1, 0.3), (3, 0.2)]
    assert points(rate, "trial") == [(0.1, 0.3), (1e-3, 0.2)]
    assert points(units, "trial") == [(8, 0.3), (24, 0.2)]
    assert [round(place) for place, _ in points(filters, "trial")] == [0, 0]
    assert [place for place, _ in points(units, "failed or refused")] == [16]


@pytest.mark.parametrize(
    ("direction", "best", "line"), [("minimise", 0.1, [0.3, 0.3, 0.1, 0.1]), ("maximise", 0.5, [0.3, 0.5, 0.5, 0.5])]
)
def test_the_best_is_marked_and_so_is_the_best_so_far(direction, best, line):
    figure = search_picture(study([0.3, 0.5, 0.1], direction), SPACE)
    assert [point[1] for axes in figure.axes for point in points(axes, "best")] == [best] * 4
    assert figure.axes[0].lines[0].get_ydata().tolist() == line
    assert f"best val_loss {best} of trial" in figure.get_suptitle()


def test_goals_that_differ_by_magnitudes_have_a_logarithmic_axis():
    assert search_picture(study([0.3, 0.5]), SPACE).axes[0].get_yscale() == "linear"
    assert search_picture(study([0.3, 500.0]), SPACE).axes[0].get_yscale() == "log"


@pytest.mark.parametrize("values", [[None], [0.3]])
def test_there_is_a_picture_of_the_first_trial_already(values):
    assert charts.png(search_picture(study(values), SPACE)).startswith(b"\x89PNG")
