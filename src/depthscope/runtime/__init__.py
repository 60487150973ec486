"""Look and touch: the only floor that runs a model."""
