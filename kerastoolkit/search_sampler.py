"""Draws the settings of a search's next trial with optuna's sampler TPE (Watanabe 2023, https://arxiv.org/abs/2304.11127).

Of optuna only the sampler is used. It is made anew for each trial from the seed and the trials before, so that a search needs to
keep nothing of it, and one that was killed goes on as if it had never stopped.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import optuna

from kerastoolkit.search_space import Choice, Space, combinations, count, value_text

DRAWS = 20  # of settings that were tried already, before the first that were not are taken
DIGITS = 6  # of a drawn number that are kept: those that tables show, so that what is read there can be typed again


def ask(space: Space, study: dict[str, Any]) -> dict[str, Any] | None:
    """The settings of the next trial: a function of the study's seed and of its trials so far, all of which have ended.

    Args:
        space: what is searched.
        study: "seed"; "direction", "minimise" or "maximise"; "trials", each with "settings", "status" and "value".
    Returns:
        name -> value; None where every combination has been tried, for to train one again would give the same bits.
    """
    tried = {_key(trial["settings"]) for trial in study["trials"]}
    if len(tried) == count(space):
        return None
    for draw in range(DRAWS):
        settings = _drawn(space, study, draw)
        if _key(settings) not in tried:
            return settings
    if count(space) is None:  # a range so narrow that numbers repeat
        return settings
    return next(each for each in combinations(space) if _key(each) not in tried)


def _drawn(space: Space, study: dict[str, Any], draw: int) -> dict[str, Any]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    choices = {name: {value_text(value): value for value in each} for name, each in space.items() if isinstance(each, Choice)}
    distributions = {}
    for name, each in space.items():
        if name in choices:
            distributions[name] = optuna.distributions.CategoricalDistribution(list(choices[name]))
        else:
            kind = optuna.distributions.IntDistribution if each.whole else optuna.distributions.FloatDistribution
            distributions[name] = kind(each.low, each.high, log=each.kind == "log")

    number = f"{study['seed']} {len(study['trials'])} {draw}"
    sampler = optuna.samplers.TPESampler(seed=int.from_bytes(hashlib.sha256(number.encode()).digest()[:4]))
    told = optuna.create_study(sampler=sampler, direction=study["direction"].replace("ise", "ize"))
    for trial in study["trials"]:
        settings = {name: value_text(value) if name in choices else value for name, value in trial["settings"].items()}
        # The sampler passes over what has failed, but keeps away from what was pruned.
        outcome = {"value": trial["value"]} if trial["status"] == "finished" else {"state": optuna.trial.TrialState.PRUNED}
        told.add_trial(optuna.trial.create_trial(params=settings, distributions=distributions, **outcome))
    drawn = told.ask(distributions).params
    return {name: choices[name][drawn[name]] if name in choices else each.rounded(drawn[name], DIGITS)
            for name, each in space.items()}  # fmt: skip


def _key(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
