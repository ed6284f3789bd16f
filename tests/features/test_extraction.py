"""Features in bulk: from each kind of input, in each kind of file, with every kind of fault."""

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.errors import refused
from tests.support.memory import peak_memory
from tests.support.servers import (
    LATENT_DIM,
    SERVERS,
    SHAPE,
    Models,
    encode_png,
    make_images,
)
from tfp_smvi.config import FeaturesConfig, ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import load_dataset
from tfp_smvi.data.test_batches import read_inputs
from tfp_smvi.features import files as feature_files
from tfp_smvi.features.extraction import extract_features
from tfp_smvi.features.image_files import ImageFiles
from tfp_smvi.features.images import open_images
from tfp_smvi.features.results import FeaturesReport
from tfp_smvi.features.sources import ArrayImages, ImagesRead
from tfp_smvi.models.encoding import encode_means
from tfp_smvi.models.vae import VAE
from tfp_smvi.serving.client import connect
from tfp_smvi.serving.encoders import Features, LocalEncoder, RejectedImagesError, Signature

COUNT = 150
PIECE = 64
# Batches that end at no piece's end by themselves.
CONFIG = FeaturesConfig(batch_size=20, in_flight=3)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_files, "PIECE_SIZE", PIECE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with images whose names have another order, and a file that is not an image."""
    folder = tmp_path / "images"
    for number, image in enumerate(make_images(COUNT)):
        path = folder / f"{'ab'[number % 2]}" / f"{COUNT - number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(image))
    (folder / "labels.csv").write_text("none")
    return folder


def load(path: Path) -> dict[str, Any]:
    """Reads a file of features back."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        vectors = {
            name: np.array(table[name].to_pylist(), np.float32) for name in ("mean", "stddev")
        }
        return {"ids": np.array(table["ids"].to_pylist()), **vectors}
    content = np.load(path, allow_pickle=False)
    return {"mean": content} if path.suffix == ".npy" else dict(content)


def save(path: Path, images: np.ndarray) -> str:
    np.save(path, images)
    return str(path)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".npy"])
def test_a_file_holds_the_features_of_all_images_in_order(
    suffix: str, tmp_path: Path, encoder: LocalEncoder
) -> None:
    """The model answers for batches of 20 as it does for all at once, beyond rounding."""
    images, output = make_images(COUNT), tmp_path / f"features{suffix}"
    report = extract_features(
        open_images(save(tmp_path / "x.npy", images)), encoder, output, CONFIG
    )
    found, expected = load(output), encoder.encode("uint8", images)
    for name in ("mean",) if suffix == ".npy" else ("mean", "stddev"):
        np.testing.assert_allclose(found[name], getattr(expected, name), rtol=0, atol=1e-5)
        assert found[name].dtype == np.float32
    if suffix != ".npy":
        assert found["ids"].tolist() == list(range(COUNT))
    assert report.num_features == COUNT
    assert report.errors_file is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, "x.npy"]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_files_of_a_folder_are_named_by_their_paths_in_order(
    suffix: str, tmp_path: Path, folder: Path, encoder: LocalEncoder
) -> None:
    notes: list[str] = []
    output = tmp_path / f"features{suffix}"
    extract_features(open_images(str(folder), note=notes.append), encoder, output, CONFIG)
    assert notes == [f"Files in {folder} that do not end in .png, .jpg, .jpeg are left out: 1."]
    found = load(output)
    names = [f"{'ab'[number % 2]}/{COUNT - number}.png" for number in range(COUNT)]
    assert found["ids"].tolist() == sorted(names)
    order = sorted(range(COUNT), key=names.__getitem__)
    expected = encoder.encode("uint8", make_images(COUNT)[order])
    np.testing.assert_allclose(found["mean"], expected.mean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("protocol", SERVERS)
@pytest.mark.parametrize("kind", ["files", "uint8", "float"])
def test_local_and_served_features_agree(
    protocol: str, kind: str, tmp_path: Path, folder: Path, export: Path, encoder: LocalEncoder
) -> None:
    images = make_images(COUNT)
    arrays = {"uint8": images, "float": images / 255}
    name = str(folder) if kind == "files" else save(tmp_path / "x.npy", arrays[kind])
    models = Models({1: export / "1"})
    extract_features(open_images(name), encoder, tmp_path / "local.npz", CONFIG)
    with SERVERS[protocol](models) as endpoint:
        served = connect(endpoint, CONFIG)
        extract_features(open_images(name), served, tmp_path / "served.npz", CONFIG)
        served.close()
    local, remote = load(tmp_path / "local.npz"), load(tmp_path / "served.npz")
    assert local["ids"].tolist() == remote["ids"].tolist()
    for column in ("mean", "stddev"):
        np.testing.assert_allclose(remote[column], local[column], rtol=0, atol=1e-5)
    signature = {"files": "encoded_image", "uint8": "uint8", "float": "serving_default"}[kind]
    assert {name for _, name, _ in models.requests} == {signature}
    assert 1 < models.most_at_once <= CONFIG.in_flight


def test_features_are_what_classify_uses(tmp_path: Path, encoder: LocalEncoder) -> None:
    model = VAE(
        ModelConfig("bernoulli", latent_dim=LATENT_DIM, hidden_sizes=(16,)), SHAPE, seed=0
    )  # the export's
    dataset = load_dataset("digits")
    extract_features(open_images("tfds:digits/test"), encoder, tmp_path / "f.npz", CONFIG)
    expected = encode_means(model, read_inputs(dataset.test, binarize=False))
    np.testing.assert_allclose(load(tmp_path / "f.npz")["mean"], expected, rtol=0, atol=1e-5)


def test_images_that_cannot_be_read_are_left_out_and_listed(
    tmp_path: Path, folder: Path, encoder: LocalEncoder
) -> None:
    """Each kind alone in its batch, or among others; the first and the last of all too."""
    expected = load_after(
        extract_features(ImageFiles(folder), encoder, tmp_path / "all.npz", CONFIG)
    )
    names = expected["ids"].tolist()
    bad = {
        0: b"",
        17: b"GIF89a",
        18: encode_png(make_images(1)[0])[:50],
        70: encode_png(np.zeros((9, 8, 1), np.uint8)),
    }
    for index, data in bad.items():
        (folder / names[index]).write_bytes(data)
    (folder / names[COUNT - 1]).unlink()
    (folder / names[COUNT - 1]).symlink_to("nowhere")
    skipped = [names[index] for index in (*bad, COUNT - 1)]
    config = FeaturesConfig(batch_size=20, in_flight=3, on_error="skip")
    report = extract_features(ImageFiles(folder), encoder, tmp_path / "some.npz", config)
    assert (report.num_images, report.num_features, report.num_skipped) == (COUNT, COUNT - 5, 5)
    lines = [json.loads(line) for line in Path(report.errors_file).read_text().splitlines()]
    assert [line["id"] for line in lines] == skipped
    for line, words in zip(
        lines,
        ("must hold a PNG", "must hold a PNG", "PNG", "height and width", "No such file"),
        strict=True,
    ):
        assert words in line["error"]
    found, kept = (
        load(tmp_path / "some.npz"),
        [index for index, name in enumerate(names) if name not in skipped],
    )
    assert found["ids"].tolist() == [names[index] for index in kept]
    np.testing.assert_allclose(found["mean"], expected["mean"][kept], rtol=0, atol=1e-5)


def load_after(report: FeaturesReport) -> dict[str, Any]:
    return load(Path(report.output))


@pytest.mark.parametrize(
    ("dtype", "value", "words"),
    [
        (np.float32, np.nan, "without NaN"),
        (np.float32, 2.0, "in \\[0, 1\\]"),
        (np.int64, 256, "grey levels"),
    ],
)
def test_a_value_that_no_image_has_stops_the_work_unless_told_otherwise(
    dtype: Any, value: float, words: str, tmp_path: Path, encoder: LocalEncoder
) -> None:
    images = (
        make_images(COUNT).astype(dtype) if dtype == np.int64 else make_images(COUNT) / dtype(255)
    )
    images[100, 3, 3] = value
    name, output = save(tmp_path / "x.npy", images), tmp_path / "f.npz"
    with pytest.raises(SMVIError, match=f"example 100 cannot be read: .*{words}"):
        extract_features(open_images(name), encoder, output, CONFIG)
    assert not output.exists()
    # What is done is kept, and another --on-error goes on with it.
    kept = [path.name for path in output.with_name("f.npz.partial").glob("piece-*")]
    assert kept == ["piece-0000000.npz"]
    config = FeaturesConfig(batch_size=20, on_error="skip")
    assert extract_features(open_images(name), encoder, output, config).num_skipped == 1
    assert 100 not in load(output)["ids"]


class Fake:
    """An encoder whose features are sums of the pixels, and which can refuse."""

    def __init__(
        self, bad: tuple[int, ...] = (), latent_dim: int = 2, patience: float = 0.05
    ) -> None:
        self.identity, self.names = {"fake": 1}, None
        self.signatures = {"uint8": Signature("images", "uint8", (1, 1), latent_dim)}
        self.sizes: list[int] = []
        self._bad, self._lock, self._at_work = bad, threading.Condition(), 0
        self._poisoned, self._patience = False, patience

    def encode(self, signature: str, images: Any) -> Features:
        """As a server that merges requests: a bad image makes it refuse all that are at work."""
        bad = bool(np.isin(images.reshape(len(images), -1)[:, 0], self._bad).any())
        with self._lock:
            self.sizes.append(len(images))
            self._at_work += 1
            self._poisoned |= bad
            # The first requests come together: they wait for each other.
            self._lock.wait_for(lambda: self._at_work > 1, timeout=self._patience)
            refused = self._poisoned
            self._at_work -= 1
            if self._at_work == 0:
                self._poisoned = False
        if refused:
            raise RejectedImagesError("refused")
        dimension = self.signatures["uint8"].latent_dim
        sums = images.reshape(len(images), -1).sum(axis=1, dtype=np.float32)
        return Features(*np.broadcast_to(sums[None, :, None], (2, len(images), dimension)))


def test_good_images_are_not_refused_along_with_bad_ones(tmp_path: Path) -> None:
    """TF Serving merges requests that arrive together, and one error fails all of them."""
    images = np.arange(200, dtype=np.uint8).reshape(200, 1, 1)
    config = FeaturesConfig(batch_size=8, in_flight=4, on_error="skip")
    report = extract_features(
        ArrayImages(images, {}, "x"), Fake(bad=(3, 20, 21, 63)), tmp_path / "f.npz", config
    )
    assert report.num_skipped == 4
    expected = [number for number in range(200) if number not in (3, 20, 21, 63)]
    assert load(tmp_path / "f.npz")["ids"].tolist() == expected
    np.testing.assert_array_equal(load(tmp_path / "f.npz")["mean"][:, 0], expected)


def test_none_readable_is_an_error(tmp_path: Path) -> None:
    source = ArrayImages(np.full((70, 1, 1), 9, np.uint8), {}, "x")
    with refused("images"):
        extract_features(
            source,
            Fake(bad=(9,), patience=0.0),
            tmp_path / "f.npz",
            FeaturesConfig(on_error="skip"),
        )


def test_an_error_in_a_source_is_not_taken_for_one_of_the_output(tmp_path: Path) -> None:
    class Torn(Endless):
        def read(self, start: int, stop: int) -> ImagesRead:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        extract_features(Torn(5), Fake(), tmp_path / "f.npz", CONFIG)


class Endless:
    """Images that are made when they are read."""

    signature, image_shape, id_dtype = "uint8", (1, 1), np.dtype(np.int64)

    def __init__(self, num_images: int) -> None:
        self.num_images, self.identity = num_images, {}

    def read(self, start: int, stop: int) -> ImagesRead:
        return ImagesRead(np.arange(start, stop), np.ones((stop - start, 1, 1), np.uint8), {})

    def ids(self, indices: np.ndarray) -> np.ndarray:
        return indices


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".npy"])
def test_memory_does_not_grow_with_the_number_of_images(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 times the images, 16 MB of features, and at most a piece, 0.5 MB, of additional memory."""
    monkeypatch.setattr(feature_files, "PIECE_SIZE", 512)
    encoder, config = Fake(latent_dim=128, patience=0), FeaturesConfig(batch_size=256, in_flight=1)
    output = tmp_path / f"features{suffix}"

    def peak(count: int) -> int:
        source = Endless(count)
        return peak_memory(lambda: extract_features(source, encoder, output, config, fresh=True))

    assert peak(16384) < peak(2048) + 512 * 128 * 4 * 2


def test_other_settings_do_not_go_on_with_what_was_begun(
    tmp_path: Path, encoder: LocalEncoder
) -> None:
    images, output = make_images(COUNT), tmp_path / "f.npz"
    images_with_nan = images / np.float32(255)
    images_with_nan[-1] = np.nan
    with pytest.raises(SMVIError, match="cannot be read"):
        extract_features(
            open_images(save(tmp_path / "x.npy", images_with_nan)), encoder, output, CONFIG
        )
    other = open_images(save(tmp_path / "y.npy", images))
    with refused("output", str(output)) as caught:
        extract_features(other, encoder, output, CONFIG)
    assert re.search(r"images\.file: \S*x\.npy before, \S*y\.npy now", str(caught.value))
    extract_features(other, encoder, output, CONFIG, fresh=True)
    assert len(load(output)["ids"]) == COUNT


def test_a_file_that_is_there_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    output = tmp_path / "f.npy"
    extract_features(Endless(10), Fake(), output, CONFIG)
    with refused("output", str(output)):
        extract_features(Endless(20), Fake(), output, CONFIG)
    assert len(load(output)["mean"]) == 10
    extract_features(Endless(20), Fake(), output, CONFIG, fresh=True)
    assert len(load(output)["mean"]) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["f.npy"]


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    class Meanwhile(Fake):
        def encode(self, signature: str, images: Any) -> Features:
            with refused("output", str(tmp_path / "f.npz")):
                extract_features(Endless(10), Fake(), tmp_path / "f.npz", CONFIG)
            return super().encode(signature, images)

    extract_features(Endless(10), Meanwhile(), tmp_path / "f.npz", CONFIG)


class OfCounts(Fake):
    """An encoder of two counts, which takes no grey levels."""

    def __init__(self) -> None:
        super().__init__()
        self.signatures = {"serving_default": Signature("images", "float32", (2,), 2)}

    def encode(self, signature: str, images: Any) -> Features:
        assert (signature, images.dtype) == ("serving_default", np.float32)
        return Features(images, images)


@pytest.mark.parametrize("counts", [[[0, 1], [1, 0]], [[0, 300], [70_000, 2]]], ids=["bits", "big"])
def test_integers_are_values_for_a_model_that_takes_no_grey_levels(
    counts: Any, tmp_path: Path
) -> None:
    path = save(tmp_path / "x.npy", np.array(counts))
    extract_features(open_images(path), OfCounts(), tmp_path / "f.npz", CONFIG)
    np.testing.assert_array_equal(load(tmp_path / "f.npz")["mean"], counts)


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,type,label\n1,2,0,1\n")
    message = r"shape \[3\], and the model takes \[2\]; .*label_column"
    with pytest.raises(SMVIError, match=message) as error:
        extract_features(open_images(tmp_path / "x.csv"), OfCounts(), tmp_path / "f.npz", CONFIG)
    assert error.value.field == "images"
    source = open_images(tmp_path / "x.csv", label_column="type")
    assert source.image_shape == (3,)  # then "label" is a column like others


def test_the_columns_of_a_table_are_found_by_name(tmp_path: Path) -> None:
    """In any order; the features of two orders are the same, and are not mixed in one file."""
    encoder = OfCounts()
    encoder.names = ("a", "b")
    orders = {"same": "a,b,label\n1,20,x\n3,40,x\n", "other": "b,label,a\n20,x,1\n40,x,3\n"}
    for name, text in orders.items():
        (tmp_path / f"{name}.csv").write_text(text)
        source = open_images(tmp_path / f"{name}.csv")
        extract_features(source, encoder, tmp_path / f"{name}.npz", CONFIG)
        assert ("columns" in source.ordered(encoder.names).identity) == (name == "other")
        np.testing.assert_array_equal(load(tmp_path / f"{name}.npz")["mean"], [[1, 20], [3, 40]])
    # An encoder without names takes columns as they are.
    extract_features(
        open_images(tmp_path / "other.csv"), OfCounts(), tmp_path / "count.npz", CONFIG
    )
    np.testing.assert_array_equal(load(tmp_path / "count.npz")["mean"], [[20, 1], [40, 3]])


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("a,c", r"it lacks 'b' and has 'c' in addition; give the columns .* \{?label_column"),
        ("a,b,type", "it has 'type' in addition"),
        ("a", "it lacks 'b';"),
    ],
)
def test_missing_and_additional_columns_are_refused_by_name(
    header: str, problem: str, tmp_path: Path
) -> None:
    encoder = OfCounts()
    encoder.names = ("a", "b")
    (tmp_path / "x.csv").write_text(f"{header}\n{','.join('1' for _ in header.split(','))}\n")
    with pytest.raises(SMVIError, match=problem) as error:
        extract_features(open_images(tmp_path / "x.csv"), encoder, tmp_path / "f.npz", CONFIG)
    assert error.value.field == "images"
    assert not (tmp_path / "f.npz").exists()


def test_channels_first_are_refused_with_their_transpose(tmp_path: Path) -> None:
    encoder = Fake()
    encoder.signatures = {"uint8": Signature("images", "uint8", (5, 4, 3), 2)}
    for shape, remedy in (((3, 5, 4), "transpose them with"), ((6, 4, 3), "resize them")):
        path = save(tmp_path / "x.npy", np.ones((2, *shape), np.uint8))
        with pytest.raises(SMVIError, match=remedy):
            extract_features(open_images(path), encoder, tmp_path / "f.npz", CONFIG)


def test_a_full_disk_loses_nothing_that_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, savez = [], np.savez

    def full(file: Any, **arrays: Any) -> None:
        if len(saved) == 2:
            raise OSError(28, "No space left on device")
        saved.append(savez(file, **arrays))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(SMVIError, match=r"No space left on device.*what is done is kept"):
        extract_features(Endless(COUNT + PIECE), Fake(), tmp_path / "f.npz", CONFIG)
    monkeypatch.setattr(np, "savez", savez)
    encoder = Fake()
    extract_features(Endless(COUNT + PIECE), encoder, tmp_path / "f.npz", CONFIG)
    assert sum(encoder.sizes) == COUNT + PIECE - 2 * PIECE
    assert load(tmp_path / "f.npz")["ids"].tolist() == list(range(COUNT + PIECE))


def test_a_disk_that_is_full_at_the_end_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last piece is in memory until the file is written."""

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(feature_files, "write_table", full)
        with pytest.raises(SMVIError, match=r"No space left on device.*what is done is kept"):
            extract_features(Endless(COUNT), Fake(), tmp_path / "f.npz", CONFIG)
    encoder = Fake()
    extract_features(Endless(COUNT), encoder, tmp_path / "f.npz", CONFIG)
    assert encoder.sizes == []
    assert load(tmp_path / "f.npz")["ids"].tolist() == list(range(COUNT))


# A process that writes features to the file argv[1], and then to argv[2] in children. The n-th
# child kills itself at the n-th thing that it does to a file, until one ends by itself. The process
# has no threads and no TensorFlow when it forks, so a child takes a few milliseconds.
_WORKER = """
import os, signal, sys
from pathlib import Path
import numpy as np
import pyarrow.parquet
from tfp_smvi.features import files as feature_files
from tfp_smvi.config import FeaturesConfig
from tfp_smvi.serving.encoders import Features, Signature
from tfp_smvi.features.extraction import extract_features
from tfp_smvi.features.sources import ImagesRead
assert "tensorflow" not in sys.modules
feature_files.PIECE_SIZE = 64
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
count = 0

class Images:
    signature, image_shape, id_dtype = "uint8", (1, 1), np.dtype(np.int64)
    num_images, identity = 200, {}
    def read(self, start, stop):
        indices = np.arange(start, stop)
        errors = {int(i): "odd" for i in indices if i % 50 == 49}
        read = np.array([i for i in indices if i not in errors], np.int64)
        return ImagesRead(read, read.astype(np.uint8)[:, None, None], errors)
    def ids(self, indices):
        return indices

class Encoder:
    identity, signatures = {}, {"uint8": Signature("images", "uint8", (1, 1), 2)}
    def encode(self, signature, images):
        values = np.repeat(images.reshape(-1, 1).astype(np.float32), 2, axis=1)
        return Features(values, values / 3)

def hook(event, arguments):
    global count
    if event in EVENTS and "out." in str(arguments[0]):
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

def run(path, number):
    # Returns how a child ended that is killed at the number-th event, or never for 0.
    global count
    child = os.fork()
    if child == 0:
        count, config = number, FeaturesConfig(batch_size=20, in_flight=2, on_error="skip")
        extract_features(Images(), Encoder(), path, config)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

sys.addaudithook(hook)
whole, output = Path(sys.argv[1]), Path(sys.argv[2])
assert run(whole, 0) == 0
kills = 0
while code := run(output, kills + 1):
    assert code == -signal.SIGKILL, code
    kills += 1
    assert not output.exists() or output.read_bytes() == whole.read_bytes()
    if output.exists() and not output.with_name(output.name + ".partial").exists():
        break  # killed when all was done
print(kills)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_kill_at_any_moment_costs_nothing(suffix: str, tmp_path: Path) -> None:
    """Killed at the first thing it does to a file, at the second after going on, and so forth."""
    whole, output = tmp_path / "whole" / f"out{suffix}", tmp_path / "killed" / f"out{suffix}"
    line = [sys.executable, "-c", _WORKER, str(whole), str(output)]
    process = subprocess.run(line, capture_output=True, text=True, check=False, timeout=240)
    assert process.returncode == 0, process.stderr
    # A folder, a lock, settings, 4 pieces, errors, the report and the file, each made and most of
    # them deleted.
    assert int(process.stdout) > 20
    for name in (output.name, output.name + ".errors.jsonl"):
        assert (output.parent / name).read_bytes() == (whole.parent / name).read_bytes()
    assert sorted(p.name for p in output.parent.iterdir()) == sorted(
        p.name for p in whole.parent.iterdir()
    )


def test_images_of_another_size_are_refused_at_once(tmp_path: Path, encoder: LocalEncoder) -> None:
    source = open_images(save(tmp_path / "x.npy", np.zeros((5, 9, 9))))
    with refused("images"):
        extract_features(source, encoder, tmp_path / "f.npz", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_grey_images_need_no_axis_for_their_channel(tmp_path: Path, encoder: LocalEncoder) -> None:
    images = make_images(5)
    source = open_images(save(tmp_path / "x.npy", images[..., 0]))
    extract_features(source, encoder, tmp_path / "f.npz", CONFIG)
    np.testing.assert_array_equal(
        load(tmp_path / "f.npz")["mean"], encoder.encode("uint8", images).mean
    )


def test_a_file_of_another_kind_is_refused_at_once(tmp_path: Path) -> None:
    with refused("output", str(tmp_path / "f.csv")):
        extract_features(Endless(5), Fake(), tmp_path / "f.csv", CONFIG)


@pytest.mark.parametrize(
    ("path", "version", "field"),
    [("nowhere", None, "model"), ("digits", 3, "version"), ("digits/1", 1, "version")],
)
def test_an_export_that_is_not_there_is_one_line(
    export: Path, path: str, version: int | None, field: str
) -> None:
    with refused(field, version or str(export.parent / path)):
        LocalEncoder(export.parent / path, version)


def test_a_damaged_export_is_one_line(tmp_path: Path, export: Path) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"garbage")
    with pytest.raises(SMVIError, match="cannot load the export"):
        LocalEncoder(tmp_path)
