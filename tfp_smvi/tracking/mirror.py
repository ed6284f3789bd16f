"""A directory in a tracking service: what is missing there is sent, each thing once."""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tfp_smvi.core.errors import RUN_AGAIN, SMVIError
from tfp_smvi.storage.locks import hold_folder
from tfp_smvi.tracking.base import NewRun, Service, Status
from tfp_smvi.tracking.contents import CARD, Contents, read_contents
from tfp_smvi.tracking.state import Sent, read_sent, write_sent

__all__ = ["Mirror"]

# The epochs that are sent at once, so that a lost connection repeats few of them.
CHUNK = 200


class Mirror:
    """Keeps one run of a service as one directory is.

    The directory remembers in tracking.json which run it is and how much of it was sent. So a
    training that goes on in another process goes on in the same run, and what could not be sent
    is sent by the next call of `send`.

    Args:
        folder: the run or sweep directory.
        service: the service.
        parent: the mirror of the sweep that the run is part of; None for none. It is sent first.
    """

    def __init__(self, folder: Path, service: Service, parent: "Mirror | None" = None) -> None:
        """Reads nothing yet."""
        self.folder, self._service, self._parent = folder.absolute(), service, parent
        self._sent = Sent()
        self._is_open = False

    @property
    def key(self) -> str | None:
        """The service's own name of the run; None as long as it is not known there."""
        return self._sent.key

    def forget(self) -> None:
        """Reads tracking.json again at the next call of `send`: the directory may start over."""
        self._is_open = False

    def send(
        self, status: Status | None = None, *, whole: bool, note: Callable[[str], None]
    ) -> None:
        """Sends what the service lacks, as far as it answers.

        Args:
            status: how the run is going; None keeps what was said before, or says that it is
                finished.
            whole: whether to send files too: configuration, results, figures and the model card.
            note: receives a line if no figure can be drawn here.

        Raises:
            SMVIError: the directory cannot be read.
            Exception: what the client of the service raises.
        """
        try:
            self._send(read_contents(self.folder), status, whole, note)
        except BaseException:
            self._is_open = False  # ask again what has arrived
            raise

    def _send(
        self, contents: Contents, status: Status | None, whole: bool, note: Callable[[str], None]
    ) -> None:
        key = self._open(contents)
        texts = json.dumps([contents.settings, contents.facts])
        with self._once("settings", texts) as is_due:
            if is_due:
                self._service.put_settings(key, contents.settings, contents.facts)
        self._send_points(key, contents)
        if contents.results:
            with self._once("results", json.dumps(contents.results)) as is_due:
                if is_due:
                    self._service.put_results(key, self._sent.epoch, contents.results)
        status = status or ("finished" if "status" not in self._sent.digests else None)
        if status is not None:
            with self._once("status", status) as is_due:
                if is_due:
                    self._service.set_status(key, status)
        if whole:
            self._send_files(key, contents, note)
            self._service.close(key)

    def _open(self, contents: Contents) -> str:
        """Finds or makes the run at the service; returns its key."""
        if self._is_open and self._sent.key is not None:
            return self._sent.key
        # Two processes that begin to track a directory at the same time make one run.
        with hold_folder(self.folder, remedy=RUN_AGAIN, name=".tracking.lock"):
            return self._find_or_make(contents)

    def _find_or_make(self, contents: Contents) -> str:
        before = read_sent(self.folder, self._service.name)
        seconds = contents.points[-1].seconds if contents.points else 0.0
        parent = self._parent.key if self._parent else None
        is_sweep = (self.folder / "sweep.json").exists()
        name = f"{self._parent.folder.name}/{self.folder.name}" if self._parent else None
        new = NewRun(name or self.folder.name, self.folder, seconds, parent, is_sweep)
        run = self._service.open(before.key, new)
        sent = Sent(run.key) if run.is_new else before
        if run.epoch is not None:
            sent = dataclasses.replace(sent, epoch=run.epoch)
        self._save(sent)
        self._is_open = True
        return run.key

    def _send_points(self, key: str, contents: Contents) -> None:
        missing = [point for point in contents.points if point.epoch > self._sent.epoch]
        for first in range(0, len(missing), CHUNK):
            chunk = missing[first : first + CHUNK]
            self._service.put_points(key, chunk)
            self._save(dataclasses.replace(self._sent, epoch=chunk[-1].epoch))

    def _send_files(self, key: str, contents: Contents, note: Callable[[str], None]) -> None:
        for path in contents.files:
            with self._once(path.name, path.read_bytes()) as is_due:
                if is_due:
                    self._service.put_files(key, {path.name: path})
        state = json.dumps([contents.settings, contents.results, len(contents.points)])
        with self._once("figures", state) as is_due, tempfile.TemporaryDirectory() as folder:
            if is_due:
                self._service.put_files(key, self._made_files(Path(folder), contents, note))

    def _made_files(
        self, folder: Path, contents: Contents, note: Callable[[str], None]
    ) -> Mapping[str, Path]:
        """Writes the model card and the figures into a folder; returns them by their names."""
        files = {}
        if contents.write_card is not None:
            contents.write_card(folder / CARD)
            files[CARD] = folder / CARD
        if contents.draw is None:
            return files
        if importlib.util.find_spec("matplotlib") is None:
            note("No figures are sent: they need pip install 'tfp-smvi[plot]'.")
            return files
        with contextlib.suppress(SMVIError):  # these results allow none
            for path in contents.draw(folder / "figures"):
                files[f"figures/{path.name}"] = path
        return files

    @contextlib.contextmanager
    def _once(self, name: str, content: str | bytes) -> Iterator[bool]:
        """Yields whether a content is not the last one that was sent; remembers it afterwards."""
        digest = hashlib.sha256(
            content.encode() if isinstance(content, str) else content
        ).hexdigest()
        is_due = self._sent.digests.get(name) != digest
        yield is_due
        if is_due:
            self._save(self._sent.with_digest(name, digest))

    def _save(self, sent: Sent) -> None:
        self._sent = sent
        write_sent(self.folder, self._service.name, sent)
