"""This toolkit's Mask R-CNN for its benchmark: what it detects and trains, whole and by part.

A contestant is what is timed whole, a function; its parts by name; and a dict of what the first part takes. Parts are functions
from a dict of all that is known to a dict of what they find.
"""

import keras
import numpy as np
import tensorflow as tf

from kerastoolkit.data.preprocessing import imagenet_sized
from kerastoolkit.experiment import Data, Experiment, Source
from kerastoolkit.losses.mask_rcnn import mask_rcnn_loss_parts
from kerastoolkit.models import mask_rcnn, mask_rcnn_training
from kerastoolkit.optimizers import sgd
from kerastoolkit.steps import compile_step
from kerastoolkit.tasks.instance_segmentation import instance_segmentation
from kerastoolkit.training_state import State
from kerastoolkit.weights.folding import fold_batch_norms

REGIONS, PROPOSALS = 512, 2000  # in training
GIVEN = ("boxes", "labels", "seeds")  # to the network that is trained, beside images
LOSSES = {"proposals": ("objectness", "anchor_boxes"), "box_head": ("classes", "boxes"), "mask_head": ("masks",)}


def load(path, classes, side):
    return mask_rcnn(classes=classes, input_shape=(side, side, 3), weights=path, train_norms=False)


def inference(network, image):
    """``image`` is (1, height, width, 3)."""
    network = fold_batch_norms(network)
    detect, image = tf.function(network), tf.constant(image)
    tensor, levels, regions, told = network.input, _levels(network), network.get_layer("proposals").output, network.output
    # All is looked up before the first of these models: with it the layers have two outputs each.
    parts = {
        "backbone": ({"image": tensor}, {"levels": levels, "of_heads": levels[:4]}),
        "proposals": ({"image": tensor, "levels": levels}, {"regions": regions}),
        "box_head": ({"image": tensor, "of_heads": levels[:4], "regions": regions},
                     {name: told[name] for name in ("boxes", "scores", "labels")}),
        "mask_head": ({"of_heads": levels[:4], "boxes": told["boxes"], "labels": told["labels"]}, {"masks": told["masks"]}),
    }  # fmt: skip
    return lambda: answer(detect(image)), {name: _part(keras.Model(*ends)) for name, ends in parts.items()}, {"image": image}


def answer(outputs):
    """One image's objects alone, as arrays, with labels from 1 on as torchvision has them."""
    found = {name: value[0].numpy() for name, value in outputs.items()}
    known = found["labels"] >= 0
    return {name: value[known] + (name == "labels") for name, value in found.items()}


def _levels(network):
    return [network.get_layer(f"pyramid{level}").output for level in (2, 3, 4, 5, 6)]


def _part(model):
    compiled, names = tf.function(model), list(model.input)
    return lambda known: compiled({name: known[name] for name in names})


def losses_of(network, images, targets):
    """The five losses and the outputs that they are of, the proposals among these."""
    trained = mask_rcnn_training(network, regions=REGIONS, proposals=PROPOSALS)
    told = {**trained.output, "proposals": trained.get_layer("training_proposals").output}
    outputs = tf.function(keras.Model(trained.input, told))({"image": images, **{name: targets[name] for name in GIVEN}})
    losses = {name: float(np.mean(value)) for name, value in mask_rcnn_loss_parts(targets, outputs).items()}
    return losses, {name: value.numpy() for name, value in outputs.items()}


def training(network, images, targets, rate, momentum):
    """A step is that of ``kerastoolkit train``. Each part goes forwards and backwards."""
    trained = mask_rcnn_training(network, regions=REGIONS, proposals=PROPOSALS)
    source = Source(len(images), fetch=None)  # the batch is handed to the step
    classes = [str(label) for label in range(network.get_layer("mask_logits").classes)]
    side = network.input.shape[1]
    state = State(Experiment(
        data=Data("random", source, source, source, inputs=("image", "size"), encoded=False, about={"classes": classes}),
        preprocess=imagenet_sized(side, side), network=network, training=trained, task=instance_segmentation(classes, side, side),
        optimizer=sgd(network, rate, momentum=momentum), epochs=1, batch_size=len(images)))  # fmt: skip
    compiled = compile_step(state)
    images, targets = tf.nest.map_structure(tf.constant, (images, targets))
    inputs = {"image": images, **{name: targets[name] for name in GIVEN}}

    def step():
        compiled(inputs, targets)
        return state.means()["loss"]

    given, told, levels = trained.input, trained.output, _levels(network)
    regions = trained.get_layer("training_proposals").output
    mask_labels = trained.get_layer("sample").output[0]  # a layer tells what it gives in the order of the alphabet
    parts = {
        "backbone": ({"image": given["image"]}, {"levels": levels}),
        "proposals": ({"image": given["image"], "levels": levels},
                      {"proposed": regions, **{name: told[name] for name in ("anchors", "objectness", "anchor_deltas")}}),
        "box_head": ({"levels": levels[:4], "proposed": regions, **{name: given[name] for name in GIVEN}},
                     {"mask_labels": mask_labels, **{name: told[name] for name in (
                         "regions", "places", "mask_regions", "mask_places", "logits", "region_deltas")}}),
        "mask_head": ({"levels": levels[:4], "mask_regions": told["mask_regions"], "mask_labels": mask_labels},
                      {"mask_logits": told["mask_logits"]}),
    }  # fmt: skip
    outputs, gradients = tf.function(trained)(inputs), {}
    parts = {name: _trained_part(keras.Model(*ends), LOSSES.get(name), targets, outputs, gradients)
             for name, ends in parts.items()}  # fmt: skip
    optimizer = sgd(network, rate, momentum=momentum)
    optimizer.build(network.trainable_variables)
    apply = tf.function(lambda values: optimizer.apply(values, network.trainable_variables), autograph=False)

    def update(known):
        apply([gradients[variable.path] for variable in network.trainable_variables])
        return {}

    return step, {**parts, "update": update}, inputs


def _trained_part(model, losses, targets, outputs, gradients):
    """Puts the gradients of the ``losses`` into ``gradients``, by the paths of the variables; where there are none, which is the
    backbone, they go on from those of the levels."""
    names, variables = list(model.input), model.trainable_variables
    tensors = [variable.value for variable in variables]

    @tf.function(autograph=False, reduce_retracing=True)  # from step to step other numbers of regions show an object
    def run(given, told, of_levels):
        wanted = [tensors, given.get("levels", [])]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(wanted)
            own = model(given, training=True)
            if losses:
                parts = mask_rcnn_loss_parts(targets, {**outputs, **told, **own})
                loss = sum(tf.reduce_mean(parts[name]) for name in losses)
        if losses:
            return own, tape.gradient(loss, wanted)
        # The first time something small, of which no weight becomes another.
        of_levels = of_levels or [tf.fill(tf.shape(level), 1e-6) for level in own["levels"]]
        return own, tape.gradient(own["levels"], wanted, output_gradients=of_levels)

    def part(known):
        given = {name: known[name] for name in names}
        if losses:
            given["levels"] = given["levels"][: len(model.input["levels"])]
        told = {name: known[name] for name in outputs if name in known}  # by the parts before
        own, (found, of_levels) = run(given, told, None if losses else known.get("of_levels"))
        gradients.update({variable.path: value for variable, value in zip(variables, found, strict=True)})
        return {**own, **({"of_levels": of_levels} if len(of_levels) == 5 else {})}

    return part
