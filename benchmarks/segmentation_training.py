"""Images a second in training a U-Net on 180 x 240 images: this toolkit, stock Keras ``fit``, and PyTorch.

    python benchmarks/segmentation_training.py [--rounds 5] [--steps 12] [--only NAME ...] [--json FILE]

All three train the network of the recipe camvid-unet (Ronneberger et al. 2015 with 32 filters, batch norm and padding, 11
classes, 7,763,371 weights) on the same 64 random images and masks held in memory, in batches of 8, by AdamW and cross-entropy,
in 32-bit floats on the CPU. ``toolkit`` runs the compiled loop and the pipeline of ``kerastoolkit train``, with the recipe's
augmentation, operations in a fixed order and the check for values that are not finite. ``keras`` runs ``fit`` over a tf.data
pipeline with Keras' own batch normalization; ``torch`` a plain loop, channels last. Both of these mirror images and masks alone,
which is cheaper. They run in turn, each in a process of its own, which warms up first; the ratios are taken within each round.
"""

import os
import time

import _rounds as rounds

BATCH, IMAGES, WARM_UP, HEIGHT, WIDTH, CLASSES, FILTERS = 8, 64, 4, 180, 240, 11, 32
WEIGHTS = 7_763_371


def data():
    import numpy as np

    generator = np.random.default_rng(0)
    masks = generator.integers(0, CLASSES, (IMAGES, HEIGHT, WIDTH), dtype=np.uint8)
    return generator.integers(0, 256, (IMAGES, HEIGHT, WIDTH, 3), dtype=np.uint8), masks


def unet():
    from kerastoolkit.models import unet

    return unet(classes=CLASSES, input_shape=(HEIGHT, WIDTH, 3), filters=FILTERS, batch_norm=True, dropout=0.0)


def toolkit(steps):
    import tensorflow as tf

    from kerastoolkit.determinism import keep_order
    from kerastoolkit.memory import keep_freed_memory

    keep_freed_memory()  # as the command does
    keep_order()

    from kerastoolkit.data.augment import chain
    from kerastoolkit.data.augment_masks import change_colours, move_with_masks
    from kerastoolkit.data.preprocessing import standardise_sized
    from kerastoolkit.experiment import Data, Experiment, Source
    from kerastoolkit.optimizers import adamw
    from kerastoolkit.pipeline import training_batches
    from kerastoolkit.steps import compile_steps
    from kerastoolkit.tasks.segmentation import segmentation
    from kerastoolkit.training_state import State

    pixels, masks = map(tf.constant, data())

    def fetch(indices):
        sizes = tf.tile([[HEIGHT, WIDTH]], [tf.size(indices), 1])
        return {"image": tf.gather(pixels, indices), "size": sizes, "mask": tf.gather(masks, indices)}

    source = Source(IMAGES, fetch)
    about = {"classes": [str(label) for label in range(CLASSES)], "channels": 3, "mean": (127.5,) * 3, "std": (73.9,) * 3}
    images = Data("random", source, source, source, inputs=("image", "size"), encoded=False, about=about)
    network = unet()
    assert sum(tf.size(weight.value) for weight in network.trainable_weights) == WEIGHTS
    experiment = Experiment(
        data=images, augment=chain(move_with_masks(), change_colours()), network=network,
        preprocess=standardise_sized(images, size=(HEIGHT, WIDTH)), task=segmentation(about["classes"], [(0, 0, 0)] * CLASSES),
        optimizer=adamw(network, 0.002, global_clipnorm=None), epochs=1, batch_size=BATCH)  # fmt: skip
    run_steps = compile_steps(State(experiment))
    batches = iter(training_batches(experiment, seed=0, start=0, end=WARM_UP + steps))
    run_steps(batches, tf.constant(WARM_UP))
    began = time.perf_counter()
    run_steps(batches, tf.constant(steps))
    return time.perf_counter() - began


def stock_keras(steps):
    import keras
    import tensorflow as tf

    import kerastoolkit.models.unet as models

    models.BatchNormalization = keras.layers.BatchNormalization
    network = unet()
    pixels, masks = data()

    def augment(images, masks):
        images = tf.cast(images, tf.float32) / 64.0 - 2.0
        mirror = tf.random.uniform(()) < 0.5
        return tf.cond(mirror, lambda: (images[:, :, ::-1], masks[:, :, ::-1]), lambda: (images, masks))

    batches = tf.data.Dataset.from_tensor_slices((pixels, masks)).shuffle(IMAGES).repeat().batch(BATCH, drop_remainder=True)
    batches = batches.map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.AdamW(0.002, weight_decay=0.01), loss, metrics=["accuracy"])
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

    def convolutions(before, after):
        layers = []
        for channels in (before, after):
            layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [FILTERS * 2**level for level in range(5)]
            self.down = nn.ModuleList(convolutions(a, b) for a, b in zip([3, *widths], widths, strict=False))
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, 2) for width in widths[:4])
            self.join = nn.ModuleList(convolutions(2 * width, width) for width in widths[:4])
            self.scores = nn.Conv2d(FILTERS, CLASSES, 1)

        def forward(self, x):
            skips = []
            for level in range(4):
                skips.append(self.down[level](x))
                x = functional.max_pool2d(skips[-1], 2, ceil_mode=True)
            x = self.down[4](x)
            for level in reversed(range(4)):
                height, width = skips[level].shape[2:]
                x = self.join[level](torch.cat([skips[level], self.up[level](x)[:, :, :height, :width]], dim=1))
            return self.scores(x)

    network = UNet().to(memory_format=torch.channels_last)
    assert sum(parameter.numel() for parameter in network.parameters()) == WEIGHTS
    optimizer = torch.optim.AdamW(network.parameters(), 0.002, weight_decay=0.01)
    pixels, masks = map(torch.from_numpy, data())

    def step():
        chosen = torch.randint(0, IMAGES, (BATCH,))
        images, truths = pixels[chosen].to(torch.float32) / 64.0 - 2.0, masks[chosen].long()
        if torch.rand(()) < 0.5:
            images, truths = images.flip(2), truths.flip(2)
        optimizer.zero_grad(set_to_none=True)
        # (b, h, w, c) seen as (b, c, h, w) is channels last already.
        functional.cross_entropy(network(images.permute(0, 3, 1, 2)), truths).backward()
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
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    if options.run:
        return print(options.steps * BATCH / CONTESTANTS[options.run](options.steps))
    rounds.compare(__file__, options, ["--steps", str(options.steps)], "images_per_second")


if __name__ == "__main__":
    main()
