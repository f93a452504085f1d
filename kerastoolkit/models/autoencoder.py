"""Autoencoders without random codes: deep, convolutional, sparse and denoising.

In each, ``network.get_layer("encoder")`` and ``network.get_layer("decoder")`` are models of their own.
"""

from collections.abc import Sequence

import keras
from keras import layers

from kerastoolkit.layers import Corruption, SparsityPenalty
from kerastoolkit.models._encoder_decoder import check, enlarged, features_of, image, image_of, reduced


def deep_autoencoder(
    *,
    input_shape: tuple[int, int, int],
    code: int = 30,
    hidden: Sequence[int] = (1000, 500, 250),
    activation: str = "relu",
) -> keras.Model:
    """Deep autoencoder: Hinton & Salakhutdinov 2006, https://doi.org/10.1126/science.1127647.

    Dense layers down to a linear code, and the same widths back up; 784-1000-500-250-30 on MNIST.

    Input   image   (batch, height, width, channels) float32, intensities 0..1
    Output  logits  same shape; their sigmoid is the reconstruction

    Args:
        input_shape: (height, width, channels) in pixels.
        code: numbers in the code.
        hidden: units of the encoder's layers before the code; the decoder has them backwards.
        activation: "relu", "leaky_relu", "elu", "softplus", "tanh" or "sigmoid", the paper's; never of the code, which is linear.
    Raises:
        ValueError: an argument is not one of the above.
    Differs from the paper: all layers are trained together from the start, none as a restricted Boltzmann machine before.
    """
    return _autoencoder("deep_autoencoder", input_shape, code, (), hidden, activation)


def convolutional_autoencoder(
    *,
    input_shape: tuple[int, int, int],
    code: int = 30,
    filters: Sequence[int] = (32, 64),
    hidden: Sequence[int] = (),
    activation: str = "relu",
) -> keras.Model:
    """Convolutional autoencoder: Masci et al. 2011, https://doi.org/10.1007/978-3-642-21735-7_7.

    3 x 3 convolutions of stride 2, dense layers, a linear code; transposed convolutions back up.

    Input   image   (batch, height, width, channels) float32, intensities 0..1
    Output  logits  same shape; their sigmoid is the reconstruction

    Args:
        input_shape: (height, width, channels) in pixels; sides need not be even.
        code: numbers in the code.
        filters: channels of each convolution; each halves the sides.
        hidden: units of dense layers between the convolutions and the code; () for none.
        activation: "relu", "leaky_relu", "elu", "softplus", "tanh" or "sigmoid"; never of the code, which is linear.
    Raises:
        ValueError: an argument is not one of the above.
    Differs from the paper: strides in the place of max-pooling, untied weights, and a dense code.
    """
    if not filters:
        raise ValueError("filters must be one or more positive integers, got ()")
    return _autoencoder("convolutional_autoencoder", input_shape, code, filters, hidden, activation)


def sparse_autoencoder(
    *,
    input_shape: tuple[int, int, int],
    code: int = 196,
    penalty: str = "kullback_leibler",
    weight: float = 0.1,
    target_rate: float = 0.05,
    hidden: Sequence[int] = (),
) -> keras.Model:
    """Sparse autoencoder: Ng 2011, https://web.stanford.edu/class/cs294a/sparseAutoencoder.pdf.

    The code may be larger than the image: most of its units are near zero for any one image, which the penalty sees to. Its
    activation is a sigmoid for "kullback_leibler" and ReLU for "l1". The penalty is one of ``network.losses``.

    Input   image   (batch, height, width, channels) float32, intensities 0..1
    Output  logits  same shape; their sigmoid is the reconstruction

    Args:
        input_shape: (height, width, channels) in pixels.
        code: numbers in the code.
        penalty: "kullback_leibler", towards ``target_rate``, or "l1", which pulls activations to 0.
        weight: of the penalty, in the unit of the loss that the network is trained on.
        target_rate: wanted mean activation of each unit, in (0, 1); "l1" has no use for it.
        hidden: units of ReLU layers before the code; the decoder has them backwards. () for the source's single layer.
    Raises:
        ValueError: an argument is not one of the above.
    Differs from the source: weights are not decayed; see ``kerastoolkit.layers.SparsityPenalty`` too.
    """
    cost = SparsityPenalty(penalty, weight, target_rate, name="sparsity")
    return _autoencoder("sparse_autoencoder", input_shape, code, (), hidden, "relu", penalty=cost)


def denoising_autoencoder(
    *,
    input_shape: tuple[int, int, int],
    noise: str = "masking",
    level: float | tuple[float, float] = 0.25,
    hidden: Sequence[int] = (1000,),
    filters: Sequence[int] = (),
    activation: str = "relu",
) -> keras.Model:
    """Denoising autoencoder: Vincent et al. 2008, https://doi.org/10.1145/1390156.1390294, and 2010,
    https://jmlr.org/papers/v11/vincent10a.html.

    Images are corrupted in training only; the target is the image without noise. Without ``filters`` the last of ``hidden`` is
    the code. With ``filters`` it is the map of the last convolution, so that the place of things is kept.

    Input   image   (batch, height, width, channels) float32, intensities 0..1
    Output  logits  same shape; their sigmoid is the cleaned image

    Args:
        input_shape: (height, width, channels) in pixels.
        noise: "gaussian", "masking" or "salt_and_pepper".
        level: standard deviation of the Gaussian noise, or share of the pixels, in 0..1; a pair (lowest, highest) draws each
            image's level between them.
        hidden: units of dense layers down to the code, one or more; not used with ``filters``.
        filters: channels of 3 x 3 convolutions of stride 2 in the place of dense layers; () for none.
        activation: "relu", "leaky_relu", "elu", "softplus", "tanh" or "sigmoid".
    Raises:
        ValueError: an argument is not one of the above.
    Differs from the papers: layers are not stacked one by one; ``kerastoolkit.layers.Corruption`` says what differs in the noise.
    """
    check(activation=activation, filters=filters, hidden=hidden)
    inputs, shape = image(input_shape), tuple(input_shape)
    if isinstance(level, (tuple, list)) and len(level) != 2:
        raise ValueError(f"level must be a number or a pair (lowest, highest), got {level!r}")
    lowest, highest = level if isinstance(level, (tuple, list)) else (level, level)
    noisy = Corruption(noise, lowest, highest, name="corruption")(inputs)
    if filters:
        encoder_inputs = image(shape)
        x = reduced(encoder_inputs, filters=filters, activation=activation)
        code = keras.Input(x.shape[1:], name="code")
        decoder = keras.Model(code, enlarged(code, shape=shape, filters=filters, activation=activation), name="decoder")
    elif not hidden:
        raise ValueError("hidden must be one or more positive integers, got ()")
    else:
        encoder_inputs = image(shape)
        x = features_of(encoder_inputs, filters=(), hidden=hidden, activation=activation)
        code = keras.Input(x.shape[1:], name="code")
        outputs = image_of(code, shape=shape, filters=(), hidden=hidden[:-1], activation=activation)
        decoder = keras.Model(code, outputs, name="decoder")
    encoder = keras.Model(encoder_inputs, x, name="encoder")
    return keras.Model(inputs, decoder(encoder(noisy)), name="denoising_autoencoder")


def _autoencoder(name, input_shape, code, filters, hidden, activation, *, penalty=None):
    check(activation=activation, code=code, filters=filters, hidden=hidden)
    inputs, encoder_inputs, shape = image(input_shape), image(input_shape), tuple(input_shape)
    x = features_of(encoder_inputs, filters=filters, hidden=hidden, activation=activation)
    if penalty is None:
        x = layers.Dense(code, name="code")(x)
    else:
        x = layers.Dense(code, activation="sigmoid" if penalty.kind == "kullback_leibler" else "relu", name="code")(x)
        x = penalty(x)
    encoder = keras.Model(encoder_inputs, x, name="encoder")
    numbers = keras.Input((code,), name="code")
    outputs = image_of(numbers, shape=shape, filters=filters, hidden=hidden, activation=activation)
    decoder = keras.Model(numbers, outputs, name="decoder")
    return keras.Model(inputs, decoder(encoder(inputs)), name=name)
