"""What is optimized: functions of distributions, without a network."""
