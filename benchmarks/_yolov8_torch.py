"""YOLOv8 and its loss in PyTorch, the twins of ``kerastoolkit.models.yolov8`` and ``kerastoolkit.losses.yolov8``.

Modules are called as the layers of the Keras network, with dots for underscores, so that weights are copied by name. Those that
Python could not call so, because ``in`` is a word of its own and names do not begin with digits, have an underscore more.
"""

import math

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

STRIDES, BINS = (8, 16, 32), 16
# Of each size: the factor of the repetitions, the factor of the channels, and the most channels before that factor.
SIZES = {"n": (1 / 3, 0.25, 1024), "s": (1 / 3, 0.5, 1024), "m": (2 / 3, 0.75, 768), "l": (1.0, 1.0, 512), "x": (1.0, 1.25, 512)}
BOX, CLASSES, DISTRIBUTION = 7.5, 0.5, 1.5  # how much the three losses count


class Convolution(nn.Module):
    """Convolution, batch normalization and SiLU."""

    def __init__(self, before, after, kernel, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-3, momentum=0.03)

    def forward(self, x):
        # In training the gradient needs what stood there before, and autograd would copy it first.
        return functional.silu(self.bn(self.conv(x)), inplace=not self.training)


class CrossStage(nn.ModuleDict):
    """Half of the channels pass by; the other half goes through the bottlenecks, and what each gives is kept."""

    def __init__(self, before, after, repeats, residual):
        hidden = after // 2
        super().__init__({
            "in_": Convolution(before, 2 * hidden, 1),
            **{f"_{number}{half}": Convolution(hidden, hidden, 3) for number in range(repeats) for half in "ab"},
            "out": Convolution((2 + repeats) * hidden, after, 1),
        })  # fmt: skip
        self.repeats, self.residual = repeats, residual

    def forward(self, x):
        kept = [self["in_"](x)]
        x = kept[0].chunk(2, dim=1)[1]
        for number in range(self.repeats):
            inner = self[f"_{number}b"](self[f"_{number}a"](x))
            x = x + inner if self.residual else inner
            kept.append(x)
        return self["out"](torch.cat(kept, dim=1))


class PyramidPooling(nn.ModuleDict):
    """Three maxima over 5 x 5, one after the other, which are those over 5, 9 and 13."""

    def __init__(self, channels):
        super().__init__({"in_": Convolution(channels, channels // 2, 1), "out": Convolution(2 * channels, channels, 1)})

    def forward(self, x):
        pooled = [self["in_"](x)]
        for _ in range(3):
            pooled.append(functional.max_pool2d(pooled[-1], 5, stride=1, padding=2))
        return self["out"](torch.cat(pooled, dim=1))


class YOLOv8(nn.Module):
    """YOLOv8 of a size ("n", "s", "m", "l" or "x").

    Input   image  (batch, 3, height, width) float32, 0..1
    Output  a dict, as the Keras network's: boxes (batch, cells, 4) in pixels, logits (batch, cells, classes), distributions
            (batch, cells, 4, 16) and points (batch, cells, 3)
    """

    def __init__(self, size, classes):
        super().__init__()
        depth, width, most = SIZES[size]
        c2, c3, c4, c5 = (-(-int(min(count, most) * width) // 8) * 8 for count in (128, 256, 512, 1024))
        few, many = (max(1, round(count * depth)) for count in (3, 6))
        self.stem = Convolution(3, -(-int(64 * width) // 8) * 8, 3, stride=2)
        self.stage2_down = Convolution(self.stem.conv.out_channels, c2, 3, stride=2)
        self.stage2 = CrossStage(c2, c2, few, residual=True)
        self.stage3_down = Convolution(c2, c3, 3, stride=2)
        self.stage3 = CrossStage(c3, c3, many, residual=True)
        self.stage4_down = Convolution(c3, c4, 3, stride=2)
        self.stage4 = CrossStage(c4, c4, many, residual=True)
        self.stage5_down = Convolution(c4, c5, 3, stride=2)
        self.stage5 = CrossStage(c5, c5, few, residual=True)
        self.pooling = PyramidPooling(c5)
        self.up4 = CrossStage(c5 + c4, c4, few, residual=False)
        self.up3 = CrossStage(c4 + c3, c3, few, residual=False)
        self.down4_half = Convolution(c3, c3, 3, stride=2)
        self.down4 = CrossStage(c3 + c4, c4, few, residual=False)
        self.down5_half = Convolution(c4, c4, 3, stride=2)
        self.down5 = CrossStage(c4 + c5, c5, few, residual=False)
        box_width, class_width = max(16, c3 // 4, 4 * BINS), max(c3, min(classes, 100))
        for stride, channels in zip(STRIDES, (c3, c4, c5), strict=True):
            self.add_module(f"box{stride}", branch(channels, box_width, 4 * BINS, 1.0))
            self.add_module(f"class{stride}", branch(channels, class_width, classes, math.log(5 / classes / (640 / stride) ** 2)))
        self.register_buffer("distances", torch.arange(BINS, dtype=torch.float32))

    def forward(self, image):
        levels = self.levels(image)
        points = torch.cat([level_points(x, stride) for x, stride in zip(levels, STRIDES, strict=True)])
        # (b, c, h, w) in channels last memory is (b, h, w, c) already.
        logits = torch.cat([getattr(self, f"class{stride}")(x).permute(0, 2, 3, 1).flatten(1, 2)
                            for x, stride in zip(levels, STRIDES, strict=True)], dim=1)  # fmt: skip
        distributions = torch.cat([getattr(self, f"box{stride}")(x).permute(0, 2, 3, 1).flatten(1, 2)
                                   for x, stride in zip(levels, STRIDES, strict=True)], dim=1)  # fmt: skip
        distributions = distributions.unflatten(2, (4, BINS))
        distances = distributions.softmax(-1) @ self.distances * points[:, 2:]
        boxes = torch.cat([points[:, :2] - distances[..., :2], points[:, :2] + distances[..., 2:]], dim=-1)
        return {"boxes": boxes, "logits": logits, "distributions": distributions, "points": points.expand(len(boxes), -1, -1)}

    def levels(self, image):
        """What the heads begin with: 1/8, 1/16 and 1/32 of the image's size."""
        p3 = self.stage3(self.stage3_down(self.stage2(self.stage2_down(self.stem(image)))))
        p4 = self.stage4(self.stage4_down(p3))
        p5 = self.pooling(self.stage5(self.stage5_down(p4)))
        n4 = self.up4(torch.cat([doubled(p5), p4], dim=1))
        n3 = self.up3(torch.cat([doubled(n4), p3], dim=1))
        n4 = self.down4(torch.cat([self.down4_half(n3), n4], dim=1))
        return n3, n4, self.down5(torch.cat([self.down5_half(n4), p5], dim=1))


def branch(before, width, outputs, bias):
    made = nn.Sequential()
    made.add_module("a", Convolution(before, width, 3))
    made.add_module("b", Convolution(width, width, 3))
    made.add_module("out", nn.Conv2d(width, outputs, 1))
    nn.init.constant_(made.out.bias, bias)
    return made


def doubled(x):
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def level_points(level, stride):
    """(cells, 3): x and y of the centres of a level's cells in pixels, and the stride."""
    height, width = level.shape[2:]
    y, x = ((torch.arange(side, dtype=torch.float32) + 0.5) * stride for side in (height, width))
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, stride)], dim=-1).flatten(0, 1)


def from_keras(model):
    """The twin of a network that ``kerastoolkit.models.yolov8n`` or its larger sisters built, with the same weights."""
    network = YOLOv8(model.name.removeprefix("yolov8"), model.output["logits"].shape[-1])
    with torch.no_grad():
        for path, module in network.named_modules():
            if not isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
                continue
            own = [module.weight, module.bias] if module.bias is not None else [module.weight]
            if isinstance(module, nn.BatchNorm2d):
                own += [module.running_mean, module.running_var]
            values = model.get_layer(path.replace(".", "_").replace("__", "_")).get_weights()
            for mine, value in zip(own, map(torch.from_numpy, values), strict=True):
                mine.copy_(value.permute(3, 2, 0, 1) if value.dim() == 4 else value)
    return network


def folded(network):
    """The network for inference alone: each batch normalization becomes part of the convolution before it. Changes it."""
    network.eval()
    for module in network.modules():
        if isinstance(module, Convolution):
            module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
    return network.requires_grad_(False).to(memory_format=torch.channels_last)


def loss_parts(targets, outputs, most_cells=10, alpha=0.5, beta=6.0):
    """The three losses of a batch, each with its gain: the means of what ``kerastoolkit.losses.yolov8`` tells of each example."""
    logits, points = outputs["logits"], outputs["points"][0]
    boxes, scores, weights, known = assigned(targets, outputs, most_cells, alpha, beta)
    total = weights.sum().clamp(min=1.0)
    of_classes = functional.binary_cross_entropy_with_logits(logits, scores, reduction="none").sum(-1)

    example, cell = weights.nonzero(as_tuple=True)  # few of the cells have an object, and only they learn boxes
    weights, boxes, centres, strides = weights[example, cell], boxes[example, cell], points[cell, :2], points[cell, 2:]
    distances = torch.cat([centres - boxes[:, :2], boxes[:, 2:] - centres], dim=-1) / strides
    distances = distances.clamp(0.0, BINS - 1.0).flatten()
    logs = outputs["distributions"][example, cell].log_softmax(-1).flatten(0, 1)  # (objects' cells * 4, bins)
    below = distances.long().clamp(max=BINS - 2)
    nearness = distances - below
    of_sides = -(1.0 - nearness) * logs.gather(1, below[:, None])[:, 0] - nearness * logs.gather(1, below[:, None] + 1)[:, 0]
    of_boxes = 1.0 - complete_iou(outputs["boxes"][example, cell], boxes)
    return {
        "box": BOX * (weights * of_boxes).sum() / total,
        "classes": CLASSES * (of_classes * known).sum() / total,
        "distribution": DISTRIBUTION * (weights * of_sides.unflatten(0, (-1, 4)).mean(-1)).sum() / total,
    }


@torch.no_grad()
def assigned(targets, outputs, most_cells, alpha, beta):
    """Task-aligned assignment: of each cell its object's box, what its classes should be, the score of its object's class, and
    whether it is told at all that it has none (it is not in a crowd)."""
    objects, labels, points = targets["boxes"], targets["labels"].long(), outputs["points"][0]
    probabilities = outputs["logits"].sigmoid()
    overlaps = pairwise_iou(objects, outputs["boxes"])  # (b, most, cells)
    (left, top, right, bottom), (x, y, _) = objects[:, :, None].unbind(-1), points.unbind(-1)
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    classes = labels.clamp(min=0)
    belief = probabilities.gather(2, classes[:, None].expand(-1, len(points), -1)).transpose(1, 2)
    alignment = belief.pow(alpha) * overlaps.pow(beta) * (inside & (labels >= 0)[..., None])
    chosen = (alignment >= alignment.topk(most_cells).values[..., -1:]) & (alignment > 0)
    owner = overlaps.where(chosen, -1.0).argmax(1, keepdim=True)  # (b, 1, cells): of several the one that it overlaps most
    chosen &= torch.zeros_like(chosen).scatter_(1, owner, True)
    alignment = alignment * chosen
    scale = (overlaps * chosen).amax(2, keepdim=True) / (alignment.amax(2, keepdim=True) + 1e-18)
    weights = (alignment * scale).amax(1)
    owner = owner[:, 0]
    boxes = objects.gather(1, owner[..., None].expand(-1, -1, 4))
    scores = torch.zeros_like(probabilities).scatter_(2, classes.gather(1, owner)[..., None], weights[..., None])
    known = ~(inside & targets["crowd"][..., None]).any(1) | (weights > 0)
    return boxes, scores, weights, known


def pairwise_iou(boxes, others):
    """(b, n, 4), (b, m, 4) -> (b, n, m)."""
    left, top, right, bottom = boxes[:, :, None].unbind(-1)  # (b, n, 1)
    other_left, other_top, other_right, other_bottom = others[:, None].unbind(-1)  # (b, 1, m)
    width = (torch.minimum(right, other_right) - torch.maximum(left, other_left)).clamp_(min=0.0)
    height = (torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)).clamp_(min=0.0)
    both = width.mul_(height)
    areas = (right - left) * (bottom - top) + (other_right - other_left) * (other_bottom - other_top)
    return both / (areas - both).clamp_(min=1e-7)


def complete_iou(boxes, others):
    """(n, 4), (n, 4) -> (n,): Zheng et al. 2019, equations 7 to 10, https://arxiv.org/abs/1911.08287."""
    size, other_size = boxes[:, 2:] - boxes[:, :2], others[:, 2:] - others[:, :2]
    both = (torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])).clamp(min=0.0).prod(-1)
    iou = both / (size.prod(-1) + other_size.prod(-1) - both + 1e-7)
    around = (torch.maximum(boxes[:, 2:], others[:, 2:]) - torch.minimum(boxes[:, :2], others[:, :2])).square().sum(-1)
    apart = (boxes[:, :2] + boxes[:, 2:] - others[:, :2] - others[:, 2:]).square().sum(-1) / 4
    angles = torch.atan2(other_size[:, 0], other_size[:, 1]) - torch.atan2(size[:, 0], size[:, 1])
    aspect = 4 / math.pi**2 * angles.square()
    with torch.no_grad():
        share = aspect / (1 - iou + aspect + 1e-7)
    return iou - apart / (around + 1e-7) - share * aspect
