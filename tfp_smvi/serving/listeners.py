"""What listens on a port of this machine.

References:
    [1] proc(5), /proc/net/tcp.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tfp_smvi.serving.docker import docker
from tfp_smvi.serving.process import find_running

__all__ = ["Listener", "find_listener"]

# The state of a socket that listens.
_LISTENS = "0A"
_CONFIG_FLAG = "--model_config_file="


class Listener(NamedTuple):
    """A program that listens.

    Attributes:
        description: what it is.
        stop_command: the command that stops it.
    """

    description: str
    stop_command: str


def find_listener(port: int) -> Listener | None:
    """Finds what listens on a TCP port; None if it cannot be told, as for other users' programs."""
    for pid in _processes(_sockets(port)):
        words = _command(pid)
        for word in words:
            if word.startswith(_CONFIG_FLAG):
                server = find_running(Path(word.removeprefix(_CONFIG_FLAG)).parent)
                if server is not None and server.pid == pid:
                    return Listener(str(server), server.stop_command)
        name = Path(words[0]).name if words else "unknown"
        return Listener(f"process {pid}, {name}", f"kill {pid}")
    with contextlib.suppress(OSError):  # there is no Docker
        names = docker("ps", "--filter", f"publish={port}", "--format", "{{.Names}}").stdout.split()
        if names:
            return Listener(f"the container {names[0]}", f"docker stop {names[0]}")
    return None


def _sockets(port: int) -> set[str]:
    """The numbers of the sockets that listen on a port [1]."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):  # another system than Linux
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
                if state == _LISTENS and int(local.rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{inode}]")
    return sockets


def _processes(sockets: set[str]) -> Iterator[int]:
    """The processes that have one of the sockets open, of those that this user may look at."""
    for folder in Path("/proc").glob("[0-9]*") if sockets else ():
        with contextlib.suppress(OSError):
            if any(str(link.readlink()) in sockets for link in (folder / "fd").iterdir()):
                yield int(folder.name)


def _command(pid: int) -> list[str]:
    """The program and the arguments of a process."""
    try:
        text = Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in text.split(b"\0") if word]
