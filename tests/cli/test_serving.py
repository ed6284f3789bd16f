"""`tfp-smvi serve` and `tfp-smvi features` as their users meet them."""

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support import golden, runs
from tests.support.fake_servers import install_server
from tests.support.forked import run_forked
from tests.support.golden import GoldenCase
from tests.support.ports import free_port
from tests.support.servers import (
    NAME,
    Models,
    encode_png,
    grpc_server,
    make_export,
    make_images,
)
from tests.support.signals import RunSignalled
from tfp_smvi.serving.encoders import LocalEncoder

# More than two pieces of a file of features.
COUNT = 20_000


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_export(tmp_path_factory.mktemp("saved_models") / NAME / "1").parent


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input") / "x.npy"
    np.save(path, make_images(COUNT))
    return path


def test_features_of_a_folder_with_a_bad_file(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "images", tmp_path / "out" / "features.npz"
    folder.mkdir()
    for number, image in enumerate(make_images(12)):
        (folder / f"{number:02d}.png").write_bytes(encode_png(image) if number != 7 else b"GIF89a")
    arguments = ("features", str(folder), "--model", str(export), "--output", str(output))
    assert runs.call(*arguments) == 1
    refused = capsys.readouterr()
    assert refused.out == ""
    assert refused.err.startswith(
        "Error: example 07.png cannot be read: image_bytes must hold a PNG or a JPEG"
    )
    assert refused.err.count("\n") == 1
    process = run_forked(*arguments, "--on-error", "skip")
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(f"The features of 11 examples are in {output}, ")
    first, second, third = process.stderr.splitlines()
    assert first == "Warning: 1 of 12 examples have no features, such as:"
    assert second.startswith("  07.png: image_bytes must hold")
    assert third == f"All of them are in {output}.errors.jsonl."
    with np.load(output) as found:
        assert found["ids"].tolist() == [f"{n:02d}.png" for n in range(12) if n != 7]


def test_features_from_a_server(export: Path, array: Path, tmp_path: Path) -> None:
    output = tmp_path / "features.npz"
    models = Models({1: export / "1"}, {"stable": 1})
    with grpc_server(models) as endpoint:
        process = run_forked(
            *(
                "features",
                str(array),
                "--endpoint",
                endpoint,
                "--label",
                "stable",
                "--output",
                str(output),
            ),
            *("--batch-size", "4096", "--json"),
        )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    report = json.loads(process.stdout)
    assert (report["num_images"], report["num_features"], report["num_skipped"]) == (
        COUNT,
        COUNT,
        0,
    )
    expected = LocalEncoder(export).encode("uint8", make_images(COUNT))
    with np.load(output) as found:
        np.testing.assert_allclose(found["mean"], expected.mean, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_stopped_features_go_on_and_end_with_the_same_bits(
    number: signal.Signals,
    code: int,
    export: Path,
    array: Path,
    tmp_path: Path,
    run_signalled: RunSignalled,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped where the second piece is about to get its name: one is kept, and not made again."""
    whole, output = tmp_path / "whole.npz", tmp_path / "features.npz"
    options = ("features", str(array), "--model", str(export), "--output")
    assert runs.call(*options, str(whole)) == 0
    stopped = run_signalled("os.rename", ".piece-", 2, number, *options, str(output))
    assert stopped.code == code
    assert "Traceback" not in stopped.err
    assert (code < 0) or "what is done is kept" in stopped.err
    folder = tmp_path / "features.npz.partial"
    assert [piece.name for piece in folder.glob("piece-*")] == ["piece-0000000.npz"]
    assert not output.exists()
    capsys.readouterr()
    assert runs.call(*options, str(output)) == 0
    assert capsys.readouterr().err.startswith(f"Going on after 8192 of {COUNT} examples.")
    assert output.read_bytes() == whole.read_bytes()
    assert not folder.exists()


@pytest.mark.parametrize("case", golden.cases("features"))
def test_an_error_of_features_is_worded_as_in_the_golden_file(
    case: GoldenCase, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    golden.check(case, request, capsys)


def test_a_model_that_cannot_be_loaded_leaves_no_file(array: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "f.npz")
    missing, dead = ("--model", "nowhere"), ("--endpoint", "grpc://127.0.0.1:1/m", "--retries", "0")
    for model, code in ((missing, 2), (dead, 1)):
        assert runs.call("features", str(array), "--output", output, *model) == code
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def fake_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that stands in for the server is found first."""
    (tmp_path / "bin").mkdir()
    install_server(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("fake_path")
def test_a_dry_run_prints_the_command_and_starts_nothing(
    export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("serve", "--models", str(export.parent), "--host", "0.0.0.0")
    assert runs.call(*arguments, "--dry-run") == 0
    captured = capsys.readouterr()
    command = shlex.split(captured.out)
    assert command[0] == "tensorflow_model_server"
    files = [argument.split("=")[1] for argument in command if "_file=" in argument]
    assert len(files) == 3
    assert all(Path(file).exists() for file in files)


@pytest.mark.usefixtures("fake_path")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_the_server(number: signal.Signals, code: int, export: Path) -> None:
    port = free_port()
    line = [
        runs.script(),
        "serve",
        "--models",
        str(export.parent),
        "--host",
        "0.0.0.0",
        "--rest-port",
        str(port),
        "--grpc-port",
    ]
    process = subprocess.Popen(
        [*line, str(free_port())], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(7)]
    assert lines[-1] == "Stop it with Ctrl-C.\n"
    process.send_signal(number)
    rest, error = process.communicate()
    assert process.returncode == code
    assert rest == ""
    assert "Warning: the server listens on all interfaces" in error
    assert error.endswith("Stopped.\n")
    # The port is free again: the server is gone.
    assert (
        runs.command(
            *line[1:], str(free_port()), env={**os.environ, "FAKE_MODE": "dies"}
        ).returncode
        == 1
    )


@pytest.mark.usefixtures("fake_path")
def test_a_server_that_dies_is_a_failure_that_shows_its_log(
    export: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_MODE", "dies")
    ports = ("--grpc-port", str(free_port()), "--rest-port", str(free_port()))
    models = ("--models", str(export.parent), "--host", "0.0.0.0")
    assert runs.call("serve", *models, *ports) == 1
    error = capsys.readouterr().err
    assert "Error: the server ended with exit code 3" in error
    assert error.endswith("  a reason to die\n")


@pytest.mark.parametrize("case", golden.cases("serve"))
def test_an_error_of_serve_is_worded_as_in_the_golden_file(
    case: GoldenCase, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    golden.check(case, request, capsys)
