"""Pictures of images side by side and of points by class."""

import numpy as np
import pytest

from kerastoolkit import charts


def test_a_row_of_images_for_each_label():
    grey, colour = np.full((2, 3, 1), 300.0), np.full((4, 4, 3), 9.6)
    figure = charts.image_rows({"first": [grey, grey], "second": [colour]}, "together")
    first, other, second, empty = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["first", "", "second", ""]
    np.testing.assert_array_equal(first.images[0].get_array(), np.full((2, 3), 255))  # clipped
    np.testing.assert_array_equal(second.images[0].get_array(), np.full((4, 4, 3), 10))  # rounded
    assert other.images and not empty.images
    assert figure.get_suptitle() == "together"
    assert charts.png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(("gap", "expected"), [
    (1, [[0, 0, 255, 50, 50], [255] * 5, [100, 100, 255, 150, 150]]),
    (0, [[0, 0, 50, 50], [100, 100, 150, 150]]),
])  # fmt: skip
def test_a_mosaic_is_all_images_side_by_side_with_white_between(gap, expected):
    images = np.array([[0.2, 50], [100, 150]])[:, :, None, None, None] * np.ones((1, 2, 1))
    figure = charts.mosaic(images, "all", gap=gap, xlabel="right", ylabel="up")
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.images[0].get_array(), expected)
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("all", "right", "up")


def test_a_mosaic_keeps_colour():
    images = np.zeros((1, 1, 2, 2, 3))
    images[..., 2] = 255
    shown = charts.mosaic(images, "blue").axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown, images[0, 0])


@pytest.mark.parametrize("classes", [2, 10, 25])
def test_points_of_each_class_have_a_colour_and_a_name_of_their_own(classes):
    points, labels = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % classes
    names = [f"class {number}" for number in range(classes)]
    (axes,) = charts.points_by_class(points, labels, names, "codes", ("one", "two")).axes
    for number, drawn in enumerate(axes.collections):
        np.testing.assert_array_equal(drawn.get_offsets(), points[labels == number])
    assert len({tuple(drawn.get_facecolor()[0]) for drawn in axes.collections}) == classes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == names
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("one", "two", "codes")


def test_points_of_very_many_classes_have_no_legend():
    points, labels = np.zeros((26, 2)), np.arange(26)
    (axes,) = charts.points_by_class(points, labels, labels.astype(str), "codes", ("one", "two")).axes
    assert axes.get_legend() is None and len(axes.collections) == 26


def attention(rows, columns, title=""):
    weights = np.random.default_rng(0).dirichlet(np.ones(columns), rows)
    names = [f"c{number}" for number in range(columns)], [f"r{number}" for number in range(rows)]
    return weights, charts.attention_map(weights, *names, title)


def test_a_map_of_attention_has_source_pieces_along_the_top_and_the_answers_down_the_left():
    weights, figure = attention(2, 3, "head 1")
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), weights)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["c0", "c1", "c2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["r0", "r1"]
    assert axes.xaxis.get_ticks_position() == "top" and axes.get_xticklabels()[0].get_rotation() == 90
    assert axes.get_title() == "head 1"


def test_a_map_of_attention_has_shades_from_0_to_1_whatever_the_weights():
    bar = attention(5, 40)[1].axes[0].images[0].colorbar
    assert (bar.vmin, bar.vmax) == (0, 1)


@pytest.mark.parametrize(("rows", "columns", "title", "expected"), [
    (60, 60, "", ""),
    (61, 70, "head", "head (the first 60 of 61 rows and 60 of 70 columns)"),
    (2, 61, "", "(the first 60 of 61 columns)"),
])  # fmt: skip
def test_a_map_of_much_attention_shows_the_first_pieces_and_says_so(rows, columns, title, expected):
    weights, figure = attention(rows, columns, title)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), weights[:60, :60])
    assert len(figure.axes[0].get_xticklabels()) == min(60, columns)
    assert len(figure.axes[0].get_yticklabels()) == min(60, rows)
    assert figure.axes[0].get_title() == expected


def test_a_map_of_attention_is_drawn_with_pieces_of_any_text():
    figure = charts.attention_map(np.eye(3), ["▁나는", "$x", "\n"], ["▁I", "$", "é"], "a $ and a $")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["▁나는", r"\$x", "↵"]
    assert axes.get_title() == r"a \$ and a \$"
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels(), axes.title):
        assert tuple(text.get_family()) == charts.fonts()
    assert charts.png(figure).startswith(b"\x89PNG")


def test_a_map_of_attention_needs_a_name_for_each_weight():
    with pytest.raises(ValueError, match=r"weights must be \(rows, columns\) = \(2, 3\), got \(3, 2\)"):
        charts.attention_map(np.zeros((3, 2)), ["a", "b", "c"], ["d", "e"])


def test_maps_of_attention_have_a_panel_for_each_block_and_name_what_is_left_out():
    figure = charts.attention_maps(np.full((2, 3, 3), 1 / 3), ["[CLS]", "$5", "[SEP]"], "a text")
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["block 1", "block 2"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["[CLS]", r"\$5", "[SEP]"]
    long = charts.attention_maps(np.zeros((1, 61, 61)), ["a"] * 61)
    assert "the first 60 of 61 pieces" in long.get_suptitle()
    assert charts.png(figure)


def test_parts_of_a_text_are_coloured_and_named():
    figure = charts.tagged_text([("Anna lives in Rome.", [(0, 4, "PER"), (14, 18, "LOC")])], ["LOC", "PER"])
    (axes,) = figure.axes
    written = [text.get_text() for text in axes.texts]
    assert {"PER", "LOC"} <= set(written)
    assert "".join(each for each in written if len(each) == 1) == "Anna lives in Rome."
    assert sorted((patch.get_x(), patch.get_width()) for patch in axes.patches) == [(0, 4), (14, 4)]


def test_an_answer_is_set_off_in_its_passage():
    figure = charts.passage("built in 1889 for $5", 9, 13, "When?")
    assert figure.get_suptitle() == "When?"
    assert charts.png(figure)


PALETTE = ((0, 0, 0), (200, 0, 100))


def test_a_class_map_has_the_colours_of_its_classes_and_white_where_there_is_none():
    coloured = charts.colour_map(np.array([[0, 1], [2, 255]], np.uint8), PALETTE)
    assert coloured.dtype == np.uint8
    assert coloured.tolist() == [[[0, 0, 0], [200, 0, 100]], [[255, 255, 255], [255, 255, 255]]]


@pytest.mark.parametrize("pixel", [[60], [30, 60, 90]])
def test_an_image_under_its_classes_is_40_parts_grey_and_60_colour(pixel):
    image = np.full((2, 2, len(pixel)), pixel, np.uint8)
    mixed = charts.overlay(image, np.array([[0, 1], [2, 255]], np.uint8), PALETTE)
    assert mixed.dtype == np.uint8
    # 60 * 0.4 = 24, to which 200 * 0.6 = 120 and 100 * 0.6 = 60 are added; without a class the image shows as it is.
    assert mixed[0].tolist() == [[24, 24, 24], [144, 24, 84]]
    assert (mixed[1] == pixel).all()


def test_a_class_map_of_another_size_is_laid_over_the_whole_image():
    image, classes = np.zeros((4, 6, 3), np.uint8), np.array([[0, 1], [1, 1], [0, 1]], np.uint8)
    mixed = charts.overlay(image, np.repeat(classes, 20, axis=0), PALETTE)  # 60 rows at 4: the centres are in rows 7, 22, 37, 52
    assert (mixed[..., 0] > 0).astype(int).tolist() == [[0, 0, 0, 1, 1, 1], [1] * 6, [1] * 6, [0, 0, 0, 1, 1, 1]]


def test_images_and_their_classes_stand_in_rows_with_a_legend_of_the_classes_that_are_seen():
    image = np.full((3, 4, 3), 100, np.uint8)
    one, other = np.full((3, 4), 1, np.uint8), np.full((3, 4), 255, np.uint8)
    figure = charts.overlays([("a", image), ("b $1", image, one), ("c", image[..., :1], other)], ["none", "$cat"], PALETTE)
    assert [axes.get_title() for axes in figure.axes] == ["a", r"b \$1", "c", ""]
    assert [bool(axes.images) for axes in figure.axes] == [True, True, True, False]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), charts.overlay(image, one, PALETTE))
    np.testing.assert_array_equal(figure.axes[2].images[0].get_array(), image)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [r"\$cat"]
    np.testing.assert_allclose(legend.get_patches()[0].get_facecolor()[:3], np.array(PALETTE[1]) / 255)
    assert charts.png(figure).startswith(b"\x89PNG")


def test_panels_fill_as_many_columns_as_asked_for():
    image = np.zeros((2, 2, 3), np.uint8)
    figure = charts.overlays([("image", image)] * 4, ["a", "b"], PALETTE, columns=3)
    assert [len({axes.get_subplotspec().colspan.start for axes in figure.axes}), len(figure.axes)] == [3, 6]
    assert charts.png(charts.overlays([("alone", image)], ["a", "b"], PALETTE, columns=1)).startswith(b"\x89PNG")
