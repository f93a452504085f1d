"""Masks of one class for each region."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastoolkit")
class ClassMasks(keras.layers.Layer):
    """The last convolution of Mask R-CNN's mask head, of 1 x 1 to a mask for each class: He et al. 2017, section 3 and figure 4,
    https://arxiv.org/abs/1703.06870. Of the masks of all classes, which do not compete, only the one of each region's own class
    is worked out.

    Input   x       (batch * n, height, width, channels) float, of regions
            labels  (batch, n) int32, their classes, 0 .. classes - 1; what comes out for others has no meaning
    Output  logits  (batch, n, height, width) float32

    Args:
        classes: number of labels. There is a mask of the background, too, the first, as in the weights that others publish.
    """

    def __init__(self, classes: int, **kwargs):
        super().__init__(**kwargs)
        self.classes = classes

    def build(self, x_shape, labels_shape=None):
        self.kernel = self.add_weight(shape=(1, 1, x_shape[-1], 1 + self.classes), initializer="he_normal", name="kernel")
        self.bias = self.add_weight(shape=(1 + self.classes,), initializer="zeros", name="bias")

    def call(self, x, labels):
        labels = ops.maximum(labels, 0) + 1
        kernels = ops.take(ops.transpose(self.kernel[0, 0]), ops.reshape(labels, (-1,)), axis=0)  # (batch * n, channels)
        height, width, channels = x.shape[1:]
        x = ops.matmul(ops.reshape(x, (-1, height * width, channels)), kernels[..., None])
        x = ops.reshape(x, (*ops.shape(labels), height, width))
        return ops.cast(x + ops.take(self.bias, labels)[..., None, None], "float32")

    def compute_output_spec(self, x, labels):
        return keras.KerasTensor((*labels.shape, *x.shape[1:3]), dtype="float32")

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}
