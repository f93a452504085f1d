import numpy as np
import pytest


@pytest.fixture(scope="session")
def data_of():
    """Makes a Data of arrays: (train, test, more that is known of them), each split a dict of arrays by name."""
    import tensorflow as tf

    from kerastoolkit.experiment import Data, Source

    def source(arrays):
        size = len(next(iter(arrays.values())))
        return Source(size, lambda indices: {name: tf.gather(tf.constant(value), indices) for name, value in arrays.items()})

    def make(train, test, **about):
        shape = train["image"].shape[1:]
        known = {"shape": shape, "channels": shape[-1], **about}
        return Data("made up", source(train), source(test), source(test), inputs=("image",), encoded=False, about=known)

    return make


@pytest.fixture(scope="session")
def score():
    """Scores (network, task, Data) as ``evaluate`` does: through the serving model, on the test split."""
    from kerastoolkit.data.preprocessing import intensities
    from kerastoolkit.evaluate import answered
    from kerastoolkit.serving.model import serving_model

    def run(network, task, data, **how):
        serving = serving_model(preprocess=intensities(data), network=network, task=task)
        scoring = {name: how.get(name, default) for name, default in task.scoring.items()}
        return task.score(answered(serving, data, "test", {}, 250), data, serving, **scoring), serving

    return run


@pytest.fixture(scope="session")
def stripes():
    """Makes that many images (8, 8, 1), of two kinds in turn: bright on the left, or on the right; and their labels."""

    def make(size, seed):
        labels = np.arange(size) % 2
        images = np.random.default_rng(seed).uniform(0, 60, (size, 8, 8, 1)).astype(np.float32)
        images[labels == 0, :, :4] += 150
        images[labels == 1, :, 4:] += 150
        return {"image": images, "label": labels}

    return make
