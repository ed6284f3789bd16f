"""The command line as its users meet it: the console script, its output and its exit codes."""

import dataclasses
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import runs
from tests.support.forked import run_forked
from tests.support.runs import EPOCHS, OPTIONS, STEPS_PER_EPOCH, ReferenceRun, assert_same_run
from tests.support.signals import SignalAt
from tfp_smvi.config import RunConfig
from tfp_smvi.runs.directory import RunDirectory, read_run
from tfp_smvi.version import __version__

Capture = pytest.CaptureFixture[str]
HEAVY = {
    "tensorflow",
    "tensorflow_probability",
    "tensorflow_datasets",
    "keras",
    "tf_keras",
    "sklearn",
    "scipy",
}


def copied(reference: ReferenceRun, place: Path) -> Path:
    """A copy of the reference run that may be changed."""
    return Path(shutil.copytree(reference.run_dir, place / "run"))


# Help and version.


def help_text(capsys: Capture, *arguments: str) -> str:
    assert runs.call(*arguments) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.startswith("Usage: tfp-smvi")
    return output.out


def test_every_command_has_help_with_exit_code_0(capsys: Capture) -> None:
    text = help_text(capsys, "--help")
    assert text == help_text(capsys, "-h")
    commands = re.findall(r"^  ([a-z-]+)  ", text.partition("Commands:\n")[2], re.MULTILINE)
    assert {"train", "datasets"} <= set(commands)
    for command in commands:
        assert help_text(capsys, command, "--help").startswith(f"Usage: tfp-smvi {command} ")


def test_help_of_train_has_an_option_for_every_setting(capsys: Capture) -> None:
    options = help_text(capsys, "train", "--help")
    for section in dataclasses.fields(RunConfig):
        for field in dataclasses.fields(section.type):
            assert f"--{field.name.replace('_', '-')} " in options


def test_long_lists_of_options_are_in_groups_that_fit_80_columns(capsys: Capture) -> None:
    """Each option is listed once, under the title of what it is a setting of."""
    text = help_text(capsys, "sweep", "--help")
    assert re.findall(r"^([A-Z][a-z ]+):$", text, re.MULTILINE) == [
        *("Sweep", "Data", "Model", "Training", "Run", "Evaluation"),
        *("Annealed importance sampling", "Local optimization", "Classification", "General"),
    ]
    groups = dict(re.findall(r"^([A-Z][a-z ]+):\n((?:  .*\n|\n(?=  ))+)", text, re.MULTILINE))
    for option, group in (
        ("--lams", "Sweep"),
        ("--epochs", "Training"),
        ("--checkpoint-minutes", "Run"),
        ("--num-chains", "Annealed importance sampling"),
        ("--no-classify", "Classification"),
        ("--help", "General"),
    ):
        assert [title for title, body in groups.items() if f"{option} " in body] == [group]
    assert max(map(len, text.splitlines())) <= 80


def test_version_is_printed(capsys: Capture) -> None:
    assert runs.call("--version") == 0
    assert capsys.readouterr().out == f"tfp-smvi, version {__version__}\n"


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "tfp_smvi_cli", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith(
        "tfp-smvi, version"
    )


@pytest.mark.parametrize(
    ("arguments", "not_loaded"),
    [
        (("--help",), HEAVY | {"numpy", "rich"}),
        (("--version",), HEAVY | {"numpy", "rich"}),
        (("train", "--help"), HEAVY | {"numpy", "rich"}),
        (("sweep", "--help"), HEAVY | {"numpy", "rich"}),
        (("datasets", "--help"), HEAVY),
        (("datasets",), HEAVY),
        (("train", "--epochs", "0"), HEAVY | {"numpy", "rich"}),
    ],
)
def test_quick_answers_load_nothing_slow(arguments: tuple[str, ...], not_loaded: set[str]) -> None:
    process = subprocess.run(
        [sys.executable, "-X", "importtime", runs.script(), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = {
        line.rpartition("|")[2].strip()
        for line in process.stderr.splitlines()
        if line.startswith("import")
    }
    assert "click" in loaded
    assert loaded & not_loaded == set()


# Usage errors and failures.


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("trian",), "'trian'; did you mean train?"),
        (("draw",), "give one of train, evaluate, "),
        (("train", "--epoch", "1"), "--epochs"),
        (("train", "--lamda", "1"), "--lamda"),
        (("train", "--lam", "much"), "--lam"),
        (("train", "--lam", "nan"), "--lam"),
        (("train", "--lam", "-inf"), "--lam"),
        (("train", "--epochs", "1.5"), "--epochs"),
        (("train", "--epochs", "0"), "--epochs"),
        (("train", "--epochs", str(10**30)), "--epochs"),
        (("train", "--batch-size", "-3"), "--batch-size"),
        (("train", "--hidden-sizes", "32,"), "--hidden-sizes"),
        (("train", "--hidden-sizes", "0"), "--hidden-sizes"),
        (("train", "--clip-norm", "0"), "--clip-norm"),
        (("train", "--likelihood", "beta"), "--likelihood"),
        (("train", "--xla", "maybe"), "--xla"),
        (("train", "--precision", "float16"), "--precision"),
        (("train", "--threads", "0"), "--threads"),
        (("train", "--checkpoint-minutes", "0"), "--checkpoint-minutes"),
        (("train", "--run-dir", __file__), "--run-dir"),
        (("train", "--config", "/nowhere.json"), "--config"),
        (("train", "--lam"), "--lam"),
        (("train", "--flow-layers", "3"), "--flow-layers is for --posterior flow"),
        (("sweep", "--flow-transform", "affine"), "--flow-transform is for --posterior flow"),
        (("train", "extra"), "extra"),
    ],
)
def test_usage_error_names_the_option_with_exit_code_2(
    capsys: Capture, arguments: tuple[str, ...], named: str
) -> None:
    assert named in runs.usage_error(capsys, *arguments)


@pytest.mark.parametrize(
    "contents",
    [
        "",
        "{",
        "[1]",
        '"train"',
        '{"config": []}',
        '{"train": {"lamda": 1}}',
        '{"train": {"lam": "x"}}',
    ],
)
def test_damaged_settings_file_is_a_usage_error_that_names_it(
    capsys: Capture, tmp_path: Path, contents: str
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(contents)
    line = runs.usage_error(capsys, "train", "--config", str(path))
    assert str(path) in line
    assert "attribute" not in line  # words of Python say nothing to a user


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--dataset", "digit"), "did you mean digits"),
        (("train", "--dataset", "nowhere.npz"), "nowhere.npz: no such file"),
        (("train", "--dataset", "digits", "--init-from", "nowhere"), "holds no run"),
        (("sweep", "--dataset", "nowhere.npz"), "nowhere.npz: no such file"),
        (("sweep", "--config", "nowhere.json"), "does not exist"),
        (("evaluate", "nowhere"), "nowhere is not a run directory"),
        (("classify", "nowhere"), "nowhere is not a run directory"),
        (
            ("classify", "--features", "nowhere.npz", "--test-features", "nowhere.npz"),
            "no such file",
        ),
        (("plot", "nowhere"), "nowhere is not a sweep directory"),
        (("report", "nowhere"), "nowhere is not a sweep directory"),
        (("export", "nowhere"), "nowhere is not a run directory"),
        (("export", "--check", "nowhere"), "is not an export"),
        (("serve", "--models", "nowhere"), "holds no models"),
        (("features", "nowhere", "--model", "pretrained:mnist"), "does not exist"),
        (("features", "tfds:digits/test", "--model", "nowhere"), "holds no export"),
        (("features", "tfds:digits/test", "--model", "pretrained:no"), "is not installed"),
    ],
)
def test_what_does_not_exist_is_a_usage_error(
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in runs.usage_error(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_failure_is_one_line_with_exit_code_1(capsys: Capture) -> None:
    arguments = ("--dataset", "digits", "--run-dir", "/proc/self/run")
    assert "cannot write to /proc/self/run" in runs.failure(capsys, "train", *arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--batch-size", "2000"),
            "--batch-size = 2000 is more than the 1437 training examples of digits",
        ),
        (("--checkpoint-minutes", "nan"), "--checkpoint-minutes = nan is not allowed"),
    ],
)
def test_option_that_does_not_fit_is_a_usage_error_that_names_it(
    capsys: Capture, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    run_dir = tmp_path / "run"
    assert runs.call("train", "--dataset", "digits", *options, "--run-dir", str(run_dir)) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not run_dir.exists()


def test_non_finite_objective_is_one_line_with_exit_code_1(capsys: Capture, tmp_path: Path) -> None:
    options = ("--learning-rate", "1e30", "--run-dir", str(tmp_path / "run"))
    line = runs.failure(capsys, "train", *OPTIONS, *options)
    assert "not finite at step 2 (no checkpoint was written yet)" in line
    assert "--learning-rate" in line


def test_reader_that_goes_away_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [runs.script(), "datasets"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert process.returncode == 1
    assert process.stderr == ""


# A run and its output.


def test_json_is_the_only_thing_on_stdout(reference: ReferenceRun) -> None:
    (line,) = reference.process.stdout.splitlines()
    result = json.loads(line)
    assert result["run_dir"] == str(reference.run_dir)
    assert (result["epoch"], result["step"]) == (EPOCHS, EPOCHS * STEPS_PER_EPOCH)
    last = json.loads((reference.run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert result == {**last, "run_dir": str(reference.run_dir), "warnings": []}


def test_stderr_has_a_plain_line_per_epoch_and_no_chatter(reference: ReferenceRun) -> None:
    values = r"ELBO -\d+\.\d\d, D_SM \d+\.\d\d, objective -\d+\.\d\d"
    data, *lines = reference.process.stderr.splitlines()
    assert data.startswith("Data: 1437 to train and 360 to test")
    assert len(lines) == EPOCHS
    # The warm-up has 100 steps, and an epoch 44.
    for epoch, (line, lam) in enumerate(
        zip(lines, ("0.0968", "0.387", "0.5", "0.5"), strict=True), 1
    ):
        assert re.fullmatch(
            rf"epoch {epoch}/{EPOCHS}  lam {lam}  train: {values}  test: {values}  \d+\.\d s", line
        ), line


def test_run_directory_holds_all_that_repeats_the_run(reference: ReferenceRun) -> None:
    record = read_run(reference.run_dir)
    assert record.config == dataclasses.replace(
        runs.CONFIG, model=dataclasses.replace(runs.CONFIG.model, likelihood="bernoulli")
    )
    packages = {"python", "tensorflow", "tensorflow-probability", "tfp-smvi"}
    assert packages <= record.versions.keys()
    assert record.machine is not None
    assert record.machine.threads >= 1


def test_finished_run_says_so_and_gives_its_result_again(
    reference: ReferenceRun, capsys: Capture
) -> None:
    train = ("train", *OPTIONS, "--run-dir", str(reference.run_dir))
    done = f"This run already has its {EPOCHS} epochs; to train it further, raise --epochs.\n"
    assert runs.call(*train, "--json") == 0
    output = capsys.readouterr()
    assert output.out == reference.process.stdout
    assert output.err.endswith(done)
    assert runs.call(*train) == 0
    output = capsys.readouterr()
    assert output.err.endswith(done)
    result = json.loads(reference.process.stdout)
    assert f"Trained {EPOCHS} epochs, {EPOCHS * STEPS_PER_EPOCH} steps. lam is 0.5." in output.out
    assert re.search(rf"ELBO +{result['test']['elbo']:.2f}\n", output.out)
    assert str(reference.run_dir) in output.out
    assert "lam grows" not in output.out  # all of it is in force


@pytest.mark.slow
def test_terminal_shows_a_bar_and_a_config_file_repeats_the_run(
    reference: ReferenceRun, tmp_path: Path
) -> None:
    """A pseudo-terminal gets the bar, which is removed at the end and not on stdout."""
    run_dir, (parent, child) = tmp_path / "run", pty.openpty()
    command = [
        runs.script(),
        "train",
        "--config",
        str(reference.run_dir / "config.json"),
        "--run-dir",
        str(run_dir),
    ]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "160"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=child, env=environment, text=True
    ) as process:
        os.close(child)
        shown = b""
        while True:
            try:
                part = os.read(parent, 65536)
            except OSError:  # Linux's end of a pseudo-terminal
                break
            if not part:
                break
            shown += part
        assert process.stdout is not None
        output = process.stdout.read()
    os.close(parent)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert f"0/{EPOCHS * STEPS_PER_EPOCH}" in text
    assert "━" in text
    assert re.search(r"\d steps/s", text)
    assert "ETA" in text
    assert f"epoch {EPOCHS}/{EPOCHS}  lam 0.5  train: ELBO" in text
    assert shown.count(b"\x1b[?25h") >= shown.count(b"\x1b[?25l") >= 1  # the cursor is shown again
    assert output.startswith(f"Trained {EPOCHS} epochs")
    assert_same_run(run_dir, reference.run_dir)


def test_options_beside_a_config_file_win(reference: ReferenceRun, capsys: Capture) -> None:
    """The refusal to change the run shows what was asked for."""
    file = str(reference.run_dir / "config.json")
    options = ("--config", file, "--lam", "2", "--run-dir", str(reference.run_dir))
    assert "(train.lam: 0.5 here, 2.0 given)" in runs.failure(capsys, "train", *options)


def test_run_directory_in_use_is_refused(reference: ReferenceRun, capsys: Capture) -> None:
    record = read_run(reference.run_dir)

    def refuse(message: str) -> None:
        raise AssertionError(message)

    with RunDirectory.open(reference.run_dir, record, fresh=False, warn=refuse):
        for more in ((), ("--fresh",)):
            line = runs.failure(
                capsys, "train", *OPTIONS, "--run-dir", str(reference.run_dir), *more
            )
            assert "is in use by another process" in line


def test_other_settings_in_the_same_directory_are_refused_and_fresh_starts_over(
    reference: ReferenceRun, tmp_path: Path, capsys: Capture
) -> None:
    run_dir = copied(reference, tmp_path)
    other = ("train", *OPTIONS, "--lam", "2", "--epochs", "1", "--run-dir", str(run_dir), "--json")
    line = runs.failure(capsys, *other)
    assert "train.lam: 0.5 here, 2.0 given" in line
    assert_same_run(run_dir, reference.run_dir)
    assert runs.call(*other, "--fresh") == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["step"] == STEPS_PER_EPOCH
    assert read_run(run_dir).config.train.lam == 2.0
    assert len(runs.records(run_dir)) == 1
    # Within the warm-up of 100 steps a warning reports what lam really was: before and after.
    grown = f"lam grows to {2.0 * (STEPS_PER_EPOCH / 100) ** 2:.2g} of 2 only"
    assert f"\nWarning: {grown}" in output.err
    assert "raise --epochs to 3 or give fewer --lam-warmup-steps" in output.err
    (warning,) = result["warnings"]
    assert warning.startswith(grown)
    assert runs.call(*other[:-1]) == 0
    output = capsys.readouterr()
    assert f"Warning: {grown}" in output.out
    assert "Warning" not in output.err  # there is nothing to train


def test_more_epochs_go_on_with_a_finished_run(
    reference: ReferenceRun, tmp_path: Path, capsys: Capture
) -> None:
    run_dir = copied(reference, tmp_path)
    assert (
        runs.call(
            "train", *OPTIONS, "--epochs", str(EPOCHS + 1), "--run-dir", str(run_dir), "--json"
        )
        == 0
    )
    output = capsys.readouterr()
    _, going_on, epoch = output.err.splitlines()
    done, total = EPOCHS * STEPS_PER_EPOCH, (EPOCHS + 1) * STEPS_PER_EPOCH
    assert going_on == f"Continuing after step {done} of {total}."
    assert epoch.startswith(f"epoch {EPOCHS + 1}/{EPOCHS + 1}  ")
    assert json.loads(output.out)["epoch"] == EPOCHS + 1
    assert runs.records(run_dir)[:EPOCHS] == runs.records(reference.run_dir)


def test_threads_are_set_and_recorded_and_the_run_has_its_default_place(tmp_path: Path) -> None:
    options: tuple[Any, ...] = (
        "--epochs",
        "1",
        "--lam",
        "inf",
        "--likelihood",
        "gaussian",
        "--threads",
        "1",
    )
    process = run_forked("train", *OPTIONS, *options, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    run_dir = tmp_path / "runs" / "digits-laminf-seed0"
    record = read_run(run_dir)
    assert record.machine is not None
    assert record.machine.threads == 1
    assert (record.config.train.lam, record.config.model.likelihood) == (float("inf"), "gaussian")
    assert (
        f"The run is in {run_dir.relative_to(tmp_path)}; its curves: tensorboard --logdir runs"
        in process.stdout
    )


def test_run_that_a_shell_started_in_the_background_ignores_an_interrupt(
    tmp_path: Path, signal_at: SignalAt
) -> None:
    """`make train &` in a script, or cron, start it with SIGINT ignored."""
    run_dir = tmp_path / "run"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal_at("open", "metrics.jsonl", 2, signal.SIGINT)
    assert runs.call("train", *OPTIONS, "--epochs", "1", "--run-dir", str(run_dir)) == 0
    assert len(runs.records(run_dir)) == 1


# What the machine lacks.


@pytest.mark.parametrize("arguments", [("--help",), ("datasets", "--json")])
def test_output_that_cannot_be_written_is_one_line(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [runs.script(), *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert process.returncode == 1
    assert process.stderr == "Error: the output: No space left on device.\n"


@pytest.mark.slow
def test_a_model_that_no_memory_holds_is_one_line(tmp_path: Path, capfd: Capture) -> None:
    options = ("--hidden-sizes", "2000000,2000000", "--run-dir", str(tmp_path / "run"))  # 16 TB
    assert runs.call("train", *OPTIONS, *options) == 1
    assert "Error: there is not enough memory; choose a smaller model" in capfd.readouterr().err
