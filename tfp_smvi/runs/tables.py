"""The history of a run as a table."""

from collections.abc import Iterable
from typing import TypeAlias

from tfp_smvi.runs.records import TEST_METRICS, TRAIN_METRICS, EpochRecord

__all__ = ["Row", "history_rows"]

# None is not known.
Row: TypeAlias = dict[str, float | None]


def history_rows(history: Iterable[EpochRecord]) -> list[Row]:
    """Returns a row for each epoch: epoch, step, ..., lam, train_elbo, ..., test_elbo, ..."""
    return [_row(record) for record in history]


def _row(record: EpochRecord) -> Row:
    own: Row = {
        name: getattr(record, name)
        for name in ("epoch", "step", "seconds", "lam", "learning_rate", "active_units")
    }
    train = {f"train_{name}": getattr(record.train, name) for name in TRAIN_METRICS}
    return own | train | {f"test_{name}": getattr(record.test, name) for name in TEST_METRICS}
