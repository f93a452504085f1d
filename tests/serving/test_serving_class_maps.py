"""PNG files -> class maps."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.serving.class_maps import IGNORED, colour_coding, decode_class_map, index_coding, voc_palette
from kerastoolkit.serving.images import decode_image


def encoded(image, kind="PNG"):
    contents = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image, np.uint8))
    image.save(contents, kind)
    return contents.getvalue()


def decoded(contents, coding, *size):
    found = decode_class_map(tf.constant(contents), coding, *size)
    assert found.dtype == tf.uint8
    return found.numpy().tolist()


def test_grey_values_are_classes_and_values_without_class_are_ignored():
    assert decoded(encoded([[0, 1, 2], [3, 254, 255]]), index_coding(3)) == [[0, 1, 2], [IGNORED] * 3]


def test_grey_values_stand_for_the_classes_that_a_dict_says():
    assert decoded(encoded([[0, 1, 2, 3]]), index_coding({1: 0, 3: 1})) == [[IGNORED, 0, IGNORED, 1]]


def test_colours_are_classes_and_colours_without_class_are_ignored():
    coding = colour_coding({(255, 0, 0): 0, (0, 0, 255): 2, (0, 1, 0): 1})
    pixels = [[[255, 0, 0], [0, 0, 255]], [[0, 1, 0], [0, 0, 0]], [[255, 255, 255], [0, 0, 254]]]
    assert decoded(encoded(pixels), coding) == [[0, 2], [1, IGNORED], [IGNORED, IGNORED]]


def test_a_palette_is_read_through_its_colours():
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([9, 9, 9, 0, 255, 0, 0, 0, 0])
    assert decoded(encoded(image), colour_coding({(9, 9, 9): 0, (0, 255, 0): 1})) == [[0, 1], [IGNORED, 1]]


def test_a_smaller_map_has_the_classes_at_the_centres_of_its_pixels():
    # Six pixels -> two: their centres are at 1.5 and 4.5, in the middle of pixels 1 and 4.
    assert decoded(encoded([[0, 1, 2, 3, 4, 5]] * 3), index_coding(6), 1, 2) == [[1, 4]]


def test_a_larger_map_repeats_pixels():
    board = [[0, 1], [1, 0]]
    assert decoded(encoded(board), index_coding(2), 4, 4) == np.kron(board, np.ones((2, 2), int)).tolist()


@pytest.mark.parametrize("size", [7, 16, 23, 50, 61, 97])
def test_an_edge_lies_in_the_mask_where_it_lies_in_the_image(size):
    for edge in range(1, 50):
        pixels = np.zeros((2, 50, 3), np.uint8)
        pixels[:, edge:] = 255
        image = decode_image(tf.constant(encoded(pixels)), 2, size, channels=1).numpy()[..., 0]
        mask = np.array(decoded(encoded(pixels[..., 0] // 255), index_coding(2), 2, size))
        # A pixel whose centre is on the edge may go either way.
        sure = np.abs(image - 127.5) > 1
        np.testing.assert_array_equal(mask[sure], (image > 127.5)[sure])
        assert (~sure).sum() <= 2


def test_maps_are_decoded_inside_a_data_set():
    contents = [encoded([[0, 1], [1, 2]]), encoded([[2, 2, 2]])]
    maps = tf.data.Dataset.from_tensor_slices(contents).map(lambda one: decode_class_map(one, index_coding(3), 2, 2))
    assert maps.element_spec.shape == (2, 2)
    assert [each.tolist() for each in maps.as_numpy_iterator()] == [[[0, 1], [1, 2]], [[2, 2], [2, 2]]]


def refusal(contents):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        decode_class_map(tf.constant(contents), index_coding(2))
    return str(error.value)


def test_other_files_than_png_are_refused():
    assert "a mask must be a PNG file" in refusal(encoded([[0, 1]], "JPEG"))
    assert "a mask must be a PNG file" in refusal(b"")


def test_a_file_that_is_cut_short_is_refused():
    contents = encoded(np.arange(200).reshape(10, 20))
    assert "PNG" in refusal(contents[: len(contents) // 2])


def test_a_file_that_tells_of_too_many_pixels_is_refused_before_it_is_decoded():
    contents = encoded([[0, 1]])
    sides = (70_000).to_bytes(4, "big") + (1_000).to_bytes(4, "big")
    assert "a mask must have at most 64,000,000 pixels" in refusal(contents[:16] + sides + contents[24:])


def test_the_colours_are_those_of_pascal_voc():
    # As the challenge's development kit lists them: background, aeroplane, bicycle, bird, boat; tv monitor; 255 is the border.
    palette = voc_palette(256)
    assert palette[:5] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    assert palette[20] == (0, 64, 128) and palette[255] == (224, 224, 192)
    assert len(set(palette)) == 256


def test_colours_may_begin_after_black():
    assert voc_palette(3, first=1) == voc_palette(4)[1:]
