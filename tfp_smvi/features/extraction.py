"""Features of many examples: read, encoded and saved in pieces, in constant memory, resumable."""

import time
from pathlib import Path
from typing import Protocol

import numpy as np

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.reporters import Silent
from tfp_smvi.engines.base import Engine
from tfp_smvi.engines.local import ThisProcess
from tfp_smvi.features.files import FeatureFile
from tfp_smvi.features.results import FeaturesReport
from tfp_smvi.features.sources import ImageSource
from tfp_smvi.features.tasks import find_recipes, run_tasks
from tfp_smvi.features.work import compute, prepare
from tfp_smvi.serving.encoders import Encoder

__all__ = ["FeaturesReporter", "extract_features"]


class FeaturesReporter(Protocol):
    """Receives progress updates."""

    def begin(self, num_images: int, num_done: int) -> None:
        """The work begins, with the number of examples and of those done before."""

    def advance(self, num_images: int) -> None:
        """A number of further examples is done."""

    def note(self, message: str) -> None:
        """Something that may interest."""

    def warn(self, message: str) -> None:
        """Something went wrong without stopping the work."""


def extract_features(
    source: ImageSource,
    encoder: Encoder,
    output: Path | str,
    config: FeaturesConfig = FeaturesConfig(),  # noqa: B008  # it is frozen
    *,
    fresh: bool = False,
    engine: Engine | None = None,
    reporter: FeaturesReporter | None = None,
) -> FeaturesReport:
    """Writes the features of examples to a file, or continues such work after a stop.

    Pieces of PIECE_SIZE examples are saved beside the file as they are done. `config.on_error` says
    whether an example that the source cannot read or the model refuses stops the work, or is left
    out and listed.

    Args:
        source: the examples.
        encoder: the model.
        output: the file: .npz with ids [n], mean and stddev, float32 [n, latent_dim]; .parquet with
            the same; or .npy with mean alone. Rows are in the order of the source.
        config: how requests to the model are made.
        fresh: replaces an existing file, and deletes the pieces of earlier work.
        engine: computes the pieces; None for this process. Other processes need the files of the
            examples and of the model, or its server, and the folder of the output; the source must
            be one of `open_images`, and the encoder a `LocalEncoder`, a `RefinedEncoder`, one of
            `connect`, or one with a `tfp_smvi.engines.recipes.Recipe` as its `recipe`.
        reporter: receives progress updates.

    Raises:
        SMVIError: the examples do not fit the model, an example cannot be read and
            `config.on_error` is "fail", none can be read, the model does not answer, a task failed,
            or the file exists already, was begun with other settings or cannot be written.
    """
    if isinstance(engine, ThisProcess):
        engine = None
    recipes = None if engine is None else find_recipes(source, encoder)
    work = prepare(source, encoder, config)
    source, reporter = work.source, reporter or Silent()
    file = FeatureFile(Path(output), source.num_images)
    with file.open(work.settings, fresh=fresh) as finished:
        if finished is not None:
            file.remove_folder()
            return finished
        todo = sum(stop - start for start, stop in map(file.span, file.missing()))
        reporter.begin(file.num_images, file.num_images - todo)
        started = time.monotonic()
        if engine is not None and recipes is not None:
            run_tasks(engine, recipes, config, file, reporter.advance, reporter)
        compute(work, file, file.missing(), reporter.advance, work.encode_by_halves)
        speed = todo / (time.monotonic() - started) if todo else 0.0
        report = _report(source, file, speed)
        file.finish(source.ids, source.id_dtype, work.signature.latent_dim, report)
    return report


def _report(source: ImageSource, file: FeatureFile, speed: float) -> FeaturesReport:
    """Counts the examples with features and those without."""
    first: list[str] = []
    num_skipped = 0
    for index, reason in file.errors():
        num_skipped += 1
        if len(first) < 3:
            first.append(f"{source.ids(np.array([index]))[0]}: {reason}")
    if num_skipped == source.num_images:
        raise SMVIError(
            f"has no example that can be read, of {num_skipped} ({first[0]})",
            field="images",
            remedy="give examples that the model takes",
        )
    errors_file = str(file.errors_path) if num_skipped else None
    num_features = source.num_images - num_skipped
    return FeaturesReport(
        source.num_images,
        num_features,
        num_skipped,
        tuple(first),
        str(file.path),
        errors_file,
        speed,
    )
