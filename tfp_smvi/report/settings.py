"""The settings of a sweep in words: a name that people know, what it means, and its value."""

import math
from collections.abc import Collection
from dataclasses import fields
from typing import NamedTuple

from tfp_smvi.config import SweepConfig
from tfp_smvi.config.base import Settings
from tfp_smvi.core.runtime import Environment

__all__ = ["Group", "Setting", "describe_environment", "describe_settings"]

# Where the words of a field's name are not those that people know.
WORDS = {
    "ais": "AIS",
    "dataset": "data set",
    "dim": "dimensions",
    "elbo": "ELBO",
    "lam": "λ",
    "num": "number of",
    "warmup": "warm-up",
    "xla": "XLA",
}
# Where they are not even among those words.
NAMES = {
    "averaging_steps": "steps of the average",
    "classify_every": "epochs between classifications",
    "clip_norm": "largest gradient norm",
    "freeze": "frozen network",
    "init_from": "run of the first weights",
    "initial": "start of the chains",
    "input": "input of the encoder",
    "labels": "numbers of labels",
    "kind": "kind of values",
    "local": "best q of each example",
    "local_families": "families of the best q",
    "local_objective": "objective of the best q",
    "local_steps": "most steps to the best q",
    "model": "function of the networks",
    "num_calibration": "number of calibration examples",
    "num_simulated": "number of simulated examples",
    "repeats": "labelled subsets",
    "schedule": "schedule of temperatures",
}
# What a setting does that has no value.
NOT_SET = {
    "architecture": "that of the function",
    "classify_every": "only the last",
    "freeze": "none",
    "init_from": "none",
    "kind": "from the data",
    "lam_warmup_steps": "two thirds of the planned steps, at most 5,000",
    "likelihood": "from the data",
    "model": "none",
    "num_categories": "from the data",
    "num_examples": "all",
    "planned_epochs": "all",
}
MACHINE = {
    "platform": "operating system",
    "processor": "processor",
    "gpus": "GPUs",
    "threads": "CPU threads",
}


class Setting(NamedTuple):
    """A setting in words.

    Attributes:
        name: such as "batch size".
        value: as text.
        meaning: what it is, in a sentence; it may be empty.
    """

    name: str
    value: str
    meaning: str = ""


class Group(NamedTuple):
    """Settings that go together.

    Attributes:
        title: such as "Training".
        settings: in the order of the configuration.
    """

    title: str
    settings: list[Setting]


def describe_settings(config: SweepConfig) -> list[Group]:
    """The settings that all runs of a sweep share, by what they are for."""
    run, classify = config.train, config.classify
    groups = [
        Group("Data", _describe(run.data)),
        Group("Model", _describe(run.model)),
        # The grid gives the lam and the seed of each run.
        Group("Training", _describe(run.train, leave_out=("lam", "seed"))),
        Group("Evaluation", _describe(config.evaluate)),
        Group("Annealed importance sampling (AIS)", _describe(config.evaluate.ais)),
    ]
    if classify:
        every = _describe(config, leave_out=("lams", "seeds"))
        groups.append(Group("Classification", _describe(classify) + every))
    return groups


def describe_environment(environment: Environment | None) -> list[Setting]:
    """The versions and the machine; empty if they are not known."""
    if environment is None:
        return []
    versions, machine = environment.versions, environment.machine
    return [
        *(Setting("Python" if name == "python" else name, v) for name, v in versions.items()),
        *(Setting(label, _show(getattr(machine, name))) for name, label in MACHINE.items()),
    ]


def _describe(settings: Settings, leave_out: Collection[str] = ()) -> list[Setting]:
    """The fields that have a help text; the others are settings of their own."""
    described = []
    for f in fields(settings):  # type: ignore[arg-type]
        if "help" in f.metadata and f.name not in leave_out:
            value = getattr(settings, f.name)
            text = NOT_SET.get(f.name, "none") if value is None else _show(value)
            meaning = f.metadata["help"].partition("  [default")[0]
            described.append(Setting(_name(f.name), text, meaning))
    return described


def _name(field: str) -> str:
    return NAMES.get(field) or " ".join(WORDS.get(word, word) for word in field.split("_"))


def _show(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(_show, value)) or "none"
    if isinstance(value, float):
        return "∞" if math.isinf(value) else f"{value:g}"
    return str(value)
