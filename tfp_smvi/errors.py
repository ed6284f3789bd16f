"""The errors that a user can cause and mend."""

__all__ = ["SMVIError"]


class SMVIError(Exception):
    """A failure with one clear line for the user: what was given, what is allowed and what to do.

    The command line prints the message without a traceback and exits with code 1.
    """
