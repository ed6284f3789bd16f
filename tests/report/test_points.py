"""The numbers of figures and tables equal sweep.json, run by run and over seeds."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from tests.support import sweeps
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.report import points as figure_data
from tfp_smvi.report.figures import missing_figures, plot_sweep
from tfp_smvi.report.points import Point
from tfp_smvi.storage.arrays import read_arrays
from tfp_smvi.sweeps.results import read_sweep

LAMS = (-0.1, 0.0, 0.01, 1.0, math.inf)


def bar(values: dict[str, Any], count: int) -> tuple[float, float, float]:
    """The mean and the ends of the bar of an estimate of the JSON: its 95 % interval.

    Args:
        values: the estimate.
        count: the number of values that it is the mean of.
    """
    mean, error = values["mean"], values["standard_error"]
    half = scipy.stats.t.ppf(0.975, count - 1) * error
    return mean, mean - half, mean + half


def assert_equal(found: list[Point], expected: list[Point]) -> None:
    """Up to the rounding of a quantile that is computed in two ways."""
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("quantity", ["gap", "elbo", "log_likelihood"])
def test_likelihoods_equal_the_json(split: str, quantity: str, tmp_path: Path) -> None:
    sweep = sweeps.write_sweep(tmp_path, LAMS)
    expected = [
        Point(
            lam, *bar(sweeps.find_run(sweep, lam)["evaluation"]["splits"][split][quantity], 400), 1
        )
        for lam in LAMS
    ]
    assert_equal(figure_data.estimates(read_sweep(tmp_path), split, quantity), expected)


def test_brackets_equal_the_json(tmp_path: Path) -> None:
    sweep = sweeps.write_sweep(tmp_path, LAMS)
    expected = [
        Point(lam, *bar(sweeps.find_run(sweep, lam)["evaluation"]["bracket"]["width"], 100), 1)
        for lam in LAMS
    ]
    assert_equal(figure_data.brackets(read_sweep(tmp_path)), expected)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("num_labels", sweeps.NUM_LABELS)
def test_accuracies_and_baselines_equal_the_json(
    kernel: str, num_labels: int, tmp_path: Path
) -> None:
    written = sweeps.write_sweep(tmp_path, LAMS)
    sweep = read_sweep(tmp_path)
    expected = [
        Point(
            lam,
            *bar(
                sweeps.find_result(sweeps.find_run(written, lam), "encoder", kernel, num_labels), 10
            ),
            1,
        )
        for lam in LAMS
    ]
    assert_equal(figure_data.accuracies(sweep, kernel, num_labels), expected)
    for features in ("pixels", "pca"):
        result = sweeps.find_result(written["runs"][0], features, kernel, num_labels)
        found = figure_data.baseline(sweep, features, kernel, num_labels)
        assert found == Estimate(result["mean"], result["standard_error"])


def test_accuracies_by_epoch_equal_the_json_and_end_with_the_final_one(tmp_path: Path) -> None:
    written = sweeps.write_sweep(tmp_path, (0.0, 1.0), epochs=(25, 50, 75))
    curves = figure_data.accuracies_by_epoch(read_sweep(tmp_path), "rbf", 600)
    assert list(curves) == [0.0, 1.0]
    for lam, points in curves.items():
        run = sweeps.find_run(written, lam)
        reports = {**run["classification_by_epoch"], "100": run["classification"]}
        expected = [
            Point(
                int(epoch),
                *bar(sweeps.find_result({"classification": report}, "encoder", "rbf", 600), 10),
                1,
            )
            for epoch, report in reports.items()
        ]
        assert_equal(points, expected)


def test_several_seeds_become_their_mean_and_range(tmp_path: Path) -> None:
    written = sweeps.write_sweep(tmp_path, (0.0, 1.0), (0, 1, 2))
    points = figure_data.estimates(read_sweep(tmp_path), "test", "gap")
    gaps = [[find_gap(written, lam, seed) for seed in (0, 1, 2)] for lam in (0.0, 1.0)]
    assert points == [
        Point(lam, np.mean(three), min(three), max(three), 3)
        for lam, three in zip((0.0, 1.0), gaps, strict=True)
    ]


@pytest.mark.parametrize(
    ("states", "seeds"),
    [
        (
            {(1.0, 0): "failed"},
            [(1, 2), (1, 2)],
        ),  # as everywhere, or seeds would be compared instead of lams
        ({(1.0, 0): "failed", (1.0, 2): "running"}, [(1,), (1,)]),
        (
            {(0.0, 0): "failed", (1.0, 1): "failed", (1.0, 2): "failed"},
            [(1, 2), (0,)],
        ),  # there are no such seeds
    ],
)
def test_means_are_over_the_same_seeds_at_every_lam(
    states: dict[tuple[float, int], str], seeds: list[tuple[int, ...]], tmp_path: Path
) -> None:
    written = sweeps.write_sweep(tmp_path, (0.0, 1.0), (0, 1, 2), states=states)
    points = figure_data.estimates(read_sweep(tmp_path), "test", "gap")
    for point, lam, chosen in zip(points, (0.0, 1.0), seeds, strict=True):
        assert point.mean == pytest.approx(
            np.mean([find_gap(written, lam, seed) for seed in chosen]), rel=1e-12
        )
        assert point.num_seeds == len(chosen)


def find_gap(written: dict[str, Any], lam: float, seed: int) -> float:
    return sweeps.find_run(written, lam, seed)["evaluation"]["splits"]["test"]["gap"]["mean"]


def test_training_curves_equal_the_history(tmp_path: Path) -> None:
    written = sweeps.write_sweep(tmp_path, (0.0, 1.0))
    sweep = read_sweep(tmp_path)
    for quantity in ("elbo", "divergence"):
        for lam, points in figure_data.training_curves(sweep, quantity).items():
            expected = [
                (record["epoch"], record["test"][quantity])
                for record in sweeps.find_run(written, lam)["history"]
            ]
            assert [(point.x, point.mean) for point in points] == expected


def test_a_value_that_is_not_finite_has_no_point(tmp_path: Path) -> None:
    written = sweeps.write_sweep(tmp_path, (0.0, 1.0))
    sweeps.find_run(written, 1.0)["evaluation"]["splits"]["test"]["gap"]["mean"] = None
    (tmp_path / "sweep.json").write_text(json.dumps(written))
    assert [point.x for point in figure_data.estimates(read_sweep(tmp_path), "test", "gap")] == [
        0.0
    ]


def test_images_are_read_as_fractions(tmp_path: Path) -> None:
    sweeps.write_sweep(tmp_path, (0.0,))
    (gallery,) = figure_data.read_galleries(read_sweep(tmp_path))
    with np.load(tmp_path / "lam0-seed0" / "gallery.npz") as arrays:
        np.testing.assert_array_equal(gallery.originals, arrays["originals"] / np.float32(255.0))
        np.testing.assert_array_equal(gallery.samples, arrays["samples"])


def test_a_gallery_is_read_once_for_all_figures_and_again_if_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps.write_sweep(tmp_path, (0.0, 1.0), latent_dim=2)
    paths: list[Path] = []

    def read(path: Path) -> dict[str, np.ndarray]:
        paths.append(path)
        return read_arrays(path)

    monkeypatch.setattr(figure_data, "read_arrays", read)
    sweep = read_sweep(tmp_path)
    for _ in range(3):
        figure_data.read_galleries(sweep)
    assert missing_figures(sweep).keys().isdisjoint({"reconstructions", "samples", "latents"})
    galleries = [tmp_path / f"lam{lam}-seed0" / "gallery.npz" for lam in (0, 1)]
    assert paths == galleries
    np.savez(galleries[0], originals=np.ones((1, 2, 2, 1), np.uint8))
    with pytest.raises(SMVIError, match="is missing"):
        figure_data.read_galleries(sweep)
    assert paths == [*galleries, galleries[0]]


def test_a_damaged_gallery_is_one_line(tmp_path: Path) -> None:
    sweeps.write_sweep(tmp_path, (0.0,))
    (tmp_path / "lam0-seed0" / "gallery.npz").write_bytes(b"PK nothing")
    with pytest.raises(SMVIError, match=r"gallery.npz cannot be read \(.*\); delete it"):
        plot_sweep(read_sweep(tmp_path), tmp_path / "figures")
