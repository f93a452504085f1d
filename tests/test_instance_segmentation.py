"""Instance segmentation all the way, on photographs of one's own of many sizes: trained, scored, asked, exported, and stopped on
the way."""

import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from kerastoolkit import catalog, checkpoints, train
from kerastoolkit.evaluate import evaluate
from kerastoolkit.experiment import InputError
from kerastoolkit.export import export
from kerastoolkit.predict import predict

CATEGORIES = {3: "disc", 7: "bar"}
GROUND, COLOURS = (60, 70, 60), {3: (210, 60, 40), 7: (40, 80, 220)}
SPLITS = {"train": range(64), "val": range(200, 204), "test": range(300, 316)}
SETTINGS = {"height": 64, "width": 96, "epochs": 6, "batch_size": 4, "learning_rate": 0.002, "average": 0.9, "channels": 32,
            "head_width": 64, "regions": 32, "proposals": 100}  # fmt: skip
END = 6 * 16  # steps
# Asks an export as a program would that knows nothing of this package, and scores it with COCO's own program.
ELSEWHERE = """
import io, json, sys
from pathlib import Path
import numpy, tensorflow as tf
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask
exported, annotations, images, written = sys.argv[1:]
truths = COCO(annotations)
listed = [truths.imgs[number] for number in sorted(truths.imgs)]
ask = tf.saved_model.load(exported).signatures["serving_default"]
files = tf.constant([Path(images, each["file_name"]).read_bytes() for each in listed])
found = {name: values.numpy() for name, values in ask(image=files, conf=tf.fill([len(listed)], 0.05)).items()}
categories = sorted(truths.cats)
said = []
for number, each in enumerate(listed):
    assert (each["height"], each["width"]) == tuple(found["size"][number])
    for place in range(found["count"][number]):
        left, top, right, bottom = found["boxes"][number, place].astype(float)
        pixels = tf.io.decode_png(found["masks"][number, place])[..., 0].numpy()
        assert pixels.shape == (each["height"], each["width"]) and set(numpy.unique(pixels)) <= {0, 255}
        segmentation = mask.encode(numpy.asfortranarray(pixels > 0).view(numpy.uint8))
        said.append({"image_id": each["id"], "category_id": categories[found["labels"][number, place]],
                     "bbox": [left, top, right - left, bottom - top], "segmentation": segmentation,
                     "score": float(found["scores"][number, place])})
figures = {}
for kind in ("segm", "bbox"):
    evaluation = COCOeval_faster(truths, truths.loadRes(said), iouType=kind, print_function=lambda text: None)
    evaluation.run()
    figures[kind] = [float(figure) for figure in evaluation.stats]
assert "kerastoolkit" not in sys.modules
Path(written).write_text(json.dumps(figures))
"""


def picture(number):
    """Pixels, and objects (category, mask, crowd): a disc and a bar, a heap of small discs, or nothing."""
    generator = np.random.default_rng(number)
    height, width = (generator.integers(20, 45, 2) * 2 + (1, 11)).tolist()
    rows, columns = np.mgrid[:height, :width] + 0.5
    pixels, objects = np.full((height, width, 3), GROUND), []
    if number % 8 == 7:
        left, top = (int(generator.integers(2, side - 34)) for side in (width, height + 8))
        heap = (abs(rows - top - 12) < 12) & (abs(columns - left - 16) < 16)
        pixels[heap & (np.hypot(rows % 6 - 3, columns % 6 - 3) < 2.5)] = COLOURS[3]
        objects.append((3, heap, 1))
    elif number % 8 != 3:
        first = generator.permutation(2)  # which of the two is in the left half
        for category, place in zip(CATEGORIES, first.tolist(), strict=True):
            half = (generator.integers(7, 13),) * 2 if category == 3 else generator.integers((10, 4), (15, 7))
            half_high, half_wide = min(int(half[0]), height // 2), min(int(half[1]), width // 4)
            y = int(generator.integers(half_high, height - half_high + 1))
            x = int(generator.integers(half_wide, width // 2 - half_wide + 1)) + place * (width // 2)
            down, across = abs(rows - y) / half_high, abs(columns - x) / half_wide
            mask = (np.hypot(down, across) if category == 3 else np.maximum(down, across)) < 1
            pixels[mask] = COLOURS[category]
            objects.append((category, mask, 0))
    return np.clip(pixels + generator.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8), objects


def annotation(mask):
    """Run lengths, packed or not, the box and the area of a mask."""
    packed = coco_mask.encode(np.asfortranarray(mask).view(np.uint8))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    return {"segmentation": {"size": list(mask.shape), "counts": packed["counts"].decode()}, "bbox": box,
            "area": int(mask.sum())}  # fmt: skip


def write_folder(root, splits, masks=True):
    """A folder in COCO layout, whose files have the numbers of their images for names."""
    (root / "annotations").mkdir(parents=True)
    for split, numbers in splits.items():
        (root / split).mkdir()
        listed = {"images": [], "annotations": [], "categories": [{"id": key, "name": name} for key, name in CATEGORIES.items()]}
        for number in numbers:
            pixels, objects = picture(number)
            name = file_name(number)
            Image.fromarray(pixels).save(root / split / name, quality=95)
            listed["images"].append({"id": number, "file_name": name, "height": len(pixels), "width": len(pixels[0])})
            for place, (category, mask, crowd) in enumerate(objects):
                found = annotation(mask)
                if not masks:
                    found.pop("segmentation")
                listed["annotations"].append({"id": 10 * number + place, "image_id": number, "category_id": category,
                                              "iscrowd": crowd, **found})  # fmt: skip
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(listed))
    return root


def file_name(number):
    return f"{number:012d}.{'jpg' if number % 2 else 'png'}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("things"), SPLITS)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """The run's folder, and what it was in the middle, as a kill would have left it."""
    root = tmp_path_factory.mktemp("runs")
    run, cut = root / "run", root / "cut"

    def save(checkpoint_folder, step, *state):
        on_the_way = END // 3 < step < 2 * END // 3 and not cut.exists()
        if on_the_way or step == END:
            checkpoints.save_checkpoint(checkpoint_folder, step, *state)
        if on_the_way:
            shutil.copytree(run, cut)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "save_checkpoint", save)
        patch.setattr(train, "MOST_STEPS_PER_CALL", 7)
        train.train(recipe(), {**SETTINGS, "data": str(folder)}, out=str(run), checkpoint_seconds=0)
    return run, cut


def recipe():
    return catalog.find_recipe("shapes-mask-rcnn")


@pytest.fixture(scope="module")
def run(trained):
    return trained[0]


@pytest.fixture(scope="module")
def evaluated(run):
    return evaluate(str(run))


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return export(str(run), str(tmp_path_factory.mktemp("export") / "model"))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Photographs that the run has never seen, one of which is not called by a number."""
    root = tmp_path_factory.mktemp("others")
    for number in (400, 401, 402):
        Image.fromarray(picture(number)[0]).save(root / file_name(number), quality=95)
    Image.fromarray(picture(404)[0]).save(root / "kitchen.png")
    return root


@pytest.fixture(scope="module")
def answered(run, others, tmp_path_factory):
    """What ``predict`` tells of that folder, and the folder that it wrote."""
    out = tmp_path_factory.mktemp("answers")
    return predict(str(run), [str(others)], out=str(out)), out


@pytest.mark.slow
def test_things_are_found_with_their_masks_and_scored(evaluated, run, folder):
    record, report = evaluated
    assert record["figures"]["mask_ap50"] > 0.8 and record["figures"]["mask_ap75"] > 0.5
    rows = report.tables["by class"]
    # Of sixteen images two have a crowd, which counts for nothing, and two are empty.
    assert [(row["class"], row["objects"], row["images"]) for row in rows] == [("disc", 12, 12), ("bar", 12, 12)]
    assert record["figures"]["mask_ap50"] == pytest.approx(np.mean([row["mask_ap50"] for row in rows]))
    assert json.loads((run / "evaluation.json").read_text()) == record
    plots = {path.stem for path in (run / "plots").iterdir()}
    assert plots == {"curves", "precision_recall", "confusion", "best", "worst"}


@pytest.mark.slow
def test_the_history_tells_each_of_the_five_losses(run):
    header, *lines = (run / "history.csv").read_text().splitlines()
    names = ["objectness", "anchor_boxes", "classes", "boxes", "masks"]
    assert header.split(",")[2:8] == ["loss", *names] and header.split(",")[8:14] == [f"val_{name}" for name in ["loss", *names]]
    first, last = (dict(zip(header.split(","), map(float, line.split(",")), strict=True)) for line in (lines[0], lines[-1]))
    assert last["loss"] == pytest.approx(sum(last[name] for name in names), rel=1e-5)
    assert all(last[name] < first[name] for name in ("objectness", "classes", "masks"))


@pytest.mark.slow
def test_the_figures_are_those_that_cocos_program_gives_the_export_without_this_package(evaluated, exported, folder, tmp_path):
    files = [folder / "annotations" / "instances_test.json", folder / "test", tmp_path / "figures.json"]
    command = [sys.executable, "-c", ELSEWHERE, *map(str, (exported, *files))]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    elsewhere, figures = json.loads(files[-1].read_text()), evaluated[0]["figures"]
    places = {"ap": 0, "ap50": 1, "ap75": 2, "ap_small": 3, "ap_medium": 4, "ap_large": 5, "ar100": 8}
    for ours, theirs in (("mask", "segm"), ("box", "bbox")):
        for name, place in places.items():
            expected = elsewhere[theirs][place]
            expected = None if expected < 0 else pytest.approx(expected, abs=1e-6)
            assert figures[f"{ours}_{name}"] == expected, (ours, name)


def overlap(mask, other):
    return (mask & other).sum() / (mask | other).sum()


@pytest.mark.slow
def test_a_folder_of_photographs_is_answered_with_a_picture_of_each_and_masks_in_cocos_format(answered, others):
    rows, out = answered
    names = [file_name(400), file_name(401), file_name(402), "kitchen.png"]
    assert [row["input"] for row in rows] == [str(others / name) for name in names]
    pictures = {f"{place:03d}-{name.split('.')[0]}.png" for place, name in enumerate(names, start=1)}
    assert {path.name for path in out.iterdir()} == pictures | {"coco_results.json"}
    records = iter(json.loads((out / "coco_results.json").read_text()))
    categories = {name: number for number, name in CATEGORIES.items()}
    for row, number, called in zip(rows, (400, 401, 402, 404), (400, 401, 402, "kitchen.png"), strict=True):
        pixels, objects = picture(number)
        assert (row["height"], row["width"]) == pixels.shape[:2] and row["objects"] == len(row["instances"]) > 0
        for found in row["instances"]:
            record = next(records)
            assert (record["image_id"], record["category_id"]) == (called, categories[found["class"]])
            mask = coco_mask.decode(record["segmentation"]).astype(bool)
            assert mask.shape == pixels.shape[:2] and mask.sum() == found["pixels"]
        surest = row["instances"][0]
        (own,) = (mask for category, mask, _ in objects if CATEGORIES[category] == surest["class"])
        first = next(each for each in json.loads((out / "coco_results.json").read_text()) if each["image_id"] == called)
        assert overlap(coco_mask.decode(first["segmentation"]).astype(bool), own) > 0.6
    assert next(records, None) is None


@pytest.mark.slow
def test_an_export_tells_the_same_as_the_run(exported, answered, others):
    for row, expected in zip(predict(str(exported), [str(others)]), answered[0], strict=True):
        found, own = row.pop("instances"), expected["instances"]
        assert row == {name: value for name, value in expected.items() if name != "instances"}
        for one, other in zip(found, own, strict=True):
            assert (one["class"], one["pixels"]) == (other["class"], pytest.approx(other["pixels"], rel=0.01))
            np.testing.assert_allclose([one["score"], *one["box"]], [other["score"], *other["box"]], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_an_image_has_the_same_answer_alone_and_among_images_of_other_sizes(exported, others):
    import tensorflow as tf

    ask = tf.saved_model.load(exported)  # kept in a name: its variables are gone with it
    files = [path.read_bytes() for path in sorted(others.iterdir())]
    together = ask.signatures["serve"](image=tf.constant(files), conf=tf.fill([len(files)], 0.3))
    for number, contents in enumerate(files):
        alone = ask.signatures["serve"](image=tf.constant([contents]), conf=tf.constant([0.3]))
        count = int(alone["count"][0])
        assert count == together["count"][number]
        height, width = alone["size"][0].numpy()
        assert Image.open(io.BytesIO(contents)).size == (width, height)
        np.testing.assert_allclose(together["boxes"][number, :count], alone["boxes"][0, :count], atol=1e-2)
        for one, other in zip(alone["masks"][0, :count], together["masks"][number, :count], strict=True):
            one, other = (np.asarray(Image.open(io.BytesIO(each.numpy()))) > 0 for each in (one, other))
            assert one.shape == (height, width) and (one != other).mean() < 0.01


@pytest.mark.slow
def test_predict_tells_the_time_of_each_part(command, run, others):
    status, output, errors = command("predict", str(run), str(others), "--json")
    assert status == 0, errors
    assert len(json.loads(output)["predictions"]) == 4
    number = r"(\d+\.\d)"
    (told,) = re.findall(f"^milliseconds per input: reading {number}, network {number}, masks {number}$", errors, re.M)
    assert float(told[1]) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--conf", "1.5"), "conf must be 0 to 1, got 1.5"),
        (("--set", "iou=0.5"), "instance_segmentation has no setting iou (it has: conf)"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_status_2(command, exported, others, tmp_path, arguments, message):
    asked = str(exported), str(others), "--out", str(tmp_path / "answers")
    assert command("predict", *asked, *arguments) == (2, "", f"error: {message}\n")
    assert not (tmp_path / "answers").exists()


def test_boxes_without_masks_are_refused_in_one_line(command, tmp_path):
    without = write_folder(tmp_path / "boxes", {"train": range(4), "val": [4], "test": [5]}, masks=False)
    status, output, errors = command("train", "shapes-mask-rcnn", "--data", str(without), "--dry-run")
    assert (status, output) == (2, "") and errors.count("\n") == 1
    assert errors.startswith(f"error: {without}: ") and "mask" in errors


@pytest.mark.slow
def test_a_training_stopped_in_the_middle_ends_with_the_same_bits(trained, folder):
    whole, cut = trained
    step, *_ = checkpoints.load_checkpoint(cut / "checkpoints")
    assert 0 < step < END
    train.train(recipe(), {**SETTINGS, "data": str(folder)}, out=str(cut))
    expected, again = (checkpoints.load_checkpoint(each / "checkpoints") for each in (whole, cut))
    assert expected[0] == again[0] == END and expected[1].keys() == again[1].keys()
    for name, array in expected[1].items():
        assert array.tobytes() == again[1][name].tobytes(), name
    assert (whole / "history.csv").read_bytes() == (cut / "history.csv").read_bytes()


def test_an_average_that_would_never_move_is_refused(folder):
    with pytest.raises(InputError, match="^average must be at least 0 and below 1, got 1.0$"):
        train.build(recipe(), catalog.arguments(recipe(), {"data": str(folder), "average": 1.0}), 0)
