"""Ports for servers of the tests."""

import contextlib
import socket

__all__ = ["free_port", "free_ports"]


def free_port() -> int:
    """A port that nothing listens on."""
    return free_ports(1)[0]


def free_ports(number: int) -> list[int]:
    """Different ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
