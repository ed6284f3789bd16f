"""What ships: the source distribution, the wheel that is built from it, and the data in both."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

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
    }
    wanted |= {f"tfp_smvi/data/mnist/{name}" for name in MNIST}
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
    wanted |= {f"tfp_smvi/data/mnist/{name}" for name in MNIST}
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


def test_console_script_is_installed_under_the_package_that_ships():
    (script,) = metadata.entry_points(group="console_scripts", name="tfp-smvi")
    assert script.value == "tfp_smvi_cli.main:main"
    assert callable(script.load())
