"""What every image builder checks of its arguments, once, before the first layer is made."""

import keras


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
    if not _is_positive_integer(classes):
        raise ValueError(f"classes must be a positive integer, got {classes!r}")
    shape = tuple(input_shape)
    if len(shape) != 3 or not _is_positive_integer(shape[2]):
        raise ValueError(f"input_shape must be (height, width, channels), got {input_shape!r}")
    for side in shape[:2]:
        if side is not None and not _is_positive_integer(side):
            raise ValueError(f"input_shape must be (height, width, channels), got {input_shape!r}")
        if side is not None and side < smallest:
            raise ValueError(
                f"input_shape must be at least {smallest} x {smallest} pixels, got {input_shape!r}"
            )
    return keras.Input(shape, name="image")


def check_rate(name: str, value: float) -> None:
    """Refuse a dropout rate outside [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and less than 1, got {value!r}")


def _is_positive_integer(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
