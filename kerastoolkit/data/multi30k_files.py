"""The files of Multi30k, fetched once: German, English, French and Czech captions of 31,014 photographs."""

from __future__ import annotations

from pathlib import Path

from kerastoolkit.data.corpus import corpora_folder
from kerastoolkit.data.named_texts import download, fetch_whole
from kerastoolkit.data.text_lines import text_lines
from kerastoolkit.experiment import InputError

URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
LINES = {"train": 29_000, "val": 1_014, "test_2016_flickr": 1_000}
LANGUAGES = ("de", "en")  # those that are fetched
MOST_BYTES = 10_000_000  # of an unpacked file; the largest has 2,110,398


def multi30k_folder() -> Path:
    """Multi30k in German and English (Elliott et al. 2016, https://arxiv.org/abs/1605.00459), task 1, raw, 1.3 MB.

    Its files lie in ``multi30k`` in the data directory, whoever put them there; else they are fetched to it.

    Raises:
        InputError: it is not there and cannot be fetched.
    """
    folder = corpora_folder().parents[1] / "multi30k"
    if not folder.is_dir():
        fetch_whole(folder, _fetch, url=URL, instead="--data takes sentence pairs of your own")
    return folder


def _fetch(folder: Path) -> None:
    folder.mkdir()
    for part, expected in LINES.items():
        for language in LANGUAGES:
            name = f"{part}.{language}.gz"
            download(f"{URL}/{name}", folder / name)
            lines = sum(1 for _ in text_lines(folder / name, most_bytes=MOST_BYTES))
            if lines != expected:
                raise InputError(f"{URL}/{name}: must have {expected:,} lines, got {lines:,}")
