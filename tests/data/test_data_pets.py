"""The pets: unpacked once, whole, and as they are."""

import io
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.data import pets as module
from kerastoolkit.data import prepared
from kerastoolkit.data.pets import pets, pets_folder
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.class_maps import decode_class_map
from kerastoolkit.serving.images import decode_image

SIZES = {"train": 10, "test": 3}
FORMATS = ("JPEG", "PNG", "GIF")  # what the real set has under the name .jpg


def encoded(pixels, kind):
    contents = io.BytesIO()
    Image.fromarray(pixels).save(contents, kind)
    return contents.getvalue()


def photograph(number):
    pixels = np.random.default_rng(number).integers(0, 256, (6 + number, 9, 3), np.uint8)
    return encoded(pixels, FORMATS[number % 3])


def mask(number):
    return np.random.default_rng(number).integers(1, 4, (6 + number, 9), np.uint8)


@pytest.fixture
def prepared_set(tmp_path, monkeypatch):
    """A small set of the same form in a folder of its own; gives the folder and the names of the splits that were read."""
    import tensorflow_datasets as tfds

    class SmallPets(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("4.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(num_classes=37),
                "file_name": tfds.features.Text(),
                "segmentation_mask": tfds.features.Image(shape=(None, None, 1), use_colormap=True),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0, 10), "test": self._generate_examples(10, 13)}

        def _generate_examples(self, first, end):
            for number in range(first, end):
                yield number, {"image": io.BytesIO(photograph(number)), "label": number, "file_name": f"pug_{number}.jpg",
                               "segmentation_mask": io.BytesIO(encoded(mask(number), "PNG"))}  # fmt: skip

    builder = SmallPets(data_dir=tmp_path / "prepared")
    builder.download_and_prepare()
    read, as_dataset = [], builder.as_dataset
    monkeypatch.setattr(builder, "as_dataset", lambda split, **options: read.append(split) or as_dataset(split=split, **options))
    monkeypatch.setattr(module, "prepared_builder", lambda name, data_dir: builder)
    monkeypatch.setattr(module, "SIZES", SIZES)
    return tmp_path / "data", read


def numbers(source):
    """Which examples a split has, by the heights of their masks."""
    truths = source.fetch(tf.range(source.size, dtype=tf.int64))["truth"]
    return [int(tf.shape(tf.io.decode_png(each))[0]) - 6 for each in truths]


def test_nothing_is_read_before_a_split_is_fetched_from_and_each_once(prepared_set):
    data_dir, read = prepared_set
    splits, _ = pets(str(data_dir))
    assert {name: source.size for name, source in splits.items()} == {"train": 9, "validation": 1, "test": 3}
    assert read == [] and not data_dir.exists()
    for name in ("validation", "train", "train"):
        splits[name].fetch(tf.constant([0], tf.int64))
    pets(str(data_dir))[0]["train"].fetch(tf.constant([0], tf.int64))
    assert read == ["train"]


def test_a_photograph_and_its_mask_go_together_and_are_the_bytes_that_the_set_has(prepared_set):
    splits, about = pets(str(prepared_set[0]), validation=0)
    batch = next(iter(tf.data.Dataset.range(10).batch(10).map(splits["train"].fetch)))
    for place, number in enumerate(numbers(splits["train"])):
        assert batch["image"][place].numpy() == photograph(number)
        assert decode_image(batch["image"][place], 6, 9, 3).shape == (6, 9, 3)
        np.testing.assert_array_equal(decode_class_map(batch["truth"][place], about["coding"]), mask(number) - 1)
    assert splits["train"].name(0).endswith(f"pug_{numbers(splits['train'])[0]}.jpg")


def test_train_and_validation_share_no_image_and_lose_none_and_test_is_its_own(prepared_set):
    splits, _ = pets(str(prepared_set[0]), validation=4)
    train, held_out = numbers(splits["train"]), numbers(splits["validation"])
    assert len(held_out) == 4 and sorted(train + held_out) == list(range(10))
    assert sorted(numbers(splits["test"])) == [10, 11, 12]
    assert numbers(pets(str(prepared_set[0]), validation=4)[0]["validation"]) == held_out


def test_the_unpacked_files_need_the_prepared_set_no_more(prepared_set, tmp_path, monkeypatch):
    folder = pets_folder(str(prepared_set[0]))
    assert sorted(path.name for path in folder.iterdir()) == ["test", "train"]
    shutil.rmtree(tmp_path / "prepared")
    monkeypatch.setattr(module, "prepared_builder", None)
    assert len(numbers(pets(str(prepared_set[0]))[0]["test"])) == 3


def test_a_set_that_is_not_whole_leaves_nothing_behind(prepared_set, monkeypatch):
    data_dir, _ = prepared_set
    monkeypatch.setattr(module, "SIZES", {"train": 11, "test": 3})
    with pytest.raises(InputError, match="oxford_iiit_pet must have 11 train images, got 10 in"):
        pets_folder(str(data_dir))
    assert list((data_dir / "kerastoolkit" / "oxford_iiit_pet").iterdir()) == []


def test_an_unpacking_that_was_stopped_is_made_anew(prepared_set, monkeypatch):
    data_dir, read = prepared_set

    def stop(path, contents):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.Path, "write_bytes", stop)
        pets_folder(str(data_dir))
    assert sorted(numbers(pets(str(data_dir), validation=0)[0]["train"])) == list(range(10)) and read == ["train", "train"]


def test_a_set_that_is_missing_without_network_is_told_when_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_answers", lambda url: False)
    splits, about = pets(str(tmp_path))
    assert {name: source.size for name, source in splits.items()} == {"train": 3312, "validation": 368, "test": 3669}
    assert about["classes"] == ("pet", "background", "border") and len(about["palette"]) == 3
    with pytest.raises(InputError, match="oxford_iiit_pet is not in .*there is no network"):
        splits["train"].fetch(tf.constant([0], tf.int64))


def test_where_data_sets_are_is_where_the_environment_says(prepared_set, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared_set[0]))
    assert pets_folder() == prepared_set[0] / "kerastoolkit" / "oxford_iiit_pet"


def test_a_share_for_validation_that_cannot_be_is_refused_at_once():
    with pytest.raises(InputError, match="validation must be a fraction below 1 or a whole number below 3,680, got 4000"):
        pets(validation=4_000)
