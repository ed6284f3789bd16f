"""The features of many examples, from an export or a server, into one file."""
