"""Answers with an exported file where there is nothing but NumPy and the file's own runtime.

    python -P runner.py RUNTIME PATH GIVEN.npz ANSWERED.npz [TIMES]

GIVEN holds batches of inputs, ANSWERED gets what the file answers. With TIMES the last batch of each part is answered so many
times more, after once to warm up, and the median of the milliseconds is printed, a line of JSON: part -> milliseconds. The
package that this file belongs to is not imported here.
"""

import json
import statistics
import sys
import time

import numpy as np

ENOUGH = 5_000  # milliseconds
LENGTHS, BYTES = ":lengths", ":bytes"  # how strings are kept, which NumPy's files cannot hold without pickle


def tensorflow(path):
    """(endpoint, tensors) -> answers of a SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)

    def answer(endpoint, tensors):
        signature = loaded.signatures["serving_default" if endpoint == "serve" else endpoint]
        given = {name: tf.constant(value.tolist() if value.dtype == object else value) for name, value in tensors.items()}
        return {name: value.numpy() for name, value in signature(**given).items()}

    return answer


def onnxruntime(path):
    """The same of an ONNX file, which has one part."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    # What no answer depends on is no input of the file any more.
    taken = {each.name for each in session.get_inputs()}

    def answer(part, tensors):
        return dict(zip(names, session.run(names, {name: tensors[name] for name in taken}), strict=True))

    return answer


def ai_edge_litert(path):
    """The same of a LiteRT file, whose parts are its signatures."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)

    def answer(part, tensors):
        runner = interpreter.get_signature_runner(part)
        taken = runner.get_input_details()
        return {name: value.copy() for name, value in runner(**{name: tensors[name] for name in taken}).items()}

    return answer


RUNTIMES = {"tensorflow": tensorflow, "onnxruntime": onnxruntime, "ai-edge-litert": ai_edge_litert}


def save(path, batches):
    """Writes {part: [{name: array}, ...]}; an array of objects holds bytes."""
    flat = {}
    for part, each in batches.items():
        for number, tensors in enumerate(each):
            for name, value in tensors.items():
                key = f"{part}/{number}/{name}"
                if value.dtype == object:
                    lengths = [len(one) for one in value.ravel()]
                    flat[key + LENGTHS] = np.array(lengths, np.int64).reshape(value.shape)
                    flat[key + BYTES] = np.frombuffer(b"".join(value.ravel()), np.uint8)
                else:
                    flat[key] = value
    np.savez(path, **flat)


def load(path):
    """What ``save`` wrote."""
    batches = {}
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            if key.endswith(BYTES):
                continue
            part, number, name = key.removesuffix(LENGTHS).split("/", 2)
            value = file[key]
            if key.endswith(LENGTHS):
                contents, ends = file[key.removesuffix(LENGTHS) + BYTES].tobytes(), np.cumsum(value.ravel())
                strings = np.empty(value.size, object)
                strings[:] = [contents[end - length : end] for end, length in zip(ends, value.ravel(), strict=True)]
                value = strings.reshape(value.shape)
            each = batches.setdefault(part, [])
            each += [{} for _ in range(int(number) + 1 - len(each))]
            each[int(number)][name] = value
    return batches


def answered(runtime, path, batches):
    """What a file answers to batches, in the same order."""
    answer = RUNTIMES[runtime](str(path))
    return {part: [answer(part, tensors) for tensors in each] for part, each in batches.items()}


def milliseconds(answer, part, tensors, times):
    """The median time of an answer; of slow ones fewer are asked for."""
    took = []
    while len(took) <= times and (len(took) < 3 or sum(took) < ENOUGH):
        began = time.perf_counter()
        answer(part, tensors)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took[1:])


if __name__ == "__main__":
    RUNTIME, PATH, GIVEN, ANSWERED, *TIMES = sys.argv[1:]
    BATCHES = load(GIVEN)
    save(ANSWERED, answered(RUNTIME, PATH, BATCHES))
    if TIMES:
        ANSWER = RUNTIMES[RUNTIME](PATH)
        print(json.dumps({part: milliseconds(ANSWER, part, each[-1], int(TIMES[0])) for part, each in BATCHES.items()}))
