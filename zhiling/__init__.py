"""zhiling: labelled corpora to instruction datasets, and what those datasets do to a model."""

__version__ = "0.1.0"
