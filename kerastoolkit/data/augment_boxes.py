"""Changes to training images that move their boxes with them.

Each is a function (raw batch, seeds, fetch) -> raw batch, as those of ``augment``: what happens to an example depends on its own
seed pair alone, and on the examples that this names. They take and give

    image   (batch, height, width, channels) float32, 0..255, letterboxed: height and width are known, and the same for all
    size    (batch, 2) int32, height and width of the image before that; afterwards those of ``image``
    boxes   (batch, most, 4) float32 xyxy in pixels of ``size``
    labels  (batch, most) int32, -1 where there is no box
    crowd   (batch, most) bool
    areas   (batch, most) float32, the objects' areas in pixels of ``size``

and, from a batch that has them, what ``in_letterbox`` and ``move_with_boxes`` alone can take,

    masks   (batch, most, height, width) uint8, 1 inside an object and 0 outside, in pixels of ``image``, whatever ``size`` is

and pass on what else a batch has, but for ``rles``, masks at the images' own sizes, which are true of them alone. Where ``most``
changes, it is the largest count of boxes in the batch, and at least 1.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from kerastoolkit.boxes import letterbox, to_letterbox
from kerastoolkit.data.augment import Augment
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.random_numbers import uniforms

GREY = 114.0  # of the letterbox
LEAST_SIDE = 2.0  # a box narrower than this, in pixels, shows nothing that could be recognised
TRUTHS = ("boxes", "labels", "crowd", "areas")


def in_letterbox() -> Augment:
    """Brings boxes and areas from pixels of the images at their own sizes to pixels of the letterboxed images, which become the
    images themselves: ``size`` is then that of ``image``, and a second time changes nothing. Masks are there already."""

    def augment(raw: dict[str, Any], seeds: Any = None, fetch: Any = None) -> dict[str, Any]:
        height, width = raw["image"].shape[1:3]
        inner, _ = letterbox(raw["size"], height, width)
        smaller = tf.reduce_prod(tf.cast(inner, tf.float32) / tf.cast(raw["size"], tf.float32), axis=1, keepdims=True)
        moved = {**raw, "boxes": to_letterbox(raw["boxes"], raw["size"], height, width), "areas": raw["areas"] * smaller,
                 "size": tf.broadcast_to(tf.constant((height, width)), tf.shape(raw["size"]))}  # fmt: skip
        moved.pop("rles", None)
        masks = {"masks": moved.pop("masks")} if "masks" in raw else {}
        return {**_only(moved, raw["labels"] >= 0), **masks}

    return augment


def mosaic(examples: int) -> Augment:
    """Puts an example (upper left) and three others, drawn evenly, together as tiles of one picture: Bochkovskiy et al. 2020,
    section 3.3, https://arxiv.org/abs/2004.10934.

    Output  image  (batch, 2 height, 2 width, channels)

    Nothing is cut off here: ``move_with_boxes`` follows, whose crop lets the tiles meet anywhere, as in the paper's figure 3.

    Args:
        examples: of the split, those that ``fetch`` takes the numbers of.
    Raises:
        InputError: there are none.
    """
    _check_examples(examples)

    def augment(raw: dict[str, Any], seeds: tf.Tensor, fetch: Any) -> dict[str, Any]:
        _check_no_masks(raw, "mosaic")
        raw = in_letterbox()(raw)
        others = in_letterbox()(fetch(tf.reshape(_drawn(seeds, 3, examples), (-1,))))
        height, width, channels = raw["image"].shape[1:]
        # One copy, row by row, of the tiles' rows into those of the picture: (b, 2, height, 2) -> (b, 4, height).
        places = tf.reshape(tf.range(tf.shape(seeds)[0] * 4 * height), (-1, 2, height, 2))
        places = tf.reshape(tf.transpose(places, (0, 1, 3, 2)), (-1, 4, height))
        rows = (tf.reshape(raw["image"], (-1, height, width * channels)),
                tf.reshape(others["image"], (-1, 3, height, width * channels)))  # fmt: skip
        image = tf.reshape(tf.dynamic_stitch([places[:, 0], places[:, 1:]], rows), (-1, 2 * height, 2 * width, channels))
        most = tf.shape(others["labels"])[1]
        right_lower = tf.constant([[width, 0], [0, height], [width, height]], tf.float32)
        corners = tf.reshape(others["boxes"], (-1, 3, most, 4)) + tf.tile(right_lower, (1, 2))[:, None]
        others = {**others, "boxes": tf.reshape(corners, (-1, most, 4))}
        of_three = {name: tf.reshape(others[name], (-1, 3 * most, *others[name].shape[2:])) for name in TRUTHS}
        return _with_truths({**raw, "image": image, "size": 2 * raw["size"]}, of_three)

    return augment


def move_with_boxes(
    *,
    height: int,
    width: int,
    scale: tuple[float, float] = (0.5, 1.5),
    translate: float = 0.1,
    flip: bool = True,
    flip_vertical: bool = False,
    least_visible: float = 0.1,
) -> Augment:
    """Enlarges or shrinks, shifts and mirrors a picture and its boxes by one and the same map; a ``mosaic`` is cropped.

    What the middle of the output shows is drawn evenly around the middle of a picture. That of a mosaic goes as far as the
    corner where the tiles meet is seen and no part of the output lies beyond them: at scale 1 and above the corner can be
    anywhere; at 1/2, where the output holds all four, only in the middle. Pixels are interpolated bilinearly; beyond the picture
    is grey (114). Boxes are cut at the border of the output; areas, which are of masks where those are known, shrink as much.

    Masks move by the same map: a pixel is inside where the interpolated mask is 1/2 or more. Of the box of an object that is cut
    is left what its mask still covers, which can be less than the part of the box that is left.

    Output  image  (batch, height, width, channels)

    Args:
        height, width: of the output, and of the pictures that it is made from; those of a mosaic are twice as large.
        scale: the least and the largest, above 0; 1 leaves each pixel its size. What is between is drawn evenly in its logarithm.
        translate: the largest shift of a picture that is no mosaic, to either side, as a share of its sides.
        flip: whether half of the pictures are mirrored left and right.
        flip_vertical: whether half of the pictures are mirrored upside down.
        least_visible: the least share of a box that must be left in the output; with less it is dropped, as is a box with a
            side below two pixels, and an object whose mask has no pixel left.
    Raises:
        InputError: the scales are not above 0 and rising, the shift is negative, or the share is not in 0..1.
        ValueError: an image or a mask has another size.
    """
    low, high = scale
    if not 0 < low <= high < math.inf:
        raise InputError(f"scale must be two numbers above 0, the second not below the first, got {low} and {high}")
    if not 0 <= translate < math.inf:
        raise InputError(f"translate must be at least 0, got {translate}")
    if not 0 <= least_visible <= 1:
        raise InputError(f"least_visible must be in [0, 1], got {least_visible}")

    def augment(raw: dict[str, Any], seeds: tf.Tensor, fetch: Any = None) -> dict[str, Any]:
        raw = in_letterbox()(raw)
        image, (old_height, old_width) = raw["image"], raw["image"].shape[1:3]
        if (old_height, old_width) not in ((height, width), (2 * height, 2 * width)):
            raise ValueError(f"image must be {height} x {width} or twice that, got {old_height} x {old_width}")
        if "masks" in raw and tuple(raw["masks"].shape[2:]) != (old_height, old_width):
            got = " x ".join(map(str, raw["masks"].shape[2:]))
            raise ValueError(f"masks must be of the image's size, {old_height} x {old_width}, got {got}")
        # All pairs are x, y.
        sides, new_sides = (tf.constant(each, tf.float32) for each in ((old_width, old_height), (width, height)))
        draws = uniforms(seeds, (5,))
        # In float64, rounded after: the last bit of a float32 exponential depends on the example's place in the batch.
        logarithm = math.log(low) + (math.log(high) - math.log(low)) * tf.cast(draws[:, :1], tf.float64)
        by = tf.cast(tf.exp(logarithm), tf.float32)  # (b, 1)
        if old_height == height:
            room = translate * sides
        else:
            room = tf.minimum(0.5 / by, tf.maximum(1.0 - 0.5 / by, 0.0)) * new_sides
        middle = sides / 2 + room * (2.0 * draws[:, 1:3] - 1.0)
        factor = by * tf.where((draws[:, 3:] < 0.5) & (flip, flip_vertical), -1.0, 1.0)

        # The map: new = factor * (old - middle) + new_sides / 2.
        corners = tf.reshape(raw["boxes"], (tf.shape(seeds)[0], -1, 2, 2))
        corners = factor[:, None, None] * (corners - middle[:, None, None]) + new_sides / 2
        first, last = tf.reduce_min(corners, axis=2), tf.reduce_max(corners, axis=2)  # a mirror changes one for the other
        whole = tf.reduce_prod(last - first, axis=-1)
        cut = tf.reduce_any((first < 0.0) | (last > new_sides), axis=-1, keepdims=True)
        first, last = (tf.clip_by_value(each, 0.0, new_sides) for each in (first, last))
        visible = tf.math.divide_no_nan(tf.reduce_prod(last - first, axis=-1), whole)
        kept = (visible >= least_visible) & tf.reduce_all(last - first >= LEAST_SIDE, axis=-1)  # padding has no sides
        moved = {**raw, "image": _read(image, middle, factor, height, width), "areas": raw["areas"] * by**2 * visible,
                 "size": tf.broadcast_to(tf.constant((height, width)), tf.shape(raw["size"]))}  # fmt: skip
        if "masks" not in raw:
            return _compact(_only({**moved, "boxes": tf.concat([first, last], axis=-1)}, kept))
        places = tf.where(kept)
        masks = _read_masks(moved.pop("masks"), places, middle, factor, height, width)
        begin, end = (tf.scatter_nd(places, each, tf.shape(first, tf.int64)) for each in _extents(masks))
        first, last = tf.where(cut, tf.maximum(first, begin), first), tf.where(cut, tf.minimum(last, end), last)
        kept &= tf.reduce_all((end > 0.0) & (last - first >= LEAST_SIDE), axis=-1)
        moved = _compact(_only({**moved, "boxes": tf.concat([first, last], axis=-1)}, kept))
        return {**moved, "masks": _in_rows(masks, places, kept, tf.shape(moved["labels"], tf.int64)[1])}

    return augment


def mixup(examples: int, share: float, *, least: float = 0.35) -> Augment:
    """Blends some pictures with another, drawn evenly, and keeps the boxes of both: Zhang et al. 2019, section 3.1,
    https://arxiv.org/abs/1902.04103.

    Pictures that are not blended cost nothing: the others are fetched for the rest alone.

    Args:
        examples: of the split, those that ``fetch`` takes the numbers of, all of the size of ``image``.
        share: of the pictures, how many are blended, 0..1.
        least: the least weight of either of two pictures, at most 1/2; the weight is drawn evenly between it and 1 - least.
    Raises:
        InputError: there are no examples, or a share or weight is out of range.
    Differs from the paper: it draws weights from Beta(1.5, 1.5), 38 % of which are in 0.35..0.65. As the boxes of both pictures
        count fully, whatever the weight, neither may be too faint to be seen.
    """
    _check_examples(examples)
    if not 0 <= share <= 1:
        raise InputError(f"share must be in [0, 1], got {share}")
    if not 0 <= least <= 0.5:
        raise InputError(f"least must be in [0, 0.5], got {least}")

    def augment(raw: dict[str, Any], seeds: tf.Tensor, fetch: Any) -> dict[str, Any]:
        _check_no_masks(raw, "mixup")
        raw, draws = in_letterbox()(raw), uniforms(seeds, (2,), stream=1)
        places = tf.where(draws[:, 0] < share)  # (blended, 1)

        def blended():
            others = in_letterbox()(fetch(tf.gather_nd(_drawn(seeds, 1, examples)[:, 0], places)))
            weight = tf.gather_nd(least + (1.0 - 2.0 * least) * draws[:, 1], places)[:, None, None, None]
            both = weight * tf.gather_nd(raw["image"], places) + (1.0 - weight) * others["image"]

            def spread(values, nothing):  # to their places in the batch
                empty = tf.fill(tf.concat([tf.shape(seeds)[:1], tf.shape(values)[1:]], axis=0), tf.cast(nothing, values.dtype))
                return tf.tensor_scatter_nd_update(empty, places, values)

            others = {name: spread(others[name], -1 if name == "labels" else 0) for name in TRUTHS}
            return _with_truths({**raw, "image": tf.tensor_scatter_nd_update(raw["image"], places, both)}, others)

        # Not a fetch of no examples, which not every source can do.
        return tf.cond(tf.size(places) > 0, blended, lambda: raw)

    return augment


def _check_examples(examples: int) -> None:
    if examples < 1:
        raise InputError(f"examples must be at least 1, got {examples}")


def _check_no_masks(raw: dict[str, Any], what: str) -> None:
    if "masks" in raw:
        raise ValueError(f"{what} is for batches without masks, got masks of the shape {raw['masks'].shape}")


def _drawn(seeds: tf.Tensor, count: int, examples: int) -> tf.Tensor:
    """(batch, count) int64, numbers of examples; the largest draw, 1 - 2^-24, times a count up to 2^24 stays below it."""
    return tf.cast(uniforms(seeds, (count,)) * examples, tf.int64)


def _read(image: tf.Tensor, middle: tf.Tensor, factor: tf.Tensor, height: int, width: int, beyond: float = GREY) -> tf.Tensor:
    """The pixels (batch, height, width, channels) of new = factor * (old - middle) + half of the new sides; x, y (batch, 2) each.

    A map without turns is a crop that is resized, which was measured to take less than half of the time of a projective map.
    What is read beyond the centres of the pixels at the picture's border, half a pixel, counts as beyond the picture.
    """
    half, last = tf.constant((width, height), tf.float32) / 2, tf.constant(image.shape.as_list()[1:3], tf.float32) - 1.0
    # Where the centres of the output's first and last pixels are read. CropAndResize wants y before x, and counts from the
    # centre of the input's first pixel, 0, to that of its last, 1.
    ends = [(middle + (end - half) / factor - 0.5)[:, ::-1] / last for end in (0.5, 2 * half - 0.5)]
    return tf.raw_ops.CropAndResize(image=image, boxes=tf.concat(ends, axis=1), box_ind=tf.range(tf.shape(image)[0]),
                                    crop_size=(height, width), extrapolation_value=beyond)  # fmt: skip


def _read_masks(masks: tf.Tensor, places: tf.Tensor, middle: tf.Tensor, factor: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The same of masks (batch, most, height, width), of those at ``places`` (n, 2) alone: (n, height, width) uint8."""
    shares = _read(tf.gather_nd(masks, places)[..., None], tf.gather(middle, places[:, 0]), tf.gather(factor, places[:, 0]),
                   height, width, beyond=0.0)  # fmt: skip
    return tf.cast(shares[..., 0] >= 0.5, tf.uint8)


def _extents(masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where what is set of masks (n, height, width) begins and ends, x, y (n, 2) float32 each; the end is 0 where nothing is."""
    sides = [tf.reduce_max(masks, axis=axis) for axis in (1, 2)]  # which columns and rows have a pixel that is set
    begin = [tf.argmax(side, axis=1) for side in sides]
    end = [side.shape[1] - tf.argmax(side[:, ::-1], axis=1) for side in sides]
    begin, end = (tf.cast(tf.stack(each, axis=1), tf.float32) for each in (begin, end))
    return begin, tf.where(tf.reduce_any(sides[0] > 0, axis=1, keepdims=True), end, 0.0)


def _in_rows(masks: tf.Tensor, places: tf.Tensor, kept: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
    """Of masks (n, height, width) at ``places`` (n, 2) of ``kept`` (batch, all) those that are kept, each where ``_compact`` puts
    the rest of its object: (batch, most, height, width)."""
    places, masks = (tf.boolean_mask(each, tf.gather_nd(kept, places)) for each in (places, masks))
    ranks = tf.gather_nd(tf.cumsum(tf.cast(kept, tf.int64), axis=1) - 1, places)
    shape = (tf.shape(kept, tf.int64)[0], most, *masks.shape[1:])
    return tf.scatter_nd(tf.stack([places[:, 0], ranks], axis=1), masks, shape)


def _with_truths(raw: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """A batch with the truths of another added, example by example."""
    return _compact({**raw, **{name: tf.concat([raw[name], others[name]], axis=1) for name in TRUTHS}})


def _only(raw: dict[str, Any], kept: tf.Tensor) -> dict[str, Any]:
    """A batch without the truths that are not in ``kept`` (batch, most): they become padding."""
    return {**raw, "boxes": tf.where(kept[..., None], raw["boxes"], 0.0), "labels": tf.where(kept, raw["labels"], -1),
            "crowd": raw["crowd"] & kept, "areas": tf.where(kept, raw["areas"], 0.0)}  # fmt: skip


def _compact(raw: dict[str, Any]) -> dict[str, Any]:
    """A batch whose padding comes last, in as little room as the example with the most boxes needs."""
    missing = tf.cast(raw["labels"] < 0, tf.int32)
    most = tf.maximum(tf.reduce_max(tf.reduce_sum(1 - missing, axis=1)), 1)
    order = tf.argsort(missing, axis=1, stable=True)[:, :most]
    return {**raw, **{name: tf.gather(raw[name], order, batch_dims=1) for name in TRUTHS}}
