"""A person's own folders of images and masks."""

import os
import zlib

import numpy as np
import pytest
from PIL import Image

from kerastoolkit.data.mask_folders import has_masks, mask_folder
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.class_maps import decode_class_map

PALETTE = "name,r,g,b\nroad,10,20,30\nVoid,0,0,0\ntree,0,200,0\n"
RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)


def write_image(path, seed=0, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path, values, palette=None, **options):
    """A mask of grey values (height, width), of colours (height, width, 3), or with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8), "P" if palette else None)
    if palette:
        image.putpalette([channel for colour in palette for channel in colour])
    image.save(path, **options)


def half(left, right):
    """A mask of 4 x 6 pixels whose left half is one value or colour and whose right half is another."""
    return np.repeat(np.array([[left, right]] * 4, np.uint8), 3, axis=1)


def write_pairs(root, count=10, values=(0, 1), palette=None):
    for number in range(count):
        write_image(root / "images" / f"{number}.jpg", seed=number)
        write_mask(root / "masks" / f"{number}.png", half(*values), palette)
    return root


@pytest.fixture
def folder(tmp_path):
    """Ten images with masks of grey values 0 and 1."""
    return write_pairs(tmp_path)


def pairs(source):
    raw = source.fetch(np.arange(source.size))
    return list(zip(raw["image"].numpy().tolist(), raw["truth"].numpy().tolist(), strict=True))


def first_map(found):
    """Top row of the class map of the first training example, one pixel of each half."""
    splits, about = found
    truth = splits["train"].fetch(np.arange(1))["truth"][0]
    return decode_class_map(truth, about["coding"]).numpy()[0, ::3].tolist()


def refusal(path, **options):
    with pytest.raises(InputError) as error:
        mask_folder(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# Layouts and splits.


def test_a_folder_gives_each_image_with_its_mask_once(folder):
    write_mask(folder / "masks" / "3.png", half(1, 0))
    splits, _ = mask_folder(folder)
    assert {name: source.size for name, source in splits.items()} == {"train": 8, "validation": 1, "test": 1}
    found = [pair for source in splits.values() for pair in pairs(source)]
    images, masks = folder / "images", folder / "masks"
    assert sorted(found) == sorted(((images / f"{n}.jpg").read_bytes(), (masks / f"{n}.png").read_bytes()) for n in range(10))


def test_the_cut_is_the_same_wherever_the_folder_lies(folder, tmp_path_factory):
    moved = tmp_path_factory.mktemp("moved") / "elsewhere"
    before = {name: pairs(source) for name, source in mask_folder(folder)[0].items()}
    folder.rename(moved)
    assert {name: pairs(source) for name, source in mask_folder(moved)[0].items()} == before


def test_split_folders_are_taken_as_they_are_and_only_what_lacks_is_cut(tmp_path):
    write_pairs(tmp_path / "train")
    write_pairs(tmp_path / "val", 2)
    splits, _ = mask_folder(tmp_path)
    assert (splits["train"].size, splits["validation"].size, splits["test"].size) == (9, 2, 1)
    assert splits["validation"].name(1) == str(tmp_path / "val" / "images" / "1.jpg")


def test_masks_may_lie_in_folders_called_annot(tmp_path):
    for name in ("train", "val", "test"):
        write_pairs(tmp_path / "found", 3)
        (tmp_path / "found" / "images").rename(tmp_path / name)
        (tmp_path / "found" / "masks").rename(tmp_path / f"{name}annot")
    (tmp_path / "found").rmdir()
    splits, _ = mask_folder(tmp_path)
    assert [source.size for source in splits.values()] == [3, 3, 3] and has_masks(tmp_path)


def test_folders_inside_count_hidden_files_do_not_and_others_are_told(folder):
    write_image(folder / "images" / "town" / "0.JPEG")
    write_mask(folder / "masks" / "town" / "0.PNG", half(1, 1), format="PNG")
    (folder / "images" / ".DS_Store").write_text("x")
    (folder / "masks" / "notes.txt").write_text("x")
    (folder / "README.md").write_text("x")
    splits, about = mask_folder(folder)
    assert sum(source.size for source in splits.values()) == 11 and about["skipped"] == 2


def test_symbolic_links_are_followed(folder, tmp_path_factory):
    linked = tmp_path_factory.mktemp("linked")
    os.symlink(folder / "images", linked / "images")
    os.symlink(folder / "masks", linked / "masks")
    assert mask_folder(linked)[0]["train"].size == 8


def test_only_a_folder_with_images_and_masks_has_masks(folder, tmp_path_factory):
    assert has_masks(folder)
    assert not has_masks(folder / "images") and not has_masks(folder / "nothing")


def test_mean_and_deviation_are_those_of_the_training_images(folder):
    for number in range(10):
        Image.new("RGB", (6, 4), (number % 2 * 20, 30, 40)).save(folder / "images" / f"{number}.jpg")
    _, about = mask_folder(folder)
    assert about["mean"] == pytest.approx((10, 30, 40), abs=3)


def test_without_the_folders_it_says_which_are_needed(tmp_path):
    assert "no such folder" in refusal(tmp_path / "nothing")
    message = f"{tmp_path}: needs folders images and masks, or train with images and masks in it, or train and trainannot"
    assert refusal(tmp_path) == message


def test_a_split_without_masks_is_refused(tmp_path):
    write_pairs(tmp_path / "train")
    write_image(tmp_path / "test" / "images" / "1.jpg")
    assert refusal(tmp_path) == f"{tmp_path / 'test'}: has no masks; they must lie as those of train do"


def test_images_both_in_the_folder_and_in_a_train_folder_are_refused(folder):
    write_pairs(folder / "train")
    assert "one of them must go" in refusal(folder)


def test_too_few_images_are_refused(tmp_path):
    assert "needs at least 3 images" in refusal(write_pairs(tmp_path, 2))


# Pairs.


def test_an_image_without_mask_and_a_mask_without_image_are_refused_by_name(folder):
    write_image(folder / "images" / "a.png")
    write_mask(folder / "masks" / "b.png", half(0, 1))
    assert refusal(folder) == f"{folder / 'images' / 'a.png'}: has no mask {folder / 'masks' / 'a.png'} (and 1 more)"
    (folder / "images" / "a.png").unlink()
    assert refusal(folder) == f"{folder / 'masks' / 'b.png'}: has no image {folder / 'images' / 'b'}"


def test_two_images_of_one_name_are_refused(folder):
    write_image(folder / "images" / "3.png")
    assert "3.png: 3.jpg beside it has the same name" in refusal(folder)


def test_a_mask_in_a_lossy_format_is_refused(folder):
    (folder / "masks" / "3.png").unlink()
    write_image(folder / "masks" / "3.jpg")
    assert "3.jpg: a mask must be a .png file, which loses nothing, got .jpg" in refusal(folder)


def test_a_mask_that_is_no_png_is_refused(folder):
    (folder / "masks" / "3.png").write_bytes((folder / "images" / "3.jpg").read_bytes())
    assert "3.png: a mask must be a PNG file, which this is not" in refusal(folder)


def test_a_mask_of_another_size_is_refused(folder):
    write_mask(folder / "masks" / "3.png", half(0, 1).T)
    assert "3.png: must have its image's size, 6 x 4, got 4 x 6" in refusal(folder)


def test_a_damaged_mask_is_refused(folder):
    path = folder / "masks" / "3.png"
    contents = bytearray(path.read_bytes())
    contents[45] ^= 255  # among the pixels
    path.write_bytes(contents)
    assert "3.png: cannot be read; the file is damaged" in refusal(folder)


def test_a_mask_of_too_many_pixels_is_refused_before_it_is_decoded(folder):
    path = folder / "masks" / "3.png"
    contents = path.read_bytes()
    header = contents[12:16] + (20_000).to_bytes(4, "big") * 2 + contents[24:29]
    path.write_bytes(contents[:12] + header + zlib.crc32(header).to_bytes(4, "big") + contents[33:])
    assert "3.png: a mask must have at most 64,000,000 pixels (Image size (400000000 pixels)" in refusal(folder)


def test_a_damaged_image_is_refused(folder):
    (folder / "images" / "3.jpg").write_bytes(b"no image")
    assert "3.jpg: not an image" in refusal(folder)


def test_the_first_of_several_faults_is_told_with_their_number(folder):
    for number in (2, 5, 7):
        write_mask(folder / "masks" / f"{number}.png", half(0, 1).T)
    assert refusal(folder).startswith(f"{folder / 'masks' / '2.png'}: ") and refusal(folder).endswith("(and 2 more)")


# Classes by grey values.


def test_classes_without_names_are_numbered_up_to_the_largest_value(folder):
    write_mask(folder / "masks" / "3.png", half(255, 3))
    _, about = mask_folder(folder)
    assert about["classes"] == ("class 0", "class 1", "class 2", "class 3") and len(about["palette"]) == 4
    assert about["palette"][0] != BLACK


def test_the_value_to_ignore_is_no_class(folder):
    write_mask(folder / "masks" / "3.png", half(1, 2))
    splits, about = mask_folder(folder, ignore=2)
    assert about["classes"] == ("class 0", "class 1") and about["coding"].classes[:4] == (0, 1, 255, 255)


def test_a_value_to_ignore_that_no_pixel_can_have_is_refused(folder):
    assert refusal(folder, ignore=256) == "ignore must be the value of a pixel, 0 .. 255, got 256"


def test_names_given_are_used_where_there_are_as_many_as_classes(folder):
    assert mask_folder(folder, names=("sky", "sea"))[1]["classes"] == ("sky", "sea")
    _, about = mask_folder(folder, names=("sky", "sea", "land"))
    assert about["classes"] == ("class 0", "class 1")
    assert about["notes"] == ("the masks hold 2 classes and 3 names are given: they are called class 0 and so on",)


def test_a_list_names_the_classes_and_black_is_left_to_a_background(folder):
    (folder / "classes.txt").write_text("background\n cell \n\nborder\n")
    _, about = mask_folder(folder, names=("a", "b"))
    assert about["classes"] == ("background", "cell", "border")
    assert about["palette"][:2] == (BLACK, (128, 0, 0))


def test_a_value_that_the_list_does_not_name_is_refused_with_its_place(folder):
    (folder / "classes.txt").write_text("sky\nsea\n")
    values = half(0, 1)
    values[2, 5] = 9
    write_mask(folder / "masks" / "3.png", values)
    message = f"{folder / 'masks' / '3.png'}: value 9 at row 2, column 5 is no class of {folder / 'classes.txt'}"
    assert refusal(folder) == message


def test_a_name_void_in_the_list_is_ignored_and_later_classes_move_up(folder):
    (folder / "classes.txt").write_text("Void\nsea\nland\n")
    found = mask_folder(folder)
    assert found[1]["classes"] == ("sea", "land") and first_map(found) == [255, 0]


def test_the_rows_of_a_palette_are_the_values_of_masks_without_colours(tmp_path):
    (tmp_path / "class_dict.csv").write_text(PALETTE)
    found = mask_folder(write_pairs(tmp_path, values=(1, 2)))
    assert found[1]["classes"] == ("road", "tree") and first_map(found) == [255, 1]
    assert found[1]["palette"] == ((10, 20, 30), (0, 200, 0))


def test_a_palette_of_greys_tells_the_values_themselves(tmp_path):
    write_pairs(tmp_path, values=(255, 0))
    (tmp_path / "palette.csv").write_text("name,r,g,b\nbackground,0,0,0\ncell,255,255,255\n")
    assert first_map(mask_folder(tmp_path)) == [1, 0]


def test_masks_of_one_bit_are_0_and_255(tmp_path):
    write_pairs(tmp_path)
    (tmp_path / "palette.csv").write_text("name,r,g,b\nbackground,0,0,0\ncell,255,255,255\n")
    for number in range(10):
        Image.fromarray(half(1, 0).astype(bool)).save(tmp_path / "masks" / f"{number}.png")
    assert first_map(mask_folder(tmp_path)) == [1, 0]


def test_masks_of_one_bit_are_refused_where_255_is_no_class(folder):
    Image.fromarray(half(1, 0).astype(bool)).save(folder / "masks" / "3.png")
    message = refusal(folder)
    assert "3.png: has one bit a pixel, which means 0 and 255; palette.csv can make 255 a class" in message


def test_masks_of_0_and_255_alone_are_refused_with_what_helps(tmp_path):
    message = refusal(write_pairs(tmp_path, values=(0, 255)))
    assert "at least 2 classes, got the values [0, 255]" in message and "object,255,255,255" in message


def test_masks_of_sixteen_bits_are_refused(folder):
    Image.fromarray(np.full((4, 6), 300, np.uint16)).save(folder / "masks" / "3.png")
    assert "3.png: a mask without a palette must have 8 bits a channel, or 1, got 16" in refusal(folder)


# Classes by colours.


def test_colours_stand_for_the_classes_of_the_palette(tmp_path):
    (tmp_path / "palette.csv").write_text(PALETTE)
    found = mask_folder(write_pairs(tmp_path, values=((0, 200, 0), (0, 0, 0))))
    assert found[1]["classes"] == ("road", "tree") and first_map(found) == [1, 255]
    assert found[1]["palette"] == ((10, 20, 30), (0, 200, 0))


def test_a_colour_that_is_not_in_the_palette_is_refused_with_its_place(tmp_path):
    (tmp_path / "palette.csv").write_text(PALETTE)
    write_pairs(tmp_path, values=((0, 200, 0), (0, 0, 0)))
    values = half((0, 200, 0), (0, 0, 0))
    values[3, 1] = (0, 200, 1)
    write_mask(tmp_path / "masks" / "3.png", values)
    assert "3.png: colour 0,200,1 at row 3, column 1 is no class of" in refusal(tmp_path)


def test_colours_without_a_palette_are_refused(tmp_path):
    message = refusal(write_pairs(tmp_path, values=(RED, GREEN)))
    assert "0.png: has colours; palette.csv must tell which class each means (and 9 more)" in message


def test_a_mask_of_a_photograph_is_refused(tmp_path):
    (tmp_path / "palette.csv").write_text(PALETTE)
    write_pairs(tmp_path, values=((0, 200, 0), (0, 0, 0)))
    write_image(tmp_path / "images" / "3.jpg", size=(40, 40))
    write_image(tmp_path / "masks" / "3.png", size=(40, 40))
    assert "3.png: must have one colour for each class, got more than 256" in refusal(tmp_path)


def test_alpha_is_dropped_where_it_hides_nothing_and_refused_where_it_does(tmp_path):
    (tmp_path / "palette.csv").write_text(PALETTE)
    write_pairs(tmp_path, values=((0, 200, 0, 255), (10, 20, 30, 255)))
    assert first_map(mask_folder(tmp_path)) == [1, 0]
    values = half((0, 200, 0, 255), (10, 20, 30, 255))
    values[1, 2, 3] = 7
    write_mask(tmp_path / "masks" / "3.png", values)
    assert "3.png: must be opaque, got alpha 7 at row 1, column 2" in refusal(tmp_path)


def test_masks_of_two_kinds_are_refused(tmp_path):
    (tmp_path / "palette.csv").write_text(PALETTE)
    write_pairs(tmp_path, values=((0, 200, 0), (0, 0, 0)))
    write_mask(tmp_path / "masks" / "3.png", half(0, 1))
    assert "3.png: all masks must be of one kind, got grey values here and colours in" in refusal(tmp_path)


# Classes by the places of palettes.


def test_the_places_of_a_palette_are_the_classes_whatever_its_colours(tmp_path):
    found = mask_folder(write_pairs(tmp_path, values=(2, 0), palette=(RED, BLACK, GREEN)))
    assert found[1]["classes"] == ("class 0", "class 1", "class 2") and first_map(found) == [2, 0]
    assert found[1]["palette"][0] == RED and found[1]["palette"][2] == GREEN


def test_an_ignored_place_may_have_any_colour(tmp_path):
    write_pairs(tmp_path, values=(1, 0), palette=(RED, GREEN, BLACK))
    write_mask(tmp_path / "masks" / "3.png", half(1, 2), (RED, GREEN, (7, 7, 7)))
    write_mask(tmp_path / "masks" / "4.png", half(1, 2), (RED, GREEN, (8, 8, 8)))
    splits, about = mask_folder(tmp_path, ignore=2)
    assert about["coding"].colours == (RED, GREEN)


def test_palettes_that_do_not_agree_are_refused(tmp_path):
    write_pairs(tmp_path, values=(1, 0), palette=(RED, GREEN))
    write_mask(tmp_path / "masks" / "3.png", half(1, 0), (RED, (0, 0, 9)))
    message = refusal(tmp_path)
    assert "3.png: palettes must agree, got (0, 0, 9) for value 1, and (0, 255, 0) in" in message


def test_a_palette_with_one_colour_for_two_classes_is_refused(tmp_path):
    message = refusal(write_pairs(tmp_path, values=(1, 0), palette=(RED, RED)))
    assert "0.png: each class must have a colour of its own, got (255, 0, 0)" in message


def test_transparent_places_of_a_palette_are_as_others(tmp_path, recwarn):
    (tmp_path / "palette.csv").write_text(PALETTE)
    write_pairs(tmp_path, values=(1, 0), palette=(BLACK, (0, 200, 0)))
    for number in range(10):
        write_mask(tmp_path / "masks" / f"{number}.png", half(1, 0), (BLACK, (0, 200, 0)), transparency=b"\x00\x07")
    assert first_map(mask_folder(tmp_path)) == [1, 255] and not recwarn.list


def test_a_place_that_is_not_in_the_palette_is_refused(tmp_path):
    write_pairs(tmp_path, values=(1, 0), palette=(RED, GREEN))
    write_mask(tmp_path / "masks" / "3.png", half(1, 200), tuple((n, n, n) for n in range(256)))
    path = tmp_path / "masks" / "3.png"
    contents = path.read_bytes()
    begin = contents.index(b"PLTE")
    palette = b"PLTE" + bytes(RED + GREEN)
    end = begin + 4 + int.from_bytes(contents[begin - 4 : begin], "big") + 4
    path.write_bytes(contents[: begin - 4] + (6).to_bytes(4, "big") + palette + zlib.crc32(palette).to_bytes(4, "big")
                     + contents[end:])  # fmt: skip
    assert "3.png: value 200 at row 0, column 3 is not in the file's palette" in refusal(tmp_path)


def test_with_a_palette_file_masks_with_a_palette_are_read_by_their_colours(tmp_path):
    (tmp_path / "palette.csv").write_text(PALETTE)
    found = mask_folder(write_pairs(tmp_path, values=(1, 0), palette=((0, 0, 0), (0, 200, 0))))
    assert first_map(found) == [1, 255]


# The files that name classes.


@pytest.mark.parametrize(("contents", "message"), [
    ("", "palette.csv: must begin with a line name,r,g,b, got nothing"),
    ("class,red\n", "palette.csv: must begin with a line name,r,g,b, got class,red"),
    ("name,r,g,b\na,0,0\n", "palette.csv, line 2: must be a name and three whole numbers 0 .. 255, got a,0,0"),
    ("name,r,g,b\na,0,0,256\n", "palette.csv, line 2: must be a name and three whole numbers 0 .. 255, got a,0,0,256"),
    ("name,r,g,b\na,0,0,-1\n", "palette.csv, line 2: must be a name and three whole numbers 0 .. 255, got a,0,0,-1"),
    ("name,r,g,b\na,0,0,1\n\nb,0,0,1\n", "palette.csv, line 4: each class must have a colour of its own, got 0,0,1 again"),
    ("name,r,g,b\na,0,0,1\na,0,0,2\n", "palette.csv, line 3: each class must have a name of its own, got a"),
    ("name,r,g,b\n,0,0,1\n", "palette.csv, line 2: each class must have a name of its own, got none"),
    ("name,r,g,b\na,0,0,1\nvoid,0,0,2\n", "palette.csv: must have at least 2 classes and at most 255 rows, got 1 and 2"),
])  # fmt: skip
def test_a_wrong_palette_is_refused_with_its_line(folder, contents, message):
    (folder / "palette.csv").write_text(contents)
    assert refusal(folder) == f"{folder}/{message}"


def test_a_list_and_a_palette_at_once_are_refused(folder):
    (folder / "palette.csv").write_text(PALETTE)
    (folder / "classes.txt").write_text("a\nb\n")
    assert refusal(folder) == f"{folder}: has both palette.csv and classes.txt; one must tell the classes"


def test_a_list_that_is_no_text_is_refused(folder):
    (folder / "classes.txt").write_bytes(b"\xff\xfe\x00")
    assert "classes.txt: cannot be read as UTF-8 text" in refusal(folder)
