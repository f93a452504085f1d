"""Folders in COCO layout: what is read, how objects become class maps, and that nothing is believed unchecked."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.data.coco_files import has_coco_layout, read_coco
from kerastoolkit.data.coco_masks import coco_folder
from kerastoolkit.data.coco_objects import CocoObject, object_mask
from kerastoolkit.experiment import InputError
from kerastoolkit.metrics.run_lengths import unpacked_runs
from kerastoolkit.serving.class_maps import decode_class_map

HEIGHT, WIDTH = 8, 10
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 20, "name": "house"}]


def rectangle(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def box(left, top, right, bottom):
    return [left, top, right - left, bottom - top]


def drawn(left, top, right, bottom, value=True, on=None):
    on = np.zeros((HEIGHT, WIDTH), np.uint8) if on is None else on
    on[top:bottom, left:right] = value
    return on


def annotation(category=7, image=1, **fields):
    return {"image_id": image, "category_id": category, "iscrowd": 0, **fields}


def contents(annotations, images=1):
    records = [{"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH} for number in range(1, images + 1)]
    annotations = [{"id": 100 + place, **each} for place, each in enumerate(annotations)]
    return {"images": records, "annotations": annotations, "categories": CATEGORIES}


def write(root, part, what, folder=None):
    """A file of annotations and its images, each of a grey of its own."""
    folder = folder or root / part
    for path in (root / "annotations", folder):
        path.mkdir(parents=True, exist_ok=True)
    for record in what["images"]:
        Image.new("L", (WIDTH, HEIGHT), record["id"]).save(folder / record["file_name"])
    (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(what))
    return root


@pytest.fixture
def folder(tmp_path):
    """Makes a folder whose train2017 is four images, the first with the given objects, and whose val2017 is one."""

    def make(*annotations, images=4):
        write(tmp_path, "val2017", contents([], images=1))
        return write(tmp_path, "train2017", contents(annotations, images=images))

    return make


def maps(source, about):
    truths = source.fetch(tf.range(source.size, dtype=tf.int64))["truth"]
    return [decode_class_map(each, about["coding"]).numpy() for each in truths]


def class_map(root, **arguments):
    """That of the first training image; there is none for validation."""
    splits, about = coco_folder(root, validation=0, **arguments)
    return maps(splits["train"], about)[0]


def refusal(root, **arguments):
    with pytest.raises(InputError) as error:
        coco_folder(root, **arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def packed_by_library(pixels):
    from faster_coco_eval.core import mask

    return mask.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"]


def test_classes_are_the_background_and_the_categories_by_id(folder):
    root = folder(annotation(3, segmentation=rectangle(1, 1, 3, 3)), annotation(20, segmentation=rectangle(5, 2, 9, 7)))
    _, about = coco_folder(root)
    assert about["classes"] == ("background", "dog", "cat", "house") and about["channels"] == 3 and about["shape"] is None
    assert len(set(about["palette"])) == 4
    np.testing.assert_array_equal(class_map(root), drawn(5, 2, 9, 7, 3, on=drawn(1, 1, 3, 3, 1)))


def test_runs_of_numbers_and_packed_runs_and_polygons_are_the_same_mask():
    # Column 2 and 3, rows 1 to 3 of a picture of 5 x 4: 11 pixels before, 3 inside, 2 between, 3 inside, 1 behind.
    wanted = np.zeros((5, 4), bool)
    wanted[1:4, 2:4] = True
    runs = np.array([11, 3, 2, 3, 1])
    # By hand: 11 -> ";", 3 -> "3", 2 -> "2", then differences to the last but one, 3 - 3 -> "0" and 1 - 2 = -1 -> "O".
    np.testing.assert_array_equal(unpacked_runs(b";320O"), runs)
    polygon = np.array([2.0, 1.0, 4.0, 1.0, 4.0, 4.0, 2.0, 4.0])
    for found in (CocoObject(0, False, None, (), runs), CocoObject(0, False, None, (polygon,), None)):
        np.testing.assert_array_equal(object_mask(found, 5, 4), wanted)


def test_packed_runs_of_many_characters_are_unpacked():
    pixels = np.kron(np.random.default_rng(0).uniform(size=(9, 7)) < 0.4, np.ones((40, 31)))
    found = CocoObject(0, False, None, (), unpacked_runs(packed_by_library(pixels)))
    np.testing.assert_array_equal(object_mask(found, 360, 217), pixels == 1)


def test_all_three_ways_to_write_a_mask_are_drawn(folder):
    numbers = {"size": [HEIGHT, WIDTH], "counts": [9, 3, 5, 3, 60]}  # columns 1 and 2, rows 1 to 3
    packed = {"size": [HEIGHT, WIDTH], "counts": packed_by_library(drawn(6, 0, 8, 2)).decode()}
    root = folder(annotation(7, segmentation=numbers), annotation(3, segmentation=packed),
                  annotation(20, segmentation=rectangle(4, 5, 9, 8)))  # fmt: skip
    wanted = drawn(4, 5, 9, 8, 3, on=drawn(6, 0, 8, 2, 1, on=drawn(1, 1, 3, 4, 2)))
    np.testing.assert_array_equal(class_map(root), wanted)


def test_a_mask_of_several_polygons_is_all_of_them(folder):
    root = folder(annotation(7, segmentation=rectangle(0, 0, 2, 2) + rectangle(5, 5, 8, 8)))
    np.testing.assert_array_equal(class_map(root), drawn(5, 5, 8, 8, 2, on=drawn(0, 0, 2, 2, 2)))


@pytest.mark.parametrize("turned", [False, True])
def test_small_objects_lie_in_front_of_large_ones_in_whatever_order_they_stand(folder, turned):
    objects = [annotation(7, segmentation=rectangle(0, 0, 9, 7)), annotation(3, segmentation=rectangle(2, 2, 4, 5))]
    root = folder(*(objects[::-1] if turned else objects))
    np.testing.assert_array_equal(class_map(root), drawn(2, 2, 4, 5, 1, on=drawn(0, 0, 9, 7, 2)))


def test_crowds_are_ignored_where_nothing_else_is(folder):
    root = folder(annotation(7, segmentation=rectangle(3, 3, 5, 6)),
                  annotation(7, iscrowd=1, segmentation=rectangle(2, 2, 4, 5)))  # fmt: skip
    np.testing.assert_array_equal(class_map(root), drawn(3, 3, 5, 6, 2, on=drawn(2, 2, 4, 5, 255)))


def test_the_box_of_an_object_without_mask_is_ignored_where_nothing_else_is_and_told(folder):
    root = folder(annotation(7, segmentation=rectangle(3, 3, 5, 6)), annotation(3, bbox=[1.5, 1.2, 4.0, 3.3]),
                  annotation(3, bbox=[-0.5, 6, 1.5, 2.5]))  # fmt: skip
    wanted = drawn(3, 3, 5, 6, 2, on=drawn(1, 1, 6, 5, 255, on=drawn(0, 6, 1, 8, 255)))
    np.testing.assert_array_equal(class_map(root), wanted)
    assert coco_folder(root)[1]["notes"] == ("2 of 3 objects have no mask: their boxes are ignored where no other object is",)


def test_categories_that_are_not_wanted_are_background_also_in_front(folder):
    root = folder(annotation(7, segmentation=rectangle(0, 0, 9, 7)), annotation(3, segmentation=rectangle(2, 2, 4, 5)),
                  annotation(3, bbox=[0, 7, 9, 1]),
                  annotation(3, iscrowd=1, segmentation=rectangle(9, 0, 10, 8)))  # fmt: skip
    _, about = coco_folder(root, only=("house", "cat"))
    assert about["classes"] == ("background", "cat", "house") and about["notes"] == ()
    np.testing.assert_array_equal(class_map(root, only=("house", "cat")), drawn(2, 2, 4, 5, 0, on=drawn(0, 0, 9, 7, 1)))


def test_an_unknown_category_is_answered_with_the_closest(folder):
    root = folder(annotation(7, segmentation=rectangle(0, 0, 9, 7)))
    assert "got hose (did you mean house?)" in refusal(root, only=("cat", "hose"))
    assert "got zebra: choose of dog, cat, house" in refusal(root, only=("zebra",))


def test_a_folder_without_any_mask_is_refused(folder):
    assert "needs objects with masks, got 1 with boxes alone" in refusal(folder(annotation(7, bbox=[0, 0, 3, 3])))


def test_images_without_objects_are_kept_and_are_all_background(folder):
    splits, about = coco_folder(folder(annotation(7, segmentation=rectangle(0, 0, 9, 7))), validation=0)
    assert splits["train"].size == 4 and splits["test"].size == 1
    assert sorted(each.max() for each in maps(splits["train"], about)) == [0, 0, 0, 2]


def test_fetching_in_a_graph_gives_the_bytes_of_the_files_and_their_masks(folder):
    root = folder(annotation(7, image=2, segmentation=rectangle(0, 0, 9, 7)))
    splits, about = coco_folder(root, validation=0)
    batch = next(iter(tf.data.Dataset.from_tensors(tf.constant([1, 0], tf.int64)).map(splits["train"].fetch)))
    assert batch["image"].numpy().tolist() == [(root / "train2017" / f"{number}.png").read_bytes() for number in (2, 1)]
    assert batch["truth"].shape == (2,) and decode_class_map(batch["truth"][0], about["coding"]).numpy().sum() == 2 * 63
    assert splits["train"].name(1).endswith("2.png")


def images_of(source):
    return {tf.io.decode_png(each)[0, 0, 0].numpy() for each in source.fetch(tf.range(source.size))["image"]}


def test_validation_is_cut_from_train_and_test_is_the_file_of_val(folder):
    root = folder(annotation(7, segmentation=rectangle(0, 0, 9, 7)), images=20)
    splits, _ = coco_folder(root, validation=0.25)
    parts = [images_of(splits[name]) for name in ("train", "validation")]
    assert [len(each) for each in parts] == [15, 5] and set.union(*parts) == set(range(1, 21))
    assert splits["test"].size == 1 and images_of(coco_folder(root, validation=0.25)[0]["validation"]) == parts[1]
    assert coco_folder(root)[0]["validation"].size == 2


def test_the_files_of_three_splits_are_taken_as_they_are(tmp_path):
    for part, images in (("train", 3), ("val", 2), ("test", 1)):
        write(tmp_path, part, contents([annotation(7, segmentation=rectangle(0, 0, 9, 7))], images))
    splits, _ = coco_folder(tmp_path)
    assert {name: source.size for name, source in splits.items()} == {"train": 3, "validation": 2, "test": 1}


def test_all_splits_are_cut_from_a_file_that_is_the_only_one(tmp_path):
    what = contents([annotation(7, image=n, segmentation=rectangle(0, 0, 9, 7)) for n in range(1, 21)], 20)
    splits, about = coco_folder(write(tmp_path, "default", what, folder=tmp_path / "images"))
    assert {name: source.size for name, source in splits.items()} == {"train": 16, "validation": 2, "test": 2}
    assert "instances_default.json is the only file" in about["notes"][0]


def test_of_two_files_for_a_split_that_with_masks_is_read(folder):
    root = folder(annotation(7, segmentation=rectangle(0, 0, 9, 7)), annotation(7, image=2, bbox=[0, 0, 3, 3]))
    write(root, "masks_train2017", contents([annotation(7, segmentation=rectangle(0, 0, 9, 7))], 2), folder=root / "train2017")
    splits, about = coco_folder(root, validation=0)
    assert splits["train"].size == 2
    assert about["notes"] == ("instances_masks_train2017.json is read in place of instances_train2017.json",)


def test_two_files_for_a_split_are_refused_by_name(folder):
    root = folder(annotation(7, segmentation=rectangle(0, 0, 9, 7)))
    write(root, "train2014", contents([]))
    assert "one file of annotations for train, got instances_train2014.json and instances_train2017.json" in refusal(root)


@pytest.mark.parametrize("place", ["train2017", "images/train2017", "images", "."])
def test_images_are_found_in_each_of_the_usual_folders(tmp_path, place):
    what = contents([annotation(7, segmentation=rectangle(0, 0, 9, 7))], 12)
    write(tmp_path, "train2017", what, folder=tmp_path / place)
    assert coco_folder(tmp_path)[0]["train"].size == 10


def test_limit_takes_the_first_images_of_each_split_and_looks_at_no_other(folder):
    root = folder(annotation(7, segmentation=rectangle(0, 0, 9, 7)), annotation(7, image=4, segmentation="nonsense"), images=4)
    (root / "train2017" / "4.png").unlink()
    splits, _ = coco_folder(root, limit=2, validation=0)
    assert images_of(splits["train"]) == {1, 2} and splits["test"].size == 1
    assert "limit must be at least 1, got 0" in refusal(root, limit=0)


def test_the_layout_is_known_by_its_files_of_annotations(folder, tmp_path):
    assert not has_coco_layout(tmp_path)
    assert has_coco_layout(folder())


def test_outlines_that_span_no_area_are_left_out_and_told(folder):
    root = folder(annotation(7, segmentation=[[1, 1, 5, 5], *rectangle(0, 0, 2, 2)]))
    np.testing.assert_array_equal(class_map(root), drawn(0, 0, 2, 2, 2))
    assert read_coco(root).notes == ("1 outlines with fewer than 3 corners were left out",)


GOOD = rectangle(0, 0, 9, 7)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"category_id": 4}, "category_id must be a category's id, got 4"),
        ({"category_id": [7]}, "category_id must be a category's id, got [7]"),
        ({"category_id": True}, "category_id must be a category's id, got true"),
        ({"iscrowd": "no"}, 'iscrowd must be 0 or 1, got "no"'),
        ({"segmentation": "abc"}, 'segmentation must be a list of polygons or run lengths, got "abc"'),
        ({"segmentation": [[1, 1, 5, 5, 3]]}, "a polygon must be x and y by turns, got 5 numbers"),
        ({"segmentation": [[1, 1, 5, 5, 3, "4"]]}, "a polygon must be a list of numbers, got [1, 1, 5, 5, 3"),
        ({"segmentation": [[1, 1, 5, 5, 3, [4]]]}, "a polygon must be a list of numbers"),
        ({"segmentation": [[1, 1, 5, 5, 3, float("nan")]]}, "a polygon must be a list of numbers"),
        ({"segmentation": rectangle(0, 0, 9, 9.5)}, "must lie within the image of 10 x 8, got the corner (9, 9.5)"),
        ({"segmentation": rectangle(-3, 0, 9, 7)}, "must lie within the image of 10 x 8, got the corner (-3, 0)"),
        ({"segmentation": {"size": [10, 8], "counts": [80]}}, "the size of a mask must be the image's, [8, 10], got [10, 8]"),
        ({"segmentation": {"size": [8, 10], "counts": [20, 3]}}, "with the sum 80, got the sum 23"),
        ({"segmentation": {"size": [8, 10], "counts": [90, -10]}}, "counts must be positive or 0"),
        ({"segmentation": {"size": [8, 10], "counts": [2**62, 2**62, 2**62, 2**62, 80]}}, "counts must be positive or 0"),
        ({"segmentation": {"size": [8, 10], "counts": [80.0]}}, "counts must be whole numbers, got [80.0]"),
        ({"segmentation": {"size": [8, 10]}}, "counts must be a list of numbers, got null"),
        ({"segmentation": {"size": [8, 10], "counts": ""}}, "counts must be run lengths as COCO packs them"),
        ({"segmentation": {"size": [8, 10], "counts": "95~"}}, "counts must be run lengths as COCO packs them"),
        ({"segmentation": {"size": [8, 10], "counts": "9P"}}, "counts must be run lengths as COCO packs them"),
        ({"segmentation": {"size": [8, 10], "counts": "P" * 20 + "0"}}, "got a number of 21 characters"),
        ({"segmentation": {"size": [8, 10], "counts": "95"}}, "with the sum 80, got the sum 14"),
        ({"segmentation": None}, "must have a bbox or a segmentation"),
        ({"segmentation": [], "bbox": [1, 2, 3]}, "bbox must be left, top, width and height, got [1, 2, 3]"),
        ({"bbox": [1, 2, -3, 4]}, "bbox must be left, top, width and height, got [1, 2, -3, 4]"),
        ({"bbox": [1, 2, 3, 9]}, "bbox must lie within the image of 10 x 8, got [1, 2, 3, 9]"),
        ({"bbox": {"left": 3}}, "bbox must be a list of numbers"),
    ],
)
def test_an_object_that_cannot_be_is_refused_with_its_place(folder, fields, rule):
    message = refusal(folder(annotation(7, segmentation=GOOD), {**annotation(7, segmentation=GOOD), **fields}))
    assert "instances_train2017.json: annotations[1] (id 101): " in message and rule in message


def changed(root, change):
    """The folder, with ``change`` made to what its file of training images holds."""
    file = root / "annotations" / "instances_train2017.json"
    what = json.loads(file.read_text())
    change(what)
    file.write_text(json.dumps(what))
    return root


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda all: all["images"][1].update(id=1), "images[1]: id must be a whole number of its own, got 1"),
        (lambda all: all["images"][1].update(id="2"), 'images[1]: id must be a whole number of its own, got "2"'),
        (lambda all: all["images"][1].update(file_name="1.png"), "(id 2): file_name must be one image's alone, got 1.png again"),
        (lambda all: all["images"][1].update(file_name="../val2017/1.png"), "must be a path within the folder of images"),
        (lambda all: all["images"][1].update(file_name="/etc/passwd"), "must be a path within the folder of images"),
        (lambda all: all["images"][1].update(file_name="a\nb.png"), 'within the folder of images, got "a\\nb.png"'),
        (lambda all: all["images"][1].update(file_name=None), "must be a path within the folder of images, got null"),
        (lambda all: all["images"][1].update(width=0), "height and width must be positive whole numbers, got [8, 0]"),
        (lambda all: all["images"][1].update(width=12), "must be 12 x 8 pixels, as instances_train2017.json says, got 10 x 8"),
        (lambda all: all["images"][1].update(file_name="5.png"), "5.png: no such file"),
        (lambda all: all["annotations"][0].update(image_id=9), "annotations[0] (id 100): image_id must be an image's id, got 9"),
        (lambda all: all["annotations"][0].update(image_id=[1]), "image_id must be an image's id, got [1]"),
        (lambda all: all["annotations"][1].update(id=100), "annotations[1]: id must be a whole number of its own, got 100"),
        (lambda all: all["categories"][1].update(id=7), "categories[1]: id must be a whole number of its own, got 7"),
        (lambda all: all["categories"][1].update(name="cat"), 'categories[1] (id 3): must have a name of its own, got "cat"'),
        (lambda all: all["categories"][1].update(name=5), "must have a name of its own, got 5"),
        (lambda all: all["categories"].pop(), "must have the same categories as"),
        (lambda all: all["categories"][0].update(name="rat"), "got cat and rat with id 7"),
        (lambda all: all["categories"].append(5), "must be an object with a list of categories, each an object"),
        (lambda all: all.pop("images"), "must be an object with a list of images"),
        (lambda all: all.update(annotations={}), "must be an object with a list of annotations"),
        (lambda all: all["images"].clear() or all["annotations"].clear(), "must have at least 2 images, got 0"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_record(folder, change, rule):
    root = folder(annotation(7, segmentation=GOOD), annotation(7, segmentation=GOOD))
    assert rule in refusal(changed(root, change))


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, "null", "\udcff"])
def test_what_is_no_json_is_refused_by_file(folder, text):
    root = folder()
    (root / "annotations" / "instances_val2017.json").write_bytes(text.encode(errors="surrogateescape"))
    assert "instances_val2017.json: " in refusal(root)


def test_all_faults_are_counted_and_the_first_is_named(folder):
    root = folder(*(annotation(7, segmentation=[[1, 2, 3, 4, 5]]) for _ in range(3)))
    (root / "train2017" / "3.png").write_text("words")
    message = refusal(root)
    assert "annotations[0]" in message and message.endswith("(and 3 more)")


def test_a_category_called_background_and_too_many_of_them_are_refused(folder):
    def all_files(categories):
        for part in ("train2017", "val2017"):
            file = root / "annotations" / f"instances_{part}.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), "categories": categories}))

    root = folder(annotation(7, segmentation=GOOD))
    all_files([{"id": 7, "name": "background"}])
    assert "no category may be called background" in refusal(root)
    all_files([{"id": number, "name": f"category {number}"} for number in range(255)])
    assert "at most 254 categories" in refusal(root)
    assert coco_folder(root, only=("category 7",))[1]["classes"] == ("background", "category 7")


def test_a_folder_that_is_not_there_and_one_without_annotations_are_refused(tmp_path):
    assert "no such folder" in refusal(tmp_path / "nothing")
    assert "has no annotations/instances_*.json" in refusal(tmp_path)


def test_annotations_need_no_ids_of_their_own(folder):
    root = folder(annotation(7, segmentation=rectangle(0, 0, 2, 2)), annotation(3, segmentation=rectangle(5, 5, 8, 8)))
    changed(root, lambda all: [each.pop("id") for each in all["annotations"]])
    np.testing.assert_array_equal(class_map(root), drawn(5, 5, 8, 8, 1, on=drawn(0, 0, 2, 2, 2)))
