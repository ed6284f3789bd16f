"""What every folder needs and that knows no other folder: errors, seeds, signals, text, estimates, the runtime."""
