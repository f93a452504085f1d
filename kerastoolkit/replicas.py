"""What a layer or a loss knows of the other replicas of a data-parallel training: the devices that each compute a slice of every
batch. Where there is one replica alone, on any backend, nothing here changes a bit."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras

_here = threading.local()  # each replica of a process is traced in a thread of its own


def count() -> int:
    """How many replicas compute slices of the batch that is being computed here."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def summed(value: Any) -> Any:
    """The sum over all replicas of tensors that each has, so that what is divided by it is of the whole batch; differentiable."""
    if count() == 1:
        return value
    import tensorflow as tf

    here = tf.distribute.get_replica_context()

    def total(tensors):
        # TensorFlow looks for variables in all that a sum is made of, in each sum anew; it does not look behind these.
        return here.all_reduce(tf.distribute.ReduceOp.SUM, [tf.stop_gradient(tensor) for tensor in tensors])

    @tf.custom_gradient
    def differentiable_total(*tensors):
        return total(tensors), lambda *gradients: total(gradients)

    totals = differentiable_total(*(value if isinstance(value, list) else [value]))
    return totals if isinstance(value, list) else totals[0]


def own(tensors: list[Any]) -> list[Any]:
    """Of tensors that layers keep, such as losses, those of this replica: Keras' layers do not tell replicas apart."""
    if count() == 1:
        return tensors
    import tensorflow as tf

    here = tf.zeros(()).device
    return [tensor for tensor in tensors if tensor.device == here]


@contextlib.contextmanager
def slice_of_batch(first: Any, examples: Any, seed: Any = None) -> Iterator[None]:
    """Says, while a slice's graph is traced, which examples of the batch it has: so many from the number ``first`` on.

    Args:
        first, examples: integers or tensors of them.
        seed: (2,) int32, of the first example of the whole batch, where examples are made.
    """
    _here.first, _here.examples, _here.seed = first, examples, seed
    try:
        yield
    finally:
        del _here.first, _here.examples, _here.seed


def is_slice() -> bool:
    """Whether the examples here are a slice of the batch: another replica, or another part of the step, has the others."""
    return hasattr(_here, "first")


def uniform(like: Any, shape: Any, seed: keras.random.SeedGenerator) -> Any:
    """Numbers in [0, 1) of the type of ``like``; for each slice those that the whole batch would have for its examples.

    Args:
        like: a tensor whose rows are examples, as many as the numbers are for.
        shape: of the numbers; its first dimension is the examples, or a multiple of them.
        seed: what draws them; it moves on by one.
    """
    return _layers_numbers("uniform", like, shape, seed)


def normal(like: Any, shape: Any, seed: keras.random.SeedGenerator) -> Any:
    """The same of the standard normal distribution."""
    return _layers_numbers("normal", like, shape, seed)


def batch_seed(seeds: Any) -> Any:
    """The seed pair of the batch's first example, from those of the slice's."""
    return _here.seed if is_slice() else seeds[0]


def batch_uniform(shape: Any, seed: Any, minval: Any = 0, maxval: Any = None, dtype: Any = "float32") -> Any:
    """``tf.random.stateless_uniform`` with examples in its first dimension, for a whole batch or a slice of one."""
    import tensorflow as tf

    if not is_slice():
        return tf.random.stateless_uniform(shape, seed, minval, maxval, dtype)
    if maxval is None:
        return _own_rows(tf.raw_ops.StatelessRandomUniformV2, shape, seed, dtype=tf.as_dtype(dtype))
    bounds = {"minval": tf.cast(minval, dtype), "maxval": tf.cast(maxval, dtype)}
    return _own_rows(tf.raw_ops.StatelessRandomUniformIntV2, shape, seed, **bounds)


def _layers_numbers(kind: str, like: Any, shape: Any, seed: keras.random.SeedGenerator) -> Any:
    dtype = keras.backend.standardize_dtype(like.dtype)
    if not is_slice():
        return getattr(keras.random, kind)(shape, dtype=dtype, seed=seed)
    import tensorflow as tf

    state = tf.cast(seed.next(), tf.int32)
    draw = {"uniform": tf.raw_ops.StatelessRandomUniformV2, "normal": tf.raw_ops.StatelessRandomNormalV2}[kind]
    if None in tuple(like.shape)[1:]:
        # Texts are padded to the longest of the slice, not of the batch, whose numbers have no such rows.
        state = tf.random.experimental.stateless_fold_in(state, tf.cast(_here.first, tf.int32))
        return _rows(draw, shape, state, tf.constant(0, tf.int64), dtype=tf.as_dtype(dtype))
    return _own_rows(draw, shape, state, dtype=tf.as_dtype(dtype))


def _own_rows(draw: Any, shape: Any, seed: Any, **how: Any) -> Any:
    import tensorflow as tf

    numbers = tf.reduce_prod(tf.cast(tf.stack(shape), tf.int64))
    return _rows(draw, shape, seed, tf.cast(_here.first, tf.int64) * (numbers // tf.cast(_here.examples, tf.int64)), **how)


def _rows(draw: Any, shape: Any, seed: Any, before: Any, **how: Any) -> Any:
    """The numbers of a shape that come after ``before`` others in what a seed gives.

    Philox (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405) makes a block of numbers from a counter, with no need of
    those before, and TensorFlow takes its blocks in order.
    """
    import tensorflow as tf

    block = 2 if how.get("dtype") == tf.float64 else 4
    shape = tf.cast(tf.stack(shape), tf.int64)
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    counter += tf.stack([tf.cast(before // block, tf.uint64), tf.constant(0, tf.uint64)])
    skipped = before % block
    numbers = draw(shape=[tf.reduce_prod(shape) + skipped], key=key, counter=counter, alg=1, **how)
    return tf.reshape(numbers[skipped:], shape)
