"""Questions that word vectors are scored by: how alike two words are, and "a is to b as c is to what?".

Pairs are those of WordSim-353 (Finkelstein et al. 2002, https://doi.org/10.1145/503104.503110) or SimLex-999 (Hill et al. 2015,
https://doi.org/10.1162/COLI_a_00237), analogies those of Mikolov et al. 2013, https://arxiv.org/abs/1301.3781. The figures are
those of gensim 4.4's ``KeyedVectors.evaluate_word_pairs`` and ``evaluate_word_analogies`` with their defaults.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from kerastoolkit.experiment import InputError

MOST_BYTES = 64_000_000  # of the text, unpacked; the analogies of Mikolov et al. have 600,000
CANDIDATES = 5  # words that gensim looks through for one that the question does not have
NUMBERS_AT_ONCE = 32_000_000  # similarities that are held, 128 MB: those of 288 analogies to 37,000 words
PAIRS_AT_ONCE = 10_000

# From the cosines of a, b and c to all words, how well each completes the analogy; only the order counts.
METHODS = {
    # The cosine to b + c - a (unit vectors) times that sum's length, the same for all words.
    "3cosadd": lambda a, b, c: b + c - a,
    # Levy and Goldberg 2014, https://aclanthology.org/W14-1618, equation 4, times 2: cosines there are (1 + cosine) / 2.
    "3cosmul": lambda a, b, c: (1 + b) * (1 + c) / (1 + a + 2e-6),
}

Question = tuple[str, str, str, str]


@dataclass(frozen=True)
class PairScore:
    """How the cosines of word pairs agree with people's judgements.

    ``covered`` of ``pairs`` have two known words and are the ones that the correlations are of. Those are None where there is
    none: fewer than 2 pairs are covered, all cosines or judgements are equal, or some vector is not finite.
    ``out_of_vocabulary`` is the share of pairs that are not covered, None where there are no pairs.
    """

    pairs: int
    covered: int
    spearman: float | None
    pearson: float | None
    out_of_vocabulary: float | None


@dataclass(frozen=True)
class AnalogyScore:
    """How many analogies are right: ``correct`` of the ``covered`` of ``questions`` whose four words are known.

    ``accuracy`` is None where none is covered.
    """

    name: str
    questions: int
    covered: int
    correct: int
    accuracy: float | None


@dataclass(frozen=True)
class AnalogyScores:
    """The score of each section, in the order of the file, and of all together."""

    sections: tuple[AnalogyScore, ...]
    total: AnalogyScore


class Lines(list):
    """What was read from a file, in its order; ``skipped`` is how many of its lines were of no use (blank ones and comments are
    not counted)."""

    skipped = 0


def read_pairs(path: str | Path) -> list[tuple[str, str, float]]:
    """Word pairs with people's judgements: (word, word, judgement), ``Lines``.

    Args:
        path: UTF-8 text, gzip or not. A line is two words and a finite number, parted by tabs; ``#`` begins a comment.
    Raises:
        InputError: it cannot be read, is not UTF-8, is too large, or no line is a pair.
    """
    found = Lines()
    lines = _read_lines(path)
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        try:
            one, other, judgement = line.split("\t")
            pair = (one, other, float(judgement))
        except ValueError:
            pair = ()
        if pair and isfinite(pair[2]):
            found.append(pair)
        else:
            found.skipped += 1
    if not found:
        raise InputError(f"{path}: needs lines of two words and a number, parted by tabs, got {len(lines):,} lines, none so")
    return found


def read_analogies(path: str | Path) -> list[tuple[str, list[Question]]]:
    """Analogies in sections: (name, [(a, b, c, answer), ...]), ``Lines``; a section may be empty.

    Args:
        path: UTF-8 text, gzip or not. ``: name`` begins a section; a question is a line of four words, parted by white space.
    Raises:
        InputError: it cannot be read, is not UTF-8, is too large, something stands before the first section, or no line is a
            question.
    """
    found = Lines()
    lines = _read_lines(path)
    for number, line in enumerate(lines, 1):
        words = line.split()
        if line.startswith(": "):
            found.append((line.lstrip(": ").strip(), []))
        elif words and not found:
            raise InputError(f'{path}, line {number}: questions must follow a line ": section", got {line[:60]!r}')
        elif len(words) == 4:
            found[-1][1].append(tuple(words))
        elif words:
            found.skipped += 1
    if not any(questions for _, questions in found):
        raise InputError(f"{path}: needs lines of four words, got {len(lines):,} lines, none so")
    return found


def score_pairs(
    pairs: Sequence[tuple[str, str, float]], words: Sequence[str], vectors: np.ndarray, *, most_frequent: int = 300_000
) -> PairScore:
    """How the cosines of pairs agree with people's judgements, in case-insensitive words.

    Args:
        pairs: (word, word, judgement) of each, as ``read_pairs`` gives.
        words: the vocabulary, the most frequent first. Of words that differ only in case the first stands for all.
        vectors: (words, numbers). A vector of zeros is like no other: its cosines are 0.
        most_frequent: how many words of the vocabulary count, at least 1; the others are unknown.
    Raises:
        InputError: words and vectors do not fit, or ``most_frequent`` is wrong.
    """
    index, _, vectors = _vocabulary(words, vectors, most_frequent)
    known = [(index[a], index[b], judgement) for a, b, judgement in _upper(pairs) if a in index and b in index]
    cosines, judgements = [np.zeros(0)], np.array([judgement for _, _, judgement in known])
    for start in range(0, len(known), PAIRS_AT_ONCE):
        some = known[start : start + PAIRS_AT_ONCE]
        one, other = (vectors[[pair[side] for pair in some]].astype(np.float64) for side in (0, 1))
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        with np.errstate(invalid="ignore"):
            cosines.append(np.einsum("pn,pn->p", one, other) / np.where(lengths == 0, 1.0, lengths))
    # Computed in float64 and rounded, so that pairs of the same two words, or of one word with itself, are equal.
    cosines = np.concatenate(cosines).astype(np.float32).astype(np.float64)
    return PairScore(
        pairs=len(pairs),
        covered=len(known),
        spearman=_correlation(rankdata(judgements), rankdata(cosines)),
        pearson=_correlation(judgements, cosines),
        out_of_vocabulary=1 - len(known) / len(pairs) if len(pairs) else None,
    )


def score_analogies(
    sections: Sequence[tuple[str, Sequence[Question]]],
    words: Sequence[str],
    vectors: np.ndarray,
    *,
    most_frequent: int = 300_000,
    method: str = "3cosadd",
) -> AnalogyScores:
    """How many analogies word vectors complete, in case-insensitive words.

    The answer is the word that is best by ``method`` and none of the question's own three, in any case. gensim looks only through
    the best five that are not the very question words, and where those are all case variants of them, answers with the fifth:
    so does this. A question with a vector of zeros is never right; gensim then answers with any word.

    Args:
        sections: (name, questions of four words) of each, as ``read_analogies`` gives.
        words: the vocabulary, the most frequent first. Of words that differ only in case the first stands for all.
        vectors: (words, numbers).
        most_frequent: how many words of the vocabulary count, at least 1; the others are neither known nor answers.
        method: ``3cosadd``, as gensim's ``evaluate_word_analogies``, or ``3cosmul``, as its ``most_similar_cosmul`` (which that
            evaluation cannot use) over the words that count.
    Raises:
        InputError: words and vectors do not fit, no such method, or ``most_frequent`` is wrong.
    """
    if method not in METHODS:
        raise InputError(f"method must be {' or '.join(METHODS)}, got {method}")
    index, first_variant, vectors = _vocabulary(words, vectors, most_frequent)
    # Rows of section, a, b, c, answer.
    known = [
        (number, *(index[word] for word in question))
        for number, (_, questions) in enumerate(sections)
        for question in _upper(questions)
        if all(word in index for word in question)
    ]
    asked = np.array(known, np.int64).reshape(-1, 5)
    distinct, places = np.unique(asked[:, 1:4], axis=0, return_inverse=True)
    right = _answers(distinct, first_variant, vectors, method)[places.reshape(-1)] == asked[:, 4]
    covered, correct = (np.bincount(each, minlength=len(sections)).tolist() for each in (asked[:, 0], asked[right, 0]))
    sizes = [len(questions) for _, questions in sections]
    names = [name for name, _ in sections]
    return AnalogyScores(
        tuple(_analogy_score(*each) for each in zip(names, sizes, covered, correct, strict=True)),
        _analogy_score("total", sum(sizes), sum(covered), sum(correct)),
    )


def _analogy_score(name: str, questions: int, covered: int, correct: int) -> AnalogyScore:
    return AnalogyScore(name, questions, covered, correct, correct / covered if covered else None)


def _answers(questions: np.ndarray, first_variant: np.ndarray, vectors: np.ndarray, method: str) -> np.ndarray:
    """The answer to each question, as the index of its first case variant; -1 for none.

    Args:
        questions: (questions, 3) indices of a, b and c. Sorted ones share words, which makes blocks cheap.
        first_variant: (words,) the index of each word's first case variant.
        vectors: (words, numbers) float32.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    usable = np.isfinite(lengths) & (lengths > 0)
    unit = np.divide(vectors, lengths[:, None], where=usable[:, None], out=np.zeros_like(vectors))
    unusable = np.flatnonzero(~usable)
    answers = np.full(len(questions), -1)
    at_once = max(1, NUMBERS_AT_ONCE // (3 * len(unit)))
    for start in range(0, len(questions), at_once):
        some = questions[start : start + at_once]
        distinct, rows = np.unique(some, return_inverse=True)
        cosines = unit[distinct] @ unit.T
        # One question after the other, for its scores fit in a processor's cache.
        for number, (question, abc) in enumerate(zip(some.tolist(), rows.reshape(-1, 3).tolist(), strict=True), start):
            if usable[question].all():
                scores = METHODS[method](*(cosines[row] for row in abc))
                scores[unusable] = -1e9  # after all others, but gensim may answer with them
                scores[question] = -np.inf
                answers[number] = _answer(scores, first_variant, question)
    return answers


def _answer(scores: np.ndarray, first_variant: np.ndarray, question: list[int]) -> int:
    """The best scored word's first case variant, of words that may be answers: their scores are above -inf."""
    best = scores.argmax()
    if first_variant[best] in question and scores[best] > -np.inf:
        ordered = np.argpartition(-scores, min(CANDIDATES, len(scores)) - 1)[:CANDIDATES]
        ordered = ordered[np.argsort(-scores[ordered], kind="stable")]
        ordered = ordered[scores[ordered] > -np.inf]
        best = next((each for each in ordered if first_variant[each] not in question), ordered[-1])
    return int(first_variant[best]) if scores[best] > -np.inf else -1


def _vocabulary(
    words: Sequence[str], vectors: np.ndarray, most_frequent: int
) -> tuple[dict[str, int], np.ndarray, np.ndarray]:
    """(first index of each word in upper case, that index for each word, vectors in float32), of the most frequent words."""
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(vectors) != len(words) or not vectors.size:
        raise InputError(f"vectors must be {len(words):,} rows of numbers, one for each word, got the shape {vectors.shape}")
    if most_frequent < 1:
        raise InputError(f"most_frequent must be at least 1, got {most_frequent}")
    index: dict[str, int] = {}
    first_variant = [index.setdefault(word.upper(), number) for number, word in enumerate(words[:most_frequent])]
    return index, np.array(first_variant), vectors[:most_frequent].astype(np.float32)


def _upper(rows: Sequence[tuple]) -> list[tuple]:
    """The rows, their words in upper case."""
    return [tuple(each.upper() if isinstance(each, str) else each for each in row) for row in rows]


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Pearson's correlation of two (numbers,) arrays; None where there is none."""
    if len(one) < 2 or not np.isfinite([one, other]).all() or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def _read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text, gzip or not, without their ends.

    Raises:
        InputError: it cannot be read, is not UTF-8 (with the line), or is too large.
    """
    try:
        with open(path, "rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"  # no UTF-8 text begins so
            contents = (gzip.open(file) if packed else file).read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(contents) > MOST_BYTES:
        raise InputError(f"{path}: may hold at most {MOST_BYTES:,} bytes of text, this one holds more")
    try:
        text = contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Not of ``contents``: its byte order mark is cut off before the position is counted.
        before, byte = error.object[: error.start], error.object[error.start]
        line = before.count(b"\n") + 1
        raise InputError(f"{path}, line {line}: must be UTF-8 text, got the byte 0x{byte:02x}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n") if text else []
