"""Every recipe builds, trains two steps on the embedded data and is exported, offline."""

import pytest

from kerastoolkit import catalog, train
from kerastoolkit.pipeline import training_batches
from kerastoolkit.serving.model import serving_model
from kerastoolkit.steps import compile_steps
from kerastoolkit.training_state import State

# Some are exported in test_translation.py, test_summarisation.py, test_detection.py and test_instance_segmentation.py.
FAST = ("digits-cnn", "weather-gru", "stocks-lstm", "shakespeare-rnn", "mnist-sparse-autoencoder", "text8-skipgram")
SMALLER = {"coco-mask-rcnn": {"batch_size": 2, "height": 256, "width": 256}}  # which would take minutes and 20 GB
CASES = [
    pytest.param(recipe, id=recipe.name, marks=() if recipe.name in FAST else pytest.mark.slow) for recipe in catalog.recipes()
]


@pytest.mark.parametrize("recipe", CASES)
def test_a_recipe_trains_two_steps_on_the_sample_and_is_exported(recipe, tmp_path):
    import tensorflow as tf

    from kerastoolkit.formats import Trained, proof, runner, saved_model
    from kerastoolkit.formats.examples import made_up

    overrides = {"data": "sample", **({"batch_size": 8} if "batch_size" in recipe.parameters else {"batch_tokens": 512})}
    if "weights" in recipe.parameters:
        overrides["weights"] = None  # else those of a package that is not needed here
    overrides |= SMALLER.get(recipe.name, {})
    experiment = train.build(recipe, catalog.arguments(recipe, overrides), 0)
    state = State(experiment)
    before = [variable.numpy() for variable in state.network.trainable_variables]
    compile_steps(state)(iter(training_batches(experiment, seed=0, start=0, end=2)), tf.constant(2))
    assert state.failed_at.numpy() == -1
    assert sum((variable.numpy() != old).any() for variable, old in zip(state.network.trainable_variables, before, strict=True))
    serving = serving_model(preprocess=experiment.preprocess, network=state.network, task=experiment.task)
    endpoints = saved_model.endpoints_of(serving, experiment.task)
    saved_model.write_endpoints(endpoints, tmp_path / "model")
    parts = saved_model.parts_of(endpoints)
    batches = proof.batches_for(parts, made_up(Trained(tmp_path, {}, experiment.task, serving)))
    proof.compare(saved_model.FORMAT, parts, batches, runner.answered("tensorflow", tmp_path / "model", batches))


def test_a_folder_of_ones_own_images_goes_all_the_way(killable, tmp_path):
    import numpy as np
    from PIL import Image

    from kerastoolkit.evaluate import evaluate
    from kerastoolkit.export import export
    from kerastoolkit.predict import predict

    generator = np.random.default_rng(0)
    for label, shade in (("dark", 40), ("light", 200)):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for number in range(30):
            size = generator.integers(6, 30, 2)
            noise = generator.normal(shade, 10, (*size, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / "mine" / label / f"{number}.png")
    run = train.train(killable, {"data": str(tmp_path / "mine"), "epochs": 30}, out=str(tmp_path / "run"))
    record, _ = evaluate(str(run))
    assert record["figures"]["accuracy"] == 1.0
    rows = predict(str(export(str(run))), [str(tmp_path / "mine" / "light" / "3.png")])
    assert rows[0]["label"] == "light"
