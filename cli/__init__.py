"""The command line of tfp_smvi: each command parses, makes one library call and prints."""
