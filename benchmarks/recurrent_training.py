"""Sequences a second in training recurrent networks: this toolkit, stock Keras ``fit``, and PyTorch.

    python benchmarks/recurrent_training.py [--network forecaster|language] [--cell lstm|gru] [--rounds 5] [--json FILE]

``forecaster`` is the network of the weather recipes (64 units, windows of 72 rows of 11 numbers, 24 steps ahead, batches of 64,
absolute error), ``language`` that of the Shakespeare recipes (512 units, windows of 128 of 67 tokens, batches of 32, softmax
cross-entropy). All three train the same architecture on the same random examples held in memory, shuffled, by Adam with the
gradient's norm clipped to 1, in 32-bit floats on the CPU, without dropout. ``toolkit`` runs the compiled loop and the pipeline of
``kerastoolkit train``, with operations in a fixed order and the check for values that are not finite; ``no_xla`` is the same with
no loop compiled by XLA, ``whole_step_xla`` with all of the step in one XLA program. ``keras`` runs ``fit`` with Keras' own layers
and settings. They run in turn, each in a process of its own, which warms up first; the ratios are taken within each round.
"""

import os
import time

import _rounds as rounds

EXAMPLES = 4_096
SETTINGS = {
    "forecaster": {"batch": 64, "window": 72, "features": 11, "horizon": 24, "units": 64},
    "language": {"batch": 32, "window": 128, "tokens": 67, "embedding": 64, "units": 512},
}


def data(network):
    import numpy as np

    how, generator = SETTINGS[network], np.random.default_rng(0)
    if network == "language":
        tokens = generator.integers(2, how["tokens"], (EXAMPLES, how["window"] + 1)).astype(np.int32)
        return tokens[:, :-1], tokens[:, 1:]
    x = generator.normal(size=(EXAMPLES, how["window"], how["features"])).astype(np.float32)
    return x, generator.normal(size=(EXAMPLES, how["horizon"], 1)).astype(np.float32)


def build(network, cell, jit_compile=None):
    from kerastoolkit.models import recurrent_forecaster, recurrent_language_model

    how = SETTINGS[network]
    if network == "language":
        sizes = {"vocabulary": how["tokens"], "embedding": how["embedding"]}
        return recurrent_language_model(cell=cell, units=how["units"], jit_compile=jit_compile, **sizes)
    sizes = {"window": how["window"], "features": how["features"], "horizon": how["horizon"]}
    return recurrent_forecaster(cell=cell, units=how["units"], jit_compile=jit_compile, **sizes)


def toolkit(network, cell, steps, warm_up, *, loops=None, whole_step=False):
    import keras
    import tensorflow as tf

    from kerastoolkit.determinism import keep_order

    keep_order()  # as every training does
    keras.utils.set_random_seed(0)
    from kerastoolkit.experiment import Data, Experiment, Source
    from kerastoolkit.pipeline import training_batches
    from kerastoolkit.steps import compile_steps
    from kerastoolkit.training_state import State

    x, y = map(tf.constant, data(network))
    source = Source(EXAMPLES, lambda indices: {"x": tf.gather(x, indices), "y": tf.gather(y, indices)})
    model = build(network, cell, jit_compile=loops)
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name, name="x")

    class Job:
        """As much of a task as training asks for."""

        metrics = {}
        encode = staticmethod(lambda truths, inputs, side_outputs, seeds: ({}, truths["y"]))
        loss = staticmethod(lambda targets, outputs: losses(network, targets, outputs))

    experiment = Experiment(
        data=Data("random", source, source, source, ("x",), False, {}), network=model, task=Job, epochs=1,
        preprocess=keras.Model(inputs, keras.layers.Identity()(inputs)), batch_size=SETTINGS[network]["batch"],
        optimizer=keras.optimizers.Adam(1e-3, global_clipnorm=1.0), jit_compile=whole_step)  # fmt: skip
    run_steps = compile_steps(State(experiment))
    batches = iter(training_batches(experiment, seed=0, start=0, end=warm_up + steps))
    run_steps(batches, tf.constant(warm_up))
    began = time.perf_counter()
    for _ in range(steps // 10):
        run_steps(batches, tf.constant(10))
    return time.perf_counter() - began


def losses(network, targets, outputs):
    from keras import ops

    from kerastoolkit.losses import mean_per_example, softmax_cross_entropy

    if network == "language":
        return mean_per_example(softmax_cross_entropy(targets, outputs))
    return mean_per_example(ops.abs(targets - outputs))


def stock_keras(network, cell, steps, warm_up):
    import keras
    import tensorflow as tf

    import kerastoolkit.models.recurrent as recurrent

    stock = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
    recurrent._CELLS[cell] = lambda units, jit_compile, **how: stock[cell](units, **how)
    model = build(network, cell)
    assert type(model.get_layer(f"{cell}_1")) is stock[cell]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if network == "language" else "mae"
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0), loss)
    batches = tf.data.Dataset.from_tensor_slices(data(network)).shuffle(EXAMPLES).repeat()
    batches = batches.batch(SETTINGS[network]["batch"], drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    model.fit(batches, steps_per_epoch=warm_up, verbose=0)
    ended = []
    # Not when ``fit`` returns: letting go of its iterator can wait for seconds on tf.data's tuning, whatever the network.
    note_end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(time.perf_counter()))
    began = time.perf_counter()
    model.fit(batches, steps_per_epoch=steps, verbose=0, callbacks=[note_end])
    return ended[0] - began


def pytorch(network, cell, steps, warm_up):
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    how = SETTINGS[network]
    kind = {"simple_rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            language = network == "language"
            self.embedding = nn.Embedding(how["tokens"], how["embedding"]) if language else nn.Identity()
            self.recurrent = kind(how["embedding"] if language else how["features"], how["units"], batch_first=True)
            self.dense = nn.Linear(how["units"], how["tokens"] if language else how["horizon"])

        def forward(self, x):
            outputs, _ = self.recurrent(self.embedding(x))
            return self.dense(outputs) if network == "language" else self.dense(outputs[:, -1])[..., None]

    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = map(torch.from_numpy, data(network))
    y = y.long() if network == "language" else y

    def step():
        chosen = torch.randint(0, EXAMPLES, (how["batch"],))
        optimizer.zero_grad(set_to_none=True)
        outputs = model(x[chosen])
        if network == "language":
            loss = functional.cross_entropy(outputs.flatten(0, 1), y[chosen].flatten())
        else:
            loss = functional.l1_loss(outputs, y[chosen])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for _ in range(warm_up):
        step()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - began


CONTESTANTS = {
    "toolkit": toolkit, "keras": stock_keras, "torch": pytorch,
    "no_xla": lambda *how: toolkit(*how, loops=False), "whole_step_xla": lambda *how: toolkit(*how, whole_step=True),
}  # fmt: skip


def main():
    parser = rounds.parser(__doc__, CONTESTANTS)
    parser.add_argument("--network", choices=SETTINGS, default="forecaster")
    parser.add_argument("--cell", choices=("lstm", "gru", "simple_rnn"), default="lstm")
    parser.add_argument("--steps", type=int, help="a multiple of 10  [default: 200 or 20]")
    options = parser.parse_args()
    steps = options.steps or (200 if options.network == "forecaster" else 20)
    if options.run:
        seconds = CONTESTANTS[options.run](options.network, options.cell, steps, max(4, steps // 10))
        return print(steps * SETTINGS[options.network]["batch"] / seconds)
    arguments = ["--steps", str(steps), "--network", options.network, "--cell", options.cell]
    rounds.compare(__file__, options, arguments, "sequences_per_second")


if __name__ == "__main__":
    main()
