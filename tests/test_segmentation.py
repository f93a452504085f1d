"""Segmentation all the way, on images of one's own of many sizes: trained, scored, asked, exported, and stopped on the way."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kerastoolkit import catalog, checkpoints, train
from kerastoolkit.evaluate import evaluate
from kerastoolkit.experiment import RunError
from kerastoolkit.export import export
from kerastoolkit.predict import predict

CLASSES = ("ground", "disc", "bar")
COLOURS = np.array([(60, 70, 60), (210, 60, 40), (40, 80, 220)])  # of the things in the images
LEGEND = np.array([(128, 64, 128), (0, 255, 0), (255, 255, 0)])  # of the classes in palette.csv
SETTINGS = {"filters": 8, "depth": 2, "height": 33, "width": 41, "epochs": 12, "batch_size": 4, "learning_rate": 0.01}
ELSEWHERE = """
import sys
import numpy, tensorflow as tf
ask = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
answers = ask(image=tf.constant([open(path, "rb").read() for path in sys.argv[3:]]))
assert "kerastoolkit" not in sys.modules
numpy.savez(sys.argv[2], **{name: value.numpy() for name, value in answers.items()})
"""


def picture(number):
    """An image with a disc and a bar, and the class of each pixel."""
    generator = np.random.default_rng(number)
    height, width = generator.integers(25, 60, 2)
    rows, columns = np.mgrid[:height, :width]
    centre, radius = generator.uniform(0.2, 0.8, 2) * (height, width), generator.uniform(0.15, 0.3) * min(height, width)
    classes = np.zeros((height, width), np.uint8)
    classes[np.hypot(rows - centre[0], columns - centre[1]) < radius] = 1
    left = generator.integers(0, width - 7)
    classes[:, left : left + 7] = 2
    return np.clip(COLOURS[classes] + generator.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8), classes


def write_folder(root, count, as_colours=False):
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(count):
        pixels, classes = picture(number)
        Image.fromarray(pixels).save(root / "images" / f"{number}.{'jpg' if number % 2 else 'png'}")
        Image.fromarray(LEGEND[classes].astype(np.uint8) if as_colours else classes).save(root / "masks" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty images and their masks of grey values, with the names of the classes."""
    root = write_folder(tmp_path_factory.mktemp("things"), 40)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


@pytest.fixture(scope="module")
def settings(folder):
    return {**SETTINGS, "data": str(folder)}


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    return train.train(catalog.find_recipe("shapes-unet"), settings, out=str(tmp_path_factory.mktemp("run") / "run"))


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return export(str(run), str(tmp_path_factory.mktemp("export") / "model"))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A folder of images that the run has never seen, whose sizes all differ."""
    root = tmp_path_factory.mktemp("others")
    for number in range(100, 103):
        Image.fromarray(picture(number)[0]).save(root / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def answered(run, others, tmp_path_factory):
    """What ``predict`` tells of that folder, and the folder that it wrote."""
    out = tmp_path_factory.mktemp("answers")
    return predict(str(run), [str(others)], out=str(out)), out


def strictly(text):
    """JSON without NaN and infinities, which other programs do not read."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def pixels_in(path):
    return np.asarray(Image.open(path))


def test_things_told_by_colour_are_learned_and_scored_at_the_images_own_sizes(run, folder):
    record, report = evaluate(str(run))
    assert record["figures"]["mean_iou"] > 0.9
    assert record["figures"]["mean_iou"] > 2 * record["baselines"]["always ground"]["mean_iou"]
    assert [row["class"] for row in report.tables["by class"]] == list(CLASSES)
    tested = strictly((run / "evaluation.json").read_text())
    assert tested["figures"] == record["figures"] and tested["data"] == folder.name
    assert tested["tables"] == report.tables
    assert {path.stem for path in (run / "plots").iterdir()} == {"curves", "confusion", "worst"}


def test_a_folder_of_images_is_answered_with_three_files_and_a_picture_each(answered, others):
    rows, out = answered
    assert [row["input"] for row in rows] == [str(others / f"{number}.png") for number in range(100, 103)]
    stems = [f"{place}-{number}" for place, number in (("001", 100), ("002", 101), ("003", 102))]
    kinds = (".png", "-classes.png", "-colours.png", "-overlay.png")
    assert {path.name for path in out.iterdir()} == {stem + kind for stem in stems for kind in kinds}
    for stem, number, row in zip(stems, range(100, 103), rows, strict=True):
        pixels, truth = picture(number)
        classes = pixels_in(out / f"{stem}-classes.png")
        assert classes.shape == truth.shape == (row["height"], row["width"])
        assert (classes == truth).mean() > 0.95
        assert row["shares"]["ground"] == pytest.approx((classes == 0).mean())
        assert pixels_in(out / f"{stem}-colours.png").shape == pixels_in(out / f"{stem}-overlay.png").shape == pixels.shape


def test_an_export_answers_the_same_maps_without_this_package(exported, answered, others, tmp_path):
    files = [str(others / f"{number}.png") for number in range(100, 103)]
    command = [sys.executable, "-c", ELSEWHERE, str(exported), str(tmp_path / "answers.npz"), *files]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    found = np.load(tmp_path / "answers.npz")
    assert set(found) == {"map", "size", "probabilities"}
    for number, (height, width) in enumerate(found["size"]):
        expected = pixels_in(answered[1] / f"{number + 1:03d}-{100 + number}-classes.png")
        np.testing.assert_array_equal(found["map"][number, :height, :width], expected)
    np.testing.assert_allclose(found["probabilities"].sum(axis=-1), 1, rtol=1e-5)
    assert predict(str(exported), files) == answered[0]


@pytest.mark.slow
def test_a_training_that_was_stopped_and_goes_on_ends_with_the_same_bits(run, settings, tmp_path, monkeypatch):
    real, saved = checkpoints.save_checkpoint, []

    def save(*arguments):
        real(*arguments)
        saved.append(arguments[1])
        if len(saved) == 3:
            raise RunError("the lights went out")

    recipe, cut = catalog.find_recipe("shapes-unet"), str(tmp_path / "cut")
    with monkeypatch.context() as patch, pytest.raises(RunError, match="the lights went out"):
        patch.setattr(train, "save_checkpoint", save)
        train.train(recipe, settings, out=cut, checkpoint_seconds=0)
    steps = 96  # eight in each of twelve epochs
    assert 0 < saved[-1] < steps
    train.train(recipe, settings, out=cut)
    whole, again = (checkpoints.load_checkpoint(folder / "checkpoints") for folder in (run, tmp_path / "cut"))
    assert whole[0] == again[0] == steps and whole[1].keys() == again[1].keys()
    for name, array in whole[1].items():
        assert array.tobytes() == again[1][name].tobytes(), name
    assert (run / "history.csv").read_bytes() == (tmp_path / "cut" / "history.csv").read_bytes()


def test_masks_in_colours_with_a_class_that_no_image_has_go_all_the_way(tmp_path, command, others):
    folder = write_folder(tmp_path / "coloured", 24, as_colours=True)
    rows = [f"{name},{','.join(map(str, colour))}\n" for name, colour in zip(CLASSES, LEGEND.tolist(), strict=True)]
    (folder / "palette.csv").write_text("name,r,g,b\n" + "".join(rows) + "unicorn,1,2,3\n")
    settings = {**SETTINGS, "data": str(folder), "epochs": 1, "balance": 0.5, "loss": "focal"}
    run = train.train(catalog.find_recipe("shapes-unet"), settings, out=str(tmp_path / "run"))
    status, output, errors = command("evaluate", str(run), "--json")
    assert status == 0, errors
    record = strictly(output)
    assert strictly((run / "evaluation.json").read_text()) == record
    assert all(np.isfinite(list(record["figures"].values())))
    absent = record["tables"]["by class"][-1]
    assert (absent["class"], absent["images"], absent["boundary_f1"]) == ("unicorn", 0, None)  # NaN in the table itself
    status, output, errors = command("evaluate", str(run))
    assert status == 0, errors
    (unicorn,) = (line.split() for line in output.splitlines() if line.startswith("unicorn"))
    assert unicorn[-2:] == ["0", "0"] and "nan" in unicorn  # no share, no image and so no boundary to find
    assert command("predict", str(run), str(others), "--out", str(tmp_path / "answers"))[0] == 0
    coloured = pixels_in(tmp_path / "answers" / "001-100-colours.png")
    classes = pixels_in(tmp_path / "answers" / "001-100-classes.png")
    np.testing.assert_array_equal(coloured, np.array([*LEGEND, (1, 2, 3)])[classes])


def test_a_folder_of_masks_is_looked_at(folder, command, tmp_path):
    status, output, errors = command("data", "inspect", str(folder), "--out", str(tmp_path / "look.png"))
    assert status == 0, errors
    lines = output.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == list(CLASSES)
    assert sum(float(line.split()[1].rstrip("%")) for line in lines[2:5]) == pytest.approx(100, abs=0.02)
    assert pixels_in(tmp_path / "look.png").ndim == 3


def test_a_segmentation_recipe_is_shown_as_json(command):
    status, output, errors = command("show", "shapes-unet", "--json", "--set", "filters=4", "--set", "depth=1")
    assert status == 0, errors
    assert strictly(output)["data"]["classes"][0] == "background"


@pytest.mark.slow
def test_images_answered_in_tiles_keep_their_resolution_from_training_to_export(settings, others, tmp_path):
    tiled = {**settings, "tiles": True, "height": 16, "width": 20, "epochs": 2}
    run = train.train(catalog.find_recipe("shapes-unet"), tiled, out=str(tmp_path / "run"))
    record, report = evaluate(str(run))
    assert 0 < record["figures"]["mean_iou"] < 1
    assert sum(row["images"] for row in report.tables["by class"][:1]) == record["examples"] == 4  # whole images, not windows
    rows = [predict(where, [str(others)], out=str(tmp_path / name))
            for where, name in ((str(run), "own"), (str(export(str(run))), "exported"))]  # fmt: skip
    assert rows[0] == rows[1]
    for number in range(3):
        name = f"{number + 1:03d}-{100 + number}-classes.png"
        answers = pixels_in(tmp_path / "own" / name)
        assert answers.shape == picture(100 + number)[1].shape
        np.testing.assert_array_equal(answers, pixels_in(tmp_path / "exported" / name))
