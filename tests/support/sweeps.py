"""Synthetic sweep directories, as `tfp-smvi sweep` would leave them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfp_smvi.classification.results import (
    Accuracy,
    Choice,
    Classification,
    ClassifiedRun,
    Kernel,
)
from tfp_smvi.config import (
    ClassifyConfig,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    RunConfig,
    SweepConfig,
    TrainConfig,
)
from tfp_smvi.core.errors import name_fields
from tfp_smvi.core.runtime import Environment, Machine
from tfp_smvi.evaluation.calibration import NUM_DRAWS
from tfp_smvi.evaluation.calibration_summary import calibration_values, summarize_calibration
from tfp_smvi.evaluation.results import (
    BracketSummary,
    EvaluatedRun,
    Evaluation,
    SplitSummary,
)
from tfp_smvi.evaluation.summary import summarize_bracket, summarize_split
from tfp_smvi.evaluation.warnings import warnings_about

LAMS = (0.0, 0.003, 0.01, 0.03, 0.1, 0.5, 2.0, 10.0)
NUM_LABELS = (600, 1000, 3000)
EPOCHS = 100
HERE = Environment(
    {"python": "3.11.7", "numpy": "2.4.6"}, Machine("Linux", "x86_64", gpus=(), threads=2)
)
CLASSIFY = ClassifyConfig(labels=NUM_LABELS)


def write_sweep(
    path: Path,
    lams: Sequence[float] = LAMS,
    seeds: Sequence[int] = (0,),
    *,
    states: dict[tuple[float, int], str] | None = None,
    classify: bool = True,
    epochs: Sequence[int] = (25, 50, 75),
    latent_dim: int = 50,
    galleries: bool = True,
    gap_offset: float = 0.02,
    calibrations: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """Writes a sweep directory.

    Args:
        path: the directory.
        lams: the lams.
        seeds: the seeds.
        states: by (lam, seed), those that are not "done".
        classify: whether the runs are classified.
        epochs: the epochs at which they are classified besides the last.
        latent_dim: with 2, the galleries hold means and labels.
        galleries: whether there are any.
        gap_offset: what the gap of a large lam comes down to.
        calibrations: whether the runs have ranks.
        changes: replace parts of sweep.json.

    Returns:
        The content of sweep.json.
    """
    path.mkdir(parents=True, exist_ok=True)
    runs = []
    for lam in lams:
        for seed in seeds:
            status = (states or {}).get((lam, seed), "done")
            run = _run(lam, seed, status, classify, epochs, latent_dim, gap_offset)
            runs.append(run)
            if galleries and status == "done":
                _write_gallery(path / run["run_dir"], lam, latent_dim)
            if calibrations and status == "done":
                run["evaluation"]["calibration"] = _write_calibration(
                    path / run["run_dir"], lam, latent_dim
                )
    sweep: dict[str, Any] = {
        "format": 1,
        "command": [
            "tfp-smvi",
            "sweep",
            "--lams",
            ",".join(map(str, lams)),
            "--sweep-dir",
            "a sweep",
        ],
        "config": SweepConfig(
            _run_config(latent_dim), EvaluateConfig(split="both"), CLASSIFY
        ).settings(),
        "lams": [_json_lam(lam) for lam in lams],
        "seeds": list(seeds),
        "environment": HERE.to_json(),
        "runs": runs,
        **changes,
    }
    (path / "sweep.json").write_text(json.dumps(sweep, allow_nan=False))
    return sweep


def find_run(sweep: dict[str, Any], lam: float, seed: int = 0) -> dict[str, Any]:
    """The entry of a run."""
    (run,) = [run for run in sweep["runs"] if float(run["lam"]) == lam and run["seed"] == seed]
    return run


def find_result(run: dict[str, Any], features: str, kernel: str, num_labels: int) -> dict[str, Any]:
    """The final result of one kind of features and classifier."""
    (result,) = [
        result
        for result in run["classification"]["results"]
        if (result["features"], result["kernel"], result["num_labels"])
        == (features, kernel, num_labels)
    ]
    return result


def _run_config(latent_dim: int) -> RunConfig:
    return RunConfig(
        DataConfig("mnist"),
        ModelConfig("bernoulli", latent_dim=latent_dim),
        TrainConfig(epochs=EPOCHS, clip_norm=100.0, lam_warmup_steps=5000),
    )


def _json_lam(lam: float) -> float | str:
    return "inf" if math.isinf(lam) else lam


def _run(
    lam: float,
    seed: int,
    status: str,
    classify: bool,
    epochs: Sequence[int],
    latent_dim: int,
    gap_offset: float,
) -> dict[str, Any]:
    done = status == "done"
    rng = np.random.default_rng([seed, hash(lam) % 2**32])
    quality = rng.normal(0.0, 0.003)
    return {
        "lam": _json_lam(lam),
        "seed": seed,
        "run_dir": f"lam{lam:g}-seed{seed}",
        "status": status,
        "error": "the objective is not finite at step 412" if status == "failed" else None,
        "seconds": {"train": 1830.2, "evaluate": 412.9, "classify": 77.1} if done else {},
        "history": [_record(lam, epoch, rng) for epoch in range(1, EPOCHS + 1)] if done else [],
        "evaluation": _evaluation(lam, latent_dim, gap_offset, rng) if done else None,
        "classification": _classification(lam, EPOCHS, quality) if done and classify else None,
        "classification_by_epoch": {
            str(epoch): _classification(lam, epoch, quality)
            for epoch in epochs
            if done and classify
        },
    }


def _strength(lam: float) -> float:
    """From 0 at lam = 0 to 1 at infinity; negative lams are worse than none."""
    return 1.0 if math.isinf(lam) else lam / (abs(lam) + 0.05)


def _record(lam: float, epoch: int, rng: np.random.Generator) -> dict[str, Any]:
    elbo = -92.0 - 60.0 / epoch - 8.0 * max(_strength(lam), 0.0) ** 2 - min(abs(lam), 30.0)
    divergence = 700.0 * epoch**0.3 / (1.0 + 200.0 * abs(lam)) * math.exp(rng.normal(0.0, 0.08))
    metrics = {"elbo": elbo, "reconstruction": elbo + 25.0, "kl": 25.0, "divergence": divergence}
    metrics["objective"] = elbo
    return {
        "epoch": epoch,
        "step": 468 * epoch,
        "train": {
            **metrics,
            "divergence": None if lam == 0.0 else divergence,
            "gradient_norm": 40.0,
        },
        "test": metrics,
        "seconds": 18.2,
    }


def _evaluation(
    lam: float, latent_dim: int, gap_offset: float, rng: np.random.Generator
) -> dict[str, Any]:
    splits = {
        split: _split(lam, latent_dim, gap_offset, shift, rng)
        for split, shift in (("train", 1.5), ("test", 0.0))
    }
    bracket = _bracket(lam, rng)
    settings = EvaluateConfig(split="both")
    warnings = tuple(map(name_fields, warnings_about(splits, bracket, settings)))
    run = EvaluatedRun(_run_config(latent_dim), 468 * EPOCHS, EPOCHS, "0" * 64, "0" * 64)
    return Evaluation(
        splits, bracket, warnings, settings, run, HERE.versions, HERE.machine
    ).to_json()


def _split(
    lam: float, latent_dim: int, gap_offset: float, shift: float, rng: np.random.Generator
) -> SplitSummary:
    elbo = (
        -96.0
        + shift
        - 8.0 * max(_strength(lam), 0.0) ** 2
        - min(abs(lam), 30.0)
        + rng.normal(0, 20, 400)
    )
    gap = 6.0 * (1.0 - _strength(lam)) ** 2 * rng.gamma(4.0, 0.25, 400) + gap_offset
    gap = gap + rng.normal(0.0, 0.1, 400)
    return summarize_split(
        {
            "elbo": elbo,
            "elbo_error": np.full(400, 0.1),
            "kl": rng.normal(25.0, 4.0, 400),
            "iwae_bound": elbo + 0.8 * gap,
            "iwae_bound_error": np.full(400, 0.1),
            "log_likelihood": elbo + gap,
            "log_likelihood_error": np.full(400, 0.1),
            "divergence": rng.gamma(2.0, 10.0, 400),
            "divergence_error": np.full(400, 0.1),
            "weighted_divergence": 3.0 * gap,
            "weighted_divergence_error": np.full(400, 0.1),
            "effective_sample_size": rng.uniform(3.0, 12.0, 400)
            if lam > 0.0
            else rng.uniform(1.0, 6.0, 400),
            "acceptance_rate": np.full((400, 4), 0.65),
            "posterior_mean": rng.normal(0.0, 1.0, (400, latent_dim)),
            **_diagnostics(lam, latent_dim),
        }
    )


def _bracket(lam: float, rng: np.random.Generator) -> BracketSummary:
    lower = rng.normal(-100.0, 20.0, 100)
    return summarize_bracket(
        {
            "lower_bound": lower,
            "lower_bound_error": np.full(100, 0.1),
            "upper_bound": lower + rng.normal(0.2 / (1.0 + 10.0 * abs(lam)), 0.2, 100),
            "upper_bound_error": np.full(100, 0.1),
            "acceptance_rate": np.full((100, 4), 0.65),
            "reverse_acceptance_rate": np.full((100, 4), 0.65),
        }
    )


def _write_calibration(run_dir: Path, lam: float, latent_dim: int) -> dict[str, Any]:
    """Ranks among draws of a q(z|x) that is too narrow at a small lam; latent 0 is biased."""
    rng = np.random.default_rng(latent_dim)
    width, shift = 0.7 + 0.3 * _strength(lam), np.zeros(latent_dim)
    shift[0] = 0.6 * (1.0 - _strength(lam))
    z = rng.normal(size=(300, latent_dim))
    draws = rng.normal(shift, width, size=(NUM_DRAWS, 300, latent_dim))
    arrays = {
        "ranks": (draws < z).sum(axis=0).astype(np.float32),
        "log_joint_rank": (np.sum(draws**2, axis=-1) > np.sum(z**2, axis=-1)).sum(axis=0),
        "posterior_mean": rng.normal(size=(300, latent_dim)),
    }
    run_dir.mkdir(parents=True, exist_ok=True)
    values = calibration_values(arrays)
    _add_values(run_dir, {f"calibration_{name}": array for name, array in values.items()})
    return summarize_calibration(arrays).to_json()


def _diagnostics(lam: float, latent_dim: int) -> dict[str, np.ndarray]:
    """Tails without a warning, and moments: q is narrow and off, the less so the larger lam is."""
    rng, shape = np.random.default_rng(latent_dim), (400, latent_dim)
    miss = 0.5 * (1.0 - _strength(lam)) * rng.uniform(0.0, 1.0, latent_dim)
    return {
        "pareto_k": rng.uniform(-0.2, 0.7, 400),
        "squared_shift": miss**2 + rng.normal(0.0, 0.1, shape),
        "variance_ratio": 1.0 + miss + rng.normal(0.0, 0.3, shape),
    }


def _classification(lam: float, epoch: int, quality: float) -> dict[str, Any]:
    results = []
    kernels: tuple[Kernel, ...] = ("rbf", "linear")
    for kernel in kernels:
        for num_labels in NUM_LABELS:
            # The subsets of labels are the same for all, and so is their part of the result.
            luck = np.random.default_rng(num_labels).normal(0.0, 0.004, 10)
            base = {600: 0.930, 1000: 0.945, 3000: 0.958}[num_labels] - (
                0.05 if kernel == "linear" else 0.0
            )
            late = 0.005 * (1.0 - 25.0 / (epoch + 25.0)) * (1.0 if lam > 0.0 else 0.5)
            cost = 0.02 * max(_strength(lam), 0.0) ** 4 + (0.01 if lam < 0.0 else 0.0)
            noise = np.random.default_rng([num_labels, epoch, hash(lam) % 2**32]).normal(
                0.0, 0.001, 10
            )
            encoder = base + luck + noise + late + quality - cost
            for features, values in (
                ("encoder", encoder),
                ("pixels", base + luck - 0.012),
                ("pca", base + luck - 0.006),
            ):
                error = float(values.std(ddof=1) / math.sqrt(10))
                choices = (Choice(10.0, None, False),) * 10
                mean, accuracies = float(values.mean()), tuple(values.tolist())
                results.append(
                    Accuracy(features, kernel, num_labels, mean, error, accuracies, choices)
                )
    return Classification(
        format=1,
        run=ClassifiedRun(_run_config(50), 468 * epoch, "0" * 64),
        epoch=epoch,
        settings=CLASSIFY,
        num_test=10000,
        results=tuple(results),
        warnings=(),
        seconds=12.5,
        versions=HERE.versions,
        machine=HERE.machine,
    ).to_json()


def _write_gallery(run_dir: Path, lam: float, latent_dim: int) -> None:
    from sklearn.datasets import load_digits

    run_dir.mkdir(parents=True, exist_ok=True)
    images, labels = (
        (load_digits().images[:300] / 16.0).astype(np.float32)[..., None],
        load_digits().target[:300],
    )
    rng = np.random.default_rng(hash(lam) % 2**32)
    arrays: dict[str, np.ndarray] = {
        "originals": (255 * images[:16]).round().astype(np.uint8),
        "reconstructions": np.clip(
            images[:16] + rng.normal(0.0, 0.05, images[:16].shape), 0, 1
        ).astype(np.float32),
        "samples": images[100:125][rng.permutation(25)],
    }
    arrays["observed_means"] = means = rng.gamma(1.0, 5.0, 40)
    arrays["simulated_means"] = means * rng.uniform(0.8, 1.2, 40)
    arrays["observed_zeros"] = zeros = rng.uniform(0.0, 1.0, 40)
    arrays["simulated_zeros"] = zeros * rng.uniform(0.9, 1.0, 40)
    if latent_dim == 2:
        angle = 2.0 * np.pi * labels / 10.0
        centres = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 2.0
        arrays["means"] = centres / (1.0 + 0.2 * abs(min(lam, 10.0))) + rng.normal(
            0.0, 0.3, centres.shape
        )
        arrays["labels"] = labels
    np.savez(run_dir / "gallery.npz", **arrays)
    worst = {f"test_worst_{name}": arrays[name][:10] for name in ("originals", "reconstructions")}
    _add_values(run_dir, worst)


def _add_values(run_dir: Path, arrays: dict[str, np.ndarray]) -> None:
    """Adds arrays to evaluation.npz."""
    path = run_dir / "evaluation.npz"
    before = dict(np.load(path)) if path.exists() else {}
    np.savez(path, **before, **arrays)
