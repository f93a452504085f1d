"""Losses, in keras.ops: (targets, outputs) -> one value per example."""

from __future__ import annotations

import math

from keras import ops

from kerastoolkit import replicas


def softmax_cross_entropy(labels, logits, *, smoothing: float = 0.0):
    """Cross-entropy of a softmax with its label, with label smoothing: Szegedy et al. 2015, section 7,
    https://arxiv.org/abs/1512.00567.

    Input   labels  (batch,) integers, 0 .. classes - 1
            logits  (batch, classes) float
    Output  loss    (batch,) float, nats

    Args:
        smoothing: share of the target's probability that is spread evenly over all classes, in [0, 1).
    """
    labels, classes = ops.cast(labels, "int32"), ops.shape(logits)[-1]
    if not smoothing:
        # Not the backend's own: where operations keep a fixed order, TensorFlow adds up its gradient label by label, which takes
        # three times as long for thousands of classes.
        is_label = ops.equal(ops.arange(classes, dtype="int32"), ops.expand_dims(labels, -1))
        return ops.logsumexp(logits, axis=-1) - ops.sum(ops.where(is_label, logits, 0.0), axis=-1)
    spread = ops.one_hot(labels, classes, dtype=logits.dtype) * (1.0 - smoothing) + smoothing / classes
    return ops.categorical_crossentropy(spread, logits, from_logits=True)


def pixel_cross_entropy(labels, logits, *, class_weights=None, pixel_weights=None, ignored: int = 255):
    """Weighted mean of the cross-entropy of a softmax over the pixels whose class is known: Ronneberger et al. 2015, section 3,
    equations 1 and 2, https://arxiv.org/abs/1505.04597; without weights Long et al. 2015, section 4,
    https://arxiv.org/abs/1411.4038, as a mean.

    Input   labels  (batch, height, width) integers, 0 .. classes - 1, or ``ignored``
            logits  (batch, height, width, classes) float
    Output  loss    (batch,) float, nats: sum of weight * cross-entropy / sum of weights; 0 where no pixel is known

    Args:
        class_weights: (classes,) at least 0: equation 2's w_c, the weight of a pixel by its true class. 1 by default.
        pixel_weights: (batch, height, width) float, at least 0: equation 2's second term, which is added to the class's weight.
        ignored: the label of pixels that count neither in the sum nor in the weights.
    """
    truths, weights = _known_pixels(labels, logits, ignored, class_weights, pixel_weights)
    return _weighted_mean(ops.categorical_crossentropy(truths, logits, from_logits=True), weights)


def focal_loss(labels, logits, *, gamma: float = 2.0, class_weights=None, ignored: int = 255):
    """Cross-entropy that counts less the surer the answer is right: Lin et al. 2017, equation 5,
    https://arxiv.org/abs/1708.02002.

    Input   labels  (batch, height, width) integers, 0 .. classes - 1, or ``ignored``
            logits  (batch, height, width, classes) float
    Output  loss    (batch,) float, nats: sum of weight * (1 - p) ** gamma * cross-entropy / sum of weights, p the probability
                    of the true class; 0 where no pixel is known

    Args:
        gamma: at least 0; 0 is ``pixel_cross_entropy``.
        class_weights: (classes,) at least 0: the equation's alpha, by the true class. 1 by default.
        ignored: the label of pixels that count neither in the sum nor in the weights.
    Differs from the paper: a softmax over all classes for its sigmoids, and the mean over pixels for the sum over anchors divided
    by the number of those that hold an object.
    """
    truths, weights = _known_pixels(labels, logits, ignored, class_weights)
    losses = ops.categorical_crossentropy(truths, logits, from_logits=True)
    # 1 - p, exact for a p near 1. It is not let down to 0, where the slope of a power below 1 is infinite.
    wrong = ops.maximum(-ops.expm1(-losses), 1e-7)
    return _weighted_mean(ops.power(wrong, gamma) * losses, weights)


def dice_loss(labels, logits, *, together: bool = False, ignored: int = 255):
    """1 - the mean over classes of the soft Dice coefficient 2 * sum(p g) / (sum(p) + sum(g)), where p is the probability of the
    class, g is 1 on its pixels and 0 on others: Milletari et al. 2016 (V-Net), section 3, https://arxiv.org/abs/1606.04797.

    Input   labels  (batch, height, width) integers, 0 .. classes - 1, or ``ignored``
            logits  (batch, height, width, classes) float
    Output  loss    (batch,) float, 0..1; 0 where no pixel is known

    The mean is over the classes in the truth. The coefficient of one that is absent is 0 whatever is answered, a constant that
    has no gradient and that would only make examples with few classes look bad; to believe in it still costs, as the classes that
    are there then lack that probability.

    Args:
        together: sum over the pixels of the whole batch as if they were one image (nnU-Net's batch Dice: Isensee et al. 2020,
            https://doi.org/10.1038/s41592-020-01008-z), which steadies classes of few pixels; all examples have the same loss.
        ignored: the label of pixels that count in none of the sums.
    Differs from the paper: plain sums in the denominator for its sums of squares, as in most programs since, and several classes
    by a softmax, where it has one foreground.
    """
    truths, known = _known_pixels(labels, logits, ignored)
    probabilities = ops.softmax(logits, axis=-1) * ops.expand_dims(known, -1)
    sums = [ops.sum(each, axis=(1, 2)) for each in (truths * probabilities, truths, probabilities)]  # (b, classes) each
    if together:
        totals = replicas.summed([ops.sum(each, axis=0) for each in sums])
        sums = [ops.zeros_like(each) + total for each, total in zip(sums, totals, strict=True)]
    overlaps, sizes, believed = sums
    present = sizes > 0
    misses = 1.0 - 2.0 * overlaps / ops.where(present, sizes + believed, 1.0)
    return _weighted_mean(misses, ops.cast(present, misses.dtype))


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


def squared_error(targets, outputs):
    """Sum of squared differences over all but the batch: (batch, ...) float twice -> (batch,), in the targets' unit squared."""
    return sum_per_example(ops.square(_flat(targets) - _flat(outputs)))


def bernoulli_nll(targets, logits):
    """Negative log-likelihood of independent Bernoulli variables: Kingma & Welling 2013, appendix C.1,
    https://arxiv.org/abs/1312.6114.

    Input   targets  (batch, ...) float, 0 or 1; what lies between counts as the share of ones, which gives a cross-entropy
            logits   same shape
    Output  loss     (batch,) float, nats, summed over all but the batch
    """
    return sum_per_example(ops.binary_crossentropy(_flat(targets), _flat(logits), from_logits=True))


def gaussian_nll(targets, mean, log_variance):
    """Negative log-density of independent Gaussian variables: Kingma & Welling 2013, appendix C.2.

    Input   targets, mean, log_variance  (batch, ...) float
    Output  loss                         (batch,) float, nats, summed over all but the batch
    """
    squares, log_variance = ops.square(_flat(targets) - _flat(mean)), _flat(log_variance)
    return 0.5 * sum_per_example(math.log(2 * math.pi) + log_variance + squares * ops.exp(-log_variance))


def image_nll(targets, outputs):
    """What a decoder's outputs say of images: Bernoulli where they are logits alone, Gaussian where they have a variance.

    Input   targets  (batch, height, width, channels) float, 0..1
            outputs  a dict: logits, and pixel_log_variance or not, same shape
    Output  loss     (batch,) float, nats
    """
    if "pixel_log_variance" in outputs:
        return gaussian_nll(targets, ops.sigmoid(outputs["logits"]), outputs["pixel_log_variance"])
    return bernoulli_nll(targets, outputs["logits"])


def negative_sampling(targets, outputs):
    """Real pairs of words told from noise: Mikolov et al. 2013, equation 4, https://arxiv.org/abs/1310.4546.

    Input   targets  a dict of weights (batch, ...) float: positive and negative, 0 where there is no pair; a noise word that
                     stands for many has their number
            outputs  a dict of logits of the same names, in shapes with which the weights broadcast
    Output  loss     (batch,) float, nats, summed over all pairs
    """
    positive = targets["positive"] * ops.softplus(-outputs["positive"])
    return sum_per_example(positive) + sum_per_example(targets["negative"] * ops.softplus(outputs["negative"]))


def hierarchical_softmax(targets, outputs):
    """The way through a binary tree to a word: Morin & Bengio 2005 as in Mikolov et al. 2013, equation 3,
    https://arxiv.org/abs/1310.4546.

    Input   targets  a dict: left, 1 where the way turns to the left at a node and 0 where to the right; weights, 0 where there is
                     no node or no pair; (batch, ...) float
            outputs  a dict: branches, logits of turning to the left, in a shape with which both broadcast
    Output  loss     (batch,) float, nats, summed over all nodes and pairs
    """
    signs = 1.0 - 2.0 * targets["left"]
    return sum_per_example(targets["weights"] * ops.softplus(signs * outputs["branches"]))


def glove_loss(counts, outputs, *, x_max: float = 100.0, alpha: float = 0.75):
    """Weighted squares of what is missing to the logarithm of a count: Pennington et al. 2014, equations 8 and 9,
    https://aclanthology.org/D14-1162/.

    Input   counts   (batch, n) float, 0 where there is no entry
            outputs  a dict: log_counts (batch, n) float
    Output  loss     (batch,) float, summed over the entries

    Args:
        x_max: the count from which on an entry has full weight.
        alpha: the power of the weight below it.
    Differs from the paper: half of it, as the authors' program has it.
    """
    weights = ops.power(ops.minimum(counts / x_max, 1.0), alpha)
    errors = outputs["log_counts"] - ops.log(ops.where(counts > 0, counts, 1.0))
    return 0.5 * sum_per_example(weights * ops.square(errors))


def _known_pixels(labels, logits, ignored, class_weights=None, pixel_weights=None):
    """The true class of each pixel as 0 and 1 (batch, height, width, classes), and its weight (batch, height, width); both are
    0 where the class is not known."""
    labels = ops.cast(labels, "int32")
    known = ops.not_equal(labels, ignored)
    # Where operations keep a fixed order, a lookup of the label's logit is no faster than these zeros and ones.
    truths = ops.one_hot(ops.where(known, labels, -1), ops.shape(logits)[-1], dtype=logits.dtype)
    weights = ops.cast(known, logits.dtype)
    if class_weights is not None:
        weights = ops.sum(truths * ops.convert_to_tensor(class_weights, logits.dtype), axis=-1)
    if pixel_weights is not None:
        weights = weights + ops.where(known, ops.cast(pixel_weights, logits.dtype), 0.0)
    return truths, weights


def _weighted_mean(values, weights):
    """(batch, ...) twice -> (batch,): the mean of each example, 0 where it has no weight."""
    total = sum_per_example(weights)
    return sum_per_example(weights * values) / ops.where(total > 0, total, 1.0)


def _flat(values):
    """(batch, ...) -> (batch, numbers): XLA is slow in a last dimension of one channel."""
    return ops.reshape(values, (ops.shape(values)[0], -1))


def sum_per_example(values):
    """(batch, ...) -> (batch,): the sum over all axes but the first."""
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))


def mean_per_example(values):
    """(batch, ...) -> (batch,): the mean over all axes but the first."""
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))
