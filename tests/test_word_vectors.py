"""Word vectors all the way: a text of one's own is read, trained on, scored, asked and exported, by each of the recipes."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest
from gensim.models import KeyedVectors

from kerastoolkit import catalog, train
from kerastoolkit.data.named import inspect
from kerastoolkit.evaluate import evaluate
from kerastoolkit.experiment import InputError
from kerastoolkit.export import export
from kerastoolkit.predict import predict
from kerastoolkit.weights.word_vectors import begin_with, read_word_vectors, write_word_vectors

# Two topics whose words never occur together, one in Korean.
TOPICS = (("바다", "파도", "고래", "모래"), ("stone", "hill", "sheep", "Grass"))
RECIPES = {
    "text8-skipgram": {"epochs": 40, "learning_rate": 0.3},
    "text8-cbow": {"epochs": 40, "learning_rate": 0.3},
    "text8-glove": {"epochs": 200, "x_max": 10.0, "window": 4, "block": 4, "batch_size": 2, "learning_rate": 0.2},
}
SMALL = {"dimensions": 8, "window": 2, "block": 64, "segment": 8, "noise": 4, "batch_size": 4, "sample": 0.0}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder of two texts, one of them packed."""
    folder, generator = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    for name, topic in zip(("sea.txt", "land.txt.gz"), TOPICS, strict=True):
        contents = ", ".join(generator.choice(topic, 3_000)).encode()
        (folder / name).write_bytes(gzip.compress(contents) if name.endswith(".gz") else contents)
    return folder


@pytest.fixture(scope="module", params=[
    pytest.param(name, marks=pytest.mark.slow if name == "text8-cbow" else ()) for name in RECIPES])  # fmt: skip
def run(request, texts, tmp_path_factory):
    """A finished run of each recipe on these texts."""
    recipe = catalog.find_recipe(request.param)
    small = {name: value for name, value in SMALL.items() if name in recipe.parameters}
    settings = {**small, **RECIPES[request.param], "data": str(texts)}
    return train.train(recipe, settings, out=str(tmp_path_factory.mktemp("runs") / "run"))


@pytest.mark.parametrize("setting", ["learning_rate", "block"])
@pytest.mark.parametrize("name", RECIPES)
def test_settings_that_must_be_more_than_zero_are_named(name, setting, texts):
    recipe = catalog.find_recipe(name)
    with pytest.raises(InputError, match=f"{setting} must be more than 0, got 0"):
        train.build(recipe, catalog.arguments(recipe, {"data": str(texts), setting: 0}), 0)


def words_of(topic):
    return {word.lower() for word in topic}


def test_the_nearest_words_are_those_of_the_topic(run):
    for topic in TOPICS:
        for row in predict(str(run), list(topic), settings={"count": "3"}):
            nearest = {each["word"] for each in row["neighbours"]}
            assert nearest == words_of(topic) - {row["query"].lower()}


def test_pairs_of_ones_own_are_scored(run, tmp_path):
    pairs = [(TOPICS[0][0], TOPICS[0][1], 9), (TOPICS[1][0], TOPICS[1][1], 9), (TOPICS[0][0], TOPICS[1][0], 1), ("stone", "x", 5)]
    (tmp_path / "mine.tsv").write_text("".join(f"{one}\t{other}\t{value}\n" for one, other, value in pairs))
    record, report = evaluate(str(run), settings={"pairs": str(tmp_path / "mine.tsv")})
    assert record["figures"]["mine_spearman"] > 0.8
    assert record["figures"]["vocabulary"] == 8
    assert report.tables["similarity, against people's judgement"][0]["covered"] == "3 of 4"
    assert (run / "plots" / "word_map.png").is_file()


def test_the_export_answers_as_the_run_does_in_a_process_without_this_package(run, tmp_path):
    saved = export(str(run), str(tmp_path / "saved"))
    query = f"{TOPICS[0][0]} + {TOPICS[0][1]} ~ stone"
    for ours, theirs in zip(predict(str(run), [query, "HILL"]), predict(str(saved), [query, "HILL"]), strict=True):
        assert theirs["similarity"] == pytest.approx(ours["similarity"], abs=1e-5)
        assert [each["word"] for each in theirs["neighbours"]] == [each["word"] for each in ours["neighbours"]]
    program = f"""
import sys
import tensorflow as tf
model = tf.saved_model.load({str(saved)!r})
alone = model.serve(tf.constant(["stone"]))["vector"]
both = model.serve(tf.constant(["stone hill nobody"]))
near = model.signatures["neighbours"](text=tf.constant(["stone"]), count=tf.constant([2]))
assert "kerastoolkit" not in sys.modules
print(alone.numpy()[0].tolist(), both["known"].numpy()[0], [each.decode() for each in near["neighbours"].numpy()[0]], sep="|")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd="/", timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    vector, known, neighbours = result.stdout.strip().split("\n")[-1].split("|")
    words, vectors = read_word_vectors(export(str(run), str(tmp_path / "vectors.bin"), kind="word2vec-binary"))
    np.testing.assert_allclose(json.loads(vector), vectors[words.index("stone")], atol=1e-6)
    assert known == "2"
    assert all(word in neighbours for word in [each["word"] for each in predict(str(run), ["stone"])[0]["neighbours"][:2]])


@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_what_is_exported_and_answers_the_same(run, tmp_path, binary):
    kind = "word2vec-binary" if binary else "word2vec"
    theirs = KeyedVectors.load_word2vec_format(export(str(run), str(tmp_path / "vectors"), kind=kind), binary=binary)
    (row,) = predict(str(run), ["stone - hill + 바다"], settings={"count": "5"})
    expected = theirs.most_similar(positive=["stone", "바다"], negative=["hill"], topn=5)
    assert [each["word"] for each in row["neighbours"]] == [word for word, _ in expected]
    np.testing.assert_allclose([each["similarity"] for each in row["neighbours"]], [value for _, value in expected], atol=1e-5)


def test_a_picture_is_drawn_of_each_query(run, tmp_path):
    predict(str(run), ["stone", "stone ~ hill"], out=str(tmp_path / "answers"))
    assert sorted(path.name for path in (tmp_path / "answers").iterdir()) == ["001-stone.png", "002-stone ~ hill.png"]


def test_an_unknown_word_or_format_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="nobody: not in the vocabulary: nobody"):
        predict(str(run), ["stone", "nobody"])
    with pytest.raises(InputError, match="is exported as saved_model, onnx, litert, word2vec or word2vec-binary, got h5"):
        export(str(run), str(tmp_path / "x"), kind="h5")
    with pytest.raises(InputError, match=r"must not end in \.gz"):
        export(str(run), str(tmp_path / "x.gz"), kind="word2vec")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["text8-skipgram", "text8-cbow"])
def test_hierarchical_softmax_learns_the_topics_too(texts, tmp_path, name):
    settings = {**SMALL, **RECIPES[name], "data": str(texts), "hierarchical": True}
    run = train.train(catalog.find_recipe(name), settings, out=str(tmp_path / "run"))
    for topic in TOPICS:
        for row in predict(str(run), list(topic), settings={"count": "3"}):
            assert {each["word"] for each in row["neighbours"]} == words_of(topic) - {row["query"].lower()}


def test_training_begins_with_the_vectors_of_a_file(texts, tmp_path):
    given = np.random.default_rng(0).normal(size=(2, 8)).astype("float32")
    write_word_vectors(tmp_path / "given.bin", ["stone", "elsewhere"], given, binary=True)
    recipe = catalog.find_recipe("text8-cbow")
    settings = {**SMALL, "data": str(texts), "vectors": str(tmp_path / "given.bin")}
    experiment = train.build(recipe, catalog.arguments(recipe, settings), 0)
    words = experiment.preprocess.get_layer("vocabulary").words
    table = experiment.network.get_layer("word_vectors").embeddings.numpy()
    np.testing.assert_array_equal(table[words.index("stone")], given[0])
    assert np.abs(np.delete(table, words.index("stone"), axis=0)).max() <= 0.5 / 8


@pytest.mark.parametrize(
    ("words", "dimensions", "message"),
    [(["stone"], 7, "must have the network's 8 dimensions, got 7"),
     (["x"], 8, "must have some of the vocabulary's 3 words, got none")],
)
def test_vectors_that_do_not_fit_are_refused(tmp_path, words, dimensions, message):
    from kerastoolkit.models import cbow

    write_word_vectors(tmp_path / "given", words, np.ones((1, dimensions)), binary=False)
    with pytest.raises(ValueError, match=message):
        begin_with(cbow(vocabulary=3, dimensions=8), ["stone", "hill", "sheep"], tmp_path / "given")


def test_a_folder_of_texts_is_looked_at_by_its_words(texts):
    rows, figure, notes = inspect(str(texts))
    assert {row["word"] for row in rows} == words_of(TOPICS[0]) | words_of(TOPICS[1])
    assert sum(row["count"] for row in rows) == 6_000
    assert notes == ("6,000 words, 8 different ones, 8 of them at least 5 times",)
    assert figure.axes


def test_a_list_beside_images_does_not_make_their_folder_one_of_texts(tmp_path):
    from PIL import Image

    for name in ("one.png", "two.png", "three.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "labels.txt").write_text("one two three")
    rows, *_ = inspect(str(tmp_path))
    assert not any("word" in row for row in rows)


def test_lines_that_are_no_pairs_are_told(run, tmp_path):
    (tmp_path / "mine.tsv").write_text("stone\thill\t9\nstone\tgrass\t8\nno pair\n")
    record, _ = evaluate(str(run), settings={"pairs": str(tmp_path / "mine.tsv")})
    assert f"{tmp_path / 'mine.tsv'}: 1 lines could not be read and are left out" in record["notes"]
