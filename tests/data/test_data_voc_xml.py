"""Folders as Pascal VOC has them: its pixels, its splits, its difficult objects, and that no XML file is trusted."""

import numpy as np
import pytest
from PIL import Image

from kerastoolkit.data.boxed_images import read
from kerastoolkit.data.voc_xml import has_voc_layout
from kerastoolkit.experiment import InputError

HEIGHT, WIDTH = 8, 10
SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"


def item(name="cat", box=(1, 1, 3, 4), **fields):
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    others = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items())
    return f"<object><name>{name}</name>{others}<bndbox>{sides}</bndbox></object>"


@pytest.fixture
def folder(tmp_path):
    """Makes images a to e, of which a has the given objects and the others a cat; e is on the list val, the others on train."""

    def make(*items, size=SIZE, lists=True):
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for place, name in enumerate("abcde"):
            Image.new("L", (WIDTH, HEIGHT), place).save(tmp_path / "JPEGImages" / f"{name}.png")
            inner = "".join(items) if name == "a" and items else item()
            text = f"<annotation>{size if name == 'a' else SIZE}{inner}</annotation>"
            (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
        if lists:
            (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n\nc\nd\n")
            (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("e\n")
        return tmp_path

    return make


def names_of(found):
    return {split: sorted(image.file.stem for image in images) for split, images in found.splits.items()}


def first(root, **arguments):
    return read(str(root), validation=0, **arguments).splits["train"][0]


def refusal(root, **arguments):
    with pytest.raises(InputError) as error:
        read(str(root), **arguments)
    return str(error.value)


def test_pixels_are_counted_from_1_and_a_box_holds_its_last_one(folder):
    image = first(folder(item(box=(1, 1, 10, 8)), item(box=(3, 2, 3, 2)), item(box=("2.5", " 2 ", 4, 5))))
    np.testing.assert_array_equal(image.boxes, np.array([[0, 0, 10, 8], [2, 1, 3, 2], [1.5, 1, 4, 5]], np.float32))
    assert image.areas.tolist() == [80, 1, 10]


def test_a_box_counted_from_0_is_cut_at_the_border(folder):
    np.testing.assert_array_equal(first(folder(item(box=(0, 0, 10, 8)))).boxes, np.array([[0, 0, 10, 8]], np.float32))


def test_classes_are_the_names_in_sorted_order_of_all_files(folder):
    found = read(str(folder(item("zebra"), item(" big\n dog "))), limit=1)
    assert found.classes == ("big dog", "cat", "zebra") and found.category_ids == (1, 2, 3)


def test_difficult_objects_are_crowd_and_parts_are_no_objects(folder):
    part = "<object><name>cat</name><part><name>tail</name><bndbox><xmin>1</xmin></bndbox></part>"
    whole = item(box=(2, 2, 4, 4)).replace("<object><name>cat</name>", part)
    inner = item(difficult=1) + item(difficult=0, box=(2, 2, 3, 3)) + whole
    image = first(folder(inner))
    assert image.crowd.tolist() == [True, False, False] and read(str(folder(inner))).classes == ("cat",)


def test_splits_are_the_lists_and_val_is_the_test_split_where_there_is_no_other(folder):
    root = folder()
    assert names_of(read(str(root), validation=0)) == {"train": ["a", "b", "c", "d"], "validation": [], "test": ["e"]}
    (root / "ImageSets" / "Main" / "val.txt").rename(root / "ImageSets" / "Main" / "test.txt")
    (root / "ImageSets" / "Main" / "val.txt").write_text("d\n")
    (root / "ImageSets" / "Main" / "train.txt").rename(root / "ImageSets" / "Main" / "trainval.txt")
    assert names_of(read(str(root))) == {"train": ["a", "b", "c", "d"], "validation": ["d"], "test": ["e"]}


def test_without_lists_all_is_cut_from_all_images(folder):
    root = folder(lists=False)
    (root / "Annotations" / "._a.xml").write_text("what macOS leaves behind")
    parts = names_of(read(str(root), validation=1))
    assert {split: len(names) for split, names in parts.items()} == {"train": 3, "validation": 1, "test": 1}
    assert sorted(sum(parts.values(), [])) == list("abcde")


def test_lists_without_one_for_train_are_refused(folder):
    root = folder()
    (root / "ImageSets" / "Main" / "train.txt").unlink()
    assert "ImageSets/Main: needs train.txt or trainval.txt, got lists of validation alone" in refusal(root)


@pytest.mark.parametrize(
    ("inner", "rule"),
    [
        (item(box=(1, 1, "x", 4)), "bndbox/xmax must be a number, got x"),
        (item(box=(1, 1, "", 4)), "bndbox/xmax must be a number, got "),
        ("<object><name>cat</name></object>", "bndbox/xmin must be a number, got None"),
        (item(box=(1, 1, "nan", 4)), "a box must lie within the image of 10 x 8, got 0, 0, nan, 4"),
        (item(box=(1, 1, 12, 4)), "a box must lie within the image of 10 x 8, got 0, 0, 12, 4"),
        (item(box=(-1, 1, 5, 4)), "a box must lie within the image of 10 x 8, got -2, 0, 5, 4"),
        (item(box=(5, 1, 4, 4)), "a box must have a width and a height above 0, got 4, 0, 4, 4"),
        (item(box=(5, 3, 6, 1)), "a box must have a width and a height above 0, got 4, 2, 6, 1"),
        (item(name=" "), "name must be a text, got none"),
    ],
)
def test_an_object_that_cannot_be_is_refused_with_its_place(folder, inner, rule):
    root = folder(item(), inner)
    assert f"Annotations/a.xml: object 2: {rule}" in refusal(root)
    assert len(first(root, skip_faults=True).labels) == 1


@pytest.mark.parametrize(
    ("size", "got"),
    [("<size><width>12</width><height>8</height></size>", "12 x 8"), ("<size><width>0</width><height>0</height></size>", "0 x 0"),
     ("<size></size>", " x ")],
)  # fmt: skip
def test_another_size_than_the_images_is_refused(folder, size, got):
    root = folder(size=size)
    assert f"Annotations/a.xml: size must be that of a.png, 10 x 8, got {got}" in refusal(root)
    assert names_of(read(str(root), validation=0, skip_faults=True))["train"] == ["b", "c", "d"]


def test_a_file_need_not_tell_the_size(folder):
    assert len(first(folder(size="")).labels) == 1


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'


@pytest.mark.parametrize(
    ("contents", "rule"),
    [
        (b"<annotation><object>", "no element found"),
        (b"", "no element found"),
        (b"words", "syntax error"),
        (f"{BOMB}<annotation>&c;</annotation>".encode(), "a DOCTYPE is not allowed"),
        (f"{BOMB}<annotation>&c;</annotation>".encode("utf-16"), "a DOCTYPE is not allowed"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation></annotation>', "a DOCTYPE is not allowed"),
        (b"<annotation>&b;</annotation>", "undefined entity"),
        (b'<?xml version="1.0" encoding="nonsense"?><annotation></annotation>', "unknown encoding"),
        (b"\xff\x00<annotation></annotation>", "not well-formed"),
        (None, "No such file"),
    ],
)
def test_what_is_no_plain_xml_is_refused_by_file_and_its_image_left_out_where_wanted(folder, contents, rule):
    root = folder()
    file = root / "Annotations" / "a.xml"
    file.unlink() if contents is None else file.write_bytes(contents)
    message = refusal(root)
    assert f"{file}: cannot be read as XML (" in message and rule in message
    assert names_of(read(str(root), validation=0, skip_faults=True))["train"] == ["b", "c", "d"]


def test_images_that_are_missing_or_damaged_are_told_at_once(folder):
    root = folder()
    (root / "JPEGImages" / "b.png").unlink()
    (root / "JPEGImages" / "c.png").write_text("words")
    with pytest.raises(InputError) as error:
        read(str(root))
    lines = sorted([str(error.value), *error.value.__notes__])
    assert "b.jpg: no such file" in lines[0] and "c.png: not an image" in lines[1] and len(lines) == 2


def test_images_may_end_in_capitals(folder):
    root = folder()
    (root / "JPEGImages" / "a.png").rename(root / "JPEGImages" / "a.PNG")
    assert names_of(read(str(root), validation=0))["train"] == ["a", "b", "c", "d"]


def test_too_few_images_are_refused(folder):
    root = folder()
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    assert "must have at least 2 training images, got 1" in refusal(root)


def test_limit_takes_the_first_images_of_each_split_and_looks_at_no_other(folder):
    root = folder()
    (root / "JPEGImages" / "c.png").write_text("words")
    assert names_of(read(str(root), validation=0, limit=2)) == {"train": ["a", "b"], "validation": [], "test": ["e"]}


def test_the_layout_is_known_by_its_folders(folder, tmp_path):
    assert not has_voc_layout(tmp_path)
    assert has_voc_layout(folder())
    (tmp_path / "JPEGImages").rename(tmp_path / "images")
    assert not has_voc_layout(tmp_path)
