import math
import random
import string

import pytest
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from kerastoolkit.experiment import InputError
from kerastoolkit.tasks._text_scores import (
    TOKENIZERS,
    copied_share,
    lead,
    length_ratio,
    random_sentences,
    repeated_share,
    rouge_scores,
    sentences,
    stems,
    translation_scores,
    words,
    worst_and_best,
)


def figures(answers, references, **how):
    return translation_scores(answers, references, **how)[0]


def test_a_translation_that_is_the_reference_has_all_there_is():
    texts = ["The cat sat on the mat.", "Zwei Männer stehen am Herd und bereiten Essen zu."]
    assert figures(texts, texts) == pytest.approx({"bleu": 100, "bleu_lower_cased": 100, "chrf": 100, "exact_match": 1})


def test_bleu_is_the_geometric_mean_of_the_shares_of_1_to_4_words():
    # 6 of 7 words, 5 of 6 pairs, 4 of 5 triples and 3 of 4 quadruples are the reference's: their product is 3/7.
    found = figures(["the cat sat on the mat today"], ["the cat sat on the mat"])
    assert found["bleu"] == pytest.approx(100 * (3 / 7) ** (1 / 4))


def test_bleu_of_a_translation_that_is_too_short_is_lower():
    # All that is said is right, but 5 words stand for 6: exp(1 - 6/5).
    assert figures(["the cat sat on the"], ["the cat sat on the mat"])["bleu"] == pytest.approx(100 * math.exp(-1 / 5))


def test_bleu_counts_over_the_whole_corpus():
    # 6 + 5 of 7 + 5 words, 5 + 4 of 6 + 4 pairs, 4 + 3 of 5 + 3 triples, 3 + 2 of 4 + 2 quadruples; 12 words for 12.
    found = figures(["the cat sat on the mat today", "we saw a big dog"], ["the cat sat on the mat", "we saw a big dog there"])
    assert found["bleu"] == pytest.approx(100 * (11 / 12 * 9 / 10 * 7 / 8 * 5 / 6) ** (1 / 4))


def test_one_bleu_minds_capitals_and_the_other_does_not():
    found = figures(["THE CAT SAT ON THE MAT"], ["the cat sat on the mat"])
    assert found["bleu"] < 10 and found["bleu_lower_cased"] == pytest.approx(100)


def test_chrf_weighs_recall_of_letters_four_times():
    # Letters: 2 of 2 and 2 of 3, pairs: 1 of 1 and 1 of 2. Precision 1, recall (2/3 + 1/2) / 2 = 7/12: 5 P R / (4 P + R).
    assert figures(["ab"], ["abc"])["chrf"] == pytest.approx(100 * 35 / 55)


def test_an_exact_match_may_have_other_spaces_but_no_other_case():
    assert figures(["a  b\n", "A b", "ab", "a b"], ["a b"] * 4)["exact_match"] == 0.5


def test_signatures_say_how_each_figure_was_made():
    _, signatures = translation_scores(["a b"], ["a b"], tokenizer="char")
    assert list(signatures) == ["bleu", "bleu_lower_cased", "chrf"]
    assert "case:mixed|eff:no|tok:char|smooth:exp|version:" in signatures["bleu"]
    assert "case:lc|eff:no|tok:char" in signatures["bleu_lower_cased"]
    assert "nc:6|nw:0|" in signatures["chrf"]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_tokenizer_that_is_offered_needs_nothing_more(tokenizer):
    text = "고양이가 매트 위에 앉았다. 我们爱猫。"
    assert figures([text], [text], tokenizer=tokenizer)["bleu"] == pytest.approx(100)


def test_words_of_chinese_are_characters_where_one_says_so():
    answer, reference = ["我们都爱你的猫"], ["我们都爱你的狗"]
    # 6 of 7, 5 of 6, 4 of 5, 3 of 4; one word of one otherwise.
    assert figures(answer, reference, tokenizer="zh")["bleu"] == pytest.approx(100 * (3 / 7) ** (1 / 4))
    assert figures(answer, reference)["bleu"] == 0


def test_a_tokenizer_that_needs_more_packages_is_refused():
    with pytest.raises(InputError, match="tokenizer must be one of 13a, intl, zh, char, none .*, got ko-mecab"):
        translation_scores(["a"], ["a"], tokenizer="ko-mecab")


@pytest.mark.parametrize("score", [translation_scores, rouge_scores, copied_share, length_ratio])
def test_lists_of_different_lengths_are_refused(score):
    with pytest.raises(InputError, match="there must be as many .* as answers, got 2 and 1"):
        score(["a"], ["a", "b"])


@pytest.mark.parametrize("score", [translation_scores, rouge_scores, copied_share, length_ratio, repeated_share])
def test_no_answers_are_refused(score):
    with pytest.raises(InputError, match="no answers to score"):
        score(*([],) * (1 if score is repeated_share else 2))


def test_rouge_weighs_what_is_shared_against_both_lengths():
    # 4 words are shared of 5 and 6, 1 pair of 4 and 5, and in their order 2 ("on mat" or "the cat") of 5 and 6.
    found = rouge_scores(["on a mat the cat"], ["the cat sat on the mat"])
    assert found == pytest.approx({"rouge1": 8 / 11, "rouge2": 2 / 9, "rougeL": 4 / 11, "rougeLsum": 4 / 11})


def test_rouge_counts_a_word_as_often_as_both_have_it():
    assert rouge_scores(["the the the"], ["the cat"])["rouge1"] == pytest.approx(2 / 5)


def test_rouge_is_the_mean_over_the_texts():
    # 1, 0 and, of an empty answer, 0; over all words together it would be another number.
    assert rouge_scores(["a b c d", "x", ""], ["a b c d", "y", "z"])["rouge1"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("between", ["\n", ". ", ".\n\n"])
def test_summary_level_rouge_joins_what_each_sentence_shares(between):
    # Section 3.2 of the paper, but for the sentences' order: w1 w3 w5 and w1 w2 make 4 of 5 words, of 10 in the answer. As one
    # text the answer has only w1 w3 w5 in the reference's order.
    found = rouge_scores([between.join(["W1 w3 w8 w9 w5", "W1 w2 w6 w7 w8"])], ["w1 w2 w3 w4 w5"])
    assert found["rougeLsum"] == pytest.approx(8 / 15)
    assert found["rougeL"] == pytest.approx(6 / 15)


def test_summary_level_rouge_looks_for_the_references_sentences_in_the_answers():
    # Both x of the answer are the same one of the reference: 1 of 3 words, of 2. The other way about it would be 2.
    assert rouge_scores(["x\nx"], ["x y x"])["rougeLsum"] == pytest.approx(2 / 5)


def test_rouge_of_english_is_the_packages_own():
    answer = "The U.S. firms' profits jumped 3.5%.\nShares fell!"
    reference = "Profit of U.S. firms is jumping.\nA share falls by 3.5%."
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    expected = {name: score.fmeasure for name, score in scorer.score(reference, answer).items()}
    assert rouge_scores([answer], [reference]) == pytest.approx(expected)


def test_stems_of_ascii_texts_are_the_packages_own():
    draw, package = random.Random(0), DefaultTokenizer(use_stemmer=True)
    endings = ["", "s", "es", "ies", "ing", "ed", "ational", "fulness", "y", "er", "ly", "ement", "'s", "_x"]
    every = [chr(code) for code in range(128)]
    for _ in range(1000):
        parts = [
            "".join(draw.choices(string.ascii_letters + string.digits, k=draw.randrange(6))) + draw.choice(endings)
            + "".join(draw.choices(every, k=draw.randrange(3)))
            for _ in range(draw.randrange(12))
        ]  # fmt: skip
        text = draw.choice(["", " "]).join(parts)
        assert stems(text) == package.tokenize(text), repr(text)


def test_korean_has_a_rouge():
    # 2 of 3 words, no pair.
    found = rouge_scores(["나는 학교에 갔다."], ["나는 집에 갔다!"])
    assert found == pytest.approx({"rouge1": 2 / 3, "rouge2": 0, "rougeL": 2 / 3, "rougeLsum": 2 / 3})


@pytest.mark.parametrize(("text", "expected"), [
    ("Größe: 3,5_m", ["größe", "3", "5", "m"]),
    ("“K-팝” 열풍… 3위", ["k", "팝", "열풍", "3위"]),
    ("Cafe\u0301s", ["cafés"]),
    ("हिन्दी में", ["हिन्दी", "में"]),
    ("東京タワーに 行く。", [*"東京タワーに行く"]),
    ("ok ❤\ufe0f 👍", ["ok"]),
    (" \n", []),
])  # fmt: skip
def test_words_are_runs_of_letters_and_digits_of_any_script(text, expected):
    assert words(text) == expected


def test_signs_are_words_where_one_says_so():
    assert words("Oh, no?!", signs=True) == ["oh", ",", "no", "?", "!"]


def test_words_with_other_letters_are_stemmed_too_but_short_ones_are_not():
    assert stems("Cafés jumping ties was é's") == ["café", "jump", "tie", "was", "é", "s"]


def test_a_copy_may_have_other_case_and_spaces():
    assert copied_share(["Ein HUND .", "A dog.", "", "Große"], ["ein Hund.", "Ein Hund.", "x", "GROSSE "]) == 0.5


@pytest.mark.parametrize(("answer", "expected"), [
    ("a b c d e f g", 0),
    ("a b c", 0),
    ("", 0),
    ("a b c d a b c d", 1 / 5),  # a b c d, the first of 5, is the last, too
    ("no no no no no no no", 3 / 4),  # the first of 4 is new
    ("?????", 1 / 2),
    ("아니 아니 아니 아니 아니", 1 / 2),
])  # fmt: skip
def test_runs_of_four_words_that_came_before_are_repeats(answer, expected):
    assert repeated_share([answer]) == pytest.approx(expected)


def test_the_share_of_repeats_is_the_mean_over_the_answers():
    assert repeated_share(["no no no no no no no", "a b", "a b c d a b c d"]) == pytest.approx((3 / 4 + 1 / 5) / 3)


def test_the_length_ratio_is_of_all_words():
    assert length_ratio(["a, b c", "d"], ["e f", "g h i j k l."]) == 0.5


def test_references_without_words_have_no_length_ratio():
    with pytest.raises(InputError, match="the references have no words"):
        length_ratio(["a"], ["..."])


def test_the_worst_come_first_and_the_best_last():
    answers = ["the cat", "xyz", "the bat", "the cats", "q"]
    rows = worst_and_best(answers, ["the cat"] * 5, [f"source {number}" for number in range(5)], 2)
    assert [row["answer"] for row in rows] == ["xyz", "q", "the cats", "the cat"]
    assert rows[0]["chrf"] == 0 and rows[3] == {"source": "source 0", "answer": "the cat", "reference": "the cat", "chrf": 100}


def test_of_few_examples_each_is_shown_once():
    rows = worst_and_best(["the cat", "xyz", "the bat"], ["the cat"] * 3, ["1", "2", "3"], 2)
    assert [row["source"] for row in rows] == ["2", "3", "1"]


@pytest.mark.parametrize("text", [
    # each | is where a sentence ends
    "He came. |She left! |Did he? |Yes… |Then they went",
    "He waited... |Nobody came?! |No.",
    'He said: "Stop!" |She did. |"Why?" |"Because." |(It was late.) |He left.',
    "It was 3.5 metres. |5 men saw it. |£5m was lost. |'Twas sad.",
    "Mr. Smith, Mrs. Jones and Dr. Who met J. Smith and J. R. R. Tolkien in St. Louis. |Prof. The left.",
    "The U.S. Army and the U.S. 5th Fleet left. |He lives in the U.S. |The firm is Acme Inc. |It sells, e.g. The Times, i.e. A.",
    "No. 10 is at no. 5. |He said no. |No. |We met at 5 p.m. |He came on Jan. 5 at 3 p.m. Eastern time.",
    "Smith vs. Jones was Fig. 3 of Vol. 2 by Smith et al. |We saw it on p. 7 in Sept. |The end.",
    "He asked why? and left. went on.",
    "It rose. |– Then it fell - a bit. |• One.",
    "No! |5 men came. |Acme Inc? |Smith left Group B. |12 teams stayed with J. A. Smith.",
    "1. The first. |2. The second. |When? |2004. |Why?",
    "It ended.Then 10.Downing came. |So.",
    "Am 3. Oktober kam Dr. Weber, z. B. Die Bahn, d.h. Deutz. |Er wurde 42. |Die Frau blieb. |Der 1. FC Köln siegte.",
    "„Gut.“ |Er ging. |»Ja.« |Sie auch. |Ca. 5 Mio. Euro bzw. Dollar im 20. Jahrhundert. |Öl fehlt.",
    '정부는 2024. 3. 15. 발표했다. |그는 "좋다."라고 말했다. |3.5% 올랐다! |정말? |"네." |그렇다.',
    "他走了。|她来了！|“好。”|他说：「真的？」|3.5米。",
    "He left . |She came .",
    "He goes .",
    "वह गया। |वह आई।",
])  # fmt: skip
def test_sentences_end_where_a_reader_would_say(text):
    assert sentences(text.replace("|", "")) == [each.strip() for each in text.split("|")]


def test_a_blank_line_ends_a_sentence_and_a_line_break_does_not():
    assert sentences("Profits\nup\n\nat Time Warner\r\n \r\nThey rose.\nThen\tfell. \n") == [
        "Profits up", "at Time Warner", "They rose.", "Then fell."
    ]  # fmt: skip


def test_sentences_together_are_the_whole_text():
    draw = random.Random(1)
    pieces = [*"aAbB5다我.!?…。！\"'“”()»-  \n", "\n\n", "Mr.", " U.S. ", "3.5", ". ", " The "]
    for _ in range(2000):
        text = "".join(draw.choices(pieces, k=draw.randrange(25)))
        found = sentences(text)
        assert "".join("".join(found).split()) == "".join(text.split())
        assert all(each and each == " ".join(each.split()) for each in found)


def test_a_text_without_words_has_no_sentences():
    assert sentences(" \n\n ") == []


BODY = "Profits rose. They fell.\n\nMr. Smith was glad. He left."


@pytest.mark.parametrize("headline", ["Ad sales boost profit", "Could Yukos be a blessing?", "'My memories...'", "실적 급등"])
def test_a_lead_is_of_the_body(headline):
    assert lead(f"{headline}\n\n{BODY}", 3) == "Profits rose. They fell. Mr. Smith was glad."


@pytest.mark.parametrize("first", [
    "Ad sales boost profit.", "He said: “It is.”", "이익이 늘었다.", "What now? Ask me!", "Word after word " * 11
])  # fmt: skip
def test_a_paragraph_that_is_no_headline_is_in_the_lead(first):
    assert lead(f"{first}\n\n{BODY}", 1).startswith(first[:9])


@pytest.mark.parametrize(("text", "expected"), [("Only a headline", "Only a headline"), ("", "")])
def test_a_headline_alone_is_all_that_there_is(text, expected):
    assert lead(text, 3) == expected


def test_blank_lines_before_a_headline_are_nothing():
    assert lead("\n \n\nHeadline\n\nOne. Two.", 1) == "One."


def test_a_short_body_is_all_in_the_lead():
    assert lead("Headline\n\nOne. Two.", 3) == "One. Two."


def test_random_sentences_are_the_bodys_in_its_order():
    text = "Headline here\n\n" + " ".join(f"S{number}." for number in range(10))
    drawn = [random_sentences(text, 3, seed) for seed in range(100)]
    for each in drawn:
        numbers = [int(sentence[1:-1]) for sentence in each.split()]
        assert numbers == sorted(set(numbers)) and len(numbers) == 3
    assert {sentence for each in drawn for sentence in each.split()} == {f"S{number}." for number in range(10)}


def test_a_seed_always_draws_the_same_sentences():
    text = " ".join(f"S{number}." for number in range(100))
    assert random_sentences(text, 5, 1) == random_sentences(text, 5, 1) != random_sentences(text, 5, 2)


def test_a_short_body_is_drawn_whole():
    assert random_sentences("Headline\n\nOne. Two.", 3, 0) == "One. Two."


@pytest.mark.parametrize("call", [
    lambda: lead("a", 0), lambda: random_sentences("a", 0, 1), lambda: worst_and_best(["a"], ["a"], ["a"], 0)
])  # fmt: skip
def test_a_count_of_nothing_is_refused(call):
    with pytest.raises(InputError, match="count must be at least 1, got 0"):
        call()
