"""Translation all the way, from strings to strings, on files of one's own."""

import json
import subprocess
import sys

import numpy as np
import pytest

from kerastoolkit import catalog, train
from kerastoolkit.evaluate import evaluate
from kerastoolkit.experiment import InputError, RunError
from kerastoolkit.export import export
from kerastoolkit.predict import predict

pytestmark = pytest.mark.usefixtures("loaded_once")

KOREAN = ("영", "일", "이", "삼", "사", "오", "육", "칠", "팔", "구")
ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SMALL = {"width": 32, "heads": 2, "feed_forward": 64, "depth": 1, "dropout": 0.0, "vocabulary": 290, "warm_up_steps": 60,
         "norm_first": True, "learning_rate": 0.01, "batch_tokens": 512, "averaged": 4, "epochs": 28,
         "smoothing": 0.0}  # fmt: skip


def spelled(number):
    """A number in Korean words, and its digits in English words in the opposite order: what is copied in place is wrong."""
    digits = [int(each) for each in str(number)]
    return " ".join(KOREAN[each] for each in digits), " ".join(ENGLISH[each] for each in reversed(digits))


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translation")
    numbers = np.random.default_rng(0).permutation(9_000)[:1_500] + 1_000
    (folder / "numbers.tsv").write_text("".join("\t".join(spelled(number)) + "\n" for number in numbers), "utf-8")
    settings = {**SMALL, "data": str(folder / "numbers.tsv"), "source": "ko", "target": "en"}
    return train.train(catalog.find_recipe("multi30k-transformer"), settings, out=str(folder / "run")), numbers


@pytest.fixture(scope="module")
def exported(translator):
    return export(str(translator[0]))


def unseen(translator, count):
    numbers = set(translator[1].tolist())
    others = [number for number in range(1_000, 10_000) if number not in numbers]
    return np.random.default_rng(1).choice(others, count, replace=False).tolist()


def test_a_translator_of_ones_own_pairs_is_right_on_sentences_that_it_never_saw(translator):
    result, report = evaluate(str(translator[0]))
    assert result["examples"] == 75
    assert result["figures"]["exact_match"] >= 0.95
    assert result["figures"]["bleu"] > 95
    assert result["figures"]["copied_from_source"] == 0
    assert result["baselines"]["the source as it stands"]["exact_match"] == 0
    assert "nrefs:1|case:mixed" in " ".join(result["notes"])
    assert {"attention_1"} <= set(report.pictures)
    assert (translator[0] / "plots" / "attention_1.png").is_file()


def test_predict_takes_sentences_and_files_of_them(translator, tmp_path):
    numbers = unseen(translator, 4)
    (tmp_path / "more.txt").write_text("\n".join(spelled(number)[0] for number in numbers[1:]) + "\n\n", "utf-8")
    rows = predict(str(translator[0]), [spelled(numbers[0])[0], str(tmp_path / "more.txt")], out=str(tmp_path / "answers"))
    assert [row["source"] for row in rows] == [spelled(number)[0] for number in numbers]
    assert sum(row["translation"] == spelled(number)[1] for row, number in zip(rows, numbers, strict=True)) >= 3
    assert all(row["score"] <= 0 for row in rows)
    assert len(list((tmp_path / "answers").glob("*.png"))) == 4


def test_a_decomposed_sentence_is_read_as_its_composed_form(translator):
    import unicodedata

    sentence = spelled(unseen(translator, 1)[0])[0]
    decomposed = unicodedata.normalize("NFD", sentence)
    assert decomposed != sentence
    rows = predict(str(translator[0]), [sentence, decomposed])
    assert rows[0]["translation"] == rows[1]["translation"]


def test_attention_is_shared_out_among_the_pieces_of_the_source_and_not_evenly(translator):
    import tensorflow as tf

    from kerastoolkit.serving.decoding import SETTINGS
    from kerastoolkit.serving.model import load_serving_model, with_settings
    from kerastoolkit.tasks._written_texts import attention_model

    model = attention_model(load_serving_model(translator[0]), "source", "translation")
    found = model(with_settings({"source": tf.constant([spelled(number)[0] for number in unseen(translator, 20)])}, SETTINGS))
    weights = found["attention"].numpy()
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-4)
    assert weights.shape[1:] == (found["target_pieces"].shape[1], found["source_pieces"].shape[1])
    assert weights.max(axis=-1).mean() > 3 / weights.shape[2]


def test_the_export_translates_in_a_process_that_has_tensorflow_alone(translator, exported):
    sentences = [spelled(number)[0] for number in unseen(translator, 3)]
    program = f"""
import json, sys
import tensorflow as tf
model = tf.saved_model.load({str(exported)!r})
serve = model.signatures["serving_default"]
texts = {sentences!r}
of = lambda value: tf.constant([value] * len(texts))
answer = serve(source=tf.constant(texts), beams=of(4), length_penalty=of(0.6), temperature=of(0.0), top_k=of(0), top_p=of(1.0),
               no_repeat_ngram=of(0), longest=of(0), seed=of(0))
assert not {{"kerastoolkit", "keras_hub", "tensorflow_text", "tokenizers"}} & set(sys.modules)
print(json.dumps([text.decode() for text in answer["translation"].numpy()]))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-2000:]
    expected = [row["translation"] for row in predict(str(translator[0]), sentences)]
    assert json.loads(found.stdout.splitlines()[-1]) == expected


def test_an_export_is_asked_as_the_run_is(translator, exported):
    sentences = [spelled(number)[0] for number in unseen(translator, 3)]
    found, expected = predict(str(exported), sentences), predict(str(translator[0]), sentences)
    assert [row["translation"] for row in found] == [row["translation"] for row in expected]
    np.testing.assert_allclose([row["score"] for row in found], [row["score"] for row in expected], rtol=1e-4, atol=1e-6)


def test_settings_of_the_search_are_taken_and_wrong_ones_refused(translator):
    sentence = spelled(unseen(translator, 1)[0])[0]
    (greedy,) = predict(str(translator[0]), [sentence], settings={"beams": "1"})
    (drawn,) = predict(str(translator[0]), [sentence], settings={"temperature": "0.5", "top_k": "1"})
    assert greedy["translation"] == drawn["translation"]
    (short,) = predict(str(translator[0]), [sentence], settings={"longest": "2"})
    assert len(short["translation"]) < len(greedy["translation"])
    with pytest.raises(InputError, match="translation has no setting beam "):
        predict(str(translator[0]), [sentence], settings={"beam": "1"})
    with pytest.raises(InputError, match="beams must be 1 .. 100, got 0"):
        predict(str(translator[0]), [sentence], settings={"beams": "0"})


def test_evaluate_takes_the_settings_of_the_search_and_the_tokenizer_of_bleu(translator):
    result, _ = evaluate(str(translator[0]), settings={"beams": "1", "tokenizer": "char"})
    assert result["settings"] == {"beams": 1, "length_penalty": 0.6, "tokenizer": "char"}
    assert "bleu: " in result["notes"][0] and "tok:char" in result["notes"][0]
    with pytest.raises(InputError, match="tokenizer must be one of 13a"):
        evaluate(str(translator[0]), settings={"tokenizer": "mecab"})
    with pytest.raises(InputError, match="^beams must be 1 .. 100, got 0$"):
        evaluate(str(translator[0]), settings={"beams": "0"})


def test_a_sentence_too_long_for_a_files_name_is_answered_and_drawn(translator, tmp_path):
    sentence = " ".join([spelled(1234)[0]] * 40)
    predict(str(translator[0]), [sentence, "삼/오"], out=str(tmp_path))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0].startswith("001-일 이 삼 사") and names[1] == "002-오.png"


@pytest.mark.parametrize("name", ["letter.txt", "here/letter.md", "letters.txt.gz"])
def test_the_name_of_a_file_that_is_not_there_is_no_sentence(translator, name):
    with pytest.raises(InputError, match=f"^there is no file {name}$"):
        predict(str(translator[0]), [name])


@pytest.mark.slow
def test_training_that_goes_on_with_other_pairs_is_refused(tmp_path):
    """Their sub-words are others, so that the network's embeddings would stand for something else."""
    pairs = [spelled(number) for number in range(1_000, 1_060)]
    settings = {**SMALL, "data": str(tmp_path / "pairs.tsv"), "source": "ko", "target": "en", "epochs": 2}
    recipe = catalog.find_recipe("multi30k-transformer")
    (tmp_path / "pairs.tsv").write_text("".join("\t".join(pair) + "\n" for pair in pairs), "utf-8")
    run = train.train(recipe, settings, out=str(tmp_path / "run"))
    (tmp_path / "pairs.tsv").write_text("".join("\t".join(pair[::-1]) + " what else\n" for pair in pairs), "utf-8")
    with pytest.raises(RunError, match="the data has changed since the checkpoint"):
        train.resume(str(run), epochs=3)


@pytest.mark.parametrize(
    ("recipe", "setting", "message"),
    [
        ("multi30k-transformer", {"longest": 1}, "longest must be at least 2, got 1"),
        ("multi30k-transformer", {"learning_rate": 0.0}, "learning_rate must be above 0 and finite, got 0.0"),
        ("multi30k-transformer", {"averaged": 0}, "averaged must be at least 1, got 0"),
        ("bbc-summarise-transformer", {"document_tokens": 1}, "document_tokens must be 2 .. 10,000, got 1"),
        ("bbc-summarise-transformer", {"summary_tokens": 20_000}, "summary_tokens must be 2 .. 10,000, got 20000"),
    ],
)
def test_a_wrong_setting_of_a_recipe_is_named(recipe, setting, message):
    found = catalog.find_recipe(recipe)
    with pytest.raises(InputError, match=message):
        train.build(found, catalog.arguments(found, {**SMALL, "data": "sample", **setting}), 0)
