"""A look at images with boxes."""

import pytest
from PIL import Image

from kerastoolkit.data import inspect_boxes as module
from kerastoolkit.data.named import inspect
from kerastoolkit.experiment import InputError

SIZES = {"a": (40, 30), "b": (40, 30), "c": (20, 60)}  # width and height
# In pixels: 6 x 7.2 and 12 x 3 and 10 x 9 of cats; 20 x 30 of a dog; the last line has a fault.
LABELS = {
    "a": "0 0.5 0.5 0.15 0.24\n0 0.5 0.5 0.3 0.1\n1 0.5 0.5 0.5 1.0\n",
    "b": "0 0.5 0.5 0.25 0.3\n0 0.5 0.5 0 0.1\n",
    "c": "",
}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "mine"
    for name in ("images/train", "images/test", "labels/train"):
        (root / name).mkdir(parents=True)
    for place, (name, size) in enumerate(SIZES.items()):
        Image.new("RGB", size, (place, 100, 200)).save(root / "images" / "train" / f"{name}.png")
        (root / "labels" / "train" / f"{name}.txt").write_text(LABELS[name])
    Image.new("RGB", (40, 30)).save(root / "images" / "test" / "d.png")
    Image.new("RGB", (40, 30)).save(root / "images" / "train" / "last.png")  # which is cut for validation
    (root / "classes.txt").write_text("cat\ndog\nbird\n")
    return str(root)


@pytest.fixture
def all_train(monkeypatch):
    read = module.read
    monkeypatch.setattr(module, "read", lambda name, **options: read(name, validation=0, **options))


def test_boxes_are_counted_and_measured_by_class(folder, all_train):
    rows, _, _ = inspect(folder, "train")
    assert rows == [
        {"class": "cat", "boxes": 3, "images": 2, "median width": "10", "median height": "7", "smallest": "12 x 3"},
        {"class": "dog", "boxes": 1, "images": 1, "median width": "20", "median height": "30", "smallest": "20 x 30"},
        {"class": "bird", "boxes": 0, "images": 0, "median width": "0", "median height": "0", "smallest": "0 x 0"},
    ]


def test_splits_sizes_and_faults_are_told_and_nothing_is_refused(folder, all_train):
    _, _, notes = inspect(folder, "train")
    assert notes[:3] == ("examples: 4 train, 0 validation, 1 test", "boxes of an image: 1.0 on average, 3 at most",
                         "sizes of images: 2, most often 40 x 30 (75%)")  # fmt: skip
    assert any(note.startswith("1 object with a fault left out") for note in notes)
    assert notes[-1].endswith("b.txt: line 2: a box must have a width and a height above 0, got 20, 13.5, 20, 16.5")


def test_examples_are_drawn_with_their_boxes_side_by_side(folder, all_train):
    _, figure, _ = inspect(folder, "train")
    assert [len(axes.texts) for axes in figure.axes] == [3, 1, 0, 0]
    assert {text.get_text() for axes in figure.axes for text in axes.texts} == {"cat", "dog"}
    places = [axes.get_position(original=True) for axes in figure.axes]
    assert all(0 <= place.x0 < place.x1 <= 1 and 0 <= place.y0 < place.y1 <= 1 for place in places)
    assert all(one.x1 < other.x0 for one, other in zip(places, places[1:], strict=False))
    width, height = figure.get_size_inches()
    assert (places[2].width * width) / (places[2].height * height) == pytest.approx(20 / 60)


def test_a_split_without_boxes_is_shown_and_one_without_images_refused(folder, all_train):
    rows, figure, _ = inspect(folder, "test")
    assert [row["boxes"] for row in rows] == [0, 0, 0] and len(figure.axes) == 1
    with pytest.raises(InputError, match="has no validation part"):
        inspect(folder, "validation")
