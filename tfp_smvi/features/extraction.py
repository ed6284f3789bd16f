"""Features of many images: read, encoded and written piece by piece, in constant memory, and resumed after a kill."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.features.files import PIECE_SIZE, FeatureFile, Piece
from tfp_smvi.features.images import ImageSource
from tfp_smvi.serving.encoders import Encoder, Features, RejectedImagesError, Signature

__all__ = ["FeaturesReport", "FeaturesReporter", "SilentFeaturesReporter", "extract_features"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class FeaturesReport:
    """What `extract_features` did.

    Attributes:
        num_images: the images that were given.
        num_features: those that have features, the rows of the file.
        num_skipped: those that could not be read, each with the reason in `errors_file`.
        first_errors: the first of the reasons, each with the id of its image.
        output: the file of features.
        errors_file: the list of the images without features; None where all have some.
        images_per_second: the speed of this process; 0 where it found all done.
    """

    num_images: int
    num_features: int
    num_skipped: int
    first_errors: tuple[str, ...]
    output: str
    errors_file: str | None
    images_per_second: float


class FeaturesReporter(Protocol):
    """Hears of the progress."""

    def begin(self, num_images: int, num_done: int) -> None:
        """Images, and how many of them were done before."""

    def advance(self, num_images: int) -> None:
        """So many images more are done."""


class SilentFeaturesReporter:
    """Hears of the progress and keeps it."""

    def begin(self, num_images: int, num_done: int) -> None:
        """Images, and how many of them were done before."""

    def advance(self, num_images: int) -> None:
        """So many images more are done."""


def extract_features(
    source: ImageSource,
    encoder: Encoder,
    output: Path | str,
    config: FeaturesConfig = FeaturesConfig(),  # noqa: B008  # it is frozen
    *,
    fresh: bool = False,
    reporter: FeaturesReporter | None = None,
) -> FeaturesReport:
    """Writes the features of images to a file, and goes on where the same was begun and stopped.

    Pieces of PIECE_SIZE images are saved beside the file as they are done. An image that the source
    cannot read or the model refuses stops the work, or is left out and listed, by
    `config.on_error`.

    Args:
        source: the images.
        encoder: the model.
        output: the file: .npz with ids [n], mean and stddev, float32 [n, latent_dim]; .parquet with
            the same; or .npy with mean alone. Rows are in the order of the source.
        config: how the model is asked.
        fresh: replaces the file that is there, and forgets what was begun.
        reporter: hears of the progress.

    Raises:
        SMVIError: the images do not fit the model, an image cannot be read and `config.on_error` is
            "fail", none can be read, the model does not answer, or the file is there already,
            belongs to other settings or cannot be written.
    """
    signature = _fit(source, encoder)
    reporter = reporter or SilentFeaturesReporter()
    file = FeatureFile(Path(output), source.num_images)
    settings = {
        "images": {**source.identity, "number": source.num_images},
        "model": {**encoder.identity, "signature": source.signature},
        "format": {"piece_size": PIECE_SIZE},
    }
    with file.open(settings, fresh=fresh) as finished:
        if finished is not None:
            file.remove_folder()
            return FeaturesReport(**finished | {"first_errors": tuple(finished["first_errors"])})
        speed = _compute(_Work(source, encoder, config, signature), file, reporter)
        report = _report(source, file, speed)
        file.finish(source.ids, source.id_dtype, signature.latent_dim, asdict(report))
    return report


def _fit(source: ImageSource, encoder: Encoder) -> Signature:
    """Returns the signature of the model that takes these images."""
    signature = encoder.signatures.get(source.signature)
    if signature is None:
        raise SMVIError(
            f"the model takes no {source.signature} images, only {', '.join(sorted(encoder.signatures))}; give an "
            ".npy file of floats as the model was trained on."
        )
    # Grey images may come without the axis of their only channel.
    shapes = (source.image_shape, (*(source.image_shape or ()), 1))
    if source.image_shape is not None and signature.image_shape not in shapes:
        raise SMVIError(
            f"the images have shape {list(source.image_shape)} and the model takes "
            f"{list(signature.image_shape)}; resize them."
        )
    return signature


class _Batch(NamedTuple):
    """Indices from start up to stop, exclusive, within one piece."""

    piece: int
    start: int
    stop: int


class _Work(NamedTuple):
    """Images, the model that is asked for their features, and how."""

    source: ImageSource
    encoder: Encoder
    config: FeaturesConfig
    signature: Signature

    def encode(self, batch: _Batch) -> Piece | None:
        """Returns the features of a batch; None where the model refuses it."""
        indices, images, errors = self.source.read(batch.start, batch.stop)
        try:
            return Piece(indices, self._ask(images), errors)
        except RejectedImagesError:
            return None

    def encode_what_can_be(self, batch: _Batch) -> Piece:
        """Returns the features of the images of a batch that the model takes, found by halving."""
        indices, images, errors = self.source.read(batch.start, batch.stop)
        kept: list[int] = []
        features = [_no_features(self.signature)]
        spans = [(0, len(indices))]
        while spans:
            start, stop = spans.pop()
            try:
                features.append(self._ask(images[start:stop]))
                kept += range(start, stop)
            except RejectedImagesError as error:
                if stop - start == 1:
                    errors[int(indices[start])] = str(error)
                    self.check(errors)
                else:
                    middle = (start + stop) // 2
                    spans += [(middle, stop), (start, middle)]
        return Piece(indices[kept], _join(features), errors)

    def check(self, errors: dict[int, str]) -> None:
        """Raises an SMVIError for the first error, where none is allowed."""
        if errors and self.config.on_error == "fail":
            index = min(errors)
            (name,) = self.source.ids(np.array([index]))
            raise SMVIError(
                f"image {name} cannot be read: {errors[index]}. Leave such images out with --on-error skip, or mend it "
                "and run again; what is done is kept."
            )

    def _ask(self, images: Any) -> Features:
        if len(images) == 0:
            return _no_features(self.signature)
        if self.signature.image_shape:
            images = images.reshape(-1, *self.signature.image_shape)
        return self.encoder.encode(self.source.signature, images)


def _compute(work: _Work, file: FeatureFile, reporter: FeaturesReporter) -> float:
    """Does and saves the pieces that are missing; returns images per second."""
    missing = file.missing()
    batches = [
        _Batch(number, start, min(start + work.config.batch_size, file.span(number)[1]))
        for number in missing
        for start in range(*file.span(number), work.config.batch_size)
    ]
    todo = sum(batch.stop - batch.start for batch in batches)
    reporter.begin(file.num_images, file.num_images - todo)
    started, parts = time.monotonic(), []
    results = _in_order(work.encode, work.encode_what_can_be, batches, work.config.in_flight)
    for batch, part in zip(batches, results, strict=True):
        work.check(part.errors)
        parts.append(part)
        if batch.stop == file.span(batch.piece)[1]:
            file.save(batch.piece, _join_pieces(parts))
            parts = []
        reporter.advance(batch.stop - batch.start)
    return todo / (time.monotonic() - started) if todo else 0.0


def _in_order(
    work: Callable[[Item], Result | None],
    work_alone: Callable[[Item], Result],
    items: Iterable[Item],
    num_workers: int,
) -> Iterator[Result]:
    """Yields the results of items in their order, with so many at work at a time and few waiting to be taken.

    An item without a result is done again by `work_alone`, while no other is at work: a server that
    merges requests refuses good images along with bad ones.
    """
    pool = ThreadPoolExecutor(num_workers)
    waiting: deque[tuple[Item, Future[Result | None]]] = deque()

    def take() -> Result:
        item, future = waiting.popleft()
        result = future.result()
        if result is None:
            wait([other for _, other in waiting])
            return work_alone(item)
        return result

    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > num_workers:
                yield take()
        while waiting:
            yield take()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _report(source: ImageSource, file: FeatureFile, speed: float) -> FeaturesReport:
    """Counts the images with features and those without."""
    first: list[str] = []
    num_skipped = 0
    for index, reason in file.errors():
        num_skipped += 1
        if len(first) < 3:
            first.append(f"{source.ids(np.array([index]))[0]}: {reason}")
    if num_skipped == source.num_images:
        raise SMVIError(f"none of the {num_skipped} images can be read; {first[0]}")
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


def _no_features(signature: Signature) -> Features:
    empty = np.zeros((0, signature.latent_dim), np.float32)
    return Features(empty, empty)


def _join(features: list[Features]) -> Features:
    return Features(*(np.concatenate(values) for values in zip(*features, strict=True)))


def _join_pieces(parts: list[Piece]) -> Piece:
    errors = {index: reason for part in parts for index, reason in part.errors.items()}
    indices = np.concatenate([part.indices for part in parts])
    return Piece(indices, _join([part.features for part in parts]), errors)
