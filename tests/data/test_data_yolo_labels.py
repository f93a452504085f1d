"""Folders with YOLO labels: their layouts, what a line means, and that each fault is told with its file and line."""

import numpy as np
import pytest
from PIL import Image

from kerastoolkit.data.boxed_images import read
from kerastoolkit.data.yolo_labels import has_yolo_layout
from kerastoolkit.experiment import InputError

HEIGHT, WIDTH = 8, 10
# Each line is ten times the one before: the last is megabytes when written out, and a few more would fill any memory.
BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 10)}]\n" for n in range(6))
BOX = "0 0.5 0.5 0.2 0.5\n"  # 4 .. 6, 2 .. 6


def write(images, labels, texts, end=".png"):
    """Images of names, and their files of labels where the text is not None."""
    for path in (images, labels):
        path.mkdir(parents=True, exist_ok=True)
    for place, (name, text) in enumerate(texts.items()):
        Image.new("L", (WIDTH, HEIGHT), place).save(images / f"{name}{end}")
        if text is not None:
            (labels / f"{name}.txt").write_text(text)


@pytest.fixture
def folder(tmp_path):
    """Makes images/train with labels of the given text and three more, images/val, and classes.txt."""

    def make(text=BOX, names="cat\ndog\nhouse\n"):
        write(tmp_path / "images" / "train", tmp_path / "labels" / "train", {"a": text, "b": BOX, "c": "", "d": None})
        write(tmp_path / "images" / "val", tmp_path / "labels" / "val", {"e": BOX})
        if names:
            (tmp_path / "classes.txt").write_text(names)
        return tmp_path

    return make


def names_of(found):
    return {split: sorted(image.file.stem for image in images) for split, images in found.splits.items()}


def first(root, **arguments):
    """The training image that is called a."""
    return next(image for image in read(str(root), validation=0, **arguments).splits["train"] if image.file.stem == "a")


def test_a_line_is_a_class_and_centre_and_size_in_shares_of_the_image(folder):
    image = first(folder("2 0.5 0.5 0.2 0.5\n\n 0\t0.15 0.25 0.1 0.5 \n"))
    np.testing.assert_allclose(image.boxes, [[4, 2, 6, 6], [1, 0, 2, 4]], atol=1e-6)
    assert image.labels.tolist() == [2, 0] and not image.crowd.any()
    np.testing.assert_allclose(image.areas, [8, 4], atol=1e-5)


def test_an_outline_is_the_box_around_it(folder):
    image = first(folder("1 0.1 0.25 0.4 0.5 0.2 1.0\n1 0.1 0.25 0.4 0.25 0.4 0.5 0.1 0.5\n"))
    np.testing.assert_allclose(image.boxes, [[1, 2, 4, 8], [1, 2, 4, 4]], atol=1e-6)


def test_a_box_that_rounding_moved_over_the_border_is_cut(folder):
    np.testing.assert_allclose(first(folder("0 0.049 0.5 0.1 1.0\n")).boxes, [[0, 0, 0.99, 8]], atol=1e-6)


def test_images_without_labels_and_with_empty_ones_are_kept_without_objects(folder):
    found = read(str(folder()), validation=0)
    assert [len(image.labels) for image in sorted(found.splits["train"], key=lambda image: image.file.stem)] == [1, 1, 0, 0]
    assert "2 of 5 images have no box: they are kept" in found.notes


def test_val_is_the_test_split_where_there_is_no_other_and_validation_is_cut_from_train(folder):
    parts = names_of(read(str(folder()), validation=1))
    assert parts["test"] == ["e"] and len(parts["validation"]) == 1
    assert sorted(parts["train"] + parts["validation"]) == ["a", "b", "c", "d"]


def test_images_and_labels_in_each_split_folder_are_found_and_names_may_go_on(tmp_path):
    for part, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        write(tmp_path / part / "images", tmp_path / part / "labels", {name: BOX})
    assert has_yolo_layout(tmp_path)
    assert names_of(read(str(tmp_path))) == {"train": ["a"], "validation": ["b"], "test": ["c"]}


def test_images_and_labels_without_splits_are_cut(tmp_path):
    write(tmp_path / "images", tmp_path / "labels", {str(number): BOX for number in range(20)})
    write(tmp_path / "images" / "more", tmp_path / "labels" / "more", {str(number): BOX for number in range(20, 30)})
    parts = names_of(read(str(tmp_path)))
    assert {split: len(names) for split, names in parts.items()} == {"train": 24, "validation": 3, "test": 3}
    assert sorted(sum(parts.values(), [])) == sorted(map(str, range(30)))


def test_data_yaml_tells_folders_and_names(folder):
    root = folder(names=None)
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\ntest:\nnc: 2\nnames: [cat, dog]\n")
    found = read(str(root), validation=0)
    assert found.classes == ("cat", "dog") and found.category_ids == (1, 2)
    assert names_of(found) == {"train": ["a", "b", "c", "d"], "validation": [], "test": ["e"]}


def test_data_yaml_may_number_names_list_images_and_tell_paths_of_elsewhere(folder):
    root = folder(names=None)
    (root / "train.txt").write_text("./images/train/a.png\n\nimages/train/b.png\n")
    (root / "data.yaml").write_text(
        "path: /nowhere\ntrain: [train.txt, ../images/train]\nval: images/val\nnames: {1: dog, 0: cat}\n")  # fmt: skip
    found = read(str(root), validation=0)
    assert found.classes == ("cat", "dog")
    assert names_of(found) == {"train": ["a", "b", "c", "d"], "validation": [], "test": ["e"]}
    assert [len(image.labels) for image in found.splits["train"][:2]] == [1, 1]


def test_labels_stand_beside_the_images_where_no_folder_is_called_images(tmp_path):
    write(tmp_path / "train", tmp_path / "train", {"a": BOX, "b": BOX, "c": BOX})
    (tmp_path / "data.yaml").write_text("train: train\nnames: [cat]\n")
    assert all(len(image.labels) == 1 for images in read(str(tmp_path)).splits.values() for image in images)


def test_classes_without_names_are_numbered_up_to_the_largest(folder):
    found = read(str(folder("4 0.5 0.5 0.2 0.5\n", names=None)), validation=0)
    assert found.classes == ("class 0", "class 1", "class 2", "class 3", "class 4")
    assert any("tells no names of classes" in note for note in found.notes)


def test_training_images_that_are_scored_too_are_told(folder):
    root = folder(names=None)
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [cat]\n")
    assert "4 training images are among those of validation or test, too" in read(str(root), validation=0).notes


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("0 0.5 0.5 0.2", "must be a class and 4 numbers, or a class and 3 or more corners, got 4 numbers"),
        ("0 0.5 0.5 0.2 0.5 0.9", "must be a class and 4 numbers, or a class and 3 or more corners, got 6 numbers"),
        ("0 0.5 0.5 0.2 0.5 0.9 0.1 0.3", "must be a class and 4 numbers, or a class and 3 or more corners, got 8 numbers"),
        ("cat 0.5 0.5 0.2 0.5", "must be numbers, got cat 0.5 0.5 0.2 0.5"),
        ("3 0.5 0.5 0.2 0.5", "the class must be a whole number 0 .. 2, got 3"),
        ("-1 0.5 0.5 0.2 0.5", "the class must be a whole number 0 .. 2, got -1"),
        ("0.5 0.5 0.5 0.2 0.5", "the class must be a whole number 0 .. 2, got 0.5"),
        ("nan 0.5 0.5 0.2 0.5", "the class must be a whole number 0 .. 2, got nan"),
        ("0 0.5 1.2 0.2 0.5", "what follows the class must be 0 .. 1, got 1.2"),
        ("0 0.5 -0.1 0.2 0.5", "what follows the class must be 0 .. 1, got -0.1"),
        ("0 0.5 nan 0.2 0.5", "what follows the class must be 0 .. 1, got nan"),
        ("0 0.5 0.5 0 0.5", "a box must have a width and a height above 0, got 5, 2, 5, 6"),
        ("0 0.9 0.5 0.5 0.5", "a box must lie within the image of 10 x 8, got 6.5, 2, 11.5, 6"),
        ("0 0.1 0.1 0.1 0.2 0.1 0.3", "a box must have a width and a height above 0"),
    ],
)
def test_a_line_that_cannot_be_is_refused_with_its_number(folder, line, rule):
    root = folder(f"{BOX}\n{line}\n")
    with pytest.raises(InputError) as error:
        read(str(root))
    assert f"labels/train/a.txt: line 3: {rule}" in str(error.value)
    assert len(first(root, skip_faults=True).labels) == 1


def test_a_class_number_beyond_reason_is_refused_where_no_names_are_told(folder):
    with pytest.raises(InputError, match="the class must be a whole number 0 .. 999, got 1000"):
        read(str(folder("1000 0.5 0.5 0.2 0.5", names=None)))


def test_labels_without_an_image_images_that_are_none_and_labels_that_are_no_text_are_told_at_once(folder):
    root = folder()
    (root / "labels" / "train" / "lost.txt").write_text(BOX)
    (root / "images" / "train" / "b.png").write_text("words")
    (root / "labels" / "train" / "c.txt").write_bytes(b"\xff\xfe0")
    (root / "labels" / "train" / "classes.txt").write_text("cat\n")  # no labels, and neither is what macOS leaves behind
    (root / "labels" / "train" / "._a.txt").write_text("")
    with pytest.raises(InputError) as error:
        read(str(root))
    lines = [str(error.value), *error.value.__notes__]
    assert len(lines) == 3 and "(and 2 more)" in lines[0]
    for wanted in ("lost.txt: labels must be of an image, got none", "b.png: not an image", "c.txt: must be text in UTF-8"):
        assert any(wanted in line for line in lines)
    found = read(str(root), validation=0, skip_faults=True)
    assert names_of(found)["train"] == ["a", "d"] and found.notes[0].startswith("3 images with a fault left out, the first: ")


def test_limit_takes_the_first_images_of_each_split_and_looks_at_no_other(folder):
    root = folder()
    (root / "images" / "train" / "c.png").write_text("words")
    assert names_of(read(str(root), validation=0, limit=2)) == {"train": ["a", "b"], "validation": [], "test": ["e"]}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("train: [", "data.yaml: cannot be read as YAML"),
        ("!!python/object/apply:os.getcwd []", "data.yaml: cannot be read as YAML"),
        ("- 5", "data.yaml: must have the keys train and names, got list"),
        ("train: nowhere\nnames: [cat]", "data.yaml: train must be a folder of images or a list of them, got nowhere"),
        ("train: images/train\nnames: cat", "data.yaml: names must be a list, got cat"),
        ("train: images/train\nnames: [cat, no]", "data.yaml: names must be texts, each once, got False"),
        (f"{BOMB}train: images/train\nnames: [*a5]", "data.yaml: names must be texts, each once, got [["),
        (f"{BOMB}train: images/train\nnames: {{0: *a5}}", "data.yaml: names must be texts, each once, got [["),
        (f"{BOMB}train: [*a5]\nnames: [cat]", "data.yaml: train must be a folder of images or a list of them, got [["),
        ("train: 5\nnames: [cat]", "data.yaml: train must be a folder of images or a list of them, got 5"),
        ("train: images/train\nnames: [cat, cat]", "data.yaml: names must be texts, each once, got cat"),
        ("train: images/train\nnames: [cat, [dog]]", "names must be texts, each once, got ['dog']"),
        ("train: images/train\nnames: {1: cat}", "data.yaml: names must be of the classes 0, 1, ..., got 1"),
        ("train: images/val\nnames: [cat]", "images/val: must have at least 3 images (.jpg .jpeg .png .bmp .gif), got 1"),
    ],
)
def test_a_data_yaml_that_does_not_fit_is_refused_by_its_rule(folder, text, rule):
    root = folder(names=None)
    (root / "data.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        read(str(root), skip_faults=True)
    assert rule in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


def test_two_folders_for_a_split_and_none_for_train_are_refused(folder):
    root = folder()
    write(root / "images" / "valid", root / "labels" / "valid", {"f": BOX})
    with pytest.raises(InputError, match="must have one folder for validation, got .*val and .*valid"):
        read(str(root))
    (root / "images").rename(root / "train")
    (root / "data.yaml").write_text("names: [cat]")
    with pytest.raises(InputError, match="needs images for train: train in data.yaml, images or train/images"):
        read(str(root))


def test_the_layout_is_known_by_labels_beside_images_or_by_data_yaml(folder, tmp_path):
    assert has_yolo_layout(folder())
    for file in tmp_path.rglob("labels/*/*.txt"):
        file.unlink()
    assert not has_yolo_layout(tmp_path)
    (tmp_path / "data.yaml").write_text("names: [cat]")
    assert has_yolo_layout(tmp_path)
