"""Results -> one offline page. Nothing here imports torch, an analysis or the engine."""
