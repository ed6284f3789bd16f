"""The results of a classification: typed, and the same in classification.json."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tfp_smvi.config import ClassifyConfig, RunConfig
from tfp_smvi.config.classify import DEFAULT_LABELS
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.html import html_table
from tfp_smvi.core.records import JSONObject, Record
from tfp_smvi.core.runtime import Machine

__all__ = [
    "ENCODER",
    "FEATURES",
    "FORMAT",
    "GIVEN",
    "NAMES",
    "PCA",
    "PIXELS",
    "Accuracy",
    "Choice",
    "Classification",
    "ClassifiedFeatures",
    "ClassifiedRun",
    "Kernel",
    "report_name",
]

Kernel = Literal["rbf", "linear"]

# Of the report, and of the baselines that are kept for other runs.
FORMAT = 1
ENCODER, PIXELS, PCA, GIVEN = "encoder", "pixels", "pca", "given"
# What a classifier sees of a run, in the order of the report, and its name in the table.
FEATURES = {ENCODER: "encoder means", PIXELS: "pixels", PCA: "PCA"}
NAMES = {**FEATURES, GIVEN: "given features"}


@dataclass(frozen=True)
class Choice(Record):
    """What the cross-validation chose.

    Attributes:
        C: the cost of a violated margin.
        gamma: exp(-gamma |x - y|^2) for features of total variance 1, which is a multiple of
            scikit-learn's gamma="scale"; None for the linear kernel.
        standardize: whether each dimension was scaled to the same variance.
    """

    C: float
    gamma: float | None
    standardize: bool


@dataclass(frozen=True)
class Accuracy(Record):
    """How well a classifier did on the test set with one kind of features.

    Attributes:
        features: what it saw: "encoder", "pixels", "pca" or "given".
        kernel: the kernel of the support vector machine.
        num_labels: the number of labelled examples in each subset.
        mean: the mean of `values`.
        standard_error: its standard error over subsets; NaN for a single subset.
        values: the accuracy, a fraction, with each subset; subset i is the same in all runs.
        chosen: what the cross-validation chose in each subset.
    """

    features: str
    kernel: Kernel
    num_labels: int
    mean: float
    standard_error: float
    values: tuple[float, ...]
    chosen: tuple[Choice, ...]

    @property
    def estimate(self) -> Estimate:
        """The mean with its standard error."""
        error = self.standard_error
        return Estimate(self.mean, error, degrees_of_freedom=len(self.values) - 1)


@dataclass(frozen=True)
class ClassifiedRun(Record):
    """What was classified.

    Attributes:
        config: the configuration of the run.
        step: the training steps behind its weights.
        data_fingerprint: the fingerprint of its data.
    """

    config: RunConfig
    step: int
    data_fingerprint: str


@dataclass(frozen=True)
class ClassifiedFeatures(Record):
    """Features that were classified without a run.

    Attributes:
        files: the files of training and test data; empty for arrays.
        num_train: the number of training examples, with or without a label in some subset.
        num_dimensions: the size of a feature vector.
        fingerprint: SHA-256 of features and labels, in hex.
    """

    files: tuple[str, ...]
    num_train: int
    num_dimensions: int
    fingerprint: str


@dataclass(frozen=True)
class Classification(Record):
    """What `classify` or `classify_features` found, as in classification.json.

    Attributes:
        format: the version of the file's layout.
        run: the run that was classified; None for given features.
        epoch: the finished epochs behind the weights; 0 for given features.
        settings: how it was classified.
        num_test: the number of test examples.
        results: the accuracy for each kind of features, kernel and number of labels.
        warnings: what went wrong without stopping the work.
        seconds: how long it took.
        versions: the versions of the packages that matter.
        machine: the machine.
        given: the features that were classified without a run; None, and not written, for a run.
    """

    format: int
    run: ClassifiedRun | None
    epoch: int
    settings: ClassifyConfig
    num_test: int
    results: tuple[Accuracy, ...]
    warnings: tuple[str, ...]
    seconds: float
    versions: Mapping[str, str]
    machine: Machine
    given: ClassifiedFeatures | None = None

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values, without those of given features if it is a run."""
        values = super().to_json()
        if self.given is None:
            del values["given"]
        return values

    def rows(self) -> list[dict[str, str | float]]:
        """A row for each classifier, for `pandas.DataFrame(classification.rows())`.

        Returns:
            features, kernel, num_labels, and the accuracy, a fraction: mean and standard_error.
        """
        names = ("features", "kernel", "num_labels", "mean", "standard_error")
        return [{name: getattr(result, name) for name in names} for result in self.results]

    def _repr_html_(self) -> str:
        """Accuracies, a column per number of labels, and the warnings, for notebooks."""
        rows: dict[str, list[str]] = {}
        for result in self.results:
            name = f"{NAMES[result.features]}, {result.kernel}"
            rows.setdefault(name, []).append(str(result.estimate))
        header = ["accuracy +/- one standard error", *(f"{size} labels" for size in self.sizes)]
        return html_table(header, [[name, *cells] for name, cells in rows.items()], self.warnings)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of labels, in their order."""
        return tuple(dict.fromkeys(result.num_labels for result in self.results))

    def answers(self, settings: ClassifyConfig) -> bool:
        """Whether it is what these settings ask for, also if it was made with others.

        The default numbers of labels are those that the data allow: they were measured.
        """
        if dataclasses.replace(self.settings, labels=settings.labels) != settings:
            return False
        if settings.labels is None:
            return self.settings.labels in (None, DEFAULT_LABELS)
        return {*settings.labels} == {*self.sizes}

    def find(self, features: str, kernel: str, num_labels: int) -> Accuracy | None:
        """The accuracy of one classifier; None if it was not measured."""
        wanted = (features, kernel, num_labels)
        matches = (a for a in self.results if (a.features, a.kernel, a.num_labels) == wanted)
        return next(matches, None)


def report_name(epoch: int | None) -> str:
    """Returns the name of the report's file, such as "classification-epoch025.json"."""
    return "classification.json" if epoch is None else f"classification-epoch{epoch:03d}.json"
