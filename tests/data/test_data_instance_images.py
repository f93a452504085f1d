"""Images with masks of their objects: each way to write a mask, what is left out and told, and masks at the network's size."""

import json
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from faster_coco_eval.core import mask as coco
from PIL import Image

from kerastoolkit.boxes import letterbox
from kerastoolkit.data import made_shapes
from kerastoolkit.data.boxed_images import boxed_images
from kerastoolkit.data.instance_images import instance_images, read
from kerastoolkit.data.made_shapes import made_shape_image
from kerastoolkit.experiment import InputError, rebuild

HEIGHT, WIDTH = 8, 10
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 20, "name": "house"}]


def drawn(left, top, right, bottom, height=HEIGHT, width=WIDTH):
    on = np.zeros((height, width), np.uint8)
    on[top:bottom, left:right] = 1
    return on


def packed(pixels):
    return coco.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"]


def rectangle(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(category=7, image=1, **fields):
    return {"image_id": image, "category_id": category, "iscrowd": 0, **fields}


MASK = {"segmentation": rectangle(1, 2, 4, 6), "bbox": [1, 2, 3, 4]}
BOX = {"segmentation": [], "bbox": [1, 2, 3, 4]}


@pytest.fixture
def folder(tmp_path):
    """Makes a folder in COCO layout, "mine": training images of ``sizes`` (height, width) with annotations, and one for test."""

    def make(*annotations, sizes=((HEIGHT, WIDTH),) * 4, root=tmp_path / "mine"):
        for part, several, found in (("train2017", sizes, annotations), ("val2017", sizes[:1], [annotation(**MASK)])):
            records = []
            for path in (root / "annotations", root / part):
                path.mkdir(parents=True, exist_ok=True)
            for number, (height, width) in enumerate(several, 1):
                records.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
                Image.new("L", (width, height), number).save(root / part / f"{number}.png")
            contents = {"images": records, "categories": CATEGORIES,
                        "annotations": [{"id": 100 + place, **each} for place, each in enumerate(found)]}  # fmt: skip
            (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(contents))
        return str(root)

    return make


def fetched(path, height=HEIGHT, width=WIDTH, **arguments):
    """All training images in one batch; there is none for validation."""
    source = instance_images(path, height, width, validation=0, **arguments).train
    return {name: values.numpy() for name, values in source.fetch(tf.range(source.size, dtype=tf.int64)).items()}


def decoded(rle, height=HEIGHT, width=WIDTH):
    return coco.decode({"size": [height, width], "counts": rle})


def notes(path, **arguments):
    return instance_images(path, HEIGHT, WIDTH, validation=0, **arguments).notes


def refusal(data, height=HEIGHT, width=WIDTH, **arguments):
    with pytest.raises(InputError) as error:
        instance_images(data, height, width, **arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


TWO_PARTS = drawn(1, 1, 3, 4) | drawn(6, 5, 9, 8)


@pytest.mark.parametrize(
    "segmentation",
    [
        rectangle(1, 1, 3, 4) + rectangle(6, 5, 9, 8),
        {"size": [HEIGHT, WIDTH], "counts": [9, 3, 5, 3, 33, 3, 5, 3, 5, 3, 8]},
        {"size": [HEIGHT, WIDTH], "counts": packed(TWO_PARTS).decode()},
    ],
    ids=["polygons", "runs of numbers", "packed runs"],
)
def test_each_way_to_write_a_mask_gives_the_packed_runs_of_the_same_pixels(folder, segmentation):
    batch = fetched(folder(annotation(segmentation=segmentation, bbox=[1, 1, 8, 7])))
    assert batch["rles"][0].tolist() == [packed(TWO_PARTS)] and batch["areas"][0].tolist() == [15]
    np.testing.assert_array_equal(decoded(batch["rles"][0, 0]), TWO_PARTS)
    np.testing.assert_array_equal(batch["masks"][0, 0], TWO_PARTS)


def test_of_polygons_that_overlap_every_pixel_counts_once(folder):
    batch = fetched(folder(annotation(segmentation=rectangle(1, 1, 5, 5) + rectangle(3, 3, 8, 7))))
    wanted = drawn(1, 1, 5, 5) | drawn(3, 3, 8, 7)
    np.testing.assert_array_equal(decoded(batch["rles"][0, 0]), wanted)
    assert batch["areas"][0, 0] == wanted.sum() == 32


def test_runs_of_no_pixels_are_packed_as_if_they_were_not_there(folder):
    counts = [0, 0, 9, 2, 0, 1, 5, 0, 0, 3, 60, 0]  # of the mask whose columns 1 and 2 are set in rows 1 to 3
    batch = fetched(folder(annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": counts})))
    assert batch["rles"][0].tolist() == [packed(drawn(1, 1, 3, 4))]
    np.testing.assert_array_equal(batch["masks"][0, 0], drawn(1, 1, 3, 4))


@pytest.mark.parametrize(("left", "top", "right", "bottom"), [(0, 0, 10, 8), (0, 0, 1, 1), (9, 7, 10, 8), (0, 0, 3, 8)])
def test_a_mask_may_begin_with_the_first_pixel_and_end_with_the_last(folder, left, top, right, bottom):
    wanted = drawn(left, top, right, bottom)
    batch = fetched(folder(annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": packed(wanted).decode()})))
    assert batch["rles"][0].tolist() == [packed(wanted)]
    np.testing.assert_array_equal(batch["masks"][0, 0], wanted)
    assert batch["boxes"][0].tolist() == [[left, top, right, bottom]]


def test_crowds_stay_and_are_marked(folder):
    crowd = {"size": [HEIGHT, WIDTH], "counts": [9, 3, 5, 3, 60]}
    path = folder(annotation(segmentation=crowd, iscrowd=1, bbox=[1, 1, 2, 3]), annotation(**MASK))
    batch = fetched(path)
    assert batch["crowd"][0].tolist() == [True, False]
    np.testing.assert_array_equal(batch["masks"][0], [drawn(1, 1, 3, 4), drawn(1, 2, 4, 6)])
    assert notes(path)[0] == "1 of 3 objects are crowds or difficult: no targets, and ignored in evaluation"


EMPTY = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}


@pytest.mark.parametrize("segmentation", [[], None, EMPTY, [[1, 1, 5, 5]]], ids=["none", "null", "no pixel", "two corners"])
def test_an_object_without_a_mask_is_left_out_and_counted_and_its_image_stays(folder, segmentation):
    bad = {**BOX, "segmentation": segmentation}
    path = folder(annotation(3, **bad), annotation(20, **MASK), annotation(7, **bad), annotation(7, image=2, **bad))
    batch = fetched(path)
    assert batch["labels"].tolist() == [[2]] + [[-1]] * 3
    assert "3 of 5 objects left out that have no mask" in notes(path)


def test_with_whole_images_an_image_that_has_an_object_without_a_mask_is_left_out_and_counted(folder):
    path = folder(annotation(**MASK), annotation(**BOX), annotation(3, image=2, **MASK), annotation(image=3, **BOX))
    batch = fetched(path, whole_images=True)
    assert batch["labels"].tolist() == [[0], [-1]]
    assert [tf.io.decode_png(image)[0, 0, 0].numpy() for image in batch["image"]] == [2, 4]
    assert notes(path, whole_images=True)[0] == "2 of 5 images left out that have an object without a mask"


def test_objects_of_other_classes_need_no_mask(folder):
    path = folder(annotation(3, **MASK), annotation(7, **BOX))
    assert len(fetched(path, whole_images=True, only=("dog", "house"))["image"]) == 4
    assert not any("mask" in note for note in notes(path, only=("dog",)))


def test_training_objects_of_which_none_has_a_mask_are_refused(folder):
    path = folder(annotation(**BOX), annotation(3, **BOX), annotation(image=2, **BOX))
    assert refusal(path, validation=0) == (
        f"{path}: must have at least 1 object with a mask in 4 training images, got 3 boxes without masks")  # fmt: skip
    path = folder(*(annotation(image=number, **kind) for number in (1, 2, 3, 4) for kind in (MASK, BOX)))
    assert "in 0 training images whose objects all have one, got 4 boxes" in refusal(path, validation=0, whole_images=True)
    path = folder(annotation(**BOX), annotation(3, **MASK))
    assert "got 1 boxes without masks" in refusal(path, validation=0, only=("cat",))


def test_objects_of_classes_that_are_not_wanted_are_left_out_and_their_images_kept(folder):
    path = folder(annotation(20, **MASK), annotation(3, segmentation=rectangle(0, 0, 2, 2)), annotation(7, image=2, **MASK))
    data = instance_images(path, HEIGHT, WIDTH, only=("house", "cat"), validation=0)
    assert data.about == {"classes": ("cat", "house"), "category_ids": (7, 20), "shape": None, "channels": 3}
    batch = fetched(path, only=("house", "cat"))
    assert batch["labels"].tolist() == [[1], [0], [-1], [-1]]
    np.testing.assert_array_equal(decoded(batch["rles"][0, 0]), drawn(1, 2, 4, 6))
    assert "got hose (did you mean house?)" in refusal(path, only=("hose",))


def test_limit_takes_the_first_images_of_each_split(folder):
    data = instance_images(folder(annotation(**MASK)), HEIGHT, WIDTH, validation=0, limit=2)
    assert data.train.size == 2 and data.test.size == 1
    assert "limit must be at least 1, got 0" in refusal("shapes", limit=0)


def test_a_batch_is_padded_to_the_most_objects_that_one_of_its_images_has(folder):
    path = folder(annotation(**MASK), annotation(3, image=3, segmentation=rectangle(0, 0, 2, 2)), annotation(20, image=3, **MASK))
    source = instance_images(path, HEIGHT, WIDTH, validation=0).train
    assert source.name(1) == f"{path}/train2017/2.png"
    batches = list(tf.data.Dataset.from_tensor_slices(np.array([2, 1, 0, 1, 3, 1])).batch(3).map(source.fetch))
    batch = {name: values.numpy() for name, values in batches[0].items()}
    assert batch["labels"].tolist() == [[0, 2], [-1, -1], [1, -1]] and not batch["crowd"].any()
    np.testing.assert_array_equal(batch["boxes"], [[(0, 0, 2, 2), (1, 2, 4, 6)], [(0,) * 4] * 2, [(1, 2, 4, 6), (0,) * 4]])
    large, small, none = drawn(1, 2, 4, 6), drawn(0, 0, 2, 2), drawn(0, 0, 0, 0)
    assert batch["rles"].tolist() == [[packed(small), packed(large)], [b"", b""], [packed(large), b""]]
    np.testing.assert_array_equal(batch["masks"], [[small, large], [none, none], [large, none]])
    assert batch["areas"].tolist() == [[4, 12], [0, 0], [12, 0]]
    # A batch without any object has room for one.
    assert {name: values.shape.as_list() for name, values in batches[1].items()} == {
        "image": [3], "boxes": [3, 1, 4], "labels": [3, 1], "crowd": [3, 1], "areas": [3, 1], "rles": [3, 1],
        "masks": [3, 1, HEIGHT, WIDTH]}  # fmt: skip
    assert batches[1]["rles"].numpy().tolist() == [[b""]] * 3 and not batches[1]["masks"].numpy().any()
    assert {name: values.dtype.name for name, values in batches[0].items()} == {
        "image": "string", "boxes": "float32", "labels": "int32", "crowd": "bool", "areas": "float32", "rles": "string",
        "masks": "uint8"}  # fmt: skip


def test_a_graph_knows_the_size_of_the_masks(folder):
    source = instance_images(folder(annotation(**MASK)), 5, 7).train
    spec = tf.data.Dataset.range(2).batch(2).map(source.fetch).element_spec
    assert spec["masks"].shape.as_list() == [None, None, 5, 7] and spec["rles"].shape.as_list() == [None, None]


def test_the_test_split_has_no_masks_at_the_networks_size(folder):
    path = folder(*(annotation(image=number, **MASK) for number in range(1, 5)))
    for data in (instance_images(path, HEIGHT, WIDTH, validation=1), instance_images("shapes", 96, 96, limit=1)):
        keys = {split: set(data.split(split).fetch(tf.constant([0], tf.int64))) for split in ("train", "validation", "test")}
        assert "rles" in keys["test"] and keys["train"] == keys["validation"] == keys["test"] | {"masks"}


def slowly(pixels, height, width):
    """A mask in the letterboxed picture of that size: of each of its pixels the centre is sought in the image."""
    size = pixels.shape
    inner, first = (each.numpy().tolist() for each in letterbox(np.array(size), height, width))
    found = np.zeros((height, width), np.uint8)
    for row in range(height):
        for column in range(width):
            place = [(each + Fraction(1, 2) - begin) * own / new for each, own, new, begin in
                     zip((row, column), size, inner, first, strict=True)]  # fmt: skip
            if all(0 <= each < own for each, own in zip(place, size, strict=True)):
                found[row, column] = pixels[int(place[0]), int(place[1])]
    return found


@pytest.mark.parametrize(("height", "width"), [(24, 24), (7, 13), (40, 17)])
def test_masks_of_images_of_many_sizes_in_one_batch_are_those_of_a_slow_twin(folder, height, width):
    sizes = ((8, 10), (31, 20), (24, 24), (5, 50), (50, 3))
    generator = np.random.default_rng(3)
    wanted, annotations = [], []
    for number, (high, wide) in enumerate(sizes, 1):
        for _ in range(2):
            pixels = (generator.uniform(size=(high, wide)) < 0.4).astype(np.uint8)
            top, left = generator.integers(0, (high, wide))
            pixels[:top] = pixels[:, :left] = 0
            pixels[-1, -1] = 1
            wanted.append(pixels)
            segmentation = {"size": [high, wide], "counts": packed(pixels).decode()}
            annotations.append(annotation(image=number, segmentation=segmentation))
    batch = fetched(folder(*annotations, sizes=sizes), height, width)
    for place, pixels in enumerate(wanted):
        np.testing.assert_array_equal(batch["masks"][divmod(place, 2)], slowly(pixels, height, width))
        np.testing.assert_array_equal(decoded(batch["rles"][divmod(place, 2)], *pixels.shape), pixels)
    assert 20 < batch["masks"].sum() < batch["masks"].size / 2


def test_a_box_is_that_of_the_file_cut_at_the_border_and_else_that_around_the_mask(folder):
    segmentation = rectangle(1, 2, 4, 6)
    boxes = ([-1, -0.5, 3, 4.25], [5, 5, 6, 4], None, [2, 3, 0, 4], [10, 2, 1, 4])
    path = folder(*(annotation(segmentation=segmentation, **({"bbox": box} if box else {})) for box in boxes))
    # The mask's box is the third's and, where there is no area, that of the last two, which stand there again.
    np.testing.assert_array_equal(fetched(path)["boxes"][0], [[0, 0, 2, 3.75], [5, 5, 10, 8], [1, 2, 4, 6]])
    assert notes(path)[:3] == ("1 objects have no box: they get that around the mask",
                               "2 objects have a box without width or height: they get that around the mask",
                               "2 objects left out that stand there again: same image, class and box")  # fmt: skip


def test_an_area_is_counted_and_not_what_the_file_tells(folder):
    assert fetched(folder(annotation(area=5.5, **MASK)))["areas"][0].tolist() == [12]


def test_what_has_a_fault_is_refused_or_left_out_and_counted(folder):
    path = folder(annotation(**MASK), annotation(segmentation="nonsense"), annotation(segmentation=rectangle(0, 0, 9, 20)))
    message = refusal(path)
    assert "instances_train2017.json: annotations[1] (id 101): segmentation must be" in message and "(and 1 more)" in message
    assert message.endswith("; --set skip_faults=true leaves out what has a fault")
    assert fetched(path, skip_faults=True)["labels"][0].tolist() == [1]
    assert notes(path, skip_faults=True)[0].startswith("2 objects with a fault left out, the first: ")
    path = folder(annotation(**BOX), annotation(segmentation="nonsense"))
    assert "without masks and without a fault, the first fault: " in refusal(path, skip_faults=True)


def test_a_mask_of_another_size_than_the_image_is_a_fault_before_it_is_unpacked(folder):
    huge = {"size": [10**6, 10**6], "counts": [0, 10**12]}
    path = folder(annotation(segmentation=huge))
    assert "the size of a mask must be the image's, [8, 10], got [1000000, 1000000]" in refusal(path)
    path = folder(annotation(segmentation={**huge, "size": [HEIGHT, WIDTH]}))
    assert "counts must be positive or 0 with the sum 80" in refusal(path)


def test_what_is_held_of_a_mask_is_its_packed_runs(folder):
    image = read(folder(annotation(**MASK), sizes=((400, 500),) * 4), validation=0).splits["train"][0]
    assert [len(rle) < 60 for rle in image.rles] == [True]
    assert all(values.size <= 4 for values in vars(image).values() if isinstance(values, np.ndarray))


@pytest.fixture
def few(monkeypatch):
    """The splits of the made pictures with few of them, and which were made."""
    made, make = [], made_shapes.made_shape_image
    monkeypatch.setattr(made_shapes, "SIZES", {"train": 6, "validation": 3, "test": 4})
    monkeypatch.setattr(made_shapes, "made_shape_image", lambda *which: made.append(which) or make(*which))
    return made


def test_shapes_are_the_boxed_ones_with_the_masks_of_what_is_seen(few):
    data, boxed = instance_images("shapes", 96, 96), boxed_images("shapes")
    assert data.name == "shapes" and data.about == boxed.about and data.inputs == ("image",) and data.encoded
    batch, others = (each.train.fetch(tf.range(6, dtype=tf.int64)) for each in (data, boxed))
    for name, values in others.items():
        np.testing.assert_array_equal(batch[name], values)
    for number in range(6):
        masks = [mask for _, mask in made_shape_image("train", number)[2]]
        height, width = masks[0].shape
        assert len(masks) == (batch["labels"][number].numpy() >= 0).sum()
        for place, mask in enumerate(masks):
            np.testing.assert_array_equal(decoded(batch["rles"][number, place].numpy(), height, width), mask)
            np.testing.assert_array_equal(batch["masks"][number, place], slowly(mask, 96, 96))
            if (height, width) == (96, 96):
                np.testing.assert_array_equal(batch["masks"][number, place], mask)


def test_of_made_pictures_no_more_are_made_than_wanted_when_they_are_fetched_from_and_of_the_classes_wanted(few):
    data = instance_images("sample", 96, 96, limit=3, only=("star", "square"))
    assert few == [] and data.name == "shapes" and data.about["classes"] == ("square", "star")
    batch = data.train.fetch(tf.constant([2, 1, 0], tf.int64))
    assert few == [("train", number) for number in range(3)]
    for number, labels, rles in zip((2, 1, 0), batch["labels"].numpy(), batch["rles"].numpy(), strict=True):
        wanted = [(label, mask) for label, mask in made_shape_image("train", number)[2] if label in (2, 4)]
        assert labels[labels >= 0].tolist() == [{2: 0, 4: 1}[label] for label, _ in wanted]
        assert rles[labels >= 0].tolist() == [packed(mask) for _, mask in wanted]


def test_the_file_of_objects_that_all_have_masks_is_read_where_there_is_one(folder, tmp_path):
    path = folder(annotation(**MASK), annotation(**BOX))
    annotations = tmp_path / "mine" / "annotations"
    contents = json.loads((annotations / "instances_train2017.json").read_text())
    contents["annotations"] = contents["annotations"][:1]
    (annotations / "instances_masks_train2017.json").write_text(json.dumps(contents))
    assert notes(path)[0] == "instances_masks_train2017.json is read in place of instances_train2017.json"
    assert not any("no mask" in note for note in notes(path))


def test_a_run_is_scored_on_other_data_by_the_same_description(folder, tmp_path):
    made = instance_images(folder(annotation(**MASK)), 16, 16, only=("cat", "dog"), validation=0)
    description = json.loads(json.dumps(made.description))
    other = rebuild(description, data=folder(annotation(3, **MASK), root=tmp_path / "other"))
    assert other.name == "other" and other.about["classes"] == made.about["classes"] == ("dog", "cat")
    assert other.train.fetch(tf.constant([0], tf.int64))["masks"].shape == (1, 1, 16, 16)


def test_coco_is_what_was_put_in_by_hand_and_its_faults_are_left_out(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert f"coco is not in {tmp_path}: put there a folder coco with train2017, val2017 and annotations" in refusal("coco")
    folder(annotation(**MASK), annotation(segmentation="nonsense"), root=tmp_path / "coco")
    assert instance_images("coco", HEIGHT, WIDTH).name == "coco"
    assert notes("coco")[0].startswith("1 object with a fault left out, the first: ")


def test_names_that_are_none_and_those_of_boxes_alone_are_refused_with_what_there_is():
    assert "data set of images with instance masks shaps (did you mean shapes?): choose sample, shapes, coco" in refusal("shaps")
    assert "annotations/instances_*.json" in refusal("nothing like it")
    for name in ("bccd", "voc"):
        assert refusal(name).startswith(f"{name} has boxes alone, and instances need masks: choose sample, shapes, coco")


def test_folders_in_layouts_that_tell_no_object_from_another_are_refused_with_what_they_are(tmp_path):
    def refused(*folders):
        root = tmp_path / folders[0]
        for each in folders:
            (root / each).mkdir(parents=True)
            (root / each / "1.txt").write_text("")
            (root / each / "1.xml").write_text("")
            Image.new("L", (4, 4)).save(root / each / "1.png")
        message = refusal(str(root))
        assert message.startswith(f"{root}: must be in COCO layout (annotations/instances_*.json) with masks, got ")
        return message.partition(", got ")[2]

    assert refused("labels", "images") == "YOLO labels, of which boxes alone are read"
    assert refused("Annotations", "JPEGImages") == "Pascal VOC layout, which has boxes alone"
    assert refused("masks", "images") == "masks of classes, which do not tell one object from another"


def test_a_path_that_is_no_folder_in_any_layout_is_refused(tmp_path):
    assert refusal(str(tmp_path)) == f"{tmp_path}: must be in COCO layout (annotations/instances_*.json) with masks"
    assert f"{tmp_path / 'none'}: no such folder" == refusal(str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refusal(str(tmp_path / "file"))


def test_masks_of_no_pixels_are_refused():
    assert "height and width must be at least 1, got 0 and 96" in refusal("shapes", 0, 96)
