"""Figures of texts that a network wrote, beside the texts that people wrote: translations and summaries.

BLEU (Papineni et al. 2002, https://aclanthology.org/P02-1040) and chrF (Popovic 2015, https://aclanthology.org/W15-3049) are
sacreBLEU's (Post 2018, https://aclanthology.org/W18-6319), told with their signatures. ROUGE (Lin 2004,
https://aclanthology.org/W04-1013) is that of the package rouge-score with words of any script. What a network's ROUGE has to beat
are the first sentences of the document ("lead") and some at random, so texts are cut into sentences here too.

All functions of several texts take lists that are as long as one another, and raise InputError where they are not, or are empty.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from types import SimpleNamespace

import numpy as np

from kerastoolkit.experiment import InputError

TOKENIZERS = ("13a", "intl", "zh", "char", "none")  # those of sacreBLEU that need no package and no download besides
LONGEST_HEADLINE = 150  # characters; the longest of 2,225 BBC articles of 2004 and 2005 has 52

STOPS, WIDE_STOPS = ".!?…؟۔।", "。！？｡"  # no space follows the wide ones
CLOSING = re.escape("\"'”’»›)]}」』》〉】）")
OPENING = "“‘«‹"  # German closes quotations with these
END = re.compile(rf"([{STOPS}{WIDE_STOPS}]+)(?:(?<=[{WIDE_STOPS}])[{CLOSING}]*|(?<=[{STOPS}])[{CLOSING}{OPENING}]*)(\s*)")
FULL_STOP = re.compile(rf"(?<![.。])[.。｡۔।][{CLOSING}{OPENING}]*$")

# After these a full stop never ends a sentence.
BEFORE_NAMES = set(
    "Mr Mrs Ms Messrs Mme Mlle Dr Prof Gen Sen Rep Gov Lt Col Sgt Capt Maj Cpl Adm Cmdr Rev Hon Pres Supt Insp Det Mt Ft Hr Fr "
    "Hrn Dipl Ing vs eg ie cf viz approx ca bzw vgl sog evtl inkl e.g i.e z.B d.h".split()
)
# After these, initials and letters with stops between (U.S.), only where a word follows that sentences begin with.
WITHIN_NAMES = set("St Co Corp Inc Ltd Bros Jr Sr Esq Ave Rd Blvd Sq Dept Univ Assn Ph.D al etc usw Mio Mrd Str Cie".split())
BEGINNINGS = set(
    "The A An This That These Those There He She It They We I You His Her Its Their Our But And However In On At For If When As "
    "While After Before Since With Although Meanwhile Der Die Das Ein Eine Er Sie Es Wir Ich Im Am Auf Auch Doch Und Aber".split()
)
# After these only where no number follows.
BEFORE_NUMBERS = set(
    "No Nos no nos Nr Fig Figs Vol vol Sec Art Abs Ch Kap Abb Tab Bd Eq p pp Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Okt Nov "
    "Dec Dez".split()
)
# German writes a stop after ordinal numbers, Korean after the year, the month and the day.
AFTER_ORDINALS = re.compile(
    "Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember|Jahrhundert|Jahrestag|Geburtstag|"
    r"Lebensjahr|Spieltag|Minute|Runde|Platz|Mal\b|FC\b|\d{1,2}\."
)
DAY = re.compile(r"\d\. \d{1,2}$")

# Han and kana, which are written without spaces.
UNSPACED = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)


def translation_scores(answers: list[str], references: list[str], *,
                       tokenizer: str = "13a") -> tuple[dict[str, float], dict[str, str]]:  # fmt: skip
    """How near translations are to the references, over the whole corpus.

    Args:
        answers, references: texts as people write them, not cut into words.
        tokenizer: how sacreBLEU cuts them into words for BLEU: "13a" (at spaces and ASCII's signs, as most papers), "intl" (at
            signs of all scripts), "zh" (around each Chinese character, else as 13a), "char" (around every character, for
            Japanese) or "none" (at spaces). Figures of different ones do not compare; papers on Korean may tell ko-mecab's.

    Returns:
        The figures "bleu" and "bleu_lower_cased" (0 .. 100), "chrf" (chrF2, 0 .. 100) and "exact_match" (share of answers that
        are the reference, but for the number of spaces), and sacreBLEU's signature of each of the first three.

    Raises:
        InputError: there is no such tokenizer, or it needs further packages.
    """
    _check(answers, references=references)
    check_tokenizer(tokenizer)
    from sacrebleu.metrics import BLEU, CHRF

    metrics = {"bleu": BLEU(tokenize=tokenizer), "bleu_lower_cased": BLEU(tokenize=tokenizer, lowercase=True), "chrf": CHRF()}
    figures = {name: float(metric.corpus_score(answers, [references]).score) for name, metric in metrics.items()}
    same = [answer.split() == reference.split() for answer, reference in zip(answers, references, strict=True)]
    return {**figures, "exact_match": float(np.mean(same))}, {name: str(each.get_signature()) for name, each in metrics.items()}


def check_tokenizer(name: str) -> None:
    """Refuses what is not one of ``TOKENIZERS``.

    Raises:
        InputError: names it.
    """
    if name not in TOKENIZERS:
        raise InputError(f"tokenizer must be one of {', '.join(TOKENIZERS)} (further ones need packages), got {name}")


def rouge_scores(answers: list[str], references: list[str]) -> dict[str, float]:
    """ROUGE F-measures, 0 .. 1, each the mean over the texts: how many words the answers and the references share.

    "rouge1" and "rouge2" count words and pairs of them, "rougeL" is of the texts' longest common subsequence, "rougeLsum" of
    each sentence with all those of the answer (Lin 2004, section 3.2), as papers report for CNN/DailyMail. Its sentences are a
    text's lines, each cut by ``sentences``. Words are ``stems``: of an ASCII text those of rouge-score with ``use_stemmer=True``,
    which leaves nothing of a text in another script.
    """
    _check(answers, references=references)
    from rouge_score.rouge_scorer import RougeScorer

    names = ("rouge1", "rouge2", "rougeL", "rougeLsum")
    scorer = RougeScorer(names, tokenizer=SimpleNamespace(tokenize=stems))
    pairs = zip(map(_on_lines, references), map(_on_lines, answers), strict=True)
    scores = [scorer.score(reference, answer) for reference, answer in pairs]
    return {name: float(np.mean([score[name].fmeasure for score in scores])) for name in names}


def words(text: str, *, signs: bool = False) -> list[str]:
    """The words of a text in any script, in lower case: runs of letters with their marks and digits; Han and kana one by one.

    Args:
        signs: whether every other sign that is no space is a word, too.
    """
    return "".join([_among_words(each, signs) for each in unicodedata.normalize("NFC", text.lower())]).split()


def stems(text: str) -> list[str]:
    """The ``words`` of a text, of those with more than 3 letters what Porter's stemmer leaves, as rouge-score does."""
    return [_stem(word) if len(word) > 3 else word for word in words(text)]


def copied_share(answers: list[str], sources: list[str]) -> float:
    """The share of answers that are nothing but their source, spaces and case aside: what a translator does that gives up."""
    _check(answers, sources=sources)
    bare = [["".join(text.casefold().split()) for text in texts] for texts in (answers, sources)]
    return float(np.mean([answer == source for answer, source in zip(*bare, strict=True)]))


def repeated_share(answers: list[str]) -> float:
    """How much of an answer is a loop: the share of its runs of 4 words that it had before, the mean over the answers.

    Signs are words here, so that "?????" is a loop. An answer of fewer than 4 words counts as 0.
    """
    _check(answers)
    shares = []
    for answer in answers:
        said = words(answer, signs=True)
        runs = list(zip(said, said[1:], said[2:], said[3:], strict=False))
        shares.append(1 - len(set(runs)) / len(runs) if runs else 0.0)
    return float(np.mean(shares))


def length_ratio(answers: list[str], references: list[str]) -> float:
    """How many ``words`` the answers have, for each of the references'.

    Raises:
        InputError: the references have no words.
    """
    _check(answers, references=references)
    written, expected = (sum(len(words(text)) for text in texts) for texts in (answers, references))
    if not expected:
        raise InputError("the references have no words")
    return written / expected


def worst_and_best(answers: list[str], references: list[str], sources: list[str], count: int) -> list[dict[str, str | float]]:
    """Rows "source", "answer", "reference", "chrf" of the ``count`` examples of lowest chrF2 and of the ``count`` of highest,
    ascending, each once."""
    _check(answers, references=references, sources=sources)
    _check_count(count)
    from sacrebleu.metrics import CHRF

    metric = CHRF()
    scores = [metric.sentence_score(answer, [reference]).score for answer, reference in zip(answers, references, strict=True)]
    order = np.argsort(scores, kind="stable").tolist()
    shown = order if len(order) <= 2 * count else order[:count] + order[-count:]
    return [{"source": sources[each], "answer": answers[each], "reference": references[each], "chrf": float(scores[each])}
            for each in shown]  # fmt: skip


def sentences(text: str) -> list[str]:
    """The sentences of a text by rules that suit news in English, German and Korean, each on one line.

    One ends at . ! ? … (or 。！？) with the quotes and brackets that are closed there, where a space (not needed after 。) and a
    capital, a letter of a script without capitals, a digit, a currency or an opening quote or bracket follow. A blank line always
    ends one, a line break alone never. The stops of numbers (3.5), ordinals (3. Oktober), dates (2024. 3. 15.), initials and
    abbreviations (Mr., e.g., No. 5) end none; those of U.S., Inc. and the like do before a word such as "The". What follows a
    stop without a space, as in "ended.Then", is of the same sentence.
    """
    found = []
    for paragraph in _paragraphs(text):
        start = 0
        for end in END.finditer(paragraph):
            # So many characters of what stands around a stop are enough to judge it.
            if _ends(paragraph[max(start, end.start() - 40) : end.start()], end, paragraph[end.end() : end.end() + 40]):
                found.append(paragraph[start : end.end()].strip())
                start = end.end()
        found.append(paragraph[start:])
    return found


def lead(text: str, count: int) -> str:
    """The first ``count`` sentences of a text's body, or all that there are: the baseline "lead-3" of news.

    The body is the text without its headline. That is the first of several paragraphs (parted by blank lines), if it is one
    sentence of at most 150 characters without a full stop at its end; headlines, too, end in question marks and "...".
    """
    _check_count(count)
    return " ".join(_body(text)[:count])


def random_sentences(text: str, count: int, seed: int) -> str:
    """``count`` sentences of a text's body (see ``lead``) that ``seed`` draws, or all that there are, in the text's order.

    Texts of as many sentences have the same ones drawn, unless each is given a seed of its own.
    """
    _check_count(count)
    body = _body(text)
    drawn = np.random.default_rng(seed).permutation(len(body))[:count]
    return " ".join(body[number] for number in sorted(drawn))


def _check(answers: list[str], **others: list[str]) -> None:
    for name, texts in others.items():
        if len(texts) != len(answers):
            raise InputError(f"there must be as many {name} as answers, got {len(texts)} and {len(answers)}")
    if not answers:
        raise InputError("there are no answers to score")


def _check_count(count: int) -> None:
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}")


@functools.cache
def _among_words(sign: str, signs: bool) -> str:
    """What a character becomes before a text is split at spaces."""
    mark = unicodedata.category(sign) in ("Mn", "Mc") and not "\ufe00" <= sign <= "\ufe0f"  # those are part of emoji
    if sign.isalnum() or mark:
        return f" {sign} " if UNSPACED.match(sign) else sign
    return f" {sign} " if signs else " "


@functools.lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return _stemmer().stem(word)


@functools.cache
def _stemmer():
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


def _on_lines(text: str) -> str:
    """A text with each sentence on a line, which is where rouge-score looks for them."""
    return "\n".join(sentence for line in text.splitlines() for sentence in sentences(line))


def _paragraphs(text: str) -> list[str]:
    """What stands between blank lines, each on one line, with single spaces."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _body(text: str) -> list[str]:
    """The sentences of a text without its headline."""
    first, *others = _paragraphs(text) or [""]
    headline = others and len(first) <= LONGEST_HEADLINE and len(sentences(first)) == 1 and not FULL_STOP.search(first)
    return sentences("\n\n".join(others if headline else [first, *others]))


def _ends(before: str, end: re.Match[str], rest: str) -> bool:
    """Whether the stop that ``end`` found ends the sentence, with ``before`` before it and ``rest`` behind."""
    stop, space = end.groups()
    sign = rest.lstrip("-–—•* ")[:1]
    if not sign or not (space or set(stop) & set(WIDE_STOPS)):
        return False
    if sign not in "\"'¿¡”’»›" and unicodedata.category(sign) not in ("Lu", "Lt", "Lo", "Nd", "Sc", "Ps", "Pi"):
        return False
    return stop != "." or not _is_abbreviation(before, rest)


def _is_abbreviation(before: str, rest: str) -> bool:
    """Whether what stands before a full stop has it for another reason than that the sentence ends."""
    word = re.search(r"[\w.]*$", before)[0]
    if word.isdecimal():
        # "1." at the beginning is of an item in a list.
        return (word == before and len(word) <= 3) or bool(DAY.search(before) or AFTER_ORDINALS.match(rest))
    if {word, word[:1].lower() + word[1:]} & BEFORE_NAMES or before.endswith(("z. B", "Z. B", "d. h", "D. h")):
        return True
    if word in BEFORE_NUMBERS and rest[:1].isdecimal():
        return True
    initial = len(word) == 1 and word.lower() != word.upper() and not rest[:1].isdecimal()
    if initial or word in WITHIN_NAMES or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):
        follows = re.match(r"\W*(\w*)(\.?)", rest)
        return follows[1] not in BEGINNINGS or bool(follows[2])
    return False
