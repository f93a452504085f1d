"""Boxes of two-stage detectors on the other backends, in processes of their own, against TensorFlow here."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

# Run there and here: all functions and layers on the same numbers, as a dict of arrays.
ANSWERS = """
import keras
import numpy as np
from keras import ops
from kerastoolkit.layers import BestBoxes, ClassMasks, PyramidAnchors, RegionProposals, RoiAlign, SampleRegions
from kerastoolkit.regions.alignment import pyramid_level, roi_align
from kerastoolkit.regions.coding import decode_boxes, encode_boxes
from kerastoolkit.regions.draws import draws
from kerastoolkit.regions.matching import drawn, matched
from kerastoolkit.regions.suppression import best_apart

def random_boxes(random, *shape):
    first = random.uniform(-5, 50, (*shape, 2))
    return np.concatenate([first, first + random.uniform(2, 30, (*shape, 2))], axis=-1).astype("float32")

def answers():
    random = np.random.default_rng(0)
    tensor = ops.convert_to_tensor
    boxes, others = tensor(random_boxes(random, 2, 40)), tensor(random_boxes(random, 2, 40))
    known = tensor(random.uniform(size=(2, 40)) < 0.8)
    overlaps = tensor((random.integers(0, 11, (2, 40, 5)) / 10).astype("float32"))
    objects = tensor([[True, True, False, True, False], [False] * 5])
    seeds = tensor([[1, -2], [2**31 - 1, 5]], "int32")
    numbers = draws(seeds, 40, 3)
    places = matched(overlaps, objects, least=0.7, most_of_background=0.3, every_object=True)
    levels = [tensor(random.normal(size=(2, 64 // stride, 96 // stride, 3)).astype("float32")) for stride in (4, 8)]
    image = ops.zeros((2, 64, 96, 3))
    found = {
        "encoded": encode_boxes(boxes, others), "decoded": decode_boxes(encode_boxes(boxes, others), others),
        "numbers": numbers, "places": places, "best apart": best_apart(boxes, known, 0.3),
        "level": pyramid_level(boxes * 20, 2, 5),
        "whole maps": roi_align([tensor(random.integers(0, 2, (2, 30, 40, 1)).astype("uint8"))], boxes[0],
                                ops.convert_to_tensor([0, 1] * 20, "int32"), ops.zeros((40,), "int32"), 3),
        "no boxes": roi_align(levels, boxes[0, :0], places[0, :0], places[0, :0], 3),
    }
    chosen, found["used"] = drawn(places, numbers, 16, 4)
    found["drawn"] = ops.where(found["used"], chosen, -1)  # what is not used has no meaning
    anchors = PyramidAnchors([16, 32])(levels, image)
    counts = [each.shape[1] for each in anchors]
    objectness = [tensor(random.normal(size=(2, count)).astype("float32")) for count in counts]
    deltas = [tensor(random.normal(scale=0.3, size=(2, count, 4)).astype("float32")) for count in counts]
    regions = RegionProposals(100, 50)(objectness, deltas, anchors, image)
    labels = tensor([[2, 0, -1, 1], [-1] * 4], "int32")
    found.update(anchors=ops.concatenate(anchors, axis=1), regions=regions)
    found.update({f"sampled {name}": each for name, each in SampleRegions(32)(regions, boxes[:, :4], labels, seeds).items()})
    logits, changes = random.normal(size=(2, 50, 4)).astype("float32"), random.normal(size=(2, 50, 4, 4)).astype("float32")
    n = regions.shape[1]
    found.update(BestBoxes()(regions, tensor(logits[:, :n]), tensor(changes[:, :n]), image))
    found.update({f"aligned {aligned}": RoiAlign(3, aligned)(levels, regions) for aligned in (True, False)})
    layer, regions_of_levels = ClassMasks(3), tensor(random.normal(size=(8, 5, 5, 3)).astype("float32"))
    layer.build((None, 5, 5, 3))
    layer.set_weights([random.normal(size=weight.shape) for weight in layer.weights])
    found["masks"] = layer(regions_of_levels, labels)
    return {name: ops.convert_to_numpy(each) for name, each in found.items()}
"""
TOLD = """
import json, sys
assert "tensorflow" not in sys.modules, "regions must not need TensorFlow"
print(json.dumps({name: [each.shape, each.dtype.name, each.tolist()] for name, each in answers().items()}))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_regions_are_the_same_on_the_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, "-c", ANSWERS + TOLD], env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr[-2000:]
    namespace: dict = {}
    exec(ANSWERS, namespace)
    told, expected = json.loads(result.stdout.splitlines()[-1]), namespace["answers"]()
    assert told.keys() == expected.keys()
    for name, each in expected.items():
        shape, dtype, values = told[name]
        values = np.array(values, dtype).reshape(shape)
        if backend == "jax" and each.ndim > 1:
            values = values[:, : each.shape[1]]  # it keeps the rows behind, too
        assert (values.shape, dtype) == (each.shape, each.dtype.name), name
        np.testing.assert_allclose(values, each, rtol=1e-4, atol=1e-4, err_msg=name)
