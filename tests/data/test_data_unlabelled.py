"""Images without labels, with and without noise, of a named set and of folders of one's own."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastoolkit.data import named
from kerastoolkit.data.image_folders import flat_folder, has_class_folders
from kerastoolkit.data.images import digits
from kerastoolkit.data.preprocessing import intensities
from kerastoolkit.data.unlabelled import unlabelled_images
from kerastoolkit.experiment import InputError, rebuild

LEVELS = (0.1, 0.4, 0.2)
TEST_SIZE = 360


def fetched(source, indices=None):
    batch = source.fetch(tf.constant(np.arange(source.size) if indices is None else np.asarray(indices), tf.int64))
    return {name: value.numpy() for name, value in batch.items()}


@pytest.fixture(scope="module")
def noisy():
    """The digits with each kind of noise at three levels, by the noise's name."""
    return {kind: unlabelled_images("digits", noise=kind, levels=LEVELS) for kind in ("gaussian", "masking", "salt_and_pepper")}


def test_without_noise_a_named_set_is_as_it_was():
    data, plain = unlabelled_images("sample"), digits()
    assert data.about == {"classes": plain.about["classes"], "shape": (8, 8, 1), "channels": 1}
    assert (data.name, data.inputs, data.encoded) == ("digits", ("image",), False)
    for name in ("train", "validation", "test"):
        found, expected = fetched(data.split(name)), fetched(plain.split(name))
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            np.testing.assert_array_equal(found[key], values)


def test_validation_is_what_the_named_set_cuts_for_it():
    data = unlabelled_images("digits", validation=100)
    assert (data.train.size, data.validation.size, data.test.size) == (1337, 100, TEST_SIZE)


def test_the_test_split_holds_each_image_at_every_level_one_level_after_the_other(noisy):
    source = noisy["masking"].test
    assert source.size == 3 * TEST_SIZE
    found, plain = fetched(source), fetched(digits().test)
    np.testing.assert_array_equal(found["level"], np.repeat(np.array(LEVELS, np.float32), TEST_SIZE))
    np.testing.assert_array_equal(found["clean"], np.tile(plain["image"], (3, 1, 1, 1)))
    np.testing.assert_array_equal(found["label"], np.tile(plain["label"], 3))
    assert found["clean"].dtype == found["image"].dtype == np.float32


def test_validation_images_have_the_levels_in_turn_each_image_once(noisy):
    source, plain = noisy["masking"].validation, digits().validation
    found = fetched(source)
    assert source.size == plain.size
    np.testing.assert_array_equal(found["level"], np.array(LEVELS, np.float32)[np.arange(source.size) % 3])
    np.testing.assert_array_equal(found["clean"], fetched(plain)["image"])
    assert not np.array_equal(found["image"], found["clean"])


def test_training_images_are_clean_and_the_originals(noisy):
    found, plain = fetched(noisy["gaussian"].train), fetched(digits().train)
    np.testing.assert_array_equal(found["image"], plain["image"])
    np.testing.assert_array_equal(found["clean"], plain["image"])
    assert noisy["gaussian"].train.size == digits().train.size


def test_what_is_known_of_noisy_data_says_its_noise(noisy):
    about = noisy["gaussian"].about
    assert (about["noise"], about["levels"], about["shape"]) == ("gaussian", list(LEVELS), (8, 8, 1))


@pytest.mark.parametrize("kind", ["gaussian", "masking", "salt_and_pepper"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_images_noise_is_the_same_whatever_batch_it_is_in(noisy, kind, split):
    source, again = noisy[kind].split(split), rebuild(noisy[kind].description).split(split)
    together = fetched(source)["image"]
    for indices in ([source.size - 1], [5, 70, 3], [70]):
        np.testing.assert_array_equal(fetched(again, indices)["image"], together[indices])


def masks(source, indices):
    """Which pixels masking has made black, of those that were not, and which those are."""
    found = fetched(source, indices)
    seen = found["clean"] > 0
    return (found["image"] == 0) & seen, seen


def test_an_image_has_other_noise_at_another_level(noisy):
    few, seen = masks(noisy["masking"].test, np.arange(2 * TEST_SIZE, 3 * TEST_SIZE))  # two tenths
    many, _ = masks(noisy["masking"].test, np.arange(TEST_SIZE, 2 * TEST_SIZE))  # four tenths
    assert (few & many)[seen].mean() == pytest.approx(0.08, abs=0.02)  # of equal numbers 0.2


def test_the_next_image_has_other_noise(noisy):
    masked, seen = masks(noisy["masking"].test, np.arange(TEST_SIZE, 2 * TEST_SIZE))  # four tenths
    both = (masked[1:] & masked[:-1])[seen[1:] & seen[:-1]]
    assert both.mean() == pytest.approx(0.16, abs=0.02)  # of equal numbers 0.4


def test_validation_and_test_images_of_one_number_have_other_noise():
    data = unlabelled_images("digits", validation=TEST_SIZE, noise="masking", levels=(0.4,))
    (first, seen), (second, also) = (masks(data.split(name), np.arange(TEST_SIZE)) for name in ("validation", "test"))
    assert (first & second)[seen & also].mean() == pytest.approx(0.16, abs=0.02)  # of equal numbers 0.4


def changes(data, level):
    found = fetched(data.test)
    mine = found["level"] == np.float32(level)
    return found["clean"][mine], found["image"][mine]


@pytest.mark.parametrize("level", LEVELS)
def test_gaussian_noise_has_its_levels_deviation_where_nothing_is_clipped(noisy, level):
    clean, image = changes(noisy["gaussian"], level)
    assert 0 <= image.min() and image.max() <= 255
    black, middle = clean == 0, (clean > 110) & (clean < 145)
    # Half of what comes on black is clipped; the mean of the other half of a normal is sqrt(2 / pi) deviations.
    assert (image[black] == 0).mean() == pytest.approx(0.5, abs=0.02)
    if level < 0.3:  # four tenths leave the range from the middle too
        assert (image - clean)[black].mean() == pytest.approx(255 * level / np.sqrt(2 * np.pi), rel=0.05)
        assert (image - clean)[middle].std() == pytest.approx(255 * level, rel=0.1)


@pytest.mark.parametrize("level", LEVELS)
def test_masking_blackens_its_levels_share_and_leaves_the_rest(noisy, level):
    clean, image = changes(noisy["masking"], level)
    seen = clean > 0
    black = image == 0
    assert black[seen].mean() == pytest.approx(level, abs=0.02)
    np.testing.assert_allclose(image[seen & ~black], clean[seen & ~black], rtol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_salt_and_pepper_are_half_of_its_levels_share_each(noisy, level):
    clean, image = changes(noisy["salt_and_pepper"], level)
    grey = (clean > 0) & (clean < 255)
    assert (image[grey] == 0).mean() == pytest.approx(level / 2, abs=0.02)
    assert (image[grey] == 255).mean() == pytest.approx(level / 2, abs=0.02)
    rest = grey & (image > 0) & (image < 255)
    np.testing.assert_allclose(image[rest], clean[rest], rtol=1e-6)


def write(path, seed=0, size=(12, 9), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def photographs(tmp_path):
    """30 images of several sizes, PNG and JPEG, colour and grey, some in a folder inside."""
    folder = tmp_path / "photographs"
    for number in range(30):
        name = f"{number}.png" if number % 2 else f"inside/{number}.JPG"
        write(folder / name, seed=number, size=(7 + number % 5, 20 - number % 3), mode="L" if number == 3 else "RGB")
    return folder


def bytes_of(source):
    return fetched(source)["image"].tolist()


def test_a_flat_folder_gives_the_bytes_of_each_image_once(photographs):
    data = flat_folder(str(photographs))
    assert (data.train.size, data.validation.size, data.test.size) == (24, 3, 3)
    assert (data.name, data.encoded, data.about) == ("photographs", True, {
        "shape": None, "channels": 3, "grey": False, "skipped": 0})  # fmt: skip
    found = [contents for split in ("train", "validation", "test") for contents in bytes_of(data.split(split))]
    assert sorted(found) == sorted(path.read_bytes() for path in photographs.rglob("*.*"))


def test_a_flat_folder_has_no_labels(photographs):
    assert flat_folder(str(photographs)).train.fetch(tf.constant([0], tf.int64)).keys() == {"image"}


def test_the_cut_of_a_flat_folder_goes_by_names_and_is_the_same_each_time(photographs):
    before = flat_folder(str(photographs))
    moved = photographs.parent / "elsewhere"
    photographs.rename(moved)
    after = flat_folder(str(moved))
    for split in ("train", "validation", "test"):
        names = [[before.split(split).name(i), after.split(split).name(i)] for i in range(before.split(split).size)]
        assert all(old.replace("/photographs/", "/elsewhere/") == new for old, new in names)
    assert bytes_of(after.test) == bytes_of(flat_folder(str(moved)).test)


def test_the_cut_of_a_flat_folder_is_from_all_over_it(photographs):
    data = flat_folder(str(photographs), validation=6)
    assert data.validation.size == 6
    names = sorted(str(path) for path in photographs.rglob("*.*"))
    places = sorted(names.index(data.validation.name(number)) for number in range(6))
    assert places != list(range(places[0], places[0] + 6))


def test_hidden_files_and_folders_of_a_flat_folder_are_passed_over_and_others_are_counted(photographs):
    write(photographs / ".thumbnails" / "a.png")
    (photographs / ".hidden.png").write_text("no image")
    (photographs / "notes.txt").write_text("x")
    data = flat_folder(str(photographs))
    assert data.train.size + data.validation.size + data.test.size == 30
    assert data.about["skipped"] == 1


def refusal(make):
    with pytest.raises(InputError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_damaged_images_of_a_flat_folder_are_refused_by_name_in_one_line(photographs):
    whole = (photographs / "1.png").read_bytes()
    (photographs / "1.png").write_bytes(whole[: len(whole) // 2])
    (photographs / "5.png").write_text("words")
    message = refusal(lambda: unlabelled_images(str(photographs)))
    assert "1.png" in message and message.endswith("(and 1 more)")


def test_fewer_than_three_images_are_refused(tmp_path):
    for number in range(2):
        write(tmp_path / f"{number}.png", seed=number)
    assert "needs at least 3 images" in refusal(lambda: flat_folder(str(tmp_path)))
    write(tmp_path / "2.png", seed=2)
    data = flat_folder(str(tmp_path))
    assert (data.train.size, data.validation.size, data.test.size) == (2, 0, 1)


def test_a_folder_of_images_is_told_from_one_of_class_folders(photographs, tmp_path):
    assert not has_class_folders(str(photographs))
    classes = tmp_path / "classes"
    write(classes / "cats" / "1.png")
    assert not has_class_folders(str(classes))  # one folder is no choice between classes
    write(classes / "dogs" / "1.png")
    (classes / ".hidden.png").write_text("x")
    (classes / "notes.txt").write_text("x")
    assert has_class_folders(str(classes))
    write(classes / "loose.png")
    assert not has_class_folders(str(classes))
    assert not has_class_folders(str(photographs / "1.png"))
    assert not has_class_folders("digits")


@pytest.fixture
def split(tmp_path):
    """Class folders in train and test, 6 and 2 images of each class, and an image beside them that is of no split."""
    for part, each in (("train", 6), ("test", 2)):
        for name in ("cats", "dogs"):
            for number in range(each):
                write(tmp_path / "split" / part / name / f"{number}.png", seed=number)
    write(tmp_path / "split" / "cover.png")
    return tmp_path / "split"


def test_an_image_beside_the_folders_of_the_splits_changes_neither_splits_nor_classes(split):
    assert has_class_folders(str(split))
    data = unlabelled_images(str(split), validation=2)
    assert data.about["classes"] == ("cats", "dogs")
    assert (data.train.size, data.validation.size, data.test.size) == (10, 2, 4)
    assert all("/test/" in data.test.name(number) for number in range(4))


def test_splits_without_class_folders_are_kept(split):
    for part in ("train", "test"):
        for path in (split / part / "dogs").iterdir():
            path.rename(split / part / f"dog-{path.name}")
        (split / part / "dogs").rmdir()
    data = unlabelled_images(str(split), validation=2)
    assert "classes" not in data.about
    assert (data.train.size, data.validation.size, data.test.size) == (10, 2, 4)
    assert all("/test/" in data.test.name(number) for number in range(4))
    assert data.about["skipped"] == 1
    assert data.notes == (f"{split} is read as images without classes, those in the folders inside it too",)
    (split / "val").mkdir()
    assert "val: needs at least 1 images" in refusal(lambda: flat_folder(str(split)))


def test_inspect_says_that_a_folder_is_read_without_classes(photographs):
    rows, _, notes = named.inspect(str(photographs))
    assert rows == [{"images": 24}] or sum(row["images"] for row in rows) == 24
    assert notes == (f"{photographs} is read as images without classes, those in the folders inside it too",)


@pytest.mark.parametrize("layout", ["{0}.png", "{1}/{0}.png"])
def test_images_that_are_all_grey_have_one_channel(tmp_path, layout):
    for number in range(12):
        name = layout.format(number, number % 2)
        write(tmp_path / name, seed=number, mode="L")
    data = unlabelled_images(str(tmp_path), size=10)
    assert data.about["shape"] == (10, 10, 1) and data.about["channels"] == 1
    assert fetched(data.train)["image"].shape == (data.train.size, 10, 10, 1)
    write((tmp_path / name).with_name("colour.png"))
    assert unlabelled_images(str(tmp_path), size=10).about["shape"] == (10, 10, 3)


def test_a_folder_has_a_size_of_its_own_only_if_it_is_given(photographs):
    assert unlabelled_images(str(photographs)).about["shape"] == (32, 32, 3)


def test_a_named_set_is_brought_to_the_size_asked_for():
    data = unlabelled_images("digits", size=16, noise="masking", levels=(0.5,))
    assert data.about["shape"] == (16, 16, 1)
    found, plain = fetched(data.train, range(5))["image"], fetched(digits().train, range(5))["image"]
    np.testing.assert_allclose(found, tf.image.resize(plain, (16, 16), antialias=True), rtol=1e-5)
    assert fetched(data.test, range(5))["image"].shape == (5, 16, 16, 1)


def test_images_of_a_flat_folder_are_brought_to_the_size_asked_for(photographs):
    data = unlabelled_images(str(photographs), size=6)
    assert (data.about["shape"], data.about["channels"], data.encoded) == ((6, 6, 3), 3, False)
    assert (data.train.size, data.validation.size, data.test.size) == (24, 3, 3)
    for name in ("train", "validation", "test"):
        pixels = fetched(data.split(name))["image"]
        assert pixels.shape == (data.split(name).size, 6, 6, 3) and pixels.dtype == np.float32
        for number, one in enumerate(pixels):
            with Image.open(data.split(name).name(number)) as image:
                assert one.mean() == pytest.approx(np.asarray(image.convert("RGB")).mean(), abs=8)


def test_an_image_that_has_the_size_already_is_not_changed(tmp_path):
    for number in range(5):
        write(tmp_path / f"{number}.png", seed=number, size=(10, 10))
    source = unlabelled_images(str(tmp_path), size=10).train
    for number, one in enumerate(fetched(source)["image"]):
        np.testing.assert_array_equal(one, np.asarray(Image.open(source.name(number))))


def test_noise_on_a_flat_folder_is_named_after_the_image_at_every_level(photographs):
    data = unlabelled_images(str(photographs), size=6, noise="masking", levels=(0.0, 0.5))
    found = fetched(data.test)
    assert data.test.size == 6 and found["image"].shape == (6, 6, 6, 3)
    assert [data.test.name(number) for number in range(3)] == [data.test.name(number) for number in range(3, 6)]
    np.testing.assert_allclose(found["image"][:3], found["clean"][:3], rtol=1e-6)  # a level of 0 changes nothing
    masked = (found["image"][3:] == 0).all(axis=-1)
    assert 0.3 < masked.mean() < 0.7
    np.testing.assert_allclose(found["image"][3:][~masked], found["clean"][3:][~masked], rtol=1e-6)


def test_class_folders_keep_their_labels(tmp_path):
    for label, name in enumerate(("cats", "dogs")):
        for number in range(10):
            write(tmp_path / name / f"{number}.png", seed=10 * label + number)
    data = unlabelled_images(str(tmp_path), size=5, validation=4)
    assert data.about["classes"] == ("cats", "dogs") and data.about["shape"] == (5, 5, 3)
    assert (data.train.size, data.validation.size, data.test.size) == (14, 4, 2)
    labels = fetched(data.train)["label"]
    assert [("cats", "dogs")[label] in data.train.name(number) for number, label in enumerate(labels)] == [True] * 14
    assert set(labels) == {0, 1}


def test_intensities_are_pixels_between_0_and_1_of_the_datas_own_size():
    model = intensities(unlabelled_images("digits"))
    assert model.inputs[0].shape == (None, 8, 8, 1) and model.inputs[0].name == "image"
    pixels = np.array([0.0, 51.0, 255.0, 102.0]).repeat(16).reshape(1, 8, 8, 1)
    np.testing.assert_allclose(np.asarray(model(pixels)).ravel()[::16], [0, 0.2, 1, 0.4], rtol=1e-6)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"noise": "snow", "levels": (0.1,)}, "noise must be .*, got 'snow'"),
        ({"noise": "gaussian", "levels": (0.1, 1.5)}, "a level of noise must be in 0..1, got 1.5"),
        ({"noise": "gaussian", "levels": (-0.1,)}, "a level of noise must be in 0..1, got -0.1"),
        ({"noise": "gaussian"}, "levels must be one or more"),
        ({"data": "digit"}, "digit"),
        ({"data": "no/such/folder"}, "no such folder"),
        ({"validation": -1}, "validation must be .*, got -1"),
    ],
)
def test_wrong_values_are_refused_with_the_rule_and_the_value(how, message):
    with pytest.raises(InputError, match=message):
        unlabelled_images(**{"data": "digits", **how})


def test_a_named_set_is_taken_before_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    for number in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / "digits" / f"{number}.png")
    assert unlabelled_images("digits").test.size == 360
    assert unlabelled_images("./digits").test.size == 1
