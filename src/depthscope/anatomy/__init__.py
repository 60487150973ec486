"""Where things are in a network, as data. No forward pass and no hooks."""
