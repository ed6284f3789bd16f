"""The architecture: which folder may import which, who pays for what, and how long a part may be.

The checks read the sources and import nothing. Each is shown to fail on a small source that breaks
it.
"""

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# A folder of tfp_smvi imports only from folders of the lines above its own.
FLOORS = (
    ("core", "version"),
    ("config", "engines", "inference", "objectives", "storage"),
    ("data", "models"),
    ("runs",),
    ("training", "evaluation", "classification", "export"),
    ("sweeps", "serving"),
    ("report", "features"),
    ("tracking",),
)
# These take distributions and log-densities, so that an exact oracle or another decoder needs no
# network.
WITHOUT_MODEL = ("inference", "objectives")
# Importing these, and all that they import while they load, loads nothing heavy: the command line
# answers at once.
LIGHT = (
    "",
    "cli",
    "config",
    "data",
    "engines.opening",
    "engines.processes",
    "engines.worker",
    "storage",
    "sweeps",
    "serving",
    "features",
    "export.check",
)
HEAVY = {
    "dask",
    "distributed",
    "grpc",
    "keras",
    "mlflow",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "sklearn",
    "tensorboard",
    "tensorflow",
    "tensorflow_datasets",
    "tensorflow_probability",
    "tensorflow_serving",
    "tf2onnx",
    "tf_keras",
    "wandb",
}
# package: the folders or modules that may import it.
OWNERS = {
    "tensorflow_datasets": {"data"},
    "grpc": {"serving.client"},
    "pyarrow": {"data.tables", "features.formats"},
    "urllib3": {"serving.transport"},
    "sklearn": {"data.digits", "classification"},
    "onnx": {"export.standalone_convert"},
    "onnxruntime": {"export.standalone_check"},
    "tf2onnx": {"export.standalone_convert"},
    "matplotlib": {"report"},
    "jinja2": {"report.page"},
    "tensorflow_serving": {"export", "serving.client"},
    "dask": {"engines.dask_connection", "engines.dask_worker"},
    "distributed": {
        f"engines.dask{part}" for part in ("", "_cluster", "_connection", "_job", "_worker")
    },
    "mlflow": {"tracking.mlflow"},
    "wandb": {"tracking.wandb"},
    "torch": set(),
    "rich": {"cli"},
    "click": {"cli"},
    "cli": set(),
    "tfp_smvi_cli": set(),
}


class Import(NamedTuple):
    """One import of a module: its dotted name, and whether it happens while the module loads."""

    name: str
    at_load: bool


def read_sources() -> dict[str, str]:
    """The sources by module: "" is tfp_smvi itself, "data.mnist" in it, "cli.train" beside it."""
    sources = {}
    for folder, prefix in ((ROOT / "tfp_smvi", ()), (ROOT / "cli", ("cli",))):
        for path in folder.rglob("*.py"):
            parts = (*prefix, *path.relative_to(folder).with_suffix("").parts)
            sources[".".join(part for part in parts if part != "__init__")] = path.read_text(
                encoding="utf-8"
            )
    return sources


def folder(module: str) -> str:
    """The folder of a module: "data" for "data.mnist"."""
    return module.split(".", maxsplit=1)[0]


def parents(module: str) -> set[str]:
    """A module and the packages that it is in: "data.mnist" and "data"."""
    parts = module.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts) + 1)}


@functools.cache
def find_imports(source: str) -> tuple[Import, ...]:
    """The imports of a source, without those for type checkers; ".module" is relative."""

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
            inside = at_load and not isinstance(
                node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
            )
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

    return tuple(visit(ast.parse(source), True))


def imported_modules(source: str, sources: Mapping[str, str]) -> Iterator[Import]:
    """Yields the imports of modules of tfp_smvi; "" where a name is taken from tfp_smvi itself."""
    for name, at_load in find_imports(source):
        package, _, rest = name.partition(".")
        if package == "tfp_smvi":
            while rest and rest not in sources:  # "config.ModelConfig" is a name in "config"
                rest = rest.rpartition(".")[0]
            yield Import(rest, at_load)


def reached(starts: set[str], sources: Mapping[str, str], *, at_load: bool) -> set[str]:
    """The modules that some modules import, and those that these import, and so on."""
    seen: set[str] = set()
    waiting = set(starts)
    while waiting:
        module = waiting.pop()
        seen.add(module)
        for imported, early in imported_modules(sources[module], sources):
            if early or not at_load:
                waiting |= (parents(imported) & sources.keys()) - seen
    return seen


def wrong_arrows(sources: Mapping[str, str]) -> list[str]:
    """Imports that run up or along a floor, and modules that have none."""
    position = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    found = []
    for module, source in sources.items():
        here = folder(module)
        if here in ("", "cli"):  # they may import all
            continue
        if here not in position:
            found.append(f"{module} is on no floor: say in FLOORS where its folder is")
            continue
        for imported, _ in imported_modules(source, sources):
            there = folder(imported)
            if there != here and position.get(there, len(FLOORS)) >= position[here]:
                found.append(f"{module} imports {imported or 'tfp_smvi'}, which is not below it")
    return found


def ways_to_the_model(sources: Mapping[str, str]) -> list[str]:
    """Modules that must not know the model and import it, or import something that does."""
    starts = [module for module in sources if folder(module) in WITHOUT_MODEL]
    return [
        f"{start} reaches the model"
        for start in starts
        if any(folder(module) == "models" for module in reached({start}, sources, at_load=False))
    ]


def import_cycles(sources: Mapping[str, str]) -> list[str]:
    """Modules that import themselves by way of others."""
    remaining = {
        module: {name for name, _ in imported_modules(source, sources) if name} - {module}
        for module, source in sources.items()
    }
    while leaves := [
        module for module, imported in remaining.items() if not imported & remaining.keys()
    ]:
        for module in leaves:
            del remaining[module]
    return [f"{module} is in a cycle of imports, or waits for one" for module in sorted(remaining)]


def strangers(sources: Mapping[str, str]) -> list[str]:
    """Imports of a package by a module that does not own it."""
    found = []
    for module, source in sources.items():
        for name, _ in find_imports(source):
            package = name.split(".", maxsplit=1)[0]
            if package in OWNERS and not {module, folder(module)} & OWNERS[package]:
                found.append(f"{module or 'tfp_smvi'} imports {package}")
    return found


def heavy_at_load(sources: Mapping[str, str]) -> list[str]:
    """Heavy packages that are imported while a light module loads."""
    starts = {module for module in sources if {module, folder(module)} & {*LIGHT}}
    return [
        f"{module} imports {name}"
        for module in sorted(reached(starts, sources, at_load=True))
        for name, at_load in find_imports(sources[module])
        if at_load and name.split(".", maxsplit=1)[0] in HEAVY
    ]


def too_long(sources: Mapping[str, str]) -> list[str]:
    """Modules of more than 300 lines, and functions of more than 40 without what describes them."""
    found = [
        f"{module} has {len(source.splitlines())} lines"
        for module, source in sources.items()
        if len(source.splitlines()) > 300
    ]
    for module, source in sources.items():
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                first = node.body[ast.get_docstring(node) is not None :][:1]
                body = lines[first[0].lineno - 1 : node.end_lineno] if first else []
                code = [line for line in body if line.strip() and not line.lstrip().startswith("#")]
                if len(code) > 40:
                    found.append(f"{module} has {len(code)} lines in {node.name}")
    return found


CHECKS = (wrong_arrows, ways_to_the_model, import_cycles, strangers, heavy_at_load, too_long)


@pytest.mark.parametrize("check", CHECKS)
def test_the_house_is_in_order(check):
    assert check(read_sources()) == []


@pytest.mark.parametrize(
    ("check", "module", "source"),
    [
        (wrong_arrows, "config.run", "from tfp_smvi.models.vae import VAE"),
        (wrong_arrows, "data.mnist", "def f():\n    from tfp_smvi.training import loop"),
        (wrong_arrows, "models.vae", "import tfp_smvi.data.digits"),
        (wrong_arrows, "evaluation.blocks", "from tfp_smvi.training.loop import fit"),
        (wrong_arrows, "storage.atomic", "from tfp_smvi import fit"),
        (wrong_arrows, "nowhere", ""),
        (ways_to_the_model, "objectives.smvi", "from tfp_smvi.models.vae import VAE"),
        (
            ways_to_the_model,
            "inference.ais",
            "def f():\n    from tfp_smvi.runs.log import MetricsLog",
        ),
        (import_cycles, "data.dataset", "from tfp_smvi.data.registry import DATASETS"),
        (strangers, "runs.log", "def f():\n    import tensorflow_datasets as tfds"),
        (strangers, "data.npz", "from sklearn.datasets import load_digits"),
        (strangers, "evaluation.convergence", "import matplotlib"),
        (strangers, "training.loop", "from rich.progress import Progress"),
        (strangers, "training.loop", "import tfp_smvi_cli.progress"),
        (strangers, "cli.train", "from tfp_smvi_cli.options import config_options"),
        (heavy_at_load, "config.run", "import tensorflow as tf"),
        (heavy_at_load, "core.errors", "import tensorflow as tf"),
        (heavy_at_load, "data.digits", "class A:\n    from sklearn import datasets"),
        (too_long, "data.digits", "a = 1\n" * 301),
        (too_long, "data.digits", "def f():\n" + "    a = 1\n" * 41),
        (heavy_at_load, "", "try:\n    import keras\nfinally:\n    pass"),
    ],
)
def test_what_is_out_of_order_is_found(check, module, source):
    found = check({**read_sources(), module: source})
    assert found
    assert any(line.startswith(module or " imports") for line in found)


def test_a_heavy_import_is_found_through_another_module():
    found = heavy_at_load({**read_sources(), "cli.train": "from tfp_smvi.training.loop import fit"})
    assert "training.running imports tensorflow" in found


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    import tensorflow as tf",
        "if TYPE_CHECKING:\n    import tensorflow as tf",
        "import numpy",
    ],
)
def test_what_costs_nothing_at_load_is_allowed(source):
    assert heavy_at_load({**read_sources(), "config.run": source}) == []


def test_every_folder_exists():
    """Catches the old name of a renamed folder, a rule that checks nothing."""
    sources = read_sources()
    folders = {folder(module) for module in sources}
    assert {*(name for floor in FLOORS for name in floor), *WITHOUT_MODEL} <= folders
    assert folders <= {name for floor in FLOORS for name in floor} | {"", "cli"}
    assert {*LIGHT} <= {*sources, *folders}
