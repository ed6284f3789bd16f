"""The log of a run: metrics.jsonl and TensorBoard, each epoch once despite all stops."""

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfp_smvi.core.errors import plain_reason
from tfp_smvi.data.pictures import image_grid, shades
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.directory import RunDirectory
from tfp_smvi.runs.records import TEST_METRICS, TRAIN_METRICS, EpochRecord
from tfp_smvi.storage.atomic import append_line, write_atomically

__all__ = ["MetricsLog"]

NUM_IMAGES = 64


class MetricsLog:
    """Writes the metrics of a run, from its last checkpoint on.

    Args:
        run: the open run directory.
        history: the epochs that the checkpoint holds; others are dropped from the files.
        model: the model, whose reconstructions and samples are drawn.
        images: test images to reconstruct: float32 [n, *image_shape].

    Raises:
        OSError: a file cannot be written; so do the methods.
    """

    def __init__(
        self,
        run: RunDirectory,
        history: Sequence[EpochRecord],
        model: VAE,
        images: np.ndarray,
    ) -> None:
        """Brings the files to the state of the checkpoint."""
        self._path, self._model, self._images = run.metrics, model, images
        text = "".join(_line(record) + "\n" for record in history)
        write_atomically(self._path, lambda file: file.write(text.encode()))
        with _as_os_error():
            _forget_events_after(run.tensorboard, history[-1].step if history else -1)
            self._writer = tf.summary.create_file_writer(str(run.tensorboard))

    def write(self, record: EpochRecord) -> None:
        """Appends one epoch."""
        append_line(self._path, _line(record))
        scalars = [(f"{name}/train", getattr(record.train, name)) for name in TRAIN_METRICS]
        scalars += [(f"{name}/test", getattr(record.test, name)) for name in TEST_METRICS]
        pictures = self._pictures()
        with _as_os_error(), self._writer.as_default(step=record.step):
            for name, value in scalars:
                if not math.isnan(value):
                    tf.summary.scalar(name, value)
            for name, picture in pictures:
                tf.summary.image(name, picture)
            self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        with _as_os_error():
            self._writer.close()

    def _pictures(self) -> list[tuple[str, np.ndarray]]:
        """Draws reconstructions beside their originals, and samples, always from the same noise."""
        model, images = self._model, self._images
        if len(model.image_shape) not in (2, 3) or model.image_shape[2:] not in ((), (1,), (3,)):
            return []
        means = model.decode(model.encode(images).mean()).mean().numpy()
        pairs = np.stack([images, means], axis=1).reshape(-1, *model.image_shape)
        noise = tf.random.stateless_normal([NUM_IMAGES, model.config.latent_dim], seed=[0, 0])
        samples = model.decode(noise).mean().numpy()
        return [
            (name, image_grid(shades(x, images)))
            for name, x in (("reconstructions", pairs), ("samples", samples))
        ]


def _line(record: EpochRecord) -> str:
    return json.dumps(record.to_json(), allow_nan=False)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Turns TensorFlow's errors of file operations into OSError, which Python's files raise."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(plain_reason(error)) from error


def _forget_events_after(directory: Path, step: int) -> None:
    """Rewrites the event files without later steps, which the resumed run writes again."""
    for path in sorted(directory.glob("events.out.tfevents.*")):
        remaining, complete = [], True
        records = iter(tf.data.TFRecordDataset(str(path)))
        while True:
            try:
                record = next(records).numpy()
            except StopIteration:
                break
            except tf.errors.DataLossError:  # the torn end of a killed process
                complete = False
                break
            event = tf.compat.v1.Event.FromString(record)
            if event.HasField("summary") and event.step > step:
                complete = False
            else:
                remaining.append(record)
        if not complete:
            # The name must not contain "tfevents": TensorBoard would read the file after a kill.
            aside = directory / "rewritten.partial"
            with tf.io.TFRecordWriter(str(aside)) as writer:
                for record in remaining:
                    writer.write(record)
            aside.replace(path)
