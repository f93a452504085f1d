import dataclasses

import numpy as np
import pytest

from kerastoolkit import catalog, pipeline, train


@pytest.fixture(scope="module")
def experiment(killable):
    return train.build(killable, catalog.arguments(killable, {}), 0)


def steps(count, *, size=100, batch_size=30, seed=5, start=0):
    batches = (
        pipeline.indices_of_step(size=size, batch_size=batch_size, seed=seed, step=step) for step in range(start, start + count)
    )
    return [indices for indices, _ in batches]


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
