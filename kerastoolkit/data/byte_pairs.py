"""Learning byte pairs from texts, with the Hugging Face tokenizers library."""

from __future__ import annotations

from collections.abc import Iterable

from kerastoolkit.experiment import InputError
from kerastoolkit.serving.byte_pairs import FIRST_BYTE, FIRST_MERGED, LONG, WORD


def byte_pairs(texts: Iterable[str], *, vocabulary: int) -> list[tuple[int, int]]:
    """The merges of ``serving.byte_pairs.BytePairTokens``: Sennrich et al. 2016, algorithm 1, https://aclanthology.org/P16-1162/.

    Args:
        texts: what to learn from, the same as training will see and no more.
        vocabulary: tokens that there are to be, at least 259 (the bytes, padding, start and end); fewer come out where no pair
            occurs twice.
    Raises:
        InputError: the vocabulary is smaller.
    """
    if vocabulary < FIRST_MERGED:
        raise InputError(f"vocabulary must be at least {FIRST_MERGED}, which are the bytes and 3 marks, got {vocabulary}")
    import tokenizers
    from tokenizers import pre_tokenizers

    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(WORD), "isolated"),
            pre_tokenizers.Split(tokenizers.Regex(LONG), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    letters = _letters()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary - FIRST_BYTE, min_frequency=2, initial_alphabet=letters, show_progress=False, special_tokens=[]
    )
    learner.train_from_iterator((f" {' '.join(text.split())}" for text in texts), trainer)
    merges = learner.to_str()
    return _numbered(merges, letters)


def _numbered(saved: str, letters: list[str]) -> list[tuple[int, int]]:
    import json

    tokens = {letter: FIRST_BYTE + byte for byte, letter in enumerate(letters)}
    merges = []
    for left, right in json.loads(saved)["model"]["merges"]:
        merges.append((tokens[left], tokens[right]))
        tokens.setdefault(left + right, FIRST_MERGED - 1 + len(merges))
    return merges


def _letters() -> list[str]:
    """The letter that the library writes for each byte: the printable ones as they are, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    further = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(further)) for byte in range(256)]
