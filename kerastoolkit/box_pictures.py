"""Pictures of detection: boxes and masks on photographs and curves of precision over recall, as matplotlib figures that need no
screen.

Boxes are x_min, y_min, x_max, y_max in pixels of the image's own size; those with the label -1 are padding and are not drawn.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from PIL import Image

from kerastoolkit.charts import INK, MUTED, fonts

Colour = tuple[int, int, int]
DOTS = 110  # to an inch, as charts.png has them
SMALLEST, LARGEST = 640, 1_570  # pixels of a photograph's longer side; with the margins of charts.png at most 1,600
PANEL = 4.4  # inches, the longer side of a photograph in rows
NAMED = 20  # of the curves, at most
FEW = 30  # boxes whose names are written large
FILL = 0.5  # how much of a mask's colour covers the photograph


@functools.cache
def class_colours(count: int) -> tuple[Colour, ...]:
    """(red, green, blue), 0..255, for each of ``count`` classes, 300 of them different: each looks as unlike those before it as
    can be (in OKLab: Ottosson 2020, https://bottosson.github.io/posts/oklab/), so that the first are the same for any count.
    """
    hues = np.arange(60) / 60
    # None so dark, pale or grey that it could not be seen on a photograph.
    kinds = np.array([(0.8, 0.95), (0.9, 0.7), (0.5, 1.0), (0.9, 0.5), (0.4, 0.8)])  # saturation, value
    candidates = hsv_to_rgb([(hue, *kind) for kind in kinds for hue in hues])
    looks = _oklab(candidates) * (0.5, 1, 1)  # hues tell more than lightness, which photographs have of their own
    chosen = [0]
    distances = np.full(len(candidates), np.inf)
    while len(chosen) < min(count, len(candidates)):
        distances = np.minimum(distances, np.linalg.norm(looks - looks[chosen[-1]], axis=1))
        chosen.append(int(distances.argmax()))
    colours = [tuple(int(round(255 * part)) for part in candidates[place]) for place in chosen]
    return tuple(colours[number % len(colours)] for number in range(count))


def draw_boxes(axes: Axes, pixels: np.ndarray, boxes: np.ndarray, labels: np.ndarray, classes: Sequence[str], *,
               scores: np.ndarray | None = None, crowd: np.ndarray | None = None, palette: Sequence[Colour] | None = None,
               size: Sequence[int] | None = None, fontsize: float = 8.0,
               masks: Sequence[np.ndarray] | None = None) -> None:  # fmt: skip
    """Draws an image and boxes on it, each with its name, and score if any, on a tab inside the image: at that corner of the box
    where it hides the least of other boxes and tabs. The surest are on top.

    Args:
        axes: whose place in the figure is fixed, because the tabs' size depends on it.
        pixels: (height, width, 1 or 3) uint8.
        boxes: (n, 4).
        labels: (n,) 0 .. classes - 1, or -1.
        classes: their names.
        scores: (n,) or None.
        crowd: (n,) bool, whose boxes are dashed, or None.
        palette: a colour for each class; with ``masks`` for each of the n objects. By default ``class_colours``, of objects from
            the surest on.
        size: the image's own height and width where ``pixels`` are fewer.
        fontsize: points.
        masks: n of (height, width) bool at the image's own size, or None. Each is asked for once, those of padding never. With
            them every object has a colour of its own, so that those of one class are told apart.
    """
    height, width = size if size is not None else pixels.shape[:2]
    place = axes.get_position()
    inches = axes.figure.get_size_inches() * (place.width, place.height)
    point = max(width / inches[0], height / inches[1]) / 72  # in pixels of the image
    order = np.flatnonzero(labels >= 0)
    if scores is not None:
        order = order[np.argsort(-scores[order], kind="stable")]
    if masks is None:
        palette = palette or class_colours(len(classes))
        colours = [palette[labels[row]] for row in order]
    else:
        colours = [palette[row] for row in order] if palette else class_colours(len(order))
        shown = np.maximum(np.rint(np.array((height, width)) / (72 * point) * DOTS), 1).astype(int)
        pixels = _with_masks(pixels, (masks[row] for row in order), colours, shown)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    axes.axis("off")
    boxes, tabs = boxes[order].astype(float), np.zeros((0, 4))
    for number, (row, box, colour) in enumerate(zip(order, boxes, colours, strict=True)):
        colour, dashed = np.array(colour) / 255, crowd is not None and crowd[row]
        depth = 2 + (len(order) - number) / len(order)  # 2..3; tabs are over all boxes
        axes.add_patch(Rectangle(box[:2], *(box[2:] - box[:2]), fill=False, edgecolor=colour,
                                 linewidth=1.6 if masks is None else 0.7, linestyle="--" if dashed else "-",
                                 zorder=depth))  # fmt: skip
        text = classes[labels[row]] if scores is None else f"{classes[labels[row]]} {scores[row]:.2f}"
        tab = _tab(box, _text_size(text, fontsize) * point, np.concatenate([tabs, boxes]), (width, height))
        tabs = np.concatenate([tabs, [tab]])
        axes.add_patch(Rectangle(tab[:2], *(tab[2:] - tab[:2]), facecolor=colour, linewidth=0, zorder=depth + 1))
        axes.text((tab[0] + tab[2]) / 2, tab[3] - 0.32 * (tab[3] - tab[1]), text.replace("$", r"\$"), ha="center", clip_on=True,
                  fontsize=fontsize, family=fonts(), color=_text_colour(colour), zorder=depth + 1)  # fmt: skip
    axes.set(xlim=(0, width), ylim=(height, 0))


def boxes_picture(pixels: np.ndarray, boxes: np.ndarray, scores: np.ndarray | None, labels: np.ndarray, classes: Sequence[str],
                  title: str, *, size: Sequence[int] | None = None,
                  masks: Sequence[np.ndarray] | None = None) -> Figure:  # fmt: skip
    """A photograph with boxes, as many pixels large as it is; small ones are made larger and large ones smaller, to 1,600 pixels.

    Args:
        pixels, boxes, scores, labels, classes, size, masks: as of ``draw_boxes``.
        title: what is written above.
    """
    height, width = size if size is not None else pixels.shape[:2]
    scale = np.clip(max(height, width), SMALLEST, LARGEST) / max(height, width) / DOTS
    figure = Figure(figsize=(width * scale, height * scale + 0.3))
    share = height * scale / (height * scale + 0.3)
    axes = figure.add_axes((0, 0, 1, share))
    fontsize = 8 if (labels >= 0).sum() <= FEW else 6
    draw_boxes(axes, pixels, boxes, labels, classes, scores=scores, size=size, fontsize=fontsize, masks=masks)
    _write_title(figure, 0.0, 1.0, title, ha="left", va="top")
    return figure


def box_rows(panels: Sequence[tuple[str, np.ndarray, Mapping[str, Any], Mapping[str, Any]]], classes: Sequence[str]) -> Figure:
    """Photographs in rows, each with its truth at the left and its answer at the right.

    Args:
        panels: (title, pixels (height, width, 1 or 3) uint8, truth, answer) each, at least one; a truth has boxes, labels and
            crowd, an answer boxes, labels, scores and size, the image's own height and width. Both may have masks.
        classes: names.
    """
    sizes = np.array([answer["size"] for *_, answer in panels])
    shown = sizes * PANEL / sizes.max(axis=1, keepdims=True)
    gap, strip = 0.1, 0.35  # inches, between the columns and for a title
    wide, high = shown[:, 1].max(), shown[:, 0].sum() + strip * len(panels)
    figure = Figure(figsize=(2 * wide + gap, high))
    top = high
    for (title, pixels, truth, answer), size, (tall, broad) in zip(panels, sizes, shown, strict=True):
        top -= strip
        for left, found, heading in ((0, truth, f"{title}: truth"), (wide + gap, answer, "answer")):
            figure_part = (left / (2 * wide + gap), (top - tall) / high, broad / (2 * wide + gap), tall / high)
            axes = figure.add_axes(figure_part)
            draw_boxes(axes, pixels, found["boxes"], found["labels"], classes, scores=found.get("scores"),
                       crowd=found.get("crowd"), size=size, fontsize=6.5, masks=found.get("masks"))  # fmt: skip
            _write_title(figure, figure_part[0], (top + 0.06) / high, heading, ha="left", va="bottom")
        top -= tall
    return figure


def precision_recall(recall_points: np.ndarray, precision: np.ndarray, names: Sequence[str], ap: np.ndarray) -> Figure:
    """Curves of precision over recall, one of each class and their mean; where there are many classes, only the best and the
    worst are named and the others are grey.

    Args:
        recall_points: (points,) 0..1.
        precision: (points, classes) 0..1, NaN for a class without objects, which is left out.
        names: of the classes.
        ap: (classes,) average precision, which the legend tells.
    """
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    order = [place for place in np.argsort(-ap, kind="stable") if not np.isnan(ap[place])]
    named = order if len(order) <= NAMED else [*order[: NAMED // 2], *order[-(NAMED // 2) :]]
    for place in order:
        if place not in named:
            axes.plot(recall_points, precision[:, place], color=MUTED, linewidth=0.6, alpha=0.6)
    if order:
        axes.plot(recall_points, precision[:, order].mean(axis=1), color=INK, linewidth=3, zorder=4,
                  label=f"all {len(order)} classes {ap[order].mean():.3f}")  # fmt: skip
    for number, place in enumerate(named):
        colour = np.array(class_colours(len(named))[number]) / 255
        axes.plot(recall_points, precision[:, place], color=colour, linewidth=1.3,
                  label=f"{names[place]} {ap[place]:.3f}".replace("$", r"\$"))  # fmt: skip
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    if order:
        title = "AP" if len(named) == len(order) else f"AP, best and worst {NAMED // 2}"
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title=title, prop={"family": fonts(), "size": 8})
    return figure


def _with_masks(pixels: np.ndarray, masks: Iterable[np.ndarray], colours: Sequence[Colour], shown: np.ndarray) -> np.ndarray:
    """Pixels of the size ``shown`` (height, width) with half transparent masks, their borders opaque.

    Small masks lie on large ones, and all borders on all masks, so that none is hidden. Fills are not mixed, because the colour
    of two would be like that of a third.
    """
    height, width = shown.tolist()
    enlarged = min(height / pixels.shape[0], width / pixels.shape[1])
    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels).convert("RGB")
    # As matplotlib shows images: pixels become squares only where they are much enlarged.
    kind = Image.Resampling.NEAREST if enlarged > 3 else Image.Resampling.HAMMING
    drawn = np.array(image.resize((width, height), kind))
    parts = [_shown_mask(mask, height, width) for mask in masks]
    falling = sorted(range(len(parts)), key=lambda number: -parts[number][2].sum())
    owner, border = np.full((height, width), -1), np.full((height, width), -1)
    for number in falling:
        top, left, mask = parts[number]
        place = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
        owner[place][mask] = number
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        border[place][mask & ~inner] = number
    colours = np.array(colours, np.uint8).reshape(-1, 3)
    filled = owner >= 0
    drawn[filled] = np.rint((1 - FILL) * drawn[filled] + FILL * colours[owner[filled]])
    drawn[border >= 0] = colours[border[border >= 0]]
    return drawn


def _shown_mask(mask: np.ndarray, height: int, width: int) -> tuple[int, int, np.ndarray]:
    """Of a mask brought to this size the part with the object: its first row and column, and its pixels, bool."""
    rows, columns = (((np.arange(side) + 0.5) * own / side).astype(int)
                     for side, own in zip((height, width), mask.shape, strict=True))  # fmt: skip
    found = mask.take(rows, axis=0).take(columns, axis=1) > 0
    (high,), (wide,) = np.nonzero(found.any(axis=1)), np.nonzero(found.any(axis=0))
    if not len(high):
        return 0, 0, found[:0, :0]
    return high[0], wide[0], found[high[0] : high[-1] + 1, wide[0] : wide[-1] + 1]


def _text_size(text: str, fontsize: float) -> np.ndarray:
    """Width and height of a tab for it, in points."""
    with warnings.catch_warnings():
        # A letter that no installed font has is drawn as a box, as in charts.png.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(family=fonts(), size=fontsize), False)
    return np.array([width + 0.6 * fontsize, 1.35 * fontsize])


def _tab(box: np.ndarray, size: np.ndarray, others: np.ndarray, whole: tuple[int, int]) -> np.ndarray:
    """Where the tab of a box is put: at that of its corners, inside the image, where it hides the smallest shares of others."""
    (left, top), (right, bottom) = box[:2], box[2:] - size
    corners = [(left, top - size[1]), (left, top), (right, top - size[1]), (left, box[3]), (right, box[3]), (right, top),
               (left, bottom), (right, bottom), (box[2], top), (left - size[0], top)]  # fmt: skip
    first = np.clip(corners, 0, np.maximum(whole - size, 0))
    candidates = np.concatenate([first, first + size], axis=1)
    both = np.minimum(candidates[:, None, 2:], others[:, 2:]) - np.maximum(candidates[:, None, :2], others[:, :2])
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    hidden = np.prod(np.maximum(both, 0), axis=-1) / np.maximum(areas, 1e-6)
    return candidates[hidden.sum(axis=1).argmin()]


def _text_colour(colour: np.ndarray) -> str:
    """Black or white, whichever is read better on it: https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio."""
    luminance = _linear(colour) @ (0.2126, 0.7152, 0.0722)
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def _linear(colours: np.ndarray) -> np.ndarray:
    """sRGB 0..1 -> linear light."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def _oklab(colours: np.ndarray) -> np.ndarray:
    """sRGB (n, 3) 0..1 -> OKLab; the matrices are Ottosson's."""
    cones = _linear(colours) @ np.array([(0.4122214708, 0.2119034982, 0.0883024619), (0.5363325363, 0.6806995451, 0.2817188376),
                                         (0.0514459929, 0.1073969566, 0.6299787005)])  # fmt: skip
    return np.cbrt(cones) @ np.array([(0.2104542553, 1.9779984951, 0.0259040371), (0.7936177850, -2.4285922050, 0.7827717662),
                                      (-0.0040720468, 0.4505937099, -0.8086757660)])  # fmt: skip


def _write_title(figure: Figure, x: float, y: float, title: str, **place: str) -> None:
    figure.text(x, y, title.replace("$", r"\$"), fontsize=9, color=INK, family=fonts(), **place)
