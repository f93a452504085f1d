"""Bits that are the same each time a graph is run."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from tensorflow.python import pywrap_tfe  # not public, yet what a tape adds gradients up with is kept there alone
from tensorflow.python.eager import backprop


@functools.cache
def keep_order() -> None:
    """Turns on TensorFlow's deterministic operations, and keeps sums of three tensors and more out of graphs.

    The operation AddN writes its sum over whichever of its inputs nobody needs any more, and begins with that one. Which one
    this is depends on the order in which threads happen to finish, and on it the last bits of the sum; two tensors have the same
    sum in either order. It comes from tapes, which add up with it the gradients of a tensor that went into several operations:
    here they take two at a time. And it comes from the rewriting of graphs, which makes one of several additions: that is turned
    off, with all else that TensorFlow counts as arithmetic.
    """
    tf.config.experimental.enable_op_determinism()
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    pywrap_tfe.TFE_Py_RegisterVSpace(backprop._default_vspace._replace(aggregate_fn=_in_pairs))


def _in_pairs(gradients: list[Any]) -> Any:
    if len(gradients) > 2 and any(isinstance(gradient, tf.Tensor) for gradient in gradients):
        dense = map(tf.convert_to_tensor, gradients)  # as the tape would, where others are rows of an embedding
        return functools.reduce(lambda total, gradient: tf.add_n([total, gradient]), dense)
    return backprop._aggregate_grads(gradients)
