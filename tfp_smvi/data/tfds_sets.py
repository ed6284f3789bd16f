"""Image sets of TensorFlow Datasets: prepared once, then held in memory, or read by index."""

import contextlib
import hashlib
import io
import json
import logging
import math
import os
import shutil
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data.dataset import Dataset, Progress
from tfp_smvi.data.source import CHUNK, RecordList, Records, SourceSplit, find_bits, to_memory
from tfp_smvi.data.splits import content_fingerprint
from tfp_smvi.storage.locks import hold_folder

__all__ = ["load_tfds", "tfds_names"]

# Both splits together, one byte a value; larger sets are read from disk as they are needed.
MAX_BYTES_IN_MEMORY = 1 << 30


def tfds_names() -> list[str]:
    """The names of TensorFlow Datasets' sets, without their configs; asks no network."""
    import tensorflow_datasets as tfds

    return list(tfds.list_builders(with_community_datasets=False))


def load_tfds(
    name: str,
    data_dir: Path,
    progress: Progress = lambda line: None,
    *,
    packaged_dir: Path | None = None,
) -> Dataset:
    """Loads an image set of TensorFlow Datasets, into memory unless it is large.

    It needs images of a fixed shape and 8 bits a channel, a split "train", and one "test" or
    "validation". TensorFlow Datasets' progress bars are switched off.

    Args:
        name: "set" or "set/config".
        data_dir: where TensorFlow Datasets keeps prepared data.
        progress: receives a line before the data are prepared.
        packaged_dir: a directory with the original files, which are then not downloaded.

    Raises:
        SMVIError: it has no such images or splits, or cannot be prepared or read.
    """
    builder = _make_builder(name, data_dir)
    keys = _feature_keys(name, builder)
    if not Path(builder.data_dir).exists():
        progress(f"Preparing {name} in {data_dir}, once")
        _prepare(name, builder, data_dir, packaged_dir)
        builder = _make_builder(name, data_dir)
    try:
        return _read_prepared(name, builder, *keys)
    except SMVIError:
        raise
    except Exception as error:  # a damaged file may fail anywhere in TensorFlow
        raise SMVIError(
            f"cannot read the prepared data set {name!r} ({_first_line(error)})",
            remedy=f"delete {builder.data_dir} and run again",
        ) from error


def _make_builder(name: str, data_dir: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=os.fspath(data_dir))
    except Exception as error:  # an unknown config, a missing package or a damaged info file
        reason = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise SMVIError(
            f"cannot open data set {name!r} of TensorFlow Datasets ({_first_line(reason)})",
            remedy=f"check the name, or delete {data_dir / name} if it was prepared before",
        ) from error


def _feature_keys(name: str, builder: Any) -> tuple[str, str | None]:
    """Finds the image and the label among the features, before anything is downloaded."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = (
        [k for k, f in features.items() if isinstance(f, tfds.features.Image)] if features else []
    )
    if not images:
        raise SMVIError(
            f"data set {name!r} has no images",
            remedy="run `tfp-smvi datasets` for sets that have images",
        )
    image = features[images[0]]
    if None in image.shape or image.np_dtype != np.uint8:
        raise SMVIError(
            f"data set {name!r} has images of shape {image.shape} and dtype "
            f"{np.dtype(image.np_dtype).name}, not of a fixed shape and uint8",
            remedy="resize them and give them as an .npz file",
        )
    supervised = builder.info.supervised_keys or ()
    labels = [
        k
        for k, f in features.items()
        if k in supervised and isinstance(f, tfds.features.ClassLabel)
    ]
    return images[0], labels[0] if labels else None


def _prepare(name: str, builder: Any, data_dir: Path, packaged_dir: Path | None) -> None:
    """Downloads and prepares a set, in one process at a time."""
    # TensorFlow Datasets finds extracted files again only by their name: in a folder that two sets
    # share, the second one would silently get the pixels of the first.
    downloads = data_dir / "downloads" / "tfp_smvi" / name.replace("/", "-")
    writable = "give a directory that can be written with {data_dir} or TFP_SMVI_DATA_DIR"
    try:
        with hold_folder(downloads, remedy=writable, place=data_dir), _quiet():
            # Another process may have prepared it while this one waited.
            if not Path(builder.data_dir).exists():
                _download_and_prepare(name, builder, downloads, packaged_dir)
    except SMVIError:
        raise
    except Exception as error:  # builders raise whatever their code meets
        # An error of a file, and not of the network, has a number.
        if isinstance(error, OSError) and error.errno is not None:
            remedy = writable
        elif packaged_dir is not None:
            remedy = "install tfp-smvi again"
        else:
            remedy = f"check the network, or delete {downloads} and run again"
        raise SMVIError(
            f"cannot prepare data set {name!r} in {data_dir} ({_first_line(error)})",
            remedy=remedy,
        ) from error


def _download_and_prepare(
    name: str, builder: Any, downloads: Path, packaged_dir: Path | None
) -> None:
    import tensorflow_datasets as tfds

    if packaged_dir is None:
        _check_network(name, builder, downloads)
    builder.download_and_prepare(
        download_dir=os.fspath(downloads),
        download_config=tfds.download.DownloadConfig(
            manual_dir=packaged_dir, try_download_gcs=False
        ),
        # The format that is read by index.
        file_format="array_record",
    )
    if packaged_dir is not None:
        shutil.rmtree(downloads / "extracted", ignore_errors=True)


def _check_network(name: str, builder: Any, downloads: Path) -> None:
    """Fails at once if a host cannot be found: TensorFlow Datasets would retry for minutes."""
    # A proxy finds the hosts itself, and a finished download (it has an .INFO file) needs none.
    if urllib.request.getproxies() or any(downloads.rglob("*.INFO")):
        return
    for host in {urllib.parse.urlsplit(url).hostname for url in builder.url_infos or ()}:
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            raise SMVIError(
                f"cannot download data set {name!r}: the host {host} is not found",
                remedy="connect to a network, or choose a set without a download, such as mnist",
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TensorFlow Datasets from printing, and its downloads from a warning at each retry."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logger = logging.getLogger("urllib3")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _read_prepared(name: str, builder: Any, image_key: str, label_key: str | None) -> Dataset:
    info = builder.info
    names = ("train", _test_split(name, info.splits))
    num_values = sum(info.splits[split].num_examples for split in names) * math.prod(
        info.features[image_key].shape
    )
    in_memory = num_values <= MAX_BYTES_IN_MEMORY
    train, test = (
        SourceSplit(
            _open_records(name, builder, split, in_memory),
            info.features,
            image_key,
            label_key,
            os.fspath(builder.data_dir),
        )
        for split in names
    )
    num_classes = info.features[label_key].num_classes if label_key else None
    bits = find_bits(train, test)
    if in_memory:
        arrays = to_memory(train), to_memory(test)
        return Dataset(name, *arrays, num_classes, content_fingerprint(*arrays))
    return Dataset(name, train, test, num_classes, _info_fingerprint(info, names, bits))


def _test_split(name: str, splits: Any) -> str:
    if not splits:
        raise ValueError("no splits on record")
    for split in ("test", "validation"):
        if "train" in splits and split in splits:
            return split
    raise SMVIError(
        f"data set {name!r} has the splits {', '.join(splits)}, and not 'train' with 'test' or "
        "'validation'",
        remedy="split it and give it as an .npz file",
    )


def _open_records(name: str, builder: Any, split: str, in_memory: bool) -> Records:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # What others prepared in the same directory is TFRecord, TensorFlow Datasets' default.
    if builder.info.file_format.value != "tfrecord":
        return builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
    if in_memory:
        paths = [os.fspath(path) for path in builder.info.splits[split].filepaths]
        chunks = tf.data.TFRecordDataset(paths).batch(CHUNK).as_numpy_iterator()
        return RecordList(record for chunk in chunks for record in chunk)
    raise SMVIError(
        f"data set {name!r} is too large for memory, and was prepared in {builder.data_dir} in a "
        "format that cannot be read by index",
        remedy="give another directory with {data_dir} or TFP_SMVI_DATA_DIR",
    )


def _info_fingerprint(info: Any, split_names: Sequence[str], bits: bool) -> str:
    """Hashes the version and the sizes on record: reading every image would take too long."""
    sizes = {
        name: (info.splits[name].shard_lengths, info.splits[name].num_bytes) for name in split_names
    }
    record = {"name": info.full_name, "splits": sizes, **({"bits": True} if bits else {})}
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()


def _first_line(error: Exception) -> str:
    """The first line of a message that may have many, cut if it is long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(":")[:300]
