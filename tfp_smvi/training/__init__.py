"""The optimization of a model, resumable at any moment."""
