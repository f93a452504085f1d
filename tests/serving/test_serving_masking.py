"""Masked words: which are picked, what becomes of them, and what a network says of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.serving.masking import FilledMasks, MaskPositions, mask_pieces
from kerastoolkit.serving.word_pieces import MARKS

PAD, UNKNOWN, CLASSIFY, SEPARATE, MASK = range(5)
PIECES = [*MARKS, *(chr(97 + number) for number in range(20)), *(f"##{chr(97 + number)}" for number in range(20))]
WORDS, INSIDE = range(5, 25), range(25, 45)


@pytest.fixture(scope="module")
def masked():
    """``mask_pieces`` as a graph: (tokens, seeds) -> arrays, by name."""
    signature = [tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, 2), tf.int32)]
    graphs = [tf.function(lambda *given, whole=whole: mask_pieces(*given, PIECES, whole_words=whole), signature)
              for whole in (False, True)]  # fmt: skip
    return lambda tokens, seeds, whole=False: [each.numpy() for each in graphs[whole](tokens, seeds)]


def seeds_of(count, start=0):
    return np.random.default_rng(start).integers(-(2**31), 2**31, (count, 2)).astype(np.int32)


def texts(rows, length, *, inside=0.0, seed=0):
    """Tokens of that many examples: [CLS], ``length`` pieces, of which a share goes on with a word, [SEP], and padding."""
    generator = np.random.default_rng(seed)
    pieces = np.where(generator.random((rows, length)) < inside, generator.integers(25, 45, (rows, length)),
                      generator.integers(5, 25, (rows, length)))  # fmt: skip
    pieces[:, 0] = 5
    begin, end, padding = (np.full((rows, width), mark) for mark, width in ((CLASSIFY, 1), (SEPARATE, 1), (PAD, 2)))
    return np.concatenate([begin, pieces, end, padding], axis=1).astype(np.int32)


def within(count, total, share):
    """Whether a count is within five standard deviations of a binomial distribution's mean."""
    return abs(count - total * share) <= 5 * np.sqrt(total * share * (1 - share))


@pytest.mark.parametrize(("length", "count"), [(1, 1), (3, 1), (9, 1), (11, 2), (16, 2), (40, 6), (100, 15)])
def test_fifteen_of_a_hundred_pieces_are_picked_and_at_least_one(masked, length, count):
    _, positions, _, weights = masked(texts(8, length), seeds_of(8))
    assert weights.shape == positions.shape == (8, count)
    assert (weights == 1).all()


def test_every_piece_is_picked_as_often_and_no_mark_ever_is(masked):
    rows, length = 4_000, 20
    tokens = texts(rows, length)
    tokens[:, 3], tokens[:, 7] = UNKNOWN, MASK
    _, positions, _, _ = masked(tokens, seeds_of(rows))
    counts = np.bincount(positions.ravel(), minlength=length + 4)
    may = [place for place in range(1, length + 1) if place not in (3, 7)]
    assert counts.sum() == counts[may].sum() == rows * 3  # 15 % of 18
    assert all(within(counts[place], rows, 3 / 18) for place in may)


def test_of_the_picked_pieces_eighty_in_a_hundred_are_masked_ten_changed_and_ten_stay(masked):
    rows = 3_000
    tokens = texts(rows, 40)
    replaced, positions, labels, weights = masked(tokens, seeds_of(rows))
    now, before = (np.take_along_axis(each, positions, axis=1) for each in (replaced, tokens))
    total = weights.sum()
    np.testing.assert_array_equal(before, labels)
    assert within((now == MASK).sum(), total, 0.8)
    # One in forty of the pieces that are drawn is the one that stood there.
    assert within((now == before).sum(), total, 0.1 + 0.1 / 40)
    changed = now[(now != MASK) & (now != before)]
    assert within(len(changed), total, 0.1 * 39 / 40)
    assert set(changed) == {*WORDS, *INSIDE}


def test_what_is_not_picked_stays_and_positions_ascend(masked):
    tokens = texts(50, 60)
    replaced, positions, _, _ = masked(tokens, seeds_of(50))
    assert (np.diff(positions, axis=1) > 0).all()
    elsewhere = np.ones(tokens.shape, bool)
    np.put_along_axis(elsewhere, positions, False, axis=1)
    np.testing.assert_array_equal(replaced[elsewhere], tokens[elsewhere])


@pytest.mark.parametrize("whole", [False, True])
def test_an_example_has_the_same_masks_whatever_is_in_its_batch(masked, whole):
    short, long, seeds = texts(3, 10, inside=0.3), texts(3, 70, inside=0.3, seed=1), seeds_of(6)
    together = masked(np.concatenate([np.pad(short, ((0, 0), (0, 60))), long]), seeds, whole)
    alone = masked(short[1:2], seeds[1:2], whole)
    count = int(alone[3].sum())
    np.testing.assert_array_equal(together[0][1, : short.shape[1]], alone[0][0])
    for one, other in zip(together[1:], alone[1:], strict=True):
        np.testing.assert_array_equal(one[1, :count], other[0, :count])
        assert not one[1, count:].any()


def test_other_seeds_give_other_masks(masked):
    tokens = texts(20, 60)
    one, other = (masked(tokens, seeds_of(20, start))[1] for start in (0, 1))
    assert (one != other).any(axis=1).all()


def test_a_text_without_words_has_no_masks(masked):
    _, positions, labels, weights = masked(np.array([[CLASSIFY, SEPARATE, PAD], [CLASSIFY, 5, SEPARATE]], np.int32), seeds_of(2))
    np.testing.assert_array_equal(weights, [[0], [1]])
    np.testing.assert_array_equal(positions, [[0], [1]])
    np.testing.assert_array_equal(labels, [[0], [5]])


def test_of_whole_words_all_pieces_are_picked_or_none(masked):
    tokens = texts(300, 60, inside=0.4)
    _, positions, _, weights = masked(tokens, seeds_of(300), True)
    for row, places, there in zip(tokens, positions, weights, strict=True):
        picked = set(places[there > 0])
        for place in range(2, 61):
            if row[place] in INSIDE:
                assert (place in picked) == (place - 1 in picked)


def test_of_whole_words_as_many_pieces_are_picked_as_keep_within_fifteen_in_a_hundred(masked):
    _, _, _, weights = masked(texts(300, 60, inside=0.4), seeds_of(300), True)
    picked = weights.sum(axis=1)
    assert picked.max() == 9  # 15 % of 60
    assert picked.min() >= 1
    assert picked.mean() > 7.5


def test_a_word_that_is_longer_than_fifteen_in_a_hundred_is_picked_whole_where_it_comes_first(masked):
    tokens = np.array([[CLASSIFY, 5, 25, 26, 27, SEPARATE]], np.int32)
    np.testing.assert_array_equal(masked(tokens, seeds_of(1), True)[1], [[1, 2, 3, 4]])
    assert masked(tokens, seeds_of(1))[1].shape == (1, 1)


# what a network says


def test_places_of_masks_are_found_in_order_and_a_text_may_have_none():
    tokens = tf.constant([[CLASSIFY, MASK, 7, MASK, SEPARATE], [CLASSIFY, 7, 8, SEPARATE, PAD]])
    np.testing.assert_array_equal(MaskPositions(MASK)(tokens), [[1, 3], [0, 0]])
    assert MaskPositions(MASK)(tokens[1:]).shape == (1, 0)


def filled(tokens, segments, positions, logits, top=2):
    """What ``FilledMasks`` gives, with the pieces 5 .. 8 after the marks."""
    layer = FilledMasks([*MARKS, "a", "b", "##c", "."], top)
    found = layer(*(tf.constant(each, tf.int32) for each in (tokens, segments, positions)), tf.constant(logits, tf.float32))
    return {name: each.numpy() for name, each in found.items()}


def test_masks_are_filled_with_the_likeliest_pieces_that_are_no_marks():
    logits = np.zeros((1, 2, 9))
    logits[0, 0, [0, 4, 7, 5]] = 9, 8, np.log(6), np.log(2)  # e^0 for b and the stop, too: 10 in all
    logits[0, 1, 6] = 9
    found = filled([[2, 5, 4, 4, 8, 3]], [[0] * 6], [[2, 3]], logits)
    assert found["filled"].tolist() == [b"ac b."]
    assert found["candidates"][0, 0].tolist() == [b"##c", b"a"]
    np.testing.assert_allclose(found["probabilities"][0, 0], [0.6, 0.2], rtol=1e-5)


def test_two_texts_are_parted_and_one_is_not():
    tokens, segments = [[2, 5, 3, 6, 3], [2, 5, 6, 3, 3], [2, 5, 3, 0, 0]], [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    found = filled(tokens, segments, np.zeros((3, 0)), np.zeros((3, 0, 9)))
    assert found["filled"].tolist() == [b"a ||| b", b"a b", b"a"]


def test_after_the_last_mask_of_a_text_there_are_no_candidates():
    found = filled([[2, 4, 3], [2, 5, 3]], np.zeros((2, 3)), [[1], [0]], np.ones((2, 1, 9)))
    assert found["candidates"][1].tolist() == [[b"", b""]]
    assert not found["probabilities"][1].any()
    assert found["filled"][1] == b"a"


def test_there_are_no_more_candidates_than_pieces_that_are_no_marks():
    assert filled([[2, 4, 3]], [[0] * 3], [[1]], np.zeros((1, 1, 9)), top=7)["candidates"].shape == (1, 1, 4)


def test_the_layers_are_made_again_from_their_configuration():
    for layer in (MaskPositions(4), FilledMasks(PIECES, 3)):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert again.get_config() == layer.get_config()
