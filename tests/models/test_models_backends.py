"""One network of each family is built and trained for a step on the other backends, in processes of their own."""

import importlib.util
import os
import subprocess
import sys

import pytest

STEP = """
import sys
import keras, numpy as np
from kerastoolkit import models
assert "tensorflow" not in sys.modules, "the builders must not need TensorFlow"
images = np.random.default_rng(0).normal(size=(4, 75, 75, 3)).astype("float32")
labels = np.arange(4) % 3
builders = [
    lambda shape: models.cnn(classes=3, input_shape=shape, filters=(4, 8), dense=(8,), batch_norm=True),
    lambda shape: models.vgg11(classes=3, input_shape=shape, batch_norm=True, head="cifar"),
    lambda shape: models.resnet_cifar(depth=8, classes=3, input_shape=shape),
    lambda shape: models.resnet18(classes=3, input_shape=shape),
    lambda shape: models.googlenet_cifar(classes=3, input_shape=shape),
]
for build in builders:
    side = 32
    network = build((side, side, 3))
    before = [np.asarray(keras.ops.convert_to_numpy(v)).copy() for v in network.trainable_variables]
    network.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    loss = float(network.train_on_batch(images[:, :side, :side], labels))
    changed = [not np.array_equal(a, keras.ops.convert_to_numpy(v)) for a, v in zip(before, network.trainable_variables)]
    assert np.isfinite(loss) and sum(changed) > len(changed) / 2, (network.name, loss, sum(changed), len(changed))
print("trained", keras.config.backend())
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_each_family_trains_a_step_on_the_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    assert f"trained {backend}" in result.stdout
