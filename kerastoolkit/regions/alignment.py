"""RoIAlign: what lies within a box of a feature map, at a size of its own: He et al. 2017, section 3,
https://arxiv.org/abs/1703.06870."""

import keras
from keras import ops

SAMPLES = 2  # of each bin in each direction
# A box of 224 pixels, the size of ImageNet's pictures, is read from level 4, whose stride is 16: Lin et al. 2016, equation 1,
# https://arxiv.org/abs/1612.03144.
USUAL_SIZE, USUAL_LEVEL = 224.0, 4


def pyramid_level(boxes_xyxy, finest: int, coarsest: int):
    """The level of a feature pyramid that each box is read from, (..., 4) in pixels of the image -> (...,) int32."""
    width, height = boxes_xyxy[..., 2] - boxes_xyxy[..., 0], boxes_xyxy[..., 3] - boxes_xyxy[..., 1]
    side = ops.sqrt(ops.maximum(width * height, 1e-12))
    level = ops.floor(USUAL_LEVEL + ops.log2(side / USUAL_SIZE) + 1e-6)
    return ops.cast(ops.clip(level, finest, coarsest), "int32")


def roi_align(maps, boxes_xyxy, images, level, size: int, *, aligned: bool = True):
    """The means of ``SAMPLES`` x ``SAMPLES`` bilinear samples in each of size x size bins of a box.

    Samples up to a pixel beyond the centres of a map's pixels at its border take the value there, those farther out are 0, as
    in torchvision's algorithm.

    Input   maps        list of (images, height, width, channels), any number type, each with the same images and channels
            boxes_xyxy  (n, 4) float, in pixels of the map that the box is read from
            images      (n,) int32, the image that it is read from
            level       (n,) int32, the place in ``maps`` of the map that it is read from
    Output              (n, size, size, channels) float32

    Args:
        aligned: whether the centre of the first pixel is at (1/2, 1/2), as in ``boxes``; else, as in the first version of the
            authors' program and torchvision's Mask R-CNN, at (0, 0), half a pixel off, and boxes are at least a pixel wide.
    """
    first, length = boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    first, length = (first - 0.5, length) if aligned else (first, ops.maximum(length, 1.0))
    step = length / (size * SAMPLES)
    first = first + step / 2  # x and y of the first sample, and the way to the next
    if keras.config.backend() == "tensorflow":
        return _cropped(maps, first, step, images, level, size)
    return _gathered(maps, first, step, images, level, size)


def _gathered(maps, first, step, images, level, size):
    # All maps one after the other as rows of channels.
    rows = ops.concatenate([ops.reshape(each, (-1, each.shape[-1])) for each in maps], axis=0)
    heights, widths, begins, begin = [], [], [], 0
    for each in maps:
        count, height, width = ops.shape(each)[:3]
        heights, widths, begins = [*heights, height], [*widths, width], [*begins, begin]
        begin = begin + count * height * width
    height, width, begin = (ops.take(ops.stack([ops.cast(number, "int32") for number in each]), level)
                            for each in (heights, widths, begins))  # fmt: skip
    begin = begin + images * height * width
    samples = ops.arange(size * SAMPLES, dtype="float32")
    low_x, high_x, x, seen_x = _neighbours(first[:, :1] + samples * step[:, :1], width)
    low_y, high_y, y, seen_y = _neighbours(first[:, 1:] + samples * step[:, 1:], height)

    def row_of(row, share, column, share_of_column):
        place = begin[:, None, None] + row[:, :, None] * width[:, None, None] + column[:, None]
        return ops.cast(ops.take(rows, place, axis=0), "float32") * (share[:, :, None] * share_of_column[:, None])[..., None]

    sampled = (row_of(low_y, 1 - y, low_x, 1 - x) + row_of(low_y, 1 - y, high_x, x)
               + row_of(high_y, y, low_x, 1 - x) + row_of(high_y, y, high_x, x))  # fmt: skip
    sampled = sampled * ops.cast(ops.logical_and(seen_y[:, :, None], seen_x[:, None]), "float32")[..., None]
    return ops.mean(ops.reshape(sampled, (-1, size, SAMPLES, size, SAMPLES, maps[0].shape[-1])), axis=(2, 4))


def _neighbours(places, length):
    """The pixels before and behind samples (n, samples), how near the second is, 0..1, and whether anything is there."""
    last = ops.cast(length, "float32")[:, None] - 1
    inner = ops.clip(places, 0.0, last)
    low = ops.floor(inner)
    seen = ops.logical_and(places >= -1, places <= last + 1)
    return ops.cast(low, "int32"), ops.cast(ops.minimum(low + 1, last), "int32"), inner - low, seen


def _cropped(maps, first, step, images, level, size):
    """The same by TensorFlow's kernel, which keeps no table of neighbours; it reads nothing beyond the pixels' centres, so that
    the pixels of the border are set there again."""
    import tensorflow as tf

    found, places = [], []
    for number, each in enumerate(maps):
        chosen = tf.where(level == number)[:, 0]
        last = tf.cast(tf.shape(each)[1:3], tf.float32)[::-1] + 1  # width and height, with the border, less 1
        start, way = tf.gather(first, chosen) + 1, tf.gather(step, chosen)
        corners = tf.concat([(start / last)[:, ::-1], ((start + (size * SAMPLES - 1) * way) / last)[:, ::-1]], axis=1)
        each = tf.cast(each, tf.float32) if tf.as_dtype(each.dtype) == tf.bfloat16 else each  # which the kernel does not know
        samples = tf.raw_ops.CropAndResize(image=tf.pad(each, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC"), boxes=corners,
                                           box_ind=tf.gather(images, chosen), crop_size=(size * SAMPLES,) * 2)  # fmt: skip
        found.append(tf.nn.avg_pool2d(samples, SAMPLES, SAMPLES, "VALID"))
        places.append(tf.cast(chosen, tf.int32))
    return found[0] if len(maps) == 1 else tf.dynamic_stitch(places, found)
