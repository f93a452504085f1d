"""Instance segmentation: Mask R-CNN (He et al. 2017, https://arxiv.org/abs/1703.06870)."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

import keras

from kerastoolkit.data.augment import chain
from kerastoolkit.data.augment_boxes import move_with_boxes
from kerastoolkit.data.augment_masks import change_colours
from kerastoolkit.data.instance_images import instance_images
from kerastoolkit.data.preprocessing import imagenet_sized
from kerastoolkit.experiment import Data, Experiment, InputError
from kerastoolkit.models import mask_rcnn, mask_rcnn_training
from kerastoolkit.optimizers import OneCycle, adamw
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.tasks.instance_segmentation import instance_segmentation


def shapes_mask_rcnn(
    *, backbone: str = "resnet18", height: int = 128, width: int = 128, epochs: int = 30, batch_size: int = 16,
    learning_rate: float = 0.001, weight_decay: float = 0.01, average: float = 0.99, regions: int = 64, proposals: int = 300,
    channels: int = 64, head_width: int = 256, anchor_sizes: tuple[float, ...] = (12, 24, 48, 96, 192),
    scale: tuple[float, float] = (0.8, 1.25), translate: float = 0.1, flip: bool = True, flip_vertical: bool = True,
    colours: float = 0.0, only: tuple[str, ...] = (), limit: int | None = None, skip_faults: bool = False,
    whole_images: bool = False, weights: str | None = None, data: str = "shapes",
) -> Experiment:  # fmt: skip
    """Mask R-CNN with a small backbone on generated pictures of shapes, from random weights: everything offline."""
    images = instance_images(data, height, width, only=only, limit=limit, skip_faults=skip_faults, whole_images=whole_images)
    network = mask_rcnn(classes=len(images.about["classes"]), backbone=backbone, input_shape=(height, width, 3),
                        anchor_sizes=anchor_sizes, channels=channels, head_width=head_width, proposals=proposals,
                        weights=weights)  # fmt: skip
    return _experiment(images, network, epochs, batch_size, learning_rate, weight_decay, average, regions, proposals, scale,
                       translate, flip, flip_vertical, colours)  # fmt: skip


def coco_mask_rcnn(
    *, backbone: str = "resnet50_keras", height: int = 800, width: int = 800, epochs: int = 12, batch_size: int = 2,
    learning_rate: float = 0.0001, weight_decay: float = 0.01, average: float = 0.999, regions: int = 512, proposals: int = 1000,
    channels: int = 256, head_width: int = 1024, anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512),
    scale: tuple[float, float] = (0.8, 1.25), translate: float = 0.1, flip: bool = True, flip_vertical: bool = False,
    colours: float = 0.0, only: tuple[str, ...] = (), limit: int | None = None, skip_faults: bool = False,
    whole_images: bool = False, weights: str | None = "imagenet", data: str = "coco",
) -> Experiment:  # fmt: skip
    """Mask R-CNN on COCO 2017 or a folder in its layout; torchvision's reaches 37.9 % box and 34.6 % mask AP there."""
    images = instance_images(data, height, width, only=only, limit=limit, skip_faults=skip_faults, whole_images=whole_images)
    network = mask_rcnn(classes=len(images.about["classes"]), backbone=backbone, input_shape=(height, width, 3),
                        anchor_sizes=anchor_sizes, channels=channels, head_width=head_width, proposals=proposals,
                        weights=weights)  # fmt: skip
    return _experiment(images, network, epochs, batch_size, learning_rate, weight_decay, average, regions, proposals, scale,
                       translate, flip, flip_vertical, colours)  # fmt: skip


def _experiment(
    images: Data, network: keras.Model, epochs: int, batch_size: int, learning_rate: float, weight_decay: float, average: float,
    regions: int, proposals: int, scale: tuple[float, float], translate: float, flip: bool, flip_vertical: bool, colours: float,
) -> Experiment:  # fmt: skip
    height, width = network.inputs[0].shape[1:3]
    if not 0 <= average < 1:  # an average of 1 would keep the weights of the start
        raise InputError(f"average must be at least 0 and below 1, got {average}")
    schedule = OneCycle(learning_rate, epochs * steps_per_epoch(images.train.size, batch_size), rise=0.05)
    move = move_with_boxes(height=height, width=width, scale=scale, translate=translate, flip=flip, flip_vertical=flip_vertical)
    # How keras.applications' networks were trained.
    preprocess = imagenet_sized(height, width, blue_green_red=network.name.endswith("_keras"))
    return Experiment(
        data=images, augment=chain(move, change_colours(colours)), preprocess=preprocess, network=network,
        training=mask_rcnn_training(network, regions=regions, proposals=proposals),
        task=instance_segmentation(images.about["classes"], height, width, category_ids=images.about["category_ids"]),
        optimizer=adamw(network, schedule, weight_decay=weight_decay, global_clipnorm=10.0, use_ema=True, ema_momentum=average),
        epochs=epochs, batch_size=batch_size)  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(shapes_mask_rcnn)
