"""Images a second in training a variational autoencoder: this toolkit, and the same network through stock Keras ``fit``.

    python benchmarks/vae_training.py [--network NAME] [--rounds 5] [--steps 100] [--only NAME ...] [--json FILE]

``--network`` is dense, the recipe mnist-vae (latent 2, batches of 128); convolutional, the same recipe with a network like
keras.io's; or binary, the recipe binary-mnist-vae (latent 50, batches of 250, binarised anew in each epoch). All
contestants train it on the same 12,800 random images held in memory, by Adam, in 32-bit floats on the CPU; the loss, and the
divergence with it, come from the same layers. ``toolkit`` runs the compiled loop and the pipeline of ``kerastoolkit train``, with
operations in a fixed order and the check for values that are not finite. ``keras`` runs ``fit`` over a tf.data pipeline as it
comes, which on a CPU is without XLA; ``keras_xla`` is told to compile the step. They run in turn, each in a process of its own,
which warms up first; the ratios are taken within each round.
"""

import time

import _rounds as rounds

IMAGES, WARM_UP = 12_800, 20
RECIPES = {"dense": ("mnist-vae", {}), "convolutional": ("mnist-vae", {"filters": (32, 64), "hidden": (16,)}),
           "binary": ("binary-mnist-vae", {})}  # fmt: skip


def data():
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28, 1), dtype=np.uint8)


def experiment(network):
    """The recipe with the random images in the place of its training split."""
    import dataclasses

    import tensorflow as tf

    from kerastoolkit import catalog, train
    from kerastoolkit.experiment import Source

    name, settings = RECIPES[network]
    recipe = catalog.find_recipe(name)
    found = train.build(recipe, catalog.arguments(recipe, settings), 0)  # reads no image
    pixels = tf.constant(data())
    source = Source(IMAGES, lambda indices: {"image": tf.gather(pixels, indices)})
    return dataclasses.replace(found, data=dataclasses.replace(found.data, train=source))


def toolkit(network, steps):
    import tensorflow as tf

    from kerastoolkit.pipeline import training_batches
    from kerastoolkit.steps import compile_steps
    from kerastoolkit.training_state import State

    found = experiment(network)
    run_steps = compile_steps(State(found))
    batches = iter(training_batches(found, seed=0, start=0, end=WARM_UP + steps))
    run_steps(batches, tf.constant(WARM_UP))
    began = time.perf_counter()
    for _ in range(steps // 20):
        run_steps(batches, tf.constant(20))
    return steps * found.batch_size / (time.perf_counter() - began)


def stock_keras(network, steps, jit_compile="auto"):
    import keras
    import tensorflow as tf

    from kerastoolkit import catalog
    from kerastoolkit.losses import bernoulli_nll

    name, settings = RECIPES[network]
    recipe = catalog.find_recipe(name)
    found = catalog.load(recipe)(**settings)  # not by ``train.build``, which fixes the order of operations
    binary = recipe.parameters["binarisation"].default == "sampled"

    def prepared(images):
        images = tf.cast(images, tf.float32) / 255.0
        if binary:
            images = tf.cast(tf.random.uniform(tf.shape(images)) < images, tf.float32)
        return images, {"logits": images}

    batches = tf.data.Dataset.from_tensor_slices(data()).shuffle(IMAGES).repeat().batch(found.batch_size, drop_remainder=True)
    batches = batches.map(prepared, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    model = found.network
    model.compile(keras.optimizers.Adam(1e-3), {"logits": bernoulli_nll}, jit_compile=jit_compile)
    model.fit(batches, steps_per_epoch=WARM_UP, verbose=0)
    ended = []
    # Not when ``fit`` returns: letting go of its iterator can wait for seconds on tf.data's tuning, whatever the network.
    note_end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(time.perf_counter()))
    began = time.perf_counter()
    model.fit(batches, steps_per_epoch=steps, verbose=0, callbacks=[note_end])
    return steps * found.batch_size / (ended[0] - began)


CONTESTANTS = {
    "toolkit": toolkit,
    "keras": stock_keras,
    "keras_xla": lambda network, steps: stock_keras(network, steps, jit_compile=True),
}


def main():
    parser = rounds.parser(__doc__, CONTESTANTS)
    parser.add_argument("--network", choices=RECIPES, default="dense")
    parser.add_argument("--steps", type=int, default=100, help="a multiple of 20")
    options = parser.parse_args()
    if options.run:
        return print(CONTESTANTS[options.run](options.network, options.steps))
    rounds.compare(__file__, options, ["--network", options.network, "--steps", str(options.steps)], "images_per_second")


if __name__ == "__main__":
    main()
