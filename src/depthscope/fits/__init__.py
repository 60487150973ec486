"""Fits: studies that train an artefact, such as a lens, and say how good it is on text they did not read."""
