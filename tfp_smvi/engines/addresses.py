"""Engines by their text: "local", or the address of a cluster."""

import re
from pathlib import Path

from tfp_smvi.core.errors import SMVIError

__all__ = ["ENGINE_TEXTS", "FILE", "LOCAL", "check_address"]

LOCAL = "local"
FILE = "file:"
ENGINE_TEXTS = "local, tcp://HOST:PORT, tls://HOST:PORT or file:/PATH/scheduler.json"
_HOST_AND_PORT = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.%\w]+\]|[\w.-]+):(\d{1,5})")


def check_address(text: str) -> None:
    """Raises an SMVIError unless a text is an address of a scheduler, or names its file."""
    match = _HOST_AND_PORT.fullmatch(text)
    if match and 1 <= int(match[3]) <= 0xFFFF:
        return
    if text.startswith(FILE) and Path(text.removeprefix(FILE)).is_absolute():
        return
    remedy = f"give {ENGINE_TEXTS}"
    raise SMVIError("is not an engine", field="engine", value=text, remedy=remedy)
