"""The regions that the second stage of a detector learns from."""

import keras
from keras import ops

from kerastoolkit.boxes import pairwise_iou
from kerastoolkit.layers.region_proposals import first_known
from kerastoolkit.regions.draws import draws
from kerastoolkit.regions.matching import UNUSED, drawn, matched, taken


@keras.saving.register_keras_serializable(package="kerastoolkit")
class SampleRegions(keras.layers.Layer):
    """Some of the proposed regions and of the objects' own boxes, drawn at random, a share of them regions that show an object:
    Girshick 2015 (Fast R-CNN), section 2.3, https://arxiv.org/abs/1504.08083; He et al. 2017, section 3.1,
    https://arxiv.org/abs/1703.06870.

    A region shows the object that it overlaps with most, from half on (intersection over union), and else the background.

    Input   regions  (batch, n, 4) float, proposals, those without area being none
            boxes    (batch, objects, 4) float, the objects' boxes in pixels
            labels   (batch, objects) int32, their classes; -1 where there is none
            seeds    (batch, 2) int32, on which alone it depends what is drawn for an example
    Output  a dict:
            regions      (batch, count, 4), those that show an object first; zeros where there are not enough
            places       (batch, count) int32, the place among the objects of the one that it shows; -1 for the background, -2
                         where there are not enough
            mask_regions, mask_places  the first of them, as many as show an object in the image where most do, at least 1, and
                         the largest possible number under JAX
            mask_labels  of these the objects' classes, -1 where there is none

    Args:
        count: of an image.
        share: of them, at most, that show an object, 0..1.
    Differs from the paper: Fast R-CNN draws backgrounds that overlap by at least 0.1; here, as in torchvision, any.
    """

    def __init__(self, count: int = 512, share: float = 0.25, **kwargs):
        super().__init__(**kwargs)
        self.count, self.share = count, share

    def call(self, regions, boxes, labels, seeds):
        known = labels >= 0
        boxes = ops.where(known[..., None], boxes, 0.0)
        candidates = ops.stop_gradient(ops.concatenate([regions, boxes], axis=1))
        overlaps = pairwise_iou(candidates, boxes)
        places = matched(overlaps, known, least=0.5, most_of_background=0.5)
        places = ops.where(ops.all(candidates[..., 2:] > candidates[..., :2], axis=-1), places, UNUSED)
        # Of each kind its own numbers: how many regions, or objects, an example is padded to must not change what it draws.
        numbers = [draws(seeds, ops.shape(each)[1], stream) for stream, each in enumerate((regions, boxes), start=1)]
        chosen, used = drawn(places, ops.concatenate(numbers, axis=1), self.count, self._most())
        candidates, places = taken(candidates, chosen), taken(places, chosen)
        candidates, places = ops.where(used[..., None], candidates, 0.0), ops.where(used, places, UNUSED)
        mask_places = places[:, : self._most()]
        mask_labels = ops.where(mask_places >= 0, taken(labels, ops.maximum(mask_places, 0)), -1)
        firsts = first_known(candidates[:, : self._most()], mask_places >= 0, mask_places, mask_labels)
        return {"regions": candidates, "places": places,
                **dict(zip(("mask_regions", "mask_places", "mask_labels"), firsts, strict=True))}  # fmt: skip

    def _most(self) -> int:
        return max(1, int(self.count * self.share))

    def compute_output_spec(self, regions, boxes, labels, seeds):
        batch = regions.shape[0]
        shapes = {"regions": (self.count, 4), "places": (self.count,), "mask_regions": (None, 4), "mask_places": (None,),
                  "mask_labels": (None,)}  # fmt: skip
        return {name: keras.KerasTensor((batch, *shape), dtype="float32" if shape[-1] == 4 else "int32")
                for name, shape in shapes.items()}  # fmt: skip

    def get_config(self):
        return {**super().get_config(), "count": self.count, "share": self.share}
