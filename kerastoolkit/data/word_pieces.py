"""Learning word pieces from texts, with the Hugging Face tokenizers library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from kerastoolkit.data.text_lines import text_lines
from kerastoolkit.experiment import Data, InputError, Source
from kerastoolkit.serving.word_pieces import INSIDE, LONGEST_WORD, MARKS, WordPieces, check_pieces

AT_ONCE = 1_024  # texts
MOST_TEXTS = 100_000  # that a vocabulary is learned from; more do not change it for the better
MOST_BYTES = 50_000_000  # of a vocabulary's file
MOST_LETTERS = 1_000  # of a language's script; a rarer letter makes its word unknown, as in BERT's vocabularies


def word_pieces(data: Data, *, vocabulary: int, lower: bool = True) -> list[str]:
    """A vocabulary of word pieces, the marks first: Wu et al. 2016, section 4.1, https://arxiv.org/abs/1609.08144.

    Args:
        data: learned from the strings of its training examples; of more than 100,000, from as many that are spread evenly.
        vocabulary: pieces that there are to be at most, marks counted; fewer come out where no pair occurs twice.
        lower: whether capital letters become small ones and accents go.
    Raises:
        InputError: the vocabulary is too small for the letters.
    """
    return learn_word_pieces(_texts(data.train, data.inputs), vocabulary=vocabulary, lower=lower)


def learn_word_pieces(texts: Iterable[np.ndarray], *, vocabulary: int, lower: bool = True) -> list[str]:
    """``word_pieces`` of batches of strings."""
    import tensorflow as tf
    import tokenizers

    layer = WordPieces(MARKS, lower)
    part = tf.function(layer.words, input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    counts: Counter[str] = Counter()
    for batch in texts:
        counts.update(word.decode() for word in part(tf.constant(batch)).flat_values.numpy())
    counts = Counter({word: count for word, count in counts.items() if len(word) <= LONGEST_WORD})
    letters: Counter[str] = Counter()
    for word, count in counts.items():
        for letter in word:
            letters[letter] += count
    kept = sorted(sorted(letters, key=lambda letter: (-letters[letter], letter))[:MOST_LETTERS])
    # All letters stand in the vocabulary before it grows, in a fixed order. The library would number them as it meets them, in
    # another order each time, and of pairs that occur equally often it takes the one with the smaller numbers.
    first = [*MARKS, *kept, *(INSIDE + letter for letter in kept)]
    if vocabulary < len(first):
        raise InputError(f"vocabulary must be at least {len(first):,} for the letters of these texts, got {vocabulary:,}")
    learner = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token=MARKS[1], max_input_chars_per_word=LONGEST_WORD))
    learner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocabulary, min_frequency=2, show_progress=False, special_tokens=first, limit_alphabet=MOST_LETTERS,
        initial_alphabet=kept, continuing_subword_prefix=INSIDE)  # fmt: skip
    learner.train_from_iterator((f"{word} " * count for word, count in sorted(counts.items())), trainer)
    found = learner.get_vocab(with_added_tokens=False)
    return sorted(found, key=found.get)


def read_word_pieces(path: str) -> list[str]:
    """The vocabulary in a file as BERT's models have it, vocab.txt: a piece in each line, in the order of their tokens.

    Raises:
        InputError: there is no such file, it is not UTF-8, too long, or no vocabulary.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"vocabulary_file must be a file with a word piece in each line, got {path}")
    pieces = [line.rstrip("\r") for line in text_lines(file, most_bytes=MOST_BYTES)]
    try:
        check_pieces(pieces)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    return pieces


def _texts(source: Source, keys: Iterable[str]) -> Iterator[np.ndarray]:
    chosen = np.linspace(0, source.size - 1, min(source.size, MOST_TEXTS)).astype(np.int64)
    for start in range(0, len(chosen), AT_ONCE):
        raw = source.fetch(chosen[start : start + AT_ONCE])
        for key in keys:
            yield raw[key].numpy()
