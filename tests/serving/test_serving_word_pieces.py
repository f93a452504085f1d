"""Word pieces in the graph, against the Hugging Face tokenizers library, and pairs against a slow twin."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tokenizers

from kerastoolkit.formats.saved_model import write_endpoints
from kerastoolkit.serving.word_pieces import MARKS, WordPieces, check_pieces, word_piece_inputs

LONG = "a" * 100
TEXTS = [
    "The quick brown fox", "THE Fox's (\"quick\") leaps!!! ...and--away", "snow\u00adman 3.14 1,000 x2y 007 ² ½ ٣٤ Ⅷ",
    "Éclair naïve São façade", "e\u0301a\u0308o\u0327\u0323 \u0301alone", "İstanbul ISPARTA ılık", "Straße GROẞ ŒUVRE ﬁn",
    "ΟΔΟΣ Σίσυφος ἄνθρωπος;\u037e", "안녕하세요 한국어", "\u1112\u1161\u11ab", "漢字とかな東京\uf900\U00020000中a文b",
    "カタカナ ｶﾀ が",
    "مرحبا\u064b\u0650 بالعالم، ٪", "שלום\u05b8 עולם", "नमस्ते दुनिया।", "ไทยก็ ภาษา", "Привет, Йога ёж", "€5 + <3> = ^|~© ≠ ∑ ″",
    "👍🏽 👩\u200d👩\u200d👧 ❤\ufe0f 🇰🇷 ok", "a\u200bb c\ufeffd e\ufffdf g\u00a0h i\u3000j",
    "v\u2028w x\u2029y \u2003 z", "", " ", "\n\t",
    "k\x00l m\x07n o\x1f\x7fp q\x85r s\tt\r\nu", "\ue000private\U0010ffff", "##a # [CLS] [MASK] [UNK]x",
    "unaffable unable ununun",
    f"{LONG} {LONG}a b", f"{LONG[:99]}é {LONG}\u0301 {LONG}é", f"{'x' * 50} {'ab' * 50}", f"{'É' * 100} {'İ' * 101}",
]  # fmt: skip


def vocabulary(texts):
    """Letters, but some of them only where words begin; and pieces of two letters and more."""
    letters = sorted({each for text in texts for each in text + text.lower() if each.strip() and each not in "qQ"})
    inside = [f"##{letter}" for letter in letters if letter != "x"]
    words = "the th un ##aff ##able fox Fox é e ##e strasse σ ##σ ᄒ ##ᅡ ##ᆫ".split()
    decomposed = [*"iı안ㅎ", "##i", "##ı"]
    return list(dict.fromkeys([*MARKS, *letters, *inside, *words, f"##a{LONG[:60]}", *decomposed]))


PIECES = vocabulary(TEXTS)


def reference(lower):
    known = {piece: number for number, piece in enumerate(PIECES)}
    model = tokenizers.models.WordPiece(known, unk_token="[UNK]", max_input_chars_per_word=100)
    found = tokenizers.Tokenizer(model)
    found.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lower)
    found.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return found


def random_texts(number, seed):
    """Letters of all the texts, put together at random."""
    generator, letters = np.random.default_rng(seed), sorted(set("".join(TEXTS)))
    return ["".join(generator.choice(letters, generator.integers(1, 60))) for _ in range(number)]


# Texts -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("texts", [TEXTS, random_texts(300, seed=1)], ids=["written", "random"])
def test_tokens_and_their_places_are_those_of_the_tokenizers_library(texts, lower):
    theirs, ours = reference(lower).encode_batch(texts), WordPieces(PIECES, lower).cut(tf.constant(texts))
    assert ours.tokens.to_list() == [each.ids for each in theirs]
    places = [list(zip(*both, strict=True)) for both in zip(ours.begins.to_list(), ours.ends.to_list(), strict=True)]
    assert places == [each.offsets for each in theirs]
    known = sum(token > 4 for each in theirs for token in each.ids)
    assert known > 0.5 * sum(len(each.ids) for each in theirs)  # or the unknown would hide the rest


def test_a_text_has_its_tokens_whatever_else_is_in_the_batch():
    layer = WordPieces(PIECES)
    texts = TEXTS[1:26:3]
    together = layer.cut(tf.constant(texts)).tokens.to_list()
    assert together == [layer.cut(tf.constant([text])).tokens.to_list()[0] for text in texts]


@pytest.mark.parametrize(("letters", "known"), [(100, True), (101, False)])
def test_a_word_of_more_than_100_letters_is_unknown(letters, known):
    (tokens,) = WordPieces([*MARKS, "a", "##a"]).cut(tf.constant(["a" * letters])).tokens.to_list()
    assert tokens == ([5, *[6] * 99] if known else [1])


def test_what_is_no_utf_8_goes():
    layer = WordPieces([*MARKS, "a", "##b"])
    assert layer.cut(tf.constant([b"a\xff\xfeb", b"\xc3"])).tokens.to_list() == [[5, 6], []]


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["", "a"], [" "]])
def test_texts_may_be_empty_and_batches_too(texts):
    layer = WordPieces([*MARKS, "a"])
    count = [len(text.strip()) for text in texts]
    alone, pair = layer(tf.constant(texts, tf.string)), layer(*[tf.constant(texts, tf.string)] * 2)
    longest = max(count, default=-2)
    assert alone["tokens"].shape == alone["segments"].shape == (len(texts), longest + 2)
    assert alone["tokens"].numpy().tolist() == [[2, *[5] * n, 3] + [0] * (longest - n) for n in count]
    assert [sum(row) for row in pair["segments"].numpy().tolist()] == [n + 1 for n in count]


def test_a_vocabulary_of_marks_alone_knows_no_word():
    assert WordPieces(MARKS)(tf.constant(["a b"]))["tokens"].numpy().tolist() == [[2, 1, 1, 3]]


# Marks -------------------------------------------------------------------------------------------------------------------------


def test_marks_are_around_a_text_and_after_each_of_a_pair():
    layer = WordPieces([*MARKS, "a", "b", "c"])
    first, second = tf.constant(["a b", "c"]), tf.constant(["c", ""])
    assert layer(first)["tokens"].numpy().tolist() == [[2, 5, 6, 3], [2, 7, 3, 0]]
    assert layer(first)["segments"].numpy().tolist() == [[0] * 4] * 2
    assert layer(first, second)["tokens"].numpy().tolist() == [[2, 5, 6, 3, 7, 3], [2, 7, 3, 3, 0, 0]]
    assert layer(first, second)["segments"].numpy().tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0]]


def test_marks_that_are_written_in_a_text_are_words_in_brackets():
    layer = WordPieces([*MARKS, "[", "]", "mask", "cls"])
    assert layer.cut(tf.constant(["[MASK] [CLS]"])).tokens.to_list() == [[5, 7, 6, 5, 8, 6]]


def test_a_written_mask_is_that_token_where_it_is_asked_for():
    layer = WordPieces([*MARKS, "a", "##b", "[", "mask", "]"], masks=True)
    found = layer.cut(tf.constant(["a[MASK]ab [MASK]", "[mask]", "a\ufdd0b"]))
    # The last has the code point that stands for [MASK] inside: it goes, as what is no character.
    assert found.tokens.to_list() == [[5, 4, 5, 6, 4], [7, 8, 9], [5, 6]]
    assert found.begins.to_list() == [[0, 1, 7, 8, 10], [0, 1, 5], [0, 2]]
    assert found.ends.to_list() == [[1, 7, 8, 9, 16], [1, 5, 6], [1, 3]]


# Longest -----------------------------------------------------------------------------------------------------------------------


def popped(a, b, room):
    """From the longer one token at a time, and from the second where they are alike: the authors' rule, one at a time."""
    a, b = list(a), list(b)
    while len(a) + len(b) > room:
        (a if len(a) > len(b) else b).pop()
    return a, b


@pytest.mark.parametrize("longest", [5, 6, 7, 8, 11, 12, 30])
def test_pairs_are_cut_as_by_popping_from_the_longer(longest):
    layer = WordPieces([*MARKS, "a", "b"], longest=longest)
    counts = [(a, b) for a in range(10) for b in range(10)]
    found = layer(tf.constant(["a " * a for a, _ in counts]), tf.constant(["b " * b for _, b in counts]))
    for (a, b), tokens, segments in zip(counts, found["tokens"].numpy(), found["segments"].numpy(), strict=True):
        first, second = popped([5] * a, [6] * b, longest - 3)
        expected = [2, *first, 3, *second, 3]
        assert tokens.tolist() == expected + [0] * (len(tokens) - len(expected)), (a, b)
        assert segments.sum() == len(second) + 1


@pytest.mark.parametrize("longest", [5, 6, 20])
def test_a_text_alone_keeps_its_beginning(longest):
    text = " ".join("ab"[i % 2] for i in range(9))
    tokens = WordPieces([*MARKS, "a", "b"], longest=longest)(tf.constant([text]))["tokens"].numpy().tolist()
    assert tokens == [[2, *[5 + i % 2 for i in range(9)][: longest - 2], 3]]


# Files -------------------------------------------------------------------------------------------------------------------------


def test_the_layer_is_made_again_from_its_configuration():
    layer = WordPieces(PIECES, lower=False, longest=17, masks=True)
    again = WordPieces.from_config(json.loads(json.dumps(layer.get_config())))
    assert (again.pieces, again.lower, again.longest, again.masks) == (PIECES, False, 17, True)


@pytest.mark.parametrize("pairs", [False, True])
def test_a_saved_and_loaded_model_gives_the_same(pairs, tmp_path):
    model = word_piece_inputs(PIECES, lower=False, longest=12, pairs=pairs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    first = tf.constant(TEXTS[:12])
    given = {"first": first, "second": first[::-1]} if pairs else first
    for name, value in model(given).items():
        np.testing.assert_array_equal(loaded(given)[name], value)
        assert value.shape[1] == 12


ELSEWHERE = """
import json, sys
import tensorflow as tf
model, texts = tf.saved_model.load(sys.argv[1]), json.load(open(sys.argv[2]))
found = model.serve(tf.constant(texts))
assert model.serve(tf.constant([], tf.string))["tokens"].shape[0] == 0
assert "kerastoolkit" not in sys.modules
print(json.dumps(found["tokens"].numpy().tolist()))
"""


def test_an_export_gives_the_same_where_there_is_tensorflow_alone(tmp_path):
    model = word_piece_inputs(PIECES, lower=True, longest=40, pairs=False)
    write_endpoints({"serve": model}, tmp_path / "model")
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "model"), str(tmp_path / "texts.json")]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert json.loads(result.stdout) == model(tf.constant(TEXTS))["tokens"].numpy().tolist()


# Errors ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], r"pieces must have \[PAD\], \[UNK\], .* and lack \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
        ([*MARKS[:2], *MARKS[3:], "a"], r"and lack \[CLS\]$"),
        (["a", *MARKS], r"\[PAD\] must be the first of the pieces, got a"),
        ([*MARKS, "a", "b", "a"], "pieces must be of one letter or more, each once, got 'a'"),
        ([*MARKS, "a", ""], "pieces must be of one letter or more, each once, got ''"),
        ([*MARKS, "##", "a"], "pieces must be of one letter or more, each once, got '##'"),
        ([*MARKS, "a", 5], "pieces must be strings, got 5"),
        ([*MARKS, ["a"]], r"pieces must be strings, got \['a'\]"),
    ],
)
def test_what_is_no_vocabulary_is_refused(pieces, message):
    with pytest.raises(ValueError, match=message):
        check_pieces(pieces)
    with pytest.raises(ValueError, match=message):
        WordPieces(pieces)


@pytest.mark.parametrize("longest", [4, 0, -1])
def test_no_room_for_tokens_is_refused(longest):
    with pytest.raises(ValueError, match=f"longest must be at least 5, got {longest}"):
        WordPieces(MARKS, longest=longest)
