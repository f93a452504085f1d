"""A kernel of interpolation: its numbers by hand and one by one, and what a transposed convolution makes of an image with it."""

import math

import keras
import numpy as np
import pytest

from kerastoolkit.layers import BilinearKernel


def formula(height, width):
    """(1 - |i / f - c|)(1 - |j / f - c|) for each place, with f and c of the authors' program (fcn.berkeleyvision.org)."""
    kernel = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            kernel[i, j] = 1
            for place, size in ((i, height), (j, width)):
                f = math.ceil(size / 2)
                c = (f - 1) / f if size % 2 else (f - 0.5) / f
                kernel[i, j] *= 1 - abs(place / f - c)
    return kernel


def interpolated(image, y, x):
    """The value between the four nearest pixels, each of which counts the more the nearer it is: section 3.3's bilinear map."""
    top, left = math.floor(y), math.floor(x)
    return sum(
        (1 - abs(y - i)) * (1 - abs(x - j)) * image[i, j]
        for i in (top, top + 1) for j in (left, left + 1) if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]
    )  # fmt: skip


def enlarged(image, size, factor, padding):
    """What a transposed convolution with a kernel of ``size`` makes of an image of one channel."""
    layer = keras.layers.Conv2DTranspose(1, size, factor, padding=padding, use_bias=False, kernel_initializer=BilinearKernel())
    return np.asarray(layer(image[None, :, :, None].astype("float32")))[0, :, :, 0]


@pytest.mark.parametrize(("size", "weights"), [(1, [1]), (2, [0.5, 0.5]), (3, [0.5, 1, 0.5]), (4, [0.25, 0.75, 0.75, 0.25])])
def test_weights_fall_linearly_from_the_centre(size, weights):
    np.testing.assert_allclose(BilinearKernel()((size, size, 1, 1))[:, :, 0, 0], np.outer(weights, weights), rtol=1e-6)


@pytest.mark.parametrize("size", [(5, 5), (6, 6), (7, 7), (8, 8), (16, 16), (64, 64), (3, 8)])
def test_each_weight_is_the_formulas(size):
    np.testing.assert_allclose(BilinearKernel()((*size, 1, 1))[:, :, 0, 0], formula(*size), rtol=1e-6)


@pytest.mark.parametrize("channels", [(3, 3), (2, 4), (4, 2)])
def test_a_channel_goes_to_itself_alone_and_each_in_the_same_way(channels):
    kernel = np.asarray(BilinearKernel()((4, 4, *channels)))
    for out in range(channels[0]):
        for into in range(channels[1]):
            np.testing.assert_allclose(kernel[:, :, out, into], formula(4, 4) if out == into else np.zeros((4, 4)), rtol=1e-6)


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_an_even_kernel_interpolates_between_the_centres_of_pixels(factor):
    image = np.random.default_rng(0).normal(size=(3, 4))
    answer = enlarged(image, 2 * factor, factor, "same")
    assert answer.shape == (3 * factor, 4 * factor)
    # The image's pixels are squares of factor x factor new ones. At the border a neighbour is missing and counts as 0.
    centres = [(place + 0.5) / factor - 0.5 for place in range(4 * factor)]
    expected = [[interpolated(image, y, x) for x in centres] for y in centres[: 3 * factor]]
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_an_odd_kernel_interpolates_from_pixel_to_pixel(factor):
    image = np.random.default_rng(0).normal(size=(3, 4))
    answer = enlarged(image, 2 * factor - 1, factor, "valid")[factor - 1 : 1 - factor or None, factor - 1 : 1 - factor or None]
    expected = [[interpolated(image, i / factor, j / factor) for j in range(3 * factor + 1)] for i in range(2 * factor + 1)]
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    np.testing.assert_allclose(answer[::factor, ::factor], image, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4, 8, 32])
def test_a_linear_ramp_stays_one_inside(factor):
    rows, columns = np.mgrid[:4, :5]
    answer = enlarged(3 * rows - 2 * columns + 1, 2 * factor, factor, "same")
    rows, columns = (np.mgrid[: 4 * factor, : 5 * factor] + 0.5) / factor - 0.5
    inside = slice(factor // 2, -(factor // 2))
    np.testing.assert_allclose(answer[inside, inside], (3 * rows - 2 * columns + 1)[inside, inside], atol=1e-4)


@pytest.mark.parametrize("dtype", [None, "float32", "float16"])
def test_the_type_is_the_one_asked_for(dtype):
    kernel = BilinearKernel()((4, 4, 1, 1), dtype)
    assert keras.backend.standardize_dtype(kernel.dtype) == (dtype or "float32")
    np.testing.assert_array_equal(kernel[:, :, 0, 0], formula(4, 4))  # sixteenths, which 16 bits hold


def test_a_network_that_begins_with_it_can_be_saved(tmp_path):
    image = keras.Input((None, None, 2))
    network = keras.Model(image, keras.layers.Conv2DTranspose(2, 4, 2, kernel_initializer=BilinearKernel())(image))
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert isinstance(again.layers[-1].kernel_initializer, BilinearKernel)
