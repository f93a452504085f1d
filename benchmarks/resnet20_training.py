"""Images a second in training ResNet-20 on 32 x 32 images: this toolkit, stock Keras ``fit``, and PyTorch.

    python benchmarks/resnet20_training.py [--rounds 5] [--steps 60] [--only NAME ...] [--json FILE]

All three train the same network (He et al. 2015, option A) on the same 8,192 random images held in memory, in batches of 128
with padding, crops and flips, by stochastic gradient descent with momentum 0.9 and weight decay, in 32-bit floats on the CPU.
``toolkit`` runs the compiled loop and the pipeline of ``kerastoolkit train``, with operations in a fixed order and the check for
values that are not finite. ``keras`` runs ``fit`` over a tf.data pipeline with Keras' own batch normalization; it crops a whole
batch alike, which is cheaper than what the others do. ``torch`` runs a plain loop with vectorised augmentation, channels last.
They run in turn, each in a process of its own, which warms up first; the ratios are taken within each round.
"""

import os
import time

import _rounds as rounds

BATCH, IMAGES, WARM_UP = 128, 8_192, 10


def data():
    import numpy as np

    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8), generator.integers(0, 10, IMAGES)


def experiment_on_random_images():
    """The recipe cifar10-resnet20 with the random images in the place of its training split."""
    import dataclasses

    import tensorflow as tf

    from kerastoolkit import catalog, train
    from kerastoolkit.experiment import Source

    recipe = catalog.find_recipe("cifar10-resnet20")
    experiment = train.build(recipe, catalog.arguments(recipe, {}), 0)  # reads no image
    pixels, labels = map(tf.constant, data())

    def fetch(indices):
        return {"image": tf.gather(pixels, indices), "label": tf.gather(labels, indices)}

    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, train=Source(IMAGES, fetch)))


def toolkit(steps):
    import tensorflow as tf

    from kerastoolkit.pipeline import training_batches
    from kerastoolkit.steps import compile_steps
    from kerastoolkit.training_state import State

    experiment = experiment_on_random_images()
    run_steps = compile_steps(State(experiment))
    batches = iter(training_batches(experiment, seed=0, start=0, end=WARM_UP + steps))
    run_steps(batches, tf.constant(WARM_UP))
    began = time.perf_counter()
    for _ in range(steps // 10):
        run_steps(batches, tf.constant(10))
    return time.perf_counter() - began


def stock_keras(steps):
    import keras
    import tensorflow as tf

    import kerastoolkit.models.resnet as resnet

    resnet.BatchNormalization = keras.layers.BatchNormalization
    network = resnet.resnet_cifar(depth=20, classes=10)
    pixels, labels = data()

    def augment(images, labels):
        images = tf.pad(tf.cast(images, tf.float32) / 64.0 - 2.0, [[0, 0], [4, 4], [4, 4], [0, 0]])
        return tf.image.random_flip_left_right(tf.image.random_crop(images, (tf.shape(images)[0], 32, 32, 3))), labels

    batches = tf.data.Dataset.from_tensor_slices((pixels, labels)).shuffle(IMAGES).repeat().batch(BATCH, drop_remainder=True)
    batches = batches.map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    network.compile(
        keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    network.fit(batches, steps_per_epoch=WARM_UP, verbose=0)
    ended = []
    # Not when ``fit`` returns: letting go of its iterator can wait for seconds on tf.data's tuning, whatever the network.
    note_end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(time.perf_counter()))
    began = time.perf_counter()
    network.fit(batches, steps_per_epoch=steps, verbose=0, callbacks=[note_end])
    return ended[0] - began


def pytorch(steps):
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
            self.stride, self.more = stride, after - before

        def forward(self, x):
            residual = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
            if self.more:
                x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
            return functional.relu(x + residual)

    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks = [Block(a, b, 1 if a == b else 2) for a, b in zip(widths, widths[1:], strict=False)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    network = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    assert sum(parameter.numel() for parameter in network.parameters()) == 269_722
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    pixels, labels = data()
    pixels, labels = torch.from_numpy(pixels), torch.from_numpy(labels)

    def batch():
        chosen = torch.randint(0, IMAGES, (BATCH,))
        padded = functional.pad(pixels[chosen], (0, 0, 4, 4, 4, 4))
        rows = torch.randint(0, 9, (BATCH, 1)) + torch.arange(32)
        columns = torch.randint(0, 9, (BATCH, 1)) + torch.arange(32)
        columns = torch.where(torch.rand(BATCH, 1) < 0.5, columns, columns.flip(1))
        crops = padded[torch.arange(BATCH)[:, None, None], rows[:, :, None], columns[:, None, :]]
        images = crops.to(torch.float32) / 64.0 - 2.0  # (b, h, w, c): seen as (b, c, h, w) it is channels last already
        return images.permute(0, 3, 1, 2), labels[chosen]

    def step():
        images, truths = batch()
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(network(images), truths).backward()
        optimizer.step()

    for _ in range(WARM_UP):
        step()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - began


CONTESTANTS = {"toolkit": toolkit, "keras": stock_keras, "torch": pytorch}


def main():
    parser = rounds.parser(__doc__, CONTESTANTS)
    parser.add_argument("--steps", type=int, default=60, help="a multiple of 10")
    options = parser.parse_args()
    if options.run:
        return print(options.steps * BATCH / CONTESTANTS[options.run](options.steps))
    rounds.compare(__file__, options, ["--steps", str(options.steps)], "images_per_second")


if __name__ == "__main__":
    main()
