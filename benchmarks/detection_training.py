"""Images a second in training YOLOv8 nano on images of 320 x 416: this toolkit, and PyTorch.

    python benchmarks/detection_training.py [--rounds 5] [--steps 10] [--json FILE]

Both train the same network (3 classes, 3,011,417 weights) on one random batch of 16 images with 20 objects each, held in memory,
with the same assignment of objects to cells and the same losses, by AdamW that decays convolutions alone, with gradients cut at a
norm of 10 and a moving average of the weights, as the detection recipes do, in 32-bit floats on the CPU with a thread for each
core. ``toolkit`` runs the compiled step of ``kerastoolkit train``, with operations in a fixed order and the check for values that
are not finite; ``torch`` runs a plain step, channels last. They run in turn, each in a process of its own, which warms up first;
the ratios are taken within each round.
"""

import os
import time

import _rounds as rounds

BATCH, HEIGHT, WIDTH, CLASSES, OBJECTS, WARM_UP = 16, 320, 416, 3, 20, 5
WEIGHTS = 3_011_417
RATE, DECAY, NORM, AVERAGE = 0.002, 0.01, 10.0, 0.998


def data():
    """Images (batch, height, width, 3) float32, 0..1, and the targets of the losses."""
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.uniform(size=(BATCH, HEIGHT, WIDTH, 3)).astype(np.float32)
    size = generator.uniform(8, 120, (BATCH, OBJECTS, 2))
    first = generator.uniform(size=size.shape) * ((WIDTH, HEIGHT) - size)
    boxes = np.concatenate([first, first + size], axis=-1).astype(np.float32)
    labels = generator.integers(0, CLASSES, (BATCH, OBJECTS), dtype=np.int32)
    return images, {"boxes": boxes, "labels": labels, "crowd": np.zeros((BATCH, OBJECTS), bool)}


def toolkit(steps):
    import tensorflow as tf

    from kerastoolkit.determinism import keep_order
    from kerastoolkit.memory import keep_freed_memory

    keep_freed_memory()  # as the command does
    keep_order()

    import keras

    from kerastoolkit.data.preprocessing import intensities_sized
    from kerastoolkit.experiment import Data, Experiment, Source
    from kerastoolkit.models import yolov8n
    from kerastoolkit.optimizers import adamw
    from kerastoolkit.steps import compile_step
    from kerastoolkit.tasks.detection import detection
    from kerastoolkit.training_state import State

    keras.utils.set_random_seed(0)
    network = yolov8n(classes=CLASSES, input_shape=(HEIGHT, WIDTH, 3))
    assert sum(tf.size(weight.value) for weight in network.trainable_weights) == WEIGHTS
    source = Source(BATCH, fetch=None)  # the batch is handed to the step
    classes = [str(label) for label in range(CLASSES)]
    state = State(Experiment(
        data=Data("random", source, source, source, inputs=("image", "size"), encoded=False, about={"classes": classes}),
        preprocess=intensities_sized(HEIGHT, WIDTH), network=network, task=detection(classes, HEIGHT, WIDTH),
        optimizer=adamw(network, RATE, weight_decay=DECAY, global_clipnorm=NORM, use_ema=True, ema_momentum=AVERAGE),
        epochs=1, batch_size=BATCH))  # fmt: skip
    step = compile_step(state)
    images, targets = tf.nest.map_structure(tf.constant, data())
    return timed(lambda: step({"image": images}, targets), steps, lambda: state.means()["loss"])


def pytorch(steps):
    import torch
    from _yolov8_torch import YOLOv8, loss_parts
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    network = YOLOv8("n", CLASSES).to(memory_format=torch.channels_last)
    parameters = list(network.parameters())
    assert sum(parameter.numel() for parameter in parameters) == WEIGHTS
    groups = [{"params": [parameter for parameter in parameters if parameter.dim() > 1]},
              {"params": [parameter for parameter in parameters if parameter.dim() < 2], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, RATE, eps=1e-6, weight_decay=DECAY, fused=True)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE))
    images, targets = data()
    images = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last already
    targets = {name: torch.from_numpy(value) for name, value in targets.items()}
    losses = []

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = sum(loss_parts(targets, network(images)).values())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, NORM)
        optimizer.step()
        average.update_parameters(network)
        losses.append(loss.item())

    return timed(step, steps, lambda: losses[-1])


def timed(step, steps, loss):
    for _ in range(WARM_UP):
        step()
    assert loss() > 0  # a number, and all that was asked for is done
    began = time.perf_counter()
    for _ in range(steps):
        step()
    assert loss() > 0
    return time.perf_counter() - began


CONTESTANTS = {"toolkit": toolkit, "torch": pytorch}


def main():
    parser = rounds.parser(__doc__, CONTESTANTS)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    if options.run:
        return print(options.steps * BATCH / CONTESTANTS[options.run](options.steps))
    rounds.compare(__file__, options, ["--steps", str(options.steps)], "images_per_second")


if __name__ == "__main__":
    main()
