"""Other classifiers on the features of the runs of a sweep, by the same labelled subsets.

    python probes.py SWEEP_DIR --output probes.json [--refine 100] [--lams 0,0.01]

A support vector machine with a finer grid of C, the k nearest neighbours and logistic regression
see the encoder's means, or with --refine those of the best q(z|x) of each example. Each chooses its
settings by the same cross-validation as `tfp-smvi classify`. Accuracies are fractions of the test
set. What is in the file is not measured again.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tfp_smvi.classification import svm
from tfp_smvi.classification.draws import Draws, FeatureArrays
from tfp_smvi.classification.measuring import Measurement
from tfp_smvi.config import ClassifyConfig
from tfp_smvi.core.reporters import Silent
from tfp_smvi.data import Dataset, Split
from tfp_smvi.features.refined import RefinedEncoder
from tfp_smvi.runs.loading import load_data_of, load_run
from tfp_smvi.storage.atomic import write_json
from tfp_smvi.sweeps.results import read_sweep

FINER_COSTS = (0.3, 1.0, 3.0, 10.0, 30.0)
NEIGHBOURS = [1, 3, 5, 9, 15]
INVERSE_PENALTIES = [0.01, 0.1, 1.0, 10.0]
BATCH = 1000


@click.command()
@click.argument("sweep_dir", type=click.Path(exists=True, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--refine", type=int, default=0, help="Most steps of the search for the best q.")
@click.option("--lams", help="Those of these lams alone, with commas between.")
@click.option("--labels", default="600,1000,3000")
def main(sweep_dir: Path, output: Path, refine: int, lams: str | None, labels: str) -> None:
    """Measures what the file lacks, run by run."""
    svm.COSTS = svm.COSTS | {"rbf": FINER_COSTS}
    wanted = None if lams is None else {float(lam) for lam in lams.split(",")}
    sizes = tuple(int(size) for size in labels.split(","))
    results = json.loads(output.read_text()) if output.exists() else {}
    sweep = read_sweep(sweep_dir)
    for entry in sweep.finished:
        name = f"{entry.run_dir}, refined {refine}" if refine else entry.run_dir
        if name in results or (wanted is not None and entry.lam not in wanted):
            continue
        results[name] = _measure(sweep.run_path(entry), refine, sizes)
        write_json(output, results)
        for classifier, by_size in results[name].items():
            means = [f"{100.0 * np.mean(values):.2f}" for values in by_size.values()]
            click.echo(f"{name}  {classifier:20}  {'  '.join(means)}")


def _measure(run_dir: Path, refine: int, sizes: tuple[int, ...]) -> dict[str, dict[str, list]]:
    """The accuracies of all draws, by classifier and number of labels."""
    run = load_run(run_dir)
    dataset = load_data_of(run, None)
    measurement = Measurement(run, dataset, ClassifyConfig(labels=sizes), Silent())
    features = (
        _refined(run_dir, dataset, measurement, refine)
        if refine
        else measurement.compute("encoder")
    )
    results: dict[str, dict[str, list]] = {}
    with threadpool_limits(1, user_api="blas"):
        for size in sizes:
            for name, accuracies in _accuracies(measurement.draws, features, size):
                results.setdefault(name, {})[str(size)] = accuracies
    return results


def _refined(
    run_dir: Path, dataset: Dataset, measurement: Measurement, steps: int
) -> FeatureArrays:
    """The means of the best q(z|x): of the labelled examples, and of the test set."""
    encoder = RefinedEncoder(run_dir, steps, BATCH)
    labelled = measurement._labelled
    test = np.arange(dataset.test.num_examples)

    def means(split: Split, places: np.ndarray) -> np.ndarray:
        parts = np.array_split(places, -(-len(places) // BATCH))
        encoded = [encoder.encode("serving_default", split.images(part)) for part in parts]
        return np.concatenate([features.mean for features in encoded])

    return FeatureArrays(means(dataset.train, labelled), means(dataset.test, test))


def _accuracies(
    draws: Draws, features: FeatureArrays, size: int
) -> Iterator[tuple[str, list[float]]]:
    folds = StratifiedKFold(5)
    searches = {
        "knn": ("kneighborsclassifier__n_neighbors", NEIGHBOURS, KNeighborsClassifier()),
        "logistic": ("logisticregression__C", INVERSE_PENALTIES, LogisticRegression(max_iter=2000)),
    }
    for name, (setting, values, classifier) in searches.items():
        accuracies = []
        for places in draws.subsets[size]:
            pipeline = make_pipeline(StandardScaler(), classifier)
            # Latent dimensions that are not used vary little, and scaled they would count as much.
            scaling = {"standardscaler": ["passthrough", StandardScaler()]}
            search = GridSearchCV(pipeline, scaling | {setting: values}, cv=folds)
            search.fit(features.train[places], draws.train_labels[places])
            accuracies.append(float(search.score(features.test, draws.test_labels)))
        yield name, accuracies
    accuracies = []
    for places in draws.subsets[size]:
        x, labels = features.train[places], draws.train_labels[places]
        outcome = svm.measure_accuracy(x, labels, features.test, draws.test_labels, "rbf", 5)
        accuracies.append(outcome.accuracy)
    yield "svm, finer C", accuracies


if __name__ == "__main__":
    main()
