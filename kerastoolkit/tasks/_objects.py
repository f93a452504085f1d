"""What the tasks that find objects tell of them: rows for tables, and COCO's file of results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerastoolkit.metrics.coco import coco_results


def coco_results_file(names: Sequence[str], answers: Sequence[dict[str, Any]], category_ids: Sequence[int]) -> dict[str, bytes]:
    """``Task.summary``: the name of the file and its contents.

    Args:
        names: of the images' files.
        answers: of each image boxes, scores and labels, and rles and size where there are masks.
        category_ids: of each class the id that it has in its COCO file.
    """
    # COCO's own files are called by their ids. Files of one name from several folders are told apart by their paths.
    called = [int(Path(name).stem) if Path(name).stem.isdecimal() else Path(name).name for name in names]
    often = {each for each, count in Counter(called).items() if count > 1}
    records = []
    for name, image, each in zip(names, called, answers, strict=True):
        masks = {key: each[key] for key in ("rles", "size")} if "rles" in each else {}
        image = name if image in often else image
        records += coco_results(image, each["boxes"], each["scores"], each["labels"], category_ids, **masks)
    return {"coco_results.json": json.dumps(records).encode()}


def objects_row(name: str, found: Sequence[dict[str, Any]], size: Sequence[int], called: str) -> dict[str, Any]:
    """``Task.tell``: the row of an image.

    Args:
        name: of the image's file.
        found: of each object its class and what else is told of it.
        size: height and width of the image.
        called: what the row calls the objects.
    """
    counts = Counter(each["class"] for each in found)
    return {"input": name, "objects": len(found), "what": ", ".join(f"{count} {each}" for each, count in counts.most_common()),
            "height": int(size[0]), "width": int(size[1]), called: list(found)}  # fmt: skip
