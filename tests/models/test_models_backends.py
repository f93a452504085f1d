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
from kerastoolkit.losses import (
    bernoulli_nll, dice_loss, focal_loss, glove_loss, hierarchical_softmax, image_nll, negative_sampling, pixel_cross_entropy)
from kerastoolkit.losses.mask_rcnn import mask_rcnn_loss_parts
from kerastoolkit.losses.yolov3 import yolov3_loss
from kerastoolkit.losses.yolov8 import yolov8_loss
from kerastoolkit.row_optimizers import RowAdagrad, RowSGD
assert "tensorflow" not in sys.modules, "the builders must not need TensorFlow"
shape, random = (32, 32, 3), np.random.default_rng(0)
images, labels = random.normal(size=(4, *shape)).astype("float32"), np.arange(4) % 3
windows, steps = random.normal(size=(4, 6, 2)).astype("float32"), random.normal(size=(4, 3, 1)).astype("float32")
tokens = random.integers(0, 5, (4, 8))
texts = {"source_tokens": random.integers(0, 5, (4, 6)), "target_tokens": random.integers(0, 5, (4, 8))}
crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
cells = ("simple_rnn", "lstm", "gru")
pixels = random.uniform(size=(4, 9, 7, 3)).astype("float32")
bits = lambda *shape: random.integers(0, 2, shape).astype("float32")

def variational(**arguments):  # its dict of outputs made one tensor, and the loss of that
    network = models.variational_autoencoder(input_shape=(9, 7, 3), **arguments)
    names = [name for name in ("logits", "pixel_log_variance") if name in network.output]
    joined = keras.ops.concatenate([network.output[name] for name in names], axis=-1)
    split = lambda outputs: {name: outputs[..., 3 * n : 3 * n + 3] for n, name in enumerate(names)}
    return keras.Model(network.input, joined), pixels, pixels, lambda truths, outputs: image_nll(truths, split(outputs))

def word_vectors(network, optimizer, loss, truths, **inputs):  # its dict of outputs made one tensor, and tables that are not zero
    network.set_weights([random.normal(size=weight.shape) for weight in network.weights])
    scores = [each if len(each.shape) > 2 else keras.ops.expand_dims(each, -1) for each in network.output.values()]
    return keras.Model(network.input, keras.ops.concatenate(scores, axis=-1)), inputs, truths, loss, optimizer

def noise_loss(real):  # how many of the last axis are of real pairs
    split = lambda values: {"positive": values[..., :real], "negative": values[..., real:]}
    return lambda truths, outputs: negative_sampling(split(truths), split(outputs))

def one_tensor(network):  # the largest number of each output of a dict
    largest = [keras.ops.max(each, axis=tuple(range(1, len(each.shape)))) for each in network.output.values()]
    return keras.Model(network.input, keras.ops.stack(largest, axis=-1))

def way_loss(truths, outputs):
    return hierarchical_softmax({"left": truths[..., :6], "weights": truths[..., 6:]}, {"branches": outputs})

def pixels_of_classes(network):  # maps with a row that is ignored, and scores that are not zero
    maps = random.integers(0, 3, (4, 9, 7))
    maps[:, 0] = 255
    for layer in network.layers:
        if layer.name.startswith("score"):
            layer.set_weights([random.normal(size=weight.shape) for weight in layer.weights])
    losses = lambda truths, logits: sum(loss(truths, logits) for loss in (pixel_cross_entropy, dice_loss, focal_loss))
    return network, pixels, maps, losses

def detector(builder, loss):  # its dict of outputs made one tensor, and the loss of that; three objects each, the last a crowd
    network = builder(classes=3, input_shape=(64, 64, 3))
    shapes = {name: each.shape[1:] for name, each in network.output.items()}
    flat = [keras.ops.reshape(each, (-1, np.prod(shapes[name]))) for name, each in network.output.items()]
    ends = np.cumsum([np.prod(shape) for shape in shapes.values()])[:-1].tolist()
    def loss_of_flat(truths, outputs):
        parts = zip(shapes.items(), keras.ops.split(outputs, ends, axis=1))
        targets = {"boxes": truths[..., :4], "labels": keras.ops.cast(truths[..., 4], "int32"), "crowd": truths[..., 4] < 0}
        return loss(targets, {name: keras.ops.reshape(part, (-1, *shape)) for (name, shape), part in parts})
    truths = [(4, 6, 30, 40, 1), (20, 10, 60, 62, 2), (50, 0, 64, 9, -1)] * np.ones((4, 1, 1), "float32")
    model = keras.Model(network.input, keras.ops.concatenate(flat, axis=1))
    return model, random.uniform(size=(4, 64, 64, 3)), truths, loss_of_flat

class InstanceLosses(keras.layers.Layer):
    def call(self, targets, outputs):
        return sum(mask_rcnn_loss_parts(targets, outputs).values())

    def compute_output_spec(self, targets, outputs):
        return keras.KerasTensor((None,))

def instances():  # the training graph with its losses as its output, and a detector that has answered before
    detector = models.mask_rcnn(classes=3, backbone="resnet18", input_shape=(64, 64, 3), channels=8, head_width=16,
                                proposals=20, least_score=0.0, anchor_sizes=(8, 16, 32, 64, 128))
    found = detector.predict(random.uniform(size=(2, 64, 64, 3)), verbose=0)
    assert (found["labels"] >= 0).any() and np.isfinite(found["masks"]).all()
    training = models.mask_rcnn_training(detector, regions=16, proposals=20)
    given = {**training.input, "masks": keras.Input((None, 64, 64), dtype="uint8", name="masks")}
    losses = InstanceLosses()({name: given[name] for name in ("boxes", "labels", "seeds", "masks")}, training.output)
    inputs = {"image": random.uniform(size=(4, 64, 64, 3)), "boxes": (4.0, 6.0, 30.0, 40.0) * np.ones((4, 2, 1)),
              "labels": np.array([[1, -1]] * 4), "seeds": np.arange(8).reshape(4, 2), "masks": np.ones((4, 2, 64, 64), "uint8")}
    return keras.Model(given, losses), inputs, np.zeros(4), lambda truths, losses: keras.ops.mean(losses)

of_bert = {"vocabulary": 5, "depth": 1, "width": 8, "heads": 2, "positions": 8}
pieces = {"tokens": tokens, "segments": tokens % 2}
sizes = {"vocabulary": 9, "dimensions": 4, "window": 2, "segment": 4}
text, noise = random.integers(-1, 9, (2, 12)), random.integers(0, 9, (2, 2, 3))
reach, path = random.integers(0, 3, (2, 8, 2)), random.integers(-1, 8, (2, 8, 6))
families = [
    (models.cnn(classes=3, input_shape=shape, filters=(4, 8), dense=(8,), batch_norm=True), images, labels, crossentropy),
    (models.vgg11(classes=3, input_shape=shape, batch_norm=True, head="cifar"), images, labels, crossentropy),
    (models.resnet_cifar(depth=8, classes=3, input_shape=shape), images, labels, crossentropy),
    (models.resnet18(classes=3, input_shape=shape), images, labels, crossentropy),
    (models.googlenet_cifar(classes=3, input_shape=shape), images, labels, crossentropy),
    *((models.recurrent_forecaster(cell=cell, window=6, features=2, horizon=3, units=4, depth=2, bidirectional=True),
       windows, steps, "mae") for cell in cells),
    *((models.recurrent_language_model(cell=cell, vocabulary=5, units=4, embedding=3), tokens, tokens, crossentropy)
      for cell in cells),
    *(pixels_of_classes(models.unet(classes=3, filters=2, depth=2, batch_norm=up == "resize", up=up, padding=padding))
      for up, padding in (("transpose", "same"), ("resize", "same"), ("transpose", "mirror"))),
    pixels_of_classes(models.unet_with_encoder(classes=3, encoder="resnet18", filters=2)),
    detector(models.yolov8n, yolov8_loss),
    detector(models.yolov3_tiny, yolov3_loss),
    instances(),
    pixels_of_classes(models.fcn8s(classes=3, backbone="vgg11", batch_norm=True, width=8)),
    (models.deep_autoencoder(input_shape=(9, 7, 3), code=3, hidden=(16,)), pixels, pixels, bernoulli_nll),
    (models.convolutional_autoencoder(input_shape=(9, 7, 3), code=3, filters=(4, 8)), pixels, pixels, bernoulli_nll),
    *((models.sparse_autoencoder(input_shape=(9, 7, 3), code=8, penalty=penalty), pixels, pixels, bernoulli_nll)
      for penalty in ("kullback_leibler", "l1")),
    *((models.denoising_autoencoder(input_shape=(9, 7, 3), noise=noise, level=(0.1, 0.3), filters=filters, hidden=(16,)),
       pixels, pixels, bernoulli_nll) for noise, filters in (("gaussian", (4, 8)), ("masking", ()), ("salt_and_pepper", ()))),
    *((models.transformer(source_vocabulary=5, target_vocabulary=5, depth=1, width=8, heads=2, feed_forward=12,
                          norm_first=new, shared_embeddings=not new, pointer=new), texts, tokens, crossentropy)
      for new in (False, True)),
    *((models.attention_seq2seq(source_vocabulary=5, target_vocabulary=5, cell=cell, attention=attention, units=4, embedding=3),
       texts, tokens, crossentropy) for cell in ("gru", "lstm") for attention in ("additive", "dot")),
    (models.bert_classifier(classes=3, **of_bert), pieces, labels, crossentropy),
    (models.bert_tagger(classes=5, activation="gelu_approximate", **of_bert), pieces, tokens, crossentropy),
    (models.bert_question_answering(**of_bert), pieces, tokens % 2, crossentropy),
    (models.bert_sentence_embedding(**of_bert), pieces, random.normal(size=(4, 8)), "mse"),
    (one_tensor(models.bert_pretraining(**of_bert)), {**pieces, "positions": tokens[:, :2]}, np.ones((4, 2)), "mse"),
    (one_tensor(models.bert(**of_bert)), pieces, np.ones((4, 2)), "mse"),
    variational(likelihood="bernoulli", hidden=(8,)),
    variational(likelihood="gaussian", filters=(4, 8), hidden=(8,), free_bits=0.001),
    word_vectors(models.skip_gram(**sizes), RowSGD(), noise_loss(5), bits(2, 8, 5 + 3), tokens=text, negatives=noise),
    word_vectors(models.skip_gram(**sizes, hierarchical=True), RowSGD(), way_loss, bits(2, 8, 5, 6 + 6), tokens=text, path=path),
    word_vectors(models.cbow(**sizes), RowSGD(), noise_loss(1), bits(2, 8, 1 + 3), tokens=text, reach=reach, negatives=noise),
    word_vectors(
        models.cbow(**sizes, hierarchical=True), RowSGD(), way_loss, bits(2, 8, 6 + 6), tokens=text, reach=reach, path=path),
    word_vectors(models.glove(vocabulary=9, dimensions=4), RowAdagrad(), lambda counts, outputs: glove_loss(
        counts, {"log_counts": outputs}), 150 * bits(2, 3, 1), word=noise[0], context=noise[1]),
]
for network, x, y, loss, *optimizer in families:
    before = [np.asarray(keras.ops.convert_to_numpy(v)).copy() for v in network.trainable_variables]
    network.compile(*optimizer or [keras.optimizers.SGD(0.01)], loss)
    loss = float(network.train_on_batch(x, y))
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
