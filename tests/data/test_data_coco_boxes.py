"""Boxes from folders in COCO layout: what is read of an object, from which file, and that nothing is believed unchecked."""

import json

import numpy as np
import pytest
from PIL import Image

from kerastoolkit.data.boxed_images import read
from kerastoolkit.data.coco_files import has_masks
from kerastoolkit.data.coco_objects import box_within
from kerastoolkit.experiment import InputError

HEIGHT, WIDTH = 8, 10
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 20, "name": "house"}]


def annotation(category=7, image=1, **fields):
    return {"image_id": image, "category_id": category, "iscrowd": 0, **fields}


def write(root, part, annotations, images=4, prefix="instances"):
    """A file of annotations and its images."""
    records = [{"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH} for number in range(1, images + 1)]
    for path in (root / "annotations", root / part):
        path.mkdir(parents=True, exist_ok=True)
    for record in records:
        Image.new("L", (WIDTH, HEIGHT), record["id"]).save(root / part / record["file_name"])
    annotations = [{"id": 100 + place, **each} for place, each in enumerate(annotations)]
    what = {"images": records, "annotations": annotations, "categories": CATEGORIES}
    (root / "annotations" / f"{prefix}_{part}.json").write_text(json.dumps(what))
    return root


@pytest.fixture
def folder(tmp_path):
    """Makes a folder whose train2017 is four images with the given objects, and whose val2017 is one without."""

    def make(*annotations):
        write(tmp_path, "val2017", [], images=1)
        return write(tmp_path, "train2017", annotations)

    return make


def first(root, **arguments):
    """The first training image; there is none for validation."""
    return read(str(root), validation=0, **arguments).splits["train"][0]


def test_classes_are_the_categories_by_id_and_boxes_are_corners(folder):
    root = folder(annotation(20, bbox=[1, 2, 3.5, 4]), annotation(3, bbox=[0, 0, 10, 8]))
    found = read(str(root), validation=0)
    assert found.classes == ("dog", "cat", "house") and found.category_ids == (3, 7, 20)
    image = found.splits["train"][0]
    np.testing.assert_array_equal(image.boxes, np.array([[1, 2, 4.5, 6], [0, 0, 10, 8]], np.float32))
    assert image.labels.tolist() == [2, 0] and (image.height, image.width) == (HEIGHT, WIDTH)
    assert image.boxes.dtype == np.float32 and image.labels.dtype == np.int32 and image.crowd.dtype == bool


def test_an_area_is_what_the_file_tells_or_else_that_of_the_box(folder):
    objects = ({"area": 5.5}, {}, {"area": 0}, {"area": None})
    image = first(folder(*(annotation(bbox=[1, place, 3, 4], **each) for place, each in enumerate(objects))))
    assert image.areas.tolist() == [5.5, 12.0, 0.0, 12.0] and image.areas.dtype == np.float32


def test_crowds_are_kept_and_marked(folder):
    image = first(folder(annotation(bbox=[1, 2, 3, 4], iscrowd=1), annotation(bbox=[1, 1, 3, 4])))
    assert image.crowd.tolist() == [True, False]


def test_an_object_without_bbox_has_the_box_around_its_mask(folder):
    polygons = [[1, 2, 4.5, 2, 3, 6], [5, 3, 6, 3, 6, 7]]
    runs = {"size": [HEIGHT, WIDTH], "counts": [9, 3, 5, 3, 60]}  # columns 1 and 2, rows 1 to 3
    image = first(folder(annotation(segmentation=polygons), annotation(segmentation=runs, bbox=None)))
    np.testing.assert_array_equal(image.boxes, np.array([[1, 2, 6, 7], [1, 1, 3, 4]], np.float32))


def test_a_mask_beside_a_bbox_is_not_looked_at(folder):
    assert first(folder(annotation(bbox=[1, 2, 3, 4], segmentation="nonsense"))).boxes.tolist() == [[1, 2, 4, 6]]


def test_boxes_that_stick_out_by_a_pixel_are_cut_at_the_border(folder):
    image = first(folder(annotation(bbox=[-1, -0.5, 3, 4]), annotation(bbox=[5, 5, 6, 4])))
    np.testing.assert_array_equal(image.boxes, np.array([[0, 0, 2, 3.5], [5, 5, 10, 8]], np.float32))


def test_a_box_that_is_no_number_or_lies_outside_is_refused():
    assert box_within((0, 1, 5, 8), 8, 10) == (0, 1, 5, 8)
    outside = [(-1.1, 0, 3, 3), (0, -1.1, 3, 3), (0, 0, 11.1, 3), (0, 0, 3, 9.1)]
    for box in (*outside, *np.where(np.eye(4), np.nan, [1, 1, 3, 3])):
        with pytest.raises(ValueError, match="a box must lie within the image of 10 x 8, got "):
            box_within(tuple(box), 8, 10)


def test_the_file_with_all_objects_is_read_where_there_is_one_of_those_with_masks(folder):
    root = folder(annotation(bbox=[1, 2, 3, 4]))
    write(root, "train2017", [annotation(bbox=[0, 0, 1, 1], segmentation=[[0, 0, 1, 0, 1, 1]])], prefix="instances_masks")
    assert first(root).boxes.tolist() == [[1, 2, 4, 6]]
    assert "instances_train2017.json is read in place of instances_masks_train2017.json" in read(str(root)).notes
    (root / "annotations" / "instances_train2017.json").unlink()
    assert first(root).boxes.tolist() == [[0, 0, 1, 1]]


def test_val_is_the_test_split_where_there_is_no_other_and_validation_is_cut_from_train(folder):
    found = read(str(folder(*(annotation(image=number, bbox=[1, 2, 3, 4]) for number in range(1, 5)))), validation=1)
    assert {split: len(images) for split, images in found.splits.items()} == {"train": 3, "validation": 1, "test": 1}
    assert found.splits["test"][0].file.parent.name == "val2017"


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"category_id": 4}, "category_id must be a category's id, got 4"),
        ({"bbox": [1, 2, 0, 4]}, "a box must have a width and a height above 0, got 1, 2, 1, 6"),
        ({"bbox": [1, 2, 3, 0]}, "a box must have a width and a height above 0, got 1, 2, 4, 2"),
        ({"bbox": [10, 2, 1, 3]}, "a box must have a width and a height above 0"),
        ({"bbox": [1, 2, -3, 4]}, "bbox must be left, top, width and height, got [1, 2, -3, 4]"),
        ({"bbox": [1, 2, 3]}, "bbox must be left, top, width and height, got [1, 2, 3]"),
        ({"bbox": [1, 2, 3, float("nan")]}, "bbox must be a list of numbers"),
        ({"bbox": [1, 2, 3, float("inf")]}, "bbox must be a list of numbers"),
        ({"bbox": [1, 2, 3, 9]}, "bbox must lie within the image of 10 x 8, got [1, 2, 3, 9]"),
        ({"bbox": None}, "must have a bbox or a segmentation"),
        ({"bbox": None, "segmentation": {"size": [8, 10], "counts": [80]}}, "must have a width and a height above 0"),
        ({"area": "large"}, 'area must be a number of pixels, got "large"'),
        ({"area": -1}, "area must be a number of pixels, got -1"),
        ({"area": float("nan")}, "area must be a number of pixels, got NaN"),
        ({"area": 10**400}, "area must be a number of pixels, got 1000"),
        ({"id": 100}, "id must be a whole number of its own, got 100"),
        ({"image_id": 9}, "image_id must be an image's id, got 9"),
    ],
)
def test_an_object_that_cannot_be_is_refused_with_its_place(folder, fields, rule):
    root = folder(annotation(bbox=[1, 2, 3, 4]), {**annotation(bbox=[1, 2, 3, 4]), **fields})
    with pytest.raises(InputError) as error:
        read(str(root))
    assert "instances_train2017.json: annotations[1]" in str(error.value) and rule in str(error.value)
    assert len(first(root, skip_faults=True).labels) == 1


def test_an_image_that_has_a_fault_is_left_out_whole_and_its_objects_are_no_faults_of_their_own(folder):
    root = folder(*(annotation(image=number, bbox=[1, 2, 3, 4]) for number in (1, 2, 3, 4)))
    file = root / "annotations" / "instances_train2017.json"
    what = json.loads(file.read_text())
    what["images"][1]["width"] = 0  # a record without size
    what["images"][2]["width"] = 12  # one of another size than the file
    file.write_text(json.dumps(what))
    (root / "train2017" / "4.png").write_text("words")
    found = read(str(root), validation=0, skip_faults=True)
    assert [image.file.name for image in found.splits["train"]] == ["1.png"]
    assert [kind for kind, _ in found.faults] == ["image"] * 3
    assert "3 images with a fault left out, the first: " in found.notes[0]
    assert "images[1] (id 2): height and width must be positive whole numbers, got [8, 0]" in found.notes[0]


def test_all_images_at_fault_are_told_in_place_of_their_being_too_few(folder):
    root = folder(annotation(bbox=[1, 2, 3, 4]))
    file = root / "annotations" / "instances_train2017.json"
    what = json.loads(file.read_text())
    for image in what["images"]:
        image["width"] = None
    file.write_text(json.dumps(what))
    with pytest.raises(InputError, match="images.0. .id 1.: height and width must be positive whole numbers"):
        read(str(root))


def test_what_is_no_record_at_all_is_refused_in_any_case(folder):
    root = folder(annotation(bbox=[1, 2, 3, 4]))
    (root / "annotations" / "instances_train2017.json").write_text("{")
    with pytest.raises(InputError, match="instances_train2017.json: cannot be read as JSON"):
        read(str(root), skip_faults=True)


@pytest.mark.parametrize(
    ("segmentation", "has"), [([], False), (None, False), ([[0, 0, 1, 0, 1, 1]], True), ({"size": [8, 10], "counts": [80]}, True)]
)
def test_a_folder_has_masks_where_an_object_has_polygons_or_run_lengths(folder, segmentation, has):
    assert has_masks(folder(annotation(bbox=[1, 2, 3, 4]), annotation(bbox=[1, 1, 3, 4], segmentation=segmentation))) is has


def test_an_empty_file_of_annotations_has_no_masks(folder):
    root = folder(annotation(bbox=[1, 2, 3, 4]))
    (root / "annotations" / "instances_train2017.json").write_text("")
    assert not has_masks(root)
