"""Learning-rate schedules, and optimizers as papers train their networks with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import ops


def _check_rate(rate: float) -> None:
    if not 0 < rate < math.inf:
        raise ValueError(f"learning_rate must be above 0 and finite, got {rate}")


@keras.saving.register_keras_serializable(package="kerastoolkit")
class Steps(keras.optimizers.schedules.LearningRateSchedule):
    """A rate divided by ten at given steps, after an optional start at a lower rate.

    Args:
        rate: the rate before the first drop.
        at: optimizer steps at which it is multiplied by ``factor``.
        factor: what it is multiplied by each time.
        warm_up_steps, warm_up_rate: the first steps at another rate; 0 for none.
    Raises:
        ValueError: the rate is not above 0 and finite.
    """

    def __init__(self, rate: float, at: Sequence[int], factor: float = 0.1, warm_up_steps: int = 0, warm_up_rate: float = 0.0):
        _check_rate(rate)
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
        fall: cosine, or linear as in Devlin et al. 2018, appendix A.2, https://arxiv.org/abs/1810.04805.
    Raises:
        ValueError: the peak is not above 0 and finite, or there is no such fall.
    Differs from the paper: the fall, and momentum stays as it is.
    """

    def __init__(self, peak: float, total_steps: int, rise: float = 0.2, fall: str = "cosine"):
        _check_rate(peak)
        if fall not in ("cosine", "linear"):
            raise ValueError(f"fall must be cosine or linear, got {fall!r}")
        self.peak, self.total_steps, self.rise, self.fall = float(peak), int(total_steps), float(rise), fall

    def __call__(self, step):
        step = ops.cast(step, "float32")
        top = max(1.0, self.rise * self.total_steps)
        fallen = ops.clip((step - top) / max(1.0, self.total_steps - top), 0.0, 1.0)
        left = 1.0 - fallen if self.fall == "linear" else 0.5 * (1.0 + ops.cos(math.pi * fallen))
        return self.peak * ops.where(step < top, (step + 1.0) / (top + 1.0), left)

    def get_config(self):
        return {"peak": self.peak, "total_steps": self.total_steps, "rise": self.rise, "fall": self.fall}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises linearly and then falls with the square root of the step: Vaswani et al. 2017, equation 3,
    https://arxiv.org/abs/1706.03762.

    Args:
        peak: the rate at its highest, after the warm-up; the paper's is (width * warm_up_steps) ** -0.5.
        warm_up_steps: optimizer steps of the rise, at least 1; the paper's are 4,000.
    Raises:
        ValueError: the peak is not above 0 and finite, or there is no step of the rise.
    """

    def __init__(self, peak: float, warm_up_steps: int = 4000):
        _check_rate(peak)
        self.peak, self.warm_up_steps = float(peak), int(warm_up_steps)
        if self.warm_up_steps < 1:
            raise ValueError(f"warm_up_steps must be at least 1, got {warm_up_steps}")

    def __call__(self, step):
        done = (ops.cast(step, "float32") + 1.0) / self.warm_up_steps
        return self.peak * ops.minimum(done, ops.rsqrt(done))

    def get_config(self):
        return {"peak": self.peak, "warm_up_steps": self.warm_up_steps}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class CheckpointAveragingAdam(keras.optimizers.Adam):
    """Adam as the Transformer's authors use it, and the mean of the last checkpoints in the place of the weights: Vaswani et al.
    2017, sections 5.3 and 6.1, https://arxiv.org/abs/1706.03762.

    The network is scored and saved with the mean of the weights after steps ``first``, ``first + every`` and so on; before
    ``first`` with the weights themselves. Training that goes on with another ``first`` begins its mean anew.

    Args:
        learning_rate: a number or a schedule.
        first: the first optimizer step (from 1) whose weights are in the mean.
        every: steps from one to the next, at least 1.
        kwargs: those of Adam; beta_2 is 0.98 and epsilon 1e-9 if not given, as in the paper.
    """

    def __init__(self, learning_rate, first: int, every: int, **kwargs):
        kwargs = {"beta_2": 0.98, "epsilon": 1e-9, "name": "checkpoint_averaging_adam", **kwargs, "use_ema": True}
        super().__init__(learning_rate, **kwargs)
        self.first, self.every = int(first), int(every)
        for name, value in (("first", self.first), ("every", self.every)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def build(self, variables):
        built = self.built
        super().build(variables)
        if not built:
            # What the mean is of, kept with it: a training that is given more epochs goes on with another ``first``.
            self.since = self.add_variable((), initializer="zeros", dtype="int64", name="averaged_since")
            self.number = self.add_variable((), initializer="zeros", dtype="int64", name="averaged_number")

    def _update_model_variables_moving_average(self, trainable_variables):
        # Keras calls this after each step, where ``use_ema`` is on; what it would keep is a moving average.
        done = self.iterations + 1  # this step is not counted yet
        since = done - self.first
        counted = ops.logical_and(since >= 0, ops.equal(since % self.every, 0))
        number = ops.where(ops.equal(self.since, self.first), self.number, 0)

        def average():
            for variable, mean in zip(trainable_variables, self._model_variables_moving_average, strict=True):
                mean.assign(mean + (variable - mean) / ops.cast(number + 1, mean.dtype))
            return number + 1

        self.number.assign(ops.cond(counted, average, lambda: number))
        self.since.assign(self.first)

    def finalize_variable_values(self, var_list):
        if ops.convert_to_numpy(self.number) and ops.convert_to_numpy(self.since) == self.first:
            super().finalize_variable_values(var_list)

    def get_config(self):
        config = super().get_config()
        return {**{key: value for key, value in config.items() if key != "use_ema"}, "first": self.first, "every": self.every}


def averaging_adam(learning_rate: float, *, warm_up_steps: int, averaged: int, epochs: int,
                   steps: int) -> CheckpointAveragingAdam:  # fmt: skip
    """Adam with the Transformer's learning rate and the mean of the last epochs' weights.

    Args:
        learning_rate, warm_up_steps: see ``InverseSquareRoot``.
        averaged: how many epochs' last weights are averaged, at least 1: the training's last ones.
        epochs, steps: of the training, and of each epoch.
    Raises:
        ValueError: the rate is not above 0 and finite, or another number is below 1.
    """
    if averaged < 1:
        raise ValueError(f"averaged must be at least 1, got {averaged}")
    first = max(1, epochs - averaged + 1) * steps
    return CheckpointAveragingAdam(InverseSquareRoot(learning_rate, warm_up_steps), first=first, every=steps)


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


@keras.saving.register_keras_serializable(package="kerastoolkit")
class FusedAdamW(keras.optimizers.AdamW):
    """Keras' AdamW, of which on TensorFlow a step reads and writes weights and moments only once.

    Where half of the weights are a table of embeddings, that step of Keras' own takes more than twice as long.
    """

    def update_step(self, gradient, variable, learning_rate):
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            return super().update_step(gradient, variable, learning_rate)
        import tensorflow as tf

        place = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        rate, beta_1, beta_2, epsilon = (
            tf.cast(each, variable.dtype) for each in (learning_rate, self.beta_1, self.beta_2, self.epsilon)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=self._momentums[place].value.handle, v=self._velocities[place].value.handle,
            beta1_power=tf.pow(beta_1, step), beta2_power=tf.pow(beta_2, step), lr=rate, beta1=beta_1, beta2=beta_2,
            epsilon=epsilon, grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype), use_locking=True)  # fmt: skip

    def _clip_gradients(self, grads):
        # Of rows of an embedding that come several times Keras would take the norm before they are added up.
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            grads = [None if grad is None else tf.convert_to_tensor(grad) for grad in grads]
        return super()._clip_gradients(grads)


def adamw(network: keras.Model, learning_rate, *, weight_decay: float = 0.01, **kwargs) -> FusedAdamW:
    """Adam with decoupled weight decay as BERT is trained: Loshchilov & Hutter 2017, https://arxiv.org/abs/1711.05101, and Devlin
    et al. 2018, appendix A.2: biases and layer normalisation are spared, and gradients cut at a norm of 1, of all together.

    Args:
        network: the model to be trained; it names the variables that are not decayed.
        learning_rate: a number or a schedule.
        weight_decay: the share of a weight, times the learning rate, by which it shrinks each step; 0 for none.
        kwargs: those of AdamW; epsilon is 1e-6 and the norm 1 if not given, as in the authors' program.
    """
    kwargs = {"epsilon": 1e-6, "global_clipnorm": 1.0, **kwargs}
    optimizer = FusedAdamW(learning_rate, weight_decay=weight_decay, **kwargs)
    if weight_decay:
        optimizer.exclude_from_weight_decay([variable for variable in network.trainable_variables if len(variable.shape) < 2])
    return optimizer
