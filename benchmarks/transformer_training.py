"""Tokens a second in training a Transformer on sentence pairs: this toolkit, keras_hub with Keras' ``fit``, and PyTorch.

    python benchmarks/transformer_training.py [--data multi30k] [--dropout 0] [--rounds 5] [--json FILE] [--only NAME ...]

All train the network of the recipe multi30k-transformer (another width and depth with ``--width`` and ``--depth``) on the same
sentence pairs in the same sub-words, by Adam on a label-smoothed cross-entropy, in 32-bit floats on the CPU. What counts are
real tokens, of source and target, never padding. ``toolkit`` runs the compiled loop and the pipeline of ``kerastoolkit train``,
with tokenising, operations in a fixed order and the check for values that are not finite. ``keras_hub`` is made of its
TransformerEncoder, TransformerDecoder and SinePositionEncoding and trained by ``fit``; ``torch`` is ``torch.nn.Transformer`` with
its usual loop. Both get tokens that were made before, in random batches of as many pairs as the toolkit's have on average, padded
to the longest. ``keras_hub_by_length`` and ``torch_by_length`` get the very batches of the toolkit. Dropout is 0 unless said
otherwise, because theirs falls on attention weights, too. They run in turn, each in a process of its own, which warms up first;
the ratios are taken within each round.
"""

import functools
import time

import _rounds as rounds

BATCH_TOKENS, SMOOTHING, HEADS = 2048, 0.1, 4


def experiment(how):
    import os

    import keras

    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    from kerastoolkit.determinism import keep_order

    keep_order()  # as every training does
    keras.utils.set_random_seed(0)
    from kerastoolkit import catalog
    from kerastoolkit.memory import keep_freed_memory

    keep_freed_memory()
    recipe = catalog.load(catalog.find_recipe("multi30k-transformer"))
    return recipe(data=how.data, width=how.width, depth=how.depth, heads=HEADS, feed_forward=how.feed_forward,
                  dropout=how.dropout, batch_tokens=BATCH_TOKENS, smoothing=SMOOTHING, norm_first=True)  # fmt: skip


def batches(made, how, by_length):
    """(source tokens, target tokens) of each step as NumPy arrays, padded: those of the warm-up first."""
    import numpy as np

    from kerastoolkit.pipeline import batches_of, call

    train, plan = made.data.train, batches_of(made)
    total = how.steps + how.warm_up
    if by_length:
        chosen = [indices for indices, _ in plan.of_steps(seed=0, start=0, end=total)]
    else:
        size, generator = round(train.size / plan.steps), np.random.default_rng(0)
        chosen = [generator.choice(train.size, size, replace=False) for _ in range(total)]
    found = []
    for indices in chosen:
        raw = train.fetch(indices)
        found.append((call(made.preprocess, raw)["source_tokens"].numpy(), raw["target_tokens"].numpy()))
    return found


def tokens(pairs):
    return sum(int((source > 0).sum() + (target > 0).sum()) for source, target in pairs)


def toolkit(how):
    import tensorflow as tf

    made = experiment(how)
    from kerastoolkit.pipeline import training_batches
    from kerastoolkit.steps import compile_steps
    from kerastoolkit.training_state import State

    count = tokens(batches(made, how, by_length=True)[how.warm_up :])
    run_steps = compile_steps(State(made))
    steps = iter(training_batches(made, seed=0, start=0, end=how.warm_up + how.steps))
    run_steps(steps, tf.constant(how.warm_up))
    began = time.perf_counter()
    run_steps(steps, tf.constant(how.steps))
    return count / (time.perf_counter() - began)


def keras_hub(how, by_length):
    import keras
    import keras_hub
    import tensorflow as tf
    from keras import layers, ops

    made = experiment(how)
    pairs = batches(made, how, by_length)
    vocabulary = made.network.output.shape[-1]

    def embedded(tokens, embedding):
        x = embedding(tokens) * how.width**0.5
        return layers.Dropout(how.dropout)(x + keras_hub.layers.SinePositionEncoding()(x))

    block = {"intermediate_dim": how.feed_forward, "num_heads": HEADS, "dropout": how.dropout, "normalize_first": True}
    source, target = (keras.Input((None,), dtype="int32", name=name) for name in ("source", "target"))
    embedding = keras_hub.layers.ReversibleEmbedding(vocabulary, how.width)
    mask = ops.not_equal(source, 0)
    x = embedded(source, embedding)
    for _ in range(how.depth):
        x = keras_hub.layers.TransformerEncoder(**block)(x, padding_mask=mask)
    memory = layers.LayerNormalization(epsilon=1e-5)(x)
    x = embedded(target, embedding)
    for _ in range(how.depth):
        x = keras_hub.layers.TransformerDecoder(**block)(x, memory, encoder_padding_mask=mask)
    logits = embedding(layers.LayerNormalization(epsilon=1e-5)(x), reverse=True)
    model = keras.Model([source, target], logits)
    assert model.count_params() == made.network.count_params(), (model.count_params(), made.network.count_params())

    def loss(tokens, logits):
        spread = ops.one_hot(tokens, vocabulary) * (1 - SMOOTHING) + SMOOTHING / vocabulary
        here = ops.cast(tokens != 0, "float32")
        return ops.sum(ops.categorical_crossentropy(spread, logits, from_logits=True) * here) / ops.sum(here)

    model.compile(keras.optimizers.Adam(1e-3, beta_2=0.98, epsilon=1e-9), loss)
    columns = list(zip(*pairs, strict=True))
    flat = [tf.concat([tf.reshape(each, (-1,)) for each in column], 0) for column in columns]
    ragged = [tf.RaggedTensor.from_row_lengths(values, [each.size for each in column])
              for values, column in zip(flat, columns, strict=True)]  # fmt: skip
    widths = [tf.constant([each.shape[1] for each in column]) for column in columns]

    def prepared(flat_source, flat_target, source_width, target_width):
        source, written = tf.reshape(flat_source, (-1, source_width)), tf.reshape(flat_target, (-1, target_width))
        return (source, tf.concat([tf.ones_like(written[:, :1]), written[:, :-1]], axis=1)), written

    made_batches = tf.data.Dataset.from_tensor_slices((*ragged, *widths)).map(prepared).prefetch(4)
    model.fit(made_batches.take(how.warm_up), verbose=0)
    ended = []
    note_end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(time.perf_counter()))
    timed = made_batches.skip(how.warm_up)
    began = time.perf_counter()
    model.fit(timed, verbose=0, callbacks=[note_end])
    return tokens(pairs[how.warm_up :]) / (ended[0] - began)


def pytorch(how, by_length):
    import os

    import torch
    from torch import nn
    from torch.nn import functional

    made = experiment(how)
    pairs = batches(made, how, by_length)
    vocabulary = made.network.output.shape[-1]
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            block = {"d_model": how.width, "nhead": HEADS, "dim_feedforward": how.feed_forward, "dropout": how.dropout,
                     "batch_first": True, "norm_first": True}  # fmt: skip
            self.embedding = nn.Embedding(vocabulary, how.width)
            self.drop = nn.Dropout(how.dropout)
            self.transformer = nn.Transformer(num_encoder_layers=how.depth, num_decoder_layers=how.depth, **block)
            place = torch.arange(1024)[:, None]
            rate = torch.exp(torch.arange(0, how.width, 2) * (-torch.log(torch.tensor(10000.0)) / how.width))
            self.register_buffer("positions", torch.stack([torch.sin(place * rate), torch.cos(place * rate)], -1).flatten(1))

        def embedded(self, tokens):
            return self.drop(self.embedding(tokens) * how.width**0.5 + self.positions[: tokens.shape[1]])

        def forward(self, source, target):
            length, nothing = target.shape[1], source == 0
            causal = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
            x = self.transformer(self.embedded(source), self.embedded(target), tgt_mask=causal, tgt_is_causal=True,
                                 src_key_padding_mask=nothing, memory_key_padding_mask=nothing)  # fmt: skip
            return functional.linear(x, self.embedding.weight)

    model = Network()
    assert sum(each.numel() for each in model.parameters()) == made.network.count_params()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, (0.9, 0.98), 1e-9)
    held = [(torch.from_numpy(source).long(), torch.from_numpy(target).long()) for source, target in pairs]

    def step(source, target):
        shifted = torch.cat([torch.ones_like(target[:, :1]), target[:, :-1]], 1)
        optimizer.zero_grad(set_to_none=True)
        logits = model(source, shifted)
        loss = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0, label_smoothing=SMOOTHING)
        loss.backward()
        optimizer.step()

    for pair in held[: how.warm_up]:
        step(*pair)
    began = time.perf_counter()
    for pair in held[how.warm_up :]:
        step(*pair)
    return tokens(pairs[how.warm_up :]) / (time.perf_counter() - began)


CONTESTANTS = {
    "toolkit": toolkit,
    "keras_hub": functools.partial(keras_hub, by_length=False),
    "torch": functools.partial(pytorch, by_length=False),
    "keras_hub_by_length": functools.partial(keras_hub, by_length=True),
    "torch_by_length": functools.partial(pytorch, by_length=True),
}


def main():
    parser = rounds.parser(__doc__, CONTESTANTS)
    parser.set_defaults(only=list(CONTESTANTS))
    parser.add_argument("--data", default="multi30k", help="as for the recipe")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--feed-forward", type=int, default=256)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--warm-up", type=int, default=6)
    options = parser.parse_args()
    if options.run:
        return print(CONTESTANTS[options.run](options))
    names = ("data", "width", "feed_forward", "depth", "dropout", "steps", "warm_up")
    arguments = [text for name in names for text in (f"--{name.replace('_', '-')}", str(getattr(options, name)))]
    rounds.compare(__file__, options, arguments, "tokens_per_second")


if __name__ == "__main__":
    main()
