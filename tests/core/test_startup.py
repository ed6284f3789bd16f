"""A command loads what it needs, and no more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.small_sweep import WholeSweep

# Prints which of the packages a process has loaded, after all else.
LOADED = "print(sorted({%s} & set(sys.modules)))"


def loaded(code: str, *packages: str) -> str:
    """Runs code in a fresh process; returns the last line, the packages that it has loaded."""
    code = f"import sys\n{code}\n{LOADED % ', '.join(map(repr, packages))}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def run_command(*arguments: object) -> str:
    """Code that runs a command in its process."""
    words = [str(argument) for argument in arguments]
    return (
        "from tfp_smvi_cli.main import main\n"
        f"try:\n    main({words})\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with what `serve --dry-run` takes for an exported model."""
    version = tmp_path / "saved_models" / "model" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"")
    return version.parents[1]


def test_serve_loads_no_tensorflow(models: Path) -> None:
    code = run_command("serve", "--models", models, "--docker", "--dry-run")
    assert loaded(code, "tensorflow", "keras", "matplotlib", "sklearn") == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["plot", "report"])
def test_figures_load_no_tensorflow(command: str, whole_sweep: WholeSweep, tmp_path: Path) -> None:
    output = tmp_path / ("figures" if command == "plot" else "report.html")
    options = ["--format", "png"] * (command == "plot")
    code = run_command(command, whole_sweep.path, "--output", output, *options)
    assert loaded(code, "tensorflow", "keras", "sklearn", "matplotlib") == "['matplotlib']"


@pytest.mark.slow
def test_tensorflow_loads_without_what_no_command_uses_and_that_can_be_imported_later() -> None:
    """Catches Keras's wrappers and galleries, and all of TFP: a third of what a command costs."""
    unused = ("tensorflow_probability.python.experimental", "matplotlib", "pandas", "sklearn")
    code = "from tfp_smvi.core.startup import quiet_tensorflow\nquiet_tensorflow()\n"
    code += f"assert not {{*{unused!r}}} & set(sys.modules)\n"
    code += "import sklearn.svm, matplotlib.figure, pandas, warnings\n"
    code += "import tensorflow_probability as tfp\n"
    # TFP warns of TensorFloat-32 at the first use of a part, if that is on.
    code += "warnings.simplefilter('error', UserWarning)\ntfp.mcmc.HamiltonianMonteCarlo"
    packages = ("tensorflow", "matplotlib", "sklearn")
    assert loaded(code, *packages) == "['matplotlib', 'sklearn', 'tensorflow']"


def messages(level: str | None) -> tuple[str, str]:
    """What a program that uses the library prints: stdout, stderr."""
    environment = {name: v for name, v in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}
    code = (
        "import os, sys, tfp_smvi\n"
        "tfp_smvi.RunConfig(), tfp_smvi.fit\n"
        "import tensorflow as tf\n"
        "print(float(tf.add(2.0, 4.0)), os.environ['TF_CPP_MIN_LOG_LEVEL'])\n"
        "print('own', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout, done.stderr


@pytest.mark.slow
def test_a_program_that_uses_the_library_sees_no_chatter_of_tensorflow() -> None:
    """Catches a missing GPU driver's message at the first operation, and stderr not given back."""
    assert messages(None) == ("6.0 2\n", "own\n")


@pytest.mark.slow
def test_whoever_asks_for_tensorflow_s_messages_sees_them() -> None:
    output, errors = messages("0")
    assert output == "6.0 0\n"
    assert len(errors) > len("own\n")
    assert errors.endswith("own\n")
