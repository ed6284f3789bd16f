"""Every command on every posterior, architecture, likelihood and kind of data: docs/models.md.

Each kind of model is a small run of a sweep, which trains, evaluates and classifies it.
"""

import csv
import itertools
import json
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.support.forked import fork_children, run_forked
from tfp_smvi.data.test_batches import read_inputs
from tfp_smvi.runs.loading import load_data_of, load_run

pytestmark = pytest.mark.slow

# Small, and still with more than one of everything.
SWEEP = (
    *("--lams", "0.5", "--epochs", "1", "--batch-size", "32", "--lam-warmup-steps", "2"),
    *("--latent-dim", "2", "--hidden-sizes", "8", "--split", "test", "--num-examples", "4"),
    *("--num-simulated", "4", "--num-calibration", "4"),
    *("--num-chains", "2", "--num-temperatures", "3"),
    *("--num-leapfrog-steps", "1", "--num-pilot-chains", "2", "--num-pilot-temperatures", "3"),
    *("--num-elbo-samples", "8", "--num-divergence-samples", "4", "--num-importance-samples", "4"),
    *("--labels", "20", "--kernel", "linear", "--repeats", "2", "--num-folds", "2"),
)


class Model(NamedTuple):
    """A kind of model.

    Attributes:
        options: what `sweep` is given, "{data}" for the folder of the data.
        write_data: makes the data in a folder, or a module; None if nothing is needed.
    """

    options: Sequence[str]
    write_data: Callable[[Path], None] | None = None


class Trained(NamedTuple):
    """A sweep of one run.

    Attributes:
        sweep_dir: its folder.
        run_dir: the folder of the run.
        data: the folder of the data.
        stdout: what the sweep printed.
    """

    sweep_dir: Path
    run_dir: Path
    data: Path
    stdout: str


def write_counts(folder: Path) -> None:
    """Twelve genes of cells of two types, negative binomial with dispersion 2."""
    save(folder, lambda rng, y: rng.negative_binomial(2.0, 2.0 / (2.0 + 1.0 + 4.0 * y), (80, 12)))


def write_categories(folder: Path) -> None:
    """Images of 6 x 6 pixels of three categories."""
    save(folder, lambda rng, y: (rng.random((80, 6, 6)) * (2.0 + y[..., None])).astype(np.int64))


def write_missing_reals(folder: Path) -> None:
    save(folder, lambda rng, y: with_missing(rng, rng.normal(2.0 * y, 1.0, (80, 5))))


def write_missing_bits(folder: Path) -> None:
    save(
        folder, lambda rng, y: with_missing(rng, rng.random((80, 6, 6)) < 0.2 + 0.5 * y[..., None])
    )


def write_missing_colours(folder: Path) -> None:
    """Real images of 8 x 8 pixels with two channels."""
    save(folder, lambda rng, y: with_missing(rng, rng.normal(y[..., None, None], 1, (80, 8, 8, 2))))


def write_csv(folder: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    x = rng.normal(2.0 * y[:, None], 1.0, (80, 3)) * 50.0 + 100.0
    columns = np.column_stack([x, y])
    options = {"fmt": ["%.3f"] * 3 + ["%d"], "header": "a,b,c,label", "comments": ""}
    np.savetxt(folder / "x.csv", columns, delimiter=",", **options)


def write_parquet(folder: Path) -> None:
    write_counts(folder)
    arrays = np.load(folder / "x.npz")
    for part in ("train", "test"):
        genes = {f"gene{i}": column for i, column in enumerate(arrays[f"x_{part}"].T)}
        table = pa.table({**genes, "type": arrays[f"y_{part}"]})
        parquet.write_table(table, folder / f"{part}.parquet")


def write_module(folder: Path) -> None:
    """An own model with one convolution and layers of the sizes of the configuration."""
    (folder / "networks_of_every_model.py").write_text(
        textwrap.dedent(
            """
            import keras
            from keras import layers

            from tfp_smvi import network_shapes


            def build(image_shape, config):
                shapes = network_shapes(image_shape, config)
                (size,) = config.hidden_sizes
                x = keras.Input(shapes.input_shape)
                maps = layers.Conv2D(4, 3, strides=2, activation="softplus")(x)
                output = layers.Dense(shapes.encoder_outputs)(layers.Flatten()(maps))
                z = keras.Input([shapes.latent_dim])
                hidden = layers.Dense(size, activation="softplus")(z)
                logits = layers.Dense(shapes.decoder_size)(hidden)
                return keras.Model(x, output), keras.Model(z, logits)
            """
        )
    )


def save(folder: Path, draw: Callable[[np.random.Generator, np.ndarray], np.ndarray]) -> None:
    """Writes x.npz with 60 examples to train on and 20 to test on, of classes y [80, 1]."""
    rng = np.random.default_rng(0)
    y = np.arange(80)[:, None] % 2
    x = draw(rng, y)
    arrays = {"x_train": x[:60], "x_test": x[60:], "y_train": y[:60, 0], "y_test": y[60:, 0]}
    np.savez(folder / "x.npz", **arrays)


def with_missing(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return np.where(rng.random(x.shape) < 0.3, np.nan, x).astype(np.float32)


DIGITS = ("--dataset", "digits")
FILE = ("--dataset", "{data}/x.npz")
FULL = ("--posterior", "full")
FLOW = ("--posterior", "flow", "--flow-layers")
# Each has one value of several columns of the table. The affine flow has the second layer: how
# layers are composed does not depend on their transform, and splines take long to trace.
IMAGES: Mapping[str, Model] = {
    "conv, diagonal, grey levels": Model((*DIGITS, "--architecture", "conv")),
    "conv, diagonal, missing colours": Model(
        (*FILE, "--architecture", "conv"), write_missing_colours
    ),
    "own model, full, grey levels": Model(
        (*DIGITS, *FULL, "--model", "networks_of_every_model:build"), write_module
    ),
    "dense, full, missing bits": Model((*FILE, *FULL), write_missing_bits),
}
VECTORS: Mapping[str, Model] = {
    "categories, diagonal": Model(
        (*FILE, "--kind", "counts", "--likelihood", "categorical"), write_categories
    ),
    "poisson, flow, parquet": Model(
        (
            *("--dataset", "{data}/train.parquet", "--test-dataset", "{data}/test.parquet"),
            *("--label-column", "type", *FLOW, "1"),
        ),
        write_parquet,
    ),
    "negative binomial, full": Model(
        (*FILE, *FULL, "--likelihood", "negative_binomial"), write_counts
    ),
    "missing reals, affine flow": Model(
        (*FILE, *FLOW, "2", "--flow-transform", "affine"), write_missing_reals
    ),
    "standardized csv, diagonal": Model(
        ("--dataset", "{data}/x.csv", "--test-fraction", "0.25", "--standardize"), write_csv
    ),
}
MODELS = {**IMAGES, **VECTORS}


# The rest is in test_every_likelihood.py, so that two workers share the work.
@pytest.fixture(scope="module", params=IMAGES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(request.param, tmp_path_factory)


def train(name: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Makes the sweep of a kind of model."""
    model = MODELS[name]
    folder = tmp_path_factory.mktemp(re.sub(r"\W+", "-", name))
    if model.write_data is not None:
        model.write_data(folder)
    options = [option.format(data=folder) for option in model.options]
    stdout = run("sweep", *options, *SWEEP, "--sweep-dir", "sweep", cwd=folder)
    (run_dir,) = (folder / "sweep").glob("lam*")
    return Trained(folder / "sweep", run_dir, folder, stdout)


def run(*arguments: object, cwd: Path) -> str:
    """Runs a command in a folder and returns what it prints."""
    process = run_forked(*map(str, arguments), before=fork_children, cwd=cwd)
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    return process.stdout


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_sweep(trained: Trained):
    (entry,) = read(trained.sweep_dir / "sweep.json")["runs"]
    assert (entry["status"], entry["error"]) == ("done", None)
    with (trained.sweep_dir / "sweep.csv").open() as file:
        accuracies = [float(row["accuracy"]) for row in csv.DictReader(file)]
    assert accuracies
    assert all(0.0 <= accuracy <= 1.0 for accuracy in accuracies)


def test_train_resumes(trained: Trained, tmp_path: Path):
    shutil.copytree(trained.run_dir, tmp_path / "run")
    config = trained.run_dir / "config.json"
    run("train", "--config", config, "--run-dir", tmp_path / "run", "--epochs", 2, cwd=trained.data)
    with (tmp_path / "run" / "metrics.jsonl").open() as file:
        lines = [json.loads(line) for line in file]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(np.isfinite(line["test"][name]) for line in lines for name in ("elbo", "divergence"))


def test_evaluate(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With more draws than the sweep: the bounds are new, and the annealing is not."""
    run_dir = Path(shutil.copytree(trained.run_dir, tmp_path / "run"))
    options = SWEEP[SWEEP.index("--split") : SWEEP.index("--labels")]
    more = {"--num-elbo-samples": "16"}
    pairs = dict(zip(options[::2], options[1::2], strict=True)) | more
    stdout = run("evaluate", run_dir, *itertools.chain(*pairs.items()), cwd=trained.data)
    evaluation = read(run_dir / "evaluation.json")
    split = evaluation["splits"]["test"]
    assert split["num_not_finite"] == 0
    gap = split["log_likelihood"]["mean"] - split["elbo"]["mean"]
    np.testing.assert_allclose(split["gap"]["mean"], gap, rtol=1e-4)
    assert f"{split['gap']['mean']:.3f}" in stdout
    monkeypatch.chdir(trained.data)  # where an own model is imported from
    scale = load_run(run_dir, warn=lambda line: None).standardization
    if scale is None:
        assert (evaluation["units"], evaluation["log_scale"]) == ("given", None)
    else:
        assert evaluation["units"] == "standardized"
        np.testing.assert_allclose(evaluation["log_scale"]["test"], scale.log_scale, rtol=1e-6)
        assert f"test {scale.log_scale:.4g}." in stdout


def test_classify(trained: Trained):
    options = SWEEP[SWEEP.index("--labels") :]
    stdout = run("classify", trained.run_dir, *options, cwd=trained.data)
    (entry,) = read(trained.sweep_dir / "sweep.json")["runs"]
    results = [r for r in entry["classification"]["results"] if r["features"] == "encoder"]
    assert [f"{100.0 * r['mean']:.2f}" in stdout for r in results] == [True]


def test_export_and_features(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The features are those that the encoder gives in memory, of x in the given units."""
    monkeypatch.chdir(trained.data)  # where an own model is imported from
    stdout = run(
        "export",
        trained.run_dir,
        "--output",
        tmp_path,
        "--model-name",
        "m",
        "--part",
        "both",
        cwd=trained.data,
    )
    assert "every signature answers like the model" in stdout
    loaded = load_run(trained.run_dir, warn=lambda line: None)
    data = load_data_of(loaded)
    x = next(iter(read_inputs(data.test, binarize=False)))[:10].numpy()
    scale = data.standardization
    given = x if scale is None else scale.undo(x)
    np.save(tmp_path / "x.npy", given.astype(np.int64) if data.kind == "counts" else given)
    run(
        "features",
        tmp_path / "x.npy",
        "--model",
        tmp_path / "m",
        "--output",
        tmp_path / "f.npz",
        cwd=trained.data,
    )
    features = np.load(tmp_path / "f.npz")
    posterior = loaded.model.encode(x)
    np.testing.assert_allclose(features["mean"], posterior.mean(), atol=1e-5)
    np.testing.assert_allclose(features["stddev"], posterior.stddev(), atol=1e-5)


def test_report_and_plot(trained: Trained, tmp_path: Path):
    run("report", trained.sweep_dir, "--output", tmp_path / "report.html", cwd=trained.data)
    page = (tmp_path / "report.html").read_text()
    assert "lam" in page
