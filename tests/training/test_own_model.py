"""The example's own model through every command, each in a process of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support import runs
from tests.support.forked import fork_children, run_forked, start_forked
from tests.support.runs import assert_same_run

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = (
    *("--dataset", "digits", "--model", "own_model:build", "--latent-dim", "3"),
    *("--batch-size", "64", "--lam-warmup-steps", "10"),
)
TRAIN = ("train", *MODEL, "--lam", "0.1", "--epochs", "3")
EVALUATION = (
    *("--num-examples", "50", "--num-simulated", "50", "--num-temperatures", "10"),
    *("--num-chains", "2", "--num-calibration", "50"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with the module and a run."""
    path = tmp_path_factory.mktemp("user")
    shutil.copy(EXAMPLES / "own_model.py", path)
    done = run_forked(*TRAIN, "--run-dir", "run", cwd=path)
    assert done.returncode == 0, done.stderr
    assert f"Model: imports own_model:build ({path / 'own_model.py'})" in done.stderr
    return path


def ok(folder: Path, *arguments: str, before: Callable[[], None] | None = fork_children) -> str:
    """Runs a command, which must succeed, and returns what it printed."""
    done = run_forked(*arguments, before=before, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_function_and_its_file_are_recorded(folder: Path) -> None:
    record = json.loads((folder / "run" / "config.json").read_text())
    assert record["config"]["model"]["model"] == "own_model:build"
    assert record["config"]["model"]["architecture"] is None
    assert record["code"]["file"] == str(folder / "own_model.py")
    assert len(record["code"]["sha256"]) == 64


@pytest.mark.slow
def test_a_killed_training_goes_on_bit_for_bit(folder: Path) -> None:
    process = start_forked(*TRAIN, "--run-dir", "killed", cwd=folder)
    checkpoints = folder / "killed" / "checkpoints"
    while process.returncode is None and not list(checkpoints.glob("step-*.npz")):
        pass
    process.kill()
    process.communicate()
    ok(folder, *TRAIN, "--run-dir", "killed")
    assert_same_run(folder / "killed", folder / "run")


def test_features_need_only_the_export(folder: Path) -> None:
    """The other commands are in tests/test_every_model.py."""
    line = "Model: imports own_model:build"
    assert line in ok(folder, "export", "run", "--model-name", "own", "--part", "both")
    ok(folder, "export", "--check", "saved_models/own/1")
    images = np.zeros((5, 8, 8, 1), np.uint8)
    np.savez(folder / "images.npz", images=images)
    (folder / "own_model.py").rename(folder / "elsewhere.py")
    try:
        ok(folder, "features", "images.npz", "--model", "saved_models/own", "--output", "f.npz")
    finally:
        (folder / "elsewhere.py").rename(folder / "own_model.py")
    assert np.load(folder / "f.npz")["mean"].shape == (5, 3)


def test_what_the_function_prints_is_not_in_the_json(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    text = (folder / "own_model.py").read_text()
    text = text.replace("import keras", "import keras\n\nprint('imported')", 1)
    (tmp_path / "own_model.py").write_text(text)
    arguments = ("export", "run", "--no-verify", "--json")
    done = run_forked(*arguments, before=fork_children, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 1
    assert "imported" in done.stderr.splitlines()


@pytest.mark.slow
def test_a_model_that_works_only_in_python_is_not_exported(tmp_path: Path) -> None:
    (tmp_path / "own_model.py").write_text(
        """
import keras, tensorflow as tf

class Python(keras.Layer):
    def call(self, x):
        return tf.ensure_shape(tf.numpy_function(lambda a: a, [x], tf.float32), x.shape)

    def compute_output_shape(self, shape):
        return shape

def build(image_shape, config):
    x = keras.Input([64])
    encoder = keras.Model(x, keras.layers.Dense(2 * config.latent_dim)(Python()(x)))
    return encoder, keras.Sequential([keras.Input([config.latent_dim]), keras.layers.Dense(64)])
"""
    )
    ok(tmp_path, *TRAIN, "--epochs", "1", "--run-dir", "run")
    failed = run_forked("export", "run", cwd=tmp_path)
    assert failed.returncode == 1
    (line,) = (line for line in failed.stderr.splitlines() if line.startswith("Error: "))
    assert "the written export does not answer like the model" in line
    assert not list((tmp_path / "saved_models").glob("*/1"))


@pytest.mark.slow
def test_a_sweep_imports_it_in_its_processes(folder: Path) -> None:
    options = (*EVALUATION, "--no-classify", "--epochs", "1", "--lams", "0.1")
    text = ok(folder, "sweep", *MODEL, *options, "--sweep-dir", "sweep", before=None)
    assert text.count("Model: imports own_model:build") == 1
    summary = json.loads((folder / "sweep" / "sweep.json").read_text())
    assert [run["status"] for run in summary["runs"]] == ["done"]


@pytest.mark.slow
def test_a_changed_or_lost_function_is_reported(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    failed = run_forked("evaluate", "run", *EVALUATION, cwd=tmp_path)
    assert failed.returncode == 2
    assert "there is no module own_model on the Python path or in" in failed.stderr
    text = (folder / "own_model.py").read_text()
    (tmp_path / "own_model.py").write_text(f"{text}\n# changed\n")
    assert "is not the code that the run was trained with" in ok(
        tmp_path, "evaluate", "run", *EVALUATION
    )
    (tmp_path / "own_model.py").write_text(text.replace("Dense(64", "Dense(63"))
    failed = run_forked("evaluate", "run", *EVALUATION, cwd=tmp_path)
    assert failed.returncode == 1
    assert "does not fit its config.json (decoder/000/kernel has the shape" in failed.stderr


def test_a_module_in_the_run_directory_is_not_imported(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run" / "own_model.py").write_text("raise SystemExit('it ran')")
    failed = run_forked("evaluate", ".", *EVALUATION, cwd=tmp_path / "run")
    assert failed.returncode == 2
    assert "from which nothing is imported" in failed.stderr
    assert "it ran" not in failed.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be imported: there is no module own_model"),
        ("build = 3", "is not a function: build"),
        ("def build(shape, config): return None", "returns NoneType; give encoder, decoder"),
        ("def build(shape, config): 1 / 0", "raises ZeroDivisionError, line 1 of own_model.py"),
    ],
)
def test_a_wrong_function_is_one_line_and_a_usage_error(
    tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "own_model.py").write_text(text)
    failed = run_forked(*TRAIN, "--run-dir", "run", cwd=tmp_path)
    assert failed.returncode == 2
    lines = [line for line in failed.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert lines[0].startswith("Error: --model = 'own_model:build' ")
    assert message in lines[0]
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "run").exists()


def test_a_precision_is_only_for_dense(capsys: pytest.CaptureFixture[str]) -> None:
    line = runs.usage_error(
        capsys, "train", "--dataset", "digits", "--architecture", "conv", "--precision", "bfloat16"
    )
    assert line == (
        "Error: --precision = 'bfloat16' is only for the architecture dense; give float32."
    )
