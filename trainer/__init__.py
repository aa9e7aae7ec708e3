"""Trainer: a release to a model. Reads release folders only; never opens the test split."""
