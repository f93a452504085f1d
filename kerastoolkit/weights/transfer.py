"""The transfer of weights from a network of keras.applications to one of ours."""

from collections.abc import Collection

import keras


def copy_from_keras_applications(
    model: keras.Model, reference: keras.Model, *, except_layers: Collection[str] = ()
) -> None:
    """Give ``model`` the weights of ``reference``, layer by layer.

    The rule: the layers that have weights are paired in topological order (``model.layers``), and a pair must
    be of the same kind and have the same shapes. Names do not matter. Nothing is copied unless everything
    fits.

    Args:
        model: the network that is changed.
        reference: the network that is read, for instance ``keras.applications.ResNet50()``.
        except_layers: names of layers, of either network, that have no partner in the other; they stay as
            they are.
    Raises:
        ValueError: the numbers of layers, the kinds or the shapes differ, or neither network has a layer of
            that name.
    """
    unknown = set(except_layers) - {layer.name for layer in model.layers + reference.layers}
    if unknown:
        raise ValueError(
            f"except_layers must name layers of {model.name} or {reference.name}, got {sorted(unknown)}"
        )
    ours, theirs = _weighted_layers(model, except_layers), _weighted_layers(reference, except_layers)
    if len(ours) != len(theirs):
        raise ValueError(
            f"{model.name} must have as many layers with weights as {reference.name}, which are paired in "
            f"topological order, got {len(ours)} and {len(theirs)}"
        )
    pairs = list(zip(ours, theirs, strict=True))
    for layer, partner in pairs:
        _check_pair(model, layer, reference, partner)
    for layer, partner in pairs:
        layer.set_weights(partner.get_weights())


def _weighted_layers(model, except_layers):
    return [layer for layer in model.layers if layer.weights and layer.name not in except_layers]


def _check_pair(model, layer, reference, partner):
    where = (
        f"{layer.name} of {model.name}, paired in topological order with {partner.name} of {reference.name}"
    )
    # Either class may derive from the other's: our batch normalization is a subclass of Keras'.
    if not (isinstance(layer, type(partner)) or isinstance(partner, type(layer))):
        raise ValueError(
            f"{where}: {type(layer).__name__} cannot take the weights of {type(partner).__name__}"
        )
    shapes = [tuple(weight.shape) for weight in layer.weights]
    partner_shapes = [tuple(weight.shape) for weight in partner.weights]
    if shapes != partner_shapes:
        raise ValueError(f"{where}: the shapes must be equal, got {shapes} and {partner_shapes}")
