"""How well classifiers with few labels do on a run's encoder means, and on baselines.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
    [2] D. P. Kingma, D. J. Rezende, S. Mohamed, M. Welling. Semi-supervised Learning with Deep
        Generative Models. NeurIPS 2014.
"""

import importlib.metadata
import time
from pathlib import Path

from tfp_smvi.classification.measuring import Measurement
from tfp_smvi.classification.results import (
    FORMAT,
    Accuracy,
    Classification,
    ClassifiedRun,
    report_name,
)
from tfp_smvi.classification.workers import open_workers
from tfp_smvi.config import ClassifyConfig
from tfp_smvi.core.errors import RUN_AGAIN, explain_write_errors, name_fields
from tfp_smvi.core.reporters import EvaluationReporter, Silent
from tfp_smvi.core.runtime import environment
from tfp_smvi.data import Dataset
from tfp_smvi.engines.base import Engine
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.runs.loading import LoadedRun, load_data_of, load_run
from tfp_smvi.storage.atomic import write_json

__all__ = ["classify"]


def classify(
    run_dir: Path | str,
    config: ClassifyConfig = ClassifyConfig(),  # noqa: B008  # it is frozen
    *,
    data_dir: Path | None = None,
    dataset: Dataset | None = None,
    model: TrainableModel | None = None,
    epoch: int | None = None,
    baselines_dir: Path | None = None,
    threads: int | None = None,
    engine: Engine | None = None,
    reporter: EvaluationReporter | None = None,
) -> Classification:
    """Measures how well support vector machines classify the test set, from few labels.

    Their features are the encoder's means mu(x); the baselines are the same machines on the pixels
    and on as many principal components as the model has latent dimensions. Writes
    `report_name(epoch)` into the run directory. The subsets of labelled examples, and with them the
    baselines, depend on the data and the settings alone.

    Args:
        run_dir: the run directory.
        config: the numbers of labels, and the classifiers.
        data_dir: the folder of prepared data sets; None for the default.
        dataset: the data themselves, for a run on data without a name; they must be the data of
            the run.
        model: a model as `fit` was given, which gets the weights; for a run of such a model.
        epoch: the epoch whose checkpoint to take; None for the newest.
        baselines_dir: the folder of the baselines' results; runs of the same data and latent_dim
            may share it, also at the same time. None for "baselines" in the run directory.
        threads: the number of classifiers to train at once, in this process or in a task of an
            engine; None for one per core, and in a task for one.
        engine: runs the work; None for threads of this process. Features are computed here, and
            other processes only train classifiers: they need the run directory, and neither the
            data nor TensorFlow. What they have done is kept beside the report, in a folder
            `*.partial`, until the classification has ended, and after a kill the work goes on.
        reporter: receives progress updates.

    Returns:
        The report, as in the file: accuracies as fractions.

    Raises:
        SMVIError: there is no trained run or no checkpoint of that epoch, its data cannot be found
            or have too few labels for the settings, a task failed, or a file cannot be written.

    Source: [1, section 5], [2, M1].
    """
    started = time.monotonic()
    run_dir, reporter = Path(run_dir), reporter or Silent()
    run = load_run(run_dir, epoch, model=model, note=reporter.note, warn=reporter.warn)
    dataset = load_data_of(run, data_dir, dataset=dataset, progress=reporter.note)
    measurement = Measurement(run, dataset, config, reporter)
    baselines_dir = baselines_dir or run_dir / "baselines"
    output = run_dir / report_name(epoch)
    folder = output.with_suffix(".partial")
    with open_workers(
        measurement.draws,
        config,
        engine=engine,
        folder=folder,
        threads=threads,
        messages=reporter,
    ) as workers:
        with explain_write_errors(f"to {baselines_dir}", RUN_AGAIN):
            results = measurement.measure(baselines_dir, workers)
        report = _make_report(run, dataset, config, results, time.monotonic() - started)
        with explain_write_errors(f"to {run_dir}", RUN_AGAIN):
            write_json(output, report.to_json())
    return report


def _make_report(
    run: LoadedRun,
    dataset: Dataset,
    config: ClassifyConfig,
    results: list[Accuracy],
    seconds: float,
) -> Classification:
    here = environment()
    scikit_learn = importlib.metadata.version("scikit-learn")
    return Classification(
        format=FORMAT,
        run=ClassifiedRun(run.config, run.step, run.data_fingerprint),
        epoch=len(run.history),
        settings=config,
        num_test=dataset.test.num_examples,
        results=tuple(results),
        warnings=tuple(map(name_fields, run.warnings)),
        seconds=round(seconds, 3),
        versions={**here.versions, "scikit-learn": scikit_learn},
        machine=here.machine,
    )
