"""Texts with a label each, or pairs of texts: GLUE's, tables of one's own, and a small sample."""

from __future__ import annotations

import functools
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.dates import LANGUAGES, written_dates
from kerastoolkit.data.prepared import prepared_builder
from kerastoolkit.data.splits import number_to_cut, stratified
from kerastoolkit.data.strings import held_source
from kerastoolkit.data.table_rows import is_tsv, table_rows
from kerastoolkit.data.text_lines import one_line
from kerastoolkit.experiment import Data, InputError, Source, described

GLUE = {"sst2": ("sentence", None), "mrpc": ("sentence1", "sentence2")}
MOST_BYTES = 1_000_000_000  # of an unpacked file, whose texts are held in memory
MOST_CLASSES = 1_000
SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
ENDS = (".tsv", ".csv", ".tsv.gz", ".csv.gz")
SAMPLE = {"train": 2_000, "validation": 200, "test": 400}
SEED = 20_181_011  # of the shuffling before a part is cut: files may be sorted
BATCH = 1_024


@described
def labelled_texts(data: str, text: str = "text", second: str | None = None, label: str = "label", validation: float = 0.05,
                   test: float = 0.1) -> Data:  # fmt: skip
    """Texts, or pairs of them, with a label each.

    Raw examples: first (batch,) string; second (batch,) string where there are pairs; label (batch,) int32, a place in
    ``about["classes"]``. White space is evened out, and texts are in Unicode's composed form (NFC).

    Args:
        data: one of
            ``sst2`` or ``mrpc`` of GLUE (Wang et al. 2018, https://arxiv.org/abs/1804.07461), whose official validation split is
            the test split here, because the labels of their own are hidden;
            ``sample``: dates in words, labelled with their language, or where ``second`` is given, pairs that mean the same date
            or another;
            a CSV or TSV file, gzip or not, with a header;
            a folder with ``train.csv`` or ``.tsv`` and, if there are, ``validation`` and ``test``.
        text, second, label: columns of the file; there are pairs where ``second`` is given. GLUE's sets have their own.
        validation, test: what is cut from the training examples where there is no such part, of each label in proportion: a
            fraction below 1, a count, or 0.
    Raises:
        InputError: no such data, something is wrong in a file (with its line), fewer than two labels, or a share leaves nothing.
    """
    if data in GLUE:
        return _glue(data, validation)
    if data == "sample":
        return _sample(second is not None)
    path = Path(os.path.expanduser(data))
    columns = {"first": text, **({"second": second} if second is not None else {})}
    if os.path.isdir(path):
        files = {split: file for split, names in SPLITS.items() if (file := _one_file(path, names)) is not None}
        if "train" not in files:
            raise InputError(f"{path}: needs train.csv or train.tsv (or these with .gz), and has none")
    elif os.path.isfile(path):
        files = {"train": path}
    else:
        raise InputError(f"unknown labelled texts {data}: choose {', '.join((*GLUE, 'sample'))}, a CSV or TSV file, or a folder")
    parts = {split: _read(file, columns, label) for split, file in files.items()}
    classes = sorted(set(parts["train"]["label"]), key=_as_number)
    return _data(data, parts, classes, {"validation": validation, "test": test})


@described
def sst2(*, validation: float = 0.02) -> Data:
    """SST-2: 67,349 phrases of film reviews, positive or negative (Socher et al. 2013, https://aclanthology.org/D13-1170/; GLUE).

    Args:
        validation: what is cut from the training examples; the official validation split, 872 sentences, is the test split.
    """
    return labelled_texts("sst2", validation=validation)


@described
def mrpc(*, validation: float = 0.1) -> Data:
    """MRPC: 3,668 pairs of sentences, paraphrases or not (Dolan & Brockett 2005, https://aclanthology.org/I05-5002/; GLUE).

    Args:
        validation: what is cut from the training examples; the official validation split, 408 pairs, is the test split.
    """
    return labelled_texts("mrpc", validation=validation)


def _glue(name: str, validation: float) -> Data:
    builder = prepared_builder(f"glue/{name}", None)
    features = dict(zip(("first", "second"), GLUE[name], strict=True))
    classes = list(builder.info.features["label"].names)
    parts = {}
    for ours, theirs in (("train", "train"), ("test", "validation")):
        rows: dict[str, list[str]] = {key: [] for key, feature in features.items() if feature} | {"label": []}
        for batch in builder.as_dataset(split=theirs, batch_size=BATCH).as_numpy_iterator():
            for key, feature in features.items():
                if feature:
                    rows[key] += [one_line(each.decode()) for each in batch[feature]]
            rows["label"] += [classes[each] for each in batch["label"]]
        parts[ours] = rows
    notes = ("test is GLUE's validation split: its test labels are hidden",)
    return _data(name, parts, classes, {"validation": validation}, notes)


def _sample(pairs: bool) -> Data:
    """Dates of ``data.dates`` and their languages; or pairs, of which half mean the same date."""
    written, parts, start = written_dates(LANGUAGES, sum(SAMPLE.values())), {}, 0
    for split, count in SAMPLE.items():
        rows = written[start : start + count]
        start += count
        words = [each for each, _, _ in rows]
        if pairs:
            # Every second one is told the date of its neighbour.
            meant = [rows[number - number % 2][1].isoformat() for number in range(count)]
            kinds = [("same", "another")[number % 2] for number in range(count)]
            parts[split] = {"first": words, "second": meant, "label": kinds}
        else:
            parts[split] = {"first": words, "label": [language for _, _, language in rows]}
    return _data("sample", parts, sorted(set(parts["train"]["label"])), {})


def _read(file: Path, columns: dict[str, str], label: str) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {key: [] for key in (*columns, "label")}
    for where, row in table_rows(file, [*columns.values(), label], most_bytes=MOST_BYTES):
        for key, name in {**columns, "label": label}.items():
            rows[key].append(one_line(row[name]))
            if not rows[key][-1]:
                raise InputError(f"{where}: {name} is empty")
    if not rows["label"]:
        kind = "tabs" if is_tsv(file) else "commas"
        raise InputError(f"{file}: there are no rows under the header (cells are parted by {kind})")
    return rows


def _one_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    found = [folder / f"{name}{end}" for name in names for end in ENDS if (folder / f"{name}{end}").is_file()]
    if len(found) > 1:
        raise InputError(f"{folder}: must have one file for {names[0]}, got {', '.join(each.name for each in found)}")
    return found[0] if found else None


def _as_number(label: str) -> tuple[int, float, str]:
    """Labels that are numbers by their size, before the others by their letters."""
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (0, number, label) if math.isfinite(number) else (1, 0.0, label)


def _data(name: str, parts: dict[str, dict[str, list[str]]], classes: list[str], shares: dict[str, float],
          notes: tuple[str, ...] = ()) -> Data:  # fmt: skip
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise InputError(f"{name}: there must be 2 .. {MOST_CLASSES:,} different labels, got {len(classes):,}")
    numbers = {label: number for number, label in enumerate(classes)}
    labels = {}
    for split, rows in parts.items():
        if unknown := sorted(set(rows["label"]) - numbers.keys()):
            raise InputError(f"{name}: {split} has the label {unknown[0][:50]}, which no training example has")
        labels[split] = np.array([numbers[each] for each in rows["label"]], np.int32)
    texts = {split: {key: column for key, column in rows.items() if key != "label"} for split, rows in parts.items()}
    chosen = {split: np.arange(len(labels[split])) for split in parts}
    left = np.random.default_rng(SEED).permutation(len(labels["train"]))
    for split, share in shares.items():
        if split not in parts:
            count = number_to_cut(share, len(labels["train"]), name=split) or int(share > 0)
            count = min(count, len(left))
            taken = stratified(labels["train"][left], count, np.arange(len(left)))
            chosen[split], left = np.sort(left[taken]), left[~taken]
    chosen["train"] = np.sort(left)
    if not len(left):
        raise InputError(f"{name}: nothing is left of {len(labels['train']):,} examples for training")
    held = {split: held_source(columns) for split, columns in texts.items()}
    sources = {split: _chosen(held.get(split, held["train"]), labels.get(split, labels["train"]), rows)
               for split, rows in chosen.items()}  # fmt: skip
    of_train = Counter(zip(*texts["train"].values(), strict=True))
    if "test" in parts and (twice := sum(pair in of_train for pair in zip(*texts["test"].values(), strict=True))):
        notes = (*notes, f"test texts that are training texts, too: {twice:,} of {len(labels['test']):,}")
    keys = tuple(texts["train"])
    about = {"classes": tuple(classes), "pairs": len(keys) > 1}
    return Data(name, **sources, inputs=keys, encoded=False, about=about, notes=notes)


def _chosen(texts: Source, labels: np.ndarray, rows: np.ndarray) -> Source:
    """The examples of some rows, with their labels."""
    import tensorflow as tf

    @functools.cache
    def held() -> tuple[Any, Any]:
        with tf.init_scope(), tf.device("CPU:0"):
            return tf.constant(rows, tf.int64), tf.constant(labels[rows])

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        places, truths = held()
        return {**texts.fetch(tf.gather(places, indices)), "label": tf.gather(truths, indices)}

    return Source(len(rows), fetch)
