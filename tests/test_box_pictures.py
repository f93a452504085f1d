"""Pictures of boxes and masks on photographs and of precision over recall."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from kerastoolkit import charts
from kerastoolkit.box_pictures import box_rows, boxes_picture, class_colours, draw_boxes, precision_recall

CLASSES = ("cat", "traffic light", "a $ and $")


def photograph(height=480, width=640):
    return np.full((height, width, 3), 114, np.uint8)


def drawn(figure, place=0):
    """Boxes, their tabs and texts, each in the order in which they lie on each other."""
    axes = figure.axes[place]
    boxes = sorted((each for each in axes.patches if not each.get_fill()), key=lambda each: each.get_zorder())
    tabs = sorted((each for each in axes.patches if each.get_fill()), key=lambda each: each.get_zorder())
    return boxes, tabs, sorted(axes.texts, key=lambda each: each.get_zorder())


def corners(patch):
    return np.array([*patch.get_xy(), patch.get_x() + patch.get_width(), patch.get_y() + patch.get_height()])


def random_boxes(count, height, width, seed=0):
    generator = np.random.default_rng(seed)
    first = generator.uniform(0, 0.95, (count, 2)) * (width, height)
    boxes = np.concatenate([first, np.minimum(first + generator.uniform(1, 200, (count, 2)), (width, height))], axis=1)
    boxes[0] = (0, 0, width, height)
    return boxes.astype(np.float32), generator.uniform(size=count), generator.integers(0, len(CLASSES), count)


def picture(*rows, size=(480, 640)):
    """Rows are (label, score, x_min, y_min, x_max, y_max)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return boxes_picture(photograph(*size), table[:, 2:], table[:, 1], table[:, 0].astype(int), CLASSES, "name")


def test_boxes_stand_where_they_are_in_pixels_under_their_names_and_scores():
    figure = picture((0, 0.934, 100, 200, 150, 300), (1, 0.5, 300, 100, 400, 150))
    boxes, _, texts = drawn(figure)
    np.testing.assert_array_equal([corners(each) for each in boxes], [(300, 100, 400, 150), (100, 200, 150, 300)])
    assert [each.get_text() for each in texts] == ["traffic light 0.50", "cat 0.93"]
    (axes,) = figure.axes
    assert list(axes.images[0].get_extent()) == [0, 640, 480, 0]  # the upper left corner is (0, 0), not the first pixel's centre
    assert axes.get_xlim() == (0, 640) and axes.get_ylim() == (480, 0)
    np.testing.assert_array_equal(axes.images[0].get_array(), photograph())
    assert [each.get_text() for each in figure.texts] == ["name"]


def test_the_surest_boxes_are_on_top_and_all_tabs_over_all_boxes():
    figure = picture((0, 0.3, 0, 0, 99, 99), (0, 0.9, 5, 5, 99, 99), (0, 0.6, 9, 9, 99, 99))
    boxes, tabs, texts = drawn(figure)
    assert [corners(each)[0] for each in boxes] == [0, 9, 5]
    assert [each.get_text() for each in texts] == ["cat 0.30", "cat 0.60", "cat 0.90"]
    assert boxes[-1].get_zorder() < tabs[0].get_zorder() == texts[0].get_zorder() < tabs[1].get_zorder()


def test_padding_is_not_drawn():
    boxes, tabs, texts = drawn(picture((0, 0.9, 10, 10, 50, 50), (-1, 0, 0, 0, 0, 0)))
    assert len(boxes) == len(tabs) == len(texts) == 1
    assert drawn(picture((-1, 0, 0, 0, 0, 0))) == ([], [], [])
    assert charts.png(picture()).startswith(b"\x89PNG")


def test_without_scores_a_tab_has_the_name_alone():
    figure = boxes_picture(photograph(), np.ones((1, 4)), None, np.array([1]), CLASSES, "")
    assert drawn(figure)[2][0].get_text() == "traffic light"


@pytest.mark.parametrize("size", [(480, 640), (1000, 400), (30, 40), (1000, 2000)])
def test_tabs_are_inside_the_image_and_texts_inside_their_tabs(size):
    boxes, scores, labels = random_boxes(60, *size)
    figure = boxes_picture(photograph(*size), boxes, scores, labels, CLASSES, "")
    FigureCanvasAgg(figure).draw()
    _, tabs, texts = drawn(figure)
    assert len(tabs) == len(texts) == 60
    for tab, text in zip(tabs, texts, strict=True):
        x_min, y_min, x_max, y_max = corners(tab)
        assert -1e-6 <= x_min < x_max <= size[1] + 1e-6 and -1e-6 <= y_min < y_max <= size[0] + 1e-6
        outer, inner = tab.get_window_extent(), text.get_window_extent()
        assert outer.x0 < inner.x0 and inner.x1 < outer.x1 and outer.y0 < inner.y0 and inner.y1 < outer.y1
        assert inner.width > 0.75 * outer.width  # and no larger than they need be


def test_a_tab_moves_from_where_it_would_hide_a_small_box_or_another_tab():
    box = (0, 0.9, 100, 100, 300, 200)
    (tab,) = drawn(picture(box))[1]
    np.testing.assert_allclose(corners(tab)[[0, 3]], (100, 100))  # over the upper left corner
    small = (1, 0.8, 110, 85, 130, 95)
    tab = drawn(picture(box, small))[1][1]
    assert corners(tab)[0] > 130 or corners(tab)[1] > 95
    first, second = (corners(each) for each in drawn(picture(box, box))[1])
    assert (np.minimum(first, second)[2:] <= np.maximum(first, second)[:2] + 1e-6).any()


@pytest.mark.parametrize(("size", "expected"), [
    ((480, 640), (480, 640)),
    ((1200, 900), (1200, 900)),
    ((48, 64), (480, 640)),
    ((40, 20), (640, 320)),
    ((1500, 2000), (1178, 1570)),
])  # fmt: skip
def test_the_file_has_about_as_many_pixels_as_the_photograph(size, expected):
    height, width = Image.open(io.BytesIO(charts.png(picture((0, 0.9, 1, 1, 9, 9), size=size)))).size[::-1]
    assert expected[0] <= height <= expected[0] + 60 and expected[1] <= width <= expected[1] + 30
    assert width <= 1600


def test_a_reduced_image_is_drawn_at_the_size_that_its_boxes_are_told_in():
    box, label = np.array([(1000, 500, 1100, 600)]), np.array([0])
    figure = boxes_picture(photograph(150, 300), box, None, label, CLASSES, "", size=(600, 1200))
    (axes,) = figure.axes
    assert list(axes.images[0].get_extent()) == [0, 1200, 600, 0] and axes.get_xlim() == (0, 1200)
    np.testing.assert_allclose(figure.get_size_inches()[0] * 110, 1200)


def test_a_grey_image_and_names_of_any_script_are_drawn():
    names = ("$x_1$", "고양이 🐈")
    figure = boxes_picture(photograph()[..., :1], np.ones((2, 4)), np.ones(2), np.arange(2), names, "a $ and a $")
    assert figure.texts[0].get_text() == r"a \$ and a \$"  # no formula
    assert charts.png(figure).startswith(b"\x89PNG")


def test_text_is_black_on_light_colours_and_white_on_dark_ones():
    figure = Figure()
    palette = ((255, 255, 0), (0, 0, 160), (255, 255, 255))
    draw_boxes(figure.add_axes((0, 0, 1, 1)), photograph(), np.ones((3, 4)), np.arange(3), CLASSES, palette=palette)
    _, tabs, texts = drawn(figure)
    assert [each.get_color() for each in texts[::-1]] == ["black", "white", "black"]
    np.testing.assert_allclose([each.get_facecolor()[:3] for each in tabs[::-1]], np.array(palette) / 255)


def test_a_class_has_the_same_colour_for_its_box_its_tab_and_in_every_picture():
    boxes, tabs, _ = drawn(picture((2, 0.9, 10, 10, 50, 50)))
    colour = np.array(class_colours(80)[2]) / 255
    np.testing.assert_allclose((boxes[0].get_edgecolor()[:3], tabs[0].get_facecolor()[:3]), [colour, colour])


@pytest.mark.parametrize(("count", "least"), [(3, 150), (10, 60), (80, 14)])
def test_colours_of_classes_are_unlike_each_other(count, least):
    colours = np.array(class_colours(count))
    assert colours.shape == (count, 3) and colours.min() >= 0 and colours.max() <= 255
    apart = np.linalg.norm(colours[:, None] - colours, axis=-1) + 1e9 * np.eye(count)
    assert apart.min() > least
    assert class_colours(count) == class_colours(400)[:count]


def test_of_each_image_the_truth_is_beside_the_answer():
    truth = {"boxes": np.array([(0, 0, 50, 50), (60, 0, 90, 90), (0, 0, 0, 0)]), "labels": np.array([0, 1, -1]),
             "crowd": np.array([False, True, False])}  # fmt: skip
    answer = {"boxes": np.array([(0, 0, 40, 50)]), "labels": np.array([2]), "scores": np.array([0.5]),
              "size": np.array((100, 200))}  # fmt: skip
    tall = {**answer, "size": np.array((300, 100))}
    figure = box_rows([("image 4", photograph(50, 100), truth, answer), ("image 7", photograph(300, 100), truth, tall)], CLASSES)
    assert [each.get_text() for each in figure.texts] == ["image 4: truth", "answer", "image 7: truth", "answer"]
    boxes, _, texts = drawn(figure)
    assert [each.get_text() for each in texts] == ["traffic light", "cat"]
    assert [each.get_linestyle() for each in boxes] == ["--", "-"]  # crowds are dashed
    assert [each.get_text() for each in drawn(figure, 1)[2]] == [r"a \$ and \$ 0.50"]
    for axes, (height, width) in zip(figure.axes, [(100, 200)] * 2 + [(300, 100)] * 2, strict=True):
        place = axes.get_position().size * figure.get_size_inches()
        np.testing.assert_allclose(place, np.array((width, height)) * 4.4 / max(height, width))
        assert axes.get_xlim() == (0, width)
    upper, _, lower, beside = (axes.get_position() for axes in figure.axes)
    assert lower.y1 < upper.y0 and lower.x1 < beside.x0 and lower.y0 == beside.y0


def rectangle(x_min, y_min, x_max, y_max, size=(480, 640)):
    mask = np.zeros(size, bool)
    mask[y_min:y_max, x_min:x_max] = True
    return mask


def masked(*rows, size=(480, 640)):
    """Rows are (label, score, mask); the boxes are those of ``rectangle``."""
    labels, scores, masks = zip(*rows, strict=True)
    places = [np.argwhere(mask)[:, ::-1] for mask in masks]
    boxes = np.array([[*each.min(axis=0), *each.max(axis=0) + 1] for each in places])
    return boxes_picture(photograph(*size), boxes, np.array(scores), np.array(labels), CLASSES, "", masks=masks)


def painted(figure, place=0):
    return figure.axes[place].images[0].get_array()


def half(colour):
    return np.rint((np.array(colour) + 114) / 2)


def test_objects_of_one_class_have_masks_boxes_and_tabs_of_colours_of_their_own():
    figure = masked((0, 0.5, rectangle(100, 200, 150, 300)), (0, 0.9, rectangle(300, 100, 400, 150)))
    sure, other = class_colours(2)
    pixels = painted(figure)
    assert pixels.shape == (480, 640, 3) and pixels.dtype == np.uint8
    for colour, inner in ((sure, pixels[101:149, 301:399]), (other, pixels[201:299, 101:149])):
        np.testing.assert_array_equal(inner, np.broadcast_to(half(colour), inner.shape))
    boxes, tabs, texts = drawn(figure)
    assert [each.get_text() for each in texts] == ["cat 0.50", "cat 0.90"]
    for patches in ([each.get_edgecolor() for each in boxes], [each.get_facecolor() for each in tabs]):
        np.testing.assert_allclose([each[:3] for each in patches], np.array([other, sure]) / 255)


def test_a_mask_has_an_opaque_border_one_pixel_wide_and_nothing_outside():
    mask = rectangle(100, 200, 150, 300) | rectangle(130, 250, 200, 280)
    pixels = painted(masked((0, 0.5, mask)))
    own = (pixels == class_colours(1)[0]).all(axis=-1)
    grown = np.pad(mask, 1)
    inner = mask & grown[:-2, 1:-1] & grown[2:, 1:-1] & grown[1:-1, :-2] & grown[1:-1, 2:]
    np.testing.assert_array_equal(own, mask & ~inner)
    assert (pixels[~mask] == 114).all() and (pixels[mask] != 114).any(axis=-1).all()


def test_a_small_mask_lies_on_a_large_one_whose_border_is_seen_on_it():
    large, small = rectangle(100, 100, 300, 300), rectangle(280, 180, 340, 240)
    pixels = painted(masked((0, 0.9, large), (1, 0.3, small)))
    first, second = class_colours(2)
    np.testing.assert_array_equal(pixels[210, 290], half(second))  # in both
    np.testing.assert_array_equal(pixels[210, 200], half(first))
    np.testing.assert_array_equal(pixels[210, 299], first)  # the right border of the large one
    np.testing.assert_array_equal(pixels[210, 280], second)


def test_masks_of_a_large_photograph_are_drawn_as_large_as_it_is_shown():
    mask = rectangle(700, 500, 2200, 2000, (3000, 4000))
    figure = boxes_picture(photograph(300, 400), np.array([(700, 500, 2200, 2000)]), None, np.array([0]), CLASSES, "",
                           size=(3000, 4000), masks=[mask])  # fmt: skip
    pixels = painted(figure)
    assert pixels.shape[0] in (1177, 1178) and pixels.shape[1] == 1570
    rows, columns = np.nonzero((pixels != 114).any(axis=-1))
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    np.testing.assert_allclose(found * 4000 / 1570, (700, 500, 2200, 2000), atol=4)
    assert list(figure.axes[0].images[0].get_extent()) == [0, 4000, 3000, 0]


def test_on_an_enlarged_image_borders_are_no_wider():
    mask = rectangle(10, 20, 30, 40, (48, 64))
    pixels = painted(masked((0, 0.5, mask), size=(48, 64)))
    assert pixels.shape == (480, 640, 3)
    np.testing.assert_array_equal((pixels != 114).any(axis=-1), np.kron(mask, np.ones((10, 10), bool)))
    assert (pixels == class_colours(1)[0]).all(axis=-1).sum() == 4 * 200 - 4


def test_the_file_shows_masks_where_they_are():
    mask = rectangle(100, 120, 420, 330)
    file = io.BytesIO(charts.png(masked((0, 0.5, mask))))
    found = np.asarray(Image.open(file).convert("RGB")).astype(int)
    rows, columns = np.nonzero(np.abs(found - half(class_colours(1)[0])).max(axis=-1) <= 2)
    assert abs(len(rows) - 210 * 320) < 0.05 * 210 * 320  # but for the border and the tab
    grey = np.argwhere(np.abs(found - 114).max(axis=-1) <= 2)
    assert abs(columns.min() - grey[:, 1].min() - 100) <= 2 and abs(grey[:, 0].max() + 1 - rows.max() - (480 - 330)) <= 2


def test_masks_are_asked_for_one_at_a_time_and_those_of_padding_never():
    asked = []

    class Masks:
        def __getitem__(self, row):
            asked.append(row)
            return rectangle(10, 10, 20 + row, 20)

    boxes_picture(photograph(), np.ones((4, 4)), np.ones(4), np.array([0, -1, 1, -1]), CLASSES, "", masks=Masks())
    assert sorted(asked) == [0, 2]


def test_an_object_without_a_pixel_still_has_its_box():
    boxes = np.array([(10, 10, 50, 50)])
    figure = boxes_picture(photograph(), boxes, None, np.array([0]), CLASSES, "", masks=np.zeros((1, 480, 640), bool))
    assert [len(each) for each in drawn(figure)] == [1, 1, 1] and (painted(figure) == 114).all()
    nothing = boxes_picture(photograph(), boxes, None, np.array([-1]), CLASSES, "", masks=[None])
    assert (painted(nothing) == 114).all() and charts.png(nothing).startswith(b"\x89PNG")


def test_masks_are_drawn_on_grey_images():
    figure = boxes_picture(photograph()[..., :1], np.ones((1, 4)), None, np.array([0]), CLASSES, "",
                           masks=[rectangle(100, 200, 150, 300)])  # fmt: skip
    np.testing.assert_array_equal(painted(figure)[250, 120], half(class_colours(1)[0]))
    assert (painted(figure)[0] == 114).all()


def test_with_masks_a_palette_is_of_the_objects_and_boxes_are_thinner():
    figure, colours = Figure(figsize=(6.4, 4.8)), ((1, 2, 3), (4, 5, 6))
    draw_boxes(figure.add_axes((0, 0, 1, 1)), photograph(), np.ones((2, 4)), np.array([2, 2]), CLASSES, palette=colours,
               scores=np.array([0.1, 0.9]), masks=[rectangle(10, 10, 20, 20)] * 2)  # fmt: skip
    boxes, tabs, _ = drawn(figure)
    np.testing.assert_allclose([each.get_facecolor()[:3] for each in tabs], np.array(colours) / 255)
    plain = drawn(picture((0, 0.9, 10, 10, 50, 50)))[0][0]
    assert all(each.get_linewidth() < plain.get_linewidth() / 2 for each in boxes)


def test_rows_show_the_masks_of_truths_and_answers():
    truth = {"boxes": np.ones((2, 4)), "labels": np.array([0, -1]), "crowd": np.array([True, False]),
             "masks": [rectangle(0, 0, 100, 100), None]}  # fmt: skip
    answer = {"boxes": np.ones((1, 4)), "labels": np.array([0]), "scores": np.array([0.5]), "size": np.array((480, 640)),
              "masks": [rectangle(400, 0, 500, 100)]}  # fmt: skip
    figure = box_rows([("image 1", photograph(), truth, answer)], CLASSES)
    for place, start in ((0, 0), (1, 400)):
        pixels = painted(figure, place)
        assert pixels.shape == (363, 484, 3)  # 4.4 inches
        columns = np.nonzero((pixels != 114).any(axis=(0, 2)))[0]
        np.testing.assert_allclose((columns.min(), columns.max() + 1), np.array((start, start + 100)) * 484 / 640, atol=1)
    assert drawn(figure)[0][0].get_linestyle() == "--"


def curves(count, missing=()):
    ap = np.linspace(0.9, 0.1, count)
    ap[list(missing)] = np.nan
    points = np.linspace(0, 1, 101)
    return points, np.where(np.isnan(ap), np.nan, 1 - points[:, None] * (1 - ap)), [f"class {i}" for i in range(count)], ap


def test_every_class_has_a_curve_and_their_mean_a_bold_one():
    points, precision, names, ap = curves(3, missing=(1,))
    axes = precision_recall(points, precision, names, ap).axes[0]
    mean, first, last = axes.lines
    np.testing.assert_allclose(mean.get_ydata(), precision[:, [0, 2]].mean(axis=1))
    np.testing.assert_array_equal([first.get_ydata(), last.get_ydata()], precision[:, [0, 2]].T)
    assert mean.get_linewidth() > 2 * first.get_linewidth() and mean.get_zorder() > first.get_zorder()
    labels = [each.get_text() for each in axes.get_legend().get_texts()]
    assert labels == ["all 2 classes 0.500", "class 0 0.900", "class 2 0.100"]


def test_of_many_classes_the_best_and_the_worst_are_named():
    axes = precision_recall(*curves(30)).axes[0]
    labels = [each.get_text().rsplit(" ", 1)[0] for each in axes.get_legend().get_texts()]
    assert labels == ["all 30 classes", *(f"class {place}" for place in (*range(10), *range(20, 30)))]
    grey = [each for each in axes.lines if to_rgb(each.get_color()) == to_rgb(charts.MUTED)]
    assert len(axes.lines) == 31 and len(grey) == 10
    assert len({to_rgb(each.get_color()) for each in axes.lines}) == 22


def test_curves_of_no_class_are_an_empty_picture():
    figure = precision_recall(*curves(2, missing=(0, 1)))
    assert not figure.axes[0].lines and charts.png(figure).startswith(b"\x89PNG")
