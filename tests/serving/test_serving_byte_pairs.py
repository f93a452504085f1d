"""Byte pairs in the graph, against the Hugging Face tokenizers library and keras_hub, and back to text."""

import os
import subprocess
import sys
import unicodedata

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
import tokenizers
from tokenizers import pre_tokenizers

from kerastoolkit.data.byte_pairs import byte_pairs
from kerastoolkit.experiment import InputError
from kerastoolkit.formats.saved_model import write_endpoints
from kerastoolkit.serving.byte_pairs import (
    END,
    FIRST_BYTE,
    FIRST_MERGED,
    LONG,
    PADDING,
    START,
    WORD,
    BytePairPieces,
    BytePairText,
    BytePairTokens,
    normalise,
    piece_bytes,
    vocabulary_size,
)

ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCDE", "éàüñøß", "e\u0301a\u0308o\u0327\u0323",  # the last with combining marks
    "안녕하세요한국어", "\u1112\u1161\u11ab", "漢字中文東京", "かなカナー", "مرحبا\u064b\u0650", "שלום\u05b8", "नमस्ते", "ไทยก็",
    "привет", "γειά", "0123456789", "٣४½²Ⅷ", ".,;:!?'\"-()[]{}", "€$+<=>^|~©", "😀👍🏽👩\u200d👩\u200d👧🇰🇷❤\ufe0f",
    "\u00ad\u200b\ufeff\ufffd", "\ue000\uffff\U0010ffff\U00020000",
]  # fmt: skip
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028", "\x00", "\x07", "\x1f\x7f\x85", " \u2003 "]


def random_texts(number, seed=0):
    """Words of one script or of several, short and long, between spaces of all kinds or none."""
    generator = np.random.default_rng(seed)

    def word():
        chosen = generator.choice(len(ALPHABETS), generator.integers(1, 3))
        letters = "".join(ALPHABETS[each] for each in chosen)
        return "".join(generator.choice(list(letters), generator.choice([1, 2, 3, 5, 8, 13, 31, 32, 33, 70])))

    def between():
        return SPACES[generator.integers(len(SPACES))] if generator.random() < 0.7 else ""

    return [between() + "".join(word() + between() for _ in range(generator.integers(1, 7))) for _ in range(number)]


ENGLISH = "the lower the newest river the wider the newer rivers flow lowest and the widest of them is never the slowest".split()
TEXTS = [*random_texts(150, seed=1), *(" ".join(ENGLISH[i:] + ENGLISH[:i]) for i in range(20)), "이것은 한국어 문장 입니다"]
MERGES = byte_pairs(TEXTS, vocabulary=FIRST_MERGED + 400)
TOKENS, TEXT = BytePairTokens(MERGES), BytePairText(MERGES)
HARD = ["", " ", " \t\u3000\n\x00", "a", " a ", "a" * 31, "a" * 32, "b" * 33, "가" * 100, "12 345", "don't", "a\u0301",
        "\x00a\x00", "👩\u200d👩"]  # fmt: skip


def normalised(text):
    """The text with one space for each run of separators and control characters, and none at the ends."""
    spaced = "".join(" " if unicodedata.category(each)[0] == "Z" or unicodedata.category(each) == "Cc" else each for each in text)
    return " ".join(part for part in spaced.split(" ") if part)


def strings(texts):
    return tf.constant([each if isinstance(each, bytes) else each.encode() for each in texts], tf.string)


def tokens_of(texts, layer=TOKENS):
    """Lists of tokens up to and with the end, after which there is padding alone."""
    found = []
    for row in layer(strings(texts)).numpy().tolist():
        end = row.index(END)
        assert set(row[end + 1 :]) <= {PADDING}
        found.append(row[: end + 1])
    return found


def letters():
    """The letter that GPT-2 writes for each byte (Radford et al. 2019; its bytes_to_unicode)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: chr(byte) for byte in printable}, **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def in_letters(merges):
    """(vocabulary {letters: token}, merges as pairs of letters)."""
    table = letters()
    pieces = ["".join(table[byte] for byte in piece) for piece in piece_bytes(merges)]
    return {piece: token for token, piece in enumerate(pieces) if token >= FIRST_BYTE}, [
        (pieces[left], pieces[right]) for left, right in merges
    ]


def hugging_face(merges):
    vocabulary, pairs = in_letters(merges)
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, pairs))
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(WORD), "isolated"), pre_tokenizers.Split(tokenizers.Regex(LONG), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])  # fmt: skip
    return lambda text: made.encode(" " + normalised(text)).ids if normalised(text) else []


# Strings -> tokens -------------------------------------------------------------------------------------------------------------


def test_tokens_are_those_of_hugging_face_in_any_script():
    texts, theirs = [*random_texts(300, seed=2), *TEXTS, *HARD], hugging_face(MERGES)
    for text, tokens in zip(texts, tokens_of(texts), strict=True):
        assert tokens == [*theirs(text), END], text


@pytest.mark.parametrize("seed", range(4))
def test_tokens_are_those_of_hugging_face_where_few_letters_repeat(seed):
    """Where the same piece could be made in several ways."""
    generator = np.random.default_rng(seed)
    texts = [" ".join("".join(generator.choice(list("ab"), generator.integers(1, 14))) for _ in range(8)) for _ in range(60)]
    merges = byte_pairs(texts, vocabulary=FIRST_MERGED + 300)
    theirs = hugging_face(merges)
    for text, tokens in zip(texts, tokens_of(texts, BytePairTokens(merges)), strict=True):
        assert tokens == [*theirs(text), END], text


def test_words_of_letters_have_the_tokens_of_keras_hub():
    """Whose pre-tokenisation is GPT-2's: on letters between single spaces it is the same."""
    vocabulary, pairs = in_letters(MERGES)
    theirs = keras_hub.tokenizers.BytePairTokenizer(vocabulary, [" ".join(pair) for pair in pairs])
    texts = [" ".join(ENGLISH), "flowers grow slowly", "x", "zebra crossing Élan vital 한국어 문장"]
    assert max(len(tokens) for tokens in tokens_of(texts)) < sum(len(text.encode()) for text in texts[:1])
    for text, tokens in zip(texts, tokens_of(texts), strict=True):
        assert tokens == [*np.asarray(theirs(" " + text)).tolist(), END]


def test_pairs_are_joined_in_the_order_in_which_they_were_learned():
    a, b, c = (FIRST_BYTE + ord(each) for each in "abc")
    space, ab, bc, abc = FIRST_BYTE + ord(" "), FIRST_MERGED, FIRST_MERGED + 1, FIRST_MERGED + 2
    layer = BytePairTokens([(a, b), (b, c), (ab, c)])
    assert tokens_of(["abc bc abab cab"], layer) == [[space, abc, space, bc, space, ab, ab, space, c, ab, END]]
    assert tokens_of(["abc"], BytePairTokens([(b, c), (a, b)])) == [[space, a, FIRST_MERGED, END]]


def largest_pieces(text):
    """What is left when all is joined that may be: the merges are learned from that text alone."""
    merges = byte_pairs([text] * 5, vocabulary=1_000)
    return [piece for piece in BytePairPieces(merges)(BytePairTokens(merges)(strings([text])))[0].numpy() if piece]


def test_no_piece_reaches_across_words_digits_and_punctuation():
    found = [piece.decode() for piece in largest_pieces("ab1 23, don't e\u0301e")]
    assert found == [" ab", "1", " 2", "3", ",", " don", "'", "t", " e\u0301e"]


def test_a_long_word_is_cut_after_32_characters():
    assert [len(piece) for piece in largest_pieces("abcdefgh" * 9)] == [32, 32, 9]  # with the space before it 73


def test_shorter_texts_are_padded_and_each_has_its_end():
    layer = BytePairTokens([])
    a, space = FIRST_BYTE + ord("a"), FIRST_BYTE + ord(" ")
    np.testing.assert_array_equal(
        layer(strings(["aa", "", "a"])), [[space, a, a, END], [END, PADDING, PADDING, PADDING], [space, a, END, PADDING]]
    )
    assert layer(strings(["aa"])).dtype == tf.int32


def test_a_batch_of_no_text_and_one_of_empty_texts_have_no_tokens_but_ends():
    assert TOKENS(tf.zeros((0,), tf.string)).shape[0] == 0
    np.testing.assert_array_equal(TOKENS(strings(["", "  "])), [[END], [END]])


@pytest.mark.parametrize("longest", [2, 3, 7, 50])
def test_longest_keeps_the_first_tokens_and_the_end(longest):
    whole, cut = tokens_of(TEXTS), tokens_of(TEXTS, BytePairTokens(MERGES, longest=longest))
    assert cut == [[*tokens[:-1][: longest - 1], END] for tokens in whole]
    assert max(map(len, cut)) == longest


def test_other_texts_of_the_batch_change_no_tokens():
    assert tokens_of(TEXTS)[:8] == [tokens_of([text])[0] for text in TEXTS[:8]]


def test_invalid_bytes_count_as_replacement_characters():
    assert tokens_of([b"ab\xffcd"]) == tokens_of(["ab\ufffdcd"])
    texts = [b"a\xc3", b"\xf0\x9f\x98 b", b"\x80\x80"]
    for text, found in zip(texts, tokens_of(texts), strict=True):
        shown = TEXT(tf.constant([found])).numpy()[0].decode()
        assert "\ufffd" in shown
        assert shown.replace("\ufffd", "") == text.decode(errors="ignore")


# Tokens -> strings -------------------------------------------------------------------------------------------------------------


def test_tokens_give_back_the_normalised_text():
    texts = [*random_texts(300, seed=3), *TEXTS, *HARD]
    found = [each.decode() for each in TEXT(TOKENS(strings(texts))).numpy()]
    assert found == [normalised(text) for text in texts]
    assert [each.decode() for each in normalise(strings(texts)).numpy()] == found


def test_every_token_stands_for_bytes_of_its_own_but_three():
    pieces = piece_bytes(MERGES)
    assert len(pieces) == vocabulary_size(MERGES) == FIRST_MERGED + 400
    assert pieces[:FIRST_BYTE] == [b"", b"", b""]
    assert pieces[FIRST_BYTE:FIRST_MERGED] == [bytes([each]) for each in range(256)]
    assert len(set(pieces[FIRST_BYTE:])) == len(pieces) - FIRST_BYTE
    for token, (left, right) in enumerate(MERGES, start=FIRST_MERGED):
        assert pieces[token] == pieces[left] + pieces[right]


def test_any_bytes_can_be_written_so_no_text_is_unknown():
    every = tf.reshape(tf.range(FIRST_BYTE, FIRST_MERGED), (-1, 1))
    raw = [each.decode() for each in BytePairPieces([])(every)[:, 0].numpy()]
    assert raw == [chr(byte) if byte < 128 else "\ufffd" for byte in range(256)]


def test_padding_start_and_end_stand_for_nothing():
    tokens = tokens_of(["a text"])[0][:-1]
    marked = [START, *tokens[:2], PADDING, END, *tokens[2:], END, PADDING, PADDING]
    assert TEXT(tf.constant([marked])).numpy().tolist() == [b"a text"]
    assert TEXT(tf.constant([[PADDING, START, END]])).numpy().tolist() == [b""]
    assert TEXT(tf.zeros((2, 0), tf.int32)).numpy().tolist() == [b"", b""]


def test_broken_characters_become_valid_text():
    first, *_ = "가".encode()
    tokens = [FIRST_BYTE + byte for byte in (ord("a"), first, ord("b"))]
    assert TEXT(tf.constant([tokens])).numpy()[0].decode() == "a\ufffdb"
    random = np.random.default_rng(0).integers(0, vocabulary_size(MERGES), (200, 12))
    for text in TEXT(tf.constant(random, tf.int32)).numpy():
        text.decode()  # no error


def test_pieces_show_where_words_begin():
    tokens = TOKENS(strings(["the x", ""]))
    pieces = BytePairPieces(MERGES)(tokens).numpy()
    assert pieces.shape == tokens.shape
    assert b"".join(pieces[0].tolist()) == b" the x"
    assert b"".join(pieces[1].tolist()) == b""


# Learning ----------------------------------------------------------------------------------------------------------------------


def test_the_papers_words_are_joined_as_in_the_paper():
    """Sennrich et al. 2016, algorithm 1: low 5, lower 2, newest 6, widest 3 times. "es" and "est" occur nine times, more than any
    other pair; "l o" and "lo w" are next, with seven."""
    words = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    pieces = piece_bytes(byte_pairs(words, vocabulary=FIRST_MERGED + 5))[FIRST_MERGED:]
    assert pieces[:3] == [b"es", b"est", b"lo"]
    assert b"low" in pieces[3].strip() + pieces[4]


def test_another_process_learns_the_same(tmp_path):
    """Whatever its hashes and threads."""
    texts = [" ".join(text.split()) for text in TEXTS]
    (tmp_path / "texts").write_text("\n".join(texts), encoding="utf-8")
    program = (
        "import sys; from kerastoolkit.data.byte_pairs import byte_pairs\n"
        "texts = open(sys.argv[1], encoding='utf-8').read().split('\\n')\n"
        "print(byte_pairs(texts, vocabulary=500))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-c", program, str(tmp_path / "texts")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    learned = byte_pairs(texts, vocabulary=500)
    assert result.stdout.strip() == str(learned)
    assert len(learned) == 500 - FIRST_MERGED


def test_no_more_pairs_are_learned_than_occur_twice():
    assert byte_pairs(["ab", "cd"], vocabulary=1_000) == []
    learned = piece_bytes(byte_pairs(["ab", "ab", "cd"], vocabulary=1_000))[FIRST_MERGED:]
    assert sorted(learned) in ([b" a", b" ab"], [b" ab", b"ab"])
    assert byte_pairs(["ab"] * 9, vocabulary=FIRST_MERGED) == []
    assert byte_pairs([], vocabulary=1_000) == []


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(InputError, match="vocabulary must be at least 259, .* got 258"):
        byte_pairs(["ab"], vocabulary=258)


@pytest.mark.parametrize("merges", [[(0, 5)], [(5, END)], [(5, FIRST_MERGED)], [(5, 6), (FIRST_MERGED + 1, 6)], [(-1, 5)]])
@pytest.mark.parametrize("layer", [BytePairTokens, BytePairText, BytePairPieces])
def test_a_merge_of_a_later_token_or_a_mark_is_refused(layer, merges):
    with pytest.raises(ValueError, match="a merge must join two earlier tokens, got"):
        layer(merges)


def test_a_bound_that_leaves_no_token_is_refused():
    with pytest.raises(ValueError, match="longest must be at least 2, got 1"):
        BytePairTokens([], longest=1)


# Files -------------------------------------------------------------------------------------------------------------------------


def test_layers_are_made_again_from_their_configuration():
    for layer in (BytePairTokens(MERGES[:9], longest=7), BytePairText(MERGES[:9]), BytePairPieces(MERGES[:9])):
        again = type(layer).from_config(layer.get_config())
        assert again.merges == MERGES[:9]
        assert getattr(again, "longest", 7) == 7


def test_an_export_answers_in_a_process_with_tensorflow_alone(tmp_path):
    text = keras.Input((), dtype="string", name="text")
    tokens = BytePairTokens(MERGES, name="tokens")(text)
    model = keras.Model(
        {"text": text}, {"tokens": tokens, "again": BytePairText(MERGES)(tokens), "pieces": BytePairPieces(MERGES)(tokens)}
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    given = strings(TEXTS)
    expected = {name: value.numpy() for name, value in model({"text": given}).items()}
    for name, value in loaded({"text": given}).items():
        np.testing.assert_array_equal(value, expected[name])
    write_endpoints({"serve": model}, tmp_path / "exported")
    np.save(tmp_path / "texts.npy", np.array([each.encode().hex() for each in TEXTS]))
    program = f"""
import sys
import numpy as np, tensorflow as tf
texts = tf.constant([bytes.fromhex(each) for each in np.load({str(tmp_path / "texts.npy")!r})])
answers = tf.saved_model.load({str(tmp_path / "exported")!r}).signatures["serving_default"](text=texts)
assert not {{"tensorflow_text", "kerastoolkit", "tokenizers"}} & set(sys.modules)
again = np.array([each.hex() for each in answers["again"].numpy()])
np.savez({str(tmp_path / "answers.npz")!r}, tokens=answers["tokens"], again=again)
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    answers = np.load(tmp_path / "answers.npz")
    np.testing.assert_array_equal(answers["tokens"], expected["tokens"])
    assert answers["again"].tolist() == [each.hex() for each in expected["again"]]
