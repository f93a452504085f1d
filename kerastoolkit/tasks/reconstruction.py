"""Reconstruction: images through a code and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastoolkit import charts
from kerastoolkit.experiment import Data, InputError, Report, Task, described
from kerastoolkit.losses import bernoulli_nll, squared_error
from kerastoolkit.serving.autoencoder import autoencoder_answer, coding_endpoints
from kerastoolkit.serving.model import decoded_model
from kerastoolkit.tasks._image_files import decode_images, made_up_images, pixels_of, png_file, read_images
from kerastoolkit.tasks._reconstructions import (
    IMAGES_FOR_CLASSIFIER,
    SHOWN,
    classifier_accuracy,
    components_note,
    evenly,
    first_filters,
    flat,
    gathered,
    image_figures,
    in_batches,
    latent_space,
    principal_components,
    training_images,
)

LOSSES = {"squared_error": lambda targets, logits: squared_error(targets, ops.sigmoid(logits)), "cross_entropy": bernoulli_nll}


@described
def reconstruction(loss: str = "squared_error", active_above: float | None = None) -> Task:
    """The image itself, out of its code.

    The network has an encoder and a decoder, and gives logits whose sigmoid is the reconstruction. Answers, as
    ``serving.autoencoder.autoencoder_answer`` states them: image, reconstruction, code.

    Args:
        loss: "squared_error" of intensities 0..1, summed over an image, or "cross_entropy", in nats, with the intensities as
            probabilities.
        active_above: what a unit of a sparse code must exceed to count as active; None for a code that is not sparse.
    Raises:
        InputError: no such loss.
    """
    if loss not in LOSSES:
        raise InputError(f"loss must be {' or '.join(LOSSES)}, got {loss}")

    def encode(truths, inputs, side_outputs, seeds):
        return {}, inputs["image"]

    # The loss is the squared error alone where it is that and nothing penalises the code.
    alone = loss == "squared_error" and active_above is None
    metrics = {} if alone else {"squared_error": LOSSES["squared_error"]}
    return Task(
        name="reconstruction", encode=encode, loss=LOSSES[loss], metrics=metrics, decode=decode_images,
        answer=lambda network: autoencoder_answer(network, with_code=True),
        score=lambda batches, data, serving: _score(batches, data, serving, active_above), read=read_images,
        tell=tell_reconstructions, draw=draw_reconstruction, probe=made_up_images, endpoints=coding_endpoints,
        files=lambda raw, answers: {"-reconstruction.png": png_file(answers["reconstruction"])})  # fmt: skip


def tell_reconstructions(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
    """``Task.tell``: how near each reconstruction comes to the image as the network saw it, and the code."""
    rows = []
    for number, name in enumerate(names):
        figures = image_figures(*(answers[key][number : number + 1] for key in ("image", "reconstruction")))
        code = answers["code"][number].ravel().tolist()
        rows.append({"input": name, **{key: figures[key] for key in ("mean_squared_error", "psnr", "ssim")}, "code": code})
    return rows


def draw_reconstruction(raw: dict[str, Any], answers: dict[str, Any], name: str):
    """``Task.draw``: the file, what the network saw of it, and what it made of that."""
    images = {"input": pixels_of(raw["image"]), "as seen": answers["image"], "reconstruction": answers["reconstruction"]}
    return charts.image_rows({label: [image] for label, image in images.items()}, name)


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, serving: keras.Model,
           active_above: float | None) -> Report:  # fmt: skip
    found = gathered(batches)
    images, codes = found["image"], flat(found["code"])
    figures = image_figures(images, found["reconstruction"])
    if active_above is not None:
        active = codes > active_above
        figures |= {"mean_activation": float(codes.mean()), "active_share": float(active.mean()),
                    "dead_units_share": float((~active.any(axis=0)).mean())}  # fmt: skip
    components = principal_components(data, codes.shape[1])
    baselines, notes, rows = {}, [], {"image": images, "network": found["reconstruction"]}
    if components is not None:
        notes.append(components_note(data, components))
        name = f"PCA with {codes.shape[1]} components"
        scores = components.transform(flat(images) / 255.0)
        rows[name] = np.clip(255.0 * components.inverse_transform(scores), 0, 255).reshape(images.shape)
        baselines[name] = image_figures(images, rows[name])
        # The definition of the least squared error, which clipping to the range of an image can only lower.
        exact = np.square(components.inverse_transform(scores) - flat(images) / 255.0).sum(axis=1).mean()
        baselines[name]["squared_error_per_image_before_clipping"] = float(exact)
    if "label" in found:
        encoder = in_batches(coding_endpoints(decoded_model(serving))["encode"])
        some, labels = training_images(data, IMAGES_FOR_CLASSIFIER)
        pairs = {"network": (encoder(image=some)["code"], codes), "pixels": (some, images)}
        if components is not None:
            pairs[name] = components.transform(flat(some) / 255.0), scores
        for method, (train, test) in pairs.items():
            accuracy = classifier_accuracy(flat(train), labels, flat(test), found["label"])
            target = figures if method == "network" else baselines.setdefault(method, {})
            target["linear_classifier_accuracy"] = accuracy
        notes.append(f"linear classifiers: logistic regression on {len(labels):,} training images' codes, components or pixels")
    shown = evenly(len(images), SHOWN)
    pictures = {"reconstructions": charts.image_rows({label: each[shown] for label, each in rows.items()})}
    pictures |= latent_space(codes, found.get("label"), data.about.get("classes"))
    filters = first_filters(serving)
    return Report(figures, baselines, pictures=pictures | ({"filters": filters} if filters else {}), notes=tuple(notes))
