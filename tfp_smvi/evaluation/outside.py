"""A model that is evaluated without a training run, and the check that it is the same one."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_smvi.config import DataConfig
from tfp_smvi.config.model import require_function_name
from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.core.records import JSONObject
from tfp_smvi.core.reporters import EvaluationReporter
from tfp_smvi.core.runtime import require_float32
from tfp_smvi.data import Dataset, load_dataset
from tfp_smvi.data.description import describe_values
from tfp_smvi.evaluation.function_check import require_function
from tfp_smvi.evaluation.results import EvaluatedModel
from tfp_smvi.evaluation.subjects import Subject, read_block
from tfp_smvi.models.imports import RESULTS, import_function
from tfp_smvi.models.outside import AdaptedModel
from tfp_smvi.models.outside_check import TRIAL_SIZE, check_model
from tfp_smvi.runs.models import code_of
from tfp_smvi.runs.records import CodeRecord
from tfp_smvi.storage.pieces import JSONStore

__all__ = ["OutsideModel", "subject_of_model"]

FUNCTION = "() -> an object with prior, and decode(z) or log_likelihood(x, z)"
# How a value of a model may round from one machine to another; other weights change it by more.
ROUNDING = 1e-4


@dataclass(frozen=True, eq=False)
class OutsideModel:
    """A model that is evaluated without a training run.

    Attributes:
        model: the object, or "package.module:function" of a function that takes nothing and returns
            it. It has `prior`, a TFP distribution of event shape [latent_dim], and p(x|z), as
            `decode(z)`, a TFP distribution, or as `log_likelihood(x, z)` and `simulate(z, seed)`.
            With `encode(x)`, q(z|x), there are ELBO, gap and divergences, too.
        dataset: the data, how to load them, or their name.
        output: the folder of the results, which need not exist.
        binarize: whether to draw bits from intensities, as the likelihood "bernoulli" has them.
    """

    model: Any
    dataset: Dataset | DataConfig | str
    output: Path | str
    binarize: bool = False


def subject_of_model(
    given: OutsideModel, data_dir: Path | None, reporter: EvaluationReporter
) -> Subject:
    """Makes a user's model, checks it on its data, and compares it with that of earlier results.

    Raises:
        SMVIError: the model or its data cannot be used, the folder has the results of another
            model under the same name, or it is a run directory.
    """
    require_float32()
    folder = Path(given.output).absolute()
    for name, kind in (("config.json", "a run directory"), ("sweep.json", "the folder of a sweep")):
        if (folder / name).exists():
            raise SMVIError(
                f"is {kind}, and the results of another model would replace its own",
                field="output",
                value=str(given.output),
                remedy="give another folder",
            )
    model, code = _make(given.model, folder, reporter)
    dataset = _load(given, data_dir, reporter)
    reporter.note(describe_values(dataset, given.binarize))
    x, count = read_block(dataset.test, 0, given.binarize)
    check_model(model, tf.gather(x, [index % count for index in range(TRIAL_SIZE)]))
    require_function(model, x, {})
    _check_bits(model, dataset, x)
    if not model.has_encoder:
        reporter.note(
            "The model has no encode: chains start at the prior, whatever initial is, and there is "
            "no ELBO."
        )
    key: JSONObject = {
        "model": code.name,
        "data": dataset.fingerprint,
        "binarize": given.binarize,
    }
    with explain_write_errors(f"to {folder}", RUN_AGAIN):
        keep = _require_same(model, code, x, folder / "evaluation", key, reporter)
    outside = EvaluatedModel(
        code=code,
        has_encoder=model.has_encoder,
        data=dataset.config,
        data_fingerprint=dataset.fingerprint,
        binarize=given.binarize,
    )
    return Subject(folder, model, dataset, given.binarize, key, outside=outside, keep=keep)


def _load(given: OutsideModel, data_dir: Path | None, reporter: EvaluationReporter) -> Dataset:
    """The data, of which bits can be drawn if they are to be."""
    dataset = given.dataset
    if not isinstance(dataset, Dataset):
        dataset = load_dataset(dataset, data_dir, progress=reporter.note)
    if given.binarize and dataset.kind != "intensities":
        raise SMVIError(
            f"needs intensities in [0, 1], and {dataset.name} has other values",
            field="binarize",
            value=True,
            remedy="leave it out",
        )
    return dataset


def _make(
    given: Any, folder: Path, reporter: EvaluationReporter
) -> tuple[AdaptedModel, CodeRecord]:
    """The model, made by the user's function if its name is given, and its code."""
    if isinstance(given, str):
        require_function_name(given)
        function = import_function(given, folder, reporter.note, FUNCTION, RESULTS)
        code = CodeRecord(function.name, function.file, function.sha256)
        return AdaptedModel(function(), code.name, code.file), code
    code = code_of(given)
    return AdaptedModel(given, code.name, code.file), code


def _check_bits(model: AdaptedModel, dataset: Dataset, x: tf.Tensor) -> None:
    """Refuses intensities for a density of bits, which has a value there that means nothing."""
    if dataset.kind != "intensities" or bool(tf.reduce_all((x == 0.0) | (x == 1.0))):
        return
    z = model.prior.sample(len(x), seed=(0, 0))
    drawn = model.simulate(z, (0, 1))
    if bool(tf.reduce_all((drawn == 0.0) | (drawn == 1.0))):
        raise SMVIError(
            f"is needed: p(x|z) is a density of bits, and {dataset.name} has intensities between",
            field="binarize",
            remedy="give it, to draw bits from the intensities",
        )


def _require_same(
    model: AdaptedModel,
    code: CodeRecord,
    x: tf.Tensor,
    folder: Path,
    key: JSONObject,
    reporter: EvaluationReporter,
) -> Callable[[], None]:
    """Compares a model with the one whose results are in a folder, by its values at some points.

    Returns:
        A function that writes these values, if there are none yet.

    Raises:
        SMVIError: they differ.
    """
    z = model.prior.sample(len(x), seed=(0, 0))
    values = {"log p(x, z)": model.log_joint(x, z)}
    if model.has_encoder:
        values["log q(z|x)"] = model.encode(x).log_prob(z)
    # JSON has no infinity.
    now = {name: np.nan_to_num(value.numpy()).tolist() for name, value in values.items()}
    store = JSONStore(folder / "models")
    earlier = store.load(key)
    if earlier is None:
        return functools.partial(_save, store, folder / "models", key, code, now)
    before = earlier["values"]
    same = before.keys() == now.keys() and all(
        np.allclose(before[name], now[name], ROUNDING, ROUNDING) for name in now
    )
    if not same:
        raise model.wrong(
            f"is not the model whose results are in {folder}: it has other densities at the same x "
            "and z",
            "give another {output}, or delete that folder",
        )
    if earlier["code"]["sha256"] != code.sha256:
        reporter.note(f"{code.file} has changed since the first results, and the densities not.")
    return lambda: None


def _save(
    store: JSONStore, folder: Path, key: JSONObject, code: CodeRecord, values: JSONObject
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    store.save(key, {"code": code.to_json(), "values": values})
