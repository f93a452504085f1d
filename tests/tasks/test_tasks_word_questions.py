import gzip
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from kerastoolkit.experiment import InputError
from kerastoolkit.tasks._word_questions import AnalogyScore, read_analogies, read_pairs, score_analogies, score_pairs

# gensim's most_similar_cosmul calls it itself.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated `init_sims`:DeprecationWarning")

SHIPPED = Path(importlib.util.find_spec("gensim").submodule_search_locations[0]) / "test" / "test_data"
PAIRS = "# a comment\nlove\tsex\t6.77\n\ntiger\tcat\n\ntiger\ttiger\t10.00\na b 3\na\tb\tc\na\tb\tnan\n"
ANALOGIES = ": family\nboy girl brother sister\n\nboy girl brother\n: with spaces \n: plural\r\n\tcat cats  dog dogs \r\n"


def saved(folder, text, name="questions.txt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def keyed(words, vectors):
    found = KeyedVectors(vectors.shape[1])
    found.add_vectors(words, vectors)
    return found


def counts(score):
    return [(each.name, each.covered, each.correct) for each in (*score.sections, score.total)]


def gensim_counts(words, vectors, path, **restriction):
    """What ``counts`` should be, by gensim's own evaluation."""
    _, sections = keyed(words, vectors).evaluate_word_analogies(str(path), **restriction)
    found = [(each["section"], len(each["correct"]) + len(each["incorrect"]), len(each["correct"])) for each in sections]
    return [*found[:-1], ("total", *found[-1][1:])]


def gensim_multiplied(words, vectors, sections):
    """What ``counts`` should be with 3cosmul: gensim's ``most_similar_cosmul``, a question at a time."""
    known, first = keyed(words, vectors), {word.upper(): word for word in reversed(words)}
    found = []
    for name, questions in sections:
        covered = correct = 0
        for question in questions:
            *asked, answer = (word.upper() for word in question)
            if first.keys() >= {*asked, answer}:
                a, b, c = (first[word] for word in asked)
                for word, _ in known.most_similar_cosmul(positive=[b, c], negative=[a], topn=5):
                    predicted = word.upper()
                    if predicted not in asked:
                        break
                covered, correct = covered + 1, correct + (predicted == answer)
        found.append((name, covered, correct))
    return [*found, ("total", *(sum(each[column] for each in found) for column in (1, 2)))]


@pytest.fixture(scope="module")
def made_up():
    """(words, vectors) of 24 families of a stem and 15 forms: a form is the stem and an offset, and noise; case variants, of some
    words many, stand next to the word itself, before it or after it."""
    random = np.random.default_rng(3)
    stems, forms = random.normal(size=(24, 16)), random.normal(size=(15, 16))
    words, vectors = [], []
    for i, stem in enumerate(stems):
        for j, form in enumerate(forms):
            vector = stem + form + 0.5 * random.normal(size=16)
            word = f"straße{'abcdefghijklmnopqrstuvwx'[i]}é{'abcdefghijklmno'[j]}"
            variants = [word, word.title(), word.upper(), word.swapcase()] if j % 3 == 0 else [word]
            variants += [word[:k] + word[k:].upper() for k in range(2, 9)] if j % 5 == 0 else []
            words += variants
            vectors += [vector + 0.02 * random.normal(size=16) for _ in variants]
    order = random.permutation(len(words))
    chosen = {words[i]: vectors[i] for i in order}
    return list(chosen), np.array(list(chosen.values()), np.float32)


@pytest.fixture(scope="module")
def made_up_analogies(tmp_path_factory):
    """A file of analogies between the made-up words, some of them unknown, asked twice, or with one word more than once."""
    random = np.random.default_rng(4)

    def word(i, j):
        found = f"straße{'abcdefghijklmnopqrstuvwx'[i]}é{'abcdefghijklmnop'[j]}"  # there is no form p
        return found.upper() if random.random() < 0.3 else found

    lines = []
    for section in range(6):
        questions = []
        for _ in range(150 if section != 2 else 0):
            i, k = random.integers(24, size=2)
            j, m = random.integers(16, size=2)
            questions.append((word(i, j), word(i, m), word(k, j), word(k, m)))
        questions += questions[:20]
        # The words nearest to this are its own variants, all of them; gensim's answer is one of them.
        questions.append((word(1, 1), word(section, 0), word(section, 0), word(section, 0)))
        lines += [f": section {section % 5}", "only three words", *(" ".join(question) for question in questions)]
    return saved(tmp_path_factory.mktemp("made_up"), "\n".join(lines))


# Reading


def test_pairs_are_two_words_and_a_finite_number_and_other_lines_are_counted(tmp_path):
    pairs = read_pairs(saved(tmp_path, PAIRS))
    assert pairs == [("love", "sex", 6.77), ("tiger", "tiger", 10.0)]
    assert pairs.skipped == 4


def test_analogies_are_four_words_in_sections_and_other_lines_are_counted(tmp_path):
    sections = read_analogies(saved(tmp_path, ANALOGIES))
    family, plural = ("boy", "girl", "brother", "sister"), ("cat", "cats", "dog", "dogs")
    assert sections == [("family", [family]), ("with spaces", []), ("plural", [plural])]
    assert sections.skipped == 1


@pytest.mark.parametrize(("read", "text"), [(read_pairs, PAIRS), (read_analogies, ANALOGIES)])
@pytest.mark.parametrize(
    "change",
    [gzip.compress, lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b"\n", b"\r\n")],
    ids=["gzip", "byte order mark", "line ends"],
)
def test_gzip_and_byte_order_marks_and_line_ends_of_windows_change_nothing(read, text, change, tmp_path):
    assert read(saved(tmp_path, change(text.encode()))) == read(saved(tmp_path, text))


def test_only_ends_of_lines_end_a_line(tmp_path):
    assert read_pairs(saved(tmp_path, "a\x0b\u2028\tb\t1\n")) == [("a\x0b\u2028", "b", 1.0)]


def test_the_files_that_gensim_ships_are_read_whole():
    pairs = [read_pairs(SHIPPED / name) for name in ("wordsim353.tsv", "simlex999.txt")]
    assert [(len(each), each.skipped) for each in pairs] == [(353, 0), (999, 0)]
    sections = read_analogies(SHIPPED / "questions-words.txt")
    assert (len(sections), sum(len(questions) for _, questions in sections), sections.skipped) == (14, 19_544, 0)


@pytest.mark.parametrize("read", [read_pairs, read_analogies])
@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"a b\n\n\xff", "line 3: must be UTF-8 text, got the byte 0xff"),
        (b"\xef\xbb\xbf# \n\xe9", "line 2: must be UTF-8 text, got the byte 0xe9"),
        (gzip.compress(b"a\tb\t1\n" * 1_000, mtime=0)[:-12], "cannot be read"),
        (b"\x1f\x8bno gzip", "cannot be read"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xff\xff", "cannot be read"),
        (b"", "got 0 lines, none so"),
    ],
)
def test_a_file_that_is_no_text_is_refused_in_one_line(read, contents, message, tmp_path):
    path = saved(tmp_path, contents)
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value).startswith(str(path)) and message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("read", [read_pairs, read_analogies])
def test_what_is_no_file_is_refused(read, tmp_path):
    with pytest.raises(InputError, match=r"missing.txt: cannot be read \(No such file or directory\)"):
        read(tmp_path / "missing.txt")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read(str(tmp_path))


@pytest.mark.parametrize("read", [read_pairs, read_analogies])
@pytest.mark.parametrize("packed", [False, True])
def test_more_than_64_megabytes_are_refused_and_never_unpacked(read, packed, tmp_path):
    path = tmp_path / "large"
    if packed:
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(65):
                file.write(bytes(1_000_000))
    else:
        with path.open("wb") as file:
            file.truncate(64_000_001)
    with pytest.raises(InputError, match="large: may hold at most 64,000,000 bytes of text, this one holds more"):
        read(path)


def test_pairs_without_a_usable_line_are_refused(tmp_path):
    path = saved(tmp_path, "# only\na b 1\na\tb\tinf\n")
    with pytest.raises(InputError, match="needs lines of two words and a number, parted by tabs, got 3 lines, none so"):
        read_pairs(path)


def test_analogies_without_a_question_are_refused(tmp_path):
    path = saved(tmp_path, ": one\na b c\n: two\n")
    with pytest.raises(InputError, match="needs lines of four words, got 3 lines, none so"):
        read_analogies(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("line", ["a b c d", "# comment", ":family"])
def test_anything_before_the_first_section_is_refused_with_its_line(line, end, tmp_path):
    path = saved(tmp_path, f"\n{line}\n: one\na b c d\n".replace("\n", end))
    with pytest.raises(InputError, match=f"line 2: questions must follow a line \": section\", got '{line}'"):
        read_analogies(path)


# Pairs


def test_correlations_of_four_pairs_worked_out_by_hand():
    words = ["east", "north", "west", "north-east"]
    vectors = np.array([[2, 0], [0, 1], [-3, 0], [1, 1]])
    pairs = [("east", "east", 4.0), ("east", "north-east", 5.0), ("EAST", "North", 2.0), ("east", "west", 1.0)]
    score = score_pairs([*pairs, ("east", "up", 9.0)], words, vectors)
    assert (score.pairs, score.covered) == (5, 4)
    assert score.out_of_vocabulary == pytest.approx(1 / 5)
    # Ranks 4 3 2 1 of the cosines 1, 0.7071, 0, -1 and 3 4 2 1 of the judgements: 1 - 6 * 2 / (4 * 15).
    assert score.spearman == pytest.approx(0.8)
    # Means 0.17678 and 3: deviations 0.82322 0.53033 -0.17678 -1.17678 and 1 2 -1 -2.
    assert score.pearson == pytest.approx(4.41422 / np.sqrt(2.375 * 10), abs=1e-5)


def test_pairs_of_the_same_words_are_ties(made_up):
    words, vectors = made_up
    twice = [(word, word, 9.0 + i) for i, word in enumerate(words[:50])]
    assert score_pairs(twice, words, vectors).spearman is None
    # The three cosines are 1, 1 and less: ranks 2.5 2.5 1 with the judgements' 3 2 1.
    score = score_pairs([(words[0], words[0], 3.0), (words[1], words[1], 2.0), (words[2], words[3], 1.0)], words, vectors)
    assert score.spearman == pytest.approx(np.sqrt(3) / 2)


@pytest.mark.parametrize("most_frequent", [300_000, 300])
def test_pairs_score_as_with_gensim(most_frequent, made_up, tmp_path):
    words, vectors = made_up
    vectors = vectors.copy()
    vectors[7] = 0
    random = np.random.default_rng(5)
    pairs = [(*random.choice(words, 2, replace=False), round(value, 2)) for value in random.uniform(0, 10, 400)]
    pairs += [(words[7], words[8], 3.0), ("unknown", words[1], 4.0), (words[0], "unknown", 1.0), *pairs[:30]]
    pairs += [(one.upper(), other.lower(), value + 1) for one, other, value in pairs[30:60]]
    path = saved(tmp_path, "# words\n" + "".join(f"{one}\t{other}\t{value}\n" for one, other, value in pairs) + "no pair\n")
    pearson, spearman, unknown = keyed(words, vectors).evaluate_word_pairs(str(path), restrict_vocab=most_frequent)
    score = score_pairs(read_pairs(path), words, vectors, most_frequent=most_frequent)
    assert score.spearman == pytest.approx(spearman[0], abs=1e-6)
    assert score.pearson == pytest.approx(pearson[0], abs=1e-6)
    assert score.out_of_vocabulary == pytest.approx(unknown / 100, abs=1e-6)
    assert score.pairs == 463
    assert (score.covered < 463 - 100) == (most_frequent == 300)


@pytest.mark.parametrize("name", ["wordsim353.tsv", "simlex999.txt"])
def test_shipped_pairs_score_as_with_gensim(name):
    pairs = read_pairs(SHIPPED / name)
    # Every tenth word is unknown.
    words = [word for i, word in enumerate(dict.fromkeys(word for pair in pairs for word in pair[:2])) if i % 10]
    vectors = np.random.default_rng(6).normal(size=(len(words), 50)).astype(np.float32)
    pearson, spearman, unknown = keyed(words, vectors).evaluate_word_pairs(str(SHIPPED / name))
    score = score_pairs(pairs, words, vectors)
    assert score.spearman == pytest.approx(spearman[0], abs=1e-6)
    assert score.pearson == pytest.approx(pearson[0], abs=1e-6)
    assert score.out_of_vocabulary == pytest.approx(unknown / 100, abs=1e-6)


def test_more_pairs_than_are_taken_at_once_score_the_same(made_up, monkeypatch):
    words, vectors = made_up
    pairs = [(words[i], words[i + 1], float(i % 17)) for i in range(100)]
    whole = score_pairs(pairs, words, vectors)
    monkeypatch.setattr("kerastoolkit.tasks._word_questions.PAIRS_AT_ONCE", 7)
    assert score_pairs(pairs, words, vectors) == whole


@pytest.mark.parametrize(
    ("pairs", "covered", "vectors"),
    [
        ([], 0, np.eye(3)),
        ([("a", "z", 1.0)], 0, np.eye(3)),
        ([("a", "b", 1.0), ("a", "z", 2.0)], 1, np.eye(3)),
        ([("a", "b", 1.0), ("a", "c", 2.0)], 2, np.eye(3)),
        ([("a", "b", 1.0), ("a", "c", 1.0)], 2, np.arange(9.0).reshape(3, 3)),
        ([("a", "b", 1.0), ("a", "c", 2.0)], 2, np.array([[1, 2], [3, 4], [np.nan, 1]])),
        ([("a", "b", 1.0), ("a", "c", 2.0)], 2, np.array([[1, 2], [3, 4], [np.inf, 1]])),
    ],
    ids=["no pairs", "none covered", "one covered", "equal cosines", "equal judgements", "NaN", "infinite"],
)
def test_correlations_are_none_where_there_are_none(pairs, covered, vectors):
    score = score_pairs(pairs, ["a", "b", "c"], vectors)
    assert (score.covered, score.spearman, score.pearson) == (covered, None, None)
    assert score.out_of_vocabulary == (1 - covered / len(pairs) if pairs else None)


# Analogies


ROYAL = ["king", "queen", "man", "woman", "apple"]
ROYAL_VECTORS = np.array([[1, 0.5, 0, 0], [1, -0.5, 0, 0], [0, 0.5, 1, 0], [0, -0.5, 1, 0], [0, 0, 0.3, 1]])


@pytest.mark.parametrize("method", ["3cosadd", "3cosmul"])
def test_king_is_to_queen_as_man_is_to_woman(method):
    questions = [("king", "queen", "man", "woman"), ("Man", "king", "WOMAN", "queen"), ("king", "queen", "man", "apple")]
    sections = [("royal", questions), ("fruit", [("king", "queen", "apple", "pear")])]
    score = score_analogies(sections, ROYAL, ROYAL_VECTORS, method=method)
    assert score.sections == (AnalogyScore("royal", 3, 3, 2, 2 / 3), AnalogyScore("fruit", 1, 0, 0, None))
    assert score.total == AnalogyScore("total", 4, 3, 2, 2 / 3)


def test_addition_and_multiplication_can_answer_differently():
    # Cosines to a, b and c: of the first (-0.6, 0, 0), added 0.6; of the second (0, 0.6, 0), also 0.6 but for the last digits.
    # Multiplied, the first has 1 * 1 / 0.4 = 2.5 and the second 1.6 * 1 / 1 = 1.6.
    words, vectors = ["a", "b", "c", "first", "second"], np.eye(5)
    vectors[3:, :] = [[-0.6, 0, 0, 0.8, 0], [0, 0.7, 0, 0, np.sqrt(0.51)]]
    for method, answer in (("3cosadd", "second"), ("3cosmul", "first")):
        score = score_analogies([("one", [("a", "b", "c", answer)])], words, vectors, method=method)
        assert score.total.correct == 1, method


def test_words_beyond_the_most_frequent_are_neither_known_nor_answers():
    # Without woman the best of the others is apple.
    sections = [("royal", [("king", "queen", "man", "woman"), ("king", "queen", "man", "apple")])]
    words, order = ["king", "queen", "man", "apple", "woman"], [0, 1, 2, 4, 3]
    score = score_analogies(sections, words, ROYAL_VECTORS[order], most_frequent=4)
    assert score.total == AnalogyScore("total", 2, 1, 1, 1.0)


def test_of_case_variants_the_first_stands_for_all():
    words = ["MAN", *ROYAL]
    sections = [("royal", [("king", "queen", "man", "woman")])]
    assert score_analogies(sections, words, np.vstack([ROYAL_VECTORS[2], ROYAL_VECTORS])).total.correct == 1
    assert score_analogies(sections, words, np.vstack([ROYAL_VECTORS[4], ROYAL_VECTORS])).total.correct == 0


@pytest.mark.parametrize("method", ["3cosadd", "3cosmul"])
@pytest.mark.parametrize("blocks", [1, 9_000, 32_000_000])
def test_made_up_analogies_are_as_right_as_with_gensim(method, blocks, made_up, made_up_analogies, monkeypatch):
    monkeypatch.setattr("kerastoolkit.tasks._word_questions.NUMBERS_AT_ONCE", blocks)
    words, vectors = made_up
    sections = read_analogies(made_up_analogies)
    expected = {
        "3cosadd": lambda: gensim_counts(words, vectors, made_up_analogies),
        "3cosmul": lambda: gensim_multiplied(words, vectors, sections),
    }[method]()
    score = score_analogies(sections, words, vectors, method=method)
    assert counts(score) == expected
    assert score.total.questions == 856 and 100 < score.total.correct < score.total.covered - 100
    assert [each.questions for each in score.sections] == [171, 171, 1, 171, 171, 171]


@pytest.mark.parametrize("method", ["3cosadd", "3cosmul"])
def test_among_the_most_frequent_made_up_analogies_are_as_right_as_with_gensim(method, made_up, made_up_analogies):
    words, vectors = made_up
    sections = read_analogies(made_up_analogies)
    # gensim's most_similar_cosmul cannot be restricted, so there the vocabulary is.
    expected = {
        "3cosadd": lambda: gensim_counts(words, vectors, made_up_analogies, restrict_vocab=600),
        "3cosmul": lambda: gensim_multiplied(words[:600], vectors[:600], sections),
    }[method]()
    score = score_analogies(sections, words, vectors, most_frequent=600, method=method)
    assert counts(score) == expected
    assert 30 < score.total.covered < 800


@pytest.mark.parametrize("method", ["3cosadd", "3cosmul"])
def test_shipped_analogies_are_as_right_as_with_gensim(method, tmp_path):
    text = (SHIPPED / "questions-words.txt").read_text()
    starts = [text.index(f": {name}\n") for name in ("family", "gram1-adjective-to-adverb", "gram7-past-tense", "gram8-plural")]
    path = saved(tmp_path, text[starts[0] : starts[1]] + text[starts[2] : starts[3]])
    sections = read_analogies(path)
    # A word's vector is a random one of its row and one of its column, and noise; every fifteenth is unknown.
    random = np.random.default_rng(7)
    found = {}
    for a, b, c, answer in (question for _, questions in sections for question in questions):
        for one, other in ((a, b), (c, answer)):
            if one not in found:
                stem = random.normal(size=20)
                found[one], found[other] = (stem + side + 0.9 * random.normal(size=20) for side in (-0.3, 0.3))
    words = [word for i, word in enumerate(found) if i % 15 != 14]
    vectors = np.array([found[word] for word in words], np.float32)
    expected = {
        "3cosadd": lambda: gensim_counts(words, vectors, path),
        "3cosmul": lambda: gensim_multiplied(words, vectors, sections),
    }[method]()
    score = score_analogies(sections, words, vectors, method=method)
    assert counts(score) == expected
    assert score.total.questions == 506 + 1_560 and 200 < score.total.correct < score.total.covered - 200 < 2_066 - 400


def variants_and_more(without):
    """(words, vectors): two words and variants of them, ever further from the second, and after them a third word; without the
    first few variants."""
    words = ["x", "tree", "Tree", "tRee", "trEe", "treE", "X", "TREE", "leaf"]
    angles = np.radians([90, 0, 1, 2, 3, 4, 5, 6, 40])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return words[:2] + words[2 + without :], np.delete(vectors, range(2, 2 + without), axis=0)


@pytest.mark.parametrize(("answer", "correct"), [("leaf", 0), ("tree", 0), ("x", 1)])
def test_where_the_best_five_are_all_variants_of_the_question_the_answer_is_the_fifth(answer, correct, tmp_path):
    words, vectors = variants_and_more(0)
    path = saved(tmp_path, f": one\nx tree tree {answer}\n")
    assert gensim_counts(words, vectors, path) == [("one", 1, correct), ("total", 1, correct)]
    assert score_analogies(read_analogies(path), words, vectors).total.correct == correct


@pytest.mark.parametrize("without", [1, 2, 3])
def test_variants_of_the_question_are_passed_over_among_the_best_five(without, tmp_path):
    words, vectors = variants_and_more(without)
    path = saved(tmp_path, ": one\nx tree tree leaf\n")
    assert gensim_counts(words, vectors, path) == [("one", 1, int(without > 1)), ("total", 1, int(without > 1))]
    assert score_analogies(read_analogies(path), words, vectors).total.correct == int(without > 1)


@pytest.mark.parametrize("words", [["a", "b", "c"], ["a", "b", "c", "d"], ["a", "b", "c", "A"]])
def test_vocabularies_of_hardly_more_than_the_question_are_as_right_as_with_gensim(words, tmp_path):
    path = saved(tmp_path, ": one\na b c a\na b c d\na a c b\n")
    vectors = np.random.default_rng(8).normal(size=(len(words), 3)).astype(np.float32)
    assert counts(score_analogies(read_analogies(path), words, vectors)) == gensim_counts(words, vectors, path)


@pytest.mark.parametrize("method", ["3cosadd", "3cosmul"])
@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_a_vector_without_a_direction_is_no_answer_and_answers_nothing(method, value):
    words, vectors = [*ROYAL, "none"], np.vstack([ROYAL_VECTORS, np.full(4, value)])
    questions = [("king", "queen", "man", "woman"), ("king", "queen", "man", "none")]
    questions += [("none", "queen", "man", word) for word in ("king", "woman", "apple")]
    score = score_analogies([("royal", questions)], words, vectors, method=method)
    assert score.total == AnalogyScore("total", 5, 5, 1, 1 / 5)


def test_a_vector_without_a_direction_comes_after_all_others(tmp_path):
    words, vectors = ["a", "b", "c", "opposite", "none"], np.array([[1, 0], [0, 1], [0.1, 1], [0.2, -1], [0, 0]], np.float32)
    path = saved(tmp_path, ": one\na b c opposite\n")
    with np.errstate(invalid="ignore"):
        assert gensim_counts(words, vectors, path) == [("one", 1, 1), ("total", 1, 1)]
    assert score_analogies(read_analogies(path), words, vectors).total.correct == 1


def test_vectors_of_zeros_are_as_right_as_with_gensim(made_up, made_up_analogies):
    words, vectors = made_up
    vectors = vectors.copy()
    vectors[::20] = 0
    score = score_analogies(read_analogies(made_up_analogies), words, vectors)
    with np.errstate(invalid="ignore"):
        assert counts(score) == gensim_counts(words, vectors, made_up_analogies)


def test_no_sections_have_no_accuracy():
    score = score_analogies([], ROYAL, ROYAL_VECTORS)
    assert score.sections == () and score.total == AnalogyScore("total", 0, 0, 0, None)


# Errors of both


@pytest.mark.parametrize("score", [score_pairs, score_analogies])
@pytest.mark.parametrize(
    ("words", "vectors", "how", "message"),
    [
        (["a"], np.ones((2, 3)), {}, r"vectors must be 1 rows of numbers, one for each word, got the shape \(2, 3\)"),
        (["a"], np.ones(1), {}, r"vectors must be 1 rows of numbers, one for each word, got the shape \(1,\)"),
        ([], np.ones((0, 3)), {}, r"vectors must be 0 rows of numbers, one for each word, got the shape \(0, 3\)"),
        (["a"], np.ones((1, 3)), {"most_frequent": 0}, "most_frequent must be at least 1, got 0"),
    ],
)
def test_words_and_vectors_that_do_not_fit_are_refused(score, words, vectors, how, message):
    with pytest.raises(InputError, match=message):
        score([], words, vectors, **how)


def test_another_method_is_refused():
    with pytest.raises(InputError, match="method must be 3cosadd or 3cosmul, got pairdirection"):
        score_analogies([], ROYAL, ROYAL_VECTORS, method="pairdirection")
