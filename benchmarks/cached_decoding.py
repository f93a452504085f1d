"""Tokens a second in beam search: with what was worked out for the positions before (a key-value cache), and without.

    python benchmarks/cached_decoding.py [--rounds 5] [--json FILE] [--tokens 32] [--sentences 32] [--beams 4]

The network has the sizes of the recipe multi30k-transformer and random weights, so that texts are as long as allowed. ``cached``
is the search of the exports, without the rule against repetitions; ``uncached`` the same search with the whole network run on the
whole of each text for each token. A contestant stops with an error where its texts are not those of the other. They run in turn,
each in a process of its own, which warms up first; the ratio is taken within each round.
"""

import time

import _rounds as rounds

SOURCE_LENGTH, VOCABULARY, REPEATS = 16, 4000, 3


def search(how, cached):
    """The compiled search: source tokens -> (tokens, scores)."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    from kerastoolkit.models import transformer
    from kerastoolkit.serving.decoding import TokenByToken
    from kerastoolkit.serving.search import beam_search, gains_of

    network = transformer(
        source_vocabulary=VOCABULARY, target_vocabulary=VOCABULARY, depth=4, width=128, heads=4, feed_forward=256,
        norm_first=True)  # fmt: skip
    stepwise = TokenByToken(network)

    @tf.function
    def run(source):
        batch = tf.shape(source)[0]
        limits = {"widths": tf.fill((batch,), how.beams), "limits": tf.fill((batch,), how.tokens),
                  "penalties": tf.zeros((batch,))}  # fmt: skip
        if cached:
            constants = stepwise.start(source)
            state = stepwise.first_state(constants, how.beams)

            def advance_by_one(tokens, state, position):
                logits, state = stepwise.step(tokens, constants, state, position)
                return gains_of(logits), state

            return beam_search(advance_by_one, state, **limits)
        again = tf.repeat(source, how.beams, axis=0)

        def advance(tokens, state, position):
            written = tf.concat([state[0], tokens[:, :, None]], axis=2)
            logits = network([again, tf.reshape(written, (batch * how.beams, -1))])[:, -1]
            return gains_of(tf.reshape(logits, (batch, how.beams, -1))), [written]

        return beam_search(advance, [tf.zeros((batch, how.beams, 0), tf.int32)], **limits)

    return run


def measure(how, cached):
    import numpy as np
    import tensorflow as tf

    run = search(how, cached)
    source = tf.constant(np.random.default_rng(0).integers(3, VOCABULARY, (how.sentences, SOURCE_LENGTH)), tf.int32)
    tokens, _ = run(source)
    other, _ = search(how, not cached)(source)
    np.testing.assert_array_equal(tokens.numpy(), other.numpy())
    began = time.perf_counter()
    for _ in range(REPEATS):
        run(source)
    return REPEATS * int((tokens.numpy() > 0).sum()) / (time.perf_counter() - began)


CONTESTANTS = {"cached": lambda how: measure(how, True), "uncached": lambda how: measure(how, False)}


def main():
    parser = rounds.parser(__doc__, CONTESTANTS)
    for name, default in (("tokens", 32), ("sentences", 32), ("beams", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    if options.run:
        return print(CONTESTANTS[options.run](options))
    arguments = [text for name in ("tokens", "sentences", "beams") for text in (f"--{name}", str(getattr(options, name)))]
    rounds.compare(__file__, options, arguments, "tokens_per_second")


if __name__ == "__main__":
    main()
