"""Beam search and draws over tables of logits, against all texts, a slow twin in Python, and the softmax."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.serving.byte_pairs import END, FIRST_BYTE, PADDING, START
from kerastoolkit.serving.search import IMPOSSIBLE, beam_search, gains_of, sample, without_repeats

VOCABULARY = 6
LETTERS = [3, 4, 5]


def tables(rows, longest, seed=0, end=0.0, spread=1.5):
    """Logits after each text, which is a number whose digits are its tokens; padding and start are likely, and never right."""
    logits = np.random.default_rng(seed).normal(size=(rows, VOCABULARY**longest, VOCABULARY)) * spread
    logits[:, :, [PADDING, START]] += 3
    logits[:, :, END] += end
    return logits.astype("float32")


def advance_in(table):
    """What the search is given; its state is the number of the text so far, twice, in two shapes and types."""

    def advance(tokens, state, position):
        number, again = state
        tf.debugging.assert_equal(number, tf.cast(again[:, :, 0], tf.int32))
        number = number * VOCABULARY + tokens
        return gains_of(tf.gather(table, number, batch_dims=1)), (number, tf.cast(number[:, :, None], tf.float32))

    return advance


def first(rows, beams):
    return tf.zeros((rows, beams), tf.int32), tf.zeros((rows, beams, 1))


def search(table, *, widths, limits, penalties):
    """(texts with their end, scores), in a graph as in the serving model."""
    rows = len(table)
    widths, limits = (np.broadcast_to(each, rows).astype("int32") for each in (widths, limits))
    penalties = np.broadcast_to(penalties, rows).astype("float32")

    @tf.function(autograph=False)
    def run():
        return beam_search(
            advance_in(table), first(rows, int(widths.max())), widths=widths, limits=limits, penalties=penalties
        )

    tokens, scores = run()
    return texts_of(tokens), scores.numpy()


def texts_of(tokens):
    """The texts, of which each ends with its first and only END and has nothing but padding after it."""
    texts = []
    for row in np.asarray(tokens).tolist():
        end = row.index(END)
        assert set(row[:end]) <= set(LETTERS)
        assert set(row[end + 1 :]) <= {PADDING}
        texts.append(row[: end + 1])
    return texts


def log_probabilities(table, text, limit):
    """Of the token after ``text``, as if letters and END might come, for those that may: at the limit END alone."""
    number = 0
    for token in [START, *text]:
        number = number * VOCABULARY + token
    logits = table[number, [END, *LETTERS]].astype(float)
    found = dict(zip([END, *LETTERS], logits - np.log(np.exp(logits).sum()), strict=True))
    return {END: found[END]} if len(text) + 1 >= limit else found


def normalised(total, tokens, penalty):
    """Wu et al. 2016, equation 14, without its coverage penalty."""
    return total / ((5 + tokens) / 6) ** penalty


def every_text(table, limit, penalty):
    """[(score, text)] of all texts that there are, the best first."""
    found = []
    for length in range(limit):
        for letters in itertools.product(LETTERS, repeat=length):
            text = [*letters, END]
            total = sum(log_probabilities(table, text[:i], limit)[token] for i, token in enumerate(text))
            found.append((normalised(total, len(text), penalty), text))
    return sorted(found, reverse=True)


def slow_beam_search(table, width, limit, penalty):
    """The same search with lists, one text at a time, and to the last position always."""
    live, best = [(0.0, [])], (-np.inf, None)
    for _ in range(limit):
        grown = [
            (total + gain, [*text, token])
            for total, text in live
            for token, gain in log_probabilities(table, text, limit).items()
        ]
        grown.sort(reverse=True)
        for total, text in grown[: 1 if width == 1 else 2 * width]:
            if text[-1] == END:
                best = max(best, (normalised(total, len(text), penalty), text))
        if width == 1 and grown[0][1][-1] == END:
            break
        live = [each for each in grown if each[1][-1] != END][:width]
    return best


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 3.0])
def test_a_beam_that_holds_everything_finds_the_best_of_all_texts(penalty):
    table = tables(12, 4)
    found, scores = search(table, widths=27, limits=4, penalties=penalty)  # 3 letters in 3 places are 27 texts
    expected = [every_text(each, 4, penalty) for each in table]
    assert found == [each[0][1] for each in expected]
    np.testing.assert_allclose(scores, [each[0][0] for each in expected], rtol=1e-5)
    assert len({len(text) for text in found}) > 1


def test_beams_of_all_widths_in_one_batch_are_those_of_the_slow_search():
    rows = 200
    table = tables(rows, 5, seed=1, end=-1.0, spread=0.4)  # much alike, so that a beam more or less is seen
    widths, limits = np.array([1, 2, 2, 3, 6])[np.arange(rows) % 5], np.array([5, 5, 5, 4, 1])[np.arange(rows) // 5 % 5]
    penalties = np.arange(rows) // 25 % 4 * 0.5
    found, scores = search(table, widths=widths, limits=limits, penalties=penalties)
    expected = [slow_beam_search(*each) for each in zip(table, widths, limits, penalties, strict=True)]
    assert found == [text for _, text in expected]
    np.testing.assert_allclose(scores, [score for score, _ in expected], rtol=1e-5, atol=1e-6)
    wide = [slow_beam_search(*each)[1] for each in zip(table, np.full(rows, 6), limits, penalties, strict=True)]
    for width in (1, 2):  # the width matters
        assert sum(one != other for one, other, own in zip(found, wide, widths, strict=True) if own == width) > 3


def test_one_beam_takes_the_likeliest_token_each_time():
    table = tables(20, 5, seed=2)
    found, _ = search(table, widths=1, limits=5, penalties=0.0)
    for row, text in zip(table, found, strict=True):
        written = []
        while not written or written[-1] != END:
            following = log_probabilities(row, written, 5)
            written.append(max(following, key=following.get))
        assert text == written


@pytest.mark.parametrize("width", [1, 2, 27])
def test_a_limit_is_kept_and_the_last_token_is_the_end(width):
    table = tables(8, 5, seed=3, end=-50.0)  # nothing would end
    limits = np.array([1, 2, 3, 4, 5, 4, 2, 1])
    found, _ = search(table, widths=width, limits=limits, penalties=0.6)
    assert [len(text) for text in found] == limits.tolist()


def test_a_higher_length_penalty_shortens_no_text_that_is_searched_for_among_all():
    table = tables(30, 4, seed=4)
    lengths = np.array([[len(text) for text in search(table, widths=27, limits=4, penalties=penalty)[0]]
                        for penalty in (0.0, 0.5, 1.0, 2.0, 5.0)])  # fmt: skip
    assert (np.diff(lengths, axis=0) >= 0).all()
    assert lengths[-1].mean() > lengths[0].mean() + 0.5


def test_a_likely_long_text_is_found_behind_an_end_that_comes_first():
    """The search does not stop at the first end: a text that ends later can have the better score."""
    table = np.full((1, VOCABULARY**3, VOCABULARY), -30.0, "float32")
    table[0, 1, [END, 3]] = np.log([0.4, 0.6])  # after START
    table[0, 9, [END, 3]] = np.log([0.7, 0.3])  # after START (1) and 3: 1 * 6 + 3
    found, scores = search(table, widths=2, limits=3, penalties=0.0)
    assert found == [[3, END]]
    assert scores[0] == pytest.approx(np.log(0.6 * 0.7), rel=1e-5)
    # log(0.6 * 0.7) / (7 / 6)**10 = -0.186; the end of three costs what it does among four alike:
    # log(0.6 * 0.3 * 0.25) / (8 / 6)**10 = -0.175
    assert search(table, widths=2, limits=3, penalties=10.0)[0] == [[3, 3, END]]


# Draws -------------------------------------------------------------------------------------------------------------------------


def draw(table, *, seeds, limits, temperature=1.0, top_k=0, top_p=1.0):
    rows = len(table)

    def each(value, kind):
        return tf.constant(np.broadcast_to(value, rows), kind)

    @tf.function(autograph=False)
    def run():
        return sample(
            advance_in(table), first(rows, 1), temperature=each(temperature, tf.float32), top_k=each(top_k, tf.int32),
            top_p=each(top_p, tf.float32), limits=each(limits, tf.int32), seeds=each(seeds, tf.int32))  # fmt: skip

    tokens, likelihoods = run()
    return texts_of(tokens), likelihoods.numpy()


SHARES = np.array([0.4, 0.3, 0.2, 0.1])  # of END, 3, 4 and 5, at first


def one_step(rows):
    """The same logits for every text, of which padding and start have the highest."""
    logits = np.log([9.0, 9.0, *SHARES]).astype("float32")
    return np.broadcast_to(logits, (rows, VOCABULARY**2, VOCABULARY))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, SHARES),
        ({"temperature": 2.0}, SHARES**0.5),
        ({"temperature": 0.5}, SHARES**2),
        ({"top_k": 3}, [0.4, 0.3, 0.2, 0]),
        ({"top_p": 0.6}, [0.4, 0.3, 0, 0]),  # 0.4 is too little, 0.7 enough
        ({"top_p": 0.71}, [0.4, 0.3, 0.2, 0]),
        ({"top_k": 2, "top_p": 0.8}, [0.4, 0.3, 0, 0]),
        ({"top_k": 3, "top_p": 0.6}, [0.4, 0.3, 0, 0]),
        # Of square roots the shares are 0.325, 0.282, 0.230, 0.163: the temperature comes before the choice.
        ({"temperature": 2.0, "top_p": 0.6}, [0.4**0.5, 0.3**0.5, 0, 0]),
        ({"temperature": 2.0, "top_p": 0.65}, [0.4**0.5, 0.3**0.5, 0.2**0.5, 0]),
    ],
)
def test_tokens_are_drawn_by_the_softmax_of_those_that_may_be(how, expected):
    rows = 4_000
    found, _ = draw(one_step(rows), seeds=np.arange(rows), limits=2, **how)
    counts = np.array([sum(text[0] == token for text in found) for token in (END, *LETTERS)])
    expected = np.array(expected) / np.sum(expected) * rows
    assert (counts[expected == 0] == 0).all()
    drawn = expected > 0
    # Of chi-squared with 3 degrees of freedom one in 1,000 is above 16.3; the seeds are fixed.
    assert ((counts - expected)[drawn] ** 2 / expected[drawn]).sum() < 16.3


def test_two_places_of_one_text_are_drawn_independently():
    rows = 4_000
    flat = np.broadcast_to(np.log([9, 9, 1e-9, 1, 1, 1]).astype("float32"), (rows, VOCABULARY**3, VOCABULARY))
    found, _ = draw(flat, seeds=np.arange(rows), limits=3)
    counts = np.array([[sum(text[:2] == [a, b] for text in found) for a in LETTERS] for b in LETTERS])
    # Of chi-squared with 8 degrees of freedom one in 1,000 is above 26.1.
    assert ((counts - rows / 9) ** 2 / (rows / 9)).sum() < 26.1


def test_the_likelihood_is_that_before_temperature_and_choice():
    table = tables(30, 4, seed=5)
    found, likelihoods = draw(table, seeds=np.arange(30), limits=4, temperature=1.7, top_k=3, top_p=0.95)
    for row, text, likelihood in zip(table, found, likelihoods, strict=True):
        expected = sum(log_probabilities(row, text[:i], 4)[token] for i, token in enumerate(text))
        assert likelihood == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert {len(text) for text in found} == {1, 2, 3, 4}


@pytest.mark.parametrize("how", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}])
def test_draws_among_one_are_the_likeliest_tokens(how):
    table = tables(20, 5, seed=2)
    assert draw(table, seeds=np.arange(20), limits=5, **how)[0] == search(table, widths=1, limits=5, penalties=0.0)[0]


def test_a_seed_gives_its_own_text_again_and_whatever_else_is_in_the_batch():
    table = np.repeat(tables(1, 6, seed=6, end=-3.0), 8, axis=0)
    seeds = np.array([3, 1, 4, 3, 1, -7, 9, 2**31 - 1])
    found, _ = draw(table, seeds=seeds, limits=6)
    assert found[0] == found[3]
    assert found[1] == found[4]
    assert len({tuple(text) for text in found}) == 6
    beside, _ = draw(table[:4], seeds=seeds[[7, 5, 0, 2]], limits=[6, 6, 6, 2], temperature=[1, 1, 1, 5], top_k=[0, 0, 0, 2])
    assert beside[:3] == [found[7], found[5], found[0]]


def forbidden(texts, sizes, vocabulary):
    """What is IMPOSSIBLE after each token of ``texts`` (rows, beams, length): [position][row][beam], lists of tokens."""
    rows, beams, length = np.shape(texts)
    gains = tf.constant(np.random.default_rng(0).normal(size=(rows, beams, vocabulary)), tf.float32)
    advance, state = without_repeats(lambda _, state, position: (gains, state + 1), 0, number=beams, sizes=tf.constant(sizes))
    found = []
    for position in range(length):
        tokens = tf.constant(np.array(texts)[:, :, position], tf.int32)
        new, state = advance(tokens, state, tf.constant(position))
        there = new.numpy() == IMPOSSIBLE
        np.testing.assert_array_equal(new.numpy()[~there], gains.numpy()[~there])
        found.append([[np.flatnonzero(beam).tolist() for beam in row] for row in there])
    assert state[2] == length
    return found


def test_repetitions_become_impossible_and_all_else_stays_as_it_is():
    """Worked by hand for 3 4 3 4 and beside it 5 5 5 3; so many in a row are 2, 1, 3, any number and more than there are."""
    found = forbidden([[[START, 3, 4, 3, 4], [START, 5, 5, 5, 3]]] * 5, [2, 1, 3, 0, 10_000], VOCABULARY)
    two, one, three, free, long = zip(*found, strict=True)
    assert two == ([[], []], [[], []], [[], [5]], [[4], [5]], [[3], []])
    assert one == ([[], []], [[3], [5]], [[3, 4], [5]], [[3, 4], [5]], [[3, 4], [3, 5]])
    assert three == ([[], []], [[], []], [[], []], [[], [5]], [[3], []])
    assert free == long == ([[], []],) * 5


def test_a_character_of_several_bytes_is_written_to_its_end():
    """The bytes of one that stood there before: the first can be forbidden, and of what follows it nothing."""
    bytes_of = [FIRST_BYTE + each for each in "\uac1c".encode()]
    found = forbidden([[[START, *bytes_of, *bytes_of]]], [1], 300)
    assert [row for ((row,),) in found] == [[]] + [[bytes_of[0]]] * 6
