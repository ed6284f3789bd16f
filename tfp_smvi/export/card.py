"""The model card of an export, for people and programs: model_card.json."""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tfp_smvi.config import RunConfig
from tfp_smvi.core.errors import name_fields
from tfp_smvi.core.records import Record
from tfp_smvi.core.runtime import environment
from tfp_smvi.data import DATASETS
from tfp_smvi.export.formats import FORMAT
from tfp_smvi.export.runtimes import FormatSpec
from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.runs.warnings import lam_reached
from tfp_smvi.storage.json_files import read_json

__all__ = ["CardData", "DescribedRun", "ModelCard", "SignatureSpec", "TensorSpec", "describe_run"]


@dataclass(frozen=True)
class TensorSpec(Record):
    """An input or an output of a signature.

    Attributes:
        dtype: the name of its dtype, such as "float32".
        shape: its shape, with None for the batch size.
    """

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class SignatureSpec(Record):
    """The inputs and outputs of a signature, by name."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True)
class CardData(Record):
    """The training data of a model.

    Attributes:
        name: the name of the data set, or of the file without its folder.
        fingerprint: a hash of the contents.
        licence: the licence of the data.
    """

    name: str
    fingerprint: str
    licence: str


@dataclass(frozen=True)
class ModelCard(Record):
    """What model_card.json holds beside the version.

    Attributes:
        model_name: the name of the model.
        part: "encoder" or "decoder".
        signatures: the signatures, by name.
        left_out: why a signature of other models is missing here, by its name.
        created: the time of the export, ISO 8601.
        lam: the weight of the divergence that was asked for; None if it followed a constraint.
        epochs: the finished epochs.
        step: the training steps.
        metrics: the last epoch.
        evaluation: the splits, bracket and warnings of evaluation.json, as they are there; None if
            the run was not evaluated in this state.
        config: the configuration of the run as JSON values, without the folder of the data.
        data: the training data.
        licence: a note on the licence of the weights.
        precision: the dtype that the weights are stored in, "float32" or "float16".
        versions: the versions of the packages that matter.
        format: the format of the export, as in `tfp_smvi.export.formats`; 1 where the card has
            none.
        values: the values that x may have, in words; empty in cards of version 0.1.
        warnings: what is wrong with the training, such as a lam that has not grown to its value.
        names: the names of the entries of vectors, such as the columns of a table, in the order
            that the model takes them in; None if the data had none.
        lam_reached: the weight of the divergence at the end of the training; None for weights that
            were not trained, and in older cards.
        formats: what there is beside the SavedModel, by format, such as "onnx".
        products: the precision of the matrix products, "float32" or "bfloat16".
    """

    model_name: str
    part: str
    signatures: Mapping[str, SignatureSpec]
    left_out: Mapping[str, str]
    created: str
    lam: float | None
    epochs: int
    step: int
    metrics: EpochRecord | None
    evaluation: Mapping[str, object] | None
    config: Mapping[str, object]
    data: CardData
    licence: str
    precision: str
    versions: Mapping[str, str]
    format: int = 1
    values: str = ""
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    lam_reached: float | None = None
    formats: Mapping[str, FormatSpec] = field(default_factory=dict)
    products: str = "float32"


class DescribedRun(Protocol):
    """What of a `tfp_smvi.LoadedRun` a card tells."""

    @property
    def config(self) -> RunConfig:
        """The configuration, complete."""

    @property
    def step(self) -> int:
        """The training steps taken."""

    @property
    def history(self) -> tuple[EpochRecord, ...]:
        """The finished epochs."""

    @property
    def data_fingerprint(self) -> str:
        """The fingerprint of the data that it was trained on."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the entries of vectors, or None."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the training."""


def describe_run(run: DescribedRun, run_dir: Path, note: Callable[[str], None]) -> ModelCard:
    """Returns the card of a run, without the model's name, part and signatures.

    Args:
        run: the run.
        run_dir: its directory, which may hold evaluation.json.
        note: receives a line if that file belongs to another state of the run.
    """
    name, config = run.config.data.dataset, run.config.to_json()
    train, last = run.config.train, run.history[-1] if run.history else None
    if run.config.data.is_file:  # its folder is private
        name = config["data"]["dataset"] = Path(name).name
    unknown = "unknown: see where the data are from"
    licence = DATASETS[name].licence if name in DATASETS else unknown
    return ModelCard(
        model_name="",
        part="",
        signatures={},
        left_out={},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        lam=train.lam if train.constraint is None else None,
        epochs=len(run.history),
        step=run.step,
        metrics=last,
        evaluation=_read_evaluation(run, run_dir / "evaluation.json", note),
        config=config,
        data=CardData(name, run.data_fingerprint, licence),
        licence="The weights are made from the data above; respect the data's licence.",
        precision="float32",
        versions=environment().versions,
        format=FORMAT,
        warnings=tuple(map(name_fields, run.warnings)),
        names=run.names,
        lam_reached=lam_reached(train, last) if last else None,
    )


def _read_evaluation(
    run: DescribedRun, path: Path, note: Callable[[str], None]
) -> Mapping[str, object] | None:
    """Reads the splits, bracket and warnings if they belong to this state of the run."""
    state = {
        "config": run.config.to_json(),
        "step": run.step,
        "data_fingerprint": run.data_fingerprint,
    }
    try:
        report = read_json(path)
        evaluated = {name: report["run"].get(name) for name in state}
        results = {name: report[name] for name in ("splits", "bracket", "warnings")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        note(f"{path} cannot be read ({error}); the model card is written without it.")
        return None
    if evaluated != state:
        note(
            f"{path} is of another state of the run; the model card is written without it: "
            "evaluate again."
        )
        return None
    return results
