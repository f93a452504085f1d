"""Characters a second that a recurrent language model writes: the exported SavedModel, and two Python loops over the model.

    python benchmarks/text_generation.py [--cell lstm|gru|simple_rnn] [--rounds 5] [--characters 500] [--json FILE]

All three hold the network of the Shakespeare recipes (512 units, 64 characters) with the same random weights, get the same
prompt of 32 characters, and draw each character at temperature 0.8, one text at a time, in 32-bit floats on the CPU.
``saved_model`` is what ``kerastoolkit export`` writes, called once for the whole text. ``window_loop`` calls the network on the
last 40 characters for each new one, as Keras' example of character-level generation does; ``step_loop`` calls a compiled
``tf.function`` of one step that carries the state and draws, as TensorFlow's text generation tutorial does. They run in turn,
each in a process of its own, which warms up first; the ratios are taken within each round.
"""

import tempfile
import time
from pathlib import Path

import _rounds as rounds

CHARACTERS = "".join(sorted("\n !'(),-.:;?" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + "abcdefghijklmnopqrstuvwxyz"))
PROMPT = "MENENIUS:\nWhat work's, my country"
TEMPERATURE, WINDOW = 0.8, 40


def build(cell):
    import keras

    from kerastoolkit.models import recurrent_language_model
    from kerastoolkit.tasks.generation import vocabulary

    keras.utils.set_random_seed(0)
    return recurrent_language_model(cell=cell, vocabulary=vocabulary(CHARACTERS), units=512, embedding=64)


def saved_model(cell, characters):
    import tensorflow as tf

    from kerastoolkit.formats.saved_model import write_endpoints
    from kerastoolkit.serving.model import serving_model
    from kerastoolkit.tasks.generation import character_generation, character_tokens

    task = character_generation(CHARACTERS)
    with tempfile.TemporaryDirectory() as folder:
        serving = serving_model(preprocess=character_tokens(CHARACTERS), network=build(cell), task=task)
        write_endpoints({"serve": serving}, Path(folder) / "model")
        loaded = tf.saved_model.load(Path(folder) / "model")
    serve = loaded.signatures["serving_default"]

    def write(length):
        answers = serve(prompt=tf.constant([PROMPT]), temperature=tf.constant([TEMPERATURE]), top_k=tf.constant([0]),
                        length=tf.constant([length]), seed=tf.constant([0]))  # fmt: skip
        return answers["text"].numpy()[0].decode()

    return timed(write, characters)


def window_loop(cell, characters):
    import numpy as np

    from kerastoolkit.serving.text import FIRST

    network, generator = build(cell), np.random.default_rng(0)

    def write(length):
        text = PROMPT
        for _ in range(length):
            tokens = np.array([[FIRST + CHARACTERS.index(each) for each in text[-WINDOW:]]], np.int32)
            logits = np.asarray(network(tokens, training=False))[0, -1, FIRST:].astype(np.float64) / TEMPERATURE
            chances = np.exp(logits - logits.max())
            text += CHARACTERS[generator.choice(len(CHARACTERS), p=chances / chances.sum())]
        return text[len(PROMPT) :]

    return timed(write, characters)


def step_loop(cell, characters):
    import tensorflow as tf

    from kerastoolkit.serving.text import FIRST, step_model

    step = step_model(build(cell))

    @tf.function
    def one(token, states):
        logits, *states = step([token[:, None], *states])
        return FIRST + tf.random.categorical(logits[:, 0, FIRST:] / TEMPERATURE, 1, dtype=tf.int32)[:, 0], states

    def write(length):
        states = [tf.zeros((1, each.shape[1])) for each in step.inputs[1:]]
        for each in PROMPT:
            token, states = one(tf.constant([FIRST + CHARACTERS.index(each)]), states)
        written = [token]
        for _ in range(length - 1):
            token, states = one(token, states)
            written.append(token)
        return "".join(CHARACTERS[int(token[0]) - FIRST] for token in written)

    return timed(write, characters)


def timed(write, characters):
    for _ in range(2):
        write(50)
    began = time.perf_counter()
    text = write(characters)
    seconds = time.perf_counter() - began
    assert len(text) == characters
    return characters / seconds


CONTESTANTS = {"saved_model": saved_model, "window_loop": window_loop, "step_loop": step_loop}


def main():
    parser = rounds.parser(__doc__, CONTESTANTS)
    parser.add_argument("--cell", choices=("lstm", "gru", "simple_rnn"), default="lstm")
    parser.add_argument("--characters", type=int, default=500)
    options = parser.parse_args()
    if options.run:
        return print(CONTESTANTS[options.run](options.cell, options.characters))
    arguments = ["--cell", options.cell, "--characters", str(options.characters)]
    rounds.compare(__file__, options, arguments, "characters_per_second")


if __name__ == "__main__":
    main()
