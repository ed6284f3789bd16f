"""What ships: the source distribution, the wheel that is built from it, and the data in both."""

import email
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tfp_smvi.version import __version__

ROOT = Path(__file__).parents[1]

# SHA-256 as TensorFlow Datasets registers them in url_checksums/mnist.txt.
MNIST = {
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
}


def run(*command: object, cwd: Path) -> None:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The unpacked source distribution of a copy of the tree, in which the build leaves files."""
    place = tmp_path_factory.mktemp("sdist")
    outputs = shutil.ignore_patterns(
        ".git", ".venv*", ".*_cache", "__pycache__", "*.egg-info", "build", "dist", "runs"
    )

    def ignored(folder, names):  # "runs" is also the name of a folder of the package
        if Path(folder) == ROOT:
            return outputs(folder, names)
        own = {"README.md", ".gitignore"}  # in saved_models/, beside the models
        return (
            {*names} - own if Path(folder) == ROOT / "saved_models" else {"__pycache__"} & {*names}
        )

    shutil.copytree(ROOT, place / "tree", ignore=ignored)
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, place, cwd=place / "tree")
    with tarfile.open(place / f"tfp_smvi-{__version__}.tar.gz") as archive:
        archive.extractall(place, filter="data")
    return place / f"tfp_smvi-{__version__}"


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel that pip builds from the source distribution, without the network."""
    place = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", place]
    run(sys.executable, "-m", "pip", "wheel", *options, sdist, cwd=place)
    with zipfile.ZipFile(next(place.glob("tfp_smvi-*.whl"))) as archive:
        yield archive


def sources(folder: str) -> set[str]:
    """The Python files of a folder of the tree, by their path in it."""
    return {path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob("*.py")}


def pretrained() -> set[str]:
    """The files of the encoders that are installed: the exports whole, each with its licence."""
    folder = ROOT / "tfp_smvi" / "pretrained"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"LICENSE", "SHA256SUMS", "model_card.json"} <= {Path(name).name for name in files}
    return {f"tfp_smvi/pretrained/{name}" for name in files}


def test_packaged_mnist_is_what_tfds_registers():
    import tensorflow_datasets as tfds

    registered = Path(tfds.__file__).parent / "url_checksums" / "mnist.txt"
    known = {
        line.split()[0].rpartition("/")[2]: line.split()[2]
        for line in registered.read_text(encoding="utf-8").splitlines()
    }
    assert known == MNIST
    folder = ROOT / "tfp_smvi" / "data" / "mnist"
    assert {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()
    } == MNIST


def test_sdist_holds_all_that_a_developer_needs(sdist):
    files = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    wanted = {
        "LICENSE",
        "LICENSE-DATA",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Makefile",
        "MANIFEST.in",
    }
    wanted |= {
        "setup.py",
        "pyproject.toml",
        ".ci/run",
        "saved_models/README.md",
        "tfp_smvi/py.typed",
        "mkdocs.yml",
        "docs/pages.py",
        "docs/site.css",
        "docs/training.md",
        "examples/tutorial.ipynb",
        "requirements/all.txt",
        "requirements/test.txt",
    }
    wanted |= {f"tfp_smvi/data/mnist/{name}" for name in MNIST} | pretrained()
    wanted |= {
        f"{folder}/{path}"
        for folder in ("tfp_smvi", "cli", "tests", "examples")
        for path in sources(folder)
    }
    assert wanted <= files


def test_wheel_holds_the_packages_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if not name.endswith("/")}
    wanted = {f"tfp_smvi/{path}" for path in sources("tfp_smvi")}
    wanted |= {f"tfp_smvi_cli/{path}" for path in sources("cli")}
    wanted |= {"tfp_smvi/py.typed", "tfp_smvi/__init__.pyi"}
    wanted.add("tfp_smvi/classification/__init__.pyi")
    wanted.add("tfp_smvi/report/templates/report.html.j2")
    wanted |= {f"tfp_smvi/data/mnist/{name}" for name in MNIST} | pretrained()
    info = f"tfp_smvi-{__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == wanted
    licences = {
        name.rpartition("/")[2] for name in names if name.startswith(info) and "LICENSE" in name
    }
    assert licences == {"LICENSE", "LICENSE-DATA"}


def test_wheel_holds_the_data_bit_for_bit(wheel):
    for name, digest in MNIST.items():
        contents = wheel.read(f"tfp_smvi/data/mnist/{name}")
        assert hashlib.sha256(contents).hexdigest() == digest


def test_wheel_names_the_command_and_the_licence(wheel):
    info = f"tfp_smvi-{__version__}.dist-info"
    assert "tfp-smvi = tfp_smvi_cli.main:main" in wheel.read(f"{info}/entry_points.txt").decode()
    description = wheel.read(f"{info}/METADATA").decode()
    assert "Apache-2.0" in description
    assert "Requires-Python: >=3.11" in description


def test_wheel_works_without_the_tree(wheel, tmp_path):
    """The command line and the data's files come from the wheel alone."""
    wheel.extractall(tmp_path)
    code = (
        "import tfp_smvi, tfp_smvi_cli.main as m\n"
        "from tfp_smvi.data.mnist import FILES, PACKAGED_DIR\n"
        "assert all((PACKAGED_DIR / name).is_file() for name in FILES)\n"
        "print(tfp_smvi.__file__, m.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = tmp_path / "tfp_smvi" / "__init__.py", tmp_path / "tfp_smvi_cli" / "main.py"
    assert done.stdout.split() == [str(path) for path in expected]


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment with all that is installed here, and not this tree."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=False)
    (own,) = folder.glob("lib/python*/site-packages")
    # Lines of a .pth that lie in these folders are not read: no editable installation works.
    known = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (own / "installed_here.pth").write_text("\n".join(dict.fromkeys(known)))
    return folder


def install(environment: Path, what: Path) -> None:
    """Installs a wheel or a source distribution without the network."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--ignore-installed"]
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    run(*pip, "install", *options, what, cwd=environment)


def use(environment: Path, *arguments: object, command: Sequence[str] = ("tfp-smvi",)) -> str:
    """Runs the installed command in a folder without the tree; returns its output."""
    folder = environment.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [environment / "bin" / command[0], *command[1:], *map(str, arguments)],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def origin(environment: Path) -> Path:
    """The folder that an environment imports the package from."""
    code = "import tfp_smvi; print(tfp_smvi.__file__)"
    command = [environment / "bin" / "python", "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=environment)
    return Path(done.stdout.strip()).parents[1]


@pytest.mark.slow
def test_an_installed_wheel_trains_evaluates_and_exports(
    wheel: zipfile.ZipFile, environment: Path
) -> None:
    """Catches a file or a package that the wheel lacks; one process loads TensorFlow for all."""
    assert wheel.filename is not None
    install(environment, Path(wheel.filename))
    assert environment in origin(environment).parents
    train = ["train", "--dataset", "digits", "--run-dir", "run", "--epochs", "1"]
    train += ["--hidden-sizes", "8", "--latent-dim", "2"]
    evaluate = ["evaluate", "run", "--num-examples", "4", "--num-simulated", "4"]
    evaluate += ["--num-calibration", "0", "--num-temperatures", "6", "--num-elbo-samples", "8"]
    export = ["export", "run", "--model-name", "small"]
    code = "from tfp_smvi_cli.main import main\n"
    code += f"for words in {[train, evaluate, export]}:\n"
    code += "    try: main(words)\n    except SystemExit as end: assert not end.code, end.code"
    use(environment, code, command=("python", "-P", "-c"))
    folder = environment.parent / "elsewhere"
    assert json.loads((folder / "run" / "evaluation.json").read_text())["splits"]["test"]
    assert [*(folder / "saved_models" / "small").glob("*/saved_model.pb")]
    assert use(environment, "--version").split()[-1] == __version__


@pytest.mark.slow
def test_an_installed_sdist_finds_its_data(sdist: Path, environment: Path) -> None:
    install(environment, sdist)
    assert environment in origin(environment).parents
    assert use(environment, "--version").split()[-1] == __version__
    assert "digits" in use(environment, "datasets")


def locked(name: str) -> dict[str, list[str]]:
    """The packages of a file of requirements/, and their versions: of Pythons there may be two."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE):
        found.setdefault(package, []).append(version)
    return found


@pytest.mark.parametrize(("name", "extras"), [("all", ("all",)), ("test", ("test", "docs"))])
def test_the_locked_versions_are_those_that_setup_py_allows(
    wheel: zipfile.ZipFile, name: str, extras: tuple[str, ...]
) -> None:
    """Catches a requirement that is not locked: run `make lock`."""
    text = wheel.read(f"tfp_smvi-{__version__}.dist-info/METADATA").decode()
    requirements = map(Requirement, email.message_from_string(text).get_all("Requires-Dist", []))
    versions, wrong = locked(name), []
    for requirement in requirements:
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        package = re.sub(r"[-_.]+", "-", requirement.name).lower()
        found = versions.get(package, [])
        if not found or not all(requirement.specifier.contains(version) for version in found):
            wrong.append(str(requirement))
    assert wrong == []


def test_both_locks_have_the_same_versions_and_hashes_of_all() -> None:
    every, few = locked("test"), locked("all")
    assert {package: every.get(package) for package in few} == few
    text = (ROOT / "requirements" / "test.txt").read_text(encoding="utf-8")
    pinned = re.findall(r"^[\w.-]+==", text, re.MULTILINE)
    hashed = re.findall(r"^[\w.-]+==.*\\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(pinned) == len(hashed)


def test_console_script_is_installed_under_the_package_that_ships():
    (script,) = metadata.entry_points(group="console_scripts", name="tfp-smvi")
    assert script.value == "tfp_smvi_cli.main:main"
    assert callable(script.load())
