"""`tfp-smvi export` as its users meet it, and what a process and a machine can do to it."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support import golden, runs
from tests.support.forked import ForkedProcess, run_forked, run_program
from tests.support.golden import GoldenCase
from tests.support.kills import RandomKills
from tests.support.limits import file_size_limit
from tests.support.runs import ReferenceRun
from tests.support.signals import RunSignalled
from tfp_smvi.export import standalone
from tfp_smvi.export.check import find_damage
from tfp_smvi.export.exporter import export_run
from tfp_smvi.runs import loading

NAME = "digits-lam0.5-seed0"


def export_for_ever(run_dir: Path, output: Path) -> None:
    while True:
        export_run(run_dir, output=output, part="both", verify=False)


def assert_only_whole_versions(output: Path) -> None:
    for folder in output.glob("*/*"):
        if folder.name.isdecimal():
            assert find_damage(folder) == []
        else:
            assert folder.name.endswith(".partial")


@pytest.mark.slow
def test_export_prints_where_it_is_and_the_next_one_is_version_2(
    reference: ReferenceRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "models"
    process = run_forked("export", str(reference.run_dir), "--output", str(output))
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.splitlines() == [
        f"Exported the encoder to {output / NAME / '1'}, with the signatures serving_default, "
        "uint8, encoded_image.",
        "Loaded in a fresh process, every signature answers like the model.",
    ]
    again = ("export", str(reference.run_dir), "--output", str(output), "--no-verify", "--json")
    monkeypatch.setattr(loading, "final_warnings", lambda *_: ["give fewer {lam_warmup_steps}"])
    assert runs.call(*again) == 0
    out, err = capsys.readouterr()
    assert err == "Warning: give fewer --lam-warmup-steps\n"
    (result,) = json.loads(out)
    assert (result["path"], result["part"]) == (str(output / NAME / "2"), "encoder")
    monkeypatch.setattr(standalone, "subprocess", SimpleNamespace(run=run_program))
    assert runs.call("export", "--check", str(output / NAME / "2")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == f"{output / NAME / '2'} is whole, and every signature answers as recorded.\n"


def test_both_parts_go_to_saved_models_unless_told_otherwise(
    reference: ReferenceRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--part", "both", "--model-name", "mine", "--version", "20261122", "--no-verify")
    assert runs.call("export", str(reference.run_dir), *options) == 0
    assert (
        "Exported the decoder to saved_models/mine-decoder/20261122, with"
        in capsys.readouterr().out
    )
    assert_only_whole_versions(tmp_path / "saved_models")
    assert runs.call("export", str(reference.run_dir), *options) == 2
    error = capsys.readouterr().err
    assert error == (
        "Error: --version = 20261122 exists already in saved_models/mine, and a published version "
        "is never changed; leave --version out for the next free one.\n"
    )


@pytest.mark.parametrize("case", golden.cases("export"))
def test_an_error_is_worded_as_in_the_golden_file(
    case: GoldenCase, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    golden.check(case, request, capsys)


def test_a_model_that_is_a_link_to_elsewhere_is_one_line(
    reference: ReferenceRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / NAME).symlink_to(tmp_path / "elsewhere")
    assert runs.call("export", str(reference.run_dir), "--output", str(tmp_path / "models")) == 1
    assert capsys.readouterr().err.startswith(f"Error: {tmp_path / 'models' / NAME} is a link")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_directory_without_a_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = runs.usage_error(capsys, "export", str(tmp_path), "--output", str(tmp_path / "models"))
    assert error.startswith(f"Error: {tmp_path} is not a run directory")
    assert not (tmp_path / "models").exists()


def test_a_damaged_version_is_one_line_that_names_the_file(
    reference: ReferenceRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        runs.call("export", str(reference.run_dir), "--output", str(tmp_path), "--no-verify") == 0
    )
    capsys.readouterr()
    folder = tmp_path / NAME / "1"
    (folder / "variables").rename(tmp_path / "variables")
    line = runs.failure(capsys, "export", "--check", str(folder))
    assert line.startswith(f"Error: {folder} is damaged: variables/variables.")


# The events: the folder is made, its first file of ours is opened, the fresh process starts, it
# gets its name.
@pytest.mark.parametrize(
    ("number", "event", "part"),
    [
        (signal.SIGKILL, "os.mkdir", ".partial"),
        (signal.SIGKILL, "subprocess.Popen", "python"),
        (signal.SIGKILL, "os.rename", f"{NAME}/.1."),
        (signal.SIGTERM, "subprocess.Popen", "python"),
        (signal.SIGINT, "os.rename", f"{NAME}/.1."),
    ],
)
@pytest.mark.slow
def test_a_signal_leaves_no_version_and_no_litter_that_stays(
    number: signal.Signals,
    event: str,
    part: str,
    reference: ReferenceRun,
    tmp_path: Path,
    run_signalled: RunSignalled,
) -> None:
    arguments = ("export", str(reference.run_dir), "--output", str(tmp_path))
    killed = number == signal.SIGKILL
    ended = run_signalled(event, part, 1, number, *arguments)
    assert ended.code == (-number if killed else 128 + number), ended.err
    assert ended.out == ""
    assert ended.err == ("" if killed else "Stopped.\n")
    if number != signal.SIGINT:  # which comes as the name is given: before or after
        assert [path for path in tmp_path.glob("*/*") if path.name.isdecimal()] == []
    assert_only_whole_versions(tmp_path)
    if not killed:
        assert list(tmp_path.glob("*/.*.partial")) == []
    assert runs.call(*arguments, "--no-verify") == 0
    assert list(tmp_path.glob("*/.*.partial")) == []
    assert_only_whole_versions(tmp_path)


@pytest.mark.kills
def test_kills_at_random_moments_leave_only_whole_versions(
    reference: ReferenceRun, tmp_path: Path, random_kills: RandomKills
) -> None:
    """The moments are random; tests/export/test_versions.py has many more."""
    while not random_kills.done:
        published = sorted(tmp_path.glob("*/[0-9]*"))
        process = ForkedProcess(export_for_ever, reference.run_dir, tmp_path)
        random_kills.kill(process, 5.0)
        assert process.returncode == -signal.SIGKILL
        random_kills.losses += not all(path.exists() for path in published)
        assert_only_whole_versions(tmp_path)
    assert (
        runs.call("export", str(reference.run_dir), "--output", str(tmp_path), "--no-verify") == 0
    )
    assert list(tmp_path.glob("*/.*.partial")) == []
    random_kills.check()


@pytest.mark.slow
def test_two_exports_at_once_get_two_versions(reference: ReferenceRun, tmp_path: Path) -> None:
    arguments = ("export", str(reference.run_dir), "--output", str(tmp_path), "--no-verify")
    with ThreadPoolExecutor() as pool:
        one, two = pool.map(lambda _: run_forked(*arguments), range(2))
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert {path.name for path in (tmp_path / NAME).iterdir()} == {"1", "2"}
    assert_only_whole_versions(tmp_path)


@pytest.mark.parametrize("limit", [10_000, 60_000])
def test_full_disk_is_one_clear_line_and_publishes_nothing(
    limit: int, reference: ReferenceRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the file size stands for the full disk: weights have 15 kB, the graph 100."""
    with file_size_limit(limit):
        line = runs.failure(
            capsys, "export", str(reference.run_dir), "--output", str(tmp_path), "--no-verify"
        )
    assert line.startswith(
        f"Error: cannot write to {tmp_path} (File too large); nothing was published"
    )
    assert list(tmp_path.glob("*/*")) == []


def test_full_file_system_is_one_clear_line_and_leaves_what_was_published(
    reference: ReferenceRun, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ("export", str(reference.run_dir), "--output", str(small_disk), "--no-verify")
    assert runs.call(*arguments) == 0
    capfd.readouterr()
    assert runs.call(*arguments) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    lines = [
        line
        for line in captured.err.splitlines()
        if not line.startswith(("I0000", "W0000", "E0000"))
    ]
    (line,) = lines
    assert line.startswith(
        f"Error: cannot write to {small_disk} (No space left on device); nothing was published"
    )
    assert {path.name for path in (small_disk / NAME).iterdir()} == {"1"}
    assert_only_whole_versions(small_disk)


def test_a_folder_that_cannot_be_written_is_one_clear_line(
    reference: ReferenceRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody can make files in /proc, root included."""
    line = runs.failure(capsys, "export", str(reference.run_dir), "--output", "/proc/models")
    assert line.startswith(
        f"Error: cannot write to /proc/models ({os.strerror(2)}); nothing was published"
    )
