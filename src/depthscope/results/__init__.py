"""What was found: labelled numbers with units, uncertainty and provenance. Nothing here imports torch."""
