"""One trained model on disk: its configuration, checkpoints, log and pictures."""
