"""Variational autoencoding: images as draws from a model with a latent code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastoolkit import charts, replicas
from kerastoolkit.experiment import Data, InputError, Report, Task, described
from kerastoolkit.layers.gaussian_sample import kl_to_standard_normal
from kerastoolkit.losses import image_nll, sum_per_example
from kerastoolkit.serving.autoencoder import autoencoder_answer, variational_endpoints
from kerastoolkit.serving.model import decoded_model, inner_layer
from kerastoolkit.tasks._image_files import decode_images, made_up_images, png_file, read_images
from kerastoolkit.tasks._reconstructions import (
    SHOWN,
    components_note,
    evenly,
    first_filters,
    flat,
    gathered,
    image_figures,
    in_batches,
    latent_space,
    principal_components,
    square,
)
from kerastoolkit.tasks.reconstruction import draw_reconstruction, tell_reconstructions

BINARISATIONS = {
    "none": "intensities 0..1 as they are",
    "sampled": "each pixel is 1 with its intensity as probability, drawn anew for each training image in each epoch, and once "
    "for each test image (Burda et al. 2015, section 5)",
}
# Burda et al. 2015, section 5.1: a unit is active where the variance of its posterior mean over the data exceeds this.
ACTIVE_VARIANCE = 0.01
MANIFOLD_SIDE, SAMPLES_SHOWN, INTERPOLATIONS, STEPS = 20, 100, 8, 10
LARGEST = 1_000_000_000  # leaves room in 32 bits for the number of an image beside the seed
SCORING = {"elbo_samples": 10, "importance_samples": 500, "importance_images": 500, "seed": 0}


@described
def variational(binarisation: str = "none") -> Task:
    """Likely images, with a code for each.

    The network gives what ``models.variational_autoencoder`` states; the loss is the negative log-likelihood that its outputs say
    (Bernoulli or Gaussian), and the divergence is one of the network's own. Answers, without random numbers: image,
    reconstruction from the posterior's mean, and code, that mean.

    ``score`` takes elbo_samples, posterior samples for each test image's bound; importance_samples and importance_images, the k
    of the importance-weighted estimate and for how many test images, evenly spread, it is made; and seed, of the samples and of
    the binarisation.

    Args:
        binarisation: of the images that the network is trained and scored on: "none" or "sampled", as ``BINARISATIONS`` states.
    Raises:
        InputError: no such binarisation.
    """
    if binarisation not in BINARISATIONS:
        raise InputError(f"binarisation must be {' or '.join(BINARISATIONS)}, got {binarisation}")

    def encode(truths, inputs, side_outputs, seeds):
        image = inputs["image"]
        if binarisation == "sampled":
            # From the first example's seeds for all: numbers of each example's own take ten times as long. The batch is the same
            # for the same step in either case.
            image = tf.cast(replicas.batch_uniform(tf.shape(image), replicas.batch_seed(seeds)) < image, image.dtype)
        return {"image": image}, image

    def divergence(images, outputs):
        return sum_per_example(kl_to_standard_normal(outputs["mean"], outputs["log_variance"]))

    return Task(
        name="variational autoencoding", encode=encode, loss=image_nll,
        metrics={"divergence": divergence, "negative_elbo": lambda images, outputs: image_nll(images, outputs)
                 + divergence(images, outputs)},
        decode=decode_images, answer=lambda network: autoencoder_answer(network, with_code=True),
        score=lambda batches, data, serving, **how: _score(batches, data, serving, binarisation, **how), read=read_images,
        tell=tell_reconstructions, draw=draw_reconstruction, probe=made_up_images, scoring=SCORING,
        endpoints=variational_endpoints, files=lambda raw, answers: {"-reconstruction.png": png_file(answers["reconstruction"])},
    )  # fmt: skip


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, serving: keras.Model, binarisation: str, *,
           elbo_samples: int, importance_samples: int, importance_images: int, seed: int) -> Report:  # fmt: skip
    for name, value, least in (("elbo_samples", elbo_samples, 1), ("importance_samples", importance_samples, 1),
                               ("importance_images", importance_images, 1), ("seed", seed, 0)):  # fmt: skip
        if not least <= value <= LARGEST:
            raise InputError(f"{name} must be in {least}..{LARGEST:,}, got {value}")
    found = gathered(batches)
    images, codes = found["image"], found["code"]
    endpoints = {name: in_batches(model) for name, model in variational_endpoints(decoded_model(serving)).items()}
    given = images
    if binarisation == "sampled":
        given = 255.0 * (np.random.default_rng(seed).random(images.shape) < images / 255.0)
        codes = endpoints["encode"](image=given)["code"]

    def likelihoods(chosen: np.ndarray, samples: int) -> dict[str, np.ndarray]:
        # Seeds by the number of the image, so that an image's estimate does not depend on which others are taken.
        return endpoints["log_likelihood"](image=given[chosen], samples=np.full(len(chosen), samples), seed=seed + chosen)

    bound = likelihoods(np.arange(len(images)), elbo_samples)
    chosen = evenly(len(images), importance_images)
    estimate = likelihoods(chosen, importance_samples)["log_likelihood"].astype(np.float64)
    spread = codes.var(axis=0)
    figures = {
        "negative_elbo": -float(bound["elbo"].mean(dtype=np.float64)),
        "reconstruction_nats": -float(bound["expected_log_likelihood"].mean(dtype=np.float64)),
        "divergence_nats": float(bound["divergence"].mean(dtype=np.float64)),
        "importance_weighted_nll": -float(estimate.mean()),
        **({"importance_weighted_nll_standard_error": float(estimate.std(ddof=1) / np.sqrt(len(estimate)))}
           if len(estimate) > 1 else {}),
        "active_dimensions": float((spread > ACTIVE_VARIANCE).sum()),
        **image_figures(images, found["reconstruction"]),
    }
    components, baselines = principal_components(data, codes.shape[1]), {}
    rows = {"image": images, "network": found["reconstruction"]}
    if components is not None:
        name = f"PCA with {codes.shape[1]} components"
        rebuilt = components.inverse_transform(components.transform(flat(images) / 255.0))
        rows[name] = np.clip(255.0 * rebuilt, 0, 255).reshape(images.shape)
        baselines[name] = image_figures(images, rows[name])
    table = [{"dimension": number + 1, "variance of the posterior mean": float(spread[number]),
              "active": "yes" if spread[number] > ACTIVE_VARIANCE else "no"} for number in np.argsort(-spread)]  # fmt: skip
    shown = evenly(len(images), SHOWN)
    pictures = {"reconstructions": charts.image_rows({label: each[shown] for label, each in rows.items()})}
    pictures |= latent_space(codes, found.get("label"), data.about.get("classes")) | _drawn(endpoints, codes, seed)
    filters = first_filters(serving)
    gaussian = "pixel_log_variance" in inner_layer(serving, "decoder").output
    likelihood = "Gaussian, a density of intensities 0..1" if gaussian else "Bernoulli"
    notes = (
        f"likelihood: {likelihood}; binarisation: {BINARISATIONS[binarisation]}",
        *(() if binarisation == "none" else ("squared error, PSNR and SSIM: of the images as they are, not binarised",)),
        *(() if components is None else (components_note(data, components),)),
        f"bound: {elbo_samples} posterior samples for each of {len(images):,} images",
        f"importance-weighted estimate: {importance_samples:,} samples for each of {len(chosen):,} images, evenly spread",
    )
    return Report(figures, baselines, tables={"latent dimensions": table},
                  pictures=pictures | ({"filters": filters} if filters else {}), notes=notes)  # fmt: skip


def _drawn(endpoints: dict[str, Any], codes: np.ndarray, seed: int) -> dict[str, Any]:
    """Random samples, interpolations between test images, and the whole plane of a code of two numbers."""
    from scipy.stats import norm

    latent = codes.shape[1]
    samples = endpoints["sample"](seed=seed + np.arange(SAMPLES_SHOWN))["image"]
    pictures = {"samples": charts.mosaic(square(samples), "draws from the prior, decoded")}
    ends = codes[evenly(len(codes), 2 * INTERPOLATIONS)]
    if len(ends) == 2 * INTERPOLATIONS:
        share = np.linspace(0, 1, STEPS)[None, :, None]
        between = (1 - share) * ends[::2, None] + share * ends[1::2, None]
        decoded = endpoints["decode"](code=between.reshape(-1, latent))["image"]
        decoded = decoded.reshape(INTERPOLATIONS, STEPS, *decoded.shape[1:])
        pictures["interpolations"] = charts.mosaic(decoded, "from one test image's code to another's")
    if latent == 2:
        # Steps of equal probability under the prior: Kingma & Welling 2013, figure 4.
        values = norm.ppf((np.arange(MANIFOLD_SIDE) + 0.5) / MANIFOLD_SIDE)
        grid = np.stack(np.meshgrid(values, values[::-1]), axis=-1)  # (rows, columns, 2): first to the right, second up
        decoded = endpoints["decode"](code=grid.reshape(-1, 2))["image"]
        decoded = decoded.reshape(MANIFOLD_SIDE, MANIFOLD_SIDE, *decoded.shape[1:])
        pictures["manifold"] = charts.mosaic(decoded, "the latent plane, decoded", xlabel="code 1", ylabel="code 2")
    return pictures
