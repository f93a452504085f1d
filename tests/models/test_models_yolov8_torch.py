"""YOLOv8 against its twin in PyTorch, which the benchmarks train and ask for boxes: the same outputs, losses and gradients."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

from kerastoolkit import models
from kerastoolkit.losses.yolov8 import yolov8_loss_parts

torch = pytest.importorskip("torch")  # of the benchmarks, and not among what tests need

HEIGHT, WIDTH, CLASSES = 64, 96, 3


@pytest.fixture(scope="module")
def twin():
    path = Path(__file__).parents[2] / "benchmarks" / "_yolov8_torch.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["n", *(pytest.param(size, marks=pytest.mark.slow) for size in "smlx")])
def network(request):
    """Every weight drawn anew, batch norm's moving statistics too: a mean of 0 and a variance of 1 would hide their order."""
    network = getattr(models, f"yolov8{request.param}")(classes=CLASSES, input_shape=(HEIGHT, WIDTH, 3))
    generator = np.random.default_rng(0)
    for variable in network.variables:
        value = generator.normal(size=variable.shape)
        if variable.name == "distances":  # fixed, in both
            continue
        if variable.name in ("gamma", "moving_variance"):
            value = 1 + 0.2 * np.abs(value)
        elif len(variable.shape) > 1:
            value = value * np.sqrt(2 / np.prod(variable.shape[:-1]))  # He: the signal keeps its size
        else:
            value = 0.1 * value
        variable.assign(value)
    return network


@pytest.mark.parametrize("fold", [False, True], ids=["as_trained", "batch_norm_folded"])
def test_the_twin_with_the_same_weights_gives_the_same_outputs(twin, network, fold):
    images = np.random.default_rng(1).uniform(size=(2, HEIGHT, WIDTH, 3)).astype(np.float32)
    theirs = twin.from_keras(network).eval()
    if fold:
        theirs = twin.folded(theirs)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in theirs.modules())
    with torch.inference_mode():
        found = theirs(torch.from_numpy(images).permute(0, 3, 1, 2))
    expected = network(images, training=False)
    assert set(found) == set(expected)
    for name, value in expected.items():
        value = keras.ops.convert_to_numpy(value)
        assert value.std() > 1e-3  # not all the same: there is something to compare
        assert np.abs(found[name].numpy() - value).max() < 1e-4 * np.abs(value).max(), name


def random_targets_and_outputs(twin):
    """Objects of all sizes, a crowd, and places for objects that hold none; boxes that overlap them more or less."""
    generator = np.random.default_rng(2)
    sizes = [(HEIGHT // stride, WIDTH // stride) for stride in twin.STRIDES]
    points = np.concatenate([twin.level_points(torch.empty(1, 1, *size), stride).numpy()
                             for size, stride in zip(sizes, twin.STRIDES, strict=True)])  # fmt: skip
    cells = len(points)
    distances = generator.uniform(0.2, 4.0, (2, cells, 4)) * points[:, 2:]
    outputs = {
        "boxes": np.concatenate([points[:, :2] - distances[..., :2], points[:, :2] + distances[..., 2:]], axis=-1),
        "logits": generator.normal(size=(2, cells, CLASSES)),
        "distributions": generator.normal(size=(2, cells, 4, twin.BINS)),
        "points": np.stack([points, points]),
    }
    first = generator.uniform(0.0, 40.0, (2, 9, 2))
    boxes = np.concatenate([first, first + generator.uniform(2.0, 50.0, (2, 9, 2))], axis=-1)
    labels = generator.integers(0, CLASSES, (2, 9)).astype(np.int32)
    labels[0, 3], labels[1, 6:] = -1, -1
    crowd = np.zeros((2, 9), bool)
    crowd[0, 3] = True
    boxes[1, 6:] = 0.0
    targets = {"boxes": boxes.astype(np.float32), "labels": labels, "crowd": crowd}
    return targets, {name: value.astype(np.float32) for name, value in outputs.items()}


def test_the_losses_of_the_twin_are_the_same(twin):
    targets, outputs = random_targets_and_outputs(twin)
    expected = yolov8_loss_parts(targets, {name: keras.ops.convert_to_tensor(value) for name, value in outputs.items()})
    found = twin.loss_parts(*({name: torch.from_numpy(value) for name, value in each.items()} for each in (targets, outputs)))
    assert set(found) == set(expected)
    for name, value in expected.items():
        mean = float(keras.ops.mean(value))
        assert mean > 0.1
        assert abs(found[name].item() - mean) < 1e-4 * mean, name


def test_the_gradients_of_the_twins_losses_are_the_same(twin):
    tf = pytest.importorskip("tensorflow")
    targets, outputs = random_targets_and_outputs(twin)
    ours = {name: tf.constant(value) for name, value in outputs.items()}
    theirs = {name: torch.from_numpy(value).requires_grad_() for name, value in outputs.items()}
    with tf.GradientTape() as tape:
        tape.watch(ours)
        loss = tf.reduce_mean(sum(yolov8_loss_parts(targets, ours).values()))
    expected = tape.gradient(loss, ours)
    sum(twin.loss_parts({name: torch.from_numpy(value) for name, value in targets.items()}, theirs).values()).backward()
    for name in ("boxes", "logits", "distributions"):
        value = expected[name].numpy()
        assert np.abs(value).max() > 1e-4
        assert np.abs(theirs[name].grad.numpy() - value).max() < 1e-4 * np.abs(value).max(), name
