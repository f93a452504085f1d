"""The losses of Mask R-CNN: He et al. 2017, section 3, https://arxiv.org/abs/1703.06870; those of its first stage: Ren et al.
2015, section 3.1.2, https://arxiv.org/abs/1506.01497."""

from keras import ops

from kerastoolkit import replicas
from kerastoolkit.boxes import pairwise_iou
from kerastoolkit.regions.alignment import roi_align
from kerastoolkit.regions.coding import REGION_WEIGHTS, encode_boxes
from kerastoolkit.regions.draws import draws
from kerastoolkit.regions.matching import BACKGROUND, drawn, matched, taken

ANCHORS, ANCHOR_SHARE = 256, 0.5  # of an image; at most half of them show an object
ANCHOR_IOU, BACKGROUND_IOU = 0.7, 0.3
BEND = 1 / 9  # up to which difference the loss of boxes is quadratic; torchvision's and the authors' value


def mask_rcnn_loss_parts(targets, outputs) -> dict:
    """The five losses whose sum is trained, by name, (batch,) each; their means over the batch are torchvision's losses.

    objectness    binary cross-entropy of the anchors drawn, half of which at most show an object: those that overlap with it by
                  0.7 or, of all, the most
    anchor_boxes  smooth L1 of how those that show an object must change, over the number of all that are drawn
    classes       cross-entropy of the regions' classes
    boxes         smooth L1 of how the regions that show an object must change, over the number of all regions
    masks         binary cross-entropy of the masks of the regions that show an object

    Each is divided by the number of what it is of in the whole batch, so that an image with more of it counts more.

    Input   targets  boxes (batch, objects, 4) float32 xyxy in pixels of the input; labels (batch, objects) int32, -1 where there
                     is none; masks (batch, objects, height, width) 0/1, of the input's size; seeds (batch, 2) int32
            outputs  of ``models.mask_rcnn_training``
    Differs from torchvision: masks are read with pixels' centres at halves, where they are; it has them at whole numbers.
    """
    boxes, known = targets["boxes"], targets["labels"] >= 0
    anchors = outputs["anchors"]
    places = matched(pairwise_iou(anchors, boxes), known, least=ANCHOR_IOU, most_of_background=BACKGROUND_IOU, every_object=True)
    numbers = draws(targets["seeds"], ops.shape(places)[1])
    chosen, used = drawn(places, numbers, ANCHORS, int(ANCHORS * ANCHOR_SHARE))
    places = ops.where(used, taken(places, chosen), BACKGROUND)
    finds, used = places >= 0, ops.cast(used, "float32")
    objectness = _binary(ops.cast(finds, "float32"), taken(outputs["objectness"], chosen)) * used
    wanted = _wanted(taken(boxes, ops.maximum(places, 0)), taken(anchors, chosen), finds)
    of_anchors = _smooth(wanted - taken(outputs["anchor_deltas"], chosen)) * ops.cast(finds, "float32")

    places, regions = outputs["places"], outputs["regions"]
    finds, judged = places >= 0, ops.cast(places >= BACKGROUND, "float32")
    labels = ops.where(finds, taken(targets["labels"], ops.maximum(places, 0)) + 1, 0)
    logarithms = ops.log_softmax(ops.cast(outputs["logits"], "float32"), axis=-1)
    classes = -ops.take_along_axis(logarithms, labels[..., None], axis=-1)[..., 0] * judged
    wanted = _wanted(taken(boxes, ops.maximum(places, 0)), regions, finds, REGION_WEIGHTS)
    said = ops.take_along_axis(outputs["region_deltas"], labels[..., None, None], axis=2)[:, :, 0]
    of_regions = _smooth(wanted - ops.cast(said, "float32")) * ops.cast(finds, "float32")

    places, logits = outputs["mask_places"], outputs["mask_logits"]
    masked = ops.cast(places >= 0, "float32")
    truth = _cut(targets["masks"], outputs["mask_regions"], ops.maximum(places, 0), logits.shape[-1])
    masks = ops.mean(_binary(truth, logits), axis=(2, 3)) * masked
    return {"objectness": _shared(objectness, used), "anchor_boxes": _shared(of_anchors, used),
            "classes": _shared(classes, judged), "boxes": _shared(of_regions, judged),
            "masks": _shared(masks, masked)}  # fmt: skip


def _shared(values, counted):
    """Losses and what they are of, (batch, n) each -> (batch,) whose mean is the sum of all over the number of all."""
    batch, of = replicas.summed([ops.cast(ops.shape(values)[0], "float32"), ops.sum(counted)])
    return ops.sum(values, axis=1) * batch / ops.maximum(of, 1.0)


def _binary(truth, logits):
    logits = ops.cast(logits, "float32")
    return ops.relu(logits) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits)))


def _smooth(difference):
    """(..., 4) -> (...,), summed over the four numbers of a box."""
    size = ops.abs(difference)
    return ops.sum(ops.where(size < BEND, ops.square(difference) / (2 * BEND), size - BEND / 2), axis=-1)


def _wanted(boxes, references, finds, weights=(1.0, 1.0, 1.0, 1.0)):
    """How references must change; 0 where they show nothing, which may be without area."""
    unit = ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
    boxes, references = (ops.where(finds[..., None], each, unit) for each in (boxes, references))
    return encode_boxes(boxes, references, weights)


def _cut(masks, regions, places, size: int):
    """What of the masks of objects lies in regions, (batch, n, size, size) float32, 0..1."""
    batch, objects, height, width = ops.shape(masks)
    count = ops.shape(regions)[1]
    images = ops.reshape(ops.arange(batch, dtype="int32")[:, None] * objects + places, (-1,))
    maps = [ops.reshape(masks, (-1, height, width, 1))]
    found = roi_align(maps, ops.reshape(regions, (-1, 4)), images, ops.zeros_like(images), size)
    return ops.stop_gradient(ops.reshape(found, (batch, count, size, size)))
