"""A file of one's own that turns out damaged only when it is decoded is named, in training, validation and evaluation."""

import numpy as np
import pytest
from PIL import Image

from kerastoolkit.data import image_folders
from kerastoolkit.evaluate import evaluate
from kerastoolkit.experiment import InputError, rebuild
from kerastoolkit.runs import read_run
from kerastoolkit.train import train


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("validation", 3), ("test", 3)):
        for name in ("cats", "dogs"):
            place = tmp_path / "pictures" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number:02d}.png")
    return tmp_path / "pictures"


def damage(path):
    """Breaks the middle of a PNG, where neither its header nor its end tells."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("split", ["train", "validation"])
def test_training_names_the_file(killable, folder, tmp_path, monkeypatch, split):
    monkeypatch.setattr(image_folders, "SAMPLE_FOR_MEAN", 1)  # else the mean over the images meets it first
    path = damage(folder / split / "dogs" / "02.png")
    with pytest.raises(InputError, match=f"^{path}: cannot be read; the file is damaged or gone$"):
        train(killable, {"data": str(folder), "epochs": 2}, out=str(tmp_path / "run"))


def test_the_mean_over_the_images_names_the_file(killable, folder, tmp_path):
    path = damage(folder / "train" / "dogs" / "02.png")
    with pytest.raises(InputError, match=f"^{path}: cannot be read; the file is damaged"):
        train(killable, {"data": str(folder)}, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_evaluation_names_the_file_and_writes_nothing(killable, folder, tmp_path):
    run = train(killable, {"data": str(folder), "epochs": 1}, out=str(tmp_path / "run"))
    assert rebuild(read_run(run)["data_set"]).test.size == 6
    path = folder / "test" / "cats" / "01.png"
    whole = path.read_bytes()
    damage(path)
    with pytest.raises(InputError, match=f"^{path}: cannot be read; the file is damaged or gone$"):
        evaluate(str(run))
    assert not (run / "evaluation.json").exists()
    path.write_bytes(whole)
    assert evaluate(str(run))[0]["examples"] == 6
