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
from kerastoolkit.tasks._reconstructions import Spread, first_filters, mean_figures, nearness
from kerastoolkit.tasks.reconstruction import LOSSES

MEDIAN_WINDOWS = (3, 5)
SHOWN = 10


@described
def denoising(loss: str = "squared_error") -> Task:
    """The image as it was before noise came on it.

    The network makes noise in training only, and gives logits whose sigmoid is the clean image. The data's truths are clean, the
    target, and for what is scored level, as ``unlabelled_images`` with ``noise`` gives them. Answers: image, as the network
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
        files=lambda raw, answers: {"-cleaned.png": png_file(answers["reconstruction"])})  # fmt: skip


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, serving: keras.Model) -> Report:
    levels = data.about.get("levels", ())
    # Only figures of each image, and a few images to show, are kept: a noisy split is as many times the images as levels.
    nearnesses: dict[float, dict[str, list[Any]]] = {level: {} for level in levels}
    shown = {level: Spread(SHOWN) for level in levels}
    for raw, answers in batches:
        if "level" not in raw:
            raise InputError(f"{data.name} has no noise on these images, so there is nothing to score; take its test split")
        for level in levels:
            mine = raw["level"] == np.float32(level)
            if not mine.any():
                continue
            clean, noisy, cleaned = raw["clean"][mine], answers["image"][mine], answers["reconstruction"][mine]
            images = {"noisy": noisy, **{_window(side): _median(noisy, side) for side in MEDIAN_WINDOWS}, "network": cleaned}
            for name, each in images.items():
                nearnesses[level].setdefault(name, []).append(nearness(clean, each))
            for number in range(len(clean)):
                shown[level].offer({"original": clean[number], **{name: each[number] for name, each in images.items()}})

    numbers, rows, pictures = int(np.prod(data.about["shape"])), [], {}
    methods: dict[str, list[dict[str, float]]] = {"noisy": [], "median filter": [], "network": []}
    for level in (level for level in levels if nearnesses[level]):
        figures = {name: mean_figures(*map(np.concatenate, zip(*each, strict=True)), numbers)
                   for name, each in nearnesses[level].items()}  # fmt: skip
        # The median filter has the better of its windows at each level.
        window = min(map(_window, MEDIAN_WINDOWS), key=lambda name: figures[name]["mean_squared_error"])
        figures["median filter"] = figures[window]
        for name, each in methods.items():
            each.append(figures[name])
        ahead = figures["network"]["psnr"] - figures["median filter"]["psnr"]
        rows.append({
            "level": level, **{f"psnr, {name}": figures[name]["psnr"] for name in methods}, "median window": window,
            **{f"ssim, {name}": figures[name]["ssim"] for name in methods},
            "verdict": "the network beats the filter" if ahead > 0 else "the network does not beat the filter",
        })  # fmt: skip
        lines = {"noisy": "noisy", "cleaned": "network", "median filter": window, "original": "original"}
        title = f"{data.about['noise'].replace('_', ' ')} noise, level {level:g}"
        pictures[f"denoised_{level:g}"] = charts.image_rows(
            {label: [each[name] for each in shown[level].kept()] for label, name in lines.items()}, title)  # fmt: skip
    filters = first_filters(serving)
    names = ("squared_error_per_image", "mean_squared_error", "psnr", "ssim")
    means = {method: {name: float(np.mean([each[name] for each in figures])) for name in names}
             for method, figures in methods.items()}  # fmt: skip
    title = f"{data.about['noise']} noise, by its level"
    return Report(
        means.pop("network"), means, tables={title: rows}, pictures=pictures | ({"filters": filters} if filters else {}),
        notes=("figures are means over the levels; the median filter has the better of its windows at each level",))  # fmt: skip


def _window(side: int) -> str:
    return f"{side} x {side}"


def _median(noisy: np.ndarray, side: int) -> np.ndarray:
    """The median filter (Tukey 1977) over squares of each channel."""
    from scipy.ndimage import median_filter

    return median_filter(noisy, size=(1, side, side, 1), mode="nearest")
