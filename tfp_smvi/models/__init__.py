"""Networks that return distributions."""
