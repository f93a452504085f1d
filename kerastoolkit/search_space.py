"""The language in which a search is told what to try: ``depth=20,32`` and ``learning_rate=log(1e-4,1e-1)``."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kerastoolkit import catalog
from kerastoolkit.experiment import InputError

KINDS = ("log", "uniform")


@dataclass(frozen=True)
class Choice:
    """Values to choose from, in the setting's own type."""

    values: tuple[Any, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __str__(self) -> str:
        return ",".join(map(value_text, self.values))


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both among them; whole ones where the setting is a whole number.

    Attributes:
        kind: "uniform", or "log" where ratios count and not differences.
    """

    kind: str
    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int)

    @property
    def size(self) -> int | None:
        """How many values there are; None where they cannot be counted."""
        return self.high - self.low + 1 if self.whole else None

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.low, self.high + 1))

    def rounded(self, number: float, digits: int) -> float:
        """``number`` with so many digits that count, yet not beyond the ends."""
        return number if self.whole else min(max(float(f"{number:.{digits}g}"), self.low), self.high)

    def __str__(self) -> str:
        return f"{self.kind}({self.low!r},{self.high!r})"


Space = dict[str, Choice | Range]


def parse_space(recipe: catalog.Recipe, texts: Iterable[str]) -> Space:
    """Turns ``["learning_rate=log(1e-4,1e-1)", "depth=20,32"]`` into what to draw each setting from.

    Returns:
        name -> Choice or Range, in the order of the recipe's signature.
    Raises:
        CatalogError: a setting is unknown to the recipe, or a value has another type than it.
        InputError: the text is not one of the forms, or leaves nothing to choose.
    """
    found: Space = {}
    for text in texts:
        name, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not name or not values:
            raise InputError(f"what to search must be NAME=A,B,C or NAME=log(LOW,HIGH) or NAME=uniform(LOW,HIGH), got {text}")
        if name in found:
            raise InputError(f"{name} is given twice")
        _value(recipe, name, None)
        called = re.fullmatch(r"(\w+)\s*\((.*)\)", values)
        found[name] = _range(recipe, name, *called.groups()) if called else _choice(recipe, name, values)
    if not found:
        valid = ", ".join(recipe.parameters) or "none"
        raise InputError(f"nothing to search: name settings and values, such as depth=20,32 ({recipe.name} has: {valid})")
    return {name: found[name] for name in recipe.parameters if name in found}


def value_text(value: Any) -> str:
    """A value as ``--set`` reads it, exactly."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"({','.join(map(value_text, value))})"
    return "none" if value is None else str(value)


def combinations(space: Space) -> Iterator[dict[str, Any]]:
    """Every combination of settings of a space that can be counted."""
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def count(space: Space) -> int | None:
    """How many combinations of settings there are; None where they cannot be counted."""
    sizes = [each.size for each in space.values()]
    return None if None in sizes else math.prod(sizes)


def _value(recipe: catalog.Recipe, name: str, text: str | None) -> Any:
    """``text`` in the type of the setting; without text only the name is checked."""
    if text is None and name in recipe.parameters:
        return None
    return catalog.parse_overrides(recipe, [f"{name}={text}"])[name]


def _choice(recipe: catalog.Recipe, name: str, text: str) -> Choice:
    # A comma inside brackets belongs to a value that has several parts.
    parts = [part.strip() for part in re.split(r",(?![^(\[]*[)\]])", text)]
    annotation = recipe.parameters[name].annotation
    if "tuple[" in annotation:
        for part in parts:
            if part[:1] not in ("(", "[") and not ("None" in annotation and part.lower() == "none"):
                raise InputError(f"{name} is {annotation}: put each choice in brackets, {name}=(..),(..), got {part!r}")
    values = [_value(recipe, name, part) for part in parts]
    for number, value in enumerate(values):
        if value in values[:number]:
            raise InputError(f"{name} has the choice {value_text(value)} twice: {text}")
    if len(values) == 1:
        raise InputError(f"{name} has one value and so nothing to choose: fix it with --set {name}={text}, or name more")
    return Choice(tuple(values))


def _range(recipe: catalog.Recipe, name: str, kind: str, text: str) -> Range:
    given = f"{name}={kind}({text})"
    kinds = [each.strip() for each in recipe.parameters[name].annotation.split("|")]
    if kind not in KINDS:
        hint = catalog.closest(kind, KINDS)
        raise InputError(f"a range must be log(LOW,HIGH) or uniform(LOW,HIGH), got {given}{hint}")
    if not {"int", "float"} & set(kinds):
        raise InputError(f"{name} is {recipe.parameters[name].annotation}, so it has no range: name its choices, got {given}")
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2:
        raise InputError(f"{kind}() needs two ends, LOW and HIGH, got {given}")
    low, high = (_value(recipe, name, part) for part in parts)
    if low is None or high is None:
        raise InputError(f"the ends of {kind}() must be numbers, got {given}")
    if low >= high:
        raise InputError(f"the low end of {kind}() must be below the high one, got {given}")
    if kind == "log" and low <= 0:
        raise InputError(f"the low end of log() must be above 0, got {given}")
    return Range(kind, low, high)
