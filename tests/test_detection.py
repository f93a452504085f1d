"""Detection all the way, on photographs of one's own of many sizes: trained, scored, asked, exported, and stopped on the way."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kerastoolkit import catalog, checkpoints, train
from kerastoolkit.evaluate import evaluate
from kerastoolkit.experiment import InputError
from kerastoolkit.export import export
from kerastoolkit.predict import predict

CATEGORIES = {3: "disc", 7: "bar"}
GROUND, COLOURS = (60, 70, 60), {3: (210, 60, 40), 7: (40, 80, 220)}
SPLITS = {"train": range(96), "val": range(200, 204), "test": range(300, 316)}
SETTINGS = {"height": 64, "width": 96, "epochs": 6, "plain_epochs": 2, "mosaics": True, "batch_size": 4, "learning_rate": 0.006,
            "average": 0.9}  # fmt: skip
STEPS, SWITCH, END = 24, 96, 144  # of an epoch, to the first that has no mosaics, and in all
# Asks an export as a program would that knows nothing of this package, and scores it with COCO's own program.
ELSEWHERE = """
import json, sys
from pathlib import Path
import numpy, tensorflow as tf
from faster_coco_eval import COCO, COCOeval_faster
exported, annotations, images, written = sys.argv[1:]
truths = COCO(annotations)
listed = [truths.imgs[number] for number in sorted(truths.imgs)]
ask = tf.saved_model.load(exported).signatures["serving_default"]
files = tf.constant([Path(images, each["file_name"]).read_bytes() for each in listed])
found = ask(image=files, conf=tf.fill([len(listed)], 0.001), iou=tf.fill([len(listed)], 0.7))
found = {name: values.numpy() for name, values in found.items()}
categories = sorted(truths.cats)
said = []
for number, each in enumerate(listed):
    assert (each["height"], each["width"]) == tuple(found["size"][number])
    for place in range(found["count"][number]):
        left, top, right, bottom = found["boxes"][number, place].astype(float)
        said.append({"image_id": each["id"], "category_id": categories[found["labels"][number, place]],
                     "bbox": [left, top, right - left, bottom - top], "score": float(found["scores"][number, place])})
evaluation = COCOeval_faster(truths, truths.loadRes(said), iouType="bbox", print_function=lambda text: None)
evaluation.run()
assert "kerastoolkit" not in sys.modules
Path(written).write_text(json.dumps([float(figure) for figure in evaluation.stats]))
"""
FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")


def picture(number):
    """Pixels, and objects (category, box x, y, width and height, crowd): a disc and a bar, a heap of small discs, or nothing."""
    generator = np.random.default_rng(number)
    height, width = (generator.integers(20, 45, 2) * 2 + (1, 11)).tolist()
    rows, columns = np.mgrid[:height, :width] + 0.5
    pixels, objects = np.full((height, width, 3), GROUND), []
    if number % 8 == 7:
        left, top = (int(generator.integers(2, side - 34)) for side in (width, height + 8))
        inside = (abs(rows - top - 12) < 12) & (abs(columns - left - 16) < 16)
        pixels[inside & (np.hypot(rows % 6 - 3, columns % 6 - 3) < 2.5)] = COLOURS[3]
        objects.append((3, (left, top, 32, 24), 1))
    elif number % 8 != 3:
        first = generator.permutation(2)  # which of the two is in the left half
        for category, place in zip(CATEGORIES, first.tolist(), strict=True):
            half = (generator.integers(7, 13),) * 2 if category == 3 else generator.integers((10, 4), (15, 7))
            half_high, half_wide = min(int(half[0]), height // 2), min(int(half[1]), width // 4)
            y = int(generator.integers(half_high, height - half_high + 1))
            x = int(generator.integers(half_wide, width // 2 - half_wide + 1)) + place * (width // 2)
            down, across = abs(rows - y) / half_high, abs(columns - x) / half_wide
            pixels[(np.hypot(down, across) if category == 3 else np.maximum(down, across)) < 1] = COLOURS[category]
            objects.append((category, (x - half_wide, y - half_high, 2 * half_wide, 2 * half_high), 0))
    return np.clip(pixels + generator.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8), objects


def write_folder(root, splits, categories=CATEGORIES):
    """A folder in COCO layout, whose files have the numbers of their images for names."""
    (root / "annotations").mkdir(parents=True)
    for split, numbers in splits.items():
        (root / split).mkdir()
        listed = {"images": [], "annotations": [], "categories": [{"id": key, "name": name} for key, name in categories.items()]}
        for number in numbers:
            pixels, objects = picture(number)
            name = file_name(number)
            Image.fromarray(pixels).save(root / split / name, quality=95)
            listed["images"].append({"id": number, "file_name": name, "height": len(pixels), "width": len(pixels[0])})
            listed["annotations"] += [
                {"id": 10 * number + place, "image_id": number, "category_id": category, "bbox": box, "area": box[2] * box[3],
                 "iscrowd": crowd} for place, (category, box, crowd) in enumerate(objects)]  # fmt: skip
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(listed))
    return root


def file_name(number):
    return f"{number:012d}.{'jpg' if number % 2 else 'png'}"


def truths(number):
    """Objects of an image: (name, x_min, y_min, x_max, y_max)."""
    return [(CATEGORIES[category], x, y, x + wide, y + high) for category, (x, y, wide, high), _ in picture(number)[1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("things"), SPLITS)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """The run's folder, and what it was in the middle of the last epoch of mosaics, as a kill would have left it."""
    root = tmp_path_factory.mktemp("runs")
    run, cut = root / "run", root / "cut"

    def save(checkpoint_folder, step, *state):
        on_the_way = SWITCH - STEPS < step < SWITCH and not cut.exists()
        if on_the_way or step == END:
            checkpoints.save_checkpoint(checkpoint_folder, step, *state)
        if on_the_way:
            shutil.copytree(run, cut)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "save_checkpoint", save)
        patch.setattr(train, "MOST_STEPS_PER_CALL", STEPS // 2)
        train.train(recipe(), {**SETTINGS, "data": str(folder)}, out=str(run), checkpoint_seconds=0)
    return run, cut


def recipe():
    return catalog.find_recipe("shapes-yolov8n")


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


def strictly(text):
    """JSON without NaN and infinities, which other programs do not read."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def overlap(box, other):
    """Intersection over union."""
    wide, high = (max(0, min(box[2 + i], other[2 + i]) - max(box[i], other[i])) for i in (0, 1))
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (box, other)]
    return wide * high / (sum(areas) - wide * high)


@pytest.mark.slow
def test_things_told_by_colour_are_found_and_scored(evaluated, run, folder):
    record, report = evaluated
    assert record["figures"]["ap50"] > 0.8
    rows = report.tables["by class"]
    # Of sixteen images two have a crowd, which counts for nothing, and two are empty.
    assert [(row["class"], row["objects"], row["images"]) for row in rows] == [("disc", 12, 12), ("bar", 12, 12)]
    assert record["figures"]["ap50"] == pytest.approx(np.mean([row["ap50"] for row in rows]))
    tested = strictly((run / "evaluation.json").read_text())
    assert tested == record and tested["tables"] == report.tables and tested["data"] == folder.name
    plots = {path.stem for path in (run / "plots").iterdir()}
    assert plots == {"curves", "precision_recall", "confusion", "best", "worst"}


@pytest.mark.slow
def test_the_figures_are_those_that_cocos_program_gives_the_export_without_this_package(evaluated, exported, folder, tmp_path):
    files = [folder / "annotations" / "instances_test.json", folder / "test", tmp_path / "figures.json"]
    command = [sys.executable, "-c", ELSEWHERE, *map(str, (exported, *files))]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    elsewhere = [None if figure < 0 else figure for figure in json.loads(files[-1].read_text())]
    figures = evaluated[0]["figures"]
    assert figures["ap_large"] is None  # no object is so large
    for name, figure in zip(FIGURES, elsewhere, strict=False):
        assert figures[name] == (figure if figure is None else pytest.approx(figure, abs=1e-6)), name


@pytest.mark.slow
def test_boxes_are_in_pixels_of_the_photographs_own_size(answered):
    for row, number in zip(answered[0], (400, 401, 402, 404), strict=True):
        assert (row["height"], row["width"]) == picture(number)[0].shape[:2]
        surest, *_ = row["boxes"]
        (box,) = (box for name, *box in truths(number) if name == surest["class"])
        assert overlap(surest["box"], box) > 0.5


@pytest.mark.slow
def test_a_folder_of_photographs_is_answered_with_a_picture_of_each_and_results_in_cocos_format(answered, others):
    rows, out = answered
    names = [file_name(400), file_name(401), file_name(402), "kitchen.png"]
    assert [row["input"] for row in rows] == [str(others / name) for name in names]
    pictures = {f"{place:03d}-{name.split('.')[0]}.png" for place, name in enumerate(names, start=1)}
    assert {path.name for path in out.iterdir()} == pictures | {"coco_results.json"}
    ids, categories = (400, 401, 402, "kitchen.png"), {name: number for number, name in CATEGORIES.items()}
    expected = []
    for row, number in zip(rows, ids, strict=True):
        for found in row["boxes"]:
            left, top, right, bottom = found["box"]
            expected.append({"image_id": number, "category_id": categories[found["class"]], "score": round(found["score"], 5),
                             "bbox": [round(each, 2) for each in (left, top, right - left, bottom - top)]})  # fmt: skip
    assert strictly((out / "coco_results.json").read_text()) == expected


@pytest.mark.slow
def test_an_export_tells_the_same_as_the_run(exported, answered, others):
    for row, expected in zip(predict(str(exported), [str(others)]), answered[0], strict=True):
        boxes, expected_boxes = row.pop("boxes"), expected["boxes"]
        assert row == {name: value for name, value in expected.items() if name != "boxes"}
        for found, own in zip(boxes, expected_boxes, strict=True):
            assert found["class"] == own["class"]
            np.testing.assert_allclose([found["score"], *found["box"]], [own["score"], *own["box"]], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_an_export_is_asked_for_files_for_decoded_pixels_or_for_all_candidates(exported, tmp_path):
    import tensorflow as tf

    loaded = tf.saved_model.load(exported)  # kept in a name: its variables are gone with it
    signatures = loaded.signatures
    assert set(signatures) == {"serve", "serving_default", "serve_decoded", "candidates"}
    # Of the network's own size, so that there is nothing to letterbox.
    pixels = np.random.default_rng(0).normal(GROUND, 12, (64, 96, 3)).clip(0, 255).astype(np.uint8)
    pixels[20:40, 30:50] = COLOURS[3]
    Image.fromarray(pixels).save(tmp_path / "exact.png")
    files, decoded = tf.constant([(tmp_path / "exact.png").read_bytes()]), tf.constant(pixels[None], tf.float32)
    size, settings = tf.constant([[64, 96]]), {"conf": tf.constant([0.05]), "iou": tf.constant([0.7])}
    found = signatures["serve"](image=files, **settings)
    again = signatures["serve_decoded"](image=decoded, size=size, **settings)
    assert found.keys() == again.keys() == {"boxes", "scores", "labels", "count", "size"} and found["count"][0] > 0
    for name, values in found.items():
        np.testing.assert_allclose(again[name], values, rtol=1e-4, atol=1e-3)
    candidates = signatures["candidates"](image=decoded)
    cells = 8 * 12 + 4 * 6 + 2 * 3
    assert {name: values.shape for name, values in candidates.items()} == {"boxes": (1, cells, 4), "scores": (1, cells, 2)}
    label, place = int(found["labels"][0, 0]), np.argmax(candidates["scores"][0].numpy().max(axis=1))
    np.testing.assert_allclose(candidates["scores"][0, place, label], found["scores"][0, 0], rtol=1e-4)
    np.testing.assert_allclose(candidates["boxes"][0, place], found["boxes"][0, 0], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_predict_tells_the_time_of_each_part_on_standard_error_and_json_alone_on_standard_output(command, run, answered, others):
    middle = float(np.median([found["score"] for row in answered[0] for found in row["boxes"]]))
    status, output, errors = command("predict", str(run), str(others), "--conf", str(middle), "--json")
    assert status == 0, errors
    for row, expected in zip(strictly(output)["predictions"], answered[0], strict=True):
        assert row["boxes"] == [found for found in expected["boxes"] if found["score"] > middle]
    number = r"(\d+\.\d)"
    (told,) = re.findall(f"^milliseconds per input: reading {number}, network {number}, suppression {number}$", errors, re.M)
    assert all(float(each) >= 0 for each in told) and float(told[1]) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        ("run", ("--conf", "1.5"), "conf must be 0 to 1, got 1.5"),
        ("exported", ("--conf", "-0.1"), "conf must be 0 to 1, got -0.1"),
        ("exported", ("--set", "iou=2"), "iou must be 0 to 1, got 2"),
        ("exported", ("--conf", "high"), "conf must be a number, got high"),
        ("exported", ("--set", "beams=3"), "detection has no setting beams (it has: conf, iou)"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_status_2(command, others, tmp_path, request, target, arguments, message):
    asked = str(request.getfixturevalue(target)), str(others), "--out", str(tmp_path / "answers")
    assert command("predict", *asked, *arguments) == (2, "", f"error: {message}\n")
    assert not (tmp_path / "answers").exists()


@pytest.mark.slow
def test_a_training_stopped_among_mosaics_goes_on_to_plain_pictures_and_ends_with_the_same_bits(trained, folder):
    whole, cut = trained
    step, *_ = checkpoints.load_checkpoint(cut / "checkpoints")
    assert SWITCH - STEPS < step < SWITCH
    train.train(recipe(), {**SETTINGS, "data": str(folder)}, out=str(cut))
    expected, again = (checkpoints.load_checkpoint(each / "checkpoints") for each in (whole, cut))
    assert expected[0] == again[0] == END and expected[1].keys() == again[1].keys()
    for name, array in expected[1].items():
        assert array.tobytes() == again[1][name].tobytes(), name
    assert (whole / "history.csv").read_bytes() == (cut / "history.csv").read_bytes()


@pytest.mark.slow
def test_another_folder_is_scored_only_where_it_has_the_same_classes(run, evaluated, tmp_path):
    before, few = (run / "evaluation.json").read_bytes(), {"train": [0], "val": [1], "test": [500, 501]}
    record, _ = evaluate(str(run), data=str(write_folder(tmp_path / "more", few)))
    assert (record["data"], record["examples"]) == ("more", 2) and record["figures"]["ap50"] > 0.5
    assert (run / "evaluation.json").read_bytes() == before
    others = write_folder(tmp_path / "others", few, categories={3: "disc", 7: "beam"})
    with pytest.raises(InputError, match="^others has other classes than the run was trained on: disc, bar$"):
        evaluate(str(run), data=str(others))


@pytest.mark.parametrize(
    ("setting", "value", "rule"),
    [("plain_epochs", -1, "at least 0"), ("mixed", 1.5, "0 to 1"), ("mixed", -0.5, "0 to 1"),
     ("average", 1.0, "at least 0 and below 1"), ("average", -0.1, "at least 0 and below 1")],  # fmt: skip
)
def test_a_setting_of_training_out_of_range_is_refused_by_its_name(folder, setting, value, rule):
    with pytest.raises(InputError, match=f"^{setting} must be {rule}, got {value}$"):
        train.build(recipe(), catalog.arguments(recipe(), {"data": str(folder), setting: value}), 0)
