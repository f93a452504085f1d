"""Denoising: images without their noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from kerastoolkit import charts
from kerastoolkit.experiment import Data, InputError, Report, Task, described
from kerastoolkit.serving.autoencoder import autoencoder_answer, coding_endpoints
from kerastoolkit.tasks._image_files import decode_images, made_up_images, pixels_of, png_file, read_images
from kerastoolkit.tasks._reconstructions import evenly, first_filters, gathered, image_figures
from kerastoolkit.tasks.reconstruction import LOSSES

MEDIAN_WINDOWS = (3, 5)
SHOWN = 10


@described
def denoising(loss: str = "squared_error") -> Task:
    """The image as it was before noise came on it.

    The network makes noise in training only, and gives logits whose sigmoid is the clean image. Answers: image, as the network
    saw it, and reconstruction, the cleaned image; both (batch, height, width, channels) float32, pixels 0..255.

    Args:
        loss: "squared_error" of intensities 0..1, summed over an image, or "cross_entropy", in nats, with the intensities as
            probabilities.
    Raises:
        InputError: no such loss.
    """
    if loss not in LOSSES:
        raise InputError(f"loss must be {' or '.join(LOSSES)}, got {loss}")

    def encode(truths, inputs, side_outputs, seeds):
        return {}, truths["clean"] / 255.0

    def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
        change = np.abs(answers["reconstruction"] - answers["image"]).mean(axis=(1, 2, 3))
        return [{"input": name, "mean_change_in_grey_levels": float(each)} for name, each in zip(names, change, strict=True)]

    def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
        images = {"input": pixels_of(raw["image"]), "as seen": answers["image"], "cleaned": answers["reconstruction"]}
        return charts.image_rows({label: [image] for label, image in images.items()}, name)

    return Task(
        name="denoising", encode=encode, loss=LOSSES[loss], metrics={}, decode=decode_images,
        answer=lambda network: autoencoder_answer(network, with_code=False), score=_score, read=read_images, tell=tell, draw=draw,
        probe=made_up_images, endpoints=coding_endpoints,
        files=lambda answers: {"-cleaned.png": png_file(answers["reconstruction"])})  # fmt: skip


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, serving: keras.Model) -> Report:
    found = gathered(batches)
    if "level" not in found:
        raise InputError(f"{data.name} has no noisy images to score")
    rows, pictures, methods = [], {}, {"noisy": [], "median filter": [], "network": []}
    for level in data.about["levels"]:
        mine = found["level"] == np.float32(level)
        clean, noisy, cleaned = (found[name][mine] for name in ("clean", "image", "reconstruction"))
        filtered, window = _median(clean, noisy)
        images = {"noisy": noisy, "median filter": filtered, "network": cleaned}
        figures = {name: image_figures(clean, each) for name, each in images.items()}
        for name, each in figures.items():
            methods[name].append(each)
        ahead = figures["network"]["psnr"] - figures["median filter"]["psnr"]
        rows.append({
            "level": level, **{f"psnr, {name}": each["psnr"] for name, each in figures.items()}, "median window": window,
            **{f"ssim, {name}": each["ssim"] for name, each in figures.items()},
            "verdict": "the network beats the filter" if ahead > 0 else "the network does not beat the filter",
        })  # fmt: skip
        shown = evenly(len(clean), SHOWN)
        lines = {"noisy": noisy, "cleaned": cleaned, "median filter": filtered, "original": clean}
        title = f"{data.about['noise'].replace('_', ' ')} noise, level {level:g}"
        pictures[f"denoised_{level:g}"] = charts.image_rows({label: each[shown] for label, each in lines.items()}, title)
    filters = first_filters(serving)
    names = ("squared_error_per_image", "mean_squared_error", "psnr", "ssim")
    means = {method: {name: float(np.mean([each[name] for each in figures])) for name in names}
             for method, figures in methods.items()}  # fmt: skip
    title = f"{data.about['noise']} noise, by its level"
    return Report(
        means.pop("network"), means, tables={title: rows}, pictures=pictures | ({"filters": filters} if filters else {}),
        notes=("figures are means over the levels; the median filter has the better of its windows at each level",))  # fmt: skip


def _median(clean: np.ndarray, noisy: np.ndarray) -> tuple[np.ndarray, str]:
    """The median filter (Tukey 1977) over squares of each channel, with the window that comes nearer to the clean images."""
    from scipy.ndimage import median_filter

    best = None
    for side in MEDIAN_WINDOWS:
        filtered = median_filter(noisy, size=(1, side, side, 1), mode="nearest")
        error = float(np.square(filtered - clean).mean())
        if best is None or error < best[0]:
            best = error, filtered, f"{side} x {side}"
    return best[1:]
