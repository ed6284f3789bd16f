"""Classification from few labels: the machines on known features, and the report of a run.

Seeds are arbitrary: each assertion at five standard errors fails for fewer than one seed in a
million.
"""

import dataclasses
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import refused
from tests.support.runs import config
from tfp_smvi.classification import check_labels, draws
from tfp_smvi.classification.labels import choose_sizes, labelled_subset, read_labels
from tfp_smvi.classification.pca import PrincipalComponents
from tfp_smvi.classification.protocol import classify
from tfp_smvi.classification.results import Accuracy, Choice, Classification, ClassifiedRun
from tfp_smvi.classification.svm import measure_accuracy
from tfp_smvi.classification.table import format_classification
from tfp_smvi.config import ClassifyConfig, DataConfig, ModelConfig, RunConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.runtime import Machine
from tfp_smvi.data import ArraySplit, Dataset, eval_batches, load_dataset
from tfp_smvi.data.test_batches import read_inputs
from tfp_smvi.models.encoding import encode_means
from tfp_smvi.runs.loading import load_run
from tfp_smvi.training.loop import fit

SMALL = ClassifyConfig(labels=(30, 60), repeats=3, num_folds=3)
FEATURES = ("encoder", "pixels", "pca")
KERNELS = ("rbf", "linear")


@pytest.fixture(scope="module")
def run_dir(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on the digits with the checkpoints of its three epochs."""
    path = tmp_path_factory.mktemp("classified") / "run"
    fit(config(epochs=3), digits, path, keep_every=1)
    return path


@pytest.fixture(scope="module")
def report(run_dir: Path) -> Classification:
    return classify(run_dir, SMALL)


def blobs(count: int, num_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Classes on a circle of radius 1, each in a square with sides of 0.2; float32, and labels."""
    rng = np.random.default_rng(count)
    labels = np.arange(count) % num_classes
    angles = 2.0 * np.pi * labels / num_classes
    centers = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return (centers + rng.uniform(-0.1, 0.1, centers.shape)).astype(np.float32), labels


def values(report: Classification, features: str) -> list[tuple[float, ...]]:
    return [result.values for result in report.results if result.features == features]


# The machines.


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_classes_that_are_apart_are_all_found_at_any_scale(kernel: Any, scale: float) -> None:
    train, test = blobs(30), blobs(1500)
    outcome = measure_accuracy(
        scale * train[0], train[1], scale * test[0] + 0.0, test[1], kernel, 5
    )
    assert outcome.accuracy == 1.0


@pytest.mark.parametrize("kernel", KERNELS)
def test_features_that_say_nothing_give_chance(kernel: Any) -> None:
    """Catches test labels that reach the machine: 4 % above the chance of a quarter would show."""
    rng, count = np.random.default_rng(0), 4000
    labels = np.arange(100) % 4
    test_labels = rng.integers(0, 4, count)
    x, test = rng.normal(size=(100, 5)), rng.normal(size=(count, 5))
    accuracy = measure_accuracy(x, labels, test, test_labels, kernel, 5).accuracy
    assert abs(accuracy - 0.25) < 5.0 * np.sqrt(0.25 * 0.75 / count)


def test_only_a_curved_boundary_separates_opposite_quadrants() -> None:
    """No line gets more than three of the four quadrants right."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 1.0, (1200, 2)) * rng.choice([-1.0, 1.0], (1200, 2))
    labels = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    accuracy = {
        kernel: measure_accuracy(x[:200], labels[:200], x[200:], labels[200:], kernel, 5).accuracy
        for kernel in KERNELS
    }
    assert accuracy["rbf"] > 0.99
    # Each quadrant is a quarter of the 1,000, within five standard errors.
    assert accuracy["linear"] < 0.75 + 5.0 * np.sqrt(0.25 * 0.75 / 1000)


@pytest.mark.parametrize("kernel", KERNELS)
def test_standardization_is_chosen_where_noise_has_the_largest_scale(kernel: Any) -> None:
    """Without it the kernel sees noise alone, a million times as large as the signal."""
    rng, (train, labels), (test, test_labels) = np.random.default_rng(0), blobs(60), blobs(600)
    noisy = np.hstack([train, 1e6 * rng.normal(size=(60, 1))])
    noisy_test = np.hstack([test, 1e6 * rng.normal(size=(600, 1))])
    outcome = measure_accuracy(noisy, labels, noisy_test, test_labels, kernel, 5)
    assert outcome.choice.standardize
    assert outcome.accuracy > 0.95


def test_dimensions_that_are_constant_in_training_are_left_out() -> None:
    """In floating point, the variance of equal numbers may be a rounding above 0: no divisor."""
    (train, labels), (test, test_labels) = blobs(30), blobs(300)
    constant = np.full((30, 1), np.float32(0.1))
    far = np.random.default_rng(0).normal(size=(300, 1)).astype(np.float32)
    outcome = measure_accuracy(
        np.hstack([train, constant]), labels, np.hstack([test, far]), test_labels, "rbf", 5
    )
    assert outcome.accuracy == 1.0


def test_collapsed_features_give_the_chance_of_one_class() -> None:
    """An encoder that ignores its input has the same mean for all."""
    labels = np.arange(20) % 2
    accuracy = measure_accuracy(
        np.ones((20, 3)), labels, np.ones((50, 3)), np.arange(50) % 2, "rbf", 5
    ).accuracy
    assert accuracy == 0.5


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_choice_depends_on_the_test_set(kernel: Any) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    x = rng.normal(size=(60, 4)) + labels[:, None]
    test, test_labels = rng.normal(size=(90, 4)), np.arange(90) % 3
    choices = {
        measure_accuracy(x, labels, *given, kernel, 5).choice
        for given in (
            (test, test_labels),
            (test, rng.permutation(test_labels)),
            (1e3 * test[:1], test_labels[:1]),
        )
    }
    (choice,) = choices
    assert isinstance(choice, Choice)


# The labelled subsets.


def test_subsets_are_balanced_and_of_distinct_examples_and_differ_by_repeat_and_seed() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 300)
    subsets = {
        (size, seed, repeat): labelled_subset(labels, size, 4, seed, repeat)
        for size in (40, 80)
        for seed in (0, -(2**63))
        for repeat in (0, 1)
    }
    for (size, _, _), subset in subsets.items():
        assert len(np.unique(subset)) == size
        np.testing.assert_array_equal(np.bincount(labels[subset]), [size // 4] * 4)
    sets = {name: frozenset(subset.tolist()) for name, subset in subsets.items()}
    assert len({*sets.values()}) == len(sets)
    # Those of other sizes are drawn on their own.
    assert not sets[40, 0, 0] <= sets[80, 0, 0]
    np.testing.assert_array_equal(labelled_subset(labels, 40, 4, 0, 1), subsets[40, 0, 1])


def test_every_example_of_a_class_is_drawn_equally_often() -> None:
    """Of 20 examples 5, 1,000 times: each is drawn 250 times, with a standard error of 13.7."""
    labels = np.repeat([0, 1], 20)
    draws = np.concatenate([labelled_subset(labels, 10, 2, 0, repeat) for repeat in range(1000)])
    counts = np.bincount(draws, minlength=40)
    assert np.abs(counts - 250).max() < 5.0 * np.sqrt(1000 * 0.25 * 0.75)


@pytest.mark.parametrize(("num_labels", "allowed"), [(25, "20"), (1500, "1410")])
def test_numbers_of_labels_that_the_data_do_not_have_are_refused(
    num_labels: int, allowed: str, digits: Dataset
) -> None:
    """The first is no multiple of the classes, the second asks for more than the smallest has."""
    assert digits.train.labels is not None
    with pytest.raises(SMVIError) as caught:
        labelled_subset(digits.train.labels, num_labels, 10, 0, 0)
    assert (caught.value.field, caught.value.value) == ("labels", num_labels)
    assert allowed in str(caught.value.remedy)


def test_a_class_without_an_example_is_named() -> None:
    """As where classes are numbered with a gap, or one is in the test set alone."""
    with pytest.raises(SMVIError, match="label 1 is in the test data"):
        labelled_subset(np.array([0, 2, 2, 0]), 3, 3, 0, 0)


def test_classes_are_the_labels_that_occur() -> None:
    """As in EMNIST's letters: the labels 1 to 26, of the 37 that the set declares."""
    labels = np.arange(26 * 12) % 26 + 1
    pixels = np.zeros((len(labels), 1, 1, 1), np.uint8)
    data = Dataset("x", ArraySplit(pixels, labels), ArraySplit(pixels, labels[::-1]), 37, "x")
    train, test, num_classes, names = read_labels(data, ClassifyConfig(labels=(130,)))
    assert (num_classes, names.tolist()) == (26, list(range(1, 27)))
    np.testing.assert_array_equal(train, labels - 1)
    np.testing.assert_array_equal(test, labels[::-1] - 1)
    check_labels(data, ClassifyConfig(labels=(130, 260)))
    with refused("labels", 37 * 5):
        check_labels(data, ClassifyConfig(labels=(37 * 5,)))
    # Label 7 is to be recognized, and there is no example of it to learn from.
    alone = Dataset(
        "x", ArraySplit(pixels[:3], np.arange(3)), ArraySplit(pixels[:1], np.array([7])), 8, "x"
    )
    with pytest.raises(SMVIError, match="label 7 "):
        check_labels(alone, ClassifyConfig(labels=(20,)))


def test_default_numbers_of_labels_that_do_not_fit_are_left_out_with_a_note(
    digits: Dataset,
) -> None:
    notes: list[str] = []
    labels = read_labels(digits, ClassifyConfig())
    assert choose_sizes(labels, ClassifyConfig(), notes.append) == (600, 1000)
    (note,) = notes
    assert note.startswith("Classification from 3000 labels is left out: 3000 asks for 300 ")
    with refused("labels", 3000):  # what a user asks for is not left out
        choose_sizes(labels, ClassifyConfig(labels=(600, 1000, 3000)), notes.append)
    with pytest.raises(SMVIError, match="none of the default numbers of labels, 600, 1000, 3000"):
        choose_sizes(labels._replace(num_classes=7), ClassifyConfig(), notes.append)


def test_a_classification_answers_settings_that_ask_for_the_numbers_it_has() -> None:
    def made(labels: tuple[int, ...] | None, sizes: tuple[int, ...]) -> Classification:
        results = tuple(Accuracy("pixels", "rbf", n, 0.5, 0.1, (0.5,), ()) for n in sizes)
        run = ClassifiedRun(RunConfig(), 0, "")
        machine = Machine("", "", (), 1)
        return Classification(
            1, run, 0, ClassifyConfig(labels=labels), 0, results, (), 0.0, {}, machine
        )

    default, spelled = ClassifyConfig(), ClassifyConfig(labels=(600, 1000, 3000))
    assert made(None, (600, 1000)).answers(default)
    assert not made(None, (600, 1000)).answers(spelled)
    assert made((600, 1000, 3000), (600, 1000, 3000)).answers(default)  # of version 0.1
    assert made(None, (600, 1000, 3000)).answers(spelled)
    assert not made((600, 1000), (600, 1000)).answers(default)
    assert not made(None, (600,)).answers(dataclasses.replace(default, repeats=3))


# The features.


def test_means_are_those_of_the_encoder_for_every_image_in_order(
    run_dir: Path, digits: Dataset
) -> None:
    model = load_run(run_dir).model
    x = digits.train.images(np.arange(digits.train.num_examples))
    found = encode_means(model, read_inputs(digits.train, binarize=False))
    # Matrix products of other shapes round otherwise: numbers of about 1 in float32.
    np.testing.assert_allclose(found, model.encode(x).mean(), rtol=0, atol=1e-5)


def test_binarized_inputs_are_bits_and_always_the_same(digits: Dataset) -> None:
    reads = [np.concatenate([*read_inputs(digits.test, binarize=True)]) for _ in range(2)]
    np.testing.assert_array_equal(*reads)
    assert {*np.unique(reads[0])} == {0.0, 1.0}
    ((_, expected),) = eval_batches(digits.test, batch_size=360, seed=0, binarize=True)
    np.testing.assert_array_equal(reads[0], expected)


def test_principal_components_are_those_of_the_singular_value_decomposition() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(70, 6)) @ rng.normal(size=(6, 6)) + 5.0).astype(np.float32)
    found = PrincipalComponents([x[:50].reshape(-1, 2, 3), x[50:].reshape(-1, 2, 3)], 3)
    centered = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    expected = centered @ axes[:3].T
    components = found.transform(x.reshape(-1, 2, 3))
    # The sign of an axis is free; results are rounded to float32, numbers of about 10.
    np.testing.assert_allclose(
        components * np.sign(components[0] * expected[0]), expected, atol=1e-5
    )


def test_there_are_no_more_components_than_the_data_span() -> None:
    x = np.random.default_rng(0).normal(size=(50, 2)) @ np.array(
        [[1.0, 0.0, 2.0, 0.0], [0.0, 3.0, 1.0, 0.0]]
    )
    assert PrincipalComponents([x], 10).transform(x).shape == (50, 2)


# The report of a run.


def test_report_has_every_value_and_is_what_the_file_says(
    report: Classification, run_dir: Path, digits: Dataset
) -> None:
    written = json.loads((run_dir / "classification.json").read_text())
    assert written == report.to_json()
    assert Classification.from_json(written) == report
    rows = [(row.features, row.kernel, row.num_labels) for row in report.results]
    assert rows == [
        (name, kernel, size) for name in FEATURES for kernel in KERNELS for size in (30, 60)
    ]
    for row in report.results:
        assert row.mean == pytest.approx(np.mean(row.values))
        assert row.standard_error == pytest.approx(np.std(row.values, ddof=1) / np.sqrt(3))
        # Of ten classes a tenth is chance, here with five standard errors.
        assert min(row.values) > 0.1 + 5.0 * np.sqrt(0.1 * 0.9 / digits.test.num_examples)
        # Accuracies are counts of the test set.
        counts = np.array(row.values) * digits.test.num_examples
        np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)
        assert len(row.chosen) == len(row.values) == 3
        for choice in row.chosen:
            assert (choice.gamma is None) == (row.kernel == "linear")
    assert (report.format, report.epoch, report.warnings) == (1, 3, ())
    assert report.settings == SMALL
    assert report.run.data_fingerprint == digits.fingerprint
    assert "scikit-learn" in report.versions


def test_table_has_percents(report: Classification) -> None:
    lines = format_classification(report).splitlines()
    assert lines[0].split() == ["labels", "30", "60"]
    row = report.results[0]
    assert lines[1].startswith("encoder means, rbf")
    assert f"{100 * row.mean:.2f} +/- {100 * row.standard_error:.2f}" in lines[1]
    assert len(lines) == 1 + len(FEATURES) * len(KERNELS) + 2
    assert "on 360 test examples in percent, mean of 3 labelled subsets" in lines[-1]


def test_a_notebook_shows_a_table_and_takes_rows(report: Classification) -> None:
    rows = report.rows()
    assert len(rows) == len(report.results)
    first = report.results[0]
    assert rows[0] == {
        "features": first.features,
        "kernel": first.kernel,
        "num_labels": first.num_labels,
        "mean": first.mean,
        "standard_error": first.standard_error,
    }
    html = report._repr_html_()
    assert "<th>30 labels</th><th>60 labels</th>" in html
    assert str(first.estimate) in html


@pytest.mark.slow
def test_subsets_and_so_the_baselines_are_the_same_for_another_model(
    report: Classification, digits: Dataset, tmp_path: Path
) -> None:
    """Differences between runs are paired; here neither sees what the other has kept."""
    fit(config(lam=0.0, epochs=1, seed=7), digits, tmp_path / "run")
    other = classify(tmp_path / "run", SMALL)
    for name in ("pixels", "pca"):
        assert values(other, name) == values(report, name)
    assert values(other, "encoder") != values(report, "encoder")


@pytest.mark.slow
def test_result_is_the_same_on_any_number_of_threads(
    report: Classification, run_dir: Path, tmp_path: Path
) -> None:
    for threads in (1, 3):
        again = classify(run_dir, SMALL, baselines_dir=tmp_path / str(threads), threads=threads)
        assert again.results == report.results


def test_a_part_of_the_settings_gives_a_part_of_the_results(
    report: Classification, run_dir: Path
) -> None:
    """Neither the other kernels nor the other sizes change a result."""
    part = classify(run_dir, dataclasses.replace(SMALL, labels=(60,), kernel="linear"))
    wanted = [row for row in report.results if (row.kernel, row.num_labels) == ("linear", 60)]
    assert part.results == tuple(wanted)


def test_baselines_are_measured_once_for_all_runs_that_share_a_folder(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(SMALL, labels=(30,), kernel="rbf")
    first = classify(run_dir, settings, baselines_dir=tmp_path)
    calls = []
    original = draws.measure_accuracy

    def count(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(draws, "measure_accuracy", count)
    assert classify(run_dir, settings, baselines_dir=tmp_path).results == first.results
    assert len(calls) == settings.repeats  # the encoder's
    # A damaged file is as good as none, and others are not touched.
    damaged = next(tmp_path.glob("*.json"))
    damaged.write_bytes(damaged.read_bytes()[:20])
    assert classify(run_dir, settings, baselines_dir=tmp_path).results == first.results
    assert len(calls) == 3 * settings.repeats
    # Other settings are other results.
    assert classify(run_dir, dataclasses.replace(settings, seed=1), baselines_dir=tmp_path)
    assert len(calls) == 6 * settings.repeats


@pytest.mark.slow
def test_binarized_input_gives_other_features_of_all_kinds(
    report: Classification, run_dir: Path
) -> None:
    binarized = classify(run_dir, dataclasses.replace(SMALL, input="binarized"))
    for name in FEATURES:
        assert values(binarized, name) != values(report, name)


def test_an_epoch_has_a_report_of_its_own(
    run_dir: Path, report: Classification, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
    first = classify(copy, SMALL, epoch=1)
    assert json.loads((copy / "classification-epoch001.json").read_text()) == first.to_json()
    assert (first.epoch, first.run.step) == (1, report.run.step // 3)
    assert values(first, "encoder") != values(report, "encoder")
    assert values(first, "pixels") == values(report, "pixels")
    last = classify(copy, SMALL, epoch=3)
    assert last.results == report.results


def test_fallback_to_an_older_checkpoint_is_in_the_report(run_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
    max((copy / "checkpoints").iterdir()).write_bytes(b"")
    report = classify(copy, dataclasses.replace(SMALL, labels=(30,), repeats=1))
    assert report.epoch == 2
    damage, warm_up = report.warnings
    assert "damaged" in damage
    assert warm_up.startswith("lam grows to 0.39 of 0.5 only")  # at that checkpoint
    assert np.isnan(report.results[0].standard_error)
    assert format_classification(report).endswith("in percent, mean of one labelled subset.")


def test_interrupt_during_the_work_waits_for_no_machine_and_writes_nothing(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, end, ended = Path(shutil.copytree(run_dir, tmp_path / "run")), threading.Event(), []
    (copy / "classification.json").unlink(missing_ok=True)

    def interrupt(*arguments: Any) -> None:
        # The other thread waits by now: what comes just before would be noticed after its wait.
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)
        end.wait()
        ended.append(True)

    monkeypatch.setattr(draws, "measure_accuracy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        classify(copy, SMALL, threads=1)
    assert not ended
    end.set()
    assert not (copy / "classification.json").exists()


# What is refused.


def test_a_folder_that_cannot_be_written_is_named(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SMVIError, match=r"cannot write to .*file \(.*\); make room"):
        classify(run_dir, SMALL, baselines_dir=tmp_path / "file")


def small_run(path: Path, labels: bool, low: float = 0.0) -> Path:
    """Trains on 3x3 images of two classes, with values from `low` to 1."""
    rng = np.random.default_rng(0)
    arrays = {
        f"x_{name}": rng.uniform(low, 1.0, (80, 9)).astype(np.float32) for name in ("train", "test")
    }
    if labels:
        arrays |= {f"y_{name}": np.arange(80) % 2 for name in ("train", "test")}
    np.savez(path / "data.npz", **arrays)  # type: ignore[arg-type]
    train = config(epochs=1, batch_size=20).train
    settings = RunConfig(
        DataConfig(str(path / "data.npz")), ModelConfig(latent_dim=2, hidden_sizes=(4,)), train
    )
    fit(settings, load_dataset(settings.data.dataset), path / "run")
    return path / "run"


def test_data_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SMVIError, match="has no labels for both"):
        classify(small_run(tmp_path, labels=False), SMALL)


def test_real_values_cannot_be_binarized(tmp_path: Path) -> None:
    run = small_run(tmp_path, labels=True, low=-1.0)
    with pytest.raises(SMVIError) as caught:
        classify(run, dataclasses.replace(SMALL, input="binarized"))
    assert (caught.value.field, caught.value.value) == ("input", "binarized")
    assert classify(run, dataclasses.replace(SMALL, labels=(20,))).results


def test_fewer_labels_than_the_cross_validation_needs_are_refused(run_dir: Path) -> None:
    with pytest.raises(SMVIError) as caught:
        classify(run_dir, dataclasses.replace(SMALL, labels=(40,), num_folds=5))
    assert (caught.value.field, caught.value.value) == ("labels", 40)
    assert "50" in str(caught.value.remedy)
    assert classify(
        run_dir, dataclasses.replace(SMALL, labels=(40,), num_folds=4, repeats=1)
    ).results


def test_missing_runs_and_epochs_are_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(SMVIError, match="not a run directory"):
        classify(tmp_path)
    with refused("epoch", 9):
        classify(run_dir, epoch=9)


@pytest.mark.parametrize(
    "settings",
    [
        {"labels": ()},
        {"labels": (600, 600)},
        {"labels": (0,)},
        {"repeats": 0},
        {"num_folds": 1},
        {"kernel": "poly"},
    ],
)
def test_settings_out_of_their_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SMVIError) as caught:
        ClassifyConfig(**settings)
    assert {caught.value.field: caught.value.value} == settings
    assert ClassifyConfig.from_json(SMALL.to_json()) == SMALL
