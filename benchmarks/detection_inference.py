"""Images a second through YOLOv8 nano with suppression of boxes: this toolkit's SavedModel, ONNX Runtime, and PyTorch.

    python benchmarks/detection_inference.py [--rounds 5] [--images 60] [--only NAME ...] [--json FILE]

All have the same weights, random ones of 80 classes, and get the same letterboxed image of 640 x 640 pixels (float32, 0..255;
the decoding of a file is left out), one at a time, and give the boxes that class-wise non-maximum suppression leaves: scores
above 0.25, overlaps of at most 0.7. The last biases are chosen so that 100 scores are high enough. All run in 32-bit floats on
the CPU, with a thread for each core.
``toolkit`` asks the endpoint ``serve_decoded`` of what ``kerastoolkit export`` writes, which also brings the boxes to the pixels
of the image's own size. ``onnxruntime`` runs a graph that PyTorch exported, batch norm folded into the convolutions, ONNX's
NonMaxSuppression at its end. ``torch`` is compiled by ``torch.compile`` with frozen weights, batch norm folded, channels last,
with suppression in a few tensor operations; ``torch_eager``, the same without compiling, runs only where it is asked for.
They run in turn, each in a process of its own, which warms up first and whose boxes must be those of the others to 0.01 pixels.
What counts is the median of an image's time; the ratios are taken within each round.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import _rounds as rounds

SIDE, CLASSES, CONF, IOU, CANDIDATES, LARGEST, WARM_UP = 640, 80, 0.25, 0.7, 100, 300, 10


def prepare(folder):
    """Writes what the contestants load: the image, the network in three forms, and the boxes that all must find; returns how many
    these are."""
    import kerastoolkit  # noqa: F401  # isort: skip  # before Keras, because it turns oneDNN on

    import numpy as np
    import tensorflow as tf
    import torch
    from _yolov8_torch import folded, from_keras

    from kerastoolkit.data.preprocessing import intensities_sized
    from kerastoolkit.formats.saved_model import endpoints_of, write_endpoints
    from kerastoolkit.models import yolov8n
    from kerastoolkit.serving.model import serving_model
    from kerastoolkit.tasks.detection import detection

    generator = np.random.default_rng(0)
    blocks = np.kron(generator.uniform(0, 255, (1, 20, 20, 3)), np.ones((1, SIDE // 20, SIDE // 20, 1)))
    image = np.clip(blocks + generator.normal(0, 20, blocks.shape), 0, 255).astype(np.float32)
    network = yolov8n(classes=CLASSES, input_shape=(SIDE, SIDE, 3))
    for variable in network.variables:
        noise = generator.normal(size=variable.shape)
        if variable.name == "kernel":
            variable.assign(noise * np.sqrt(2 / np.prod(variable.shape[:-1])))  # He: the signal keeps its size
        elif variable.name in ("gamma", "moving_variance"):
            variable.assign(1 + 0.2 * np.abs(noise))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(0.1 * noise)
    logits = np.sort(np.asarray(network(image / 255, training=False)["logits"]).ravel())
    shift = np.log(CONF / (1 - CONF)) - logits[-CANDIDATES - 1 : -CANDIDATES + 1].mean()
    for stride in (8, 16, 32):
        bias = network.get_layer(f"class{stride}_out").bias
        bias.assign(bias + shift)

    task = detection([str(number) for number in range(CLASSES)], SIDE, SIDE)
    serving = serving_model(preprocess=intensities_sized(SIDE, SIDE), network=network, task=task)
    write_endpoints(endpoints_of(serving, task), folder / "saved_model")
    np.save(folder / "image.npy", image)
    twin = folded(from_keras(network))
    torch.save(twin, folder / "network.pt")
    write_onnx(twin, torch.from_numpy(image), folder / "network.onnx")
    loaded = tf.saved_model.load(folder / "saved_model")
    answers = {name: value[0].numpy() for name, value in serve_decoded(loaded)(image).items()}
    np.savez(folder / "expected.npz", **answers)
    return int(answers["count"])


def serve_decoded(loaded):
    import tensorflow as tf

    settings = {"size": tf.constant([[SIDE, SIDE]]), "conf": tf.constant([CONF]), "iou": tf.constant([IOU])}
    return lambda image: loaded.signatures["serve_decoded"](image=tf.convert_to_tensor(image), **settings)


def toolkit(folder):
    import tensorflow as tf

    serve = serve_decoded(tf.saved_model.load(folder / "saved_model"))

    def detect(image):
        return (value[0].numpy() for value in map(serve(image).get, ("boxes", "scores", "labels")))

    return detect


def write_onnx(network, image, path):
    """The network with ONNX's NonMaxSuppression; its last layers keep the order of a convolution's outputs, which the operation
    wants, and which is a twentieth faster than to turn them around."""
    import onnx
    import torch
    from _yolov8_torch import BINS, STRIDES, level_points
    from onnx import TensorProto, helper

    class Planes(torch.nn.Module):
        """(1, height, width, 3), 0..255 -> boxes (1, cells, 4), scores (1, classes, cells)."""

        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, image):
            levels = self.network.levels(image.permute(0, 3, 1, 2) / 255)
            points = torch.cat([level_points(x, stride) for x, stride in zip(levels, STRIDES, strict=True)]).T
            logits, distributions = (
                torch.cat([getattr(self.network, f"{branch}{stride}")(x).flatten(2)
                           for x, stride in zip(levels, STRIDES, strict=True)], dim=2) for branch in ("class", "box")
            )  # fmt: skip
            probabilities = distributions.unflatten(1, (4, BINS)).softmax(2)
            distances = (probabilities * self.network.distances[:, None]).sum(2) * points[2]
            boxes = torch.cat([points[:2] - distances[:, :2], points[:2] + distances[:, 2:]], dim=1)
            return boxes.transpose(1, 2), logits.sigmoid()

    torch.onnx.export(Planes().eval(), (image,), path, dynamo=True, verbose=False, external_data=False,
                      input_names=["image"], output_names=["boxes", "scores"])  # fmt: skip
    model = onnx.load(path)
    settings = {"most": [LARGEST], "iou": [IOU], "conf": [CONF]}
    for name, value in settings.items():
        kind = TensorProto.INT64 if name == "most" else TensorProto.FLOAT
        model.graph.initializer.append(helper.make_tensor(name, kind, [1], value))
    model.graph.node.append(helper.make_node("NonMaxSuppression", ["boxes", "scores", *settings], ["chosen"]))
    model.graph.output.append(helper.make_tensor_value_info("chosen", TensorProto.INT64, [None, 3]))
    onnx.save(model, path)


def onnx_runtime(folder):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(folder / "network.onnx", options, providers=["CPUExecutionProvider"])

    def detect(image):
        boxes, scores, chosen = session.run(["boxes", "scores", "chosen"], {"image": image})
        _, labels, cells = chosen.T
        scores = scores[0, labels, cells]
        order = (-scores).argsort()[:LARGEST]
        return boxes[0, cells[order]], scores[order], labels[order]

    return detect


def pytorch(folder, compiled=True):
    import torch

    torch.set_num_threads(os.cpu_count())
    network = torch.load(folder / "network.pt", weights_only=False)

    def scored(image):
        outputs = network(image.permute(0, 3, 1, 2) / 255)
        return outputs["boxes"], outputs["logits"].sigmoid()

    if compiled:
        scored = torch.compile(scored, options={"freezing": True})

    def suppressed(boxes, scores):
        cells, labels = (scores > CONF).nonzero(as_tuple=True)
        scores, order = scores[cells, labels].sort(descending=True)
        boxes, labels = boxes[cells[order]], labels[order]
        inner = torch.minimum(boxes[:, None, 2:], boxes[:, 2:]) - torch.maximum(boxes[:, None, :2], boxes[:, :2])
        both, areas = inner.clamp_(min=0).prod(-1), (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        overlap = (both > IOU * (areas[:, None] + areas - both)) & (labels[:, None] == labels)
        overlap = overlap.triu(1)  # of the better with the worse
        # What no box overlaps that stays itself: a few rounds reach what one box after the other gives (Cluster-NMS: Zheng et al.
        # 2020, https://arxiv.org/abs/2005.03572).
        before, kept = None, torch.ones_like(labels, dtype=torch.bool)
        while before is None or not torch.equal(before, kept):
            before, kept = kept, ~(overlap & kept[:, None]).any(0)
        return boxes[kept][:LARGEST], scores[kept][:LARGEST], labels[kept][:LARGEST]

    @torch.no_grad()
    def detect(image):
        boxes, scores = scored(torch.from_numpy(image))
        return (value.numpy() for value in suppressed(boxes[0], scores[0]))

    return detect


def pytorch_eager(folder):
    return pytorch(folder, compiled=False)


CONTESTANTS = {"toolkit": toolkit, "onnxruntime": onnx_runtime, "torch": pytorch, "torch_eager": pytorch_eager}


def images_per_second(contestant, folder, images):
    import numpy as np

    detect, image = contestant(folder), np.load(folder / "image.npy")
    for _ in range(WARM_UP):
        found = detect(image)
    check(folder, *found)
    seconds = []
    for _ in range(images):
        began = time.perf_counter()
        detect(image)
        seconds.append(time.perf_counter() - began)
    return 1 / statistics.median(seconds)


def check(folder, boxes, scores, labels):
    """Raises AssertionError unless each of the boxes is one of those that were expected, and each of these is found."""
    import numpy as np

    expected = np.load(folder / "expected.npz")
    same = (np.abs(boxes.clip(0, SIDE)[:, None] - expected["boxes"]).max(-1) < 0.01) & (labels[:, None] == expected["labels"])
    same &= np.abs(scores[:, None] - expected["scores"]) < 1e-4
    assert same.shape[0] == same.shape[1] == expected["count"], f"{len(boxes)} boxes in the place of {expected['count']}"
    assert (same.sum(0) == 1).all() and (same.sum(1) == 1).all(), "the boxes are not the same"


def main():
    parser = rounds.parser(__doc__, CONTESTANTS)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--folder", type=Path, help=rounds.argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return print(images_per_second(CONTESTANTS[options.run], options.folder, options.images))
    with tempfile.TemporaryDirectory() as folder:
        print(f"{prepare(Path(folder))} boxes stay of {CANDIDATES}", flush=True)
        rounds.compare(__file__, options, ["--images", str(options.images), "--folder", folder], "images_per_second")


if __name__ == "__main__":
    main()
