"""kerastoolkit: the curriculum's networks for Keras 3, and recipes that train, evaluate, predict with and export them.

Importing this package imports neither Keras nor TensorFlow; the submodules do.
"""

__version__ = "0.1.0"
