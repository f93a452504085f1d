"""What each family of networks can be exported as: SavedModel, ONNX, LiteRT; how equal, how fast, how large.

    python benchmarks/export_formats.py [--only FAMILY ...] [--steps 30] [--times 20] [--json FILE]

Of each family a recipe is trained for some steps on its embedded sample, in a process of its own, and written in each format as
``kerastoolkit export`` does it. Each file is then asked, in a process that has its runtime alone, for 8 examples, all at once
and one alone; ``equal to`` is the largest difference from the run, of the larger of 1 and the answer, and ``ms`` the median time
of the one, once warm. A SavedModel takes files and texts, which it decodes too; what the others hold is in the table.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SMALL = {"batch_size": 8}
FAMILIES = {
    "plain CNN": ("digits-cnn", SMALL),
    "VGG": ("cifar10-vgg16", SMALL),
    "residual": ("cifar10-resnet20", SMALL),
    "Inception": ("cifar10-inception", SMALL),
    "RNN, series": ("weather-rnn", SMALL),
    "LSTM, series": ("weather-lstm", SMALL),
    "GRU, series": ("stocks-gru", SMALL),
    "LSTM, text": ("shakespeare-lstm", SMALL),
    "word vectors": ("text8-skipgram", {}),
    "attention": ("dates-attention", {"batch_tokens": 512}),
    "Transformer": ("dates-transformer", {"batch_tokens": 512}),
    "summariser": ("bbc-summarise-transformer", {"batch_tokens": 1024}),
    "BERT, pretraining": ("bert-pretrain", {"batch_size": 8, "size": "tiny", "weights": None}),
    "BERT, classes": ("sst2-bert", {"batch_size": 8, "size": "tiny", "weights": None}),
    "BERT, tags": ("dates-bert", {"batch_size": 8, "size": "tiny"}),
    "BERT, questions": ("squad-bert", {"batch_size": 8, "size": "tiny", "weights": None}),
    "FCN": ("shapes-fcn8s", {"batch_size": 4}),
    "U-Net": ("shapes-unet", SMALL),
    "YOLOv8": ("shapes-yolov8n", SMALL),
    "YOLOv3": ("coco-yolov3", {"batch_size": 2, "height": 128, "width": 128, "weights": None}),
    "Mask R-CNN": ("shapes-mask-rcnn", {"batch_size": 2}),
    "autoencoder": ("mnist-convolutional-autoencoder", SMALL),
    "variational autoencoder": ("mnist-vae", SMALL),
}


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="FAMILY")
    options.add_argument("--steps", type=int, default=30)
    options.add_argument("--times", type=int, default=20)
    options.add_argument("--json", metavar="FILE")
    options.add_argument("--run", choices=FAMILIES, help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.run:
        print(json.dumps(rows(options.run, options.steps, options.times)))
        return
    print("| family | recipe | format | holds | equal to | digits | ms | MB |\n|---|---|---|---|---|---|---|---|", flush=True)
    found = []
    for family in options.only:
        command = [sys.executable, __file__, "--run", family, "--steps", str(options.steps), "--times", str(options.times)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        if result.returncode:
            sys.exit(f"{family} failed: {result.stderr.strip().splitlines()[-1]}")
        for row in json.loads(result.stdout.strip().splitlines()[-1]):
            found.append({"family": family, "recipe": FAMILIES[family][0], **row})
            print("| " + " | ".join(line_of(found[-1])) + " |", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")


def line_of(row):
    begin = [row["family"], row["recipe"], row["format"]]
    if "reason" in row:
        return [*begin, row["reason"], "", "", "", ""]
    if row["difference"] is None:
        return [*begin, row["holds"], "nothing found", "", f"{row['milliseconds']:.2f}", f"{row['megabytes']:.2f}"]
    digits = "all" if not row["difference"] else str(math.floor(-math.log10(row["difference"])))
    return [*begin, row["holds"], f"{row['difference']:.1e}", digits, f"{row['milliseconds']:.2f}", f"{row['megabytes']:.2f}"]


def rows(family, steps, times):
    """A row for each format."""
    from kerastoolkit.experiment import InputError, RunError
    from kerastoolkit.export import FORMATS
    from kerastoolkit.formats.examples import examples_of

    found = []
    with tempfile.TemporaryDirectory() as folder:
        run = trained(family, steps, Path(folder))
        examples = examples_of(run)
        for format in FORMATS.values():
            try:
                found.append({"format": format.name, **row(format, run, examples, times, Path(folder))})
            except (InputError, RunError) as error:
                found.append({"format": format.name, "reason": str(error).removesuffix("; nothing was written")})
            print(found[-1], file=sys.stderr)
    return found


def trained(family, steps, folder):
    """A run of so many steps, as the verb ``export`` has it."""
    import tensorflow as tf

    from kerastoolkit import catalog, train
    from kerastoolkit.formats import Trained
    from kerastoolkit.pipeline import training_batches
    from kerastoolkit.serving.model import serving_model
    from kerastoolkit.steps import compile_steps
    from kerastoolkit.training_state import State

    name, settings = FAMILIES[family]
    recipe = catalog.find_recipe(name)
    experiment = train.build(recipe, catalog.arguments(recipe, {"data": "sample", **settings}), 0)
    state = State(experiment)
    compile_steps(state)(iter(training_batches(experiment, seed=0, start=0, end=steps)), tf.constant(steps))
    state.network.save(folder / "model.keras")
    serving = serving_model(preprocess=experiment.preprocess, network=state.network, task=experiment.task)
    record = {"task": experiment.task.description, "data_set": experiment.data.description, "recipe": name}
    return Trained(folder, record, experiment.task, serving)


def row(format, run, examples, times, folder):
    from kerastoolkit.formats import proof

    parts, _ = format.choose(run)
    path = folder / format.file
    format.write(parts, path, run.about)
    batches = proof.batches_for(parts, examples)
    answers, took = proof.ask(format, path, batches, times=times)
    files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    return {"holds": parts[0].name, "difference": proof.compare(format, parts, batches, answers),
            "milliseconds": took[parts[0].name], "megabytes": sum(each.stat().st_size for each in files) / 1e6}  # fmt: skip


if __name__ == "__main__":
    main()
