"""Milliseconds a training step of four builders in float32 and in mixed bfloat16, on one GPU under JAX or PyTorch.

    KERAS_BACKEND=jax python benchmarks/mixed_precision.py [--rounds 5] [--steps 30] [--json FILE]

Keras' ``train_on_batch`` with gradient descent on one batch of random numbers that is copied to the device in each step. Both
networks are in memory and take turns in each round; the ratios are taken within the rounds. float32 is what the backend makes of
it: JAX's products on a GPU are in TF32. Where there is no GPU the networks are tiny, which shows no more than that all runs.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
PRECISIONS = ("float32", "mixed_bfloat16")


def on_gpu():
    if os.environ["KERAS_BACKEND"] == "jax":
        import jax

        return jax.default_backend() == "gpu"
    if os.environ["KERAS_BACKEND"] == "torch":
        import torch

        return torch.cuda.is_available()
    return False


def builders(large):
    """By name a function: () -> (network, inputs, labels)."""
    import numpy as np

    from kerastoolkit import models

    random = np.random.default_rng(0)

    def resnet50():
        batch, side = (128, 224) if large else (2, 32)
        network = models.resnet50(classes=1000, input_shape=(side, side, 3))
        return network, random.normal(size=(batch, side, side, 3)).astype("float32"), random.integers(0, 1000, batch)

    def unet():
        batch, side = (16, 256) if large else (1, 32)
        network = models.unet(classes=21, input_shape=(side, side, 3), batch_norm=True)
        pixels = random.normal(size=(batch, side, side, 3)).astype("float32")
        return network, pixels, random.integers(0, 21, (batch, side, side))

    def bert():
        batch, length = (64, 128) if large else (2, 16)
        shape = {"depth": 12, "width": 768, "heads": 12} if large else {"depth": 1, "width": 32, "heads": 2}
        network = models.bert_classifier(classes=2, vocabulary=30_522, positions=512, **shape)
        tokens = random.integers(1, 30_000, (batch, length))
        return network, {"tokens": tokens, "segments": 0 * tokens}, random.integers(0, 2, batch)

    def transformer():
        batch, length = (64, 64) if large else (2, 16)
        shape = {"depth": 6, "width": 512, "heads": 8, "feed_forward": 2048} if large else {"depth": 1, "width": 32, "heads": 2,
                                                                                         "feed_forward": 64}  # fmt: skip
        network = models.transformer(source_vocabulary=37_000, target_vocabulary=37_000, **shape)
        texts = {name: random.integers(1, 37_000, (batch, length)) for name in ("source_tokens", "target_tokens")}
        return network, texts, texts["target_tokens"]

    return {each.__name__: each for each in (resnet50, unet, bert, transformer)}


def compiled(build, precision):
    """A network of that precision, after its first step: (network, inputs, labels, the first loss)."""
    import keras

    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(0)
    network, inputs, labels = build()
    network.compile(keras.optimizers.SGD(1e-3, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return network, inputs, labels, float(network.train_on_batch(inputs, labels))


def measured(build, rounds, steps):
    import numpy as np

    ready = {precision: compiled(build, precision) for precision in PRECISIONS}
    took = {precision: [] for precision in PRECISIONS}
    for _ in range(rounds):
        for precision, (network, inputs, labels, _) in ready.items():
            began = time.perf_counter()
            for _ in range(steps):
                loss = network.train_on_batch(inputs, labels)
            assert np.isfinite(float(loss))
            took[precision].append(1000 * (time.perf_counter() - began) / steps)
    ratios = [whole / mixed for whole, mixed in zip(*took.values(), strict=True)]
    return {
        "parameters": ready["float32"][0].count_params(),
        "milliseconds": {precision: statistics.median(each) for precision, each in took.items()},
        "first_loss": {precision: each[-1] for precision, each in ready.items()},
        "speed_up": [statistics.median(ratios), min(ratios), max(ratios)],
    }  # fmt: skip


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=30)
    options.add_argument("--json", metavar="FILE")
    options = options.parse_args()
    large, results = on_gpu(), {}
    for name, build in builders(large).items():
        results[name] = measured(build, options.rounds, options.steps if large else 2)
        print(name, json.dumps(results[name]), flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
