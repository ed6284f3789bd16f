"""The features of many images, from an export or a server, into one file."""
