"""Every family trains two steps on two devices and on two workers, from the same weights and to the loss of one."""

import json

import pytest

from kerastoolkit import catalog
from tests.together import TESTS, ended, start_alone, start_workers

PROGRAM = str(TESTS / "recipes_for_tests" / "two_steps.py")
TRANSFORMER = {"depth": 1, "width": 8, "heads": 2, "feed_forward": 16, "batch_tokens": 256, "dropout": 0.0}
# One of each way that replicas could matter: draws, penalties of a batch, rows of tables, texts, sizes, normalisation.
FEW = {
    "digits-cnn": {}, "weather-gru": {"units": 8, "batch_size": 8}, "text8-cbow": {}, "text8-glove": {"block": 64},
    "dates-transformer": TRANSFORMER, "dates-bert": {"batch_size": 8, "dropout": 0.0},
    "shapes-unet": {"depth": 1, "filters": 4, "batch_size": 4}, "binary-mnist-vae": {"hidden": (8,), "batch_size": 8},
    "mnist-sparse-autoencoder": {"batch_size": 8}, "mnist-denoising-autoencoder": {"batch_size": 8},
}  # fmt: skip
ONE_OF_EACH = (
    "cifar10-vgg16", "cifar10-resnet20-fast", "cifar10-inception", "weather-rnn", "stocks-lstm", "shakespeare-lstm",
    "text8-skipgram", "dates-attention", "bbc-summarise-transformer", "bert-pretrain", "sst2-bert", "squad-bert", "shapes-fcn8s",
    "shapes-yolov8n", "coco-yolov3", "shapes-mask-rcnn", "mnist-autoencoder", "mnist-convolutional-autoencoder", "mnist-vae",
)  # fmt: skip
SMALLER = {"coco-yolov3": {"height": 96, "width": 96}, "shapes-mask-rcnn": {"height": 64, "width": 64},
           "text8-glove": {"block": 64}}  # fmt: skip


def settings_of(name):
    """Settings with which a recipe takes two small steps on its sample, nothing dropped."""
    parameters = catalog.find_recipe(name).parameters
    chosen = {"batch_size": 8} if "batch_size" in parameters else {"batch_tokens": 512}
    chosen |= {"dropout": 0.0} if "dropout" in parameters else {}
    chosen |= {"weights": None} if "weights" in parameters else {}
    return chosen | SMALLER.get(name, {})


def told(strategy, cases):
    """What the program tells of each recipe, on each worker."""
    cases = json.dumps([{"recipe": name, "settings": {"data": "sample", **settings}} for name, settings in cases.items()])
    program = (PROGRAM, strategy, cases)
    processes = start_workers("/", 2, *program) if strategy == "multi-worker" else [start_alone("/", *program)]
    workers = []
    for code, output, errors in ended(processes, seconds=3000):
        assert code == 0, errors[-3000:]
        workers.append({row["recipe"]: row for row in map(json.loads, output.splitlines())})
    return workers


def check(rows):
    for row in rows:
        assert row["same_start"] and row["finite"], row
        assert row["moved"] > 0, row
        assert row["loss"] == pytest.approx(row["loss_alone"], rel=2e-4), row  # after the first step, of weights that it moved


@pytest.fixture(scope="module")
def few(request):
    return {strategy: told(strategy, FEW) for strategy in ("mirrored", "multi-worker")}


@pytest.mark.parametrize("name", FEW)
def test_a_recipe_takes_the_steps_of_one_device_on_two(few, name):
    check([few["mirrored"][0][name]])


@pytest.mark.parametrize("name", FEW)
def test_a_recipe_takes_the_steps_of_one_worker_on_two(few, name):
    one, two = (worker[name] for worker in few["multi-worker"])
    check([one, two])
    assert one["bits"] == two["bits"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["mirrored", "multi-worker"])
def test_one_recipe_of_each_kind_trains_together(strategy):
    workers = told(strategy, {name: settings_of(name) for name in ONE_OF_EACH})
    for name in ONE_OF_EACH:
        rows = [worker[name] for worker in workers]
        assert all(row["same_start"] and row["finite"] and row["moved"] > 0 for row in rows), rows
        assert len({row["bits"] for row in rows}) == 1
