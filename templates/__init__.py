"""Templates: what a labelled row says to a model."""
