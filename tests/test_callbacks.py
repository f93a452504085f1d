import keras
import numpy as np
import pytest

from kerastoolkit.callbacks import Trainee, check_resumable, get_states, set_states
from kerastoolkit.experiment import InputError


def network():
    image = keras.Input((2,))
    return keras.Model(image, keras.layers.Dense(1)(image))


def stopper(model):
    callback = keras.callbacks.EarlyStopping(monitor="loss", patience=5, restore_best_weights=True)
    callback.set_model(Trainee(model, keras.optimizers.SGD(0.1)))
    callback.on_train_begin()
    return callback


def test_early_stopping_goes_on_with_its_wait_its_best_and_its_best_weights():
    model = network()
    callback = stopper(model)
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 2.5]):
        model.set_weights([np.full_like(weight, epoch) for weight in model.get_weights()])
        callback.on_epoch_end(epoch, {"loss": loss})
    values, arrays = get_states((callback,))

    other = stopper(network())
    set_states((other,), values, arrays)
    assert (other.wait, other.best, other.best_epoch) == (2, 1.0, 1)
    assert type(other.wait) is int
    assert [weight.tolist() for weight in other.best_weights] == [[[1.0], [1.0]], [1.0]]


def test_a_callback_that_keeps_itself_is_asked_for_its_state():
    class Counter(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.count = 0

        def get_state(self):
            return {"count": self.count}

        def set_state(self, state):
            self.count = state["count"]

    first, second = Counter(), Counter()
    first.count = 7
    check_resumable((first,))
    set_states((second,), *get_states((first,)))
    assert second.count == 7


def test_what_cannot_be_kept_is_refused_and_so_is_a_subclass_of_what_can():
    class Mine(keras.callbacks.EarlyStopping):
        pass

    check_resumable((keras.callbacks.EarlyStopping(), keras.callbacks.TerminateOnNaN()))
    for callback in (Mine(), keras.callbacks.BackupAndRestore("folder")):
        with pytest.raises(InputError, match=f"callback {type(callback).__name__} cannot be continued"):
            check_resumable((callback,))
