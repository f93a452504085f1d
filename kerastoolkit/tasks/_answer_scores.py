"""Answers that are parts of a text against those of people: exact match and F1, methods to compare with, and tables."""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kerastoolkit.experiment import Report

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
ASKING = ("what", "who", "when", "where", "which", "how", "why")
COMMON = frozenset("a an and are as at be by did do does for from had has have he her his in into is it its of on or she that"
                   " the their they this to was were will with".split())  # fmt: skip
FIRST_WORDS = 3
MISTAKES_TOLD, LONGEST_TOLD = 8, 120


@dataclass(frozen=True)
class Asked:
    """A question, the text that it is about, and all answers that count as right."""

    question: str
    context: str
    truths: tuple[str, ...]


def plain_words(text: str) -> list[str]:
    """The words of an answer as they are compared: without ASCII's punctuation, capitals and English articles."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def exact_match(answer: str, truths: Iterable[str]) -> float:
    """1 where the answer's plain words are those of one of the truths, else 0: Rajpurkar et al. 2016, section 6.1,
    https://arxiv.org/abs/1606.05250."""
    words = plain_words(answer)
    return float(any(plain_words(truth) == words for truth in truths))


def word_f1(answer: str, truths: Iterable[str]) -> float:
    """The largest F1 of the answer's plain words with those of one of the truths: the same section.

    Words count as often as they stand in both. No words against no words are 0, as in the authors' program.
    """
    words, best = Counter(plain_words(answer)), 0.0
    for truth in truths:
        wanted = Counter(plain_words(truth))
        if common := (words & wanted).total():
            precision, recall = common / words.total(), common / wanted.total()
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def figures(asked: Sequence[Asked], answers: Sequence[str]) -> dict[str, float]:
    """exact_match and f1 in percent over all questions."""
    pairs = [(answer, each.truths) for each, answer in zip(asked, answers, strict=True)]
    methods = {"exact_match": exact_match, "f1": word_f1}
    return {name: 100 * sum(method(*pair) for pair in pairs) / len(pairs) for name, method in methods.items()}


def first_words(asked: Asked) -> str:
    """The first words of the text."""
    return " ".join(asked.context.split()[:FIRST_WORDS])


def words_of_likest_sentence(asked: Asked) -> str:
    """Of the sentence that shares most words with the question, rare ones counting more, the longest run of other words.

    Common words of English do not count, and part what is around them.
    """
    sentences = [sentence.split() for sentence in SENTENCE_END.split(asked.context) if sentence.strip()]
    plain = [["".join(plain_words(word)) for word in words] for words in sentences]
    wanted = set(plain_words(asked.question)) - COMMON
    if not sentences:
        return ""
    in_sentences = Counter(word for words in plain for word in set(words))

    def shared(number: int) -> float:
        return sum(math.log(1 + len(plain) / in_sentences[word]) for word in wanted & set(plain[number]))

    best = max(range(len(plain)), key=shared)
    run, longest = [], []
    for word, bare in zip(sentences[best], plain[best], strict=True):
        run = [] if not bare or bare in COMMON or bare in wanted else [*run, word]
        longest = run if len(run) > len(longest) else longest
    return " ".join(longest)


BASELINES: dict[str, Callable[[Asked], str]] = {
    "first words": first_words, "words of the likest sentence": words_of_likest_sentence}  # fmt: skip


def question_word(question: str) -> str:
    """The first of the words that English asks by; else "other"."""
    return next((word for word in plain_words(question) if word in ASKING), "other")


def score_answers(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> Report:
    """What ``Task.score`` gives of (raw batch, answers)."""
    asked, answers, sure = [], [], []
    for raw, answered in batches:
        for question, context, truths in zip(raw["question"], raw["context"], raw["answers"], strict=True):
            asked.append(Asked(question.decode(), context.decode(), tuple(json.loads(truths))))
        answers += [text.decode() for text in answered["answer"]]
        sure += answered["probability"].tolist()
    kinds = [question_word(each.question) for each in asked]
    by_kind = []
    for kind, count in Counter(kinds).most_common():
        of_kind = [number for number, each in enumerate(kinds) if each == kind]
        found = figures([asked[number] for number in of_kind], [answers[number] for number in of_kind])
        by_kind.append({"question word": kind, **found, "questions": count})
    wrong = [number for number in range(len(asked)) if not exact_match(answers[number], asked[number].truths)]
    wrong.sort(key=lambda number: -sure[number])
    mistakes = [{"question": asked[number].question[:LONGEST_TOLD], "answer": answers[number][:LONGEST_TOLD],
                 "probability": sure[number], "truth": asked[number].truths[0][:LONGEST_TOLD]}
                for number in wrong[:MISTAKES_TOLD]]  # fmt: skip
    baselines = {name: figures(asked, [method(each) for each in asked]) for name, method in BASELINES.items()}
    truths = sum(len(each.truths) for each in asked)
    note = (f"exact_match and f1 are percent of {len(asked):,} questions, against {truths:,} answers of people, compared as the"
            " program of Rajpurkar et al. 2016 does")  # fmt: skip
    tables = {"by question word": by_kind, **({"surest mistakes": mistakes} if mistakes else {})}
    return Report(figures(asked, answers), baselines=baselines, tables=tables, notes=(note,))
