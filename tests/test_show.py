"""What `show` says of a recipe is counted right, and it says what it can where the data is missing."""

import json
import logging
import sys
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

from kerastoolkit import catalog
from kerastoolkit.experiment import InputError
from kerastoolkit.models import recurrent_forecaster, recurrent_language_model
from kerastoolkit.show import _compiled, _quiet, flops, layers, show

MINE = '''"""Networks on nothing (A. Author 1999)."""
import keras
from kerastoolkit.experiment import Data, Experiment, InputError, Source, Task

def mine(*, width: int = 4, epochs: int = 2, data: str = "here") -> Experiment:
    """One convolution; 3 % error."""
    if data == "gone":
        raise InputError("gone is not in its folder")
    image = keras.Input((8, 8, 3), name="image")
    hidden = keras.layers.BatchNormalization()(keras.layers.Conv2D(width, 3)(image))
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(hidden))
    sizes = [Source(size, lambda numbers: {}) for size in (60, 20, 10)]
    about = {"classes": ("a", "b")}
    return Experiment(
        data=Data(data, *sizes, inputs=("image",), encoded=False, about=about), preprocess=None,
        network=keras.Model(image, logits), task=Task("classification", *[None] * 9), optimizer=None,
        epochs=epochs, batch_size=2)
'''


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return catalog.find_recipe(str(path))


def model(shape, *made):
    """A functional model of layers one after another."""
    inputs = tensor = keras.Input(shape)
    for layer in made:
        tensor = layer(tensor)
    return keras.Model(inputs, tensor)


def test_flops_of_a_convolution_and_a_dense_layer_are_those_worked_out_by_hand():
    network = model((8, 8, 3), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(10))
    convolution = (
        2 * (6 * 6 * 4) * (3 * 3 * 3) + 6 * 6 * 4
    )  # multiply and add at each of 6 x 6 x 4 outputs, and bias
    dense = 2 * (6 * 6 * 4) * 10 + 10
    assert flops(network) == convolution + dense


def test_flops_of_a_strided_convolution_without_bias_follow_its_output():
    network = model((32, 32, 16), keras.layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False))
    assert flops(network) == 2 * (16 * 16 * 32) * (3 * 3 * 16)


def test_flops_of_attention_include_both_products_of_the_heads():
    words, width, heads, size = 16, 32, 4, 8
    inputs = keras.Input((words, width))
    attention = keras.layers.MultiHeadAttention(heads, size, use_bias=False)
    counted = flops(keras.Model(inputs, attention(inputs, inputs)))
    projections = 4 * 2 * words * width * width
    products = 2 * (2 * heads * words * words * size)
    scale_and_softmax = counted - projections - products
    assert 0 <= scale_and_softmax <= 10 * heads * words * words


def test_flops_of_a_loop_or_of_an_open_size_are_unknown():
    assert flops(model((16, 32), keras.layers.LSTM(8))) is None
    assert flops(model((None, None, 3), keras.layers.Conv2D(4, 3))) is None


def test_the_profilers_remarks_are_not_heard_and_later_ones_are(capfd):
    with _quiet():
        tf.get_logger().warning("a remark")
        print("another", file=sys.stderr)
    assert capfd.readouterr() == ("", "")
    print("later", file=sys.stderr)
    assert tf.get_logger().isEnabledFor(logging.WARNING)
    assert capfd.readouterr().err == "later\n"


def test_each_layer_has_a_row_with_its_output_and_parameters():
    network = model(
        (None, 8, 3), keras.layers.Conv2D(4, 3, name="first"), keras.layers.GlobalMaxPooling2D(name="last")
    )
    assert layers(network)[1:] == [
        {"name": "first", "type": "Conv2D", "output": "any x 6 x 4", "parameters": 4 * (27 + 1)},
        {"name": "last", "type": "GlobalMaxPooling2D", "output": "4", "parameters": 0},
    ]


def test_show_tells_of_paper_settings_data_and_parameters_in_plain_json(mine):
    facts = json.loads(json.dumps(show(mine, {"epochs": 5})))
    assert facts["name"] == "mine"
    assert "A. Author 1999" in facts["documentation"]
    assert "3 % error" in facts["documentation"]
    assert facts["settings"] == {"width": 4, "epochs": 5, "data": "here"}
    assert facts["data"] == {"name": "here", "train": 60, "validation": 20, "test": 10, "classes": ["a", "b"]}
    trainable = 4 * 28 + 2 * 4 + 10 * (144 + 1)
    assert facts["parameters"] == {"total": trainable + 2 * 4, "trainable": trainable}
    assert facts["flops"] > 0
    assert len(facts["layers"]) == 5


def test_an_override_changes_the_network_that_is_shown(mine):
    assert show(mine, {"width": 8})["parameters"]["trainable"] == 8 * 28 + 2 * 8 + 10 * (288 + 1)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({}, "in training, the loops over time of gru_1"),
        ({"jit_compile": False}, "nothing"),
        ({"jit_compile": True}, "in training, the loops over time of gru_1"),
    ],
)
def test_what_xla_compiles_is_told(override, expected):
    assert show(catalog.find_recipe("weather-gru"), override)["compiled_by_xla"] == expected


def test_loops_in_both_directions_and_a_whole_step_are_told_as_compiled():
    def told(network, jit_compile=False):
        return _compiled(SimpleNamespace(network=network, jit_compile=jit_compile))

    how = {"cell": "lstm", "window": 5, "features": 2, "horizon": 1, "units": 3}
    assert told(recurrent_forecaster(**how, bidirectional=True)) == "in training, the loops over time of both_ways_1"
    assert told(recurrent_forecaster(**how, bidirectional=True, jit_compile=False)) == "nothing"
    assert told(recurrent_language_model(cell="lstm", vocabulary=4, units=3)) == "nothing"
    assert told(recurrent_forecaster(**how), jit_compile=True) == "the whole training step"


def test_where_the_data_is_not_there_show_says_so_and_what_it_knows(mine, tmp_path):
    path = tmp_path / "away.py"
    path.write_text(MINE.replace('"here"', '"gone"'))
    facts = show(catalog.find_recipe(str(path)), {"width": 8})
    assert facts["missing"] == "gone is not in its folder"
    assert facts["settings"]["width"] == 8
    assert "parameters" not in facts


@pytest.mark.parametrize(
    ("overrides", "message"), [({"data": "gone"}, "gone is not"), ({"epochs": 0}, "epochs must be")]
)
def test_what_an_override_spoils_is_an_error(mine, overrides, message):
    with pytest.raises(InputError, match=message):
        show(mine, overrides)
