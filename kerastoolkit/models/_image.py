"""What every image builder checks of its arguments, once, before the first layer is made."""

import keras

from kerastoolkit.models._arguments import check_sizes, is_positive_integer


def image_input(*, input_shape, classes: int, smallest: int = 1) -> keras.KerasTensor:
    """The input of a network for images, after checking what the caller gave.

    Args:
        input_shape: (height, width, channels) in pixels; height and width may be None where the network takes
            any size.
        classes: number of labels of the network.
        smallest: the least height and width that the network's strides and pools leave something of.
    Raises:
        ValueError: input_shape is not three sizes, a side is under ``smallest``, or classes is not a positive
            integer.
    """
    check_sizes(classes=classes)
    shape = tuple(input_shape)
    if len(shape) != 3 or not is_positive_integer(shape[2]):
        raise ValueError(f"input_shape must be (height, width, channels), got {input_shape!r}")
    for side in shape[:2]:
        if side is not None and not is_positive_integer(side):
            raise ValueError(f"input_shape must be (height, width, channels), got {input_shape!r}")
        if side is not None and side < smallest:
            raise ValueError(
                f"input_shape must be at least {smallest} x {smallest} pixels, got {input_shape!r}"
            )
    return keras.Input(shape, name="image")
