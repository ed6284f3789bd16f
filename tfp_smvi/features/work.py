"""The work of an extraction: examples are read and encoded, batch by batch, piece by piece."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple, TypeVar

import numpy as np

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.features.files import PIECE_SIZE, FeatureFile
from tfp_smvi.features.pieces import Piece
from tfp_smvi.features.settings import Settings
from tfp_smvi.features.sources import ArrayImages, ImageSource, TableRows
from tfp_smvi.serving.encoders import Encoder, Features, Images, RejectedImagesError, Signature

__all__ = ["Batch", "Work", "compute", "prepare"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def prepare(source: ImageSource, encoder: Encoder, config: FeaturesConfig) -> "Work":
    """Gives the examples the form that the model takes.

    Raises:
        SMVIError: the examples do not fit the model.
    """
    if isinstance(source, ArrayImages):
        source.require_order(encoder.names)
        if source.signature not in encoder.signatures:
            source = source.as_values()  # a model of counts or reals takes no grey levels
    if isinstance(source, TableRows):
        source.require_values(encoder.signatures.keys())
        source = source.ordered(encoder.names)
    return Work(source, encoder, config, _signature_for(source, encoder))


def compute(
    work: "Work",
    file: FeatureFile,
    numbers: Iterable[int],
    advance: Callable[[int], None],
    work_alone: Callable[["Batch"], Piece],
) -> None:
    """Computes and saves pieces.

    Args:
        work: the work.
        file: the file of features.
        numbers: the numbers of the pieces.
        advance: is called with a number of further examples that are done.
        work_alone: computes a batch that the model has refused, such as `work.encode_by_halves`.

    Raises:
        SMVIError: an example cannot be read and `config.on_error` is "fail", the model does not
            answer, or a piece cannot be written.
    """
    batches = [
        Batch(number, start, min(start + work.config.batch_size, file.span(number)[1]))
        for number in numbers
        for start in range(*file.span(number), work.config.batch_size)
    ]
    parts = []
    results = _in_order(work.encode, work_alone, batches, work.config.in_flight)
    for batch, part in zip(batches, results, strict=True):
        work.check(part.errors)
        parts.append(part)
        if batch.stop == file.span(batch.piece)[1]:
            file.save(batch.piece, _join_pieces(parts), last=batch is batches[-1])
            parts = []
        advance(batch.stop - batch.start)


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
            f"has examples of shape {list(source.image_shape)}, and the model takes "
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


class Batch(NamedTuple):
    """Indices from start up to stop, exclusive, within one piece."""

    piece: int
    start: int
    stop: int


class Work(NamedTuple):
    """Examples, their model, and how requests to it are made."""

    source: ImageSource
    encoder: Encoder
    config: FeaturesConfig
    signature: Signature

    @property
    def settings(self) -> Settings:
        """Everything that the features depend on."""
        source, model = self.source, self.encoder.identity
        return {
            "images": {**source.identity, "number": source.num_images},
            "model": {**model, "signature": source.signature},
            "format": {"piece_size": PIECE_SIZE},
        }

    def encode(self, batch: Batch) -> Piece | None:
        """Returns the features of a batch; None if the model refuses it."""
        indices, images, errors = self.source.read(batch.start, batch.stop)
        try:
            return Piece(indices, self._ask(images), errors)
        except RejectedImagesError:
            return None

    def encode_by_halves(self, batch: Batch) -> Piece:
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


def _no_features(signature: Signature) -> Features:
    empty = np.zeros((0, signature.latent_dim), np.float32)
    return Features(empty, empty)


def _join(features: list[Features]) -> Features:
    return Features(*(np.concatenate(values) for values in zip(*features, strict=True)))


def _join_pieces(parts: list[Piece]) -> Piece:
    errors = {index: reason for part in parts for index, reason in part.errors.items()}
    indices = np.concatenate([part.indices for part in parts])
    return Piece(indices, _join([part.features for part in parts]), errors)
