"""Images with boxes: what a batch holds, the made pictures, what is left out and told, and how faults are told."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.cli import main
from kerastoolkit.data import boxed_images as module
from kerastoolkit.data import made_shapes
from kerastoolkit.data.boxed_images import boxed_image, boxed_images, boxed_source, is_boxed, read
from kerastoolkit.data.made_shapes import made_shape_image
from kerastoolkit.data.segmented_images import segmented_images
from kerastoolkit.experiment import InputError, rebuild

CLASSES = ("cat", "dog", "house")
BOX = (1.0, 2.0, 4.0, 6.0)


@pytest.fixture
def folder(tmp_path):
    """Makes a folder in COCO layout, "mine": as many training images as ``objects`` has lists, each list with the objects of one,
    (label, box x_min, y_min, x_max, y_max) and fields of an annotation besides where wanted; and one image for test, without."""

    def make(*objects, classes=CLASSES, root=tmp_path / "mine"):
        categories = [{"id": 10 + number, "name": name} for number, name in enumerate(classes)]
        for part, images in (("train", objects), ("test", [[]])):
            records, annotations = [], []
            for path in (root / "annotations", root / part):
                path.mkdir(parents=True, exist_ok=True)
            for number, found in enumerate(images):
                records.append({"id": number, "file_name": f"{number}.png", "height": 8, "width": 10})
                Image.new("L", (10, 8), number).save(root / part / f"{number}.png")
                for label, (left, top, right, bottom), *fields in found:
                    annotations.append({"id": len(annotations), "image_id": number, "category_id": 10 + label,
                                        "bbox": [left, top, right - left, bottom - top], **dict(*fields)})  # fmt: skip
            contents = {"categories": categories, "images": records, "annotations": annotations}
            (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(contents))
        return str(root)

    return make


def refusal(data, **arguments):
    with pytest.raises(InputError) as error:
        boxed_images(data, **arguments)
    assert "\n" not in str(error.value)
    return error.value


def test_a_batch_is_padded_to_the_most_objects_that_one_of_its_images_has(tmp_path):
    images = []
    for number, objects in enumerate([[(2, BOX, False, 5.0)], [], [(0, BOX, True, None), (1, (0, 0, 10, 8), False, None)]]):
        (tmp_path / f"{number}.png").write_bytes(f"image {number}".encode())
        images.append(boxed_image(tmp_path / f"{number}.png", 8, 10, objects))
    source = boxed_source(images)
    assert source.size == 3 and source.name(1) == str(tmp_path / "1.png")
    batches = list(tf.data.Dataset.from_tensor_slices(np.array([2, 1, 0, 1, 1, 1])).batch(3).map(source.fetch))
    batch = {name: values.numpy() for name, values in batches[0].items()}
    assert batch["image"].tolist() == [b"image 2", b"image 1", b"image 0"]
    np.testing.assert_array_equal(batch["boxes"], [[BOX, (0, 0, 10, 8)], [(0,) * 4] * 2, [BOX, (0,) * 4]])
    assert batch["labels"].tolist() == [[0, 1], [-1, -1], [2, -1]]
    assert batch["crowd"].tolist() == [[True, False], [False, False], [False, False]]
    assert batch["areas"].tolist() == [[12, 80], [0, 0], [5, 0]]
    # A batch without any object has room for one.
    assert {name: values.shape.as_list() for name, values in batches[1].items()} == {
        "image": [3], "boxes": [3, 1, 4], "labels": [3, 1], "crowd": [3, 1], "areas": [3, 1]}  # fmt: skip
    assert batches[1]["labels"].numpy().tolist() == [[-1]] * 3
    assert {name: values.dtype.name for name, values in batches[0].items()} == {
        "image": "string", "boxes": "float32", "labels": "int32", "crowd": "bool", "areas": "float32"}  # fmt: skip


def test_a_graph_knows_that_a_box_is_four_numbers(folder):
    spec = tf.data.Dataset.range(2).batch(2).map(boxed_images(folder([(0, BOX)], [])).train.fetch).element_spec
    assert spec["boxes"].shape.as_list() == [None, None, 4] and spec["labels"].shape.as_list() == [None, None]


def test_what_is_known_of_a_folder_goes_with_its_splits(folder):
    data = boxed_images(folder([(0, BOX)], [(1, BOX)], [], [(2, BOX)]), validation=1)
    assert data.name == "mine" and data.inputs == ("image",) and data.encoded
    assert data.about == {"classes": CLASSES, "category_ids": (10, 11, 12), "shape": None, "channels": 3}
    assert [data.split(name).size for name in ("train", "validation", "test")] == [3, 1, 1]


@pytest.fixture
def few(monkeypatch):
    """The splits of the made pictures with few of them, and which were made."""
    made, make = [], made_shapes.made_shape_image
    monkeypatch.setattr(made_shapes, "SIZES", {"train": 6, "validation": 3, "test": 4})
    monkeypatch.setattr(made_shapes, "made_shape_image", lambda *which: made.append(which) or make(*which))
    return made


def box_of(mask):
    """The box around the pixels of a mask, pixel by pixel."""
    places = [(row, column) for row in range(mask.shape[0]) for column in range(mask.shape[1]) if mask[row, column]]
    rows, columns = zip(*places, strict=True)
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


def test_a_made_picture_is_that_of_segmentation_with_tight_boxes_around_what_is_seen(few):
    data, masked = boxed_images("shapes"), segmented_images("shapes", 96, 96)
    assert data.about["classes"] == ("circle", "square", "triangle", "star") and data.about["category_ids"] == (1, 2, 3, 4)
    assert [data.split(name).size for name in ("train", "validation", "test")] == [6, 3, 4]
    batch = data.test.fetch(tf.range(4, dtype=tf.int64))
    assert batch["image"].numpy().tolist() == masked.test.fetch(tf.range(4, dtype=tf.int64))["image"].numpy().tolist()
    most = max(len(made_shape_image("test", number)[2]) for number in range(4))
    for number in range(4):
        seen = made_shape_image("test", number)[2]
        count = len(seen)
        assert batch["boxes"][number, :count].numpy().tolist() == [box_of(mask) for _, mask in seen]
        assert batch["labels"][number].numpy().tolist() == [label - 1 for label, _ in seen] + [-1] * (most - count)
        assert batch["areas"][number, :count].numpy().tolist() == [mask.sum() for _, mask in seen]
        assert not batch["crowd"][number].numpy().any()


def test_a_shape_of_which_fewer_than_16_pixels_are_seen_has_no_box(monkeypatch):
    masks = [np.zeros((8, 10), bool) for _ in range(2)]
    masks[0][:3, :5], masks[1][4:8, 2:6] = True, True
    monkeypatch.setattr(made_shapes, "made_shape_image", lambda split, number: (np.zeros((8, 10, 3), np.uint8), None, [
        (1, masks[0]), (3, masks[1])]))  # fmt: skip
    batch = boxed_images("shapes", limit=1).train.fetch(tf.constant([0], tf.int64))
    assert batch["labels"].numpy().tolist() == [[2]] and batch["boxes"].numpy().tolist() == [[[2, 4, 6, 8]]]


def test_of_made_pictures_no_more_are_made_than_wanted_when_they_are_fetched_from_and_of_the_classes_wanted(few):
    data = boxed_images("sample", limit=3, only=("star", "square"))
    assert few == [] and data.name == "shapes"
    assert data.about["classes"] == ("square", "star") and data.about["category_ids"] == (2, 4)
    batch = data.train.fetch(tf.constant([2, 1, 0], tf.int64))
    data.train.fetch(tf.constant([1], tf.int64))
    assert few == [("train", number) for number in range(3)]
    for number, found in zip((2, 1, 0), batch["labels"].numpy(), strict=True):
        wanted = [{2: 0, 4: 1}[label] for label, _ in made_shape_image("train", number)[2] if label in (2, 4)]
        assert found.tolist() == wanted + [-1] * (len(found) - len(wanted))
    assert not tf.boolean_mask(batch["boxes"], batch["labels"] < 0).numpy().any()
    assert "got circel (did you mean circle?)" in str(refusal("shapes", only=("circel",)))


def test_objects_of_classes_that_are_not_wanted_are_left_out_and_their_images_kept(folder):
    path = folder([(2, BOX), (1, (0, 0, 1, 1))], [(1, BOX)], [(0, BOX)])
    found = read(path, only=("house", "cat"), validation=0)
    assert found.classes == ("cat", "house") and found.category_ids == (10, 12)
    assert [image.labels.tolist() for image in found.splits["train"]] == [[1], [], [0]]
    assert found.splits["train"][0].boxes.tolist() == [list(BOX)]
    assert found.notes == ("2 of 4 images have no box: they are kept",)
    assert "only must name classes of" in str(refusal(path, only=("hose",))) and "house?" in str(refusal(path, only=("hose",)))
    assert "got zebra: choose of cat, dog, house" in str(refusal(path, only=("zebra",)))


def test_limit_takes_the_first_images_of_each_split(folder):
    data = boxed_images(folder(*([(0, BOX)] for _ in range(5))), validation=0, limit=2)
    assert data.train.size == 2 and data.test.size == 1
    assert "limit must be at least 1, got 0" in str(refusal("shapes", limit=0))


def test_an_object_that_stands_there_again_is_kept_once_and_told(folder):
    again = [(0, BOX), (1, BOX), (0, BOX), (0, (1, 2, 4, 7)), (0, BOX, {"iscrowd": 1}), (0, BOX)]
    found = read(folder(again, [(0, BOX)]), validation=0)
    image = found.splits["train"][0]
    assert image.labels.tolist() == [0, 1, 0, 0] and image.crowd.tolist() == [False, False, False, True]
    assert image.boxes.tolist() == [list(BOX), list(BOX), [1, 2, 4, 7], list(BOX)]
    assert found.notes[0] == "2 objects left out that stand there again: same image, class and box"


def test_crowds_and_images_without_boxes_are_told(folder):
    notes = read(folder([(0, BOX, {"iscrowd": 1}), (1, BOX)], []), validation=0).notes
    assert notes == ("1 of 2 objects are crowds or difficult: no targets, and ignored in evaluation",
                     "2 of 3 images have no box: they are kept")  # fmt: skip


def test_training_images_without_any_box_are_refused(folder):
    path = folder([], [])
    assert f"{path}: must have at least 1 box in 2 training images, got none" == str(refusal(path, validation=0))
    message = str(refusal(folder([(0, BOX)], [(1, (1, 2, 1, 6))]), only=("dog",), validation=0, skip_faults=True))
    assert "got none without a fault, the first fault: " in message and "annotations[1]" in message


def test_all_faults_are_told_at_once_the_first_in_the_message_and_at_most_50_more_in_its_notes(folder):
    path = folder([(0, (1, 2, 1, 6))] * 53, [(0, BOX)])
    error = refusal(path)
    assert "annotations[0] (id 0): a box must have a width and a height above 0, got 1, 2, 1, 6 (and 52 more)" in str(error)
    assert str(error).endswith("; --set skip_faults=true leaves out what has a fault")
    *told, last = error.__notes__
    assert len(told) == 50 and "annotations[50] (id 50): " in told[-1] and last == "and 2 more"


def test_faults_are_left_out_and_counted_where_that_is_wanted(folder):
    path = folder([(0, (1, 2, 1, 6)), (1, BOX)], [(0, BOX), (0, (0, 0, 20, 1))], [(2, BOX)])
    damaged = module.Path(path) / "train" / "2.png"
    damaged.write_text("words")
    data = boxed_images(path, validation=0, skip_faults=True)
    assert data.train.size == 2
    labels = data.train.fetch(tf.constant([0, 1], tf.int64))["labels"]
    assert labels.numpy().tolist() == [[1], [0]]
    objects, images, *_ = data.notes
    assert objects.startswith("2 objects with a fault left out, the first: ") and "annotations[0]" in objects
    assert images.startswith(f"1 image with a fault left out, the first: {damaged}: not an image")


def test_the_command_line_tells_each_further_fault_on_a_line_of_its_own(folder, capsys, monkeypatch):
    path = folder([(0, (1, 2, 1, 6))] * 3, [(0, BOX)])
    monkeypatch.setattr("kerastoolkit.data.named.inspect", lambda name, split: boxed_images(name))
    with pytest.raises(SystemExit) as left:
        main(arguments=["data", "inspect", path])
    lines = [line for line in capsys.readouterr().err.splitlines() if "annotations[" in line]
    assert left.value.code == 2 and len(lines) == 3
    assert lines[0].startswith("error: ") and "annotations[2]" in lines[2] and not lines[2].startswith("error")


def test_a_run_is_scored_on_other_data_by_the_same_description(folder, tmp_path):
    made = boxed_images(folder([(0, BOX)], [(1, BOX)]), only=("cat", "dog"), validation=0)
    description = json.loads(json.dumps(made.description))
    other = rebuild(description, data=folder([(0, BOX)], [(1, BOX)], [(1, BOX)], root=tmp_path / "other"))
    assert other.name == "other" and other.train.size == 3 and other.about["classes"] == made.about["classes"] == ("cat", "dog")


def test_a_name_that_is_none_and_a_path_that_is_none_are_refused_with_what_there_is(tmp_path):
    assert "unknown data set of images with boxes shaps (did you mean shapes?): choose sample, shapes" in str(refusal("shaps"))
    assert "annotations/instances_*.json" in str(refusal("nothing like it"))
    assert f"{tmp_path / 'none'}: no such folder" in str(refusal(str(tmp_path / "none")))
    (tmp_path / "file").write_text("")
    assert "is not a folder" in str(refusal(str(tmp_path / "file")))
    message = str(refusal(str(tmp_path)))
    assert all(part in message for part in ("annotations/instances_*.json", "data.yaml, or images and labels", "JPEGImages"))


def test_bccd_is_found_in_the_data_directory_also_as_its_repository_has_it(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    message = str(refusal("bccd"))
    assert f"bccd is not in {tmp_path}: put there a folder bccd" in message and module.BCCD_URL in message
    folder([(0, BOX)], [(1, BOX)], root=tmp_path / "bccd")
    assert module.bccd().name == "bccd" and module.bccd().about["classes"] == CLASSES
    (tmp_path / "bccd").rename(tmp_path / "BCCD")
    (tmp_path / "bccd").mkdir()
    (tmp_path / "BCCD").rename(tmp_path / "bccd" / "BCCD")
    assert boxed_images("bccd").test.size == 1


def test_coco_put_in_by_hand_is_found_in_the_data_directory(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (tmp_path / "coco" / "2017").mkdir(parents=True)  # as TensorFlow Datasets has it
    assert is_boxed("coco") and "coco is not in" in str(refusal("coco"))
    folder([(0, BOX)], [(1, BOX)], root=tmp_path / "coco")
    assert boxed_images("coco").test.size == 1 and not is_boxed("coco")


def test_a_folder_is_one_of_boxes_where_no_object_has_a_mask(folder, tmp_path):
    assert is_boxed(folder([(0, BOX)])) and not is_boxed(str(tmp_path)) and is_boxed("bccd") and not is_boxed("shapes")
    assert not is_boxed(folder([(0, BOX, {"segmentation": [[0, 0, 1, 0, 1, 1]]})]))
    (tmp_path / "yolo" / "labels").mkdir(parents=True)
    (tmp_path / "yolo" / "images").mkdir()
    (tmp_path / "yolo" / "labels" / "1.txt").write_text("")
    assert is_boxed(str(tmp_path / "yolo"))
