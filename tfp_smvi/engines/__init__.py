"""Where work is done: an engine runs tasks in this process or in others."""
