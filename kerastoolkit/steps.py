"""The compiled steps of a training: what a step computes, on one device or on many, and when it changes a weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from kerastoolkit import replicas
from kerastoolkit.experiment import InputError
from kerastoolkit.row_optimizers import RowAdagrad, RowSGD
from kerastoolkit.training_state import State


def compile_steps(state: State) -> Callable[[Iterator[Any], tf.Tensor], None]:
    """The compiled loop of steps: (batches, how many) -> None; after one that is not finite, later ones change no weight."""
    step = _alone(state) if state.is_alone else _together(state)

    @tf.function
    def run_steps(batches, count):
        for _ in tf.range(count):
            step(batches)

    return run_steps


def _alone(state: State) -> Callable[[Iterator[Any]], None]:
    step = compile_step(state)
    return lambda batches: step(*next(batches))


def compile_step(state: State) -> Callable[[Any, Any], None]:
    """The compiled step of one device: (inputs, targets) -> None; after one that is not finite, later ones change no weight."""
    variables = state.network.trainable_variables
    tensors = [variable.value for variable in variables]

    @tf.function(jit_compile=state.experiment.jit_compile or None, autograph=False)
    def step(inputs, targets):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tensors)
            loss, values, weights = state.values(inputs, targets, training=True)
            scaled = _scaled(state, loss)
        gradients = _unscaled(state, tape.gradient(scaled, tensors))
        sums = _sums(values, weights)
        _apply_if_finite(state, loss, _sum(gradients), lambda: state.optimizer.apply(gradients, variables), sums)

    return step


def _together(state: State) -> Callable[[Iterator[Any]], None]:
    """The step of several replicas, or in several parts: (slices of batches) -> None.

    Each replica computes the gradient of the sum over its examples, divided by the step's number of examples; the sums over parts
    and replicas are the gradient of the step. Where examples count differently, it is multiplied by the number of examples over
    the sum of what they count. Optimizers get the sums: Keras' own cut each replica's gradients and add them after.
    """
    strategy, parts, optimizer = state.workers.strategy, state.options.accumulate, state.optimizer
    variables = state.network.trainable_variables
    keeps_rows = isinstance(optimizer, (RowSGD, RowAdagrad))
    if keeps_rows and parts > 1:
        raise InputError(f"accumulate cannot go with {type(optimizer).__name__}, which needs each use of a row by itself")
    optimizer._all_reduce_sum_gradients = lambda pairs: pairs  # they are sums already
    names = list(state.sums)
    here = state.workers.replicas // max(1, len(state.workers.addresses))
    with strategy.scope():
        kept = [tf.Variable(tf.zeros(each.shape), trainable=False) for each in variables] if parts > 1 else []
        kept_sums = tf.Variable(tf.zeros(len(names) + 1, tf.float64), trainable=False) if parts > 1 else None

    def compute(element):
        (inputs, targets), place = element
        tensors = [variable.value for variable in variables]
        first, examples, of = place[0], place[1], place[2]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tensors)
            with replicas.slice_of_batch(first, tf.maximum(examples, 1)):
                _, values, weights = state.values(inputs, targets, training=True)
            weights = weights * tf.cast(examples > 0, weights.dtype)
            loss = _scaled(state, tf.reduce_sum(values["loss"] * weights) / tf.cast(of, weights.dtype))
        gradients = tape.gradient(loss, tensors)
        if not keeps_rows:
            gradients = [None if each is None else tf.convert_to_tensor(each) for each in gradients]
        sums = _sums(values, weights)
        return gradients, tf.stack([*(sums[name] for name in names), sums[None]]), of

    def compute_part(element, is_last):
        # All parts draw from the same seeds, each its own rows.
        seeds = [variable for variable in state.network.variables if variable.name == "seed_generator_state"]
        before = [tf.identity(variable.value) for variable in seeds]
        gradients, sums, of = compute(element)
        for variable, value in zip(seeds, before, strict=True):
            variable.assign(tf.where(is_last, variable.value, value))
        for variable, gradient in zip(kept, gradients, strict=True):
            if gradient is not None:
                variable.assign_add(gradient)
        kept_sums.assign_add(sums)
        return of

    def kept_parts():
        gradients, sums = [tf.identity(each) for each in kept], tf.identity(kept_sums)
        with tf.control_dependencies([*gradients, sums]):
            for variable in (*kept, kept_sums):
                variable.assign(tf.zeros_like(variable))
        return gradients, sums

    def reduce(gradients, sums, of):
        found = [each for each in gradients if each is not None]
        found, (sums,) = _all_reduced(found), _all_reduced([sums])  # in one operation all must be of one type
        if state.experiment.task.weigh is not None:
            found = _times(found, tf.cast(of, tf.float64) / sums[-1])
        found = _unscaled(state, found)
        reduced = iter(found)
        return [None if each is None else next(reduced) for each in gradients], sums, _sum(found)

    def whole(element):
        return reduce(*compute(element))

    def apply(gradients):
        optimizer.apply(gradients, variables)

    def next_element(batches):
        if here == 1:
            return next(batches)
        return strategy.experimental_distribute_values_from_function(lambda _: next(batches))

    def step(batches):
        if parts == 1:
            gradients, sums, total = strategy.run(whole, args=(next_element(batches),))
        else:
            def part(number, _):
                of = strategy.run(compute_part, args=(next_element(batches), number == parts - 1))
                return number + 1, state.workers.here(of)[0]

            _, of = tf.while_loop(lambda number, _: number < parts, part, (tf.constant(0), tf.constant(0, tf.int64)),
                                  parallel_iterations=1)  # fmt: skip
            gradients, sums, total = strategy.run(lambda: reduce(*kept_parts(), of))
        sums, total = state.workers.here(sums)[0], state.workers.here(total)[0]
        named = dict(zip([*names, None], tf.unstack(sums), strict=True))
        _apply_if_finite(state, named["loss"], total, lambda: strategy.run(apply, args=(gradients,)), named)

    return tf.autograph.experimental.do_not_convert(step)


def _all_reduced(tensors: list[Any]) -> list[Any]:
    if replicas.count() == 1:
        return tensors
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def _apply_if_finite(state: State, loss: Any, gradients: Any, apply: Callable[[], Any], sums: dict[str | None, Any]) -> None:
    """Takes the step where ``loss`` and the sum of all ``gradients`` are finite and no step before was not; else notes it.

    ``sums`` are by name those over the examples of values times what each counts, and under None that of what they count.
    """
    finite = tf.math.is_finite(tf.cast(loss, tf.float32)) & tf.math.is_finite(gradients)
    done = tf.cast(state.optimizer.iterations.value, tf.int64)

    def take():
        apply()
        for name, value in state.sums.items():
            value.assign_add(sums[name])
        state.counted.assign_add(sums[None])
        state.loss_scale.applied()
        return tf.constant(-1, tf.int64)

    def refuse():
        is_lost = ~tf.math.is_finite(tf.cast(loss, tf.float32)) | state.loss_scale.refused()
        return tf.where(is_lost & (state.failed_at < 0), done, state.failed_at)

    state.failed_at.assign(tf.cond(finite & (state.failed_at < 0), take, refuse))


def _sums(values: dict[str, Any], weights: Any) -> dict[str | None, Any]:
    counts = tf.cast(weights, tf.float64)
    sums = {name: tf.reduce_sum(tf.cast(value, tf.float64) * counts) for name, value in values.items()}
    return {**sums, None: tf.reduce_sum(counts)}


def _sum(gradients: list[Any]) -> Any:
    """The sum of all, which is not finite where one of them is not: each is read once."""
    return tf.add_n([tf.reduce_sum(tf.cast(_dense(each), tf.float32)) for each in gradients if each is not None])


def _scaled(state: State, loss: Any) -> Any:
    return loss * tf.cast(state.loss_scale.factor, loss.dtype) if state.loss_scale.is_used else loss


def _unscaled(state: State, gradients: list[Any]) -> list[Any]:
    return _times(gradients, 1.0 / state.loss_scale.factor) if state.loss_scale.is_used else gradients


def _times(gradients: list[Any], factor: Any) -> list[Any]:
    def times(each):
        if isinstance(each, tf.IndexedSlices):
            return tf.IndexedSlices(each.values * tf.cast(factor, each.values.dtype), each.indices, each.dense_shape)
        return None if each is None else each * tf.cast(factor, each.dtype)

    return [times(each) for each in gradients]


def _dense(gradient: Any) -> Any:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
