"""Studies that decide: what can be removed from a model, what it costs, and a smaller model that really loads."""
