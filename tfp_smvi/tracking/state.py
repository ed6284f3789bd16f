"""tracking.json: which run of a tracker a directory is, and what was sent there."""

import contextlib
import dataclasses
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.records import Record
from tfp_smvi.runs.directory import TRACKING
from tfp_smvi.storage.atomic import write_json
from tfp_smvi.storage.json_files import read_json

__all__ = ["Sent", "read_sent", "write_sent"]

# Two trackers share a file.
_WRITING = threading.Lock()


@dataclass(frozen=True)
class Sent(Record):
    """What one service has of a directory.

    Attributes:
        key: the service's own name of the run.
        epoch: the last epoch that was sent.
        digests: of what was sent beside the epochs, in hex, by its name.
    """

    key: str | None = None
    epoch: int = 0
    digests: Mapping[str, str] = field(default_factory=dict)

    def with_digest(self, name: str, digest: str) -> "Sent":
        """The same after something was sent."""
        return dataclasses.replace(self, digests={**self.digests, name: digest})


def read_sent(folder: Path, service: str) -> Sent:
    """Reads what a service has; nothing if the file cannot be read."""
    with contextlib.suppress(SMVIError):
        return Sent.from_json(_read_all(folder).get(service, {}))
    return Sent()


def write_sent(folder: Path, service: str, sent: Sent) -> None:
    """Writes it, beside that of other services.

    Raises:
        OSError: it cannot be written.
    """
    with _WRITING:
        write_json(folder / TRACKING, {**_read_all(folder), service: sent.to_json()})


def _read_all(folder: Path) -> dict[str, dict[str, object]]:
    try:
        values = read_json(folder / TRACKING)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
