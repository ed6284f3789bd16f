"""How well a classifier with few labels does on a trained model's features."""
