"""Mask R-CNN: boxes, classes and masks of the objects in an image, in two stages over a feature pyramid."""

from collections.abc import Sequence
from pathlib import Path

import keras
from keras import initializers, layers, ops

from kerastoolkit.layers import BestBoxes, ClassMasks, PyramidAnchors, RegionProposals, RoiAlign, SampleRegions
from kerastoolkit.models import resnet
from kerastoolkit.models._arguments import check_rate, check_sizes
from kerastoolkit.models._encoders import copy_encoder
from kerastoolkit.models._image import image_input
from kerastoolkit.models.resnet import resnet_stages
from kerastoolkit.weights import is_torchvision, load_image_weights, load_torchvision

# Of each the depth of its residual network, and whether its bottlenecks are torchvision's.
BACKBONES = {"resnet18": (18, False), "resnet34": (34, False), "resnet50": (50, True), "resnet101": (101, True),
             "resnet50_keras": (50, False), "resnet101_keras": (101, False)}  # fmt: skip
RATIOS = (0.5, 1.0, 2.0)
BOX_BINS, MASK_BINS = 7, 14
LEVELS = (2, 3, 4, 5, 6)  # of the pyramid, with strides of 4 to 64
STEP = 32  # pixels, that the sides of an image are multiples of


def mask_rcnn(
    *, classes: int, backbone: str = "resnet50", input_shape: tuple[int | None, int | None, int] = (800, 800, 3),
    anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512), channels: int = 256, head_width: int = 1024, proposals: int = 1000,
    detections: int = 100, least_score: float = 0.05, aligned: bool | None = None, train_norms: bool | None = None,
    norm_epsilon: float | None = None, weights: str | Path | None = None,
) -> keras.Model:  # fmt: skip
    """Mask R-CNN: He et al. 2017, https://arxiv.org/abs/1703.06870, with the feature pyramid of Lin et al. 2016,
    https://arxiv.org/abs/1612.03144, and the region proposal network of Ren et al. 2015, https://arxiv.org/abs/1506.01497.

    This network answers for images. ``mask_rcnn_training`` makes of it the one that is trained, of the same weights.

    Input   image   (batch, height, width, channels) float32. For weights of torchvision red, green and blue in [0, 1], minus
                    0.485, 0.456 and 0.406, over 0.229, 0.224 and 0.225; for those of keras.applications blue, green and red in
                    [0, 255] minus 103.939, 116.779 and 123.68
    Output  a dict, ``most`` being the largest number of objects found in an image, at least 1, and ``detections`` under JAX:
            boxes   (batch, most, 4) float32, x_min, y_min, x_max, y_max in pixels of the input; zeros where there is none
            scores  (batch, most) float32, 0..1, falling; 0 where there is none
            labels  (batch, most) int32, 0 .. classes - 1; -1 where there is none
            masks   (batch, most, 28, 28) float32, 0..1: of each place within its box, that it is of the object

    Args:
        classes: number of labels, the background not among them; torchvision's 91 are 90 of COCO's and the background.
        backbone: "resnet50" or "resnet101", torchvision's (stride in the 3 x 3 convolutions, no biases); "resnet50_keras" or
            "resnet101_keras", keras.applications'; or "resnet18" or "resnet34", of basic blocks, for small tasks.
        input_shape: (height, width, channels) in pixels, height and width multiples of 32, or None.
        anchor_sizes: of the levels with strides 4, 8, 16, 32 and 64 the square roots of their anchors' areas, in pixels; each
            has three shapes, with heights of 1/2, 1 and 2 widths.
        channels: of the pyramid, the region proposal network and the mask head.
        head_width: of the box head's two dense layers.
        proposals: regions that the box head judges, and of each level as many before suppression.
        detections: objects of an image, at most.
        least_score: that an object's box must exceed.
        aligned: whether RoIAlign takes pixels' centres to be at halves, where they are; torchvision's Mask R-CNN was trained with
            them at whole numbers. By default it does, but with weights of torchvision.
        train_norms: whether the backbone's batch norms are trained; else they are fixed, as in the paper. By default they are
            where there are no weights.
        norm_epsilon: of the batch norms, by default 1e-5, and 1.001e-5 for keras.applications'. The weights that torchvision
            publishes for COCO (COCO_V1) were trained with 0.
        weights: None; a file of this network's weights (``kerastoolkit.weights.load_weights``); a state dict of torchvision's
            maskrcnn_resnet50_fpn as a safetensors file, for "resnet50"; or "imagenet", which downloads those of
            keras.applications for the backbone of "resnet50_keras" or "resnet101_keras".
    Raises:
        ValueError: an argument is not one of the above, or the weights do not fit.
    Differs from the paper: anchors have one size on each level (Lin et al. 2016) and start at the corner of a place, not its
    centre, rounded to whole pixels, as torchvision's; the box head judges 1,000 regions and masks are made for 100, as there.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, got {backbone!r}")
    check_sizes(channels=channels, head_width=head_width, proposals=proposals, detections=detections)
    check_rate("least_score", least_score)
    sizes = [float(size) for size in anchor_sizes]
    if len(sizes) != len(LEVELS) or not all(0 < size < float("inf") for size in sizes):
        raise ValueError(f"anchor_sizes must be {len(LEVELS)} numbers of pixels above 0, got {anchor_sizes!r}")
    image = image_input(input_shape=input_shape, classes=classes, smallest=STEP)
    for side in image.shape[1:3]:
        if side is not None and side % STEP:
            raise ValueError(f"input_shape must be multiples of {STEP} pixels, got {input_shape!r}")
    from_torchvision = weights is not None and weights != "imagenet" and is_torchvision(weights)
    aligned = not from_torchvision if aligned is None else aligned
    depth, of_torchvision = BACKBONES[backbone]
    if norm_epsilon is None:
        norm_epsilon = resnet.EPSILON if backbone.endswith("_keras") else 1e-5
    check_rate("norm_epsilon", norm_epsilon)

    stages = resnet_stages(image, depth, of_torchvision=of_torchvision, epsilon=norm_epsilon,
                           train_norms=weights is None if train_norms is None else train_norms)  # fmt: skip
    levels = _pyramid(stages[1:], channels)
    objectness, deltas = _region_proposal_network(levels, channels)
    anchors = PyramidAnchors(sizes, RATIOS, dtype="float32", name="anchors")(levels, image)
    regions = RegionProposals(proposals, proposals, dtype="float32", name="proposals")(objectness, deltas, anchors, image)

    heads = {layer.name: layer for layer in _heads(classes, channels, head_width, aligned)}
    logits, region_deltas = _judged(heads.get, levels, regions)
    found = BestBoxes(detections, least_score, dtype="float32", name="best_boxes")(regions, logits, region_deltas, image)
    mask_logits = _masked(heads.get, levels, found["boxes"], found["labels"])
    masks = layers.Activation("sigmoid", dtype="float32", name="masks")(mask_logits)
    model = keras.Model(image, {**found, "masks": masks}, name=f"mask_rcnn_{backbone}")
    if from_torchvision:
        load_torchvision(model, weights)
    elif weights == "imagenet" and backbone.endswith("_keras"):
        copy_encoder(model, getattr(resnet, backbone.removesuffix("_keras"))(weights=weights))
    else:
        load_image_weights(model, weights, reference=None)
    return model


def mask_rcnn_training(detector: keras.Model, *, regions: int = 512, share: float = 0.25, proposals: int = 2000) -> keras.Model:
    """What of a ``mask_rcnn`` is trained: the same weights, with regions drawn around the true objects in the place of the best.

    Input   a dict:
            image   as the detector's
            boxes   (batch, objects, 4) float32, x_min, y_min, x_max, y_max in pixels of the input
            labels  (batch, objects) int32, 0 .. classes - 1; -1 where there is no object
            seeds   (batch, 2) int32, on which alone it depends what is drawn for an image
    Output  a dict:
            anchors        (batch, anchors, 4) float32, x_min, y_min, x_max, y_max in pixels
            objectness     (batch, anchors) float32, logits of their showing an object
            anchor_deltas  (batch, anchors, 4) float32, what they become then (``regions.coding``)
            regions        (batch, regions, 4) float32, those drawn, that show an object first
            places         (batch, regions) int32, the place of the object that a region shows; -1 background, -2 unused
            logits         (batch, regions, 1 + classes) float32, of classes, the background first
            region_deltas  (batch, regions, 1 + classes, 4) float32, what the region becomes where it shows that class
            mask_regions, mask_places  the first of regions and places, as many as show an object in some image
            mask_logits    (batch, mask regions, 28, 28) float32, of the mask of the object's class

    Args:
        detector: made by ``mask_rcnn``, or loaded.
        regions: drawn in each image.
        share: of them, at most, that show an object, in (0, 1].
        proposals: regions that they are drawn from, and of each level as many before suppression; 2,000 in torchvision.
    Raises:
        ValueError: an argument is not one of the above, or the network is no Mask R-CNN.
    """
    check_sizes(regions=regions, proposals=proposals)
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share!r}")
    layer, image = detector.get_layer, detector.inputs[0]
    try:
        levels, objectness, deltas = ([layer(f"{name}{level}").output for level in LEVELS]
                                      for name in ("pyramid", "objectness", "deltas"))  # fmt: skip
        anchors = layer("anchors").output
    except ValueError:
        raise ValueError(f"detector must be a network of mask_rcnn, got {detector.name}") from None
    given = {"image": image, "boxes": keras.Input((None, 4), name="boxes"),
             "labels": keras.Input((None,), dtype="int32", name="labels"),
             "seeds": keras.Input((2,), dtype="int32", name="seeds")}  # fmt: skip
    proposed = RegionProposals(proposals, proposals, dtype="float32", name="training_proposals")
    sample = SampleRegions(regions, share, dtype="float32", name="sample")
    drawn = sample(proposed(objectness, deltas, anchors, image), given["boxes"], given["labels"], given["seeds"])
    logits, region_deltas = _judged(layer, levels, drawn["regions"])
    labels = drawn.pop("mask_labels")
    return keras.Model(given, {
        "anchors": layers.Concatenate(axis=1, name="all_anchors")(anchors),
        "objectness": layers.Concatenate(axis=1, name="objectness")(objectness),
        "anchor_deltas": layers.Concatenate(axis=1, name="anchor_deltas")(deltas),
        **drawn, "logits": logits, "region_deltas": region_deltas,
        "mask_logits": _masked(layer, levels, drawn["mask_regions"], labels)}, name=f"{detector.name}_training")  # fmt: skip


def _pyramid(stages, channels: int) -> list:
    """P2 to P6 (Lin et al. 2016, section 3 and figure 3), of strides 4 to 64."""
    glorot = initializers.GlorotUniform
    laterals = [layers.Conv2D(channels, 1, kernel_initializer=glorot(), name=f"lateral{level}")(stage)
                for level, stage in enumerate(stages, start=2)]  # fmt: skip
    merged = [laterals.pop()]
    for level, lateral in reversed(list(enumerate(laterals, start=2))):
        above = layers.UpSampling2D(2, name=f"up{level}")(merged[0])
        merged.insert(0, layers.Add(name=f"merged{level}")([lateral, above]))
    levels = [layers.Conv2D(channels, 3, padding="same", kernel_initializer=glorot(), name=f"pyramid{level}")(each)
              for level, each in zip(LEVELS, merged, strict=False)]  # fmt: skip
    return [*levels, layers.MaxPooling2D(1, 2, name="pyramid6")(levels[-1])]


def _region_proposal_network(levels, channels: int) -> tuple[list, list]:
    """Of each level the logits of its anchors' showing an object, and how they change."""
    normal = {"kernel_initializer": initializers.RandomNormal(stddev=0.01)}
    shared = layers.Conv2D(channels, 3, padding="same", activation="relu", **normal, name="rpn_conv")
    objectness = layers.Conv2D(len(RATIOS), 1, **normal, dtype="float32", name="rpn_objectness")
    deltas = layers.Conv2D(4 * len(RATIOS), 1, **normal, dtype="float32", name="rpn_deltas")
    x = [shared(level) for level in levels]
    each = list(zip(LEVELS, x, strict=True))
    return ([layers.Reshape((-1,), name=f"objectness{level}")(objectness(x)) for level, x in each],
            [layers.Reshape((-1, 4), name=f"deltas{level}")(deltas(x)) for level, x in each])  # fmt: skip


def _heads(classes: int, channels: int, width: int, aligned: bool) -> list:
    """The layers that judge regions, and those that draw masks in them."""
    normal, he = initializers.RandomNormal, initializers.HeNormal
    return [
        RoiAlign(BOX_BINS, aligned, dtype="float32", name="box_align"),
        layers.Reshape((-1, BOX_BINS * BOX_BINS * channels), name="box_flat"),
        layers.Dense(width, "relu", name="fc6"),
        layers.Dense(width, "relu", name="fc7"),
        layers.Dense(1 + classes, kernel_initializer=normal(stddev=0.01), dtype="float32", name="class_logits"),
        layers.Dense(4 * (1 + classes), kernel_initializer=normal(stddev=0.001), dtype="float32", name="box_deltas"),
        layers.Reshape((-1, 1 + classes, 4), name="region_deltas"),
        RoiAlign(MASK_BINS, aligned, dtype="float32", name="mask_align"),
        *(layers.Conv2D(channels, 3, padding="same", activation="relu", kernel_initializer=he(), name=f"mask_conv{number}")
          for number in (1, 2, 3, 4)),
        layers.Conv2DTranspose(channels, 2, 2, activation="relu", kernel_initializer=he(), name="mask_up"),
        ClassMasks(classes, name="mask_logits"),
    ]  # fmt: skip


def _judged(layer, levels, regions):
    """Logits of the classes of regions, and how they change for each."""
    x = layer("box_flat")(layer("box_align")(levels[:4], regions))
    x = layer("fc7")(layer("fc6")(x))
    return layer("class_logits")(x), layer("region_deltas")(layer("box_deltas")(x))


def _masked(layer, levels, regions, labels):
    """Logits of the masks of regions, each of its own class."""
    x = layer("mask_align")(levels[:4], regions)
    x = ops.reshape(x, (-1, *x.shape[2:]))  # (b * regions, 14, 14, channels)
    for number in (1, 2, 3, 4):
        x = layer(f"mask_conv{number}")(x)
    return layer("mask_logits")(layer("mask_up")(x), labels)
