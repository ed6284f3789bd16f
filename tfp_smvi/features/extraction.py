"""Features of many examples: read, encoded and saved in pieces, in constant memory, resumable."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.reporters import Silent
from tfp_smvi.features.files import PIECE_SIZE, FeatureFile, Piece, Settings
from tfp_smvi.features.results import FeaturesReport
from tfp_smvi.features.sources import ArrayImages, ImageSource, TableRows
from tfp_smvi.serving.encoders import Encoder, Features, Images, RejectedImagesError, Signature

__all__ = ["FeaturesReporter", "extract_features"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class FeaturesReporter(Protocol):
    """Receives progress updates."""

    def begin(self, num_images: int, num_done: int) -> None:
        """The work begins, with the number of examples and of those done before."""

    def advance(self, num_images: int) -> None:
        """A number of further examples is done."""


def extract_features(
    source: ImageSource,
    encoder: Encoder,
    output: Path | str,
    config: FeaturesConfig = FeaturesConfig(),  # noqa: B008  # it is frozen
    *,
    fresh: bool = False,
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
        reporter: receives progress updates.

    Raises:
        SMVIError: the examples do not fit the model, an example cannot be read and
            `config.on_error` is "fail", none can be read, the model does not answer, or the file
            exists already, was begun with other settings or cannot be written.
    """
    if isinstance(source, ArrayImages) and source.signature not in encoder.signatures:
        source = source.as_values()  # a model of counts or reals takes no grey levels
    if isinstance(source, TableRows):
        source = source.ordered(encoder.names)
    signature = _signature_for(source, encoder)
    reporter = reporter or Silent()
    file = FeatureFile(Path(output), source.num_images)
    settings: Settings = {
        "images": {**source.identity, "number": source.num_images},
        "model": {**encoder.identity, "signature": source.signature},
        "format": {"piece_size": PIECE_SIZE},
    }
    with file.open(settings, fresh=fresh) as finished:
        if finished is not None:
            file.remove_folder()
            return finished
        speed = _compute(_Work(source, encoder, config, signature), file, reporter)
        report = _report(source, file, speed)
        file.finish(source.ids, source.id_dtype, signature.latent_dim, report)
    return report


def _signature_for(source: ImageSource, encoder: Encoder) -> Signature:
    """Returns the signature of the model that takes these examples."""
    signature = encoder.signatures.get(source.signature)
    if signature is None:
        raise SMVIError(
            f"needs the signature {source.signature}, and the model has only "
            f"{', '.join(sorted(encoder.signatures))}",
            field="images",
            remedy="give a .npy file of floats like the training data of the model",
        )
    # Grey images may come without the axis of their only channel.
    shapes = (source.image_shape, (*(source.image_shape or ()), 1))
    if source.image_shape is not None and signature.image_shape not in shapes:
        raise SMVIError(
            f"has shape {list(source.image_shape)}, and the model takes "
            f"{list(signature.image_shape)}",
            field="images",
            remedy=(
                "give the columns that the model was trained on, in the same order, and name one "
                "of other classes with {label_column}"
                if len(signature.image_shape) == 1
                else _remedy_of_shape(source.image_shape, signature.image_shape)
            ),
        )
    return signature


def _remedy_of_shape(given: tuple[int, ...], taken: tuple[int, ...]) -> str:
    channels_first = len(given) == 3 and (*given[1:], given[0]) == taken
    return "transpose them with x.transpose(0, 2, 3, 1)" if channels_first else "resize them"


class _Batch(NamedTuple):
    """Indices from start up to stop, exclusive, within one piece."""

    piece: int
    start: int
    stop: int


class _Work(NamedTuple):
    """Examples, their model, and how requests to it are made."""

    source: ImageSource
    encoder: Encoder
    config: FeaturesConfig
    signature: Signature

    def encode(self, batch: _Batch) -> Piece | None:
        """Returns the features of a batch; None if the model refuses it."""
        indices, images, errors = self.source.read(batch.start, batch.stop)
        try:
            return Piece(indices, self._ask(images), errors)
        except RejectedImagesError:
            return None

    def encode_by_halves(self, batch: _Batch) -> Piece:
        """Returns the features of the examples that the model takes: it halves what is refused."""
        indices, images, errors = self.source.read(batch.start, batch.stop)
        accepted: list[int] = []
        features = [_no_features(self.signature)]
        spans = [(0, len(indices))]
        while spans:
            start, stop = spans.pop()
            try:
                features.append(self._ask(images[start:stop]))
                accepted += range(start, stop)
            except RejectedImagesError as error:
                if stop - start == 1:
                    errors[int(indices[start])] = error.problem
                    self.check(errors)
                else:
                    middle = (start + stop) // 2
                    spans += [(middle, stop), (start, middle)]
        return Piece(indices[accepted], _join(features), errors)

    def check(self, errors: dict[int, str]) -> None:
        """Raises an SMVIError for the first error if no errors are allowed."""
        if errors and self.config.on_error == "fail":
            index = min(errors)
            (name,) = self.source.ids(np.array([index]))
            raise SMVIError(
                f"example {name} cannot be read: {errors[index]}",
                remedy="replace it and run the same command again, or leave such examples out with "
                "{on_error} skip; what is done is kept",
            )

    def _ask(self, images: Images) -> Features:
        if len(images) == 0:
            return _no_features(self.signature)
        if isinstance(images, np.ndarray):
            images = images.reshape(-1, *self.signature.image_shape)
        return self.encoder.encode(self.source.signature, images)


def _compute(work: _Work, file: FeatureFile, reporter: FeaturesReporter) -> float:
    """Computes and saves the missing pieces; returns examples per second."""
    missing = file.missing()
    batches = [
        _Batch(number, start, min(start + work.config.batch_size, file.span(number)[1]))
        for number in missing
        for start in range(*file.span(number), work.config.batch_size)
    ]
    todo = sum(batch.stop - batch.start for batch in batches)
    reporter.begin(file.num_images, file.num_images - todo)
    started, parts = time.monotonic(), []
    results = _in_order(work.encode, work.encode_by_halves, batches, work.config.in_flight)
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
    """Yields the results of items in order, with `num_workers` at work and few results in memory.

    An item without a result is repeated by `work_alone` while no other item is at work: a server
    that merges requests refuses good examples along with bad ones.
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


def _no_features(signature: Signature) -> Features:
    empty = np.zeros((0, signature.latent_dim), np.float32)
    return Features(empty, empty)


def _join(features: list[Features]) -> Features:
    return Features(*(np.concatenate(values) for values in zip(*features, strict=True)))


def _join_pieces(parts: list[Piece]) -> Piece:
    errors = {index: reason for part in parts for index, reason in part.errors.items()}
    indices = np.concatenate([part.indices for part in parts])
    return Piece(indices, _join([part.features for part in parts]), errors)
