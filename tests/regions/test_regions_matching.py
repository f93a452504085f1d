"""Which box finds which object, and which are drawn: against twins in loops, and in a graph that knows no size."""

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit.regions.matching import BACKGROUND, UNUSED, at_most, drawn, matched, taken

RULES = [
    {"least": 0.7, "most_of_background": 0.3, "every_object": True},
    {"least": 0.7, "most_of_background": 0.3, "every_object": False},
    {"least": 0.5, "most_of_background": 0.5, "every_object": False},
]


def slow_matched(overlaps, known, least, most_of_background, every_object):
    """torchvision's Matcher, object by object; an object that no box overlaps with is found by none."""
    found = np.empty(overlaps.shape[:2], int)
    for example, (table, there) in enumerate(zip(overlaps, known, strict=True)):
        objects = [number for number in range(table.shape[1]) if there[number]]
        best = [max(objects, key=lambda number: row[number]) if objects else None for row in table]  # of equal ones the first
        for box, row in enumerate(table):
            overlap = row[best[box]] if objects else 0
            found[example, box] = (best[box] if objects and overlap >= least
                                   else BACKGROUND if overlap < most_of_background else UNUSED)  # fmt: skip
        for number in objects if every_object else []:
            largest = max(table[:, number])
            for box in range(len(table)):
                if table[box, number] == largest > 0:
                    found[example, box] = best[box]
    return found


def slow_drawn(places, numbers, count, most):
    """Of each example the drawn boxes in order, as many as there are."""
    answer = []
    for row, random in zip(places, numbers, strict=True):
        falling = sorted(range(len(row)), key=lambda box: -random[box])
        of_objects = [box for box in falling if row[box] >= 0][:most]
        of_background = [box for box in falling if row[box] == BACKGROUND]
        answer.append((of_objects + of_background)[:count])
    return answer


def overlaps_and_known(seed, boxes=30, objects=6, batch=4):
    """Overlaps with many ties; the first example has no objects, the others have 1 to all."""
    random = np.random.default_rng(seed)
    overlaps = np.round(random.beta(0.4, 1, (batch, boxes, objects)) * 20).astype("float32") / 20
    known = np.arange(objects)[None] < np.array([0, *random.integers(1, objects + 1, batch - 1)])[:, None]
    return overlaps, random.permuted(known, axis=1)


def assert_drawn(found, places, numbers, count, most):
    chosen, used = (each.numpy() for each in found)
    expected = slow_drawn(places, numbers, count, most)
    np.testing.assert_array_equal(used, [np.arange(count) < len(row) for row in expected])
    for row, flags, boxes in zip(chosen, used, expected, strict=True):
        np.testing.assert_array_equal(row[flags], boxes)


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(map(str, rules.values())))
def test_boxes_find_what_they_find_object_by_object(rules):
    seen = set()
    for seed in range(20):
        overlaps, known = overlaps_and_known(seed)
        expected = slow_matched(overlaps, known, **rules)
        np.testing.assert_array_equal(matched(overlaps, known, **rules), expected)
        seen |= set(expected.ravel().tolist())
    assert seen >= {BACKGROUND, 0, 1, 5} and (UNUSED in seen) == (rules["least"] > rules["most_of_background"])


def test_a_box_finds_the_object_that_it_overlaps_with_most_from_the_least_overlap_on():
    overlaps = tf.constant([[[0.5, 0.6], [0.5, 0.1], [0.49, 0.1], [0.3, 0.3], [0.29, 0.0]]])
    found = matched(overlaps, tf.constant([[True, True]]), least=0.5, most_of_background=0.3)
    np.testing.assert_array_equal(found, [[1, 0, UNUSED, UNUSED, BACKGROUND]])
    assert found.dtype == tf.int32


def test_the_box_nearest_to_an_object_finds_its_own_best_object():
    # Object 0 is overlapped with most by box 0, which overlaps more with object 1; object 2 by boxes 2 and 3 alike.
    overlaps = tf.constant([[[0.4, 0.6, 0.0], [0.1, 0.8, 0.0], [0.0, 0.0, 0.2], [0.0, 0.1, 0.2], [0.0, 0.0, 0.1]]])
    found = matched(overlaps, tf.constant([[True] * 3]), least=0.7, most_of_background=0.3, every_object=True)
    np.testing.assert_array_equal(found, [[1, 1, 2, 2, BACKGROUND]])


def test_an_object_that_no_box_overlaps_with_is_found_by_none():
    overlaps = tf.constant([[[0.0, 0.9], [0.0, 0.0]]])
    found = matched(overlaps, tf.constant([[True, True]]), least=0.7, most_of_background=0.3, every_object=True)
    np.testing.assert_array_equal(found, [[1, BACKGROUND]])


@pytest.mark.parametrize("every_object", [False, True])
def test_padding_is_found_by_no_box(every_object):
    overlaps, known = tf.constant([[[0.9, 0.4], [0.8, 0.0]]] * 2), tf.constant([[False, True], [False, False]])
    found = matched(overlaps, known, least=0.7, most_of_background=0.3, every_object=every_object)
    np.testing.assert_array_equal(found, [[1 if every_object else UNUSED, BACKGROUND], [BACKGROUND, BACKGROUND]])


@pytest.mark.parametrize("count", [1, 8, 29, 30, 31, 80])
@pytest.mark.parametrize("most", [1, 4, 8])
def test_boxes_are_drawn_as_one_by_one(count, most):
    random = np.random.default_rng(0)
    # Few objects; no background; both; neither.
    shares = [(0.1, 0.85, 0.05, 0), (0.5, 0, 0.2, 0.3), (0.2, 0.4, 0.2, 0.2), (1, 0, 0, 0)]
    places = np.stack([random.choice([UNUSED, BACKGROUND, 0, 3], 30, p=each) for each in shares]).astype("int32")
    numbers = random.uniform(size=places.shape).astype("float32")
    assert_drawn(drawn(places, numbers, count, most), places, numbers, count, most)


@pytest.mark.parametrize(("of_objects", "of_background", "expected"), [(100, 100, (4, 12)), (3, 100, (3, 13)), (100, 5, (4, 5)),
                                                                        (0, 100, (0, 16)), (2, 3, (2, 3))])  # fmt: skip
def test_background_fills_up_what_objects_leave(of_objects, of_background, expected):
    places = np.random.default_rng(0).permutation([1] * of_objects + [BACKGROUND] * of_background + [UNUSED] * 10)[None]
    numbers = np.random.default_rng(1).uniform(size=places.shape).astype("float32")
    chosen, used = (each.numpy() for each in drawn(places.astype("int32"), numbers, 16, 4))
    found = places[0][chosen[0][used[0]]].tolist()
    assert found == [1] * expected[0] + [BACKGROUND] * expected[1]
    assert chosen.shape == used.shape == (1, 16) and len(set(chosen[0][used[0]])) == used.sum()


def test_a_number_of_0_is_drawn_too():
    chosen, used = drawn(tf.constant([[UNUSED, 0, BACKGROUND]]), tf.zeros((1, 3)), 3, 1)
    np.testing.assert_array_equal(chosen[:, :2], [[1, 2]])
    np.testing.assert_array_equal(used, [[True, True, False]])


def test_a_graph_that_knows_no_size_finds_and_draws_the_same():
    def both(overlaps, known, numbers):
        places = matched(overlaps, known, **RULES[0])
        return places, drawn(places, numbers, 16, 4)

    graph = tf.function(both, input_signature=[tf.TensorSpec((None, None, None)), tf.TensorSpec((None, None), tf.bool),
                                               tf.TensorSpec((None, None))])  # fmt: skip
    for boxes, objects in ((30, 6), (5, 1), (3, 9)):
        overlaps, known = overlaps_and_known(boxes, boxes, objects)
        numbers = np.random.default_rng(1).uniform(size=overlaps.shape[:2]).astype("float32")
        places, chosen = graph(overlaps, known, numbers)
        np.testing.assert_array_equal(places, slow_matched(overlaps, known, **RULES[0]))
        assert_drawn(chosen, places.numpy(), numbers, 16, 4)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_rows_are_taken_from_each_example(shape):
    values = np.random.default_rng(0).normal(size=(2, 5, *shape)).astype("float32")
    places = np.array([[4, 0, 0], [1, 2, 3]], "int32")
    expected = np.stack([values[0, places[0]], values[1, places[1]]])
    np.testing.assert_array_equal(taken(tf.constant(values), tf.constant(places)), expected)
    graph = tf.function(taken, input_signature=[tf.TensorSpec((None, None, *shape)), tf.TensorSpec((None, None), tf.int32)])
    np.testing.assert_array_equal(graph(values, places), expected)


def test_no_more_are_wanted_than_there_are():
    assert at_most(3, tf.zeros((2, 5))) == 3 and at_most(7, tf.zeros((2, 5))) == 5
    graph = tf.function(lambda values: at_most(7, values), input_signature=[tf.TensorSpec((None, None))])
    assert graph(tf.zeros((2, 5))) == 5 and graph(tf.zeros((2, 9))) == 7
