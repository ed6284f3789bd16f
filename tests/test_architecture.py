"""The arrows of the architecture: which module may import which, and who pays for what.

Left to right:

    errors, version <- config, seeds <- data <- model, objective, ais <- training, loading <- evaluation <- cli

The checks read the sources and import nothing. Each is shown to fail on a small source that breaks it.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# Each module of tfp_smvi (data is one) imports only from lines above its own.
LAYERS = (
    {"errors", "signals", "version"},
    {"settings"},
    {"config", "seeds", "keras_backend", "publishing", "saved_model_check"}
    | {"evaluation_report", "pictures"},
    {
        "arguments",
        "checkpoint",
        "data",
        "encoders",
        "export_check",
        "reporters",
        "runtime",
        "sweep_jobs",
        "sweep_table",
    }
    | {"sweep_results"},
    {"annealing", "image_inputs", "importance_weights", "run_directory", "model", "objective", "server_plan"}
    | {"figure_data", "served_encoder"},
    {"ais", "ais_tuning", "feature_files", "metrics", "serving", "sweep_summary", "training_step"}
    | {"figure_style", "paired_differences"},
    {"baseline_store", "curve_figures", "features", "loading", "picture_figures", "server", "signatures"}
    | {"report_tables", "training"},
    {"block_estimates", "block_store", "encoding", "model_card", "plots"},
    {"evaluation_session", "export", "figures", "gallery", "svm"},
    {"classification", "evaluation", "report"},
    {"convergence", "sweep", "sweep_stage"},
)
AIS = {"ais", "ais_tuning", "annealing", "arguments", "importance_weights"}
# These take distributions and log densities, so that an exact oracle or another decoder needs no network.
WITHOUT_MODEL = {"objective", *AIS}

# package: the modules that may import it.
OWNERS = {
    "tensorflow_datasets": {"data.tfds_sets", "data.source"},
    "grpc": {"serving"},
    "pyarrow": {"feature_files"},
    "urllib3": {"serving"},
    "sklearn": {"data.digits", "svm"},
    "matplotlib": {"curve_figures", "figure_style", "figures", "picture_figures", "plots", "report"},
    "jinja2": {"report"},
    "tensorflow_serving": {"export", "saved_model_check", "serving"},
    "torch": set(),
    "rich": {"cli"},
    "click": {"cli"},
    "cli": set(),
    "tfp_smvi_cli": set(),
}
# These import nothing heavy while they load, so that the command line answers at once.
LIGHT = {
    *(
        "errors",
        "version",
        "settings",
        "config",
        "checkpoint",
        "reporters",
        "run_directory",
        "runtime",
        "data",
        "cli",
        "",
    ),
    *("evaluation_report", "sweep", "sweep_jobs", "sweep_stage", "sweep_summary", "sweep_table"),
    *("export_check", "publishing", "saved_model_check", "signals"),
    *("encoders", "feature_files", "features", "image_inputs", "served_encoder", "server"),
    *("server_plan", "serving"),
}
HEAVY = {
    "grpc",
    "keras",
    "pyarrow",
    "sklearn",
    "tensorboard",
    "tensorflow",
    "tensorflow_datasets",
    "tensorflow_probability",
    "tensorflow_serving",
    "tf_keras",
}


class Import(NamedTuple):
    """One import of a module: the dotted name, and whether it happens while the importing module loads."""

    name: str
    at_load: bool


def read_sources() -> dict[str, str]:
    """The sources by module: "" is tfp_smvi itself, "data.mnist" in it, "cli.train" beside it."""
    sources = {}
    for folder, prefix in ((ROOT / "tfp_smvi", ()), (ROOT / "cli", ("cli",))):
        for path in folder.rglob("*.py"):
            parts = (*prefix, *path.relative_to(folder).with_suffix("").parts)
            sources[".".join(part for part in parts if part != "__init__")] = path.read_text(encoding="utf-8")
    return sources


def room(module: str) -> str:
    """The name in LAYERS of a module: "data" for "data.mnist"."""
    return module.split(".", maxsplit=1)[0]


def find_imports(source: str) -> Iterator[Import]:
    """Yields the imports of a source, those for type checkers aside; a relative one as ".module"."""

    def visit(node: ast.AST, at_load: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            separator = "" if base.endswith(".") else "."
            yield from (Import(f"{base}{separator}{alias.name}", at_load) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for child in node.orelse:
                yield from visit(child, at_load)
        else:
            inside = at_load and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

    yield from visit(ast.parse(source), True)


def imported_modules(source: str, sources: Mapping[str, str]) -> Iterator[Import]:
    """Yields the imports of modules of tfp_smvi; "" where a name is taken from tfp_smvi itself."""
    for name, at_load in find_imports(source):
        package, _, rest = name.partition(".")
        if package == "tfp_smvi":
            while rest and rest not in sources:  # "config.ModelConfig" is a name in "config"
                rest = rest.rpartition(".")[0]
            yield Import(rest, at_load)


def wrong_arrows(sources: Mapping[str, str]) -> list[str]:
    """Imports from the right or from the same layer, and modules that stand nowhere."""
    position = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    found = []
    for module, source in sources.items():
        here = room(module)
        if here in ("", "cli"):  # they may import all
            continue
        if here not in position:
            found.append(f"{module} is in no layer: say in LAYERS where it stands")
            continue
        for imported, _ in imported_modules(source, sources):
            there = room(imported)
            if there != here and position.get(there, len(LAYERS)) >= position[here]:
                found.append(f"{module} imports {imported or 'tfp_smvi'}, which is not to its left")
    return found


def ways_to_the_model(sources: Mapping[str, str]) -> list[str]:
    """Modules that must not know the model and import it, or import something that does."""
    found = []
    for start in sorted(WITHOUT_MODEL & sources.keys()):
        seen, waiting = set(), [start]
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += [name for name, _ in imported_modules(sources[module], sources) if name]
        if "model" in seen:
            found.append(f"{start} reaches the model")
    return found


def import_cycles(sources: Mapping[str, str]) -> list[str]:
    """Modules that import themselves by way of others."""
    remaining = {
        module: {name for name, _ in imported_modules(source, sources) if name} - {module}
        for module, source in sources.items()
    }
    while leaves := [module for module, imported in remaining.items() if not imported & remaining.keys()]:
        for module in leaves:
            del remaining[module]
    return [f"{module} is in a cycle of imports, or waits for one" for module in sorted(remaining)]


def strangers(sources: Mapping[str, str]) -> list[str]:
    """Imports of a package by a module that does not own it."""
    found = []
    for module, source in sources.items():
        for name, _ in find_imports(source):
            package = name.split(".", maxsplit=1)[0]
            if package in OWNERS and not {module, room(module)} & OWNERS[package]:
                found.append(f"{module or 'tfp_smvi'} imports {package}")
    return found


def heavy_at_load(sources: Mapping[str, str]) -> list[str]:
    """Heavy packages, and modules that are not light, that a light module imports while it loads."""
    found = []
    for module, source in sources.items():
        if room(module) not in LIGHT:
            continue
        names = [name for name, at_load in find_imports(source) if at_load]
        found += [f"{module} imports {name}" for name in names if name.split(".", maxsplit=1)[0] in HEAVY]
        modules = [name for name, at_load in imported_modules(source, sources) if at_load]
        found += [f"{module} imports {name}" for name in modules if room(name) not in LIGHT]
    return found


CHECKS = (wrong_arrows, ways_to_the_model, import_cycles, strangers, heavy_at_load)


@pytest.mark.parametrize("check", CHECKS)
def test_arrows_point_one_way(check):
    assert check(read_sources()) == []


@pytest.mark.parametrize(
    ("check", "module", "source"),
    [
        (wrong_arrows, "config", "from tfp_smvi.model import VAE"),
        (wrong_arrows, "data.mnist", "def f():\n    from tfp_smvi import training"),
        (wrong_arrows, "model", "import tfp_smvi.objective"),
        (wrong_arrows, "checkpoint", "from tfp_smvi import fit"),
        (wrong_arrows, "nowhere", ""),
        (ways_to_the_model, "objective", "from tfp_smvi.model import VAE"),
        (ways_to_the_model, "ais", "def f():\n    from tfp_smvi.metrics import MetricsLog"),
        (import_cycles, "data.dataset", "from tfp_smvi.data.registry import DATASETS"),
        (strangers, "metrics", "def f():\n    import tensorflow_datasets as tfds"),
        (strangers, "data.npz", "from sklearn.datasets import load_digits"),
        (strangers, "training", "from rich.progress import Progress"),
        (strangers, "training", "import tfp_smvi_cli.progress"),
        (strangers, "cli.train", "from tfp_smvi_cli.options import config_options"),
        (heavy_at_load, "config", "import tensorflow as tf"),
        (heavy_at_load, "data.digits", "class A:\n    from sklearn import datasets"),
        (heavy_at_load, "cli.train", "from tfp_smvi.training import fit"),
        (heavy_at_load, "", "try:\n    from tfp_smvi.model import VAE\nfinally:\n    pass"),
    ],
)
def test_a_wrong_import_is_found(check, module, source):
    found = check({**read_sources(), module: source})
    assert found
    assert any(line.startswith(module or " imports") for line in found)


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    import tensorflow as tf",
        "if TYPE_CHECKING:\n    import tensorflow as tf",
        "import numpy",
    ],
)
def test_what_costs_nothing_at_load_is_allowed(source):
    assert heavy_at_load({**read_sources(), "config": source}) == []


def test_every_layer_exists():
    """A module that is renamed must not leave its old name, and with it a rule that checks nothing."""
    rooms = {room(module) for module in read_sources()}
    assert set().union(*LAYERS, WITHOUT_MODEL, LIGHT) <= rooms
