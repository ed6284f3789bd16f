"""What an offline run of W&B holds: the records of its .wandb file, a log of LevelDB's format."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Offline", "read_offline"]

HEADER = 7  # bytes of the file's own, and of each part: checksum, length and type
BLOCK = 1 << 15
END_SECONDS = 60.0
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


class Offline(NamedTuple):
    """A run of one or more files.

    Attributes:
        key: W&B's name of it.
        run: the record of its last file.
        epochs: the epochs of its points, as often as they are there.
        points: the metrics of each epoch.
        config: its settings.
        summary: its results.
        exits: the exit code of each file.
        files: the folder of each file's copies.
    """

    key: str
    run: Any
    epochs: list[int]
    points: dict[int, dict[str, Any]]
    config: dict[str, Any]
    summary: dict[str, Any]
    exits: list[int]
    files: list[Path]


def read_offline(folder: Path) -> dict[str, Offline]:
    """Reads all runs below a folder, by their keys."""
    found: dict[str, Offline] = {}
    for path in sorted(folder.rglob("run-*.wandb")):
        records = _ended(path)
        key = next(
            record.run.run_id for record in records if record.WhichOneof("record_type") == "run"
        )
        one = found.setdefault(key, Offline(key, None, [], {}, {}, {}, [], []))
        one.files.append(path.parent / "files")
        for record in records:
            one = found[key] = _with_record(one, record)
    return found


def _ended(path: Path) -> list[Any]:
    """The records of a run that has ended, whose writer may still be at work for a moment."""
    end = time.monotonic() + END_SECONDS
    while True:
        records = [*_records(path)]
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        assert time.monotonic() < end, f"{path} has no end."
        time.sleep(0.1)


def _with_record(one: Offline, record: Any) -> Offline:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        one = one._replace(run=record.run)
        one.config.update(_items(record.run.config.update))
    elif kind == "config":
        one.config.update(_items(record.config.update))
    elif kind == "summary":
        one.summary.update(_items(record.summary.update))
    elif kind == "history":
        values = _items(record.history.item)
        if "epoch" in values:
            one.epochs.append(values["epoch"])
            one.points[values["epoch"]] = values
    elif kind == "exit":
        one.exits.append(record.exit.exit_code)
    return one


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(path: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    content, place, whole = path.read_bytes(), HEADER, b""
    while place + HEADER <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:  # padding
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + HEADER])
        if place + HEADER + size > len(content):  # not all of it is written yet
            return
        whole += content[place + HEADER : place + HEADER + size]
        place += HEADER + size
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""
