"""Semantic segmentation: U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) and FCN (Long et al. 2015,
https://arxiv.org/abs/1411.4038)."""

import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

import keras

from kerastoolkit.data.augment import chain
from kerastoolkit.data.augment_masks import change_colours, move_with_masks
from kerastoolkit.data.class_weights import class_weights
from kerastoolkit.data.preprocessing import standardise_sized
from kerastoolkit.data.segmented_images import CAMVID, segmented_images
from kerastoolkit.experiment import Data, Experiment, InputError
from kerastoolkit.models import fcn8s, fcn16s, fcn32s, unet, unet_with_encoder
from kerastoolkit.optimizers import OneCycle, adamw
from kerastoolkit.pipeline import steps_per_epoch
from kerastoolkit.tasks.segmentation import segmentation


def shapes_unet(
    *, filters: int = 16, depth: int = 3, batch_norm: bool = True, up: str = "transpose", padding: str = "same",
    dropout: float = 0.0, height: int = 96, width: int = 96, epochs: int = 9, batch_size: int = 8,
    learning_rate: float = 0.006, weight_decay: float = 0.01, loss: str = "cross_entropy", dice: float = 1.0,
    balance: float = 0.0, border_weights: bool = False, scale: tuple[float, float] = (1.0, 1.0), colours: float = 0.0,
    tiles: bool = False, ignore: int = 255, data: str = "shapes",
) -> Experiment:  # fmt: skip
    """U-Net on generated pictures of shapes: everything in minutes, offline."""
    images = segmented_images(data, height, width, ignore=ignore, border_weights=border_weights, tiles=tiles)
    network = _unet(images, height, width, tiles, padding, filters=filters, depth=depth, batch_norm=batch_norm, up=up,
                    dropout=dropout)  # fmt: skip
    return _experiment(images, network, epochs, batch_size, learning_rate, weight_decay, loss, dice, balance, scale, colours,
                       tile=(height, width) if tiles else None)  # fmt: skip


def shapes_fcn8s(
    *, backbone: str = "resnet18", batch_norm: bool = False, fc_width: int = 0, dropout: float = 0.5, stride: int = 8,
    start: str | None = None, height: int = 96, width: int = 96, epochs: int = 10, batch_size: int = 16,
    learning_rate: float = 0.003, weight_decay: float = 0.01, loss: str = "cross_entropy", dice: float = 1.0,
    balance: float = 0.0, scale: tuple[float, float] = (0.8, 1.25), colours: float = 0.1, ignore: int = 255,
    data: str = "shapes",
) -> Experiment:  # fmt: skip
    """FCN-8s on generated pictures of shapes: everything in minutes, offline."""
    images = segmented_images(data, height, width, ignore=ignore)
    network = _fcn(images, stride, start, input_shape=(height, width, 3), backbone=backbone, batch_norm=batch_norm,
                   width=fc_width, dropout=dropout)  # fmt: skip
    return _experiment(images, network, epochs, batch_size, learning_rate, weight_decay, loss, dice, balance, scale, colours)


def camvid_unet(
    *, filters: int = 32, depth: int = 4, batch_norm: bool = True, up: str = "transpose", padding: str = "same",
    dropout: float = 0.0, height: int = 180, width: int = 240, epochs: int = 64, batch_size: int = 8,
    learning_rate: float = 0.002, weight_decay: float = 0.01, loss: str = "cross_entropy", dice: float = 1.0,
    balance: float = 0.5, scale: tuple[float, float] = (0.75, 1.5), colours: float = 0.2, tiles: bool = False,
    ignore: int = 11, data: str = "camvid",
) -> Experiment:  # fmt: skip
    """U-Net with batch norm on CamVid's street scenes, 11 classes, from random weights."""
    images = segmented_images(data, height, width, ignore=ignore, names=tuple(CAMVID), tiles=tiles)
    network = _unet(images, height, width, tiles, padding, filters=filters, depth=depth, batch_norm=batch_norm, up=up,
                    dropout=dropout)  # fmt: skip
    return _experiment(images, network, epochs, batch_size, learning_rate, weight_decay, loss, dice, balance, scale, colours,
                       tile=(height, width) if tiles else None)  # fmt: skip


def camvid_fcn8s(
    *, backbone: str = "vgg16", batch_norm: bool = True, fc_width: int = 1024, dropout: float = 0.5, stride: int = 8,
    start: str | None = None, weights: str | None = None, height: int = 180, width: int = 240, epochs: int = 36,
    batch_size: int = 8, learning_rate: float = 0.001, weight_decay: float = 0.01, loss: str = "cross_entropy",
    dice: float = 1.0, balance: float = 0.5, scale: tuple[float, float] = (0.75, 1.5), colours: float = 0.2,
    ignore: int = 11, data: str = "camvid",
) -> Experiment:  # fmt: skip
    """FCN-8s on VGG-16 with batch norm, on CamVid's street scenes, 11 classes, from random weights."""
    images = segmented_images(data, height, width, ignore=ignore, names=tuple(CAMVID))
    network = _fcn(images, stride, start, input_shape=(height, width, 3), backbone=backbone, batch_norm=batch_norm,
                   width=fc_width, dropout=dropout, weights=weights)  # fmt: skip
    return _experiment(images, network, epochs, batch_size, learning_rate, weight_decay, loss, dice, balance, scale, colours,
                       imagenet=weights == "imagenet")  # fmt: skip


def pets_unet(
    *, encoder: str = "resnet34", weights: str | None = None, batch_norm: bool = True, filters: int = 16, height: int = 160,
    width: int = 160, epochs: int = 20, batch_size: int = 16, learning_rate: float = 0.002, weight_decay: float = 0.01,
    loss: str = "cross_entropy", dice: float = 1.0, balance: float = 0.0, scale: tuple[float, float] = (0.75, 1.5),
    colours: float = 0.2, ignore: int = 255, data: str = "oxford_iiit_pet",
) -> Experiment:  # fmt: skip
    """U-Net on a ResNet-34 for the Oxford-IIIT pets (Parkhi et al. 2012): pet, background and the border between them."""
    images = segmented_images(data, height, width, ignore=ignore)
    network = unet_with_encoder(classes=len(images.about["classes"]), encoder=encoder, input_shape=(height, width, 3),
                                filters=filters, batch_norm=batch_norm, weights=weights)  # fmt: skip
    return _experiment(images, network, epochs, batch_size, learning_rate, weight_decay, loss, dice, balance, scale, colours,
                       imagenet=weights == "imagenet")  # fmt: skip


def coco_unet(
    *, encoder: str = "resnet50", weights: str | None = "imagenet", batch_norm: bool = True, filters: int = 32,
    only: tuple[str, ...] = (), limit: int | None = None, height: int = 256, width: int = 256, epochs: int = 20,
    batch_size: int = 16, learning_rate: float = 0.001, weight_decay: float = 0.01, loss: str = "cross_entropy",
    dice: float = 1.0, balance: float = 0.5, scale: tuple[float, float] = (0.75, 1.5), colours: float = 0.2,
    ignore: int = 255, data: str = "coco",
) -> Experiment:  # fmt: skip
    """U-Net on a ResNet-50 for a folder in COCO layout (Lin et al. 2014), its objects' masks merged to classes."""
    images = segmented_images(data, height, width, ignore=ignore, only=only, limit=limit)
    network = unet_with_encoder(classes=len(images.about["classes"]), encoder=encoder, input_shape=(height, width, 3),
                                filters=filters, batch_norm=batch_norm, weights=weights)  # fmt: skip
    return _experiment(images, network, epochs, batch_size, learning_rate, weight_decay, loss, dice, balance, scale, colours,
                       imagenet=weights == "imagenet")  # fmt: skip


def _unet(images: Data, height: int, width: int, tiles: bool, padding: str, **arguments) -> keras.Model:
    if padding == "valid":  # which answers for fewer pixels than there are masks for
        raise InputError("padding must be same or mirror in a recipe, got valid")
    size = (None, None) if tiles else (height, width)
    return unet(classes=len(images.about["classes"]), input_shape=(*size, 3), padding=padding, **arguments)


def _fcn(images: Data, stride: int, start: str | None, **arguments) -> keras.Model:
    """FCN-8s, or one on the way to it: 32s, and 16s that starts from a file of 32s, as 8s does from one of 16s."""
    if stride not in (8, 16, 32):
        raise InputError(f"stride must be 8, 16 or 32, got {stride}")
    if stride == 32 and start is not None:
        raise InputError(f"start must be none for a stride of 32, which is the first, got {start}")
    builder = {8: fcn8s, 16: fcn16s, 32: fcn32s}[stride]
    begun = {} if start is None else {"start": start}
    return builder(classes=len(images.about["classes"]), **arguments, **begun)


def _experiment(
    images: Data, network: keras.Model, epochs: int, batch_size: int, learning_rate: float, weight_decay: float, loss: str,
    dice: float, balance: float, scale: tuple[float, float], colours: float, imagenet: bool = False,
    tile: tuple[int, int] | None = None,
) -> Experiment:  # fmt: skip
    schedule = OneCycle(learning_rate, epochs * steps_per_epoch(images.train.size, batch_size))
    return Experiment(
        data=images, augment=chain(move_with_masks(scale=scale), change_colours(colours)),
        preprocess=standardise_sized(images, size=None if tile else tuple(network.inputs[0].shape[1:3]), imagenet=imagenet),
        network=network,
        task=segmentation(images.about["classes"], images.about["palette"], loss=loss, dice=dice,
                          class_weights=class_weights(images, balance) if balance else None, tile=tile),
        optimizer=adamw(network, schedule, weight_decay=weight_decay, global_clipnorm=None), epochs=epochs,
        batch_size=batch_size)  # fmt: skip


if __name__ == "__main__":
    from kerastoolkit.cli import main

    main(shapes_unet)
