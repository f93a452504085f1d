"""A look at segmented images."""

import numpy as np
import pytest
from PIL import Image

from kerastoolkit.data.named import inspect, prepare
from kerastoolkit.experiment import InputError


@pytest.fixture
def folder(tmp_path):
    """Four images for training and one for validation; every second mask has class 1 in a corner and pixels of no class."""
    for number in range(5):
        images = tmp_path / ("val" if number == 4 else "train") / "images"
        masks = images.with_name("masks")
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(parents=True, exist_ok=True)
        values = np.zeros((4, 5 + number // 3), np.uint8)
        if number % 2 == 0:
            values[:2, :2], values[3] = 1, 255
        Image.fromarray(np.full((*values.shape, 3), 100, np.uint8)).save(images / f"{number}.png")
        Image.fromarray(values).save(masks / f"{number}.png")
    (tmp_path / "classes.txt").write_text("background\ncell\nborder\n")
    return tmp_path


def test_pixels_and_images_of_each_class_are_counted(folder):
    rows, _, _ = inspect(str(folder), "train")
    # The test image is cut from the first and third; of the others 59 pixels have a class, and 4 of these belong to a cell.
    assert rows == [
        {"class": "background", "share of pixels": "93.22%", "images": 3},
        {"class": "cell", "share of pixels": "6.78%", "images": 1},
        {"class": "border", "share of pixels": "0.00%", "images": 0},
    ]


def test_splits_ignored_pixels_and_sizes_are_told(folder):
    _, _, notes = inspect(str(folder), "train")
    assert notes == (
        "examples: 3 train, 1 validation, 1 test",
        "pixels of no known class: 7.81%; the classes' shares are of the others",
        "sizes of images: 2, most often 5 x 4 (67%)",
    )


def test_examples_are_drawn_under_their_masks_with_the_classes_that_they_show(folder):
    _, figure, _ = inspect(str(folder), "train")
    assert sum(bool(axes.images) for axes in figure.axes) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["background", "cell"]


def test_pixels_of_no_class_show_the_image_and_others_the_colour_of_their_class(folder):
    _, figure, _ = inspect(str(folder), "validation")
    drawn = figure.axes[0].images[0].get_array()
    # A cell is 0.4 of the image's 100 and 0.6 of its colour (128, 0, 0).
    assert drawn[0, 0].tolist() == [116, 40, 40] and drawn[-1, 0].tolist() == [100, 100, 100]


def test_a_split_that_is_empty_is_refused(folder):
    for name in ("images", "masks"):
        (folder / "val" / name / "4.png").rename(folder / "train" / name / "4.png")
        (folder / "val" / name).rmdir()
    (folder / "val").rmdir()
    with pytest.raises(InputError, match="has no validation part"):
        inspect(str(folder), "validation")


def test_what_needs_no_preparing_is_told():
    assert prepare("shapes") == "shapes comes with this package: nothing to prepare"


def test_where_camvid_lies_is_told_or_that_it_is_missing(folder, tmp_path_factory, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR")
    there = tmp_path_factory.mktemp("there")
    with pytest.raises(InputError, match=f"camvid is not in {there}"):
        prepare("camvid", str(there))
    folder.rename(there / "camvid")
    assert prepare("camvid", str(there)) == f"camvid is in {there / 'camvid'}"
