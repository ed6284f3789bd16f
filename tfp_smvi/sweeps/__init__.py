"""A grid of runs over lam and seed, and its summary."""
