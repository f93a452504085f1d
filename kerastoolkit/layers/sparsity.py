"""What an activation costs in a sparse autoencoder."""

import keras
from keras import ops

from kerastoolkit import replicas

# Of a mean activation, so that its logarithm exists.
_MARGIN = 1e-6


@keras.saving.register_keras_serializable(package="kerastoolkit")
class SparsityPenalty(keras.layers.Layer):
    """Hands activations on as they are and adds what they cost to the network's loss.

    "kullback_leibler": weight * sum over units of KL(target_rate || mean activation over the batch), as Ng 2011, section 3,
    https://web.stanford.edu/class/cs294a/sparseAutoencoder.pdf, for units between 0 and 1.
    "l1": weight * mean over the batch of the sum over units of |activation|.

    Input   activations  (batch, units) float
    Output  the same

    Args:
        kind: "kullback_leibler" or "l1".
        weight: 0 or more, in the unit of the loss that it is added to.
        target_rate: the mean activation that "kullback_leibler" pulls each unit to, in (0, 1).
    Raises:
        ValueError: an argument is not one of the above.
    Differs from the source: the mean is over a batch, not over the training set.
    """

    def __init__(self, kind: str = "kullback_leibler", weight: float = 1.0, target_rate: float = 0.05, **kwargs):
        super().__init__(**kwargs)
        if kind not in ("kullback_leibler", "l1"):
            raise ValueError(f"penalty must be 'kullback_leibler' or 'l1', got {kind!r}")
        if not weight >= 0:
            raise ValueError(f"weight must be 0 or more, got {weight!r}")
        if not 0 < target_rate < 1:
            raise ValueError(f"target_rate must be between 0 and 1, got {target_rate!r}")
        self.kind, self.weight, self.target_rate = kind, weight, target_rate

    def call(self, inputs):
        activations = ops.cast(inputs, "float32")  # in half precision 1 - _MARGIN is 1
        if self.kind == "l1":
            cost = ops.mean(ops.sum(ops.abs(activations), axis=-1))
        else:
            total, examples = replicas.summed([ops.sum(activations, axis=0), ops.cast(ops.shape(activations)[0], "float32")])
            rate, target = ops.clip(total / examples, _MARGIN, 1.0 - _MARGIN), self.target_rate
            cost = ops.sum(target * ops.log(target / rate) + (1.0 - target) * ops.log((1.0 - target) / (1.0 - rate)))
        self.add_loss(self.weight * cost)
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"kind": self.kind, "weight": self.weight, "target_rate": self.target_rate}
