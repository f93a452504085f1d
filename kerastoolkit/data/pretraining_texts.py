"""Documents for BERT's pretraining: pairs of texts of which the second follows the first, or is from elsewhere
(Devlin et al. 2018, https://arxiv.org/abs/1810.04805, section 3.1 and appendix A.2)."""

from __future__ import annotations

import json
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerastoolkit.data.corpus import corpora_folder, keep_whole, text_files
from kerastoolkit.data.documents import json_rows, row_text
from kerastoolkit.data.prepared import prepared_builder
from kerastoolkit.data.splits import number_to_cut
from kerastoolkit.data.strings import BATCH, SEED, cut, kept_folder, row_digest
from kerastoolkit.data.table_rows import is_tsv, table_rows
from kerastoolkit.data.text_lines import one_line, paragraphs, text_lines
from kerastoolkit.experiment import Data, InputError, Source, described
from kerastoolkit.serving.random_numbers import hashed, mixed

FORMAT = 1  # of what is kept on disk; another number makes it anew
MOST_BYTES = 100_000_000_000  # of an unpacked file; its texts are kept on disk
MOST_SENTENCES = 100_000  # of a document; what comes after them is another, so that none is held in memory whole
LONGEST_SENTENCE = 60  # estimated tokens; half of what BERT's shorter texts hold, so that two sentences make a pair
LETTERS_OF_A_PIECE = 8  # estimated: a word of more letters is two pieces, measured for 8,000 pieces of English
LENGTH_STEP = 8  # lengths are told in steps of it, so that many examples have the same and batches of them differ
TABLES = (".csv", ".tsv")
ROWS = (".jsonl", ".json")
TRIES = 16  # texts from elsewhere that are drawn until one is short enough
COIN, ELSEWHERE = 100, 101  # streams of an example's random numbers, apart from those of masks

# A sentence ends at a stop, what closes it, and space before a letter; or at an ideographic stop whatever follows.
END = re.compile(r"""[.!?…।؟]+["'”’»)\]]*\s+(?=["'“‘«(\[¿¡]*([^\W\d_]))|[。！？]+[」』”’）]*\s*""")
WORD = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]|[^\W_]+|[^\w\s]|_")


@dataclass(frozen=True)
class Passages:
    """Documents as their sentences, on disk.

    Attributes:
        text: (bytes,) uint8, memory-mapped: all sentences in UTF-8, each with a space after it.
        begins: (sentences + 1,) int64, where each begins in ``text``.
        tokens: (sentences + 1,) int64, how many tokens are estimated to stand before each.
        documents: (documents + 1,) int64, the first sentence of each.
        digests: (documents,) uint64, equal for equal documents.
        left_out: documents of fewer than two sentences, which are not among them.
    """

    text: np.ndarray
    begins: np.ndarray
    tokens: np.ndarray
    documents: np.ndarray
    digests: np.ndarray
    left_out: int


@dataclass(frozen=True)
class Part:
    """The documents of a split: ``chosen`` (documents,) int64, ascending numbers in ``passages``."""

    passages: Passages
    chosen: np.ndarray


@described
def pretraining_texts(data: str, longest: int = 128, column: str = "document", validation: float = 0.05,
                      test: float = 0.05) -> Data:  # fmt: skip
    """Pairs of texts, of which the second follows the first in a document or, in validation and test, is from another.

    Raw examples: first and second (batch,) string; is_next (batch,) int32, 1 where the second follows; example (batch,) int64,
    its number. In training all follow, until ``next_or_not`` changes half of them; in validation and test half are from another
    document, the same ones each time. White space is evened out, and texts are in Unicode's composed form (NFC).

    Sentences are taken from a document as they follow, as many as ``longest`` tokens seem to hold, and parted into first and
    second at a sentence's end that is drawn once. What is left at the end of a document is a shorter pair; where it is a single
    sentence, the one before it is taken again, so that no text is lost. Lengths are estimated: a word is a token for every 8
    letters that it has or begins, and a mark or an ideograph is one. What is longer than ``longest`` after all is cut by the
    layer that makes pieces.

    A sentence ends with its line, and within a line where a stop is followed by space and a letter that is not a small one; not
    after a single capital letter. A longer one than 60 tokens is parted at a space.

    Args:
        data: one of
            a UTF-8 text file or a folder of them, gzip or not: a blank line, or the end of a file, ends a document;
            a file of JSON objects, one a line (.jsonl, .json), or a CSV or TSV file with a header, gzip or not: each row is a
            document, in which a blank line ends a paragraph;
            ``cnn_dailymail``: the articles of See et al. 2017, https://arxiv.org/abs/1704.04368;
            ``sample``: eight sonnets.
        longest: tokens of a pair, its three marks counted, at least 16.
        column: where the documents stand in a file of rows.
        validation, test: documents that are cut from a file: a fraction below 1, a count, or 0; where there is any, at least 2,
            because what does not follow is from another document of the same split. cnn_dailymail has parts of its own.
    Raises:
        InputError: no such data, something is wrong in a file (with its line), or fewer than two documents are left for a split.
        RunError: the sentences cannot be kept on disk.
    Differs from the paper: texts are packed to the full length but at the end of a document, where the authors' program also
        makes a tenth of all shorter; a second text from elsewhere ends with a sentence, and is no longer than the one it replaces
        could be, where theirs is cut, so that its length tells nothing.
    """
    parts = _parts(data, longest, column, validation, test)
    train, test_part = parts["train"], parts["test"]
    sources = {split: _source(part, longest, fixed=split != "train") for split, part in parts.items()}
    notes = []
    if left_out := sum({id(part.passages): part.passages.left_out for part in parts.values()}.values()):
        notes.append(f"documents left out because they have fewer than two sentences: {left_out:,}")
    digests = [part.passages.digests[part.chosen] for part in (train, test_part)]
    if twice := int(np.isin(digests[1], digests[0]).sum()):
        notes.append(f"test documents that are training documents, too: {twice:,} of {len(digests[1]):,}")
    about = {"documents": len(train.chosen), "longest": longest}
    return Data(data, **sources, inputs=("first", "second"), encoded=False, about=about, notes=tuple(notes))


def next_or_not(data: str, longest: int = 128, column: str = "document", validation: float = 0.05,
                test: float = 0.05) -> Callable[..., dict[str, Any]]:  # fmt: skip
    """``Experiment.augment`` for ``pretraining_texts`` of the same arguments: half of the second texts are from elsewhere.

    Which ones, and what they become, is told by an example's seeds alone. Another document's sentence is drawn, all alike, and
    the second text begins with it.
    """
    replace = _replacing(_parts(data, longest, column, validation, test)["train"], longest)
    return lambda raw, seeds, fetch: replace(raw, seeds)


def sentences(text: str) -> list[str]:
    """The sentences of a line of text, of at most 60 estimated tokens each."""
    found, start = [], 0
    for end in END.finditer(text):
        if (letter := end.group(1)) is not None and (letter.islower() or _is_initial(text, end.start())):
            continue
        found.append(text[start : end.end()].strip())
        start = end.end()
    found.append(text[start:].strip())
    return [part for sentence in found if sentence for part in _short_enough(sentence)]


def estimated_tokens(text: str) -> int:
    """How many word pieces a text may have."""
    return sum(1 + (len(word) - 1) // LETTERS_OF_A_PIECE for word in WORD.findall(text))


def _is_initial(text: str, place: int) -> bool:
    """Whether what ends before ``place`` is a single capital letter with one stop after it: a part of a name, not an end."""
    alone = place < 2 or not text[place - 2].isalnum()
    return alone and text[place - 1 : place].isupper() and text[place : place + 1] == "." and text[place + 1 : place + 2] == " "


def _short_enough(sentence: str) -> Iterator[str]:
    if len(sentence) <= LONGEST_SENTENCE or estimated_tokens(sentence) <= LONGEST_SENTENCE:
        yield sentence
        return
    part, tokens = [], 0
    for word in sentence.split():
        for start in range(0, len(word), LONGEST_SENTENCE):  # where nothing parts words, by letters
            piece = word[start : start + LONGEST_SENTENCE]
            count = estimated_tokens(piece)
            if tokens + count > LONGEST_SENTENCE:
                yield " ".join(part)
                part, tokens = [], 0
            part.append(piece)
            tokens += count
    yield " ".join(part)


def _parts(data: str, longest: int, column: str, validation: float, test: float) -> dict[str, Part]:
    if longest < 16:
        raise InputError(f"longest must be at least 16, got {longest}")
    if data == "cnn_dailymail":
        builder = prepared_builder("cnn_dailymail", str(corpora_folder().parents[1]))
        kept = {split: _articles(builder, split) for split in ("train", "validation", "test")}
        return {split: Part(each, np.arange(len(each.digests))) for split, each in kept.items()}
    if data == "sample":
        files, read = [Path(__file__).parent / "sonnets.txt"], _documents_of_text
    else:
        path = Path(data).expanduser()
        if not os.path.exists(path):
            raise InputError(f"unknown documents {data}: choose cnn_dailymail, sample, or a file or folder of texts")
        files = text_files(data)
        is_rows = os.path.isfile(path) and path.name.lower().removesuffix(".gz").endswith((*TABLES, *ROWS))
        read = (lambda path: _documents_of_rows(path, column)) if is_rows else _documents_of_text
    choices = ("passages", FORMAT, *((column,) if read is not _documents_of_text else ()))
    kept = kept_folder(Path(data).name or "texts", files, *choices)
    passages = _kept_passages(kept, lambda: (document for file in files for document in read(file)), data)
    shares = {}
    for split, share in (("test", test), ("validation", validation)):
        count = number_to_cut(share, len(passages.digests), name=split)
        if share == 1:
            raise InputError(f"{split} must be 0 or at least 2 documents, got 1")
        shares[split] = max(2, count) if share else 0
    parts = {split: Part(passages, np.sort(rows)) for split, rows in cut(len(passages.digests), shares, name=data).items()}
    if len(parts["train"].chosen) < 2:
        raise InputError(f"{data}: at least 2 documents of two sentences must be left for training, "
                         f"got {len(parts['train'].chosen)} of {len(passages.digests)}")  # fmt: skip
    return parts


def _documents_of_text(path: Path) -> Iterator[list[str]]:
    """The sentences of each document of a text file."""
    found: list[str] = []
    for line in text_lines(path, most_bytes=MOST_BYTES):
        line = one_line(line)
        if line:
            found += sentences(line)
        if found and (not line or len(found) >= MOST_SENTENCES):
            yield found
            found = []
    if found:
        yield found


def _documents_of_rows(path: Path, column: str) -> Iterator[list[str]]:
    """The sentences of each document of a file of rows."""
    name = path.name.lower().removesuffix(".gz")
    for where, row in (table_rows if name.endswith(TABLES) or is_tsv(path) else json_rows)(path, (column,)):
        yield _sentences_of(row_text(where, row, column))


def _articles(builder: Any, split: str) -> Passages:
    """The documents of CNN / Daily Mail."""

    def read() -> Iterator[list[str]]:
        for batch in builder.as_dataset(split=split, batch_size=BATCH).map(lambda row: row["article"]).as_numpy_iterator():
            for article in batch:
                yield _sentences_of(paragraphs(article.decode()))

    name = f"{builder.info.full_name}:{split}"
    files = [Path(file) for file in builder.info.splits[split].filepaths]
    return _kept_passages(kept_folder(name, files, "passages", FORMAT), read, name)


def _sentences_of(document: str) -> list[str]:
    return [sentence for paragraph in document.split("\n\n") for sentence in sentences(paragraph)]


def _kept_passages(kept: Path, read: Callable[[], Iterable[list[str]]], name: str) -> Passages:
    """The passages in the folder ``kept``, which is made where it is not there, whole or not at all."""
    if not kept.is_dir():
        keep_whole(kept, lambda folder: _write(folder, read(), name), what="the sentences", parents=True)
    # As plain arrays: to cut a piece from a memmap takes ten times as long.
    arrays = {key: np.load(kept / f"{key}.npy", mmap_mode="r").view(np.ndarray)
              for key in ("begins", "tokens", "documents", "digests")}  # fmt: skip
    text = np.memmap(kept / "text.txt", np.uint8, "r").view(np.ndarray)
    return Passages(text, **arrays, left_out=json.loads((kept / "facts.json").read_text("utf-8"))["left_out"])


def _write(folder: Path, documents: Iterable[list[str]], name: str) -> None:
    counts: Counter[str] = Counter()
    begins, tokens, firsts, digests = array("q", [0]), array("q", [0]), array("q", [0]), array("Q")
    with open(folder / "text.txt", "wb") as file:
        for document in documents:
            if len(document) < 2:
                counts["left_out"] += 1
                continue
            for sentence in document:
                begins.append(begins[-1] + file.write(f"{sentence} ".encode()))
                tokens.append(tokens[-1] + estimated_tokens(sentence))
            firsts.append(len(begins) - 1)
            digests.append(row_digest(*document))
    if not digests:
        raise InputError(f"{name}: there must be documents of at least two sentences, parted by blank lines or rows, got none")
    for key, values, kind in (("begins", begins, np.int64), ("tokens", tokens, np.int64), ("documents", firsts, np.int64),
                              ("digests", digests, np.uint64)):  # fmt: skip
        np.save(folder / f"{key}.npy", np.array(values, kind))
    (folder / "facts.json").write_text(json.dumps({"left_out": counts["left_out"]}), "utf-8")


@dataclass(frozen=True)
class _Pairs:
    """Which sentences each example has, (examples,) int64 each: the first text begins at ``start``, the second at ``middle`` and
    ends before ``end``; ``owner`` is the document's place in the split, and ``room`` how many tokens a second text may have."""

    start: np.ndarray
    middle: np.ndarray
    end: np.ndarray
    owner: np.ndarray
    room: np.ndarray


def _pairs(part: Part, longest: int) -> _Pairs:
    tokens, room = part.passages.tokens, longest - 3
    ends = part.passages.documents[part.chosen + 1]
    start, owner = part.passages.documents[part.chosen], np.arange(len(part.chosen))
    found = []
    while len(start):  # the first pair of every document, then the second of those that have one, ...
        end = np.searchsorted(tokens, tokens[start] + room, side="right") - 1
        end = np.minimum(np.maximum(end, start + 2), ends[owner])
        found.append(np.stack([np.where(end - start == 1, start - 1, start), end, owner]))
        left = end < ends[owner]
        start, owner = end[left], owner[left]
    start, end, owner = np.concatenate(found, axis=1) if found else np.zeros((3, 0), np.int64)
    order = np.lexsort((start, owner))
    start, end, owner = start[order], end[order], owner[order]
    middle = np.random.default_rng(SEED).integers(start + 1, end)
    # The last of a document has a second text that is as long as it is; others could have been longer.
    room = np.where(end == ends[owner], tokens[end] - tokens[middle], room - tokens[middle] + tokens[start])
    return _Pairs(start, middle, end, owner, room)


def _source(part: Part, longest: int, *, fixed: bool) -> Source:
    """The examples of a split; where they are ``fixed``, half of the second texts are from elsewhere."""
    import tensorflow as tf

    pairs, passages = _pairs(part, longest), part.passages

    def read(indices: np.ndarray) -> list[np.ndarray]:
        places = [each[indices] for each in (pairs.start, pairs.middle, pairs.end)]
        return [_texts(passages, *bounds) for bounds in (places[:2], places[1:])]

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        indices = tf.cast(indices, tf.int64)
        # Not stateful: it reads what nobody writes, and may run beside others.
        texts = tf.numpy_function(read, [indices], [tf.string] * 2, stateful=False)
        first, second = (tf.ensure_shape(each, indices.shape) for each in texts)
        return {"first": first, "second": second, "is_next": tf.ones_like(indices, tf.int32), "example": indices}

    replace = _replacing(part, longest, pairs) if fixed and len(pairs.start) else None

    @tf.autograph.experimental.do_not_convert
    def fetch_fixed(indices: Any) -> dict[str, Any]:
        raw = fetch(indices)
        numbers = tf.cast(raw["example"], tf.int32)
        return replace(raw, tf.stack([numbers, tf.fill(tf.shape(numbers), SEED)], axis=1))

    lengths = 3 + passages.tokens[pairs.end] - passages.tokens[pairs.start]
    lengths = np.minimum(-(-lengths // LENGTH_STEP) * LENGTH_STEP, longest).astype(np.int32)
    return Source(len(pairs.start), fetch if replace is None else fetch_fixed, lengths=lengths[:, None])


def _replacing(part: Part, longest: int, pairs: _Pairs | None = None) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """(raw, seeds (batch, 2) int32) -> raw, of which about half have a second text from another document of the same split."""
    import tensorflow as tf

    pairs = pairs or _pairs(part, longest)
    documents, chosen, tokens = part.passages.documents, part.chosen, part.passages.tokens
    sizes = documents[chosen + 1] - documents[chosen]
    before = np.concatenate([[0], np.cumsum(sizes)])  # sentences of the split before each of its documents

    def read(examples: np.ndarray, draws: np.ndarray) -> np.ndarray:
        owner, room = pairs.owner[examples], pairs.room[examples]
        # Of all sentences but those of the own document, lo .. hi - 1: those after it are numbered on without a gap.
        low, size = before[owner][:, None], sizes[owner][:, None]
        drawn = (draws.view(np.uint64) % (before[-1] - size).astype(np.uint64)).astype(np.int64)
        drawn += np.where(drawn >= low, size, 0)
        place = np.searchsorted(before, drawn, side="right") - 1
        sentence = documents[chosen[place]] + drawn - before[place]
        # The first one that there is room for, as there was for the sentence that it replaces.
        length = tokens[sentence + 1] - tokens[sentence]
        fits = length <= room[:, None]
        taken = np.where(fits.any(axis=1), fits.argmax(axis=1), length.argmin(axis=1))[:, None]
        sentence, place = (np.take_along_axis(each, taken, axis=1)[:, 0] for each in (sentence, place))
        # Near the end of a document it begins earlier, lest it be shorter than others.
        first, last = documents[chosen[place]], documents[chosen[place] + 1]
        earlier = np.searchsorted(tokens, tokens[last] - room, side="left")
        sentence = np.maximum(np.minimum(sentence, earlier), first)
        end = np.searchsorted(tokens, tokens[sentence] + room, side="right") - 1
        return _texts(part.passages, sentence, np.minimum(np.maximum(end, sentence + 1), last))

    def replace(raw: dict[str, Any], seeds: Any) -> dict[str, Any]:
        if len(chosen) < 2:
            return raw
        follows = tf.bitcast(hashed(seeds, COIN), tf.int64) >= 0
        others = tf.where(~follows)[:, 0]
        draws = mixed(hashed(tf.gather(seeds, others), ELSEWHERE)[:, None] + tf.cast(tf.range(TRIES, dtype=tf.int64), tf.uint64))
        draws = tf.bitcast(draws, tf.int64)
        texts = tf.numpy_function(read, [tf.gather(raw["example"], others), draws], tf.string, stateful=False)
        second = tf.tensor_scatter_nd_update(raw["second"], others[:, None], texts)
        return {**raw, "second": second, "is_next": tf.cast(follows, tf.int32)}

    return replace


def _texts(passages: Passages, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The sentences from ``starts`` on and before ``ends``, as texts: (batch,) of bytes."""
    begins = passages.begins[starts].tolist()
    stops = (passages.begins[ends] - 1).tolist()  # without the last space
    return np.array([passages.text[a:b].tobytes() for a, b in zip(begins, stops, strict=True)], object)
