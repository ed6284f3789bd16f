"""The documents agree with the code: folders, paths, modules, options and the names in examples."""

import ast
import importlib
import importlib.util
import re
import runpy
from pathlib import Path

import pytest

from tests.support.runs import call

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "results").rglob("*.md"),
        ROOT / "saved_models" / "README.md",
    ]
)
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
# Options of docker, tensorboard, saved_model_cli, benchmarks/ais.py and pip; of Dask and Slurm.
OTHER_PROGRAMS = {
    *("--hostfile", "--interface", "--name", "--no-dashboard", "--nthreads", "--protocol"),
    *("--idle-timeout", "--port", "--resources", "--scheduler-file"),
    *("--cpus-per-task", "--gpus-per-task", "--ntasks", "--requeue", "--time"),
    *("--detach", "--dir", "--logdir"),
    *("--build-arg", "--init", "--rm", "--user"),
    *("--bind", "--directory", "--require-hashes", "--write-notebook"),
    *("--bandwidth", "--contestants", "--parts", "--rounds", "--seconds", "--size"),
    *("--stock-budget", "--temperatures"),
}

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def examples(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", read(name), re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The fragments that lead to the headings of a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len(read("README.md").splitlines()) <= 150


@pytest.mark.parametrize("name", NAMES)
def test_lines_have_at_most_100_columns(name: str) -> None:
    assert [line for line in read(name).splitlines() if len(line) > 100] == []


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", read(name)):
        if target.startswith("https://"):
            continue
        file, _, fragment = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        if not path.exists() or (fragment and fragment not in anchors(path)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "CHANGELOG.md"])
def test_modules_exist(name: str) -> None:
    """Catches the path of a module that has moved; the changelog names old ones."""
    missing = []
    for dotted in sorted(set(re.findall(r"\btfp_smvi(?:\.\w+)+", read(name)))):
        module, _, attribute = dotted.rpartition(".")
        if not hasattr(importlib.import_module(module), attribute):
            try:
                importlib.import_module(dotted)
            except ModuleNotFoundError:
                missing.append(dotted)
    assert missing == []


@pytest.mark.parametrize("name", [name for name in NAMES if examples(name)])
def test_examples_import_what_exists(name: str) -> None:
    """Catches an example that has fallen behind; what it computes is not run here."""
    for example in examples(name):
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tfp_smvi"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_options_exist(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an option that was renamed or is misspelled."""
    monkeypatch.setenv("COLUMNS", "200")
    assert call("--help") == 0
    commands = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out, re.MULTILINE)
    assert {"train", "features"} <= {*commands}
    assert [call(command, "--help") for command in commands] == [0] * len(commands)
    known = {*OTHER_PROGRAMS, *OPTION.findall(capsys.readouterr().out), "--version"}
    missing = {
        (name, option)
        for name in NAMES
        for option in OPTION.findall(read(name))
        if option not in known
    }
    assert missing == set()


def test_contributing_describes_the_folders_as_they_do_themselves() -> None:
    rows = dict(re.findall(r"^\| `(\w+)/` \| (.*) \|$", read("CONTRIBUTING.md"), re.MULTILINE))
    sentences = {}
    for path in [*(ROOT / "tfp_smvi").glob("*/__init__.py"), ROOT / "cli" / "__init__.py"]:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        sentences[path.parent.name] = str(docstring).partition("\n")[0]
    assert rows == sentences


def test_contributing_names_files_and_registries_that_exist() -> None:
    missing = []
    for path in re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", read("CONTRIBUTING.md")):
        if not (ROOT / "tfp_smvi" / path).exists() and not (ROOT / path).exists():
            missing.append(path)
    folders = (ROOT / name for name in ("tfp_smvi", "cli", "tests"))
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    sources = "".join(path.read_text(encoding="utf-8") for path in paths)
    for registry in re.findall(r"`([A-Z]{3,})`", read("CONTRIBUTING.md")):
        if not re.search(rf"^{registry}\b.* = ", sources, re.MULTILINE):
            missing.append(registry)
    assert missing == []


def test_the_site_has_every_document() -> None:
    """Catches a page that nobody finds there; docs/pages.py generates two more."""
    pages = re.findall(r"^ +- [^:]+: (\S+\.md)$", read("mkdocs.yml"), re.MULTILINE)
    assert sorted(pages) == sorted([*NAMES, "examples/tutorial.md", "reference.md"])


def test_the_readme_names_every_page_of_docs() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert pages - {*re.findall(r"\]\(([^)#\s]+)\)", read("README.md"))} == set()


def test_links_of_the_tutorial_lead_somewhere() -> None:
    text = read("examples/tutorial.ipynb")
    broken = []
    for file, fragment in re.findall(r"\]\(([^)#\s]+)#?([^)\s]*)\)", text):
        path = ROOT / "examples" / file
        if not path.is_file() or (fragment and fragment not in anchors(path)):
            broken.append(f"{file}#{fragment}")
    assert broken == []


def test_the_reference_of_the_site_has_every_public_name() -> None:
    """Catches a folder of public names without a section in docs/pages.py."""
    text = read("docs/pages.py")
    sections = text[text.index("SECTIONS = {") : text.index("\n}\n")]
    folders = {*re.findall(r'"([a-z]+)"', sections), "config"}
    stub = ast.parse(read("tfp_smvi/__init__.pyi"))
    modules = {node.module for node in stub.body if isinstance(node, ast.ImportFrom)}
    assert {str(module).partition(".")[0] for module in modules} - {"version"} <= folders


def test_the_table_of_other_seeds_is_what_its_script_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = ROOT / "results" / "mnist"
    runpy.run_path(str(folder / "seeds.py"), run_name="__main__")
    rows = capsys.readouterr().out
    assert len(rows.splitlines()) == 24
    assert rows in (folder / "README.md").read_text()
