"""Sentences a second in fine-tuning BERT: this toolkit, keras_hub's BERT with Keras' ``fit``, and transformers on PyTorch.

    python benchmarks/bert_training.py [--recipe sst2-bert] [--data sst2] [--dropout 0.1] [--rounds 5] [--json FILE] [--only NAME]

All fine-tune a classifier of MiniLM's shape (6 blocks of width 384, 30,522 word pieces, 22.7 million weights) on the same texts
by AdamW with gradients cut at a norm of 1, in 32-bit floats on the CPU. ``toolkit`` runs the compiled loop and the pipeline of
``kerastoolkit train``, with tokenising, operations in a fixed order and the check for values that are not finite. ``keras_hub``
is its ``BertTextClassifier`` trained by ``fit``, ``transformers`` its ``BertForSequenceClassification`` in PyTorch's usual loop.
Both get tokens that were made before, in random batches of as many texts as the toolkit's have on average, padded to the
longest. ``keras_hub_by_length`` and ``transformers_by_length`` get the very batches of the toolkit. They run in turn, each in a
process of its own, which warms up first; the ratios are taken within each round.
"""

import functools
import time

import _rounds as rounds

SHAPE = {"vocabulary": 30_522, "depth": 6, "width": 384, "heads": 12}
LEARNING_RATE, WEIGHT_DECAY = 5e-5, 0.01


def experiment(how):
    import os

    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras

    from kerastoolkit.determinism import keep_order

    keep_order()  # as every training does
    keras.utils.set_random_seed(0)
    from kerastoolkit import catalog
    from kerastoolkit.memory import keep_freed_memory

    keep_freed_memory()
    # The pooling that the others have.
    return catalog.load(catalog.find_recipe(how.recipe))(data=how.data, dropout=how.dropout, pooling="first")


def batches(made, how, by_length):
    """(tokens, segments, labels) of each step as NumPy arrays, padded: those of the warm-up first."""
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
        read = call(made.preprocess, raw)
        found.append((read["tokens"].numpy(), read["segments"].numpy(), raw["label"].numpy()))
    return found


def texts(steps):
    return sum(len(labels) for _, _, labels in steps)


def toolkit(how):
    import tensorflow as tf

    made = experiment(how)
    from kerastoolkit.pipeline import training_batches
    from kerastoolkit.steps import compile_steps
    from kerastoolkit.training_state import State

    count = texts(batches(made, how, by_length=True)[how.warm_up :])
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

    made = experiment(how)
    steps = batches(made, how, by_length)
    classes = made.network.output.shape[-1]
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=SHAPE["vocabulary"], num_layers=SHAPE["depth"], num_heads=SHAPE["heads"], hidden_dim=SHAPE["width"],
        intermediate_dim=4 * SHAPE["width"], dropout=how.dropout)  # fmt: skip
    model = keras_hub.models.BertTextClassifier(backbone=backbone, num_classes=classes, dropout=how.dropout)
    assert model.count_params() == made.network.count_params(), (model.count_params(), made.network.count_params())
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY, epsilon=1e-6, global_clipnorm=1.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    flat = [tf.ragged.stack([tf.constant(step[place].reshape(-1)) for step in steps]) for place in range(3)]
    widths = tf.constant([tokens.shape[1] for tokens, _, _ in steps])

    def prepared(tokens, segments, labels, width):
        tokens = tf.reshape(tokens, (-1, width))
        inputs = {"token_ids": tokens, "segment_ids": tf.reshape(segments, (-1, width)), "padding_mask": tokens != 0}
        return inputs, labels

    data = tf.data.Dataset.from_tensor_slices((*flat, widths)).map(prepared).prefetch(4)
    model.fit(data.take(how.warm_up), verbose=0)
    ended = []
    note_end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(time.perf_counter()))
    began = time.perf_counter()
    model.fit(data.skip(how.warm_up), verbose=0, callbacks=[note_end])
    return texts(steps[how.warm_up :]) / (ended[0] - began)


def transformers(how, by_length):
    import os

    import torch

    made = experiment(how)
    steps = batches(made, how, by_length)
    from transformers import BertConfig, BertForSequenceClassification

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=SHAPE["vocabulary"], num_hidden_layers=SHAPE["depth"], num_attention_heads=SHAPE["heads"],
        hidden_size=SHAPE["width"], intermediate_size=4 * SHAPE["width"], hidden_dropout_prob=how.dropout,
        attention_probs_dropout_prob=how.dropout, num_labels=made.network.output.shape[-1])  # fmt: skip
    model = BertForSequenceClassification(config).train()
    assert sum(each.numel() for each in model.parameters()) == made.network.count_params()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, eps=1e-6, weight_decay=WEIGHT_DECAY)
    held = [tuple(torch.from_numpy(each).long() for each in step) for step in steps]

    def step(tokens, segments, labels):
        optimizer.zero_grad(set_to_none=True)
        loss = model(tokens, attention_mask=(tokens != 0).long(), token_type_ids=segments, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for each in held[: how.warm_up]:
        step(*each)
    began = time.perf_counter()
    for each in held[how.warm_up :]:
        step(*each)
    return texts(steps[how.warm_up :]) / (time.perf_counter() - began)


CONTESTANTS = {
    "toolkit": toolkit,
    "keras_hub": functools.partial(keras_hub, by_length=False),
    "transformers": functools.partial(transformers, by_length=False),
    "keras_hub_by_length": functools.partial(keras_hub, by_length=True),
    "transformers_by_length": functools.partial(transformers, by_length=True),
}


def main():
    parser = rounds.parser(__doc__, CONTESTANTS)
    parser.set_defaults(only=list(CONTESTANTS))
    parser.add_argument("--recipe", default="sst2-bert", help="sst2-bert or mrpc-bert")
    parser.add_argument("--data", default="sst2", help="as for the recipe")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--warm-up", type=int, default=6)
    options = parser.parse_args()
    if options.run:
        return print(CONTESTANTS[options.run](options))
    names = ("recipe", "data", "dropout", "steps", "warm_up")
    arguments = [text for name in names for text in (f"--{name.replace('_', '-')}", str(getattr(options, name)))]
    rounds.compare(__file__, options, arguments, "texts_per_second")


if __name__ == "__main__":
    main()
