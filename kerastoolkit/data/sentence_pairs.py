"""Sentence pairs for translation: named sets, files of one's own, and TensorFlow Datasets' translation sets."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.corpus import corpora_folder
from kerastoolkit.data.dates import dates
from kerastoolkit.data.multi30k_files import multi30k_folder
from kerastoolkit.data.pair_files import Pairs, aligned_pairs, pairs_in_columns, pairs_in_folder
from kerastoolkit.data.prepared import named_builder, prepared_builder
from kerastoolkit.data.strings import cut, held_source, kept_source, prepared_strings, row_digest
from kerastoolkit.data.strings import texts as texts  # what is asked of pairs is found beside them
from kerastoolkit.data.text_lines import one_line
from kerastoolkit.experiment import Data, InputError, Source, described

SAMPLES = ("sample", "dates")
PREPARED = "tfds:"


@described
def sentence_pairs(data: str, source: str = "de", target: str = "en", validation: float = 0.05, test: float = 0.05) -> Data:
    """Sentences and their translations.

    Raw examples: source (batch,) string and target (batch,) string, in Unicode's composed form (NFC), with single spaces and none
    at the ends.

    Args:
        data: one of
            ``sample`` or ``dates``: dates in words and what they are in ISO 8601, see ``data.dates.dates``;
            ``multi30k``: see ``data.multi30k_files.multi30k_folder``;
            ``tfds:NAME/CONFIG``: a translation set of TensorFlow Datasets;
            a UTF-8 file, gzip or not, with a sentence, a tab and its translation in each line, and no header;
            two aligned ones, parted by a comma: ``de.txt.gz,en.txt.gz``;
            a folder with ``train.de`` and ``train.en``, and ``val`` and ``test`` beside them or not: see ``data.pair_files``.
        source, target: the languages, as the folder's files or the data set have them in their names; else said in tables alone.
        validation, test: what is cut from the training pairs where the data has no such part: a fraction below 1, a count, or 0.
    Raises:
        InputError: no such data, something is wrong in a file (with its line), or a share leaves nothing for training.
        RunError: the texts of a prepared data set cannot be kept on disk.
    """
    shares = {"test": test, "validation": validation}
    path = Path(data).expanduser()
    if data in SAMPLES:
        return dates()
    if data == "multi30k":
        parts = pairs_in_folder(multi30k_folder(), source, target)
    elif data.startswith(PREPARED):
        return _prepared(data, source, target, shares)
    elif os.path.isdir(path):
        parts = pairs_in_folder(path, source, target)
    elif os.path.isfile(path):
        parts = {"train": pairs_in_columns(path)}
    elif data.count(",") == 1:
        parts = {"train": aligned_pairs(*(Path(each.strip()).expanduser() for each in data.split(",")))}
    else:
        raise InputError(
            f"unknown sentence pairs {data}: choose {', '.join(sorted((*SAMPLES, 'multi30k')))}, tfds:NAME/CONFIG, a file with"
            " SENTENCE<tab>TRANSLATION in each line, two aligned files parted by a comma, or a folder with train.de and train.en"
        )
    return _held(data, parts, source, target, shares)


@described
def multi30k(*, source: str = "de", target: str = "en") -> Data:
    """Multi30k: 29,000 captions of photographs and their translations (Elliott et al. 2016, https://arxiv.org/abs/1605.00459).

    Args:
        source, target: two of de, en, and of the other languages whose files lie in the folder.
    """
    return sentence_pairs("multi30k", source, target)


def _held(name: str, parts: dict[str, Pairs], source: str, target: str, shares: dict[str, float]) -> Data:
    """Data of pairs that are in memory."""
    sentences = {split: {"source": pairs.sources, "target": pairs.targets} for split, pairs in parts.items()}
    facts = {key: int(np.median([len(each.split()) for each in column])) for key, column in sentences["train"].items()}
    rows = cut(len(parts["train"].sources), _missing(shares, parts), name=name)
    sentences |= {split: {key: [column[row] for row in numbers.tolist()] for key, column in sentences["train"].items()}
                  for split, numbers in rows.items()}  # fmt: skip
    digests = {split: np.array([row_digest(*pair) for pair in zip(*sentences[split].values(), strict=True)], np.uint64)
               for split in ("train", "test")}  # fmt: skip
    left_out = sum(pairs.left_out for pairs in parts.values())
    sources = {split: held_source(columns) for split, columns in sentences.items()}
    return _data(name, sources, source, target, facts, _notes(left_out, digests["train"], digests["test"]))


def _prepared(data: str, source: str, target: str, shares: dict[str, float]) -> Data:
    """Data of pairs that stay on disk: some of these sets have millions."""
    builder = _translation_builder(data.removeprefix(PREPARED), source, target)
    there = [split for split in ("train", "validation", "test") if split in builder.info.splits]
    if "train" not in there:
        raise InputError(f"{data} has no train split (it has: {', '.join(builder.info.splits)})")
    features = {"source": source, "target": target}
    kept = {split: prepared_strings(builder, split, features, _clean) for split in there}
    train = kept["train"]
    rows = {split: np.arange(len(kept[split].digests)) for split in there}
    rows |= cut(len(rows["train"]), _missing(shares, kept), name=data)
    sources = {split: kept_source(kept.get(split, train), numbers) for split, numbers in rows.items()}
    test = kept.get("test", train).digests[rows["test"]]
    left_out = sum(each.facts["counts"].get("left_out", 0) for each in kept.values())
    notes = _notes(left_out, train.digests[rows["train"]], test)
    return _data(data, sources, source, target, train.facts["median_words"], notes)


def _translation_builder(name: str, source: str, target: str) -> Any:
    """The builder of a translation set that is prepared; the languages are looked at before anything is fetched.

    Raises:
        InputError: there is no such set, it has not these languages, or it is not there and cannot be fetched.
    """
    folder, known = str(corpora_folder().parents[1]), prepared_languages(name)
    for language in (source, target):
        if language not in known:
            raise InputError(f"{PREPARED}{name} has no language {language} (it has: {', '.join(known) or 'none'})")
    if source == target:
        raise InputError(f"source and target must be two languages, got {source} twice")
    return prepared_builder(name, folder)


def prepared_languages(name: str) -> list[str]:
    """The languages of one of TensorFlow Datasets' translation sets, which need not be on disk.

    Raises:
        InputError: there is no such set.
    """
    import tensorflow_datasets as tfds

    features = named_builder(name, str(corpora_folder().parents[1])).info.features
    return [key for key, feature in features.items() if isinstance(feature, tfds.features.Text)]


def _clean(row: dict[str, str], counts: Counter[str]) -> dict[str, str]:
    return {key: one_line(text) for key, text in row.items()}


def _missing(shares: dict[str, float], parts: dict[str, Any]) -> dict[str, float]:
    return {split: share for split, share in shares.items() if split not in parts}


def _notes(left_out: int, train: np.ndarray, test: np.ndarray) -> tuple[str, ...]:
    """Remarks on the pairs; ``train`` and ``test`` are digests."""
    notes = []
    if left_out:
        notes.append(f"pairs left out because one side or both are empty: {left_out:,}")
    if twice := int(np.isin(test, train).sum()):
        notes.append(f"test pairs that are training pairs, too: {twice:,} of {len(test):,}")
    return tuple(notes)


def _data(name: str, sources: dict[str, Source], source: str, target: str, medians: dict[str, int],
          notes: tuple[str, ...]) -> Data:  # fmt: skip
    about = {"source": source, "target": target}
    about |= {f"median_{key}_words": number for key, number in medians.items()}
    return Data(name, **sources, inputs=("source",), encoded=False, about=about, notes=notes)
