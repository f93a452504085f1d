"""The next settings of a search follow from its seed and from what was tried, and from nothing else."""

import json
import math

import pytest

from kerastoolkit.search_sampler import ask
from kerastoolkit.search_space import Choice, Range

SPACE = {"rate": Range("log", 1e-4, 0.1), "depth": Choice((20, 32)), "units": Range("log", 8, 128)}


def searched(space, trials, outcome, seed=0, direction="minimise"):
    """A study of so many trials; ``outcome`` gives the value for the settings, or None where the trial fails."""
    study = {"seed": seed, "direction": direction, "trials": []}
    for _ in range(trials):
        settings = ask(space, study)
        value = outcome(settings)
        study["trials"].append({"settings": settings, "value": value, "status": "failed" if value is None else "finished"})
        study = json.loads(json.dumps(study))  # as after a kill, when it is read again
    return [trial["settings"] for trial in study["trials"]]


def distance(settings):
    return abs(math.log10(settings["rate"]) + 2)


def test_the_same_trials_lead_to_the_same_settings_and_another_seed_to_others():
    first = searched(SPACE, 13, distance)
    assert first == searched(SPACE, 13, distance)
    assert first != searched(SPACE, 13, distance, seed=1)


def test_what_is_drawn_lies_in_the_space_and_is_told_exactly_by_six_digits():
    for settings in searched(SPACE, 13, distance):
        assert 1e-4 <= settings["rate"] <= 0.1 and settings["rate"] == float(f"{settings['rate']:.6g}")
        assert settings["depth"] in (20, 32) and 8 <= settings["units"] <= 128 and type(settings["units"]) is int


@pytest.mark.parametrize(("direction", "sign"), [("minimise", 1), ("maximise", -1)])
def test_later_trials_are_nearer_to_what_was_good(direction, sign):
    drawn = searched(SPACE, 40, lambda settings: sign * distance(settings), direction=direction)
    first, last = (sum(map(distance, part)) / 10 for part in (drawn[:10], drawn[-10:]))
    assert last < first / 2


def test_later_trials_keep_away_from_where_others_failed():
    drawn = searched(SPACE, 40, lambda settings: None if settings["depth"] == 32 else 1.0)
    assert sum(settings["depth"] == 32 for settings in drawn[-20:]) <= 5


def test_no_combination_is_tried_twice_and_after_the_last_there_is_none():
    space = {"depth": Choice((20, 32, 44)), "filters": Choice(((8, 16), (16, 32))), "units": Range("uniform", 1, 2)}
    drawn = searched(space, 12, lambda settings: settings["depth"])
    assert len({json.dumps(settings) for settings in drawn}) == 12
    trials = [{"settings": each, "value": 1.0, "status": "finished"} for each in drawn]
    assert ask(space, {"seed": 0, "direction": "minimise", "trials": trials}) is None


def test_a_range_with_hardly_a_number_in_it_is_searched_all_the_same():
    space = {"rate": Range("uniform", 0.1, 0.1000001)}
    assert len(searched(space, 3, lambda settings: 1.0)) == 3
