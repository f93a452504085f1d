"""Which objects count, and where they are in the image itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.serving.sure_objects import SureObjects


def asked(conf, size=((100, 50), (64, 64))):
    """Two images of 64 x 64, letterboxed, with three objects and one."""
    boxes = [[[16, 0, 48, 64], [20, 10, 30, 20], [0, 0, 64, 8]], [[1, 2, 3, 4], [0] * 4, [0] * 4]]
    given = (boxes, [[0.9, 0.5, 0.3], [0.4, 0, 0]], np.array([[2, 0, 1], [1, -1, -1]]), np.arange(24).reshape(2, 3, 2, 2) / 24)
    kinds = (tf.float32, tf.float32, tf.int32, tf.float32)
    tensors = [tf.constant(value, kind) for value, kind in zip(given, kinds, strict=True)]
    found = SureObjects(64, 64)(*tensors, tf.constant(size), tf.constant(conf, tf.float32))
    return {name: values.numpy() for name, values in found.items()}


def test_objects_of_higher_scores_stay_with_their_boxes_in_pixels_of_the_image_itself():
    found = asked([0.4, 0.3])
    assert found["count"].tolist() == [2, 1]
    assert found["labels"].tolist() == [[2, 0], [1, -1]]
    np.testing.assert_allclose(found["scores"], [[0.9, 0.5], [0.4, 0]])
    # 100 x 50 is shrunk to 64 x 32 with 16 grey columns on each side.
    np.testing.assert_allclose(found["boxes"][0], [[0, 0, 50, 100], [6.25, 15.625, 21.875, 31.25]], rtol=1e-6)
    np.testing.assert_allclose(found["boxes"][1], [[1, 2, 3, 4], [0] * 4])
    np.testing.assert_allclose(found["masks"], np.arange(24).reshape(2, 3, 2, 2)[:, :2] / 24, rtol=1e-6)


def test_a_box_is_cut_at_the_border_of_the_image_itself():
    assert asked([0.0, 0.0])["boxes"][0, 2].tolist() == [0, 0, 50, 12.5]


def test_a_score_must_exceed_the_threshold_and_without_objects_one_row_is_left():
    found = asked([0.9, 0.9])
    assert found["count"].tolist() == [0, 0] and found["labels"].tolist() == [[-1], [-1]]
    assert not found["boxes"].any() and not found["scores"].any()


@pytest.mark.parametrize("conf", [-0.1, 1.5])
def test_a_threshold_out_of_range_is_refused(conf):
    with pytest.raises(tf.errors.InvalidArgumentError, match="conf must be 0 to 1, got"):
        asked([0.5, conf])


def test_it_is_loaded_as_it_was_saved():
    layer = SureObjects(64, 96, name="sure")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (again.height, again.width, again.name) == (64, 96, "sure")
