"""Batch normalization that is worked into the convolutions before it, for networks that are not trained any more."""

import keras
import numpy as np


def fold_batch_norms(network: keras.Model) -> keras.Model:
    """A copy of a functional network that answers the same with fewer operations: where the output of a Conv2D goes into a batch
    normalization and nowhere else, the copy's convolution has the normalization's scale in its kernel and the rest as its bias.

    The copy is for answers alone: it has the moving averages of this moment, and does not follow the network.
    """
    norms = {id(convolution): norm for convolution, norm in _pairs(network)}
    names = {norm.name for norm in norms.values()}

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        return layer.__class__.from_config({**config, "use_bias": True} if id(layer) in norms else config)

    def call(layer: keras.layers.Layer, *inputs, **arguments):
        return inputs[0] if layer.name in names else layer(*inputs, **arguments)

    copied = keras.models.clone_model(network, clone_function=copy, call_function=call)
    for layer in network.layers:
        if id(layer) in norms:
            copied.get_layer(layer.name).set_weights(_folded(layer, norms[id(layer)]))
        elif layer.weights and layer.name not in names:
            copied.get_layer(layer.name).set_weights(layer.get_weights())
    return copied


def _pairs(network: keras.Model):
    """Convolutions, each with the batch normalization that alone takes its output."""
    for layer in network.layers:
        if type(layer) is not keras.layers.Conv2D or layer.data_format != "channels_last" or len(layer._inbound_nodes) != 1:
            continue
        taken_by = [node.operation for node in layer._outbound_nodes]
        alone = len(taken_by) == 1 and all(layer.output is not output for output in network.outputs)
        if alone and isinstance(taken_by[0], keras.layers.BatchNormalization) and taken_by[0].axis in (-1, 3):
            if layer.activation is keras.activations.linear:
                yield layer, taken_by[0]


def _folded(convolution: keras.layers.Conv2D, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    """Kernel and bias of both, computed in float64."""

    def numbers(variable, otherwise: float) -> np.ndarray:
        return np.float64(otherwise if variable is None else keras.ops.convert_to_numpy(variable))

    scale = numbers(norm.gamma, 1.0) / np.sqrt(numbers(norm.moving_variance, 1.0) + norm.epsilon)
    bias = numbers(convolution.bias, 0.0) - numbers(norm.moving_mean, 0.0)
    return [numbers(convolution.kernel, 0.0) * scale, numbers(norm.beta, 0.0) + bias * scale]
