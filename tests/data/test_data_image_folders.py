"""A person's own folders of images."""

import numpy as np
import pytest
from PIL import Image

from kerastoolkit.data.images import inspect, labelled_images
from kerastoolkit.experiment import InputError, rebuild


def write(path, seed=0, size=(12, 9)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """20 cats and 10 dogs."""
    for number in range(20):
        write(tmp_path / "cats" / f"{number}.png", seed=number)
    for number in range(10):
        write(tmp_path / "dogs" / f"{number}.JPG", seed=100 + number, size=(7, 20))
    return tmp_path


def contents(source):
    batch = source.fetch(np.arange(source.size))
    return list(zip(batch["image"].numpy().tolist(), batch["label"].numpy().tolist(), strict=True))


def test_a_folder_gives_the_bytes_and_class_of_each_file_once(folder):
    data = labelled_images(str(folder))
    assert data.about["classes"] == ("cats", "dogs") and data.about["shape"] is None and data.encoded
    found = contents(data.train) + contents(data.validation) + contents(data.test)
    cats = [(path.read_bytes(), 0) for path in (folder / "cats").iterdir()]
    dogs = [(path.read_bytes(), 1) for path in (folder / "dogs").iterdir()]
    assert sorted(found) == sorted(cats + dogs)


def test_the_cut_is_stratified_and_the_same_each_time(folder):
    data, again = labelled_images(str(folder)), rebuild(labelled_images(str(folder)).description)
    assert (data.train.size, data.validation.size, data.test.size) == (24, 3, 3)
    assert sorted(label for _, label in contents(data.test)) == [0, 0, 1]
    assert contents(data.test) == contents(again.test)
    assert contents(data.validation) == contents(again.validation)


def test_split_folders_are_taken_as_they_are_and_only_what_lacks_is_cut(folder):
    (folder / "train").mkdir()
    for name in ("cats", "dogs"):
        (folder / name).rename(folder / "train" / name)
    write(folder / "val" / "cats" / "a.png", seed=500)
    write(folder / "beside.png", seed=501)
    data = labelled_images(str(folder))
    assert (data.train.size, data.validation.size, data.test.size) == (27, 1, 3)
    assert contents(data.validation) == [((folder / "val" / "cats" / "a.png").read_bytes(), 0)]
    assert data.about["skipped"] == 1


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bus", "train"):
        for number in range(3):
            write(tmp_path / name / f"{number}.png", seed=number)
    assert labelled_images(str(tmp_path)).about["classes"] == ("bus", "train")


def test_folders_inside_a_class_count_hidden_files_do_not_and_others_are_told(folder):
    write(folder / "dogs" / "puppies" / "1.png", seed=900)
    (folder / "cats" / ".DS_Store").write_text("x")
    (folder / "cats" / "notes.txt").write_text("x")
    (folder / "README.md").write_text("x")
    data = labelled_images(str(folder))
    assert data.train.size + data.validation.size + data.test.size == 31 and data.about["skipped"] == 2


def test_mean_and_deviation_are_those_of_the_training_images(tmp_path):
    for name, level in (("dark", 10), ("light", 30)):
        for number in range(10):
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (4, 4), (level, level, 50)).save(path)
    about = labelled_images(str(tmp_path)).about
    assert about["mean"] == pytest.approx((20.0, 20.0, 50.0))
    assert about["std"] == pytest.approx((10.0, 10.0, 1.0))


def test_inspect_counts_and_draws_a_folder(folder):
    rows, figure = inspect(labelled_images(str(folder)), "test")
    assert [(row["class"], row["images"]) for row in rows] == [("cats", 2), ("dogs", 1)]
    assert sum(bool(axes.images) for axes in figure.axes) == 3


def refusal(path):
    with pytest.raises(InputError) as error:
        labelled_images(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_folder_and_a_file_are_refused(folder):
    assert "no such folder" in refusal(folder / "nothing")
    assert "is not a folder" in refusal(folder / "cats" / "1.png")


def test_an_empty_folder_is_refused(tmp_path):
    assert "needs at least 2 class folders with images, got 0" in refusal(tmp_path)


def test_a_single_class_is_refused(folder):
    for file in (folder / "dogs").iterdir():
        file.unlink()
    (folder / "dogs").rmdir()
    assert "needs at least 2 class folders with images, got 1" in refusal(folder)


def test_a_class_without_images_is_refused_by_name(folder):
    (folder / "birds").mkdir()
    (folder / "birds" / "list.txt").write_text("none yet")
    assert "birds: a class folder needs at least 1 image" in refusal(folder)


def test_a_class_that_train_lacks_is_refused(folder):
    for name in ("cats", "dogs"):
        write(folder / "split" / "train" / name / "1.png")
    write(folder / "split" / "test" / "birds" / "1.png")
    assert "test folder has a class that train does not have: birds" in refusal(folder / "split")


def test_all_bad_files_are_counted_and_the_first_is_named(folder):
    for number in (3, 5, 7):
        (folder / "cats" / f"{number}.png").write_text("words")
    whole = (folder / "dogs" / "2.JPG").read_bytes()
    (folder / "dogs" / "2.JPG").write_bytes(whole[: len(whole) // 2])
    message = refusal(folder)
    assert "3.png: not an image" in message and message.endswith("(and 3 more)")


def test_a_link_to_a_folder_above_is_refused(folder):
    (folder / "cats" / "again").symlink_to(folder, target_is_directory=True)
    assert "again: a symbolic link to a folder that it is in" in refusal(folder)
