"""What `kerastoolkit data` does with a name or a path, whatever kind of data it is: fetch it, and look at it."""

from __future__ import annotations

import functools
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit import charts
from kerastoolkit.data import boxed_images, images, named_texts, segmented_images, series, text
from kerastoolkit.data.image_folders import flat_folder, has_class_folders
from kerastoolkit.data.inspect_boxes import inspect_boxes
from kerastoolkit.data.inspect_masks import inspect_masks
from kerastoolkit.data.inspect_pairs import inspect_documents, inspect_pairs, is_documents, is_pairs
from kerastoolkit.data.inspect_questions import inspect_questions, is_questions
from kerastoolkit.data.inspect_tags import inspect_tags, is_tagged
from kerastoolkit.data.inspect_texts import inspect_labelled, is_labelled
from kerastoolkit.data.labelled_texts import GLUE
from kerastoolkit.data.multi30k_files import multi30k_folder
from kerastoolkit.data.pets import pets_folder
from kerastoolkit.data.prepared import prepared_builder
from kerastoolkit.data.running_words import corpus
from kerastoolkit.data.sentence_pairs import PREPARED
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.image_files import SUFFIXES
from kerastoolkit.serving.tables import Reading, Table, read_table

CHARACTERS_LISTED = WORDS_LISTED = 30
POINTS_DRAWN = 2_000


def prepare(name: str, data_dir: str | None = None) -> str:
    """Downloads a named data set to where it is found later; returns a sentence that says where it is.

    Args:
        name: one of ``kerastoolkit list data``, or ``tfds:NAME/CONFIG``.
        data_dir: where to; by default where TensorFlow Datasets looks: TFDS_DATA_DIR or ~/tensorflow_datasets.
    Raises:
        InputError: no such name, or it cannot be fetched.
    """
    if name in ("tiny_shakespeare", "cnn_dailymail", "squad", "conll2003") or name.startswith(PREPARED):
        return f"{name} is in {prepared_builder(name.removeprefix(PREPARED), data_dir).data_path}"
    if name in GLUE:
        return f"{name} is in {prepared_builder(f'glue/{name}', data_dir).data_path}"
    if name in series.SAMPLES:
        return f"{name} is in {series.packaged(*series.SAMPLES[name])}"
    by_hand = {each: functools.partial(segmented_images.folder_by_hand, each) for each in segmented_images.BY_HAND}
    boxed = {each: functools.partial(boxed_images.folder_of, each, fetch=True) for each in ("bccd", "coco", "voc")}
    fetched = {"text8": named_texts.text8_file, "multi30k": multi30k_folder, "oxford_iiit_pet": pets_folder, **by_hand, **boxed}
    if name in fetched:
        if data_dir is not None:
            os.environ["TFDS_DATA_DIR"] = data_dir
        return f"{name} is in {fetched[name]()}"
    if name in text.KNOWN or name in ("dates", "shapes"):
        return f"{name} comes with this package: nothing to prepare"
    return images.prepare(name, data_dir)


def inspect(name: str, split: str = "train") -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """Looks at a named data set, a folder of images, with masks, with boxes or without, a CSV file, a text or a folder of texts,
    labelled texts, tagged words, sentence pairs, documents, or questions.

    A CSV file and a folder of texts are shown whole, whatever the split; what training would refuse of a CSV file, gaps and rows
    out of order, is told.

    Returns:
        rows for a table, a matplotlib Figure, and remarks.
    Raises:
        InputError: there is no such data, or something is wrong in it.
    """
    if boxed_images.is_boxed(name):
        return inspect_boxes(name, split)
    if segmented_images.is_segmented(name):
        return inspect_masks(name, split)
    if is_documents(name):
        return inspect_documents(name, split)
    if is_questions(name):
        return inspect_questions(name, split)
    if is_tagged(name):
        return inspect_tags(name, split)
    if is_labelled(name):
        return inspect_labelled(name, split)
    if name in series.SAMPLES or name.lower().endswith((".csv", ".csv.gz")):
        path = series.packaged(*series.SAMPLES[name]) if name in series.SAMPLES else name
        # Loose on purpose: what is wrong should be seen, not refused.
        table = read_table(path, Reading(gaps="forward", unsorted="sort", duplicates="last", business_days=True))
        return _columns(table), _lines(table), table.notes
    if is_pairs(name):
        return inspect_pairs(name, split)
    if name in text.KNOWN or name.lower().endswith(".txt"):
        return _characters(name, split)
    if name in named_texts.KNOWN or _holds_texts(Path(name).expanduser()):
        return _words(name)
    flat = name not in images.KNOWN and Path(name).expanduser().is_dir() and not has_class_folders(name)
    found = flat_folder(name) if flat else images.labelled_images(name)
    return *images.inspect(found, split), found.notes


def _holds_texts(path: Path) -> bool:
    """Whether a path is a packed text, or a folder with texts and without images: a list of labels beside images is no text."""
    if path.is_dir():
        endings = {each.suffix.lower() for each in path.rglob("*")}
        return bool(endings & {".txt", ".gz"}) and not endings & set(SUFFIXES)
    return path.suffix.lower() == ".gz" and path.is_file()


def _words(name: str) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """The most frequent words of a text, and how often words of each rank occur."""
    from matplotlib.figure import Figure

    found = corpus(name, min_count=1)
    total = len(found.tokens)
    rows = [{"word": word, "count": int(count), "share": count / total}
            for word, count in zip(found.words[:WORDS_LISTED], found.counts, strict=False)]  # fmt: skip
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(np.arange(1, len(found.counts) + 1), found.counts)
    axes.set(xlabel="rank of the word", ylabel="occurrences", title=f"{total:,} words")
    axes.spines[["top", "right"]].set_visible(False)
    frequent = int((found.counts >= 5).sum())
    return rows, figure, (f"{total:,} words, {len(found.words):,} different ones, {frequent:,} of them at least 5 times",)


def _columns(table: Table) -> list[dict[str, Any]]:
    rows = []
    for each in table.series:
        for i, column in enumerate(table.columns):
            known = each.values[:, i][each.known[:, i]]
            first, last = (str(np.datetime64(int(when), "s")).replace("T", " ") for when in each.times[[0, -1]])
            facts = {"column": column, "rows": len(each.times), "missing": len(each.times) - len(known), "from": first,
                     "to": last, "lowest": float(known.min()), "mean": float(known.mean()),
                     "highest": float(known.max())}  # fmt: skip
            rows.append({"series": each.name, **facts} if each.name else facts)
    return rows


def _lines(table: Table) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.7 * len(table.columns)), layout="constrained")
    for i, axes in enumerate(np.atleast_1d(figure.subplots(len(table.columns), 1, sharex=True))):
        for each in table.series:
            chosen = np.unique(np.linspace(0, len(each.times) - 1, min(POINTS_DRAWN, len(each.times))).astype(int))
            axes.plot(each.times[chosen].astype("datetime64[s]"), each.values[chosen, i], linewidth=0.8, label=each.name or None)
        axes.set_ylabel(table.columns[i], fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if i == 0 and len(table.series) > 1:
            axes.legend(frameon=False, fontsize=7, ncols=6)
    return figure


def _characters(name: str, split: str) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    source = text.text(name, window=1).split(split)
    if not source.size:
        raise InputError(f"{name} has no {split} part")
    # With a window of 1 a training piece is 3 characters, of which the last 2 belong to the next pieces too.
    pieces = []
    for part in np.array_split(np.arange(source.size), -(-source.size // 10_000)):
        pieces += [each.decode() for each in source.fetch(part)["prompt"].numpy()]
    overlap = 2 if split == "train" else 1
    whole = pieces[0] + "".join(piece[overlap:] for piece in pieces[1:])
    counts = Counter(whole)
    rows = [{"character": repr(each)[1:-1], "count": count, "share": count / len(whole)}
            for each, count in counts.most_common(CHARACTERS_LISTED)]  # fmt: skip
    remark = f"{len(whole):,} characters, {len(counts)} different ones"
    return rows, charts.page("", whole[:1_500]), (remark,)
