"""Non-maximum suppression: of boxes that overlap, the one of the highest score stays."""

import keras
from keras import ops

from kerastoolkit.boxes import pairwise_iou


def best_apart(boxes_xyxy, known, iou: float):
    """Which boxes stay when, from the first on, each takes away those behind it that overlap with it by more than ``iou``.

    Input   boxes_xyxy  (batch, n, 4) float, by falling score
            known       (batch, n) bool, False for boxes that do not stay in any case and take nothing away
    Output              (batch, n) bool
    """
    if keras.config.backend() == "tensorflow":
        return _one_by_one(boxes_xyxy, known, iou)
    return _all_at_once(boxes_xyxy, known, iou)


def _all_at_once(boxes_xyxy, known, iou):
    """A box stays where no box before it that stays overlaps with it. This is applied to a guess, that all stay, until nothing
    changes: after n rounds the first n are right, and mostly all are after a few."""
    n = ops.shape(boxes_xyxy)[1]
    before = ops.arange(n)[None] < ops.arange(n)[:, None]
    overlaps = ops.cast(ops.logical_and(pairwise_iou(boxes_xyxy, boxes_xyxy) > iou, before), "float32")

    def changed(stays, last):
        return ops.any(stays != last)

    def round_of(stays, last):
        taken_away = ops.matmul(overlaps, ops.cast(stays, "float32")[..., None])[..., 0] > 0.5
        return ops.logical_and(known, ops.logical_not(taken_away)), stays

    return ops.while_loop(changed, round_of, (known, ops.zeros_like(known)))[0]


def _one_by_one(boxes_xyxy, known, iou):
    """The same by TensorFlow's kernel, example by example, which needs no table of all pairs."""
    import tensorflow as tf

    n = tf.shape(boxes_xyxy)[1]
    scores = tf.cast(tf.range(n, 0, -1), tf.float32)  # their order alone counts

    def stays(example):
        boxes, known = example
        chosen = tf.image.non_max_suppression(boxes, tf.where(known, scores, 0.0), n, iou_threshold=iou, score_threshold=0.5)
        return tf.scatter_nd(chosen[:, None], tf.ones_like(chosen, tf.bool), [n])

    return tf.map_fn(stays, (boxes_xyxy, known), fn_output_signature=tf.TensorSpec(known.shape[1:], tf.bool))
