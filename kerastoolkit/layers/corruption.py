"""The noise of denoising autoencoders: Vincent et al. 2010, section 5, https://jmlr.org/papers/v11/vincent10a.html."""

import keras
from keras import ops

from kerastoolkit import replicas

# Kind of noise -> what its level says.
NOISES = {
    "gaussian": "standard deviation, of intensities 0..1",
    "masking": "share of pixels that become 0",
    "salt_and_pepper": "share of pixels that become 0 or 1, half of them each",
}


def check_noise(kind: str, *levels: float) -> None:
    """Refuses what is no kind of noise, and levels outside 0..1.

    Raises:
        ValueError: the name, or the level.
    """
    if kind not in NOISES:
        raise ValueError(f"noise must be {', '.join(map(repr, NOISES))}, got {kind!r}")
    for level in levels:
        if not 0 <= level <= 1:
            raise ValueError(f"a level of noise must be in 0..1, got {level!r}")


def corrupt(images, kind, level, normal, uniform):
    """Noisy images.

    Input   images   (batch, height, width, channels) float, intensities 0..1
            level    (batch, 1, 1, 1) float, what ``NOISES`` says of the kind
            normal   () -> standard normal numbers of the images' shape
            uniform  () -> numbers in [0, 1), (batch, height, width, 1): all channels of a pixel share its fate
    Output  images   same shape, intensities 0..1
    Differs from the paper: Gaussian noise is clipped to 0..1, which is all that an image file can hold.
    """
    if kind == "gaussian":
        return ops.clip(images + level * normal(), 0.0, 1.0)
    drawn = uniform()
    if kind == "masking":
        return ops.where(drawn < level, ops.zeros_like(images), images)
    salted = ops.where(drawn < level, ops.ones_like(images), images)
    return ops.where(drawn < 0.5 * level, ops.zeros_like(images), salted)


@keras.saving.register_keras_serializable(package="kerastoolkit")
class Corruption(keras.layers.Layer):
    """Noise in training, nothing outside: Vincent et al. 2008, https://doi.org/10.1145/1390156.1390294, and 2010.

    Input   images  (batch, height, width, channels) float, intensities 0..1
    Output  images  same shape

    Args:
        kind: "gaussian", "masking" or "salt_and_pepper"; ``NOISES`` says what a level of each is.
        lowest, highest: each image's level is drawn evenly between them.
        seed: of the noise, an int.
    Raises:
        ValueError: the kind is none of these, or not 0 <= lowest <= highest <= 1.
    Differs from the paper: levels may differ from image to image; see ``corrupt`` too.
    """

    def __init__(self, kind: str, lowest: float, highest: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        check_noise(kind, lowest, highest)
        if lowest > highest:
            raise ValueError(f"the lowest level of noise must be at most the highest, got {lowest!r} and {highest!r}")
        self.kind, self.lowest, self.highest, self.seed = kind, lowest, highest, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        if not training:
            return inputs
        shape = ops.shape(inputs)

        def uniform(*sizes):
            return replicas.uniform(inputs, sizes, self.seed_generator)

        level = self.lowest + (self.highest - self.lowest) * uniform(shape[0], 1, 1, 1)
        return corrupt(
            inputs, self.kind, level, lambda: replicas.normal(inputs, shape, self.seed_generator),
            lambda: uniform(*shape[:3], 1))  # fmt: skip

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "kind": self.kind, "lowest": self.lowest, "highest": self.highest, "seed": self.seed
        }  # fmt: skip
