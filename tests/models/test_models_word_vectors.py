"""Word2Vec and GloVe: counts, first values, scores pair by pair, word2vec's own steps, padding, learning and errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

from kerastoolkit import models
from kerastoolkit.layers.word_windows import window_mask
from kerastoolkit.losses import glove_loss, hierarchical_softmax, negative_sampling
from kerastoolkit.row_optimizers import RowAdagrad, RowSGD

VOCABULARY, DIMENSIONS, WINDOW, SEGMENT, NOISE, DEPTH = 9, 4, 2, 5, 3, 6
SIZES = {"vocabulary": VOCABULARY, "dimensions": DIMENSIONS, "window": WINDOW, "segment": SEGMENT}
BUILDERS = {"skip_gram": models.skip_gram, "cbow": models.cbow}
WORD2VEC = [(name, hierarchical) for name in BUILDERS for hierarchical in (False, True)]


def small(name, hierarchical=False):
    """A network with random weights, so that scores are not all zero."""
    network, generator = BUILDERS[name](**SIZES, hierarchical=hierarchical), np.random.default_rng(3)
    network.set_weights([generator.normal(size=weight.shape) for weight in network.weights])
    return network


def table(network, name):
    return np.asarray(network.get_layer(name).weights[0])


def inputs(name, hierarchical=False, *, batch=2, segments=3, seed=0):
    """Text with -1 at both ends and what else a network asks for; and the mask of the neighbours that count."""
    generator, length = np.random.default_rng(seed), segments * SEGMENT
    tokens = generator.integers(0, VOCABULARY, size=(batch, length + 2 * WINDOW)).astype("int32")
    tokens[:, :WINDOW] = tokens[:, -WINDOW:] = -1
    around = np.stack([np.arange(length), np.arange(length)[::-1]], axis=-1)
    reach = np.minimum(generator.integers(1, WINDOW + 1, size=(batch, length, 1)), around).astype("int32")
    mask = np.asarray(window_mask(reach, WINDOW))
    given = {"tokens": tokens} | ({"reach": reach} if name == "cbow" else {})
    if hierarchical:
        ends = generator.integers(1, DEPTH + 1, size=(batch, length, 1))
        path = generator.integers(0, VOCABULARY - 1, size=(batch, length, DEPTH))
        given["path"] = np.where(np.arange(DEPTH) < ends, path, -1).astype("int32")
    else:
        given["negatives"] = generator.integers(0, VOCABULARY, size=(batch, segments, NOISE)).astype("int32")
    return given, mask


def filled_up(given, segments):
    """The same text with so many segments more in which there are no words; their noise words are 0."""
    return {key: np.pad(value, [(0, 0), (0, segments * (1 if key == "negatives" else SEGMENT))] + [(0, 0)] * (value.ndim - 2),
                        constant_values=-1 if key in ("tokens", "path") else 0) for key, value in given.items()}  # fmt: skip


def same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


# Counts, shapes and first values


@pytest.mark.parametrize(
    ("name", "hierarchical", "count"),
    [
        ("skip_gram", False, 2 * 1000 * 20),
        ("cbow", False, 2 * 1000 * 20),
        ("skip_gram", True, 1000 * 20 + 999 * 20),  # a binary tree of 1000 leaves has 999 inner nodes
        ("cbow", True, 1000 * 20 + 999 * 20),
    ],
)
def test_word2vec_has_a_vector_for_each_word_and_one_for_each_context_or_inner_node(name, hierarchical, count):
    network = BUILDERS[name](vocabulary=1000, dimensions=20, hierarchical=hierarchical)
    assert network.count_params() == count
    assert sum(np.prod(weight.shape) for weight in network.trainable_weights) == count


def test_glove_has_two_vectors_and_two_biases_for_each_word():
    assert models.glove(vocabulary=1000, dimensions=20).count_params() == 2 * 1000 * (20 + 1)


@pytest.mark.parametrize(("name", "hierarchical"), WORD2VEC)
def test_word_vectors_begin_evenly_in_half_a_dimensionth_and_all_others_at_zero(name, hierarchical):
    network = BUILDERS[name](vocabulary=1000, dimensions=20, hierarchical=hierarchical)
    assert_even(table(network, "word_vectors"), 0.5 / 20)
    assert not table(network, "node_vectors" if hierarchical else "context_vectors").any()


def test_all_of_glove_begins_evenly_in_half_a_dimensionth():
    network = models.glove(vocabulary=1000, dimensions=20)
    weights = [table(network, f"{side}_{kind}") for side in ("word", "context") for kind in ("vectors", "biases")]
    for weight in weights:
        assert_even(weight, 0.5 / 20)
    assert not np.array_equal(weights[0], weights[2]) and not np.array_equal(weights[1], weights[3])


def assert_even(values, bound):
    """Uniform in -bound .. bound: the quarters of that range have a quarter of the values each."""
    assert np.abs(values).max() <= bound
    shares = np.histogram(values, bins=4, range=(-bound, bound))[0] / values.size
    np.testing.assert_allclose(shares, 0.25, atol=0.06)  # 1000 biases: a standard deviation of 0.014


@pytest.mark.parametrize(
    ("name", "hierarchical", "shapes"),
    [
        ("skip_gram", False, {"positive": (2, 15, 5), "negative": (2, 15, 3)}),
        ("skip_gram", True, {"branches": (2, 15, 5, 6)}),
        ("cbow", False, {"positive": (2, 15), "negative": (2, 15, 3)}),
        ("cbow", True, {"branches": (2, 15, 6)}),
    ],
)
def test_scores_have_a_place_for_each_pair(name, hierarchical, shapes):
    network = small(name, hierarchical)
    outputs = network(inputs(name, hierarchical)[0])
    assert {key: tuple(value.shape) for key, value in outputs.items()} == shapes
    assert {key: len(value.shape) for key, value in network.output.items()} == {key: len(shape) for key, shape in shapes.items()}
    assert {value.dtype for value in outputs.values()} == {tf.float32}


# Scores, one pair at a time


def test_skip_gram_scores_are_products_of_word_and_context_vectors():
    network, (given, mask) = small("skip_gram"), inputs("skip_gram")
    words, contexts, outputs = table(network, "word_vectors"), table(network, "context_vectors"), network(given)
    for row, place in np.ndindex(mask.shape[:2]):
        word = words[given["tokens"][row, WINDOW + place]]
        for step in np.flatnonzero(mask[row, place]):
            same(outputs["positive"][row, place, step], word @ contexts[given["tokens"][row, place + step]])
        for number, noise in enumerate(given["negatives"][row, place // SEGMENT]):
            same(outputs["negative"][row, place, number], word @ contexts[noise])


def mean_of_neighbours(given, mask, words, row, place):
    return np.mean([words[given["tokens"][row, place + step]] for step in np.flatnonzero(mask[row, place])], axis=0)


def test_cbow_scores_are_products_of_the_mean_of_word_vectors_and_context_vectors():
    network, (given, mask) = small("cbow"), inputs("cbow")
    words, contexts, outputs = table(network, "word_vectors"), table(network, "context_vectors"), network(given)
    for row, place in np.ndindex(mask.shape[:2]):
        mean = mean_of_neighbours(given, mask, words, row, place)
        same(outputs["positive"][row, place], mean @ contexts[given["tokens"][row, WINDOW + place]])
        for number, noise in enumerate(given["negatives"][row, place // SEGMENT]):
            same(outputs["negative"][row, place, number], mean @ contexts[noise])


def test_hierarchical_skip_gram_scores_neighbours_at_the_nodes_on_the_way_to_the_word():
    network, (given, mask) = small("skip_gram", True), inputs("skip_gram", True)
    words, nodes, branches = table(network, "word_vectors"), table(network, "node_vectors"), network(given)["branches"]
    for row, place in np.ndindex(mask.shape[:2]):
        for step in np.flatnonzero(mask[row, place]):
            for level, node in enumerate(given["path"][row, place]):
                if node >= 0:
                    same(branches[row, place, step, level], words[given["tokens"][row, place + step]] @ nodes[node])


def test_hierarchical_cbow_scores_the_mean_at_the_nodes_on_the_way_to_the_word():
    network, (given, mask) = small("cbow", True), inputs("cbow", True)
    words, nodes, branches = table(network, "word_vectors"), table(network, "node_vectors"), network(given)["branches"]
    for row, place in np.ndindex(mask.shape[:2]):
        mean = mean_of_neighbours(given, mask, words, row, place)
        for level, node in enumerate(given["path"][row, place]):
            if node >= 0:
                same(branches[row, place, level], mean @ nodes[node])


def test_glove_scores_are_products_and_both_biases():
    network, generator = models.glove(vocabulary=VOCABULARY, dimensions=DIMENSIONS), np.random.default_rng(0)
    network.set_weights([generator.normal(size=weight.shape) for weight in network.weights])
    word, context = generator.integers(0, VOCABULARY, size=(2, 3, 7)).astype("int32")
    log_counts = network({"word": word, "context": context})["log_counts"]
    first, second, one, other = (
        table(network, name) for name in ("word_vectors", "context_vectors", "word_biases", "context_biases")
    )
    for at in np.ndindex(word.shape):
        i, j = word[at], context[at]
        same(log_counts[at], first[i] @ second[j] + one[i, 0] + other[j, 0])


# Padding


@pytest.mark.parametrize(("name", "hierarchical"), WORD2VEC)
def test_a_text_that_is_filled_up_has_the_scores_that_it_had(name, hierarchical):
    network, (given, mask) = small(name, hierarchical), inputs(name, hierarchical)
    before, after = network(given), network(filled_up(given, 2))
    for key in before:
        one, other = np.asarray(before[key]), np.asarray(after[key])[:, : mask.shape[1]]
        if name == "skip_gram" and key != "negative":  # what is no pair has any score
            one, other = one[mask > 0], other[mask > 0]
        same(other, one)


def test_a_reach_that_ends_before_what_is_no_word_keeps_the_first_word_out_of_the_mean():
    # Where there is no word the vector of word 0 is read.
    network, (given, _) = small("cbow"), inputs("cbow")
    given["tokens"] = np.where(given["tokens"] == 0, 1, given["tokens"])
    before = network(given)
    words = network.get_layer("word_vectors").embeddings
    words.assign(np.vstack([words[:1] + 100, words[1:]]))
    for key, value in network(given).items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("name", "hierarchical"), WORD2VEC)
def test_a_graph_that_knows_no_sizes_gives_the_same(name, hierarchical, compiled):
    network, (given, _) = small(name, hierarchical), inputs(name, hierarchical)
    signature = {each.name: tf.TensorSpec(each.shape, each.dtype) for each in network.inputs}
    graph = tf.function(lambda given: network(given), input_signature=[signature], jit_compile=compiled)
    outputs = graph(given)
    for key, value in network(given).items():
        same(outputs[key], value)


@pytest.mark.parametrize(("name", "hierarchical"), WORD2VEC)
def test_a_saved_network_gives_the_same(name, hierarchical, tmp_path):
    network, (given, _) = small(name, hierarchical), inputs(name, hierarchical)
    network.save(tmp_path / "network.keras")
    outputs = keras.saving.load_model(tmp_path / "network.keras")(given)
    for key, value in network(given).items():
        np.testing.assert_array_equal(outputs[key], value)


# A step of word2vec's own


def negative_targets(name, mask, each=5 / NOISE):
    """As ``tasks.word2vec`` has them: each pair is told from 5 noise words, which those of the segment stand for."""
    pairs = mask if name == "skip_gram" else mask.max(axis=-1)
    count = mask.sum(axis=-1) if name == "skip_gram" else pairs
    return {"positive": pairs, "negative": each * count[..., None]}


def hierarchical_targets(name, mask, path, left):
    """As ``tasks.word2vec`` has them: each neighbour goes the way to the word, or their mean does."""
    here, left = (path >= 0).astype("float32"), left.astype("float32")
    if name == "skip_gram":
        return {"weights": mask[..., None] * here[:, :, None], "left": left[:, :, None]}
    return {"weights": mask.max(axis=-1)[..., None] * here, "left": left}


def trained(network, given, targets, loss, optimizer, *, steps=1, compiled=False):
    """The tables, by their names, after steps down the mean of the loss over all places."""
    variables = [variable.value for variable in network.trainable_variables]
    optimizer.build(network.trainable_variables)

    @tf.function(jit_compile=compiled)
    def step():
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(loss(targets, network(given))) / optimizer.terms
        gradients = tape.gradient(value, variables)
        assert all(isinstance(gradient, tf.IndexedSlices) for gradient in gradients)
        optimizer.apply(gradients)

    for _ in range(steps):
        step()
    return {layer.name: np.asarray(layer.embeddings) for layer in network.layers if isinstance(layer, keras.layers.Embedding)}


def assert_same_tables(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        same(found[name], value)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_of_skip_gram_is_the_sum_of_word2vecs_updates_of_all_pairs(compiled):
    network, (given, mask), rate = small("skip_gram"), inputs("skip_gram"), 0.025
    words, contexts = table(network, "word_vectors"), table(network, "context_vectors")
    expected = {"word_vectors": words.copy(), "context_vectors": contexts.copy()}
    for row, place in np.ndindex(mask.shape[:2]):
        word = given["tokens"][row, WINDOW + place]
        for step in np.flatnonzero(mask[row, place]):
            pairs = [(given["tokens"][row, place + step], 1, 1.0)]
            pairs += [(noise, 0, 5 / NOISE) for noise in given["negatives"][row, place // SEGMENT]]
            for target, label, weight in pairs:  # g = (label - f) * alpha of word2vec.c
                g = weight * (label - expit(words[word] @ contexts[target])) * rate
                expected["word_vectors"][word] += g * contexts[target]
                expected["context_vectors"][target] += g * words[word]
    targets = negative_targets("skip_gram", mask)
    optimizer = RowSGD(rate, terms=mask[..., 0].size)
    found = trained(network, given, targets, negative_sampling, optimizer, compiled=compiled)
    assert_same_tables(found, expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_of_cbow_is_the_sum_of_word2vecs_updates_with_the_gradient_shared_by_the_mean(compiled):
    network, (given, mask), rate = small("cbow"), inputs("cbow"), 0.075
    words, contexts = table(network, "word_vectors"), table(network, "context_vectors")
    expected = {"word_vectors": words.copy(), "context_vectors": contexts.copy()}
    for row, place in np.ndindex(mask.shape[:2]):
        neighbours = [given["tokens"][row, place + step] for step in np.flatnonzero(mask[row, place])]
        mean, error = words[neighbours].mean(axis=0), np.zeros(DIMENSIONS)
        pairs = [(given["tokens"][row, WINDOW + place], 1, 1.0)]
        pairs += [(noise, 0, 5 / NOISE) for noise in given["negatives"][row, place // SEGMENT]]
        for target, label, weight in pairs:
            g = weight * (label - expit(mean @ contexts[target])) * rate
            error += g * contexts[target]
            expected["context_vectors"][target] += g * mean
        for neighbour in neighbours:
            expected["word_vectors"][neighbour] += error / len(neighbours)
    targets = negative_targets("cbow", mask)
    optimizer = RowSGD(rate, terms=mask[..., 0].size)
    found = trained(network, given, targets, negative_sampling, optimizer, compiled=compiled)
    assert_same_tables(found, expected)


def test_a_step_of_hierarchical_skip_gram_is_the_sum_of_word2vecs_updates_at_all_nodes():
    network, (given, mask), rate = small("skip_gram", True), inputs("skip_gram", True), 0.025
    words, nodes = table(network, "word_vectors"), table(network, "node_vectors")
    left = np.random.default_rng(4).integers(0, 2, size=given["path"].shape).astype("float32")
    expected = {"word_vectors": words.copy(), "node_vectors": nodes.copy()}
    for row, place in np.ndindex(mask.shape[:2]):
        for step in np.flatnonzero(mask[row, place]):
            word = given["tokens"][row, place + step]
            for node, turn in zip(given["path"][row, place], left[row, place], strict=True):
                if node >= 0:
                    g = (turn - expit(words[word] @ nodes[node])) * rate
                    expected["word_vectors"][word] += g * nodes[node]
                    expected["node_vectors"][node] += g * words[word]
    targets = hierarchical_targets("skip_gram", mask, given["path"], left)
    optimizer = RowSGD(rate, terms=mask[..., 0].size)
    found = trained(network, given, targets, hierarchical_softmax, optimizer)
    assert_same_tables(found, expected)


@pytest.mark.parametrize(("name", "hierarchical"), WORD2VEC)
def test_a_step_over_a_text_that_is_filled_up_is_the_same_even_where_ways_are_bounded(name, hierarchical):
    # Where there is no word or node, rows 0 are read, which are no uses of them.
    given, mask = inputs(name, hierarchical)
    left = np.random.default_rng(4).integers(0, 2, size=(*mask.shape[:2], DEPTH))
    found = []
    for segments in (0, 4):
        more = filled_up(given | {"mask": mask, "left": left}, segments)
        targets, loss = negative_targets(name, more["mask"]), negative_sampling
        if hierarchical:
            targets, loss = hierarchical_targets(name, more["mask"], more["path"], more["left"]), hierarchical_softmax
        fed = {key: more[key] for key in given}
        found.append(trained(small(name, hierarchical), fed, targets, loss, RowSGD(0.1, longest=0.05)))
    assert_same_tables(found[1], found[0])


# Learning: eight words in a cycle, so that two are the neighbours of each

WORDS = 8
TEXT = np.tile(np.arange(WORDS), 10)[None]
TOKENS = np.pad(TEXT, [(0, 0), (WINDOW, WINDOW)], constant_values=-1).astype("int32")
REACH = np.ones((*TEXT.shape, 2), "int32")
REACH[0, 0, 0] = REACH[0, -1, 1] = 0  # there is nothing before the first word and after the last
NEIGHBOURS = np.asarray(window_mask(REACH, WINDOW))
NEAR = np.isin((np.arange(WORDS)[:, None] - np.arange(WORDS)) % WORDS, [1, WORDS - 1])


def learned(name, hierarchical=False):
    """The tables after some hundred steps."""
    keras.utils.set_random_seed(0)
    network = BUILDERS[name](vocabulary=WORDS, dimensions=8, window=WINDOW, segment=SEGMENT, hierarchical=hierarchical)
    given = {"tokens": TOKENS} | ({"reach": REACH} if name == "cbow" else {})
    if hierarchical:
        given["path"] = PATH[TEXT].astype("int32")
        targets, loss = hierarchical_targets(name, NEIGHBOURS, given["path"], LEFT[TEXT]), hierarchical_softmax
    else:  # all words are noise
        given["negatives"] = np.tile(np.arange(WORDS, dtype="int32"), (1, TEXT.size // SEGMENT, 1))
        targets, loss = negative_targets(name, NEIGHBOURS, 1 / WORDS), negative_sampling
    return trained(network, given, targets, loss, RowSGD(0.1, longest=0.25), steps=200)


def test_skip_gram_learns_to_tell_the_neighbours_in_a_cycle_from_noise():
    tables = learned("skip_gram")
    scores = tables["word_vectors"] @ tables["context_vectors"].T
    assert scores[NEAR].min() > 1 and scores[~NEAR].max() < -1


def test_cbow_learns_to_tell_the_word_amid_its_neighbours_from_noise():
    tables = learned("cbow")
    means = (np.roll(tables["word_vectors"], 1, axis=0) + np.roll(tables["word_vectors"], -1, axis=0)) / 2
    scores, own = means @ tables["context_vectors"].T, np.eye(WORDS, dtype=bool)
    assert scores[own].min() > 1 and scores[~own].max() < -1


# The tree of eight words whose inner nodes are numbered from the root, as in a heap.
PATH = np.array([[0, 1 + word // 4, 3 + word // 2] for word in range(WORDS)])
LEFT = np.array([[word % 8 < 4, word % 4 < 2, word % 2 < 1] for word in range(WORDS)]).astype("float32")


def probabilities(inputs, nodes):
    """(inputs, words): products of the probabilities of all turns, Mikolov et al. 2013b, equation 3."""
    signs = 2 * LEFT - 1
    return expit(signs * (inputs @ nodes.T)[:, PATH]).prod(axis=-1)


def test_hierarchical_skip_gram_learns_the_probabilities_of_the_words_around_a_word():
    tables = learned("skip_gram", True)
    found = probabilities(tables["word_vectors"], tables["node_vectors"])
    same(found.sum(axis=1), 1)
    np.testing.assert_allclose(found, NEAR / 2, atol=0.1)


def test_hierarchical_cbow_learns_the_probability_of_the_word_amid_its_neighbours():
    tables = learned("cbow", True)
    means = (np.roll(tables["word_vectors"], 1, axis=0) + np.roll(tables["word_vectors"], -1, axis=0)) / 2
    np.testing.assert_allclose(probabilities(means, tables["node_vectors"]), np.eye(WORDS), atol=0.1)


def test_glove_learns_the_logarithms_of_counts():
    keras.utils.set_random_seed(0)
    network = models.glove(vocabulary=WORDS, dimensions=8)
    word, context = np.indices((WORDS, WORDS)).reshape(2, 1, -1).astype("int32")
    counts = np.where(NEAR, 50.0, 2.0).astype("float32")
    tables = trained(network, {"word": word, "context": context}, counts.reshape(1, -1), glove_loss, RowAdagrad(0.5), steps=200)
    found = tables["word_vectors"] @ tables["context_vectors"].T + tables["word_biases"] + tables["context_biases"].T
    np.testing.assert_allclose(found, np.log(counts), atol=0.05)


# Errors


@pytest.mark.parametrize("hierarchical", [False, True])
@pytest.mark.parametrize("builder", BUILDERS.values())
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": 1}, "vocabulary must be at least 2, got 1"),
        ({"dimensions": 0}, "dimensions must be at least 1, got 0"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"window": -1}, "window must be at least 1, got -1"),
    ],
)
def test_a_number_that_is_too_small_is_refused(builder, hierarchical, change, message):
    with pytest.raises(ValueError, match=message):
        builder(**{"vocabulary": 9, "dimensions": 4, "hierarchical": hierarchical} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": 1}, "vocabulary must be at least 2, got 1"),
        ({"dimensions": 0}, "dimensions must be at least 1, got 0"),
    ],
)
def test_a_number_that_is_too_small_for_glove_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        models.glove(**{"vocabulary": 9, "dimensions": 4} | change)


def test_a_segment_of_skip_gram_that_is_shorter_than_two_windows_is_refused():
    with pytest.raises(ValueError, match=r"segment must be at least 2 \* window = 10, got 9"):
        models.skip_gram(vocabulary=9, dimensions=4, window=5, segment=9)


def test_segments_of_cbow_may_be_shorter_than_windows_and_decide_who_shares_noise_alone():
    given, _ = inputs("cbow")
    long, short = small("cbow"), models.cbow(**SIZES | {"segment": 1})
    short.set_weights(long.get_weights())
    noise = np.repeat(given["negatives"], SEGMENT, axis=1)
    for name, value in short({**given, "negatives": noise}).items():
        same(value, long(given)[name])
