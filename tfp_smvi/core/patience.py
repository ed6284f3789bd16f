"""A wait that ends, and says so if it is long."""

import time
from collections.abc import Callable

__all__ = ["Patience"]

# What is started together may come this much later.
SECONDS_TO_NOTE = 5.0


class Patience:
    """A wait for others, from now on.

    Args:
        seconds: how long to wait.
        what: what to wait for; the attribute may change.
        note: is called with one line if the wait is long; None for no line.

    Attributes:
        seconds: how long to wait.
        what: what to wait for.
    """

    def __init__(self, seconds: float, what: str, note: Callable[[str], None] | None) -> None:
        """Starts the clock."""
        self.seconds, self.what, self._note = seconds, what, note
        self._started = time.monotonic()

    def is_over(self) -> bool:
        """Whether it has been long enough; to be asked again and again."""
        waited = time.monotonic() - self._started
        if waited > SECONDS_TO_NOTE and self._note is not None:
            self._note(f"Waiting up to {self.seconds:g} s for {self.what}.")
            self._note = None
        return waited > self.seconds
