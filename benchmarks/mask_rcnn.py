"""Seconds an image of Mask R-CNN, answering and in training, and of its parts: this toolkit, and torchvision.

    python benchmarks/mask_rcnn.py [--what inference training] [--rounds 5] [--images 6] [--steps 3] [--only NAME ...]
        [--json FILE]

All have the same weights: those of torchvision's maskrcnn_resnet50_fpn of 91 classes, random, with batch norms that do something
and class logits that let about as many boxes through as a trained network's, loaded by ``mask_rcnn(weights=...)``. All get the
same random images of 512 x 512 pixels, in 32-bit floats on the CPU, with a thread for each core. Before anything is timed, both
must give the same boxes, scores, labels and masks, and for the same draws of anchors and regions the same losses.
Inference is of one image at a time, from the network's input to boxes, labels, scores and masks of 28 x 28: no image is resized
and no mask pasted. 1,000 anchors of a level and 1,000 proposals are judged. ``toolkit`` runs the graph with its batch norms
folded into the convolutions, as an export has them, and with operations in a fixed order. ``torchvision`` runs as it comes, with
its frozen batch norms, in inference mode; ``torchvision_tuned`` with these folded, too, channels last, and with freed memory kept
as the toolkit's commands do; ``torchvision_compiled`` is the same through ``torch.compile`` with frozen weights.
Training is of two images with eight objects each: 2,000 anchors of a level and 2,000 proposals, 256 anchors and 512 regions drawn
of an image, batch norms fixed, all else trained by SGD with momentum. ``toolkit`` runs the compiled step of ``kerastoolkit
train``, with operations in a fixed order and the check for values that are not finite; ``torchvision`` runs a plain step, and
``torchvision_tuned`` the same channels last and with freed memory kept.
They run in turn, each in a process of its own, which warms up first. What counts is the median of an image's time; ratios are
taken within each round. The parts (backbone with pyramid; region proposals; box head, with RoIAlign; mask head, likewise) are
timed one after the other in the same processes, in training each forwards and backwards with its losses, and ``update`` the
optimizer; the whole is timed apart from them.
"""

import copy
import functools
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import _rounds as rounds

SIDE, CLASSES, BATCH, WARM_UP = 512, 90, 2, 3
SPREAD, CANDIDATES = 2.0, 80  # of the class logits from region to region; scores above the least, before suppression
RATE, MOMENTUM = 1e-6, 0.9  # so small a rate that all steps have the same to do
ANCHORS, ANCHOR_SHARE, REGIONS, REGION_SHARE = 256, 0.5, 512, 0.25  # drawn in training; at most that share shows an object
HEADS = ("backbone", "proposals", "box_head", "mask_head")
PARTS = {"inference": HEADS, "training": (*HEADS, "update")}
VERSIONS = ("torch", "torchvision", "tensorflow", "keras")


def prepare(folder):
    """Writes the weights, images and objects, and what must be detected; checks that both sides detect it and have the same
    losses; tells how much that is."""
    # PyTorch and what belongs to it come before TensorFlow: the other way round a process can die in their shared libraries.
    import torch  # isort: skip
    import _mask_rcnn_torch as of_torch  # isort: skip
    import _mask_rcnn_toolkit as of_toolkit
    import numpy as np
    import tensorflow as tf
    from safetensors.torch import save_file

    from kerastoolkit.regions.draws import draws

    generator = np.random.default_rng(0)
    images = np.kron(generator.normal(size=(BATCH, 32, 32, 3)), np.ones((1, SIDE // 32, SIDE // 32, 1)))
    images = (images + generator.normal(0, 0.2, images.shape)).astype(np.float32)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    network = of_torch.random_network(CLASSES)
    of_torch.spread_classes(network, planes[:1], SPREAD, CANDIDATES)
    torch.save(network.state_dict(), folder / "network.pt")
    save_file(network.state_dict(), folder / "network.safetensors")
    boxes = of_torch.proposed_objects(copy.deepcopy(network), planes).numpy()
    labels = generator.integers(0, CLASSES, boxes.shape[:2], dtype=np.int32)
    seeds = generator.integers(0, 2**31 - 1, (BATCH, 2), dtype=np.int32)
    np.savez(folder / "data.npz", images=images, boxes=boxes, labels=labels, masks=ellipses(boxes), seeds=seeds)
    images, targets = data(folder)

    expected = of_torch.inference(network, planes[:1])[0]()
    np.savez(folder / "expected.npz", **expected)
    detector = of_toolkit.load(folder / "network.safetensors", CLASSES, SIDE)
    check(folder, of_toolkit.answer(tf.function(detector)(images[:1])))
    ours, outputs = of_toolkit.losses_of(detector, images, targets)
    proposals = [torch.from_numpy(each[(each[:, 2:] > each[:, :2]).all(1)]) for each in outputs["proposals"]]
    # The toolkit draws from proposals and objects, with numbers for places without a proposal, too.
    padded, objects = outputs["proposals"].shape[1], boxes.shape[1]
    of_anchors, of_regions = (torch.from_numpy(draws(seeds, count, stream=stream).numpy())
                              for stream, count in enumerate((outputs["anchors"].shape[1], padded + objects)))  # fmt: skip
    of_regions = [torch.cat([each[: len(own)], each[padded:]]) for each, own in zip(of_regions, proposals, strict=True)]
    network.train()
    network.rpn.fg_bg_sampler = of_torch.GivenDraws(of_anchors, ANCHORS, ANCHOR_SHARE)
    network.roi_heads.fg_bg_sampler = of_torch.GivenDraws(of_regions, REGIONS, REGION_SHARE)
    with torch.no_grad():
        theirs = of_torch.losses_of(network, planes, torch_targets(targets), proposals)
    for name, loss in theirs.items():
        # Masks are read half a pixel off in torchvision's.
        assert abs(ours[name] - loss) <= (0.05 if name == "masks" else 1e-3) * loss, f"{name}: {ours[name]:.5f} beside {loss:.5f}"
    shown = " and ".join(map(str, (outputs["mask_places"] >= 0).sum(1)))
    return (f"{len(expected['boxes'])} objects are found; in training {shown} of {REGIONS} regions show one\n"
            "losses: " + ", ".join(f"{name} {ours[name]:.4f} and {loss:.4f}" for name, loss in theirs.items()))  # fmt: skip


def ellipses(boxes):
    """(batch, objects, 4) -> masks (batch, objects, side, side) uint8."""
    import numpy as np

    places, first, size = np.arange(SIDE) + 0.5, boxes[..., :2, None], boxes[..., 2:, None] - boxes[..., :2, None]
    x, y = np.moveaxis((2 * (places - first) / size - 1) ** 2, 2, 0)
    return (x[:, :, None] + y[..., None] < 1).astype(np.uint8)


def data(folder):
    """Images (batch, side, side, 3) float32, and the targets of the losses."""
    import numpy as np

    loaded = dict(np.load(folder / "data.npz"))
    return loaded.pop("images"), loaded


def check(folder, found):
    """Raises AssertionError unless each of the objects is one of those that were expected, and each of these is found."""
    import numpy as np

    expected = np.load(folder / "expected.npz")
    same = (np.abs(found["boxes"][:, None] - expected["boxes"]).max(-1) < 0.02) & (found["labels"][:, None] == expected["labels"])
    same &= np.abs(found["scores"][:, None] - expected["scores"]) < 1e-4
    same &= np.abs(found["masks"][:, None] - expected["masks"]).max((2, 3)) < 1e-3
    count = len(expected["boxes"])
    assert same.shape[0] == count > 0, f"{len(same)} objects in the place of {count}"
    assert (same.sum(0) == 1).all() and (same.sum(1) == 1).all(), "the objects are not the same"


def torch_targets(targets):
    import _mask_rcnn_torch as of_torch

    return of_torch.as_targets(*(targets[name] for name in ("boxes", "labels", "masks")))


def toolkit_network(folder):
    from kerastoolkit.determinism import keep_order
    from kerastoolkit.memory import keep_freed_memory

    keep_freed_memory()  # as the command does
    keep_order()
    import _mask_rcnn_toolkit as of_toolkit

    return of_toolkit, of_toolkit.load(folder / "network.safetensors", CLASSES, SIDE)


def toolkit_inference(folder):
    of_toolkit, network = toolkit_network(folder)
    return of_toolkit.inference(network, data(folder)[0][:1])


def toolkit_training(folder):
    of_toolkit, network = toolkit_network(folder)
    return of_toolkit.training(network, *data(folder), RATE, MOMENTUM)


def torch_network(folder, tuned):
    """The network, and its images in the order in memory that they shall have."""
    from kerastoolkit.memory import keep_freed_memory

    if tuned:
        keep_freed_memory()
    import _mask_rcnn_torch as of_torch
    import torch

    network, (images, targets) = of_torch.load(folder / "network.pt", CLASSES), data(folder)
    images = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last already
    if tuned:
        return of_torch, network.to(memory_format=torch.channels_last), images, targets
    return of_torch, network, images.contiguous(), targets


def torch_inference(folder, *, tuned=False, compiled=False):
    of_torch, network, images, _ = torch_network(folder, tuned)
    return of_torch.inference(of_torch.folded(network) if tuned else network, images[:1], compiled=compiled)


def torch_training(folder, *, tuned=False):
    of_torch, network, images, targets = torch_network(folder, tuned)
    return of_torch.training(network, images, torch_targets(targets), RATE, MOMENTUM)


CONTESTANTS = {
    "inference": {"toolkit": toolkit_inference, "torchvision": torch_inference,
                  "torchvision_tuned": functools.partial(torch_inference, tuned=True),
                  "torchvision_compiled": functools.partial(torch_inference, tuned=True, compiled=True)},
    "training": {"toolkit": toolkit_training, "torchvision": torch_training,
                 "torchvision_tuned": functools.partial(torch_training, tuned=True)},
}  # fmt: skip


def seconds(what, name, folder, count):
    """{"whole": median seconds of an image or a step, and of each of its parts}."""
    whole, parts, known = CONTESTANTS[what][name](folder)

    def once():
        found = {}
        for part, run in parts.items():
            began = time.perf_counter()
            known.update(run(known))
            found[part] = time.perf_counter() - began
        began = time.perf_counter()
        result = whole()
        found["whole"] = time.perf_counter() - began
        return result, found

    for _ in range(WARM_UP):
        result, _ = once()
    if what == "inference":
        check(folder, result)
    measured = []
    for _ in range(count):
        result, found = once()
        measured.append(found)
    assert what == "inference" or result > 0  # a number
    return {part: statistics.median(each[part] for each in measured) for part in measured[0]}


def compare(options, what, folder):
    """Prints each round, the ratios within the rounds, and the medians of the parts; returns the medians."""
    contestants = [name for name in options.only if name in CONTESTANTS[what]]
    if not contestants:
        return {}
    count, batch = (options.images, 1) if what == "inference" else (options.steps, BATCH)
    command = [sys.executable, __file__, "--what", what, "--folder", folder, "--count", str(count), "--run"]
    measured = []
    for number in range(options.rounds):
        found = {name: rounds.measure([*command, name], name) for name in contestants}
        measured.append({name: {part: value / batch for part, value in each.items()} for name, each in found.items()})
        told = ", ".join(f"{name} {each['whole']:.3f} s" for name, each in measured[-1].items())
        print(f"{what}, round {number + 1}: {told}", flush=True)
    results = {name: {part: statistics.median(each[name][part] for each in measured) for part in measured[0][name]}
               for name in contestants}  # fmt: skip
    for part in (*PARTS[what], "whole"):
        told = ", ".join(f"{name} {1000 * each[part]:.0f} ms" for name, each in results.items() if part in each)
        print(f"{what}, {part} an image: {told}")
    first = contestants[0]
    for name in contestants[1:]:
        ratios = [each[first]["whole"] / each[name]["whole"] for each in measured]
        median = results[name]["ratio"] = statistics.median(ratios)
        print(f"{what}, seconds of {first} / {name}: median {median:.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    return results


def main():
    everyone = list(dict.fromkeys(name for each in CONTESTANTS.values() for name in each))
    parser = rounds.parser(__doc__, everyone)
    parser.set_defaults(only=everyone)
    parser.add_argument("--what", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--folder", type=Path, help=rounds.argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=rounds.argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return print(json.dumps(seconds(*options.what, options.run, options.folder, options.count)))
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:  # the second where it was built for another PyTorch, such as one without CUDA
        wanted = "pip install -e '.[bench]', with torch and torchvision from one index"
        print(f"torchvision does not load ({error}): {wanted}", file=sys.stderr)
        sys.exit(2)
    print(", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS) + f", {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(prepare(Path(folder)), flush=True)
        results = {what: compare(options, what, folder) for what in options.what}
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
