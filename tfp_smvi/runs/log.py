"""The log of a run: metrics.jsonl and TensorBoard, each epoch once despite all stops."""

import json
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.config import RunConfig
from tfp_smvi.data.pictures import image_grid, shades
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.runs.directory import RunDirectory
from tfp_smvi.runs.events import EventFiles
from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.storage.atomic import append_line, write_atomically

__all__ = ["MetricsLog"]

NUM_IMAGES = 64


class MetricsLog:
    """Writes the metrics of a run, from its last checkpoint on.

    Args:
        run: the open run directory.
        config: the run's settings.
        history: the epochs that the checkpoint holds; others are dropped from the files.
        model: the model, whose reconstructions and samples are drawn.
        images: test examples to reconstruct: float32 [n, *image_shape].

    Raises:
        OSError: a file cannot be written; so do the methods.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: RunConfig,
        history: Sequence[EpochRecord],
        model: TrainableModel,
        images: np.ndarray,
    ) -> None:
        """Brings the files to the state of the checkpoint."""
        self._path, self._model, self._images = run.metrics, model, images
        text = "".join(_line(record) + "\n" for record in history)
        write_atomically(self._path, lambda file: file.write(text.encode()))
        self._events = EventFiles(run.tensorboard, config, history)

    def write(self, record: EpochRecord) -> None:
        """Appends one epoch."""
        append_line(self._path, _line(record))
        self._events.write(record, self._pictures())

    def close(self) -> None:
        """Closes the event files."""
        self._events.close()

    def _pictures(self) -> list[tuple[str, np.ndarray]]:
        """Draws reconstructions beside their originals, and samples, always from the same noise."""
        model, images = self._model, self._images
        shape = images.shape[1:]
        if len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)):
            return []
        likelihood = getattr(model, "likelihood", None)  # a model of your own may have none
        typical = tfd.Distribution.mean if likelihood is None else likelihood.typical
        means = typical(model.decode(model.encode(images).mean())).numpy()
        pairs = np.stack([images, means], axis=1).reshape(-1, *shape)
        noise = tf.random.stateless_normal([NUM_IMAGES, *model.prior.event_shape], seed=[0, 0])
        samples = typical(model.decode(noise)).numpy()
        return [
            (name, image_grid(shades(x, images)))
            for name, x in (("reconstructions", pairs), ("samples", samples))
        ]


def _line(record: EpochRecord) -> str:
    return json.dumps(record.to_json(), allow_nan=False)
