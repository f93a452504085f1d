"""Made paragraphs on who did what when and where, and questions on them: a small task of reading whose answers are right by
construction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kerastoolkit.data.dates import written_dates

SEED = 20_160_616
PEOPLE = ("Ada", "Boris", "Carla", "Dmitri", "Elena", "Farid", "Grete", "Hugo", "Ines", "Jakob", "Kenji", "Lucía", "Mira",
          "Noor", "Otto", "Paula", "Quentin", "Rosa", "Søren", "Tala")  # fmt: skip
FAMILIES = ("Abel", "Brandt", "Costa", "Duarte", "Eriksen", "Fischer", "García", "Haddad", "Ito", "Jansen", "Klein",
            "Lindqvist", "Moreau", "Novak", "Okafor", "Petrov", "Quispe", "Rossi", "Sato", "Torres")  # fmt: skip
PLACES = ("Lisbon", "Oslo", "Kraków", "Nairobi", "Lima", "Osaka", "Quebec", "Cairo", "Malmö", "Seville", "Hanoi", "Tunis",
          "Perth", "Ghent", "Riga", "Bogotá", "Graz", "Leeds", "Porto", "Basel")  # fmt: skip
THINGS = ("museum", "bridge", "library", "theatre", "market", "school", "harbour", "garden", "station", "hospital", "tower",
          "observatory")  # fmt: skip
DEEDS = ("opened", "founded", "designed", "restored", "closed", "bought")
SENTENCES = (
    "On {date}, {person} {deed} the {thing} in {place}.", "The {thing} in {place} was {deed} on {date} by {person}.",
    "In {place}, the {thing} was {deed} by {person} on {date}.", "It was {person} who {deed} the {thing} in {place} on {date}.",
)  # fmt: skip
ASKED = (
    ("date", "When was the {thing} {deed}?"), ("person", "Who {deed} the {thing}?"),
    ("place", "Where is the {thing} that was {deed} by {person}?"), ("date", "When did {person} do something for a {thing}?"),
    ("thing", "What was {deed} by {person}?"), ("place", "In what place was something {deed} on {date}?"),
)  # fmt: skip
TOLD, ASKED_OF_EACH = 4, 3  # sentences and questions of a paragraph


def made_questions(counts: tuple[int, ...]) -> Iterator[list[tuple[str, list[dict[str, Any]]]]]:
    """For each count as many paragraphs: (text, its questions as a file has them, without an id); always the same ones.

    The sentences of a text are alike, and each could answer: only who reads the question knows which one does.
    """
    random = np.random.default_rng(SEED)
    dates = iter(written_dates(("en",), TOLD * sum(counts)))
    for count in counts:
        yield [_paragraph(random, [next(dates)[0] for _ in range(TOLD)]) for _ in range(count)]


def _paragraph(random: np.random.Generator, dates: list[str]) -> tuple[str, list[dict[str, Any]]]:
    def some(words: tuple[str, ...]) -> list[str]:
        return [words[place] for place in random.permutation(len(words))[:TOLD]]

    people = [f"{first} {last}" for first, last in zip(some(PEOPLE), some(FAMILIES), strict=True)]
    facts, sentences, length = [], [], 0
    for person, place, thing, deed, date in zip(people, some(PLACES), some(THINGS), some(DEEDS), dates, strict=True):
        fact = {"person": person, "place": place, "thing": thing, "deed": deed, "date": date}
        sentence = SENTENCES[random.integers(len(SENTENCES))]
        places = {key: length + len(sentence[: sentence.index(f"{{{key}}}")].format(**fact)) for key in fact}
        facts.append((fact, places))
        sentences.append(sentence.format(**fact))
        length += len(sentences[-1]) + 1
    asked = []
    for number in random.permutation(TOLD * len(ASKED))[:ASKED_OF_EACH].tolist():
        (fact, places), (key, question) = facts[number % TOLD], ASKED[number // TOLD]
        asked.append({"question": question.format(**fact), "answers": [{"text": fact[key], "answer_start": places[key]}]})
    return " ".join(sentences), asked
