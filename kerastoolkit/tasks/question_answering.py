"""Extractive question answering: where in a text the answer to a question stands."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerastoolkit import charts
from kerastoolkit.experiment import InputError, Report, Task, described
from kerastoolkit.losses import softmax_cross_entropy
from kerastoolkit.serving.spans import AROUND, NEVER, NONE, BestSpan, WindowLogits
from kerastoolkit.tasks._answer_scores import score_answers
from kerastoolkit.tasks._bert import answer_attention_endpoint, answer_attention_picture
from kerastoolkit.tasks._written_texts import file_text

SIDE_OUTPUTS = {"example": ((), "int32"), "begins": ((None,), "int32"), "ends": ((None,), "int32"),
                "central": ((None,), "bool"), "context": ((), "string")}  # fmt: skip
LONGEST_CONTEXT = 100_000  # characters of a text to be asked about, whose windows are all held at once
USAGE = "a question, or several, and last the text or its file; or one .json file in SQuAD's form"


@described
def question_answering(longest_answer: int = 30) -> Task:
    """The part of a text that answers a question: Devlin et al. 2018, section 4.2, https://arxiv.org/abs/1810.04805.

    The network gives logits (windows, length, 2) for the windows of ``serving.spans.QuestionWindows``. A loss is the mean of two
    cross-entropies, over the places where the answer may begin and over those where it may end; in a window without the whole
    answer that is [CLS]. Answers: answer, begin, end, probability, before and after, as ``serving.spans.BestSpan`` gives them.

    Args:
        longest_answer: tokens that an answer has at most.
    Raises:
        ValueError: ``longest_answer`` is below 1.
    Differs from the paper's program: the answer's tokens are found by their characters, and not by the words that white space
    parts; padding is no place where an answer may be; and an example counts in a step as often as it has windows there, where
    the program shuffles the windows of all.
    """
    BestSpan(longest_answer)  # refuses what is no length

    def encode(truths, inputs, side_outputs, seeds):
        positions = answer_positions(side_outputs, truths["answer_begin"], truths["answer_end"])
        return {}, {"positions": positions, "present": tf.not_equal(inputs["tokens"], 0)}

    def of_present(targets, logits):
        """Logits of beginning and end (windows, 2, length), of padding far below all others."""
        logits = ops.where(ops.expand_dims(targets["present"], -1), ops.cast(logits, "float32"), NEVER)
        return ops.moveaxis(logits, -1, 1)

    def loss(targets, logits):
        return ops.mean(softmax_cross_entropy(targets["positions"], of_present(targets, logits)), axis=1)

    def exact(targets, logits):
        found = ops.cast(ops.argmax(of_present(targets, logits), axis=-1), "int32")
        return ops.cast(ops.all(ops.equal(found, targets["positions"]), axis=1), "float32")

    def answer(network: keras.Model) -> keras.Model:
        inputs = {each.name: keras.Input(each.shape[1:], dtype=each.dtype, name=each.name) for each in network.inputs}
        side = {name: keras.Input(shape, dtype=kind, name=name) for name, (shape, kind) in SIDE_OUTPUTS.items()}
        logits = WindowLogits(network, name="window_logits")(inputs["tokens"], inputs["segments"])
        found = BestSpan(longest_answer, name="best_span")(logits, *side.values())
        return keras.Model({**inputs, **side}, found, name="answer")

    def probe(serving):
        contexts = ["The tower was built in 1889. " * 4, "", "\u2603 e\u0301te\u0301 \uac1c \u6771\u4eac."]
        questions = ["When was it built?", "Why?", ""]
        return {"question": np.array(questions, dtype=object), "context": np.array(contexts, dtype=object)}

    return Task(
        name="question answering", encode=encode, loss=loss, metrics={"exact": exact}, answer=answer,
        score=lambda batches, data, serving: _score(batches, serving), read=read_questions, tell=tell, draw=draw, probe=probe,
        endpoints=lambda serving: {"attention": answer_attention_endpoint(serving)}, answered_at_once=32)  # fmt: skip


def _score(batches: Iterable[tuple[dict[str, Any], dict[str, Any]]], serving: keras.Model) -> Report:
    """The figures of the answers, and a picture of where the network looks for the first of them."""
    first = []

    def told():
        for raw, answers in batches:
            first[:] = first or [(raw["question"][0], raw["context"][0])]
            yield raw, answers

    report = score_answers(told())
    question, context = first[0]
    answers = answer_attention_endpoint(serving)({"question": tf.constant([question]), "context": tf.constant([context])})
    of_it = {name: value.numpy()[0] for name, value in answers.items()}
    title = f"{_text(question)}  {_text(of_it['answer'])}"
    return replace(report, pictures={**report.pictures, "attention": answer_attention_picture(of_it, title)})


def answer_positions(windows: dict[str, Any], answer_begin, answer_end):
    """The tokens with which an answer begins and ends in each window: (windows, 2) int32; 0 in windows without all of its tokens.

    Args:
        windows: example, begins, ends and central as ``serving.spans.QuestionWindows`` gives them.
        answer_begin, answer_end: (batch,) int32, characters of the text.
    """
    example, begins, ends = (windows[name] for name in ("example", "begins", "ends"))
    begin, end = (tf.gather(each, example)[:, None] for each in (answer_begin, answer_end))
    holds = (begins != NONE) & (ends > begin) & (begins < end)
    count = tf.reduce_sum(tf.cast(holds, tf.int32), axis=1)
    # Each token of the text is central in one window: those of all windows together are the answer's.
    central = tf.reduce_sum(tf.cast(holds & windows["central"], tf.int32), axis=1)
    whole = tf.gather(tf.math.unsorted_segment_sum(central, example, tf.size(answer_begin)), example)
    first = tf.argmax(holds, axis=1, output_type=tf.int32)
    inside = (count > 0) & (count == whole)
    return tf.where(inside[:, None], tf.stack([first, first + count - 1], axis=1), 0)


def read_questions(given: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Questions and the text that they are about: all that is given but the last are questions, and the last is the text or its
    file; or a file in SQuAD's form is given alone.

    Raises:
        InputError: there is no question or no text, a text is too long, or the file has another form.
    """
    if len(given) == 1 and given[0].lower().endswith(".json"):
        pairs = _of_squad(given[0], file_text(given[0]) or "")
    elif len(given) < 2:
        raise InputError(f"question answering takes {USAGE}; got {given[0][:60] if given else 'nothing'}")
    else:
        *asked, text = given
        whole = file_text(text)
        pairs = [(question, text if whole is None else whole) for question in asked]
    for question, context in pairs:
        if not question.strip():
            raise InputError(f"question answering takes {USAGE}; got an empty question")
        if not context.strip():
            raise InputError(f"question answering takes {USAGE}; got an empty text")
        if max(len(question), len(context)) > LONGEST_CONTEXT:
            got = max(len(question), len(context))
            raise InputError(f"a text to be asked about may have at most {LONGEST_CONTEXT:,} characters, got {got:,}")
    columns = zip(("question", "context"), zip(*pairs, strict=True), strict=True)
    return [question for question, _ in pairs], {name: np.array(texts, dtype=object) for name, texts in columns}


def tell(names: list[str], answers: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each question, with the answer among the words around it."""
    rows = []
    for number, name in enumerate(names):
        before, text, after = (answers[key][number].decode() for key in ("before", "answer", "after"))
        row = {key: kind(answers[key][number]) for key, kind in (("begin", int), ("end", int), ("probability", float))}
        rows.append({"question": name, "answer": text, **row, "text": _among(before, text, after)})
    return rows


def draw(raw: dict[str, Any], answers: dict[str, Any], name: str):
    """The text with the answer set off."""
    title = f"{name}  {answers['answer'].decode()} ({answers['probability']:.0%})"
    return charts.passage(_text(raw["context"]), int(answers["begin"]), int(answers["end"]), title)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _among(before: str, text: str, after: str) -> str:
    """The answer between marks and whole words beside it, in one line."""
    if len(before) == AROUND:
        before = "…" + before[before.find(" ") + 1 :]
    if len(after) == AROUND:
        after = after[: after.rfind(" ")] + "…" if " " in after else "…"
    return " ".join(f"{before}>{text}<{after}".split())


def _of_squad(path: str, text: str) -> list[tuple[str, str]]:
    try:
        whole = json.loads(text)
        pairs = [(asked["question"], paragraph["context"])
                 for article in whole["data"] for paragraph in article["paragraphs"] for asked in paragraph["qas"]]  # fmt: skip
        right = all(isinstance(each, str) for pair in pairs for each in pair)
    except (ValueError, KeyError, TypeError, RecursionError):
        right = False
    if not right or not pairs:
        raise InputError(f"{path}: must be JSON in SQuAD's form: data, paragraphs with a context, and qas with a question")
    return pairs
