"""How well a classifier with few labels does on a model's features."""
