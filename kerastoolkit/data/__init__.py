"""Data sets: where the examples come from, their checks, splits, augmentation and preprocessing."""
