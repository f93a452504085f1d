"""What the autoencoders share: the way from an image to features, the way back, and the network made of both."""

import math

import keras
from keras import layers

# Between a Glorot and a He initialisation is a factor of 2 in variance, for units that are off half of the time.
_INITIALIZERS = {"relu": "he_normal", "leaky_relu": "he_normal"}
_SEQUENCES = ("filters", "hidden", "decoder_hidden")
ACTIVATIONS = ("relu", "leaky_relu", "elu", "softplus", "tanh", "sigmoid")


def features_of(x, *, filters, hidden, activation):
    """(b, height, width, channels) -> (b, features): convolutions of stride 2, then dense layers; without both, the numbers."""
    x = layers.Flatten(name="flatten")(reduced(x, filters=filters, activation=activation))
    for number, units in enumerate(hidden, start=1):
        x = layers.Dense(units, name=f"hidden{number}", **_active(activation))(x)
    return x


def reduced(x, *, filters, activation):
    """(b, height, width, channels) -> (b, height / 2^n, width / 2^n, filters[-1]): n convolutions of stride 2."""
    for number, width in enumerate(filters, start=1):
        x = layers.Conv2D(width, 3, strides=2, padding="same", name=f"conv{number}", **_active(activation))(x)
    return x


def image_of(x, *, shape, filters, hidden, activation, name="logits"):
    """(b, features) -> (b, *shape): the layers of ``features_of`` backwards, and a linear one to the image."""
    for number, units in reversed(list(enumerate(hidden, start=1))):
        x = layers.Dense(units, name=f"hidden{number}", **_active(activation))(x)
    if not filters:
        return layers.Reshape(shape, name=name)(layers.Dense(math.prod(shape), name="pixels")(x))
    height, width = sides(shape, len(filters))[-1]
    x = layers.Dense(height * width * filters[-1], name="spread", **_active(activation))(x)
    return enlarged(layers.Reshape((height, width, filters[-1]), name="spread_map")(x), shape=shape, filters=filters,
                    activation=activation, name=name)  # fmt: skip


def enlarged(x, *, shape, filters, activation, name="logits"):
    """(b, height / 2^n, width / 2^n, filters[-1]) -> (b, *shape): n transposed convolutions of stride 2, and one to the image."""
    for number, units in reversed(list(enumerate(filters, start=1))):
        x = layers.Conv2DTranspose(units, 3, strides=2, padding="same", name=f"transposed{number}", **_active(activation))(x)
        height, width = sides(shape, number)[-2]
        extra = ((0, x.shape[1] - height), (0, x.shape[2] - width))
        if any(map(any, extra)):  # an odd side was rounded up when it was halved
            x = layers.Cropping2D(extra, name=f"cropping{number}")(x)
    # Of stride 1 it is a convolution with its kernel mirrored; its gradient is more than twice as fast on CPUs.
    return layers.Conv2DTranspose(shape[2], 3, padding="same", name=name)(x)


def sides(shape, halvings):
    """(height, width) before any halving, after one, ...; each rounds up, as a convolution of stride 2 does."""
    found = [tuple(shape[:2])]
    for _ in range(halvings):
        found.append(tuple(-(-side // 2) for side in found[-1]))
    return found


def image(input_shape):
    """The input of an autoencoder, after checking that its sides are fixed.

    Raises:
        ValueError: input_shape is not three positive integers.
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in shape):
        raise ValueError(f"input_shape must be (height, width, channels), fixed and positive, got {input_shape!r}")
    return keras.Input(shape, name="image")


def check(*, activation, **sizes):
    """Refuses an unknown activation, and what is no positive integer, or sequence of them.

    Raises:
        ValueError: names the argument.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be {', '.join(map(repr, ACTIVATIONS))}, got {activation!r}")
    for name, given in sizes.items():
        several = isinstance(given, (tuple, list))
        found = given if several else (given,)
        whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in found)
        if several != (name in _SEQUENCES) or not whole:
            wanted = "positive integers, or () for none" if name in _SEQUENCES else "a positive integer"
            raise ValueError(f"{name} must be {wanted}, got {given!r}")


def _active(activation):
    return {"activation": activation, "kernel_initializer": _INITIALIZERS.get(activation, "glorot_uniform")}
