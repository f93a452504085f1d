"""Trains a recipe on workers that Ray Train starts, on one machine or on a cluster of them.

    pip install 'ray[train]'          # beside kerastoolkit
    python docs/ray_train.py --workers 2 --out /shared/runs/digits digits-cnn epochs=5

Ray gives each worker its TF_CONFIG, which is all that --strategy multi-worker needs. The run folder must be on a file system that
the first worker has again after a failure; with --failures Ray starts all workers anew, and the run goes on where it was.
"""

import argparse

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer


def train_recipe(config):
    """What each worker does."""
    from kerastoolkit import catalog, train

    recipe = catalog.find_recipe(config["recipe"])
    overrides = catalog.parse_overrides(recipe, config["settings"])
    train.train(recipe, overrides, out=config["out"], strategy="multi-worker")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", required=True, help="the run folder, an absolute path")
    parser.add_argument("--gpus", action="store_true", help="a GPU for each worker")
    parser.add_argument("--failures", type=int, default=0, help="how often Ray starts the workers again")
    options = parser.parse_args()
    TensorflowTrainer(
        train_recipe,
        train_loop_config={"recipe": options.recipe, "settings": options.settings, "out": options.out},
        scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=options.gpus),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=options.failures)),
    ).fit()


if __name__ == "__main__":
    main()
