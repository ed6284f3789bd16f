"""The package's version, where setup.py and the command line read it without any other import."""

__version__ = "0.1.0"
