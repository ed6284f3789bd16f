"""TensorBoard's files of a run, in which each epoch is once despite all stops.

tensorboard/         reconstructions and samples, and the settings for the HParams page
tensorboard/train/   the curves of the training data, lam, what it follows and the learning rate
tensorboard/test/    those of the test data; equal names share a chart
"""

import contextlib
import math
import operator
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api_pb2, summary, summary_v2

from tfp_smvi.config import RunConfig
from tfp_smvi.core.errors import plain_reason
from tfp_smvi.core.files import open_regular
from tfp_smvi.core.records import flatten
from tfp_smvi.runs.records import TEST_METRICS, TRAIN_METRICS, EpochRecord
from tfp_smvi.storage.atomic import sweep_partials, write_atomically

__all__ = ["EventFiles"]

CURVES = {"train": TRAIN_METRICS, "test": TEST_METRICS}
IMAGES = {"reconstructions", "samples"}
_FILES = "events.out.tfevents.*"
# The bytes around a record: its length, and checksums of the length and of the record.
_FRAME = 8 + 4 + 4


class EventFiles:
    """Writes curves, images and settings for TensorBoard, from the last checkpoint on.

    Args:
        folder: the folder of the files.
        config: the run's settings.
        history: the epochs that the checkpoint holds; others are dropped from the files.

    Raises:
        OSError: a file cannot be written; so do the methods.
    """

    def __init__(self, folder: Path, config: RunConfig, history: Sequence[EpochRecord]) -> None:
        """Brings the files to the state of the checkpoint."""
        self._epochs = config.train.epochs
        with _as_os_error():
            sweep_partials(folder)
            _keep_images(folder, history[-1].step if history else -1)
            self._main = _new_file(folder)
            with self._main.as_default():
                summary_v2.hparams(_settings(config))
            self._writers = {}
            for name in CURVES:
                for path in (folder / name).glob(_FILES):
                    path.unlink()  # the history has all of its content
                self._writers[name] = _new_file(folder / name)
            for record in history:
                self._write_curves(record)
            self._flush()

    def write(self, record: EpochRecord, images: Sequence[tuple[str, np.ndarray]]) -> None:
        """Appends one epoch, with images by name: float32 [1, height, width, channels]."""
        with _as_os_error():
            self._write_curves(record)
            with self._main.as_default(step=record.step):
                for name, image in images:
                    tf.summary.image(name, image)
            self._flush()

    def close(self) -> None:
        """Closes the files."""
        with _as_os_error():
            for writer in (self._main, *self._writers.values()):
                writer.close()

    def _write_curves(self, record: EpochRecord) -> None:
        for name, metrics in CURVES.items():
            with self._writers[name].as_default(step=record.step):
                for metric in metrics:
                    value = getattr(getattr(record, name), metric)
                    if not math.isnan(value):
                        tf.summary.scalar(metric, value)
        with self._writers["train"].as_default(step=record.step):
            for name in ("lam", "learning_rate"):
                value = getattr(record, name)
                if value is not None and math.isfinite(value):
                    tf.summary.scalar(name, value)
            if (constraint := record.constraint) is not None:
                tf.summary.scalar(f"held_out_{constraint.quantity}", constraint.measured)
        if record.epoch == self._epochs:
            end = summary.session_end_pb(api_pb2.STATUS_SUCCESS)
            with self._main.as_default():
                tf.summary.experimental.write_raw_pb(end.SerializeToString(), step=0)

    def _flush(self) -> None:
        for writer in (self._main, *self._writers.values()):
            writer.flush()


def _new_file(folder: Path) -> tf.summary.SummaryWriter:
    """Opens a file under a name that nobody can foresee, so that no link has it."""
    return tf.summary.create_file_writer(
        os.fsencode(folder), filename_suffix=f".{secrets.token_hex(8)}.v2"
    )


def _settings(config: RunConfig) -> Mapping[str, bool | float | str]:
    """The settings by name; HParams takes neither lists nor numbers that are not finite."""

    def plain(value: object) -> bool | float | str:
        if isinstance(value, str):  # a path may hold bytes that are not UTF-8
            return value.encode(errors="backslashreplace").decode()
        if isinstance(value, bool | int | float):
            return value
        return ", ".join(map(str, value)) if isinstance(value, list) else "none"

    return {name.rpartition(".")[2]: plain(value) for name, value in flatten(config.to_json())}


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Turns TensorFlow's errors of file operations into OSError, which Python's files raise."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(plain_reason(error)) from error


def _keep_images(folder: Path, step: int) -> None:
    """Rewrites the files without all but the images up to a step.

    Later images are written again by the resumed run, and so are the settings. Curves that are
    there are those of version 0.1.
    """
    for path in sorted(folder.glob(_FILES)):
        with open_regular(path) as file:
            content = file.read()
        remaining, begin = [], 0
        with contextlib.suppress(tf.errors.DataLossError):  # the torn end of a killed process
            for record in tf.data.TFRecordDataset(os.fsencode(path)).as_numpy_iterator():
                end = begin + len(record) + _FRAME
                event = tf.compat.v1.Event.FromString(record)
                tags = {value.tag for value in event.summary.value}
                if tags <= IMAGES and not (tags and event.step > step):
                    remaining.append(content[begin:end])
                begin = end
        if (new_content := b"".join(remaining)) != content:
            # The name must not contain "tfevents": TensorBoard would read the file after a kill.
            write = operator.methodcaller("write", new_content)
            write_atomically(path, write, beside="rewritten")
