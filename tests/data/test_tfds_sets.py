"""Sets of TensorFlow Datasets: preparing, streaming, damage, and MNIST without a network."""

import gzip
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import (
    Dataset,
    eval_batches,
    load_dataset,
    mnist,
    source,
    tfds_sets,
    train_batches,
)
from tfp_smvi.data.splits import content_fingerprint

SHAPE = (5, 4, 1)
SIZES = {"train": 23, "test": 7}


def tiny_images(split: str) -> np.ndarray:
    return np.random.default_rng(SIZES[split]).integers(
        0, 256, (SIZES[split], *SHAPE), dtype=np.uint8
    )


class _TinyBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set that is made on the spot, and notes how it was prepared."""

    VERSION = tfds.core.Version("1.0.0")
    splits = ("train", "test")
    features: dict[str, Any] = {  # noqa: RUF012
        "image": tfds.features.Image(shape=SHAPE),
        "label": tfds.features.ClassLabel(num_classes=3),
    }

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(self.features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        PREPARED.append((self.name, str(dl_manager.download_dir)))
        return {split: self._generate_examples(split) for split in self.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        time.sleep(0.2)  # so that two preparations at once would meet
        for index, image in enumerate(tiny_images("test" if split == "test" else "train")):
            yield index, {"image": image, "label": index % 3}


PREPARED: list[tuple[str, str]] = []


class SmviTinyOne(_TinyBuilder):
    """Has all that is needed."""


class SmviTinyTwo(_TinyBuilder):
    """Another such set."""


class SmviTinyValidation(_TinyBuilder):
    """Has a split "validation" in place of "test"."""

    splits = ("train", "validation")


class SmviTinyNoTest(_TinyBuilder):
    """Has nothing to evaluate on."""

    splits = ("train", "extra")


class SmviTinyBits(_TinyBuilder):
    """Has the pixels 0 and 1, like TFDS's binarized_mnist."""

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, image in enumerate(tiny_images(split) % 2):
            yield index, {"image": image, "label": index % 3}


class SmviTinyText(_TinyBuilder):
    """Has no image."""

    features = {"label": tfds.features.ClassLabel(num_classes=3)}  # noqa: RUF012


class SmviTinyAnyShape(_TinyBuilder):
    """Has images of many shapes."""

    features = {  # noqa: RUF012
        "image": tfds.features.Image(shape=(None, None, 1)),
        "label": tfds.features.ClassLabel(num_classes=3),
    }


class SmviTinyBroken(_TinyBuilder):
    """Fails while it is prepared, in more than one line."""

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        raise RuntimeError(f"no {split}\nand more")


def multiset(images: np.ndarray, labels: np.ndarray | None) -> Counter[tuple[bytes, int]]:
    assert labels is not None
    return Counter(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )


def test_prepared_images_and_labels_are_the_generated_ones(tmp_path: Path) -> None:
    lines: list[str] = []
    dataset = load_dataset("smvi_tiny_one", tmp_path, progress=lines.append)
    assert lines == [f"Preparing smvi_tiny_one in {tmp_path}, once"]
    assert (dataset.image_shape, dataset.num_classes, dataset.real_valued) == (SHAPE, 3, False)
    for name, split in [("train", dataset.train), ("test", dataset.test)]:
        pixels = np.rint(split.images(np.arange(SIZES[name])) * 255).astype(np.uint8)
        assert multiset(pixels, split.labels) == multiset(
            tiny_images(name), np.arange(SIZES[name]) % 3
        )
    again = load_dataset("smvi_tiny_one", tmp_path, progress=lines.append)
    assert (len(lines), again.fingerprint) == (1, dataset.fingerprint)


def test_preparing_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_dataset("smvi_tiny_one", tmp_path)
    captured = capfd.readouterr()
    assert captured.out == ""
    # TensorFlow's C++ code logs when it starts, which is for the command line to silence.
    assert "smvi_tiny_one" not in captured.err
    assert "examples" not in captured.err


def test_streamed_split_equals_the_split_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches(dataset: Dataset) -> list[np.ndarray]:
        train = train_batches(dataset.train, batch_size=4, seed=0, num_steps=12, binarize=True)
        test = eval_batches(dataset.test, batch_size=3, seed=0, binarize=False)
        return [x.numpy() for x in train] + [x.numpy() for _, x in test]

    memory = load_dataset("smvi_tiny_one", tmp_path)
    monkeypatch.setattr(tfds_sets, "MAX_BYTES_IN_MEMORY", 30 * 20 - 1)
    streamed = load_dataset("smvi_tiny_one", tmp_path)
    assert isinstance(streamed.train, source.SourceSplit)
    assert (streamed.train.num_examples, streamed.image_shape) == (23, SHAPE)
    np.testing.assert_array_equal(
        streamed.train.images([3, 22, 0]), memory.train.images([3, 22, 0])
    )
    np.testing.assert_array_equal(streamed.test.labels, memory.test.labels)
    for one, other in zip(batches(streamed), batches(memory), strict=True):
        # Division by 255 in NumPy and in TensorFlow may differ in the last bit.
        np.testing.assert_allclose(one, other, rtol=2.5e-7, atol=0)
    assert streamed.fingerprint == load_dataset("smvi_tiny_one", tmp_path).fingerprint
    assert len(streamed.fingerprint) == 64


def test_a_streamed_split_that_can_no_longer_be_read_names_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(source.RecordList):
        def __getitems__(self, indices: Any) -> list[bytes]:
            raise RuntimeError("cannot open the shard\nin a trace")

    monkeypatch.setattr(tfds_sets, "MAX_BYTES_IN_MEMORY", 1)
    train = load_dataset("smvi_tiny_one", tmp_path).train
    monkeypatch.setattr(train, "_records", Gone())
    with pytest.raises(SMVIError) as caught:
        train.images([0])
    folder = tmp_path / "smvi_tiny_one" / "1.0.0"
    assert str(caught.value).startswith(f"{folder} can no longer be read (cannot open the shard)")


def test_pixels_of_0_and_1_are_bits_in_memory_and_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Divided by 255 they would all be nearly black."""
    memory = load_dataset("smvi_tiny_bits", tmp_path)
    monkeypatch.setattr(tfds_sets, "MAX_BYTES_IN_MEMORY", 1)
    streamed = load_dataset("smvi_tiny_bits", tmp_path)
    assert isinstance(streamed.train, source.SourceSplit)
    expected = Counter(image.tobytes() for image in tiny_images("train") % 2)
    for dataset in (memory, streamed):
        images = dataset.train.images(range(23))
        assert Counter(image.astype(np.uint8).tobytes() for image in images) == expected


def test_set_that_others_prepared_as_tfrecord_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tfds.builder("smvi_tiny_one", data_dir=str(tmp_path / "theirs")).download_and_prepare()
    theirs = load_dataset("smvi_tiny_one", tmp_path / "theirs")
    assert theirs.fingerprint == load_dataset("smvi_tiny_one", tmp_path / "ours").fingerprint
    monkeypatch.setattr(tfds_sets, "MAX_BYTES_IN_MEMORY", 1)
    with pytest.raises(SMVIError, match="cannot be read by index"):
        load_dataset("smvi_tiny_one", tmp_path / "theirs")


def test_two_sets_never_share_a_download_folder(tmp_path: Path) -> None:
    PREPARED.clear()
    load_dataset("smvi_tiny_one", tmp_path)
    load_dataset("smvi_tiny_two", tmp_path)
    (one, first), (two, second) = PREPARED
    assert (one, two) == ("smvi_tiny_one", "smvi_tiny_two")
    assert not Path(first).is_relative_to(second)
    assert not Path(second).is_relative_to(first)


def test_processes_that_start_at_once_prepare_once(tmp_path: Path) -> None:
    """Threads hold the lock by files of their own, as processes do."""
    PREPARED.clear()
    loaded: list[Dataset] = []
    threads = [
        threading.Thread(target=lambda: loaded.append(load_dataset("smvi_tiny_one", tmp_path)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(PREPARED) == 1
    assert len({dataset.fingerprint for dataset in loaded}) == 1
    assert len(loaded) == 3


def test_leftovers_of_a_killed_preparation_do_no_harm(tmp_path: Path) -> None:
    leftover = tmp_path / "smvi_tiny_one" / "incomplete.ABCDEF_1.0.0"
    leftover.mkdir(parents=True)
    (leftover / "dataset_info.json").write_text("{")
    assert load_dataset("smvi_tiny_one", tmp_path).train.num_examples == 23


def test_validation_split_stands_in_for_the_test(tmp_path: Path) -> None:
    assert load_dataset("smvi_tiny_validation", tmp_path).test.num_examples == 23


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smvi_tiny_no_test", "has the splits train, extra, and not 'train' with 'test'"),
        ("smvi_tiny_text", "has no images"),
        ("smvi_tiny_any_shape", r"shape \(None, None, 1\) and dtype uint8, not of a fixed shape"),
        ("smvi_tiny_broken", "cannot prepare .*no train"),
        ("smvi_tiny_one/config", "cannot open data set 'smvi_tiny_one/config'"),
    ],
)
def test_sets_that_cannot_be_used_are_refused_in_one_line(
    tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(SMVIError, match=message) as caught:
        load_dataset(name, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["records", "truncated", "missing", "info", "no info"])
def test_damaged_prepared_files_name_the_directory_to_delete(tmp_path: Path, damage: str) -> None:
    load_dataset("smvi_tiny_one", tmp_path)
    directory = tmp_path / "smvi_tiny_one" / "1.0.0"
    (records,) = directory.glob("*train*")
    contents = records.read_bytes()
    if damage == "records":
        records.write_bytes(
            contents[:200] + bytes(byte ^ 255 for byte in contents[200:-200]) + contents[-200:]
        )
    elif damage == "truncated":
        records.write_bytes(contents[: len(contents) // 2])
    elif damage == "missing":
        records.unlink()
    elif damage == "info":
        (directory / "dataset_info.json").write_text("{")
    else:
        (directory / "dataset_info.json").unlink()
    with pytest.raises(SMVIError, match=f"delete {tmp_path / 'smvi_tiny_one'}") as caught:
        load_dataset("smvi_tiny_one", tmp_path)
    assert "\n" not in str(caught.value)


def test_data_dir_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SMVIError, match=f"cannot write to {tmp_path / 'file'} ") as caught:
        load_dataset("smvi_tiny_one", tmp_path / "file")
    assert "{data_dir}" in str(caught.value.remedy)


def test_download_without_network_fails_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_hosts(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_hosts)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    start = time.monotonic()
    with pytest.raises(SMVIError, match=r"the host .* is not found"):
        load_dataset("fashion_mnist", tmp_path)
    # Without the check TensorFlow Datasets retries for some 200 seconds.
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("name", mnist.FILES)
def test_damaged_or_missing_packaged_file_asks_to_install_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shutil.copytree(mnist.PACKAGED_DIR, tmp_path / "packaged")
    monkeypatch.setattr(mnist, "PACKAGED_DIR", tmp_path / "packaged")
    file = tmp_path / "packaged" / name
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)
    with pytest.raises(SMVIError, match=r"wrong checksum.*install tfp-smvi again"):
        load_dataset("mnist", tmp_path / "data")
    file.unlink()
    with pytest.raises(SMVIError, match=f"{name} is missing; install tfp-smvi again"):
        load_dataset("mnist", tmp_path / "data")


OFFLINE = """
import socket, sys

def refuse(*arguments, **options):
    attempts.append(arguments)
    raise OSError("the network is cut")

attempts = []
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])))
except OSError as error:
    assert "cut" in str(error)
else:
    raise AssertionError("the network is not cut")
attempts.clear()

from tfp_smvi.data import load_dataset
dataset = load_dataset("mnist", progress=print)
print(dataset.fingerprint)
assert not attempts, attempts
"""


@pytest.fixture(scope="module")
def offline_mnist(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Prepares MNIST in a fresh home without a network: the data directory and the output."""
    home = tmp_path_factory.mktemp("home")
    hidden = ("TFP_SMVI_DATA_DIR", "TFDS_DATA_DIR")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    # A server of our own, so that a connection that fails fails because the network is cut.
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", OFFLINE, str(server.getsockname()[1])]
        # Where the system allows, a namespace without a network binds C++ code too.
        if (
            shutil.which("unshare")
            and not subprocess.run(["unshare", "-rn", "true"], check=False).returncode
        ):
            command = ["unshare", "-rn", *command]
        finished = subprocess.run(
            command,
            env=environment | {"HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert finished.returncode == 0, finished.stderr
    assert "mnist" not in finished.stderr.lower(), finished.stderr
    return home / "tensorflow_datasets", finished.stdout


@pytest.mark.slow
def test_mnist_prepares_without_network_in_a_fresh_home(offline_mnist: tuple[Path, str]) -> None:
    data_dir, output = offline_mnist
    assert output == f"Preparing mnist in {data_dir}, once\n{mnist.FINGERPRINT}\n"


@pytest.mark.slow
def test_mnist_is_the_original_mnist(offline_mnist: tuple[Path, str]) -> None:
    """The very images with their labels, read from the original files by other means."""
    dataset = load_dataset("mnist", offline_mnist[0])
    assert (dataset.image_shape, dataset.num_classes) == ((28, 28, 1), 10)
    assert dataset.default_likelihood == "bernoulli"
    for split, prefix in [(dataset.train, "train"), (dataset.test, "t10k")]:
        # IDX files: a header of 16 bytes before the images, of 8 before the labels.
        images = gzip.decompress(
            (mnist.PACKAGED_DIR / f"{prefix}-images-idx3-ubyte.gz").read_bytes()
        )[16:]
        labels = gzip.decompress(
            (mnist.PACKAGED_DIR / f"{prefix}-labels-idx1-ubyte.gz").read_bytes()
        )[8:]
        original = multiset(
            np.frombuffer(images, np.uint8).reshape(-1, 784), np.frombuffer(labels, np.uint8)
        )
        assert multiset(split.pixels, split.labels) == original


@pytest.mark.slow
def test_mnist_with_changed_contents_is_refused(
    offline_mnist: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_bit_off(*arguments: Any) -> str:
        arguments[0].pixels[31, 14, 14, 0] ^= 1
        return content_fingerprint(*arguments)

    monkeypatch.setattr(tfds_sets, "content_fingerprint", one_bit_off)
    with pytest.raises(SMVIError, match=f"not the known ones.*delete {offline_mnist[0] / 'mnist'}"):
        load_dataset("mnist", offline_mnist[0])
