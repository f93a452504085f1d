"""Named sets of images: what is read when, how they are split, and what is said where something is wrong."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.data import images, prepared
from kerastoolkit.data.images import cifar10, digits, inspect, labelled_images, mnist, prepare
from kerastoolkit.data.splits import number_to_cut, stratified
from kerastoolkit.experiment import InputError, rebuild


@pytest.fixture
def small_mnist(monkeypatch):
    """MNIST as if it had 100 and 20 images; each image holds its own number, and reading is recorded."""
    facts = images._Facts(100, 20, (28, 28, 1), images._DIGITS, (33.0,), (78.0,))
    monkeypatch.setitem(images._SETS, "mnist", facts)
    read = []

    def read_prepared(name, split, data_dir, size):
        read.append(split)
        numbers = np.arange(size)
        pixels = np.broadcast_to(numbers[:, None, None, None], (size, 28, 28, 1)).astype(np.uint8)
        return pixels, (numbers % 10).astype(np.int64)

    monkeypatch.setattr(images, "_read_prepared", read_prepared)
    return read


def numbers(source):
    """Which images of the small MNIST a split has."""
    return source.fetch(np.arange(source.size))["image"].numpy()[:, 0, 0, 0].tolist()


def test_nothing_is_read_before_a_split_is_fetched_from_and_the_test_images_last(small_mnist):
    data = mnist(validation=20)
    assert (data.train.size, data.validation.size, data.test.size) == (80, 20, 20) and small_mnist == []
    data.validation.fetch(np.array([0]))
    data.train.fetch(np.array([0]))
    assert small_mnist == ["train"]
    data.test.fetch(np.array([0]))
    assert small_mnist == ["train", "test"]


def test_train_and_validation_share_no_image_and_lose_none(small_mnist):
    data = mnist(validation=20)
    assert sorted(numbers(data.train) + numbers(data.validation)) == list(range(100))


def test_validation_is_stratified_and_always_the_same(small_mnist):
    first, second = mnist(validation=20), mnist(validation=20)
    assert numbers(first.validation) == numbers(second.validation)
    labels = first.validation.fetch(np.arange(20))["label"].numpy()
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 2))


def test_without_validation_all_images_are_trained_on(small_mnist):
    data = mnist(validation=0)
    assert data.validation.size == 0 and numbers(data.train) == list(range(100))
    assert list(tf.data.Dataset.range(0).batch(4).map(data.validation.fetch)) == []


def test_fetching_in_a_graph_refers_to_one_tensor_in_memory(small_mnist):
    data = mnist(validation=20)
    fetch = tf.function(data.train.fetch, input_signature=[tf.TensorSpec((None,), tf.int64)])
    indices = np.array([3, 1, 79])
    np.testing.assert_array_equal(fetch(indices)["image"], data.train.fetch(indices)["image"])
    assert fetch.get_concrete_function().graph.as_graph_def().ByteSize() < 10_000  # the images take 62,720


def test_digits_have_the_known_sizes_range_and_classes_in_proportion():
    data = digits()
    assert (data.train.size, data.validation.size, data.test.size) == (1293, 144, 360)
    test = data.test.fetch(np.arange(360))
    assert test["image"].dtype == tf.uint8 and test["image"].shape == (360, 8, 8, 1)
    assert test["image"].numpy().max() == 255 and test["label"].dtype == tf.int64
    assert set(np.bincount(test["label"].numpy())) <= {35, 36, 37}


def test_the_splits_of_the_digits_are_disjoint():
    data = digits(validation=0)
    pictures = [source.fetch(np.arange(source.size))["image"] for source in (data.train, data.test)]
    train, test = ({picture.tobytes() for picture in split.numpy()} for split in pictures)
    assert len(train) + len(test) == 1797 and not train & test  # no two of the 1,797 are alike


def test_mean_and_deviation_of_the_digits_are_those_of_the_images_outside_the_test_split():
    data = digits(validation=0)
    pixels = data.train.fetch(np.arange(1437))["image"].numpy().astype(float)
    assert data.about["mean"] == pytest.approx((pixels.mean(),), abs=1e-3)
    assert data.about["std"] == pytest.approx((pixels.std(),), abs=1e-3)


def test_sample_is_the_digits_and_can_be_made_again_from_its_description():
    data = labelled_images("sample", validation=0.2)
    again = rebuild(data.description)
    assert data.name == again.name == "digits" and again.validation.size == data.validation.size == 287


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_each_named_set_says_what_it_is_without_being_there(name, tmp_path):
    data = getattr(images, name)(data_dir=str(tmp_path))
    channels = data.about["shape"][2]
    assert data.about["channels"] == channels == len(data.about["mean"]) == len(data.about["std"])
    assert len(set(data.about["classes"])) == (100 if name == "cifar100" else 10)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_answered_with_the_closest_one():
    with pytest.raises(InputError, match=r"\(did you mean cifar10\?\).*, or a folder of class folders"):
        labelled_images("cifra10")


@pytest.mark.parametrize("share", [-0.1, 100, 2.5, float("nan")])
def test_a_validation_share_that_cannot_be_is_refused(share):
    with pytest.raises(InputError, match="validation must be a fraction below 1 or a whole number below"):
        number_to_cut(share, 100, name="validation")


def test_a_stratified_cut_has_the_exact_count_and_takes_the_first_of_each_class():
    labels = np.array([0] * 7 + [1] * 2 + [2] * 1)
    chosen = stratified(labels, 5, np.arange(10)[::-1])
    # 3.5, 1 and 0.5 of the classes; the half goes to the first of those with the largest remainder.
    np.testing.assert_array_equal(np.flatnonzero(chosen), [3, 4, 5, 6, 8])


def test_a_set_that_is_missing_without_network_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_answers", lambda url: False)
    source = cifar10(data_dir=str(tmp_path)).train
    with pytest.raises(InputError) as error:
        next(iter(tf.data.Dataset.range(4).batch(2).map(source.fetch)))
    message = str(error.value)
    assert message.startswith("cifar10 is not in " + str(tmp_path)) and "--data sample" in message
    assert "\n" not in message


def test_a_failing_download_is_told_in_one_line(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(builder, **options):
        raise ConnectionError("the server is on holiday\nuntil Monday")

    monkeypatch.setattr(prepared, "_answers", lambda url: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(InputError) as error:
        prepare("mnist", str(tmp_path))
    message = str(error.value)
    assert "cannot be fetched (ConnectionError: the server is on holiday); --data sample" in message


def test_images_are_read_from_a_prepared_set_in_stored_order(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    class TinyPictures(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image, label = tfds.features.Image(shape=(4, 3, 1)), tfds.features.ClassLabel(num_classes=2)
            features = tfds.features.FeaturesDict({"image": image, "label": label})
            return self.dataset_info_from_configs(features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number in range(5):
                yield number, {"image": np.full((4, 3, 1), number, np.uint8), "label": number % 2}

    builder = TinyPictures(data_dir=tmp_path)
    builder.download_and_prepare()
    stored = [int(one["image"][0, 0, 0]) for one in builder.as_dataset(split="train")]
    pixels, labels = images._read_prepared("tiny_pictures", "train", str(tmp_path), size=5)
    assert pixels.shape == (5, 4, 3, 1) and pixels.dtype == np.uint8 and labels.dtype == np.int64
    assert pixels[:, 0, 0, 0].tolist() == stored and labels.tolist() == [number % 2 for number in stored]
    with pytest.raises(InputError, match="tiny_pictures must have 6 train images, got 5"):
        images._read_prepared("tiny_pictures", "train", str(tmp_path), size=6)


def test_what_needs_no_preparation_is_said():
    assert prepare("digits") == "digits comes with scikit-learn: nothing to prepare"
    with pytest.raises(InputError, match="did you mean mnist"):
        prepare("minst")


def test_inspect_counts_every_image_and_draws_some():
    rows, figure = inspect(digits(), "test")
    assert sum(row["images"] for row in rows) == 360 and [row["class"] for row in rows] == list("0123456789")
    assert sum(bool(axes.images) for axes in figure.axes) == 24
    with pytest.raises(InputError, match="the validation split of digits is empty"):
        inspect(digits(validation=0), "validation")
