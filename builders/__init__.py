"""Builders: labelled corpora to a release."""
