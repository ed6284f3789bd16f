"""Kills at random moments: their number, and what they cost. `make soak` runs hundreds."""

import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import pytest

from tests.support import counts
from tests.support.forked import ForkedProcess

__all__ = ["OPTION", "RANDOM", "RandomKills", "add_timeouts", "random_kills", "summary"]

OPTION = "--kills"
PROPERTY = "random kills"
RANDOM = random.SystemRandom()  # whatever seeds a test has set
# No kill takes longer, with the process that is killed and the check that follows.
SECONDS_PER_KILL = 60.0


@dataclass
class RandomKills:
    """The kills of one test.

    Attributes:
        number: how many kills the test is to do.
        kills: how many processes were killed.
        losses: how often work was gone that had been saved.
        differences: how often the final result differed from that of a run without kills.
    """

    number: int
    kills: int = 0
    losses: int = 0
    differences: int = 0

    @property
    def done(self) -> bool:
        """Whether all kills are done."""
        return self.kills >= self.number

    def kill(self, process: "subprocess.Popen[str] | ForkedProcess", longest: float) -> str:
        """Kills a process at a random moment, unless it ends before.

        Args:
            process: the process; one of subprocess has a pipe as stderr.
            longest: the longest wait before the kill, in seconds.

        Returns:
            The text on stderr that was not read yet.
        """
        time.sleep(RANDOM.uniform(0.0, longest))
        process.kill()
        _, errors = process.communicate(timeout=SECONDS_PER_KILL)
        self.kills += process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL), errors
        assert "Traceback" not in errors
        return errors

    def check(self) -> None:
        """Checks that nothing was lost and nothing differed."""
        assert (self.losses, self.differences) == (0, 0)


def random_kills(request: pytest.FixtureRequest) -> Iterator[RandomKills]:
    """Counts the kills of a test, for the summary."""
    kills = RandomKills(request.config.getoption(OPTION))
    yield kills
    request.node.user_properties.append((PROPERTY, asdict(kills)))


def add_timeouts(items: Sequence[pytest.Item], number: int) -> None:
    """Gives the tests with kills the time that their number takes."""
    counts.add_timeouts(items, "kills", number * SECONDS_PER_KILL)


def summary(reports: Sequence[pytest.TestReport]) -> str | None:
    """Adds up the kills of all tests in one line, or None if no test had any."""
    kills = counts.counted(reports, PROPERTY)
    if not kills:
        return None
    names = [*asdict(RandomKills(0))][1:]
    totals = {name: sum(count[name] for count in kills) for name in names}
    return "random kills: " + ", ".join(f"{total} {name}" for name, total in totals.items())
