"""Summarisation all the way, from strings to strings, on a file of one's own."""

import json

import numpy as np
import pytest

from kerastoolkit import catalog, train
from kerastoolkit.evaluate import evaluate
from kerastoolkit.experiment import InputError
from kerastoolkit.export import export
from kerastoolkit.predict import predict

pytestmark = pytest.mark.usefixtures("loaded_once")

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SMALL = {"width": 32, "heads": 2, "feed_forward": 64, "depth": 1, "dropout": 0.0, "vocabulary": 290, "warm_up_steps": 60,
         "learning_rate": 0.01, "batch_tokens": 512, "averaged": 4, "smoothing": 0.0}  # fmt: skip


def test_documents_are_summarised_beside_their_own_sentences(tmp_path):
    generator = np.random.default_rng(0)
    with open(tmp_path / "news.jsonl", "w", encoding="utf-8") as file:
        for _ in range(300):
            names = [NUMBERS[each] for each in generator.integers(0, 10, 5)]
            sentences = [f"Item {name} came." for name in names]
            print(json.dumps({"document": " ".join(sentences), "summary": sentences[-1]}), file=file)
    settings = {**SMALL, "data": str(tmp_path / "news.jsonl"), "document_tokens": 64, "summary_tokens": 16, "epochs": 10}
    run = train.train(catalog.find_recipe("bbc-summarise-transformer"), settings, out=str(tmp_path / "run"))
    result, _ = evaluate(str(run))
    assert result["figures"]["rouge1"] > 0.9 > result["baselines"]["the first 3 sentences"]["rouge1"]
    assert result["settings"] == {"beams": 4, "length_penalty": 1.5, "no_repeat_ngram": 6, "longest": 16}
    (tmp_path / "one.txt").write_text("Item one came. Item two came. Item six came. Item two came. Item four came.")
    (row,) = predict(str(run), [str(tmp_path / "one.txt")], out=str(tmp_path / "answers"))
    assert row["summary"].startswith("Item ") and row["document"] == str(tmp_path / "one.txt")
    assert (tmp_path / "answers" / "001-one.png").is_file()
    with pytest.raises(InputError, match="^no_repeat_ngram must be 0 .. 10,000 tokens, got -1$"):
        predict(str(run), [str(tmp_path / "one.txt")], settings={"no_repeat_ngram": "-1"})
    assert predict(str(export(str(run))), [str(tmp_path / "one.txt")])[0]["summary"] == row["summary"]
