"""Recipes: functions that name a data set, a network and how to train it; a file per data set and family."""
