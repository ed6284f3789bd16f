"""Exported models behind one interface, in this process or on a server."""
