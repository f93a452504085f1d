"""What the ``weights`` argument of an image builder means."""

from collections.abc import Callable, Collection
from pathlib import Path

import keras

from kerastoolkit.weights.files import load_weights
from kerastoolkit.weights.transfer import copy_from_keras_applications


def load_image_weights(
    model: keras.Model,
    weights: str | Path | None,
    *,
    reference: Callable[..., keras.Model] | None,
    except_layers: Collection[str] = (),
) -> None:
    """Fill a network with the weights that the caller of its builder asked for.

    Args:
        model: the network that is changed.
        weights: None to leave it at random; a file that ``load_weights`` reads; or "imagenet".
        reference: the function of keras.applications that builds and downloads the same network, or None
            where there is none; for "imagenet".
        except_layers: what "imagenet" leaves out, by names in either network: a last layer for other classes,
            mostly.
    Raises:
        ValueError: "imagenet" where there is no reference, or weights that do not fit.
        OSError: the ImageNet weights could not be fetched.
    """
    if weights is None:
        return
    if weights != "imagenet":
        load_weights(model, weights)
        return
    if reference is None:
        raise ValueError(
            f"weights must be None or a file for this {model.name}, got 'imagenet': there are no such weights"
        )
    copy_from_keras_applications(model, _fetch(model, reference), except_layers=except_layers)


def _fetch(model, reference):
    try:
        return reference(weights="imagenet", classifier_activation=None)
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # keras.utils.get_file raises a bare Exception when a download fails
        raise OSError(f"the ImageNet weights of {model.name} could not be fetched: {error}") from error
