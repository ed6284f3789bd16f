"""The configuration: to and from JSON, and the refusal of what makes no sense."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.support.errors import refused
from tfp_smvi.config import (
    CONSTRAINTS,
    DataConfig,
    ModelConfig,
    RunConfig,
    SweepConfig,
    TrainConfig,
)
from tfp_smvi.core.errors import SMVIError

# Every field with a value that is not its default.
OTHER = RunConfig(
    DataConfig(
        dataset="some/images.npz",
        test_fraction=0.25,
        split_seed=7,
        label_column="class",
        kind="real",
        standardize=True,
    ),
    ModelConfig(
        likelihood="categorical",
        posterior="flow",
        latent_dim=3,
        hidden_sizes=(7, 5, 6),
        activation="gelu",
        architecture="conv",
        flow_layers=2,
        flow_transform="affine",
        num_categories=4,
        missing=True,
    ),
    TrainConfig(
        lam=-0.25,
        divergence="weighted",
        epochs=2,
        batch_size=9,
        learning_rate=0.5,
        learning_rate_schedule="cosine",
        planned_epochs=9,
        weight_decay=0.25,
        lam_warmup_steps=0,
        lam_warmup_power=3.0,
        clip_norm=math.inf,
        averaging_steps=0,
        precision="bfloat16",
        xla="on",
        seed=-(2**63),
        init_from="/some/run",
        freeze="decoder",
        early_stopping="train.kl",
        patience=3,
        min_delta=0.5,
    ),
)


def through_json(config: RunConfig) -> RunConfig:
    return RunConfig.from_json(json.loads(json.dumps(config.to_json(), allow_nan=False)))


def changed(section: str, name: str, value: Any) -> dict[str, Any]:
    """The JSON of the defaults with another value of one field."""
    values = RunConfig().to_json()
    values[section][name] = value
    return values


def test_every_field_survives_json() -> None:
    for section in dataclasses.fields(RunConfig):
        for field in dataclasses.fields(getattr(OTHER, section.name)):
            value = getattr(getattr(OTHER, section.name), field.name)
            # Which OTHER cannot have: it has a test_fraction, an architecture and a lam.
            if field.name not in ("test_dataset", "model", *CONSTRAINTS):
                assert value != field.default, f"OTHER must change {field.name}"
    assert through_json(OTHER) == OTHER
    assert through_json(RunConfig()) == RunConfig()


def test_a_function_stands_in_for_an_architecture() -> None:
    config = RunConfig(model=ModelConfig(model="my_package.model:build"))
    assert through_json(config) == config
    assert config.model.architecture is None
    # A default that was filled in before is no wish.
    assert dataclasses.replace(ModelConfig(), model="my_package.model:build") == config.model
    with pytest.raises(SMVIError, match="architecture = 'conv' is not allowed; give either it or"):
        ModelConfig(model="my_model:build", architecture="conv")


@pytest.mark.parametrize("name", ["", "my_model", "my/model.py:build", "my model:build", "a:b:c"])
def test_a_function_is_named_by_its_module(name: str) -> None:
    with pytest.raises(SMVIError, match=r"give package\.module:function, such as my_model:build"):
        ModelConfig(model=name)


@pytest.mark.parametrize("lam", [0.0, -0.0, 0.1, -3.0, 1e-300, math.inf])
def test_lam_survives_json_to_its_last_bit(lam: float) -> None:
    config = through_json(RunConfig(train=TrainConfig(lam=lam)))
    assert config.train.lam.hex() == lam.hex()


def test_the_weighted_divergence_needs_a_finite_lam() -> None:
    with refused("lam", math.inf):
        TrainConfig(lam=math.inf, divergence="weighted")
    with refused("lam", math.inf):
        SweepConfig(RunConfig(train=TrainConfig(divergence="weighted")), lams=(0.5, math.inf))


def test_missing_fields_take_their_defaults() -> None:
    assert RunConfig.from_json({}) == RunConfig()
    assert RunConfig.from_json({"train": {"lam": 2}}) == RunConfig(train=TrainConfig(lam=2.0))


def test_equal_values_of_other_types_make_equal_configurations() -> None:
    plain = RunConfig(model=ModelConfig(hidden_sizes=(3, 4)), train=TrainConfig(lam=1.0, epochs=2))
    given = RunConfig(
        model=ModelConfig(hidden_sizes=[np.int64(3), 4]),  # type: ignore[arg-type]
        train=TrainConfig(lam=np.float32(1), epochs=np.int32(2)),  # type: ignore[arg-type]
    )
    assert given == plain
    assert given.differences(plain) == []
    assert json.dumps(given.to_json()) == json.dumps(plain.to_json())


@pytest.mark.parametrize(
    ("section", "name", "value", "allowed"),
    [
        ("data", "dataset", " ", "name of a data set"),
        ("data", "dataset", 3, "a text"),
        ("model", "likelihood", "beta", "bernoulli, gaussian"),
        ("model", "num_categories", 1, "whole number from 2"),
        ("model", "latent_dim", 0, "whole number from 1"),
        ("model", "latent_dim", 2.0, "a whole number"),
        ("model", "latent_dim", True, "a whole number"),
        ("model", "hidden_sizes", [], "one or more whole numbers"),
        ("model", "hidden_sizes", [8, 0], "one or more whole numbers"),
        ("model", "hidden_sizes", [8, "x"], "a whole number"),
        ("model", "hidden_sizes", 8, "a list of numbers"),
        ("model", "activation", "sigmoid", "softplus, tanh"),
        ("model", "activation", 3, "softplus, tanh"),
        ("train", "lam", "nan", "a real number or inf"),
        ("train", "lam", "-inf", "a real number or inf"),
        ("train", "lam", "much", "a number"),
        ("train", "lam", None, "a number"),
        ("train", "lam", False, "a number"),
        ("train", "lam", 10**400, "a number"),
        ("train", "target_gap", 0.0, "a number above 0"),
        ("train", "max_divergence", "inf", "a number above 0"),
        ("train", "min_elbo", "nan", "a number"),
        ("train", "epochs", 0, "whole number from 1"),
        ("train", "epochs", 10**30, "whole number from 1"),
        ("train", "batch_size", -1, "whole number from 1"),
        ("train", "learning_rate", 0, "greater than 0"),
        ("train", "learning_rate", "inf", "greater than 0"),
        ("train", "learning_rate", "nan", "greater than 0"),
        ("train", "lam_warmup_steps", -1, "whole number from 0"),
        ("train", "lam_warmup_power", 0.0, "number greater than 0"),
        ("train", "clip_norm", 0.0, "greater than 0, or inf"),
        ("train", "clip_norm", "nan", "greater than 0, or inf"),
        ("train", "averaging_steps", -1, "from 0"),
        ("train", "learning_rate_schedule", "linear", "constant, cosine, step"),
        ("train", "planned_epochs", 0, "whole number from 1"),
        ("train", "weight_decay", -0.1, "number of at least 0"),
        ("train", "weight_decay", math.inf, "number of at least 0"),
        ("train", "precision", "float16", "float32, tf32, bfloat16"),
        ("train", "xla", True, "auto, on, off"),
        ("train", "seed", 2**63, "63 bits"),
    ],
)
def test_invalid_value_is_refused_in_one_line_that_names_field_value_and_what_is_allowed(
    section: str, name: str, value: Any, allowed: str
) -> None:
    with pytest.raises(SMVIError) as caught:
        RunConfig.from_json(changed(section, name, value))
    assert caught.value.field == name
    assert str(caught.value).startswith(f"{name} = " if not isinstance(value, list) else name)
    assert allowed in str(caught.value.remedy)
    assert "\n" not in str(caught.value)
    # A caller who builds the dataclass gets the same refusal.
    kind = type(getattr(RunConfig(), section))
    with pytest.raises(SMVIError) as again:
        kind(**{name: value})
    assert again.value.field == name


@pytest.mark.parametrize(
    "values", [{"target_gap": 1.0, "lam": 0.5}, {"target_gap": 1.0, "min_elbo": -90.0}]
)
def test_one_setting_alone_decides_on_lam(values: dict[str, float]) -> None:
    with pytest.raises(SMVIError) as caught:
        TrainConfig(**values)
    assert caught.value.field == "target_gap"
    assert "leave it or" in str(caught.value.remedy)
    gap = RunConfig(train=TrainConfig(target_gap=1.0))
    assert through_json(gap) == gap
    assert gap.train.constraint == "target_gap"
    assert TrainConfig(lam=1.0).constraint is None


def test_refusal_shows_what_was_given() -> None:
    with pytest.raises(SMVIError) as caught:
        TrainConfig(epochs=-7)
    assert (caught.value.field, caught.value.value) == ("epochs", -7)


@pytest.mark.parametrize("values", [{"trian": {}}, changed("train", "lambda", 1.0)])
def test_unknown_field_is_refused_with_the_known_ones(values: dict[str, Any]) -> None:
    with pytest.raises(SMVIError, match="unknown configuration field") as caught:
        RunConfig.from_json(values)
    assert {"train", "lam"} & set(re.split(r"\W+", str(caught.value.remedy)))


def test_an_error_names_the_section_of_a_field_without_one() -> None:
    with pytest.raises(
        SMVIError, match=r"unknown configuration field 'lam'.* 'lam' goes in 'train'\.$"
    ):
        RunConfig.from_json({"lam": 0.5})


@pytest.mark.parametrize("values", [[], "train", None, 3])
def test_what_is_no_object_is_refused(values: Any) -> None:
    with pytest.raises(SMVIError, match="give an object"):
        RunConfig.from_json(values)
    with pytest.raises(SMVIError) as caught:
        RunConfig.from_json({"model": values})
    assert caught.value.field == "model"


def test_differences_names_each_field_that_differs_and_no_other() -> None:
    fields = [
        f"{s.name}.{f.name}"
        for s in dataclasses.fields(RunConfig)
        for f in dataclasses.fields(s.type)
        if f.name != "model" or s.name != "model"  # OTHER has an architecture
        if f.name not in CONSTRAINTS  # and a lam
    ]
    lines = RunConfig().differences(OTHER)
    fields.remove("data.test_dataset")
    assert [line.partition(":")[0] for line in lines] == fields
    assert "train.lam: 0.0 here, -0.25 given" in lines
    assert "train.clip_norm: 1000.0 here, inf given" in lines
    assert OTHER.differences(through_json(OTHER)) == []


def test_configuration_needs_no_tensorflow() -> None:
    code = (
        "import sys, tfp_smvi.config; sys.exit(not {'tensorflow', 'numpy'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_later_fields_are_written_only_if_they_are_not_their_defaults() -> None:
    """Files and keys of results that version 0.1 made are found again."""
    assert RunConfig().to_json()["data"] == {"dataset": "mnist"}
    assert "posterior" not in RunConfig().to_json()["model"]
    assert "divergence" not in RunConfig().to_json()["train"]
    weighted = RunConfig(train=TrainConfig(divergence="weighted"))
    assert through_json(weighted) == weighted != RunConfig()
    two_files = DataConfig("x.csv", test_dataset="y.csv")
    assert DataConfig.from_json(two_files.to_json()) == two_files
    assert two_files.to_json().keys() == {"dataset", "test_dataset"}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"test_fraction": 0.0}, "test_fraction"),
        ({"test_fraction": 1.0}, "test_fraction"),
        ({"test_fraction": 0.5, "test_dataset": "y.npy"}, "test_fraction"),
        ({"test_dataset": "mnist"}, "test_dataset"),
        ({"split_seed": -1}, "split_seed"),
        ({"split_seed": 2**32}, "split_seed"),
        ({"dataset": "mnist", "test_fraction": 0.5}, "test_fraction"),
        ({"dataset": "mnist", "test_dataset": "y.npy"}, "test_dataset"),
        ({"dataset": "mnist", "label_column": "y"}, "label_column"),
        ({"dataset": "mnist", "kind": "real"}, "kind"),
        ({"dataset": "mnist", "standardize": True}, "standardize"),
        ({"kind": "images"}, "kind"),
    ],
)
def test_settings_of_files_that_make_no_sense_are_refused(
    values: dict[str, Any], field: str
) -> None:
    with refused(field, values[field]):
        DataConfig(**{"dataset": "x.npy", **values})
