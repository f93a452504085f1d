"""Learning-rate schedules, stochastic gradient descent as image classifiers are trained with it, and optimizers for words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastoolkit")
class Steps(keras.optimizers.schedules.LearningRateSchedule):
    """A rate divided by ten at given steps, after an optional start at a lower rate.

    Args:
        rate: the rate before the first drop.
        at: optimizer steps at which it is multiplied by ``factor``.
        factor: what it is multiplied by each time.
        warm_up_steps, warm_up_rate: the first steps at another rate; 0 for none.
    """

    def __init__(self, rate: float, at: Sequence[int], factor: float = 0.1, warm_up_steps: int = 0, warm_up_rate: float = 0.0):
        self.rate, self.at, self.factor = float(rate), [int(step) for step in at], float(factor)
        self.warm_up_steps, self.warm_up_rate = int(warm_up_steps), float(warm_up_rate)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = ops.convert_to_tensor(self.rate, "float32")
        for number, boundary in enumerate(self.at, start=1):
            rate = ops.where(step >= boundary, self.rate * self.factor**number, rate)
        return ops.where(step < self.warm_up_steps, self.warm_up_rate, rate)

    def get_config(self):
        return {"rate": self.rate, "at": self.at, "factor": self.factor, "warm_up_steps": self.warm_up_steps,
                "warm_up_rate": self.warm_up_rate}  # fmt: skip


@keras.saving.register_keras_serializable(package="kerastoolkit")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises linearly to a peak and falls along a cosine to zero: Smith & Topin 2017, section 3,
    https://arxiv.org/abs/1708.07120.

    Args:
        peak: the highest rate.
        total_steps: optimizer steps of the whole training.
        rise: share of them in which the rate rises, in (0, 1).
    Differs from the paper: the fall is a cosine, and momentum stays as it is.
    """

    def __init__(self, peak: float, total_steps: int, rise: float = 0.2):
        self.peak, self.total_steps, self.rise = float(peak), int(total_steps), float(rise)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        top = max(1.0, self.rise * self.total_steps)
        fall = ops.clip((step - top) / max(1.0, self.total_steps - top), 0.0, 1.0)
        return self.peak * ops.where(step < top, (step + 1.0) / (top + 1.0), 0.5 * (1.0 + ops.cos(math.pi * fall)))

    def get_config(self):
        return {"peak": self.peak, "total_steps": self.total_steps, "rise": self.rise}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class RowSGD(keras.optimizers.Optimizer):
    """Stochastic gradient descent for tables of which a step uses few rows, some of them hundreds of times.

    Word2vec updates a word's vector after each pair that it is in. In a step over thousands of words a frequent word has hundreds
    of gradients, all taken at the same vector: their sum overshoots, and training diverges. So the gradients of a row count in
    full up to ``most`` of them; more are scaled down to the weight of that many.

    Args:
        learning_rate: of one term of the loss; a number or a schedule.
        terms: how many terms the loss is the mean of. What is applied is the sum, as word2vec states its rates.
        most: uses of a row in a step that count in full, 1 or more. It acts where gradients come as rows (``tf.IndexedSlices``),
            which is so for embeddings on TensorFlow; gradients of whole variables are applied as they are. Uses whose gradient is
            zero, as those by padding, do not count.
    """

    def __init__(self, learning_rate=0.025, *, terms: float = 1.0, most: int = 8, name: str = "row_sgd", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        if most < 1:
            raise ValueError(f"most must be at least 1, got {most}")
        self.terms, self.most = float(terms), int(most)

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype) * self.terms
        if hasattr(gradient, "dense_shape"):  # all tensors of PyTorch have indices
            import tensorflow as tf

            # By its sum, because XLA is four times as fast at sums; that one of a gradient is exactly zero by chance, is rare.
            used = tf.cast(tf.reduce_sum(gradient.values, axis=-1) != 0, variable.dtype)
            uses = tf.math.unsorted_segment_sum(used, gradient.indices, variable.shape[0])
            share = self.most / tf.maximum(tf.gather(uses, gradient.indices), self.most)
            steps = gradient.values * (rate * share)[:, None]
            return self.assign_sub(variable, tf.IndexedSlices(steps, gradient.indices, gradient.dense_shape))
        self.assign_sub(variable, gradient * rate)

    def get_config(self):
        return {**super().get_config(), "terms": self.terms, "most": self.most}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class RowAdagrad(keras.optimizers.Optimizer):
    """AdaGrad (Duchi, Hazan & Singer 2011, https://jmlr.org/papers/v12/duchi11a.html) for tables of which a step uses few rows.

    Only the rows that a step uses are read and written. As in GloVe's own program, the squares of all uses of a row are added one
    by one, not the square of their sum; all are added before the step is taken, because the uses of a step come together. That
    program's squares are of the rate times the gradient, from 1 on: the same steps as at the rate 1 from 1 / rate ** 2 on.

    Args:
        learning_rate: of one term of the loss; a number or a schedule.
        terms: how many terms the loss is the mean of: see ``RowSGD``.
        start: what the sums of squares begin with.
    """

    def __init__(self, learning_rate=0.05, *, terms: float = 1.0, start: float = 1.0, name: str = "row_adagrad", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        if start <= 0:
            raise ValueError(f"start must be more than 0, got {start}")
        self.terms, self.start = float(terms), float(start)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.squares = self.add_optimizer_variables(variables, "squares", initializer=keras.initializers.Constant(self.start))

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype)
        squares = self.squares[self._get_variable_index(variable)]
        if hasattr(gradient, "dense_shape"):  # all tensors of PyTorch have indices
            import tensorflow as tf

            values = gradient.values * self.terms
            self.assign_add(squares, tf.IndexedSlices(tf.square(values), gradient.indices, gradient.dense_shape))
            steps = rate * values * tf.math.rsqrt(tf.gather(squares.value, gradient.indices))
            return self.assign_sub(variable, tf.IndexedSlices(steps, gradient.indices, gradient.dense_shape))
        gradient = gradient * self.terms
        self.assign_add(squares, ops.square(gradient))
        self.assign_sub(variable, rate * gradient * ops.rsqrt(squares))

    def get_config(self):
        return {**super().get_config(), "terms": self.terms, "start": self.start}


def sgd(network: keras.Model, learning_rate, *, momentum: float = 0.9, weight_decay: float = 0.0, nesterov: bool = False,
        average: float | None = None) -> keras.optimizers.SGD:  # fmt: skip
    """Stochastic gradient descent with momentum, whose weight decay spares biases and batch norm.

    Args:
        network: the model to be trained; it names the variables that are not decayed.
        learning_rate: a number or a schedule.
        momentum: in [0, 1).
        weight_decay: the factor of the weight in the gradient, as papers and PyTorch state it. Keras' own argument is decoupled:
            it does not pass through the momentum, which multiplies it by 1 / (1 - momentum), so that is put back here.
        nesterov: look ahead along the momentum.
        average: momentum of an exponential moving average of the weights, with which the model is scored and saved; None
            for no averaging.
    """
    optimizer = keras.optimizers.SGD(
        learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay / (1.0 - momentum) or None,
        use_ema=average is not None, ema_momentum=average if average is not None else 0.99)  # fmt: skip
    if weight_decay:
        optimizer.exclude_from_weight_decay([variable for variable in network.trainable_variables if len(variable.shape) < 2])
    return optimizer
