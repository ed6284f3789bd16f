"""Where work is done: in this process or in others; an engine runs tasks, which are data."""
