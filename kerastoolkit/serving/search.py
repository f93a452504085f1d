"""Searches for a text token by token, inside the graph: beam search, the likeliest token, or draws at random."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kerastoolkit.serving.byte_pairs import END, FIRST_BYTE, PADDING, START

IMPOSSIBLE = -1e9  # a logarithm of a probability of 0 with which one can reckon
WITHIN_CHARACTER = (FIRST_BYTE + 0x80, FIRST_BYTE + 0xC0)  # tokens of bytes that go on with a character: from, and up to before

Advance = Callable[[Any, Any, Any], tuple[Any, Any]]


def beam_search(advance: Advance, state: Any, *, widths: Any, limits: Any, penalties: Any) -> tuple[Any, Any]:
    """The likeliest text that a beam finds: Wu et al. 2016, section 7, https://arxiv.org/abs/1609.08144, without the coverage
    penalty.

    Scores are the logarithm of a text's probability divided by ((5 + tokens) / 6) ** penalty, the end counted. A text ends with
    END, at the latest as token number ``limit``.

    Args:
        advance: (tokens (batch, beams), state, position) -> (gains (batch, beams, vocabulary) as ``gains_of`` gives them for what
            comes next, new state).
        state: any structure of tensors (batch, beams, ...), with as many beams as the widest has.
        widths: (batch,) int32, texts that are followed at once; 1 takes the likeliest token each time (greedy).
        limits: (batch,) int32, at least 1.
        penalties: (batch,) float32.
    Returns:
        tokens (batch, longest) int32 with END and then PADDING; scores (batch,) float32.
    """
    batch, beams = tf.shape(widths)[0], tf.reduce_max(widths)
    inside = tf.range(beams)[None] < widths[:, None]  # (b, beams)
    greedy = widths[:, None] == 1  # where the likeliest token is the end, that is the end
    flat = tf.nest.flatten(state)

    def normalised(likelihoods, length):
        return likelihoods / ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** penalties[:, None]

    def body(t, tokens, likelihoods, ended, end_scores, *flat):
        gains, new_state = advance(tokens[:, :, -1], tf.nest.pack_sequence_as(state, flat), t)
        size = tf.shape(gains)[2]
        gains = ending(gains, (t + 1 >= limits)[:, None, None])
        totals = likelihoods[:, :, None] + gains
        # Twice as many as are followed: should all that are followed end, as many are left to go on with.
        best, places = tf.math.top_k(tf.reshape(totals, (batch, beams * size)), 2 * beams)
        parents, chosen = places // size, places % size
        grown = tf.concat([tf.gather(tokens, parents, batch_dims=1), chosen[:, :, None]], axis=2)
        is_end = chosen == END
        # Those that end here compete with those that have ended.
        among = tf.range(2 * beams)[None] < tf.where(greedy, 1, 2 * widths[:, None])
        new_scores = tf.where(is_end & among & (best > IMPOSSIBLE / 2), normalised(best, t + 1), IMPOSSIBLE)
        scores = tf.concat([end_scores[:, None], new_scores], axis=1)
        winner = tf.argmax(scores, axis=1, output_type=tf.int32)
        everything = tf.concat([tf.pad(ended, ((0, 0), (0, 1)))[:, None], grown], axis=1)
        ended, end_scores = tf.gather(everything, winner, batch_dims=1), tf.gather(scores, winner, batch_dims=1)
        # The others go on.
        likelihoods, order = tf.math.top_k(tf.where(is_end, IMPOSSIBLE, best), beams)
        likelihoods = tf.where(inside & ~(greedy & is_end[:, :1]), likelihoods, IMPOSSIBLE)
        tokens = tf.gather(grown, order, batch_dims=1)
        parents = tf.gather(parents, order, batch_dims=1)
        flat = [tf.gather(each, parents, batch_dims=1) for each in tf.nest.flatten(new_state)]
        return t + 1, tokens, likelihoods, ended, end_scores, *flat

    def goes_on(t, tokens, likelihoods, ended, end_scores, *flat):
        # A text that goes on loses likelihood, and at best the whole length divides it.
        hoped = normalised(tf.reduce_max(likelihoods, axis=1, keepdims=True), limits[:, None])[:, 0]
        return tf.reduce_any((t < limits) & (hoped > end_scores))

    tokens = tf.fill((batch, beams, 1), START)
    # One beginning, not the same one n times.
    likelihoods = tf.tile(tf.where(tf.range(beams) == 0, 0.0, IMPOSSIBLE)[None], (batch, 1))
    begin = (tf.constant(0), tokens, likelihoods, tf.fill((batch, 1), START), tf.fill((batch,), IMPOSSIBLE), *flat)
    shapes = tuple(_shape_of(each) for each in begin)
    _, _, _, ended, scores, *_ = tf.while_loop(goes_on, body, begin, shape_invariants=shapes)
    return ended[:, 1:], scores


def sample(advance: Advance, state: Any, *, temperature: Any, top_k: Any, top_p: Any, limits: Any,
           seeds: Any) -> tuple[Any, Any]:  # fmt: skip
    """A text drawn token by token among the likeliest: Fan et al. 2018, https://arxiv.org/abs/1805.04833, for ``top_k``, and
    Holtzman et al. 2019, https://arxiv.org/abs/1904.09751, for ``top_p``.

    Args:
        advance: as for ``beam_search``, with one beam.
        state: as there.
        temperature: (batch,) float32, more than 0: the gains are divided by it.
        top_k: (batch,) int32: draw among that many of the likeliest; 0 for all.
        top_p: (batch,) float32 in (0, 1]: draw among the fewest whose probabilities sum to it.
        limits: (batch,) int32, at least 1.
        seeds: (batch,) int32: the same seed gives the same text, whatever else is in the batch.
    Returns:
        tokens (batch, longest) int32 with END and then PADDING; the logarithms of their probabilities (batch,) float32, before
        temperature and choice.
    """
    batch, flat = tf.shape(limits)[0], tf.nest.flatten(state)

    def body(t, tokens, likelihoods, *flat):
        gains, new_state = advance(tokens[:, -1:], tf.nest.pack_sequence_as(state, flat), t)
        gains = gains[:, 0]
        size = tf.shape(gains)[1]
        values, order = tf.math.top_k(ending(gains, (t + 1 >= limits)[:, None]), size)  # the likeliest first
        # Divided as distances from the likeliest: no temperature makes what is impossible possible, or anything infinite.
        possible = values > IMPOSSIBLE / 2
        values = tf.where(possible, (values - values[:, :1]) / temperature[:, None], -math.inf)
        sums = tf.cumsum(tf.nn.softmax(values), axis=1, exclusive=True)  # probability of those before
        kept = possible & (sums < top_p[:, None]) & (tf.range(size)[None] < tf.where(top_k < 1, size, top_k)[:, None])
        ends = tf.cumsum(tf.nn.softmax(tf.where(kept, values, -math.inf)), axis=1)

        def draw(seed):
            return tf.random.stateless_uniform((), tf.stack([seed, t]))

        chance = tf.map_fn(draw, seeds, fn_output_signature=tf.float32)[:, None]
        place = tf.reduce_sum(tf.cast((ends <= chance * ends[:, -1:]) & kept, tf.int32), axis=1)
        chosen = tf.gather(order, tf.minimum(place, size - 1), batch_dims=1)
        over = (tokens[:, -1] == END) | (tokens[:, -1] == PADDING)
        chosen = tf.where(over, PADDING, chosen)
        likelihoods = tf.where(over, likelihoods, likelihoods + tf.gather(gains, chosen, batch_dims=1))
        return t + 1, tf.concat([tokens, chosen[:, None]], axis=1), likelihoods, *tf.nest.flatten(new_state)

    def goes_on(t, tokens, *_):
        return tf.reduce_any((tokens[:, -1] != END) & (tokens[:, -1] != PADDING))

    begin = (tf.constant(0), tf.fill((batch, 1), START), tf.zeros((batch,)), *flat)
    shapes = tuple(_shape_of(each) for each in begin)
    _, tokens, likelihoods, *_ = tf.while_loop(goes_on, body, begin, shape_invariants=shapes)
    return tokens[:, 1:], likelihoods


def _shape_of(tensor: Any) -> tf.TensorShape:
    """What a loop may rely on of a tensor's shape: not the first two sizes, batch and texts, and not one that is 0 at first and
    grows; of tokens, no size at all."""
    known = tensor.dtype != tf.int32
    return tf.TensorShape([size if known and place > 1 and size else None for place, size in enumerate(tensor.shape)])


def without_repeats(advance: Advance, state: Any, *, number: int | Any, sizes: Any) -> tuple[Advance, Any]:
    """So many tokens in a row are not written twice: Paulus et al. 2017, section 2.5, https://arxiv.org/abs/1705.04304. There the
    tokens are words, and three in a row; here a character that takes several tokens is not left without its end.

    Args:
        advance, state: as for ``beam_search``.
        number: beams of that state.
        sizes: (batch,) int32; 0 where anything may be repeated.
    Returns:
        ``advance`` whose gains of repetitions are IMPOSSIBLE and all others what they were, and the state that it begins with.
    """

    def forbidden(gains, followers, same):
        shape, size = tf.shape(followers), tf.shape(gains)[2]
        repeats = (sizes > 0)[:, None, None] & (same >= sizes[:, None, None] - 1)
        repeats &= (followers < WITHIN_CHARACTER[0]) | (followers >= WITHIN_CHARACTER[1])
        rows = tf.reshape(tf.range(shape[0] * shape[1]), (shape[0], shape[1], 1))
        found = tf.math.unsorted_segment_sum(tf.cast(repeats, tf.int32), rows * size + followers, shape[0] * shape[1] * size)
        return tf.where(tf.reshape(found, tf.shape(gains)) > 0, IMPOSSIBLE, gains)

    def advance_without(tokens, state, position):
        written, same, state = state
        gains, state = advance(tokens, state, position)
        latest = tokens[:, :, None]
        # How many of the tokens up to each place are those written last: one more than up to the place before, or none.
        same = tf.where(written == latest, tf.pad(same, ((0, 0), (0, 0), (1, 0)))[:, :, :-1] + 1, 0)
        written = tf.concat([written, latest], axis=2)
        gains = tf.cond(tf.reduce_any(sizes > 0), lambda: forbidden(gains, written[:, :, 1:], same), lambda: gains)
        return gains, (written, tf.pad(same, ((0, 0), (0, 0), (0, 1))), state)

    nothing = tf.zeros((tf.shape(sizes)[0], number, 0), tf.int32)
    return advance_without, (nothing, nothing, state)


def gains_of(logits: Any) -> Any:
    """Logits (..., vocabulary) -> logarithms of probabilities, of which padding and start have none: they are never written."""
    token = tf.range(tf.shape(logits)[-1])
    return tf.nn.log_softmax(tf.where((token == PADDING) | (token == START), IMPOSSIBLE, logits))


def ending(values: Any, must_end: Any) -> Any:
    """Values (..., vocabulary) of the next token, where ``must_end`` of none but END: it costs what it would cost anyway."""
    return tf.where(must_end & (tf.range(tf.shape(values)[-1]) != END), IMPOSSIBLE, values)
