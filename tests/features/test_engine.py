"""Features by an engine: the same file to the byte, whoever encodes the examples."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.engines import OtherEngine
from tests.support.errors import refused
from tests.support.servers import SERVERS, SHAPE, Models, encode_png, make_export, make_images
from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.engines.processes import Processes
from tfp_smvi.features import files as feature_files
from tfp_smvi.features import tasks
from tfp_smvi.features.extraction import extract_features
from tfp_smvi.features.files import FeatureFile
from tfp_smvi.features.images import open_images
from tfp_smvi.features.pieces import Piece
from tfp_smvi.features.sources import ArrayImages, ImageSource
from tfp_smvi.serving.client import connect
from tfp_smvi.serving.encoders import Encoder, Features, LocalEncoder

COUNT, PIECE = 250, 64
NUM_PIECES = 4
CONFIG = FeaturesConfig(batch_size=20, in_flight=3, on_error="skip")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_files, "PIECE_SIZE", PIECE)


@pytest.fixture
def images(tmp_path: Path) -> str:
    np.save(tmp_path / "x.npy", make_images(COUNT))
    return str(tmp_path / "x.npy")


def of_a_key(folder: Path) -> ImageSource:
    np.savez(folder / "x.npz", x=make_images(COUNT) / np.float32(255.0), y=np.ones(3))
    return open_images(folder / "x.npz", "x")


def of_a_table(folder: Path) -> ImageSource:
    """Rows whose columns have another order than an array."""
    rows = make_images(COUNT).reshape(COUNT, -1) / 255.0
    header = ",".join([*(f"c{i}" for i in range(rows.shape[1])), "class"])
    table = np.column_stack([rows, np.arange(COUNT)])
    np.savetxt(folder / "x.csv", table, delimiter=",", header=header, comments="")
    return open_images(folder / "x.csv", label_column="class")


def of_a_folder(folder: Path) -> ImageSource:
    """Files, of which one cannot be read and another is of another size."""
    (folder / "images").mkdir()
    for number, image in enumerate(make_images(COUNT)):
        (folder / "images" / f"{number}.png").write_bytes(encode_png(image))
    (folder / "images" / "7.png").write_bytes(b"")
    (folder / "images" / "200.png").write_bytes(encode_png(np.zeros((9, 8, 1), np.uint8)))
    return open_images(folder / "images")


def of_a_data_set(folder: Path) -> ImageSource:
    return open_images("tfds:digits/test", data_dir=folder)


def files_of(source: ImageSource, encoder: Encoder, output: Path, engine: OtherEngine | None):
    """The bytes of the features and of the list of errors, if there is one."""
    report = extract_features(source, encoder, output, CONFIG, engine=engine)
    assert not output.with_name(f"{output.name}.partial").exists()
    errors = report.errors_file and Path(report.errors_file).read_bytes()
    return report.num_features, report.first_errors, errors, output.read_bytes()


def test_other_processes_give_the_same_file(
    encoder: LocalEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pieces, as other processes do not know of smaller ones; relative paths."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", make_images(2 * feature_files.PIECE_SIZE + 100))
    source, config = open_images("x.npy"), FeaturesConfig()
    extract_features(source, encoder, "here.npz", config)
    monkeypatch.setattr(encoder, "encode", None)  # not in this process
    monkeypatch.setattr(tasks, "NUM_TASKS", 2)
    with Processes(2) as engine:
        report = extract_features(source, encoder, "there.npz", config, engine=engine)
    assert report.num_features == source.num_images
    assert Path("there.npz").read_bytes() == Path("here.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.npz", "there.npz", "x.npy"]


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("make", [of_a_key, of_a_table, of_a_folder, of_a_data_set])
def test_all_sources_can_be_opened_by_tasks(
    make: Callable[[Path], ImageSource], encoder: LocalEncoder, tmp_path: Path
) -> None:
    source, engine = make(tmp_path), OtherEngine()
    if make is of_a_table:
        encoder = LocalEncoder(make_export(tmp_path / "export" / "1", shape=(64,)).parent)
    expected = files_of(source, encoder, tmp_path / "here.npz", None)
    assert files_of(source, encoder, tmp_path / "there.npz", engine) == expected
    assert len(engine.tasks) == -(-source.num_images // PIECE)
    assert (expected[2] is not None) == (make is of_a_folder)


@pytest.mark.usefixtures("small_pieces")
def test_images_that_a_server_refuses_are_sent_by_this_process_alone(
    export: Path, encoder: LocalEncoder, tmp_path: Path
) -> None:
    """The server of several tasks may merge their requests and refuse good images."""
    values = make_images(COUNT) / np.float32(255.0)
    values[100, 3, 3] = np.nan
    np.save(tmp_path / "x.npy", values)
    source = open_images(tmp_path / "x.npy")
    with SERVERS["grpc"](Models({1: export / "1"})) as endpoint:
        served = connect(endpoint, CONFIG)
        expected = files_of(source, served, tmp_path / "here.npz", None)
        engine, progress = OtherEngine(), Progress()
        report = extract_features(
            source, served, tmp_path / "there.npz", CONFIG, engine=engine, reporter=progress
        )
        served.close()
    assert (report.num_skipped, len(engine.tasks)) == (1, NUM_PIECES)
    assert (tmp_path / "there.npz").read_bytes() == expected[-1]
    assert progress.done == COUNT
    assert max(progress.parts[:3]) == PIECE  # tasks
    assert max(progress.parts[3:]) == CONFIG.batch_size  # this process


class Progress:
    """A reporter that adds up."""

    def __init__(self) -> None:
        self.parts: list[int] = []

    def begin(self, num_images: int, num_done: int) -> None:
        self.done = num_done

    def advance(self, num_images: int) -> None:
        self.parts.append(num_images)
        self.done += num_images


@pytest.mark.usefixtures("small_pieces")
def test_killed_work_goes_on_with_either_engine(
    images: str, encoder: LocalEncoder, tmp_path: Path
) -> None:
    source, output = open_images(images), tmp_path / "f.npz"
    expected = files_of(source, encoder, tmp_path / "here.npz", None)
    with pytest.raises(KeyboardInterrupt):
        files_of(source, encoder, output, OtherEngine(killed_after=1))
    engine = OtherEngine(killed_after=2)
    with pytest.raises(KeyboardInterrupt):
        files_of(source, encoder, output, engine)
    assert [task.name for task in engine.tasks] == ["pieces 1 to 1", "pieces 2 to 2"]
    assert len(list(tmp_path.glob("f.npz.partial/piece-*"))) == NUM_PIECES - 1
    assert files_of(source, encoder, output, None) == expected


@pytest.mark.usefixtures("small_pieces")
def test_a_task_that_finds_other_examples_fails_in_one_line(
    images: str, encoder: LocalEncoder, tmp_path: Path
) -> None:
    source = open_images(images)
    os.utime(images, (1, 1))
    with pytest.raises(SMVIError, match=r"begun with other examples .*images.modified_ns") as error:
        files_of(source, encoder, tmp_path / "f.npz", OtherEngine())
    assert "\n" not in str(error.value)
    # This process goes on alone, with what it has opened.
    assert files_of(source, encoder, tmp_path / "f.npz", None)[0] == COUNT


@pytest.mark.usefixtures("small_pieces")
def test_a_task_of_work_that_was_begun_anew_saves_nothing(tmp_path: Path) -> None:
    """A process on another machine may outlive the one that started it."""
    mine, others = {"images": {"number": 9}}, {"images": {"number": 8}}
    old, new = FeatureFile(tmp_path / "f.npz", 9), FeatureFile(tmp_path / "f.npz", 8)
    with pytest.raises(SMVIError, match="holds no work"):
        old.join(mine)
    with old.open(mine, fresh=False):
        old.join(mine)
    with new.open(others, fresh=True):
        new.begun()  # its settings are written
        with pytest.raises(SMVIError, match=r"number: 8 before, 9 now"):
            old.save(0, Piece(np.arange(9), no_features(9), {}))
    assert new.missing() == [0]


def no_features(count: int) -> Features:
    return Features(*np.zeros((2, count, 1), np.float32))


@pytest.mark.usefixtures("small_pieces")
def test_a_task_that_leaves_no_piece_is_an_error(
    images: str, encoder: LocalEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "compute", lambda *arguments: None)
    with pytest.raises(SMVIError, match=r"left no piece 0 in .*f\.npz\.partial; give a folder"):
        files_of(open_images(images), encoder, tmp_path / "f.npz", OtherEngine())


def test_what_only_this_process_can_make_is_refused(encoder: LocalEncoder, tmp_path: Path) -> None:
    source = ArrayImages(np.zeros((5, *SHAPE), np.uint8), {}, "x")
    with refused("engine"):
        extract_features(source, encoder, tmp_path / "f.npz", engine=OtherEngine())
    assert not list(tmp_path.iterdir())
