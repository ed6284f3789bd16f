"""What every folder uses: errors, records, seeds, signals, text, estimates, the runtime."""
