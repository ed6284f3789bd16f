"""Where work is done: in this process, or in processes of its own."""
