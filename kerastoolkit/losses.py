"""Losses, in keras.ops: (targets, outputs) -> one value per example."""

from __future__ import annotations

from keras import ops


def softmax_cross_entropy(labels, logits, *, smoothing: float = 0.0):
    """Cross-entropy of a softmax with its label, with label smoothing: Szegedy et al. 2015, section 7,
    https://arxiv.org/abs/1512.00567.

    Input   labels  (batch,) integers, 0 .. classes - 1
            logits  (batch, classes) float
    Output  loss    (batch,) float, nats

    Args:
        smoothing: share of the target's probability that is spread evenly over all classes, in [0, 1).
    """
    log_probabilities = ops.log_softmax(logits, axis=-1)
    picked = ops.take_along_axis(log_probabilities, ops.expand_dims(ops.cast(labels, "int32"), -1), axis=-1)[..., 0]
    return -(1.0 - smoothing) * picked - smoothing * ops.mean(log_probabilities, axis=-1)


def quantile_loss(targets, outputs, levels):
    """Pinball loss: Koenker & Bassett 1978, https://doi.org/10.2307/1913643, equation 2.1, averaged over all but the batch.

    Input   targets  (batch, ...) float
            outputs  (batch, ..., levels) float, one for each level
    Output  loss     (batch,) float, in the unit of the targets

    Args:
        levels: in (0, 1); at 0.5 it is half the absolute error.
    """
    levels = ops.convert_to_tensor(levels, outputs.dtype)
    errors = ops.expand_dims(targets, -1) - outputs
    return mean_per_example(ops.maximum(levels * errors, (levels - 1.0) * errors))


def mean_per_example(values):
    """(batch, ...) -> (batch,): the mean over all axes but the first."""
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))
