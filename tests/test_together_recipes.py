"""Every family trains two steps on two devices and on two workers, from the same weights and to the loss of one."""

import json

import pytest

from kerastoolkit import catalog
from tests.together import TESTS, ended, start_alone, start_workers

PROGRAM = str(TESTS / "recipes_for_tests" / "two_steps.py")
# One of each way that replicas could matter: draws, penalties of a batch, rows of tables, texts of all lengths, normalisation.
FEW = {
    "digits-cnn": {}, "text8-cbow": {}, "text8-glove": {"block": 64},
    "multi30k-transformer": {"depth": 1, "width": 8, "heads": 2, "feed_forward": 16, "vocabulary": 280, "batch_tokens": 128,
                             "averaged": 1, "warm_up_steps": 10, "dropout": 0.0, "data": "pairs.tsv"},
    "binary-mnist-vae": {"hidden": (8,), "batch_size": 8}, "mnist-sparse-autoencoder": {"batch_size": 8},
    "mnist-denoising-autoencoder": {"batch_size": 8},
}  # fmt: skip
BY_WORKERS = ("digits-cnn", "text8-cbow")  # what passes from process to process in another way: sums, rows of tables
ONE_OF_EACH = (
    "cifar10-vgg16", "cifar10-resnet20-fast", "cifar10-inception", "weather-rnn", "stocks-lstm", "shakespeare-lstm",
    "text8-skipgram", "dates-transformer", "dates-attention", "bbc-summarise-transformer", "bert-pretrain", "dates-bert",
    "sst2-bert", "squad-bert", "shapes-fcn8s", "shapes-unet", "shapes-yolov8n", "coco-yolov3", "shapes-mask-rcnn",
    "mnist-autoencoder", "mnist-convolutional-autoencoder", "mnist-vae",
)  # fmt: skip
SMALLER = {"coco-yolov3": {"height": 96, "width": 96}, "shapes-mask-rcnn": {"height": 64, "width": 64, "batch_size": 4}}


def settings_of(name):
    """Settings with which a recipe takes two small steps on its sample, nothing dropped."""
    parameters = catalog.find_recipe(name).parameters
    chosen = {"batch_size": 8} if "batch_size" in parameters else {"batch_tokens": 512}
    chosen |= {"dropout": 0.0} if "dropout" in parameters else {}
    chosen |= {"weights": None} if "weights" in parameters else {}
    return chosen | SMALLER.get(name, {})


def told(folder, strategy, cases):
    """What the program tells, of each worker by recipe and replicas."""
    cases = json.dumps([{"recipe": name, "settings": {"data": "sample", **settings}} for name, settings in cases.items()])
    program = (PROGRAM, strategy, cases)
    processes = start_workers(folder, 2, *program) if strategy == "multi-worker" else [start_alone(folder, *program)]
    workers = []
    for code, output, errors in ended(processes, seconds=3000):
        assert code == 0, errors[-3000:]
        workers.append({(row["recipe"], row["replicas"]): row for row in map(json.loads, output.splitlines())})
    return workers


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """What is told of one device and two, and by each of two workers."""
    folder = tmp_path_factory.mktemp("few")
    lines = [f"{'ein langer Hund ' * (n % 5 + 1)}{n}\t{'a long dog ' * (n % 5 + 1)}{n}\n" for n in range(60)]
    (folder / "pairs.tsv").write_text("".join(lines))
    fewer = {name: FEW[name] for name in BY_WORKERS}
    (devices,) = told(folder, "mirrored+alone", FEW)
    return devices, told(folder, "multi-worker", fewer)


def check(row, alone):
    assert row["finite"] and row["moved"] > 0
    assert row["start"] == alone["start"]
    assert row["loss"] == pytest.approx(alone["loss"], rel=1e-5)  # of two steps, so the second after the first moved the weights


@pytest.mark.parametrize("name", FEW)
def test_a_recipe_takes_the_steps_of_one_device_on_two(few, name):
    devices, _ = few
    check(devices[name, 2], devices[name, 1])


@pytest.mark.parametrize("name", BY_WORKERS)
def test_a_recipe_takes_the_steps_of_one_worker_on_two(few, name):
    devices, workers = few
    one, two = (worker[name, 2] for worker in workers)
    check(one, devices[name, 1])
    assert one["end"] == two["end"] != one["start"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["mirrored", "multi-worker"])
def test_one_recipe_of_each_kind_trains_together(strategy, tmp_path):
    workers = told(tmp_path, strategy, {name: settings_of(name) for name in ONE_OF_EACH})
    for name in ONE_OF_EACH:
        rows = [worker[name, 2] for worker in workers]
        assert all(row["finite"] and row["moved"] > 0 for row in rows), rows
        assert len({(row["start"], row["end"], row["loss"]) for row in rows}) == 1
