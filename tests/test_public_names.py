"""The public names of the package, which load when they are used."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfp_smvi
from tfp_smvi.core.errors import SMVIError


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a new process; NAME="" leaves a variable out."""
    variables = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={name: value for name, value in variables.items() if value},
    )


@pytest.mark.parametrize("name", tfp_smvi.__all__)
def test_every_public_name_loads_and_is_listed(name):
    assert getattr(tfp_smvi, name) is not None
    assert name in dir(tfp_smvi)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = tfp_smvi.nonsense


def test_type_checkers_see_a_name_under_its_own_name():
    """Catches "import a as b", which the import at first use would take for a."""
    tree = ast.parse(Path(tfp_smvi.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    aliases = [alias for node in tree.body for alias in node.names]
    assert [alias.name for alias in aliases if alias.name != alias.asname] == []
    assert sorted(alias.name for alias in aliases) == sorted(tfp_smvi.__all__)


def test_importing_the_package_imports_no_tensorflow():
    code = (
        "import sys, tfp_smvi; tfp_smvi.RunConfig(); "
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("False False\n", "")


@pytest.mark.slow
def test_the_library_refuses_another_keras_backend_by_variable():
    done = run_python("import tfp_smvi; tfp_smvi.VAE", KERAS_BACKEND="jax")
    assert done.returncode == 1
    last_line = done.stderr.rstrip().splitlines()[-1]
    assert last_line.startswith(f"{SMVIError.__module__}.SMVIError: Keras ")
    assert "KERAS_BACKEND=tensorflow" in last_line


def test_the_library_refuses_another_keras_backend_by_file(tmp_path):
    settings = {
        "backend": "torch",
        "floatx": "float32",
        "epsilon": 1e-7,
        "image_data_format": "channels_last",
    }
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    done = run_python("import tfp_smvi; tfp_smvi.fit", KERAS_BACKEND="", KERAS_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "SMVIError: Keras " in done.stderr.rstrip().splitlines()[-1]


def test_the_library_refuses_another_keras_backend_that_is_installed():
    """Stands in for an installed jax or torch, which the tests do not need."""
    stub = "import sys, types; k = types.ModuleType('keras'); sys.modules['keras'] = k; "
    stub += "k.config = types.SimpleNamespace(backend=lambda: 'torch')\n"
    stub += "import tfp_smvi.models.keras_backend"
    done = run_python(stub)
    last_line = done.stderr.rstrip().splitlines()[-1]
    assert last_line.startswith("tfp_smvi.core.errors.SMVIError: Keras runs on the backend torch, ")


@pytest.mark.slow
def test_the_command_line_takes_the_tensorflow_backend_whatever_the_user_has_set(tmp_path):
    command = Path(sys.executable).with_name("tfp-smvi")
    options = [
        "--dataset",
        "digits",
        "--epochs",
        "1",
        "--hidden-sizes",
        "8",
        "--latent-dim",
        "2",
        "--json",
    ]
    done = subprocess.run(
        [command, "train", *options, "--run-dir", tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epoch"] == 1
