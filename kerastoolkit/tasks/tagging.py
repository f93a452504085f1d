"""Tagging: the entities in sentences, by a tag for each word."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastoolkit import charts
from kerastoolkit.experiment import Data, Report, Task, described
from kerastoolkit.losses import softmax_cross_entropy
from kerastoolkit.serving.tags import OUTSIDE, Entity, WordTags, entities, tags_of_tokens, words_of
from kerastoolkit.tasks._bert import attention_endpoint, attention_picture, read_texts

WORST = 8
SHOWN = 4  # sentences in a picture
LONGEST_TOLD = 120  # characters
AT_ONCE = 1_024  # sentences
NOTHING = 1e-6  # what a sentence counts of which no word is read: a step of such sentences must not divide by zero


@described
def tagging(classes: list[str] | tuple[str, ...], network: str = "bert_tagger") -> Task:
    """One of ``classes`` for each word. The network gives logits (batch, length, classes) for tokens and segments, and what
    ``serving.tags.tagged_piece_inputs`` gives stands before it.

    Answers: tags (batch,) string, as many as there are words that blanks part, parted by spaces; probability (batch, most words)
    float32, of each tag. A word that is cut off, or of which nothing is read, has the tag O and the probability 0.

    A loss is the mean over the words of a sentence, and sentences count by their words.

    Args:
        classes: O, and tags with B- or I- before the kind of an entity, in the order of the logits.
        network: what the network is called.
    Raises:
        ValueError: fewer than two classes, or no O.
    """
    classes = list(classes)
    if len(classes) < 2 or OUTSIDE not in classes:
        raise ValueError(f"classes must be {OUTSIDE} and at least one more, got {', '.join(classes) or 'none'}")
    kinds = sorted({entity.kind for tag in classes for entity in entities([tag])})

    def encode(truths, inputs, side_outputs, seeds):
        return {}, tags_of_tokens(truths["tags"], side_outputs["words"], classes)

    def weigh(tags):
        return ops.maximum(ops.sum(ops.cast(tags >= 0, "float32"), axis=1), NOTHING)

    def mean_over_words(tags, values):
        return ops.sum(values * ops.cast(tags >= 0, values.dtype), axis=1) / weigh(tags)

    def loss(tags, logits):
        return mean_over_words(tags, softmax_cross_entropy(ops.maximum(tags, 0), logits))

    def word_accuracy(tags, logits):
        return mean_over_words(tags, ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), tags), "float32"))

    def answer(network: keras.Model) -> keras.Model:
        inputs = [keras.Input(each.shape[1:], dtype=each.dtype, name=each.name) for each in network.inputs]
        starts = keras.Input((None,), dtype="int32", name="starts")
        probabilities = keras.layers.Activation("softmax", dtype="float32", name="probabilities")(network(inputs))
        return keras.Model([*inputs, starts], WordTags(classes, name="tags")(probabilities, starts), name="answer")

    def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
        rows = []
        for name, tags, probability in zip(names, answers["tags"], answers["probability"], strict=True):
            found, tags = _in_text(name, tags, probability), tags.decode().split()
            rows.append({
                "text": name, "found": "; ".join(f"{each['text']} ({each['kind']})" for each in found),
                "unread_words": int(np.sum(probability[: len(tags)] == 0)), "tags": tags, "entities": found,
            })  # fmt: skip
        return rows

    def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
        spans = [(each["begin"], each["end"], each["kind"]) for each in _in_text(name, answers["tags"], answers["probability"])]
        return charts.tagged_text([(name, spans)], kinds)

    def probe(serving):
        return {"first": np.array(["A dog runs, and Mr. Li sits.", "", "\u2603 \u0001 \uac1c"], dtype=object)}

    return Task(
        name="tagging", encode=encode, loss=loss, metrics={"word_accuracy": word_accuracy}, weigh=weigh, answer=answer,
        score=lambda batches, data, serving: _score(batches, data, serving, kinds, network),
        read=lambda given: read_texts(given, False), tell=tell, draw=draw, probe=probe,
        endpoints=lambda serving: {"attention": attention_endpoint(serving, network)}, answered_at_once=64)  # fmt: skip


def entity_scores(truths: Sequence[Sequence[Entity]], found: Sequence[Sequence[Entity]]) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of entities, in all ("") and of each kind, as conlleval counts them: Tjong Kim Sang & De Meulder
    2003, https://aclanthology.org/W03-0419/.

    An entity that is found is right where its kind and all its words are those of a true one. What would divide by zero is 0.

    Args:
        truths, found: of each sentence its entities.
    Returns:
        kind -> precision, recall, f1, entities (true ones) and found (how many).
    """
    true, told, right = Counter(), Counter(), Counter()
    for of_sentence, of_answer in zip(truths, found, strict=True):
        for counts, some in ((true, of_sentence), (told, of_answer), (right, set(of_sentence) & set(of_answer))):
            for entity in some:
                counts[entity.kind] += 1
                counts[""] += 1
    return {kind: _scores(right[kind], told[kind], true[kind]) for kind in ["", *sorted((true + told).keys() - {""})]}


def _scores(right: int, told: int, true: int) -> dict[str, float]:
    precision, recall = right / max(told, 1), right / max(true, 1)
    f1 = 2 * right / max(told + true, 1)
    return {"precision": precision, "recall": recall, "f1": f1, "entities": true, "found": told}


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], data: Data, serving: keras.Model, kinds: list[str],
           network: str) -> Report:  # fmt: skip
    texts, truths, answered, unread = [], [], [], 0
    for raw, answers in batches:
        texts += [each.decode() for each in raw["first"]]
        truths += [each.decode().split() for each in raw["tags"]]
        answered += [each.decode().split() for each in answers["tags"]]
        unread += sum(int(np.sum(row[: len(tags)] == 0)) for row, tags in
                      zip(answers["probability"], truths[-len(raw["tags"]) :], strict=True))  # fmt: skip
    true = [entities(tags) for tags in truths]
    words = sum(map(len, truths))

    def scored(tags: list[list[str]]) -> tuple[dict[str, float], list[dict[str, Any]]]:
        of_kinds = entity_scores(true, [entities(each) for each in tags])
        total = of_kinds.pop("")
        right = sum(truth == tag for both in zip(truths, tags, strict=True) for truth, tag in zip(*both, strict=True))
        figures = {name: total[name] for name in ("f1", "precision", "recall")} | {"word_accuracy": right / max(words, 1)}
        return figures, [{"kind": kind, **row} for kind, row in of_kinds.items()]

    figures, table = scored(answered)
    baselines = {name: scored(tags)[0] for name, tags in _baselines(data, texts).items()}
    wrong = [set(true[i]) ^ set(entities(tags)) for i, tags in enumerate(answered)]
    worst = sorted((i for i, some in enumerate(wrong) if some), key=lambda i: -len(wrong[i]))
    rows = [{"text": texts[i][:LONGEST_TOLD], "missed": _listed(texts[i], set(true[i]) & wrong[i]),
             "wrongly_found": _listed(texts[i], wrong[i] - set(true[i]))} for i in worst[:WORST]]  # fmt: skip
    shown = [(text, _spans(text, some)) for i in (worst or range(len(texts)))[:SHOWN]
             for text, some in ((f"true: {texts[i]}", true[i]), (f"told: {texts[i]}", entities(answered[i])))]
    notes = ("an entity is right where its kind and all its words are, as conlleval counts",
             *((f"{unread:,} of {words:,} words were cut off or unreadable and count as {OUTSIDE}",) if unread else ()))
    pictures = {"sentences": charts.tagged_text(shown, kinds), **_attention(serving, texts, network)}
    return Report(figures, baselines=baselines, tables={"by kind": table, **({"worst sentences": rows} if rows else {})},
                  pictures=pictures, notes=notes)  # fmt: skip


def _baselines(data: Data, texts: list[str]) -> dict[str, list[list[str]]]:
    """The tags that two simple methods give, which know what stands in the training sentences by heart.

    The second is the shared task's own baseline: entities that are always of one kind, and of some that overlap the longest.
    """
    tags_of: dict[str, Counter[str]] = defaultdict(Counter)
    kinds_of: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for start in range(0, data.train.size, AT_ONCE):
        raw = data.train.fetch(np.arange(start, min(start + AT_ONCE, data.train.size)))
        for text, tags in zip(raw["first"].numpy(), raw["tags"].numpy(), strict=True):
            words, tags = text.decode().split(" "), tags.decode().split(" ")
            for word, tag in zip(words, tags, strict=True):
                tags_of[word][tag] += 1
            for entity in entities(tags):
                kinds_of[tuple(words[entity.begin : entity.end])].add(entity.kind)
    usual = {word: max(sorted(counts), key=counts.get) for word, counts in tags_of.items()}
    known = {words: next(iter(kinds)) for words, kinds in kinds_of.items() if len(kinds) == 1}
    split = [text.split(" ") for text in texts]
    return {"most frequent tag of each word": [[usual.get(word, OUTSIDE) for word in words] for words in split],
            "entities of training": [_tags_of_known(words, known) for words in split]}  # fmt: skip


def _tags_of_known(words: list[str], known: dict[tuple[str, ...], str]) -> list[str]:
    """The tags of a sentence in which known entities are marked, from its beginning, the longest first."""
    longest = max(map(len, known), default=0)
    tags = [OUTSIDE] * len(words)
    begin = 0
    while begin < len(words):
        ends = range(min(begin + longest, len(words)), begin, -1)
        end = next((end for end in ends if tuple(words[begin:end]) in known), None)
        if end is not None:
            kind = known[tuple(words[begin:end])]
            tags[begin:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - begin - 1)]
        begin = end or begin + 1
    return tags


def _in_text(text: str, tags: bytes, probability: np.ndarray) -> list[dict[str, Any]]:
    """The entities of a text, with their places in characters; an entity is as probable as the least probable of its tags."""
    places = words_of(text)
    found = []
    for entity in entities(tags.decode().split()):
        begin, end = places[entity.begin][0], places[entity.end - 1][1]
        found.append({"text": text[begin:end], "kind": entity.kind, "begin": begin, "end": end,
                      "probability": float(probability[entity.begin : entity.end].min())})  # fmt: skip
    return found


def _listed(text: str, some: Iterable[Entity]) -> str:
    words, in_order = text.split(" "), sorted(some, key=lambda each: each.begin)
    return "; ".join(f"{' '.join(words[each.begin : each.end])} ({each.kind})" for each in in_order)


def _spans(text: str, some: Iterable[Entity]) -> list[tuple[int, int, str]]:
    """Where entities are in a text that has one word more at its beginning."""
    places = words_of(text)[1:]
    return [(places[each.begin][0], places[each.end - 1][1], each.kind) for each in some]


def _attention(serving: keras.Model, texts: list[str], network: str) -> dict[str, Any]:
    """Where the network looks in a sentence of middle length."""
    import tensorflow as tf

    text = sorted(texts, key=len)[len(texts) // 2]
    answers = attention_endpoint(serving, network)(tf.constant([text]))
    return {"attention": attention_picture({name: np.asarray(value)[0] for name, value in answers.items()}, text)}
