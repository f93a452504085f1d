"""Weights that make a network learn the thin gaps between neighbouring objects."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from kerastoolkit.experiment import InputError
from kerastoolkit.serving.class_maps import IGNORED

# How far a cell is looked for, in sigmas. What lies between it and a second cell farther away would add less than
# exp(-5^2 / 2) = 3.7e-6 of w0.
REACH = 5.0


def border_weights(class_map: np.ndarray, *, w0: float = 10.0, sigma: float = 5.0, background: int = 0) -> np.ndarray:
    """How close a background pixel lies between two cells: Ronneberger et al. 2015 (U-Net), section 3, equation 2, second term,
    https://arxiv.org/abs/1505.04597.

    w0 * exp(-(d1 + d2)^2 / (2 sigma^2)), d1 and d2 the distances to the nearest cell and to the second nearest one, between the
    centres of pixels. Cells are the 4-connected regions of each class other than the background, so that two of one class that
    touch are one. The equation's first term, which balances the classes, is the loss's ``class_weights``.

    Args:
        class_map: (height, width) uint8; IGNORED is neither cell nor background.
        w0: the weight where two cells all but touch.
        sigma: how wide a gap still counts, in pixels, above 0.
        background: the class between the cells.
    Returns:
        (height, width) float32, 0..w0: 0 on cells, on ignored pixels and where there are not two cells within 5 sigma, where the
        equation has less than 3.7e-6 * w0.
    Raises:
        InputError: sigma is not above 0.
    """
    if not sigma > 0:
        raise InputError(f"sigma must be above 0, got {sigma}")
    margin = int(np.ceil(REACH * sigma))
    first, second = np.full((2, *class_map.shape), np.inf, np.float32)  # the two smallest distances so far
    for cell_class in np.setdiff1d(class_map, (background, IGNORED)):
        cells, _ = ndimage.label(class_map == cell_class)
        for number, box in enumerate(ndimage.find_objects(cells), start=1):
            window = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
            distances = ndimage.distance_transform_edt(cells[window] != number)
            nearest, next_nearest = first[window], second[window]
            np.minimum(next_nearest, np.maximum(nearest, distances), out=next_nearest, casting="same_kind")
            np.minimum(nearest, distances, out=nearest, casting="same_kind")
    weights = w0 * np.exp(-np.square(first + second) / np.float32(2 * sigma**2))
    return np.where(class_map == background, weights, 0).astype(np.float32)
