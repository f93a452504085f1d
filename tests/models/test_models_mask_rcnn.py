"""Mask R-CNN: its counts, its two graphs over the same weights, what it answers for odd inputs, and that it learns.

Counts: torchvision's maskrcnn_resnet50_fpn has 44,401,393 parameters for its 91 classes, one of which is the background, and its
fasterrcnn_resnet50_fpn 41,755,286; both have frozen batch norms, which are no parameters there.
"""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import models
from kerastoolkit.losses.mask_rcnn import mask_rcnn_loss_parts

HEIGHT, WIDTH = 64, 96
SMALL = {"backbone": "resnet18", "input_shape": (HEIGHT, WIDTH, 3), "anchor_sizes": (8, 16, 32, 64, 128), "channels": 8,
         "head_width": 16, "proposals": 30, "detections": 10, "least_score": 0.0}  # fmt: skip


def small(**changes):
    keras.utils.set_random_seed(0)
    return models.mask_rcnn(classes=3, **{**SMALL, **changes})


@pytest.fixture(scope="module")
def shared():
    """A network whose weights no test may leave changed."""
    return small()


def images(count=2, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(0).normal(size=(count, height, width, 3)).astype("float32")


def truths(count=2):
    boxes = np.array([[[8, 8, 40, 40], [50, 20, 90, 60], [0, 0, 0, 0]]] * count, "float32")
    labels = np.array([[0, 2, -1]] * count, "int32")
    return {"boxes": boxes, "labels": labels, "seeds": np.arange(2 * count, dtype="int32").reshape(count, 2)}


def trainable(network):
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


def numbers(outputs):
    return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}


def test_resnet50_with_a_pyramid_has_torchvisions_count():
    frozen = models.mask_rcnn(classes=90, train_norms=False)
    assert trainable(frozen) == 44_401_393
    assert frozen.count_params() == 44_507_633  # with the batch norms' scale and offset, and their statistics
    mask_head = [layer for layer in frozen.layers if layer.name.startswith("mask_")]
    assert trainable(frozen) - sum(layer.count_params() for layer in mask_head) == 41_755_286
    assert trainable(models.mask_rcnn_training(frozen)) == 44_401_393


def test_trained_batch_norms_add_their_scale_and_offset():
    assert trainable(models.mask_rcnn(classes=90)) == 44_454_513


def test_the_backbone_of_keras_applications_has_its_own_count():
    of_torchvision = 44_507_633 - (25_557_032 + 53_120 - 2_049_000)  # ResNet-50 with statistics, without its last layer
    assert models.mask_rcnn(classes=90, backbone="resnet50_keras").count_params() == of_torchvision + 23_587_712


@pytest.mark.slow
def test_deeper_backbones_add_what_resnet101_has_more_than_resnet50():
    more = 42_658_176 - 23_587_712  # keras.applications, without top
    counts = [models.mask_rcnn(classes=90, backbone=name).count_params() for name in ("resnet50_keras", "resnet101_keras")]
    assert counts[1] - counts[0] == more
    biases = 17 * (2 * 256 + 1024)  # of the 17 blocks more
    counts = [models.mask_rcnn(classes=90, backbone=name).count_params() for name in ("resnet50", "resnet101")]
    assert counts[1] - counts[0] == more - biases


def test_the_outputs_have_the_shapes_and_ranges_that_are_told(shared):
    found = numbers(shared(images()))
    most = found["labels"].shape[1]
    assert 1 <= most <= 10
    assert {name: value.shape for name, value in found.items()} == {
        "boxes": (2, most, 4), "scores": (2, most), "labels": (2, most), "masks": (2, most, 28, 28)}  # fmt: skip
    known = found["labels"] >= 0
    assert known.any() and (found["labels"] < 3).all() and (np.diff(found["scores"], axis=1) <= 0).all()
    boxes = found["boxes"][known]
    assert (boxes >= 0).all() and (boxes <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    assert (found["masks"] >= 0).all() and (found["masks"] <= 1).all() and found["masks"].std() > 0


def test_an_image_has_the_same_answer_alone_and_in_a_batch(shared):
    network, batch = shared, images(3)
    together = numbers(network(batch))
    for number in range(3):
        alone = numbers(network(batch[number : number + 1]))
        count = int((alone["labels"] >= 0).sum())
        assert count == (together["labels"][number] >= 0).sum()
        for name in alone:
            np.testing.assert_allclose(together[name][number, :count], alone[name][0, :count], atol=2e-3, rtol=1e-3)


def test_a_network_without_a_size_answers_images_of_several_sizes_as_one_of_their_size_does():
    free = small(input_shape=(None, None, 3))
    for height, width in ((64, 96), (96, 64), (128, 32)):
        fixed = small(input_shape=(height, width, 3))
        fixed.set_weights(free.get_weights())
        one, other = (numbers(network(images(1, height, width))) for network in (free, fixed))
        for name in one:
            np.testing.assert_allclose(one[name], other[name], atol=1e-3, rtol=1e-3)


def test_the_training_graph_has_the_detectors_weights_and_no_others(shared):
    training = models.mask_rcnn_training(shared, regions=16)
    for kind in ("trainable_variables", "non_trainable_variables"):
        assert {id(each) for each in getattr(training, kind)} == {id(each) for each in getattr(shared, kind)}


def test_the_training_graph_gives_what_is_told(shared):
    training = models.mask_rcnn_training(shared, regions=16, share=0.5, proposals=20)
    found = numbers(training({"image": images(), **truths()}))
    anchors = 3 * sum((HEIGHT // stride) * (WIDTH // stride) for stride in (4, 8, 16, 32)) + 3 * 1 * 2  # 2 x 3 becomes 1 x 2
    masks = found["mask_places"].shape[1]
    assert {name: value.shape for name, value in found.items()} == {
        "anchors": (2, anchors, 4), "objectness": (2, anchors), "anchor_deltas": (2, anchors, 4), "regions": (2, 16, 4),
        "places": (2, 16), "logits": (2, 16, 4), "region_deltas": (2, 16, 4, 4), "mask_regions": (2, masks, 4),
        "mask_places": (2, masks), "mask_logits": (2, masks, 28, 28)}  # fmt: skip
    assert masks <= 8
    assert (found["places"] >= 0).sum(axis=1).max() == masks
    for region, place in zip(found["regions"][0], found["places"][0], strict=True):
        if place >= 0:
            box = truths()["boxes"][0, place]
            both = np.prod(np.maximum(np.minimum(region[2:], box[2:]) - np.maximum(region[:2], box[:2]), 0))
            assert both / (np.prod(region[2:] - region[:2]) + np.prod(box[2:] - box[:2]) - both) >= 0.5


def test_images_without_objects_train_on_background_alone(shared):
    found = numbers(models.mask_rcnn_training(shared, regions=16)({"image": images(), **truths(), "labels": np.full((2, 3), -1)}))
    assert (found["places"] < 0).all() and (found["places"] == -1).any()
    assert found["mask_places"].shape == (2, 1) and (found["mask_places"] < 0).all()


@pytest.mark.parametrize("layer", ["rpn_objectness", "rpn_deltas", "class_logits", "box_deltas"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_no_boxes(shared, layer, value):
    bias = shared.get_layer(layer).bias
    own = bias.numpy()
    bias.assign(np.full(bias.shape, value))
    found = numbers(shared(images()))
    bias.assign(own)
    assert np.isfinite(found["boxes"]).all() and np.isfinite(found["scores"]).all()
    assert (found["boxes"] >= 0).all() and (found["boxes"] <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    if layer == "rpn_objectness" or layer == "class_logits" or np.isnan(value):
        assert (found["labels"] == -1).all()


def test_without_any_proposal_nothing_is_found_and_training_goes_on():
    network = small()
    network.get_layer("rpn_objectness").bias.assign([np.nan] * 3)
    found = numbers(network(images()))
    assert found["labels"].tolist() == [[-1], [-1]] and not found["boxes"].any() and not found["scores"].any()
    found = numbers(models.mask_rcnn_training(network, regions=16)({"image": images(), **truths()}))
    assert found["places"][:, :2].tolist() != [[-2, -2]] * 2  # the objects' own boxes are left
    assert np.isfinite(found["logits"]).all()


def test_a_saved_network_answers_the_same_and_can_be_trained_on(shared, tmp_path):
    shared.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    one, other = numbers(shared(images())), numbers(loaded(images()))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    training = models.mask_rcnn_training(loaded, regions=16)
    assert trainable(training) == trainable(shared)


def test_weights_of_a_file_are_those_of_the_network_that_wrote_it(tmp_path):
    network = small()
    network.save_weights(tmp_path / "w.weights.h5")
    keras.utils.set_random_seed(1)
    loaded = models.mask_rcnn(classes=3, **SMALL, weights=tmp_path / "w.weights.h5")
    for one, other in zip(network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_keras_applications_go_into_the_backbone(monkeypatch):
    source = models.resnet50(classes=1000, input_shape=(64, 96, 3))
    monkeypatch.setattr(models.mask_rcnn.__globals__["resnet"], "resnet50", lambda weights: source)
    network = models.mask_rcnn(classes=3, **{**SMALL, "backbone": "resnet50_keras"}, weights="imagenet")
    names = {layer.name for layer in source.layers if layer.weights} - {"logits"}
    assert len(names) == 106  # 53 convolutions, each with its batch norm
    for name in names:
        for one, other in zip(source.get_layer(name).get_weights(), network.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    assert not network.get_layer("stem_conv_norm").trainable


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "vgg16"}, "backbone must be one of resnet18, .*, got 'vgg16'"),
        ({"input_shape": (64, 100, 3)}, r"input_shape must be multiples of 32 pixels, got \(64, 100, 3\)"),
        ({"input_shape": (0, 64, 3)}, "input_shape must be"),
        ({"anchor_sizes": (8, 16)}, r"anchor_sizes must be 5 numbers of pixels above 0, got \(8, 16\)"),
        ({"anchor_sizes": (8, 16, 32, 64, 0)}, "anchor_sizes must be 5 numbers"),
        ({"proposals": 0}, "proposals must be a positive integer, got 0"),
        ({"detections": 0}, "detections must be a positive integer, got 0"),
        ({"channels": 0}, "channels must be a positive integer, got 0"),
        ({"least_score": 1.0}, r"least_score must be in \[0, 1\), got 1.0"),
        ({"norm_epsilon": -1e-5}, r"norm_epsilon must be in \[0, 1\), got -1e-05"),
        ({"weights": "imagenet"}, "got 'imagenet': there are no such weights"),
        ({"weights": "nowhere.safetensors"}, "existing file, got 'nowhere.safetensors'"),
    ],
)
def test_arguments_that_are_impossible_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_what_is_no_mask_rcnn_or_no_share_is_refused_for_training():
    with pytest.raises(ValueError, match="detector must be a network of mask_rcnn, got resnet8_cifar"):
        models.mask_rcnn_training(models.resnet_cifar(depth=8, classes=3))
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, got 0"):
        models.mask_rcnn_training(small(), share=0)


def test_every_weight_has_a_gradient_of_the_losses(shared):
    training = models.mask_rcnn_training(shared, regions=16)
    masks = np.zeros((2, 3, HEIGHT, WIDTH), "uint8")
    masks[:, :, 20:40, 10:60] = 1
    with tf.GradientTape() as tape:
        outputs = training({"image": images(), **truths()}, training=True)
        loss = sum(map(tf.reduce_mean, mask_rcnn_loss_parts({**truths(), "masks": masks}, outputs).values()))
    variables = training.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, [each.value for each in variables]), strict=True):
        assert np.isfinite(gradient).all() and np.any(gradient), variable.path
