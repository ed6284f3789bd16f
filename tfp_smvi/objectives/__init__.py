"""What is optimized: functions of distributions alone."""
