"""Layers that only TensorFlow runs: raw input -> tensors, and raw outputs -> what a person wants."""
