"""kerastoolkit: the curriculum's networks for Keras 3, and recipes that train, evaluate, predict with and export them.

Importing this package imports neither Keras nor TensorFlow; the submodules do.
"""

import os

# TensorFlow 2.21 turns oneDNN on by itself only where a processor has instructions made for neural networks (VNNI, AMX). With it
# convolutional networks train twice as fast on one that has AVX2 alone (RESULTS.md, "Speed"). TensorFlow reads it at its start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"
