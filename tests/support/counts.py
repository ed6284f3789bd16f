"""Tests whose length is an option: their time, and what they counted for the summary."""

from collections.abc import Sequence
from typing import Any

import pytest

__all__ = ["add_timeouts", "counted"]


def add_timeouts(items: Sequence[pytest.Item], marker: str, seconds: float) -> None:
    """Gives the tests with a marker the seconds of their counts beside those of any test."""
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.timeout(300.0 + seconds))


def counted(reports: Sequence[pytest.TestReport], name: str) -> list[Any]:
    """What tests have recorded under a name, by `user_properties`."""
    return [
        value
        for report in reports
        if report.when == "teardown"  # it has what a fixture adds after the test, too
        for property_name, value in report.user_properties
        if property_name == name
    ]
