"""torchvision's Mask R-CNN beside ``kerastoolkit.models.mask_rcnn``: its weights, what it detects and trains, whole and by part.

Its own modules do the work; what is written here is the order in which they are called where the parts are timed one by one.
``_mask_rcnn_toolkit`` tells what a contestant and a part are.
"""

import itertools
import os

import torch
import torchvision
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss, maskrcnn_inference, maskrcnn_loss

LEAST_SCORE = 0.05
LOSSES = {"objectness": "loss_objectness", "anchor_boxes": "loss_rpn_box_reg", "classes": "loss_classifier",
          "boxes": "loss_box_reg", "masks": "loss_mask"}  # fmt: skip


def random_network(classes):
    """maskrcnn_resnet50_fpn as its published weights are loaded: batch norms fixed, and all layers trained but these."""
    torch.manual_seed(0)
    network = MaskRCNN(resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5), num_classes=1 + classes)
    with torch.no_grad():
        for name, statistic in network.named_buffers():  # of the batch norms, which nothing else has
            noise = torch.randn_like(statistic)
            least = 0.3 if name.endswith("bn3.weight") else 1.0  # small at the end of each block, where shortcuts are added
            statistic.copy_(least + 0.2 * noise.abs() if name.endswith(("weight", "running_var")) else 0.1 * noise)
        network.rpn.head.cls_logits.weight.mul_(20)  # so that anchors are told apart, as after training
        network.rpn.head.bbox_pred.weight.mul_(5)
        network.roi_heads.box_predictor.bbox_pred.weight.mul_(5)
    return network


def load(path, classes):
    torch.set_num_threads(os.cpu_count())
    network = random_network(classes)
    network.load_state_dict(torch.load(path))
    return network


@torch.no_grad()
def spread_classes(network, image, spread, candidates):
    """Changes the last layer so that its logits differ by ``spread`` from region to region, none of the classes is preferred, and
    ``candidates`` scores of an image (1, 3, height, width) exceed the least, as many as after training, not all or none."""
    network.eval()
    levels, images, last = network.backbone(image), _images(image), network.roi_heads.box_predictor.cls_score
    features = _box_features(network, levels, network.rpn(images, levels)[0], images.image_sizes)
    logits = last(features)
    last.weight.mul_(spread / logits.std(0).mean())
    last.weight[0] = 0  # the background's logit is the same everywhere
    last.bias.copy_(-(features @ last.weight.T).mean(0))
    shown = last(features)[:, 1:]
    # A score is the least where the background's logit is this.
    background = (shown.exp() / LEAST_SCORE - shown.exp().sum(1, keepdim=True)).clamp(min=1e-30).log()
    background = background.flatten().sort(descending=True).values
    last.bias[0] = background[candidates - 1 : candidates + 1].mean()


@torch.no_grad()
def proposed_objects(network, images):
    """Two objects of each of four sizes for each image, (batch, 8, 4): apart from one another, and where the network proposes
    most boxes, so that as many regions show an object as after training."""
    network.eval()
    levels = network.backbone(images)
    network.rpn._pre_nms_top_n = network.rpn._post_nms_top_n = dict.fromkeys(("training", "testing"), 2000)
    chosen = []
    for boxes in network.rpn(_images(images), levels)[0]:
        overlaps = torchvision.ops.box_iou(boxes, boxes)
        size = torch.bucketize((boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt(), torch.tensor([40.0, 80.0, 160.0])).tolist()
        own = []
        for place in (overlaps >= 0.5).sum(1).argsort(descending=True).tolist():
            if sum(size[other] == size[place] for other in own) < 2 and not (overlaps[place, own] > 0.2).any():
                own.append(place)
        chosen.append(boxes[own])
    return torch.stack(chosen)


def folded(network):
    """With batch norms worked into the convolutions before them."""

    def fold(module):
        for (name, before), (norm_name, norm) in itertools.pairwise(list(module.named_children())):
            if isinstance(before, torch.nn.Conv2d) and hasattr(norm, "running_var"):
                setattr(module, name, fuse_conv_bn_eval(before, norm))
                setattr(module, norm_name, torch.nn.Identity())
        for child in module.children():
            fold(child)

    fold(network.eval().backbone)
    return network


def _images(image):
    return ImageList(image, [tuple(image.shape[2:])] * len(image))


def _box_features(network, levels, proposals, sizes):
    return network.roi_heads.box_head(network.roi_heads.box_roi_pool(levels, proposals, sizes))


def detect(network, image):
    """(1, 3, height, width) -> boxes, scores, labels, masks of 28 x 28."""
    levels, images = network.backbone(image), _images(image)
    proposals, _ = network.rpn(images, levels)
    return network.roi_heads(levels, proposals, images.image_sizes)[0][0]


def inference(network, image, *, compiled=False):
    """``image`` is (1, 3, height, width), on whose order in memory it depends how the network works."""
    network.eval()
    whole = torch.compile(detect, options={"freezing": True}) if compiled else detect
    parts = {} if compiled else {name: torch.inference_mode()(part) for name, part in detecting(network).items()}
    return torch.inference_mode()(lambda: answer(whole(network, image))), parts, {"image": image}


def answer(found):
    """As arrays."""
    return {**{name: value.numpy() for name, value in found.items()}, "masks": found["masks"][:, 0].numpy()}


def detecting(network):
    heads = network.roi_heads

    def backbone(known):
        return {"levels": network.backbone(known["image"]), "sizes": [tuple(known["image"].shape[2:])]}

    def proposals(known):
        return {"proposals": network.rpn(_images(known["image"]), known["levels"])[0]}

    def box_head(known):
        levels, proposals, sizes = (known[name] for name in ("levels", "proposals", "sizes"))
        judged = heads.box_predictor(_box_features(network, levels, proposals, sizes))
        return dict(zip(("boxes", "scores", "labels"), heads.postprocess_detections(*judged, proposals, sizes), strict=True))

    def mask_head(known):
        features = heads.mask_roi_pool(known["levels"], known["boxes"], known["sizes"])
        return {"masks": maskrcnn_inference(heads.mask_predictor(heads.mask_head(features)), known["labels"])}

    return {"backbone": backbone, "proposals": proposals, "box_head": box_head, "mask_head": mask_head}


def losses_of(network, image, targets, proposals=None):
    """The five losses; of ``proposals`` if given in the place of the network's."""
    levels, images = network.backbone(image), _images(image)
    own, losses = network.rpn(images, levels, targets)
    losses.update(network.roi_heads(levels, proposals or own, images.image_sizes, targets)[1])
    return {name: losses[other] for name, other in LOSSES.items()}


def as_targets(boxes, labels, masks):
    """Arrays, whose first dimension is the batch -> what torchvision takes."""
    return [{"boxes": torch.from_numpy(box), "labels": torch.from_numpy(label).long() + 1, "masks": torch.from_numpy(mask)}
            for box, label, mask in zip(boxes, labels, masks, strict=True)]  # fmt: skip


def training(network, images, targets, rate, momentum):
    network.train()
    optimizer = torch.optim.SGD([each for each in network.parameters() if each.requires_grad], rate, momentum)

    def step():
        loss = sum(losses_of(network, images, targets).values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step, trained_parts(network, targets, optimizer), {"image": images}


def trained_parts(network, targets, optimizer):
    heads = network.roi_heads

    def cut(levels):
        return {name: level.detach().requires_grad_() for name, level in levels.items()}

    def backbone(known):
        levels = network.backbone(known["image"])
        of_levels = known.get("of_levels") or [torch.full_like(level, 1e-6) for level in levels.values()]
        torch.autograd.backward(list(levels.values()), of_levels)
        return {"levels": levels, "sizes": [tuple(known["image"].shape[2:])] * len(known["image"])}

    def proposals(known):
        levels = cut(known["levels"])
        found, losses = network.rpn(_images(known["image"]), levels, targets)
        sum(losses.values()).backward()
        return {"proposals": found, "of_levels": [level.grad for level in levels.values()]}

    def box_head(known):
        levels, sizes = cut(known["levels"]), known["sizes"]
        regions, places, labels, wanted = heads.select_training_samples(list(known["proposals"]), targets)
        judged = heads.box_predictor(_box_features(network, levels, regions, sizes))
        sum(fastrcnn_loss(*judged, labels, wanted)).backward()
        shown = [each > 0 for each in labels]
        return {"mask_regions": [region[each] for region, each in zip(regions, shown, strict=True)],
                "mask_places": [place[each] for place, each in zip(places, shown, strict=True)]}  # fmt: skip

    def mask_head(known):
        levels, regions = cut(known["levels"]), known["mask_regions"]
        features = heads.mask_roi_pool(levels, regions, known["sizes"])
        logits = heads.mask_predictor(heads.mask_head(features))
        masks, labels = ([target[name] for target in targets] for name in ("masks", "labels"))
        maskrcnn_loss(logits, regions, masks, labels, known["mask_places"]).backward()
        return {}

    def update(known):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {}

    return {"backbone": backbone, "proposals": proposals, "box_head": box_head, "mask_head": mask_head, "update": update}


class GivenDraws:
    """torchvision's sampler, but for where its random numbers come from: of each kind it takes those with the largest."""

    def __init__(self, numbers, count, share):
        self.numbers, self.count, self.most = numbers, count, int(count * share)

    def __call__(self, labels):
        chosen = [self._of_image(*each) for each in zip(labels, self.numbers, strict=True)]
        return [each[0] for each in chosen], [each[1] for each in chosen]

    def _of_image(self, labels, numbers):
        def largest(wanted, most):
            places = wanted.nonzero()[:, 0]
            places = places[numbers[places].argsort(descending=True)[:most]]
            return torch.zeros_like(wanted).index_fill_(0, places, True)

        found = largest(labels >= 1, self.most)
        return found, largest(labels == 0, self.count - int(found.sum()))
