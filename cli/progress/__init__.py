"""What a user sees of long work: a bar on a terminal, lines elsewhere; all of it on stderr."""
