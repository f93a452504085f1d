import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from kerastoolkit import catalog, pipeline, train
from kerastoolkit.experiment import InputError


@pytest.fixture(scope="module")
def experiment(killable):
    return train.build(killable, catalog.arguments(killable, {}), 0)


def steps(count, *, size=100, batch_size=30, seed=5, start=0):
    batches = pipeline.Batches(size, batch_size).of_steps(seed=seed, start=start, end=start + count)
    return [indices for indices, _ in batches]


def lengths_of(size=400):
    """(source, target) lengths as sentences have them: alike, and few of them long."""
    generator = np.random.default_rng(0)
    target = 2 + generator.gamma(3, 4, size).astype(int)
    return np.stack([np.maximum(2, target + generator.integers(-3, 4, size)), target], axis=1)


def token_batches(**kwargs):
    lengths = lengths_of()
    return pipeline.Batches(len(lengths), kwargs.pop("batch_size", 1000), lengths, 200), lengths


def test_no_example_comes_twice_in_an_epoch_and_orders_differ_between_epochs():
    first, second = np.concatenate(steps(3)), np.concatenate(steps(3, start=3))
    for epoch in (first, second):
        assert len(set(epoch)) == 90 and set(epoch) <= set(range(100))
    assert np.mean(first == second) < 0.1
    assert set(first) != set(second)  # other examples are left over each time


def test_another_seed_gives_another_order():
    assert not np.array_equal(np.concatenate(steps(3)), np.concatenate(steps(3, seed=6)))


def test_a_batch_larger_than_the_data_is_all_of_it():
    assert sorted(steps(1, size=7)[0]) == list(range(7))


def test_batches_by_tokens_hold_every_example_once_an_epoch_and_no_more_tokens_than_allowed():
    batches, lengths = token_batches()
    found = [indices for indices, _ in batches.of_steps(seed=1, start=0, end=batches.steps)]
    assert sorted(np.concatenate(found)) == list(range(len(lengths)))
    assert max(len(indices) for indices in found) == batches.largest
    assert all(len(indices) * lengths[indices].max() <= 200 for indices in found)


def test_batches_by_tokens_are_padded_little():
    batches, lengths = token_batches()
    found = [indices for indices, _ in batches.of_steps(seed=1, start=0, end=batches.steps)]
    sizes = [(len(indices) * lengths[indices].max(axis=0)).sum() for indices in found]
    assert sum(sizes) < 1.15 * lengths.sum()
    random = [len(each) * lengths[each].max(axis=0).sum() for each in np.array_split(np.arange(len(lengths)), batches.steps)]
    assert sum(random) > 1.5 * lengths.sum()


def test_batches_by_tokens_come_in_another_order_and_hold_others_in_each_epoch():
    batches, _ = token_batches()
    both = [tuple(sorted(indices)) for indices, _ in batches.of_steps(seed=1, start=0, end=2 * batches.steps)]
    first, second = both[: batches.steps], both[batches.steps :]
    assert [len(each) for each in first] != [len(each) for each in second]
    assert len(set(first) & set(second)) < len(first) / 2


def test_batches_by_tokens_in_order_hold_every_example_once_and_no_more_tokens_than_allowed():
    batches, lengths = token_batches()
    found = list(batches.in_order())
    assert sorted(np.concatenate(found)) == list(range(len(lengths)))
    assert all(len(indices) * lengths[indices].max() <= 200 for indices in found)


def test_a_step_by_tokens_is_the_same_wherever_one_begins():
    batches, _ = token_batches()
    whole = list(batches.of_steps(seed=1, start=0, end=2 * batches.steps + 3))
    some = list(batches.of_steps(seed=1, start=batches.steps - 2, end=2 * batches.steps + 3))
    for (indices, seeds), (expected_indices, expected_seeds) in zip(some, whole[batches.steps - 2 :], strict=True):
        np.testing.assert_array_equal(indices, expected_indices)
        np.testing.assert_array_equal(seeds, expected_seeds)


def test_batches_by_tokens_have_at_most_batch_size_examples():
    batches, _ = token_batches(batch_size=7)
    assert {len(indices) for indices, _ in batches.of_steps(seed=0, start=0, end=batches.steps)} <= set(range(1, 8))
    assert batches.largest == 7


def test_an_example_longer_than_the_tokens_of_a_batch_is_alone():
    lengths = np.array([[5, 900], [4, 6], [5, 5]])
    batches = pipeline.Batches(3, 10, lengths, 100)
    found = [sorted(indices) for indices, _ in batches.of_steps(seed=0, start=0, end=batches.steps)]
    assert sorted(found) == [[0], [1, 2]]


def test_batches_by_tokens_need_lengths():
    with pytest.raises(InputError, match="batch_tokens needs data whose lengths are known"):
        _ = pipeline.Batches(3, 10, None, 100).steps


def test_an_examples_seeds_do_not_depend_on_its_batch():
    all_of_them = pipeline.example_seeds(1, 2, np.arange(50))
    np.testing.assert_array_equal(pipeline.example_seeds(1, 2, np.array([49, 7])), all_of_them[[49, 7]])
    assert len({tuple(pair) for pair in all_of_them}) == 50
    assert not np.any(np.all(pipeline.example_seeds(1, 3, np.arange(50)) == all_of_them, axis=1))


def test_batches_from_the_middle_are_those_of_the_whole(experiment):
    end = 2 * pipeline.STEPS_IN_A_BLOCK + 6
    whole = list(pipeline.training_batches(experiment, seed=0, start=0, end=end))
    middle = list(pipeline.training_batches(experiment, seed=0, start=18, end=end))
    assert len(whole) == end
    for (inputs, labels), (expected_inputs, expected_labels) in zip(middle, whole[18:], strict=True):
        np.testing.assert_array_equal(labels, expected_labels)
        np.testing.assert_array_equal(inputs["image"], expected_inputs["image"])


def test_validation_has_every_example_once_and_a_smaller_last_batch(experiment):
    sizes = [len(labels) for _, labels in pipeline.validation_batches(experiment, seed=0)]
    assert sum(sizes) == experiment.data.validation.size
    assert sizes[0] == 64 and 0 < sizes[-1] < 64


def test_augmentation_is_for_training_alone(experiment):
    plain = dataclasses.replace(experiment, augment=None)
    augmented = next(iter(pipeline.training_batches(experiment, seed=0, start=0, end=1)))[0]["image"]
    assert np.any(augmented != next(iter(pipeline.training_batches(plain, seed=0, start=0, end=1)))[0]["image"])
    for (one, _), (other, _) in zip(
        pipeline.validation_batches(experiment, seed=0), pipeline.validation_batches(plain, seed=0), strict=True
    ):
        np.testing.assert_array_equal(one["image"], other["image"])


def test_no_iterator_waits_for_tf_datas_own_tuning(experiment):
    made = [
        pipeline.training_batches(experiment, seed=0, start=0, end=2),
        pipeline.validation_batches(experiment, seed=0),
        pipeline.raw_batches(experiment.data.test, 50),
    ]
    assert [batches.options().autotune.enabled for batches in made] == [False, False, False]


# The closing augmentation.


def closing_with(experiment, epochs, **changes):
    """Four epochs, the last so many with the closing augmentation: 100 is added to the labels of the others, 200 to theirs."""

    def mark(number):
        return lambda raw, seeds, fetch: {**raw, "label": raw["label"] + number}

    changes = {"augment": mark(100), "closing_augment": mark(200), **changes}
    return dataclasses.replace(experiment, epochs=4, closing_epochs=epochs, **changes)


def labels_of(experiment, start, end):
    return np.array([labels for _, labels in pipeline.training_batches(experiment, seed=0, start=start, end=end)])


@pytest.mark.parametrize(
    ("start", "end"), [(-3, 3), (-40, 40), (-5, -1), (-4, 0), (0, 4), (3, 5)],
    ids=["across", "all", "before", "up to it", "from it on", "after"],
)  # fmt: skip
def test_the_last_epochs_are_augmented_by_the_closing_one_from_their_first_step_on(experiment, start, end):
    steps = pipeline.batches_of(experiment).steps
    assert steps == 20
    switch = 2 * steps
    labels = labels_of(closing_with(experiment, 2), switch + start, switch + end)
    assert (labels // 100).tolist() == [[1 if step < 0 else 2] * 64 for step in range(start, end)]


def test_the_closing_augmentation_gets_the_examples_and_seeds_that_the_other_would(experiment):
    end, closing = 2 * pipeline.batches_of(experiment).steps + 2, closing_with(
        experiment, 2, augment=experiment.augment, closing_augment=experiment.augment)  # fmt: skip
    without = dataclasses.replace(closing, closing_epochs=0)
    both = [list(pipeline.training_batches(each, seed=0, start=end - 4, end=end)) for each in (closing, without)]
    for (inputs, labels), (expected_inputs, expected_labels) in zip(*both, strict=True):
        np.testing.assert_array_equal(labels, expected_labels)
        np.testing.assert_array_equal(inputs["image"], expected_inputs["image"])


@pytest.mark.parametrize(("epochs", "kind"), [(0, 1), (4, 2), (9, 2)])
def test_no_epochs_are_closed_or_all_of_them(experiment, epochs, kind):
    closing, end = closing_with(experiment, epochs), 4 * pipeline.batches_of(experiment).steps
    for start in (0, end - 2):
        assert (labels_of(closing, start, start + 2) // 100 == kind).all()


def test_closing_epochs_without_an_augmentation_of_theirs_have_none(experiment):
    closing, switch = closing_with(experiment, 1, closing_augment=None), 3 * pipeline.batches_of(experiment).steps
    assert (labels_of(closing, switch - 1, switch + 1) // 100).tolist() == [[1] * 64, [0] * 64]


@pytest.mark.parametrize("epochs", [0, 1, 4])
def test_a_training_whose_steps_are_all_done_has_no_batches(experiment, epochs):
    end = 4 * pipeline.batches_of(experiment).steps
    assert list(pipeline.training_batches(closing_with(experiment, epochs), seed=0, start=end, end=end)) == []


def test_closing_epochs_are_not_negative(experiment):
    with pytest.raises(InputError, match="closing_epochs must be at least 0, got -1"):
        closing_with(experiment, -1)


@pytest.mark.parametrize("of", [2, 3, 7])
def test_the_slices_of_a_step_are_the_step_in_order_and_as_even_as_can_be(experiment, of):
    whole = [inputs["image"].numpy() for inputs, _ in pipeline.training_batches(experiment, seed=1, start=2, end=4)]
    cut = list(pipeline.training_batches(experiment, seed=1, start=2, end=4, slices=pipeline.Slices(0, of, of)))
    assert len(cut) == 2 * of
    for step, images in enumerate(whole):
        parts = cut[step * of : (step + 1) * of]
        np.testing.assert_array_equal(np.concatenate([inputs["image"] for (inputs, _), _ in parts]), images)
        places = np.array([place for _, place in parts])
        assert places[:, 0].tolist() == [0, *np.cumsum(places[:-1, 1])]
        assert np.ptp(places[:, 1]) <= 1 and (places[:, 2] == len(images)).all()


def test_a_worker_reads_its_own_slices_alone(experiment):
    read = []

    def fetch(indices):
        tf.numpy_function(lambda numbers: read.extend(numbers.tolist()), [indices], [])
        return experiment.data.train.fetch(indices)

    data = dataclasses.replace(experiment.data, train=dataclasses.replace(experiment.data.train, fetch=fetch))
    mine = dataclasses.replace(experiment, data=data)
    list(pipeline.training_batches(mine, seed=1, start=0, end=3, slices=pipeline.Slices(1, 2, 4)))
    steps = [indices for indices, _ in pipeline.batches_of(mine).of_steps(seed=1, start=0, end=3)]
    quarter = mine.batch_size // 4
    assert sorted(read) == sorted(np.concatenate([step[quarter : 2 * quarter] for step in steps]).tolist())


def test_more_slices_than_examples_are_refused_before_training(experiment):
    pipeline.check_slices(experiment, pipeline.Slices(0, 1, experiment.batch_size))
    with pytest.raises(InputError, match="cannot be cut into"):
        pipeline.check_slices(experiment, pipeline.Slices(0, 1, experiment.batch_size + 1))
