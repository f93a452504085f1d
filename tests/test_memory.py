"""Freed memory stays with the process: the second block of the same size costs no new pages."""

import os
import subprocess
import sys

import pytest

from kerastoolkit.memory import keep_freed_memory

FAULTS = """
import concurrent.futures, resource, sys
import numpy as np
from kerastoolkit.memory import keep_freed_memory

if "keep" in sys.argv:
    assert keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(25_000_000, np.float32)  # 100 MB, more than an arena of a thread's own can hold
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# In the main thread and, as TensorFlow does, in another.
with concurrent.futures.ThreadPoolExecutor(1) as thread:
    faults(), thread.submit(faults).result()
    print(max(faults(), thread.submit(faults).result()))
"""


def faults(*arguments):
    result = subprocess.run([sys.executable, "-c", FAULTS, *arguments], capture_output=True, text=True, check=True, timeout=60)
    return int(result.stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_freed_memory_is_used_again_without_new_pages():
    assert faults("keep") < 20
    assert faults() > 100  # so that the test would see it; with huge pages 32 of 2 MB do not count as 16,384 of 4 kB


def test_the_input_pipeline_lets_tensorflow_change_nothing():
    pipeline = """
from kerastoolkit import catalog, train
from kerastoolkit.pipeline import training_batches
recipe = catalog.find_recipe("mnist-vae")
experiment = train.build(recipe, catalog.arguments(recipe, {"data": "sample"}), 0)
next(iter(training_batches(experiment, seed=0, start=0, end=2)))
"""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    command = [sys.executable, "-c", pipeline]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert "cpu_feature_guard" in result.stderr  # TensorFlow's remarks are there
    assert "M_TRIM_THRESHOLD" not in result.stderr  # which TensorFlow 2.21 says when from_generator makes it set that


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr("kerastoolkit.memory.sys.platform", "darwin")
    assert keep_freed_memory() is False
    monkeypatch.setattr("kerastoolkit.memory.sys.platform", "linux")
    monkeypatch.setattr("kerastoolkit.memory.ctypes.CDLL", lambda name: object())  # musl has no mallopt
    assert keep_freed_memory() is False
