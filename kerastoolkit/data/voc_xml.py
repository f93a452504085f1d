"""Boxes from a folder as Pascal VOC has them: an XML file for each image.

The format is that of Everingham et al. 2010, "The Pascal visual object classes (VOC) challenge", and its development kit,
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from kerastoolkit.data.boxed_images import BoxedFolder, BoxedImage, boxed_image, image_size
from kerastoolkit.data.coco_files import Faults
from kerastoolkit.data.coco_objects import box_within
from kerastoolkit.data.image_folders import with_cuts
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.image_files import SUFFIXES

ANNOTATIONS, IMAGES, LISTS = "Annotations", "JPEGImages", "ImageSets/Main"
LISTED = {"train": ("train", "trainval"), "validation": ("val",), "test": ("test",)}  # the lists of a split, the best first
SIDES = ("xmin", "ymin", "xmax", "ymax")


def has_voc_layout(path: str | Path) -> bool:
    """Whether a folder has Annotations with XML files in it, and JPEGImages."""
    root = Path(path).expanduser()
    return (root / IMAGES).is_dir() and any((root / ANNOTATIONS).glob("*.xml"))


def voc_xml(path: str | Path, *, validation: float, limit: int | None) -> BoxedFolder:
    """Images in JPEGImages with the objects of Annotations/NAME.xml; the classes are the names of objects, in sorted order.

    Pascal VOC counts pixels from 1 and its boxes hold their last pixel: xmin and ymin are one less here. Difficult objects, which
    Pascal VOC leaves out of its scores, are crowd: no targets, and ignored in evaluation.

    The splits are lists of names in ImageSets/Main: train.txt or trainval.txt, val.txt, test.txt. Without lists all images are
    for training. Without test, val is the test split; what does not exist is cut from train by the hash of an image's name, a
    tenth for the test split, then ``validation``.

    Args:
        path: the folder.
        validation: a fraction below 1, a count, or 0.
        limit: the first so many images of each split are used, and no other image files checked; None for all. The XML files are
            read in any case, because they tell the classes.
    Raises:
        InputError: there are no such images.
    """
    root = Path(path).expanduser()
    listed = {split: _listed(root, lists) for split, lists in LISTED.items()}
    names = {split: found for split, found in listed.items() if found}
    if not names:
        names = {"train": sorted(file.stem for file in (root / ANNOTATIONS).glob("[!.]*.xml"))}
    if "train" not in names:
        raise InputError(f"{root / LISTS}: needs train.txt or trainval.txt, got lists of {' and '.join(names)} alone")
    if "validation" in names and "test" not in names:
        names["test"] = names.pop("validation")
    needed = 1 + ("test" not in names) + ("validation" not in names)
    if len(names["train"]) < needed:
        raise InputError(f"{root}: must have at least {needed} training images, got {len(names['train'])}")
    faults: Faults = []
    trees = {name: _read(root / ANNOTATIONS / f"{name}.xml", faults) for each in names.values() for name in each}
    objects = (each for tree in trees.values() if tree is not None for each in tree.findall("object"))
    classes = tuple(sorted(set(map(_name, objects)) - {""}))
    files = {name: _image_file(root, name) for name in trees}
    name_of = {file: name for name, file in files.items()}
    examples = with_cuts({split: ([files[name] for name in each], np.zeros(len(each), np.int64))
                          for split, each in names.items()}, validation, root)  # fmt: skip
    splits = {split: [_image(root, name_of[file], file, trees[name_of[file]], classes, faults) for file in chosen[:limit]]
              for split, (chosen, _) in examples.items()}  # fmt: skip
    splits = {split: [image for image in images if image is not None] for split, images in splits.items()}
    return BoxedFolder(classes, tuple(range(1, len(classes) + 1)), splits, (), faults)


def _listed(root: Path, lists: tuple[str, ...]) -> list[str]:
    """The names on the first of these lists that is there."""
    file = next((file for file in (root / LISTS / f"{name}.txt" for name in lists) if file.is_file()), None)
    lines = file.read_text("utf-8", errors="replace").splitlines() if file else []
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _image_file(root: Path, name: str) -> Path:
    candidates = (root / IMAGES / f"{name}{end}" for suffix in SUFFIXES for end in (suffix, suffix.upper()))
    return next((file for file in candidates if file.is_file()), root / IMAGES / f"{name}.jpg")


def _read(file: Path, faults: Faults) -> Element | None:
    """The root of an XML file; None where it cannot be read. One with a DOCTYPE is refused: it may define entities, and a few
    lines of them are gigabytes of text."""

    def refuse_doctype(*_: Any) -> None:
        raise ValueError("a DOCTYPE is not allowed")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse_doctype
    try:
        parser.Parse(file.read_bytes(), True)
        return builder.close()
    except (OSError, ValueError, LookupError, expat.ExpatError) as error:  # LookupError: an encoding that is not known
        faults.append(("image", f"{file}: cannot be read as XML ({error})"))
        return None


def _image(root: Path, name: str, file: Path, tree: Element | None, classes: tuple[str, ...], faults: Faults
           ) -> BoxedImage | None:  # fmt: skip
    """An image with its objects, but those that have a fault; None where it has one itself."""
    listed_in = root / ANNOTATIONS / f"{name}.xml"
    try:
        height, width = image_size(file)
    except InputError as error:
        faults.append(("image", str(error)))
        return None
    if tree is None:
        return None  # for a fault that is told
    if tree.find("size") is not None:
        told = [tree.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
        if told != [str(width), str(height)]:
            rule = f"size must be that of {file.name}, {width} x {height}"
            faults.append(("image", f"{listed_in}: {rule}, got {' x '.join(told)}"))
            return None
    objects = []
    for number, each in enumerate(tree.findall("object"), 1):
        try:
            if not _name(each):
                raise ValueError("name must be a text, got none")
            left, top, right, bottom = (_number(each, f"bndbox/{side}") for side in SIDES)
            box = box_within((left - 1, top - 1, right, bottom), height, width)
            objects.append((classes.index(_name(each)), box, each.findtext("difficult", "").strip() == "1", None))
        except ValueError as error:
            faults.append(("object", f"{listed_in}: object {number}: {error}"))
    return boxed_image(file, height, width, objects)


def _name(element: Element) -> str:
    return " ".join(element.findtext("name", "").split())


def _number(element: Element, path: str) -> float:
    text = element.findtext(path)
    try:
        return float(text)
    except (TypeError, ValueError):
        raise ValueError(f"{path} must be a number, got {text}") from None
