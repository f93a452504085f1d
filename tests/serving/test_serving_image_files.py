"""The check of image files before anything is made of them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kerastoolkit.experiment import InputError
from kerastoolkit.serving.image_files import check_image_file, read_image_files


def write(path, size=(40, 30), **options):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def cut(path, share=0.6):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif"])
def test_a_good_file_passes(tmp_path, suffix):
    check_image_file(write(tmp_path / f"good.{suffix}"))


def test_a_wrong_suffix_is_no_fault_because_the_content_decides(tmp_path):
    check_image_file(write(tmp_path / "jpeg.png", format="JPEG"))


def test_bytes_behind_the_end_of_a_jpeg_are_no_fault(tmp_path):
    path = write(tmp_path / "phone.jpg")
    path.write_bytes(path.read_bytes() + bytes(10_000))
    check_image_file(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, suffix):
    with pytest.raises(InputError, match=f"half.{suffix}: .*image must be complete"):
        check_image_file(cut(write(tmp_path / f"half.{suffix}", size=(100, 80))))


def test_text_with_the_name_of_an_image_is_refused(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("not a picture")
    with pytest.raises(InputError, match="notes.png: not an image; JPEG, PNG, BMP and GIF files are read"):
        check_image_file(path)


def test_another_image_format_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="JPEG, PNG, BMP and GIF files are read, got TIFF"):
        check_image_file(write(tmp_path / "scan.jpg", format="TIFF"))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("side", [9_000, 20_000])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path, side):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", bytes(50)) + chunk(b"IEND", b""))
    with pytest.raises(InputError, match="bomb.png: an image must have at most 64,000,000 pixels"):
        check_image_file(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        check_image_file(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="is not a file"):
        check_image_file(tmp_path)


def test_files_are_read_in_the_order_given_and_those_of_a_folder_by_name(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("b.png", "a.jpg", ".hidden.png"):
        Image.new("RGB", (4, 4)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    Image.new("RGB", (5, 5)).save(tmp_path / "z.png")
    names, contents = read_image_files([str(tmp_path / "z.png"), str(folder)])
    assert names == [str(tmp_path / "z.png"), str(folder / "a.jpg"), str(folder / "b.png")]
    assert contents[1] == (folder / "a.jpg").read_bytes()


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no images in it"):
        read_image_files([str(tmp_path)])
