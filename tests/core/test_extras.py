"""What an installation without extras says of what it lacks."""

import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.support import runs
from tests.support.sweeps import write_sweep
from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.extras import of_extra
from tfp_smvi.engines.opening import open_engine
from tfp_smvi.export.exporter import _write_requests
from tfp_smvi.tracking.tracker import track


def hide(monkeypatch: pytest.MonkeyPatch, module: str, *importers: str) -> None:
    """Lets the imports of a module fail, and the modules that have imported it load again."""
    for name in [name for name in sys.modules if name.startswith(importers)]:
        parent, _, child = name.rpartition(".")
        # What loads again is the attribute of its package; afterwards the first one is, as before.
        if hasattr(sys.modules[parent], child):
            monkeypatch.setattr(sys.modules[parent], child, sys.modules[name])
    for name in [name for name in sys.modules if name.startswith(importers)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("module", "command"), [("matplotlib", "plot"), ("matplotlib", "report"), ("jinja2", "report")]
)
def test_figures_and_pages_need_the_extra_plot(
    module: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_sweep(tmp_path, (0.0,), galleries=False)
    hide(monkeypatch, module, "tfp_smvi.report")
    assert runs.call(command, str(tmp_path)) == 1
    assert capsys.readouterr().err == (
        f"Error: this needs a package that is not installed ({module}); "
        "run: pip install 'tfp-smvi[plot]'.\n"
    )


def test_servers_and_exports_need_the_extra_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tfp_smvi.serving.client import connect

    hide(monkeypatch, "tensorflow_serving.apis")
    with pytest.raises(SMVIError, match="pip install 'tfp-smvi\\[serve\\]'"):
        connect("grpc://127.0.0.1:1/model", FeaturesConfig())
    with pytest.raises(SMVIError, match="pip install 'tfp-smvi\\[serve\\]'"):
        _write_requests(tmp_path / "requests", "model", {})
    assert not (tmp_path / "requests").exists()


def test_a_cluster_needs_the_extra_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "distributed", "tfp_smvi.engines.dask")
    with pytest.raises(SMVIError, match="pip install 'tfp-smvi\\[cluster\\]'"):  # noqa: SIM117
        with open_engine("tcp://127.0.0.1:1"):
            pass
    with open_engine("local") as engine:
        assert engine is None


@pytest.mark.parametrize(
    ("package", "tracker"), [("mlflow", "mlflow:http://127.0.0.1:1"), ("wandb", "wandb")]
)
def test_a_tracker_needs_its_extra(
    package: str,
    tracker: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hide(monkeypatch, package)
    line = (
        f"this needs a package that is not installed ({package}); "
        f"run: pip install 'tfp-smvi[{package}]'.\n"
    )
    assert runs.call("train", "--dataset", "digits", "--track", tracker) == 1
    assert capsys.readouterr().err == f"Error: {line}"
    with pytest.raises(SMVIError) as raised, track(tmp_path, tracker):
        pass
    assert f"{raised.value}\n" == line


def test_other_errors_stay() -> None:
    with pytest.raises(ZeroDivisionError), of_extra("plot"):
        _ = 1 / 0


def test_extras_are_not_part_of_the_base() -> None:
    requirements = metadata.requires("tfp-smvi") or []
    base = {line.split(">")[0].split("[")[0] for line in requirements if "extra ==" not in line}
    assert {"tensorflow", "tensorflow-probability", "scikit-learn", "click"} <= base
    assert not base & {
        "mlflow-skinny",
        "wandb",
        "matplotlib",
        "jinja2",
        "tensorflow-serving-api",
        "distributed",
    }
