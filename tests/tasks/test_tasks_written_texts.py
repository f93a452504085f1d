import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from kerastoolkit.experiment import InputError, rebuild
from kerastoolkit.models import transformer
from kerastoolkit.serving.byte_pairs import END, START, vocabulary_size
from kerastoolkit.serving.model import serving_model
from kerastoolkit.tasks.summarisation import read_documents, summaries, summarisation
from kerastoolkit.tasks.translation import sentence_tokens, translation, translations

MERGES = [(97 + 3, 98 + 3), (32 + 3, 259)]  # "ab", " ab"
TOKENS = np.array([[5, 6, END], [5, END, 0]])


@pytest.fixture(scope="module")
def serving():
    size = vocabulary_size(MERGES)
    network = transformer(source_vocabulary=size, target_vocabulary=size, depth=1, width=8, heads=2, feed_forward=8)
    return serving_model(preprocess=sentence_tokens(MERGES), network=network, task=translation(MERGES))


def test_the_network_is_given_what_came_before_and_shall_write_the_text_and_its_end():
    extra, targets = translations().encode({"target_tokens": TOKENS}, {}, {}, None)
    np.testing.assert_array_equal(extra["target_tokens"], [[START, 5, 6], [START, 5, END]])
    np.testing.assert_array_equal(targets, TOKENS)


def test_a_loss_is_the_mean_over_the_tokens_of_a_text_without_padding():
    logits = np.zeros((2, 3, 8), np.float32)
    logits[0, 0, 5] = 3.0
    logits[1, 2, 0] = 50.0  # at padding: no matter
    first = math.log(7 + math.exp(3)) - 3
    losses = translations(smoothing=0.0).loss(TOKENS, logits)
    np.testing.assert_allclose(losses, [(first + 2 * math.log(8)) / 3, math.log(8)], rtol=1e-5)


def test_a_smoothed_loss_spreads_a_share_of_the_probability_over_all_tokens():
    logits = np.zeros((2, 3, 8), np.float32)
    logits[:, :, 5] = 3.0
    total = math.log(7 + math.exp(3))
    right, wrong = total - (0.9 * 3 + 0.1 * 3 / 8), total - 0.1 * 3 / 8
    losses = translations(smoothing=0.1).loss(TOKENS, logits)
    np.testing.assert_allclose(losses, [(right + 2 * wrong) / 3, (right + wrong) / 2], rtol=1e-5)


def test_the_metric_has_no_smoothing():
    logits = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)
    task = translations(smoothing=0.3)
    expected = translations(smoothing=0.0).loss(TOKENS, logits)
    np.testing.assert_allclose(task.metrics["nats_per_token"](TOKENS, logits), expected, rtol=1e-5)


def test_texts_count_by_their_tokens():
    np.testing.assert_array_equal(translations().weigh(TOKENS), [3, 2])


@pytest.mark.parametrize("task", [translations, summaries])
@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_a_smoothing_outside_its_range_is_refused(task, smoothing):
    with pytest.raises(InputError, match=r"smoothing must be in \[0, 1\), got"):
        task(smoothing=smoothing)


def test_a_task_is_made_again_from_its_description_without_the_merges():
    task = translation(MERGES, smoothing=0.2, beams=3)
    assert "merges" not in str(task.description)
    again = rebuild(task.description)
    assert again.settings["beams"] == 3 and again.name == "translation"


def test_the_attention_endpoint_answers_as_serve_does_and_tells_where_it_looked(serving):
    import tensorflow as tf

    task = translation(MERGES)
    made_up = task.probe(serving).items()
    given = {name: tf.constant(values.tolist() if values.dtype == object else values) for name, values in made_up}
    plain, looked = serving(given), task.endpoints(serving)["attention"](given)
    np.testing.assert_array_equal(plain["translation"], looked["translation"])
    np.testing.assert_allclose(plain["score"], looked["score"], rtol=1e-5)
    weights = looked["attention"].numpy()
    assert weights.shape == (3, looked["target_pieces"].shape[1], looked["source_pieces"].shape[1])
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    # The second source is empty: its only token is its end.
    np.testing.assert_allclose(weights[1, :, 0], 1, rtol=1e-5)


def test_an_answer_is_drawn_as_its_attention_with_signs_for_spaces_and_the_end():
    answers = {"translation": b"ab c", "attention": np.full((4, 5), 0.2),
               "target_pieces": np.array([b" ab", b" ", b"c", b""], object),
               "source_pieces": np.array([b" x", b"\xff", b"", b"", b""], object)}  # fmt: skip
    figure = translations().draw({}, answers, "x")
    assert isinstance(figure, Figure)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ab", "␣", "c", "■"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "\ufffd", "■"]


def test_a_file_of_sentences_is_read_by_its_lines_and_what_is_no_file_as_it_stands(tmp_path):
    (tmp_path / "letters.txt").write_text("\ufeffeins\n\n  zwei \n", "utf-8")
    names, raw = translations().read(["drei.", str(tmp_path / "letters.txt"), ""])
    assert names == ["drei.", "eins", "  zwei ", ""]
    assert raw["source"].tolist() == names


def test_a_document_is_the_whole_of_a_file(tmp_path):
    (tmp_path / "article.txt").write_text("One.\n\nTwo.", "utf-8")
    names, raw = summaries().read([str(tmp_path / "article.txt"), "As it stands."])
    assert names == [str(tmp_path / "article.txt"), "As it stands."]
    assert raw["document"].tolist() == ["One.\n\nTwo.", "As it stands."]


def test_a_file_that_is_no_text_or_too_large_is_refused_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(InputError, match="picture.png: must be a file of UTF-8 text"):
        translations().read([str(tmp_path / "picture.png")])
    monkeypatch.setattr("kerastoolkit.tasks._written_texts.MOST_BYTES", 3)
    with pytest.raises(InputError, match="picture.png: a text may have at most 3 bytes, got 5"):
        summaries().read([str(tmp_path / "picture.png")])


def test_no_more_of_a_text_is_read_than_its_longest(serving):
    (tokens,) = sentence_tokens(MERGES, longest=4)(np.array(["ab ab ab ab ab"], object)).values()
    np.testing.assert_array_equal(tokens, [[260, 260, 260, END]])
    (tokens,) = read_documents(MERGES, longest=3)(np.array(["ab ab ab"], object)).values()
    np.testing.assert_array_equal(tokens, [[260, 260, END]])


def batches(**columns):
    return [({key: np.array([text.encode() for text in texts], object) for key, texts in columns.items() if key != "answer"},
             dict.fromkeys(("translation", "summary"),
                           np.array([text.encode() for text in columns["answer"]], object)))]  # fmt: skip


def test_translations_are_scored_by_their_strings_beside_their_sources(serving):
    found = batches(source=["ab ab ab ab ab", "x y z u v"], target=["a b c d e", "x y z u v"], answer=["a b c d e", "x y z u v"])
    report = translations().score(found, None, serving, tokenizer="13a", beams=4)
    assert report.figures["bleu"] == pytest.approx(100) and report.figures["exact_match"] == 1
    assert report.figures["copied_from_source"] == 0.5 and report.figures["length_ratio"] == 1
    assert report.baselines["the source as it stands"]["exact_match"] == 0.5
    assert set(report.pictures) == {"attention_1", "attention_2"}


def test_summaries_are_scored_beside_the_first_sentences_and_some_at_random():
    size = vocabulary_size(MERGES)
    network = transformer(source_vocabulary=size, target_vocabulary=size, depth=1, width=8, heads=2, feed_forward=8)
    model = serving_model(preprocess=read_documents(MERGES), network=network, task=summarisation(MERGES))
    text = "One dog ran. Two cats sat. Three birds flew. Four fish swam. Five cows stood. Six pigs lay."
    found = batches(document=[text], summary=["One dog ran. Two cats sat. Three birds flew."], answer=["Four fish swam."])
    report = summaries().score(found, None, model)
    assert report.baselines["the first 3 sentences"]["rouge2"] == 1
    assert report.baselines["3 sentences at random"]["rouge2"] < 1
    assert report.figures["rouge1"] == 0
