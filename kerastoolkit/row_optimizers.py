"""Optimizers for tables of which a step uses few rows, such as vectors of words."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastoolkit")
class RowSGD(keras.optimizers.Optimizer):
    """Stochastic gradient descent for tables of which a step uses few rows, some of them hundreds of times.

    Word2vec updates a word's vector after each pair that it is in. In a step over thousands of words a frequent word has hundreds
    of gradients, all taken at the same vector: their sum overshoots, and training diverges. So the steps that a row's uses ask
    for, one behind the other, are a way of a certain length (the sum of their norms); where it is longer than ``longest``, all of
    them are shortened alike, to that length. Whatever the text and the rate, no row moves farther than that in a step.

    Args:
        learning_rate: of one term of the loss; a number or a schedule.
        terms: how many terms the loss is the mean of. What is applied is the sum, as word2vec states its rates.
        longest: the length of a row's way in a step, more than 0; None for any. It acts where gradients come as rows
            (``tf.IndexedSlices``), as those of embeddings on TensorFlow do; gradients of whole variables are applied as they are.
    """

    def __init__(self, learning_rate=0.025, *, terms: float = 1.0, longest: float | None = None, name: str = "row_sgd", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        if longest is not None and not longest > 0:
            raise ValueError(f"longest must be more than 0, got {longest}")
        self.terms, self.longest = float(terms), None if longest is None else float(longest)

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype) * self.terms
        if hasattr(gradient, "dense_shape"):  # all tensors of PyTorch have indices
            import tensorflow as tf

            steps = gradient.values * rate
            if self.longest is not None:
                # A product with ones is a sum that XLA makes three times as fast.
                norms = tf.sqrt(tf.matmul(tf.square(steps), tf.ones((variable.shape[1], 1), steps.dtype)))[:, 0]
                ways = tf.math.unsorted_segment_sum(norms, gradient.indices, variable.shape[0])
                steps *= (self.longest / tf.maximum(tf.gather(ways, gradient.indices), self.longest))[:, None]
            return self.assign_sub(variable, tf.IndexedSlices(steps, gradient.indices, gradient.dense_shape))
        self.assign_sub(variable, gradient * rate)

    def get_config(self):
        return {**super().get_config(), "terms": self.terms, "longest": self.longest}


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
