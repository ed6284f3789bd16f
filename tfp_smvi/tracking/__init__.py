"""Runs and sweeps in MLflow and W&B: what their directories hold is sent there."""
