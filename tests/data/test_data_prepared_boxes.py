"""COCO and Pascal VOC as TensorFlow Datasets prepares them: unpacked once, whole, with the boxes that they came with."""

import io
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.data import prepared
from kerastoolkit.data import prepared_boxes as module
from kerastoolkit.data.boxed_images import boxed_images, is_boxed, read, voc
from kerastoolkit.data.named import prepare
from kerastoolkit.experiment import InputError

HEIGHT, WIDTH = 375, 500
# Boxes of each image as their authors tell them: COCO's left, top, width and height; VOC's xmin, ymin, xmax and ymax.
COCO_BOXES = ([(199.84, 200.46, 77.71, 70.88), (0.0, 12.34, 500.0, 362.66)], [], [(38.65, 28.67, 1.01, 2.02)])
VOC_BOXES = ([(1, 1, 500, 375), (53, 87, 471, 374)], [(8, 9, 8, 10)], [(100, 100, 200, 200)])
NAMES = {"coco": [f"thing {number}" for number in range(80)], "voc": [f"thing {number}" for number in range(20)]}


def photograph(number):
    contents = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(contents, "JPEG")
    return contents.getvalue()


def relative(name, box):
    """A box as TensorFlow Datasets computes it."""
    import tensorflow_datasets as tfds

    left, top, right, bottom = box
    if name == "coco":
        right, bottom = left + right, top + bottom
    return tfds.features.BBox(ymin=top / HEIGHT, xmin=left / WIDTH, ymax=bottom / HEIGHT, xmax=right / WIDTH)


def objects_of(name, number):
    boxes = {"coco": COCO_BOXES, "voc": VOC_BOXES}[name][number % 3]
    for place, box in enumerate(boxes):
        label = {"bbox": relative(name, box), "label": NAMES[name][(number + 13 * place) % len(NAMES[name])]}
        if name == "coco":
            yield {**label, "id": 7, "area": 40 + place, "is_crowd": place == 1}
        else:
            yield {**label, "pose": 0, "is_truncated": True, "is_difficult": place == 1}


@pytest.fixture
def prepared_sets(tmp_path, monkeypatch):
    """Small sets of the same form in a folder of their own; gives the data directory and the splits that were read."""
    import tensorflow_datasets as tfds

    def features(name):
        label = tfds.features.ClassLabel(names=NAMES[name])
        own = ({"id": np.int64, "area": np.int64, "is_crowd": np.bool_} if name == "coco" else
               {"pose": tfds.features.ClassLabel(num_classes=5), "is_truncated": np.bool_, "is_difficult": np.bool_})  # fmt: skip
        objects = tfds.features.Sequence({"bbox": tfds.features.BBoxFeature(), "label": label, **own})
        image = tfds.features.Image(encoding_format="jpeg") if name == "coco" else tfds.features.Image()
        ids = {"image/id": tf.int64} if name == "coco" else {}
        return tfds.features.FeaturesDict({"image": image, "image/filename": tfds.features.Text(), **ids, "objects": objects})

    class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in NAMES]

        def _info(self):
            return self.dataset_info_from_configs(features=features(self.builder_config.name))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0, 6), "validation": self._generate_examples(6, 9),
                    "test": self._generate_examples(9, 10)}  # fmt: skip

        def _generate_examples(self, first, end):
            name = self.builder_config.name
            for number in range(first, end):
                ids = {"image/id": 1_000 + number} if name == "coco" else {}
                yield number, {"image": io.BytesIO(photograph(number)), "image/filename": f"{number}.jpg", **ids,
                               "objects": list(objects_of(name, number))}  # fmt: skip

    read_splits = []

    def builder(name, data_dir):
        found = Small(config=name.partition("/")[0], data_dir=tmp_path / "prepared")
        as_dataset = found.as_dataset
        found.as_dataset = lambda split, **options: read_splits.append(split) or as_dataset(split=split, **options)
        return found

    for name in NAMES:
        builder(name, None).download_and_prepare()
    monkeypatch.setattr(module, "named_builder", builder)
    monkeypatch.setattr(module, "prepared_builder", builder)
    facts = {name: module.dataclasses.replace(found, sizes={"train": 6, "validation": 3}) for name, found in module.SETS.items()}
    monkeypatch.setattr(module, "SETS", facts)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data", read_splits


def by_number(found):
    return {int(image.file.stem): image for images in found.splits.values() for image in images}


def test_boxes_of_coco_are_those_that_its_authors_tell_to_the_hundredth_of_a_pixel(prepared_sets):
    found = read("coco", validation=0)
    for number, image in by_number(found).items():
        wanted = np.array(COCO_BOXES[number % 3]).reshape(-1, 4)
        wanted[:, 2:] += wanted[:, :2]
        np.testing.assert_array_equal(image.boxes, np.round(wanted, 2).astype(np.float32))
        assert image.labels.tolist() == [(number + 13 * place) % 80 for place in range(len(wanted))]
        assert image.crowd.tolist() == [False, True][: len(wanted)] and image.areas.tolist() == [40, 41][: len(wanted)]
        assert image.file.read_bytes() == photograph(number)
    assert {split: len(images) for split, images in found.splits.items()} == {"train": 6, "validation": 0, "test": 3}


def test_classes_of_coco_have_the_ids_that_its_authors_gave_them(prepared_sets):
    about = boxed_images("coco").about
    assert about["classes"] == tuple(NAMES["coco"])
    assert about["category_ids"][:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13) and about["category_ids"][-1] == 90
    assert len(set(about["category_ids"])) == 80


def test_boxes_of_voc_are_counted_from_0_and_difficult_objects_are_crowd(prepared_sets):
    for number, image in by_number(read("voc", validation=0)).items():
        wanted = np.array(VOC_BOXES[number % 3], np.float32) - (1, 1, 0, 0)
        np.testing.assert_array_equal(image.boxes, wanted.astype(np.float32))
        assert image.crowd.tolist() == [False, True][: len(wanted)]
    assert voc().about["category_ids"] == tuple(range(1, 21)) and is_boxed("voc") and is_boxed("coco")


def test_a_set_is_unpacked_once_and_its_files_need_the_prepared_set_no_more(prepared_sets, tmp_path):
    data_dir, read_splits = prepared_sets
    assert prepare("voc", str(data_dir)) == f"voc is in {data_dir / 'kerastoolkit' / 'voc'}"
    shutil.rmtree(tmp_path / "prepared")
    assert len(by_number(read("voc"))) == 9 and read_splits == ["train", "validation"] * 2


def test_an_unpacking_that_was_stopped_goes_on_with_what_is_not_there(prepared_sets, monkeypatch):
    data_dir, read_splits = prepared_sets

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_annotations", stop)
        read("voc")
    assert sorted(path.name for path in (data_dir / "kerastoolkit" / "voc").iterdir()) == ["train2012", "val2012"]
    assert len(by_number(read("voc"))) == 9 and read_splits == ["train", "validation", "train", "train", "validation"]


def test_a_set_that_is_not_whole_leaves_nothing_behind(prepared_sets, monkeypatch):
    data_dir, _ = prepared_sets
    facts = module.dataclasses.replace(module.SETS["voc"], sizes={"train": 7, "validation": 3})
    monkeypatch.setitem(module.SETS, "voc", facts)
    with pytest.raises(InputError, match="voc/2012 must have 7 train images, got 6 in"):
        read("voc")
    assert list((data_dir / "kerastoolkit" / "voc").iterdir()) == []


def test_a_set_that_is_not_there_is_fetched_by_prepare_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(prepared, "_answers", lambda url: pytest.fail("the network was asked"))
    for name in ("coco", "voc"):
        with pytest.raises(InputError, match=f"{name} is not in .*: `kerastoolkit data prepare {name}` fetches it"):
            read(name)
    monkeypatch.setattr(prepared, "_answers", lambda url: False)
    with pytest.raises(InputError, match="voc/2012 is not in .* and there is no network to fetch it over"):
        prepare("voc", str(tmp_path))


def test_what_was_put_in_by_hand_needs_no_preparing(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (tmp_path / "bccd").mkdir()
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "coco" / "annotations" / "instances_train2017.json").write_text("{}")
    for name in ("bccd", "coco"):
        assert prepare(name, str(tmp_path)) == f"{name} is in {tmp_path / name}"
